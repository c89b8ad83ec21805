"""Sentinels lie at the ends of the box and where errors are largest; their columns interpolate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.interpolate

from ganmrf.anchors.radial import RadialFeatures, RadialWeights, weight_matrix, with_sentinels
from ganmrf.anchors.sentinels import faces_and_corners, learned_columns, worst_rows
from ganmrf.gan.least_squares import least_squares
from ganmrf.physics.tissue_box import TissueBox


def test_faces_and_corners_are_those_of_the_box():
    box = TissueBox(("t1", "t2", "b1"), [0.1, 0.01, 0.8], [3.0, 0.5, 1.2])
    places = np.round(np.asarray(box.coordinates(faces_and_corners(box))), 4)
    assert len(places) == 8 + 6
    assert (places == [1, 1, 1]).all(axis=1).any()
    assert (places == [0, 0, 1]).all(axis=1).any()
    assert (np.sum((places[:, [0, 2]] == 0.5).all(axis=1))) == 2  # the faces of T2


def test_the_worst_tissues_are_unlike_one_another():
    truth = np.zeros((6, 8))
    truth[:, 0] = 1
    made = np.array(truth)
    made[0, 1], made[1, 1], made[2, 2], made[3, 3] = 0.4, 0.39, 0.2, 0.1  # the second is as the first
    assert worst_rows(np.eye(6), [made], [truth]) == [0, 2, 3]


def test_learned_columns_are_0_at_anchors_and_make_sentinels_anchors():
    rng = np.random.default_rng(0)
    anchors, sentinels, others = (rng.standard_normal((number, 12)) for number in (5, 3, 20))
    matrix = least_squares(anchors, np.eye(5), 1e-10)
    columns = learned_columns(matrix, anchors, np.concatenate([sentinels, anchors[:1]]))
    np.testing.assert_allclose(anchors @ columns, 0, atol=1e-8)
    np.testing.assert_allclose(np.diag(sentinels @ columns), 1, rtol=1e-8)
    np.testing.assert_array_equal(columns[:, 3], 0)  # an anchor already
    # Any signals: weights and columns together are the weights of eight anchors.
    signals, own = rng.standard_normal((8, 4)), sentinels @ columns[:, :3]
    left = np.linalg.solve(own, signals[5:] - sentinels @ matrix @ signals[:5])
    found = others @ matrix @ signals[:5] + others @ columns[:, :3] @ left
    expected = others @ least_squares(np.concatenate([anchors, sentinels]), np.eye(8), 1e-10) @ signals
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("kernel", "degree"), [("cubic", 1), ("quintic", 2), ("multiquadric", 0), ("gaussian", -1)])
def test_radial_columns_make_sentinels_nodes(kernel, degree):
    rng = np.random.default_rng(0)
    places, queries, lengths = rng.random((33, 2)), rng.random((7, 2)), np.array([9.0, 6.0])
    features = RadialFeatures(places[:30], lengths, kernel)
    model = with_sentinels(RadialWeights({30: features}, {30: weight_matrix(features)}), places[30:])
    signals = rng.standard_normal((33, 4))
    with jax.enable_x64(True):
        at, own = (np.asarray(model.features[30](jnp.asarray(x))) @ model.matrices[30] for x in (queries, places[30:]))
    left = np.linalg.solve(own[:, 30:], signals[30:] - own[:, :30] @ signals[:30])
    theirs = scipy.interpolate.RBFInterpolator(
        places * lengths, signals, kernel=kernel, degree=degree, epsilon=1.0 if degree < 1 else None
    )
    np.testing.assert_allclose(at[:, :30] @ signals[:30] + at[:, 30:] @ left, theirs(queries * lengths), atol=1e-2)
