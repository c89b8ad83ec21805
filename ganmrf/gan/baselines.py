"""Baselines of a generator: interpolation of the dictionary, without a network.

Both take atoms, t1 and t2 (atoms,), s, and their unit fingerprints (atoms, frames), and return a function from tissue
to unit fingerprints in the same dtype.
"""

import functools
from collections.abc import Callable

import numpy as np
import scipy.interpolate

from ganmrf.dictionary.compress import svd_basis
from ganmrf.physics.tissue import Tissue

_RANK = 64  # of the basis whose coefficients are interpolated: a few millionths of a fingerprint's norm lie outside it
_BLOCK = 4096  # atoms interpolated at a time, which bounds the memory


def radial_basis_functions(tissue: Tissue, fingerprints: np.ndarray) -> Callable[[Tissue], np.ndarray]:
    """Quintic radial basis functions of (log T1, log T2), with polynomials up to degree 2.

    Raises:
      ValueError: fewer than 6 atoms, or all of them on one curve.
    """
    _require_atoms("radial basis functions need", fingerprints, 6)
    fit = functools.partial(scipy.interpolate.RBFInterpolator, kernel="quintic", degree=2)
    return _interpolated(fit, tissue, fingerprints)


def linear_interpolation(tissue: Tissue, fingerprints: np.ndarray) -> Callable[[Tissue], np.ndarray]:
    """Linear interpolation over (log T1, log T2) in triangles between atoms; the nearest atom outside all triangles.

    Raises:
      ValueError: fewer than 3 atoms.
    """
    _require_atoms("linear interpolation needs", fingerprints, 3)

    def fit(points, values):
        linear = scipy.interpolate.LinearNDInterpolator(points, values)
        nearest = scipy.interpolate.NearestNDInterpolator(points, values)

        def interpolate(queries):
            found = linear(queries)
            outside = np.isnan(found[:, 0])
            found[outside] = nearest(queries[outside])
            return found

        return interpolate

    return _interpolated(fit, tissue, fingerprints)


def _require_atoms(what, fingerprints, least):
    if len(fingerprints) < least:
        raise ValueError(f"{what} {least} atoms at least; got {len(fingerprints)}")


def _interpolated(fit, tissue, fingerprints):
    basis = svd_basis(fingerprints, min(_RANK, *fingerprints.shape))
    interpolate = fit(_points(tissue), fingerprints.astype(float) @ basis)

    def generate(queries):
        points = _points(queries)
        generated = np.empty((len(points), fingerprints.shape[1]), fingerprints.dtype)
        for start in range(0, len(points), _BLOCK):
            coefficients = interpolate(points[start : start + _BLOCK])
            coefficients /= np.linalg.norm(coefficients, axis=1, keepdims=True)
            generated[start : start + _BLOCK] = coefficients @ basis.T
        return generated

    return generate


def _points(tissue):
    return np.log(np.stack([np.ravel(tissue.t1), np.ravel(tissue.t2)], axis=1).astype(float))
