"""Half-sine lobes fitted to given values: dynamic programming on a raster, then least squares."""

import itertools

import jax
import numpy as np
import scipy.optimize
from jax.flatten_util import ravel_pytree

SHORTEST_SHARE = 0.1  # shortest lobe, as a fraction of the mean length
_RASTER = 80  # places where a lobe may end in the first search: it costs their square, 0.1 s
_PERCENTILE_OF_FLOOR = 5  # of the values: the first guess of the floor, above a few outliers


def fit_on_raster(values: np.ndarray, n_lobes: int) -> tuple[np.ndarray, np.ndarray, float]:
    """The best lobes whose ends lie on a raster, by dynamic programming over the ends.

    Args:
      values: (frames,), from 0 to 1.
      n_lobes: how many lobes fill the frames.

    Returns:
      Peaks, (lobes,); lengths as shares of the frames, (lobes,); floor.
    """
    n_frames = len(values)
    ends = np.linspace(0, n_frames, max(n_lobes, min(_RASTER, n_frames)) + 1)
    floor = float(np.percentile(values, _PERCENTILE_OF_FLOOR))
    cost = np.full((len(ends),) * 2, np.inf)
    height = np.zeros_like(cost)
    for i, j in itertools.combinations(range(len(ends)), 2):
        if ends[j] - ends[i] >= SHORTEST_SHARE * n_frames / n_lobes:
            cost[i, j], height[i, j] = _one(values, floor, ends[i], ends[j])
    total, previous = cost[0], []
    for _ in range(n_lobes - 1):
        sums = total[:, None] + cost
        previous.append(np.argmin(sums, axis=0))
        total = np.min(sums, axis=0)
    path = [len(ends) - 1]
    for step in reversed(previous):
        path.append(step[path[-1]])
    path = np.array([0, *reversed(path)])
    return floor + height[path[:-1], path[1:]], np.diff(ends[path]) / n_frames, floor


def least_squares_fit(decode, start, values: np.ndarray):
    """Parameters that minimise the squared error of ``decode(params)``, float64.

    Args:
      decode: parameters -> (frames,).
      start: parameters to begin at, a pytree; the result has its structure.
      values: to fit, (frames,).
    """
    with jax.enable_x64(True):
        flat, unravel = ravel_pytree(jax.tree.map(lambda leaf: jax.numpy.asarray(leaf, float), start))
        forward = jax.jit(lambda flat: decode(unravel(flat)))
        slope = jax.jit(jax.jacfwd(lambda flat: decode(unravel(flat))))

        def residual(flat):
            return np.asarray(forward(flat)) - values

        found = scipy.optimize.least_squares(residual, np.asarray(flat), lambda flat: np.asarray(slope(flat)))
        return jax.tree.map(np.asarray, unravel(jax.numpy.asarray(found.x)))


def decode_shares(params: jax.Array) -> jax.Array:
    """Lengths as shares of the frames, from real parameters, (lobes,): their sum is 1, none is below the shortest."""
    return SHORTEST_SHARE / params.shape[0] + (1 - SHORTEST_SHARE) * jax.nn.softmax(params)


def encode_shares(shares: np.ndarray) -> np.ndarray:
    """The inverse of `decode_shares`: parameters of mean 0."""
    free = np.log(np.maximum(shares - SHORTEST_SHARE / len(shares), 1e-3 / len(shares)))
    return free - free.mean()


def _one(values, floor, first, end):
    """Squared error and height above the floor of the half sine from ``first`` to ``end`` that fits best."""
    frames = np.arange(np.ceil(first - 0.5), np.ceil(end - 0.5)).astype(int)
    sine = np.sin(np.pi * (frames + 0.5 - first) / (end - first))
    over = values[frames] - floor
    height = float(np.clip(sine @ over / max(sine @ sine, 1e-12), -floor, 1 - floor))
    return float(np.sum((over - height * sine) ** 2)), height
