"""Compressed dictionaries: coefficients of the fingerprints in a temporal basis of low rank."""

import dataclasses

import numpy as np

from ganmrf.dictionary.build import Dictionary


def compress(dictionary: Dictionary, rank: int) -> tuple[Dictionary, float]:
    """A dictionary in the basis of its leading right singular vectors, and the share of energy that the basis keeps.

    Args:
      dictionary: a dictionary that is not compressed yet.
      rank: number of basis vectors, 1 to the smaller of atoms and frames.

    Returns:
      The compressed dictionary: ``fingerprints`` (atoms, rank) of unit norm, ``norms`` of the coefficients for M0 = 1,
      ``basis`` (frames, rank), float64. And the kept energy: the mean over the atoms of the squared norm of a unit
      fingerprint's coefficients.

    Raises:
      ValueError: a rank out of range, or a dictionary that is compressed already.

    References:
      McGivney et al. 2014, doi:10.1109/TMI.2014.2337321.
    """
    if dictionary.basis is not None:
        raise ValueError(f"the dictionary is compressed already, to rank {dictionary.basis.shape[1]}")
    atoms = dictionary.fingerprints
    if not 1 <= rank <= min(atoms.shape):
        raise ValueError(f"rank must be 1 to {min(atoms.shape)}; got {rank}")
    basis = svd_basis(atoms, rank)
    fingerprints, norms, left_out = project(atoms, dictionary.norms, basis)
    compressed = dataclasses.replace(dictionary, fingerprints=fingerprints, norms=norms, basis=basis)
    return compressed, float(1 - left_out.mean())


def project(atoms, norms, basis: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Projects unit fingerprints, (atoms, frames), of given norms onto a basis and normalises the coefficients again.

    Returns:
      Coefficients (atoms, rank) of unit norm, in the dtype of ``atoms``; norms (atoms,) of the coefficients for M0 = 1,
      in the dtype of ``norms``; the share of each fingerprint's energy that the basis leaves out, (atoms,), float64.
    """
    parts = [(rows @ basis, np.linalg.norm(rows, axis=1)) for rows in wide_blocks(atoms)]
    coefficients, before = (np.concatenate(part) for part in zip(*parts, strict=True))  # before: 1, but for rounding
    kept = np.linalg.norm(coefficients, axis=1)
    norms = np.asarray(norms)
    coefficients = (coefficients / kept[:, None]).astype(atoms.dtype)
    return coefficients, (kept * norms).astype(norms.dtype), np.maximum(1 - (kept / before) ** 2, 0)


def svd_basis(atoms: np.ndarray, rank: int) -> np.ndarray:
    """``rank`` leading right singular vectors of ``atoms`` (atoms, frames), real or complex.

    They are found as eigenvectors of the frames' correlation matrix.

    Returns:
      Orthonormal columns (frames, rank), float64 or complex128: a signal's coefficients are ``signal @ basis``.
    """
    correlation = sum(rows.conj().T @ rows for rows in wide_blocks(atoms))
    return np.linalg.eigh(correlation)[1][:, : -rank - 1 : -1]


def wide_blocks(atoms, size: int = 4096):
    """Blocks of rows of atoms in float64 or complex128, one by one, so that no second dictionary is in memory."""
    wide = np.result_type(atoms.dtype, float)
    return (np.asarray(atoms[start : start + size]).astype(wide) for start in range(0, len(atoms), size))
