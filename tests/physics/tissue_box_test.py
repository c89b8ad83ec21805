"""Boxes hold what they spread, and name what lies outside and by how much."""

import dataclasses

import hypothesis
import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import pytest

from ganmrf.physics.tissue import ORDERED_TIMES, TISSUES, SemisolidPool, Tissue
from ganmrf.physics.tissue_box import TissueBox, box_of, box_of_ranges, ranges_of
from ganmrf.pytrees import arrays_and_structure, tree_of

BOX = TissueBox(("t1", "t2", "b1"), [0.01, 0.002, 0.7], [3.0, 0.5, 1.3])
POOL_OF_ONE_VALUE = {"fraction": 0.1, "exchange_rate": 14.0, "t1_b": 0.34, "lineshape": 1.5e-5}


@hypothesis.given(st.lists(st.floats(0, 1), min_size=3, max_size=3))
def test_all_of_the_unit_cube_is_tissue_of_the_box(cube):
    tissue = BOX.spread(jnp.array([cube]))
    assert not BOX.outside(tissue).any()
    assert tissue.t2[0] <= tissue.t1[0]
    coordinates = np.asarray(BOX.coordinates(tissue))
    assert coordinates.min() >= -1e-5
    assert coordinates.max() <= 1 + 1e-5
    # T1 and B1 lie where they were put; T2 too, where T1 leaves it its whole range.
    np.testing.assert_allclose(coordinates[0, [0, 2]], [cube[0], cube[2]], atol=1e-5)
    if tissue.t1[0] >= 0.5:
        np.testing.assert_allclose(coordinates[0, 1], cube[1], atol=1e-5)


def test_two_fifths_are_pushed_to_faces():
    cube, place = np.tile([0.6, 0.3, 0.5], (5, 1)), np.tile([0.9, 0.5, 0.1], (5, 1))
    tissue = BOX.spread_to_faces(cube, place, np.arange(5)[:, None] / 5)
    expected = np.where(np.arange(5)[:, None] < 2, [1, 0.3, 0], cube)
    # The longest T1 leaves T2 its whole range; 1e-5 is float32 in a logarithm, as above.
    np.testing.assert_allclose(BOX.coordinates(tissue)[:2], expected[:2], atol=1e-5)
    np.testing.assert_array_equal(BOX.coordinates(tissue)[2:], BOX.coordinates(BOX.spread(expected[2:])))


def test_coordinates_are_the_logarithm_of_time_and_half_a_repetition():
    t1 = np.array([0.01, 0.3, 3.0])
    found = BOX.coordinates(Tissue(t1, 0.002, np.array([0.7, 1.0, 1.3])))
    expected = np.log((t1 + 6.5e-3) / 0.0165) / np.log(3.0065 / 0.0165)
    np.testing.assert_allclose(found, np.stack([expected, np.zeros(3), [0, 0.5, 1]], axis=1), atol=1e-6)


@pytest.mark.parametrize(
    ("tissue", "message"),
    [
        (Tissue(np.array([0.5, 3.3]), 0.1), "1 of 2 atoms lie outside .* t1 = 3300 ms, 10 % beyond 10 to 3000 ms"),
        (Tissue(0.5, np.array([0.05, 0.001])), "t2 = 1 ms, 100 % beyond 2 to 500 ms"),
        (Tissue(0.5, 0.05, np.array([0.6, 1.4, 1.0])), "2 of 3 atoms .* b1 = 0.6, 16.7 % beyond 0.7 to 1.3"),
    ],
)
def test_tissue_outside_is_named_with_its_distance(tissue, message):
    with pytest.raises(ValueError, match=message):
        BOX.require_inside(tissue)


def test_off_resonance_is_a_linear_axis_of_any_sign():
    box = TissueBox(("t1", "t2", "off_resonance"), [0.01, 0.002, -20.0], [3.0, 0.5, 50.0])
    tissue = box.spread(np.array([[0.2, 0.4, 0.0], [0.9, 0.1, 2 / 7], [0.5, 0.5, 1.0]]))
    np.testing.assert_allclose(tissue.off_resonance, [-20, 0, 50], atol=1e-5)
    np.testing.assert_allclose(box.coordinates(tissue)[:, 2], [0, 2 / 7, 1], atol=1e-6)
    box.require_inside(tissue)
    with pytest.raises(ValueError, match=r"1 of 2 atoms .* off_resonance = -30 Hz, 20 % beyond -20 to 50 Hz"):
        box.require_inside(Tissue(1.0, 0.1, off_resonance=np.array([0.0, -30.0])))
    for check in (box.require_inside, box.outside, box.require_known):
        with pytest.raises(ValueError, match=r"an axis for off_resonance: .* -20 to 50 Hz \(--off_resonance_hz\)"):
            check(Tissue(1.0, 0.1))


def test_a_parameter_without_an_axis_must_be_as_usual():
    plain = TissueBox(("t1", "t2"), BOX.low[:2], BOX.high[:2])
    plain.require_inside(Tissue(np.array([0.5]), 0.1, 1.0))
    with pytest.raises(ValueError, match="no axis for b1: it must be 1 for all atoms"):
        plain.require_inside(Tissue(np.array([0.5]), 0.1, 0.9))
    with pytest.raises(ValueError, match="no axis for off_resonance: the atoms must have none"):
        plain.require_inside(Tissue(np.array([0.5]), 0.1, off_resonance=0.0))


POOLS = {  # kind -> least and largest value of each parameter with an axis; what may be 0 begins there
    "exchanging": {
        **{"t1": (0.3, 3.0), "t2": (0.02, 0.4), "fraction": (0, 0.4), "exchange_rate": (0, 100)},
        **{"t1_b": (0.05, 2.0), "t2_b": (0.005, 0.4), "b1": (0.7, 1.3), "shift": (-20, 30)},
    },
    "semisolid": {
        **{"t1": (0.3, 3.0), "t2": (0.02, 0.4), "fraction": (0, 0.4), "exchange_rate": (0, 100)},
        **{"t1_b": (0.2, 2.0), "lineshape": (0, 3e-5)},
    },
}


def pool_box(kind):
    ranges = POOLS[kind]
    return TissueBox(tuple(ranges), *np.transpose([*ranges.values()]), kind)


@pytest.mark.parametrize("kind", POOLS)
@hypothesis.given(data=st.data())
def test_boxes_of_pools_hold_what_they_spread(kind, data):
    box = pool_box(kind)
    cube = data.draw(st.lists(st.floats(0, 1, width=32), min_size=len(box.names), max_size=len(box.names)))
    tissue = box.spread(jnp.array([cube]))
    assert isinstance(tissue, TISSUES[kind])
    again = dataclasses.replace(tissue)  # whose constructor checks that there is such tissue
    box.require_inside(again)
    found = np.asarray(box.coordinates(tissue))[0]
    free = [n for n, name in enumerate(box.names) if name not in ("t2", "t2_b")]
    np.testing.assert_allclose(found[free], np.array(cube)[free], atol=1e-5)
    for t1, t2 in ORDERED_TIMES:
        if t2 in box.names:
            axis, longest = box.names.index(t2), dict(zip(box.names, box.high, strict=True))[t2]
            if getattr(tissue, t1)[0] >= longest:  # T2 has its whole range
                np.testing.assert_allclose(found[axis], cube[axis], atol=1e-5)
            assert -1e-5 <= found[axis] <= 1 + 1e-5


def test_what_has_one_value_is_told_in_the_unit_of_its_flag():
    box = TissueBox(("t1", "t2"), [0.3, 0.02], [3.0, 0.3], kind="semisolid", fixed=POOL_OF_ONE_VALUE)
    tissue = SemisolidPool(1.0, 0.05, 0.1, 14.0, 0.2, 1.5e-5)
    with pytest.raises(
        ValueError, match=r"no axis for t1_b: it must be 340 ms for all atoms \(--t1_b_ms\); got 200 ms"
    ):
        box.require_inside(tissue)
    with pytest.raises(ValueError, match=r"no axis for lineshape: it must be 15 us .*--lineshape_us\); got 20 us"):
        box.require_inside(dataclasses.replace(tissue, t1_b=0.34, lineshape=2e-5))


def test_what_may_be_zero_begins_there():
    box = pool_box("semisolid")
    ends = [box.spread(np.full(len(box.names), end)) for end in (0.0, 1.0)]
    for name in ("fraction", "exchange_rate", "lineshape"):
        assert float(getattr(ends[0], name)) == pytest.approx(0, abs=1e-6 * POOLS["semisolid"][name][1])
        np.testing.assert_allclose(getattr(ends[1], name), POOLS["semisolid"][name][1], rtol=1e-5)
    middle = box.spread(np.full(len(box.names), 0.5))
    np.testing.assert_allclose(middle.fraction, 0.2, rtol=1e-6)
    np.testing.assert_allclose(middle.exchange_rate, np.sqrt(101) - 1, rtol=1e-5)  # log(k + 1 / s) is even
    outside = dataclasses.replace(middle, fraction=0.41)
    with pytest.raises(ValueError, match=r"fraction = 0\.41, 2\.5 % beyond 0 to 0\.4"):
        box.require_inside(outside)


def test_boxes_from_before_there_were_kinds_are_of_one_pool():
    """Files have a tree of dataclasses by the names of their fields; theirs had no kind."""
    arrays, structure = arrays_and_structure(BOX)
    structure["fields"] = [[name, each] for name, each in structure["fields"] if name != "kind"]
    again = tree_of(arrays, structure, [TissueBox])
    assert again.kind == "one_pool"
    again.require_inside(Tissue(1.0, 0.1))
    box = pool_box("exchanging")
    assert tree_of(*arrays_and_structure(box), [TissueBox]).kind == "exchanging"


def test_another_kind_of_tissue_is_refused():
    tissue = SemisolidPool(1.0, 0.1, 0.2, 14.0, 0.34, 1.5e-5)
    for box, other, kind in ((BOX, tissue, "semisolid"), (pool_box("semisolid"), Tissue(1.0, 0.1), "one_pool")):
        for check in (box.require_inside, box.outside, box.require_known):
            with pytest.raises(ValueError, match=f"for tissue of the kind {box.kind}, .*; got {kind}"):
                check(other)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("two", {}, "kind must be one of one_pool, exchanging, semisolid; got 'two'"),
        ("exchanging", {"fraction": None}, "must hold t1, t2, fraction, exchange_rate, t1_b and t2_b, and each name"),
        ("exchanging", {"fraction": (0, 1.5)}, "the range of fraction must be 0 to 1, and not empty; got 0 to 1.5"),
        ("exchanging", {"exchange_rate": (-1, 10)}, "the range of exchange_rate must be 0 or more"),
        ("exchanging", {"t1_b": (0.004, 2.0)}, "t2_b must not begin above t1_b; got 0.005 and 0.004 s"),
        ("exchanging", {"lineshape": (1e-5, 2e-5)}, "names must be of t1, t2, fraction, .*; got lineshape"),
    ],
)
def test_boxes_of_pools_that_cannot_be(kind, changes, message):
    ranges = {name: ends for name, ends in (POOLS["exchanging"] | changes).items() if ends is not None}
    with pytest.raises(ValueError, match=message):
        TissueBox(tuple(ranges), *np.transpose([*ranges.values()]), kind)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"names": ("t1", "t2", "b0")}, "must be of t1, t2, b1, off_resonance; got b0"),
        ({"names": ("t1", "b1"), "low": [0.1, 0.7], "high": [3, 1.3]}, "must hold t1 and t2"),
        ({"names": ("t1", "t2", "t1")}, "each name once"),
        ({"low": [0.01, 0.002]}, "low must hold 3 values"),
        ({"high": [3, 0.5, 0.6]}, "the range of b1 must be positive and finite, and not empty; got 0.7 to 0.6"),
        ({"low": [0.01, 0.02, 0.7]}, "t2 must not begin above t1; got 0.02 and 0.01 s"),
    ],
)
def test_boxes_that_cannot_be(changes, message):
    with pytest.raises(ValueError, match=message):
        TissueBox(**{field.name: getattr(BOX, field.name) for field in dataclasses.fields(BOX)} | changes)


@hypothesis.given(
    st.lists(st.tuples(st.floats(0.3, 3), st.floats(0.1, 1), st.floats(0.05, 0.3)), min_size=2, max_size=5),
    st.floats(0, 0.5),
)
def test_a_box_around_tissue_holds_it_and_is_as_wide_as_it_is_without_a_margin(values, margin):
    t1, share, fraction = np.transpose(values)
    tissue = SemisolidPool(t1, share * t1, fraction, 14.0, 0.34, 15e-6)
    box = box_of(tissue, axes=("fraction",), margin=margin, least_margin=0.01)
    assert box.names[:2] == ("t1", "t2")
    assert "fraction" in box.names
    one_value = {"exchange_rate": 14.0, "t1_b": 0.34, "lineshape": 15e-6, "b1": 1.0}
    assert dict(box.fixed) == pytest.approx(one_value, rel=1e-6)  # float32
    assert not box.outside(tissue).any()
    assert not box.outside(box.spread(np.eye(len(box.names)))).any()
    ranges = {name: ranges_of(tissue)[name] for name in ("t1", "t2", "fraction")}
    if all(low < high for low, high in ranges.values()):
        narrow = box_of(tissue)
        ends = zip(narrow.names, zip(narrow.low, narrow.high, strict=True), strict=True)
        assert dict(ends) == ranges


@hypothesis.given(st.lists(st.floats(-50, 50), min_size=2, max_size=5, unique=True), st.floats(0, 0.5))
def test_a_box_around_frequencies_of_any_sign_holds_them(values, margin):
    shifts = np.asarray(values, np.float32)
    hypothesis.assume(np.ptp(shifts) > 1e-3)
    t1 = np.linspace(0.5, 1.0, shifts.size)
    box = box_of(Tissue(t1=t1, t2=t1 / 10, off_resonance=shifts), margin=margin)
    axis, more = box.names.index("off_resonance"), margin * np.ptp(shifts)
    np.testing.assert_allclose(box.low[axis], shifts.min() - more, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(box.high[axis], shifts.max() + more, rtol=1e-5, atol=1e-5)


def test_what_has_one_value_is_fixed_but_for_t1_and_t2():
    box = box_of_ranges("one_pool", {"t1": (0.5, 2.0), "t2": (0.05, 0.2), "b1": (0.9, 0.9)})
    assert box.names == ("t1", "t2")
    assert box.fixed == (("b1", 0.9),)
    with pytest.raises(ValueError, match=r"t2 must be .* not empty; got 0.1 to 0.1"):
        box_of_ranges("one_pool", {"t1": (0.5, 2.0), "t2": (0.1, 0.1)})
    with pytest.raises(ValueError, match=r"b1 must be .* not empty; got 1 to 1"):
        box_of_ranges("one_pool", {"t1": (0.5, 2.0), "t2": (0.1, 0.2), "b1": (1.0, 1.0)}, axes=("b1",))
