"""The study of slice models: the full slice finds T1 and T2, and a phase graph at each position if the spoiler can."""

import jax
import numpy as np
import pytest

from experiments.studies.slice_models import Config, measure, read_published

pytestmark = pytest.mark.usefixtures("quick_compiler")


def test_only_the_full_slice_is_right_with_a_weak_spoiler():
    with jax.enable_x64(True):
        # 30 frames of one turn over 3 thicknesses are 90 turns over 256 positions.
        rows = measure(Config(("jiang2015",), 30, time_bandwidth=(4.0,), turns=(1.0,), positions=256))
    largest = {}
    for row in rows:
        largest[row["model"]] = max(largest.get(row["model"], 0), abs(row["t1_error"]), abs(row["t2_error"]))
    full = largest.pop("full")
    assert full < 2e-3
    assert {*largest} == {"none", "small tip", "partitioned", "partitioned, without phases"}
    assert min(largest.values()) > 2e-2


def test_schedules_are_cut_at_their_beginning():
    short, whole = (read_published("cao2019", n) for n in (30, 1000))
    assert (short.n_frames, whole.n_frames) == (30, 500)
    np.testing.assert_array_equal(short.flip_angle, whole.flip_angle[:30])
