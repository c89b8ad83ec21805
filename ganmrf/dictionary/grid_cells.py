"""Cells of a large grid: blocks of neighbouring atoms, in the middle of each of which one atom stands for them all."""

import dataclasses
import math
from typing import NamedTuple

import numpy as np

from ganmrf.dictionary.grid_rows import GridRows


class _Parts(NamedTuple):
    """How a factor of the grid is divided: each cell of the grid has one part of every factor."""

    members: list[np.ndarray]  # numbers of the factor's combinations in each part
    central: np.ndarray  # number of the combination in the middle of each part, (parts,)
    part: np.ndarray  # of each of the factor's combinations, (combinations,)

    @classmethod
    def of(cls, factor, strides) -> "_Parts":
        """Runs of ``strides`` values along each of the factor's axes."""
        places, sizes = factor.places, np.array(factor.number.shape)
        block = places // strides
        ravelled = np.ravel_multi_index(tuple(block.T), tuple(-(-sizes // strides)))
        _, part = np.unique(ravelled, return_inverse=True)
        order = np.argsort(part, kind="stable")
        members = np.split(order, np.flatnonzero(np.diff(part[order])) + 1)
        middle = (block * strides + np.minimum((block + 1) * strides, sizes) - 1) / 2
        away = np.abs(places - middle).max(axis=1)
        central = np.array([rows[np.argmin(away[rows])] for rows in members])
        return cls(members, central, part)


@dataclasses.dataclass(frozen=True)
class GridCells:
    """All atoms of a grid in cells of ``strides`` values along each axis.

    Attributes:
      grid: the grid.
      strides: values of a cell along each axis, by name, in the order of the grid's axes.
      parts: of each factor of the grid.
    """

    grid: GridRows
    strides: dict[str, int]
    parts: tuple[_Parts, ...]

    @classmethod
    def of(cls, grid: GridRows, strides: dict[str, int]) -> "GridCells":
        """Cells of the given numbers of values, by the names of axes."""
        of_factor = ([strides[name] for name in factor.names] for factor in grid.factors)
        return cls(grid, strides, tuple(map(_Parts.of, grid.factors, of_factor)))

    @property
    def size(self) -> int:
        """Number of cells."""
        return math.prod(self._counts)

    @property
    def _counts(self):
        return [len(parts.members) for parts in self.parts]

    @property
    def _combinations(self):
        return [len(factor.places) for factor in self.grid.factors]

    def central(self, cells: np.ndarray) -> np.ndarray:
        """Row of the atom in the middle of each cell, (cells,)."""
        at = np.unravel_index(cells, self._counts)
        numbers = [parts.central[each] for parts, each in zip(self.parts, at, strict=True)]
        return np.ravel_multi_index(numbers, self._combinations)

    def atoms(self, cell: int) -> np.ndarray:
        """Rows of all atoms of a cell, ascending."""
        rows = np.zeros(1, int)
        for parts, at, count in zip(self.parts, np.unravel_index(cell, self._counts), self._combinations, strict=True):
            rows = (rows[:, None] * count + parts.members[at]).ravel()
        return rows

    def at(self, rows: np.ndarray) -> np.ndarray:
        """The cell of each atom, (atoms,)."""
        numbers = np.unravel_index(rows, self._combinations)
        return np.ravel_multi_index(
            [parts.part[each] for parts, each in zip(self.parts, numbers, strict=True)], self._counts
        )


def balanced_strides(grid: GridRows, steps: dict[str, float], most_cells: int) -> dict[str, int]:
    """Strides, by axis, of no more than so many cells, whose atoms are as near to the middle as they can be.

    Args:
      grid: the grid.
      steps: how far apart neighbours along each axis are, by name, rad.
      most_cells: most cells that there may be.
    """
    strides = dict.fromkeys(grid.axes, 1)
    while GridCells.of(grid, strides).size > most_cells:
        # Odd ones, whose cells have a middle; farther steps come where they make the largest extent grow least.
        wider = {n: s + 2 for n, s in strides.items() if s < grid.axes[n].size}
        cost = {name: steps[name] * (wide // 2) for name, wide in wider.items()}
        name = min(cost, key=cost.get)
        strides[name] = wider[name]
    return strides
