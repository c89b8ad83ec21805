"""Joint sparsity: the few atoms of a dictionary that all voxels together are sums of, found in the images."""

import dataclasses
import warnings

import numpy as np

from ganmrf.dictionary.build import Dictionary
from ganmrf.dictionary.component_fit import fit_components
from ganmrf.dictionary.compress import svd_basis
from ganmrf.dictionary.fractions import (
    Collinear,
    Fractions,
    fractions_of,
    require_apart,
    require_one_field,
    simulated_like,
)
from ganmrf.dictionary.nonnegative import nonnegative_least_squares
from ganmrf.dictionary.voxel_signals import VoxelSignals, as_real, phase_of_best, wide
from ganmrf.memory import require_memory
from ganmrf.parallel import one_blas_thread, run_chunks

_SLOPES = 2**22  # most slopes in memory at a time: voxels of a chunk times atoms
_FEWEST, _MOST = 16, 1024  # voxels of a chunk: more than calls cost, and work for several cores
_LEFT_OUT = 1e-7  # mean share of energy that the basis of a search leaves out: below the noise of the best scans
_LARGEST_RANK = 200  # of that basis
_PASSES, _SETTLED = 50, 1e-3  # most passes of a search, and the relative change of its weights that ends it
# Part of the strongest atom, by root mean square over the voxels, below which an atom is dropped; of the signals, below
# which the strongest is.
_SPARSE = 1e-3
_QUIETEST = 1e-4  # of the signal: the error of the simulation, which stands for the noise where there is less


def joint_sparse_fractions(
    dictionary: Dictionary,
    images,
    *,
    mask=None,
    axis: int = 0,
    noise=None,
    sparsity: float = 3.0,
    refine: bool = True,
    progress: bool = False,
) -> Fractions:
    """Finds the few atoms that all voxels together are sums of, and their fractions in every voxel.

    Sparsity-promoting iterative joint non-negative least squares (SPIJN). A first pass fits every voxel with all atoms
    D, of unit norm. From then on ``w_n`` is the root mean square over the voxels of what atom n got, W the diagonal
    matrix of these, and every voxel x is fitted again, by non-negative least squares of ``[x; 0]`` with ``[D W^(1/2);
    lambda]``: an atom that voxels use little costs more, and its part goes to those that they use much. Atoms below a
    thousandth of the strongest are dropped. It ends when W changes by less than a thousandth, or after 50 passes.

    The steps of a grid, and the penalty, put the T1 and T2 of the atoms that remain off, and so the fractions. So the
    times are fitted between the atoms, to all voxels together (`fit_components`). Of components that cannot be told
    apart the stronger ones stay, and the fractions are `fractions_of` what stays.

    The phase of a voxel is, for the search, that of its inner product with the atom that matches best.

    Args:
      dictionary: atoms of one B1 and one off-resonance, full or in a basis. Their coefficients in a basis of a few
        dozen directions are held in memory.
      images: as for `fractions_of`, of many more voxels than there are components.
      mask: likewise. Voxels of noise alone make components of it.
      axis: of the frames in ``images``.
      noise: as for `fractions_of`; None measures it for the search from the residuals of the first pass.
      sparsity: lambda in standard deviations of the noise, 0 or more. More of it leaves fewer components, and loses
        small ones.
      refine: whether to fit T1 and T2 between the atoms; else components are atoms.
      progress: whether to show progress bars of the first pass and of the fits.

    Returns:
      The fractions of the components, by ascending T2.

    Raises:
      ValueError: as `fractions_of`, a ``sparsity`` below 0 or so high that it leaves nothing, or atoms that do not fit
        in memory.

    Warns:
      UserWarning: weights that still change in the last pass.

    References:
      Nagtegaal et al. 2020, doi:10.1002/mrm.27947.
    """
    if not 0 <= sparsity < np.inf:
        raise ValueError(f"sparsity must be 0 or more, and finite; got {sparsity}")
    require_one_field(dictionary)
    voxels = VoxelSignals.of(dictionary, images, mask, axis)
    atoms, basis = _search_basis(dictionary)
    both = np.iscomplexobj(atoms)
    columns, chunks = as_real(atoms, both), voxels.chunks(_voxels(len(atoms)))
    signals = np.zeros((voxels.voxels.size, columns.shape[1]))
    aside = np.zeros(voxels.voxels.size)  # energy that no atom can explain

    def turn_back(rows, _):
        data = voxels.rows(rows)
        coefficients = data @ basis
        turned = coefficients * np.exp(-1j * phase_of_best(atoms, coefficients))[:, None]
        signals[rows] = as_real(turned, both)
        aside[rows] = np.maximum(np.linalg.norm(data, axis=1) ** 2 - np.linalg.norm(signals[rows], axis=1) ** 2, 0)

    with one_blas_thread():
        run_chunks(turn_back, chunks)
        energy = np.linalg.norm(signals, axis=1) ** 2
        voxels.require_any(energy)
        strengths, left, held = _pass(columns, signals, chunks, "first pass" if progress else None)
        of_phase = voxels.complex or both
        freedom = (1 + of_phase) * len(basis) - held - of_phase
        level = np.sqrt(np.mean(energy))
        quiet = np.sqrt(np.mean(voxels.noise(noise, left + aside, freedom) ** 2)) / level
        penalty = sparsity * max(quiet, _QUIETEST)
        kept, strengths = _sparse_atoms(columns, signals / level, strengths / level, penalty)
        components = _atoms(dictionary, kept)
        if refine:
            noise_of_all = max(quiet, _QUIETEST) * level
            tissue = fit_components(dictionary, kept, strengths, signals, basis, noise_of_all, progress=progress)
            components = simulated_like(components, tissue)
    components = _apart(components)
    components = _atoms(components, np.argsort(components.tissue.t2, kind="stable"))
    return fractions_of(components, images, mask=mask, axis=axis, noise=noise, progress=progress)


def _sparse_atoms(atoms, signals, strengths, penalty):
    """Rows of the atoms that remain, the strongest first, and their strengths; signals have a mean energy of 1."""
    kept, signals = np.arange(len(atoms)), np.pad(signals, ((0, 0), (0, 1)))
    for passes_left in reversed(range(_PASSES)):
        enough = strengths > _SPARSE * strengths.max()
        kept, before = kept[enough], strengths[enough]
        root = np.sqrt(before)
        weighted = np.concatenate([root[:, None] * atoms[kept], np.full((kept.size, 1), penalty)], axis=1)
        size = _voxels(kept.size)
        chunks = np.split(np.arange(len(signals)), range(size, len(signals), size))
        strengths = root * _pass(weighted, signals, chunks, None)[0]
        if strengths.max() < _SPARSE:
            raise ValueError("sparsity must be lower: it outweighs all signals, and no component is left")
        if np.linalg.norm(strengths - before) <= _SETTLED * np.linalg.norm(strengths):
            break
        if not passes_left:
            warnings.warn(f"the weights of {kept.size} components still change after {_PASSES} passes", stacklevel=3)
    order = np.argsort(-strengths, kind="stable")
    order = order[strengths[order] > _SPARSE * strengths.max()]
    return kept[order], strengths[order]


def _pass(atoms, signals, chunks, label):
    """Fits all signals: each atom's root mean square weight; squared residual and number of atoms of each signal."""
    squares, left, held = [], np.zeros(len(signals)), np.zeros(len(signals), int)
    padded = np.concatenate([atoms, np.zeros((1, atoms.shape[1]))])

    def fit_chunk(rows, _):
        index, weights = nonnegative_least_squares(atoms, signals[rows])
        squares.append(np.bincount(index.ravel(), weights.ravel() ** 2, len(padded))[:-1])
        left[rows] = np.linalg.norm(signals[rows] - (weights[:, None] @ padded[index])[:, 0], axis=1) ** 2
        held[rows] = np.count_nonzero(weights, axis=1)

    run_chunks(fit_chunk, chunks, sizes=[len(rows) for rows in chunks], progress=label)
    return np.sqrt(np.sum(squares, axis=0) / len(signals)), left, held


def _apart(components):
    """The components without the weaker, later ones of those that cannot be told apart."""
    while True:
        try:
            require_apart(components)
        except Collinear as alike:
            rows = np.arange(len(components.norms))
            components = _atoms(components, np.delete(rows, max(alike.first, alike.second)))
        else:
            return components


def _atoms(dictionary, rows):
    """The dictionary of these atoms."""
    found = dictionary.rows(rows)
    return dataclasses.replace(found, fingerprints=np.asarray(found.fingerprints), norms=np.asarray(found.norms))


def _search_basis(dictionary):
    """Unit atoms (atoms, rank) in a basis of the frames, or of the dictionary's own coefficients, and that basis."""
    count, columns = dictionary.fingerprints.shape
    most = min(count, columns, _LARGEST_RANK)
    needed, advice = 16 * count * (columns + 2 * most), "fewer atoms, or a compressed dictionary, need less"
    require_memory(needed, f"a search among {count} atoms", advice)
    atoms = wide(dictionary.fingerprints[:])
    basis = svd_basis(atoms, most)
    coefficients = atoms @ basis
    left_out = 1 - np.cumsum(np.mean(np.abs(coefficients) ** 2, axis=0))
    rank = min(np.count_nonzero(left_out > _LEFT_OUT) + 1, most)
    coefficients = coefficients[:, :rank]
    return coefficients / np.linalg.norm(coefficients, axis=1, keepdims=True), basis[:, :rank]


def _voxels(n_atoms):
    return min(max(_SLOPES // n_atoms, _FEWEST), _MOST)
