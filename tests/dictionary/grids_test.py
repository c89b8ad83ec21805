"""The published grids, and grids from ranges."""

import numpy as np
import pytest

from ganmrf.dictionary.grids import at_each_b1, grid_of, tissue_grid, values_in_ranges
from ganmrf.physics.tissue import Tissue


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
    with pytest.raises(ValueError, match="grid must be one of paper, coarse, fine, ma; got 'medium'"):
        tissue_grid("medium")


def test_pairs_with_t2_above_t1_are_left_out():
    grid = grid_of([0.1, 0.2], [0.05, 0.1, 0.15])
    np.testing.assert_allclose(grid.t1, [0.1, 0.1, 0.2, 0.2, 0.2])
    np.testing.assert_allclose(grid.t2, [0.05, 0.1, 0.05, 0.1, 0.15])
    with pytest.raises(ValueError, match="no pair"):
        grid_of([0.1], [0.2])


def test_b1_is_the_slowest_axis():
    plain, grid = grid_of([0.1, 0.2], [0.05, 0.15]), grid_of([0.1, 0.2], [0.05, 0.15], [0.9, 1.1])
    for name in ("t1", "t2"):
        np.testing.assert_array_equal(getattr(grid, name), np.tile(getattr(plain, name), 2))
    np.testing.assert_array_equal(grid.b1, np.repeat(np.float32([0.9, 1.1]), 3))
    assert tissue_grid("coarse", np.linspace(0.7, 1.3, 13)).shape == (13 * 297,)
    with pytest.raises(ValueError, match=r"Tissue\.b1 must be positive and finite; got 0 at index 0"):
        grid_of([0.1], [0.05], [0.0, 1.0])


@pytest.mark.parametrize("b1", [1.0, 0.9])
def test_one_b1_for_all_is_no_axis(b1):
    grid = tissue_grid("coarse", b1)
    assert grid.shape == (297,)
    assert grid.b1.shape == ()
    assert grid.b1 == np.float32(b1)


def test_ranges():
    np.testing.assert_allclose(values_in_ranges("10:20:5,7,20:40:10", "t1_ms"), [7, 10, 15, 20, 30, 40])
    np.testing.assert_allclose(values_in_ranges("0.1:0.3:0.1", "t1_ms"), [0.1, 0.2, 0.3])


@pytest.mark.parametrize(("text", "count"), [("0.7:1.3:0.1", 7), ("0.7:1.3:0.05", 13), ("0.8:1.25:0.01", 46)])
def test_ranges_of_fractions_keep_their_ends_and_have_no_value_twice(text, count):
    first, last, _ = (float(number) for number in text.split(":"))
    np.testing.assert_array_equal(values_in_ranges(text, "b1")[[0, -1]], [first, last])
    # The same values come out of 0.7 + 3 * 0.1 and of 1.0.
    written = ",".join(f"{value:.2f}" for value in np.linspace(first, last, count))
    assert values_in_ranges(f"{text},{written}", "b1").size == count


@pytest.mark.parametrize("text", ["", "a", "1:2", "1:2:3:4", "5:1:1", "1:5:0", "1:nan:1", "1,,2"])
def test_bad_ranges_name_themselves(text):
    with pytest.raises(ValueError, match=r"--t1_ms must be numbers or ranges first:last:step, .*; got '"):
        values_in_ranges(text, "--t1_ms")


@pytest.mark.parametrize("own", [1.0, [0.8, 1.0, 1.25]])
def test_every_tissue_at_each_b1(own):
    tissue, values = Tissue([0.3, 0.5, 1.0], [0.05, 0.06, 0.07], own), [0.9, 1.0, 1.1]
    by_b1, by_tissue = at_each_b1(tissue, values), at_each_b1(tissue, values, b1_slowest=False)
    assert by_b1.shape == by_tissue.shape == (9,)
    # In a table of B1 times tissues the one runs along columns, the other along rows.
    for table in (
        lambda name: np.reshape(getattr(by_b1, name), (3, 3)),
        lambda name: np.reshape(getattr(by_tissue, name), (3, 3)).T,
    ):
        for name in ("t1", "t2"):
            np.testing.assert_array_equal(table(name), np.broadcast_to(getattr(tissue, name), (3, 3)))
        np.testing.assert_allclose(table("b1"), np.outer(values, np.broadcast_to(own, 3)), rtol=1e-7)  # float32


def test_the_atoms_of_the_first_mrf_paper_are_as_many_as_it_counts():
    grid = tissue_grid("ma")
    assert grid.shape == (563784,)
    assert (grid.t2 <= grid.t1).all()
    assert (float(grid.off_resonance.min()), float(grid.off_resonance.max())) == (-390, 390)
    assert tissue_grid("ma", off_resonance=0.0).shape == (563784 // 169,)  # 169 values of off-resonance


@pytest.mark.parametrize("seed", range(5))
def test_axes_vary_from_b1_over_the_times_to_off_resonance(seed):
    rng = np.random.default_rng(seed)
    axes = [np.unique(rng.uniform(low, high, rng.integers(1, 6))) for low, high in ((0.3, 3), (0.01, 0.4))]
    b1, apart = rng.uniform(0.7, 1.3, rng.integers(1, 4)), rng.uniform(-250, 250, rng.integers(1, 5))
    grid = grid_of(*axes, b1, apart)
    rows = [(b, t1, t2, df) for b in b1 for t1 in axes[0] for t2 in axes[1] if t2 <= t1 for df in apart]
    found = np.stack([grid.b1, grid.t1, grid.t2, grid.off_resonance], axis=1)
    np.testing.assert_allclose(found, rows, rtol=1e-6)  # float32
    # An axis of one value and one number differ in their shape alone.
    single = grid_of(*axes, float(b1[0]), float(apart[0]))
    assert (single.b1.shape, single.off_resonance.shape) == ((), ())
    assert single.size * b1.size * apart.size == grid.size
    assert grid_of(*axes, b1).off_resonance is None


def test_off_resonance_stays_with_its_tissue_at_each_b1():
    tissue = Tissue([0.3, 0.5], [0.05, 0.06], off_resonance=[-20.0, 30.0])
    np.testing.assert_array_equal(at_each_b1(tissue, [0.9, 1.1]).off_resonance, [-20, 30, -20, 30])
    np.testing.assert_array_equal(at_each_b1(tissue, [0.9, 1.1], b1_slowest=False).off_resonance, [-20, -20, 30, 30])


@pytest.mark.parametrize(
    ("text", "values"),
    [("-10:10:5", [-10, -5, 0, 5, 10]), ("-3,0,-1:1:0.5", [-3, -1, -0.5, 0, 0.5, 1]), ("-0.0", [0])],
)
def test_signed_ranges(text, values):
    found = values_in_ranges(text, "off_resonance_hz", signed=True)
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("text", ["10:-10:5", "-10:10:-5", "-1e10", "0:inf:1"])
def test_bad_signed_ranges_name_themselves(text):
    with pytest.raises(ValueError, match=r"off_resonance_hz must be numbers or ranges .* within -1e9 to 1e9"):
        values_in_ranges(text, "off_resonance_hz", signed=True)
