"""Anchors of a design: chosen for its own tissue, and weights that are solved for, not learned by a network.

A design knows its tissue before it begins. Signals of that tissue and their derivatives, under some sequences like
those that the search may try, say how they combine from the signals of anchors, by least squares. Nothing is trained,
and derivatives are as well known as signals: those of `generator_model` are of a network that was made for any tissue.

Most of the sequences are simulated for a uniform slice, at a hundredth of the cost of a full one: a slice is a sum over
positions with flip angles of their own, and weights that hold for every sequence hold for it, too, but for what a
spoiler leaves. Sequences in the slice itself choose the ridge.
"""

import dataclasses

import jax
import numpy as np

from ganmrf.anchors.anchor_set import choose_anchors
from ganmrf.anchors.echoes import without_echo
from ganmrf.anchors.sentinels import joined
from ganmrf.design.combined import CombinedSignals
from ganmrf.dictionary.compress import svd_basis
from ganmrf.gan.least_squares import ridge_path
from ganmrf.gan.real_columns import real_columns
from ganmrf.physics.n_states import choose_n_states, sufficient_n_states
from ganmrf.physics.pools import slowest_t2
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.simulate import simulate_with_tangents, unknowns
from ganmrf.physics.simulate_many import simulate_many
from ganmrf.physics.slice_profile import SliceModel
from ganmrf.physics.tissue import TissueModel
from ganmrf.physics.tissue_box import box_of

_CANDIDATES = 512  # tissues that anchors are chosen from, beside those of the design
_WIDER = 0.1  # of each range at either end, so that anchors stand on both sides of every tissue: derivatives want that
_LEAST_WIDER = 0.2  # relative to the larger end: ranges may be empty
_RANK = 110  # of each sequence's basis, as of `joint_features`
_ACCURACY = 1e-5  # of signals, as there
_RIDGES = np.sqrt([1e-14, 1e-13, 1e-12, 1e-11, 1e-10, 1e-9, 1e-8])  # as of `anchor_set`


@dataclasses.dataclass(frozen=True)
class OwnAnchors:
    """Anchors of one tissue, and what their weights are solved from.

    What differs in B1 alone is one of the ``distinct`` tissues.

    Attributes:
      tissue: what they are for, of any shape.
      names: what is unknown of it.
      slice_profile: model of the slice; None for a uniform one.
      anchors: most important first, (anchors,).
      features: of the anchors, over ``norms``, (anchors, features), float64.
      norms: of the anchors' features, (anchors,).
      targets: features of the distinct tissues, and their derivatives by each of ``names``, SI,
        (1 + names, distinct, features).
      distinct: which of them each voxel is, (voxels,).
      checked: for each sequence in the slice real columns of signals of the anchors, (anchors, columns), and of the
        tissues as ``targets`` are, (1 + names, distinct, columns).
    """

    tissue: TissueModel
    names: tuple[str, ...]
    slice_profile: SliceModel | None
    anchors: TissueModel
    features: np.ndarray
    norms: np.ndarray
    targets: np.ndarray
    distinct: np.ndarray
    checked: list[tuple[np.ndarray, np.ndarray]]

    def model(self, n_anchors: int, *, n_states: int | None = None) -> CombinedSignals:
        """The signal model that combines the first ``n_anchors``; ``n_states`` is that of `simulate`.

        Raises:
          ValueError: more anchors than there are, or none.
        """
        if not 1 <= n_anchors <= self.anchors.size:
            raise ValueError(f"n_anchors must be 1 to {self.anchors.size}; got {n_anchors}")
        own = slice(n_anchors)
        inverses = ridge_path(self.features[own], np.eye(n_anchors), _RIDGES)
        values = min((self.targets @ (each / self.norms[own]) for each in inverses), key=self._error)
        form = {"slice_profile": self.slice_profile, "n_states": n_states}
        every = values[:, self.distinct]
        return CombinedSignals(self.tissue, self.names, self.anchors.rows(own), every, at_each_b1=True, **form)

    def _error(self, values):
        """Mean relative error of signals and derivatives under the sequences that are checked."""
        errors = []
        for of_anchors, truth in self.checked:
            off = values @ of_anchors[: values.shape[-1]] - truth
            errors.append(np.mean(np.linalg.norm(off, axis=-1) / np.linalg.norm(truth, axis=-1)))
        return np.mean(errors)


def own_anchors(
    sequences: list[Fisp],
    checked: list[Fisp],
    tissue: TissueModel,
    *,
    n_anchors: int,
    parameters: tuple[str, ...] | None = None,
    slice_profile: SliceModel | None = None,
    seed: int = 0,
) -> OwnAnchors:
    """Chooses anchors for a tissue.

    Args:
      sequences: sequences like those that the anchors will be used for, which are simulated for a uniform slice; lower
        flip angles, as a slice has at its sides, should be among theirs.
      checked: further ones, which are simulated in the slice.
      tissue: the tissue, of any shape, whose B1 is known.
      n_anchors: most anchors.
      parameters: names of what is unknown; None for T1 and T2.
      slice_profile: model of the slice; None for a uniform one.
      seed: of the tissues that anchors are chosen from.

    Raises:
      ValueError: B1 among the ``parameters``, or what `simulate_with_tangents` raises.
    """
    names = unknowns(tissue, parameters)
    if "b1" in names:
        raise ValueError("parameters: anchors of a design are simulated at each B1, which must be known")
    flat, distinct = _distinct(tissue)
    box = box_of(flat, axes=names, margin=_WIDER, least_margin=_LEAST_WIDER)
    candidates = joined(flat, jax.tree.map(np.asarray, box.spread(box.sobol(_CANDIDATES, seed))))
    rows, targets = [], []
    # More states than are needed, for all sequences: each number of them is a program to compile.
    most = int(max(np.max(sufficient_n_states(each, slowest_t2(flat), _ACCURACY)) for each in sequences))
    for sequence in sequences:
        signals = _signals(sequence, candidates, None)
        basis = svd_basis(signals, min(_RANK, *signals.shape)) / np.sqrt(np.mean(signals**2) * signals.shape[1])
        rows.append(signals @ basis)
        targets.append(_with_derivatives(sequence, flat, names, None, most) @ basis)
    rows = np.concatenate(rows, axis=1)
    norms = np.linalg.norm(rows, axis=1)
    rows /= norms[:, None]
    chosen = choose_anchors(rows, min(n_anchors, *rows.shape))
    anchors = candidates.rows(chosen)
    finest = max(choose_n_states(each, flat, slice_profile=slice_profile) for each in checked)
    in_slice = [
        (_signals(each, anchors, slice_profile), _with_derivatives(each, flat, names, slice_profile, finest))
        for each in checked
    ]
    targets = np.concatenate(targets, axis=-1)
    return OwnAnchors(tissue, names, slice_profile, anchors, rows[chosen], norms[chosen], targets, distinct, in_slice)


def _distinct(tissue):
    """The tissues that differ in more than B1, whose B1 is 1, and which of them each voxel is."""
    flat = jax.tree.map(np.asarray, tissue.ravel())
    columns = [np.broadcast_to(v, flat.shape) for name, v in vars(flat).items() if v is not None and name != "b1"]
    _, first, which = np.unique(np.stack(columns), axis=1, return_index=True, return_inverse=True)
    return dataclasses.replace(flat.rows(first), b1=np.float32(1)), which.ravel()


def _signals(sequence, tissue, slice_profile):
    """Real columns of signals where they are combined, (voxels, columns), float64."""
    form = {"accuracy": _ACCURACY, "slice_profile": slice_profile}
    return real_columns(simulate_many(without_echo(sequence, tissue), tissue, **form)).astype(float)


def _with_derivatives(sequence, tissue, names, slice_profile, n_states):
    """Real columns of signals and their derivatives by ``names``, SI, (1 + names, voxels, columns), float64."""
    form = {"parameters": names, "n_states": n_states, "slice_profile": slice_profile}
    found = simulate_with_tangents(without_echo(sequence, tissue), tissue, **form)
    every = found.signal, *(found.by[name] for name in names)
    return np.stack([real_columns(np.asarray(each)) for each in every]).astype(float)
