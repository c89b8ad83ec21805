"""Preparations in Pulseq files are played as hard pulses, and what cannot be said is refused."""

import numpy as np
import pypulseq
import pytest

from ganmrf.io.pulseq_sequence import read_pulseq_sequence
from ganmrf.physics.sequences.blocks import Blocks, Played, Train, simulate_voxel
from ganmrf.physics.simulate import simulate
from ganmrf.physics.slice_profile import FullSlice
from ganmrf.physics.tissue import Tissue
from tests.io.isochromats import play
from tests.io.pulseq_files import THICKNESS, build, hard_pulse, opened, played_out, readout
from tests.io.pulseq_frames import FRAME, VOXEL, crush, excite, frame, kinds, sinc, t2_prepared, trains


def test_preparation_is_played_as_hard_pulses_until_its_crusher(tmp_path):
    path = build(tmp_path / "t2.seq", lambda add, _: frame(add, 20), prepare=t2_prepared)
    found = read_pulseq_sequence(path)
    assert kinds(found.sequence) == [Played, Train]
    played = found.sequence.blocks[0]
    pulses = np.asarray(played.flip_angle).reshape(3, -1)
    np.testing.assert_allclose(np.rad2deg(pulses.sum(axis=1)), [90, 180, 90], rtol=1e-5)
    phase = np.asarray(played.rf_phase).reshape(3, -1)
    np.testing.assert_allclose(np.exp(1j * phase), np.exp([[0j], [0.5j * np.pi], [1j * np.pi]]) + 0 * phase, atol=1e-5)
    times = np.concatenate([[0], np.cumsum(played.time)[:-1]]).reshape(3, -1).mean(axis=1)
    np.testing.assert_allclose(np.diff(times), 20e-3, rtol=1e-5)
    centre = pypulseq.calc_duration(*sinc(20)[:2]) / 2  # of the first excitation
    half_a_step = 0.5e-3 / pulses.shape[1] / 2
    np.testing.assert_allclose(played.duration, 40e-3 + 0.5e-3 - half_a_step + 3e-3 + centre, rtol=1e-5)


def test_preparations_between_frames_end_their_trains(tmp_path):
    """An inversion, its crusher and a T2 preparation are two; the frame before lasts until the first of them."""

    def kernel(add, i):
        if i == 2:
            add(hard_pulse(180, use="inversion"))
            crush(add)
            t2_prepared(add)
        frame(add, 20)

    found = read_pulseq_sequence(build(tmp_path / "beats.seq", kernel)).sequence
    assert kinds(found) == [Train, Played, Played, Train]
    first, second = trains(found)
    assert first.n_frames == second.n_frames == 2
    assert first.turns == second.turns == (1, 1)
    played = sum(float(block.duration) for block in found.blocks[1:3])
    whole = 2 * FRAME + 0.5e-3 + 3e-3 + 40.5e-3 + 3e-3
    np.testing.assert_allclose(float(first.repetition_time.sum()) + played, whole, rtol=1e-5)
    cut = read_pulseq_sequence(tmp_path / "beats.seq", n_frames=2).sequence
    assert kinds(cut) == [Train]


@pytest.mark.parametrize(("b1", "off_resonance"), [(1.0, 0.0), (0.75, 120.0), (1.2, -60.0)])
def test_adiabatic_pulse_is_played_by_its_waveform(tmp_path, b1, off_resonance):
    rf = pypulseq.make_adiabatic_pulse("hypsec", duration=8e-3, use="inversion")

    def prepare(add):
        add(rf)
        crush(add)

    def later(add, i):
        if i == 1:
            prepare(add)
        frame(add, 20)

    found = read_pulseq_sequence(build(tmp_path / "inverted.seq", later, n_frames=2, prepare=prepare)).sequence
    assert kinds(found) == [Played, Train, Played, Train]
    played = found.blocks[0]
    last = float(played.wait)
    whole = Blocks((played, Train(np.array([1e-3]), 1.0, 0.0)))
    signal = simulate_voxel(whole, **VOXEL, b1=b1, off_resonance=off_resonance)[0].real / np.sin(b1 * 1e-3)
    after = played_out(
        np.asarray(rf.signal), rf.shape_dur / len(rf.signal), b1=b1, off_resonance=off_resonance, **VOXEL
    )
    expected = 1 + (after - 1) * np.exp(-last / VOXEL["t1"])
    np.testing.assert_allclose(signal, expected, atol=2e-3)  # of as many hard pulses as turn alike to 1e-3


def test_inversion_needs_no_crusher_but_other_preparations_do(tmp_path):
    def inverted_again(add, i):
        if i == 1:
            add(hard_pulse(180, use="inversion"))
            add(pypulseq.make_delay(5e-3))
        frame(add, 20)

    found = read_pulseq_sequence(build(tmp_path / "inverted.seq", inverted_again, n_frames=2)).sequence
    assert kinds(found) == [Train, Played, Train]


# Everything together: the signal of the slice is that of isochromats which the file's blocks move

T2_LONG = {"t1": 1.0, "t2": 0.4}  # s: relaxation during a pulse of 1 ms, which is left out, is small


@pytest.mark.parametrize(("area", "off_resonance"), [(700.0, 0.0), (-500.0, 12.0), (0.0, 12.0)])
def test_signal_of_the_slice_is_that_of_the_file_played(tmp_path, area, off_resonance):
    """T2-prepared, with a pulse without readout, an asymmetric pulse, and phases of pulse and receiver."""
    phase, receiver = [0.4, 1.1, 2.7, 0.2, 5.0], [0.4, 0.9, 2.0, 0.1, 4.0]

    def kernel(add, i):
        shape = {"center_pos": 0.4, "time_bw_product": 5}
        frame(add, 15 + 6 * i, phase[i], receiver=receiver[i], area=area, recorded=i != 1, **shape)

    path = build(tmp_path / "scan.seq", kernel, n_frames=5, prepare=t2_prepared)
    found = read_pulseq_sequence(path)
    tissue = Tissue(**{name: np.array([value]) for name, value in T2_LONG.items()}, off_resonance=off_resonance)
    signal = simulate(found.sequence, tissue, slice_profile=FullSlice(found.rf_pulse, found.turns))[0]
    position = 3.0 * ((np.arange(300) + 0.5) / 300 - 0.5) * found.slice_thickness
    echoes = play(opened(path), position, **T2_LONG, off_resonance=off_resonance).mean(axis=1) * 3.0
    expected = 1j * echoes * np.exp(1j * (receiver[0] - phase[0]))  # the first frame's phases are read as 0
    np.testing.assert_allclose(signal, expected, atol=0.01 * np.abs(expected).max())


# What cannot be said is refused, with the block


def spin_echo(add, _):
    excite(add, 90)
    add(hard_pulse(180, use="refocusing"))
    add(*readout()[1:])


def two_pulses(add, i):
    frame(add, 20, thickness=THICKNESS * (1 + i % 2))


def two_shapes(add, i):
    frame(add, 20, time_bw_product=4 + i % 2)


def read_after_preparation(add, _):
    t2_prepared(add)
    add(*readout()[1:])
    frame(add, 20)


def prepared(crusher):
    def kernel(add, _):
        t2_prepared(add, crusher)
        frame(add, 20)

    return kernel


def crushed_echo(add, _):
    for degrees, use in ((90, "preparation"), (180, "refocusing"), (90, "preparation")):
        add(hard_pulse(degrees, use=use))
        crush(add)
    frame(add, 20)


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (
            spin_echo,
            "block 1: a pulse of 90 degrees selects a slice without a readout, unlike that of block 3, with one",
        ),
        (two_pulses, "block 7: the excitation pulse is another one than in block 1; all of a sequence must be alike"),
        (two_shapes, "block 7: the excitation pulse is another one than in block 1"),
        (read_after_preparation, "block 7: a readout .ADC. without an excitation: .* is for preparation, in block 5"),
        (prepared(-380.0), r"block 5: a pulse of 90 degrees, for preparation, prepares, and .* cycles/m follow"),
        (crushed_echo, "block 3: a refocusing pulse between equal gradients in a preparation"),
    ],
)
def test_what_cannot_be_said_is_refused_with_its_block(tmp_path, kernel, message):
    path = build(tmp_path / "other.seq", kernel, n_frames=2)
    with pytest.raises(ValueError, match=rf"other\.seq: {message}"):
        read_pulseq_sequence(path)


def test_saturated_slices_are_refused(tmp_path):
    def kernel(add, _):
        add(*sinc(90, thickness=40e-3, use="saturation")[:2])
        crush(add)
        frame(add, 20)

    with pytest.raises(
        ValueError, match=r"other\.seq: block 1: a pulse of 90 degrees selects a slice without a readout"
    ):
        read_pulseq_sequence(build(tmp_path / "other.seq", kernel))
