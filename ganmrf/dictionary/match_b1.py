"""Pattern matching where B1+ is known: each voxel is matched with the atoms of its own B1."""

import dataclasses
import warnings

import jax
import numpy as np

from ganmrf.dictionary.build import Dictionary
from ganmrf.dictionary.match import Maps, frames_first, match, of_shape
from ganmrf.progress import Progress
from ganmrf.pytrees import require_positive


def match_with_b1(dictionary: Dictionary, images, b1_map, *, mask=None, axis: int = 0, progress: bool = False) -> Maps:
    """Matches every voxel's signal with the atoms of the B1 nearest to its own, in a dictionary with a B1 axis.

    (`match` estimates B1 together with T1 and T2.) Halfway between two values of B1 the lower value is taken. Voxels
    beyond the first or last value by more than half a step get that value, and a warning says how many they are.

    The atoms may be in any order; where those of one B1 follow each other, as in `grid_of`, only the atoms of one B1
    are in memory at a time. ``b1_map`` holds the actual over the nominal flip angle of each voxel, of the spatial
    shape; its values outside the mask and where there is no signal are not read. The other arguments are those of
    `match`.

    Returns:
      The maps; ``index`` is the row in the whole dictionary, and ``b1`` the dictionary's value nearest to the voxel's.

    Raises:
      ValueError: a B1 that is not positive and finite, a dictionary of a single B1 that is not the map's, a map or
        mask of another shape, or as `match`.

    References:
      Ma et al. 2017, doi:10.1002/mrm.26580.
    """
    images = frames_first(dictionary, images, axis)
    shape = images.shape[1:]
    b1_map = of_shape("b1_map", b1_map, shape, float)
    mask = images.any(axis=0) & (True if mask is None else of_shape("mask", mask, shape, bool))
    require_positive("b1_map", np.where(mask, b1_map, 1), "positive and finite in the mask")
    tissue = jax.tree.map(np.asarray, dictionary.tissue)
    values, value_of_atom = np.unique(np.broadcast_to(tissue.b1, tissue.t1.shape), return_inverse=True)
    nearest = np.full(shape, -1)
    nearest[mask] = _nearest(values.astype(float), b1_map[mask])
    empty = {name: np.zeros(shape, getattr(tissue, name).dtype) for name in ("t1", "t2", "b1")}
    maps = Maps(**empty, m0=np.zeros(shape, complex), index=np.full(shape, -1), quality=np.zeros(shape))
    with Progress(mask.sum(), "matching", unit="voxel", shown=progress) as bar:
        for k in np.unique(nearest[mask]):
            here = nearest == k
            rows = np.flatnonzero(value_of_atom == k)
            found = match(_atoms(dictionary, tissue, rows), images[:, here])
            found = dataclasses.replace(found, index=np.where(found.index < 0, -1, rows[found.index]))
            for field in dataclasses.fields(Maps):
                getattr(maps, field.name)[here] = getattr(found, field.name)
            bar.update(found.index.size)
    return maps


def _nearest(values, b1):
    """Position of the nearest among the sorted ``values`` for each ``b1``; warns of ``b1`` far outside."""
    if values.size == 1:
        if not np.allclose(b1, values[0], rtol=1e-6, atol=0):
            raise ValueError(
                f"the dictionary has no B1 axis: its atoms have b1 = {values[0]:.4g}, but b1_map holds {_range(b1)}"
            )
        return np.zeros(b1.shape, int)
    half = 0.5001 * np.diff(values)  # a little more than half, so that rounding to float32 does not decide
    if outside := np.sum((b1 < values[0] - half[0]) | (b1 > values[-1] + half[-1])):
        warnings.warn(
            f"{outside} of {b1.size} voxels have a B1 outside the dictionary's {_range(values)} and are matched with "
            f"the nearest end: b1_map holds {_range(b1)}",
            stacklevel=3,
        )
    return np.searchsorted(values[:-1] + half, b1)


def _range(values):
    return f"{np.min(values):.4g} to {np.max(values):.4g}"


def _atoms(dictionary, tissue, rows):
    """The atoms of a dictionary in these rows, which ascend; rows that follow each other are not copied."""
    arrays = dictionary.fingerprints, dictionary.norms
    if rows.size == rows[-1] - rows[0] + 1:
        rows = slice(rows[0], rows[-1] + 1)
    else:
        arrays = map(np.asarray, arrays)
    fingerprints, norms = (array[rows] for array in arrays)
    return dataclasses.replace(dictionary, tissue=tissue.rows(rows), fingerprints=fingerprints, norms=norms)
