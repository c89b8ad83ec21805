"""Non-negative least squares of many signals at once: each is a sum of atoms with weights of 0 or more.

An active set, as Lawson and Hanson have it: every signal holds the atoms whose weights are positive. Again and again
the atom that its residual is most like joins them, their weights are solved for, and where one would become negative,
the step ends where it becomes 0 and its atom leaves. All signals take these steps together, in arrays of a few numbers
a signal: the atoms that it holds and the Gram matrix of these.
"""

import numpy as np

# Share of a signal's norm: where the residual has less of every atom, its square is the least within some 1e-9 of the
# signal's energy, a thousandth of the noise of the best scans.
_LITTLE = 1e-9
_STEPS = 10  # most atoms that may join a signal, times the columns: some leave again, and signals need a few each


def nonnegative_least_squares(atoms: np.ndarray, signals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights of 0 or more with which atoms sum to signals with the least squared residual.

    Where atoms are so alike that several sets of them fit within 1e-9 of a signal's energy, one of these is found.

    Args:
      atoms: real, of any norm, (atoms, columns), float64.
      signals: real, (signals, columns), float64.

    Returns:
      Rows of the atoms that each signal holds, (signals, most atoms of a signal), int; where it holds fewer, the others
      are the number of atoms. And their weights, of the same shape, float64: 0 for those others.

    References:
      Lawson and Hanson 1995, doi:10.1137/1.9781611971217 (chapter 23).
    """
    n_atoms, columns = atoms.shape
    padded = np.concatenate([atoms, np.zeros((1, columns))])  # the last row stands where a signal holds no more
    lengths = np.linalg.norm(padded, axis=1, keepdims=True)
    directions = padded / np.where(lengths > 0, lengths, 1)
    enough = _LITTLE * np.linalg.norm(signals, axis=1)
    held = np.full((len(signals), 1), n_atoms)
    weights = np.zeros((len(signals), 1))
    working = np.arange(len(signals))
    for _ in range(_STEPS * columns):
        if not working.size:
            break
        residual = signals[working] - _sums(padded, held[working], weights[working])
        slopes = residual @ directions.T
        np.put_along_axis(slopes, held[working], -np.inf, axis=1)
        slopes[:, n_atoms] = -np.inf
        best = slopes.argmax(axis=1)
        more = slopes[np.arange(len(slopes)), best] > enough[working]
        working, best = working[more], best[more]
        if (held[working] < n_atoms).all(axis=1).any():
            held = np.pad(held, ((0, 0), (0, 1)), constant_values=n_atoms)
            weights = np.pad(weights, ((0, 0), (0, 1)))
        place = np.argmax(held[working] == n_atoms, axis=1)
        held[working, place] = best
        held[working], weights[working] = _solved(padded, signals[working], held[working], weights[working])
        # One that leaves at once would join again for ever: what it gains is rounding.
        working = working[(held[working] == best[:, None]).any(axis=1)]
    return held, weights


def _sums(padded, held, weights):
    """Atoms summed with their weights, (signals, columns)."""
    return np.matmul(weights[:, None], padded[held])[:, 0]


def _solved(padded, signals, held, weights):
    """The atoms with positive weights, and these weights, after the steps that Lawson and Hanson take inside."""
    none = len(padded) - 1
    held, weights, open_ = held.copy(), weights.copy(), np.arange(len(signals))
    while open_.size:
        atoms = padded[held[open_]]
        gram = atoms @ np.swapaxes(atoms, 1, 2)
        empty = held[open_] == none
        gram[:, np.arange(gram.shape[1]), np.arange(gram.shape[1])] += empty
        inner = atoms @ signals[open_, :, None]
        aim = np.linalg.solve(gram, inner)[..., 0]
        below = ~empty & (aim <= 0)
        start = weights[open_]
        share = np.full(start.shape, np.inf)
        np.divide(start, start - aim, out=share, where=below)
        share = np.minimum(share.min(axis=1), 1)[:, None]
        moved = start + share * (aim - start)
        leaves = below & (moved <= 1e-14 * np.abs(moved).max(axis=1, keepdims=True))  # 0, but for rounding
        moved[leaves | empty] = 0
        weights[open_] = moved
        held[open_] = np.where(leaves, none, held[open_])
        open_ = open_[below.any(axis=1)]
    return held, weights
