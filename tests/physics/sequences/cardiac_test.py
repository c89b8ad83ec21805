"""The sequence of a heart's rhythm keeps its time, and refuses rhythms that leave no room for a block."""

import jax
import numpy as np
import pytest

from ganmrf.physics.sequences.blocks import Delay, Inversion, T2Preparation, Train
from ganmrf.physics.sequences.cardiac import cardiac_mrf, published_cardiac, sample_rr_intervals, without_gaps
from ganmrf.physics.simulate import simulate
from ganmrf.physics.tissue import Tissue
from tests.quick import quickly

RR = np.array([0.85, 1.2, 0.6])


def test_every_beat_begins_on_time():
    sequence = cardiac_mrf(RR)
    assert sequence.n_frames == 150
    starts = np.concatenate([[0], np.cumsum(sequence.repetition_time)])
    np.testing.assert_allclose(starts[::50], [0, *np.cumsum(RR)], rtol=1e-5)
    within = np.asarray(sequence.repetition_time).reshape(3, 50)[:, :-1]
    np.testing.assert_allclose(within, 5.1e-3, rtol=1e-6)
    assert float(sequence.inversion_time) == pytest.approx(21e-3)
    degrees = np.rad2deg(np.asarray(sequence.flip_angle)).reshape(3, 50)
    np.testing.assert_array_equal(degrees[0], degrees[2])
    assert 4 < degrees.min() < 5
    assert degrees.max() == pytest.approx(25, abs=0.02)


def test_flip_angles_of_one_beat_or_of_all():
    one = np.linspace(0.1, 0.3, 10)
    settings = {"frames_per_beat": 10, "repetition_time": 5e-3, "inversion_time": None}
    sequence = cardiac_mrf(RR, flip_angle=one, **settings)
    np.testing.assert_allclose(sequence.flip_angle, np.tile(one, 3), rtol=1e-6)
    assert sequence.inversion_time is None
    every = np.linspace(0.1, 0.3, 30)
    np.testing.assert_allclose(cardiac_mrf(RR, flip_angle=every, **settings).flip_angle, every, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rr_intervals": [0.8, -0.9]}, "rr_intervals must be positive and finite .s.; got -0.9 at index 1"),
        ({"rr_intervals": [0.8, 0.2]}, "no shorter than a block of 50 frames, 0.255 s; got 0.2 at index 1"),
        ({"rr_intervals": []}, "one beat at least"),
        ({"rr_intervals": [0.8], "frames_per_beat": 0}, "frames_per_beat must be at least 1; got 0"),
        ({"rr_intervals": [0.8], "flip_angle": np.ones(3)}, "flip_angle must hold 50 values"),
    ],
)
def test_rhythms_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        cardiac_mrf(**arguments)


def test_drawn_rhythms_have_40_to_140_beats_and_leave_room():
    keys = jax.random.split(jax.random.key(0, impl="unsafe_rbg"), 200)  # random bits that need no unrolling
    intervals = np.asarray(quickly(jax.vmap(sample_rr_intervals))(keys))
    assert intervals.shape == (200, 15)
    assert intervals.min() >= 60 / 140 - 1e-6  # so that a block of 255 ms fits
    assert intervals.max() <= 60 / 40 * 1.4
    rates = 60 / intervals.mean(axis=1)
    assert rates.min() < 50
    assert rates.max() > 125
    assert (np.ptp(intervals, axis=1) / intervals.mean(axis=1) > 0.2).mean() > 0.4  # arrhythmic ones


def test_the_published_sequence_has_15_prepared_beats_on_time():
    rr_intervals = np.linspace(0.6, 1.4, 15)
    sequence = published_cardiac(rr_intervals)
    assert sequence.n_frames == 705
    starts, now = [], 0.0
    for block in sequence.as_blocks().blocks:
        if isinstance(block, Train):
            starts.append(now)
            now += float(block.repetition_time.sum())
        else:
            now += float(block.time if isinstance(block, Delay) else block.duration)
    np.testing.assert_allclose(np.diff(starts), rr_intervals[:-1], rtol=1e-5)  # float32
    names = [None if each is None else (type(each), round(1e3 * float(each.time))) for each in sequence.preparations]
    prepared = [(Inversion, 21), None, (T2Preparation, 30), (T2Preparation, 50), (T2Preparation, 100)]
    assert names == 3 * prepared
    degrees = np.rad2deg(np.asarray(sequence.flip_angle))
    np.testing.assert_allclose(degrees[:, 0], 4, rtol=1e-6)
    np.testing.assert_allclose(degrees[:, 15:], np.tile([12.5, 18.75, 25, 25, 25], 3)[:, None] * np.ones(32), rtol=1e-6)
    np.testing.assert_allclose(np.diff(degrees[:, :16], 2), 0, atol=1e-5)  # straight


def test_beats_of_which_the_first_alone_is_prepared_are_fisp():
    tissue = Tissue(np.array([1.2, 0.4]), np.array([0.05, 0.12]))
    for first in (Inversion(21e-3), None):
        sequence = published_cardiac(RR, preparations=(first, None, None), frames_per_beat=8)
        same = without_gaps(sequence)
        np.testing.assert_allclose(np.cumsum(same.repetition_time)[7::8], np.cumsum(RR), rtol=1e-6)
        np.testing.assert_allclose(simulate(same, tissue), simulate(sequence, tissue), atol=1e-6)  # float32
    assert published_cardiac(RR, preparations=()).preparations == (None, None, None)
    for others in (
        (T2Preparation(0.03), None, None),
        (None, Inversion(21e-3), None),
        (Inversion(21e-3, 0.9), None, None),
    ):
        with pytest.raises(ValueError, match="FISP has an ideal inversion before the first beat"):
            without_gaps(published_cardiac(RR, preparations=others))


@pytest.mark.parametrize(
    ("rr_intervals", "arguments", "message"),
    [
        (
            [0.8, 0.25, 0.8],
            {},
            "rr_intervals: beat 2 lasts 0.25 s, 0.0197 s less than its frames and the next preparation",
        ),
        ([0.8, 0.2, 0.8], {"preparations": ()}, "beat 2 lasts 0.2 s, 0.0397 s less"),
        ([0.8], {"flip_angle": np.ones(3)}, "flip_angle must hold 47 values, or 47 for 1 beats; got 3"),
        ([], {}, "must be .beats, frames of a beat.; got .0, 47."),
    ],
)
def test_rhythms_without_room_for_their_preparations_name_the_beat(rr_intervals, arguments, message):
    with pytest.raises(ValueError, match=message):
        published_cardiac(rr_intervals, **arguments)
