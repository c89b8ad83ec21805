"""Trains without dephasing: a voxel is one isochromat, which pulses turn about x, and frames about z."""

import jax
import jax.numpy as jnp
from jax import lax

from ganmrf.physics.engines import one_kernel
from ganmrf.physics.engines.looping import in_blocks
from ganmrf.physics.lowering import Coefficients


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
    frame_by_frame = c.e1.shape[1] == 1
    inputs = (*one_kernel.cos_sin(c.angle, in_kernel), c.e1, c.e2, c.recovery, *turns[:2])
    echoes = (c.echo, *turns[2:])

    def frame(state, inputs):
        x, y, z = state
        (cos, sin, e1, e2, recovery, *turning), echoes = inputs
        x, z = cos * x + sin * z, e1 * (cos * z - sin * x) + (1 - e1 if recovery is None else recovery)
        seen = (x, y) if turning else (x,)
        seen = at_echo(seen, *echoes) if frame_by_frame else seen
        if not turning:
            return (e2 * x, y, z), seen
        real, imaginary = turning
        return (e2 * (real * x - imaginary * y), e2 * (real * y + imaginary * x), z), seen

    n_frames = len(c.e1)
    zero = jnp.zeros(max(each.shape[1] for each in jax.tree.leaves(inputs)), c.e1.dtype)
    start, inputs = (zero, zero, zero + c.z0), (inputs, echoes if frame_by_frame else ())
    if in_kernel:
        if n_frames == 1:  # XLA aborts on a loop of one turn within one kernel
            inputs = jax.tree.map(lambda each: jnp.concatenate([each, each]), inputs)
        seen = tuple(each[:n_frames] for each in lax.scan(frame, start, inputs)[1])
    else:
        frames = jax.checkpoint(lambda state, inputs: lax.scan(frame, state, inputs))
        seen = lax.scan(frames, start, in_blocks(inputs, block))[1]
        seen = tuple(each.reshape(-1, each.shape[-1])[:n_frames] for each in seen)
    return seen if frame_by_frame else at_echo(seen, *echoes)


def at_echo(after_pulse, echo, cos=None, sin=None) -> tuple[jax.Array, ...]:
    """Transverse magnetisation at an echo, (real part,) or (real, imaginary), from that right after the pulse."""
    if len(after_pulse) == 1:
        return (echo * after_pulse[0],)
    real, imaginary = after_pulse
    return echo * (cos * real - sin * imaginary), echo * (cos * imaginary + sin * real)
