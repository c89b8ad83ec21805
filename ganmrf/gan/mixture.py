"""A generator that emits a density: the parameters of a mixture of Gaussians, from which z draws fingerprints.

No adversary is needed: such a generator is trained by the likelihood of the simulated fingerprints alone. Each
component of the mixture has a weight, a mean, and a full covariance C by the factor L of its inverse: C^-1 = L' L,
where L is lower triangular with a positive diagonal. The density then needs no inverse.

References:
  Bishop 1994, "Mixture density networks", Aston University, NCRG/94/004.
"""

import jax
import jax.numpy as jnp
import numpy as np

_COMPONENTS = 2  # the distributions studied have two humps (`experiments.studies.hidden_b1`)


class MixtureOutputs:
    """The network's outputs are a mixture's parameters; z is no input of the network, but draws from the mixture.

    The counterpart of `emission.FingerprintOutputs`, with the same functions.
    """

    @staticmethod
    def n_outputs(size: int) -> int:
        """Number of parameters of a mixture over vectors of this size."""
        return _COMPONENTS * (1 + 2 * size + size * (size - 1) // 2)

    @staticmethod
    def input_noise(noise: jax.Array) -> jax.Array:
        """The part of z that is an input of the network: none, (batch, 0)."""
        return noise[:, :0]

    @staticmethod
    def fingerprints(outputs: jax.Array, noise: jax.Array) -> jax.Array:
        """One draw from each mixture, (batch, size).

        Args:
          outputs: (batch, `n_outputs`).
          noise: independent N(0, 1), (batch, 1 + size): the first column chooses the component.
        """
        size = noise.shape[1] - 1
        logits, mean, log_diagonal, below = _parts(outputs, size)
        ends = jnp.cumsum(jax.nn.softmax(logits), axis=1)[:, :-1]
        chosen = jnp.sum(jax.scipy.stats.norm.cdf(noise[:, :1]) > ends, axis=1)
        mean, log_diagonal, below = (
            jnp.take_along_axis(part, chosen[:, None, None], axis=1)[:, 0] for part in (mean, log_diagonal, below)
        )
        diagonal = jnp.exp(log_diagonal)[:, :, None] * jnp.eye(size)[None]
        factor = diagonal.at[:, *np.tril_indices(size, -1)].set(below)
        return mean + jax.scipy.linalg.solve_triangular(factor, noise[:, 1:, None], lower=True)[..., 0]

    @staticmethod
    def mismatch(recipe, scaling, outputs_of, noise: jax.Array, real: jax.Array, fake: jax.Array) -> jax.Array:
        """Negative mean log likelihood of simulated fingerprints, a scalar; see `FingerprintOutputs.mismatch`."""
        del recipe, fake
        return -jnp.mean(log_density(outputs_of(noise[1]), real / scaling.output_scale[None]))


def log_density(outputs: jax.Array, values: jax.Array) -> jax.Array:
    """Logarithm of the density at one value for each mixture, (batch,).

    ``outputs`` are the network's, (batch, `MixtureOutputs.n_outputs`), and ``values`` (batch, size).
    """
    size = values.shape[1]
    logits, mean, log_diagonal, below = _parts(outputs, size)
    difference = values[:, None] - mean
    # L times the difference by two constant matrices: gathers and scatters are slow on CPUs.
    rows, columns = (jnp.eye(size)[index] for index in np.tril_indices(size, -1))
    whitened = jnp.exp(log_diagonal) * difference + (below * (difference @ columns.T)) @ rows
    of_components = log_diagonal.sum(-1) - (whitened**2).sum(-1) / 2 - size / 2 * jnp.log(2 * jnp.pi)
    return jax.nn.logsumexp(jax.nn.log_softmax(logits) + of_components, axis=1)


def _parts(parameters, size):
    """Logits (batch, components); mean, logarithm of L's diagonal, and L below it, (batch, components, entries)."""
    parts = parameters.reshape(len(parameters), _COMPONENTS, -1)
    logits, mean, log_diagonal, below = jnp.split(parts, [1, 1 + size, 1 + 2 * size], axis=-1)
    return logits[..., 0], mean, log_diagonal, below
