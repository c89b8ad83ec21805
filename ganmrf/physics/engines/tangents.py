"""Signal and its derivatives by log T1, log T2 and log B1 in one scan (forward sensitivities), and its reverse mode.

A frame turns the real states x = (p, q, z) of `engines.trains` by the flip angle, relaxes and dephases them:
``x' = S (E R x + r)``, with ``R = exp(angle J)``, ``J (p, q, z) = (z, z, -(p + q) / 2)``, E = (e2, e2, e1) and, for z
at order 0, the recovery ``r = 1 - e1``. The tangents of x, its derivatives by the logarithms of T1, T2 and B1, obey the
same recurrence, each driven by x: the tangent by B1 by ``angle J x`` before the turn, the tangent by T2 by ``TR / T2``
times the new p' and q', the tangent by T1 by ``TR / T1`` times the new z' less its equilibrium. So the tangents are
carried beside x and share its coefficients. Throughout this file a list or axis of tangents has x itself first:
`SIGNAL`, `T1`, `T2`, `B1`.

With the adjoint states l of x, every gradient is an inner product of l and x at one instant: ``<l, J x>`` for the flip
angle of the frame that begins there, ``<l, x>`` over p and q, or over z, for the relaxation of the frame that has just
ended. The adjoint therefore needs the states x of all frames, latest first; they are computed again, block by block of
frames.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

SIGNAL, T1, T2, B1 = range(4)

# Frames a block: near the square root of the 1000 frames of a schedule, where the states kept between blocks and those
# computed again within a block together take least memory.
_BLOCK = 32


@functools.partial(jax.jit, static_argnames=("n_states", "n_tangents"))
def tangents_in_chunks(sequence, tissue, slice_profile, *, n_states: int, n_tangents: int) -> jax.Array:
    """Signals of voxels of any shape and their derivatives by log T1, log T2 and log B1, (n_tangents, ..., frames).

    These are the first ``n_tangents`` (1, 3 or 4) of `SIGNAL`, `T1`, `T2`, `B1`, real; see `simulate` for their sign.
    """
    dtype = jnp.result_type(*jax.tree.leaves((sequence, tissue)))
    sequence, voxels = jax.tree.map(lambda leaf: leaf.astype(dtype), (sequence, tissue.ravel()))
    quadrature = (jnp.ones(1), jnp.ones(1)) if slice_profile is None else (slice_profile.nodes, slice_profile.weights)
    nodes, weights = (jnp.asarray(values, dtype) for values in quadrature)

    def chunk(t1, t2, b1):
        """(n_tangents, voxels, frames). Each node of the slice profile is a lane of its own, with its B1."""
        t1, t2 = (jnp.repeat(times, nodes.size) for times in (t1, t2))
        tangents = _echoes(sequence, t1, t2, (b1[:, None] * nodes[None, :]).ravel(), n_states, n_tangents)
        tangents = tangents.reshape(*tangents.shape[:2], b1.size, nodes.size)
        return jnp.einsum("ntvk,k->tvn", tangents, weights, precision="highest")

    fields = voxels.t1, voxels.t2, jnp.broadcast_to(voxels.b1, voxels.t1.shape)
    size = max(_lanes(n_states * n_tangents) // nodes.size, 1)
    if voxels.size <= size:
        tangents = chunk(*fields)
    else:
        # Checkpointed, so that no chunk's states outlive it.
        in_chunks = [jnp.pad(field, (0, -voxels.size % size), mode="edge").reshape(-1, size) for field in fields]
        tangents = lax.map(jax.checkpoint(lambda fields: chunk(*fields)), in_chunks)
        tangents = jnp.moveaxis(tangents, 0, 1).reshape(n_tangents, -1, sequence.n_frames)[:, : voxels.size]
    return tangents.reshape(n_tangents, *tissue.shape, sequence.n_frames)


def _lanes(n_rows):
    """Lanes of ``n_rows`` states and tangents each that fit a CPU's second-level cache, or fill a GPU."""
    rows = 10240 if jax.default_backend() == "cpu" else 2**19
    return max(rows // n_rows // 64 * 64, 64)


def _echoes(sequence, t1, t2, b1, n_states, n_tangents):
    """Tangents at the echoes, (frames, n_tangents, lanes), for t1, t2 (s) and b1 of each lane, (lanes,)."""
    zero = jnp.zeros_like(t1)
    start, by_t1 = jnp.ones_like(t1), zero
    if sequence.inversion_time is not None:
        inverted = -2 * jnp.exp(-sequence.inversion_time / t1)
        start, by_t1 = 1 + inverted, inverted * sequence.inversion_time / t1
    pulses = (sequence.flip_angle, sequence.repetition_time)
    tangents = _after_pulses(n_states, pulses, (t1, t2, b1), jnp.stack([start, by_t1, zero, zero][:n_tangents]))
    exponent = sequence.echo_time[:, None] / t2[None, :]
    if n_tangents > T2:
        tangents = tangents.at[:, T2].add(exponent * tangents[:, SIGNAL])
    return jnp.exp(-exponent)[:, None, :] * tangents


def _on_site(pulses, voxels):
    """Actual flip angles, rad, TR / T1 and TR / T2 of every frame and lane: (frames, lanes) each."""
    (flip_angle, repetition_time), (t1, t2, b1) = pulses, voxels
    factors = (flip_angle, b1), (repetition_time, 1 / t1), (repetition_time, 1 / t2)
    return tuple(frames[:, None] * lanes[None, :] for frames, lanes in factors)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _after_pulses(n_states, pulses, voxels, start):
    """Tangents right after each pulse, (frames, n_tangents, lanes).

    ``pulses`` are flip angles and repetition times, ``voxels`` T1, T2 and B1, and ``start``, (n_tangents, lanes), the
    longitudinal state of order 0 before the first pulse.
    """
    return _forward(n_states, pulses, voxels, start)[0]


def _forward(n_states, pulses, voxels, start):
    """Tangents right after each pulse, and the residuals of `_backward`: arguments and the states before each block."""

    def block(states, pulses):
        angle, exponent1, exponent2 = _on_site(pulses, voxels)
        after, rows = _double_buffered(_frame, states, _coefficients(angle, exponent1, exponent2))
        return after, (jnp.cos(angle)[:, None] * rows[:, :, 0] + jnp.sin(angle)[:, None] * rows[:, :, 1], states)

    empty = jnp.zeros((max(n_states, 2), start.shape[1]), start.dtype)
    states = [(empty, empty, empty.at[0].set(longitudinal)) for longitudinal in start]
    tangents, checkpoints = lax.scan(block, states, _in_blocks(pulses))[1]
    return tangents.reshape(-1, *start.shape)[: pulses[0].size], (pulses, voxels, checkpoints)


def _backward(n_states, residuals, cotangents):
    """Cotangents of pulses, voxels and start, from the cotangents of the tangents right after each pulse."""
    pulses, voxels, checkpoints = residuals
    n_tangents, n_lanes = cotangents.shape[1:]

    def block(carry, inputs):
        adjoints, relaxation_after, of_voxels = carry
        pulses, cotangents, states = inputs
        (angle, exponent1, exponent2), pull = jax.vjp(_on_site, pulses, voxels)
        coefficients = _coefficients(angle, exponent1, exponent2)
        _, states = _double_buffered(lambda x, buffers, c: (_frame(x, buffers, c)[0], x), states, coefficients)
        cos, sin = jnp.cos(angle)[:, None], jnp.sin(angle)[:, None]
        inputs = states, coefficients, jnp.stack([cos * cotangents, sin * cotangents], 2)
        adjoints, products = _double_buffered(_adjoint_frame, adjoints, inputs, reverse=True)
        # The products are with the states before a frame. They belong to its own turn, and to the relaxation of the
        # frame before it.
        relaxation = jnp.concatenate([products[1:, 1:], relaxation_after[None]])
        of_pulses, more = pull((products[:, 0], relaxation[:, 0], relaxation[:, 1]))
        return (adjoints, products[0, 1:], jax.tree.map(jnp.add, of_voxels, more)), of_pulses

    zeros = jnp.zeros((max(n_states, 2) + 1, n_lanes), cotangents.dtype)
    carry = [(zeros, zeros, zeros[1:])] * n_tangents, zeros[:2], jax.tree.map(jnp.zeros_like, voxels)
    inputs = *_in_blocks((pulses, cotangents)), checkpoints
    (adjoints, _, of_voxels), of_pulses = lax.scan(block, carry, inputs, reverse=True)
    of_pulses = jax.tree.map(lambda frames: frames.reshape(-1)[: len(cotangents)], of_pulses)
    return of_pulses, of_voxels, jnp.stack([longitudinal[0] for _, _, longitudinal in adjoints])


_after_pulses.defvjp(_forward, _backward)


def _coefficients(angle, exponent1, exponent2):
    """The factors of `_frame` and `_adjoint_frame`, (frames, 1, lanes) each, computed before their loops."""
    cos, sin, e1, e2 = jnp.cos(angle), jnp.sin(angle), jnp.exp(-exponent1), jnp.exp(-exponent2)
    up, down = 0.5 * (cos + 1), 0.5 * (cos - 1)
    merged = e2 * up, e2 * down, e2 * sin, e1 * cos, -0.5 * e1 * sin, 1 - e1, angle, exponent1, exponent2
    return [c[:, None] for c in lax.optimization_barrier(merged)]


def _frame(tangents, buffers, coefficients):
    """Excites, relaxes and dephases tangents into ``buffers``; also q and z of order 0 before the frame."""
    a, b, g, d, h, recovery, angle, exponent1, exponent2 = coefficients

    def driven(tangent, orders):
        """p, q, z of some orders before the turn. They are sliced before they are added, or XLA makes slow loops."""
        p, q, z = (state[orders] for state in tangents[tangent])
        if tangent < B1:
            return p, q, z
        p0, q0, z0 = (state[orders] for state in tangents[SIGNAL])
        return p + angle * z0, q + angle * z0, z - 0.5 * angle * (p0 + q0)

    after, before = [], []
    for tangent, (p_next, q_next, z_next) in enumerate(buffers):
        p, q, z = driven(tangent, slice(None, -1))
        raised = a * p + b * q + g * z
        p, q, z = driven(tangent, slice(1, None))
        lowered = b * p + a * q + g * z
        p, q, z = driven(tangent, slice(1, 2))
        conjugate = b * p + a * q + g * z
        p, q, z = driven(tangent, slice(None))
        before.append(jnp.concatenate([q[:1], z[:1]]))
        z = d * z + h * (p + q)
        equilibrating = z[:1]
        if tangent == SIGNAL:
            equilibrating += recovery
        elif tangent == T1:
            z0 = after[SIGNAL][2]
            z, equilibrating = z + exponent1 * z0, equilibrating + exponent1 * (z0[:1] - 1)
        elif tangent == T2:
            p0, q0, _ = after[SIGNAL]
            raised += exponent2 * p0[1:]
            lowered += exponent2 * q0[:-1]
            conjugate += exponent2 * p0[:1]
        # In place, z too: XLA computes a value that no buffer holds again wherever the next frame reads it.
        p_next, q_next = p_next.at[1:].set(raised).at[:1].set(conjugate), q_next.at[:-1].set(lowered)
        after.append((p_next, q_next, z_next.at[1:].set(z[1:]).at[:1].set(equilibrating)))
    return after, jnp.stack(before)


def _adjoint_frame(adjoints, buffers, inputs):
    """One frame back, into ``buffers``; also the `_inner_products` of adjoints and states before the frame.

    The adjoints of one tangent are three arrays: the adjoints of p and then a row of zeros, a row of zeros and then the
    adjoints of q, and the adjoints of z, so that dephasing is undone by reading ``p[1:]`` and ``q[:-1]``. At order 0, p
    and q are one number, whose adjoint stands with q. ``inputs`` are the states before the frame, its `_coefficients`,
    and the cotangents of q and z of order 0 before it.
    """
    states, (a, b, g, d, h, _, angle, exponent1, exponent2), rows = inputs
    dephased = [(p[1:], q[:-1], z) for p, q, z in adjoints]
    if len(adjoints) > T2:
        p, q, z = dephased[SIGNAL]
        by_p, by_q, _ = dephased[T2]
        dephased[SIGNAL] = p + exponent2 * by_p, q + exponent2 * by_q, z + exponent1 * dephased[T1][2]
    before = [None] * len(adjoints)
    for tangent in reversed(range(len(adjoints))):  # the signal last: the others drive it
        (p, q, z), (p_next, q_next, _), (row_q, row_z) = dephased[tangent], buffers[tangent], rows[tangent]
        p, q, z = a * p + b * q + h * z, b * p + a * q + h * z, g * (p + q) + d * z
        if tangent == SIGNAL and len(adjoints) > B1:
            by_p, by_q, by_z = before[B1]
            p, q = p - 0.5 * angle * by_z, q - 0.5 * angle * by_z
            z += angle * (by_p[:-1] + by_q[1:])
        q_next = q_next.at[1:].set(q).at[1:2].set(p[:1] + q[:1] + row_q[None])
        p_next = p_next.at[:-1].set(p).at[:1].set(0)
        before[tangent] = p_next, q_next, z.at[:1].add(row_z[None])
    return before, _inner_products(before, states)


def _inner_products(adjoints, states):
    """Cotangents of the angle of the frame to come, and of TR / T1 and TR / T2 of the frame just ended, (3, lanes)."""
    turn, longitudinal, transverse = 0, 0, 0
    p0, q0, z0 = states[SIGNAL]
    for tangent, ((by_p, by_q, by_z), (p, q, z)) in enumerate(zip(adjoints, states, strict=True)):
        by_p, by_q = by_p[:-1], by_q[1:]
        transverse -= by_p * (p - p0 if tangent == T2 else p) + by_q * (q - q0 if tangent == T2 else q)
        longitudinal -= by_z * (z - z0 if tangent == T1 else z)
        if tangent == B1:
            p, q, z = p + p0, q + q0, z + z0
        turn += (by_p + by_q) * z - 0.5 * by_z * (p + q)
    turn, longitudinal, transverse = (_sum_orders(product) for product in (turn, longitudinal, transverse))
    longitudinal += adjoints[SIGNAL][2][:1]  # relaxation is towards 1 at order 0, not 0
    if len(adjoints) > T1:
        longitudinal -= adjoints[T1][2][:1]
    return jnp.concatenate([turn, longitudinal, transverse])


def _sum_orders(values):
    """Sum over orders, (1, lanes), written out as vector additions: XLA's sum adds one number at a time on a CPU."""
    n_parts = math.isqrt(len(values))
    size = len(values) // n_parts
    values = lax.optimization_barrier(values)
    part = lax.optimization_barrier(sum(values[n * size : (n + 1) * size] for n in range(n_parts)))
    rest = range(n_parts * size, len(values))
    return sum([part[n : n + 1] for n in range(size)] + [values[n : n + 1] for n in rest])


def _double_buffered(step, states, inputs, reverse=False):
    """`lax.scan` of ``step(states, buffers, input) -> states in buffers, output``, two steps at a time (`real`)."""

    def two_steps(carry, pair):
        outputs = [None, None]
        for n in (1, 0) if reverse else (0, 1):
            states, buffers = carry
            after, outputs[n] = step(states, buffers, jax.tree.map(lambda leaf, n=n: leaf[n], pair))
            carry = after, states
        return carry, jax.tree.map(lambda *leaves: jnp.stack(leaves), *outputs)

    pairs = jax.tree.map(lambda leaf: leaf.reshape(-1, 2, *leaf.shape[1:]), inputs)
    carry = states, jax.tree.map(jnp.zeros_like, states)
    (states, _), outputs = lax.scan(two_steps, carry, pairs, reverse=reverse)
    return states, jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), outputs)


def _in_blocks(tree):
    """Leaves (frames, ...) as (blocks, frames of a block, ...): frames added at the end have no pulse and last 0 s."""

    def blocked(leaf):
        size = min(_BLOCK, len(leaf) + len(leaf) % 2)
        padded = jnp.pad(leaf, [(0, -len(leaf) % size)] + [(0, 0)] * (leaf.ndim - 1))
        return padded.reshape(-1, size, *leaf.shape[1:])

    return jax.tree.map(blocked, tree)
