"""Signals and their derivatives by tissue in one recurrence over the frames, and the hand-written adjoint of it.

A frame of the recurrence turns the states of every transverse pool, p, q and z of `lowering`, by the flip angle, ``u =
R x`` with ``R = exp(angle J)`` and ``J (p, q, z) = (z, z, -(p + q) / 2)``. Then pools relax and exchange, ``M u = (T p,
conj(T) q, L z)``, z recovers at order 0, and the orders are shifted. The tangent x_t of x by a parameter of the tissue
obeys the same recurrence, driven by x: ``u_t = R x_t + angle_t J u`` and ``M u_t + M_t u``, where ``angle_t`` and
``M_t`` are the tangents of the coefficients, by `jax.jvp` of the lowering. So tangents are carried beside x and share
its coefficients. Throughout this file a list or axis of tangents has x itself first.

With the adjoints l of what leaves M, the gradient by every coefficient is an inner product of adjoints and turned
states of one frame: of l of pool i and u of pool j for an entry of M, and ``<M' l, J u>`` for the angle. The adjoint
therefore needs the states u of all frames, latest first; they are computed again, block by block of frames. `jax.vjp`
of the lowering carries gradients on to every time, angle, phase and efficiency of a sequence, and to the tissue.

A state of a pool is a list of its parts: one, or a real and an imaginary one.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from ganmrf.physics.engines.looping import double_buffered, in_blocks, sum_orders
from ganmrf.physics.engines.parts import added, conjugate, cut, summed, total
from ganmrf.physics.engines.pool_frames import (
    Frames,
    States,
    conjugated,
    factors_of,
    frame,
    frame_and_turned,
    mapped,
    matrix_of,
    written,
)

# Frames a block: near the square root of the 1000 frames of a schedule, where the states kept between blocks and those
# computed again within a block together take least memory.
_BLOCK = 32


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def after_pulses(n_states, frames, moves, start):
    """Transverse magnetisation right after each pulse: (frames, n_tangents, transverse pools, parts, lanes).

    ``moves`` are the tangents of the coefficients ``frames``, by each parameter, and ``start``, (n_tangents, pools,
    lanes), is the longitudinal state of order 0 before the first pulse.
    """
    return _forward(n_states, frames, moves, start)[0]


def _forward(n_states, frames, moves, start):
    """Magnetisation after each pulse, and the residuals of `_backward`: arguments and the states before each block."""

    def block(states, frames):
        after, turned = double_buffered(frame, states, factors_of(*frames))
        return after, (turned, states)

    empty = jnp.zeros((max(n_states, 2), start.shape[-1]), start.dtype)
    nothing = (empty,) * len(frames.transverse[0][0])
    across = (nothing,) * len(frames.transverse)
    states = [States(across, across, tuple((empty.at[0].set(z), *nothing[1:]) for z in along)) for along in start]
    after, checkpoints = lax.scan(block, states, in_blocks((frames, moves), _BLOCK))[1]
    return after.reshape(-1, *after.shape[2:])[: len(frames.angle)], (frames, moves, checkpoints)


def _backward(n_states, residuals, cotangents):
    """Cotangents of frames, moves and start, from the cotangents of the magnetisation right after each pulse."""
    frames, moves, checkpoints = residuals

    def block(adjoints, inputs):
        coefficients, seen, states = inputs
        factors = factors_of(*coefficients)
        turned = double_buffered(frame_and_turned, (states, jax.tree.map(jnp.zeros_like, states)), factors)[1]
        inputs = turned, factors, _rows_before_turn(seen, factors)
        adjoints, products = double_buffered(_adjoint_frame, adjoints, inputs, reverse=True)
        of_frames, of_moves = jax.tree.unflatten(names, [products[:, n] for n in range(products.shape[1])])
        return adjoints, _with_seen(of_frames, of_moves, seen, turned)

    zeros = jnp.zeros((max(n_states, 2) + 1, cotangents.shape[-1]), cotangents.dtype)
    n_tangents, n_transverse, n_parts = cotangents.shape[1:-1]
    across, along = (((each,) * n_parts,) for each in (zeros, zeros[1:]))
    nothing = States(across * n_transverse, across * n_transverse, along * len(frames.longitudinal))
    names = jax.tree.structure((frames, moves))  # each coefficient has one product
    inputs = *in_blocks(((frames, moves), cotangents), _BLOCK), checkpoints
    adjoints, found = lax.scan(block, [nothing] * n_tangents, inputs, reverse=True)
    of_frames, of_moves = jax.tree.map(lambda leaf: leaf.reshape(-1, leaf.shape[-1])[: len(cotangents)], found)
    return of_frames, of_moves, jnp.stack([jnp.stack([z[0][0] for z in each.z]) for each in adjoints])


after_pulses.defvjp(_forward, _backward)


def _rows_before_turn(seen, factors):
    """What the magnetisation that is seen adds to the adjoints of order 0 before the turn, from its own adjoints.

    Those of q, with which those of p stand, and of z: (frames, n_tangents, transverse pools, parts + 1, lanes).
    """
    cos, sin = (factor[:, None] for factor in factors.turn[:2])
    real, along = seen[:, :, :, 0], jnp.zeros_like(seen[:, :, :, 0])
    for n, move in enumerate(factors.moves, 1):
        if move.angle is not None:
            along = along.at[:, 0].add(move.angle * real[:, n])
    rows = (cos * real - sin * along)[:, :, :, None], -seen[:, :, :, 1:], (sin * real + cos * along)[:, :, :, None]
    return jnp.concatenate(rows, 3)


def _with_seen(of_frames, of_moves, seen, turned):
    """Cotangents of blocks of frames with what the magnetisation that is seen adds: to those of the angles alone."""
    along = jnp.stack([jnp.stack([each.z[pool][0][:, 0] for pool in range(seen.shape[2])], 1) for each in turned], 1)
    of_angle = jnp.sum(seen[:, :, :, 0] * along, (1, 2))
    by_angle = jnp.sum(seen[:, :, :, 0] * along[:, :1], 2)
    moves = [
        move if move.angle is None else move._replace(angle=move.angle + by_angle[:, n])
        for n, move in enumerate(of_moves, 1)
    ]
    return of_frames._replace(angle=of_frames.angle + of_angle), tuple(moves)


def _adjoint_frame(adjoints, buffers, inputs):
    """One frame back, into ``buffers``; also the products that the cotangents of frames and moves are, (n, lanes).

    The adjoints of one tangent are three states: the adjoints of p and then a row of zeros, a row of zeros and then the
    adjoints of q, and the adjoints of z, so that dephasing is undone by reading ``p[1:]`` and ``q[:-1]``. At order 0, p
    and conj(q) are one number, whose adjoint stands with q. ``inputs`` are the states after the turn, `Factors`, and
    `_rows_before_turn`.
    """
    turned, factors, rows = inputs
    dephased = []
    for p, q, z in adjoints:
        p, q = [cut(pool, slice(1, None)) for pool in p], [cut(pool, slice(-1)) for pool in q]
        dephased.append(States(p, q, z))
    before = [_unrelaxed(factors.frames, each) for each in dephased]
    for move, each in zip(factors.moves, dephased[1:], strict=True):
        pairs = zip(before[0], _unrelaxed(move, each), strict=True)
        before[0] = States(*([total(both) for both in zip(*pair, strict=True)] for pair in pairs))
    products = _products(dephased, before, turned, factors)
    for move, (p, q, z) in zip(factors.moves, before[1:], strict=True):
        if move.angle is not None:
            of_p, of_q, of_z = before[0]
            driven = [added(own, move.angle, summed(*both)) for own, *both in zip(of_z, p, q, strict=False)]
            of_p, of_q = (
                [added(own, -0.5 * move.angle, by) for own, by in zip(each, z, strict=False)] for each in (of_p, of_q)
            )
            before[0] = States(of_p, of_q, [*driven, *of_z[len(p) :]])
    before = [_unturned(each, factors) for each in before]
    return [_stored(*each) for each in zip(before, buffers, rows, strict=True)], products


def _unrelaxed(frames, adjoints):
    """Adjoints before relaxation and exchange; None for pools that nothing of a move comes back to."""
    found = (
        mapped(conjugated(zip(*matrix_of(frames, kind), strict=True)), getattr(adjoints, kind))
        for kind in States._fields
    )
    return States(*found)


def _unturned(adjoints, factors):
    """Adjoints before the turn."""
    p, q, z = adjoints
    cos, sin, half_above, half_below = factors.turn
    of_p, of_q, of_z = [], [], []
    for each in zip(p, q, z, strict=False):
        parts = list(zip(*each, strict=True))
        of_p.append([half_above * p + half_below * q - 0.5 * sin * z for p, q, z in parts])
        of_q.append([half_below * p + half_above * q - 0.5 * sin * z for p, q, z in parts])
        of_z.append([sin * (p + q) + cos * z for p, q, z in parts])
    return States(of_p, of_q, [*of_z, *z[len(p) :]])


def _stored(adjoints, buffers, rows):
    """Adjoints in the form that the frame before this one reads, in ``buffers``, with the ``rows`` of what is seen."""
    p, q, z = adjoints
    at_0, along = [], [cut(pool, slice(1)) for pool in z]
    for n, row in enumerate(rows[:, :, None]):
        *of_q, of_z = row
        at_0.append(summed(summed(conjugate(cut(p[n], slice(1))), cut(q[n], slice(1))), of_q))
        along[n] = [along[n][0] + of_z, *along[n][1:]]
    none = jax.tree.map(lambda part: jnp.zeros_like(part[:1]), p)
    p = written(buffers.p, [(slice(-1), p), (slice(1), none)])
    q = written(buffers.q, [(slice(1, None), q), (slice(1, 2), at_0)])
    above = [cut(pool, slice(1, None)) for pool in z]
    return States(p, q, written(buffers.z, [(slice(1, None), above), (slice(1), along)]))


def _products(dephased, before, turned, factors):
    """Inner products of adjoints and turned states, (n, lanes), in the order of the leaves of frames and moves.

    Of ``frames`` they are those of all tangents, each with its own states, together; of a move those of its tangent
    with the states of the signal.
    """

    def entries(which, matrix, of):
        """One function of all pairs of pools, where there is an entry."""
        return tuple(
            tuple(None if entry is None else of(which, i, j, entry) for j, entry in enumerate(row))
            for i, row in enumerate(matrix)
        )

    def across(pairs, i, j, entry):
        parts = [
            (dephased[n].p[i], turned[m].p[j], dephased[n].q[i], turned[m].q[j])
            for n, m in pairs
            if entry[0] is not None
        ]
        if not parts:
            return (None,) * len(entry)
        real = sum(
            sum(a * u for a, u in zip(p, u, strict=True)) + sum(b * v for b, v in zip(q, v, strict=True))
            for p, u, q, v in parts
        )
        found = [real]
        if len(entry) > 1:
            found.append(sum(p[1] * u[0] - p[0] * u[1] - q[1] * v[0] + q[0] * v[1] for p, u, q, v in parts))
        return tuple(map(sum_orders, found))

    def along(pairs, i, j, entry):
        del entry
        return sum_orders(
            sum(sum(c * w for c, w in zip(dephased[n].z[i], turned[m].z[j], strict=True)) for n, m in pairs)
        )

    def angle(pairs):
        found = 0
        for n, m in pairs:
            for p, q, z, u, v, w in zip(*before[n], *turned[m], strict=False):
                for a, b, c, i, j, k in zip(p, q, z, u, v, w, strict=True):
                    found += (a + b) * k - 0.5 * c * (i + j)
        return sum_orders(found)

    def of_frames(frames, pairs):
        return Frames(
            None if frames.angle is None else angle(pairs),
            entries(pairs, frames.transverse, across),
            entries(pairs, frames.longitudinal, along),
            tuple(None if r is None else dephased[pairs[0][0]].z[i][0][:1] for i, r in enumerate(frames.recovery)),
        )

    own = of_frames(factors.frames, [(n, n) for n in range(len(turned))])
    by = [of_frames(move, [(n, 0)]) for n, move in enumerate(factors.moves, 1)]
    return jnp.concatenate(jax.tree.leaves((own, by)))
