"""Trains without dephasing: a voxel is one isochromat, which pulses turn about x, and frames about z."""

import jax
import jax.numpy as jnp
from jax import lax

from ganmrf.physics.engines import one_kernel
from ganmrf.physics.lowering import Coefficients


def isochromats(coefficients: Coefficients, block: int, in_kernel: bool) -> tuple[jax.Array, ...]:
    """Transverse magnetisation right after each pulse, (frames, lanes): (real part,), or (real, imaginary).

    The arrays of ``coefficients`` have one lane where all lanes share them. Reverse mode stores the magnetisation
    between blocks of ``block`` frames only. In a kernel, which nothing differentiates, all frames are one block.
    """
    c = coefficients
    turning = () if c.turn is None else one_kernel.cos_sin(c.turn, in_kernel)
    inputs = (*one_kernel.cos_sin(c.angle, in_kernel), c.e1, c.e2, c.recovery, *turning)

    def frame(state, inputs):
        x, y, z = state
        cos, sin, e1, e2, recovery, *turning = inputs
        x, z = cos * x + sin * z, e1 * (cos * z - sin * x) + (1 - e1 if recovery is None else recovery)
        if not turning:
            return (e2 * x, y, z), (x,)
        real, imaginary = turning
        return (e2 * (real * x - imaginary * y), e2 * (real * y + imaginary * x), z), (x, y)

    n_frames = len(c.e1)
    zero = jnp.zeros(max(each.shape[1] for each in inputs if each is not None), c.e1.dtype)
    start = zero, zero, zero + c.z0
    if in_kernel:
        return lax.scan(frame, start, inputs)[1]

    def in_blocks(values):
        return jnp.pad(values, ((0, -n_frames % block), (0, 0))).reshape(-1, block, values.shape[1])

    frames = jax.checkpoint(lambda state, inputs: lax.scan(frame, state, inputs))
    seen = lax.scan(frames, start, jax.tree.map(in_blocks, inputs))[1]
    return tuple(each.reshape(-1, each.shape[-1])[:n_frames] for each in seen)
