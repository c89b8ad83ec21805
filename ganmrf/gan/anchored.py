"""A generator for any sequence: exact signals of a few anchor tissues, and weights over tissue that never change.

The signal of a tissue x under a sequence is, nearly, a combination of the signals of anchors a::

    s(x) / n(x)  =  sum over a of  w_a(x) s(a) / n(a)

with weights w and a length n that depend on tissue alone. A new sequence is simulated for the anchors
(`AnchoredGenerator.prepare`); the weights are the generator's.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.gan.anchors import Foundation, features_at, learned_matrices
from ganmrf.gan.norms import NormPolynomial
from ganmrf.gan.prepared import Prepared, prepare
from ganmrf.gan.radial import fit_radial
from ganmrf.gan.tissue_box import TissueBox
from ganmrf.gan.weights import Weights
from ganmrf.physics.slice_profile import SliceProfile
from ganmrf.physics.types import Sequence, Tissue, pytree
from ganmrf.physics.workers import one_blas_thread, run_chunks

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

    def prepare(self, sequence: Sequence, n_anchors: int | None = None, *, accuracy: float | None = None) -> Prepared:
        """Simulates the anchors of a sequence, and held-out tissues that tell the error.

        Args:
          sequence: any MRF-FISP sequence, of any length, not traced.
          n_anchors: how many anchors, one of ``sizes``; the largest by default.
          accuracy: in place of ``n_anchors``: the fewest anchors with which the 99 % quantile of the held-out tissues'
            errors is no larger.

        Returns:
          What generates dictionaries of that sequence.

        Raises:
          ValueError: another number of anchors, an accuracy that is not positive or that no number of anchors reaches,
            or anchors whose signal is not finite or nothing.
        """
        if accuracy is None:
            return prepare(self, sequence, [self.require_size(n_anchors)])
        if n_anchors is not None:
            raise ValueError("n_anchors and accuracy do not go together")
        if not accuracy > 0:
            raise ValueError(f"accuracy must be positive; got {accuracy}")
        return prepare(self, sequence, self.sizes, accuracy)

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


def table_generator(foundation: Foundation, tissue: Tissue, values: np.ndarray) -> AnchoredGenerator:
    """A generator for a fixed grid.

    Args:
      foundation: what it is for.
      tissue: the grid, in one dimension.
      values: its features, by `Foundation.features_of`.
    """
    matrices = learned_matrices(foundation, foundation.features, foundation.features_of(foundation.validation))
    held_out = foundation.features_of(foundation.held_out)
    return _assembled(
        foundation, TableFeatures(tissue, values.astype(np.float32)), matrices, "table", lambda _: held_out
    )


def trunk_generator(foundation: Foundation, features: Callable) -> AnchoredGenerator:
    """A generator from a trained trunk (`trunk.TrunkFeatures`)."""

    def at(tissue):
        return features_at(features, foundation.box.coordinates(tissue))

    matrices = learned_matrices(foundation, at(foundation.anchors), at(foundation.validation))
    return _assembled(foundation, features, matrices, "trunk", lambda _: at(foundation.held_out))


def radial_generator(foundation: Foundation) -> AnchoredGenerator:
    """A generator without learning: radial basis functions over the foundation's anchors."""
    features, matrices = fit_radial(foundation)
    places = foundation.box.coordinates(foundation.held_out)
    return _assembled(foundation, features, matrices, "radial", lambda size: features_at(features[size], places))


def validation_errors(generator: AnchoredGenerator, foundation: Foundation) -> dict[int, np.ndarray]:
    """Errors on the foundation's validation sequences and tissues: number of anchors -> (sequences * tissues,)."""
    if generator.kind == "table":
        features = foundation.features_of(foundation.validation)
        weights = {size: features @ matrix for size, matrix in generator.matrices.items()}
    else:
        weights = {size: generator.weights(foundation.validation, size).values for size in generator.sizes}
    return {size: foundation.validation_errors(values) for size, values in weights.items()}


def _assembled(foundation, features, matrices, kind, held_out_features):
    return AnchoredGenerator(
        box=foundation.box,
        anchors=foundation.anchors,
        anchor_norms=np.asarray(foundation.norm(foundation.box.coordinates(foundation.anchors))),
        norm=foundation.norm,
        slice_profile=foundation.joint.slice_profile,
        features=features,
        matrices=matrices,
        held_out=foundation.held_out,
        held_out_weights={size: (held_out_features(size) @ m).astype(np.float32) for size, m in matrices.items()},
        kind=kind,
    )


@jax.jit
def _place(box, norm, tissue):
    """Coordinates of tissue, and n there."""
    places = box.coordinates(tissue)
    return places, norm(places)
