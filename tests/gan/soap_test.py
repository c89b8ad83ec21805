"""SOAP is Adam in eigenbases: for vectors Adam itself, for matrices Adam that does not care about rotations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.stats import ortho_group

from ganmrf.gan.soap import soap

pytestmark = pytest.mark.usefixtures("quick_compiler")


@functools.partial(jax.jit, static_argnums=0)
def run(optimiser, start, gradients):
    def step(carry, gradient):
        params, state = carry
        updates, state = optimiser.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (start, optimiser.init(start)), gradients)[0]


def test_vectors_get_plain_adam():
    start, gradients = np.ones(5, np.float32), np.random.default_rng(0).standard_normal((7, 5), np.float32)
    ours, _ = run(soap(1e-2), start, gradients)
    adam, _ = run(optax.adam(1e-2, b1=0.95, b2=0.95), start, gradients)
    np.testing.assert_allclose(ours, adam, rtol=1e-5)


def test_rotating_the_problem_rotates_the_steps():
    left, right = (ortho_group.rvs(4, random_state=seed) for seed in (1, 2))
    with jax.enable_x64(True):
        gradients = np.random.default_rng(0).standard_normal((25, 4, 4)) * np.array([1.0, 3.0, 0.2, 9.0])
        start, turned_gradients = np.zeros((4, 4)), left @ gradients @ right.T
        plain, _ = run(soap(1e-2), start, gradients)
        turned, _ = run(soap(1e-2), start, turned_gradients)
        # The first gradient is diagonal in its own eigenbases; what is 0 beside that is rounding over the epsilon.
        np.testing.assert_allclose(left @ plain @ right.T, turned, atol=1e-7)
        adam, _ = run(optax.adam(1e-2), start, gradients)
        adam_turned, _ = run(optax.adam(1e-2), start, turned_gradients)
        assert np.abs(left @ adam @ right.T - adam_turned).max() > 1e-3  # which Adam does not


def test_eigenbases_stay_orthonormal_and_long_axes_keep_their_coordinates():
    gradients = np.random.default_rng(0).standard_normal((21, 600, 3), np.float32)
    _, (state, _) = run(soap(1e-2), np.zeros((600, 3), np.float32), gradients)
    (leaf,) = state.leaves
    assert set(leaf.bases) == {1}
    basis = np.asarray(leaf.bases[1])
    np.testing.assert_allclose(basis.T @ basis, np.eye(3), atol=1e-5)


def test_an_ill_conditioned_quadratic_is_descended_faster_than_by_adam():
    """Loss |A W B - C|^2 whose A and B mix coordinates of scales 1 to 1000."""
    rng = np.random.default_rng(0)
    a, b = (ortho_group.rvs(8, random_state=i) @ np.diag(np.logspace(0, -1.5, 8)) for i in (3, 4))
    target = np.float32(a @ rng.standard_normal((8, 8)) @ b)
    a, b = np.float32(a), np.float32(b)

    def loss(w):
        return jnp.sum((a @ w @ b - target) ** 2)

    @functools.partial(jax.jit, static_argnums=0)
    def descend(optimiser):
        def step(carry, _):
            w, state = carry
            updates, state = optimiser.update(jax.grad(loss)(w), state, w)
            return (optax.apply_updates(w, updates), state), None

        start = jnp.zeros((8, 8))
        (w, _), _ = jax.lax.scan(step, (start, optimiser.init(start)), length=300)
        return loss(w)

    assert descend(soap(3e-2)) < 0.3 * descend(optax.adam(3e-2))
