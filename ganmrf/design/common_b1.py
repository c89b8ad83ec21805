"""Tissue in groups of one B1: in a slice the voxels of a group share the rotations of all its positions.

A pulse turns the positions of a slice by angles that B1 scales. Where voxels that are simulated together have B1 of
their own, every voxel needs rotations of its own at every position and frame, which take three to four times as long as
everything else.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ganmrf.physics.slice_profile import FullSlice, PartitionedSlice, SliceModel
from ganmrf.physics.tissue import TissueModel
from ganmrf.pytrees import is_traced

_MOST_FILLED = 2  # how many times as many voxels groups of one size may have: beyond it they cost what they save


@dataclasses.dataclass(frozen=True)
class CommonB1:
    """Voxels of a tissue by their B1, in groups of one size.

    Attributes:
      values: B1 of each group, (groups,).
      rows: voxels of each group, (groups, most); a smaller group is filled with its last voxel.
      place: where each voxel is among all of ``rows``, (voxels,).
    """

    values: np.ndarray
    rows: np.ndarray
    place: np.ndarray

    @classmethod
    def of(cls, tissue: TissueModel) -> "CommonB1":
        """The groups of a tissue that is not traced, of any shape."""
        values, group, sizes = np.unique(
            np.broadcast_to(np.asarray(tissue.b1), tissue.shape).ravel(), return_inverse=True, return_counts=True
        )
        most, order = sizes.max(), np.argsort(group.ravel(), kind="stable")
        rows = np.stack(
            [np.pad(each, (0, most - len(each)), mode="edge") for each in np.split(order, np.cumsum(sizes)[:-1])]
        )
        within = np.concatenate([np.arange(size) for size in sizes])
        place = np.empty(tissue.size, int)
        place[order] = most * group.ravel()[order] + within
        return cls(values, rows, place)

    def map(self, function: Callable, tissue: TissueModel):
        """``function`` of the voxels of each group, one after the other: their tissue, whose B1 is one number.

        What it returns, arrays (voxels, ...), is put together in the order and the shape of ``tissue``.
        """
        fields = {name: jnp.broadcast_to(v, tissue.shape).ravel() for name, v in vars(tissue).items() if v is not None}
        groups = {name: values[self.rows] for name, values in fields.items()}
        groups["b1"] = jnp.asarray(self.values, fields["b1"].dtype)
        found = lax.map(lambda group: function(dataclasses.replace(tissue, **group)), groups)

        def in_order(values):
            values = values.reshape(-1, *values.shape[2:])[self.place]
            return values.reshape(*tissue.shape, *values.shape[1:])

        return jax.tree.map(in_order, found)


def groups_of(tissue: TissueModel, slice_profile: SliceModel | None) -> CommonB1 | None:
    """The groups in which a tissue is best simulated; None for all voxels together."""
    if not isinstance(slice_profile, FullSlice | PartitionedSlice) or is_traced(tissue.b1) or not np.ndim(tissue.b1):
        return None
    groups = CommonB1.of(tissue)
    return groups if groups.rows.size <= _MOST_FILLED * tissue.size else None
