"""Maps of any parameters are attributes by the names of tissue fields, and are made of these names again."""

import dataclasses

import numpy as np
import pytest

from ganmrf.dictionary.match import Maps
from ganmrf.dictionary.refine import Refined

SHAPE = (2, 3)


def some(*names):
    return {name: np.full(SHAPE, 1.0 + n) for n, name in enumerate(names)}


def test_dictionaries_and_names_make_the_same_maps():
    rest = some("m0", "index", "quality")
    by_name = Maps(t1=np.ones(SHAPE), fraction=np.zeros(SHAPE), off_resonance=None, **rest)
    whole = Maps(parameters={"t1": np.ones(SHAPE), "fraction": np.zeros(SHAPE)}, **rest)
    for maps in by_name, whole:
        assert list(maps.parameters) == ["t1", "fraction"]
        np.testing.assert_array_equal(maps.fraction, 0)
        assert maps.off_resonance is None
        assert maps.shape == SHAPE


def test_what_is_replaced_leaves_the_rest():
    before = Maps(parameters=some("t1", "t2"), **some("m0", "index", "quality"))
    after = dataclasses.replace(before, t1=np.zeros(SHAPE))
    np.testing.assert_array_equal(after.t1, 0)
    np.testing.assert_array_equal(before.t1, 1)
    np.testing.assert_array_equal(after.t2, before.t2)
    assert list(dataclasses.replace(before, t1=None).parameters) == ["t2"]


def test_arrays_make_the_maps_again():
    rest = some("m0", "m0_std", "noise", "converged")
    refined = Refined(parameters=some("t1", "fraction", "t1_b"), stds=some("t1", "fraction"), **rest)
    arrays = refined.arrays()
    assert set(arrays) == {"t1", "fraction", "t1_b", "t1_std", "fraction_std", *rest}
    again = Refined(**arrays)
    assert again.arrays() == arrays
    assert again.t1_b_std is None
    assert again.has_error_bars
    assert not dataclasses.replace(again, fraction_std=np.full(SHAPE, np.nan)).has_error_bars


def test_other_names_are_refused():
    with pytest.raises(TypeError, match="t3"):
        Maps(t3=np.ones(SHAPE), parameters={}, **some("m0", "index", "quality"))
    with pytest.raises(TypeError, match="t1_std"):
        Maps(t1_std=np.ones(SHAPE), parameters={}, **some("m0", "index", "quality"))
    with pytest.raises(TypeError, match="quality"):
        Maps(t1=np.ones(SHAPE), **some("m0", "index"))
    assert not hasattr(Maps(t1=np.ones(SHAPE), **some("m0", "index", "quality")), "t1_std")
