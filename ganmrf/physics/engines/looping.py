"""Loops over frames and sums over orders, in the forms that XLA makes fast on a CPU."""

import math

import jax
import jax.numpy as jnp
from jax import lax


def sum_orders(values):
    """Sum over orders, (1, lanes), written out as vector additions: XLA's sum adds one number at a time on a CPU."""
    n_parts = math.isqrt(len(values))
    size = len(values) // n_parts
    values = lax.optimization_barrier(values)
    part = lax.optimization_barrier(sum(values[n * size : (n + 1) * size] for n in range(n_parts)))
    rest = range(n_parts * size, len(values))
    return sum([part[n : n + 1] for n in range(size)] + [values[n : n + 1] for n in rest])


def double_buffered(step, states, inputs, reverse=False):
    """`lax.scan` of ``step(states, buffers, input) -> states in buffers, output``, two steps at a time (`states`)."""

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


def in_blocks(tree, most: int):
    """Leaves (frames, ...) as (blocks, frames of a block, ...), an even number of ``most`` frames or fewer a block.

    Frames of zeros are added at the end: they have no pulse and last 0 s.
    """

    def blocked(leaf):
        size = min(most, len(leaf) + len(leaf) % 2)
        padded = jnp.pad(leaf, [(0, -len(leaf) % size)] + [(0, 0)] * (leaf.ndim - 1))
        return padded.reshape(-1, size, *leaf.shape[1:])

    return jax.tree.map(blocked, tree)
