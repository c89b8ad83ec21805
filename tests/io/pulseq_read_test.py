"""Pulseq files of others are read where they are MRF-FISP, and else refused in one line, as damaged ones are."""

import re

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
    unsigned,
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


def noise_first(add):
    add(readout()[2])


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
        (spin_echo("refocusing"), None, "found a pulse for refocusing at .* s; MRF-FISP has"),
        (spin_echo("undefined"), None, "found a pulse of 90 degrees without a readout after it, at 0.00025 s"),
        (multi_echo, None, "found 3 readouts after the excitation at 0.00025 s, not one"),
        (not_read, None, "found a pulse of 20 degrees without a readout after it, at 0.0"),
        (fisp, noise_first, "found a readout at .* s, before the first RF pulse"),
        (fisp, saturated, "found a pulse for saturation at 0.00025 s; MRF-FISP has"),
        (fisp, twice, "found a pulse for inversion at 0.02075 s; MRF-FISP has excitations, after one"),
        (fisp, inverted_and_read, "found a readout after the inversion pulse at 0.00025 s"),
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


def test_missing_or_other_files_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"cannot read .*none\.seq: No such file"):
        read_pulseq(tmp_path / "none.seq")
    for content in (b"", b"\x93NUMPY\x01\xff\xfe", b"flip_angle_deg,tr_ms\n5,12\n"):
        (tmp_path / "other.seq").write_bytes(content)
        with pytest.raises(ValueError, match=r"other\.seq: not a Pulseq file"):
            read_pulseq(tmp_path / "other.seq")


@pytest.mark.parametrize("signed", [True, False])
def test_truncated_file_is_refused_wherever_it_is_cut(tmp_path, signed):
    text = build(tmp_path / "whole.seq", fisp, prepare=inversion).read_text(encoding="utf-8")
    if not signed:
        text = text[: text.index("\n[SIGNATURE]")]
    (tmp_path / "cut.seq").write_text(text, encoding="utf-8")
    assert read_pulseq(tmp_path / "cut.seq").n_frames == 4
    start = text.index("[BLOCKS]")
    # Blank lines at the end are all that an unsigned file can lose.
    for length in np.linspace(start, len(text.rstrip()) - 2, 60).astype(int):
        (tmp_path / "cut.seq").write_text(text[:length], encoding="utf-8")
        with pytest.raises(ValueError, match=r"cut\.seq: "):
            read_pulseq(tmp_path / "cut.seq")


def test_edited_file_is_refused_until_its_signature_is_removed(tmp_path):
    path = build(tmp_path / "scan.seq", fisp)
    edited = path.read_text(encoding="utf-8").replace("[DEFINITIONS]\n", "[DEFINITIONS]\nScanner ours\n")
    path.write_text(edited, encoding="utf-8")
    with pytest.raises(ValueError, match=r"scan\.seq: .*does not match its signature"):
        read_pulseq(path)
    path.write_text(edited[: edited.index("\n[SIGNATURE]")], encoding="utf-8")
    assert read_pulseq(path).n_frames == 4


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (r"num_samples.*?\n\n", "num_samples 1000000000\n0\n0\n999999998\n\n"),
        (r"num_samples.*?\n\n", "num_samples 1_000_000_000\n0\n0\n999999998\n\n"),
        (r"[-+.\de]+(\n*)\Z", r"nan\1"),  # of a gradient
    ],
)
def test_shapes_that_none_can_play_are_refused_before_they_are_made(tmp_path, old, new):
    path = tmp_path / "scan.seq"
    write(path, scan())
    path.write_text(re.sub(old, new, unsigned(path), count=1, flags=re.DOTALL), encoding="utf-8")
    for read in (read_pulseq, read_pulseq_trajectory):
        with pytest.raises(ValueError, match=r"scan\.seq: "):
            read(path)


def test_readouts_that_none_can_play_are_refused_before_their_times_are_made(tmp_path):
    path = build(tmp_path / "scan.seq", fisp)
    path.write_text(re.sub(r"(\[ADC\]\s+1 )64", r"\g<1>999999999", unsigned(path)), encoding="utf-8")
    with pytest.raises(ValueError, match=r"scan\.seq: a readout of 1e\+09 samples"):
        read_pulseq(path)
