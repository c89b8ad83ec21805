"""The terms of the losses of generator and discriminator: pure scalars, means over a batch.

Reference: Yang et al. 2020, arXiv:2004.02270, Eqs. 5 to 7, negated so that both networks minimise. A discriminator's
output is the logit of its probability D, so that -log D = softplus(-logit) and -log(1 - D) = softplus(logit). Beside
this cross entropy stand the hinge and the Wasserstein loss, for which the output is a score without a probability.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp


def discriminator_loss(real: jax.Array, generated: jax.Array) -> jax.Array:
    """Mean of -log D(real) - log(1 - D(generated)); logits (batch,). Eq. 6."""
    return jnp.mean(jax.nn.softplus(-real) + jax.nn.softplus(generated))


def adversarial_loss(generated: jax.Array) -> jax.Array:
    """Mean of -log D(generated); logits (batch,). First term of Eq. 7."""
    return jnp.mean(jax.nn.softplus(-generated))


def hinge_loss(real: jax.Array, generated: jax.Array) -> jax.Array:
    """Mean of max(0, 1 - D(real)) + max(0, 1 + D(generated)); scores (batch,).

    References:
      Lim and Ye 2017, arXiv:1705.02894. Miyato et al. 2018, arXiv:1802.05957.
    """
    return jnp.mean(jax.nn.relu(1 - real) + jax.nn.relu(1 + generated))


def wasserstein_loss(real: jax.Array, generated: jax.Array) -> jax.Array:
    """Mean of D(generated) - D(real); scores (batch,).

    Its least value over all D of slope 1 at most is the negative Wasserstein distance of generated from real ones.

    References:
      Arjovsky et al. 2017, arXiv:1701.07875, Eq. 2. Gulrajani et al. 2017, arXiv:1704.00028, Eq. 3.
    """
    return jnp.mean(generated - real)


def score_loss(generated: jax.Array) -> jax.Array:
    """Mean of -D(generated), the generator's loss against `hinge_loss` and `wasserstein_loss`; scores (batch,)."""
    return -jnp.mean(generated)


class AdversarialLoss(NamedTuple):
    """What both networks minimise.

    Attributes:
      discriminator: of outputs of the discriminator for real and for generated fingerprints, (batch,) each.
      generator: of its outputs for generated ones.
    """

    discriminator: Callable[[jax.Array, jax.Array], jax.Array]
    generator: Callable[[jax.Array], jax.Array]


ADVERSARIAL_LOSSES = {
    "cross_entropy": AdversarialLoss(discriminator_loss, adversarial_loss),
    "hinge": AdversarialLoss(hinge_loss, score_loss),
    "wasserstein": AdversarialLoss(wasserstein_loss, score_loss),
}


def discriminator_accuracy(real: jax.Array, generated: jax.Array) -> jax.Array:
    """Share of fingerprints that are judged rightly, half of those with D = 1/2 among them; logits (batch,)."""
    return 0.5 + jnp.mean(jnp.sign(real) - jnp.sign(generated)) / 4


def reconstruction_loss(real: jax.Array, generated: jax.Array, norm: str, n_terms: int = 1) -> jax.Array:
    """Mean norm of the difference of two fingerprints. Second term of Eq. 7, without lambda.

    Args:
      real: (batch, frames); for ``l2`` also coefficients in an orthonormal basis, whose l2 norm is the same.
      generated: of the same shape.
      norm: ``l1`` or ``l2``.
      n_terms: 1 to sum over the frames, or the number of frames for their mean: l1 is divided by it, l2 by its root.
    """
    difference = generated - real
    if norm == "l1":
        return jnp.mean(jnp.sum(jnp.abs(difference), axis=1)) / n_terms
    # The smallest positive summand keeps the root's gradient finite at 0.
    squares = jnp.sum(difference**2, axis=1) + jnp.finfo(real.dtype).tiny
    return jnp.mean(jnp.sqrt(squares)) / n_terms**0.5


def energy_score(real: jax.Array, one: jax.Array, other: jax.Array, n_terms: int = 1) -> jax.Array:
    """Mean over a batch of E|x - y| - E|x - x'| / 2 in the l2 norm: least for the distribution that y is drawn from.

    Args:
      real: y, one draw for each condition, (batch, frames), or coefficients in an orthonormal basis.
      one: x, a generated draw for each condition, of the same shape.
      other: x', another generated draw, independent of x.
      n_terms: as for `reconstruction_loss`.

    References:
      Gneiting and Raftery 2007, doi:10.1198/016214506000001437, the energy score with beta = 1, negated.
    """
    to_real = reconstruction_loss(real, one, "l2", n_terms) + reconstruction_loss(real, other, "l2", n_terms)
    return (to_real - reconstruction_loss(one, other, "l2", n_terms)) / 2


def gradient_penalty(discriminate, real: jax.Array) -> jax.Array:
    """Half the mean squared gradient of the discriminator at real fingerprints, called R1 in its paper.

    Args:
      discriminate: fingerprints (batch, features) -> logits (batch,), each row by itself.
      real: (batch, features).

    References:
      Mescheder, Geiger and Nowozin 2018, arXiv:1801.04406, Eq. 9.
    """
    slope = jax.grad(lambda fingerprints: jnp.sum(discriminate(fingerprints)))(real)
    return jnp.mean(jnp.sum(slope**2, axis=1)) / 2


def slope_penalty(discriminate, real: jax.Array, generated: jax.Array, share: jax.Array) -> jax.Array:
    """Mean of (slope - 1)^2, the slope of the discriminator between each real fingerprint and a generated one.

    Args:
      discriminate: fingerprints (batch, features) -> scores (batch,), each row by itself.
      real: (batch, features).
      generated: of the same conditions, of the same shape.
      share: how much of the real one the fingerprint has at which the slope is taken, uniform from 0 to 1, (batch,).

    References:
      Gulrajani et al. 2017, arXiv:1704.00028, Eq. 3 and Algorithm 1.
    """
    between = share[:, None] * real + (1 - share)[:, None] * generated
    gradient = jax.grad(lambda fingerprints: jnp.sum(discriminate(fingerprints)))(between)
    # The smallest positive summand keeps the root's gradient finite where a discriminator is flat.
    slopes = jnp.sqrt(jnp.sum(gradient**2, axis=1) + jnp.finfo(real.dtype).tiny)
    return jnp.mean((slopes - 1) ** 2)
