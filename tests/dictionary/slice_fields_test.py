"""A dictionary keeps the model of its slice in any file; a damaged one is told in a line, and none is lost unseen."""

import json
import shutil

import numpy as np
import pytest
import scipy.io

from ganmrf.dictionary.build import Dictionary
from ganmrf.dictionary.npz import load_dictionary, save_dictionary
from ganmrf.dictionary.slice_fields import same_slice
from ganmrf.dictionary.zarr import open_dictionary
from ganmrf.physics.rf_pulse import RfPulse, windowed_sinc
from ganmrf.physics.sequences.bssfp import Bssfp
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.slice_profile import FullSlice, PartitionedSlice, SliceProfile, small_tip
from ganmrf.physics.tissue import Tissue
from tests.dictionary.sequence_fields_test import assert_identical, in_memory, saved

SUFFIXES = (".npz", ".mat", ".zarr")
FISP = Fisp([0.5, 0.6, 0.7], 0.01, 0.002)
PULSE = windowed_sinc(8, "hann", 20)
SKEWED = RfPulse.of_waveform(np.complex64([1, 2 + 1j, 3 - 1j, 1j]), 4)
MODELS = {
    "full": FullSlice(PULSE, 4),
    "full, of a complex pulse": FullSlice(SKEWED, -2.5, extent=1),
    "full, single": FullSlice(RfPulse(np.float32([0.25, 0.5, 0.25]), np.float32(2.5)), np.float32(1.5)),
    "hard": FullSlice(RfPulse([1], 1), 0),
    "partitioned": PartitionedSlice(PULSE),
    "without phases": PartitionedSlice(SKEWED, 5, phases=False, extent=2.5),
    "small tip": SliceProfile(np.array([0.3, 0.9]), np.array([0.25, 2.5])),
    "uniform": None,
}


def dictionary(profile, sequence=FISP, **options):
    rows = np.eye(3, dtype=np.float32)
    tissue = Tissue(np.float32([0.5, 1, 2]), np.full(3, 0.1, np.float32), **options)
    return Dictionary(tissue, rows, np.float32([1, 2, 3]), sequence, profile)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", MODELS)
def test_any_slice_comes_back(tmp_path, suffix, name):
    expected = dictionary(MODELS[name])
    assert_identical(in_memory(open_dictionary(saved(tmp_path, suffix, expected))), expected)


def test_slices_are_the_same_but_for_rounding():
    for one, profile in MODELS.items():
        for other, candidate in MODELS.items():
            assert same_slice(profile, candidate) == (one == other)
    rounded = RfPulse(PULSE.samples * (1 + 1e-7 * np.cos(np.arange(20))), 8)
    assert same_slice(FullSlice(rounded, 4), MODELS["full"])
    assert not same_slice(FullSlice(windowed_sinc(8, "hamming", 20), 4), MODELS["full"])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_slices_beside_other_kinds_of_sequences(tmp_path, suffix):
    expected = dictionary(MODELS["full"], Bssfp([0.5, 0.6, 0.7], 0.01), off_resonance=np.float32([-5, 0, 5]))
    assert_identical(in_memory(open_dictionary(saved(tmp_path, suffix, expected))), expected)


def test_older_versions_refuse_a_slice_that_they_would_take_for_a_uniform_one(tmp_path):
    """They read schema 1, or up to 2, whatever else is in a file."""
    bssfp = Bssfp([0.5, 0.6, 0.7], 0.01)
    found = []
    for each in (
        dictionary(None),
        dictionary(small_tip(PULSE, 3)),
        dictionary(None, bssfp),
        dictionary(MODELS["full"]),
        dictionary(MODELS["partitioned"], bssfp),
    ):
        save_dictionary(tmp_path / "a.npz", each)
        with np.load(tmp_path / "a.npz") as file:
            found.append(int(file["schema_version"]))
    assert found == [1, 1, 2, 3, 3]


def test_variables_in_matlab(tmp_path):
    """Plain numbers; what MATLAB saves again, whole numbers as integers and a row of samples, is read."""
    for profile, own in (
        (FullSlice(RfPulse([1.0, -1.0, 1.0], 2.0), 4.0, 2.0), {"slice_turns": 4, "slice_extent": 2}),
        (PartitionedSlice(RfPulse([1.0], 2.0), 7, False), {"slice_n_positions": 7, "slice_phases": 0}),
    ):
        expected = dictionary(profile)
        save_dictionary(tmp_path / "a.mat", expected)
        found = {name: value for name, value in scipy.io.loadmat(tmp_path / "a.mat").items() if name[0] != "_"}
        assert found["slice_model"].item() in ("full", "partitioned")
        for name, value in (own | {"slice_time_bandwidth": 2}).items():
            assert found[name].item() == value
        whole = {name: found[name].astype(np.int8).T for name in (*own, "slice_time_bandwidth", "slice_pulse_samples")}
        scipy.io.savemat(tmp_path / "a.mat", found | whole)
        assert_identical(load_dictionary(tmp_path / "a.mat"), expected)


def test_axes_in_zarr(tmp_path):
    """Also of a pulse with as many samples as there are frames."""
    path = saved(tmp_path, ".zarr", dictionary(FullSlice(RfPulse([0.25, 0.5, 0.25], 2), 4)))
    metadata = json.loads((path / "slice_pulse_samples" / "zarr.json").read_text(encoding="utf-8"))
    assert metadata["dimension_names"] == ["samples"]
    assert json.loads((path / "zarr.json").read_text(encoding="utf-8"))["attributes"]["slice_model"] == "full"


def tampered(folder, suffix, profile, **changes):
    """The file of a dictionary with variables replaced, or removed where the change is None."""
    path = saved(folder, suffix, dictionary(profile))
    if suffix == ".npz":
        with np.load(path) as archive:
            contents = dict(archive) | changes
        np.savez(path, **{name: value for name, value in contents.items() if value is not None})
        return path
    group = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
    for name, value in changes.items():
        if name in group["attributes"]:
            group["attributes"] |= {name: value}
            group["attributes"] = {key: each for key, each in group["attributes"].items() if each is not None}
        else:
            shutil.rmtree(path / name)
    (path / "zarr.json").write_text(json.dumps(group), encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", [".npz", ".zarr"])
@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("full", {"slice_model": "curved"}, "slice is of model 'curved'; this version knows full, partitioned: update"),
        ("full", {"slice_model": None}, "slice_extent, .* is no variable of a sequence, .* of its kind: damaged"),
        ("full", {"slice_model": "partitioned"}, "slice_turns is no variable of a sequence, .* of its kind"),
        ("full", {"slice_turns": None}, "no slice_turns: not a whole dictionary"),
        ("full", {"slice_pulse_samples": None}, "no slice_pulse_samples: not a whole dictionary"),
        ("partitioned", {"slice_phases": None, "slice_extent": None}, "no slice_phases, slice_extent"),
        ("full", {"schema_version": 2}, "slice_model.* are not those of schema 2: damaged"),
        ("uniform", {"schema_version": 3}, "slice_model.* are not those of schema 3: damaged"),
    ],
)
def test_a_slice_is_not_taken_for_another(tmp_path, suffix, name, changes, words):
    path = tampered(tmp_path, suffix, MODELS[name], **changes)
    with pytest.raises(ValueError, match=words) as error:
        open_dictionary(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("full", {"slice_model": np.array(["full"] * 2)}, "slice_model must be text"),
        ("full", {"slice_model": np.array(1)}, "slice_model must be text"),
        ("full", {"slice_nodes": np.ones(2), "slice_weights": np.ones(2)}, "is for a slice without slice_nodes"),
        ("full", {"slice_turns": np.array(np.nan)}, "FullSlice.turns must be finite; got nan"),
        ("full", {"slice_turns": np.ones(3)}, r"slice_turns must be one number, float64; got float64 of shape \(3,\)"),
        ("full", {"slice_turns": np.array("4")}, "slice_turns must be one number, float64; got <U1"),
        ("full", {"slice_turns": np.array(4j)}, "slice_turns must be one number, float64; got complex128"),
        ("full", {"slice_extent": np.array(0.0)}, "FullSlice.extent must be positive"),
        ("full", {"slice_time_bandwidth": np.array(-8.0)}, "RfPulse.time_bandwidth must be positive"),
        ("full", {"slice_pulse_samples": np.ones((2, 2))}, r"RfPulse.samples must be \(samples,\), not empty"),
        ("full", {"slice_pulse_samples": np.ones(0)}, r"RfPulse.samples must be \(samples,\), not empty"),
        ("full", {"slice_pulse_samples": np.full(2, np.inf)}, "RfPulse.samples must be finite; got inf at index 0"),
        ("full", {"slice_pulse_samples": np.ones(2)}, "RfPulse.samples must sum to 1 .*; got 2"),
        ("full", {"slice_pulse_samples": np.array(["a"])}, r"RfPulse.samples must be \(samples,\), .* numbers"),
        ("partitioned", {"slice_n_positions": np.array(2.5)}, "slice_n_positions must be one number, int64; got float"),
        ("partitioned", {"slice_n_positions": np.array(np.nan)}, "slice_n_positions must be one number, int64"),
        ("partitioned", {"slice_n_positions": np.array(0)}, "PartitionedSlice.n_positions must be .*1 or more"),
        ("partitioned", {"slice_phases": np.array(2)}, "slice_phases must be one number, bool; got int64"),
        ("small tip", {"slice_weights": np.array([1.0, -1.0])}, "SliceProfile.weights must be positive"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_wrong_field_is_named(tmp_path, name, changes, words):
    path = tampered(tmp_path, ".npz", MODELS[name], **changes)
    with pytest.raises(ValueError, match=words) as error:
        load_dictionary(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)
