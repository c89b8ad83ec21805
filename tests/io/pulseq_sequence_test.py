"""Any sequence in a Pulseq file is read as it is played: by blocks, with the pulse and the spoiler of its slice."""

import re

import numpy as np
import pypulseq
import pytest

from ganmrf.io.pulseq_read import read_pulseq
from ganmrf.io.pulseq_sequence import read_pulseq_sequence
from ganmrf.physics.sequences.blocks import Blocks, HalfTurns, Played, Train, simulate_voxel
from ganmrf.physics.sequences.bssfp import Bssfp
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.sequences.spoiled_gradient_echo import SpoiledGradientEcho
from ganmrf.physics.simulate import simulate
from ganmrf.physics.slice_profile import FullSlice
from ganmrf.physics.tissue import Tissue
from tests.io.isochromats import play
from tests.io.pulseq_files import (
    THICKNESS,
    build,
    by_hand,
    fisp,
    hard_pulse,
    inversion,
    opened,
    played_out,
    readout,
    scan,
    write,
)

FRAME = 12e-3  # s
VOXEL = {"t1": 0.9, "t2": 0.07}


def sinc(degrees, phase=0.0, thickness=THICKNESS, **options):
    options = {"duration": 1e-3, "return_gz": True, "use": "excitation"} | options
    return pypulseq.make_sinc_pulse(np.deg2rad(degrees), slice_thickness=thickness, phase_offset=phase, **options)


def excite(add, degrees, phase=0.0, **options):
    """A slice of 5 mm and its rephaser, the pulse in the middle of its block, whose duration is returned."""
    rf, gz, rephaser = sinc(degrees, phase, **options)
    add(rf, gz)
    add(rephaser)
    return pypulseq.calc_duration(rf, gz) + pypulseq.calc_duration(rephaser), gz


def frame(add, degrees, phase=0.0, *, receiver=None, area=1000.0, turned=1, recorded=True, **options):
    """A frame of 12 ms, spoiled by ``turned`` times ``area``, cycles/m, with its echo in the middle of the readout."""
    played, gz = excite(add, degrees, phase, **options)
    before, gx, adc = readout(phase if receiver is None else receiver)
    after = pypulseq.make_trapezoid("x", area=-gx.area / 2, duration=1e-3)
    add(before)
    add(gx, adc) if recorded else add(gx)
    rewound = pypulseq.make_trapezoid("z", area=turned * area - gz.area / 2, duration=2e-3)
    add(after, rewound)
    add(pypulseq.make_delay(FRAME - played - 3e-3 - pypulseq.calc_duration(gx)))


def echo_time():
    """From the middle of the pulse's block to the middle of the readout's."""
    rf, gz, rephaser = sinc(20)
    before, gx, _ = readout()
    lengths = [pypulseq.calc_duration(*each) for each in ((rf, gz), (rephaser,), (before,), (gx,))]
    return lengths[0] / 2 + lengths[1] + lengths[2] + lengths[3] / 2


def crush(add, area=3000.0):
    add(pypulseq.make_trapezoid("z", area=area, duration=3e-3))


def trains(sequence):
    return [block for block in sequence.blocks if isinstance(block, Train)]


def kinds(sequence):
    return [type(block) for block in sequence.blocks]


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


# Preparations


def t2_prepared(add, crusher=3000.0):
    for degrees, phase, use in ((90, 0, "excitation"), (180, np.pi / 2, "refocusing"), (90, np.pi, "preparation")):
        add(hard_pulse(degrees, phase, use))
        if use != "preparation":
            add(pypulseq.make_delay(19.5e-3))
    if crusher:
        crush(add, crusher)


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
