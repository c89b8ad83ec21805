"""Radial basis functions interpolate, and are those of SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.interpolate

from ganmrf.anchors.radial import RadialFeatures, weight_matrix


@pytest.mark.parametrize(("kernel", "degree"), [("cubic", 1), ("quintic", 2), ("multiquadric", 0), ("gaussian", -1)])
def test_weights_are_those_of_scipy(kernel, degree):
    rng = np.random.default_rng(0)
    centres, queries, lengths = rng.random((30, 2)), rng.random((7, 2)), np.array([9.0, 6.0])
    features = RadialFeatures(centres, lengths, kernel)
    with jax.enable_x64(True):
        weights = np.asarray(features(jnp.asarray(queries))) @ weight_matrix(features)
    theirs = scipy.interpolate.RBFInterpolator(
        centres * lengths, np.eye(30), kernel=kernel, degree=degree, epsilon=1.0 if degree < 1 else None
    )
    np.testing.assert_allclose(weights, theirs(queries * lengths), atol=1e-3)  # our diagonal is raised by 1e-11


def test_more_polynomials_than_anchors_are_refused():
    assert weight_matrix(RadialFeatures(np.random.default_rng(0).random((5, 2)), np.ones(2), "quintic")) is None
