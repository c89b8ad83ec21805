"""Maps of all axes of a generator's box without a grid: a few thousand atoms to start from, and least squares.

The atoms are spread over the box, and generated. The best atoms of a voxel that are unlike one another start fits in
which signals and derivatives are those of the prepared generator (`collapsed`), and the best of them is kept.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy.spatial import cKDTree

from ganmrf.anchors.collapsed import GeneratedSignals
from ganmrf.anchors.prepared import PreparedSequence
from ganmrf.dictionary.build import Dictionary
from ganmrf.dictionary.match import Maps, frames_first, of_shape
from ganmrf.dictionary.refine import Refined, refine
from ganmrf.parallel import one_blas_thread, run_chunks
from ganmrf.physics.tissue import ORDERED_TIMES, TissueModel
from ganmrf.physics.tissue_box import TissueBox
from ganmrf.pytrees import require

_ATOMS = 4096  # to start from: five along each of five axes, from which steps lead to the bottom of the valley
_APART = 0.25  # of the range of an axis: atoms nearer than this to each other along all axes start in the same valley
N_STARTS = 4  # most that a voxel is fitted from: valleys beyond the third best have not ended lowest
_AROUND = 4  # times the axes: atoms that one at the bottom of a valley is better than, two on either side
_LOOKED_AT = 2  # for each further start, atoms that may be at the bottom of a valley: most voxels have one valley
_LEVELS = 9  # of a map that is known; a voxel starts from atoms of the nearest of them
_MOST_CELLS = 32  # combinations of such levels, each with as many atoms: some 100 MB of their weights
_VOXELS = 512  # whose scores are in the cache at a time, those of all atoms


class Starts(NamedTuple):
    """Where the fits of some images start.

    Attributes:
      dictionary: generated atoms, compressed.
      maps: the atom of each voxel that is most like its signal; of the maps only ``index`` and the parameters are told.
      others: rows of further atoms to start from, (starts - 1, *spatial shape), -1 for none.
    """

    dictionary: Dictionary
    maps: Maps
    others: np.ndarray


def continuous_maps(
    prepared: PreparedSequence,
    images,
    *,
    mask=None,
    axis: int = 0,
    known: Mapping[str, Any] | None = None,
    noise=None,
    n_starts: int = N_STARTS,
    force: bool = False,
    progress: bool = False,
) -> Refined:
    """Maps of every axis of a generator's box that is not known, with error bars, and no grid.

    4096 atoms are spread over the box and generated. Of these, up to ``n_starts`` start the fit of a voxel (`refine`):
    the one most like its signal, and others, at the bottom of other valleys: more like it than all atoms around them,
    and a quarter of a range away from all better ones. The fit from the first is made everywhere, and that from another
    where it may end lower (`several_starts`); the smallest residual is kept. Derivatives, and so error bars, are those
    of the generator. Nothing is extrapolated: a voxel whose best tissue lies outside the box ends at an end of a range,
    with infinite error bars.

    Errors of the generator (`PreparedSequence.certificate`) are in none of the error bars. They move a parameter by at
    most its standard deviation, times the norm of the signal's error over the noise of a frame.

    Args:
      prepared: the sequence that was scanned, prepared for a generator; no table.
      images: real or complex series, frames along ``axis``; or coefficients in ``prepared.basis``. Magnitudes
        are fitted as if they were real signals, and give wrong maps.
      mask: voxels to fit, boolean, of the spatial shape; all that have a signal by default.
      axis: of the frames in ``images``.
      known: name -> number, or map of the spatial shape, SI, of axes of the box that are not fitted.
      noise: standard deviation of the noise, as for `refine`; None measures it.
      n_starts: most atoms that a voxel is fitted from; 1 for the best one alone.
      force: whether to fit what the signals do not determine, too, as for `refine`.
      progress: whether to show progress bars with an estimate of the time left.

    Raises:
      ValueError: as `find_starts` and `refine`.
    """
    source = GeneratedSignals.of(prepared)
    dictionary, maps, others = find_starts(prepared, images, mask=mask, axis=axis, known=known, n_starts=n_starts)
    known = dict(known or {})
    fit = [name for name in prepared.generator.box.names if name not in known]
    how = {"axis": axis, "fit": fit, "known": known, "noise": noise, "force": force, "progress": progress}
    return refine(dictionary, images, maps, source=source, starts=others, **how)


def find_starts(
    prepared: PreparedSequence,
    images,
    *,
    mask=None,
    axis: int = 0,
    known: Mapping[str, Any] | None = None,
    n_starts: int = N_STARTS,
) -> Starts:
    """The atoms that `continuous_maps`, whose arguments these are, starts from.

    Where something is known, the atoms of a voxel have the nearest of up to nine values of it.

    Raises:
      ValueError: images or maps of another shape; something known that is no axis of the box; nothing left to fit; or
        fewer than one start.
    """
    if n_starts < 1:
        raise ValueError(f"n_starts must be 1 or more; got {n_starts}")
    box, known = prepared.generator.box, dict(known or {})
    images = frames_first(prepared.generate(box.corner(), compressed=True), images, axis)
    shape = images.shape[1:]
    mask = images.any(axis=0) & (True if mask is None else of_shape("mask", mask, shape, bool))
    if unfit := np.count_nonzero(~np.isfinite(images[:, mask]).all(axis=0)):
        raise ValueError(f"images hold NaN or infinite values, in {unfit} voxels of the mask")
    levels, cell = _cells({name: _known(name, value, mask, box) for name, value in known.items()})
    axes = [n for n, name in enumerate(box.names) if name not in known]
    if not axes:
        raise ValueError(f"all axes of the generator are known, {', '.join(box.names)}: there is nothing to fit")
    cube = box.sobol(_ATOMS, 0)
    dictionary = prepared.generate(_atoms(box, cube, levels), compressed=True)
    places = _Places.of(cube[:, axes], [box.names[n] in box.periodic for n in axes])
    rows = np.full((n_starts, *shape), -1)
    rows[:, mask] = _best(dictionary, images[:, mask].T, cell, places, n_starts)
    return Starts(dictionary, _maps(dictionary, rows[0]), rows[1:])


def _known(name, value, mask, box):
    """What is known of the voxels of a mask, (voxels,), float64, or the end of the range that is nearest."""
    if name not in box.names:
        raise ValueError(f"known {name} is no axis of the generator, whose axes are {', '.join(box.names)}")
    value = np.broadcast_to(value, mask.shape) if np.ndim(value) == 0 else value
    axis, value = box.names.index(name), of_shape(f"known {name}", value, mask.shape, float)[mask]
    require(f"known {name}", value, np.isfinite, "finite in every voxel of the mask")
    return np.clip(value, box.low[axis], box.high[axis])


def _cells(known):
    """Combinations of levels that voxels start from, name -> (cells,), and the cell of each voxel, (voxels,) or 0."""
    if not known:
        return {}, 0
    several = sum(np.unique(each).size > 1 for each in known.values())
    most, nearest = min(_LEVELS, int(_MOST_CELLS ** (1 / max(several, 1)))), []
    for each in known.values():
        levels = np.unique(each)
        levels = levels if levels.size <= most else np.linspace(levels[0], levels[-1], most)
        nearest.append(levels[np.abs(each[:, None] - levels[None]).argmin(axis=1)])
    cells, cell = np.unique(np.stack(nearest), axis=1, return_inverse=True)
    return dict(zip(known, cells, strict=True)), cell.ravel()


def _atoms(box: TissueBox, cube, levels) -> TissueModel:
    """The atoms of each cell, one cell after the other: places in the box but for the levels of what is known."""
    n_cells = len(next(iter(levels.values()), [0]))
    places = jax.tree.map(np.asarray, box.spread(cube))
    fields = {name: np.tile(getattr(places, name), n_cells) for name in box.names}
    fields |= {name: np.repeat(each, len(cube)).astype(np.float32) for name, each in levels.items()}
    for longer, shorter in ORDERED_TIMES:
        if shorter in fields and longer in fields:
            moved, ends = (longer, np.maximum) if shorter in levels else (shorter, np.minimum)
            fields[moved] = ends(fields[longer], fields[shorter])
    return dataclasses.replace(places, **fields)


class _Places(NamedTuple):
    """Atoms of a cell as places in the unit cube of what is fitted."""

    near: np.ndarray  # which atoms are near to which, (atoms, atoms)
    around: np.ndarray  # the nearest other atoms of each, (atoms, nearest)

    @classmethod
    def of(cls, cube, periodic) -> "_Places":
        """From places (atoms, axes), and which axes are periodic, (axes,)."""
        near = np.ones((len(cube), len(cube)), bool)
        for column, is_circle in zip(cube.T.astype(np.float32), periodic, strict=True):
            apart = np.abs(column[:, None] - column[None])
            near &= (np.minimum(apart, 1 - apart) if is_circle else apart) < _APART
        tree = cKDTree(cube, boxsize=np.array(periodic, float))  # a size of 0 is none
        return cls(near, tree.query(cube, 1 + _AROUND * cube.shape[1])[1][:, 1:])

    def starts(self, scores, number: int) -> np.ndarray:
        """Atoms to start from, best first, (number, voxels), -1 for none: valleys of what atoms leave of a signal.

        All but the first are at the bottom of a valley, better than the atoms around them: from others steps lead down
        to one that is better. They are far from all better ones that were looked at.
        """
        voxels, left = np.arange(len(scores)), scores.copy()
        found, count = np.full((number, len(scores)), -1), np.zeros(len(scores), int)
        for tried in range(_LOOKED_AT * (number - 1) + 1):
            best = left.argmax(axis=1)
            at_bottom = (scores[voxels[:, None], self.around[best]] <= scores[voxels, best][:, None]).all(axis=1)
            is_start = (at_bottom | (tried == 0)) & (left[voxels, best] >= 0) & (count < number)
            found[count[is_start], voxels[is_start]] = best[is_start]
            count += is_start
            left[self.near[best]] = -1
        return found


def _best(dictionary: Dictionary, signals, cell, places: _Places, n_starts):
    """Rows of the atoms that each voxel is fitted from, best first, (starts, voxels), -1 for none.

    ``signals`` are (voxels, frames or rank); the cell says which atoms, as many as ``places`` has, are asked.
    """
    size, basis = len(places.near), dictionary.basis if signals.shape[1] == len(dictionary.basis) else None
    found, cells = np.full((n_starts, len(signals)), -1), np.broadcast_to(cell, len(signals))

    def search(rows, _):
        first = size * cells[rows[0]]
        data = signals[rows] if basis is None else signals[rows] @ basis
        of_cell = places.starts(_scores(data, np.asarray(dictionary.fingerprints[first : first + size])), n_starts)
        found[:, rows] = np.where(of_cell < 0, -1, first + of_cell)

    chunks = []
    for each in np.unique(cells):
        rows = np.flatnonzero(cells == each)
        chunks += np.split(rows, range(_VOXELS, rows.size, _VOXELS))
    with one_blas_thread():
        run_chunks(search, chunks)
    return found


def _scores(data, atoms):
    """Squares of inner products of signals with atoms, (voxels, atoms), float32: they only choose where to start."""
    if np.iscomplexobj(atoms):
        return np.abs(data.astype(np.complex64) @ atoms.conj().T) ** 2
    parts = [data.real, data.imag] if np.iscomplexobj(data) else [data]
    return functools.reduce(np.add, ((part.astype(np.float32) @ atoms.T) ** 2 for part in parts))


def _maps(dictionary, index):
    """The atoms in ``index``, -1 for none, as the maps that `refine` starts from."""
    inside, tissue = index >= 0, dictionary.tissue
    values = {
        name: np.where(inside, np.broadcast_to(each, tissue.shape)[index], 0)
        for name, each in vars(tissue).items()
        if each is not None
    }
    nothing = np.zeros(index.shape)
    return Maps(**values, m0=nothing.astype(complex), index=index, quality=nothing)
