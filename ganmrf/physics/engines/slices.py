"""Isochromats across a slice: every position of every voxel is turned by the pulse, dephases and relaxes by itself.

Lanes are voxels, and positions are in front of them, a few at a time in one kernel: the magnetisation of so many stays
in the first-level cache, and what a position has in common for all voxels is read once.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ganmrf.physics.engines import one_kernel
from ganmrf.physics.engines.isochromats import at_echo, relaxed, turned
from ganmrf.physics.engines.looping import in_blocks
from ganmrf.physics.engines.parts import times
from ganmrf.physics.engines.slice_pulses import played, rotation
from ganmrf.physics.lowering import Coefficients
from ganmrf.physics.slice_positions import BLOCK, FullPositions


def slice_signal(
    coefficients: Coefficients, turns: tuple[int, ...], positions: FullPositions, block: int, in_kernel: bool
) -> tuple[jax.Array, ...]:
    """Signals (frames, lanes) integrated over a slice: (real part,), or (real, imaginary).

    They are real where ``positions`` are mirrored. ``turns`` are those at the end of every frame, (frames,). Reverse
    mode stores the magnetisation between blocks of ``block`` frames only.
    """
    c, n_frames = coefficients, coefficients.n_frames
    if n_frames == 1 and in_kernel:  # XLA aborts on a loop of one turn within one kernel
        twice = jax.tree.map(lambda each: jnp.concatenate([each, each]) if jnp.ndim(each) == 2 else each, vars(c))
        return tuple(each[:1] for each in slice_signal(Coefficients(**twice), 2 * turns, positions, block, in_kernel))
    arrays = positions.polynomials, positions.dephasing, positions.weights
    arrays = [each[..., None].astype(c.angle.dtype) for each in arrays]  # (..., positions, 1)
    empty = jnp.zeros_like(c.longitudinal[0][0])
    nothing = ((empty,) * (1 if positions.mirrored else 2),) * len(c.transverse)
    if in_kernel:

        def add_block(n, total):
            some = [lax.dynamic_slice_in_dim(each, n * BLOCK, BLOCK, each.ndim - 2) for each in arrays]
            return _added(total, c, turns, *some, block, in_kernel)

        seen = lax.fori_loop(0, positions.n_blocks, add_block, nothing)
    else:
        seen = _added(nothing, c, turns, *arrays, block, in_kernel)
    return at_echo(seen, c.echo, *(() if c.echo_turn is None else one_kernel.cos_sin(c.echo_turn, in_kernel)))


def _added(total, coefficients, turns, polynomials, dephasing, weights, block, in_kernel, before=None):
    """``total``, (frames, lanes) of each part of each pool, and signals right after each pulse of some positions.

    ``before`` are isochromats that the first pulse finds, as in `turned`, (positions, lanes); None for those of rest.
    """
    c, shared = coefficients, coefficients.angle.shape[1] == 1
    lane_turn = () if c.turn is None else one_kernel.cos_sin(c.turn, in_kernel)
    pulses = c.angle, _dephased(turns, dephasing, in_kernel)
    if shared:
        pulses = _fused(polynomials, *pulses, weights, in_kernel)

    def frame(state, inputs):
        across, along = state
        pulse, lanes, total = inputs
        *relaxing, lane_turn = jax.tree.map(lambda each: each[None], lanes)
        if not shared:
            angle, turn = pulse
            across, along = played(polynomials, angle, across, along)
            seen = [(weights * x, weights * y)[: len(total[0])] for x, y in across]
        else:
            cos, sin, turn, post = pulse
            across, along = turned((across, along), cos, sin)
            seen = [tuple(times(post, pool)[: len(total[0])]) for pool in across]
        total = jax.tree.map(lambda old, each: old + _summed(each, in_kernel), total, tuple(seen))
        across = tuple(tuple(times(turn, pool)) for pool in across)
        return relaxed((across, along), *relaxing, lane_turn), total

    zero = jnp.zeros((len(weights), c.n_lanes), c.angle.dtype)
    if before is None:
        start = ((zero, zero),) * len(c.transverse), tuple(zero + each[None] for each in c.z0)
    else:
        start = before
        if shared:  # the turn before each pulse is that of the frame before it
            pre = rotation(polynomials, c.angle[0], in_kernel)[2]
            start = tuple(tuple(times(pre, pool)) for pool in before[0]), before[1]
    frames = pulses, (c.longitudinal, c.transverse, c.recovery, lane_turn), total
    if in_kernel:
        return lax.scan(frame, start, frames)[1]
    run = jax.checkpoint(lambda state, frames: lax.scan(frame, state, frames))
    seen = lax.scan(run, start, in_blocks(frames, block))[1]
    return jax.tree.map(lambda each: each.reshape(-1, each.shape[-1])[: c.n_frames], seen)


def continued_slice(coefficients: Coefficients, turns, positions: FullPositions, before):
    """Signals of each pool right after each pulse, (frames, lanes), integrated over a slice; isochromats in the end.

    Isochromats ``before``, and those after the last frame, are as in `turned`, (positions, lanes). Signals are
    (real part,) where ``positions`` are mirrored, else (real, imaginary). ``turns`` are (frames,).
    """
    c, dtype = coefficients, coefficients.angle.dtype
    polynomials, dephasing, weights = (
        jnp.asarray(each, dtype)[..., None] for each in (positions.polynomials, positions.dephasing, positions.weights)
    )
    lane_turn = () if c.turn is None else (jnp.cos(c.turn), jnp.sin(c.turn))

    def frame(state, inputs):
        across, along = state
        angle, spoil, lanes = inputs
        *relaxing, lane_turn = jax.tree.map(lambda each: each[None], lanes)
        across, along = played(polynomials, angle, across, along)
        seen = [[jnp.sum(weights * part, 0) for part in pool[: 1 if positions.mirrored else 2]] for pool in across]
        across = tuple(tuple(times(spoil, pool)) for pool in across)
        return relaxed((across, along), *relaxing, lane_turn), seen

    spoil = _dephased(turns, dephasing, False)
    frames = c.angle, spoil, (c.longitudinal, c.transverse, c.recovery, lane_turn)
    after, seen = lax.scan(frame, before, frames)
    return seen, after


def continued_signal(coefficients: Coefficients, turns, positions: FullPositions, before) -> tuple:
    """The signals of `continued_slice` in one kernel; ``positions`` are whole blocks."""
    c = coefficients
    arrays = positions.polynomials, positions.dephasing, positions.weights
    arrays = [jnp.asarray(each, c.angle.dtype)[..., None] for each in arrays]
    nothing = ((jnp.zeros_like(c.longitudinal[0][0]),) * (1 if positions.mirrored else 2),) * len(c.transverse)

    def add_block(n, total):
        some = [lax.dynamic_slice_in_dim(each, n * BLOCK, BLOCK, each.ndim - 2) for each in arrays]
        own = jax.tree.map(lambda each: lax.dynamic_slice_in_dim(each, n * BLOCK, BLOCK, 0), before)
        return _added(total, c, turns, *some, c.n_frames, True, own)

    return lax.fori_loop(0, positions.n_blocks, add_block, nothing)


def _fused(polynomials, angle, dephased, weights, in_kernel):
    """Of every frame, (frames, positions, 1): flip, the turn from its pulse to the next one, and post times weights."""
    again = jnp.concatenate([angle, angle[-1:]])  # so that the last pulse has a next one
    cos, sin, pre, post = rotation(polynomials, again, in_kernel)
    cos, sin, *post = (each[:-1] for each in (cos, sin, *post))
    turn = times(times(post, [each[1:] for each in pre]), dephased)
    return cos, sin, turn, [weights[None] * part for part in post]


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


def _summed(values, in_kernel):
    """Sum over positions, (lanes,); in a kernel by vector additions, as XLA's sum adds one number at a time there."""
    if not in_kernel:
        return values.sum(axis=0)
    rows = [values[n : n + 1] for n in range(len(values))]
    while len(rows) > 1:
        rows = [a + b for a, b in zip(rows[::2], rows[1::2], strict=True)]  # of 8
    return rows[0][0]
