"""A B1 map takes the place of a search over B1: T2 is right where a dictionary of b1 = 1 alone is far off."""

import dataclasses

import jax
import numpy as np
import pytest

from ganmrf.dictionary.build import Dictionary, build_dictionary
from ganmrf.dictionary.grids import grid_of
from ganmrf.dictionary.match import match
from ganmrf.dictionary.match_b1 import match_with_b1
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate
from ganmrf.physics.tissue import Tissue

N_STATES = 40  # truth and dictionary leave out the same orders
T1_STEP, T2_STEP, B1_STEP = 1.08, 1.08, 0.05  # of the grid, T1 and T2 as factors


@pytest.fixture(scope="module")
def dictionary():
    tissue = grid_of(0.5 * T1_STEP ** np.arange(12), 0.03 * T2_STEP ** np.arange(14), np.arange(0.8, 1.21, B1_STEP))
    return build_dictionary(mrf_fisp(500), tissue, n_states=N_STATES)


@pytest.fixture(scope="module")
def phantom(dictionary):
    """Tissue that is not on the grid, (y, x), B1 from 0.8 on the left to 1.2 on the right, and its clean series."""
    rng = np.random.default_rng(0)
    t1, t2 = np.exp(rng.uniform(np.log([[[0.6]], [[0.04]]]), np.log([[[1.1]], [[0.075]]]), (2, 6, 12)))
    tissue = Tissue(t1, t2, np.broadcast_to(np.linspace(0.8, 1.2, 12), (6, 12)))
    signals = simulate(dictionary.sequence, tissue, n_states=N_STATES)
    return tissue, 3j * np.moveaxis(np.asarray(signals), -1, 0)


def part_of(dictionary, rows):
    tissue = Tissue(*(np.asarray(leaf)[rows] for leaf in jax.tree.leaves(dictionary.tissue)))
    parts = {"fingerprints": dictionary.fingerprints[rows], "norms": dictionary.norms[rows]}
    return dataclasses.replace(dictionary, tissue=tissue, **parts)


def steps_off(maps, tissue):
    """Largest errors of T1, T2 and B1 in steps of the grid."""
    t1, t2 = (np.abs(np.log(a / np.asarray(b))) for a, b in ((maps.t1, tissue.t1), (maps.t2, tissue.t2)))
    b1 = np.abs(maps.b1 - np.asarray(tissue.b1)) / B1_STEP
    return t1.max() / np.log(T1_STEP), t2.max() / np.log(T2_STEP), b1.max()


def test_t2_is_right_with_a_map_and_wrong_without(dictionary, phantom):
    tissue, images = phantom
    t1, t2, b1 = steps_off(match_with_b1(dictionary, images, tissue.b1), tissue)
    assert b1 <= 0.5 + 1e-4  # of a step: the nearest slice
    assert t1 < 1
    assert t2 < 1.5  # half a step of B1, 2.5 %, shifts T2 by about half a step of its own
    nominal = part_of(dictionary, np.abs(dictionary.tissue.b1 - 1) < 1e-6)
    t1, t2, b1 = steps_off(match(nominal, images), tissue)
    assert b1 == pytest.approx(4)
    assert t2 > 4


def test_b1_is_estimated_by_the_papers_sequence(dictionary, phantom):
    tissue, images = phantom
    t1, t2, b1 = steps_off(match(dictionary, images), tissue)
    assert t1 < 1
    assert t2 < 2
    assert b1 < 2


@pytest.mark.parametrize("order", ["B1 slowest", "shuffled"])
def test_index_is_the_row_of_the_whole_dictionary(dictionary, order):
    rng = np.random.default_rng(1)
    rows = np.arange(dictionary.norms.size)
    atoms = part_of(dictionary, rng.permutation(rows)) if order == "shuffled" else dictionary
    rows = rng.permutation(rows)[:60].reshape(5, 12)
    m0 = np.exp(1j * np.linspace(0, 6, 60)).reshape(5, 12)
    signals = atoms.fingerprints[rows] * (m0 * atoms.norms[rows])[..., None]
    b1_map = np.asarray(atoms.tissue.b1)[rows] + 0.3 * B1_STEP
    maps = match_with_b1(atoms, signals, b1_map, axis=-1)
    np.testing.assert_array_equal(maps.index, rows)
    for name, values in (("t1", atoms.tissue.t1), ("t2", atoms.tissue.t2), ("b1", atoms.tissue.b1)):
        np.testing.assert_array_equal(getattr(maps, name), np.asarray(values)[rows])
    np.testing.assert_allclose(maps.m0, m0, rtol=1e-6)  # float32 norms
    np.testing.assert_allclose(maps.quality, 1, atol=1e-6)


def random_atoms(b1):
    """Four atoms of each B1, of no physics."""
    tissue = grid_of([0.5, 1.0], [0.05, 0.1], b1)
    rows = np.random.default_rng(2).standard_normal((tissue.size, 30)).astype(np.float32)
    norms = np.linalg.norm(rows, axis=1)
    return Dictionary(tissue, rows / norms[:, None], norms, mrf_fisp(30))


@pytest.fixture(scope="module")
def small():
    return random_atoms([0.8, 0.9, 1.1])


def test_rows_that_follow_each_other_are_read_as_one_slice(small):
    class OnDisk:
        def __getitem__(self, rows):
            assert isinstance(rows, slice)
            return small.fingerprints[rows]

    on_disk = dataclasses.replace(small, fingerprints=OnDisk())
    maps = match_with_b1(on_disk, small.fingerprints, small.tissue.b1, axis=-1)
    np.testing.assert_array_equal(maps.index, range(12))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nearest_b1(small, dtype):
    images = np.ones((30, 7))
    b1_map = np.array([0.75, 0.8, 0.85, 0.86, 1.0, 1.01, 1.2], dtype)  # two ends half a step out, two values halfway
    expected = np.array([0.8, 0.8, 0.8, 0.9, 0.9, 1.1, 1.1], np.float32)
    np.testing.assert_array_equal(match_with_b1(small, images, b1_map).b1, expected)
    message = r"2 of 7 voxels have a B1 outside the dictionary's 0\.8 to 1\.1 .*: b1_map holds 0\.7 to 2"
    with pytest.warns(UserWarning, match=message):
        maps = match_with_b1(small, images, np.array([0.7, 2.0, *b1_map[2:]]))
    np.testing.assert_array_equal(maps.b1, [expected[0], expected[-1], *expected[2:]])


@pytest.mark.parametrize("b1", [1.1, [1.1]])
def test_a_dictionary_of_one_b1_takes_no_other(b1):
    atoms = random_atoms(b1)
    images = np.moveaxis(atoms.fingerprints, -1, 0)
    maps = match_with_b1(atoms, images, np.full(4, 1.1))
    np.testing.assert_array_equal(maps.index, range(4))
    np.testing.assert_array_equal(maps.b1, np.full(4, 1.1, np.float32))
    message = r"the dictionary has no B1 axis: its atoms have b1 = 1\.1, but b1_map holds 0\.9 to 1\.1"
    with pytest.raises(ValueError, match=message):
        match_with_b1(atoms, images, [1.1, 1.1, 0.9, 1.1])


def test_only_voxels_that_are_matched_need_a_b1(small):
    images = np.ones((30, 2, 3))
    images[:, 0, 0] = 0
    mask = np.ones((2, 3), bool)
    mask[1, 2] = False
    b1_map = np.array([[0.0, 0.9, 0.9], [0.9, 0.9, np.nan]])
    maps = match_with_b1(small, images, b1_map, mask=mask)
    np.testing.assert_array_equal(maps.index >= 0, [[False, True, True], [True, True, False]])
    for values in (maps.t1, maps.t2, maps.b1, maps.m0, maps.quality):
        np.testing.assert_array_equal(values != 0, maps.index >= 0)
    assert (match_with_b1(small, images, b1_map, mask=np.zeros((2, 3), bool)).index == -1).all()
    with pytest.raises(ValueError, match="b1_map must be positive and finite in the mask; got nan at index 1, 2"):
        match_with_b1(small, images, b1_map)


def test_shapes_that_do_not_fit(small):
    images = np.ones((30, 2, 3))
    with pytest.raises(ValueError, match=r"b1_map has shape \(3, 2\), but the images have \(2, 3\)"):
        match_with_b1(small, images, np.ones((3, 2)))
    with pytest.raises(ValueError, match=r"mask has shape \(2,\), but the images have \(2, 3\)"):
        match_with_b1(small, images, np.ones((2, 3)), mask=np.ones(2, bool))
    with pytest.raises(ValueError, match="images have 20 frames"):
        match_with_b1(small, images[:20], np.ones((2, 3)))
