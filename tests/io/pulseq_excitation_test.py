"""What is simulated is what is played: the slice of a Pulseq file that was written and read back."""

import numpy as np
import pytest

from ganmrf.io.pulseq_sequence import read_pulseq_sequence
from ganmrf.io.pulseq_settings import Excitation
from ganmrf.physics.bloch import slice_signal
from ganmrf.physics.rf_pulse import RfPulse, gaussian, spinors, windowed_sinc
from ganmrf.physics.simulate import simulate
from ganmrf.physics.slice_profile import FullSlice
from ganmrf.physics.slr import slr
from ganmrf.physics.tissue import Tissue
from tests.io.pulseq_files import THICKNESS, scan, write
from tests.pulses import assert_excites, played_slice

POSITION = np.linspace(-1.5, 1.5, 61)
PULSES = {
    "sinc": {},
    "hamming": {"window": "hamming", "time_bandwidth": 4.0},
    "gaussian": {"pulse": gaussian(3.0)},
    "slr": {"pulse": slr(8.0)},
    "one that sweeps": {"pulse": RfPulse.of_waveform(np.hanning(190)[5:-3] ** (1 + 2j), 5.0)},
}


@pytest.mark.parametrize("name", PULSES)
def test_pulse_and_spoiler_that_are_played_are_those_given(tmp_path, name):
    excitation = Excitation(spoil_cycles=4.5, **PULSES[name])
    sequence = scan(4, flip_angle=[1.2, -0.6, 0.0, 0.3], echo_time=[2e-3, 2.003e-3, 2e-3, 2.008e-3])
    path = write(tmp_path / "scan.seq", sequence, excitation=PULSES[name] | {"spoil_cycles": 4.5})
    assert_excites(path, excitation)
    given = excitation.full_slice()
    pulses, turns = played_slice(path, THICKNESS)
    np.testing.assert_allclose(turns, given.turns, atol=1e-4)  # six digits of gradients that leave 4 turns either way
    for angle, pulse in zip([1.2, 0.6, 0.3], (pulses[0], pulses[1], pulses[3]), strict=True):
        # 180 hard pulses for what is smooth: 6e-4 of a turn by 1.2 rad at the edges.
        np.testing.assert_allclose(spinors(pulse, angle, POSITION), spinors(given.pulse, angle, POSITION), atol=1e-3)


@pytest.mark.parametrize("name", PULSES)
def test_pulse_and_spoiler_are_read_back(tmp_path, name):
    excitation = Excitation(spoil_cycles=6, **PULSES[name])
    path = write(tmp_path / "scan.seq", scan(5, repetition_time=0.014), excitation=PULSES[name] | {"spoil_cycles": 6})
    read, given = read_pulseq_sequence(path), excitation.full_slice()
    assert read.slice_thickness == pytest.approx(THICKNESS)
    assert read.turns == pytest.approx(given.turns, abs=1e-3)
    # Both have 180 hard pulses, but of the means and of the middles of their steps.
    np.testing.assert_allclose(spinors(read.rf_pulse, 1.2, POSITION), spinors(given.pulse, 1.2, POSITION), atol=2e-3)


def test_pulse_of_as_many_samples_as_are_played_is_played_to_the_digits_of_the_file(tmp_path):
    given = slr(6.0, n_samples=1200)
    path = write(tmp_path / "scan.seq", scan(2), excitation={"pulse": given, "duration": 1.2e-3})
    (pulse, _), _ = played_slice(path, THICKNESS)
    np.testing.assert_allclose(spinors(pulse, 1.5, POSITION), spinors(given, 1.5, POSITION), rtol=0, atol=5e-6)


@pytest.mark.parametrize("name", ["sinc", "one that sweeps"])
def test_signals_of_what_is_played_are_those_that_are_simulated(tmp_path, name):
    """Both by isochromats, so that pulse and spoiler alone are compared."""
    rng = np.random.default_rng(0)
    sequence = scan(12, flip_angle=rng.uniform(0.2, 1.2, 12), inversion_time=0.02)
    given = Excitation(**PULSES[name]).full_slice()
    pulses, turns = played_slice(write(tmp_path / "scan.seq", sequence, excitation=PULSES[name]), THICKNESS)
    tissue = Tissue(t1=1.0, t2=0.08)
    expected = slice_signal(sequence, tissue, given.pulse, given.turns, n_positions=150)
    played = slice_signal(sequence, tissue, pulses[0], turns.mean(), n_positions=150)
    assert np.linalg.norm(played - expected) < 5e-4 * np.linalg.norm(expected)


def test_file_that_is_read_is_simulated_as_what_was_written(tmp_path):
    rng = np.random.default_rng(1)
    excitation = {"pulse": slr(8.0), "spoil_cycles": 6}
    sequence = scan(12, flip_angle=rng.uniform(0.2, 1.2, 12), repetition_time=0.014, inversion_time=0.02)
    tissue = Tissue(t1=[1.0, 0.3], t2=[0.08, 0.02])
    written = simulate(sequence, tissue, slice_profile=Excitation(**excitation).full_slice())
    read = read_pulseq_sequence(write(tmp_path / "scan.seq", sequence, excitation=excitation))
    signal = simulate(read.sequence, tissue, slice_profile=FullSlice(read.rf_pulse, read.turns))
    # Means of 180 steps of straight lines between 180 samples are not quite these.
    assert np.linalg.norm(signal - written) < 1e-3 * np.linalg.norm(written)


def test_pulses_centre_is_the_middle_of_its_gradient_whatever_its_shape(tmp_path):
    """An early peak does not move the echo: the gradient takes back half of its turns before and half after."""
    early = RfPulse.of_waveform(np.exp(-(np.linspace(-1, 4, 180) ** 2)), 3.0)
    assert_excites(write(tmp_path / "scan.seq", scan(3), excitation={"pulse": early}), Excitation(pulse=early))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pulse": windowed_sinc(8, "hann", 2000)}, "excitation.duration of 1800 us must be longer .* 2000 samples"),
        ({"spoil_cycles": 0.5}, "excitation.spoil_cycles must be 1 or more; got 0.5"),
        ({"spoil_cycles": np.inf}, "excitation.spoil_cycles must be 1 or more; got inf"),
        ({"time_bandwidth": np.nan}, "excitation.time_bandwidth must be positive and finite; got nan"),
    ],
)
def test_excitation_that_cannot_be_played_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Excitation(**fields)
