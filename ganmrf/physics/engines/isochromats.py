"""Trains without dephasing: a voxel is one isochromat, which pulses turn about x, and frames about z."""

import jax
import jax.numpy as jnp
from jax import lax

from ganmrf.physics.engines import one_kernel
from ganmrf.physics.engines.looping import in_blocks
from ganmrf.physics.engines.parts import times, total
from ganmrf.physics.lowering import Coefficients
from ganmrf.physics.pools import applied


def isochromats(coefficients: Coefficients, block: int, in_kernel: bool) -> tuple[jax.Array, ...]:
    """Signals (frames, lanes): (real part,), or (real, imaginary).

    The arrays of ``coefficients`` have one lane where all lanes share them. Reverse mode stores the magnetisation
    between blocks of ``block`` frames only. In a kernel, which nothing differentiates, all frames are one block.
    """
    c = coefficients
    turns = (
        () if c.turn is None else (*one_kernel.cos_sin(c.turn, in_kernel), *one_kernel.cos_sin(c.echo_turn, in_kernel))
    )
    # What lanes share is in the cache while a frame is computed, and its echo then costs least.
    frame_by_frame = c.n_lanes == 1
    inputs = (*one_kernel.cos_sin(c.angle, in_kernel), c.longitudinal, c.transverse, c.recovery, turns[:2])
    echoes = (c.echo, *turns[2:])

    def frame(state, inputs):
        (cos, sin, *relaxing, turning), echoes = inputs
        state = turned(state, cos, sin)
        seen = at_echo(state[0], *echoes) if frame_by_frame else state[0]
        return relaxed(state, *relaxing, turning), seen

    n_frames = c.n_frames
    zero = jnp.zeros(max(each.shape[1] for each in jax.tree.leaves(inputs)), c.angle.dtype)
    start = ((zero,) * c.n_parts,) * len(c.transverse), tuple(zero + each for each in c.z0)
    inputs = (inputs, echoes if frame_by_frame else ())
    if in_kernel:
        if n_frames == 1:  # XLA aborts on a loop of one turn within one kernel
            inputs = jax.tree.map(lambda each: jnp.concatenate([each, each]), inputs)
        seen = jax.tree.map(lambda each: each[:n_frames], lax.scan(frame, start, inputs)[1])
    else:
        frames = jax.checkpoint(lambda state, inputs: lax.scan(frame, state, inputs))
        seen = lax.scan(frames, start, in_blocks(inputs, block))[1]
        seen = jax.tree.map(lambda each: each.reshape(-1, each.shape[-1])[:n_frames], seen)
    return seen if frame_by_frame else at_echo(seen, *echoes)


def continued_isochromats(coefficients: Coefficients, before):
    """Signals of each pool right after each pulse, as `isochromats` before the echo, and isochromats in the end.

    Isochromats ``before``, and those after the last frame, are as in `turned`, (lanes,).
    """
    c = coefficients
    turning = () if c.turn is None else (jnp.cos(c.turn), jnp.sin(c.turn))

    def frame(state, inputs):
        cos, sin, *relaxing, turning = inputs
        state = turned(state, cos, sin)
        return relaxed(state, *relaxing, turning), state[0]

    frames = jnp.cos(c.angle), jnp.sin(c.angle), c.longitudinal, c.transverse, c.recovery, turning
    after, seen = lax.scan(frame, before, frames)
    return seen, after


def turned(state, cos, sin):
    """Isochromats, (x, y) of each transverse pool and z of each longitudinal one, after a pulse about x.

    In the frame of `ganmrf.physics.lowering` x is what the pulse makes of z. Where signals are real there is no y.
    """
    across, along = state
    mobile = [(cos * x + sin * z, *y, cos * z - sin * x) for (x, *y), z in zip(across, along, strict=False)]
    return tuple(tuple(parts) for *parts, _ in mobile), (*(z for *_, z in mobile), *along[len(mobile) :])


def relaxed(state, along, across, recovery, turning):
    """Isochromats after relaxation, exchange and the turn of a frame, whose cosine and sine it is, or nothing."""
    mobile, z = state
    recovery = (1 - along[0][0],) if recovery is None else recovery
    z = tuple(kept + own for kept, own in zip(applied(along, z), recovery, strict=True))
    mobile = [times(turning, pool) for pool in mobile] if turning else mobile
    return tuple(_across(row, mobile) for row in across), z


def _across(row, mobile):
    """Transverse magnetisation of a pool from a row of entries, real or complex."""
    return tuple(total([times(entry, pool) for entry, pool in zip(row, mobile, strict=True)]))


def at_echo(after_pulse, echo, cos=None, sin=None) -> tuple[jax.Array, ...]:
    """Magnetisation at an echo, (real part,) or (real, imaginary), from that of each pool right after the pulse."""
    if cos is None:
        return _across(echo, after_pulse)
    seen = times((cos, sin), after_pulse[0] if len(echo) == 1 else _across(echo, after_pulse))
    return tuple(times(echo[0], seen) if len(echo) == 1 else seen)  # as rounding has always been
