"""The losses are Eqs. 6 and 7 of the paper, negated, and the gradient penalty is that of Mescheder et al."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganmrf.gan.losses import (
    adversarial_loss,
    discriminator_accuracy,
    discriminator_loss,
    energy_score,
    gradient_penalty,
    reconstruction_loss,
)
from tests.quick import quickly


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
