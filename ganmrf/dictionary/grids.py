"""Grids of tissue parameters: published ones, and any other from values or ranges."""

import dataclasses

import jax
import numpy as np

from ganmrf.memory import require_memory
from ganmrf.physics.tissue import Tissue

_BYTES = 48  # of memory for each value, pair or atom while a grid is made: arrays of float64, and copies of them

# Ranges of T1, then of T2, in ms: (first, last, step), both ends included.
# Table 1 and Table 2 of Yang et al. 2020, arXiv:2004.02270; and Ma et al. 2013, doi:10.1038/nature11971. The T2 of the
# latter above 200 ms are those of public code: with them the grid has the 563784 atoms that the paper counts.
_GRIDS_MS = {
    "paper": (
        ((10, 85, 5), (90, 990, 10), (1000, 1480, 20), (1500, 2000, 50), (2050, 2950, 100)),
        ((2, 8, 2), (10, 145, 5), (150, 190, 10), (200, 500, 50)),
    ),
    "coarse": (
        ((50, 100, 50), (200, 1000, 100), (1200, 2000, 200), (2500, 3000, 500)),
        ((10, 100, 10), (120, 200, 20), (300, 500, 100)),
    ),
    "fine": (
        ((2, 100, 2), (105, 1000, 5), (1010, 2000, 10), (2025, 3000, 25)),
        ((1, 200, 1), (202, 500, 2)),
    ),
    "ma": (
        ((100, 2000, 20), (2300, 5000, 300)),
        ((20, 100, 5), (110, 200, 10), (300, 1900, 200)),
    ),
}
# Off-resonance, Hz, of the grids that have such an axis.
_OFF_RESONANCE_HZ = {
    "ma": (
        *((-390, -270, 20), (-250, -90, 10), (-80, -42, 2)),
        *((-40, 40, 1), (42, 80, 2), (90, 250, 10), (270, 390, 20)),
    )
}
GRIDS = tuple(_GRIDS_MS)
GRIDS_ON_RESONANCE = tuple(name for name in GRIDS if name not in _OFF_RESONANCE_HZ)


def tissue_grid(name: str = "paper", b1=1.0, off_resonance=None) -> Tissue:
    """A published grid, with T2 <= T1: ``paper`` 5970 | ``coarse`` 297 | ``fine`` 106160 | ``ma`` 563784 atoms.

    The first three are of the GAN-MRF paper. ``ma``, of the paper that introduced MRF, has an axis of off-resonance of
    its own, 169 values from -390 to 390 Hz, which a given ``off_resonance`` replaces. ``b1`` and ``off_resonance`` are
    those of `grid_of`.

    Raises:
      ValueError: another name.
    """
    if name not in _GRIDS_MS:
        raise ValueError(f"grid must be one of {', '.join(_GRIDS_MS)}; got {name!r}")
    t1_ms, t2_ms = map(_values, _GRIDS_MS[name])
    if off_resonance is None and name in _OFF_RESONANCE_HZ:
        off_resonance = _values(_OFF_RESONANCE_HZ[name])
    return grid_of(t1_ms * 1e-3, t2_ms * 1e-3, b1, off_resonance)


def _values(ranges):
    return np.concatenate([np.arange(first, last + 1, step) for first, last, step in ranges])


def grid_of(t1, t2, b1=1.0, off_resonance=None) -> Tissue:
    """Every pair of the given T1 and T2 with T2 <= T1, T1 before T2, at every B1 and every off-resonance.

    T1 and T2, s, have one dimension each. ``b1``, actual over nominal flip angle, and ``off_resonance``, Hz, are each
    one number for all atoms, or the values of an axis, (values,). B1 is the slowest of the axes, so that the atoms of
    one B1 follow each other; off-resonance is the fastest, since atoms that differ in nothing else share much of their
    simulation. An ``off_resonance`` of None, unlike 0, keeps signals real (`Tissue`).

    Returns:
      Tissue with t1 and t2, (atoms,), and b1 and off_resonance, (atoms,) or one number each.

    Raises:
      ValueError: no pair has T2 <= T1, a value that no tissue can have, or more atoms than the memory holds.
    """
    axes = [np.size(axis) for axis in (t1, t2, b1, off_resonance)]
    _require_memory(np.prod(axes, dtype=float), "pairs of T1 and T2, at each B1 and off-resonance")
    t1, t2 = (axis.ravel() for axis in np.meshgrid(t1, t2, indexing="ij"))
    allowed = t2 <= t1
    if not allowed.any():
        raise ValueError("no pair of the given T1 and T2 has T2 <= T1")
    tissue = Tissue(t1[allowed], t2[allowed], 1.0 if np.ndim(b1) else b1)
    if np.ndim(b1):
        tissue = at_each_b1(tissue, b1)
    if np.ndim(off_resonance):
        apart = np.tile(np.asarray(off_resonance, float), tissue.size)
        tissue = jax.tree.map(lambda leaf: np.repeat(leaf, np.size(off_resonance)) if leaf.ndim else leaf, tissue)
        return dataclasses.replace(tissue, off_resonance=apart)
    return dataclasses.replace(tissue, off_resonance=off_resonance)


def at_each_b1(tissue: Tissue, b1, *, b1_slowest: bool = True) -> Tissue:
    """Every voxel or atom of a tissue at every B1, (values,), which its own B1 is multiplied by: (values * tissues,).

    With ``b1_slowest`` all tissues of one B1 follow each other, as in `grid_of`; else all B1 of one tissue.

    Raises:
      ValueError: a B1 that is not positive and finite, or more atoms than the memory holds.
    """
    _require_memory(tissue.size * np.size(b1), "atoms")
    b1, flat = np.atleast_1d(np.asarray(b1, float)), jax.tree.map(np.asarray, tissue.ravel())
    own = np.broadcast_to(flat.b1, flat.shape)
    several = np.tile if b1_slowest else np.repeat
    spread = jax.tree.map(lambda leaf: several(leaf, b1.size) if leaf.ndim else leaf, flat)
    return dataclasses.replace(spread, b1=(np.outer(b1, own) if b1_slowest else np.outer(own, b1)).ravel())


def ranges_in(text: str, name: str, *, signed: bool = False) -> list[tuple[float, float, float]]:
    """Parses ranges ``first:last:step`` and single numbers, separated by commas: ``10:85:5,100,200:400:50``.

    Values may be 0 or negative where they are ``signed``.

    Raises:
      ValueError: a part that cannot be read as a range or number, or a value beyond 1e-9 (-1e9) to 1e9, the rounding of
        `values_in_ranges` and what float32 arithmetic holds; it gives the ``name`` of the values.
    """
    found, least, bounds = [], -1e9 if signed else 1e-9, "-1e9 to 1e9" if signed else "1e-9 to 1e9"
    for part in text.split(","):
        try:
            numbers = [float(number) for number in part.split(":")]
            first, last, step = numbers * 2 + [1.0] if len(numbers) == 1 else numbers
        except ValueError:
            first = last = step = np.nan
        if not (least <= first <= last <= 1e9 and 0 < step < np.inf):
            rule = f"numbers or ranges first:last:step, upwards within {bounds} by a step above 0"
            raise ValueError(f"{name} must be {rule}; got {part!r}")
        found.append((first, last, step))
    return found


def values_in_ranges(text: str, name: str, *, signed: bool = False) -> np.ndarray:
    """The values of `ranges_in`, both ends included: sorted, without repeats, float64, in the unit of ``text``.

    Raises:
      ValueError: as `ranges_in`, or more values than the memory holds.
    """
    values = []
    for first, last, step in ranges_in(text, name, signed=signed):
        steps = (last - first) / step * (1 + 1e-9)
        require_memory(_BYTES * steps, f"{name} of {steps + 1:.3g} values", "a larger step needs less")
        values.append(first + step * np.arange(int(steps) + 1))
    # Rounded, so that 0.1 + 2 * 0.1 and 0.3 are one value.
    return np.unique(np.round(np.concatenate(values), 9))


def _require_memory(number, of):
    advice = "larger steps of --t1_ms, --t2_ms, --b1 or --off_resonance_hz need less"
    require_memory(_BYTES * number, f"a grid of {number:.3g} {of},", advice)
