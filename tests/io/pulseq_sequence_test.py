"""Any sequence in a Pulseq file is read as it is played: by blocks, with the pulse and the spoiler of its slice."""

import re

import jax
import numpy as np
import pypulseq
import pytest

from ganmrf.io.pulseq_read import read_pulseq
from ganmrf.io.pulseq_sequence import read_pulseq_sequence
from ganmrf.physics.sequences.blocks import HalfTurns, Played, Train, simulate_voxel
from ganmrf.physics.sequences.bssfp import Bssfp
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.sequences.spoiled_gradient_echo import SpoiledGradientEcho
from tests.io.pulseq_files import (
    build,
    by_hand,
    fisp,
    inversion,
    readout,
    scan,
    selective,
    sliced,
    with_extensions,
    write,
)
from tests.io.pulseq_frames import FRAME, VOXEL, echo_time, excite, frame, kinds, sinc, t2_prepared

# Plain FISP


def test_plain_fisp_is_the_same_sequence(tmp_path):
    path = build(tmp_path / "fisp.seq", fisp, prepare=inversion)
    found, expected = read_pulseq_sequence(path), read_pulseq(path)
    for name in ("flip_angle", "repetition_time", "echo_time", "inversion_time"):
        np.testing.assert_array_equal(getattr(found.sequence, name), getattr(expected, name))
    assert found.rf_pulse is found.turns is found.slice_thickness is None


def test_first_frames_alone(tmp_path):
    path = write(tmp_path / "scan.seq", scan(inversion_time=0.02))
    assert read_pulseq_sequence(path, n_frames=2).sequence.n_frames == 2
    with pytest.raises(ValueError, match=r"scan\.seq: n_frames must be 1 to 3, those of the file; got 4"):
        read_pulseq_sequence(path, n_frames=4)


@pytest.mark.parametrize("version", ["1.4", "1.5"])
def test_files_of_earlier_versions_say_the_same(tmp_path, version):
    """But for what pulses are for: those without a gradient and a readout prepare where excitations select a slice."""
    path = build(tmp_path / "scan.seq", lambda add, _: frame(add, 20), prepare=t2_prepared, version=version)
    found = read_pulseq_sequence(path)
    assert kinds(found.sequence) == [Played, Train]
    np.testing.assert_allclose(np.rad2deg(float(found.sequence.blocks[0].flip_angle.sum())), 360, rtol=1e-5)
    np.testing.assert_allclose(found.sequence.blocks[1].repetition_time[:3], FRAME, rtol=1e-5)
    assert found.turns == pytest.approx(1000 * found.slice_thickness, rel=1e-4)


@pytest.mark.parametrize(("minor", "read"), [(1, False), (2, True), (3, True), (6, False)])
def test_versions_that_are_not_read_are_named(tmp_path, minor, read):
    path = by_hand(tmp_path / "old.seq", 3, (20, np.diff(np.sin(np.arange(20)), prepend=0)))
    text = path.read_text(encoding="utf-8").replace("minor 3", f"minor {minor}")
    if minor == 2:  # its blocks have no extensions
        text = re.sub(r"^((?:\d ){7})0$", r"\1", text, flags=re.MULTILINE)
    path.write_text(text, encoding="utf-8")
    if read:
        assert read_pulseq_sequence(path).sequence.n_frames == 2
    else:
        with pytest.raises(ValueError, match=rf"old\.seq: Pulseq version 1\.{minor}\.\d: 1\.2 to 1\.5 are read"):
            read_pulseq_sequence(path)


# Other trains, which are the same experiment as sequences of ours: signals agree


def test_balanced_ssfp_with_a_first_pulse_of_half_the_flip_angle(tmp_path):
    """That pulse has no readout: its frame is not recorded."""

    def start(add):
        rf, gz, _ = sinc(-10)
        add(rf, gz)
        add(pypulseq.make_trapezoid("z", area=-gz.area, duration=1e-3))
        add(pypulseq.make_delay(FRAME / 2 - 1e-3 - pypulseq.calc_duration(rf, gz)))

    path = build(tmp_path / "bssfp.seq", lambda add, i: frame(add, 20, np.pi * (i % 2), area=0), prepare=start)
    found = read_pulseq_sequence(path)
    sequence = Bssfp(np.full(4, np.deg2rad(20)), FRAME, echo_time())
    assert kinds(found.sequence) == [Train]
    assert isinstance(found.sequence.blocks[0].rf_phase, HalfTurns)
    assert found.turns == pytest.approx(0, abs=1e-4)
    signals = [simulate_voxel(each, **VOXEL, off_resonance=15.0) for each in (found.sequence, sequence)]
    np.testing.assert_allclose(*signals, atol=2e-5)


def test_rf_spoiling(tmp_path):
    increment = np.deg2rad(117)
    phase = increment * np.arange(4) * np.arange(1, 5) / 2
    path = build(tmp_path / "spgr.seq", lambda add, i: frame(add, 20, phase[i] % (2 * np.pi)))
    found = read_pulseq_sequence(path)
    sequence = SpoiledGradientEcho(np.full(4, np.deg2rad(20)), FRAME, echo_time(), phase_increment=increment)
    assert found.sequence.blocks[0].receiver_phase is None
    signals = [simulate_voxel(each, **VOXEL) for each in (found.sequence, sequence)]
    np.testing.assert_allclose(*signals, atol=2e-5)


def test_phase_of_the_receiver_alone(tmp_path):
    phase = np.array([0.3, 0.8, 0.3, 1.5])
    path = build(tmp_path / "fisp.seq", lambda add, i: frame(add, 20, receiver=phase[i]))
    found, plain = read_pulseq_sequence(path).sequence, Fisp(np.full(4, np.deg2rad(20)), FRAME, echo_time())
    expected = simulate_voxel(plain.as_blocks(), **VOXEL) * np.exp(-1j * (phase - phase[0]))
    np.testing.assert_allclose(simulate_voxel(found, **VOXEL), expected, atol=2e-5)


def test_echoes_of_one_excitation_are_frames_without_a_pulse(tmp_path):
    def kernel(add, _):
        _, gz = excite(add, 20)
        before, gx, adc = readout()
        add(before)
        add(gx, adc)
        add(pypulseq.make_trapezoid("x", area=-gx.area, duration=2e-3))
        add(gx, adc)
        after = pypulseq.make_trapezoid("x", area=-gx.area / 2, duration=1e-3)
        add(after, pypulseq.make_trapezoid("z", area=800.0 - gz.area / 2))

    found = read_pulseq_sequence(build(tmp_path / "echoes.seq", kernel, n_frames=2))
    (train,) = found.sequence.blocks
    assert found.sequence.n_frames == 4
    np.testing.assert_allclose(np.rad2deg(train.flip_angle), [20, 0, 20, 0], rtol=1e-5)
    assert train.turns == (0, 1, 0, 1)
    between = 2e-3 + pypulseq.calc_duration(readout()[1])
    np.testing.assert_allclose(train.echo_time, [echo_time(), between, echo_time(), between], rtol=1e-5)
    assert found.turns == pytest.approx(800 * found.slice_thickness, rel=1e-4)


def test_pulses_without_readout_before_and_between_frames_are_not_recorded(tmp_path):
    path = build(tmp_path / "dummy.seq", lambda add, i: frame(add, 20, recorded=i not in (0, 2)))
    (train,) = read_pulseq_sequence(path).sequence.blocks
    assert train.recorded == (False, True, False, True)
    np.testing.assert_allclose(train.repetition_time[:3], FRAME, rtol=1e-5)


@pytest.mark.parametrize("label", ["NOISE", "NAV"])
def test_readouts_of_noise_and_navigators_are_no_frames(tmp_path, label):
    def kernel(add, i):
        add(pypulseq.make_delay(1e-3), pypulseq.make_label(label, "SET", int(i in (0, 2))))
        frame(add, 20)

    path = build(tmp_path / "labels.seq", kernel)
    (train,) = read_pulseq_sequence(path).sequence.blocks
    assert train.recorded == (False, True, False, True)


# Spoilers


def test_spoilers_are_counted_as_multiples_of_one(tmp_path):
    path = build(tmp_path / "hybrid.seq", lambda add, i: frame(add, 20, turned=(2, 1, 3, 1)[i]))
    found = read_pulseq_sequence(path)
    assert found.sequence.blocks[0].turns[:3] == (2, 1, 3)
    assert found.turns == pytest.approx(1000 * found.slice_thickness, rel=1e-4)


def test_turns_have_the_sense_of_the_slice_gradient(tmp_path):
    found = read_pulseq_sequence(build(tmp_path / "back.seq", lambda add, _: frame(add, 20, area=-600.0)))
    assert isinstance(found.sequence, Fisp)
    assert found.turns == pytest.approx(-600 * found.slice_thickness, rel=1e-4)


def test_spoiler_within_the_plane_is_none_of_the_slice(tmp_path):
    def kernel(add, _):
        frame(add, 20, area=0)
        add(pypulseq.make_trapezoid("x", area=700.0))

    found = read_pulseq_sequence(build(tmp_path / "plane.seq", kernel))
    assert isinstance(found.sequence, Fisp)
    assert found.turns is None
    assert found.rf_pulse is not None


def test_spoilers_that_differ_are_taken_as_their_mean_with_a_warning(tmp_path):
    path = build(tmp_path / "fisp.seq", lambda add, i: frame(add, 20, area=1000.0 + 70 * i))
    with pytest.warns(UserWarning, match=r"spoilers differ, 1000 cycles/m after block 1, 1140 after 13"):
        found = read_pulseq_sequence(path)
    assert found.turns == pytest.approx(1070 * found.slice_thickness, rel=1e-4)


@pytest.mark.parametrize(("turned", "area"), [((1, -1, 1, 1), 1000.0), ((1, 0.77, 0.01, 1), 600.0)])
def test_spoilers_that_are_no_multiples_are_refused(tmp_path, turned, area):
    path = build(tmp_path / "fisp.seq", lambda add, i: frame(add, 20, area=area, turned=turned[i]))
    with pytest.raises(ValueError, match=r"fisp\.seq: spoilers that are no multiples of one, .* after block \d"):
        read_pulseq_sequence(path)


# Slices, and rotations of blocks


def test_slice_is_chosen_and_all_gradients_act_on_it(tmp_path):
    """Of two interleaved slices, whose spoilers both dephase each of them."""

    def kernel(add, i):
        for number, position in enumerate((10e-3, -10e-3)):
            selective(add, 10.0 * (number + 1) + i, position)
            sliced(add, 0)

    path = build(tmp_path / "slices.seq", kernel)
    with pytest.raises(ValueError, match=r"slices\.seq: has 2 slices: choose --slice_index=0 to 1"):
        read_pulseq_sequence(path)
    with pytest.warns(UserWarning, match="gradients across the spoiler leave up to 262 cycles/m"):
        first, second = (read_pulseq_sequence(path, slice_index=i) for i in (0, 1))
    np.testing.assert_allclose(np.rad2deg(first.sequence.flip_angle), [10, 11, 12, 13], rtol=1e-4)
    np.testing.assert_allclose(np.rad2deg(second.sequence.flip_angle), [20, 21, 22, 23], rtol=1e-4)
    np.testing.assert_allclose(first.rf_pulse.samples, second.rf_pulse.samples, atol=1e-9)
    _, gz, rephaser = sinc(10)
    assert first.turns == pytest.approx(2 * (1000 + gz.area + rephaser.area) * first.slice_thickness, rel=1e-4)


ROTATED = "[EXTENSIONS]\n1 7 1 0\n2 7 2 0\n\nextension ROTATIONS 7\n1 0.8 0 0 0.6\n2 0.8 0.6 0 0\n"  # about z and x
BLOCKS = 6  # of a frame


@pytest.mark.filterwarnings("ignore:.*has no signature")
def test_rotations_matter_where_they_turn_the_slice(tmp_path):
    path = build(tmp_path / "scan.seq", lambda add, _: frame(add, 20))
    plain = read_pulseq_sequence(path)
    of_readouts = {BLOCKS * i + block: 1 for i in (1, 3) for block in (3, 4, 5)}
    turned = read_pulseq_sequence(with_extensions(path, of_readouts, ROTATED))
    jax.tree.map(np.testing.assert_allclose, turned.sequence, plain.sequence)
    assert turned.turns == pytest.approx(plain.turns)
    path = with_extensions(build(tmp_path / "tilted.seq", lambda add, _: frame(add, 20)), {13: 2, 14: 2}, ROTATED)
    with pytest.raises(ValueError, match="block 13: the excitation pulse is another one than in block 1"):
        read_pulseq_sequence(path)


def test_readouts_before_the_first_pulse_are_none(tmp_path):
    def noise(add):
        for _ in range(3):
            add(readout()[2])

    found = read_pulseq_sequence(build(tmp_path / "noise.seq", lambda add, _: frame(add, 20), prepare=noise))
    assert found.sequence.n_frames == 4
