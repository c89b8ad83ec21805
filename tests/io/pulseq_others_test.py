"""Pulseq files of other people, as ``doors/README.md`` and ``data/real/README.md`` describe them."""

import importlib.resources

import numpy as np
import pytest

from ganmrf.io.pulseq_read import read_pulseq, read_pulseq_trajectory
from ganmrf.io.pulseq_sequence import read_pulseq_sequence
from ganmrf.io.schedule import read_schedule
from ganmrf.physics.constants import GYROMAGNETIC_RATIO
from ganmrf.physics.sequences.blocks import Blocks, Played, Train, simulate_voxel
from ganmrf.physics.sequences.fisp import Fisp
from tests.io.pulseq_files import SIX_DIGITS, opened, played_out
from tests.shared import shared

DOORS, REAL = "doors/seq_{}.seq", "data/real/{}.seq"


def test_noise_before_the_first_pulse_and_rotations_of_others():
    plain = shared(DOORS.format("plain"))
    k, expected = read_pulseq_trajectory(plain), read_pulseq(plain)
    found = read_pulseq(shared(DOORS.format("noise_adc_first")))
    for name in ("flip_angle", "repetition_time", "echo_time", "inversion_time"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-6)
    np.testing.assert_allclose(read_pulseq_trajectory(shared(DOORS.format("noise_adc_first"))), k, atol=1e-4)
    with pytest.warns(UserWarning, match="has no signature"):
        turned = read_pulseq_trajectory(shared(DOORS.format("1.5.1_rotations")))
    for frame in range(4):  # a quarter more each frame
        z, along = k[frame] @ [1, 1j] * 1j**frame, turned[frame] @ [1, 1j]
        np.testing.assert_allclose(along, z, atol=1e-6 * np.abs(z).max())


def test_shapes_of_samples_of_version_1_3():
    path = shared(DOORS.format("1.3_arbitrary_gradient"))
    with pytest.warns(UserWarning, match="shapes 1, 2, 3 are not written as this version has them"):
        np.testing.assert_allclose(
            read_pulseq(path).flip_angle, np.deg2rad([7.2, 12.6]), rtol=0.02
        )  # sums of 100 samples


def test_preparations_and_slices_of_others():
    plain = read_pulseq_trajectory(shared(DOORS.format("plain")))
    path = shared(DOORS.format("t2prep"))
    with pytest.raises(ValueError, match=r"found pulses \(2 for preparation, 1 for refocusing\)"):
        read_pulseq(path)
    np.testing.assert_allclose(read_pulseq_trajectory(path), plain, atol=1e-4)
    path = shared(DOORS.format("two_slices"))
    with pytest.raises(ValueError, match="has 2 slices: choose --slice_index=0 to 1"):
        read_pulseq(path)
    assert read_pulseq(path, slice_index=0).n_frames == 4
    for slice_index in (0, 1):
        np.testing.assert_allclose(read_pulseq_trajectory(path, slice_index=slice_index), plain, atol=1e-4)


def test_jiangs_schedule_as_openmrf_plays_it():
    """Flip angles in six digits; repetition times on a raster of 10 us, whose rests are carried on or left out."""
    played = read_pulseq(shared(REAL.format("openmrf_test_mrf")))
    with importlib.resources.as_file(importlib.resources.files("ganmrf.data") / "mrf_fisp_jiang2015.csv") as path:
        schedule = read_schedule(path, echo_time=2.02e-3, inversion_time=18.02e-3)
    np.testing.assert_allclose(played.flip_angle, schedule.flip_angle, rtol=SIX_DIGITS, atol=2e-6)  # 1e-6 rad for 0
    np.testing.assert_allclose(played.repetition_time[:-1], schedule.repetition_time[:-1], atol=20e-6)
    np.testing.assert_allclose(played.echo_time, 2.02e-3, rtol=1e-6)
    np.testing.assert_allclose(played.inversion_time, 18.02e-3, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "options", "shape", "dwell_time"),
    [
        ("openmrf_test_mrf", {}, (1000, 3072, 2), 2e-6),
        ("openmrf_test_cmrf", {}, (768, 1600, 2), 1.9e-6),
        ("koma_v1.3_spiral", {}, (1, 28000, 2), 1.4e-6),
        ("koma_v1.5_spiral", {"slice_index": 3}, (1, 13000, 2), 1.6e-6),
    ],
)
def test_spirals_of_others_are_played_by_gradients_that_scanners_have(name, options, shape, dwell_time):
    """They begin at k = 0, with up to 25 mT/m and 130 T/m/s; a shape that is misread jumps."""
    k = read_pulseq_trajectory(shared(REAL.format(name)), **options)
    assert k.shape == shape
    k = k[:8].astype(float)
    np.testing.assert_allclose(k[:, 0], 0, atol=0.01)
    assert 15e-3 < np.linalg.norm(np.diff(k, axis=1), axis=-1).max() / dwell_time / GYROMAGNETIC_RATIO < 25e-3
    every = round(10e-6 / dwell_time)  # the raster of the gradients
    bends = np.linalg.norm(np.diff(k[:, ::every], 2, axis=1), axis=-1) / (every * dwell_time) ** 2
    assert 50 < bends.max() / GYROMAGNETIC_RATIO < 130


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("openmrf_test_cmrf", r"found pulses \(13 for saturation, 20 for preparation, .* 12 for other\)"),
        ("koma_v1.3_spiral", r"found pulses \(1 for preparation\), the first at 0.0040995 s"),
        ("koma_v1.5_spiral", "has 4 slices: choose --slice_index=0 to 3"),
        (
            "se_2D_gauss_spr",
            "a pulse of 90 degrees without a readout after it, at 0.008 s, but one of 180: a spin echo",
        ),
        ("se_2D_sinc_w_apod_spr", "one of 180: a spin echo"),
        ("se_2D_sinc_wo_apod_spr", "one of 180: a spin echo"),
    ],
)
def test_scans_of_others_that_are_not_mrf_fisp_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        read_pulseq(shared(REAL.format(name)))


# As sequences: against what pypulseq reads and against published schedules


def test_jiangs_schedule_has_the_pulse_and_spoiler_that_openmrf_says():
    """A sinc of 2 ms with a time-bandwidth product of 6, for 5 mm, and 4 turns across the slice (its README)."""
    found = read_pulseq_sequence(shared(REAL.format("openmrf_test_mrf")))
    assert isinstance(found.sequence, Fisp)
    assert found.slice_thickness == 5e-3
    assert float(found.rf_pulse.time_bandwidth) == pytest.approx(6, rel=1e-5)
    assert found.turns == pytest.approx(4, rel=SIX_DIGITS)


@pytest.fixture(scope="module")
def cardiac():
    path = shared(REAL.format("openmrf_test_cmrf"))
    return read_pulseq_sequence(path), opened(path)


def frames_of_pypulseq(played):
    """By block: what it is, when it starts, s, and its number; excitations have a gradient along z."""
    starts = np.cumsum([0.0, *played.block_durations.values()])
    for number, start in zip(played.block_events, starts, strict=False):
        block = played.get_block(number)
        if block.rf is not None:
            kind = "preparation" if block.gz is None else "excitation"
            yield kind, start + block.rf.delay + block.rf.center, block
        elif block.adc is not None:
            yield "readout", start + block.adc.delay, block


def test_cardiac_frames_of_openmrf_are_those_that_pypulseq_reads(cardiac):
    found, played = cardiac
    assert found.sequence.n_frames == 768
    trains = [block for block in found.sequence.blocks if isinstance(block, Train)]
    assert [train.n_frames for train in trains] == [48] * 16
    events = list(frames_of_pypulseq(played))
    excitations = [(time, block) for kind, time, block in events if kind == "excitation"]
    flips = [2 * np.pi * np.abs(np.sum(block.rf.signal)) * 1e-6 for _, block in excitations]  # 1 us each
    assert len(flips) == 768
    np.testing.assert_allclose(np.concatenate([train.flip_angle for train in trains]), flips, rtol=2e-5)
    times = np.array([time for time, _ in excitations]).reshape(16, 48)
    for train, starts in zip(trains, times, strict=True):
        np.testing.assert_allclose(train.repetition_time[:-1], np.diff(starts), rtol=1e-5)
        assert set(train.turns) == {1}
        assert not any(train.rf_phase.counts)
        assert train.receiver_phase is None
    first = times[0, 0]
    readout = min(time for kind, time, _ in events if kind == "readout" and time > first)
    np.testing.assert_allclose(np.concatenate([train.echo_time for train in trains]), readout - first, rtol=1e-5)


def test_cardiac_spoiler_of_openmrf_is_what_its_gradients_add_up_to(cardiac):
    """All areas along z from one pulse to the next, which has the same gradient: 4 turns across 8 mm."""
    found, played = cardiac
    pulses = [number for number in range(100, 130) if played.get_block(number).rf is not None]
    a, b = [number for number in pulses if played.get_block(number).gz is not None][:2]
    area = sum(gz.area for number in range(a, b) if (gz := played.get_block(number).gz) is not None)
    assert found.turns == pytest.approx(area * 8e-3, rel=1e-4)
    assert found.turns == pytest.approx(4, rel=1e-4)
    assert float(found.rf_pulse.time_bandwidth) == pytest.approx(2, rel=1e-5)


def test_cardiac_preparations_of_openmrf_are_played_when_pypulseq_says(cardiac):
    """All that is no excitation prepares, from the first pulse on; crushers part a T2 preparation from a saturation."""
    found, played = cardiac
    blocks = found.sequence.blocks
    events = [event for event in frames_of_pypulseq(played) if event[0] != "readout"]
    excitations = np.array([time for kind, time, _ in events if kind == "excitation"]).reshape(16, 48)
    prepared = [block.rf for kind, time, block in events if kind == "preparation" and time < excitations[-1, -1]]
    angles = [2 * np.pi * np.trapezoid(np.abs(rf.signal), rf.t) for rf in prepared]
    hard = sum(float(np.sum(block.flip_angle)) for block in blocks if isinstance(block, Played))
    assert hard == pytest.approx(sum(angles), rel=0.01)  # within a hard pulse phases turn, so that a part cancels
    starts = np.cumsum([0, *(b.duration if isinstance(b, Played) else b.repetition_time.sum() for b in blocks)])
    trains = [start for start, block in zip(starts, blocks, strict=False) if isinstance(block, Train)]
    np.testing.assert_allclose(np.diff(trains), np.diff(excitations[:, 0]), rtol=1e-5)


@pytest.mark.parametrize(("b1", "off_resonance"), [(1.0, 0.0), (0.85, 40.0)])
def test_t2_preparation_of_openmrf_leaves_what_its_samples_do(cardiac, b1, off_resonance):
    """Adiabatic half passages and refocusing pulses before the third heartbeat, every microsecond a hard pulse."""
    found, played = cardiac
    blocks = found.sequence.blocks
    preparation = blocks[[i for i, block in enumerate(blocks) if isinstance(block, Train)][1] + 1]
    starts, samples = np.cumsum([0.0, *played.block_durations.values()]), np.zeros(70000, complex)
    before = [number for number in range(345, 600) if played.get_block(number).rf is not None]
    first = next(number for number in before[49:] if played.get_block(number).gz is None)
    for number in range(first, first + 8):
        if (rf := played.get_block(number).rf) is not None:
            at = 1e6 * (starts[number - 1] - starts[first - 1] + rf.delay) + np.arange(len(rf.signal))
            samples[np.rint(at).astype(int)] = rf.signal * np.exp(1j * rf.phase_offset)
    samples = np.trim_zeros(samples)
    tissue = {"t1": 1.1, "t2": 0.06}
    expected = played_out(samples, 1e-6, b1=b1, off_resonance=off_resonance, **tissue)
    small = Blocks((preparation, Train(np.array([1e-3]), 1.0, 0.0)))
    left = simulate_voxel(small, **tissue, b1=b1, off_resonance=off_resonance)[0].real / np.sin(b1 * 1e-3)
    assert 0.2 < expected < 0.8
    np.testing.assert_allclose(left, 1 + (expected - 1) * np.exp(-float(preparation.wait) / 1.1), atol=3e-3)


@pytest.mark.parametrize(("name", "slice_index", "prepared"), [("v1.3", None, 1), ("v1.5", 0, 1), ("v1.5", 3, 4)])
def test_spirals_of_others_are_sequences(name, slice_index, prepared):
    """Fat is saturated before each of their excitations of 90 degrees."""
    found = read_pulseq_sequence(shared(REAL.format(f"koma_{name}_spiral")), slice_index=slice_index)
    *preparations, train = found.sequence.blocks
    assert [type(block) for block in preparations] == prepared * [Played]
    np.testing.assert_allclose(np.rad2deg(train.flip_angle), 90, rtol=1e-4)
    assert found.slice_thickness == 3e-3
    water = simulate_voxel(Blocks((*preparations, Train(np.array([1e-3]), 1.0, 0.0))), 1e4, 1e4)[0].real / 1e-3
    fat = (
        simulate_voxel(
            Blocks((preparations[-1], Train(np.array([1e-3]), 1.0, 0.0))), 1e4, 1e4, off_resonance=-3.35e-6 * 127.74e6
        )[0].real
        / 1e-3
    )
    assert water > 0.98
    assert abs(fat) < 0.4


def test_doors_are_sequences():
    plain = read_pulseq_sequence(shared(DOORS.format("plain")))
    assert isinstance(plain.sequence, Fisp)
    prepared = read_pulseq_sequence(shared(DOORS.format("t2prep"))).sequence
    assert [type(block) for block in prepared.blocks] == [Played, Played, Train]
    np.testing.assert_allclose(np.abs(plain.sequence.flip_angle), prepared.blocks[2].flip_angle, rtol=1e-5)
    slices = [read_pulseq_sequence(shared(DOORS.format("two_slices")), slice_index=i) for i in (0, 1)]
    assert isinstance(slices[0].sequence, Fisp)
    assert [type(block) for block in slices[1].sequence.blocks] == [Played, Played, Train]  # inverted for both
    for each in slices:
        np.testing.assert_allclose(each.rf_pulse.samples, plain.rf_pulse.samples, atol=1e-6)
        assert each.turns == pytest.approx(plain.turns, rel=1e-6)


@pytest.mark.parametrize("name", ["se_2D_gauss_spr", "se_2D_sinc_w_apod_spr", "se_2D_sinc_wo_apod_spr"])
def test_spin_echoes_of_others_are_refused_with_their_block(name):
    with pytest.raises(ValueError, match=rf"{name}\.seq: block 2: a pulse of 90 degrees selects a slice"):
        read_pulseq_sequence(shared(REAL.format(name)))
