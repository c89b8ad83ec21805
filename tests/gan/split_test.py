"""Splits: every atom is in one set, the shares are those asked for, and bands are gaps to interpolate across."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from ganmrf.dictionary.grids import grid_of, tissue_grid
from ganmrf.gan.split import SPLIT, blocked_rows, split_rows

pytestmark = pytest.mark.usefixtures("quick_compiler")

SETS = "training", "validation", "test"


@given(n_atoms=st.integers(20, 7000), share=st.integers(1, 8), seed=st.integers(0, 2**31))
def test_a_split_uses_every_atom_once(n_atoms, share, seed):
    shares = (share / 10, (9 - share) / 10, 0.1)
    parts = split_rows(n_atoms, shares, np.random.default_rng(seed))
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(n_atoms))
    for part, wanted in zip(parts, shares, strict=True):
        assert abs(len(part) - wanted * n_atoms) <= 1


@pytest.mark.parametrize("shares", [(0.6, 0.2), (0.6, 0.2, 0.1), (0.0, 0.5, 0.5), (1.2, -0.2, 0.0)])
def test_shares_that_make_no_split(shares):
    with pytest.raises(ValueError, match="split must be three shares that add up to 1"):
        split_rows(100, shares, np.random.default_rng(0))


def times(grid):
    tissue = tissue_grid(grid).ravel()
    return tissue, (np.asarray(tissue.t1), np.asarray(tissue.t2))


@pytest.mark.parametrize("grid", ["paper", "coarse"])
@pytest.mark.parametrize("shares", [SPLIT, (0.8, 0.0, 0.2), (0.5, 0.4, 0.1)])
@pytest.mark.parametrize("seed", [0, 1])
def test_held_out_sets_are_bands_without_a_training_atom(grid, shares, seed):
    tissue, axes = times(grid)
    parts = blocked_rows(tissue, shares, np.random.default_rng(seed))
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(tissue.size))
    # A band is as wide as whole values make it: of the coarse grid, one value of T2 alone holds up to 6 % of the atoms.
    found = np.array(list(map(len, parts))) / tissue.size
    np.testing.assert_allclose(found, shares, atol=0.02 if grid == "paper" else 0.05)
    training = [values[parts[0]] for values in axes]
    for part in (part for part in parts[1:] if part.size):
        missing = [~np.isin(values[part], seen) for values, seen in zip(axes, training, strict=True)]
        assert (missing[0] | missing[1]).all()  # no training atom has this T1, or none has this T2
    for values, seen in zip(axes, training, strict=True):
        absent = ~np.isin(np.unique(values), seen)
        assert not absent[[0, -1]].any()  # interpolation, not extrapolation
        assert np.sum(np.diff(absent.astype(int)) == 1) == sum(share > 0 for share in shares[1:])  # bands lie apart
        if grid == "paper":
            assert absent.sum() > 3 * sum(share > 0 for share in shares[1:])  # and reach beyond the next neighbours


def test_bands_depend_on_the_seed_alone():
    tissue, _ = times("coarse")
    one, again, other = (blocked_rows(tissue, SPLIT, np.random.default_rng(seed)) for seed in (3, 3, 4))
    for a, b in zip(one, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(one[2]) != len(other[2]) or (one[2] != other[2]).any()


def test_splits_that_leave_no_band_are_refused():
    few = grid_of(np.array([0.5, 0.9, 1.3, 2.0, 3.0]), np.array([0.04, 0.05, 0.06, 0.08]), 1.0).ravel()
    with pytest.raises(ValueError, match="split_kind=blocked leaves no band of T2: it takes 5 values, there are 4"):
        blocked_rows(few, SPLIT, np.random.default_rng(0))
    assert len(blocked_rows(few, (0.5, 0.0, 0.5), np.random.default_rng(0))[2])  # one band takes 3
    with pytest.raises(ValueError, match=r"split must have a share for validation or test .*\(1.0, 0.0, 0.0\)"):
        blocked_rows(few, (1.0, 0.0, 0.0), np.random.default_rng(0))
