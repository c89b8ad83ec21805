"""The losses are Eqs. 6 and 7 of the paper, negated, and the gradient penalty is that of Mescheder et al."""

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ganmrf.gan.losses import (
    adversarial_loss,
    discriminator_accuracy,
    discriminator_loss,
    energy_score,
    gradient_penalty,
    hinge_loss,
    reconstruction_loss,
    score_loss,
    slope_penalty,
    wasserstein_loss,
)
from tests.quick import quickly

pytestmark = pytest.mark.usefixtures("quick_compiler")


def probability(logits):
    return 1 / (1 + np.exp(-np.asarray(logits, float)))


def test_equations_6_and_7_as_the_paper_writes_them():
    real, generated = np.array([0.3, -1.2, 4.0]), np.array([-0.5, 2.0, 0.1])
    with jax.enable_x64(True):
        d = quickly(discriminator_loss)(real, generated)
        g = quickly(adversarial_loss)(generated)
    expected = -np.mean(np.log(probability(real))) - np.mean(np.log(1 - probability(generated)))
    np.testing.assert_allclose(d, expected, rtol=1e-12)
    np.testing.assert_allclose(g, -np.mean(np.log(probability(generated))), rtol=1e-12)


def test_hinge_and_wasserstein_losses_by_hand():
    real, generated = np.float32([3.0, 0.5, -2.0]), np.float32([-3.0, -0.5, 2.0])
    np.testing.assert_allclose(hinge_loss(real, generated), (0 + 0.5 + 3 + 0 + 0.5 + 3) / 3, rtol=1e-6)
    np.testing.assert_allclose(wasserstein_loss(real, generated), -0.5 - 0.5, rtol=1e-6)
    np.testing.assert_allclose(score_loss(generated), 0.5, rtol=1e-6)


def test_beyond_its_margin_the_hinge_leaves_the_discriminator_alone():
    slopes = jax.grad(hinge_loss, argnums=(0, 1))(np.float32([1.5, 0.5]), np.float32([-1.5, -0.5]))
    np.testing.assert_allclose(slopes, [[0, -0.5], [0, 0.5]])


@hypothesis.settings(max_examples=20)
@hypothesis.given(
    arrays(np.float64, 6, elements=st.floats(-5, 5)), arrays(np.float64, 6, elements=st.floats(-5, 5)), st.floats(-9, 9)
)
def test_the_wasserstein_loss_of_any_discriminator_of_slope_1_is_above_minus_the_distance(real, generated, kink):
    distance = np.mean(np.abs(np.sort(real) - np.sort(generated)))  # on a line: of the sorted points
    with jax.enable_x64(True):
        assert wasserstein_loss(np.abs(real - kink), np.abs(generated - kink)) >= -distance - 1e-12
        shifted = real - 2.0  # all of them by as much: the slope of 1 that is best
        np.testing.assert_allclose(wasserstein_loss(real, shifted), -2.0, rtol=1e-12)


def test_the_slope_penalty_of_discriminators_with_known_slopes():
    real, generated, share = np.float32([[3, 4], [0, 0]]), np.float32([[0, 0], [6, 8]]), np.float32([0.2, 0.9])

    def linear(x):
        return x @ np.float32([0.3, -0.4])

    def quadratic(x):
        return jnp.sum(x**2, axis=1) / 2  # whose slope is the distance from 0: 0.2 * 5, and 0.1 * 10

    penalty = quickly(slope_penalty, static_argnums=0)
    np.testing.assert_allclose(penalty(linear, real, generated, share), 0.5**2, rtol=1e-6)
    np.testing.assert_allclose(penalty(quadratic, real, generated, share), 0, atol=1e-12)
    np.testing.assert_allclose(penalty(quadratic, real, generated, 0 * share), (1 + 9**2) / 2, rtol=1e-6)


def test_the_slope_penalty_of_a_flat_discriminator_has_a_gradient():
    def penalty(slope):
        ends = jnp.ones((2, 3)), jnp.zeros((2, 3))
        return slope_penalty(lambda x: slope * x[:, 0], *ends, jnp.full(2, 0.5))

    value, gradient = jax.value_and_grad(penalty)(0.0)
    np.testing.assert_allclose(value, 1, rtol=1e-6)
    assert np.isfinite(gradient)


def test_a_discriminator_that_cannot_tell_pays_two_log_2():
    np.testing.assert_allclose(quickly(discriminator_loss)(np.zeros(5), np.zeros(5)), 2 * np.log(2), rtol=1e-6)


@pytest.mark.parametrize(
    ("real", "generated", "expected"),
    [
        ([0, 0], [0, 0], 0.5),
        ([3, 3], [3, 3], 0.5),  # constant: all simulated ones judged rightly, no generated one
        ([-2, -2], [-2, -2], 0.5),
        ([1, 9], [-1, -9], 1.0),
        ([-1, -9], [1, 9], 0.0),
        ([1, -1], [-1, -1], 0.75),
    ],
)
def test_accuracy_is_the_share_judged_rightly(real, generated, expected):
    assert discriminator_accuracy(np.asarray(real, np.float32), np.asarray(generated, np.float32)) == expected


def test_losses_stay_finite_where_probabilities_round_to_0_and_1():
    value, slope = quickly(jax.value_and_grad(lambda x: discriminator_loss(x, -x)))(np.float32([-200, 200]))
    assert np.isfinite(value)
    assert np.isfinite(slope).all()


@pytest.mark.parametrize(
    ("norm", "n_terms", "expected"),
    [
        ("l1", 1, (3 + 0.5) / 2),  # sums of absolute values 3 and 0.5
        ("l1", 2, (3 + 0.5) / 4),
        ("l2", 1, (5**0.5 + 0.5) / 2),
        ("l2", 2, (5**0.5 + 0.5) / 2 / 2**0.5),
    ],
)
def test_reconstruction_by_hand(norm, n_terms, expected):
    real, generated = np.float32([[0, 1], [1, 1]]), np.float32([[1, -1], [1, 0.5]])
    found = quickly(reconstruction_loss, static_argnums=(2, 3))(real, generated, norm, n_terms)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_a_perfect_reconstruction_has_a_finite_gradient(norm):
    x = np.ones((2, 3), np.float32)
    assert np.isfinite(quickly(jax.grad(lambda y: reconstruction_loss(x, y, norm)))(x)).all()


def test_the_gradient_penalty_of_discriminators_with_known_slopes():
    x = np.float32([[1, 2], [3, -1]])
    slope = np.float32([3, 4])
    penalty = quickly(gradient_penalty, static_argnums=0)
    np.testing.assert_allclose(penalty(lambda rows: rows @ slope, x), 25 / 2, rtol=1e-6)
    # D = |x|^2 / 2 has the gradient x: squared norms 5 and 10.
    np.testing.assert_allclose(penalty(lambda rows: jnp.sum(rows**2, axis=1) / 2, x), 7.5 / 2, rtol=1e-6)


def test_the_energy_score_by_hand():
    draws = np.float32([[0, 0]]), np.float32([[3, 4]]), np.float32([[3, 0]])
    score = quickly(energy_score, static_argnums=3)
    np.testing.assert_allclose(score(*draws), (5 + 3 - 4) / 2, rtol=1e-6)
    np.testing.assert_allclose(score(*draws, 4), (5 + 3 - 4) / 4, rtol=1e-6)


def test_the_energy_score_is_least_for_the_true_distribution():
    real, *keys = jax.random.split(jax.random.key(0), 3)

    @jax.jit
    def two_humps(key, distance, deviation):
        sign, normal = jax.random.split(key)
        humps = distance * jax.random.rademacher(sign, (50_000, 1), float)
        return humps + deviation * jax.random.normal(normal, (50_000, 1))

    def score(*shape):
        return energy_score(two_humps(real, 1.0, 0.2), *(two_humps(key, *shape) for key in keys))

    others = {"narrow": (0.7, 0.2), "wide": (1.3, 0.2), "blurred": (1.0, 0.7), "one hump": (0.0, 1.0), "mean": (0.0, 0)}
    differences = {name: float(score(*shape) - score(1.0, 0.2)) for name, shape in others.items()}
    assert min(differences.values()) > 0.01, differences  # the standard error is 0.003
