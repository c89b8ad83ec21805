"""Slices by fields: each model of the pulse and the spoiler that are played, by name or from files."""

import dataclasses

import jax
import numpy as np
import pytest

from ganmrf.io.pulseq_settings import Excitation, Readout
from ganmrf.io.pulseq_write import write_pulseq
from ganmrf.physics.rf_pulse import gaussian, windowed_sinc
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.slice_profile import FullSlice, PartitionedSlice, small_tip, small_tip_profile
from ganmrf.physics.slr import slr
from ganmrf.runs.sequences import SequenceConfig
from ganmrf.runs.simulation_config import SimulationConfig
from ganmrf.runs.slices import AS_PLAYED, SliceConfig, slice_words

pytestmark = pytest.mark.usefixtures("quick_compiler")

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
        played = simulation(window=None, rf_pulse=name).played()
        jax.tree.map(np.testing.assert_array_equal, played.rf_pulse, expected)


def test_a_pulse_from_a_file_is_scaled_to_its_flip_angle(tmp_path):
    samples = np.hanning(20)[1:-1]
    np.save(tmp_path / "p.npy", samples)
    np.savez(tmp_path / "p.npz", samples=samples, other=np.ones(3))
    np.savetxt(tmp_path / "p.csv", samples, header="amplitude")
    np.savetxt(tmp_path / "turned.csv", np.stack([samples, 0.5 * samples], axis=1), delimiter=",")
    for name in ("p.npy", "p.npz", "p.csv"):
        pulse = simulation(4.0, None, rf_pulse=str(tmp_path / name)).played().rf_pulse
        np.testing.assert_allclose(pulse.samples, samples / samples.sum(), rtol=1e-12)
        assert pulse.time_bandwidth == 4
    with pytest.raises(ValueError, match="time_bandwidth is required"):
        simulation(None, None, rf_pulse=str(tmp_path / "p.npy")).played()
    turned = simulation(4.0, None, rf_pulse=str(tmp_path / "turned.csv")).played().rf_pulse
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
        simulation(window=None, rf_pulse=str(tmp_path / name)).played()


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """A scan of 3 frames with a pulse and a spoiler of its own."""
    path = tmp_path_factory.mktemp("scan") / "scan.seq"
    excitation = Excitation(pulse=gaussian(3.0), spoil_cycles=5.5)
    gradient = np.zeros((10, 2))
    write_pulseq(path, mrf_fisp(3), Readout(gradient, np.zeros(3), 10, 4e-6), excitation=excitation)
    return str(path)


def test_a_schedule_that_is_played_brings_its_pulse_and_spoiler(scan):
    config = SimulationConfig(scan, slice=SliceConfig(slice_model="full"))
    assert config.sequence().n_frames == 3
    full = config.slice_profile()
    # A pulse that is named in any way takes the place of the file's, also by what is the default elsewhere.
    named = dataclasses.replace(config, time_bandwidth=8.0)
    assert named.slice_profile().pulse == windowed_sinc(8.0, "hann") != full.pulse
    np.testing.assert_allclose((full.turns, full.pulse.time_bandwidth), (5.5, 3.0), rtol=1e-3)
    place = np.linspace(-1.5, 1.5, 31)
    np.testing.assert_allclose(small_tip_profile(full.pulse, place), small_tip_profile(gaussian(3.0), place), atol=2e-3)
    assert dataclasses.replace(config, slice=SliceConfig()).slice_profile() is None


def test_flags_name_another_pulse_or_spoiler_than_the_schedule(scan):
    def played(**fields):
        own = {name: fields.pop(name) for name in ("time_bandwidth", "window") if name in fields}
        return SimulationConfig(scan, **own, slice=SliceConfig(**fields)).played()

    assert played(spoiler_turns=2.0).turns == 2
    np.testing.assert_allclose(played(spoiler_turns=2.0).rf_pulse.time_bandwidth, 3.0, rtol=1e-3)
    for fields in ({"rf_pulse": "sinc"}, {"time_bandwidth": 5.0}, {"window": "none"}):
        found = played(**fields)
        expected = windowed_sinc(fields.get("time_bandwidth", 8.0), fields.get("window", "hann"))
        np.testing.assert_array_equal(found.rf_pulse.samples, expected.samples)
        np.testing.assert_allclose(found.turns, 5.5, rtol=1e-3)
    np.testing.assert_allclose(played(rf_pulse=scan).rf_pulse.time_bandwidth, 3.0, rtol=1e-3)
    with pytest.raises(ValueError, match=r"time_bandwidth would change nothing: the pulse of .*scan.seq"):
        played(rf_pulse=scan, time_bandwidth=4.0)


def test_the_slice_of_a_generator_gives_way_to_what_flags_name_or_a_schedule_plays(scan):
    own = FullSlice(PULSE, 3.0)
    assert SimulationConfig().slice_or(own) is own
    assert SimulationConfig(slice=SliceConfig(slice_model="none")).slice_or(own) is None
    assert SimulationConfig(scan, slice=SliceConfig(slice_model="none")).slice_or(own) is None
    np.testing.assert_allclose(SimulationConfig(scan).slice_or(own).turns, 5.5, rtol=1e-3)


def test_what_a_played_schedule_has_not_is_refused(scan):
    for fields, words in (
        ({"frames": 4}, "frames must be 1 to 3.*got 4"),
        ({"echo_time_ms": 3.0}, "echo_time_ms does not go with a .seq"),
        ({"kind": SequenceConfig(soft_delays_ms=("TI:20",))}, "soft_delays_ms: there is no TI"),
        ({"kind": SequenceConfig(rr_ms=(800.0,))}, "rr_ms: the file has 0 triggers"),
    ):
        with pytest.raises(ValueError, match=words):
            SimulationConfig(scan, **fields).sequence()
    for text in ("TI", "TI:x", ":20", "TI:inf"):
        with pytest.raises(ValueError, match=f"soft_delays_ms must be name:value in ms.*got {text}"):
            SequenceConfig(soft_delays_ms=(text,))


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
    for model, told in (("full", "6 4"), ("partitioned", "6 64"), ("small_tip", "12"), ("partitioned_no_phases", "6")):
        words = slice_words(simulation(slice_model=model).slice_profile())
        assert all(each in words.replace(",", "").split() for each in told.split())


def test_commands_assume_what_is_played():
    assert dict(AS_PLAYED) == {"slice_model": "full"}
    assert SimulationConfig().slice_profile() is None
