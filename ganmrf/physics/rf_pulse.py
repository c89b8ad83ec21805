"""RF pulses with their slice gradient, and the rotation that they are at every position of a slice.

A pulse is played while a gradient dephases the spins across the slice::

    RF              ..||#####||..          samples: hard pulses, each between two halves of its share of the turns
    gradient       |#############|         time_bandwidth turns across one slice thickness
                |##|             |##|      half of them taken back before, half of them after

What is left is a rotation at the pulse's centre. Every rotation is ``Rz(post) Rx(flip) Rz(pre)``, ``pre`` first. Here
rotations are spinors (Cayley-Klein parameters): ``U = [[a, -conj(b)], [b, conj(a)]]``, where ``exp(-i t n.sigma / 2)``
is the right-handed rotation by t about n. Relaxation and off-resonance during the pulse are left out: both act on the
time between the centres of pulses.

References: Pauly, Le Roux, Nishimura & Macovski 1991, doi:10.1109/42.75611, for spinors of hard pulses.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ganmrf.pytrees import is_traced, require, require_positive, require_whole

WINDOWS = {"hann": 0.5, "hamming": 0.46, "none": 0.0}  # share a of the cosine: (1 - a) + a cos(2 pi t / duration)
LARGEST_ANGLE = 2 * np.pi  # rad, of flip angle times B1 where a slice is simulated: a whole turn
N_SAMPLES = 180  # 90 samples of a time-bandwidth product of 8 change signals by 7e-4


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass(frozen=True, eq=False)
class RfPulse:
    """A slice-selective pulse as hard pulses between shares of its gradient's dephasing.

    For JAX a pulse is a part of a tree's structure, and no leaf: the number of positions in a slice depends on it.

    Attributes:
      samples: share of the flip angle that each hard pulse turns, (samples,), real, or complex where the phase is
        modulated; their sum is 1, so that a spin in the middle of the slice is turned by the flip angle.
      time_bandwidth: full turns of dephasing across one slice thickness during the pulse, half of them taken back
        before and half after it. The slice thickness is the bandwidth over the gradient: this is duration times
        bandwidth.

    Raises:
      ValueError: samples that are not finite or not in one dimension, whose sum is not 1 (`of_waveform` scales them),
        or a ``time_bandwidth`` that is not positive: without a gradient there is no slice.
    """

    samples: np.ndarray
    time_bandwidth: float

    def __post_init__(self):
        samples = np.array(self.samples)
        if samples.ndim != 1 or samples.size == 0 or samples.dtype.kind not in "iufc":
            raise ValueError(f"RfPulse.samples must be (samples,), not empty, and numbers; got shape {samples.shape}")
        require("RfPulse.samples", samples, np.isfinite, "finite")
        require_positive("RfPulse.time_bandwidth", self.time_bandwidth, "positive and finite: no gradient, no slice")
        samples = samples.astype(complex if samples.dtype.kind == "c" else float)
        # Rounding of float32 samples stays far below it.
        if abs(samples.sum() - 1) > 1e-4:
            raise ValueError(
                f"RfPulse.samples must sum to 1 (RfPulse.of_waveform scales them); got {samples.sum():.6g}"
            )
        samples.setflags(write=False)
        object.__setattr__(self, "samples", samples)
        object.__setattr__(self, "time_bandwidth", float(self.time_bandwidth))

    @property
    def is_real(self) -> bool:
        """Whether the phase is 0 or 180 degrees throughout, so that positions on either side mirror each other."""
        return self.samples.dtype.kind == "f"

    def _identity(self):
        return self.samples.dtype, self.samples.tobytes(), self.time_bandwidth

    def __eq__(self, other):
        return isinstance(other, RfPulse) and self._identity() == other._identity()

    def __hash__(self):
        return hash(self._identity())

    def tree_flatten(self):
        """No leaves: all of it is structure."""
        return (), self

    @classmethod
    def tree_unflatten(cls, pulse, _):
        """From `tree_flatten`."""
        return pulse

    @classmethod
    def of_waveform(cls, waveform, time_bandwidth: float) -> "RfPulse":
        """The pulse of a waveform in any unit, real or complex, at equal steps of time, (samples,).

        Raises:
          ValueError: a waveform without area, which turns nothing in the middle of the slice, or as `RfPulse`.
        """
        waveform = np.asarray(waveform)
        require("waveform", waveform, np.isfinite, "finite")
        area, most = waveform.sum(), np.abs(waveform).sum()
        # No pulse is played whose middle turns a millionth of what its parts would turn together.
        if not abs(area) > 1e-6 * most:
            raise ValueError(f"waveform must have an area, the flip angle in the middle of the slice; got {area:.6g}")
        return cls(waveform / area, time_bandwidth)


def windowed_sinc(time_bandwidth: float, window: str | np.ndarray, n_samples: int = N_SAMPLES) -> RfPulse:
    """The pulse ``window(t) sinc(time_bandwidth t)``, ``|t| <= 1/2`` durations, at the middle of equal steps of time.

    Args:
      time_bandwidth: duration times bandwidth, the number of zero crossings of the sinc, positive.
      window: a name of `WINDOWS`, or the values of any other at the samples, (n_samples,).
      n_samples: hard pulses that stand for it.

    Raises:
      ValueError: an argument out of range, an unknown window, or one of another number of samples.
    """
    time = _middles(time_bandwidth, n_samples)
    if isinstance(window, str):
        if window not in WINDOWS:
            raise ValueError(f"window must be one of {', '.join(WINDOWS)}; got {window!r}")
        window = 1 - WINDOWS[window] + WINDOWS[window] * np.cos(2 * np.pi * time)
    elif np.shape(window) != time.shape:
        raise ValueError(f"window must have {n_samples} values, one for each sample; got shape {np.shape(window)}")
    return RfPulse.of_waveform(np.asarray(window) * np.sinc(time_bandwidth * time), time_bandwidth)


def gaussian(time_bandwidth: float, n_samples: int = N_SAMPLES) -> RfPulse:
    """The pulse of a Gaussian slice: its profile at small flip angles is ``exp(-4 ln 2 z**2)`` at z thicknesses.

    The bandwidth is the full width of that profile at half its height. The pulse is cut off, not forced to 0, at the
    ends of its duration, where ``exp(-(pi time_bandwidth)**2 / (16 ln 2))`` of its peak is left: 3 % of a
    time-bandwidth product of 2, 3e-4 of 3. What is left there is how far the profile can be from a Gaussian.

    Args:
      time_bandwidth: duration times bandwidth, positive.
      n_samples: hard pulses that stand for it, at the middle of equal steps of time.

    Raises:
      ValueError: an argument out of range.
    """
    time = _middles(time_bandwidth, n_samples)
    waveform = np.exp(-((np.pi * time_bandwidth * time) ** 2) / (4 * np.log(2)))
    return RfPulse.of_waveform(waveform, time_bandwidth)


def _middles(time_bandwidth, n_samples):
    """The middles of equal steps of time, in durations of a pulse from its middle, (n_samples,)."""
    require_positive("time_bandwidth", time_bandwidth)
    require_whole("n_samples", n_samples)
    return (np.arange(n_samples) + 0.5) / n_samples - 0.5


def spinors(pulse: RfPulse, angle, position):
    """The spinors a and b of a pulse, complex, of flip angles at positions that broadcast with each other.

    Args:
      pulse: the pulse.
      angle: actual flip angle in the middle of the slice, flip angle times B1, rad.
      position: distance from the middle in slice thicknesses; at positive ones the gradient turns Mx + i My
        counter-clockwise.

    Returns:
      a and b: complex128, or JAX's complex dtype where something is traced.
    """
    xp = jnp if is_traced(angle, position) else np
    n_samples = pulse.samples.size
    turn = 2 * xp.pi * pulse.time_bandwidth * xp.asarray(position)
    angle, turn = xp.broadcast_arrays(xp.asarray(angle), turn)
    samples = xp.asarray(pulse.samples)
    size, axis = xp.abs(samples), xp.exp(1j * xp.angle(samples))
    quarter = xp.exp(-0.25j * turn / n_samples)  # half of a sample's turn: a is multiplied by it, b by its conjugate
    before = xp.exp(0.25j * turn)  # half of the turns, taken back

    def play(spinor, sample):
        (a, b), (size, axis) = spinor, sample
        a, b = a * quarter, b * xp.conj(quarter)
        cos, sin = xp.cos(0.5 * size * angle), -1j * axis * xp.sin(0.5 * size * angle)
        a, b = cos * a - xp.conj(sin) * b, sin * a + cos * b
        return (a * quarter, b * xp.conj(quarter)), None

    spinor = before, xp.zeros_like(before)
    if xp is jnp:
        (a, b), _ = lax.scan(play, spinor, (size, axis))
    else:
        for sample in zip(size, axis, strict=True):
            spinor, _ = play(spinor, sample)
        a, b = spinor
    return a * before, b * xp.conj(before)


def rotation(pulse: RfPulse, angle, position):
    """The rotation ``Rz(post) Rx(flip) Rz(pre)`` of a pulse: its flip angle, and phases before and after it, rad.

    The arguments are those of `spinors`. Flip angles are 0 to pi.

    Returns:
      flip, pre, post, of the common shape of ``angle`` and ``position``; float64, or JAX's float where traced.
    """
    xp = jnp if is_traced(angle, position) else np
    a, b = spinors(pulse, angle, position)
    total, difference = -2 * xp.angle(a), 2 * xp.angle(1j * b)
    return 2 * xp.arctan2(xp.abs(b), xp.abs(a)), (total - difference) / 2, (total + difference) / 2
