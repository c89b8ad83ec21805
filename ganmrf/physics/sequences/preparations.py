"""Preparations of the magnetisation: ideal ones, and ones that are played pulse by pulse.

A T2 preparation of hard pulses, `hard_t2_preparation`, is::

    RF        |^| 90x            |^| 180y          |^| 90-x
    gradient                                            |####| crusher
    time      |<---- time/2 ---->|<---- time/2 --->|         |<- wait ->|

Between two crushers magnetisation is an affine function of the longitudinal one before: z becomes A z + B, and B and
A + B are what z = 0 and z = 1 become. So a `Played` preparation costs a simulation of its pulses, and no more.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.physics.sequences.pulse_power import check_pulses
from ganmrf.pytrees import floating, pytree, require, require_scale

LONGEST = 10.0  # s, of a frame, a preparation or a delay: twice the time in which any tissue has relaxed


@dataclasses.dataclass(frozen=True)
class _Pulse:
    """A preparation pulse whose transverse magnetisation is crushed, and ``time``, s, until what follows."""

    time: jax.Array | float
    efficiency: jax.Array | float = 1.0
    saturation: jax.Array | float | None = None

    def __post_init__(self):
        check_times(self, "time")
        _check_efficiency(self)
        check_pulses(self, 1, self.efficiency.dtype)

    @property
    def duration(self):
        """Until what follows, s."""
        return self.time


@pytree
class Inversion(_Pulse):
    """An inversion pulse whose transverse magnetisation is crushed, and ``time``, s, until what follows.

    ``efficiency`` is 1 for an ideal pulse, 0 for none: z becomes ``(1 - 2 efficiency) z``. That of a semisolid pool is
    multiplied by ``saturation``, 0 to 1; None for 1.
    """

    @property
    def factor(self):
        """What the pulse multiplies z by."""
        return 1 - 2 * self.efficiency


@pytree
class Saturation(_Pulse):
    """A saturation pulse whose transverse magnetisation is crushed, and ``time``, s, of recovery.

    ``efficiency`` is 1 for an ideal pulse, 0 for none: z becomes ``(1 - efficiency) z``. That of a semisolid pool is
    multiplied by ``saturation``, 0 to 1; None for 1.
    """

    @property
    def factor(self):
        """What the pulse multiplies z by."""
        return 1 - self.efficiency


@pytree
@dataclasses.dataclass(frozen=True)
class T2Preparation:
    """An ideal T2 preparation, 90 - 180 - 90 degrees within ``time``, s, and a ``wait``, s, after its crusher."""

    time: jax.Array | float
    wait: jax.Array | float = 0.0

    def __post_init__(self):
        check_times(self, "time", "wait")

    @property
    def duration(self):
        """Until what follows, s."""
        return self.time + self.wait


@pytree
@dataclasses.dataclass(frozen=True)
class Played:
    """A preparation of hard pulses between two crushers, with B1, off-resonance, and relaxation after each pulse.

    A waveform is many hard pulses. What transverse magnetisation there is before it counts as crushed.

    Attributes:
      flip_angle: nominal flip angles, rad, (pulses,) or one for all, as the next two.
      rf_phase: directions of the pulses in the transverse plane, rad, from +x towards +y.
      time: from each pulse to the next one, and from the last one to the crusher, s.
      wait: from the crusher to what follows, s.
      pulse_duration: of each pulse, s, (pulses,) or one for all, which a semisolid pool needs; None where not known.
      pulse_shape: mean of the squared waveform of a pulse over the squared mean, likewise; None for 1.

    Raises:
      ValueError: values that no scanner plays, counts that disagree, or times that are in ms by their size.
    """

    flip_angle: jax.Array | float
    rf_phase: jax.Array | float
    time: jax.Array | float
    wait: jax.Array | float = 0.0
    pulse_duration: jax.Array | float | None = None
    pulse_shape: jax.Array | float | None = 1.0

    def __post_init__(self):
        check_times(self, "wait")
        values = {name: floating(name, getattr(self, name)) for name in ("flip_angle", "rf_phase", "time")}
        pulses = common_count("Played", "pulses", values)
        require("Played.flip_angle", values["flip_angle"], *FLIP_ANGLES)
        require("Played.rf_phase", values["rf_phase"], np.isfinite, "finite")
        require("Played.time", values["time"], *_TIMES)
        for name, value in values.items():
            object.__setattr__(self, name, jnp.broadcast_to(value, (pulses,)))
        check_pulses(self, pulses, self.flip_angle.dtype)
        require_scale("Played: the sum of its times", self.duration, LONGEST, "s", "ms")

    @property
    def duration(self):
        """Until what follows, s."""
        return self.time.sum() + self.wait


Preparation = Inversion | Saturation | T2Preparation | Played


def hard_inversion(wait, pulse_duration=None) -> Played:
    """A hard pulse of 180 degrees, and ``wait``, s, after its crusher; its duration is that of `Played`."""
    return Played(math.pi, 0.0, 0.0, wait, pulse_duration)


def hard_saturation(wait, pulse_duration=None) -> Played:
    """A hard pulse of 90 degrees, and ``wait``, s, after its crusher; its duration is that of `Played`."""
    return Played(math.pi / 2, 0.0, 0.0, wait, pulse_duration)


def hard_t2_preparation(time, wait=0.0, pulse_duration=None) -> Played:
    """A T2 preparation of hard pulses, 90x - 180y - 90-x within ``time``, s; see the diagram of this module."""
    flip_angle, phase = np.deg2rad([90, 180, 90]), np.deg2rad([0, 90, 180])
    return Played(flip_angle, phase, time * np.array([1 / 2, 1 / 2, 0]), wait, pulse_duration)


def mlev4_t2_preparation(time, wait=0.0, pulse_duration=None) -> Played:
    """A T2 preparation that a wrong B1 or resonance disturbs less: MLEV-4 of composite pulses, all of them hard.

    ::

        RF    90x       C         C         -C        -C       270x, -360x      C = 90x 180y 90x
        time  |<- 1/8 ->|<- 1/4 ->|<- 1/4 ->|<- 1/4 ->|<- 1/8 ->|               of ``time``, s

    References:
      Brittain et al. 1995, Magn Reson Med 33:689. Levitt and Freeman 1981, J Magn Reson 43:65 (composite pulses).
    """
    composite, plus = [90, 180, 90], [0, 90, 0]
    minus = [180, 270, 180]
    flip_angle = np.deg2rad([90, *4 * composite, 270, -360])
    phase = np.deg2rad([0, *2 * plus, *2 * minus, 0, 0])
    shares = np.array([1 / 8, *3 * [0, 0, 1 / 4], 0, 0, 1 / 8, 0, 0])
    return Played(flip_angle, phase, time * shares, wait, pulse_duration)


def waveform(amplitude, rf_phase, duration, wait=0.0) -> Played:
    """A pulse by its samples, each a hard pulse in the middle of its share of ``duration``, s.

    Args:
      amplitude: frequency at which magnetisation turns about the field of the pulse, Hz, (samples,); it may be
        negative.
      rf_phase: direction of that field, rad, (samples,).
      duration: of the pulse, s.
      wait: after its crusher, s.

    Raises:
      ValueError: samples that `Played` refuses: those that turn by more than a whole turn are too far apart.
    """
    amplitude, rf_phase = floating("amplitude", amplitude), floating("rf_phase", rf_phase)
    if amplitude.ndim != 1 or amplitude.shape != rf_phase.shape or not amplitude.size:
        raise ValueError(f"amplitude and rf_phase must be (samples,); got {amplitude.shape} and {rf_phase.shape}")
    step = duration / amplitude.size
    nothing, half = jnp.zeros(1), jnp.full(1, step / 2)  # a pulse of 0 rad waits for the middle of the first sample
    angles = jnp.concatenate([nothing, 2 * jnp.pi * step * amplitude])
    times = jnp.concatenate([half, jnp.full(amplitude.size - 1, step), half])
    return Played(angles, jnp.concatenate([nothing, rf_phase]), times, wait, pulse_duration=step)


def hyperbolic_secant(wait, duration=10e-3, peak=600.0, beta=700.0, mu=4.9, samples: int = 200) -> Played:
    """An adiabatic inversion by a hyperbolic secant, ``peak sech(beta t) ** (1 + i mu)``.

    It inverts a band of ``mu beta / pi`` Hz where the peak is well above ``sqrt(mu) beta / (2 pi)``, 247 Hz.

    Args:
      wait: after its crusher, s.
      duration: of the pulse, s; this, ``beta`` and ``mu`` are by default what public MRF sequences play (OpenMRF).
      peak: largest amplitude, Hz; 600 Hz, 14 uT, is within reach of whole-body coils.
      beta: inverse of its width, 1/s.
      mu: its sweep of frequency over its width.
      samples: of the waveform; 200 hold A to 2e-4.

    References:
      Silver et al. 1984, doi:10.1038/310681a0.
    """
    envelope = 1 / jnp.cosh(beta * duration * ((jnp.arange(samples) + 0.5) / samples - 0.5))
    return waveform(peak * envelope, mu * jnp.log(envelope), duration, wait)


FLIP_ANGLES = (lambda x: np.abs(x) <= 2 * np.pi + 1e-5, "within +-2 pi rad")
_TIMES = (lambda x: (x >= 0) & np.isfinite(x), "0 or more, and finite")


def common_count(kind: str, unit: str, values: dict) -> int:
    """How many there are in values that each have (count,) or one; raises `ValueError` where they disagree.

    Names and values are those of the class ``kind``; ``unit`` is what is counted.
    """
    shapes = {name: np.shape(value) for name, value in values.items() if value is not None}
    count = int(max((np.prod(shape, dtype=int) for shape in shapes.values()), default=0))
    for name, shape in shapes.items():
        if shape not in ((), (count,), (1,)) or not count:
            raise ValueError(f"{kind}.{name} must be ({unit},) of {count} {unit}, or one value; got shape {shape}")
    return count


def check_times(block, *names):
    """Makes fields of a block arrays, and checks that each is one time."""
    for name in names:
        value = floating(name, getattr(block, name))
        _check_single(block, name, value)
        full = f"{type(block).__name__}.{name}"
        require(full, value, *_TIMES)
        require_scale(full, value, LONGEST, "s", "ms")


def _check_efficiency(block):
    value = floating("efficiency", block.efficiency)
    _check_single(block, "efficiency", value)
    require(f"{type(block).__name__}.efficiency", value, lambda x: (x >= 0) & (x <= 1), "0 to 1")


def _check_single(block, name, value):
    if value.ndim:
        raise ValueError(f"{type(block).__name__}.{name} must be one number; got shape {value.shape}")
    object.__setattr__(block, name, value)
