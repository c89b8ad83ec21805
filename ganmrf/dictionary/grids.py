"""Grids of tissue parameters: those of the GAN-MRF paper, and any other from values or ranges."""

import jax
import numpy as np

from ganmrf.memory import require_memory
from ganmrf.physics.tissue import Tissue

_BYTES = 48  # of memory for each value, pair or atom while a grid is made: arrays of float64, and copies of them

# Ranges of T1, then of T2, in ms: (first, last, step), both ends included.
# Table 1 and Table 2 of Yang et al. 2020, arXiv:2004.02270.
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
}
GRIDS = tuple(_GRIDS_MS)


def tissue_grid(name: str = "paper", b1=1.0) -> Tissue:
    """One of the GAN-MRF paper's grids, with T2 <= T1: ``paper`` 5970 | ``coarse`` 297 | ``fine`` 106160 atoms.

    ``b1`` is that of `grid_of`.

    Raises:
      ValueError: another name.
    """
    if name not in _GRIDS_MS:
        raise ValueError(f"grid must be one of {', '.join(_GRIDS_MS)}; got {name!r}")
    t1_ms, t2_ms = (np.concatenate([np.arange(a, b + 1, step) for a, b, step in axis]) for axis in _GRIDS_MS[name])
    return grid_of(t1_ms * 1e-3, t2_ms * 1e-3, b1)


def grid_of(t1, t2, b1=1.0) -> Tissue:
    """Every pair of the given T1 and T2 with T2 <= T1, T1 slowest; every pair at each B1, where B1 is an axis.

    T1 and T2, s, have one dimension each. ``b1``, actual over nominal flip angle, is one number for all atoms, or the
    values of a third axis, (values,), the slowest of the three, so that the atoms of one B1 follow each other.

    Returns:
      Tissue with t1 and t2, (atoms,), and b1, (atoms,) or one number.

    Raises:
      ValueError: no pair has T2 <= T1, a value that no tissue can have, or more atoms than the memory holds.
    """
    _require_memory(np.size(t1) * np.size(t2) * np.size(b1), "pairs of T1 and T2, at each B1")
    t1, t2 = (axis.ravel() for axis in np.meshgrid(t1, t2, indexing="ij"))
    allowed = t2 <= t1
    if not allowed.any():
        raise ValueError("no pair of the given T1 and T2 has T2 <= T1")
    t1, t2 = t1[allowed], t2[allowed]
    return Tissue(t1, t2, b1) if np.ndim(b1) == 0 else at_each_b1(Tissue(t1, t2), b1)


def at_each_b1(tissue: Tissue, b1, *, b1_slowest: bool = True) -> Tissue:
    """Every voxel or atom of a tissue at every B1, (values,), which its own B1 is multiplied by: (values * tissues,).

    With ``b1_slowest`` all tissues of one B1 follow each other, as in `grid_of`; else all B1 of one tissue.

    Raises:
      ValueError: a B1 that is not positive and finite, or more atoms than the memory holds.
    """
    _require_memory(tissue.size * np.size(b1), "atoms")
    b1, flat = np.atleast_1d(np.asarray(b1, float)), jax.tree.map(np.asarray, tissue.ravel())
    own = np.broadcast_to(flat.b1, flat.shape)
    if b1_slowest:
        return Tissue(np.tile(flat.t1, b1.size), np.tile(flat.t2, b1.size), np.outer(b1, own).ravel())
    return Tissue(flat.t1.repeat(b1.size), flat.t2.repeat(b1.size), np.outer(own, b1).ravel())


def ranges_in(text: str, name: str) -> list[tuple[float, float, float]]:
    """Parses ranges ``first:last:step`` and single numbers, separated by commas: ``10:85:5,100,200:400:50``.

    Raises:
      ValueError: a part that cannot be read as a range or number, or a value beyond 1e-9 to 1e9, the rounding of
        `values_in_ranges` and what float32 arithmetic holds; it gives the ``name`` of the values.
    """
    found = []
    for part in text.split(","):
        try:
            numbers = [float(number) for number in part.split(":")]
            first, last, step = numbers * 2 + [1.0] if len(numbers) == 1 else numbers
        except ValueError:
            first = last = step = np.nan
        if not (1e-9 <= first <= last <= 1e9 and 0 < step < np.inf):
            rule = "a number or first:last:step with 1e-9 <= first <= last <= 1e9 and step > 0"
            raise ValueError(f"{name} must be {rule}; got {part!r}")
        found.append((first, last, step))
    return found


def values_in_ranges(text: str, name: str) -> np.ndarray:
    """The values of `ranges_in`, both ends included: sorted, without repeats, float64, in the unit of ``text``.

    Raises:
      ValueError: as `ranges_in`, or more values than the memory holds.
    """
    values = []
    for first, last, step in ranges_in(text, name):
        steps = (last - first) / step * (1 + 1e-9)
        require_memory(_BYTES * steps, f"{name} of {steps + 1:.3g} values", "a larger step needs less")
        values.append(first + step * np.arange(int(steps) + 1))
    # Rounded, so that 0.1 + 2 * 0.1 and 0.3 are one value.
    return np.unique(np.round(np.concatenate(values), 9))


def _require_memory(number, of):
    advice = "larger steps of --t1_ms, --t2_ms or --b1 need less"
    require_memory(_BYTES * number, f"a grid of {number:.3g} {of},", advice)
