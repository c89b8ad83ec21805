"""A scan goes through a Pulseq file within the rasters it names; what no scanner can play is refused."""

import re

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pypulseq
import pytest

from ganmrf.io.pulseq_read import read_pulseq, read_pulseq_trajectory
from ganmrf.io.pulseq_settings import ScannerLimits
from ganmrf.physics.constants import GYROMAGNETIC_RATIO
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.slice_profile import sinc_profile
from tests.io.pulseq_files import DWELL_TIME, N_SAMPLES, RASTER, SIX_DIGITS, THICKNESS, opened, scan, spiral, write


def gradient_along(played, axis):
    """Its value, Hz/m, and its integral, cycles/m, as functions of time: trapezoids under the points of the file."""
    time, value = played.waveforms()[axis]
    fine = np.unique(np.concatenate([time, np.arange(0, played.duration()[0], 1e-6)]))
    fine_value = np.interp(fine, time, value, left=0, right=0)
    moment = np.append(0, np.cumsum(np.diff(fine) * (fine_value[1:] + fine_value[:-1]) / 2))
    return (lambda t: np.interp(t, fine, fine_value)), (lambda t: np.interp(t, fine, moment))


def middle_of_published(first=195, last=225):
    """Frames of the published schedule around its first pause, where flip angles are 0."""
    whole = mrf_fisp()
    return Fisp(whole.flip_angle[first:last], whole.repetition_time[first:last], 1.908e-3, 18e-3)


def test_published_schedule_comes_back(tmp_path):
    sequence = middle_of_published()
    assert (np.asarray(sequence.flip_angle) == 0).sum() > 5
    read = read_pulseq(write(tmp_path / "scan.seq", sequence))
    np.testing.assert_allclose(read.flip_angle, sequence.flip_angle, rtol=SIX_DIGITS)
    assert (np.asarray(read.flip_angle)[np.asarray(sequence.flip_angle) == 0] == 0).all()
    np.testing.assert_allclose(read.echo_time, 1.908e-3, atol=1e-9)
    np.testing.assert_allclose(read.inversion_time, 18e-3, atol=0.51e-6)  # the pulse's centre is between two samples
    late = np.cumsum(np.asarray(read.repetition_time, float) - np.asarray(sequence.repetition_time, float))
    assert np.abs(late).max() < 5.6e-6  # half a raster time, what the first pulse is off, and float32


def test_frames_of_0_degrees_alone_come_back(tmp_path):
    read = read_pulseq(write(tmp_path / "scan.seq", scan(2, flip_angle=[0.0, 0.0])))
    np.testing.assert_array_equal(read.flip_angle, 0)


@hypothesis.settings(max_examples=8)
@hypothesis.given(seed=st.integers(0, 1000), inverted=st.booleans(), dead_us=st.sampled_from([0, 37, 100, 400]))
def test_any_schedule_comes_back(tmp_path_factory, seed, inverted, dead_us):
    rng = np.random.default_rng(seed)
    n_frames = int(rng.integers(1, 12))
    sequence = Fisp(
        flip_angle=rng.uniform(-1, 1, n_frames) * rng.integers(0, 2, n_frames),
        repetition_time=rng.uniform(9e-3, 15e-3, n_frames),
        echo_time=rng.uniform(2.3e-3, 3e-3, n_frames),  # what the longest ringdown leaves possible
        inversion_time=rng.uniform(15e-3, 30e-3) if inverted else None,
    )
    path = tmp_path_factory.mktemp("scan") / "scan.seq"
    limits = ScannerLimits(rf_dead_time=1e-6 * dead_us, rf_ringdown_time=1e-6 * dead_us, adc_dead_time=1e-7 * dead_us)
    read = read_pulseq(write(path, sequence, limits=limits))
    np.testing.assert_allclose(read.flip_angle, sequence.flip_angle, rtol=SIX_DIGITS)
    np.testing.assert_allclose(read.echo_time, sequence.echo_time, atol=0.51e-6)
    late = np.cumsum(np.asarray(read.repetition_time, float) - np.asarray(sequence.repetition_time, float))
    # The first pulse too may be half a raster time off, from where the inversion would have it.
    assert np.abs(late).max() < 10.1e-6
    if inverted:
        np.testing.assert_allclose(read.inversion_time, sequence.inversion_time, atol=1.01e-6)
    else:
        assert read.inversion_time is None
    played = pypulseq.Sequence(
        pypulseq.Opts(
            rf_dead_time=limits.rf_dead_time,
            rf_ringdown_time=limits.rf_ringdown_time,
            adc_dead_time=limits.adc_dead_time,
        )
    )
    played.read(str(path))
    clean, errors = played.check_timing()
    assert clean, errors


def test_gradients_are_continuous_and_within_limits(tmp_path):
    limits = ScannerLimits()
    played = opened(write(tmp_path / "scan.seq", middle_of_published(198, 204)))
    for axis in range(3):
        time, value = played.waveforms()[axis]
        assert np.abs(value).max() <= GYROMAGNETIC_RATIO * limits.max_gradient * (1 + 1e-5)  # six digits in a file
        slew_rate = np.abs(np.diff(value) / np.diff(time)).max()
        assert slew_rate <= GYROMAGNETIC_RATIO * limits.max_slew_rate * (1 + 1e-5)
        assert value[0] == value[-1] == 0
    assert played.definitions["Name"] == "mrf_fisp"
    np.testing.assert_allclose(played.definitions["FOV"], [0.3, 0.3, THICKNESS])


def test_trajectory_is_the_turned_moment_of_the_waveform(tmp_path):
    sequence = scan(5, echo_time=[2e-3, 2.001e-3, 2.1e-3, 2.005e-3, 2e-3])
    angles = np.array([0, np.pi / 2, 0.3, 0.3, 6.0])
    path = write(tmp_path / "scan.seq", sequence, angles=angles)
    read = read_pulseq_trajectory(path)
    assert read.shape == (5, N_SAMPLES, 2)
    assert read.dtype == np.float32
    waveform = np.concatenate([[[0, 0]], spiral()])
    times = np.append(0, RASTER * (np.arange(len(spiral())) + 0.5))
    samples = DWELL_TIME * (np.arange(N_SAMPLES) + 0.5)
    steps = np.linspace(0, samples[-1], 200_001)  # far finer than the raster: a midpoint rule is exact between knots
    middle = (steps[1:] + steps[:-1]) / 2
    k = [np.interp(samples, steps, np.append(0, np.cumsum(np.interp(middle, times, g)))) for g in waveform.T]
    k = GYROMAGNETIC_RATIO * steps[1] * (k[0] + 1j * k[1])
    for frame, angle in enumerate(angles):
        turned = k * np.exp(1j * angle)
        # Of a radius of 70 cycles/m, six digits of an amplitude and seven of each step of a shape are in a file.
        np.testing.assert_allclose(read[frame], np.stack([turned.real, turned.imag], axis=1), atol=1e-3)
    by_pypulseq = opened(path).calculate_kspace()[0][:2].reshape(2, 5, N_SAMPLES)
    np.testing.assert_allclose(read, np.moveaxis(by_pypulseq, 0, 2), atol=1e-4)  # float32


@pytest.mark.parametrize("cycles", [1, 4, 7])
def test_slice_is_spoiled_by_whole_cycles_from_pulse_to_pulse(tmp_path, cycles):
    sequence = scan(6, echo_time=[2e-3, 2.003e-3, 2.009e-3, 2.1e-3, 2e-3, 2e-3], inversion_time=0.02)
    played = opened(write(tmp_path / "scan.seq", sequence, excitation={"spoil_cycles": cycles}))
    pulses, _, _, _ = played.rf_times()
    _, moment = gradient_along(played, 2)
    # Six digits of gradients that leave up to 900 cycles/m either way: 5e-6 cycles each.
    np.testing.assert_allclose(np.diff(moment(np.array(pulses))) * THICKNESS, cycles, atol=3e-5)
    for axis in range(2):
        _, moment = gradient_along(played, axis)
        np.testing.assert_allclose(np.diff(moment(np.array(pulses))), 0, atol=0.1)  # cycles/m: nothing across a voxel


@pytest.mark.parametrize("window", ["hann", "hamming", "none"])
def test_excitation_has_the_slice_profile_that_is_simulated(tmp_path, window):
    """The pulse weighed by what the gradient does after it is, for small angles, the magnetisation at the echo."""
    flip_angle = 0.1
    sequence = scan(2, flip_angle=[flip_angle, flip_angle], echo_time=[2e-3, 2.004e-3])
    played = opened(write(tmp_path / "scan.seq", sequence, excitation={"window": window}))
    _, moment = gradient_along(played, 2)
    start, position = 0.0, np.linspace(-1, 1, 21)
    for block, duration in played.block_durations.items():
        if (rf := played.get_block(block).rf) is not None:
            time = start + rf.delay + rf.t
            k = moment(start + rf.delay + rf.center + 2e-3) - moment(time)
            profile = 2e-6 * np.pi * np.exp(-2j * np.pi * THICKNESS * np.outer(position, k)) @ rf.signal
            # 1800 samples instead of the integral
            np.testing.assert_allclose(
                profile, flip_angle * sinc_profile(position, window=window), atol=1e-3 * flip_angle
            )
        start += duration


@pytest.mark.parametrize(("window", "share"), [("hann", 0.5), ("hamming", 0.46), ("none", 0.0)])
def test_samples_of_the_pulse_follow_its_window(tmp_path, window, share):
    settings = {"window": window, "time_bandwidth": 6.0, "duration": 2e-3}
    path = write(tmp_path / "scan.seq", scan(1, echo_time=2.5e-3), excitation=settings)
    rf = opened(path).get_block(1).rf
    time = (rf.t - rf.t[-1] / 2 - rf.t[0] / 2) / 2e-3  # from -1/2 to 1/2
    expected = np.sinc(6 * time) * (1 - share + share * np.cos(2 * np.pi * time))
    # Seven digits of each step of a shape are in a file.
    np.testing.assert_allclose(rf.signal / np.abs(rf.signal).max(), expected / expected.max(), atol=1e-5)
    np.testing.assert_allclose(read_pulseq(path).flip_angle, 0.5, rtol=SIX_DIGITS)


def test_inversion_pulse_inverts(tmp_path):
    """By rotations, sample by sample, within the bandwidth of the pulse (a band of 1250 Hz) and at +-20 % of B1."""
    played = opened(write(tmp_path / "scan.seq", scan(inversion_time=0.02)))
    rf = played.get_block(1).rf
    assert rf.use == "inversion"
    offset, b1 = np.meshgrid(np.linspace(-300, 300, 5), [0.8, 1.0, 1.2])
    spin = np.zeros((2, offset.size), complex)  # Cayley-Klein: 1 up, 0 down
    spin[0] = 1
    step, pulse = 20e-6, rf.signal.reshape(-1, 20).mean(axis=1)
    for value in pulse:
        x, z = np.pi * step * value * b1.ravel(), np.pi * step * offset.ravel()
        angle = np.sqrt(np.abs(x) ** 2 + z**2)
        cosine, sine = np.cos(angle), np.sinc(angle / np.pi)
        up, down = spin
        spin = np.stack(
            [
                (cosine - 1j * z * sine) * up - 1j * np.conj(x) * sine * down,
                (cosine + 1j * z * sine) * down - 1j * x * sine * up,
            ]
        )
    longitudinal = np.abs(spin[0]) ** 2 - np.abs(spin[1]) ** 2
    assert longitudinal.max() < -0.95


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"echo_time": 1e-3}, {}, r"echo_time of frame 0 is 1 ms; the shortest possible is 1\.\d+ ms"),
        ({"repetition_time": [0.012, 0.005, 0.012]}, {}, r"repetition_time of frame 1 is 5 ms; .* is \d\.\d+ ms"),
        ({"inversion_time": 7e-3}, {}, r"inversion_time is 7 ms; the shortest possible is [\d.]+ ms"),
        ({"flip_angle": [0.1, 3.0, 0.1]}, {}, "flip_angle of frame 1, 171.887 degrees, needs .* T; limits.max_b1 is"),
        ({}, {"limits": ScannerLimits(max_gradient=0.009)}, "needs .* T/m; limits.max_gradient is 0.009 T/m"),
        (
            {},
            {"limits": ScannerLimits(max_slew_rate=50)},
            "from 0 to 0, needs .*; limits.max_slew_rate is 50 T/m/s",
        ),
        (
            {},
            {"excitation": {"slice_thickness": 1e-3}},
            "the slice needs 0.104.* T/m; limits.max_gradient is 0.04 T/m",
        ),
        ({}, {"excitation": {"slice_thickness": 0.0}}, "excitation.slice_thickness must be positive and finite; got 0"),
        ({}, {"dwell_time": 4.05e-6, "n_samples": 5}, "dwell_time must be a multiple of 1e-07 s; got 4.05e-06 s"),
        ({}, {"n_samples": 0}, "n_samples must be a whole number, 1 or more; got 0"),
        ({}, {"n_samples": 561}, "must not outlast gradient; got 2.805 ms, gradient 2.8 ms"),
        ({}, {"gradient": spiral()[:200]}, "must return to k = 0; it ends at .* cycles/m, 1 allowed"),
        ({}, {"gradient": spiral().T}, r"gradient must be \(raster times, 2\) and finite; got shape \(2, 280\)"),
        ({}, {"angles": np.zeros(4)}, r"angles must be \(frames,\) for 3 frames; got shape \(4,\)"),
        ({}, {"angles": [0.0, np.nan, 0.0]}, r"angles must be \(frames,\) and finite; got shape \(3,\)"),
        ({}, {"excitation": {"duration": 1.805e-3}}, "excitation.duration must be a multiple of 10 us; got 1805 us"),
        ({}, {"excitation": {"window": "hanning"}}, "excitation.window must be one of .*hamming.*; got 'hanning'"),
    ],
)
def test_what_cannot_be_played_is_refused_and_nothing_written(tmp_path, change, options, message):
    path = tmp_path / "scan.seq"
    path.write_text("before", encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        write(path, scan(**change), **options)
    assert [file.name for file in tmp_path.iterdir()] == ["scan.seq"]
    assert path.read_text(encoding="utf-8") == "before"


def test_limits_must_be_possible():
    with pytest.raises(ValueError, match=r"limits\.max_slew_rate must be positive and finite; got 0"):
        ScannerLimits(max_slew_rate=0)
    with pytest.raises(ValueError, match=r"limits\.adc_dead_time must be 0 or more, and finite; got -1"):
        ScannerLimits(adc_dead_time=-1)


def test_other_suffix_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a Pulseq file is named \.seq"):
        write(tmp_path / "scan.txt", scan())


@pytest.mark.parametrize("name", ["echo_time", "repetition_time", "inversion_time"])
def test_shortest_possible_is_possible_and_less_is_not(tmp_path, name):
    fields = {"inversion_time": 0.02, name: 3e-3 if name == "inversion_time" else 1e-4}
    if name == "repetition_time":
        fields[name] = 3e-3
    with pytest.raises(ValueError, match=name) as refusal:
        write(tmp_path / "scan.seq", scan(**fields))
    shortest = 1e-3 * float(re.search(r"possible is ([\d.]+) ms", str(refusal.value))[1])
    write(tmp_path / "scan.seq", scan(**fields | {name: shortest}))
    with pytest.raises(ValueError, match=name):
        write(tmp_path / "scan.seq", scan(**fields | {name: shortest - 10e-6}))
