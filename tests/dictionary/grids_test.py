"""The published grids, and grids from ranges."""

import numpy as np
import pytest

from ganmrf.dictionary.grids import grid_of, tissue_grid, values_in_ranges


@pytest.mark.parametrize(("name", "atoms"), [("paper", 5970), ("coarse", 297), ("fine", 106160)])
def test_atom_counts_of_the_paper(name, atoms):
    grid = tissue_grid(name)
    assert grid.t1.shape == grid.t2.shape == (atoms,)
    assert (grid.t2 <= grid.t1).all()


def test_ends_of_the_paper_grid():
    grid = tissue_grid()
    ends = [float(f(values)) for values in (grid.t1, grid.t2) for f in (np.min, np.max)]
    np.testing.assert_allclose(ends, [0.010, 2.950, 0.002, 0.500], rtol=1e-6)  # float32


def test_unknown_grid_names_the_known_ones():
    with pytest.raises(ValueError, match="grid must be one of paper, coarse, fine; got 'medium'"):
        tissue_grid("medium")


def test_pairs_with_t2_above_t1_are_left_out():
    grid = grid_of([0.1, 0.2], [0.05, 0.1, 0.15])
    np.testing.assert_allclose(grid.t1, [0.1, 0.1, 0.2, 0.2, 0.2])
    np.testing.assert_allclose(grid.t2, [0.05, 0.1, 0.05, 0.1, 0.15])
    with pytest.raises(ValueError, match="no pair"):
        grid_of([0.1], [0.2])


def test_ranges():
    np.testing.assert_allclose(values_in_ranges("10:20:5,7,20:40:10", "t1_ms"), [7, 10, 15, 20, 30, 40])
    np.testing.assert_allclose(values_in_ranges("0.1:0.3:0.1", "t1_ms"), [0.1, 0.2, 0.3])


@pytest.mark.parametrize("text", ["", "a", "1:2", "1:2:3:4", "5:1:1", "1:5:0", "1:nan:1", "1,,2"])
def test_bad_ranges_name_themselves(text):
    with pytest.raises(ValueError, match=r"--t1_ms must be a number or first:last:step .*; got '"):
        values_in_ranges(text, "--t1_ms")
