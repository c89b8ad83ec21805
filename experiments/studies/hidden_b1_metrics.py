"""Distances between two distributions of fingerprints, estimated from samples of both, in float64.

Arguments are as many samples of both, (samples, frames) each; another shape raises a `ValueError`.
"""

import numpy as np

_DIRECTIONS = 100
_SEED = 0  # of the directions: all distances are taken along the same ones


def sliced_wasserstein(one, other) -> float:
    """Root mean square of the 2-Wasserstein distance along random directions, times the root of the dimension.

    With that factor a shift of all samples by a vector is at a distance of about the norm of the vector, for any number
    of frames. For unit fingerprints the distance is then comparable with a relative error.

    References:
      Bonneel et al. 2015, doi:10.1007/s10851-014-0506-3.
    """
    one, other = _pair("sliced_wasserstein", one, other)
    directions = np.random.default_rng(_SEED).standard_normal((one.shape[1], _DIRECTIONS))
    directions /= np.linalg.norm(directions, axis=0)
    ranks = np.sort(one @ directions, axis=0) - np.sort(other @ directions, axis=0)
    return float(np.sqrt(one.shape[1] * np.mean(ranks**2)))


def covariance_error(estimate, truth) -> float:
    """Frobenius norm of the difference of two covariances over that of the true one, which is not 0."""
    estimate, truth = (each - each.mean(axis=0) for each in _pair("covariance_error", estimate, truth))
    # |A'A - B'B|^2 by the products among samples, which are fewer than frames.
    pairs = (estimate, estimate), (estimate, truth), (truth, truth)
    own, shared, true = (np.linalg.norm(a @ b.T) ** 2 for a, b in pairs)
    return float(np.sqrt(max(own - 2 * shared + true, 0) / true))


def mean_error(estimate, truth) -> float:
    """L2 norm of the difference of two means over that of the true one, which is not 0."""
    estimate, truth = (each.mean(axis=0) for each in _pair("mean_error", estimate, truth))
    return float(np.linalg.norm(estimate - truth) / np.linalg.norm(truth))


def _pair(caller, one, other):
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    if one.shape != other.shape or one.ndim != 2:
        raise ValueError(f"{caller}: both must be (samples, frames), the same for both; got {one.shape}, {other.shape}")
    return one, other
