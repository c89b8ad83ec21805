"""Components between the atoms of a grid: T1 and T2 that all voxels have in common, fitted to all of them together.

Signals x of voxels are sums of the components' signals a_n with any weights. The best weights are linear least squares
(variable projection), so that what is left of all voxels together depends on the covariance ``C = sum x x'`` alone:
``trace((1 - P) C)``, P the projection on the span of the a_n. It is lowered by Gauss-Newton steps in log T1 and log T2.

References:
  Golub and Pereyra 1973, doi:10.1137/0710036, and Kaufman 1975, doi:10.1007/BF01932995.
"""

import dataclasses

import numpy as np

from ganmrf.dictionary.build import Dictionary
from ganmrf.dictionary.voxel_model import VoxelModel
from ganmrf.dictionary.voxel_signals import as_real
from ganmrf.parallel import meshes
from ganmrf.physics.tissue import TissueModel

_FITTED = ("t1", "t2")
_STEPS = 30  # most steps that are tried
# Times what noise alone gives a component more: two stay apart where they explain more of the voxels than that.
_MORE_THAN_NOISE = 2.0


def fit_components(
    dictionary: Dictionary,
    rows: np.ndarray,
    strengths: np.ndarray,
    signals: np.ndarray,
    basis: np.ndarray,
    noise: float,
) -> TissueModel:
    """T1 and T2 of components that atoms of a grid are near to.

    Two atoms may stand for one component between them. So the two that are closest become one, and all are fitted
    again, as long as this explains the voxels but for twice what noise gives a component more.

    Args:
      dictionary: the atoms; T1 and T2 stay between half the smallest and twice the largest of these.
      rows: of the atoms to start from.
      strengths: weights of these atoms, for the mean of two of them, (rows,).
      signals: real, (voxels, rank), or real and imaginary parts, (voxels, 2 rank).
      basis: of these signals, (columns of the dictionary, rank).
      noise: standard deviation of the noise of ``signals``.

    Returns:
      The tissue of the components, (components,).
    """
    covariance, enough = signals.T @ signals, _MORE_THAN_NOISE * len(signals) * noise**2
    model = VoxelModel.of(dictionary, rows, _FITTED, {}, False)
    found, left = _fitted(model, covariance, basis)
    while model.start.shape[1] > 1:
        fewer, of_fewer = _joined(model, strengths)
        fewer_found, fewer_left = _fitted(fewer, covariance, basis)
        if fewer_left - left > enough:
            break
        model, strengths, rows, found, left = fewer, of_fewer[0], rows[of_fewer[1]], fewer_found, fewer_left
    tissue = dictionary.tissue.rows(rows)
    return dataclasses.replace(tissue, **dict(zip(_FITTED, found, strict=True)))


def _joined(model, strengths):
    """The model with its two closest components in one; strengths of its components, and which of before they are."""
    logs, count = np.log(model.start), strengths.size
    apart = np.abs(logs[:, :, None] - logs[:, None]).max(axis=0) + np.diag(np.full(count, np.inf))
    stays, goes = np.unravel_index(apart.argmin(), apart.shape)
    if strengths[stays] < strengths[goes]:
        stays, goes = goes, stays
    pair = [stays, goes]
    logs[:, stays] = np.average(logs[:, pair], axis=1, weights=strengths[pair])
    strengths = strengths.copy()
    strengths[stays] = strengths[pair].sum()
    kept = np.delete(np.arange(count), goes)
    part = dataclasses.replace(model.part(kept), start=np.exp(logs[:, kept]))
    return part, (strengths[kept], kept)


def _fitted(model, covariance, basis):
    """T1 and T2, (2, components), of the least that can be left, and what is."""
    rows, mesh = np.arange(model.start.shape[1]), meshes()[0]
    values, share = model.start, 1.0
    left, step = _least_squares(model.signals(values, rows, mesh) @ basis, covariance)
    for _ in range(_STEPS):
        size = np.max(np.abs(step) / model.longest_step)
        target, moves = model.moved(values, share * step / max(size, 1), rows)
        if not moves.any():
            break
        new_left, new_step = _least_squares(model.signals(target, rows, mesh) @ basis, covariance)
        if new_left < left:
            values, left, step, share = target, new_left, new_step, 1.0
        else:
            share /= 2
    return values, left


def _least_squares(signals, covariance):
    """What the span of the signals leaves, and the step by their derivatives: signals (components, 1 + 2, rank)."""
    real = as_real(signals.reshape(-1, signals.shape[2]), signals.shape[2] < len(covariance))
    real = real.reshape(len(signals), -1, len(covariance))
    atoms, slopes = real[:, 0], real[:, 1:]
    inverse = np.linalg.pinv(atoms)  # (rank, components): weights of signals are signals @ inverse
    outside = np.eye(len(covariance)) - inverse @ atoms
    left = np.trace(outside @ covariance)
    across = (slopes @ outside).reshape(-1, len(covariance))
    weights = np.repeat(np.repeat(inverse.T @ covariance @ inverse, 2, axis=0), 2, axis=1)
    gradient = np.sum(across * np.repeat(inverse.T @ covariance @ outside, 2, axis=0), axis=1)
    step = np.linalg.lstsq(across @ across.T * weights, gradient, rcond=1e-12)[0]
    return left, step.reshape(-1, 2).T
