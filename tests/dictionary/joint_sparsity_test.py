"""Joint sparsity: the components of a phantom are found among many atoms, and noise does not add to them."""

import dataclasses

import numpy as np
import pytest

from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.compress import compress
from ganmrf.dictionary.grids import grid_of
from ganmrf.dictionary.joint_sparsity import joint_sparse_fractions
from ganmrf.dictionary.zarr import open_dictionary
from ganmrf.dictionary.zarr_fill import begin_store, fill_store
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate
from ganmrf.physics.tissue import Tissue

pytestmark = pytest.mark.usefixtures("quick_compiler")

T1, T2 = np.geomspace(0.3, 4.8, 9), np.geomspace(0.02, 0.64, 11)
ROWS = ((1, 1), (4, 5), (8, 9))  # of the axes of T1 and T2: the components of the phantom


@pytest.fixture(scope="module")
def dictionary():
    return build_dictionary(mrf_fisp(200), grid_of(T1, T2))


@pytest.fixture(scope="module")
def phantom(dictionary):
    """Fractions of three atoms (3, voxels), and their series without noise, M0 = 2 of random phase."""
    rng = np.random.default_rng(0)
    times = np.stack([dictionary.tissue.t1, dictionary.tissue.t2], 1)
    rows = [np.argmin(np.abs(times / [T1[i], T2[j]] - 1).sum(axis=1)) for i, j in ROWS]
    fractions = rng.dirichlet(np.ones(3), 120).T
    signals = np.asarray(dictionary.fingerprints)[rows] * np.asarray(dictionary.norms, float)[rows, None]
    return fractions, 2 * np.exp(1j * rng.uniform(-np.pi, np.pi, 120)) * (signals.T @ fractions)


def in_order(found):
    """T1, T2 and fractions of the components, sorted by T1."""
    order = np.argsort(found.components.t1)
    return np.asarray(found.components.t1)[order], np.asarray(found.components.t2)[order], found.fractions[order]


@pytest.mark.parametrize("rank", [None, 12])
def test_components_are_found_among_all_atoms(dictionary, phantom, rank):
    fractions, images = phantom
    atoms = dictionary if rank is None else compress(dictionary, rank)[0]
    found = joint_sparse_fractions(atoms, images, refine=False)
    t1, t2, parts = in_order(found)
    np.testing.assert_allclose(t1, [T1[i] for i, _ in ROWS], rtol=1e-6)
    np.testing.assert_allclose(t2, [T2[j] for _, j in ROWS], rtol=1e-6)
    np.testing.assert_allclose(parts, fractions, atol=1e-3)  # what the basis leaves out


def test_noise_adds_no_component_and_less_sparsity_leaves_more(dictionary, phantom):
    fractions, images = phantom[0][:, :40], phantom[1][:, :40]
    noisy = images + 5e-3 * (np.random.default_rng(1).standard_normal((*images.shape, 2)) @ [1, 1j])
    found = joint_sparse_fractions(dictionary, noisy, refine=False)
    assert len(found.fractions) == 3
    assert np.abs(in_order(found)[2][2] - fractions[2]).mean() < 0.03
    assert len(joint_sparse_fractions(dictionary, noisy, sparsity=1.0, refine=False).fractions) > 3


def test_components_between_the_atoms_are_refined(dictionary):
    t1, t2 = np.array([0.47, 1.3, 4.2]), np.array([0.026, 0.095, 0.42])  # a third of a step or more from any atom
    rng = np.random.default_rng(2)
    fractions = rng.dirichlet(np.ones(3), 60)
    signals = simulate(dictionary.sequence, Tissue(t1, t2))
    images = (2 * np.exp(1j) * fractions @ signals).T + 2e-3 * (rng.standard_normal((200, 60, 2)) @ [1, 1j])
    atoms, _ = compress(dictionary, 12)
    on_grid, found = (joint_sparse_fractions(atoms, images, refine=refine) for refine in (False, True))
    assert len(found.fractions) == 3
    np.testing.assert_allclose(in_order(found)[0], t1, rtol=0.05)
    np.testing.assert_allclose(in_order(found)[1], t2, rtol=0.05)
    assert np.abs(in_order(found)[2] - fractions.T).mean() < 0.02
    assert found.residual.mean() < on_grid.residual.mean()


def test_a_series_of_any_scale_has_the_same_components(dictionary, phantom):
    _, images = phantom
    one, other = (joint_sparse_fractions(dictionary, scale * images[:, :40], refine=False) for scale in (1, 1e-4))
    np.testing.assert_array_equal(one.components.t1, other.components.t1)
    np.testing.assert_allclose(one.fractions, other.fractions, atol=1e-9)


def test_atoms_on_disk_and_atoms_twice_change_nothing(dictionary, phantom, tmp_path):
    _, images = phantom
    expected = joint_sparse_fractions(dictionary, images, refine=False)
    store = tmp_path / "atoms.zarr"
    fill_store(begin_store(store, dictionary.sequence, dictionary.tissue))
    rows = np.tile(np.arange(len(dictionary.norms)), 2)
    twice = dataclasses.replace(
        dictionary,
        tissue=dictionary.tissue.rows(rows),
        fingerprints=np.asarray(dictionary.fingerprints)[rows],
        norms=np.asarray(dictionary.norms)[rows],
    )
    for same in (open_dictionary(store), twice):
        found = joint_sparse_fractions(same, images, refine=False)
        np.testing.assert_allclose(in_order(found)[:2], in_order(expected)[:2], rtol=1e-6)
        np.testing.assert_allclose(in_order(found)[2], in_order(expected)[2], atol=1e-4)  # float32


def test_one_atom_is_all_there_is(dictionary):
    one = dataclasses.replace(
        dictionary,
        tissue=dictionary.tissue.rows(np.array([7])),
        fingerprints=np.asarray(dictionary.fingerprints)[[7]],
        norms=np.asarray(dictionary.norms)[[7]],
    )
    found = joint_sparse_fractions(one, np.asarray(one.fingerprints).T * [1.0, -2.0])
    np.testing.assert_array_equal(found.fractions, [[1, 1]])


def test_bad_input_is_refused(dictionary, phantom):
    _, images = phantom
    with pytest.raises(ValueError, match="sparsity"):
        joint_sparse_fractions(dictionary, images, sparsity=-1.0)
    with pytest.raises(ValueError, match="sparsity"):
        joint_sparse_fractions(dictionary, images, sparsity=1e9)
    with pytest.raises(ValueError, match="no signal"):
        joint_sparse_fractions(dictionary, 0 * images)
    with pytest.raises(ValueError, match="mask"):
        joint_sparse_fractions(dictionary, images, mask=np.ones(3, bool))
