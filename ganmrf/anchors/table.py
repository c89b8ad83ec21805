"""A table: the features of one grid of tissue, simulated once."""

import dataclasses
from typing import ClassVar

import jax
import numpy as np

from ganmrf.physics.tissue import Tissue
from ganmrf.pytrees import pytree


@pytree
@dataclasses.dataclass(frozen=True)
class TableWeights:
    """Weights of anchors for the atoms of one grid; `TrunkWeights` and `RadialWeights` have them for any tissue.

    All three have a ``kind`` for files and reports, ``any_tissue``, ``matrices``, ``features_of`` and ``at``.

    Attributes:
      tissue: the grid, (atoms,).
      features: of the grid's atoms, (atoms, features), float32.
      matrices: number of anchors -> M with weights = features @ M, (features, number), float64.
    """

    kind: ClassVar[str] = "table"
    any_tissue: ClassVar[bool] = False
    tissue: Tissue
    features: np.ndarray
    matrices: dict[int, np.ndarray]

    def features_of(self, rows: slice, coordinates: jax.Array, n_anchors: int) -> np.ndarray:
        """Features that ``matrices`` multiply, (atoms, features), float64.

        Args:
          rows: of the atoms among all that weights are computed for; a table knows its atoms by their rows.
          coordinates: of those atoms in the unit cube, (atoms, axes), of which trunk and radial are functions.
          n_anchors: number of anchors.
        """
        del coordinates, n_anchors
        return self.features[rows].astype(float)

    def at(self, coordinates: jax.Array, n_anchors: int) -> jax.Array:
        """Raises `ValueError`: the weights of a table are no function of coordinates."""
        del coordinates, n_anchors
        raise ValueError("a table has weights for its own atoms alone: AnchoredGenerator.weights gives them")

    def require_own(self, atoms: Tissue, names: tuple[str, ...]):
        """Raises `ValueError` unless ``atoms`` are those of the grid, compared by the fields ``names``."""
        own = self.tissue
        same = own.shape == atoms.shape and all(  # to a hundred times the rounding of float32
            np.allclose(getattr(own, name), getattr(atoms, name), rtol=1e-5) for name in names
        )
        if not same:
            raise ValueError(
                f"this generator is a table for its own {own.size} atoms; others need one of kind trunk or radial"
            )
