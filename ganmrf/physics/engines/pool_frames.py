"""One frame of the `recurrence`: what its states are, and how pools turn, relax, exchange and dephase in it.

A state of a pool is a list of its parts: one, or a real and an imaginary one. Coefficients that are None move nothing.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ganmrf.physics.engines.parts import added, conjugate, summed, times, total


class Frames(NamedTuple):
    """Coefficients of frames, (frames, lanes), or their tangents by one parameter, None where it does not move them.

    Attributes:
      angle: flip angle.
      transverse: rows of the entries of T, each a tuple of as many parts as states have.
      longitudinal: rows of the entries of L; pools that are not transverse come last.
      recovery: what z of order 0 of each pool gets.
    """

    angle: jax.Array | None
    transverse: tuple[tuple[tuple[jax.Array | None, ...], ...], ...]
    longitudinal: tuple[tuple[jax.Array | None, ...], ...]
    recovery: tuple[jax.Array | None, ...]


class States(NamedTuple):
    """Parts of the states of every pool, (orders, lanes); or the adjoints of them, see `_adjoint_frame`."""

    p: tuple[tuple[jax.Array, ...], ...]
    q: tuple[tuple[jax.Array, ...], ...]
    z: tuple[tuple[jax.Array, ...], ...]


class Factors(NamedTuple):
    """What states are multiplied by in frames, (frames, 1, lanes)."""

    turn: tuple[jax.Array, ...]  # cosine, sine, and halves of the cosine + 1 and - 1
    frames: Frames
    moves: tuple[Frames, ...]


def factors_of(frames, moves):
    """The factors of frames, computed before their loops."""
    cos, sin = jnp.cos(frames.angle), jnp.sin(frames.angle)
    factors = (cos, sin, 0.5 * (cos + 1), 0.5 * (cos - 1)), frames, moves
    return Factors(*jax.tree.map(lambda c: c[:, None], lax.optimization_barrier(factors)))


def frame(tangents, buffers, factors):
    """Turns, relaxes and dephases tangents into ``buffers``; also p of order 0 after the turn, as `after_pulses`."""
    turned = functools.partial(_turned, tangents, factors)
    seen = [turned(n, slice(1)).p for n in range(len(tangents))]
    seen = jnp.stack([jnp.stack([jnp.concatenate(pool) for pool in p]) for p in seen])
    return _dephased(turned, buffers, factors), seen


def frame_and_turned(states, buffers, factors):
    """As `frame`, with all states after the turn; ``states`` and ``buffers`` are pairs, the second theirs.

    In place they are, too, or XLA would compute them again wherever they are read.
    """
    (tangents, _), (buffers, kept), turned = states, buffers, []
    for n, old in enumerate(kept):
        above, at_0 = (_turned(tangents, factors, n, orders) for orders in (slice(1, None), slice(1)))
        new = zip(old, above, at_0, strict=True)
        turned.append(States(*(written(old, [(slice(1, None), up), (slice(1), low)]) for old, up, low in new)))

    def cut_out(n, orders):
        return jax.tree.map(lambda part: part[orders], turned[n])

    return (_dephased(cut_out, buffers, factors), turned), turned


def _dephased(turned, buffers, factors):
    """States relaxed, exchanged and dephased into ``buffers``, from ``turned(n, orders)``: some orders of a tangent."""
    after = []
    for n, (p_next, q_next, z_next) in enumerate(buffers):
        # Orders are cut out before they are added, or XLA makes slow loops.
        up = _relaxed(turned, n, slice(-1), factors, "p")
        down, low = (_relaxed(turned, n, orders, factors, "q") for orders in (slice(1, None), slice(1, 2)))
        above, at_0 = (_relaxed(turned, n, orders, factors, "z") for orders in (slice(1, None), slice(1)))
        recovery = (factors.moves[n - 1] if n else factors.frames).recovery
        at_0 = [z if r is None else (z[0] + r, *z[1:]) for z, r in zip(at_0, recovery, strict=True)]
        # In place, z too: XLA computes a value that no buffer holds again wherever the next frame reads it.
        p = written(p_next, [(slice(1, None), up), (slice(1), [conjugate(each) for each in low])])
        q = written(q_next, [(slice(-1), down)])
        after.append(States(p, q, written(z_next, [(slice(1, None), above), (slice(1), at_0)])))
    return after


def _turned(tangents, factors, n, orders):
    """Some orders of a tangent turned by the flip angle, with what the signal drives there."""
    p, q, z = jax.tree.map(lambda part: part[orders], tangents[n])
    cos, sin, half_above, half_below = factors.turn
    of_p, of_q, of_z = [], [], []
    for each in zip(p, q, z, strict=False):  # pools that are not transverse do not turn
        parts = list(zip(*each, strict=True))
        of_p.append([half_above * p + half_below * q + sin * z for p, q, z in parts])
        of_q.append([half_below * p + half_above * q + sin * z for p, q, z in parts])
        of_z.append([cos * z - 0.5 * sin * (p + q) for p, q, z in parts])
    states = States(of_p, of_q, [*of_z, *z[len(p) :]])
    if n and (angle := factors.moves[n - 1].angle) is not None:
        return _generated(states, angle, _turned(tangents, factors, 0, orders))
    return states


def _generated(states, angle, others):
    """States, and an angle times J of other ones."""
    p, q = ([added(own, angle, z) for own, z in zip(each, others.z, strict=False)] for each in states[:2])
    along = [added(z, -0.5 * angle, summed(*across)) for z, *across in zip(states.z, *others[:2], strict=False)]
    return States(p, q, [*along, *states.z[len(along) :]])


def _relaxed(turned, n, orders, factors, kind):
    """Some orders of the pools of p, q or z after relaxation and exchange, without recovery."""
    found = mapped(matrix_of(factors.frames, kind), getattr(turned(n, orders), kind))
    if n:
        driven = mapped(matrix_of(factors.moves[n - 1], kind), getattr(turned(0, orders), kind))
        found = [total(each) for each in zip(found, driven, strict=True)]
    return found


def matrix_of(frames, kind):
    """Rows of the entries, None where nothing is, that the pools of p, q or z are multiplied by."""
    rows = [[(entry,) for entry in row] for row in frames.longitudinal] if kind == "z" else frames.transverse
    rows = [[None if entry[0] is None else entry for entry in row] for row in rows]
    return conjugated(rows) if kind == "q" else rows


def conjugated(rows):
    """Rows of entries, each the complex conjugate."""
    return [[entry and conjugate(entry) for entry in row] for row in rows]


def mapped(matrix, pools):
    """Rows of entries times pools; None for a row without entries."""
    return [total(times(entry, pool) for entry, pool in zip(row, pools, strict=True) if entry) for row in matrix]


def written(buffers, updates):
    """Buffers of pools, with the values of each (orders, pools) of ``updates`` in turn."""
    for orders, pools in updates:
        buffers = [
            [old.at[orders].set(new) for old, new in zip(*pair, strict=True)]
            for pair in zip(buffers, pools, strict=True)
        ]
    return tuple(map(tuple, buffers))
