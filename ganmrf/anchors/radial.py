"""Radial basis functions over tissue coordinates, Gaussian and others: interpolation, the baseline of learned weights.

References:
  Fasshauer 2007, "Meshfree Approximation Methods with MATLAB", doi:10.1142/6437, chapters 2, 4 and 6.
"""

import dataclasses
import functools
import itertools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.anchors.anchor_set import AnchorSet, features_at
from ganmrf.anchors.sentinels import one_at_own
from ganmrf.pytrees import pytree

# Kernel: degree of the polynomials added to it (-1 for none), and scales tried along the first axis. Cubic and quintic
# are powers of the distance: a common scale changes nothing.
_KERNELS = {
    "cubic": (1, (1.0,)),
    "quintic": (2, (1.0,)),
    "multiquadric": (0, (0.5, 1.0, 2.0, 4.0)),
    "gaussian": (-1, (0.25, 0.5, 1.0, 2.0, 3.0)),
}
_FACTORS = (0.5, 2.0)  # by which the scale of one axis after the other is changed: coordinate descent
_NUGGET = 1e-11  # relative; added to the diagonal, so that rounding cannot make the system singular


@pytree
@dataclasses.dataclass(frozen=True)
class RadialFeatures:
    """Kernels around anchors, and polynomials, of which weights are linear combinations.

    Attributes:
      centres: coordinates of the anchors, and of sentinels behind them, (centres, axes).
      scales: factors of the coordinates in the distance that a kernel is a function of, (axes,).
      kernel: ``cubic``, ``quintic``, ``multiquadric`` or ``gaussian``.
    """

    centres: np.ndarray
    scales: np.ndarray
    kernel: str = dataclasses.field(metadata={"static": True})

    def __call__(self, coordinates: jax.Array) -> jax.Array:
        """(atoms, centres + polynomials), from coordinates (atoms, axes) in float64, which weights need."""
        scaled, centres = coordinates * self.scales[None], self.centres * self.scales[None]
        squares = jnp.sum((scaled[:, None] - centres[None]) ** 2, axis=-1)
        values = {
            "cubic": lambda: squares * jnp.sqrt(squares),
            "quintic": lambda: -(squares**2) * jnp.sqrt(squares),
            "multiquadric": lambda: -jnp.sqrt(1 + squares),
            "gaussian": lambda: jnp.exp(-squares),
        }[self.kernel]()
        return jnp.concatenate([values, _polynomials(coordinates, _KERNELS[self.kernel][0])], axis=1)


@pytree
@dataclasses.dataclass(frozen=True)
class RadialWeights:
    """Weights of anchors by radial basis functions, with a kernel of its own for every number of anchors.

    Attributes:
      features: number of anchors -> radial basis functions.
      matrices: number of anchors -> M with weights = features @ M, (features, number + sentinels), float64.
    """

    kind: ClassVar[str] = "radial"
    any_tissue: ClassVar[bool] = True
    features: dict[int, RadialFeatures]
    matrices: dict[int, np.ndarray]

    def features_for(self, n_anchors: int) -> RadialFeatures:
        """The function of coordinates whose values ``matrices`` multiply."""
        return self.features[n_anchors]


def fit_radial(anchor_set: AnchorSet) -> RadialWeights:
    """For every number of anchors the kernel and the scales that have about the least error on validation sequences.

    Scales begin with those of the next smaller number of anchors, and are changed one axis after the other.
    """
    features, matrices = {}, {}
    anchors, validation = (
        np.asarray(anchor_set.box.coordinates(each), float) for each in (anchor_set.anchors, anchor_set.validation)
    )

    def fit(kernel, centres, scales):
        """Error, features and matrix; the error is infinite where nothing interpolates."""
        found = RadialFeatures(centres, np.array(scales, float), kernel)
        matrix = weight_matrix(found)
        if matrix is None:
            return np.inf, found, matrix
        error = anchor_set.validation_errors(features_at(found, validation) @ matrix).mean()
        return error if np.isfinite(error) else np.inf, found, matrix

    n_axes = anchors.shape[1]
    starts = {kernel: [[scale] * n_axes for scale in scales] for kernel, (_, scales) in _KERNELS.items()}
    for size in anchor_set.sizes:
        fits = {
            kernel: min((fit(kernel, anchors[:size], each) for each in tried), key=_error_of)
            for kernel, tried in starts.items()
        }
        kernel = min(fits, key=lambda name: fits[name][0])
        fits[kernel] = _descended(functools.partial(fit, kernel, anchors[:size]), fits[kernel])
        _, features[size], matrices[size] = fits[kernel]
        starts = {
            name: [found[1].scales] for name, found in fits.items()
        }  # the next size begins with those of this one
    return RadialWeights(features, matrices)


def _descended(fit, best):
    """The best of a kernel's fits where the scale of one axis after the other is changed."""
    for axis, factor in itertools.product(range(best[1].scales.size), _FACTORS):
        tried = best[1].scales.copy()
        tried[axis] *= factor
        best = min(best, fit(tried), key=_error_of)
    return best


def _error_of(fit):
    return fit[0]


def with_sentinels(model: RadialWeights, sentinels: np.ndarray) -> RadialWeights:
    """The weights, and columns of sentinels beside those of the anchors: the interpolant with more nodes.

    Args:
      model: weights of anchors alone, by `fit_radial`.
      sentinels: coordinates of the sentinels, (sentinels, axes).
    """
    number, features, matrices = len(sentinels), {}, {}
    for size, matrix in model.matrices.items():
        anchors = model.features[size].centres
        wide = dataclasses.replace(model.features[size], centres=np.concatenate([anchors, sentinels]))
        matrix = np.insert(matrix, [size] * number, 0, axis=0)
        at_sentinels = features_at(wide, sentinels)
        # Kernels about the sentinels, less their interpolants: what is left is 0 for all polynomials, and so, as the
        # kernels are positive definite but for polynomials, an inner product.
        unexplained = np.zeros((len(matrix), number))
        unexplained[: size + number] = np.vstack([-(at_sentinels @ matrix).T, np.eye(number)])
        columns = unexplained - matrix @ (features_at(wide, anchors) @ unexplained)
        features[size] = wide
        matrices[size] = np.hstack([matrix, one_at_own(columns, at_sentinels)])
    return RadialWeights(features, matrices)


def weight_matrix(features: RadialFeatures) -> np.ndarray | None:
    """M with weights = features @ M that interpolate, (features, anchors); None where no such matrix exists."""
    size = len(features.centres)
    rows = features_at(features, features.centres)
    extra = rows.shape[1] - size
    if extra > size:
        return None
    system = np.block([[rows[:, :size], rows[:, size:]], [rows[:, size:].T, np.zeros((extra, extra))]])
    system[range(size), range(size)] += _NUGGET * np.abs(system[:size, :size]).max()
    try:
        return np.linalg.solve(system, np.eye(size + extra, size))
    except np.linalg.LinAlgError:
        return None


def _polynomials(coordinates, degree):
    """All monomials up to total degree -1 (none), 0, 1 or 2, (atoms, monomials)."""
    ones = jnp.ones_like(coordinates[:, :1])
    if degree < 0:
        return ones[:, :0]
    parts = [ones, coordinates][: degree + 1]
    if degree == 2:
        rows, columns = np.triu_indices(coordinates.shape[1])
        parts.append(coordinates[:, rows] * coordinates[:, columns])
    return jnp.concatenate(parts, axis=1)
