"""A table: the features of one grid of tissue, simulated once."""

import dataclasses
from typing import ClassVar

import numpy as np

from ganmrf.physics.tissue import TissueModel
from ganmrf.pytrees import pytree


@pytree
@dataclasses.dataclass(frozen=True)
class TableWeights:
    """Weights of anchors for the atoms of one grid; `TrunkWeights` and `RadialWeights` have them for any tissue.

    All three have a ``kind`` for files and reports, ``any_tissue`` and ``matrices``; the other two ``features_for``.

    Attributes:
      tissue: the grid, (atoms,).
      features: of the grid's atoms, (atoms, features), float32.
      matrices: number of anchors -> M with weights = features @ M, (features, number + sentinels), float64.
    """

    kind: ClassVar[str] = "table"
    any_tissue: ClassVar[bool] = False
    tissue: TissueModel
    features: np.ndarray
    matrices: dict[int, np.ndarray]

    def require_own(self, atoms: TissueModel, names: tuple[str, ...]):
        """Raises `ValueError` unless ``atoms`` are those of the grid, compared by the fields ``names``."""
        own = self.tissue
        same = own.shape == atoms.shape and all(  # to a hundred times the rounding of float32
            np.allclose(getattr(own, name), getattr(atoms, name), rtol=1e-5) for name in names
        )
        if not same:
            raise ValueError(
                f"this generator is a table for its own {own.size} atoms; others need one of kind trunk or radial"
            )
