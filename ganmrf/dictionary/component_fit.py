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
from ganmrf.progress import watched

_FITTED = ("t1", "t2")
_STEPS = 30  # most steps that are tried
_APART = 1.0  # difference of log T1 or log T2 above which two components are never one: a factor of 2.7
# Times what noise alone gives a component more: two stay two where they explain more than that.
_MORE_THAN_NOISE = 2.0
_WORTH_TRYING = 10.0  # times that: what explains more while the others stay as they are is not left out on trial
_DECIDING = 0.1  # part of that: fits that decide on it end where a step explains less
# Times the variance of the noise: a step that explains less moves T1 and T2 by a tenth of their standard deviations.
_NOT_WORTH = 0.01


def fit_components(
    dictionary: Dictionary,
    rows: np.ndarray,
    strengths: np.ndarray,
    signals: np.ndarray,
    basis: np.ndarray,
    noise: float,
    *,
    progress: bool = False,
) -> TissueModel:
    """T1 and T2 of components that atoms of a grid are near to.

    Several atoms may stand for one component between them. So the two that are closest, if by less than a factor of
    2.7, become one, and all are fitted again, as long as that explains the voxels but for twice what noise gives a
    component more. Then components that explain no more than that are left out one by one, and the others fitted again.

    Args:
      dictionary: the atoms; T1 and T2 stay between half the smallest and twice the largest of these.
      rows: of the atoms to start from.
      strengths: weights of these atoms, for means of several of them, (rows,).
      signals: real, (voxels, rank), or real and imaginary parts, (voxels, 2 rank).
      basis: of these signals, (columns of the dictionary, rank).
      noise: standard deviation of the noise of ``signals``.
      progress: whether to show a progress bar for each fit, which ends as soon as steps explain no more.

    Returns:
      The tissue of the components, (components,).
    """
    fit, enough = _Fit(signals.T @ signals, basis, progress), _MORE_THAN_NOISE * len(signals) * noise**2
    model = VoxelModel.of(dictionary, rows, _FITTED, {}, False)
    found, left = fit(model, _DECIDING * enough)
    while (pair := _closest(model.start)) is not None:
        fewer, *of_fewer = _joined(model, strengths, rows, pair)
        fewer_found, fewer_left = fit(fewer, _DECIDING * enough)
        if fewer_left - left > enough:
            break
        model, (strengths, rows), found, left = fewer, of_fewer, fewer_found, fewer_left
    model = dataclasses.replace(model, start=found)
    while (weakest := fit.weakest(model, _WORTH_TRYING * enough)) is not None:
        kept = np.delete(np.arange(rows.size), weakest)
        fewer_found, fewer_left = fit(model.part(kept), _DECIDING * enough)
        if fewer_left - left > enough:
            break
        model, rows, left = dataclasses.replace(model.part(kept), start=fewer_found), rows[kept], fewer_left
    found, _ = fit(model, _NOT_WORTH * noise**2)
    return dataclasses.replace(dictionary.tissue.rows(rows), **dict(zip(_FITTED, found, strict=True)))


def _closest(times):
    """The two components of T1 and T2, (2, components), that are closest; None where none are close."""
    logs = np.log(times)
    apart = np.abs(logs[:, :, None] - logs[:, None]).max(axis=0)
    np.fill_diagonal(apart, np.inf)
    return None if apart.min() > _APART else np.unravel_index(apart.argmin(), apart.shape)


def _joined(model, strengths, rows, pair):
    """The model, strengths and rows with a pair as one: the mean logarithms of its times, in place of the stronger."""
    pair = np.array(pair)[np.argsort(strengths[list(pair)])]
    start, strengths = model.start.copy(), strengths.copy()
    start[:, pair[1]] = np.exp(np.average(np.log(start[:, pair]), axis=1, weights=strengths[pair]))
    strengths[pair[1]] = strengths[pair].sum()
    kept = np.delete(np.arange(strengths.size), pair[0])
    return dataclasses.replace(model.part(kept), start=start[:, kept]), strengths[kept], rows[kept]


@dataclasses.dataclass(frozen=True)
class _Fit:
    """The fit of all voxels, whose covariance is (rank, rank)."""

    covariance: np.ndarray
    basis: np.ndarray
    progress: bool

    def __call__(self, model, little):
        """T1 and T2, (2, components), that leave the least, and what they leave; it ends where a step gains little."""
        rows, mesh, share = np.arange(model.start.shape[1]), meshes()[0], 1.0

        def tried(values):
            return _least_squares(model.signals(values, rows, mesh) @ self.basis, self.covariance)

        values, (left, step) = model.start, tried(model.start)
        for _ in watched(range(_STEPS), "refining", shown=self.progress):
            target, moves = model.moved(values, share * step / max(np.max(np.abs(step) / model.longest_step), 1), rows)
            if not moves.any():
                break
            new_left, new_step = tried(target)
            if new_left >= left:
                share /= 2
                continue
            gain, values, left, step, share = left - new_left, target, new_left, new_step, 1.0
            if gain < little:
                break
        return values, left

    def weakest(self, model, enough):
        """The component without which the least more is left, where that is no more than enough; else None."""
        rows = np.arange(model.start.shape[1])
        signals = model.signals(model.start, rows, meshes()[0]) @ self.basis
        if rows.size == 1:
            return None
        left = [_least_squares(np.delete(signals, row, axis=0), self.covariance)[0] for row in rows]
        whole, _ = _least_squares(signals, self.covariance)
        return int(np.argmin(left)) if min(left) - whole <= enough else None


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
