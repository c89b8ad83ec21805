"""A generator for any sequence: exact signals of a few anchor tissues, and weights over tissue that never change.

The signal of a tissue x under a sequence is, nearly, a combination of the signals of anchors a::

    s(x) / n(x)  =  sum over a of  w_a(x) s(a) / n(a)

The weights w and the norm n depend on the tissue alone, so they serve every sequence: they are the generator's. A new
sequence is simulated for the anchors (`prepared.prepare`).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.anchors.anchor_set import AnchorSet, NormPolynomial, features_at, learned_matrices
from ganmrf.anchors.radial import fit_radial
from ganmrf.anchors.tissue_box import TissueBox
from ganmrf.parallel import one_blas_thread, run_chunks
from ganmrf.physics.slice_profile import SliceProfile
from ganmrf.physics.tissue import Tissue
from ganmrf.pytrees import pytree

_CHUNK = 2048  # atoms whose weights are computed at a time


@pytree
@dataclasses.dataclass(frozen=True)
class TableFeatures:
    """Features of a fixed grid, simulated once.

    Attributes:
      tissue: the grid.
      values: (atoms, features), float32.
    """

    tissue: Tissue
    values: np.ndarray


@pytree
@dataclasses.dataclass(frozen=True)
class Weights:
    """Made by `AnchoredGenerator.weights`.

    Attributes:
      tissue: the atoms, in one dimension.
      values: combination of the anchors' signals, (atoms, anchors), float32.
      norms: n(x), (atoms,), float32.
    """

    tissue: Tissue
    values: np.ndarray
    norms: np.ndarray

    def rows(self, index) -> "Weights":
        """Those of some atoms, by any index of one dimension."""
        return Weights(self.tissue.rows(index), self.values[index], self.norms[index])


@pytree
@dataclasses.dataclass(frozen=True)
class AnchoredGenerator:
    """Anchors and weights over a box of tissue.

    Attributes:
      box: the tissues that it was made for.
      anchors: most important first, (anchors,): the first ones of them are fewer anchors.
      anchor_norms: n of them, (anchors,), float32.
      norm: n of coordinates.
      slice_profile: quadrature over the slice that the weights hold for, or None for a uniform slice.
      features: what weights are linear in: of coordinates, by a trunk network; a table; or for every number of anchors
        radial basis functions.
      matrices: number of anchors -> features to weights, (features, number), float64.
      held_out: tissues that every prepared sequence is checked on, (tissues,).
      held_out_weights: number of anchors -> their weights, (tissues, number), float32.
      kind: ``trunk``, ``table`` or ``radial``.
    """

    box: TissueBox
    anchors: Tissue
    anchor_norms: np.ndarray
    norm: NormPolynomial
    slice_profile: SliceProfile | None
    features: Any
    matrices: dict[int, np.ndarray]
    held_out: Tissue
    held_out_weights: dict[int, np.ndarray]
    kind: str = dataclasses.field(metadata={"static": True})

    def outside(self, tissue: Tissue) -> np.ndarray:
        """Which atoms lie outside the box, (atoms,), bool."""
        return self.box.outside(tissue)

    def require_inside(self, tissue: Tissue):
        """Raises `ValueError` where an atom lies outside the box; it names the parameter and by how much."""
        self.box.require_inside(tissue)

    @property
    def sizes(self) -> list[int]:
        """Numbers of anchors that there are weights for, ascending."""
        return sorted(self.matrices)

    def require_size(self, n_anchors: int | None) -> int:
        """``n_anchors``, by default the largest; `ValueError` for a number that there are no weights for."""
        if n_anchors is None:
            return self.sizes[-1]
        if n_anchors not in self.sizes:
            raise ValueError(f"n_anchors must be one of {', '.join(map(str, self.sizes))}; got {n_anchors}")
        return n_anchors

    def weights(
        self, tissue: Tissue, n_anchors: int | None = None, *, allow_extrapolation: bool = False, progress: bool = False
    ) -> Weights:
        """The weights of some atoms, to be used with every sequence.

        Args:
          tissue: the atoms, any shape; they are raveled.
          n_anchors: one of ``sizes``; the largest by default.
          allow_extrapolation: whether atoms may lie outside the box.
          progress: whether to show a progress bar.

        Raises:
          ValueError: atoms outside the box, another number of anchors, or a table asked for other atoms than its own.
        """
        n_anchors, atoms = self.require_size(n_anchors), jax.tree.map(np.asarray, tissue.ravel())
        if allow_extrapolation:
            self.box.require_known(atoms)
        else:
            self.require_inside(atoms)
        if self.kind == "table":
            self._require_own(atoms)
        values, norms = np.empty((atoms.size, n_anchors), np.float32), np.empty(atoms.size, np.float32)
        model = self.features[n_anchors] if self.kind == "radial" else self.features

        def chunk(rows, _):
            n_rows = norms[rows].size
            padded = jax.tree.map(lambda leaf: np.resize(leaf[rows], _CHUNK) if leaf.ndim else leaf, atoms)
            places, found = _place(self.box, self.norm, padded)
            norms[rows] = np.asarray(found)[:n_rows]
            features = model.values[rows].astype(float) if self.kind == "table" else features_at(model, places)[:n_rows]
            values[rows] = features @ self.matrices[n_anchors]

        chunks = [slice(start, start + _CHUNK) for start in range(0, atoms.size, _CHUNK)]
        sizes = [norms[rows].size for rows in chunks]
        with one_blas_thread():
            run_chunks(chunk, chunks, sizes=sizes, progress="weights" if progress else None)
        return Weights(atoms, values, norms)

    def weights_at(self, tissue: Tissue, n_anchors: int) -> tuple[jax.Array, jax.Array]:
        """Weights (atoms, anchors) and n (atoms,) as a pure function: traceable, and differentiable in the tissue.

        Radial basis functions need float64 (`jax.enable_x64`).

        Raises:
          ValueError: a table: its weights are no function of the tissue.
        """
        if self.kind == "table":
            raise ValueError("a table has weights for its own atoms alone: AnchoredGenerator.weights gives them")
        places = self.box.coordinates(tissue)
        features = self.features if self.kind == "trunk" else self.features[n_anchors]
        return features(places) @ jnp.asarray(self.matrices[n_anchors], places.dtype), self.norm(places)

    def _require_own(self, atoms):
        own = self.features.tissue
        same = own.shape == atoms.shape and all(
            np.allclose(getattr(own, name), getattr(atoms, name), rtol=1e-5) for name in self.box.names
        )
        if not same:
            raise ValueError(
                f"this generator is a table for its own {own.size} atoms; others need one of kind trunk or radial"
            )


def table_generator(anchor_set: AnchorSet, tissue: Tissue, values: np.ndarray) -> AnchoredGenerator:
    """A generator for a fixed grid.

    Args:
      anchor_set: what it is for.
      tissue: the grid, in one dimension.
      values: its features, by `AnchorSet.features_of`.
    """
    matrices = learned_matrices(anchor_set, anchor_set.features, anchor_set.features_of(anchor_set.validation))
    held_out = anchor_set.features_of(anchor_set.held_out)
    return _assembled(
        anchor_set, TableFeatures(tissue, values.astype(np.float32)), matrices, "table", lambda _: held_out
    )


def trunk_generator(anchor_set: AnchorSet, features: Callable) -> AnchoredGenerator:
    """A generator from a trained trunk (`trunk.TrunkFeatures`)."""

    def at(tissue):
        return features_at(features, anchor_set.box.coordinates(tissue))

    matrices = learned_matrices(anchor_set, at(anchor_set.anchors), at(anchor_set.validation))
    return _assembled(anchor_set, features, matrices, "trunk", lambda _: at(anchor_set.held_out))


def radial_generator(anchor_set: AnchorSet) -> AnchoredGenerator:
    """A generator without learning: radial basis functions over the anchor set's anchors."""
    features, matrices = fit_radial(anchor_set)
    places = anchor_set.box.coordinates(anchor_set.held_out)
    return _assembled(anchor_set, features, matrices, "radial", lambda size: features_at(features[size], places))


def validation_errors(generator: AnchoredGenerator, anchor_set: AnchorSet) -> dict[int, np.ndarray]:
    """Errors on the anchor set's validation sequences and tissues: number of anchors -> (sequences * tissues,)."""
    if generator.kind == "table":
        features = anchor_set.features_of(anchor_set.validation)
        weights = {size: features @ matrix for size, matrix in generator.matrices.items()}
    else:
        weights = {size: generator.weights(anchor_set.validation, size).values for size in generator.sizes}
    return {size: anchor_set.validation_errors(values) for size, values in weights.items()}


def _assembled(anchor_set, features, matrices, kind, held_out_features):
    return AnchoredGenerator(
        box=anchor_set.box,
        anchors=anchor_set.anchors,
        anchor_norms=np.asarray(anchor_set.norm(anchor_set.box.coordinates(anchor_set.anchors))),
        norm=anchor_set.norm,
        slice_profile=anchor_set.joint.slice_profile,
        features=features,
        matrices=matrices,
        held_out=anchor_set.held_out,
        held_out_weights={size: (held_out_features(size) @ m).astype(np.float32) for size, m in matrices.items()},
        kind=kind,
    )


@jax.jit
def _place(box, norm, tissue):
    """Coordinates of tissue, and n there."""
    places = box.coordinates(tissue)
    return places, norm(places)
