"""Baselines of a generator: interpolation of the dictionary, without a network.

All take atoms, t1 and t2 (atoms,), s, and their unit fingerprints (atoms, frames), and return a function from tissue
to unit fingerprints in the same dtype. What is interpolated, over (log T1, log T2), are coefficients in a temporal
basis of rank 64, that of the singular value decomposition where nothing else is said; of complex fingerprints their
real and imaginary parts. Atoms need lie on no grid. Where they differ in more than T1 and T2, radial basis functions
alone interpolate. Off-resonance is refused: it turns phases faster than the steps of a dictionary follow.
"""

import functools
from collections.abc import Callable

import numpy as np
import scipy.interpolate
import scipy.sparse.linalg
from numpy.polynomial.chebyshev import chebvander
from numpy.polynomial.polynomial import polyvander2d

from ganmrf.dictionary.compress import svd_basis
from ganmrf.gan.data import axes_of
from ganmrf.gan.least_squares import least_squares
from ganmrf.gan.real_columns import real_columns
from ganmrf.physics.tissue import Tissue, TissueModel
from ganmrf.physics.tissue_box import box_of

_RANK = 64  # of the basis whose coefficients are interpolated: a few millionths of a fingerprint's norm lie outside it
_BLOCK = 4096  # atoms interpolated at a time, which bounds the memory
_INTERVALS = 48  # of the splines, in log T1 and in log T2: twice as many gain nothing on the paper's grid
_SMOOTH = 1e-6  # weight of the roughness beside that of one atom: it decides only where atoms do not
_DEGREE = 9  # of the polynomials: higher degrees swing between the atoms of the coarse grid
_POWERS = 2  # of the correlation: the random basis then leaves out hardly more than the best one
_ROUNDING = 1e-13  # ridge of polynomials: rounding of their float64 values at the atoms


def radial_basis_functions(tissue: TissueModel, fingerprints: np.ndarray) -> Callable[[TissueModel], np.ndarray]:
    """Quintic radial basis functions of (log T1, log T2), with polynomials up to degree 2.

    Of tissue that differs in more, they are functions of the coordinates of a `TissueBox`.

    Raises:
      ValueError: fewer than 6 atoms, or than there are monomials of more axes; or all of them on one curve.
    """
    n_axes = len(axes_of(tissue.ravel()))
    _require_atoms("radial basis functions need", fingerprints, (n_axes + 1) * (n_axes + 2) // 2)
    fit = functools.partial(scipy.interpolate.RBFInterpolator, kernel="quintic", degree=2)
    points_of = _points if n_axes == 2 else box_of(tissue.ravel()).coordinates
    return _interpolated(fit, tissue, fingerprints, points_of=points_of)


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


def spline_interpolation(tissue: Tissue, fingerprints: np.ndarray) -> Callable[[Tissue], np.ndarray]:
    """Tensor products of cubic B-splines of (log T1, log T2).

    The knots are evenly spaced, as in the references. These interpolate a full grid; here T2 <= T1, and training sets
    are subsets, so that many splines have no atom beneath them. The coefficients are therefore those of penalised least
    squares: third differences along both axes, with a weight that leaves the atoms as they are.

    Raises:
      ValueError: fewer than 9 atoms, or all of them on one curve.

    References:
      van Valenberg et al. 2018, ISMRM #4268, and 2020, doi:10.1109/TMI.2019.2954751 (B-splines of dictionaries).
      Eilers and Marx 1996, doi:10.1214/ss/1038425655 (the penalty).
    """
    _require_atoms("spline interpolation needs", fingerprints, 9)
    return _interpolated(_fit_splines, tissue, fingerprints)


def _fit_splines(points, values):
    to_unit = _to_unit(points)
    unit = to_unit(points)
    if np.linalg.matrix_rank(polyvander2d(*unit.T, (2, 2))) < 9:  # what the penalty does not decide
        raise ValueError("spline interpolation needs atoms of several T1 and T2; got all of them on one curve")
    knots = 2 * (np.arange(-3, _INTERVALS + 4) / _INTERVALS,)
    size = _INTERVALS + 3
    at_atoms = scipy.interpolate.NdBSpline.design_matrix(unit, knots, 3)
    at_atoms.resize(len(unit), size**2)  # SciPy leaves out the last splines where they have no atom beneath them
    differences = scipy.sparse.csr_array(np.diff(np.eye(size), 3, axis=0))
    roughness = scipy.sparse.kronsum(*2 * (differences.T @ differences,))
    normal = scipy.sparse.csc_array(at_atoms.T @ at_atoms + _SMOOTH * roughness)
    coefficients = scipy.sparse.linalg.splu(normal).solve(at_atoms.T @ values)
    spline = scipy.interpolate.NdBSpline(knots, coefficients.reshape(size, size, -1), 3)
    return lambda queries: spline(to_unit(queries))


def rsvd_polynomials(tissue: Tissue, fingerprints: np.ndarray) -> Callable[[Tissue], np.ndarray]:
    """Polynomials of (log T1, log T2) in the basis of a randomised singular value decomposition.

    The reference fits polynomials of low degree over the tissue parameters. Rank, the logarithms, and a total degree of
    9 are choices made here, with which the method errs less than with fewer coefficients or with T1 and T2 themselves.

    Raises:
      ValueError: fewer than 55 atoms, the number of monomials.

    References:
      Yang et al. 2018, doi:10.1002/mrm.26867. Halko et al. 2011, doi:10.1137/090771806 (the decomposition).
    """
    _require_atoms("polynomials need", fingerprints, (_DEGREE + 1) * (_DEGREE + 2) // 2)

    def fit(points, values):
        to_unit = _to_unit(points)

        def monomials(queries):
            """Products of Chebyshev polynomials up to the total degree, (queries, monomials)."""
            one, other = (chebvander(each, _DEGREE) for each in (2 * to_unit(queries) - 1).T)
            products = one[:, :, None] * other[:, None, :]
            return products[:, np.add.outer(*2 * (np.arange(_DEGREE + 1),)) <= _DEGREE]

        weights = least_squares(monomials(points), values, _ROUNDING)
        return lambda queries: monomials(queries) @ weights

    return _interpolated(fit, tissue, fingerprints, _randomised_basis)


def _randomised_basis(fingerprints, rank):
    """Orthonormal columns (frames, rank) that nearly span the leading right singular vectors."""
    wide = fingerprints.astype(float)
    basis = np.linalg.qr(wide.T @ np.random.default_rng(0).standard_normal((len(wide), rank)))[0]
    for _ in range(_POWERS):
        basis = np.linalg.qr(wide.T @ (wide @ basis))[0]
    return basis


def _to_unit(points):
    """A function that maps the range of the points, in each axis, to 0 to 1."""
    low, high = points.min(axis=0), points.max(axis=0)
    return lambda queries: (queries - low) / np.where(high > low, high - low, 1)


def _require_atoms(what, fingerprints, least):
    if len(fingerprints) < least:
        raise ValueError(f"{what} {least} atoms at least; got {len(fingerprints)}")


def _interpolated(fit, tissue, fingerprints, basis_of=svd_basis, points_of=None):
    further = [*axes_of(tissue.ravel())][2:] if points_of is None else []
    if further or tissue.off_resonance is not None:
        raise ValueError(f"interpolation is over T1 and T2 alone; the atoms have {(*further, 'off_resonance')[0]}")
    points_of = points_of or _points
    columns = real_columns(np.asarray(fingerprints))
    basis = basis_of(columns, min(_RANK, *columns.shape))
    points = np.asarray(points_of(tissue), float)
    apart = np.sort(np.unique(points, axis=0, return_index=True)[1])  # random atoms may meet in corners of their box
    interpolate = fit(points[apart], columns[apart].astype(float) @ basis)

    def generate(queries):
        points = np.asarray(points_of(queries), float)
        generated = np.empty((len(points), columns.shape[1]), columns.dtype)
        for start in range(0, len(points), _BLOCK):
            coefficients = interpolate(points[start : start + _BLOCK])
            coefficients /= np.linalg.norm(coefficients, axis=1, keepdims=True)
            generated[start : start + _BLOCK] = coefficients @ basis.T
        return generated.view(fingerprints.dtype)

    return generate


def _points(tissue):
    return np.log(np.stack([np.ravel(tissue.t1), np.ravel(tissue.t2)], axis=1).astype(float))
