"""The study of slice models: the full slice finds T1 and T2, and a phase graph at each position if the spoiler can."""

import jax
import numpy as np
import pytest

from experiments.studies.slice_models import Config, measure, read_published

pytestmark = pytest.mark.usefixtures("quick_compiler")


def test_only_the_full_slice_is_right_with_any_spoiler():
    with jax.enable_x64(True):
        # 40 frames of 8 turns over 3 thicknesses are 960 turns over 1600 positions.
        rows = measure(Config(("jiang2015",), 40, time_bandwidth=(4.0,), turns=(1.0, 8.0), positions=200))
    largest = {}
    for row in rows:
        key = row["model"], row["turns"]
        largest[key] = max(largest.get(key, 0), abs(row["t1_error"]), abs(row["t2_error"]))
    assert max(largest["full", 1.0], largest["full", 8.0]) < 2e-3
    assert largest["partitioned", 8.0] < 2e-2 < largest["partitioned", 1.0]
    assert largest["none", 8.0] > largest["partitioned, without phases", 8.0]
    assert largest["small tip", 8.0] > largest["partitioned", 8.0]


def test_schedules_are_cut_at_their_beginning():
    short, whole = (read_published("cao2019", n) for n in (30, 1000))
    assert (short.n_frames, whole.n_frames) == (30, 500)
    np.testing.assert_array_equal(short.flip_angle, whole.flip_angle[:30])
