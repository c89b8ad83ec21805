"""Inside a mask is what its writer had inside, whatever a program stored it as; images and maps are no masks."""

import numpy as np
import pytest
from scipy import ndimage

from ganmrf.imaging.phantom import digital_brain
from ganmrf.io.masks import inside

BLOCK = np.zeros((22, 32))
BLOCK[6:16, 8:24] = 1


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.float32, np.float64])
@pytest.mark.parametrize("scale", [1, 255])
def test_masks_of_two_values(dtype, scale):
    np.testing.assert_array_equal(inside((scale * BLOCK).astype(dtype)), BLOCK == 1)


@pytest.mark.parametrize("scale", [1, 0.01, 100.5, 1e4])
def test_a_mask_in_scaled_integers_is_0_where_0_is_stored_as_nearly_0(scale):
    """The range of the values decides the scale, and 0 becomes the nearest of its steps; one voxel is below 0."""
    values = scale * BLOCK
    values[0, 0] = -0.3 * scale
    slope = np.ptp(values) / 2**16
    stored = np.rint((values - values.min()) / slope - 2**15)
    np.testing.assert_array_equal(inside(slope * (stored + 2**15) + values.min()), BLOCK == 1)


@pytest.mark.parametrize("order", [1, 3])
def test_a_resampled_mask_is_the_mask(order):
    """By splines, which overshoot, to voxels half as large: inside is within half a voxel of what was inside."""
    fine = inside(ndimage.zoom(BLOCK, 2, order=order, grid_mode=True, mode="nearest"))
    expected = np.kron(BLOCK, np.ones((2, 2))) == 1
    sure = ndimage.binary_erosion(expected) | ~ndimage.binary_dilation(expected)
    np.testing.assert_array_equal(fine[sure], expected[sure])


@pytest.mark.parametrize("most", [3, 20])
@pytest.mark.parametrize("bits", [8, 16, None])
def test_labels_are_inside_however_they_are_scaled(most, bits):
    labels = BLOCK * (1 + np.arange(32) % most)
    slope = most / (2**bits - 1) if bits else 1
    np.testing.assert_array_equal(inside(slope * np.floor(labels / slope + 0.5)), BLOCK == 1)


def test_probabilities():
    for fraction in digital_brain(size=64).fractions[:2]:  # white and grey matter, with partial volumes
        np.testing.assert_array_equal(inside(fraction), fraction >= fraction.max() / 2)


def test_what_is_no_mask_is_refused():
    brain = digital_brain(size=64)
    t1, t2 = ((brain.fractions * values).sum(0) for values in (brain.tissue.t1, brain.tissue.t2))
    noise = np.random.default_rng(0).standard_normal(BLOCK.shape)
    for values, words in (
        (t1, "an image or a map"),
        (t2, "an image or a map"),
        (np.abs(noise), "an image or a map"),
        (np.rint(1000 * t1), "several whole numbers, up to"),
        (np.rint(100 * ndimage.gaussian_filter(BLOCK, 1)), "several whole numbers, up to"),
        (2 * BLOCK - 1, "544 values are negative"),
        (noise, "values are negative"),
        (1j * BLOCK, "must be real"),
        (np.where(BLOCK, 1, np.nan), "544 of 704 values are NaN or infinite"),
        (0 * BLOCK, "no voxel is inside"),
    ):
        with pytest.raises(ValueError, match=words):
            inside(values)
