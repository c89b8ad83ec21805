"""Signals of voxels of any shape and their derivatives by tissue: the `recurrence` from sequence and tissue."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from ganmrf.physics.engines.recurrence import Frames, after_pulses
from ganmrf.physics.lowering import is_real, lower, recorded_frames


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

    def chunk(fields):
        """(n_tangents, voxels, frames). Each node of the slice profile is a lane of its own, with its B1."""
        lanes = {name: jnp.repeat(values, nodes.size) for name, values in fields.items()}
        scales = jnp.tile(nodes, fields["t1"].size)

        def lowered(values):
            values = {"off_resonance": None} | lanes | values
            return _coefficients(lower(sequence, **values | {"b1": scales * values["b1"]}))

        found = _echoes(lowered, {name: lanes[name] for name in parameters}, n_states)[:, recorded]
        found = found.reshape(*found.shape[:2], -1, nodes.size)
        return jnp.einsum("tnvk,k->tvn", found, weights, precision="highest")

    fields = {name: jnp.broadcast_to(value, voxels.shape) for name, value in vars(voxels).items() if value is not None}
    n_parts = 1 if is_real(sequence, tissue.off_resonance) else 2
    size = max(_lanes(n_states * n_tangents * n_parts) // nodes.size, 1)
    if voxels.size <= size:
        tangents = chunk(fields)
    else:
        # Checkpointed, so that no chunk's states outlive it.
        in_chunks = {name: jnp.pad(v, (0, -v.size % size), mode="edge").reshape(-1, size) for name, v in fields.items()}
        tangents = lax.map(jax.checkpoint(chunk), in_chunks)
        tangents = jnp.moveaxis(tangents, 0, 1).reshape(n_tangents, -1, recorded.size)[:, : voxels.size]
    return tangents.reshape(n_tangents, *tissue.shape, recorded.size)


def _lanes(n_rows):
    """Lanes of ``n_rows`` parts of states and tangents each that fit a CPU's second-level cache, or fill a GPU."""
    rows = 10240 if jax.default_backend() == "cpu" else 2**19
    return max(rows // n_rows // 64 * 64, 64)


def _coefficients(lowered):
    """Frames of the recurrence, z before the first pulse, (lanes,), and the factor from right after it to the echo."""
    c = lowered
    recovery = 1 - c.e1 if c.recovery is None else c.recovery
    frames = Frames(c.angle, c.e1, c.e2, c.turn, recovery)
    echo = c.echo
    if c.echo_turn is not None:
        echo = lax.complex(echo * jnp.cos(c.echo_turn), echo * jnp.sin(c.echo_turn))
    return frames, jnp.broadcast_to(c.z0, c.e1.shape[1:]), echo


def _echoes(lowered, parameters, n_states):
    """Tangents at the echoes, (n_tangents, frames, lanes), from `_coefficients` as a function of ``parameters``."""
    frames, start, echo = lowered({})
    moves = [_moved(lambda value, name=name: lowered({name: value}), value) for name, value in parameters.items()]
    starts = jnp.stack([start, *(jnp.zeros_like(start) if move[1] is None else move[1] for move in moves)])
    after = jnp.moveaxis(after_pulses(n_states, frames, tuple(move[0] for move in moves), starts), 2, 0)
    after = jnp.moveaxis(lax.complex(*after) if len(after) > 1 else after[0], 1, 0)
    tangents = [echo * each for each in after]
    for n, (_, _, move) in enumerate(moves, 1):
        if move is not None:
            tangents[n] += move * after[0]
    return jnp.stack(tangents)


def _moved(function, value):
    """Derivative of the outputs of a function of one array, entry by entry; None in place of those not depending on it.

    An output that is None costs the recurrence nothing; zeros would cost as much as any other numbers.
    """
    closed = jax.make_jaxpr(function)(value)
    reached = {id(variable) for variable in closed.jaxpr.invars}
    for equation in closed.jaxpr.eqns:
        if any(id(variable) in reached for variable in equation.invars):
            reached.update(map(id, equation.outvars))
    leaves, tree = jax.tree.flatten(jax.jvp(function, (value,), (jnp.ones_like(value),))[1])
    kept = [leaf if id(out) in reached else None for leaf, out in zip(leaves, closed.jaxpr.outvars, strict=True)]
    return jax.tree.unflatten(tree, kept)
