"""The scan over states of the extended phase graph, real or complex, of a batch of voxels.

States are arrays (states, lanes): `trains` says what they are. Relaxation, recovery and excitation are merged into some
coefficients a frame. Exponentials, sines and cosines are computed for many frames at once, outside the inner scan: XLA
would fuse them into every state inside it. Two frames a step write into each other's buffers, so that the shift by one
order costs no copy.

On a CPU the whole scan is compiled as one function (`one_kernel`), and each frame updates, in small blocks, only the
states that have been reached by then and can still come back to order 0. The number of states is then a value, not a
shape: one compiled program serves every number up to its ``max_states``.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from ganmrf.physics.engines import one_kernel

# States above order 0 that the one-kernel form updates at a time: fewer cost more loop steps, more cost states that
# nothing needs.
STATES_AT_A_TIME = 8


def scan_states(angle, e1, e2, recovery, turn, passes, shifts, z0, n_states, max_states, lane_states):
    """Transverse magnetisation right after each pulse: (real part,), or (real, imaginary) with a ``turn``.

    Both are (blocks, frames of a block, lanes), as ``angle``, rad, e1, e2, and, unless they are None, ``recovery`` and
    ``turn``. In the one-kernel form each frame updates ``passes`` blocks of states. Orders are shifted by ``shifts``, 0
    or 1, (blocks, frames of a block); by 1 where it is None. ``z0`` is z before the first pulse.
    """
    _, block, n_lanes = e1.shape
    # A row for each state, plus one scratch row: dephasing writes the highest state there and nothing reads it.
    n_rows = n_states + 1 if max_states is None else 2 - (1 - max_states) // STATES_AT_A_TIME * STATES_AT_A_TIME
    kept = None if lane_states is None else (jnp.arange(n_rows)[:, None] < lane_states[None, :]).astype(e1.dtype)
    frame = functools.partial(_frame, n_states=n_states, in_passes=max_states is not None, kept=kept)

    def two_frames(carry, inputs):
        even, odd = carry
        coefficients, n_passes, shift = inputs
        first, second = ([None if c is None else c[i] for c in coefficients] for i in range(2))
        shift = (1, 1) if shift is None else shift
        odd, seen = frame(even, odd, first, n_passes[0], shift[0])
        even, then = frame(odd, even, second, n_passes[1], shift[1])
        return (even, odd), jnp.stack([seen, then])

    @jax.checkpoint
    def frames(carry, pulses):
        cos, sin, e1, e2, recovery, turning, n_passes, shifts = pulses
        coefficients = (cos, sin, e1, e2, recovery)
        coefficients = _coefficients(*coefficients) if max_states is None else coefficients
        paired = [None if c is None else jnp.reshape(c, (block // 2, 2, 1, -1)) for c in (*coefficients, *turning)]
        shifts = None if shifts is None else shifts.reshape(-1, 2)
        carry, observed = lax.scan(two_frames, carry, (paired, n_passes.reshape(-1, 2), shifts))
        p, *imaginary, z = jnp.moveaxis(observed.reshape(block, -1, n_lanes), 1, 0)
        return carry, (cos * p + sin * z, *imaginary)

    turning = () if turn is None else one_kernel.cos_sin(turn, max_states is not None)
    empty = jnp.zeros((n_rows, n_lanes), e1.dtype)
    nothing = ((empty,) * (1 + len(turning[:1])),) * 3
    states = (*nothing[:2], (empty.at[0].set(z0), *nothing[2][1:]))
    cos, sin = one_kernel.cos_sin(angle, max_states is not None)
    pulses = (cos, sin, e1, e2, recovery, turning, passes, shifts)
    return lax.scan(frames, (states, nothing), pulses)[1]


def _frame(states, buffers, coefficients, n_passes, shift, *, n_states, in_passes, kept):
    """Excites, relaxes and dephases p, q and z, each one or two parts (rows, lanes), into ``buffers``.

    In the one-kernel form, ``in_passes``, ``coefficients`` are the arguments of `_coefficients`, and ``n_passes``
    blocks of states above order 0 are updated; else ``n_states``. Two more coefficients are cosine and sine of the
    turn. ``shift`` is 0 or 1; ``kept`` is 1 for states that a lane keeps, or None.
    Also returns p of order 0, all parts, and z before the frame, (2 or 3, lanes), which the signal is made of.
    """
    parts = len(states[0])
    turning = coefficients[len(coefficients) - 2 * (parts - 1) :]
    coefficients = coefficients[: len(coefficients) - len(turning)]
    coefficients = _coefficients(*coefficients) if in_passes else coefficients
    recovery = coefficients[5]
    raised, _, longitudinal = _excited(states, coefficients, turning, 0, 1)
    lowered = _excited(states, coefficients, turning, 1, 1)[1]
    moved = isinstance(shift, int)  # by 1, at every frame
    if not moved:  # without a shift order 0 stays, and p and q are each other's conjugates there
        lowered = [jnp.where(shift == 1, low, -up if part else up) for part, (low, up) in _numbered(lowered, raised)]
    p, q, z = buffers
    above = [up if kept is None else up * kept[1:2] for up in raised]
    conjugate = [-low if part else low for part, low in enumerate(lowered)]
    if moved:
        p = [buffer.at[:1].set(low).at[1:2].set(up) for buffer, low, up in zip(p, conjugate, above, strict=True)]
    else:
        p = [lax.dynamic_update_slice_in_dim(buffer, up, shift, 0) for buffer, up in zip(p, above, strict=True)]
        p = [buffer.at[:1].set(low) for buffer, low in zip(p, conjugate, strict=True)]
    q = [buffer.at[:1].set(low) for buffer, low in zip(q, lowered, strict=True)]
    # z of order 0 is real.
    z = [buffer.at[:1].set(0 * new if part else new + recovery) for part, (buffer, new) in _numbered(z, longitudinal)]

    def update(first, size, buffers):
        p, q, z = _excited(states, coefficients, turning, first, size)
        if kept is not None:
            p = [each * lax.dynamic_slice_in_dim(kept, first + shift, each.shape[0]) for each in p]
        rows = (first + shift, first - shift, first)
        return tuple(
            tuple(lax.dynamic_update_slice_in_dim(old, new, row, 0) for old, new in zip(*pair, strict=True))
            for *pair, row in zip(buffers, (p, q, z), rows, strict=True)
        )

    def update_block(index, buffers):
        return update(1 + index * STATES_AT_A_TIME, STATES_AT_A_TIME, buffers)

    buffers = tuple(map(tuple, (p, q, z)))
    buffers = lax.fori_loop(0, n_passes, update_block, buffers) if in_passes else update(1, n_states - 1, buffers)
    if not moved:  # a frame without a shift leaves one order more in q than a frame with a shift writes over
        end = (1 + n_passes * STATES_AT_A_TIME if in_passes else n_states) - shift
        p, q, z = buffers
        q = tuple(lax.dynamic_update_slice_in_dim(each, jnp.zeros_like(each[:1]), end, 0) for each in q)
        buffers = p, q, z
    return buffers, jnp.concatenate([*(part[:1] for part in states[0]), states[2][0][:1]])


def _numbered(*lists):
    return enumerate(zip(*lists, strict=True))


def _excited(states, coefficients, turning, first, size):
    """p, q and z, all parts of each, of ``size`` orders from ``first`` on, excited and relaxed, not yet dephased."""
    a, b, g, d, h, _ = coefficients
    p, q, z = ([lax.dynamic_slice_in_dim(x, first, size) for x in parts] for parts in states)
    up = [a * x + b * y + g * w for x, y, w in zip(p, q, z, strict=True)]
    down = [b * x + a * y + g * w for x, y, w in zip(p, q, z, strict=True)]
    along = [d * w + h * (x + y) for x, y, w in zip(p, q, z, strict=True)]
    if turning:
        cos, sin = turning
        up = [cos * up[0] - sin * up[1], cos * up[1] + sin * up[0]]
        down = [cos * down[0] + sin * down[1], cos * down[1] - sin * down[0]]
    return up, down, along


def _coefficients(cos, sin, e1, e2, recovery):
    """The factors a, b, g, d and h of `_excited`, and the recovery of z at order 0, for each frame."""
    recovery = 1 - e1 if recovery is None else recovery
    return e2 * (0.5 * (cos + 1)), e2 * (0.5 * (cos - 1)), e2 * sin, e1 * cos, e1 * (-0.5 * sin), recovery
