"""Compressed dictionaries: coefficients of the fingerprints in a temporal basis of low rank."""

import dataclasses

import jax
import numpy as np

from ganmrf.dictionary.build import Dictionary, build_dictionary, require_signal, simulate_into, unit_fingerprints
from ganmrf.memory import fits_memory
from ganmrf.parallel import one_blas_thread
from ganmrf.physics.lowering import signal_dtype
from ganmrf.physics.sequences.blocks import PulseSequence
from ganmrf.physics.simulate_many import (
    bytes_of_signals,
    empty_signals,
    plan_n_states,
    require_signal_memory,
    simulate_all,
)
from ganmrf.physics.slice_profile import SliceModel
from ganmrf.physics.tissue import TissueModel

_BLOCK = 4096  # atoms in float64 at a time: 33 MB of 1000 frames
# Atoms of a `spread_basis`: at 1000 frames their correlation takes as long as its eigenvectors.
BASIS_ATOMS = 4096
# Atoms of a dictionary whose `compress` takes longer than all of the rest: the correlation of all their frames.
_LARGE = 2**17


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
    check_rank(rank, *atoms.shape)
    basis = svd_basis(atoms, rank)
    fingerprints, norms, left_out = project(atoms, dictionary.norms, basis)
    parts = {"fingerprints": fingerprints, "norms": norms, "basis": basis}
    if dictionary.errors is not None:  # vectors u and v, made of unit norm, differ by 2 |u - v| / (|u| + |v|) at most
        errors, kept = np.asarray(dictionary.errors), np.sqrt(1 - np.minimum(left_out, 1))
        parts["errors"] = np.divide(errors, kept - errors / 2, out=np.full(errors.shape, 2.0), where=kept > errors)
    compressed = dataclasses.replace(dictionary, **parts)
    return compressed, float(1 - left_out.mean())


def build_compressed(
    sequence: PulseSequence,
    tissue: TissueModel,
    rank: int,
    *,
    n_states: int | None = None,
    accuracy: float = 1e-4,
    slice_profile: SliceModel | None = None,
    whole: bool | None = None,
    progress: bool = False,
) -> tuple[Dictionary, float]:
    """`compress` of `build_dictionary`, for dictionaries too whose frames do not fit in memory.

    The arguments are those of both functions. Where the ``whole`` dictionary is not to be in memory, each block of
    fingerprints is projected as soon as it is simulated, onto a `spread_basis`. The kept energy is that of all
    fingerprints, and a little less than their own basis would keep: at rank 20 what is left out grows by about 1 %, at
    higher ranks by more. None holds a dictionary whole where it fits, and has no more than 131072 atoms.

    Raises:
      ValueError: as `build_dictionary` and `compress`.
    """
    atoms, settings = tissue.ravel(), {"n_states": n_states, "accuracy": accuracy, "slice_profile": slice_profile}
    check_rank(rank, atoms.size, sequence.n_frames)
    dtype = signal_dtype(sequence, atoms, slice_profile)
    if whole is None:
        whole = atoms.size <= _LARGE and fits_memory(bytes_of_signals(atoms.size, sequence.n_frames, dtype))
    if whole:
        return compress(build_dictionary(sequence, atoms, **settings, progress=progress), rank)
    check_rank(rank, min(atoms.size, BASIS_ATOMS), sequence.n_frames)
    require_signal_memory(atoms.size, rank, dtype)
    flat = jax.tree.map(np.asarray, atoms)
    states = plan_n_states(sequence, flat, **settings)
    basis = spread_basis(sequence, flat, slice_profile, states, rank)
    fingerprints, left_out = np.empty((flat.size, rank), dtype), np.empty(flat.size)
    norms = np.empty(flat.size, fingerprints.real.dtype)

    def store(rows, simulated):
        unit, norms[rows] = simulated
        require_signal(flat, norms[rows], rows)
        fingerprints[rows], norms[rows], left_out[rows] = project(unit, norms[rows], basis)

    with one_blas_thread():  # every core has a worker already
        simulate_all(store, unit_fingerprints, sequence, flat, slice_profile, states, progress)
    return Dictionary(atoms, fingerprints, norms, sequence, slice_profile, basis), float(1 - left_out.mean())


def spread_basis(sequence, atoms: TissueModel, slice_profile, n_states: np.ndarray, rank: int) -> np.ndarray:
    """The `svd_basis` of 4096 atoms, or of all where there are fewer: a random one of each of 4096 runs of neighbours.

    Even steps, in place of random ones, would meet the same few values of an axis of a grid again and again. The
    ``atoms``, in NumPy arrays, and ``n_states`` are those of `simulate_all`. On any number of cores the basis has
    the same bits.
    """
    rows = np.arange(atoms.size)
    if atoms.size > BASIS_ATOMS:
        within = np.random.default_rng(0).random(BASIS_ATOMS)
        rows = ((np.arange(BASIS_ATOMS) + within) / BASIS_ATOMS * atoms.size).astype(int)
    some = atoms.rows(rows)
    unit = empty_signals(sequence, some, slice_profile)
    simulate_into(unit, sequence, some, slice_profile, n_states[rows], False)
    with one_blas_thread():
        return svd_basis(unit, rank)


def project(atoms, norms, basis: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Projects unit fingerprints, (atoms, frames), of given norms onto a basis and normalises the coefficients again.

    Returns:
      Coefficients (atoms, rank) of unit norm, in the dtype of ``atoms``; norms (atoms,) of the coefficients for M0 = 1,
      in the dtype of ``norms``; the share of each fingerprint's energy that the basis leaves out, (atoms,), float64.
    """
    parts = [(rows @ basis, np.linalg.vecdot(rows, rows).real) for rows in wide_blocks(atoms)]
    coefficients, before = (np.concatenate(part) for part in zip(*parts, strict=True))  # before: 1, but for rounding
    kept = np.linalg.norm(coefficients, axis=1)
    norms = np.asarray(norms)
    coefficients = (coefficients / kept[:, None]).astype(atoms.dtype)
    return coefficients, (kept * norms).astype(norms.dtype), np.maximum(1 - kept**2 / before, 0)


def svd_basis(atoms: np.ndarray, rank: int) -> np.ndarray:
    """``rank`` leading right singular vectors of ``atoms`` (atoms, frames), real or complex.

    They are found as eigenvectors of the frames' correlation matrix; of fewer atoms than frames, of that of as many
    orthonormal signals as there are atoms.

    Returns:
      Orthonormal columns (frames, rank), float64 or complex128: a signal's coefficients are ``signal @ basis``.
    """
    if len(atoms) < atoms.shape[1]:
        (rows,) = wide_blocks(atoms, len(atoms))
        signals, coefficients = np.linalg.qr(rows.conj().T)
        return signals @ _leading(_correlation(coefficients.conj().T), rank)
    return _leading(sum(map(_correlation, wide_blocks(atoms))), rank)


def _correlation(rows):
    return rows.conj().T @ rows


def _leading(correlation, rank):
    return np.linalg.eigh(correlation)[1][:, : -rank - 1 : -1]


def check_rank(rank: int, n_atoms: int, n_frames: int):
    """Raises `ValueError` for a rank that no dictionary of so many atoms and frames can be compressed to."""
    largest = min(n_atoms, n_frames)
    if not 1 <= rank <= largest:
        raise ValueError(f"rank must be 1 to {largest}; got {rank}")


def wide_blocks(atoms, size: int = _BLOCK):
    """Blocks of rows of atoms in float64 or complex128, one by one, so that no second dictionary is in memory."""
    wide = np.result_type(atoms.dtype, float)
    return (np.asarray(atoms[start : start + size]).astype(wide) for start in range(0, len(atoms), size))
