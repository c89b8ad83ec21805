"""Grids of any tissue hold every combination that it can have, and each signal once."""

import itertools

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from ganmrf.dictionary.grids import grid_axes, grid_box, grid_of, pool_grid, random_tissue, values_in_ranges
from ganmrf.physics.tissue import TISSUES, ExchangingPools, SemisolidPool, Tissue, parameters

TIMES = {"t1": [0.5, 1.0, 2.0], "t2": [0.05, 0.1]}
ORDER = ("b1", "t1", "t2", "fraction", "exchange_rate", "t1_b", "t2_b", "lineshape", "shift", "off_resonance")
POOLS = [kind for kind in TISSUES if kind != "one_pool"]


def rows(tissue):
    """The atoms, in the order of the grid's axes, as tuples of float32."""
    names = [name for name in ORDER if getattr(tissue, name, None) is not None]
    columns = [np.broadcast_to(getattr(tissue, name), tissue.shape) for name in names]
    return list(zip(*(column.tolist() for column in columns), strict=True))


def few(name, parameter):
    """Few values of a parameter; T2 and T1 are often equal, or the wrong way round."""
    values = [0.0, 0.125, 0.5] if parameter.may_be_least else [-8.0, 0.0, 8.0] if parameter.signed else [0.25, 1.0, 4.0]
    return [value * 2.0**-20 for value in values] if name == "lineshape" else values


@pytest.mark.parametrize("kind", TISSUES)
@hypothesis.given(data=st.data())
def test_all_that_is_possible_is_there_once_and_in_order(kind, data):
    facts = parameters(TISSUES[kind])
    axes = {
        name: data.draw(st.lists(st.sampled_from(few(name, each)), min_size=1, max_size=3, unique=True), name)
        for name, each in facts.items()
    }
    expected, empty = [], set()
    names = [name for name in ORDER if name in facts]
    for row in itertools.product(*(axes[name] for name in names)):
        atom = dict(zip(names, row, strict=True))
        if atom["t2"] > atom["t1"] or atom.get("t2_b", 0) > atom.get("t1_b", 0):
            continue
        if atom.get("fraction") == 0:
            first = tuple(value for name, value in atom.items() if name in parameters(Tissue))
            if first in empty:
                continue
            empty.add(first)
        expected.append(row)
    hypothesis.assume(expected)
    assert rows(pool_grid(kind, **axes)) == expected


@pytest.mark.parametrize("kind", POOLS)
def test_what_is_not_given_is_usual_white_matter(kind):
    grid = pool_grid(kind, **TIMES)
    assert isinstance(grid, TISSUES[kind])
    fractions = np.unique(grid.fraction)
    np.testing.assert_allclose(fractions, values_in_ranges("0:0.3:0.02", "fraction", from_zero=True), rtol=1e-6)
    assert grid.size == 6 * fractions.size
    for name in parameters(TISSUES[kind]).keys() - {"t1", "t2", "fraction", "shift", "off_resonance"}:
        assert getattr(grid, name).shape == ()
    assert grid.off_resonance is None


def test_an_empty_pool_is_one_atom():
    grid = pool_grid("semisolid", **TIMES, fraction=[0.0, 0.1], exchange_rate=[10.0, 20.0, 30.0], t1_b=[0.3, 0.4])
    assert grid.size == 6 * (1 + 6)
    assert pool_grid("semisolid", **TIMES, fraction=0.0, exchange_rate=[10.0, 20.0]).size == 6
    # One that has no T2 above T1 in pool b is kept.
    grid = pool_grid("exchanging", **TIMES, fraction=[0.0, 0.2], t1_b=[0.01, 0.4], t2_b=[0.02, 0.05])
    empty = np.asarray(grid.fraction) == 0
    np.testing.assert_allclose(np.asarray(grid.t1_b)[empty], 0.4, rtol=1e-6)
    assert (empty.sum(), grid.size) == (6, 6 * (1 + 2))


def test_one_number_is_no_axis():
    grid = pool_grid("exchanging", t1=1.0, t2=0.1, fraction=0.2, shift=15.0, b1=[0.9, 1.1], off_resonance=[-5.0, 5.0])
    assert (grid.t1.shape, grid.fraction.shape, grid.shift.shape, grid.t1_b.shape) == ((4,), (), (), ())
    np.testing.assert_array_equal(grid.b1, np.float32([0.9, 0.9, 1.1, 1.1]))
    np.testing.assert_array_equal(grid.off_resonance, [-5, 5, -5, 5])


def test_axes_of_published_grids_are_those_of_their_atoms():
    axes = grid_axes("coarse")
    assert rows(pool_grid("one_pool", **axes)) == rows(grid_of(**axes))
    assert pool_grid("semisolid", **axes, fraction=[0.0, 0.1]).size == 2 * 297
    assert set(grid_axes("ma")) == {"t1", "t2", "off_resonance"}


@pytest.mark.parametrize(
    ("kind", "axes", "words"),
    [
        ("two", {}, "must be one of one_pool, exchanging, semisolid; got 'two'"),
        ("semisolid", {"t2_b": [0.01]}, "semisolid has no t2_b, but t1, t2, fraction, "),
        ("semisolid", {"t1": [1.0]}, "semisolid needs t2"),
        ("semisolid", TIMES | {"fraction": [0.1, 1.2]}, r"SemisolidPool\.fraction must be 0 to 1; got 1\.2 at index 1"),
        ("semisolid", TIMES | {"exchange_rate": [-1.0]}, r"SemisolidPool\.exchange_rate must be 0 or more.*got -1"),
        ("semisolid", TIMES | {"t1_b": 340.0}, r"SemisolidPool\.t1_b must be in s, 20 at most \(is it in ms"),
        ("exchanging", TIMES | {"t1_b": 0.01, "t2_b": [0.02]}, "no pair of the given T1_B and T2_B"),
        ("exchanging", TIMES | {"shift": "far"}, r"ExchangingPools\.shift must be a number or the values of an axis"),
        ("exchanging", TIMES | {"fraction": [[0.1]]}, r"fraction must be .*\(values,\); got shape \(1, 1\)"),
        ("exchanging", TIMES | {"fraction": []}, r"fraction must be .*\(values,\); got shape \(0,\)"),
    ],
)
def test_bad_axes_name_themselves(kind, axes, words):
    with pytest.raises(ValueError, match=words):
        pool_grid(kind, **axes)


def test_more_atoms_than_memory_name_the_flags_that_need_less():
    many = np.linspace(0.1, 1, 10000)
    with pytest.raises(
        ValueError, match=r"a grid of 1e\+12 combinations needs .*--t1_ms, --t2_ms, --exchange_rate_per_s"
    ):
        pool_grid("semisolid", t1=many, t2=many, fraction=0.1, exchange_rate=many)


def test_swapped_pools_are_warned_of_once():
    with pytest.warns(UserWarning, match="by convention pool b"):
        grid = pool_grid("exchanging", **TIMES, fraction=[0.2, 0.7], t1_b=1.0, t2_b=0.2)
    assert isinstance(grid, ExchangingPools)
    assert isinstance(pool_grid("semisolid", **TIMES), SemisolidPool)


def test_ranges_may_begin_at_zero():
    np.testing.assert_allclose(values_in_ranges("0:0.1:0.05", "fraction", from_zero=True), [0, 0.05, 0.1])
    with pytest.raises(ValueError, match=r"fraction must be .* within 0 to 1e9"):
        values_in_ranges("-0.1:0.1:0.05", "fraction", from_zero=True)
    with pytest.raises(ValueError, match=r"fraction must be .* within 1e-9 to 1e9"):
        values_in_ranges("0:0.1:0.05", "fraction")


def test_the_box_of_a_grid_holds_its_atoms_and_no_more():
    axes = TIMES | {"fraction": [0, 0.1, 0.3], "exchange_rate": 20.0, "b1": [0.9], "off_resonance": [-5.0, 5.0]}
    box, grid = grid_box("semisolid", **axes), pool_grid("semisolid", **axes)
    assert box.names == ("t1", "t2", "fraction", "off_resonance")
    assert dict(box.fixed) == pytest.approx({"exchange_rate": 20, "t1_b": 0.34, "lineshape": 15.1e-6, "b1": 0.9})
    box.require_inside(grid)
    for name, low, high in zip(box.names, box.low, box.high, strict=True):
        values = np.asarray(getattr(grid, name))
        np.testing.assert_allclose((values.min(), values.max()), (low, high))
    with pytest.raises(ValueError, match=r"t2 has one value, 0.1 s, and no range"):
        grid_box("one_pool", t1=[0.5, 1.0], t2=0.1)


def test_random_tissues_fill_their_box_to_its_ends():
    box = grid_box("semisolid", **TIMES, fraction=[0, 0.3], b1=[0.7, 1.3])
    tissue = random_tissue(box, 2000, np.random.default_rng(0))
    assert tissue.size == 2000
    box.require_inside(tissue)
    for name, low, high in zip(box.names, box.low, box.high, strict=True):
        values = np.asarray(getattr(tissue, name))
        np.testing.assert_allclose((values.min(), values.max()), (low, high), rtol=1e-5)
        assert 0.3 < np.mean((values - low) / (high - low)) < 0.7
    again = random_tissue(box, 2000, np.random.default_rng(0))
    np.testing.assert_array_equal(tissue.t1, again.t1)
