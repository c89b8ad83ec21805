"""Pulseq files of others are read where they are MRF-FISP, and else refused in one line."""

import numpy as np
import pypulseq
import pytest

from ganmrf.io.pulseq_read import read_pulseq, read_pulseq_trajectory
from tests.io.pulseq_files import (
    SIX_DIGITS,
    build,
    fisp,
    hard_pulse,
    inversion,
    opened,
    readout,
    scan,
    selective,
    sliced,
    write,
)


@pytest.mark.parametrize("version", ["1.5", "1.4"])
def test_file_of_others_is_read(tmp_path, version):
    path = build(tmp_path / "fisp.seq", fisp, prepare=inversion, version=version)
    read = read_pulseq(path)
    before, gx, _ = readout()
    lengths = pypulseq.calc_duration(before), pypulseq.calc_duration(gx)
    repetition_time = 1e-3 + 0.5e-3 + sum(lengths) + 2e-3 + 3e-3 + 1e-4 * np.arange(4)
    repetition_time[-1] -= 1e-3 + 0.25e-3  # no delay and half pulse follow
    np.testing.assert_allclose(read.flip_angle, np.deg2rad(20), rtol=1e-5)
    np.testing.assert_allclose(read.repetition_time, repetition_time, atol=1e-8)
    np.testing.assert_allclose(read.echo_time, 0.25e-3 + lengths[0] + lengths[1] / 2, atol=1e-8)
    np.testing.assert_allclose(read.inversion_time, 0.25e-3 + 20e-3 + 1e-3 + 0.25e-3, atol=1e-8)
    k = read_pulseq_trajectory(path)
    # 256 cycles/m in 64 samples, of which the middle two lie half a step from 0
    np.testing.assert_allclose(k[..., 0], np.broadcast_to(4 * (np.arange(64) - 31.5), (4, 64)), atol=1e-2)
    np.testing.assert_array_equal(k[..., 1], 0)


def test_adiabatic_inversion_is_known_without_its_use(tmp_path):
    sequence = scan(inversion_time=0.02)
    opened(write(tmp_path / "scan.seq", sequence)).write(str(tmp_path / "old.seq"), v141_compat=True)
    read = read_pulseq(tmp_path / "old.seq")
    np.testing.assert_allclose(read.inversion_time, 0.02, atol=0.51e-6)
    np.testing.assert_allclose(read.flip_angle, 0.5, rtol=SIX_DIGITS)


def test_phase_pi_is_a_negative_flip_angle(tmp_path):
    path = build(tmp_path / "fisp.seq", lambda add, frame: fisp(add, frame, phase=np.pi * (frame % 2)))
    np.testing.assert_allclose(read_pulseq(path).flip_angle, np.deg2rad([20, -20, 20, -20]), rtol=1e-5)


def test_one_phase_of_all_pulses_does_not_matter(tmp_path):
    path = build(tmp_path / "fisp.seq", lambda add, frame: fisp(add, frame, phase=1.0, receiver=1.0))
    np.testing.assert_allclose(read_pulseq(path).flip_angle, np.deg2rad(20), rtol=1e-5)


def flash(add, frame):
    phase = np.deg2rad(117) * frame * (frame + 1) / 2 % (2 * np.pi)
    fisp(add, frame, phase=phase, receiver=phase)


def balanced(add, frame):
    fisp(add, frame, spoiled=False)


def cycled(add, frame):
    fisp(add, frame, phase=np.pi * (frame % 2), receiver=np.pi * (frame % 2))


def spin_echo(use):
    def kernel(add, _):
        before, gx, adc = readout()
        add(hard_pulse(90))
        add(before)
        add(hard_pulse(180, use=use))
        add(gx, adc)

    return kernel


def multi_echo(add, _):
    before, gx, adc = readout()
    add(hard_pulse())
    add(before)
    for _ in range(3):
        add(gx, adc)


def not_read(add, frame):
    if frame == 2:
        add(hard_pulse())
        add(pypulseq.make_delay(5e-3))
    fisp(add, frame)


def saturated(add):
    add(hard_pulse(90, use="saturation"))
    add(pypulseq.make_delay(20e-3))


def twice(add):
    inversion(add)
    inversion(add)


def inverted_and_read(add):
    inversion(add)
    add(readout()[2])


@pytest.mark.parametrize(
    ("kernel", "prepare", "message"),
    [
        (flash, None, "found an RF phase that changes, by 117 degrees until frame 1: RF spoiling"),
        (balanced, None, "found balanced gradients"),
        (cycled, None, "found a receiver phase that changes, by 180 degrees until frame 1"),
        (spin_echo("refocusing"), None, "a pulse of 90 degrees without a readout after it, at 0.00025 s, .* spin echo"),
        (spin_echo("undefined"), None, "a pulse of 90 degrees without a readout after it, at 0.00025 s, .* spin echo"),
        (multi_echo, None, "found 3 readouts after the excitation at 0.00025 s, not one"),
        (not_read, None, "found a pulse of 20 degrees without a readout after it, at 0.0"),
        (fisp, saturated, r"found pulses \(1 for saturation\), the first at 0.00025 s; MRF-FISP has"),
        (fisp, twice, "inversion at 0.00025 s also acts, 0.0205 s before that at 0.02075 s; MRF-FISP has excitations"),
        (fisp, inverted_and_read, "found a readout after a pulse for inversion at 0.00025 s"),
        (lambda add, _: add(hard_pulse()), None, r"no readout \(ADC\) after any of 4 RF pulses"),
        (lambda add, _: add(*readout()[1:]), None, "no RF pulse in 4 blocks"),
    ],
)
def test_what_is_not_mrf_fisp_is_refused(tmp_path, kernel, prepare, message):
    path = build(tmp_path / "other.seq", kernel, prepare=prepare)
    with pytest.raises(ValueError, match=message) as refusal:
        read_pulseq(path)
    assert str(path) in str(refusal.value)


def test_trajectory_needs_readouts_of_one_length(tmp_path):
    def kernel(add, frame):
        before, gx, adc = readout(samples=64 - frame)
        add(hard_pulse())
        add(before)
        add(gx, adc)
        add(pypulseq.make_trapezoid("z", area=1000.0, duration=2e-3))

    path = build(tmp_path / "other.seq", kernel)
    assert read_pulseq(path).n_frames == 4
    with pytest.raises(ValueError, match="readouts must be of one length; found 61 to 64 samples"):
        read_pulseq_trajectory(path)


def test_trajectory_is_the_one_of_pypulseq(tmp_path):
    path = write(tmp_path / "scan.seq", scan())
    k = read_pulseq_trajectory(path)
    played = opened(path)
    expected = played.calculate_kspace()[0][:2].T.reshape(k.shape)
    np.testing.assert_allclose(k, expected, atol=1e-6 * np.abs(expected).max())  # float32, and times in 0.1 ns
    played.write(str(tmp_path / "old.seq"), v141_compat=True)
    np.testing.assert_allclose(read_pulseq_trajectory(tmp_path / "old.seq"), k, atol=SIX_DIGITS * np.abs(k).max())


def test_what_is_before_the_first_pulse_and_after_the_last_readout_does_not_matter(tmp_path):
    """Readouts of noise, triggers and readouts of field cameras; a pulse that leaves the magnetisation along z."""

    def noise(add):
        for _ in range(3):
            add(readout()[2], pypulseq.make_digital_output_pulse("ext1", duration=1e-4))
        add(pypulseq.make_trigger("physio1", duration=1e-4))
        inversion(add)

    def ended(add, frame):
        fisp(add, frame)
        if frame == 3:
            add(hard_pulse(90))
            add(pypulseq.make_delay(1.0))

    path, plain = (
        build(tmp_path / "more.seq", ended, prepare=noise),
        build(tmp_path / "plain.seq", fisp, prepare=inversion),
    )
    found, expected = read_pulseq(path), read_pulseq(plain)
    for name in ("flip_angle", "echo_time", "inversion_time"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-5)
    np.testing.assert_allclose(found.repetition_time[:3], expected.repetition_time[:3], rtol=1e-5)
    np.testing.assert_allclose(found.repetition_time[3], expected.repetition_time[3] + 0.25e-3, rtol=1e-5)
    np.testing.assert_allclose(read_pulseq_trajectory(path), read_pulseq_trajectory(plain), atol=1e-4)


def test_trajectory_needs_no_mrf_fisp(tmp_path):
    """A T2 preparation of pulses without a gradient, whatever they say that they are for, moves no k."""

    def prepared(add, frame):
        for degrees, use in ((90, "excitation"), (180, "refocusing"), (90, "preparation")):
            add(hard_pulse(degrees, use=use))
            add(pypulseq.make_delay(10e-3))
        selective(add, 20.0, 0.0)
        sliced(add, frame)

    path = build(tmp_path / "prepared.seq", prepared)
    with pytest.raises(
        ValueError, match=r"found pulses \(8 for preparation, 4 for refocusing\), the first at 0.00025 s"
    ):
        read_pulseq(path)
    k = read_pulseq_trajectory(path)
    np.testing.assert_allclose(k[..., 0], np.broadcast_to(4 * (np.arange(64) - 31.5), (4, 64)), atol=1e-2)


# Slices


def interleaved(add, frame):
    for number, position in enumerate((10e-3, -10e-3)):
        selective(add, 10.0 * (number + 1) + frame, position)
        sliced(add, 0)


def one_by_one(pause):
    def kernel(add, slice_index):
        inversion(add)
        for frame in range(2):
            selective(add, 20.0, 5e-3 * slice_index)
            sliced(add, frame)
        add(pypulseq.make_delay(pause))

    return kernel


def test_slice_is_chosen(tmp_path):
    path = build(tmp_path / "slices.seq", interleaved)
    for read in (read_pulseq, read_pulseq_trajectory):
        with pytest.raises(ValueError, match=r"slices\.seq: has 2 slices: choose --slice_index=0 to 1"):
            read(path)
        with pytest.raises(ValueError, match=r"slices\.seq: slice_index must be 0 to 1; got 2"):
            read(path, slice_index=2)
    first, second = (read_pulseq(path, slice_index=i) for i in range(2))
    np.testing.assert_allclose(first.flip_angle, np.deg2rad([10, 11, 12, 13]), rtol=1e-4)
    np.testing.assert_allclose(second.flip_angle, np.deg2rad([20, 21, 22, 23]), rtol=1e-4)
    np.testing.assert_allclose(first.repetition_time[:3], second.repetition_time[:3], rtol=1e-6)
    np.testing.assert_allclose(first.echo_time, second.echo_time, rtol=1e-6)
    k = [read_pulseq_trajectory(path, slice_index=i) for i in range(2)]
    np.testing.assert_allclose(k[0], k[1], atol=1e-3)


def test_one_slice_needs_no_choice(tmp_path):
    path = build(tmp_path / "fisp.seq", fisp)
    assert read_pulseq(path, slice_index=1).n_frames == 4


def test_inversions_of_all_slices_act_on_each_until_they_are_forgotten(tmp_path):
    path = build(tmp_path / "slices.seq", one_by_one(0.1), n_frames=2)
    first = read_pulseq(path, slice_index=0)
    assert first.n_frames == 2
    assert first.repetition_time[1] < 0.2  # ends with the next inversion
    with pytest.raises(ValueError, match=r"the inversion at .* also acts, 0\.\d+ s before"):
        read_pulseq(path, slice_index=1)
    path = build(tmp_path / "paused.seq", one_by_one(6.0), n_frames=2)
    with pytest.warns(UserWarning, match=r"the inversion at .* also acts, 6\.\d+ s before .* forgotten"):
        second = read_pulseq(path, slice_index=1)
    np.testing.assert_allclose(second.inversion_time, read_pulseq(path, slice_index=0).inversion_time, rtol=1e-5)
