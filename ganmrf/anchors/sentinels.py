"""Sentinels: tissues on which a generator is worst; every new sequence is simulated for them, and they can mend it.

Interpolants are worst at the ends of their ranges and where tissues are far from all anchors, and random tissues seldom
lie there. So the worst tissues over sequences that nothing was learned from, and faces and corners of the box, are kept
in the generator. Where they show too large an error for a sequence, the worst of them become anchors of this sequence.
For that the weights have a column for each sentinel b, a function k_b of the tissue alone::

    s(x) / n(x)  =  sum over anchors a of  w_a(x) s(a) / n(a)  +  sum over some sentinels b of  k_b(x) g_b

``k_b(x)`` is 0 at all anchors and 1 at b: it is the inner product of what the anchors leave unexplained of x and of b,
in the features or by the kernels that the weights are made of. The signals g are such that the sum is, but for a ridge,
exact at the sentinels: with features it is their combination by anchors and sentinels, with kernels the interpolant
with more nodes.
"""

import itertools

import jax
import numpy as np

from ganmrf.physics.tissue import TissueModel
from ganmrf.physics.tissue_box import TissueBox

_N_WORST = 32  # with faces and corners fewer than half as many as there are held-out tissues
_ALL_CORNERS = 5  # axes, 32 corners: with more axes the worst of the corners are found as all other tissues are
_STREAM = 1  # joined to the seed
_KNOWN = 1e-8  # relative: a sentinel of which less is left unexplained is an anchor itself


def joined(one: TissueModel, *others: TissueModel) -> TissueModel:
    """Tissues of one dimension, one after the other; a parameter that is one number for all of them stays one."""
    tissues = one, *others

    def join(*values):
        if all(np.ndim(value) == 0 and value == values[0] for value in values):
            return np.asarray(values[0])
        return np.concatenate(
            [np.broadcast_to(value, tissue.shape) for value, tissue in zip(values, tissues, strict=True)]
        )

    return jax.tree.map(join, *tissues)


def faces_and_corners(box: TissueBox) -> TissueModel:
    """The corners of a box, and the centres of its faces: (2 ** axes + 2 * axes,)."""
    n_axes = len(box.names)
    corners = np.array([*itertools.product((0.0, 1.0), repeat=n_axes)])
    return box.spread(np.concatenate([corners, 0.5 + 0.5 * np.eye(n_axes), 0.5 - 0.5 * np.eye(n_axes)]))


def ends_of(box: TissueBox) -> int:
    """How many of `faces_and_corners`, from the last, are sentinels whatever their error: all, or the faces alone."""
    n_axes = len(box.names)
    return 2 * n_axes + (2**n_axes if n_axes <= _ALL_CORNERS else 0)


def spread_to_ends(box: TissueBox, number: int, seed: int) -> TissueModel:
    """Tissues spread over a box, each parameter of each at an end of its range with a chance of two fifths, (number,).

    They are other tissues than those of `joint_features.spread_tissue`, the candidates of the anchors: the worst of the
    candidates are anchors, and have no error.
    """
    rng = np.random.default_rng([seed, _STREAM])
    sobol = box.sobol(number, rng)
    return box.spread_to_faces(sobol, rng.random(sobol.shape), np.zeros((number, 1)))


def worst_rows(weights: np.ndarray, signals: list[np.ndarray], truths: list[np.ndarray]) -> list[int]:
    """Rows of tissues with the largest errors that are unlike one another, worst first; at most 32.

    The errors of a tissue's fingerprints under all sequences, side by side, are a vector. The longest vector is chosen
    and its direction taken out of all vectors, as in a QR decomposition with pivots: were tissues chosen by the size of
    their errors, all would be neighbours.

    Args:
      weights: of the tissues, (tissues, anchors).
      signals: for each sequence those of the anchors, over their norm, (anchors, frames).
      truths: for each sequence unit fingerprints of the tissues, (tissues, frames).
    """
    errors, rows = [], []
    for of_anchors, truth in zip(signals, truths, strict=True):
        made = weights @ of_anchors
        errors.append((made / np.linalg.norm(made, axis=1, keepdims=True) - truth).astype(np.float32))
    errors = np.concatenate(errors, axis=1)
    while len(rows) < min(_N_WORST, len(weights) // 2):
        sizes = np.linalg.norm(errors, axis=1)
        row = int(np.argmax(sizes))
        if sizes[row] == 0:
            break
        rows.append(row)
        direction = errors[row] / sizes[row]
        errors -= np.outer(errors @ direction, direction)
    return rows


def learned_columns(matrix: np.ndarray, anchors: np.ndarray, sentinels: np.ndarray) -> np.ndarray:
    """Q with k_b(x) = features of x @ Q, (features, sentinels), for weights of features that are learned.

    Args:
      matrix: M with weights = features @ M, (features, anchors).
      anchors: features of the anchors, (anchors, features).
      sentinels: those of the sentinels, (sentinels, features).
    """
    unexplained = sentinels - (sentinels @ matrix) @ anchors
    return one_at_own(unexplained.T - matrix @ (anchors @ unexplained.T), sentinels)


def one_at_own(columns: np.ndarray, sentinels: np.ndarray) -> np.ndarray:
    """Columns (features, sentinels), scaled so that products with ``sentinels``, (sentinels, features), are 1 at each.

    The column of a sentinel that is an anchor, too, is 0.
    """
    own = np.einsum("ij,ji->i", sentinels, columns)
    known = np.abs(own) <= _KNOWN * np.abs(own).max(initial=0)
    return columns / np.where(known, np.inf, own)
