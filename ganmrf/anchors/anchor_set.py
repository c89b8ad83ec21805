"""Anchors: a few tissues whose signals, combined with the same weights for every sequence, give all other signals."""

import dataclasses
import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

from ganmrf.anchors.families import sample_sequences
from ganmrf.anchors.joint_features import (
    JointFeatures,
    joint_features,
    require_joint_memory,
    simulate_without_echo,
    spread_tissue,
)
from ganmrf.anchors.sentinels import faces_and_corners, joined, spread_to_ends, worst_rows
from ganmrf.gan.least_squares import ridge_path
from ganmrf.metrics import direction_errors
from ganmrf.physics.sequences.blocks import PulseSequence
from ganmrf.physics.slice_profile import SliceModel
from ganmrf.physics.tissue import Tissue
from ganmrf.physics.tissue_box import TissueBox
from ganmrf.pytrees import pytree

LADDER = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512)  # numbers of anchors that a generator has weights for

# Relative to the largest singular value, 1e-7 to 1e-4; the validation sequences choose one of them. Features are made
# from float32 signals: a smaller ridge would fit the rounding of the signals.
_RIDGES = np.sqrt([1e-14, 1e-13, 1e-12, 1e-11, 1e-10, 1e-9, 1e-8])
FEATURES_PER_ANCHOR = 1.5  # above 1, because pivoting chooses no more anchors than there are features
_N_HELD_OUT = 128  # a 99 % quantile needs a hundred; all of them are simulated with every new sequence
_N_VALIDATION = 256
_N_SEQUENCES = 4  # sequences that choices are validated by
_N_POOL = 2048  # tissues among which sentinels are sought: 33 MB of fingerprints of 4 sequences of 1000 frames
_STREAMS = {"sequences": 0, "validation": 1, "held_out": 2, "validation_tissue": 3}  # keys folded from the seed
_MOST_TERMS = 200  # of the polynomial of norms
_MOST_DEGREE = 10


@pytree
@dataclasses.dataclass(frozen=True)
class NormPolynomial:
    """exp of a Chebyshev series in coordinates from 0 to 1.

    Attributes:
      coefficients: one for each product of Chebyshev polynomials, an axis for each coordinate, of length degree + 1.
    """

    coefficients: np.ndarray

    @jax.jit
    def __call__(self, coordinates: jax.Array) -> jax.Array:
        """(atoms,), from (atoms, axes); traceable."""
        n_atoms, size = len(coordinates), self.coefficients.shape[0]
        total = jnp.asarray(self.coefficients, coordinates.dtype).reshape(1, -1, size)
        for axis in reversed(range(coordinates.shape[1])):
            values = _chebyshev(jnp, coordinates[:, axis], size)
            # Added one by one: XLA on CPUs (jaxlib 0.10.2) hands one `jnp.sum` within another to a single call of a
            # library, which gives thousands of atoms other values.
            total = sum(total[..., n] * values[:, n, None] for n in range(size))
            total = total.reshape(n_atoms, -1, size if axis else 1)
        return jnp.exp(total[:, 0, 0])


@dataclasses.dataclass(frozen=True)
class AnchorSet:
    """The anchors of one box of tissue, and the features by which a generator of any kind learns their weights.

    Attributes:
      box: the tissues that generators are made for.
      family: kind of all sequences, one of `families.FAMILIES`.
      joint: features of tissue, shared by all sequences.
      norm: norm of a tissue's joint features; all other fields hold features divided by their norm.
      anchors: most important first, (anchors,).
      features: of the anchors, (anchors, features), float64.
      held_out: tissues that every prepared sequence is checked on, (tissues,).
      validation: tissues by which choices between models are made, (tissues,).
      sequences: sequences by which choices are made; none of the joint features is made from them.
      signals: for each of ``sequences`` the signals of the anchors over their norm, (anchors, columns), and unit
        fingerprints of the validation tissues, (tissues, columns), as `real_columns`.
      pool: tissues that sentinels are chosen from, faces and corners of the box at the end; no anchor is drawn from
        them, (tissues,).
      pool_truths: for each of ``sequences`` their unit fingerprints, (tissues, columns), float32.
    """

    box: TissueBox
    family: str
    joint: JointFeatures
    norm: NormPolynomial
    anchors: Tissue
    features: np.ndarray
    held_out: Tissue
    validation: Tissue
    sequences: list[PulseSequence]
    signals: list[tuple[np.ndarray, np.ndarray]]
    pool: Tissue
    pool_truths: list[np.ndarray]

    @property
    def sizes(self) -> list[int]:
        """Numbers of anchors that generators get weights for."""
        return [size for size in LADDER if size <= self.anchors.size]

    def features_of(self, tissue: Tissue) -> np.ndarray:
        """Joint features over their norm, (atoms, features), float64; every sequence behind them is simulated."""
        return self.joint(tissue) / np.asarray(self.norm(self.box.coordinates(tissue)))[:, None]

    def validation_errors(self, weights: np.ndarray) -> np.ndarray:
        """Relative errors of the validation tissues' fingerprints under all ``sequences``, (sequences * tissues,).

        ``weights`` are those of the validation tissues, (tissues, anchors).
        """
        size = weights.shape[1]
        return np.concatenate([direction_errors(weights @ of[:size], truth) for of, truth in self.signals])

    def sentinels(self, weights: np.ndarray) -> np.ndarray:
        """Rows of the pool that are a generator's sentinels: faces and corners of the box, and the worst tissues.

        ``weights`` are those of the pool, (tissues, anchors), for all anchors.
        """
        n_ends = faces_and_corners(self.box).size
        worst = worst_rows(weights, [of[: weights.shape[1]] for of, _ in self.signals], self.pool_truths)
        ends = range(self.pool.size - n_ends, self.pool.size)
        return np.array([*ends, *(row for row in worst if row not in ends)])


def build_anchor_set(
    box: TissueBox,
    slice_profile: SliceModel | None,
    *,
    family: str = "fisp",
    n_anchors: int,
    n_sequences: int = 16,
    n_frames: int = 1000,
    n_candidates: int = 4096,
    seed: int = 0,
) -> AnchorSet:
    """Draws sequences, simulates tissues spread over the box, and chooses anchors among them.

    Args:
      box: the tissues.
      slice_profile: model of the slice, or None for a uniform one.
      family: kind of the sequences: one of `families.FAMILIES`.
      n_anchors: the largest number of anchors.
      n_sequences: number of sequences that the features are made from.
      n_frames: length of sequences that are not cardiac.
      n_candidates: number of tissues that anchors are chosen from.
      seed: of the sequences and of all tissues.

    Raises:
      ValueError: ``n_anchors`` below 16, above 512 or above ``n_candidates``, or more tissues or sequences than the
        memory holds.
    """
    if not LADDER[0] <= n_anchors <= min(n_candidates, LADDER[-1]):
        raise ValueError(f"n_anchors must be {LADDER[0]} to {min(n_candidates, LADDER[-1])}; got {n_anchors}")
    n_features = int(FEATURES_PER_ANCHOR * n_anchors)
    form = {"slice_profile": slice_profile, "off_resonance": "off_resonance" in box.names}
    require_joint_memory(n_candidates, n_sequences, n_frames, n_features, _N_SEQUENCES * _N_POOL, **form)
    key = jax.random.key(seed)
    keys = {name: jax.random.fold_in(key, stream) for name, stream in _STREAMS.items()}
    candidates = spread_tissue(box, n_candidates, seed)
    sequences = sample_sequences(keys["sequences"], n_sequences, n_frames, family)
    joint, features = joint_features(sequences, slice_profile, candidates, n_features)
    norm = fit_norms(np.asarray(box.coordinates(candidates), float), np.linalg.norm(features, axis=1))
    norms = np.asarray(norm(box.coordinates(candidates)))
    features /= norms[:, None]
    rows = choose_anchors(features, n_anchors)
    anchors, norms = candidates.rows(rows), norms[rows]
    pool = joined(spread_to_ends(box, _N_POOL, seed), faces_and_corners(box))
    held_out, validation = (
        box.spread(jax.random.uniform(keys[name], (number, len(box.names))))
        for name, number in (("held_out", _N_HELD_OUT), ("validation_tissue", _N_VALIDATION))
    )
    unseen, signals, truths = sample_sequences(keys["validation"], _N_SEQUENCES, n_frames, family), [], []
    together, ends = joined(anchors, validation, pool), (n_anchors, n_anchors + _N_VALIDATION)
    for sequence in unseen:  # all at once: numbers of states are chosen anew for every simulation
        of_anchors, truth, of_pool = np.split(simulate_without_echo(sequence, together, slice_profile), ends)
        signals.append((of_anchors / norms[:, None], truth / np.linalg.norm(truth, axis=1, keepdims=True)))
        truths.append((of_pool / np.linalg.norm(of_pool, axis=1, keepdims=True)).astype(np.float32))
    return AnchorSet(
        box=box,
        family=family,
        joint=joint,
        norm=norm,
        anchors=anchors,
        features=features[rows],
        held_out=held_out,
        validation=validation,
        sequences=unseen,
        signals=signals,
        pool=pool,
        pool_truths=truths,
    )


def with_spread_anchors(anchor_set: AnchorSet) -> AnchorSet:
    """An anchor set whose anchors are spread evenly over the box, for interpolation; it has no features of them."""
    box, number = anchor_set.box, anchor_set.anchors.size
    anchors = box.spread(box.sobol(number, 0))
    norms = np.asarray(anchor_set.norm(box.coordinates(anchors)))[:, None]
    signals = [
        (simulate_without_echo(sequence, anchors, anchor_set.joint.slice_profile) / norms, truth)
        for sequence, (_, truth) in zip(anchor_set.sequences, anchor_set.signals, strict=True)
    ]
    return dataclasses.replace(anchor_set, anchors=anchors, features=np.empty((number, 0)), signals=signals)


def choose_anchors(features: np.ndarray, number: int) -> np.ndarray:
    """Rows of ``features`` of which the others are combinations, most important first, (number,).

    The first n of the rows are the choice of n anchors: pivots of a QR decomposition of the transpose.

    Args:
      features: of candidates, (candidates, features), float64.
      number: how many, no more than candidates or features.
    """
    return scipy.linalg.qr(features.T, mode="r", pivoting=True, check_finite=False)[1][:number]


def learned_matrices(anchor_set: AnchorSet, anchors: np.ndarray, validation: np.ndarray) -> dict[int, np.ndarray]:
    """For every number of anchors the matrix M with weights = features @ M, by least squares.

    M is the regularised inverse of the anchors' features: weights of an anchor are that anchor alone.

    Args:
      anchor_set: its validation sequences choose the ridge.
      anchors: features of the anchors, (anchors, features), by the model whose features M multiplies.
      validation: of the validation tissues, (tissues, features), by the same model.

    Returns:
      Number of anchors -> M, (features, number), float64.
    """

    def best(size):
        matrices = list(ridge_path(anchors[:size], np.eye(size), _RIDGES))
        return least(matrices, lambda matrix: anchor_set.validation_errors(validation @ matrix).mean())

    return {size: best(size) for size in anchor_set.sizes}


def features_at(features: Callable, coordinates) -> np.ndarray:
    """Values of a function of coordinates, (atoms, features), in float64; a trunk computes in float32 all the same."""
    with jax.enable_x64(True):
        return np.asarray(_evaluate(features, np.asarray(coordinates, float)), float)


def least(candidates, cost: Callable):
    """The candidate of least cost; candidates whose cost is not finite are passed over."""
    costs = [cost(candidate) for candidate in candidates]
    return candidates[int(np.nanargmin(np.where(np.isfinite(costs), costs, np.inf)))]


_evaluate = jax.jit(lambda features, coordinates: features(coordinates))


def fit_norms(coordinates: np.ndarray, norms: np.ndarray) -> NormPolynomial:
    """The polynomial nearest to log ``norms``, (atoms,), at ``coordinates``, (atoms, axes): float64 least squares."""
    n_atoms, n_axes = coordinates.shape
    terms = _terms(n_axes, min(_MOST_TERMS, n_atoms // 8))
    values = [_chebyshev(np, column, terms.max() + 1) for column in coordinates.T]
    products = np.prod([value[:, degrees] for value, degrees in zip(values, terms.T, strict=True)], axis=0)
    coefficients = np.zeros([terms.max() + 1] * n_axes)
    coefficients[tuple(terms.T)] = np.linalg.lstsq(products, np.log(norms), rcond=None)[0]
    return NormPolynomial(coefficients)


def _terms(n_axes, most):
    """Degrees along each axis, (terms, axes): all terms up to the largest total degree with at most ``most`` terms."""
    for total in range(_MOST_DEGREE, 0, -1):
        terms = [each for each in itertools.product(range(total + 1), repeat=n_axes) if sum(each) <= total]
        if len(terms) <= most:
            break
    return np.array(terms)


def _chebyshev(numpy, x, size):
    """Values of T_0 to T_(size - 1) at 2 x - 1, (atoms, size), by their recurrence."""
    y = 2 * x - 1
    values = [numpy.ones_like(y), y]
    for _ in range(size - 2):
        values.append(2 * y * values[-1] - values[-2])
    return numpy.stack(values, axis=1)
