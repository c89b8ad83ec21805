"""Signals and their derivatives by tissue in one recurrence over the frames, and the hand-written adjoint of it.

A frame of the recurrence, on the states p, q and z of `lowering`, turns them by the flip angle, ``y = R x`` with ``R =
exp(angle J)`` and ``J (p, q, z) = (z, z, -(p + q) / 2)``, relaxes them, ``E y = (E2 p, conj(E2) q, E1 z)`` plus the
recovery of z at order 0, and shifts the orders. The tangent x_t of x by a parameter of the tissue obeys the same
recurrence, driven by x: by ``angle_t J x`` before the turn, and by ``E_t / E`` times the new states, where ``angle_t``
and ``E_t`` are the tangents of the coefficients, by `jax.jvp` of the lowering. So tangents are carried beside x and
share its coefficients. Throughout this file a list or axis of tangents has x itself first.

With the adjoint states l of x, the gradient by every coefficient is an inner product of l and x at one instant: ``<l, J
x>`` for the angle of the frame that begins there, ``<l, x> / E`` over p and q, or over z, for the relaxation of the
frame that has just ended, ``<l, i x>`` for its turn, the phase of E2. The adjoint therefore needs the states x of all
frames, latest first; they are computed again, block by block of frames. `jax.vjp` of the lowering carries gradients on
to every time, angle, phase and efficiency of a sequence, and to the tissue. A state is a list of its parts: one, or a
real and an imaginary one.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ganmrf.physics.engines.looping import double_buffered, in_blocks, sum_orders
from ganmrf.physics.engines.parts import added, conjugate, cut, rotated, summed, times_i

# Frames a block: near the square root of the 1000 frames of a schedule, where the states kept between blocks and those
# computed again within a block together take least memory.
_BLOCK = 32


class Frames(NamedTuple):
    """Coefficients of frames, (frames, lanes), or their tangents by one parameter, None where it does not move them."""

    angle: jax.Array | None
    e1: jax.Array | None
    e2: jax.Array | None
    turn: jax.Array | None  # None also where states are real
    recovery: jax.Array | None


class _Factors(NamedTuple):
    """What states are multiplied by in frames, (frames, 1, lanes): see `_turned`, and the tangents of it."""

    cos: jax.Array
    sin: jax.Array
    transverse: tuple[jax.Array, ...]
    longitudinal: tuple[jax.Array, ...]
    turn: tuple[jax.Array, ...]  # cosine and sine, or nothing where states are real
    inverse: tuple[jax.Array, jax.Array]  # 1 / E1 and 1 / E2
    recovery: jax.Array
    moves: tuple[Frames, ...]
    relative: tuple[Frames, ...]  # the same with those of E1 and E2 divided by these


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def after_pulses(n_states, frames, moves, start):
    """Transverse magnetisation right after each pulse, all tangents and parts: (frames, n_tangents, parts, lanes).

    ``moves`` are the tangents of the coefficients ``frames``, by each parameter, and ``start``, (n_tangents, lanes), is
    the longitudinal state of order 0 before the first pulse.
    """
    return _forward(n_states, frames, moves, start)[0]


def _forward(n_states, frames, moves, start):
    """Magnetisation after each pulse, and the residuals of `_backward`: arguments and the states before each block."""

    def block(states, frames):
        factors = _factors(*frames)
        after, rows = double_buffered(_frame, states, factors)
        return after, (_rows_after_turn(rows, factors)[0], states)

    empty = jnp.zeros((max(n_states, 2), start.shape[1]), start.dtype)
    nothing = (empty,) * (1 if frames.turn is None else 2)
    states = [(nothing, nothing, (empty.at[0].set(along), *nothing[1:])) for along in start]
    after, checkpoints = lax.scan(block, states, in_blocks((frames, moves), _BLOCK))[1]
    return after.reshape(-1, *after.shape[2:])[: len(frames.angle)], (frames, moves, checkpoints)


def _backward(n_states, residuals, cotangents):
    """Cotangents of frames, moves and start, from the cotangents of the magnetisation right after each pulse."""
    frames, moves, checkpoints = residuals

    def block(carry, inputs):
        adjoints, after = carry
        frames, seen, states = inputs
        factors = _factors(*frames)
        _, (rows, states) = double_buffered(_frame_and_states, states, factors)
        inputs = states, factors, _rows_before_turn(seen, factors)
        adjoints, products = double_buffered(_adjoint_frame, adjoints, inputs, reverse=True)
        # The products are with the states before a frame. They belong to its own turn, and to the relaxation of the
        # frame before it.
        ended = jnp.concatenate([products[1:], after[None]])
        found = _cotangents(unpacked(products), unpacked(ended), _rows_after_turn(rows, factors)[1], factors)
        return (adjoints, products[0]), found

    def unpacked(products):
        return jax.tree.unflatten(names, [products[:, n, None] for n in range(products.shape[1])])

    n_tangents, n_parts, n_lanes = cotangents.shape[1:]
    zeros = jnp.zeros((max(n_states, 2) + 1, n_lanes), cotangents.dtype)
    adjoints = [((zeros,) * n_parts, (zeros,) * n_parts, (zeros[1:],) * n_parts)] * n_tangents
    states = [((zeros[1:],) * n_parts,) * 3] * n_tangents
    products, names = jax.tree.flatten(jax.eval_shape(lambda: _inner_products(adjoints, states, moves)))
    carry = adjoints, jnp.zeros((len(products), n_lanes), cotangents.dtype)
    inputs = *in_blocks(((frames, moves), cotangents), _BLOCK), checkpoints
    (adjoints, _), found = lax.scan(block, carry, inputs, reverse=True)
    of_frames, of_moves = jax.tree.map(lambda leaf: leaf.reshape(-1, n_lanes)[: len(cotangents)], found)
    return of_frames, of_moves, jnp.stack([along[0][0] for _, _, along in adjoints])


after_pulses.defvjp(_forward, _backward)


def _factors(frames, moves):
    """The factors of frames, computed before their loops."""
    cos, sin = jnp.cos(frames.angle), jnp.sin(frames.angle)
    # The adjoint divides by E1 and E2 what they have left of states. A saturation makes E1 0: in its place stands as
    # little to any state that can be divided by. A crusher makes E2 0, whatever the tissue and the times.
    least = jnp.finfo(frames.e1.dtype).tiny ** 0.5
    e1 = jnp.where(jnp.abs(frames.e1) < least, least, frames.e1)
    crushed = frames.e2 == 0
    inverse = 1 / e1, jnp.where(crushed, 0, 1 / jnp.where(crushed, 1, frames.e2))
    transverse = frames.e2 * (0.5 * (cos + 1)), frames.e2 * (0.5 * (cos - 1)), frames.e2 * sin
    turn = () if frames.turn is None else (jnp.cos(frames.turn), jnp.sin(frames.turn))
    relative = []
    for move in moves:
        by_e1, by_e2 = (
            part if part is None else part * by for part, by in zip((move.e1, move.e2), inverse, strict=True)
        )
        relative.append(move._replace(e1=by_e1, e2=by_e2))
    factors = cos, sin, transverse, (e1 * cos, -0.5 * e1 * sin), turn, inverse, frames.recovery, moves, tuple(relative)
    return _Factors(*jax.tree.map(lambda c: c[:, None], lax.optimization_barrier(factors)))


def _frame(tangents, buffers, factors):
    """Turns, relaxes and dephases tangents into ``buffers``; also p and z of order 0 before, (n_tangents, rows, lanes).

    Those rows are the parts of p and the real z.
    """
    after = []
    p_0, _, z_0 = (state[0][:1] for state in tangents[0])
    z_0 = factors.cos * z_0 - factors.sin * p_0  # order 0 of the signal after the turn
    for n, (p_next, q_next, z_next) in enumerate(buffers):
        # Orders are cut out before they are added, or XLA makes slow loops.
        up, down, low = (
            _turned(_driven(tangents, n, orders, factors), factors)[which]
            for which, orders in ((0, slice(-1)), (1, slice(1, None)), (1, slice(1, 2)))
        )
        low = conjugate(low)
        along = _turned(_driven(tangents, n, slice(None), factors), factors)[2]
        above, (at_0, *rest) = cut(along, slice(1, None)), cut(along, slice(1))
        if n == 0:
            at_0 = at_0 + factors.recovery
        else:
            (p, q, z), relative = after[0], factors.relative[n - 1]
            if relative.e2 is not None:
                up, low = added(up, relative.e2, cut(p, slice(1, None))), added(low, relative.e2, cut(p, slice(1)))
                down = added(down, relative.e2, cut(q, slice(-1)))
            if relative.turn is not None:
                up = added(up, relative.turn, times_i(cut(p, slice(1, None))))
                low = added(low, relative.turn, times_i(cut(p, slice(1))))
                down = added(down, -relative.turn, times_i(cut(q, slice(-1))))
            if relative.e1 is not None:
                above = added(above, relative.e1, cut(z, slice(1, None)))
                at_0 = at_0 + factors.moves[n - 1].e1 * z_0
            at_0 = at_0 if relative.recovery is None else at_0 + relative.recovery
        # In place, z too: XLA computes a value that no buffer holds again wherever the next frame reads it.
        p = tuple(old.at[1:].set(new).at[:1].set(row) for old, new, row in zip(p_next, up, low, strict=True))
        q = tuple(old.at[:-1].set(new) for old, new in zip(q_next, down, strict=True))
        z = [old.at[1:].set(new).at[:1].set(row) for old, new, row in zip(z_next, above, (at_0, *rest), strict=True)]
        after.append((p, q, tuple(z)))
    return after, jnp.stack([jnp.concatenate([part[:1] for part in (*p, z[0])]) for p, _, z in tangents])


def _frame_and_states(tangents, buffers, factors):
    """As `_frame`, with all states before the frame beside the rows."""
    after, rows = _frame(tangents, buffers, factors)
    return after, (rows, tangents)


def _driven(tangents, n, orders, factors):
    """Some orders of p, q and z of a tangent before the turn, with what the signal drives there."""
    p, q, z = (cut(state, orders) for state in tangents[n])
    if n == 0 or (angle := factors.moves[n - 1].angle) is None:
        return p, q, z
    p_0, q_0, z_0 = (cut(state, orders) for state in tangents[0])
    return added(p, angle, z_0), added(q, angle, z_0), added(z, -0.5 * angle, summed(p_0, q_0))


def _turned(states, factors):
    """p, q and z turned by the flip angle and relaxed, but for the recovery."""
    (a, b, g), (d, h) = factors.transverse, factors.longitudinal
    parts = list(zip(*states, strict=True))
    p, q = [a * p + b * q + g * z for p, q, z in parts], [b * p + a * q + g * z for p, q, z in parts]
    z = [d * z + h * (p + q) for p, q, z in parts]
    return rotated(p, factors.turn), rotated(q, conjugate(factors.turn)), z


def _rows_after_turn(rows, factors):
    """Parts of p, (frames, n_tangents, parts, lanes), and z of order 0 after the turn, from the rows of `_frame`."""
    p, z = rows[:, :, 0], rows[:, :, -1]
    p, z = factors.cos * p + factors.sin * z, factors.cos * z - factors.sin * p
    for n, move in enumerate(factors.moves, 1):
        if move.angle is not None:
            by = move.angle[:, 0]
            p, z = p.at[:, n].add(by * z[:, 0]), z.at[:, n].add(-by * p[:, 0])
    return jnp.concatenate([p[:, :, None], rows[:, :, 1:-1]], 2), z


def _rows_before_turn(seen, factors):
    """Adjoints of q, with which those of p stand, and of z of order 0 before the turn, from those of p after it."""
    cos, sin, real = factors.cos[:, None], factors.sin[:, None], seen[:, :, :1]
    return jnp.concatenate([cos * real, -seen[:, :, 1:], sin * real], 2)


def _adjoint_frame(adjoints, buffers, inputs):
    """One frame back, into ``buffers``; also the `_inner_products` of adjoints and states before the frame.

    The adjoints of one tangent are three states: the adjoints of p and then a row of zeros, a row of zeros and then the
    adjoints of q, and the adjoints of z, so that dephasing is undone by reading ``p[1:]`` and ``q[:-1]``. At order 0, p
    and conj(q) are one number, whose adjoint stands with q. ``inputs`` are the states before the frame, its `_Factors`,
    and `_rows_before_turn`.
    """
    states, factors, rows = inputs
    (a, b, g), (d, h) = factors.transverse, factors.longitudinal
    dephased = [(cut(p, slice(1, None)), cut(q, slice(-1)), z) for p, q, z in adjoints]
    p, q, z = dephased[0]
    for (by_p, by_q, by_z), relative in zip(dephased[1:], factors.relative, strict=True):
        if relative.e2 is not None:
            p, q = added(p, relative.e2, by_p), added(q, relative.e2, by_q)
        if relative.turn is not None:
            p, q = added(p, -relative.turn, times_i(by_p)), added(q, relative.turn, times_i(by_q))
        if relative.e1 is not None:
            z = added(z, relative.e1, by_z)
    dephased[0] = p, q, z
    before = [None] * len(adjoints)
    for n in reversed(range(len(adjoints))):  # the signal last: it drives the others
        p, q, z = dephased[n]
        parts = list(zip(rotated(p, conjugate(factors.turn)), rotated(q, factors.turn), z, strict=True))
        p, q = [a * p + b * q + h * z for p, q, z in parts], [b * p + a * q + h * z for p, q, z in parts]
        z = [g * (p + q) + d * z for p, q, z in parts]
        if n == 0:
            for (by_p, by_q, by_z), move in zip(before[1:], factors.moves, strict=True):
                if move.angle is not None:
                    p, q = added(p, -0.5 * move.angle, by_z), added(q, -0.5 * move.angle, by_z)
                    z = added(z, move.angle, summed(cut(by_p, slice(-1)), cut(by_q, slice(1, None))))
        *of_q, of_z = rows[n][:, None]
        at_0 = summed(summed(conjugate(cut(p, slice(1))), cut(q, slice(1))), of_q)
        p_next, q_next, z_next = buffers[n]
        q = tuple(old.at[1:].set(new).at[1:2].set(row) for old, new, row in zip(q_next, q, at_0, strict=True))
        p = tuple(old.at[:-1].set(new).at[:1].set(0) for old, new in zip(p_next, p, strict=True))
        z_0, *rest = cut(z, slice(1))
        z = [
            old.at[1:].set(new[1:]).at[:1].set(row)
            for old, new, row in zip(z_next, z, (z_0 + of_z, *rest), strict=True)
        ]
        before[n] = p, q, tuple(z)
    return before, jnp.concatenate(jax.tree.leaves(_inner_products(before, states, factors.moves)))


class _Products(NamedTuple):
    """Inner products of adjoints and states at one instant, (1, lanes)."""

    own: Frames  # of all tangents, each with its own states, together
    by: tuple[Frames, ...]  # of each with the states of the signal
    at_0: tuple[jax.Array, ...]  # the adjoints of z of order 0 themselves


def _inner_products(adjoints, states, moves):
    """The `_Products` that the cotangents of angle, E1 (above order 0), E2 and turn are made of."""
    adjoints = [(cut(p, slice(-1)), cut(q, slice(1, None)), z) for p, q, z in adjoints]

    def products(adjoint, state, wanted):
        (p, q, z), (u, v, w) = adjoint, state
        found = [
            sum((a + b) * k - 0.5 * c * (i + j) for a, b, c, i, j, k in zip(*adjoint, *state, strict=True)),
            sum(c[1:] * k[1:] for c, k in zip(z, w, strict=True)),
            sum(a * i + b * j for a, b, i, j in zip(p, q, u, v, strict=True)),
            p[1] * u[0] - p[0] * u[1] + q[0] * v[1] - q[1] * v[0] if len(p) > 1 else None,
        ]
        return [None if move is None else each for move, each in zip(wanted[:4], found, strict=True)]

    def of_frames(found):
        return Frames(*(None if each is None else sum_orders(each) for each in found), None)

    turn = None if len(adjoints[0][0]) == 1 else 0
    own = [products(*pair, (0, 0, 0, turn)) for pair in zip(adjoints, states, strict=True)]
    own = [None if each[0] is None else sum(each) for each in zip(*own, strict=True)]
    by = [products(adjoint, states[0], move) for adjoint, move in zip(adjoints[1:], moves, strict=True)]
    return _Products(of_frames(own), tuple(map(of_frames, by)), tuple(z[0][:1] for _, _, z in adjoints))


def _cotangents(products, ended, along, factors):
    """Cotangents of frames and moves, (frames, 1, lanes), from the products that belong to each frame.

    ``products`` are those before a frame, ``ended`` those after it, and ``along`` is z of order 0 after the turn.
    """
    _, e1, e2, turn, _ = ended.own
    over_e1, over_e2 = factors.inverse
    moves = []
    for n, (relative, turned, by) in enumerate(zip(factors.relative, products.by, ended.by, strict=True), 1):
        of_e1 = of_e2 = None
        if relative.e1 is not None:
            e1 = e1 - relative.e1 * by.e1
            of_e1 = over_e1 * by.e1 + ended.at_0[n] * along[:, 0, None]
        if relative.e2 is not None:
            e2 = e2 - relative.e2 * by.e2
            of_e2 = over_e2 * by.e2
        recovery = None if relative.recovery is None else ended.at_0[n]
        moves.append(Frames(turned.angle, of_e1, of_e2, by.turn, recovery))
    e1 = over_e1 * e1 + sum(z * along[:, n, None] for n, z in enumerate(ended.at_0))
    return Frames(products.own.angle, e1, over_e2 * e2, turn, ended.at_0[0]), tuple(moves)
