"""Compressed dictionaries keep the energy they say they keep."""

import dataclasses

import jax
import numpy as np
import pytest

from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.compress import build_compressed, compress, project, svd_basis
from ganmrf.dictionary.grids import grid_of, tissue_grid
from ganmrf.physics.sequences.bssfp import Bssfp
from ganmrf.physics.sequences.published import mrf_fisp


@pytest.fixture(scope="module")
def dictionary():
    return build_dictionary(mrf_fisp(200), tissue_grid("coarse"))


def test_basis_is_the_best_one(dictionary):
    compressed, kept = compress(dictionary, 12)
    singular = np.linalg.svd(dictionary.fingerprints.astype(float), compute_uv=False)
    best = np.sum(singular[:12] ** 2) / np.sum(singular**2)
    np.testing.assert_allclose(1 - kept, 1 - best, atol=1e-12)  # rounding of the squared singular values, 1e-16
    assert compressed.basis.dtype == np.float64
    np.testing.assert_allclose(compressed.basis.T @ compressed.basis, np.eye(12), atol=1e-13)


@pytest.mark.parametrize("phase", [np.ones(200), np.exp(1j * np.linspace(0, 3, 200))])
def test_basis_of_fewer_atoms_than_frames_is_theirs(dictionary, phase):
    atoms = dictionary.fingerprints[::9] * phase
    basis = svd_basis(atoms, 6)
    rows = np.linalg.svd(atoms)[2][:6]
    np.testing.assert_allclose(np.abs(np.diag(rows @ basis)), 1, atol=1e-9)  # the same vectors, but for their phases
    np.testing.assert_allclose(basis.conj().T @ basis, np.eye(6), atol=1e-13)


def test_rows_restore_the_fingerprints(dictionary):
    compressed, kept = compress(dictionary, 30)
    assert kept > 1 - 1e-6
    np.testing.assert_allclose(np.linalg.norm(compressed.fingerprints, axis=1), 1, rtol=3e-7)  # float32
    restored = compressed.norms[:, None] * compressed.fingerprints @ compressed.basis.T
    signals = dictionary.norms[:, None] * dictionary.fingerprints
    error = np.linalg.norm(restored - signals, axis=1) / dictionary.norms
    np.testing.assert_allclose(np.mean(error**2), 1 - kept, rtol=1e-2)  # orthonormal: what is not kept is the error


@pytest.mark.parametrize("rank", [2, 12])
def test_errors_of_generated_atoms_hold_in_the_basis(dictionary, rank):
    """Whatever a basis leaves out, errors of coefficients are no larger than what is said of them."""
    moved = dictionary.fingerprints + 1e-2 * np.random.default_rng(0).standard_normal((297, 200)) / np.sqrt(200)
    moved /= np.linalg.norm(moved, axis=1, keepdims=True)
    errors = np.linalg.norm(moved - dictionary.fingerprints, axis=1)
    found, _ = compress(dataclasses.replace(dictionary, fingerprints=moved, errors=errors), rank)
    exact, _, _ = project(dictionary.fingerprints, dictionary.norms, found.basis)
    assert (np.linalg.norm(found.fingerprints - exact, axis=1) <= found.errors).all()
    assert (found.errors >= errors).all()


def test_complex_fingerprints_have_a_complex_basis(dictionary):
    phase = np.exp(1j * np.linspace(0, 3, 200)).astype(np.complex64)
    turned = dataclasses.replace(dictionary, fingerprints=dictionary.fingerprints * phase)
    compressed, kept = compress(turned, 12)
    assert np.iscomplexobj(compressed.basis)
    np.testing.assert_allclose(1 - kept, 1 - compress(dictionary, 12)[1], rtol=1e-3)  # a unitary turn loses nothing


def test_a_dictionary_that_is_never_whole_keeps_nearly_as_much():
    """More atoms than its basis is made of, and than are in memory at a time."""
    sequence, grid = mrf_fisp(20), tissue_grid("paper")
    once, kept = build_compressed(sequence, grid, 5, whole=True)
    in_blocks, kept_in_blocks = build_compressed(sequence, grid, 5, whole=False)
    assert 1 - kept <= 1 - kept_in_blocks <= 1.02 * (1 - kept)
    for one, other in zip(jax.tree.leaves(once), jax.tree.leaves(in_blocks), strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
    # The atoms are those of `compress` in another basis: their coefficients are those of the same fingerprints.
    signals = build_dictionary(sequence, grid).fingerprints.astype(float)
    coefficients = signals @ in_blocks.basis
    shares = np.sum(coefficients**2, axis=1) / np.sum(signals**2, axis=1)  # which is 1 but for rounding
    np.testing.assert_allclose(1 - shares.mean(), 1 - kept_in_blocks, rtol=1e-4)
    coefficients /= np.linalg.norm(coefficients, axis=1, keepdims=True)
    np.testing.assert_allclose(in_blocks.fingerprints, coefficients, atol=1e-6)  # float32
    np.testing.assert_allclose(in_blocks.norms, once.norms, rtol=1e-3)  # of what either basis keeps


def test_a_grid_of_off_resonances_is_compressed_without_being_whole():
    sequence = Bssfp(np.linspace(0.1, 1, 40), np.linspace(8e-3, 12e-3, 40), inversion_time=0.02)
    grid = grid_of([0.5, 1.0, 1.5], [0.05, 0.1], 1.0, np.linspace(-40, 40, 33))
    once, kept = build_compressed(sequence, grid, 10, whole=True)
    in_blocks, kept_in_blocks = build_compressed(sequence, grid, 10, whole=False)
    np.testing.assert_allclose(kept_in_blocks, kept, atol=1e-6)  # float32: all atoms make the basis of both
    np.testing.assert_allclose(in_blocks.norms, once.norms, rtol=1e-4)


def test_bad_requests(dictionary):
    for rank in (0, 201):
        with pytest.raises(ValueError, match=f"rank must be 1 to 200; got {rank}"):
            compress(dictionary, rank)
    with pytest.raises(ValueError, match="compressed already, to rank 5"):
        compress(compress(dictionary, 5)[0], 3)
