"""A grid of which only the atoms that are asked for are ever made: atoms by their rows, and rows by places on axes.

Which combinations tissue can have is a question of T1 and T2, and one of the second pool: the atoms of a grid are all
combinations of a B1, a pair of T1 and T2, a second pool and an off-resonance. Such a *factor* is a short list, so that
neither the atoms nor a mark for each of them need be in memory.
"""

import dataclasses
import math
from typing import NamedTuple

import numpy as np

from ganmrf.dictionary.grids import fields_of_grid
from ganmrf.physics.tissue import ORDERED_TIMES, TISSUES, Tissue, TissueModel, parameters


class Factor(NamedTuple):
    """Axes of a grid whose values go together.

    Attributes:
      names: of the axes, slowest first.
      places: place on each axis of every combination that tissue can have, in their order, (combinations, axes).
      number: of the combination at each place, -1 where there is none, of the axes' shape.
    """

    names: tuple[str, ...]
    places: np.ndarray
    number: np.ndarray

    @classmethod
    def of(cls, possible: np.ndarray, names) -> "Factor":
        """The factor of axes with these names; ``possible``, of their shape, marks what tissue can have."""
        number = np.where(possible, np.cumsum(possible).reshape(possible.shape) - 1, -1)
        return cls(tuple(names), np.stack(np.nonzero(possible), axis=1), number)


@dataclasses.dataclass(frozen=True)
class GridRows:
    """The atoms of `pool_grid`, each of which is made when its row is asked for.

    Attributes:
      kind: of tissue, a name of `TISSUES`.
      fixed: fields without an axis, by name.
      axes: values of each axis, by name, slowest first.
      factors: of the grid, slowest first; their axes are those of ``axes``, in order.
    """

    kind: str
    fixed: dict
    axes: dict[str, np.ndarray]
    factors: tuple[Factor, ...]

    @classmethod
    def of(cls, kind: str, **axes) -> "GridRows":
        """The grid that `pool_grid` makes of the same arguments; its errors are the same, but that of memory."""
        given, values = fields_of_grid(kind, axes)
        for t1, t2 in ORDERED_TIMES:
            if t2 in values and values[t2].min() > values[t1].max():
                raise ValueError(f"no pair of the given {t1.upper()} and {t2.upper()} has {t2.upper()} <= {t1.upper()}")
        on_axes = {name: np.atleast_1d(each) for name, each in values.items() if each.ndim or name in ("t1", "t2")}
        fixed = {name: each for name, each in given.items() if name not in on_axes}
        own = [name for name in on_axes if name not in parameters(Tissue)]
        factors = []
        for names in (["b1"], ["t1", "t2"], own, ["off_resonance"]):
            names = [name for name in names if name in on_axes]
            if names:
                factors.append(Factor.of(_possible(values, on_axes, names), names))
        ordered = {name: on_axes[name] for factor in factors for name in factor.names}
        return cls(kind, fixed, ordered, tuple(factors))

    @property
    def size(self) -> int:
        """Number of atoms."""
        return math.prod(len(factor.places) for factor in self.factors)

    def places(self, rows) -> np.ndarray:
        """Place of some atoms on each axis, (atoms, axes); ``rows`` are 0 to the size."""
        parts = np.unravel_index(rows, [len(factor.places) for factor in self.factors])
        return np.concatenate([each.places[part] for each, part in zip(self.factors, parts, strict=True)], axis=1)

    def rows_at(self, places: np.ndarray) -> np.ndarray:
        """Rows of the atoms at places on each axis, (atoms, axes); -1 where an axis ends or tissue cannot be."""
        sizes = np.array([axis.size for axis in self.axes.values()])
        inside, first = ((places >= 0) & (places < sizes)).all(axis=1), 0
        places, rows = np.clip(places, 0, sizes - 1), np.zeros(len(places), int)
        for factor in self.factors:
            number = factor.number[tuple(places[:, first : first + len(factor.names)].T)]
            inside &= number >= 0
            rows, first = rows * len(factor.places) + number, first + len(factor.names)
        return np.where(inside, rows, -1)

    def tissue(self, rows) -> TissueModel:
        """The atoms in these rows: what `pool_grid` has there."""
        values = zip(self.axes.items(), self.places(rows).T, strict=True)
        return TISSUES[self.kind](**self.fixed | {name: axis[place] for (name, axis), place in values})


def _possible(values, axes, names):
    """Which combinations of the axes of a factor tissue can have, of their shape; of empty second pools the first."""
    grid = values | dict(zip(names, np.meshgrid(*(axes[name] for name in names), indexing="ij"), strict=True))
    possible = np.ones([axes[name].size for name in names], bool)
    for t1, t2 in ORDERED_TIMES:
        if t2 in grid and {t1, t2} & {*names}:
            possible &= grid[t2] <= grid[t1]
    if "fraction" in grid and not {*names} & {*parameters(Tissue)}:
        empty = possible & (grid["fraction"] == 0)
        possible &= ~(empty & (np.cumsum(empty).reshape(empty.shape) > 1))
    return possible
