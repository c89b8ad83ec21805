"""Signals of voxels of any shape and their derivatives by tissue: the `recurrence` from sequence and tissue."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax import lax

from ganmrf.physics.engines.parts import times
from ganmrf.physics.engines.pool_frames import Frames
from ganmrf.physics.engines.recurrence import after_pulses
from ganmrf.physics.lowering import lower, recorded_frames


@functools.partial(jax.jit, static_argnames=("n_states", "parameters"))
def tangents_in_chunks(sequence, tissue, slice_profile, *, n_states: int, parameters: tuple[str, ...] = ()):
    """Signals of voxels of any shape and their derivatives by tissue, (1 + parameters, ..., frames); see `simulate`.

    The sequence has one turn at the end of every frame. ``parameters`` are names of fields of ``tissue``.
    """
    dtype = jnp.result_type(*jax.tree.leaves((sequence, tissue)))
    sequence, voxels = jax.tree.map(lambda leaf: leaf.astype(dtype), (sequence, tissue.ravel()))
    quadrature = (jnp.ones(1), jnp.ones(1)) if slice_profile is None else (slice_profile.nodes, slice_profile.weights)
    nodes, weights = (jnp.asarray(values, dtype) for values in quadrature)
    recorded, n_tangents = recorded_frames(sequence), 1 + len(parameters)

    def chunk(voxels):
        """(n_tangents, voxels, frames). Each node of the slice profile is a lane of its own."""
        lanes = jax.tree.map(lambda leaf: jnp.repeat(leaf, nodes.size), voxels)
        scales = jnp.tile(nodes, voxels.size)

        def lowered(values):
            return _coefficients(lower(sequence, dataclasses.replace(lanes, **values)), scales)

        found = _echoes(lowered, {name: getattr(lanes, name) for name in parameters}, n_states)[:, recorded]
        found = found.reshape(*found.shape[:2], -1, nodes.size)
        return jnp.einsum("tnvk,k->tvn", found, weights, precision="highest")

    voxels = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, voxels.shape), voxels)
    size = max(_lanes(n_states * n_tangents * _n_rows(sequence, voxels)) // nodes.size, 1)
    if voxels.size <= size:
        tangents = chunk(voxels)
    else:
        # Checkpointed, so that no chunk's states outlive it.
        padded = jax.tree.map(lambda v: jnp.pad(v, (0, -v.size % size), mode="edge").reshape(-1, size), voxels)
        tangents = lax.map(jax.checkpoint(chunk), padded)
        tangents = jnp.moveaxis(tangents, 0, 1).reshape(n_tangents, -1, recorded.size)[:, : voxels.size]
    return tangents.reshape(n_tangents, *tissue.shape, recorded.size)


def _n_rows(sequence, voxels):
    """States of a voxel for each one of a single pool on resonance."""
    frames = jax.eval_shape(lambda: _coefficients(lower(sequence, voxels), jnp.ones(()))[0])
    return len(frames.longitudinal) * len(frames.transverse[0][0])


def _lanes(n_rows):
    """Lanes of ``n_rows`` parts of states and tangents each that fit a CPU's second-level cache, or fill a GPU."""
    rows = 10240 if jax.default_backend() == "cpu" else 2**19
    return max(rows // n_rows // 64 * 64, 64)


def _coefficients(lowered, scales):
    """Frames of the recurrence, z before the first pulse, and factors of each transverse pool from then to the echo.

    Flip angles are multiplied by ``scales``, of the slice, which saturation of a semisolid pool does not depend on.
    """
    c = lowered
    recovery = tuple(1 - c.longitudinal[0][0] if c.recovery is None else each for each in c.recovery or (None,))
    frames = Frames(jnp.reshape(scales, (1, -1)) * c.angle, _turned(c.transverse, c.turn), c.longitudinal, recovery)
    shape = jnp.broadcast_shapes(*(leaf.shape for leaf in jax.tree.leaves(frames)))
    frames = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, shape), frames)
    echo = _turned([c.echo], c.echo_turn)[0]
    return frames, [jnp.broadcast_to(each, shape[1:]) for each in c.z0], echo


def _turned(rows, turn):
    """Rows of entries in parts, real as they are without a ``turn``, rad, that all of them have; else complex."""
    if turn is None:
        return tuple(map(tuple, rows))
    cos_sin = jnp.cos(turn), jnp.sin(turn)
    return tuple(tuple(tuple(times(entry, cos_sin)) for entry in row) for row in rows)


def _echoes(lowered, parameters, n_states):
    """Tangents at the echoes, (n_tangents, frames, lanes), from `_coefficients` as a function of ``parameters``."""
    frames, start, echo = lowered({})
    moves = [_moved(lambda value, name=name: lowered({name: value}), value) for name, value in parameters.items()]
    starts = [start, *(move[1] for move in moves)]
    starts = [[jnp.zeros_like(start[0]) if z is None else z for z in along] for along in starts]
    after = after_pulses(n_states, frames, tuple(move[0] for move in moves), jnp.stack(list(map(jnp.stack, starts))))
    tangents = [_seen(echo, after[:, n]) for n in range(len(starts))]
    for n, (_, _, move) in enumerate(moves, 1):
        tangents[n] += _seen(move, after[:, 0])
    return jnp.stack(tangents)


def _seen(echo, after):
    """The signal, (frames, lanes), of (frames, pools, parts, lanes) right after each pulse; 0 without any factor."""
    pools = zip(echo, jnp.moveaxis(after, 1, 0), strict=True)
    seen = [times(factor, list(jnp.moveaxis(pool, 1, 0))) for factor, pool in pools if factor[0] is not None]
    return sum(lax.complex(*each) if len(each) > 1 else each[0] for each in seen)


def _moved(function, value):
    """Derivative of the outputs of a function of one array, entry by entry; None in place of those not depending on it.

    An output that is None costs the recurrence nothing; zeros would cost as much as any other numbers.
    """
    reached = _reached(jax.make_jaxpr(function)(value).jaxpr, [True])
    leaves, tree = jax.tree.flatten(jax.jvp(function, (value,), (jnp.ones_like(value),))[1])
    return jax.tree.unflatten(tree, [leaf if found else None for leaf, found in zip(leaves, reached, strict=True)])


def _reached(jaxpr, given):
    """Whether each output of a jaxpr depends on any of the inputs that are ``given``, a flag each."""
    reached = {id(variable) for variable, flag in zip(jaxpr.invars, given, strict=True) if flag}
    for equation in jaxpr.eqns:
        flags = _reached_through(equation, [id(variable) in reached for variable in equation.invars])
        reached.update(id(variable) for variable, flag in zip(equation.outvars, flags, strict=True) if flag)
    return [id(variable) in reached for variable in jaxpr.outvars]


def _reached_through(equation, given):
    """`_reached` of an equation: entry by entry of a loop or a function, else every output by any input."""
    name, inner = equation.primitive.name, getattr(equation.params.get("jaxpr"), "jaxpr", None)
    if name in ("jit", "pjit"):
        return _reached(inner, given)
    if name != "scan":
        return [any(given)] * len(equation.outvars)
    first, size = equation.params["num_consts"], equation.params["num_carry"]
    while True:  # until no further entry of the carry is reached by another turn of the loop
        found = _reached(inner, given)
        carried = [flag or found[n] for n, flag in enumerate(given[first : first + size])]
        if carried == given[first : first + size]:
            return found
        given = [*given[:first], *carried, *given[first + size :]]
