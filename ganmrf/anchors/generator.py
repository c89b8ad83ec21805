"""A generator for any sequence: exact signals of a few anchor tissues, and weights that depend on the tissue alone.

The signal of a tissue x under a sequence is, nearly, a combination of the signals of anchors a::

    s(x) / n(x)  =  sum over a of  w_a(x) s(a) / n(a)

The weights w and the norm n are real and depend on the tissue alone, so they serve every sequence of the family that
they were learned from, and a generator holds them. A new sequence is simulated for the anchors (`prepared.prepare`).
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.anchors.anchor_set import AnchorSet, features_at, learned_matrices
from ganmrf.anchors.norms import NormPolynomial, fit_norms
from ganmrf.anchors.radial import RadialWeights, fit_radial, with_sentinels
from ganmrf.anchors.sentinels import joined, learned_columns
from ganmrf.anchors.table import TableWeights
from ganmrf.anchors.trunk import Trunk, TrunkWeights
from ganmrf.parallel import one_blas_thread, run_chunks
from ganmrf.physics.simulate_many import require_signal_memory
from ganmrf.physics.slice_profile import SliceModel
from ganmrf.physics.tissue import TissueModel
from ganmrf.physics.tissue_box import WIDER_BOX, TissueBox
from ganmrf.pytrees import pytree

_LEAST_ERROR = 1e-7  # the rounding of float32 signals: the error of tissues that are anchors
_CHUNK = 2048  # atoms whose weights are computed at a time, by one compiled program


@pytree
@dataclasses.dataclass(frozen=True)
class Weights:
    """Weights of some atoms, by `AnchoredGenerator.weights`: the same for every sequence.

    Attributes:
      tissue: the atoms, in one dimension.
      values: w_a(x), of the anchors' signals, and beside them k_b(x) of all sentinels, which count where the sequence
        needs them (`sentinels`), (atoms, anchors + sentinels), float32.
      norms: n(x), (atoms,), float32.
    """

    tissue: TissueModel
    values: np.ndarray
    norms: np.ndarray

    def rows(self, index) -> "Weights":
        """The weights of some of the atoms, by any index of one dimension."""
        return Weights(self.tissue.rows(index), self.values[index], self.norms[index])


@pytree
@dataclasses.dataclass(frozen=True)
class AnchoredGenerator:
    """Anchors, and their weights over a box of tissue.

    Attributes:
      box: the tissues that the generator was made for.
      anchors: most important first, (anchors,): the first n are the choice of n anchors.
      anchor_norms: n(a), (anchors,), float32.
      norm: n as a function of coordinates in the box.
      slice_profile: model of the slice that the weights were chosen for, or None for a uniform slice; they serve other
        slices, too, with an error that `prepared.prepare` tells.
      model: what the weights are computed by; its ``kind`` is ``trunk``, ``table`` or ``radial``.
      held_out: random tissues that every prepared sequence is checked on, of a table its own atoms, (tissues,).
      sentinels: tissues with the largest errors, faces and corners of the box among them, that every prepared sequence
        is checked on, too, (sentinels,).
      checked_norms: n(x) of ``held_out`` and, behind them, of ``sentinels``, (tissues + sentinels,), float32.
      checked_weights: number of anchors -> `Weights.values` of both, (tissues + sentinels, number + sentinels),
        float32.
      error_shapes: number of anchors -> root mean square error of unit fingerprints over sequences that the weights
        were not learned from, a function of coordinates.
      family: kind of the sequences that the weights were learned from, one of `families.FAMILIES`.
    """

    box: TissueBox
    anchors: TissueModel
    anchor_norms: np.ndarray
    norm: NormPolynomial
    slice_profile: SliceModel | None
    model: TrunkWeights | TableWeights | RadialWeights
    held_out: TissueModel
    sentinels: TissueModel
    checked_norms: np.ndarray
    checked_weights: dict[int, np.ndarray]
    error_shapes: dict[int, NormPolynomial]
    family: str = dataclasses.field(default="fisp", metadata={"static": True})

    def require_inside(self, tissue: TissueModel, advice: str = WIDER_BOX):
        """Raises `ValueError` where an atom lies outside the box, as `TissueBox.require_inside`."""
        self.box.require_inside(tissue, advice)

    @property
    def sizes(self) -> list[int]:
        """Numbers of anchors that there are weights for, ascending."""
        return sorted(self.model.matrices)

    def require_size(self, n_anchors: int | None) -> int:
        """``n_anchors``, by default the largest; `ValueError` for a number that there are no weights for."""
        if n_anchors is None:
            return self.sizes[-1]
        if n_anchors not in self.sizes:
            raise ValueError(f"n_anchors must be one of {', '.join(map(str, self.sizes))}; got {n_anchors}")
        return n_anchors

    def weights(
        self, tissue: TissueModel, n_anchors: int | None = None, *, allow_extrapolation: bool = False
    ) -> Weights:
        """The weights of some atoms, for use with every sequence.

        Args:
          tissue: the atoms, any shape; they are raveled.
          n_anchors: one of ``sizes``; the largest by default.
          allow_extrapolation: whether atoms may lie outside the box.

        Raises:
          ValueError: atoms outside the box, another number of anchors, a table asked for other atoms than its own, or
            more atoms than the memory holds.
        """
        n_anchors, atoms = self.require_size(n_anchors), jax.tree.map(np.asarray, tissue.ravel())
        if allow_extrapolation or not self.model.any_tissue:
            self.box.require_known(atoms)
        else:
            self.require_inside(atoms, "allow_extrapolation generates them all the same")
        if not self.model.any_tissue:
            self.model.require_own(atoms, self.box.names)
        n_columns = n_anchors + self.sentinels.size
        require_signal_memory(atoms.size, n_columns)
        values, norms = np.empty((atoms.size, n_columns), np.float32), np.empty(atoms.size, np.float32)

        def chunk(rows, _):
            n_rows = norms[rows].size
            padded = jax.tree.map(lambda leaf: np.resize(leaf[rows], _CHUNK) if leaf.ndim else leaf, atoms)
            coordinates, found = _place(self.box, self.norm, padded)
            norms[rows] = np.asarray(found)[:n_rows]
            if self.model.any_tissue:
                features = features_at(self.model.features_for(n_anchors), coordinates)[:n_rows]
            else:
                features = self.model.features[rows].astype(float)
            values[rows] = features @ self.model.matrices[n_anchors]

        with one_blas_thread():
            run_chunks(chunk, [slice(start, start + _CHUNK) for start in range(0, atoms.size, _CHUNK)])
        return Weights(atoms, values, norms)

    def weights_at(self, tissue: TissueModel, n_anchors: int) -> tuple[jax.Array, jax.Array]:
        """Weights (atoms, anchors) and n (atoms,) as a pure function: traceable, and differentiable in the tissue.

        Radial basis functions need float64 (`jax.enable_x64`).

        Raises:
          ValueError: a table: its weights are no function of the tissue.
        """
        if not self.model.any_tissue:
            raise ValueError("a table has weights for its own atoms alone: AnchoredGenerator.weights gives them")
        coordinates = self.box.coordinates(tissue)
        matrix = jnp.asarray(self.model.matrices[n_anchors][:, :n_anchors], coordinates.dtype)
        return self.model.features_for(n_anchors)(coordinates) @ matrix, self.norm(coordinates)


def table_generator(anchor_set: AnchorSet, tissue: TissueModel, features: np.ndarray) -> AnchoredGenerator:
    """A generator for the atoms of one grid, of which some are its held-out tissues: errors that are told are theirs.

    Args:
      anchor_set: its anchors.
      tissue: the grid, in one dimension.
      features: of the grid, by `AnchorSet.features_of`.
    """
    # One of each stretch of neighbours on the grid: their mean is nearer to that of all atoms than of any so many.
    edges = np.linspace(0, tissue.size, min(anchor_set.held_out.size, tissue.size) + 1).astype(int)
    some = np.random.default_rng(0).integers(edges[:-1], edges[1:])
    anchor_set = dataclasses.replace(anchor_set, held_out=tissue.rows(some))
    both = anchor_set.features_of(joined(anchor_set.validation, anchor_set.pool))
    validation, pool = np.split(both, [anchor_set.validation.size])
    known = anchor_set.features, validation, features[some], pool
    features = features.astype(np.float32)
    return _learned(anchor_set, *known, lambda matrices: TableWeights(tissue, features, matrices))


def trunk_generator(anchor_set: AnchorSet, trunk: Trunk) -> AnchoredGenerator:
    """A generator for any tissue of the box, from a trained trunk (`trunk.finish_trunk`)."""

    def at(tissue):
        return features_at(trunk, anchor_set.box.coordinates(tissue))

    known = map(at, (anchor_set.anchors, anchor_set.validation, anchor_set.held_out, anchor_set.pool))
    return _learned(anchor_set, *known, lambda matrices: TrunkWeights(trunk, matrices))


def radial_generator(anchor_set: AnchorSet) -> AnchoredGenerator:
    """A generator for any tissue of the box without learning: radial basis functions around the anchors."""
    model, size = fit_radial(anchor_set), anchor_set.sizes[-1]
    held_out, pool = (np.asarray(anchor_set.box.coordinates(each)) for each in (anchor_set.held_out, anchor_set.pool))
    rows = anchor_set.sentinels(features_at(model.features[size], pool) @ model.matrices[size])
    model, checked = with_sentinels(model, pool[rows]), np.concatenate([held_out, pool[rows]])
    at = {size: features_at(features, np.concatenate([checked, pool])) for size, features in model.features.items()}
    return _assembled(anchor_set, model, rows, lambda size: np.split(at[size], [len(checked)]))


def validation_errors(generator: AnchoredGenerator, anchor_set: AnchorSet) -> dict[int, np.ndarray]:
    """Errors on the anchor set's validation sequences and tissues: number of anchors -> (sequences * tissues,)."""
    if generator.model.any_tissue:
        weights = {size: generator.weights(anchor_set.validation, size).values for size in generator.sizes}
    else:
        features = anchor_set.features_of(anchor_set.validation)
        weights = {size: features @ matrix for size, matrix in generator.model.matrices.items()}
    return {size: anchor_set.validation_errors(values[:, :size]) for size, values in weights.items()}


def _learned(anchor_set, anchors, validation, held_out, pool, model):
    """A generator whose weights are features times matrices, from the features of all these tissues."""
    matrices = learned_matrices(anchor_set, anchors, validation)
    rows = anchor_set.sentinels(pool @ matrices[anchor_set.sizes[-1]])
    for size, matrix in matrices.items():
        matrices[size] = np.hstack([matrix, learned_columns(matrix, anchors[:size], pool[rows])])
    checked = np.concatenate([held_out, pool[rows]])
    return _assembled(anchor_set, model(matrices), rows, lambda _: (checked, pool))


def _assembled(anchor_set, model, rows, features):
    """The generator; ``features`` gives those of checked tissues and of the pool for a number of anchors."""
    sentinels, pool = anchor_set.pool.rows(rows), np.asarray(anchor_set.box.coordinates(anchor_set.pool), float)
    weights, shapes = {}, {}
    for size, matrix in model.matrices.items():
        of_checked, of_pool = features(size)
        weights[size] = (of_checked @ matrix).astype(np.float32)
        errors = anchor_set.pool_errors(of_pool @ matrix[:, :size])
        shapes[size] = fit_norms(pool, np.maximum(errors, _LEAST_ERROR))

    def norms(tissue):
        return np.asarray(anchor_set.norm(anchor_set.box.coordinates(tissue)))

    return AnchoredGenerator(
        box=anchor_set.box,
        anchors=anchor_set.anchors,
        anchor_norms=norms(anchor_set.anchors),
        norm=anchor_set.norm,
        slice_profile=anchor_set.slice_profile,
        model=model,
        held_out=anchor_set.held_out,
        sentinels=sentinels,
        checked_norms=norms(joined(anchor_set.held_out, sentinels)),
        checked_weights=weights,
        error_shapes=shapes,
        family=anchor_set.family,
    )


@jax.jit
def _place(box, norm, tissue):
    """Coordinates of tissue in the box, and n(x)."""
    coordinates = box.coordinates(tissue)
    return coordinates, norm(coordinates)
