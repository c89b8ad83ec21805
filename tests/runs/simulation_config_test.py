"""Configuration of a simulation: what its fields mean in SI units, and what they refuse."""

import numpy as np
import pytest

from ganmrf.runs.simulation_config import SimulationConfig

pytestmark = pytest.mark.usefixtures("quick_compiler")


def test_a_simulation_in_si_units(tmp_path):
    schedule = tmp_path / "own.csv"
    schedule.write_text("fa_deg,tr_ms\n10,12\n20,13\n30,14\n", encoding="utf-8")
    config = SimulationConfig(str(schedule), 2, 3.0, 18.0, t1_ms="500,900", t2_ms="40", b1="0.9", slice_nodes=4)
    sequence, tissue = config.sequence(), config.tissue()
    np.testing.assert_allclose(sequence.flip_angle, np.deg2rad([10, 20]), rtol=1e-6)
    np.testing.assert_allclose(sequence.repetition_time, [0.012, 0.013], rtol=1e-6)
    np.testing.assert_allclose((sequence.echo_time[0], sequence.inversion_time), [0.003, 0.018], rtol=1e-6)
    np.testing.assert_allclose(np.ravel(tissue.t1), [0.5, 0.9], rtol=1e-6)
    assert np.ndim(tissue.b1) == 0  # one value is a number, and no axis
    assert config.slice_profile().nodes.shape == (4,)
    assert SimulationConfig().slice_profile() is None
    assert config.on_grid("coarse").tissue().size == 297
    assert config.names_sequence
    assert not SimulationConfig(grid="fine").names_sequence


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"echo_time_ms": 3.0}, "echo_time_ms"),
        ({"inversion_time_ms": 18.0}, "inversion_time_ms"),
        ({"schedule": "a.seq", "echo_time_ms": 3.0}, "echo_time_ms .*seq"),
        ({"frames": 1001}, "1001"),
    ],
)
def test_fields_that_do_not_go_with_the_sequence_are_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        SimulationConfig(**fields).sequence()


def test_more_frames_than_the_schedule_has_are_refused(tmp_path):
    schedule = tmp_path / "own.csv"
    schedule.write_text("fa_deg,tr_ms\n10,12\n20,13\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"frames must be 1 to 2.*3"):
        SimulationConfig(str(schedule), 3, 3.0).sequence()


def test_off_resonance_is_an_axis_of_the_grid():
    times = {"t1_ms": "500", "t2_ms": "50"}
    grid = SimulationConfig(**times, off_resonance_hz="-20:20:10").tissue()
    np.testing.assert_array_equal(grid.off_resonance, [-20, -10, 0, 10, 20])
    assert SimulationConfig(**times, off_resonance_hz="-15").tissue().off_resonance.shape == ()
    assert SimulationConfig(**times).tissue().off_resonance is None
    with pytest.raises(ValueError, match="off_resonance_hz must be numbers or ranges"):
        SimulationConfig(off_resonance_hz="5:1:1")
    with pytest.raises(ValueError, match=r"off_resonance_hz must be in Hz, 10000 at most .*rad/s.*; got -1e\+09"):
        SimulationConfig(off_resonance_hz="0,-1e9:5:1")
