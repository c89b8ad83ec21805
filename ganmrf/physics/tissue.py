"""Tissue: what spins of voxels are like, as frozen pytrees in SI units, and what is true of each parameter."""

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.pytrees import first_wrong, floating, is_traced, pytree, require, require_scale

ORDERED_TIMES = ("t1", "t2"), ("t1_b", "t2_b")  # of each pool: the second does not exceed the first
FARTHEST_HZ = 10e3  # off resonance: fat, the farthest in a body but for metal, is 1 kHz off at 7 T
_SI_IN_NAMES = {"s": "_s", "Hz": "_hz", "1/s": "_per_s", "": ""}
_SHOWN_IN_NAMES = {"ms": "_ms", "us": "_us", "Hz": "_hz", "1/s": "_per_s", "": ""}


@dataclasses.dataclass(frozen=True)
class Parameter:
    """What is true of a parameter of tissue, said once: axes, checks, files, figures and flags follow from it.

    Attributes:
      name: as figures and reports call it.
      meaning: in words.
      unit: SI unit, empty for a number without one.
      shown: unit in flags and figures.
      per_shown: how many of them a number in SI units is.
      suffix: end of the names of files that hold its map, without ``.nii.gz``.
      scale: largest magnitude in a body, its unit, and the unit that a larger number is in by mistake.
      logarithmic: whether signals change evenly with its logarithm, and that of its ``offset`` added to it.
      offset: far below it, in SI units, values all leave the same signal, and logarithms would set them far apart.
      least: its smallest value, which is itself allowed if ``may_be_least``.
      most: its largest value.
    """

    name: str
    meaning: str
    unit: str
    shown: str
    per_shown: float
    suffix: str
    scale: tuple[float, str, str]
    logarithmic: bool = False
    offset: float = 0.0
    least: float = 0.0
    may_be_least: bool = False
    most: float = np.inf

    @property
    def signed(self) -> bool:
        """Whether it may be negative."""
        return self.least < 0

    @property
    def rule(self) -> str:
        """Which values it may have, in words."""
        if self.signed:
            return "finite"
        if self.most < np.inf:
            return f"{self.least:g} to {self.most:g}"
        return "0 or more, and finite" if self.may_be_least else "positive and finite"

    def allows(self, value) -> np.ndarray:
        """Where values, SI, are ones that it may have."""
        value = np.asarray(value)
        above = value >= self.least if self.may_be_least else value > self.least
        return np.isfinite(value) & above & (value <= self.most)


def _facts(*facts, **more):
    return {"parameter": Parameter(*facts, **more)}


def _time(name, meaning, suffix):
    # Water at body temperature, the slowest there is in a body, has 4.5 s. The offset is half a repetition time:
    # published ones are near 13 ms.
    return _facts(name, meaning, "s", "ms", 1e3, suffix, (20.0, "s", "ms"), logarithmic=True, offset=6.5e-3)


def _frequency(name, meaning, suffix):
    return _facts(name, meaning, "Hz", "Hz", 1.0, suffix, (FARTHEST_HZ, "Hz", "rad/s"), least=-np.inf)


_T1 = _time("T1", "longitudinal relaxation time", "T1map")
_T2 = _time("T2", "transverse relaxation time", "T2map")
_T1_B = _time("T1b", "longitudinal relaxation time of pool b", "desc-poolb_T1map")
_T2_B = _time("T2b", "transverse relaxation time of pool b", "desc-poolb_T2map")
# No pulse is played at ten times its angle.
_SCALE_OF_B1 = 10.0, "parts of the nominal angle", "percent"
_B1 = _facts("B1", "actual over nominal flip angle", "", "", 1.0, "TB1map", _SCALE_OF_B1)
_OFF_RESONANCE = _frequency("B0", "off-resonance", "fieldmap")
_SHIFT = _frequency("shift", "frequency of pool b less that of pool a", "shiftmap")
_SCALE_OF_FRACTION = 1.0, "parts of all magnetisation", "percent"
_FRACTION = _facts(
    "f", "fraction of pool b", "", "", 1.0, "fractionmap", _SCALE_OF_FRACTION, may_be_least=True, most=1.0
)
# Above 1e6 / s exchange is as fast as can be told from none: pools relax as one within a pulse. Below 1 / s spins relax
# before they exchange.
_SCALE_OF_RATE = 1e6, "1/s", "1/min"
_EXCHANGE_RATE = _facts(
    "k",
    "exchange rate k_ab + k_ba",
    "1/s",
    "1/s",
    1.0,
    "exchangeratemap",
    _SCALE_OF_RATE,
    logarithmic=True,
    offset=1.0,
    may_be_least=True,
)
# The lines of tissue have a T2 of some 10 us, and G on resonance is about as long. At 1 us a pulse of 60 degrees that
# takes 1 ms saturates by 3e-3.
_SCALE_OF_LINE = 1e-2, "s", "us"
_LINESHAPE = _facts(
    "G",
    "absorption line of pool b",
    "s",
    "us",
    1e6,
    "lineshapemap",
    _SCALE_OF_LINE,
    logarithmic=True,
    offset=1e-6,
    may_be_least=True,
)


def parameters(tissue) -> dict[str, Parameter]:
    """Field name -> `Parameter`, of a tissue or of a class of tissue, in the order of its fields."""
    return {field.name: field.metadata["parameter"] for field in dataclasses.fields(tissue)}


def variable_name(field: str, parameter: Parameter) -> str:
    """Name of an array in files that holds a parameter in SI units: ``t1_s``."""
    return field + _SI_IN_NAMES[parameter.unit]


def flag_name(field: str, parameter: Parameter) -> str:
    """Name of a flag that takes a parameter in the unit of figures: ``t1_ms``."""
    return field + _SHOWN_IN_NAMES[parameter.shown]


class TissueModel:
    """What every kind of tissue is: fields with a `Parameter` each, arrays whose shapes broadcast."""

    def __post_init__(self):
        kind = type(self).__name__
        for field in dataclasses.fields(self):
            if (value := getattr(self, field.name)) is None and field.default is None:
                continue
            value, parameter = floating(field.name, value), field.metadata["parameter"]
            object.__setattr__(self, field.name, value)
            require(f"{kind}.{field.name}", value, parameter.allows, parameter.rule)
            require_scale(f"{kind}.{field.name}", value, *parameter.scale)
        try:
            _ = self.shape
        except ValueError as error:
            shapes = ", ".join(f"{name} {value.shape}" for name, value in vars(self).items() if value is not None)
            raise ValueError(f"{kind}: the shapes of {shapes} do not broadcast") from error
        for t1, t2 in ORDERED_TIMES:
            if hasattr(self, t2):
                _require_ordered(kind, t1, getattr(self, t1), t2, getattr(self, t2))

    @property
    def shape(self) -> tuple[int, ...]:
        """Common broadcast shape of the fields."""
        return np.broadcast_shapes(*(np.shape(leaf) for leaf in vars(self).values() if leaf is not None))

    @property
    def size(self) -> int:
        """Number of voxels."""
        return int(np.prod(self.shape))

    def ravel(self):
        """The same voxels in one dimension: t1 and t2 (voxels,), the others (voxels,) or one number for all voxels."""
        flat = {
            name: jnp.broadcast_to(value, self.shape).ravel()
            for name, value in vars(self).items()
            if value is not None and (name in ("t1", "t2") or np.ndim(value))
        }
        return dataclasses.replace(self, **flat)

    def rows(self, index):
        """Some voxels of a tissue in one dimension, by any NumPy index; what is one number for all stays one."""
        return jax.tree.map(lambda leaf: leaf[index] if leaf.ndim else leaf, self)


def _require_ordered(kind, t1_name, t1, t2_name, t2):
    if is_traced(t1, t2):
        return
    t1, t2 = np.broadcast_arrays(t1, t2)
    if (wrong := t2 > t1).any():
        values = f"{t2_name} = {first_wrong(t2, wrong)}, {t1_name} = {first_wrong(t1, wrong)}"
        raise ValueError(f"{kind}.{t2_name} must not exceed {t1_name}; got {values}")


@pytree
@dataclasses.dataclass(frozen=True)
class Tissue(TissueModel):
    """Relaxation times, transmit field and off-resonance of one or many voxels of one pool of spins.

    Attributes:
      t1: longitudinal relaxation time, s, any shape.
      t2: transverse relaxation time, s, any shape that broadcasts with ``t1``.
      b1: actual over nominal flip angle (B1+), dimensionless, any shape that broadcasts with ``t1``.
      off_resonance: frequency of the spins less that of the scanner, Hz, likewise; positive turns Mx + i My
        counter-clockwise. None, unlike 0, keeps the signals of phases that are half turns real.

    Raises:
      ValueError: a time or ``b1`` that is not positive and finite, T2 > T1, shapes that do not broadcast, or values
        that are in ms, percent or rad/s by their size (`ganmrf.pytrees.unusual_values` allows them).
    """

    t1: jax.Array = dataclasses.field(metadata=_T1)
    t2: jax.Array = dataclasses.field(metadata=_T2)
    b1: jax.Array | float = dataclasses.field(default=1.0, metadata=_B1)
    off_resonance: jax.Array | float | None = dataclasses.field(default=None, metadata=_OFF_RESONANCE)


@pytree
@dataclasses.dataclass(frozen=True)
class ExchangingPools(TissueModel):
    """Two mobile pools of spins, a and b, that exchange (Bloch-McConnell): both make signal. Shapes all broadcast.

    Pool a and pool b can be named either way with the same signal. The convention is that b is the smaller one, a
    ``fraction`` of 1/2 at most, or the one of shorter T2.

    Attributes:
      t1: longitudinal relaxation time of pool a, s.
      t2: transverse relaxation time of pool a, s.
      fraction: part of the equilibrium magnetisation that is in pool b, 0 to 1.
      exchange_rate: k = k_ab + k_ba, 1/s, 0 or more; a spin leaves pool a at the rate ``k fraction`` and pool b at the
        rate ``k (1 - fraction)``, as detailed balance has it.
      t1_b: longitudinal relaxation time of pool b, s.
      t2_b: transverse relaxation time of pool b, s.
      b1: actual over nominal flip angle.
      shift: frequency of pool b less that of pool a, Hz; None, unlike 0, keeps signals real.
      off_resonance: frequency of pool a less that of the scanner, Hz, as of `Tissue`.

    Raises:
      ValueError: as `Tissue`, in either pool, a fraction outside 0 to 1, or a negative rate.

    Warns:
      UserWarning: pools that are named the other way than by convention.

    References:
      McConnell 1958, doi:10.1063/1.1744152. Malik et al. 2018, doi:10.1002/mrm.27040.
    """

    t1: jax.Array = dataclasses.field(metadata=_T1)
    t2: jax.Array = dataclasses.field(metadata=_T2)
    fraction: jax.Array | float = dataclasses.field(metadata=_FRACTION)
    exchange_rate: jax.Array | float = dataclasses.field(metadata=_EXCHANGE_RATE)
    t1_b: jax.Array | float = dataclasses.field(metadata=_T1_B)
    t2_b: jax.Array | float = dataclasses.field(metadata=_T2_B)
    b1: jax.Array | float = dataclasses.field(default=1.0, metadata=_B1)
    shift: jax.Array | float | None = dataclasses.field(default=None, metadata=_SHIFT)
    off_resonance: jax.Array | float | None = dataclasses.field(default=None, metadata=_OFF_RESONANCE)

    def __post_init__(self):
        super().__post_init__()
        if is_traced(self.fraction, self.t2, self.t2_b):
            return
        fraction, t2, t2_b = np.broadcast_arrays(self.fraction, self.t2, self.t2_b)
        if (swapped := (fraction > 1 / 2) & (t2_b > t2)).any():
            warnings.warn(
                f"ExchangingPools: by convention pool b is the smaller one or that of shorter T2; got fraction = "
                f"{first_wrong(fraction, swapped)} with t2_b = {first_wrong(t2_b, swapped)}, t2 = "
                f"{first_wrong(t2, swapped)}: with a and b swapped the signal is the same",
                stacklevel=3,
            )


@pytree
@dataclasses.dataclass(frozen=True)
class SemisolidPool(TissueModel):
    """A mobile pool of spins, a, that exchanges with a semisolid one, b: magnetisation transfer. Shapes all broadcast.

    The semisolid pool makes no signal; pulses saturate it by their power, which a sequence says by its
    ``pulse_duration`` and ``pulse_shape``.

    Attributes:
      t1: longitudinal relaxation time of pool a, s.
      t2: transverse relaxation time of pool a, s.
      fraction: part of the equilibrium magnetisation that is in pool b, 0 to 1.
      exchange_rate: k = k_ab + k_ba, 1/s, 0 or more, as of `ExchangingPools`.
      t1_b: longitudinal relaxation time of pool b, s.
      lineshape: absorption line of pool b at the frequency of the pulses, s; `ganmrf.physics.lineshape` has it.
      b1: actual over nominal flip angle.
      off_resonance: frequency of pool a less that of the scanner, Hz, as of `Tissue`.

    Raises:
      ValueError: as `Tissue`, a fraction outside 0 to 1, a negative rate or line shape.

    References:
      Henkelman et al. 1993, doi:10.1002/mrm.1910290607. Malik et al. 2018, doi:10.1002/mrm.27040.
    """

    t1: jax.Array = dataclasses.field(metadata=_T1)
    t2: jax.Array = dataclasses.field(metadata=_T2)
    fraction: jax.Array | float = dataclasses.field(metadata=_FRACTION)
    exchange_rate: jax.Array | float = dataclasses.field(metadata=_EXCHANGE_RATE)
    t1_b: jax.Array | float = dataclasses.field(metadata=_T1_B)
    lineshape: jax.Array | float = dataclasses.field(metadata=_LINESHAPE)
    b1: jax.Array | float = dataclasses.field(default=1.0, metadata=_B1)
    off_resonance: jax.Array | float | None = dataclasses.field(default=None, metadata=_OFF_RESONANCE)


TISSUES = {"one_pool": Tissue, "exchanging": ExchangingPools, "semisolid": SemisolidPool}  # by the names of flags
FACTS = {field: facts for kind in TISSUES.values() for field, facts in parameters(kind).items()}  # of any of them


def kind_of_tissue(tissue: TissueModel) -> str:
    """The name of a tissue's kind among `TISSUES`; `ValueError` for tissue that is none of them."""
    for kind, cls in TISSUES.items():
        if isinstance(tissue, cls):
            return kind
    raise ValueError(f"{type(tissue).__name__} is none of {', '.join(TISSUES)}")
