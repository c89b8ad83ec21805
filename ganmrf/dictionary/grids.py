"""Grids of tissue parameters: published ones, and any other from values or ranges."""

import dataclasses

import jax
import numpy as np

from ganmrf.dictionary.pool_defaults import DEFAULTS
from ganmrf.memory import require_memory
from ganmrf.physics.tissue import ORDERED_TIMES, TISSUES, Tissue, TissueModel, flag_name, parameters
from ganmrf.physics.tissue_box import TissueBox, box_of_ranges
from ganmrf.pytrees import require, require_scale

_BYTES = 48  # of memory for each value or atom while they are made: arrays of float64, and copies of them
_BYTES_AN_AXIS = 32  # of memory for each atom and axis of a grid: a place on the axis, float64, and copies of both

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
    axes = grid_axes(name)
    return grid_of(**(axes | {"b1": b1} | ({} if off_resonance is None else {"off_resonance": off_resonance})))


def grid_axes(name: str) -> dict[str, np.ndarray]:
    """The axes of a published grid (`tissue_grid`), by the names of tissue fields, SI: ``t1``, ``t2``, and its own.

    Raises:
      ValueError: another name.
    """
    if name not in _GRIDS_MS:
        raise ValueError(f"grid must be one of {', '.join(_GRIDS_MS)}; got {name!r}")
    axes = {field: _values(ranges) * 1e-3 for field, ranges in zip(("t1", "t2"), _GRIDS_MS[name], strict=True)}
    return axes | ({"off_resonance": _values(_OFF_RESONANCE_HZ[name])} if name in _OFF_RESONANCE_HZ else {})


def _values(ranges):
    return np.concatenate([np.arange(first, last + 1, step) for first, last, step in ranges])


def grid_of(t1, t2, b1=1.0, off_resonance=None) -> Tissue:
    """Every pair of the given T1 and T2 with T2 <= T1, T1 before T2, at every B1 and every off-resonance.

    `pool_grid` of one pool of spins: T1 and T2 in s, ``b1`` actual over nominal flip angle, ``off_resonance`` in Hz.
    """
    return pool_grid("one_pool", t1=t1, t2=t2, b1=b1, off_resonance=off_resonance)


def pool_grid(kind: str, **axes) -> TissueModel:
    """Every combination of the given parameters that tissue can have: T2 does not exceed T1, in either pool.

    B1 is the slowest of the axes, so that the atoms of one B1 follow each other; then come the others in the order of
    the tissue's fields; off-resonance is the fastest, since atoms that differ in nothing else share much of their
    simulation. Of atoms whose second pool is empty, a ``fraction`` of 0, the other parameters of this pool make no
    difference: one of them is kept.

    Args:
      kind: of tissue, a name of `TISSUES`: ``one_pool``, ``exchanging`` or ``semisolid``.
      **axes: for each field of that tissue one number for all atoms, or the values of an axis, (values,), SI. What is
        not given, or None, has the value of `pool_defaults`, or else that of the tissue's constructor: an
        ``off_resonance`` or ``shift`` of None, unlike 0, keeps signals real.

    Returns:
      The tissue, each field that has an axis, and T1 and T2, (atoms,), the others one number each.

    Raises:
      ValueError: another kind or field, no ``t1`` or ``t2``, a value that no tissue can have, no combination with T2 <=
        T1, or more atoms than the memory holds.
    """
    given, facts = _given(kind, axes), parameters(TISSUES[kind])
    _require_memory({name: np.size(axis) for name, axis in given.items() if np.ndim(axis)}, facts)
    return TISSUES[kind](**given | _combinations(_checked(kind, given)))


def grid_box(kind: str, **axes) -> TissueBox:
    """The ranges of the axes of a grid, and the one value of all else: what `pool_grid` takes, without its atoms.

    Raises:
      ValueError: as `pool_grid`, or a single T1 or T2.
    """
    values = {name: np.ravel(each) for name, each in _checked(kind, _given(kind, axes)).items()}
    ends = {name: (each.min(), each.max()) for name, each in values.items()}
    for name in ("t1", "t2"):
        if ends[name][0] == ends[name][1]:
            raise ValueError(f"{name} has one value, {ends[name][0]:g} s, and no range")
    return box_of_ranges(kind, ends)


def fields_of_grid(kind: str, axes: dict) -> tuple[dict, dict[str, np.ndarray]]:
    """Fields of tissue on a grid as they were given, and their checked values, a number or (values,), in their order.

    The arguments are those of `pool_grid`, and so are the errors, but those of combinations.
    """
    given = _given(kind, axes)
    return given, _checked(kind, given)


def random_tissue(box: TissueBox, number: int, rng: np.random.Generator) -> TissueModel:
    """Random tissues of a box, (number,), two fifths of which have parameters at an end of their range.

    In many dimensions they stand for a grid, which explodes with the number of its axes. As some of them lie at the
    ends, what is learned from them reaches as far as the box.

    Raises:
      ValueError: more atoms than the memory holds.
    """
    require_memory(_BYTES * len(box.names) * number, f"{number:.3g} random tissues", "fewer need less")
    shape = number, len(box.names)
    return box.spread_to_faces(rng.random(shape), rng.random(shape), rng.random((number, 1)))


def _given(kind, axes):
    """Field -> one number or the values of an axis, those that nobody gave among them; not what is None."""
    if kind not in TISSUES:
        raise ValueError(f"the kind of tissue must be one of {', '.join(TISSUES)}; got {kind!r}")
    facts = parameters(TISSUES[kind])
    if unknown := [name for name in axes if name not in facts]:
        raise ValueError(f"tissue of the kind {kind} has no {unknown[0]}, but {', '.join(facts)}")
    defaults = {field.name: field.default for field in dataclasses.fields(TISSUES[kind])} | DEFAULTS.get(kind, {})
    given = defaults | {name: axis for name, axis in axes.items() if axis is not None}
    if missing := [name for name, axis in given.items() if axis is dataclasses.MISSING]:
        raise ValueError(f"a grid of the kind {kind} needs {', '.join(missing)}")
    return {name: axis for name, axis in given.items() if axis is not None}


def _checked(kind, given):
    return {name: _axis(kind, name, parameters(TISSUES[kind])[name], axis) for name, axis in given.items()}


def _axis(kind, name, parameter, values):
    """One number, or the values of an axis, checked, in their own floating-point dtype."""
    what = f"{TISSUES[kind].__name__}.{name}"
    try:
        values = np.asarray(values)
        values = values if values.dtype.kind == "f" else values.astype(float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} must be a number or the values of an axis; got {values!r:.80}") from error
    if values.ndim > 1 or not values.size:
        raise ValueError(f"{what} must be a number or the values of an axis, (values,); got shape {values.shape}")
    require(what, values, parameter.allows, parameter.rule)
    require_scale(what, values, *parameter.scale)
    return values


def _require_memory(sizes, facts):
    """Raises `ValueError` where the memory does not hold every combination of axes of these sizes, by field."""
    number = np.prod([float(size) for size in sizes.values()])
    advice = f"larger steps of {', '.join(f'--{flag_name(name, facts[name])}' for name in sizes)} need less"
    require_memory(_BYTES_AN_AXIS * len(sizes) * number, f"a grid of {number:.3g} combinations", advice)


def _combinations(values):
    """The parameters that have an axis, in every combination that tissue can have, by name, (atoms,) each."""
    axes = {name: np.atleast_1d(each) for name, each in values.items() if each.ndim or name in ("t1", "t2")}
    axes = dict(sorted(axes.items(), key=lambda item: (item[0] == "off_resonance", item[0] != "b1")))  # others stay
    grid = values | dict(zip(axes, np.meshgrid(*axes.values(), indexing="ij", sparse=True), strict=True))
    possible = np.ones([axis.size for axis in axes.values()], bool)
    for t1, t2 in ORDERED_TIMES:
        if t2 in grid:
            possible &= grid[t2] <= grid[t1]
            if not possible.any():
                raise ValueError(f"no pair of the given {t1.upper()} and {t2.upper()} has {t2.upper()} <= {t1.upper()}")
    if "fraction" in grid:
        possible &= ~_repeated(possible & (grid["fraction"] == 0), list(axes))
    return {name: axis[place] for (name, axis), place in zip(axes.items(), np.nonzero(possible), strict=True)}


def _repeated(empty, names):
    """Which combinations without a second pool differ from an earlier one in parameters of this pool alone."""
    own = [n for n, name in enumerate(names) if name not in parameters(Tissue)]
    last = range(-len(own), 0)
    moved = np.moveaxis(empty, own, last)
    flat = moved.reshape(*moved.shape[: moved.ndim - len(own)], -1)
    repeated = flat & (np.cumsum(flat, axis=-1) > 1)
    return np.moveaxis(repeated.reshape(moved.shape), last, own)


def at_each_b1(tissue: TissueModel, b1, *, b1_slowest: bool = True) -> TissueModel:
    """Every voxel or atom of a tissue at every B1, (values,), which its own B1 is multiplied by: (values * tissues,).

    With ``b1_slowest`` all tissues of one B1 follow each other, as in `grid_of`; else all B1 of one tissue.

    Raises:
      ValueError: a B1 that is not positive and finite, or more atoms than the memory holds.
    """
    number = tissue.size * np.size(b1)
    require_memory(_BYTES * number, f"a grid of {number:.3g} atoms", "larger steps of --b1 need less")
    b1, flat = np.atleast_1d(np.asarray(b1, float)), jax.tree.map(np.asarray, tissue.ravel())
    own = np.broadcast_to(flat.b1, flat.shape)
    several = np.tile if b1_slowest else np.repeat
    spread = jax.tree.map(lambda leaf: several(leaf, b1.size) if leaf.ndim else leaf, flat)
    return dataclasses.replace(spread, b1=(np.outer(b1, own) if b1_slowest else np.outer(own, b1)).ravel())


def ranges_in(
    text: str, name: str, *, signed: bool = False, from_zero: bool = False
) -> list[tuple[float, float, float]]:
    """Parses ranges ``first:last:step`` and single numbers, separated by commas: ``10:85:5,100,200:400:50``.

    Values may be 0 with ``from_zero``, and 0 or negative where they are ``signed``.

    Raises:
      ValueError: a part that cannot be read as a range or number, or a value beyond 1e-9 (0, -1e9) to 1e9, the rounding
        of `values_in_ranges` and what float32 arithmetic holds; it gives the ``name`` of the values.
    """
    least, bounds = (-1e9, "-1e9 to 1e9") if signed else (0, "0 to 1e9") if from_zero else (1e-9, "1e-9 to 1e9")
    found = []
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


def values_in_ranges(text: str, name: str, *, signed: bool = False, from_zero: bool = False) -> np.ndarray:
    """The values of `ranges_in`, both ends included: sorted, without repeats, float64, in the unit of ``text``.

    Raises:
      ValueError: as `ranges_in`, or more values than the memory holds.
    """
    values = []
    for first, last, step in ranges_in(text, name, signed=signed, from_zero=from_zero):
        steps = (last - first) / step * (1 + 1e-9)
        require_memory(_BYTES * steps, f"{name} of {steps + 1:.3g} values", "a larger step needs less")
        values.append(first + step * np.arange(int(steps) + 1))
    # Rounded, so that 0.1 + 2 * 0.1 and 0.3 are one value.
    return np.unique(np.round(np.concatenate(values), 9))
