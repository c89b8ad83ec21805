"""Pulses at positions of a slice: polynomials in the flip angle give their spinors a and b, which turn magnetisation.

The frame of the magnetisation is that of `lowering`, in which x is what a pulse makes of z. Spinors are lists of parts,
as in `parts`: ``i b`` has an imaginary one only where the pulse is not the same forwards and backwards.
"""

import jax.numpy as jnp
from jax import lax

from ganmrf.physics.engines.parts import conjugate, summed, times
from ganmrf.physics.rf_pulse import LARGEST_ANGLE
from ganmrf.physics.slice_positions import TERMS_A_STEP

_FEWEST = 1e-30  # squares of parts of spinors: below it there is no direction, and a turn of none is as good as any


def played(polynomials, angle, across, along):
    """Isochromats, as in `isochromats.turned`, (positions, lanes), after a pulse of angles, rad, (lanes,).

    With ``c = i b`` and X = x + i y a pulse is ``X -> conj(a)^2 X - c^2 conj(X) + 2 conj(a) c z`` and ``z -> (|a|^2 -
    |c|^2) z - 2 Re(conj(a c) X)`` (Pauly et al. 1991, doi:10.1109/42.75611). Where lanes have angles of their own, this
    takes a third of the time of a `rotation`: no divisions, and no root.
    """
    a, c = _spinors(polynomials, angle)
    a, c = conjugate(a), times((angle[None],), c)
    size_a, size_c = (sum(part * part for part in each) for each in (a, c))
    # |a|^2 + |b|^2 is 1, but for rounding that a thousand pulses would add up; to first order this is its inverse.
    norm, cos = 2 - size_a - size_c, size_a - size_c
    kept, mirrored = times(a, a), times(c, c)
    twice = [2 * part for part in a]
    from_z, (to_z, across_to_z) = times(c, twice), times(conjugate(c), twice)
    after, z_after = [], []
    for pool, z in zip(across, along, strict=False):
        pool, z = [norm * part for part in pool], norm * z
        turned = summed(times(kept, pool), [-part for part in times(mirrored, conjugate(pool))])
        after.append(tuple(summed(turned, [part * z for part in from_z])))
        z_after.append(cos * z - (to_z * pool[0] - across_to_z * pool[1]))
    return tuple(after), (*z_after, *along[len(after) :])


def rotation(polynomials, angle, in_kernel):
    """Rotations ``Rz(post) Rx(flip) Rz(pre)`` of `slice_positions` by angles, rad, (..., 1 or lanes).

    Returns:
      Cosine and sine of flip, and of pre and post each as a pair, (..., positions, 1 or lanes).
    """
    (ar, ai), (br, *bi) = _spinors(polynomials, angle)
    angle = angle[..., None, :]
    ar, ai, br, bi = _held((ar, ai, br, *(bi or [jnp.zeros_like(br)])), in_kernel)
    a, b = ar * ar + ai * ai, br * br + bi * bi
    # Without size there is no direction, and any is as good.
    has_a, has_b = a > _FEWEST, b > _FEWEST
    ar, br = jnp.where(has_a, ar, 1), jnp.where(has_b, br, 1)
    inverse = 1 / jnp.sqrt(jnp.where(has_a, a, 1) * jnp.where(has_b, b, 1))
    (inverse,) = _held((inverse,), in_kernel)
    turned = angle * angle * b
    norm = 2 - a - turned  # as in `played`
    sin = 2 * angle * norm * a * b * inverse
    real, imaginary, both, neither = ar * br, ai * bi, ar * bi, ai * br
    post = (real + imaginary) * inverse, (both - neither) * inverse
    pre = (real - imaginary) * inverse, -(both + neither) * inverse
    return (a - turned) * norm, sin, pre, post


def _spinors(polynomials, angle):
    """Parts of a, and of ``i b / angle``, by angles, rad, (..., 1 or lanes): (..., positions, 1 or lanes).

    The loop over `TERMS_A_STEP` terms at a time is for kernels, where XLA would compute the sums again for each number
    that is made from them, but for what a loop has left.
    """
    by = (angle[..., None, :] ** 2 * (2 / LARGEST_ANGLE**2) - 1)[None]
    polynomials = polynomials.reshape(*polynomials.shape[:2], *(1,) * (by.ndim - 3), *polynomials.shape[2:])

    def add(values, terms):
        for each in terms:
            values = values * by + each
        return values, None

    start = jnp.zeros_like(polynomials[0] * by)
    values = lax.scan(add, start, polynomials.reshape(-1, TERMS_A_STEP, *polynomials.shape[1:]))[0]
    ar, ai, *b = (values[n] for n in range(len(values)))
    return [ar, ai], b


def _held(values, in_kernel):
    """The values; in a kernel read from a buffer, as XLA would compute them again for each number made from them."""
    if not in_kernel:
        return values
    buffer = jnp.zeros((len(values) + 1, *values[0].shape), values[0].dtype)
    for n, value in enumerate(values):
        buffer = buffer.at[n].set(value)
    return tuple(buffer[n] for n in range(len(values)))
