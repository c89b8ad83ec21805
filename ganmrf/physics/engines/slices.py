"""Isochromats across a slice: every position of every voxel is turned by the pulse, dephases and relaxes by itself.

Lanes are voxels, and positions are in front of them, a few at a time in one kernel: the magnetisation of so many stays
in the first-level cache, and what a position has in common for all voxels is read once.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ganmrf.physics.engines import one_kernel
from ganmrf.physics.engines.isochromats import at_echo
from ganmrf.physics.engines.looping import in_blocks
from ganmrf.physics.lowering import Coefficients
from ganmrf.physics.rf_pulse import LARGEST_ANGLE
from ganmrf.physics.slice_positions import BLOCK, FullPositions

_FEWEST = 1e-30  # squares of parts of spinors: below it there is no direction, and a turn of none is as good as any


def slice_signal(
    coefficients: Coefficients, turns: tuple[int, ...], positions: FullPositions, block: int, in_kernel: bool
) -> tuple[jax.Array, ...]:
    """Signals (frames, lanes) integrated over a slice: (real part,), or (real, imaginary).

    They are real where ``positions`` are mirrored. ``turns`` are those at the end of every frame, (frames,). Reverse
    mode stores the magnetisation between blocks of ``block`` frames only.
    """
    c, n_frames = coefficients, len(coefficients.e1)
    if n_frames == 1 and in_kernel:  # XLA aborts on a loop of one turn within one kernel
        twice = jax.tree.map(lambda each: jnp.concatenate([each, each]) if jnp.ndim(each) == 2 else each, vars(c))
        return tuple(each[:1] for each in slice_signal(Coefficients(**twice), 2 * turns, positions, block, in_kernel))
    dtype = c.e1.dtype
    lane_turn = () if c.turn is None else one_kernel.cos_sin(c.turn, in_kernel)
    inputs = c.e1, c.e2, c.recovery, lane_turn
    n_parts = 1 if positions.mirrored else 2

    def over_positions(total, polynomials, dephasing, weights):
        """``total``, (frames, lanes) of each part, and the signals of some positions, (positions, 1)."""
        shared = c.angle.shape[1] == 1

        def rotations(angle):
            return rotation(polynomials, angle, in_kernel)

        dephased = _dephased(turns, dephasing, in_kernel)
        if shared:  # with the last pulse again, so that each has a next one
            pulses = _fused(rotations(jnp.concatenate([c.angle, c.angle[-1:]])), dephased, weights)
        else:
            pulses = c.angle, *dephased

        def frame(state, inputs):
            x, y, z = state
            pulse, lanes, total = inputs
            e1, e2, recovery, lane_turn = jax.tree.map(lambda each: each[None], lanes)
            if not shared:
                angle, *spoil = pulse
                cos, sin, pre, post = rotations(angle)
                x, y = _turned(x, y, *pre)
                pulse = cos, sin, *_product(post, spoil), *(weights * part for part in post)
            cos, sin, *turn, real, imaginary = pulse
            x, z = cos * x + sin * z, e1 * (cos * z - sin * x) + (1 - e1 if recovery is None else recovery)
            seen = (real * x - imaginary * y, imaginary * x + real * y)[:n_parts]
            total = tuple(old + _summed(each, in_kernel) for old, each in zip(total, seen, strict=True))
            x, y = _turned(x, y, *turn)
            if lane_turn:
                x, y = _turned(x, y, *lane_turn)
            return (e2 * x, e2 * y, z), total

        n_lanes = max(each.shape[1] for each in jax.tree.leaves((inputs, c.angle)))
        zero = jnp.zeros((len(weights), n_lanes), dtype)
        start, frames = (zero, zero, zero + c.z0[None]), (pulses, inputs, total)
        if in_kernel:
            return lax.scan(frame, start, frames)[1]
        run = jax.checkpoint(lambda state, frames: lax.scan(frame, state, frames))
        seen = lax.scan(run, start, in_blocks(frames, block))[1]
        return tuple(each.reshape(-1, each.shape[-1])[:n_frames] for each in seen)

    def some(start, size):
        arrays = positions.polynomials, positions.dephasing, positions.weights
        if size is not None:
            arrays = [lax.dynamic_slice_in_dim(each, start, size, each.ndim - 1) for each in arrays]
        return [each[..., None].astype(dtype) for each in arrays]

    nothing = tuple(jnp.zeros((n_frames, c.e1.shape[1]), dtype) for _ in range(n_parts))
    if in_kernel:
        seen = lax.fori_loop(
            0, positions.n_blocks, lambda n, total: over_positions(total, *some(n * BLOCK, BLOCK)), nothing
        )
    else:
        seen = over_positions(nothing, *some(0, None))
    if c.echo_turn is None:
        return tuple(c.echo * part for part in seen)
    return at_echo(seen, c.echo, *one_kernel.cos_sin(c.echo_turn, in_kernel))


def rotation(polynomials, angle, in_kernel):
    """Rotations ``Rz(post) Rx(flip) Rz(pre)`` of `slice_positions` by angles, rad, (..., 1 or lanes).

    Returns:
      Cosine and sine of flip, and of pre and post each as a pair, (..., positions, 1 or lanes).
    """
    angle = angle[..., None, :]
    square = angle * angle
    by = square * (2 / LARGEST_ANGLE**2) - 1
    polynomials = polynomials.reshape(*polynomials.shape[:2], *(1,) * (by.ndim - 2), *polynomials.shape[2:])
    ar, ai, br, bi = polynomials[-1]
    for n in range(len(polynomials) - 2, -1, -1):
        ar, ai, br, bi = (value * by + each for value, each in zip((ar, ai, br, bi), polynomials[n], strict=True))
    ar, ai, br, bi = _held((ar, ai, br, bi), in_kernel)
    a, b = ar * ar + ai * ai, br * br + bi * bi
    # Without size there is no direction, and any is as good.
    has_a, has_b = a > _FEWEST, b > _FEWEST
    ar, br = jnp.where(has_a, ar, 1), jnp.where(has_b, br, 1)
    inverse = 1 / jnp.sqrt(jnp.where(has_a, a, 1) * jnp.where(has_b, b, 1))
    (inverse,) = _held((inverse,), in_kernel)
    turned = square * b
    # |a|^2 + |b|^2 is 1, but for rounding that a thousand rotations would add up; to first order this is its inverse.
    norm = 2 - a - turned
    sin = 2 * angle * norm * a * b * inverse
    real, imaginary, both, neither = ar * br, ai * bi, ar * bi, ai * br
    post = (real + imaginary) * inverse, (both - neither) * inverse
    pre = (real - imaginary) * inverse, -(both + neither) * inverse
    return (a - turned) * norm, sin, pre, post


def _held(values, in_kernel):
    """The values; in a kernel read from a buffer, as XLA would compute them again for each number made from them."""
    if not in_kernel:
        return values
    buffer = jnp.zeros((len(values) + 1, *values[0].shape), values[0].dtype)
    for n, value in enumerate(values):
        buffer = buffer.at[n].set(value)
    return tuple(buffer[n] for n in range(len(values)))


def _fused(rotations, dephased, weights):
    """Of every frame but the last: flip, the turn after its pulse and before the next one, and post times weights."""
    cos, sin, pre, post = rotations
    cos, sin, *post = (each[:-1] for each in (cos, sin, *post))
    following = [each[1:] for each in pre]
    turn = _product(_product(post, following), dephased)
    return cos, sin, *turn, *(weights[None] * part for part in post)


def _dephased(turns, dephasing, in_kernel):
    """Cosine and sine of what frames dephase, (frames, positions, 1)."""
    distinct, place = np.unique(turns, return_inverse=True)
    angles = np.asarray(distinct, float)[:, None, None].astype(dephasing.dtype) * dephasing[None]
    cos_sin = one_kernel.cos_sin(angles[..., 0], in_kernel)
    if len(distinct) == 1:
        return tuple(jnp.broadcast_to(each[..., None], (len(turns), *angles.shape[1:])) for each in cos_sin)
    # Frames of many kinds are few; a list of rows would be slow in XLA.
    masks = [jnp.asarray(place == n, dephasing.dtype)[:, None] for n in range(len(distinct))]
    return tuple(sum(mask * row[None] for mask, row in zip(masks, each, strict=True))[..., None] for each in cos_sin)


def _turned(x, y, cos, sin):
    return cos * x - sin * y, sin * x + cos * y


def _product(one, other):
    """The product of two complex numbers as pairs."""
    return _turned(*one, *other)


def _summed(values, in_kernel):
    """Sum over positions, (lanes,); in a kernel by vector additions, as XLA's sum adds one number at a time there."""
    if not in_kernel:
        return values.sum(axis=0)
    rows = [values[n : n + 1] for n in range(len(values))]
    while len(rows) > 1:
        rows = [a + b for a, b in zip(rows[::2], rows[1::2], strict=True)]  # of 8
    return rows[0][0]
