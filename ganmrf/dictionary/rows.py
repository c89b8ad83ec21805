"""Rows of a dictionary that are made, or read, when they are asked for."""

import dataclasses
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class RowsOnDemand:
    """Stands in place of a NumPy array: indexing its first axis makes those rows, so that all need never be in memory.

    Attributes:
      make: from an index of the first axis, any that NumPy takes but a single number, to those rows.
      shape: of all rows together.
      dtype: of the rows.
    """

    make: Callable[..., np.ndarray]
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of entries."""
        return int(np.prod(self.shape))

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows):
        return self.make(slice(*rows.indices(len(self))) if isinstance(rows, slice) else rows)

    def __array__(self, dtype=None, copy=None):
        """All rows, in memory."""
        if copy is False:
            raise ValueError("rows on demand cannot be had without a copy")
        return self[:].astype(dtype or self.dtype, copy=False)
