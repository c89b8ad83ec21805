"""Weights over anchors: what a dictionary of some atoms needs of an anchored generator, for every sequence."""

import dataclasses

import numpy as np

from ganmrf.physics.types import Tissue, pytree


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
