"""Anchors: a few tissues whose signals, combined with the same weights for every sequence, give all other signals."""

import dataclasses
from collections.abc import Callable

import jax
import numpy as np
import scipy.linalg

from ganmrf.anchors.families import sample_sequences
from ganmrf.anchors.joint_features import (
    JointFeatures,
    joint_features,
    require_joint_memory,
    signals_are_complex,
    simulate_without_echo,
    spread_tissue,
)
from ganmrf.anchors.norms import NormPolynomial, fit_norms
from ganmrf.anchors.sentinels import ends_of, faces_and_corners, joined, spread_to_ends, worst_rows
from ganmrf.gan.least_squares import ridge_path
from ganmrf.metrics import direction_errors
from ganmrf.physics.sequences.blocks import PulseSequence
from ganmrf.physics.slice_profile import SliceModel
from ganmrf.physics.tissue import TISSUES, TissueModel, parameters
from ganmrf.physics.tissue_box import TissueBox
from ganmrf.progress import watched

# Numbers of anchors that a generator has weights for.
LADDER = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)

# Relative to the largest singular value, 1e-7 to 1e-4; the validation sequences choose one of them. Features are made
# from float32 signals: a smaller ridge would fit the rounding of the signals.
_RIDGES = np.sqrt([1e-14, 1e-13, 1e-12, 1e-11, 1e-10, 1e-9, 1e-8])
FEATURES_PER_ANCHOR = 1.5  # above 1, because pivoting chooses no more anchors than there are features
_N_HELD_OUT = 128  # a 99 % quantile needs a hundred; all of them are simulated with every new sequence
_N_VALIDATION = 256
IN_SLICE = 2  # sequences that are simulated in the slice: without any, errors in a slice are twice as large
_N_SEQUENCES = 4  # sequences that choices are validated by
_N_POOL = 2048  # tissues among which sentinels are sought: 33 MB of fingerprints of 4 sequences of 1000 frames
_N_MOVED = 16  # tissues in which each parameter is moved, to see whether sequences see it
_UNSEEN = 1e-4  # relative change of signals from one end of a range to the other: below the errors of generators
_NO_SIGNAL = 1e-3  # of the median signal; float32 signals of less are known to no better than 1e-4
_STREAMS = {"sequences": 0, "validation": 1, "held_out": 2, "validation_tissue": 3}  # keys folded from the seed


@dataclasses.dataclass(frozen=True)
class AnchorSet:
    """The anchors of one box of tissue, and the features by which a generator of any kind learns their weights.

    Attributes:
      box: the tissues that generators are made for.
      family: kind of all sequences, one of `families.FAMILIES`.
      slice_profile: model of the slice that choices are made for, or None for a uniform one.
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
    slice_profile: SliceModel | None
    joint: JointFeatures
    norm: NormPolynomial
    anchors: TissueModel
    features: np.ndarray
    held_out: TissueModel
    validation: TissueModel
    sequences: list[PulseSequence]
    signals: list[tuple[np.ndarray, np.ndarray]]
    pool: TissueModel
    pool_truths: list[np.ndarray]

    @property
    def sizes(self) -> list[int]:
        """Numbers of anchors that generators get weights for."""
        return [size for size in LADDER if size <= self.anchors.size]

    def features_of(self, tissue: TissueModel) -> np.ndarray:
        """Joint features over their norm, (atoms, features), float64; every sequence behind them is simulated."""
        return self.joint(tissue) / np.asarray(self.norm(self.box.coordinates(tissue)))[:, None]

    def validation_errors(self, weights: np.ndarray) -> np.ndarray:
        """Relative errors of the validation tissues' fingerprints under all ``sequences``, (sequences * tissues,).

        ``weights`` are those of the validation tissues, (tissues, anchors).
        """
        size = weights.shape[1]
        return np.concatenate([direction_errors(weights @ of[:size], truth) for of, truth in self.signals])

    def pool_errors(self, weights: np.ndarray) -> np.ndarray:
        """Root mean square over all ``sequences`` of the pool's relative errors, (tissues,).

        ``weights`` are those of the pool, (tissues, anchors).
        """
        size = weights.shape[1]
        pairs = zip(self.signals, self.pool_truths, strict=True)
        return np.sqrt(np.mean([direction_errors(weights @ of[:size], truth) ** 2 for (of, _), truth in pairs], axis=0))

    def sentinels(self, weights: np.ndarray) -> np.ndarray:
        """Rows of the pool that are a generator's sentinels: faces (and corners) of the box, and the worst tissues.

        ``weights`` are those of the pool, (tissues, anchors), for all anchors.
        """
        n_ends = ends_of(self.box)
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
    n_in_slice: int | None = None,
    repetition_time: float | None = None,
    seed: int = 0,
    progress: bool = False,
) -> AnchorSet:
    """Draws sequences, simulates tissues spread over the box, and chooses anchors among them.

    Args:
      box: the tissues.
      slice_profile: model of the slice that choices are made for, or None for a uniform one.
      family: kind of the sequences: one of `families.FAMILIES`.
      n_anchors: the largest number of anchors.
      n_sequences: number of sequences that the features are made from.
      n_frames: length of sequences that are not cardiac.
      n_candidates: number of tissues that anchors are chosen from.
      n_in_slice: how many of the sequences are simulated in the slice (`joint_features`); by default 2 at most.
      repetition_time: of all sequences, s, of a family that has one; None for random ones.
      seed: of the sequences and of all tissues.
      progress: whether to show progress bars with an estimate of the time left.

    Raises:
      ValueError: ``n_anchors`` below 16, above 2048 or above ``n_candidates``; an axis of the box that the sequences do
        not see, or that begins where nothing is left of signals; or more tissues or sequences than the memory holds.
    """
    if not LADDER[0] <= n_anchors <= min(n_candidates, LADDER[-1]):
        raise ValueError(f"n_anchors must be {LADDER[0]} to {min(n_candidates, LADDER[-1])}; got {n_anchors}")
    n_features = int(FEATURES_PER_ANCHOR * n_anchors)
    is_complex, n_kept = signals_are_complex(box, slice_profile), _N_SEQUENCES * _N_POOL
    require_joint_memory(n_candidates, n_sequences, n_frames, n_features, n_kept, is_complex=is_complex)
    key = jax.random.key(seed)
    keys = {name: jax.random.fold_in(key, stream) for name, stream in _STREAMS.items()}
    candidates = spread_tissue(box, n_candidates, seed)
    form = {"family": family, "tissue": TISSUES[box.kind], "repetition_time": repetition_time}
    sequences = sample_sequences(keys["sequences"], n_sequences, n_frames, **form)
    n_in_slice = min(IN_SLICE if n_in_slice is None else n_in_slice, n_sequences)
    slices = [slice_profile] * n_in_slice + [None] * (n_sequences - n_in_slice)
    joint, features = joint_features(sequences, slices, candidates, n_features, progress=progress)
    require_seen(box, joint)
    require_signal(box, candidates, np.linalg.norm(features, axis=1))
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
    unseen = sample_sequences(keys["validation"], _N_SEQUENCES, n_frames, **form)
    signals, truths = _unseen_signals(unseen, slice_profile, (anchors, validation, pool), norms, progress)
    return AnchorSet(
        box=box,
        family=family,
        slice_profile=slice_profile,
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


def _unseen_signals(sequences, slice_profile, tissues, norms, progress):
    """What an `AnchorSet` holds of sequences that nothing is learned from: its ``signals``, and its ``pool_truths``.

    The ``tissues`` are the anchors, of these norms, those of the validation, and the pool.
    """
    signals, truths = [], []
    together, ends = joined(*tissues), np.cumsum([each.size for each in tissues[:-1]])
    for sequence in watched(sequences, "simulating unseen sequences", shown=progress):
        # All at once: numbers of states are chosen anew for every simulation.
        of_anchors, truth, of_pool = np.split(simulate_without_echo(sequence, slice_profile, together), ends)
        signals.append((of_anchors / norms[:, None], truth / np.linalg.norm(truth, axis=1, keepdims=True)))
        truths.append((of_pool / np.linalg.norm(of_pool, axis=1, keepdims=True)).astype(np.float32))
    return signals, truths


def require_seen(box: TissueBox, joint: JointFeatures):
    """Raises `ValueError` with the names of axes of a box that change no signal of the sequences of ``joint``.

    Each parameter is moved from one end of its range to the other, in some tissues.
    """
    places = np.random.default_rng(0).random((_N_MOVED, len(box.names)))
    moved = np.repeat(places[None], 2 * len(box.names), axis=0)
    for axis in range(len(box.names)):
        moved[2 * axis : 2 * axis + 2, :, axis] = [[0.0], [0.45 if box.names[axis] in box.periodic else 1.0]]
    features = joint(box.spread(moved.reshape(-1, len(box.names)))).reshape(len(box.names), 2, _N_MOVED, -1)
    changes = np.linalg.norm(features[:, 0] - features[:, 1], axis=-1) / np.linalg.norm(features[:, 0], axis=-1)
    if unseen := [name for name, of in zip(box.names, changes, strict=True) if of.max() < _UNSEEN]:
        raise ValueError(
            f"TissueBox.names: {', '.join(unseen)} changes no signal of the sequences that a generator of this box "
            "learns from: leave it out of the axes"
        )


def require_signal(box: TissueBox, tissue: TissueModel, norms: np.ndarray):
    """Raises `ValueError` where some tissues of a box have next to no signal, whose direction is rounding alone."""
    if norms.min() >= _NO_SIGNAL * np.median(norms):
        return
    worst = jax.tree.map(np.asarray, tissue.rows(np.array([np.argmin(norms)])))
    facts = parameters(tissue)
    values = ", ".join(
        f"{name} = {np.ravel(getattr(worst, name))[0]:.3g} {facts[name].unit}".strip() for name in box.names
    )
    raise ValueError(
        f"the box holds tissue with {norms.min() / np.median(norms):.1g} of the usual signal, which no anchor shows: "
        f"{values}; begin its times higher"
    )


def with_spread_anchors(anchor_set: AnchorSet) -> AnchorSet:
    """An anchor set whose anchors are spread evenly over the box, for interpolation; it has no features of them."""
    box, number = anchor_set.box, anchor_set.anchors.size
    anchors = box.spread(box.sobol(number, 0))
    norms = np.asarray(anchor_set.norm(box.coordinates(anchors)))[:, None]
    signals = [
        (simulate_without_echo(sequence, anchor_set.slice_profile, anchors) / norms, truth)
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
