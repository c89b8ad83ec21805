"""Norms of features as a smooth function of tissue: weights and signals are in units of them."""

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.pytrees import pytree

_MOST_TERMS = 200
_MOST_DEGREE = 10


@pytree
@dataclasses.dataclass(frozen=True)
class NormPolynomial:
    """exp of a Chebyshev series in coordinates from 0 to 1, of all terms up to a total degree.

    Attributes:
      coefficients: of the products of Chebyshev polynomials, (terms,).
      degrees: of the polynomials of each product, along each coordinate, (terms, coordinates).
    """

    coefficients: np.ndarray
    degrees: np.ndarray

    @jax.jit
    def __call__(self, coordinates: jax.Array) -> jax.Array:
        """(atoms,), from (atoms, coordinates); traceable."""
        degrees, product = jnp.asarray(self.degrees), 1
        for axis in range(coordinates.shape[1]):
            product *= _chebyshev(jnp, coordinates[:, axis])[:, degrees[:, axis]]
        return jnp.exp(jnp.sum(product * jnp.asarray(self.coefficients, coordinates.dtype)[None], axis=1))


def fit_norms(coordinates: np.ndarray, norms: np.ndarray) -> NormPolynomial:
    """The polynomial nearest to log ``norms``, (atoms,), at ``coordinates``, (atoms, axes): float64 least squares."""
    n_atoms, n_axes = coordinates.shape
    degrees = _degrees(n_axes, min(_MOST_TERMS, n_atoms // 8))
    values = [_chebyshev(np, column)[:, of] for column, of in zip(coordinates.T, degrees.T, strict=True)]
    coefficients = np.linalg.lstsq(np.prod(values, axis=0), np.log(norms), rcond=None)[0]
    return NormPolynomial(coefficients, degrees)


def _degrees(n_axes, most):
    """Degrees along each axis, (terms, axes): all terms up to the largest total degree with at most ``most`` terms."""
    total = next((each for each in range(_MOST_DEGREE, 1, -1) if math.comb(n_axes + each, each) <= most), 1)
    # A term of degree n is n choices among the axes and 1.
    chosen = np.array([*itertools.combinations_with_replacement(range(n_axes + 1), total)])
    return np.stack([np.sum(chosen == axis, axis=1) for axis in range(n_axes)], axis=1).astype(np.int32)


def _chebyshev(numpy, x):
    """Values of T_0 to T_10 at 2 x - 1, (atoms, 11), by their recurrence."""
    y = 2 * x - 1
    values = [numpy.ones_like(y), y]
    for _ in range(_MOST_DEGREE - 1):
        values.append(2 * y * values[-1] - values[-2])
    return numpy.stack(values, axis=1)
