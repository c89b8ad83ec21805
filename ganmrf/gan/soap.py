"""SOAP: Adam in the slowly turning eigenbasis of Shampoo's preconditioner, as an optax transformation.

The installed optax 0.2.8 has no SOAP; the development version has one in `optax.contrib`, which replaces this module
when it is released.

Reference: Vyas et al. 2024, "SOAP: Improving and Stabilizing Shampoo using Adam", arXiv:2409.11321, Algorithm 3.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

_B1 = 0.95  # decay of the mean gradient
_B2 = 0.95  # decay of the mean squared gradient and of the correlations
_EPS = 1e-8  # added to the root of the mean squared gradient
_EVERY = 10  # steps between two refinements of the eigenbases, each one step of orthogonal iteration
_LONGEST = 512  # an axis longer than this keeps its coordinates: its basis would cost more than the network


class SoapState(NamedTuple):
    """Number of updates, and one `LeafState` for each parameter, in the order of the tree's leaves."""

    count: jax.Array
    leaves: list


class LeafState(NamedTuple):
    """Adam's moments in the eigenbases, and the correlation and eigenbasis of every axis that has one."""

    first: jax.Array
    second: jax.Array
    correlations: dict[int, jax.Array]
    bases: dict[int, jax.Array]


def soap(learning_rate: optax.ScalarOrSchedule) -> optax.GradientTransformation:
    """SOAP, in place of `optax.adam`.

    Both axes of a matrix are turned into the eigenbases of the mean G G' and G' G; vectors get plain Adam.
    """
    return optax.chain(optax.GradientTransformation(_init, _update), optax.scale_by_learning_rate(learning_rate))


def _init(params):
    return SoapState(jnp.zeros((), jnp.int32), [_init_leaf(leaf) for leaf in jax.tree.leaves(params)])


def _update(gradients, state, params=None):
    del params
    count = state.count + 1
    leaves, structure = jax.tree.flatten(gradients)
    directions, states = [], []
    for gradient, leaf in zip(leaves, state.leaves, strict=True):
        correlations = {
            axis: _B2 * old + (1 - _B2) * _correlation(gradient, axis) for axis, old in leaf.correlations.items()
        }
        first, bases = leaf.first, leaf.bases
        if bases:
            first, bases = _refined(first, bases, correlations, count)
        turned = _turn(gradient, bases)
        first, second = _B1 * first + (1 - _B1) * turned, _B2 * leaf.second + (1 - _B2) * turned**2
        scaled = (first / (1 - _B1**count)) / (jnp.sqrt(second / (1 - _B2**count)) + _EPS)
        directions.append(_turn_back(scaled, bases))
        states.append(LeafState(first, second, correlations, bases))
    return jax.tree.unflatten(structure, directions), SoapState(count, states)


def _init_leaf(leaf):
    sizes = {axis: n for axis, n in enumerate(leaf.shape) if n <= _LONGEST} if leaf.ndim == 2 else {}
    correlations = {axis: jnp.zeros((n, n), leaf.dtype) for axis, n in sizes.items()}
    moments = jnp.zeros_like(leaf), jnp.zeros_like(leaf)  # two buffers: one cannot be donated twice
    return LeafState(*moments, correlations, {axis: jnp.eye(n, dtype=leaf.dtype) for axis, n in sizes.items()})


def _correlation(gradient, axis):
    return gradient @ gradient.T if axis == 0 else gradient.T @ gradient


def _turn(array, bases):
    """A matrix in the coordinates of ``bases``: axis -> orthonormal columns."""
    if 0 in bases:
        array = bases[0].T @ array
    return array @ bases[1] if 1 in bases else array


def _turn_back(array, bases):
    return _turn(array, {axis: basis.T for axis, basis in bases.items()})


def _refined(first, bases, correlations, count):
    """Mean gradient and eigenbases, refined at the first step and then at each multiple of ``_EVERY``.

    The first step decomposes the correlations; later refinements are one step of orthogonal iteration from the
    eigenbases before. The mean gradient is returned in the coordinates of the eigenbases that are returned.
    """

    def refine():
        new = jax.lax.cond(
            count == 1,
            lambda: {axis: jnp.linalg.eigh(matrix)[1][:, ::-1] for axis, matrix in correlations.items()},
            lambda: {axis: jnp.linalg.qr(matrix @ bases[axis])[0] for axis, matrix in correlations.items()},
        )
        return _turn(_turn_back(first, bases), new), new

    return jax.lax.cond((count == 1) | (count % _EVERY == 0), refine, lambda: (first, bases))
