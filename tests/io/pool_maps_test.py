"""Maps of any parameter of tissue are written by its name and in its unit, with error bars of what was fitted."""

import json

import nibabel
import numpy as np
import pytest

from ganmrf.dictionary.build import Dictionary
from ganmrf.dictionary.match import Maps
from ganmrf.dictionary.refine import Refined
from ganmrf.files import read_arrays
from ganmrf.io.dicom_maps import write_dicom_maps
from ganmrf.io.maps import describe, map_files, save_maps, std_name, write_dataset, write_maps
from ganmrf.io.series import read_series
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.tissue import TISSUES, SemisolidPool, parameters

SHAPE = (2, 3, 4)
FIXED = {"m0": 1j, "quality": 0.9}
FITTED = "t1", "t2", "fraction"
POOLS = [kind for kind in TISSUES if kind != "one_pool"]
UNITS = {"fraction": "1", "exchange_rate": "1/s", "t1_b": "s", "t2_b": "s", "lineshape": "s", "shift": "Hz"}


def values_of(kind, seed=0):
    """A map of every parameter, with values that such tissue has."""
    rng = np.random.default_rng(seed)
    most = {"fraction": 0.4, "exchange_rate": 40.0, "lineshape": 3e-5, "t2": 0.1, "t2_b": 0.02}
    return {name: most.get(name, 1.0) * rng.uniform(0.5, 1, SHAPE) for name in parameters(TISSUES[kind])}


def matched(kind):
    index = np.arange(np.prod(SHAPE)).reshape(SHAPE) - 1
    return Maps(parameters=values_of(kind), index=index, **{name: np.full(SHAPE, each) for name, each in FIXED.items()})


def fitted(kind):
    stds = {name: 0.1 * values for name, values in values_of(kind, 1).items() if name in FITTED}
    rest = {"m0": np.full(SHAPE, 2j), "m0_std": np.ones(SHAPE), "noise": np.ones(SHAPE)}
    return Refined(parameters=values_of(kind, 1), stds=stds, converged=np.ones(SHAPE, bool), **rest)


@pytest.mark.parametrize("kind", POOLS)
def test_every_parameter_is_a_map_in_its_unit(tmp_path, kind):
    maps, refined, facts = matched(kind), fitted(kind), parameters(TISSUES[kind])
    paths = write_maps(tmp_path, maps, prefix="sub-01", refined=refined)
    assert set(paths.values()) < set(map_files(tmp_path, "sub-01"))
    inside = maps.index >= 0
    for name in facts.keys() - {"b1"}:
        found = nibabel.load(paths[facts[name].suffix]).get_fdata().T
        np.testing.assert_allclose(found, np.where(inside, refined.parameters[name], 0), rtol=1e-6)  # float32
        sidecar = json.loads((tmp_path / f"sub-01_{facts[name].suffix}.json").read_text(encoding="utf-8"))
        assert sidecar["Units"] == UNITS.get(name, facts[name].unit)
        assert (std_name(facts[name].suffix) in paths) == (name in FITTED)
    std = nibabel.load(paths["desc-std_fractionmap"]).get_fdata().T
    np.testing.assert_allclose(std, np.where(inside, refined.fraction_std, 0), rtol=1e-6)
    assert "TB1map" not in paths
    assert "TB1map" in write_maps(tmp_path, maps, with_b1=True)


def test_names_of_standard_deviations_have_one_description():
    assert std_name("fractionmap") == "desc-std_fractionmap"
    assert std_name("desc-poolb_T1map") == "desc-poolbstd_T1map"
    names = [path.name for path in map_files("", "sub-01")]
    assert len(set(names)) == len(names)
    assert all(name.count("desc-") <= 1 for name in names)


def test_only_chosen_parameters_are_written(tmp_path):
    paths = write_maps(tmp_path, matched("semisolid"), refined=fitted("semisolid"), fields=["t1", "t2", "fraction"])
    times = {f"{start}{name}" for name in ("T1map", "T2map") for start in ("", "desc-std_")}
    rest = {"M0map", "part-phase_M0map", "quality", "fractionmap", "desc-std_fractionmap"}
    assert set(paths) == times | rest


def test_what_bids_has_no_name_for_is_ignored(tmp_path):
    write_dataset(tmp_path, "maps")
    ignored = (tmp_path / ".bidsignore").read_text(encoding="utf-8").split()
    for name in ("fractionmap", "exchangeratemap", "lineshapemap", "shiftmap", "fieldmap", "TB1map", "quality"):
        assert f"*_{name}.*" in ignored
    assert not any("T1map" in each or "T2map" in each for each in ignored)


@pytest.mark.parametrize("suffix", [".npz", ".mat"])
@pytest.mark.parametrize("kind", POOLS)
def test_maps_as_arrays(tmp_path, kind, suffix):
    maps, refined, path = matched(kind), fitted(kind), tmp_path / f"maps{suffix}"
    save_maps(path, maps)
    assert {"t1_s", "fraction", "exchange_rate_per_s", "t1_b_s"} <= read_arrays(path).keys()
    save_maps(path, maps, refined=refined)
    found = read_arrays(path)
    np.testing.assert_array_equal(found["fraction"], refined.fraction)
    np.testing.assert_array_equal(found["fraction_std"], refined.fraction_std)
    np.testing.assert_array_equal(found["t1_std_s"], refined.t1_std)
    assert "exchange_rate_std_per_s" not in found


@pytest.mark.parametrize("kind", POOLS)
def test_maps_as_dicom(tmp_path, kind):
    maps, facts = matched(kind), parameters(TISSUES[kind])
    paths = write_dicom_maps(tmp_path, maps, refined=fitted(kind))
    inside = maps.index >= 0
    for name in facts.keys() - {"b1"}:
        found = read_series(paths[facts[name].suffix]).images[0]
        factor = 1e3 if facts[name].unit == "s" else 1.0
        expected = np.where(inside, factor * fitted(kind).parameters[name], 0)
        np.testing.assert_allclose(found, expected, atol=2e-5 * expected.max())  # of 16 bits
    assert "desc-std_fractionmap" in paths


def test_description_tells_the_kind_and_every_range():
    tissue = SemisolidPool(np.array([1.0, 2.0]), 0.1, np.array([0.0, 0.2]), 14.0, 0.34, 1.5e-5)
    sequence = Fisp([0.1], 0.012, 0.002, pulse_duration=2e-3, saturation_angle=np.pi / 6)
    found = describe(Dictionary(tissue, np.eye(2, 1), np.ones(2), sequence))
    expected = {"Tissue": "semisolid", "FractionRange": [0.0, 0.2], "ExchangeRateRange": [14.0, 14.0]}
    expected |= {"T1BRange": [0.34, 0.34], "LineshapeRange": [1.5e-5, 1.5e-5], "OffResonanceRange": None}
    assert expected.items() <= found["Dictionary"].items()
    assert found["Sequence"]["PulseDurationRange"] == [0.002, 0.002]
    assert found["Sequence"]["SaturationAngleRangeDegrees"] == [30.0, 30.0]
