"""Distances between distributions at samples whose distance is known."""

import numpy as np
import pytest

from experiments.studies.hidden_b1_metrics import covariance_error, mean_error, sliced_wasserstein

pytestmark = pytest.mark.usefixtures("quick_compiler")

SAMPLES = np.random.default_rng(0).standard_normal((50, 40))


@pytest.mark.parametrize("measure", [sliced_wasserstein, covariance_error, mean_error])
def test_the_order_of_samples_does_not_matter(measure):
    assert measure(SAMPLES[::-1], SAMPLES) < 1e-7  # the root of float64's rounding
    with pytest.raises(ValueError, match="the same for both"):
        measure(SAMPLES, SAMPLES[1:])


def test_a_shift_has_its_length_as_distance_whatever_the_number_of_frames():
    for n_frames in (40, 400):
        shift = np.random.default_rng(1).standard_normal(n_frames)
        samples = np.random.default_rng(2).standard_normal((20, n_frames))
        # The mean of 100 squared directions has a relative standard error of sqrt(2 / 100), its root half of that.
        assert abs(sliced_wasserstein(samples + shift, samples) / np.linalg.norm(shift) - 1) < 0.2


def test_a_shift_changes_no_covariance_and_a_scaling_does():
    assert covariance_error(SAMPLES + 3, SAMPLES) < 1e-7
    np.testing.assert_allclose(covariance_error(2 * SAMPLES, SAMPLES), 3, rtol=1e-12)
    collapsed = np.broadcast_to(SAMPLES.mean(axis=0), SAMPLES.shape)
    np.testing.assert_allclose(covariance_error(collapsed, SAMPLES), 1, rtol=1e-12)


def test_the_covariance_is_numpys():
    other = SAMPLES[:, ::-1] ** 3
    true = np.cov(SAMPLES.T)
    expected = np.linalg.norm(np.cov(other.T) - true) / np.linalg.norm(true)
    np.testing.assert_allclose(covariance_error(other, SAMPLES), expected, rtol=1e-10)


def test_the_mean_is_compared_over_its_norm():
    np.testing.assert_allclose(mean_error(1.25 * SAMPLES, SAMPLES), 0.25, rtol=1e-12)
