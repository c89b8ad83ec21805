"""Fits from several atoms: valleys of the residual that are alike are told apart by what they end in."""

import numpy as np

from ganmrf.dictionary.gauss_newton import fit_voxels
from ganmrf.dictionary.voxel_model import VoxelModel

# Quantile of the voxels' gains that another start may have to make up for. With five parameters of a semisolid pool
# starts that have to make up for more led to a smaller residual in one voxel of two hundred, and by no more than noise
# does.
_USUAL = 0.5
_CHUNK = 8192  # voxels whose atoms are looked at in one go


def fit_from_several(
    model: VoxelModel, series, voxels: np.ndarray, starts: list[np.ndarray], label: str | None = None
) -> dict[str, np.ndarray]:
    """`fit_voxels` from the first start, from others where these could end lower, and the smallest residual of a voxel.

    What a fit gains on the way from its atom is what the atoms are apart. So another start can end lower where its atom
    leaves no more than the fit has left so far and, on top of that, what fits gain in the median voxel, as a share of
    the signal's energy. In all other voxels it is not tried.

    Args:
      model: of the voxels, where the first start is.
      series: as for `fit_voxels`.
      voxels: likewise.
      starts: rows of atoms to begin at, (voxels,) each, -1 for none; the first is that of ``model``.
      label: of the progress bars; None for none.
    """
    found = fit_voxels(model, series, voxels, label)
    if len(starts) == 1 or not voxels.size:
        return found
    left, energy = _left(model.dictionary, series, voxels, starts)
    usual = np.quantile(left[0] - found["residual"] / energy, _USUAL)
    for index, share in zip(starts[1:], left[1:], strict=True):
        rows = np.flatnonzero(share - found["residual"] / energy <= usual)
        if not rows.size:
            continue
        again = fit_voxels(model.started_at(index[rows], rows), series, voxels[rows], label)
        better = again["residual"] < found["residual"][rows]
        for name, values in found.items():
            values[rows[better]] = again[name][better]
    return found


def _left(dictionary, series, voxels, starts):
    """Share of each voxel's energy that its atoms leave, (starts, voxels), inf where there is none; and the energy."""
    basis = dictionary.basis if len(series) == dictionary.sequence.n_frames else None
    left, energy = np.full((len(starts), voxels.size), np.inf), np.empty(voxels.size)
    for first in range(0, voxels.size, _CHUNK):
        rows = slice(first, first + _CHUNK)
        data = series[:, voxels[rows]].T
        data = data.astype(np.result_type(data, float))
        data = data if basis is None else data @ basis
        energy[rows] = np.linalg.norm(data, axis=1) ** 2
        for n, index in enumerate(starts):
            atoms = np.asarray(dictionary.fingerprints[np.maximum(index[rows], 0)])
            inner = np.einsum("vc,vc->v", atoms.conj(), data)
            left[n, rows] = np.where(index[rows] < 0, np.inf, 1 - np.abs(inner) ** 2 / energy[rows])
    return left, energy
