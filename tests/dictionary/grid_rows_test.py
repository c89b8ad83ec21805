"""Atoms by their rows are those of the grid that is made whole, of any kind of tissue and any axes."""

import dataclasses
import warnings

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from ganmrf.dictionary.grid_rows import GridRows
from ganmrf.dictionary.grids import pool_grid
from ganmrf.physics.tissue import TISSUES

VALUES = {
    "t1": [0.3, 0.5, 0.9, 2.0],
    "t2": [0.02, 0.4, 0.6, 1.0],
    "fraction": [0.0, 0.1, 0.3],
    "exchange_rate": [5.0, 20.0],
    "t1_b": [0.2, 0.4, 1.0],
    "t2_b": [0.01, 0.3, 0.8],
    "lineshape": [1e-5, 2e-5],
    "b1": [0.8, 1.0],
    "shift": [-10.0, 30.0],
    "off_resonance": [-5.0, 0.0, 5.0],
}


@st.composite
def grids(draw):
    """A kind of tissue, and for each field nothing, a number or an axis."""
    kind, axes = draw(st.sampled_from([*TISSUES])), {}
    for field in dataclasses.fields(TISSUES[kind]):
        values = st.lists(st.sampled_from(VALUES[field.name]), min_size=1, unique=True).map(sorted)
        choices = [values, st.sampled_from(VALUES[field.name])]
        chosen = draw(st.one_of(*choices, *([] if field.name in ("t1", "t2") else [st.none()])))
        axes[field.name] = np.array(chosen) if isinstance(chosen, list) else chosen
    return kind, axes


@hypothesis.given(grids())
def test_rows_are_those_of_the_whole_grid(grid):
    kind, axes = grid
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pools that are named the other way than by convention
        try:
            whole = pool_grid(kind, **axes)
        except ValueError as error:
            with pytest.raises(ValueError, match=str(error)):
                GridRows.of(kind, **axes)
            return
        lazy = GridRows.of(kind, **axes)
        assert lazy.size == whole.size
        rows = np.random.default_rng(0).permutation(whole.size)[:50]
        found, expected = lazy.tissue(rows), whole.rows(rows)
    for field in dataclasses.fields(whole):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        assert (one is None) == (other is None)
        if one is not None:
            np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(lazy.rows_at(lazy.places(rows)), rows)


def test_places_beside_the_grid_have_no_row():
    lazy = GridRows.of("one_pool", t1=[0.3, 0.9], t2=[0.1, 0.5])
    assert list(lazy.axes) == ["t1", "t2"]
    places = np.array([[0, 0], [0, 1], [1, 1], [2, 0], [1, -1]])
    np.testing.assert_array_equal(lazy.rows_at(places), [0, -1, 2, -1, -1])  # T2 of 0.5 s is above T1 of 0.3 s


def test_a_grid_beyond_any_memory_has_rows():
    many = {name: np.linspace(*ends, 300) for name, ends in {"t1": (1, 3), "t2": (0.01, 0.9)}.items()}
    lazy = GridRows.of(
        "exchanging",
        **many,
        fraction=np.linspace(0, 0.3, 100),
        exchange_rate=np.linspace(1, 9, 100),
        b1=np.linspace(0.7, 1.3, 300),
        off_resonance=np.linspace(-100, 100, 1000),
    )
    assert lazy.size == 300 * 300**2 * (99 * 100 + 1) * 1000
    last = lazy.tissue(np.array([lazy.size - 1]))
    np.testing.assert_allclose([last.t1[0], last.fraction[0], last.off_resonance[0]], [3, 0.3, 100], rtol=1e-6)
