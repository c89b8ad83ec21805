"""Compressed dictionaries keep the energy they say they keep."""

import dataclasses

import jax
import numpy as np
import pytest

from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.compress import build_compressed, compress
from ganmrf.dictionary.grids import tissue_grid
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


def test_rows_restore_the_fingerprints(dictionary):
    compressed, kept = compress(dictionary, 30)
    assert kept > 1 - 1e-6
    np.testing.assert_allclose(np.linalg.norm(compressed.fingerprints, axis=1), 1, rtol=3e-7)  # float32
    restored = compressed.norms[:, None] * compressed.fingerprints @ compressed.basis.T
    signals = dictionary.norms[:, None] * dictionary.fingerprints
    error = np.linalg.norm(restored - signals, axis=1) / dictionary.norms
    np.testing.assert_allclose(np.mean(error**2), 1 - kept, rtol=1e-2)  # orthonormal: what is not kept is the error


def test_complex_fingerprints_have_a_complex_basis(dictionary):
    phase = np.exp(1j * np.linspace(0, 3, 200)).astype(np.complex64)
    turned = dataclasses.replace(dictionary, fingerprints=dictionary.fingerprints * phase)
    compressed, kept = compress(turned, 12)
    assert np.iscomplexobj(compressed.basis)
    np.testing.assert_allclose(1 - kept, 1 - compress(dictionary, 12)[1], rtol=1e-3)  # a unitary turn loses nothing


def test_a_dictionary_that_is_never_whole_has_the_same_bits():
    sequence, grid = mrf_fisp(20), tissue_grid("paper")  # more atoms than are in memory at a time
    once, kept = build_compressed(sequence, grid, 5, whole=True)
    in_blocks, kept_in_blocks = build_compressed(sequence, grid, 5, whole=False)
    assert kept == kept_in_blocks
    for one, other in zip(jax.tree.leaves(once), jax.tree.leaves(in_blocks), strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype


def test_bad_requests(dictionary):
    for rank in (0, 201):
        with pytest.raises(ValueError, match=f"rank must be 1 to 200; got {rank}"):
            compress(dictionary, rank)
    with pytest.raises(ValueError, match="compressed already, to rank 5"):
        compress(compress(dictionary, 5)[0], 3)
