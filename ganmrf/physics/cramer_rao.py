"""The Cramer-Rao bound: how well noisy signals can determine T1, T2 and M0."""

import jax
import jax.numpy as jnp


@jax.jit
def cramer_rao(signal, d_t1, d_t2, m0, noise):
    """Smallest standard deviations of T1, T2 and abs(M0) that unbiased estimates from noisy signals can have.

    The noise is white and Gaussian; M0 is complex and unknown too. What of a derivative lies along the signal M0 takes
    up, so that the Fisher information of T1 and T2 is that of the rest.

    Args:
      signal: for M0 = 1, real or complex, (..., columns): frames, or coefficients in an orthonormal basis.
      d_t1: its derivative by T1, 1/s, likewise.
      d_t2: its derivative by T2, 1/s, likewise.
      m0: amplitude, real or complex, (...).
      noise: standard deviation of the real, and of the imaginary, part of each column, (...) or one number. Where
        signals and M0 are real, that of real data gives the same bounds.

    Returns:
      Bounds for T1, s, T2, s, and abs(M0), (...) each, differentiable; inf where the signal does not determine them.

    References:
      Zhao et al. 2018, arXiv:1710.08062.
    """

    def dot(a, b):
        return jnp.sum(a.conj() * b, axis=-1)

    energy = dot(signal, signal).real
    some = jnp.where(energy > 0, energy, 1)
    along = [dot(signal, d) / some for d in (d_t1, d_t2)]
    rests = [d - share[..., None] * signal for share, d in zip(along, (d_t1, d_t2), strict=True)]
    i11, i12, i22 = (dot(rests[m], rests[n]).real for m, n in ((0, 0), (0, 1), (1, 1)))
    determinant = i11 * i22 - i12**2
    rounding = 16 * jnp.finfo(energy.dtype).eps * dot(d_t1, d_t1).real * dot(d_t2, d_t2).real
    fit = (determinant > rounding) & (energy > 0)
    determinant = jnp.where(fit, determinant, 1)
    v11, v12, v22 = i22 / determinant, -i12 / determinant, i11 / determinant
    g1, g2 = (share.real for share in along)
    of_m0 = 1 / some + g1**2 * v11 + 2 * g1 * g2 * v12 + g2**2 * v22
    roots = (jnp.sqrt(jnp.where(fit, variance, 1)) for variance in (v11, v22, of_m0))  # no NaN in their gradients
    t1, t2, size = (jnp.where(fit, noise * root, jnp.inf) for root in roots)
    return t1 / jnp.abs(m0), t2 / jnp.abs(m0), size
