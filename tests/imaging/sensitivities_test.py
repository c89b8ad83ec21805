"""Sensitivities come back from images, and from undersampled samples of a brain, up to the phase that no scan tells."""

import warnings

import numpy as np
import pytest

from ganmrf.imaging.acquisition import sample_kspace
from ganmrf.imaging.coils import head_array
from ganmrf.imaging.phantom import TISSUES, digital_brain
from ganmrf.imaging.sensitivities import calibrate, combine, estimate_sensitivities
from ganmrf.imaging.trajectory import design_spiral, rotated, rotation_angles
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate
from ganmrf.physics.tissue import Tissue

SIZE, FIELD_OF_VIEW, N_COILS = 64, 0.3, 6
CROP = np.s_[..., 7:57]  # an image of 64 x 50 with the same origin


def complex_normal(rng, *shape):
    return (rng.standard_normal((*shape, 2), np.float32).view(np.complex64)[..., 0]).copy()


@pytest.fixture(scope="module")
def brain():
    return digital_brain(size=SIZE, field_of_view=FIELD_OF_VIEW, variation=0)


@pytest.fixture(scope="module")
def true():
    """Of root sum of squares 1."""
    fields = head_array(N_COILS, SIZE, FIELD_OF_VIEW)[CROP]
    return fields / np.linalg.norm(fields, axis=0)


def misdirection(found, true, where):
    """1 - |<found, true>|^2 of each voxel: 0 where they differ by a phase."""
    return 1 - np.abs(np.sum(np.conj(found) * true, axis=0)[where]) ** 2


def test_noise_free_images_give_the_sensitivities(brain, true):
    # Two images with contrasts of their own; a head's outline cuts through the windows.
    contrasts = brain.fractions[:2] + brain.fractions[3:] * np.array([[1j], [0.3]])[..., None]
    images = true[:, None] * contrasts[CROP]
    found = np.asarray(estimate_sensitivities(images, window=1))
    signal = np.abs(contrasts[CROP]).sum(axis=0) > 0.05
    assert found.dtype == np.complex64
    assert misdirection(found, true, signal).max() < 1e-5  # float32
    windowed = np.asarray(estimate_sensitivities(images))
    # Within two voxels of 5 mm sensitivities change by some 10 %, most of which the symmetric window takes back.
    assert np.median(misdirection(windowed, true, signal)) < 1e-3
    np.testing.assert_allclose(np.linalg.norm(windowed, axis=0), 1, rtol=1e-5)  # everywhere, in air too


def test_windows_average_noise_out(brain, true):
    rng = np.random.default_rng(0)
    images = true * brain.fractions.sum(axis=0)[CROP]
    noisy = images + 0.1 * complex_normal(rng, *images.shape)
    inside = brain.brain_mask[CROP]
    single, windowed = (misdirection(estimate_sensitivities(noisy, window=w), true, inside) for w in (1, 5))
    # 5 coils across the true direction with a variance of 2 * 0.1^2 each, and a 25th of that.
    assert np.median(single) == pytest.approx(0.1, rel=0.3)
    assert np.median(windowed) < 0.1 / 10


def test_the_common_phase_is_that_of_the_strongest_combination(brain, true):
    object_phase = np.exp(3j * np.arange(50) / 50)
    images = true * (brain.fractions.sum(axis=0)[CROP] * object_phase)
    found = np.asarray(estimate_sensitivities(images, window=3))
    strongest = np.linalg.svd(images.reshape(N_COILS, -1), full_matrices=False)[0][:, 0]
    inside = brain.mask[CROP]
    combined = np.einsum("c,cyx->yx", strongest.conj(), found)[inside]
    combined = combined * np.exp(-1j * np.angle(combined[0]))  # the phase of an eigenvector is free
    assert np.abs(np.angle(combined)).max() < 1e-3
    # So the image keeps its phase, but for that of the combination, which is smooth.
    turned = np.exp(1j * np.angle(np.einsum("c,cyx->yx", strongest.conj(), true)))
    kept = combine(images, found)[inside] / brain.fractions.sum(axis=0)[CROP][inside]
    kept = kept / (object_phase * turned)[inside]
    np.testing.assert_allclose(
        kept * np.exp(-1j * np.angle(kept[0])), 1, atol=0.06
    )  # windows cut by the outline see another place


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_the_scale_of_the_images_does_not_matter(true, scale):
    images = true * np.float32(scale)
    assert misdirection(estimate_sensitivities(images, window=1), true, np.s_[:, :]).max() < 1e-5  # float32


def test_combining_undoes_the_coils(true):
    rng = np.random.default_rng(0)
    images = complex_normal(rng, 3, SIZE, 50)
    combined = combine(true[:, None] * images, true)
    np.testing.assert_allclose(combined, images, atol=1e-5)  # float32
    np.testing.assert_allclose(combine(true * images[0], true), images[0], atol=1e-5)


def test_bad_arguments_are_named(true):
    with pytest.raises(ValueError, match=r"coil_images must be \(coils, ..., y, x\); got shape \(64, 50\)"):
        estimate_sensitivities(true[0])
    with pytest.raises(ValueError, match="window must be odd; got 4"):
        estimate_sensitivities(true, window=4)


@pytest.fixture(scope="module")
def scan(brain, true):
    """Samples of 96 frames of one spiral each, their trajectory and the basis of the tissues."""
    times = Tissue(*(np.array(column) for column in list(zip(*TISSUES.values(), strict=True))[:2]))
    signals = np.asarray(simulate(mrf_fisp(96), times))
    series = np.einsum("nf,nyx->fyx", signals, brain.fractions * np.exp(1j * brain.phase))[CROP].astype(np.complex64)
    basis = np.linalg.svd(signals, full_matrices=False)[2].T
    spiral = design_spiral(matrix=SIZE, field_of_view=FIELD_OF_VIEW)
    trajectory = rotated(spiral.k, rotation_angles(96, "golden"))
    return sample_kspace(series, true, trajectory, (FIELD_OF_VIEW / SIZE,) * 2), trajectory, basis


def test_undersampled_frames_calibrate_themselves(scan, brain, true):
    found = calibrate(*scan, (SIZE, 50), (FIELD_OF_VIEW / SIZE,) * 2)
    assert found.dtype == np.complex64
    np.testing.assert_allclose(np.linalg.norm(found, axis=0), 1, rtol=1e-5)
    wrong = misdirection(found, true, brain.brain_mask[CROP])
    # What windows of 18 mm and the ringing of 6 mm leave: 1.3e-3 also where 12 interleaves do, so no aliasing.
    assert np.median(wrong) < 2e-3
    assert np.quantile(wrong, 0.95) < 0.01


def test_a_trajectory_without_a_centre_is_refused(scan):
    kspace, trajectory, basis = scan
    with pytest.raises(ValueError, match=r"trajectory has no sample that stays within .* cycles/m in every frame"):
        calibrate(kspace, trajectory + np.float32(500), basis, (SIZE, 50), (FIELD_OF_VIEW / SIZE,) * 2)


@pytest.mark.parametrize(("arms", "warned"), [(16, False), (4, True)])
def test_gaps_in_the_centre_of_k_space_are_warned_of(arms, warned):
    spiral = design_spiral(matrix=48, field_of_view=0.24, interleaves=16, centre_density=1.0)
    trajectory = rotated(spiral.k, np.arange(16) % arms * 2 * np.pi / arms)
    kspace, basis = np.ones((16, 2, len(spiral.k)), np.complex64), np.eye(16, 2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        calibrate(kspace, trajectory, basis, (48, 48), (5e-3, 5e-3))
    assert ["--sensitivities" in str(each.message) for each in caught] == [True] * warned
