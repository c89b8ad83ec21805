"""The length of a tissue's signal as a polynomial of its coordinates."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.physics.types import pytree

_MOST_TERMS = 200
_MOST_DEGREE = 10


@pytree
@dataclasses.dataclass(frozen=True)
class NormPolynomial:
    """exp of a Chebyshev series in coordinates from 0 to 1.

    Attributes:
      coefficients: of the products of T_i, one axis for each coordinate, all of length degree + 1.
    """

    coefficients: np.ndarray

    def __call__(self, coordinates: jax.Array) -> jax.Array:
        """(atoms,), from (atoms, axes); traceable."""
        n_atoms, size = len(coordinates), self.coefficients.shape[0]
        total = jnp.asarray(self.coefficients, coordinates.dtype).reshape(1, -1, size)
        for axis in reversed(range(coordinates.shape[1])):
            values = _chebyshev(jnp, coordinates[:, axis], size)
            total = jnp.sum(total * values[:, None], axis=-1).reshape(n_atoms, -1, size if axis else 1)
        return jnp.exp(total[:, 0, 0])


def fit_norms(coordinates: np.ndarray, norms: np.ndarray) -> NormPolynomial:
    """Least squares of log ``norms``, (atoms,), at ``coordinates``, (atoms, axes), in float64."""
    n_atoms, n_axes = coordinates.shape
    terms = _terms(n_axes, min(_MOST_TERMS, n_atoms // 8))
    values = [_chebyshev(np, column, terms.max() + 1) for column in coordinates.T]
    products = np.prod([value[:, degrees] for value, degrees in zip(values, terms.T, strict=True)], axis=0)
    coefficients = np.zeros([terms.max() + 1] * n_axes)
    coefficients[tuple(terms.T)] = np.linalg.lstsq(products, np.log(norms), rcond=None)[0]
    return NormPolynomial(coefficients)


def _terms(n_axes, most):
    """Degrees along each axis, (terms, axes): all terms of the largest total degree that has no more than ``most``."""
    for total in range(_MOST_DEGREE, 0, -1):
        terms = [each for each in itertools.product(range(total + 1), repeat=n_axes) if sum(each) <= total]
        if len(terms) <= most:
            break
    return np.array(terms)


def _chebyshev(numpy, x, size):
    """Values of T_0 to T_(size - 1) at 2 x - 1, (atoms, size), by their recurrence."""
    y = 2 * x - 1
    values = [numpy.ones_like(y), y]
    for _ in range(size - 2):
        values.append(2 * y * values[-1] - values[-2])
    return numpy.stack(values, axis=1)
