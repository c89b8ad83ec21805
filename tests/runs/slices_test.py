"""Slices by fields: each model of the pulse and the spoiler that are played, by name or from files."""

import dataclasses

import jax
import numpy as np
import pytest

from ganmrf.physics.rf_pulse import gaussian, windowed_sinc
from ganmrf.physics.slice_profile import FullSlice, PartitionedSlice, small_tip
from ganmrf.physics.slr import slr
from ganmrf.runs.configs import SimulationConfig
from ganmrf.runs.slices import AS_PLAYED, SliceConfig, slice_words

PULSE = windowed_sinc(6.0, "hamming")


def simulation(time_bandwidth=6.0, window="hamming", slice_nodes=0, **fields):
    return SimulationConfig(
        time_bandwidth=time_bandwidth, window=window, slice_nodes=slice_nodes, slice=SliceConfig(**fields)
    )


@pytest.mark.parametrize(
    ("model", "nodes", "expected"),
    [
        (None, 0, None),
        ("none", 0, None),
        (None, 5, small_tip(PULSE, 5)),
        ("small_tip", 0, small_tip(PULSE)),
        ("full", 0, FullSlice(PULSE, 3.0)),
        ("partitioned", 0, PartitionedSlice(PULSE)),
        ("partitioned_no_phases", 9, PartitionedSlice(PULSE, 9, phases=False)),
    ],
)
def test_models_by_name(model, nodes, expected):
    found = simulation(slice_model=model, slice_nodes=nodes, spoiler_turns=3.0).slice_profile()
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_pulses_by_name():
    for name, expected in (("gauss", gaussian(6.0)), ("slr", slr(6.0)), ("sinc", windowed_sinc(6.0, "hann"))):
        played = simulation(window="hann", rf_pulse=name).played()
        jax.tree.map(np.testing.assert_array_equal, played.pulse, expected)


def test_a_pulse_from_a_file_is_scaled_to_its_flip_angle(tmp_path):
    samples = np.hanning(20)[1:-1]
    np.save(tmp_path / "p.npy", samples)
    np.savez(tmp_path / "p.npz", samples=samples, other=np.ones(3))
    np.savetxt(tmp_path / "p.csv", samples, header="amplitude")
    np.savetxt(tmp_path / "turned.csv", np.stack([samples, 0.5 * samples], axis=1), delimiter=",")
    for name in ("p.npy", "p.npz", "p.csv"):
        pulse = simulation(4.0, "hann", rf_pulse=str(tmp_path / name)).played().pulse
        np.testing.assert_allclose(pulse.samples, samples / samples.sum(), rtol=1e-12)
        assert pulse.time_bandwidth == 4
    turned = simulation(4.0, "hann", rf_pulse=str(tmp_path / "turned.csv")).played().pulse
    np.testing.assert_allclose(turned.samples, samples / samples.sum(), rtol=1e-12)  # a phase of all is none
    assert turned.samples.dtype == complex


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("p.csv", "1\n-1\n", "p.csv.*area"),
        ("p.csv", "1\n2\nx\n", "p.csv, row 3.*'x'"),
        ("p.csv", "1,2\n3\n", "p.csv.*one number"),
        ("p.csv", "1,2,3\n", "p.csv.*one number"),
        ("p.csv", "nan\n1\n", "p.csv.*sample 0.*finite"),
        ("p.csv", "", r"p.csv.*shape \(0,\)"),
        ("p.txt", "1\n", "p.txt.*csv"),
    ],
)
def test_files_of_no_pulse_are_refused(tmp_path, name, content, words):
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=words):
        simulation(window="hann", rf_pulse=str(tmp_path / name)).played()


def test_a_weak_spoiler_is_no_matter_of_phase_graphs():
    weak = simulation(slice_model="full", spoiler_turns=0.5)
    assert weak.slice_profile().turns == 0.5
    for model in ("partitioned", "partitioned_no_phases", "small_tip"):
        with pytest.raises(ValueError, match=f"spoiler_turns must be at least 1 .*{model}.*full; got 0.5"):
            weak.with_slice(model).slice_profile()


def test_another_model_is_of_the_same_pulse():
    own = simulation(slice_nodes=7)
    assert own.with_slice("full").slice_profile().turns == 4
    np.testing.assert_array_equal(own.with_slice("full").slice_profile().pulse.samples, PULSE.samples)
    assert dataclasses.replace(own.with_slice("full"), slice=own.slice, slice_nodes=7) == own


def test_a_slice_in_words():
    assert slice_words(None) == "a uniform slice"
    for model, told in (("full", "6 4"), ("partitioned", "6 32"), ("small_tip", "12"), ("partitioned_no_phases", "6")):
        words = slice_words(simulation(slice_model=model).slice_profile())
        assert all(each in words.replace(",", "").split() for each in told.split())


def test_commands_assume_what_is_played():
    assert dict(AS_PLAYED) == {"slice_model": "full"}
    assert SimulationConfig().slice_profile() is None
