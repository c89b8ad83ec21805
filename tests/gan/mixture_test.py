"""The mixture's density is that of SciPy, and what is drawn has its moments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from ganmrf.gan.mixture import MixtureOutputs, log_density

pytestmark = pytest.mark.usefixtures("quick_compiler")

SIZE = 3


@pytest.fixture
def components():
    """Two weights, means and factors of the inverse covariance, and the parameters that say so."""
    rng = np.random.default_rng(0)
    weights, means = np.array([0.3, 0.7]), 3 * rng.standard_normal((2, SIZE))
    factors = np.tril(rng.uniform(0.5, 2, (2, SIZE, SIZE)))
    below = factors[:, *np.tril_indices(SIZE, -1)]
    diagonal = np.diagonal(factors, axis1=1, axis2=2)
    parameters = np.concatenate([np.log(weights)[:, None], means, np.log(diagonal), below], axis=1).ravel()
    assert parameters.size == MixtureOutputs.n_outputs(SIZE)
    covariances = np.linalg.inv(np.swapaxes(factors, 1, 2) @ factors)
    return parameters, weights, means, covariances


def test_the_density_is_that_of_scipy(components):
    parameters, weights, means, covariances = components
    values = np.random.default_rng(1).standard_normal((20, SIZE)) * 3
    expected = sum(
        weight * scipy.stats.multivariate_normal(mean, covariance).pdf(values)
        for weight, mean, covariance in zip(weights, means, covariances, strict=True)
    )
    with jax.enable_x64(True):
        found = jax.jit(log_density)(jnp.tile(parameters, (20, 1)), jnp.asarray(values))
    np.testing.assert_allclose(found, np.log(expected), rtol=1e-10)


def test_draws_have_the_moments_of_the_mixture(components):
    parameters, weights, means, covariances = components
    n_draws = 100_000
    noise = np.random.default_rng(2).standard_normal((n_draws, 1 + SIZE)).astype(np.float32)
    draw = jax.jit(MixtureOutputs.fingerprints)
    found = np.asarray(draw(jnp.tile(jnp.asarray(parameters, jnp.float32), (n_draws, 1)), jnp.asarray(noise)))
    mean = weights @ means
    spread = covariances + (means - mean)[:, :, None] * (means - mean)[:, None, :]
    covariance = np.einsum("k,kij->ij", weights, spread)
    scale = np.sqrt(np.diag(covariance))
    # The standard errors are scale / sqrt(draws), 0.003, and about sqrt(2) of it for the covariance: five of them.
    assert np.abs((found.mean(axis=0) - mean) / scale).max() < 0.016
    assert np.abs((np.cov(found.T) - covariance) / np.outer(scale, scale)).max() < 0.023
