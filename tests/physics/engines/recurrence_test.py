"""The recurrence of pools, its tangents and its adjoint, against a plain scan over complex states."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ganmrf.physics.engines.pool_frames import Frames
from ganmrf.physics.engines.recurrence import after_pulses
from tests.quick import quickly

N_FRAMES, LANES, STATES = 35, 3, 6  # frames of two blocks


def plain(frames, start):
    """Transverse magnetisation right after each pulse, (frames, transverse pools, lanes), complex.

    Frame by frame, of ``frames`` (angle, T, L, recovery), (frames, ...pools, lanes), T complex.
    """
    m, n = frames[1].shape[1], frames[2].shape[1]

    def frame(states, coefficients):
        (p, q, z), (angle, transverse, longitudinal, recovery) = states, coefficients
        cos, sin = jnp.cos(angle)[None, None], jnp.sin(angle)[None, None]
        u = (cos + 1) / 2 * p + (cos - 1) / 2 * q + sin * z[:m]
        v = (cos - 1) / 2 * p + (cos + 1) / 2 * q + sin * z[:m]
        z = jnp.concatenate([cos * z[:m] - sin / 2 * (p + q), z[m:]])
        p = jnp.einsum("ijl,jol->iol", transverse, u)
        q = jnp.einsum("ijl,jol->iol", transverse.conj(), v)
        z = jnp.einsum("ijl,jol->iol", longitudinal, z).at[:, 0].add(recovery)
        q = jnp.concatenate([q[:, 1:], jnp.zeros_like(q[:, :1])], 1)
        p = jnp.concatenate([q[:, :1].conj(), p[:, :-1]], 1)
        return (p, q, z), u[:, 0]

    empty = jnp.zeros((n, STATES, LANES), complex)
    return lax.scan(frame, (empty[:m], empty[:m], empty.at[:, 0].set(start)), frames)[1]


def coefficients(rng, m, n, n_parts):
    """Random frames, as the recurrence has them."""

    def drawn(*sizes):
        """Tuples of tuples of arrays."""
        if not sizes:
            return rng.uniform(-0.6, 0.6, (N_FRAMES, LANES))
        return tuple(drawn(*sizes[1:]) for _ in range(sizes[0]))

    return Frames(3 * drawn(), drawn(m, m, n_parts), drawn(n, n), drawn(n))


def stacked(frames):
    """The same as the plain scan has them; None is 0."""
    zero = jnp.zeros((N_FRAMES, LANES))
    angle, across, along, recovery = jax.tree.map(
        lambda leaf: zero if leaf is None else leaf, frames, is_leaf=lambda x: x is None
    )
    across = jnp.stack(
        [jnp.stack([entry[0] + 1j * (entry[1] if len(entry) > 1 else 0) for entry in row], 1) for row in across], 1
    )
    return angle, across, jnp.stack([jnp.stack(row, 1) for row in along], 1), jnp.stack(recovery, 1)


def moves_of_some(rng, m, n, n_parts):
    """Tangents of the coefficients by two parameters, each of which moves some of them only."""
    none = functools.partial(jax.tree.map, lambda _: None)
    first, second = (coefficients(rng, m, n, n_parts) for _ in range(2))
    column = tuple((*none(row[:-1]), row[-1]) for row in first.longitudinal)
    first = first._replace(longitudinal=column, recovery=none(first.recovery))
    return first, second._replace(angle=None, transverse=none(second.transverse))


@pytest.mark.parametrize(("m", "n", "n_parts"), [(1, 1, 1), (1, 2, 1), (2, 2, 2)])
def test_signals_tangents_and_gradients_are_those_of_a_plain_scan(m, n, n_parts):
    rng = np.random.default_rng(m + 3 * n + 9 * n_parts)
    with jax.enable_x64(True):
        frames = coefficients(rng, m, n, n_parts)
        moves = moves_of_some(rng, m, n, n_parts)
        start = rng.standard_normal((3, n, LANES))
        weights = rng.standard_normal((N_FRAMES, 3, m, n_parts, LANES))

        def by_recurrence(frames, moves, start):
            found = after_pulses(STATES, frames, moves, start)
            return jnp.sum(weights * found**2), found

        def by_plain_scan(frames, moves, start):
            def moved(n):
                return jax.jvp(
                    plain,
                    (stacked(frames), start[0].astype(complex)),
                    (stacked(moves[n]), start[n + 1].astype(complex)),
                )

            found = jnp.stack([moved(0)[0], *(moved(n)[1] for n in range(len(moves)))], 1)
            found = jnp.stack([found.real, found.imag][:n_parts], 3)
            return jnp.sum(weights * found**2), found

        (found, outputs), (expected, references) = (
            quickly(jax.grad(each, argnums=(0, 1, 2), has_aux=True))(frames, moves, start)
            for each in (by_recurrence, by_plain_scan)
        )
        # Float64 rounding over the frames, in numbers of order 1 to 100.
        np.testing.assert_allclose(outputs, references, rtol=1e-11, atol=1e-11)
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-10 * np.abs(other).max())
