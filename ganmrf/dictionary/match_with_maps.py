"""Pattern matching where B1+, B0 or another parameter is known: each voxel is matched with atoms of its own value."""

import dataclasses
import warnings

import jax
import numpy as np

from ganmrf.dictionary.build import Dictionary
from ganmrf.dictionary.exact import ExactAtoms
from ganmrf.dictionary.match import Maps, frames_first, match_rows, of_shape
from ganmrf.memory import require_memory
from ganmrf.physics.tissue import Tissue, parameters
from ganmrf.progress import Progress
from ganmrf.pytrees import require

_NAMES = {"b1": "b1_map", "off_resonance": "b0_map"}  # field -> argument with its map


def match_with_maps(
    dictionary: Dictionary,
    images,
    *,
    b1_map=None,
    b0_map=None,
    known=None,
    mask=None,
    axis: int = 0,
    progress: bool = False,
    exact: ExactAtoms | None = None,
) -> Maps:
    """Matches every voxel's signal with the atoms whose B1, off-resonance or other known values are nearest to its own.

    (`match` estimates what there is no map of, together with T1 and T2.) Halfway between two values of the dictionary
    the lower one is taken. Voxels beyond the first or last value by more than half a step get that value, and a warning
    says how many they are.

    The atoms may be in any order. Where those of each group follow each other, as those of one B1 do in `pool_grid`,
    only the atoms of one group are in memory at a time; else all fingerprints are, as with a map of B0 for such a grid.

    Args:
      dictionary: the atoms, of several values of what is known.
      images: as for `match`.
      b1_map: actual over nominal flip angle of each voxel, of the spatial shape; None without. Its values outside the
        mask and where there is no signal are not read, and so with the other maps.
      b0_map: off-resonance of each voxel, Hz, with the sign of `Tissue`, of the spatial shape; None without.
      known: maps of other parameters by the names of the tissue's fields, SI, of the spatial shape, or one number each.
      mask: as for `match`.
      axis: as for `match`.
      progress: whether to show a progress bar with an estimate of the time left.
      exact: as for `match`.

    Returns:
      The maps; ``index`` is the row in the whole dictionary, and parameters are those of the matched atom: where it has
      no second pool, what is known of this pool may be another value than the map's.

    Raises:
      ValueError: no map; a map of what the tissue does not have, or with a value in the mask that no tissue has; a
        dictionary of a single value that is not the map's, or without atoms of a needed combination of values; too
        little memory; a map or mask of another shape; or as `match`.

    References:
      Ma et al. 2017, doi:10.1002/mrm.26580, for B1.
    """
    images = frames_first(dictionary, images, axis)
    shape, tissue = images.shape[1:], jax.tree.map(np.asarray, dictionary.tissue)
    mask = images.any(axis=0) & (True if mask is None else of_shape("mask", mask, shape, bool))
    maps = {"b1": b1_map, "off_resonance": b0_map} | dict(known or {})
    maps = {field: each for field, each in maps.items() if each is not None}
    if not maps:
        raise ValueError("match_with_maps wants a b1_map, a b0_map or known ones; match takes none")
    group, rows = _groups(tissue, maps, mask)
    dictionary = dataclasses.replace(dictionary, tissue=tissue, **_arrays(dictionary, rows))
    dtypes = {name: each.dtype for name, each in vars(tissue).items() if each is not None}
    found = {name: np.zeros(shape, dtype) for name, dtype in {**dtypes, "m0": complex, "quality": float}.items()}
    found["index"] = np.full(shape, -1)
    with Progress(mask.sum(), "matching", unit="voxel", shown=progress) as bar:
        for each, atoms in enumerate(rows):
            here = np.zeros(shape, bool)
            here[mask] = group == each
            part = match_rows(_part(dictionary, atoms), atoms, images[:, here], exact=exact)
            for name, whole in found.items():
                whole[here] = getattr(part, name)
            found["index"][here] = np.where(part.index < 0, -1, atoms[part.index])
            bar.update(part.index.size)
    return Maps(**found)


def _groups(tissue, maps, mask):
    """The group of each voxel in the mask, and the rows of the atoms that the voxels of each group are matched with."""
    nearest, chosen = [], []
    for field, each in maps.items():
        name, facts = _NAMES.get(field, f"the map of {field}"), parameters(tissue)
        if field not in facts:
            raise ValueError(f"{name} is of no use: the atoms have {', '.join(facts)}")
        own = 0.0 if getattr(tissue, field) is None else getattr(tissue, field)
        values, of_atom = np.unique(np.broadcast_to(own, tissue.shape), return_inverse=True)
        wanted = of_shape(name, np.broadcast_to(each, mask.shape) if np.ndim(each) == 0 else each, mask.shape, float)
        require(name, np.where(mask, wanted, values[0]), facts[field].allows, f"{facts[field].rule} in the mask")
        nearest.append(_nearest(values, wanted[mask], facts[field].name, field, name))
        # An empty pool has any value.
        empty = field not in parameters(Tissue) and field != "fraction" and np.equal(tissue.fraction, 0)
        chosen.append(lambda value, of_atom=of_atom, empty=empty: (of_atom == value) | empty)
    groups, group = np.unique(np.stack(nearest), axis=1, return_inverse=True)
    rows = [
        np.flatnonzero(np.logical_and.reduce([atoms(value) for atoms, value in zip(chosen, values, strict=True)]))
        for values in groups.T
    ]
    if not all(map(np.size, rows)):
        raise ValueError(f"the dictionary has no atoms of a combination of {' and '.join(maps)} that the maps hold")
    return group.ravel(), rows


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
            stacklevel=4,
        )
    return np.searchsorted(values[:-1] + half, wanted)


def _range(values):
    return f"{np.min(values):.4g} to {np.max(values):.4g}"


def _together(rows):
    return rows.size == rows[-1] - rows[0] + 1


def _arrays(dictionary, groups):
    """Fingerprints, norms and errors of a dictionary, by name, in memory where the rows of a group are scattered."""
    fingerprints, norms, errors = dictionary.fingerprints, dictionary.norms, dictionary.errors
    if not all(map(_together, groups)):
        if not isinstance(fingerprints, np.ndarray | jax.Array):
            needed = fingerprints.shape[0] * fingerprints.shape[1] * fingerprints.dtype.itemsize
            require_memory(needed, "a dictionary whose atoms of one known value are scattered", "compress it")
        fingerprints, norms = map(np.asarray, (fingerprints, norms))
        errors = None if errors is None else np.asarray(errors)
    return {"fingerprints": fingerprints, "norms": norms, "errors": errors}


def _part(dictionary, rows):
    """The atoms of a dictionary in these rows, which ascend; rows that follow each other are not copied."""
    return dictionary.rows(slice(rows[0], rows[-1] + 1) if _together(rows) else rows)
