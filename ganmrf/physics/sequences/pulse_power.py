"""What pulses do to a semisolid pool: by their power, which needs the duration and the shape of each.

A pulse of the waveform s turns by ``integral of s``; the power that saturates is ``integral of s^2``, which is
``shape / duration`` times the square of the flip angle, with ``shape = <s^2> / <s>^2``.
"""

import warnings

import jax.numpy as jnp
import numpy as np

from ganmrf.pytrees import first_wrong, floating, is_traced, require, require_positive, require_scale

_LONGEST = 0.1  # s, of a pulse: 100 times the pulses of fingerprinting, and 1 ms is meant where more is given
_SHORTEST = 0.3e-3  # s: see `require_pulse_durations`
_FIELDS = "pulse_duration", "pulse_shape", "saturation_angle"
_OF_POOL = "inversion_saturation", "saturation"  # what a preparation leaves of a semisolid pool


def check_pulses(block, frames: int, dtype):
    """Makes the fields of a block or sequence that say the power of its pulses arrays, and checks them.

    Each is one number or (frames,). Without a duration the others say nothing, and are None, which is no leaf.

    Raises:
      ValueError: a duration that is not positive, longer than its frame or in ms by its size, a shape below 1, a
        fraction of magnetisation outside 0 to 1, an angle that is not finite, another number of frames, or what goes
        with a duration without one.
    """
    kind, unknown = type(block).__name__, getattr(block, "pulse_duration", 0) is None
    for name in (*_FIELDS, *_OF_POOL):
        value = getattr(block, name, None)
        if unknown and value is not None:
            if name == "saturation_angle" or is_traced(value) or np.ndim(value) or float(value) != 1.0:
                raise ValueError(f"{kind}.{name} goes with a pulse_duration, which is None; got {value}")
            object.__setattr__(block, name, None)
        if unknown or value is None:
            continue
        value = jnp.asarray(value, dtype) if isinstance(value, int | float) else floating(name, value)
        if value.shape not in ((), (frames,)) or (name not in _FIELDS and value.ndim):
            raise ValueError(f"{kind}.{name} must be one number or one for each of {frames} frames; got {value.shape}")
        object.__setattr__(block, name, value)
        full = f"{kind}.{name}"
        if name == "pulse_duration":
            require_positive(full, value)
            require_scale(full, value, _LONGEST, "s", "ms")
            _require_room(full, value, getattr(block, "repetition_time", None))
        elif name == "pulse_shape":  # the mean of squares is never below the square of the mean
            require(full, value, lambda x: (x >= 1 - 1e-5) & np.isfinite(x), "1 or more, and finite")
        elif name == "saturation_angle":
            require(full, value, np.isfinite, "finite")
        else:
            require(full, value, lambda x: (x >= 0) & (x <= 1), "0 to 1")


def _require_room(name, duration, repetition_time):
    """Raises `ValueError` for pulses that last longer than their frames, where these are known."""
    if repetition_time is None or is_traced(duration, repetition_time):
        return
    duration, end = np.broadcast_arrays(duration, repetition_time)
    if (wrong := duration > end).any():
        frame = end.flat[np.argmax(wrong)]
        raise ValueError(
            f"{name} must be no longer than the repetition time, {frame:.6g} s; got {first_wrong(duration, wrong)} s"
        )


def pulses_of(sequence, frames=slice(None)) -> dict:
    """The fields that say the power of pulses, for a part of a sequence: of some ``frames``."""
    found = {name: getattr(sequence, name, None) for name in _FIELDS}
    return {name: value[frames] if np.ndim(value) else value for name, value in found.items()}


def saturating_power(train, b1):
    """Integral of the squared rate of rotation over each pulse of a train or preparation, rad^2/s, (pulses, lanes)."""
    square, off_resonance = train.flip_angle**2, getattr(train, "saturation_angle", None)
    if off_resonance is not None:
        square = square + off_resonance**2
    shape = 1.0 if train.pulse_shape is None else train.pulse_shape
    return jnp.reshape(shape / train.pulse_duration * square, (-1, 1)) * jnp.reshape(b1, (1, -1)) ** 2


def require_durations(name: str, duration):
    """Raises `ValueError` where a semisolid pool meets pulses whose ``duration`` is not known.

    Warns of pulses that are so short that the semisolid pool turns rather than saturates.

    References:
      Asslaender et al. 2022, doi:10.1002/mrm.29071.
    """
    if duration is None:
        raise ValueError(
            f"{name} must be given, s, for a SemisolidPool, which pulses saturate by their power; got None"
        )
    if not is_traced(duration) and np.min(np.asarray(duration)) < _SHORTEST:
        warnings.warn(
            f"{name} is {1e3 * float(np.min(np.asarray(duration))):.3g} ms: pulses below {1e3 * _SHORTEST:g} ms turn a "
            "semisolid pool rather than saturate it (doi:10.1002/mrm.29071), which is not simulated",
            stacklevel=4,
        )
