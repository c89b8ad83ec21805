"""How well noisy signals can determine tissue parameters and M0: the Cramer-Rao bound, and the bias that errors induce.

M0 is complex and unknown too, so that the component of a derivative along the signal is indistinguishable from a change
of M0 and counts for nothing. The remainders of the derivatives are made orthogonal one after the other,
``d_n = r_n + sum over m < n of u_mn r_m``. With the unit upper triangle U of the u_mn and ``D_n = r_n . r_n`` the
inverse Fisher information is ``U^-1 D^-1 U^-T``. A determinant of inner products would lose twice as many digits where
derivatives are nearly dependent. The same remainders give least squares: an error ``e`` in place of noise moves the
parameters by ``U^-1 D^-1 (r_n . e)``.
"""

import functools

import jax
import jax.numpy as jnp

# Epsilons: where the product of the sines of the angles between derivatives is smaller, these sines may be rounding.
_ROUNDING = 64


@jax.jit
def cramer_rao(signal, derivatives, m0, noise):
    """Smallest standard deviations of parameters and abs(M0) that unbiased estimates from noisy signals can have.

    Args:
      signal: for M0 = 1, real or complex, (..., columns): frames, or coefficients in an orthonormal basis.
      derivatives: of the signal by each unknown real parameter, (params, ..., columns) or a tuple of (..., columns):
        by T1, T2, B1 and off-resonance in their units, say, or by logarithms for relative bounds. What is unknown, but
        not wanted, belongs here too: it widens the bounds of the others.
      m0: amplitude, real or complex, (...).
      noise: standard deviation of the real, and of the imaginary, part of each column, (...) or one number; white and
        Gaussian. Real data with real signals and M0 have the same bounds.

    Returns:
      Bounds for the parameters, (params, ...), in their units, and for abs(M0), (...); differentiable, and inf where
      the signal does not determine all parameters.

    References:
      Zhao et al. 2018, arXiv:1710.08062.
    """
    energy, shares, _, sizes, inverse, determined = _orthogonal(signal, derivatives)
    variances = [sum(entry**2 / size for entry, size in zip(row, sizes, strict=True)) for row in inverse]
    slopes = [share.real for share in shares]
    of_m0 = 1 / energy + sum(
        _combined(slopes, column) ** 2 / size for column, size in zip(zip(*inverse, strict=True), sizes, strict=True)
    )
    root = functools.partial(_root, determined)
    return jnp.stack([noise * root(each) / jnp.abs(m0) for each in variances]), noise * root(of_m0)


@jax.jit
def induced_bias(signal, derivatives, error):
    """How far an error of the signal moves least-squares estimates of the parameters and of M0, to first order.

    With J the derivatives of real and imaginary data by all parameters and by the real and the imaginary part of M0,
    the shift is ``(J'J)^-1 J' error``. An error of the model in place of the data moves the estimates the other way.

    Args:
      signal: for M0 = 1, real or complex, (..., columns), as `cramer_rao` has it.
      derivatives: of the signal by each unknown real parameter, (params, ..., columns) or a tuple of (..., columns).
      error: of the signal for M0 = 1, real or complex, (..., columns).

    Returns:
      Shifts of the parameters, (params, ...), in their units, and of M0 as a fraction of M0, (...): complex where an
      argument is, its real part that of abs(M0) and its imaginary part that of the phase, rad. Both are the same for
      every M0, whose factor error and signal share; NaN where the signal does not determine all parameters.
    """
    energy, shares, rests, sizes, inverse, determined = _orthogonal(signal, derivatives)
    of_m0 = _dot(signal, error) / energy
    error = error - of_m0[..., None] * signal
    along = []
    for rest, size in zip(rests, sizes, strict=True):  # from what is left, so that rests need not be quite orthogonal
        along.append(_dot(rest, error).real / size)
        error = error - along[-1][..., None] * rest
    shifts = [_combined(row, along) for row in inverse]
    of_m0 = of_m0 - _combined(shares, shifts)
    return jnp.stack([jnp.where(determined, each, jnp.nan) for each in shifts]), jnp.where(determined, of_m0, jnp.nan)


def _orthogonal(signal, derivatives):
    """The decomposition of this module's docstring, with 1 in place of divisors that are 0.

    These are: energy of the signal, complex factor by which each derivative holds it, the remainders, D, rows of the
    inverse of U, and where all parameters are determined.
    """
    energy = _dot(signal, signal).real
    determined = energy > 0
    energy = jnp.where(determined, energy, 1)
    shares = [_dot(signal, d) / energy for d in derivatives]
    rests = [d - share[..., None] * signal for share, d in zip(shares, derivatives, strict=True)]
    rounding = (_ROUNDING * jnp.finfo(energy.dtype).eps) ** 2
    sizes, sines, inverse = [], jnp.ones_like(energy), [[] for _ in rests]
    for n, whole in enumerate(derivatives):
        along = []
        for rest, size in zip(rests[:n], sizes, strict=True):
            along.append(_dot(rest, rests[n]).real / size)
            rests[n] = rests[n] - along[-1][..., None] * rest
        for m, row in enumerate(inverse):
            row.append(-_combined(row[m:], along[m:]) if m < n else jnp.full_like(energy, m == n))
        left, all_of_it = _dot(rests[n], rests[n]).real, _dot(whole, whole).real
        sines = sines * left / jnp.where(all_of_it > 0, all_of_it, 1)
        determined &= sines > rounding
        sizes.append(jnp.where(determined, left, 1))
    return energy, shares, rests, sizes, inverse, determined


def _dot(a, b):
    return jnp.sum(a.conj() * b, axis=-1)


def _combined(factors, values):
    return sum(factor * value for factor, value in zip(factors, values, strict=True))


def _root(determined, variance):
    """Square root, inf where undetermined; its gradient is never NaN."""
    return jnp.where(determined, jnp.sqrt(jnp.where(determined, variance, 1)), jnp.inf)
