"""Residuals are as large as the noise where the model is right, and larger where it is wrong."""

import dataclasses

import numpy as np
import pytest

from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.compress import compress
from ganmrf.dictionary.grids import grid_of
from ganmrf.dictionary.magnitude import magnitude_dictionary
from ganmrf.dictionary.match import match
from ganmrf.dictionary.refine import refine
from ganmrf.dictionary.residuals import residual_fit
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate
from ganmrf.physics.tissue import Tissue

SEQUENCE = mrf_fisp(120)
SIGMA = 4e-4  # 1 % of the signals
GRID = grid_of(0.4 * 1.1 ** np.arange(18), 0.03 * 1.1 ** np.arange(24))


@pytest.fixture(scope="module")
def clean():
    """Two tissues side by side, in 24 x 24 voxels, (frames, y, x)."""
    left = np.arange(24)[None] < 12
    tissue = Tissue(np.where(left, 0.85, 1.3) * np.ones((24, 1)), np.where(left, 0.06, 0.1) * np.ones((24, 1)))
    return np.moveaxis(np.asarray(simulate(SEQUENCE, tissue)), -1, 0)


def noisy(clean):
    noise = np.random.default_rng(0).standard_normal((2, *clean.shape))
    return clean * np.exp(1j) + SIGMA * (noise[0] + 1j * noise[1])


def fitted(dictionary, images, *, magnitude=False):
    maps = match(dictionary, images)
    return residual_fit(
        dictionary, images, maps, refine(dictionary, images, maps, magnitude=magnitude), magnitude=magnitude
    )


@pytest.mark.parametrize("rank", [None, 6])
def test_the_right_model_leaves_noise(clean, rank):
    dictionary = build_dictionary(SEQUENCE, GRID)
    dictionary = dictionary if rank is None else compress(dictionary, rank)[0]
    fit = fitted(dictionary, noisy(clean))
    assert fit.noise == pytest.approx(SIGMA, rel=0.05)
    assert np.sqrt(np.mean(fit.ratio**2)) == pytest.approx(1, abs=0.05)
    assert np.std(fit.ratio) == pytest.approx(1 / np.sqrt(2 * fit.freedom), rel=0.2)
    assert fit.fits


def test_a_wrong_model_is_betrayed_though_the_quality_is_good(clean):
    """A B1 of 0.8 that the dictionary does not know."""
    tissue = dataclasses.replace(GRID, b1=0.8)
    dictionary = build_dictionary(SEQUENCE, tissue)
    images = noisy(clean)
    fit = fitted(dictionary, images)
    assert not fit.fits
    assert np.median(match(dictionary, images).quality) > 0.99
    assert fit.noise == pytest.approx(SIGMA, rel=0.1)  # the noise is known all the same


def test_magnitudes_have_noise_as_well(clean):
    fit = fitted(magnitude_dictionary(build_dictionary(SEQUENCE, GRID)), np.abs(noisy(clean)), magnitude=True)
    assert fit.noise == pytest.approx(SIGMA, rel=0.1)
    assert fit.fits


def test_without_neighbours_there_is_nothing_to_say(clean):
    dictionary = build_dictionary(SEQUENCE, GRID)
    images = noisy(clean)[:, 0, :2]
    assert fitted(dictionary, images) is None


def test_series_without_noise_fit(clean):
    uneven = clean * np.linspace(1, 2, 24)  # M0: what is left must differ between voxels to be compared
    assert fitted(build_dictionary(SEQUENCE, GRID), uneven.astype(np.complex64)).fits
