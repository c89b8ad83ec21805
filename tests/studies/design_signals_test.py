"""The study of designs by simulator and anchors: what it says of a small search is so by definition."""

import numpy as np
import pytest

from experiments.studies.design_signals import Config, measure
from ganmrf.design.bounds import precision
from ganmrf.physics.rf_pulse import windowed_sinc
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.slice_profile import FullSlice
from ganmrf.physics.tissue import Tissue

pytestmark = pytest.mark.usefixtures("quick_compiler")


def test_a_row_tells_what_a_search_by_anchors_takes_and_reaches():
    row = measure(Config(population=1, frames=16, steps=3), "one_pool", "own anchors")
    assert (row["tissue"], row["signals"]) == ("one_pool", "own anchors")
    assert row["simulated"] >= 8
    assert row["core_seconds"] > 0
    assert row["update_seconds"] is None  # three updates are one record
    assert 0 <= row["apart"] < 0.05
    assert 0 < row["design"] < row["start"]
    # The paper's first 16 frames tell little of two tissues, and of one between them: the bound is of all three.
    tissue = Tissue(np.array([0.7, 1.5]), np.array([0.06, 0.13]))
    ends = precision(mrf_fisp(16), tissue, slice_profile=FullSlice(windowed_sinc(8, "hann"), 4.0))
    squares = np.square(ends.t1) + np.square(ends.t2)
    least = np.sqrt(squares.sum() / 3)
    assert row["start"] > least * (1 - 1e-3)
