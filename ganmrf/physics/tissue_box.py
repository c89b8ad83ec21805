"""Ranges of tissue parameters: which tissue lies outside them, and how tissue is spread evenly within them."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.physics.tissue import ORDERED_TIMES, TISSUES, TissueModel, flag_name, kind_of_tissue, parameters
from ganmrf.pytrees import pytree, require, require_scale

WIDER_BOX = "a generator of a wider box would hold them"  # what can be done about atoms outside
_ALWAYS_AXES = "t1", "t2"
_MARGIN = 1e-6  # relative; a value rounded to float32 is off by less, and still counts as inside
# Interpolation is worst at the ends of a range, and random tissues seldom lie there: `TissueBox.spread_to_faces` moves
_PUSHED = 0.4  # this share of the tissues, and
_END = 0.2  # along every axis moves this share of those to each end


def log_time(time, offset):
    """log(time + offset): the scale of T1 and T2 on which fingerprints change evenly, and that of rates likewise.

    Fingerprints change with the ratio of two relaxation times, but times far shorter than a repetition time all leave
    the same fingerprint, and a plain logarithm would set those times far apart. The offset, half a repetition time,
    ends the logarithm there. Both are in s.
    """
    return jnp.log(time + offset)


@pytree
@dataclasses.dataclass(frozen=True)
class TissueBox:
    """Named tissue parameters and their ranges, with T2 <= T1 in each pool; the others have one value.

    Attributes:
      names: fields of the tissue, ``t1`` and ``t2`` among them.
      low: least value of each, (axes,), SI.
      high: largest value of each, (axes,).
      kind: of tissue, a name of `TISSUES`.
      fixed: fields that have one value, and this value; a mapping will do. All others have their default value.
      periodic: of ``names``, those whose range is one period of the signals, such as off-resonance over 1/TR with
        balanced sequences of a single repetition time TR.

    Raises:
      ValueError: a name that is no field of the tissue, that stands twice, or none for a field without a default; a
        range that is empty or holds values that no tissue has; or a T2 whose range begins above that of T1.
    """

    names: tuple[str, ...] = dataclasses.field(metadata={"static": True})
    low: np.ndarray
    high: np.ndarray
    kind: str = dataclasses.field(default="one_pool", metadata={"static": True})
    fixed: tuple[tuple[str, float], ...] = dataclasses.field(default=(), metadata={"static": True})
    periodic: tuple[str, ...] = dataclasses.field(default=(), metadata={"static": True})

    def __post_init__(self):
        pairs = self.fixed.items() if isinstance(self.fixed, Mapping) else self.fixed
        object.__setattr__(self, "fixed", tuple((name, float(value)) for name, value in pairs))
        for name in ("names", "periodic"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        self._check_names()
        facts = self._facts
        for name in ("low", "high"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), float))
            if getattr(self, name).shape != (len(self.names),):
                raise ValueError(f"TissueBox.{name} must hold {len(self.names)} values, one for each name")
        ranges = dict(zip(self.names, zip(self.low, self.high, strict=True), strict=True))
        for name, (low, high) in ranges.items():
            if not (facts[name].allows([low, high]).all() and low < high):
                rule = f"{facts[name].rule}, and not empty"
                raise ValueError(f"TissueBox: the range of {name} must be {rule}; got {low:g} to {high:g}")
            require_scale(f"TissueBox: the range of {name}", [low, high], *facts[name].scale)
        ranges |= {name: (value, value) for name, value in self.fixed}
        for t1, t2 in ORDERED_TIMES:
            if t2 in ranges and ranges[t2][0] > ranges[t1][0]:
                values = f"{ranges[t2][0]:g} and {ranges[t1][0]:g} s"
                raise ValueError(f"TissueBox: {t2} must not begin above {t1}; got {values}")

    def _check_names(self):
        if self.kind not in TISSUES:
            raise ValueError(f"TissueBox.kind must be one of {', '.join(TISSUES)}; got {self.kind!r}")
        facts, one_value = self._facts, [name for name, _ in self.fixed]
        for name in (given := (*self.names, *one_value)):
            if name not in facts:
                raise ValueError(f"TissueBox.names must be of {', '.join(facts)}; got {name}")
        needed = [name for name, default in self._defaults.items() if default is dataclasses.MISSING]
        if len(set(given)) < len(given) or not {*needed} <= {*given} or not {"t1", "t2"} <= {*self.names}:
            all_needed = " and ".join([", ".join(needed[:-1]), needed[-1]])
            raise ValueError(
                f"TissueBox.names, and with them fixed, must hold {all_needed}, and each name once, names t1 and t2; "
                f"got {', '.join(given)}"
            )
        for name, value in self.fixed:
            require(f"TissueBox.fixed: {name}", value, facts[name].allows, facts[name].rule)
            require_scale(f"TissueBox.fixed: {name}", value, *facts[name].scale)
        if unknown := [name for name in self.periodic if name not in self.names or not facts[name].signed]:
            raise ValueError(f"TissueBox.periodic must be frequencies of {', '.join(self.names)}; got {unknown[0]}")

    @property
    def _facts(self):
        return parameters(TISSUES[self.kind])

    @property
    def _defaults(self):
        return {field.name: field.default for field in dataclasses.fields(TISSUES[self.kind])}

    def sobol(self, number: int, rng) -> np.ndarray:
        """Places spread evenly over the unit cube, (number, axes): a scrambled Sobol sequence; ``rng`` or a seed."""
        from scipy.stats import qmc  # here: its import takes half a second, and only this method needs it

        return qmc.Sobol(len(self.names), rng=rng).random_base2(int(np.ceil(np.log2(number))))[:number]

    @jax.jit
    def spread(self, cube) -> TissueModel:
        """The tissue at places in the unit cube, (..., axes), axes in the order of ``names``; all of it is in the box.

        What has one value is one number.

        What is logarithmic (`Parameter`), such as T1 and T2, is uniform on the scale of ``log(value + offset)``, the
        rest is uniform. T2 runs from its least value to the smaller of T1 and its largest value, in each pool.
        """
        below = {t2: t1 for t1, t2 in ORDERED_TIMES}
        found = {name: jnp.asarray(value, cube.dtype) for name, value in self.fixed}
        for name in sorted(self.names):  # T1 before T2
            (low, high), facts = self._ends(name), self._facts[name]
            if name in below:
                high = jnp.minimum(high, _scaled(facts, found[below[name]]))
            value = _unscaled(facts, low + (high - low) * cube[..., self.names.index(name)])
            # In spite of rounding.
            if name in below:
                value = jnp.minimum(found[below[name]], value)
            found[name] = jnp.clip(value, facts.least, facts.most) if facts.may_be_least else value
        return TISSUES[self.kind](**found)

    def corner(self) -> TissueModel:
        """The tissue of the least value of each axis, one voxel."""
        return self.spread(np.zeros((1, len(self.names))))

    @jax.jit
    def spread_to_faces(self, cube, place, lot) -> TissueModel:
        """`spread`, but where ``lot``, (..., 1), is in the lowest two fifths, places are pushed to faces of the cube.

        ``place``, (..., axes), says where each coordinate goes: its lowest fifth to 0, its highest to 1. Both are
        uniform from 0 to 1.
        """
        faces = jnp.where(place < _END, 0, jnp.where(place > 1 - _END, 1, cube))
        return self.spread(jnp.where(lot < _PUSHED, faces, cube))

    @jax.jit
    def coordinates(self, tissue: TissueModel) -> jax.Array:
        """Coordinates of tissue, as generators see tissue: 0 to 1 along each axis, (..., coordinates).

        Traceable, and smooth in the tissue. Axes have the scales of `spread`. A periodic axis is a circle in the unit
        square, and has two coordinates.
        """
        columns = []
        for name in self.names:
            low, high = self._ends(name)
            place = (_scaled(self._facts[name], getattr(tissue, name)) - low) / (high - low)
            if name in self.periodic:
                columns += [(1 + turn(2 * jnp.pi * place)) / 2 for turn in (jnp.cos, jnp.sin)]
            else:
                columns.append(place)
        return jnp.stack([jnp.broadcast_to(each, tissue.shape) for each in columns], axis=-1)

    def _excess(self, tissue):
        """How far outside each atom lies, relative to the end of the range that it passes, (atoms, axes); 0 inside.

        Of what may be 0, or have any sign, it is relative to the end that is farther from 0. Nothing is outside of a
        periodic axis.
        """
        self._require_axes(tissue)
        atoms = jax.tree.map(np.asarray, tissue.ravel())
        columns = []
        for name, low, high in zip(self.names, self.low, self.high, strict=True):
            values = np.broadcast_to(getattr(atoms, name), atoms.shape).astype(float)
            if name in self.periodic:
                beyond = np.zeros(atoms.shape)
            elif self._facts[name].signed or self._facts[name].may_be_least:
                beyond = np.maximum(low - values, values - high) / max(abs(low), abs(high))
            else:
                beyond = np.maximum(low / values, values / high) - 1
            columns.append(np.where(beyond > _MARGIN, beyond, 0))
        return np.stack(columns, axis=1)

    def outside(self, tissue: TissueModel) -> np.ndarray:
        """Which atoms lie outside, (atoms,), bool."""
        return (self._excess(tissue) > 0).any(axis=1)

    def require_inside(self, tissue: TissueModel, advice: str = WIDER_BOX):
        """Raises `ValueError` where an atom lies outside; it names the parameter, the worst value and by how much.

        The ``advice`` ends the message.
        """
        self.require_known(tissue)
        excess = self._excess(tissue)
        outside = (excess > 0).any(axis=1)
        if not outside.any():
            return
        atom, axis = np.unravel_index(np.argmax(excess), excess.shape)
        name, facts = self.names[axis], self._facts[self.names[axis]]
        value = np.broadcast_to(getattr(tissue.ravel(), name), outside.shape)[atom]
        found = f"{facts.per_shown * value:.4g} {facts.shown}".rstrip()
        raise ValueError(
            f"{outside.sum()} of {outside.size} atoms lie outside the trained box; the farthest has {name} = {found}, "
            f"{100 * excess[atom, axis]:.3g} % beyond {self.range_words(name)}; {advice}"
        )

    def range_words(self, name: str) -> str:
        """The range of an axis in the unit of figures, such as ``300 to 3000 ms``."""
        axis, facts = self.names.index(name), self._facts[name]
        low, high = (facts.per_shown * each[axis] for each in (self.low, self.high))
        return f"{low:.4g} to {high:.4g} {facts.shown}".rstrip()

    def require_known(self, tissue: TissueModel):
        """Raises `ValueError` where a parameter with an axis is None, another not as it should, or the kind another."""
        self._require_axes(tissue)
        for name, usual in (self._defaults | dict(self.fixed)).items():
            if name in self.names:
                continue
            values, facts = getattr(tissue, name), self._facts[name]
            flag, unit = flag_name(name, facts), f" {facts.shown}".rstrip()
            if usual is None and values is not None:
                raise ValueError(f"the generator has no axis for {name}: the atoms must have none (no --{flag})")
            # To the rounding of float32.
            if usual is not None and (values is None or not np.allclose(values, float(usual), rtol=_MARGIN, atol=0)):
                held = "none" if values is None else f"{facts.per_shown * np.ravel(values)[0]:.4g}{unit}"
                raise ValueError(
                    f"the generator has no axis for {name}: it must be {facts.per_shown * float(usual):.4g}{unit} for "
                    f"all atoms (--{flag}); got {held}"
                )

    def _require_axes(self, tissue):
        if type(tissue) is not TISSUES[self.kind]:
            kind = kind_of_tissue(tissue)
            raise ValueError(f"the generator is for tissue of the kind {self.kind}, --tissue={self.kind}; got {kind}")
        for name in self.names:
            if getattr(tissue, name) is None:
                raise ValueError(
                    f"the generator has an axis for {name}: the atoms must have it, too, within the trained range of "
                    f"{self.range_words(name)} (--{flag_name(name, self._facts[name])})"
                )

    def _ends(self, name):
        axis, facts = self.names.index(name), self._facts[name]
        return _scaled(facts, self.low[axis]), _scaled(facts, self.high[axis])


def box_of(
    tissue: TissueModel, *, axes: tuple[str, ...] = (), margin: float = 0.0, least_margin: float = 0.0
) -> TissueBox:
    """The box around some tissue, of any shape: `box_of_ranges` of the least and largest value of each parameter.

    Args:
      tissue: the tissue, at least one voxel.
      axes: as of `box_of_ranges`.
      margin: by which the box goes beyond the tissue at either end of an axis, as a share of each range.
      least_margin: the least of these margins, relative to the larger value.

    Raises:
      ValueError: an axis without a range, where nothing makes the box wider.
    """
    facts, ranges = parameters(tissue), ranges_of(tissue)
    for name, (low, high) in ranges.items():
        if low < high or name in (*_ALWAYS_AXES, *axes):
            more = max(margin * (high - low), least_margin * max(abs(low), abs(high)))
            least = facts[name].least if facts[name].may_be_least or facts[name].signed else low / 2
            ranges[name] = max(low - more, least), min(high + more, facts[name].most)
    for t1, t2 in ORDERED_TIMES:
        if t2 in ranges and ranges[t2][0] < ranges[t2][1]:  # of tissue T2 <= T1: the least T2 is no longer than any T1
            ranges[t2] = min(ranges[t2][0], ranges[t1][0]), ranges[t2][1]
    return box_of_ranges(kind_of_tissue(tissue), ranges, axes=axes)


def box_of_ranges(
    kind: str,
    ranges: Mapping[str, tuple[float, float]],
    *,
    axes: tuple[str, ...] = (),
    periodic: tuple[str, ...] = (),
) -> TissueBox:
    """The box of a kind of tissue where what has a range is an axis, and what has one value is fixed.

    Args:
      kind: a name of `TISSUES`.
      ranges: field -> least and largest value, SI; what is left out has its default value.
      axes: parameters that must be axes, beside T1 and T2.
      periodic: of `TissueBox`.

    Raises:
      ValueError: as of `TissueBox`, or T1, T2 or one of the ``axes`` with one value.
    """
    fixed = {name: low for name, (low, high) in ranges.items() if low == high and name not in (*_ALWAYS_AXES, *axes)}
    names = tuple(name for name in ranges if name not in fixed)
    return TissueBox(names, *np.transpose([ranges[name] for name in names]), kind, fixed, periodic)


def ranges_of(tissue: TissueModel) -> dict[str, tuple[float, float]]:
    """Field -> least and largest value, SI, of each parameter that a tissue has."""
    values = {name: np.asarray(value) for name, value in vars(tissue).items() if value is not None}
    return {name: (float(np.min(each)), float(np.max(each))) for name, each in values.items()}


def _scaled(facts, value):
    return log_time(value, facts.offset) if facts.logarithmic else value


def _unscaled(facts, value):
    return jnp.exp(value) - facts.offset if facts.logarithmic else value
