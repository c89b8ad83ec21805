"""Radial basis functions over tissue coordinates: the interpolation that a learned generator must be judged beside.

References:
  Fasshauer 2007, "Meshfree Approximation Methods with MATLAB", doi:10.1142/6437, chapters 2, 4 and 6.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.anchors.anchor_set import AnchorSet, features_at, least
from ganmrf.pytrees import pytree

# Kernel: degree of the polynomials beside it (-1 for none), and lengths of the unit cube in units of its own.
_KERNELS = {
    "cubic": (1, (1.0,)),
    "quintic": (2, (1.0,)),
    "multiquadric": (0, (0.5, 1.0, 2.0, 4.0)),
    "gaussian": (-1, (0.25, 0.5, 1.0, 2.0, 3.0)),
}
_RATIOS = (0.5, 1.0, 2.0)  # of the axes' lengths to that of the first
_NUGGET = 1e-11  # relative; added to the diagonal, for rounding


@pytree
@dataclasses.dataclass(frozen=True)
class RadialFeatures:
    """Kernels about some anchors, and polynomials: what weights are linear in.

    Attributes:
      centres: coordinates of the anchors, (anchors, axes).
      lengths: that each axis of the unit cube has, in units of the kernel, (axes,).
      kernel: ``cubic``, ``quintic``, ``multiquadric`` or ``gaussian``.
    """

    centres: np.ndarray
    lengths: np.ndarray
    kernel: str = dataclasses.field(metadata={"static": True})

    def __call__(self, coordinates: jax.Array) -> jax.Array:
        """(atoms, anchors + polynomials), from (atoms, axes). Weights need them in float64."""
        scaled, centres = coordinates * self.lengths[None], self.centres * self.lengths[None]
        squares = jnp.sum((scaled[:, None] - centres[None]) ** 2, axis=-1)
        values = {
            "cubic": lambda: squares * jnp.sqrt(squares),
            "quintic": lambda: -(squares**2) * jnp.sqrt(squares),
            "multiquadric": lambda: -jnp.sqrt(1 + squares),
            "gaussian": lambda: jnp.exp(-squares),
        }[self.kernel]()
        return jnp.concatenate([values, _polynomials(coordinates, _KERNELS[self.kernel][0])], axis=1)


def fit_radial(anchor_set: AnchorSet) -> tuple[dict[int, RadialFeatures], dict[int, np.ndarray]]:
    """For every number of anchors the kernel, and the lengths of its axes, that do best on the validation sequences.

    Returns:
      Number of anchors -> features; number -> matrix M with weights = features @ M, (features, number), float64.
    """
    features, matrices = {}, {}
    anchors, validation = (
        np.asarray(anchor_set.box.coordinates(each), float) for each in (anchor_set.anchors, anchor_set.validation)
    )
    for size in anchor_set.sizes:
        fits = [_fit(anchor_set, each, validation) for each in _candidates(anchors[:size])]
        features[size], matrices[size], _ = least([fit for fit in fits if fit], lambda fit: fit[2])
    return features, matrices


def _candidates(centres):
    n_axes = centres.shape[1]
    for (kernel, (_, lengths)), ratios in itertools.product(
        _KERNELS.items(), itertools.product(_RATIOS, repeat=n_axes - 1)
    ):
        for length in lengths:
            yield RadialFeatures(centres, length * np.array([1.0, *ratios]), kernel)


def weight_matrix(features: RadialFeatures) -> np.ndarray | None:
    """M with weights = features @ M that interpolate, (features, anchors), or None where there is none."""
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


def _fit(anchor_set, features, validation):
    """(features, matrix, validation error), or None where there is no matrix."""
    if (matrix := weight_matrix(features)) is None:
        return None
    return features, matrix, anchor_set.validation_error(features_at(features, validation) @ matrix)


def _polynomials(coordinates, degree):
    """All monomials up to a total degree of 2 at most; none for -1."""
    ones = jnp.ones_like(coordinates[:, :1])
    if degree < 0:
        return ones[:, :0]
    parts = [ones, coordinates][: degree + 1]
    if degree == 2:
        rows, columns = np.triu_indices(coordinates.shape[1])
        parts.append(coordinates[:, rows] * coordinates[:, columns])
    return jnp.concatenate(parts, axis=1)
