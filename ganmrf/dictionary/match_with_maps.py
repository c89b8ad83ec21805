"""Pattern matching where B1+ or B0 is known: each voxel is matched with the atoms of its own B1 and off-resonance."""

import dataclasses
import warnings

import jax
import numpy as np

from ganmrf.dictionary.build import Dictionary
from ganmrf.dictionary.match import Maps, frames_first, match, of_shape
from ganmrf.memory import require_memory
from ganmrf.progress import Progress
from ganmrf.pytrees import require, require_positive


def match_with_maps(
    dictionary: Dictionary, images, *, b1_map=None, b0_map=None, mask=None, axis: int = 0, progress: bool = False
) -> Maps:
    """Matches every voxel's signal with the atoms whose B1, off-resonance or both are nearest to its own.

    (`match` estimates what there is no map of, together with T1 and T2.) Halfway between two values of the dictionary
    the lower one is taken. Voxels beyond the first or last value by more than half a step get that value, and a warning
    says how many they are.

    The atoms may be in any order. Where those of each group follow each other, as those of one B1 do in `grid_of`, only
    the atoms of one group are in memory at a time; else all fingerprints are, as with a map of B0 for such a grid.

    Args:
      dictionary: the atoms, of several B1 or off-resonances.
      images: as for `match`.
      b1_map: actual over nominal flip angle of each voxel, of the spatial shape; None without. Its values outside the
        mask and where there is no signal are not read, and so with ``b0_map``.
      b0_map: off-resonance of each voxel, Hz, with the sign of `Tissue`, of the spatial shape; None without.
      mask: as for `match`.
      axis: as for `match`.
      progress: whether to show a progress bar with an estimate of the time left.

    Returns:
      The maps; ``index`` is the row in the whole dictionary, and ``b1`` and ``off_resonance`` are the dictionary's
      values nearest to the voxel's.

    Raises:
      ValueError: no map; a B1 that is not positive and finite, or an off-resonance that is not finite; a dictionary of
        a single value that is not the map's, or without atoms of a needed pair of values; too little memory; a map or
        mask of another shape; or as `match`.

    References:
      Ma et al. 2017, doi:10.1002/mrm.26580, for B1.
    """
    images = frames_first(dictionary, images, axis)
    shape, tissue = images.shape[1:], jax.tree.map(np.asarray, dictionary.tissue)
    mask = images.any(axis=0) & (True if mask is None else of_shape("mask", mask, shape, bool))
    if b1_map is None and b0_map is None:
        raise ValueError("match_with_maps wants a b1_map or a b0_map; match takes none")
    group, group_of_atom = np.zeros(mask.sum(), int), np.zeros(tissue.size, int)
    if b1_map is not None:
        b1 = of_shape("b1_map", b1_map, shape, float)
        require_positive("b1_map", np.where(mask, b1, 1), "positive and finite in the mask")
        values, atoms = np.unique(np.broadcast_to(tissue.b1, tissue.shape), return_inverse=True)
        group, group_of_atom = _nearest(values, b1[mask], "B1", "b1", "b1_map"), atoms
    if b0_map is not None:
        b0 = of_shape("b0_map", b0_map, shape, float)
        require("b0_map", np.where(mask, b0, 0), np.isfinite, "finite in the mask")
        own = 0.0 if tissue.off_resonance is None else tissue.off_resonance
        values, atoms = np.unique(np.broadcast_to(own, tissue.shape), return_inverse=True)
        group = group * values.size + _nearest(values, b0[mask], "B0", "off_resonance", "b0_map")
        group_of_atom = group_of_atom * values.size + atoms
    rows = {each: np.flatnonzero(group_of_atom == each) for each in np.unique(group)}
    if not all(map(np.size, rows.values())):
        raise ValueError("the dictionary has no atoms of a pair of B1 and off-resonance that the maps hold")
    dictionary = dataclasses.replace(dictionary, tissue=tissue, **_arrays(dictionary, rows.values()))
    dtypes = {name: each.dtype for name, each in vars(tissue).items() if each is not None}
    found = {name: np.zeros(shape, dtype) for name, dtype in {**dtypes, "m0": complex, "quality": float}.items()}
    found["index"] = np.full(shape, -1)
    with Progress(mask.sum(), "matching", unit="voxel", shown=progress) as bar:
        for each, atoms in rows.items():
            here = np.zeros(shape, bool)
            here[mask] = group == each
            maps = match(_part(dictionary, atoms), images[:, here])
            for name, whole in found.items():
                whole[here] = getattr(maps, name)
            found["index"][here] = np.where(maps.index < 0, -1, atoms[maps.index])
            bar.update(maps.index.size)
    return Maps(**found)


def _nearest(values, wanted, what, field, name):
    """Position of the nearest among the sorted ``values`` for each that a map holds; warns of any far outside."""
    values = values.astype(float)
    if values.size == 1:
        if not np.allclose(wanted, values[0], rtol=1e-6, atol=0):
            raise ValueError(
                f"the dictionary has no {what} axis: its atoms have {field} = {values[0]:.4g}, but {name} holds "
                f"{_range(wanted)}"
            )
        return np.zeros(wanted.shape, int)
    half = 0.5001 * np.diff(values)  # a little more than half, so that rounding to float32 does not decide
    if outside := np.sum((wanted < values[0] - half[0]) | (wanted > values[-1] + half[-1])):
        warnings.warn(
            f"{outside} of {wanted.size} voxels have a {what} outside the dictionary's {_range(values)} and are "
            f"matched with the nearest end: {name} holds {_range(wanted)}",
            stacklevel=3,
        )
    return np.searchsorted(values[:-1] + half, wanted)


def _range(values):
    return f"{np.min(values):.4g} to {np.max(values):.4g}"


def _together(rows):
    return rows.size == rows[-1] - rows[0] + 1


def _arrays(dictionary, groups):
    """Fingerprints and norms of a dictionary, by name, in memory where the rows of a group are scattered."""
    fingerprints, norms = dictionary.fingerprints, dictionary.norms
    if not all(map(_together, groups)):
        if not isinstance(fingerprints, np.ndarray | jax.Array):
            needed = fingerprints.shape[0] * fingerprints.shape[1] * fingerprints.dtype.itemsize
            require_memory(needed, "a dictionary whose atoms of one B1 and off-resonance are scattered", "compress it")
        fingerprints, norms = map(np.asarray, (fingerprints, norms))
    return {"fingerprints": fingerprints, "norms": norms}


def _part(dictionary, rows):
    """The atoms of a dictionary in these rows, which ascend; rows that follow each other are not copied."""
    rows = slice(rows[0], rows[-1] + 1) if _together(rows) else rows
    arrays = {"fingerprints": dictionary.fingerprints[rows], "norms": dictionary.norms[rows]}
    return dataclasses.replace(dictionary, tissue=dictionary.tissue.rows(rows), **arrays)
