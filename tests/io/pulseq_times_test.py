"""Soft delays and triggers of Pulseq files are resolved by what the user says of them."""

import numpy as np
import pypulseq
import pytest

from ganmrf.io.pulseq_sequence import read_pulseq_sequence
from ganmrf.physics.sequences.blocks import Played, Train
from tests.io.pulseq_files import build, fisp, hard_pulse, inversion

FRAMES = 2  # of a beat


def soft(add, frame):
    """An echo time and a repetition time of the user's, which counts twice and has other parts."""
    add(pypulseq.make_soft_delay("TR", numID=0, offset=-3e-3, factor=2.0, default_duration=1e-3))
    if frame:
        fisp(add, 0)
    else:
        inversion(add)
        fisp(add, 0)


def test_soft_delays_last_as_the_user_says(tmp_path):
    path = build(tmp_path / "soft.seq", soft)
    with pytest.warns(UserWarning, match=r"soft\.seq: 3 blocks have a soft delay: they last as long as the file says"):
        usual = read_pulseq_sequence(path).sequence
    found = read_pulseq_sequence(path, soft_delays={"TR": 20e-3}).sequence
    longer = 20e-3 / 2 - 3e-3 - 1e-3
    np.testing.assert_allclose(found.repetition_time[:3] - usual.repetition_time[:3], longer, rtol=1e-4)
    np.testing.assert_allclose(found.inversion_time, usual.inversion_time)
    with pytest.raises(ValueError, match=r"soft\.seq: soft_delays: TR is too short: block 1 would last -0.5 ms"):
        read_pulseq_sequence(path, soft_delays={"TR": 5e-3})
    with pytest.raises(ValueError, match=r"soft\.seq: soft_delays: there is no TI; the file has TR"):
        read_pulseq_sequence(path, soft_delays={"TR": 0.02, "TI": 0.02})
    with pytest.raises(ValueError, match="there is no TI; the file has none"):
        read_pulseq_sequence(build(tmp_path / "plain.seq", fisp), soft_delays={"TI": 0.02})


def beats(add, frame):
    """In the second of three beats saturated."""
    if frame % FRAMES == 0:
        add(pypulseq.make_trigger("physio1", delay=2e-3, duration=8e-3))
        if frame == FRAMES:
            add(hard_pulse(90, use="saturation"))
            add(pypulseq.make_trapezoid("z", area=4000.0))
    fisp(add, 0)


def test_triggers_come_at_the_beats_of_a_heart(tmp_path):
    path = build(tmp_path / "heart.seq", beats, n_frames=3 * FRAMES)
    with pytest.warns(UserWarning, match="2 blocks have a trigger that the scanner waits for"):
        usual = read_pulseq_sequence(path).sequence
    rhythm = [0.9, 1.1]
    found = read_pulseq_sequence(path, rr_intervals=rhythm).sequence
    assert [type(block) for block in found.blocks] == [Train, Played, Train]
    # Both begin 8 ms after their trigger, one with frames, the other with the pulse that saturates.
    first, saturation, rest = found.blocks
    before = float(usual.blocks[0].repetition_time[-1])
    prepared = float(saturation.duration)
    np.testing.assert_allclose(prepared, float(usual.blocks[1].duration), rtol=1e-5)
    starts = np.cumsum([0.0, *np.concatenate([first.repetition_time, [prepared], rest.repetition_time])])
    third = starts[len(first.repetition_time) + 1 + FRAMES]
    # Up to the centre of the first pulse of a beat it takes the same time in the first and in the third.
    np.testing.assert_allclose(third, sum(rhythm), rtol=1e-5)
    np.testing.assert_allclose(float(first.repetition_time[0]), float(usual.blocks[0].repetition_time[0]))
    assert float(first.repetition_time[-1]) > before
    given_last = read_pulseq_sequence(path, rr_intervals=[*rhythm, 1.0]).sequence
    np.testing.assert_array_equal(given_last.blocks[2].repetition_time, rest.repetition_time)


@pytest.mark.parametrize(
    ("rhythm", "message"),
    [
        ([1.0], r"the file has 3 triggers that the scanner waits for, and 2 intervals between them; got 1"),
        ([1.0] * 4, "2 intervals between them; got 4"),
        ([1.0, 0.015], r"beat 2 lasts 0.015 s, but until the trigger in block \d+ 0.0\d+ s are played"),
        ([1.0, -1.0], "rr_intervals must be positive"),
        ([1000.0, 900.0], "rr_intervals must be in s"),
    ],
)
def test_rhythms_that_cannot_be_played_are_refused(tmp_path, rhythm, message):
    path = build(tmp_path / "heart.seq", beats, n_frames=3 * FRAMES)
    with pytest.raises(ValueError, match=message):
        read_pulseq_sequence(path, rr_intervals=rhythm)


def test_rhythm_needs_triggers(tmp_path):
    with pytest.raises(ValueError, match=r"plain\.seq: rr_intervals: the file has 0 triggers"):
        read_pulseq_sequence(build(tmp_path / "plain.seq", fisp), rr_intervals=[1.0])
