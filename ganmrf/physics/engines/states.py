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
from ganmrf.physics.engines.parts import total

# States above order 0 that the one-kernel form updates at a time: fewer cost more loop steps, more cost states that
# nothing needs.
STATES_AT_A_TIME = 8


def scan_states(
    angle, along, across, recovery, turn, passes, shifts, z0, n_states, max_states, lane_states, before=None
):
    """Transverse magnetisation right after each pulse, of each pool: (real part,), or (real, imaginary); and states.

    They are (blocks, frames of a block, lanes), as ``angle`` and, unless they are None, the other arrays of
    `Coefficients`. In the one-kernel form each frame updates ``passes``
    blocks of states. Orders are shifted by ``shifts``, 0 or 1, (blocks, frames of a block); by 1 where it is None.
    ``z0`` is z of each pool before the first pulse, where nothing else is excited. Else ``before`` has all states
    there, p, q and z of all pools, whose parts are (n_states, lanes), and ``shifts`` must be given; those after the
    last frame are returned in the same form.
    """
    _, block, n_lanes = along[0][0].shape
    parts = 1 if turn is None and len(across[0][0]) == 1 else 2
    # A row for each state, plus one scratch row: dephasing writes the highest state there and nothing reads it.
    n_rows = n_states + 1 if max_states is None else 2 - (1 - max_states) // STATES_AT_A_TIME * STATES_AT_A_TIME
    dtype = angle.dtype
    kept = None if lane_states is None else (jnp.arange(n_rows)[:, None] < lane_states[None, :]).astype(dtype)
    frame = functools.partial(_frame, n_states=n_states, in_passes=max_states is not None, kept=kept)

    def two_frames(carry, inputs):
        even, odd = carry
        coefficients, n_passes, shift = inputs
        first, second = (jax.tree.map(lambda c, i=i: c[i], coefficients) for i in range(2))
        shift = (1, 1) if shift is None else shift
        odd, seen = frame(even, odd, *first, n_passes[0], shift[0])
        even, then = frame(odd, even, *second, n_passes[1], shift[1])
        return (even, odd), jnp.stack([seen, then])

    @jax.checkpoint
    def frames(carry, pulses):
        cos, sin, along, across, recovery, turning, n_passes, shifts = pulses
        coefficients = (cos, sin, along, across, recovery)
        coefficients = _factors(*coefficients) if max_states is None else coefficients
        paired = jax.tree.map(lambda c: jnp.reshape(c, (block // 2, 2, 1, -1)), (coefficients, turning))
        shifts = None if shifts is None else shifts.reshape(-1, 2)
        carry, observed = lax.scan(two_frames, carry, (paired, n_passes.reshape(-1, 2), shifts))
        rows = jnp.moveaxis(observed.reshape(block, len(across), -1, n_lanes), 0, 2)
        return carry, tuple((cos * p + sin * z, *imaginary) for p, *imaginary, z in rows)

    turning = () if turn is None else one_kernel.cos_sin(turn, max_states is not None)
    empty = jnp.zeros((n_rows, n_lanes), dtype)
    nothing = (empty,) * parts
    buffers = ((nothing,) * len(across),) * 2 + ((nothing,) * len(along),)
    if before is None:
        start = *buffers[:2], tuple((empty.at[0].set(each), *nothing[1:]) for each in z0)
    else:
        start = jax.tree.map(lambda part: empty.at[:-1].set(part), before)
    cos, sin = one_kernel.cos_sin(angle, max_states is not None)
    pulses = (cos, sin, along, across, recovery, turning, passes, shifts)
    (after, _), seen = lax.scan(frames, (start, buffers), pulses)
    return seen, jax.tree.map(lambda part: part[:-1], after)


def _frame(states, buffers, coefficients, turning, n_passes, shift, *, n_states, in_passes, kept):
    """Excites, relaxes and dephases p, q and z of all pools, each one or two parts (rows, lanes), into ``buffers``.

    In the one-kernel form, ``in_passes``, ``coefficients`` are the arguments of `_factors`, and ``n_passes`` blocks of
    states above order 0 are updated; else ``n_states``. ``turning`` is cosine and sine of the turn, or nothing.
    ``shift`` is 0 or 1; ``kept`` is 1 for states that a lane keeps, or None.
    Also returns p of order 0, all parts, and z before the frame, of each transverse pool, (pools * 2 or 3, lanes),
    which the signal is made of.
    """
    coefficients = _factors(*coefficients) if in_passes else coefficients
    recovery = coefficients[-1]
    raised, _, longitudinal = _excited(states, coefficients, turning, 0, 1)
    lowered = _excited(states, coefficients, turning, 1, 1)[1]
    moved = isinstance(shift, int)  # by 1, at every frame
    if not moved:  # without a shift order 0 stays, and p and q are each other's conjugates there
        lowered = [
            [jnp.where(shift == 1, low, -up if part else up) for part, (low, up) in _numbered(*pool)]
            for pool in zip(lowered, raised, strict=True)
        ]
    above = [[up if kept is None else up * kept[1:2] for up in pool] for pool in raised]
    p, q, z = buffers
    p = [_begun(*pool, shift, moved) for pool in zip(p, lowered, above, strict=True)]
    q = [[buffer.at[:1].set(low) for buffer, low in zip(*pool, strict=True)] for pool in zip(q, lowered, strict=True)]
    # z of order 0 is real.
    z = [
        [buffer.at[:1].set(0 * new if part else new + own) for part, (buffer, new) in _numbered(pool, after)]
        for pool, after, own in zip(z, longitudinal, recovery, strict=True)
    ]

    def update(first, size, buffers):
        p, q, z = _excited(states, coefficients, turning, first, size)
        if kept is not None:
            p = jax.tree.map(lambda each: each * lax.dynamic_slice_in_dim(kept, first + shift, each.shape[0]), p)
        rows = (first + shift, first - shift, first)
        return tuple(
            jax.tree.map(lambda old, new, row=row: lax.dynamic_update_slice_in_dim(old, new, row, 0), old, new)
            for old, new, row in zip(buffers, (p, q, z), rows, strict=True)
        )

    def update_block(index, buffers):
        return update(1 + index * STATES_AT_A_TIME, STATES_AT_A_TIME, buffers)

    buffers = (p, q, z)
    buffers = lax.fori_loop(0, n_passes, update_block, buffers) if in_passes else update(1, n_states - 1, buffers)
    if not moved:  # a frame without a shift leaves one order more in q than a frame with a shift writes over
        end = (1 + n_passes * STATES_AT_A_TIME if in_passes else n_states) - shift
        p, q, z = buffers
        q = jax.tree.map(lambda each: lax.dynamic_update_slice_in_dim(each, jnp.zeros_like(each[:1]), end, 0), q)
        buffers = p, q, z
    buffers = jax.tree.unflatten(jax.tree.structure(states), jax.tree.leaves(buffers))
    seen = [[*(part[:1] for part in p), z[0][:1]] for p, z in zip(states[0], states[2], strict=False)]
    return buffers, jnp.concatenate([row for rows in seen for row in rows])


def _numbered(*lists):
    return enumerate(zip(*lists, strict=True))


def _begun(buffers, lowered, above, shift, moved):
    """Orders 0, from q of order 1, and 1, or where nothing shifts 0, of the parts of p in their buffers."""
    conjugate = [-low if part else low for part, low in enumerate(lowered)]
    parts = zip(buffers, conjugate, above, strict=True)
    if moved:
        return [buffer.at[:1].set(low).at[1:2].set(up) for buffer, low, up in parts]
    return [lax.dynamic_update_slice_in_dim(buffer, up, shift, 0).at[:1].set(low) for buffer, low, up in parts]


def _excited(states, factors, turning, first, size):
    """p, q and z of all pools, all parts of each, of ``size`` orders from ``first`` on, not yet dephased."""
    across, along, _ = factors
    p, q, z = jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, first, size), states)
    mobile = list(zip(p, q, z, strict=False))
    up, down = [], []
    for row in across:
        terms = [(each, list(zip(*pool, strict=True))) for each, pool in zip(row, mobile, strict=True)]
        up.append(total([_times(each, parts, 1) for each, parts in terms]))
        down.append(total([_times(each, parts, -1) for each, parts in terms]))
    new_z = []
    for row in along:
        terms = [
            [d * w + h * (x + y) for x, y, w in zip(*pool, strict=True)]
            for (d, h), pool in zip(row, mobile, strict=False)
        ]
        rest = zip(row[len(mobile) :], z[len(mobile) :], strict=True)
        new_z.append(total(terms + [[each * w for w in parts] for (each,), parts in rest]))
    if turning:
        cos, sin = turning
        up = [[cos * x - sin * y, cos * y + sin * x] for x, y in up]
        down = [[cos * x + sin * y, cos * y - sin * x] for x, y in down]
    return up, down, new_z


def _times(factors, parts, sign):
    """What p, q and z of a pool, by parts, add to p, of ``sign`` 1, or to q, of -1; factors have parts, too."""

    def turned(factors):
        a, b, g = factors if sign > 0 else (factors[1], factors[0], factors[2])
        return [a * x + b * y + g * w for x, y, w in parts]

    real = turned(factors[0])
    if len(factors) == 1:
        return real
    imaginary = turned(factors[1])
    return [real[0] - sign * imaginary[1], real[1] + sign * imaginary[0]]


def _factors(cos, sin, along, across, recovery):
    """Factors of `_excited` of p, q and z for each frame, and the recovery of z at order 0.

    Real entries are merged with the flip angle: of each, what p, q and z of a pool are multiplied by.
    """
    recovery = (1 - along[0][0],) if recovery is None else recovery
    turned = 0.5 * (cos + 1), 0.5 * (cos - 1), sin
    across = [[[[part * each for each in turned] for part in entry] for entry in row] for row in across]
    mobile = len(across)
    along = [[(e1 * cos, e1 * (-0.5 * sin)) if n < mobile else (e1,) for n, e1 in enumerate(row)] for row in along]
    return across, along, recovery
