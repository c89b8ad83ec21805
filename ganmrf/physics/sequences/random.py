"""Families of MRF-FISP schedules: random sequences to train and test generators that must serve any spoiled FISP.

Every sampler here is a pure function of a key, with shapes that depend on ``n_frames`` alone: it can be jitted, and
mapped over keys. Neither of the two published schedules can be drawn.
"""

import jax
import jax.numpy as jnp

from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.sequences.published import ECHO_TIME_S

# Most lobes, knots and steps: of 1000 frames each has 125, 33 and 25 on average at least.
_MOST_LOBES, _MOST_KNOTS, _MOST_STEPS = 8, 30, 40
_FLIP_ANGLES_DEG = (2.0, 90.0)  # range of splines and steps
# Mean, and largest deviation from it, of the repetition times of `mrf_fisp`, 12.07 to 14.73 ms.
_MEAN_TR_S, _TR_SWING_S = 13.4e-3, 1.3e-3
_TR_SCALES = (0.8, 1.3)  # of all repetition times of a sequence: for shorter and longer readouts
_TR_KNOT_FRAMES = 40  # frames between two independent values of a smoothly random repetition time
_INVERSION_TIMES_S = (10e-3, 60e-3)  # about the 18 and 20 ms of published schedules


def sample(key: jax.Array, n_frames: int = 1000) -> Fisp:
    """A sequence whose flip angles are half-sine lobes, a spline, steps or a random walk, with random times.

    Flip angles are 0 to 90 degrees, repetition times 9.7 to 19.1 ms, the echo time is 1.908 ms, and the inversion time
    10 to 60 ms.
    """
    keys = jax.random.split(key, 4)
    shapes = [lambda key, draw=draw: draw(key, n_frames) for draw in _SAMPLERS]
    return Fisp(
        flip_angle=jax.lax.switch(jax.random.randint(keys[0], (), 0, len(shapes)), shapes, keys[1]),
        repetition_time=sample_repetition_times(keys[2], n_frames),
        echo_time=ECHO_TIME_S,
        inversion_time=_log_uniform(keys[3], _INVERSION_TIMES_S),
    )


def sample_five_lobes(key: jax.Array) -> jax.Array:
    """Parameters of `five_lobes`, (8,), each from -1 to 1; the last two in the unit disc."""
    keys = jax.random.split(key, 3)
    radius, angle = jax.random.uniform(keys[1]), 2 * jnp.pi * jax.random.uniform(keys[2])
    wave = radius * jnp.stack([jnp.sin(angle), jnp.cos(angle)])
    return jnp.concatenate([jax.random.uniform(keys[0], (6,), minval=-1.0), wave])


def five_lobes(parameters: jax.Array, n_frames: int = 1000) -> Fisp:
    """Sequences like that of the GAN-MRF paper, by eight numbers: five half-sine lobes and a wave of the TR.

    The ``parameters``, (8,), are from -1 to 1: peaks of the equally long lobes, 45 +- 25 degrees; scale of the TR,
    1.05 +- 0.25; amplitudes of its cosine and its sine, +- 1.3 ms, of a period of 170 frames of 1000. The inversion
    time is 20 ms. The sequence is differentiable in the parameters.
    """
    frames = jnp.arange(n_frames)
    peaks = jnp.deg2rad(45 + 25 * parameters[:5])
    phase = 2 * jnp.pi * frames / (0.17 * n_frames)
    wave = parameters[6] * jnp.cos(phase) + parameters[7] * jnp.sin(phase)
    return Fisp(
        flip_angle=lobes(peaks, jnp.ones(5), jnp.deg2rad(5.0), n_frames),
        repetition_time=(1.05 + 0.25 * parameters[5]) * (_MEAN_TR_S + _TR_SWING_S * wave),
        echo_time=ECHO_TIME_S,
        inversion_time=20e-3,
    )


def lobes(peaks, lengths, floor, n_frames: int, sharpness=1.0) -> jax.Array:
    """Flip angles of half-sine lobes over a floor, one after the other, rad, (n_frames,).

    ``peaks``, rad, and ``lengths``, 0 or more in any unit, are (lobes,): together the lobes fill the sequence. The half
    sines are raised to the power ``sharpness``; the ``floor`` is the flip angle between the lobes, rad.
    """
    lobe, place = _segments(lengths, n_frames)
    return floor + (peaks[lobe] - floor) * jnp.sin(jnp.pi * place) ** sharpness


def splines(knots, n_knots, n_frames: int) -> jax.Array:
    """Flip angles of a uniform cubic B-spline, rad, (n_frames,), which stays within the range of its knots.

    The first ``n_knots`` of the ``knots``, 4 or more, are used.
    """
    place = (n_knots - 3) * (jnp.arange(n_frames) + 0.5) / n_frames
    first = jnp.floor(place).astype(int)
    x = place - first
    weights = ((1 - x) ** 3, 3 * x**3 - 6 * x**2 + 4, -3 * x**3 + 3 * x**2 + 3 * x + 1, x**3)
    return sum(weight * knots[first + i] for i, weight in enumerate(weights)) / 6


def piecewise_constant(values, lengths, n_frames: int) -> jax.Array:
    """Flip angles, (n_frames,): each of ``values`` for its share of the frames, ``lengths`` in any unit."""
    return values[_segments(lengths, n_frames)[0]]


def random_walk(key: jax.Array, window, n_frames: int) -> jax.Array:
    """A random walk, averaged over ``window`` frames before and after each frame, and scaled to 0..1; (n_frames,)."""
    total = jnp.cumsum(jnp.cumsum(jax.random.normal(key, (n_frames,))))
    total = jnp.concatenate([jnp.zeros(1), total])
    frames = jnp.arange(n_frames)
    first, last = jnp.maximum(frames - window, 0), jnp.minimum(frames + window + 1, n_frames)
    smooth = (total[last] - total[first]) / (last - first)
    low, high = smooth.min(), smooth.max()
    return (smooth - low) / jnp.where(high > low, high - low, 1)


def sample_repetition_times(key: jax.Array, n_frames: int) -> jax.Array:
    """Repetition times that are constant, a sine, or smoothly random, about a random mean; s, (n_frames,)."""
    keys = jax.random.split(key, 6)
    frames = jnp.arange(n_frames)
    period = jax.random.uniform(keys[0], minval=60.0, maxval=500.0)
    sine = jnp.sin(2 * jnp.pi * (frames / period + jax.random.uniform(keys[1])))
    knots = jax.random.uniform(keys[2], (n_frames // _TR_KNOT_FRAMES + 2,), minval=-1.0)
    smooth = jnp.interp(frames / _TR_KNOT_FRAMES, jnp.arange(knots.size), knots)
    shape = jnp.stack([jnp.zeros(n_frames), sine, smooth])[jax.random.randint(keys[3], (), 0, 3)]
    swing = jax.random.uniform(keys[4], maxval=_TR_SWING_S)
    return jax.random.uniform(keys[5], minval=_TR_SCALES[0], maxval=_TR_SCALES[1]) * (_MEAN_TR_S + swing * shape)


def _segments(lengths, n_frames):
    """For each frame its segment and its place in the segment, 0 to 1; ``lengths`` fill all frames."""
    ends = jnp.cumsum(lengths) * (n_frames / jnp.sum(lengths))
    middle = jnp.arange(n_frames) + 0.5
    segment = jnp.minimum(jnp.searchsorted(ends, middle, side="right"), len(lengths) - 1)
    starts = jnp.concatenate([jnp.zeros(1), ends[:-1]])
    return segment, (middle - starts[segment]) / (ends - starts)[segment]


def _log_uniform(key, limits):
    low, high = jnp.log(jnp.array(limits))
    return jnp.exp(jax.random.uniform(key, minval=low, maxval=high))


def _degrees(key, shape=(), low=_FLIP_ANGLES_DEG[0], high=_FLIP_ANGLES_DEG[1]):
    return jnp.deg2rad(jax.random.uniform(key, shape, minval=low, maxval=high))


def _shares(key, most, n):
    """Lengths of ``n`` segments, in an array of ``most``; the shortest is a fifth of the longest at least."""
    return jnp.where(jnp.arange(most) < n, jax.random.uniform(key, (most,), minval=0.2), 0)


def _sample_lobes(key, n_frames):
    keys = jax.random.split(key, 5)
    peaks, floor = _degrees(keys[0], (_MOST_LOBES,), 10, 90), _degrees(keys[1], (), 0, 12)
    lengths = _shares(keys[2], _MOST_LOBES, jax.random.randint(keys[3], (), 2, _MOST_LOBES + 1))
    return lobes(peaks, lengths, floor, n_frames, jax.random.uniform(keys[4], minval=0.6, maxval=2.0))


def _sample_splines(key, n_frames):
    keys = jax.random.split(key)
    knots = _degrees(keys[0], (_MOST_KNOTS,))
    return splines(knots, jax.random.randint(keys[1], (), 5, _MOST_KNOTS + 1), n_frames)


def _sample_piecewise_constant(key, n_frames):
    keys = jax.random.split(key, 3)
    lengths = _shares(keys[0], _MOST_STEPS, jax.random.randint(keys[1], (), 4, _MOST_STEPS + 1))
    return piecewise_constant(_degrees(keys[2], (_MOST_STEPS,)), lengths, n_frames)


def _sample_random_walk(key, n_frames):
    keys = jax.random.split(key, 4)
    low, high = _degrees(keys[0], (), 2, 15), _degrees(keys[1], (), 30, 90)
    return low + (high - low) * random_walk(keys[2], jax.random.randint(keys[3], (), 3, 40), n_frames)


_SAMPLERS = (_sample_lobes, _sample_splines, _sample_piecewise_constant, _sample_random_walk)
