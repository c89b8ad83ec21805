"""Absorption lines of a semisolid pool: how fast RF of any frequency saturates it.

RF of amplitude ``omega_1``, rad/s, saturates the pool at the rate ``pi omega_1^2 G``, where G(offset), s, is a line
whose integral over the angular frequency is 1: over the frequency in Hz it is 1 / (2 pi). A pulse that turns free spins
by alpha within a duration, of a shape whose mean square over squared mean is ``pulse_shape``, thus multiplies the
longitudinal magnetisation of the pool by ``exp(-pi G pulse_shape / duration (b1 alpha)^2)``. G at the frequency of the
pulses, 0 Hz on resonance, is the ``lineshape`` of a `ganmrf.physics.tissue.SemisolidPool`.

References:
  Henkelman et al. 1993, doi:10.1002/mrm.1910290607 (the rate; Lorentzian and Gaussian lines). Morrison and Henkelman
  1995, doi:10.1002/mrm.1910330404 (the super-Lorentzian).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.pytrees import floating, require, require_positive

BRIDGED_HZ = 1500.0  # offsets below it are bridged: what is published takes the line from here (see `super_lorentzian`)
# Gauss-Legendre nodes on either side of the magic angle: G is right to 1e-12 where it is above 1e-6 of that at 1.5 kHz.
_NODES = 96
# The nodes nearest to the magic angle, as a share of its cosine: of a T2b of 0.1 us or more nothing nearer counts.
_NEAREST = 1e-4


def super_lorentzian(t2_b, offset=0.0) -> jax.Array:
    """The line of dipoles whose axes point everywhere, as in membranes and myelin, bridged near resonance.

    ::

        G(offset) = sqrt(2 / pi) T2b integral from 0 to 1 of du / |3 u^2 - 1| exp(-2 (2 pi offset T2b / (3 u^2 - 1))^2)

    The integral grows as the logarithm of a small offset, which no tissue does: dipoles at the magic angle have
    neighbours. As published, offsets below 1.5 kHz therefore have a smooth even continuation of the line beyond. Those
    in use are splines through samples from 1.5 to 2 kHz, and depend on the samples a little: 1.51e-5 s on resonance for
    a T2b of 12 us (Malik et al.). Here it is what they approach with more samples, the parabola that meets the line at
    1.5 kHz with its value and slope: 1.53e-5 s.

    Args:
      t2_b: T2 of the semisolid pool, s, positive, any shape that broadcasts with ``offset``.
      offset: frequency of the RF less that of the middle of the line, Hz, either sign.

    Returns:
      G, s, of the common shape and the dtype of the arguments, float32 or float64. Every derivative of first order is
      finite.

    Raises:
      ValueError: a T2 that is not positive and finite, or an offset that is not finite.

    References:
      Morrison and Henkelman 1995, doi:10.1002/mrm.1910330404. The bridge: Bieri and Scheffler 2006,
      doi:10.1002/mrm.21056, Gloor et al. 2008, doi:10.1002/mrm.21705, Malik et al. 2018, doi:10.1002/mrm.27040.
    """
    return _super_lorentzian(*_checked(t2_b, offset))


def lorentzian(t2_b, offset=0.0) -> jax.Array:
    """The line of spins that relax exponentially, as in a liquid: ``T2b / pi / (1 + (2 pi offset T2b)^2)``.

    Arguments, result and errors are those of `super_lorentzian`.

    References:
      Henkelman et al. 1993, doi:10.1002/mrm.1910290607.
    """
    t2_b, offset = _checked(t2_b, offset)
    return t2_b / jnp.pi / (1 + (2 * jnp.pi * offset * t2_b) ** 2)


def gaussian(t2_b, offset=0.0) -> jax.Array:
    """The line of spins in a rigid solid or gel: ``T2b / sqrt(2 pi) exp(-(2 pi offset T2b)^2 / 2)``.

    Arguments, result and errors are those of `super_lorentzian`.

    References:
      Henkelman et al. 1993, doi:10.1002/mrm.1910290607.
    """
    t2_b, offset = _checked(t2_b, offset)
    return t2_b / np.sqrt(2 * np.pi) * jnp.exp(-((2 * jnp.pi * offset * t2_b) ** 2) / 2)


def _checked(t2_b, offset):
    """Both as arrays of the common shape."""
    t2_b, offset = floating("t2_b", t2_b), floating("offset", offset)
    require_positive("t2_b", t2_b)
    require("offset", offset, np.isfinite, "finite")
    shape = np.broadcast_shapes(t2_b.shape, offset.shape)
    return jnp.broadcast_to(t2_b, shape), jnp.broadcast_to(offset, shape)


@jax.jit
def _super_lorentzian(t2_b, offset):
    dtype = jnp.result_type(t2_b, offset)
    width, weight = (jnp.asarray(each, dtype).reshape((1,) * t2_b.ndim + (-1,)) for each in _angles())
    outside = jnp.maximum(jnp.abs(offset), BRIDGED_HZ)
    exponent = 2 * (2 * jnp.pi * (t2_b * outside)[..., None] / width) ** 2
    # Below 1.5 kHz each angle's Gaussian goes on as its tangent in the squared offset.
    below = (1 - (offset / outside) ** 2)[..., None]
    return np.sqrt(2 / np.pi) * t2_b * jnp.sum(weight * jnp.exp(-exponent) * (1 + exponent * below), axis=-1)


@functools.cache
def _angles():
    """``|3 u^2 - 1|`` at nodes of the cosine u, and the weights of an integral of ``du / |3 u^2 - 1|``.

    With the distance q from the magic angle, ``sqrt(3) u = 1 -+ q``, both are smooth in log q.
    """
    node, share = np.polynomial.legendre.leggauss(_NODES)
    width, weight = [], []
    for side, farthest in ((-1, 1.0), (1, np.sqrt(3) - 1)):
        span = np.log(farthest / _NEAREST)
        distance = _NEAREST * np.exp(span * (node + 1) / 2)
        width.append(distance * (2 + side * distance))
        weight.append(share * span / 2 / np.sqrt(3) / (2 + side * distance))
    return np.concatenate(width), np.concatenate(weight)
