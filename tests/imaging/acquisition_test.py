"""Samples of single voxels are plane waves; off-resonance turns them as the exact sum has it."""

import numpy as np
import pytest

from ganmrf.imaging.acquisition import add_thermal_noise, sample_kspace

SHAPE, VOXEL_SIZE = (20, 26), (5e-3, 4e-3)
ACCURACY = 1e-4  # of the NUFFT
TIMES = 6e-3 * (np.arange(200) + 0.5) / 200


def complex_normal(rng, *shape):
    return (rng.standard_normal((*shape, 2), np.float32).view(np.complex64)[..., 0]).copy()


@pytest.fixture(scope="module")
def scan():
    """Images of 3 frames, 2 sensitivities and a trajectory, at random."""
    rng = np.random.default_rng(0)
    trajectory = rng.uniform(-0.5, 0.5, (3, 200, 2)) / VOXEL_SIZE[::-1]
    return complex_normal(rng, 3, *SHAPE), complex_normal(rng, 2, *SHAPE), trajectory.astype(np.float32)


def places():
    """y and x of the voxels, m."""
    y, x = (size * (np.arange(count) - count // 2) for count, size in zip(SHAPE, VOXEL_SIZE, strict=True))
    return np.meshgrid(y, x, indexing="ij")


def relative(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


def test_one_voxel_is_a_plane_wave_times_its_sensitivity(scan):
    _, sensitivities, trajectory = scan
    images = np.zeros((3, *SHAPE), np.complex64)
    images[:, 4, 18] = 1, 2j, -3
    y, x = (place[4, 18] for place in places())
    wave = np.exp(-2j * np.pi * (trajectory[..., 0] * x + trajectory[..., 1] * y))
    expected = np.array([1, 2j, -3])[:, None, None] * sensitivities[:, 4, 18, None] * wave[:, None]
    kspace = sample_kspace(images, sensitivities, trajectory, VOXEL_SIZE)
    assert kspace.dtype == np.complex64
    assert relative(kspace, expected) < ACCURACY


def test_sampling_is_linear(scan):
    images, sensitivities, trajectory = scan
    other = images[::-1] * 1j
    options = {"off_resonance": np.linspace(-50, 80, images[0].size).reshape(SHAPE), "times": TIMES}
    separate = [sample_kspace(i, sensitivities, trajectory, VOXEL_SIZE, **options) for i in (images, other)]
    both = sample_kspace(images - 3 * other, sensitivities, trajectory, VOXEL_SIZE, **options)
    assert relative(both, separate[0] - 3 * separate[1]) < 1e-5  # float32


@pytest.mark.parametrize("extremes", [(-100, 100), (-20, 430)])
def test_off_resonance_is_the_exact_sum(scan, extremes):
    images, sensitivities, trajectory = scan
    y, x = places()
    across = (y / y.max() + x / x.max() + 0.3 * np.sin(200 * x)).ravel()
    field = np.interp(across, [across.min(), across.max()], extremes).reshape(SHAPE)
    points = trajectory.astype(float)
    expected = np.empty((3, 2, 200), complex)
    for frame, image in enumerate(images):
        phases = np.multiply.outer(TIMES, field) - np.multiply.outer(points[frame, :, 0], x)
        phases -= np.multiply.outer(points[frame, :, 1], y)
        expected[frame] = np.einsum("syx,cyx->cs", np.exp(2j * np.pi * phases), sensitivities * image)
    kspace = sample_kspace(images, sensitivities, trajectory, VOXEL_SIZE, off_resonance=field, times=TIMES)
    assert relative(kspace, expected) < 2 * ACCURACY  # as much again of the segments
    still = sample_kspace(images, sensitivities, trajectory, VOXEL_SIZE)
    assert relative(still, expected) > 0.5


def test_a_constant_field_turns_all_voxels_alike(scan):
    images, sensitivities, trajectory = scan
    still = sample_kspace(images, sensitivities, trajectory, VOXEL_SIZE)
    for frequency in (0.0, 37.0):
        field = np.full(SHAPE, frequency)
        kspace = sample_kspace(images, sensitivities, trajectory, VOXEL_SIZE, off_resonance=field, times=TIMES)
        assert relative(kspace, still * np.exp(2j * np.pi * frequency * TIMES)) < 1e-5  # float32
    late = sample_kspace(images, sensitivities, trajectory, VOXEL_SIZE, off_resonance=field, times=TIMES + 2e-3)
    assert relative(late, kspace * np.exp(2j * np.pi * 37.0 * 2e-3)) < 1e-5


def test_what_does_not_fit_is_named(scan):
    images, sensitivities, trajectory = scan
    field = np.zeros(SHAPE)
    with pytest.raises(ValueError, match=r"^trajectory must be \(3, samples, 2\), a frame an image; got \(2, 200, 2\)"):
        sample_kspace(images, sensitivities, trajectory[:2], VOXEL_SIZE)
    with pytest.raises(ValueError, match=r"^sensitivities have shape \(2, 20, 25\), but the images have \(20, 26\)"):
        sample_kspace(images, sensitivities[..., 1:], trajectory, VOXEL_SIZE)
    for options in ({"off_resonance": field}, {"times": TIMES}):
        with pytest.raises(ValueError, match="off_resonance and times go together"):
            sample_kspace(images, sensitivities, trajectory, VOXEL_SIZE, **options)
    for options in ({"off_resonance": field.T, "times": TIMES}, {"off_resonance": field, "times": TIMES[:5]}):
        with pytest.raises(ValueError, match=r"^off_resonance must be \(20, 26\) and times \(200,\); got"):
            sample_kspace(images, sensitivities, trajectory, VOXEL_SIZE, **options)


def test_noise_of_cartesian_samples_has_the_stated_snr_in_the_image(scan):
    images = 3 * scan[0][:2]
    mask = np.zeros(SHAPE, bool)
    mask[5:15, 5:20] = True
    images[:, ~mask] = 0
    kspace = np.fft.fft2(images).astype(np.complex64).reshape(2, 1, -1).repeat(8, axis=1)  # 8 coils
    noise = add_thermal_noise(kspace, 10.0, images, mask=mask, seed=1) - kspace
    rms = np.sqrt(np.mean(np.abs(images[:, mask]) ** 2))
    in_image = np.fft.ifft2(noise.reshape(2, 8, *SHAPE))
    for part in (in_image.real, in_image.imag, in_image[0].real, in_image[:, 3].imag):
        # The standard deviation of n normal numbers is known to 1 / sqrt(2 n); five of those.
        assert rms / part.std() == pytest.approx(10.0, rel=5 / np.sqrt(2 * part.size))
    samples = noise.transpose(1, 0, 2).reshape(8, -1)
    covariance = samples @ samples.conj().T / np.mean(np.abs(samples) ** 2) / samples.shape[1]
    assert np.abs(covariance - np.eye(8)).max() < 5 / np.sqrt(samples.shape[1])  # coils have noise of their own


def test_noise_repeats_with_its_seed_and_leaves_the_samples_alone(scan):
    images, mask = scan[0], np.ones(SHAPE, bool)
    kspace = np.ones((3, 2, 50), np.complex64)
    first, again, other = (add_thermal_noise(kspace, 5, images, mask=mask, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.isclose(first, other).any()
    assert (kspace == 1).all()
    assert first.dtype == np.complex64
    for snr in (0, -1, np.nan):
        with pytest.raises(ValueError, match="snr must be positive"):
            add_thermal_noise(kspace, snr, images, mask=mask)
    for wrong in (mask[1:], ~mask):
        with pytest.raises(ValueError, match=r"mask must be \(20, 26\) with a voxel at least"):
            add_thermal_noise(kspace, 5, images, mask=wrong)
