"""Boxes of tissue from the ranges of flags: axes and fixed values of every kind of tissue."""

import numpy as np
import pytest

from ganmrf.pytrees import unusual_values
from ganmrf.runs.boxes import BoxConfig
from ganmrf.runs.tissues import TissueConfig

pytestmark = pytest.mark.usefixtures("quick_compiler")


def test_a_range_is_an_axis_in_si_units():
    box = BoxConfig(b1_range=(0.7, 1.3), off_resonance_range_hz=(-40.0, 60.0)).box(TissueConfig())
    assert box.names == ("t1", "t2", "b1", "off_resonance")
    np.testing.assert_allclose(box.low, [0.01, 0.002, 0.7, -40])
    np.testing.assert_allclose(box.high, [3, 0.5, 1.3, 60])
    assert not box.fixed


def test_what_has_no_range_has_the_values_of_a_grid():
    pools = TissueConfig(tissue="semisolid", fix=("exchange_rate:20",))
    ranges = BoxConfig(t1_b_range_ms=(200.0, 1000.0), lineshape_range_us=(8.0, 20.0))
    box = ranges.box(pools)
    assert box.kind == "semisolid"
    assert box.names == ("t1", "t2", "fraction", "t1_b", "lineshape")  # a grid has an axis of fractions, from 0
    np.testing.assert_allclose(box.low[2:], [0, 0.2, 8e-6])
    np.testing.assert_allclose(box.high[2:], [0.3, 1, 20e-6])
    assert dict(box.fixed) == {"exchange_rate": 20.0}


def test_the_smallest_fraction_is_0_and_can_be_the_least_of_a_range():
    box = BoxConfig(fraction_range=(0.0, 0.2)).box(TissueConfig(tissue="exchanging"))
    assert box.low[box.names.index("fraction")] == 0
    with pytest.raises(ValueError, match="fraction_range must be at least 0"):
        BoxConfig(fraction_range=(-0.1, 0.2))


def test_ranges_of_another_unit_by_their_size_are_told_in_the_unit_of_the_flag():
    with pytest.raises(ValueError, match=r"t1_range_ms must be in ms, 20000 at most \(ganmrf.*; got 300000$"):
        BoxConfig(t1_range_ms=(300.0, 300000.0))
    with pytest.raises(ValueError, match=r"b1_range must be in parts of the nominal angle, .*in percent.*; got 130$"):
        BoxConfig(b1_range=(70.0, 130.0))
    with unusual_values():
        BoxConfig(t1_range_ms=(300.0, 300000.0))
    with pytest.raises(ValueError, match="fraction_range must be at most 1"):
        BoxConfig(fraction_range=(0.0, 1.2))


@pytest.mark.parametrize(
    ("ranges", "pools", "message"),
    [
        (
            {"t1_range_ms": (3000.0, 10.0)},
            {},
            "t1_range_ms must be two different numbers, the lower one first; got 3000,10",
        ),
        (
            {"t1_range_ms": (10.0, 20.0), "t2_range_ms": (30.0, 40.0)},
            {},
            "t2_range_ms must not begin above t1_range_ms, .* got 30 and 10",
        ),
        ({"fraction_range": (0.0, 0.2)}, {}, "fraction_range would change nothing: --tissue=one_pool has no fraction"),
        ({"t2_b_range_ms": (8.0, 40.0)}, {"tissue": "semisolid"}, "t2_b_range_ms would change nothing"),
        (
            {"t2_b_range_ms": (8.0, 4000.0)},
            {"tissue": "exchanging", "fix": ("t1_b:0.004",)},
            "t2_b must not begin above",
        ),
    ],
)
def test_ranges_that_cannot_be(ranges, pools, message):
    with pytest.raises(ValueError, match=message):
        BoxConfig(**ranges).box(TissueConfig(**pools))


def test_off_resonance_over_one_period_is_a_circle():
    box = BoxConfig(off_resonance_range_hz=(-50.0, 50.0)).box(TissueConfig(), period=100.0)
    assert box.periodic == ("off_resonance",)
    cube = np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 1.0], [0.5, 0.5, 0.25]])
    first, last, other = np.asarray(box.coordinates(box.spread(cube)))
    assert len(first) == 4
    np.testing.assert_allclose(first, last, atol=1e-5)
    assert np.linalg.norm(first - other) > 0.5
    assert not box.outside(box.spread(cube)).any()
    assert BoxConfig(off_resonance_range_hz=(-20.0, 20.0)).box(TissueConfig(), period=100.0).periodic == ()
    with pytest.raises(ValueError, match=r"off_resonance_range_hz must be no longer than .* 100 Hz"):
        BoxConfig(off_resonance_range_hz=(-60.0, 60.0)).box(TissueConfig(), period=100.0)
