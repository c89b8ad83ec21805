"""Matching with a grid of millions of generated atoms that never are in memory, nor generated, all at once.

The grid is divided into cells of neighbouring atoms. In the first stage every voxel is compared with the atom in the
middle of each cell, in the second with all atoms of those cells that may hold its best one, which are generated for all
voxels together that ask for them. Which cells these are follows from angles, as in `ganmrf.dictionary.alike`: no atom
of a cell is nearer to a signal than the one in its middle is, less the cell's radius. Where a valley of unlike tissues
fits a signal about as well, all of its cells are searched.

Radii that are measured on all atoms of all cells make the result that of the search among all atoms. They cost the
generation of each atom, once for a sequence. Radii are estimated for less: from the angles between neighbouring middles
and from the radii of some random cells.
"""

import dataclasses
import functools

import jax
import numpy as np

from ganmrf.dictionary.alike import Groups
from ganmrf.dictionary.build import Dictionary
from ganmrf.dictionary.grid_cells import GridCells, balanced_strides
from ganmrf.dictionary.grid_rows import GridRows
from ganmrf.dictionary.match import Maps, frames_first, in_maps, of_shape
from ganmrf.dictionary.rows import RowsOnDemand
from ganmrf.dictionary.scores import Best, float32_rounding, real_features, unit_atoms, unit_signals
from ganmrf.parallel import one_blas_thread
from ganmrf.progress import Progress

_ATOMS = 2**13  # generated at a time
_VOXELS = 2**14  # that share the cells which are generated for them
_SCORES = 2**22  # of voxels and middles in memory at a time
_SAMPLE = 256  # random cells whose radii are measured, and random atoms whose neighbours tell how far apart steps are
_QUANTILE = 0.99  # share of random cells that have no larger radius than is estimated
_KEPT_BYTES = 2**27  # of atoms that are kept from the first look at cells for the second
CELLS = 2**15  # whose middles take less time to compare than the atoms of the cells that are searched


@dataclasses.dataclass(frozen=True)
class TwoStages:
    """The first stage of a grid under one sequence, for any number of images; `two_stages` makes it.

    Attributes:
      cells: of the grid.
      prepared: what generates its atoms.
      like: a dictionary of some atoms, for what is the same for all.
      middles: the atoms in the middle of all cells, (cells, rank), of unit norm.
      radii: largest angle between the middle of each cell and its other atoms, rad, (cells,).
      complete: whether radii were measured, so that `match` finds what a search of all atoms finds.
    """

    cells: GridCells
    prepared: object
    like: Dictionary
    middles: np.ndarray
    radii: np.ndarray
    complete: bool

    @one_blas_thread()
    def match(self, images, *, mask=None, axis: int = 0, progress: bool = False) -> tuple[Maps, int]:
        """Maps as of `ganmrf.dictionary.match.match`, and how many atoms were generated for them.

        The arguments and errors are those of `match`, of a dictionary in the basis of the generator; ``index`` is the
        row of `pool_grid`. Decisions are made in float64.
        """
        images, basis = frames_first(self.like, images, axis), self.like.basis
        mask = np.ones(images.shape[1:], bool) if mask is None else of_shape("mask", mask, images.shape[1:], bool)
        series, voxels = images.reshape(len(images), -1), np.flatnonzero(mask)
        best, norm, generated = Best.nothing(voxels.size), np.zeros(voxels.size), 0
        with Progress(2 * voxels.size, "matching", unit="voxel", shown=progress) as bar:
            for start in range(0, voxels.size, _VOXELS):
                rows = slice(start, start + _VOXELS)
                into = basis if len(series) == self.like.sequence.n_frames else None
                unit, norm[rows] = unit_signals(series, voxels[rows], into)
                generated += self._search(best.part(rows), unit, np.flatnonzero(norm[rows]), bar)
        lit, norms = norm > 0, np.ones(voxels.size)
        winners, place = np.unique(best.index[lit], return_inverse=True)
        for some in _batches(winners.size, _ATOMS):
            here = (place >= some.start) & (place < some.stop)
            norms[np.flatnonzero(lit)[here]] = self._made(winners[some]).norms[place[here] - some.start]
        tissue = jax.tree.map(np.asarray, self.cells.grid.tissue(best.index))
        fields = {name: np.broadcast_to(each, lit.shape) for name, each in vars(tissue).items() if each is not None}
        found = np.where(lit, best.index, -1), best.inner * norm, np.abs(best.inner), norms
        return in_maps(mask, fields, *found), generated + winners.size

    def _search(self, best, unit, lit, bar):
        """Finds the best atoms of unit signals, (voxels, rank), in the voxels ``lit``; how many were generated."""
        nearest, chunk = np.zeros(len(unit), int), max(_SCORES // self.cells.size, 1)
        features = real_features(unit, np.iscomplexobj(self.middles)).astype(np.float32)
        groups, kept = self._groups, {}
        for some in (lit[part] for part in _batches(lit.size, chunk)):
            real, imaginary = features[:, some] @ groups.representatives
            nearest[some] = (real**2 + imaginary**2).argmax(axis=1)
        generated = self._compare(best, unit, lit, nearest[lit], kept)
        bar.update(len(unit))
        pairs = []
        for some in (lit[part] for part in _batches(lit.size, chunk)):
            whole, nothing = np.ones(some.size), np.zeros(some.size)
            voxel, cell = groups.shortlist(features[:, some], whole, nothing, best.score[some])
            pairs.append(np.stack([some[voxel], cell])[:, cell != nearest[some][voxel]])
        if pairs:
            generated += self._compare(best, unit, *np.concatenate(pairs, axis=1), kept)
        bar.update(len(unit))
        return generated

    def _compare(self, best, unit, voxel, cell, kept):
        """Has voxels take the best atom of cells, a voxel and a cell for each pair; how many atoms were generated."""
        order = np.argsort(cell, kind="stable")
        starts, generated = np.flatnonzero(np.diff(cell[order], prepend=-1)), 0
        members = dict(zip(cell[order][starts], np.split(voxel[order], starts)[1:], strict=True))
        for each in kept.keys() & members.keys():
            self._improve(best, unit, members.pop(each), *kept[each])
        for each, *of_cell in _cells_made(self.cells, self.prepared, [*members]):
            self._improve(best, unit, members[each], *of_cell)
            generated += len(of_cell[0])
            if len(kept) * of_cell[1].nbytes < _KEPT_BYTES:
                kept[each] = of_cell
        return generated

    @staticmethod
    def _improve(best, unit, voxels, rows, atoms):
        best.improve(voxels, unit[voxels], unit_atoms(atoms), rows)

    @functools.cached_property
    def _groups(self):
        """The cells as groups that a search may leave out."""
        middles = self.middles
        columns = np.concatenate([middles.real, middles.imag], axis=1) if np.iscomplexobj(middles) else middles
        columns = np.ascontiguousarray(columns.T, np.float32)
        strange = np.zeros(self.cells.size, bool)
        return Groups(np.empty(0, int), columns, self.radii, strange, 0.0, float32_rounding(len(columns)))

    def _made(self, rows):
        return _made(self.cells.grid, self.prepared, rows)


def two_stages(
    grid: GridRows,
    prepared,
    *,
    n_cells: int = CELLS,
    complete: bool = False,
    reach: float = 1.0,
    progress: bool = False,
) -> TwoStages:
    """Divides a grid into cells, and generates the atoms in their middle.

    Args:
      grid: the grid.
      prepared: an object whose ``generate(tissue, compressed=True)`` gives the dictionary of any of its atoms in a
        basis that is the same for all, such as `ganmrf.anchors.prepared.PreparedSequence`.
      n_cells: how many cells there may be. They have as many values along each axis as make their extents alike.
      complete: whether to generate every atom once, to measure how far from the middle of its cell it is: matching then
        finds what a search of all atoms finds, but for rounding. Otherwise this radius is estimated, and 1 % of the
        cells may have a larger one.
      reach: share of the estimated radius that is searched, in (0, 1]: with less, fewer atoms are generated, and some
        voxels get a neighbour of their best atom, where that is farther from the middle of its cell.
      progress: whether to show a progress bar with an estimate of the time left.

    Raises:
      ValueError: fewer than one cell, a reach out of range, or below 1 where the search is to be complete; or as
        ``generate``.
    """
    if n_cells < 1:
        raise ValueError(f"n_cells must be at least 1; got {n_cells}")
    if not 0 < reach <= 1 or (complete and reach < 1):
        raise ValueError(f"reach must be in (0, 1], and 1 for a complete search; got {reach}")
    rng = np.random.default_rng(0)
    cells = GridCells.of(grid, balanced_strides(grid, _steps(grid, prepared, rng), n_cells))
    middles, like = [], None
    with Progress(grid.size if complete else cells.size, "generating", unit="atom", shown=progress) as bar:
        for some in _batches(cells.size, _ATOMS):
            like = _made(grid, prepared, cells.central(np.arange(some.start, some.stop)))
            middles.append(np.asarray(like.fingerprints))
            bar.update(0 if complete else len(middles[-1]))
        middles = np.concatenate(middles)
        if complete:
            radii = _radii(cells, prepared, middles, np.arange(cells.size), bar)
        else:
            chosen = rng.permutation(cells.size)[:_SAMPLE]
            radii = _estimated(cells, middles)
            scale = _radii(cells, prepared, middles, chosen) / np.where(radii[chosen] > 0, radii[chosen], np.inf)
            radii *= reach * np.quantile(scale, _QUANTILE)
    return TwoStages(cells, prepared, like, middles, radii, complete)


def streamed(grid: GridRows, prepared) -> Dictionary:
    """The dictionary of all atoms of a grid, generated when they are asked for; their tissue is in memory.

    The arguments are those of `two_stages`.
    """
    like = _made(grid, prepared, np.zeros(1, int))

    def on_demand(field):
        def made(rows):
            rows = np.arange(grid.size)[rows]
            parts = [getattr(_made(grid, prepared, rows[some]), field) for some in _batches(len(rows), _ATOMS)]
            return np.concatenate([np.asarray(part) for part in parts])

        one = np.asarray(getattr(like, field))
        return RowsOnDemand(made, (grid.size, *one.shape[1:]), one.dtype)

    fields = {name: on_demand(name) for name in ("fingerprints", "norms", "errors") if getattr(like, name) is not None}
    return dataclasses.replace(like, tissue=grid.tissue(np.arange(grid.size)), **fields)


def _made(grid, prepared, rows) -> Dictionary:
    return prepared.generate(grid.tissue(rows), compressed=True)


def _batches(number, size):
    """Slices of so many of a number of things."""
    return [slice(start, min(start + size, number)) for start in range(0, number, size)]


def _cells_made(cells, prepared, wanted):
    """Yields each of the ``wanted`` cells with the rows of its atoms and these atoms, generated many at a time."""
    waiting, size = [], 0
    for cell in wanted:
        rows = cells.atoms(cell)
        waiting.append((cell, rows))
        size += len(rows)
        if size >= _ATOMS or cell == wanted[-1]:
            atoms = np.asarray(_made(cells.grid, prepared, np.concatenate([rows for _, rows in waiting])).fingerprints)
            ends = np.cumsum([len(rows) for _, rows in waiting])
            for (each, rows), part in zip(waiting, np.split(atoms, ends[:-1]), strict=True):
                yield each, rows, part
            waiting, size = [], 0


def _angles(atoms, others):
    """Angle between each atom and another one, rad, (atoms,)."""
    atoms, others = unit_atoms(atoms), unit_atoms(others)
    along = np.sum(others.conj() * atoms, axis=-1)
    return np.arctan2(np.linalg.norm(atoms - along[..., None] * others, axis=-1), np.abs(along))


def _radii(cells, prepared, middles, wanted, bar=None):
    """The largest angle between the middle of each of the ``wanted`` cells and its atoms, rad, (wanted,)."""
    found = []
    for cell, rows, atoms in _cells_made(cells, prepared, wanted):
        found.append(_angles(atoms, np.broadcast_to(middles[cell], atoms.shape)).max())
        if bar is not None:
            bar.update(len(rows))
    return np.array(found)


def _steps(grid, prepared, rng):
    """Mean angle between neighbours along each axis, rad, by name: of random atoms."""
    rows, found = rng.integers(grid.size, size=_SAMPLE), {}
    for axis, name in enumerate(grid.axes):
        beside = grid.rows_at(grid.places(rows) + np.eye(len(grid.axes), dtype=int)[axis])
        both = np.stack([rows, beside])[:, beside >= 0]
        made = np.asarray(_made(grid, prepared, both.ravel()).fingerprints) if both.size else np.ones((0, 1))
        found[name] = float(_angles(*np.split(made, 2)).mean()) if both.size else 0.0
    return found


def _estimated(cells, middles):
    """About the radius of each cell: from the angles between its middle and those of neighbouring cells."""
    grid = cells.grid
    central = grid.places(cells.central(np.arange(cells.size)))
    squares = np.zeros(cells.size)
    for axis, stride in enumerate(cells.strides[name] for name in grid.axes):
        if stride == 1:
            continue
        steps = np.zeros(cells.size)  # angle for a step of the grid
        for towards in (-stride, stride):
            rows = grid.rows_at(central + towards * np.eye(len(grid.axes), dtype=int)[axis])
            here = np.flatnonzero(rows >= 0)
            other = cells.at(rows[here])
            apart = np.abs(grid.places(cells.central(other)) - central[here])[:, axis]
            angles = _angles(middles[other], middles[here]) / np.maximum(apart, 1)
            steps[here] = np.maximum(steps[here], angles)
        known = steps > 0
        steps[~known] = steps[known].mean() if known.any() else 0.0
        squares += (steps * (stride // 2)) ** 2
    return np.sqrt(squares)
