"""The scanner's samples are what the signal equation says, its noise what the signal-to-noise ratio says."""

import functools
import types

import numpy as np
import pytest

from ganmrf.imaging.coils import head_array
from ganmrf.imaging.trajectory import design_spiral, rotated, rotation_angles
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate
from ganmrf.physics.tissue import Tissue
from ganmrf.scanner import Scanner

SIZE, FOV, FRAMES, COILS = 40, 0.22, 80, 4
SEQUENCE = mrf_fisp(FRAMES)


@functools.cache
def trajectory():
    """Spirals as `simulate_acquisition` turns them, 6 of them filling k-space, (frames, samples, 2)."""
    spiral = design_spiral(matrix=SIZE, field_of_view=FOV, interleaves=6)
    return rotated(spiral.k, rotation_angles(FRAMES, "uniform", interleaves=6))


def scan(seed=0, snr=0, **fields):
    scanner = Scanner(SIZE, FOV, coils=COILS, **fields)
    found = scanner.sample(SEQUENCE, trajectory(), seed=seed).with_noise(snr, seed)
    return found.brain, found.images, found.raw


def direct(images, points, off_resonance=0.0, times=0.0):
    """The signal equation summed voxel by voxel in double precision: a coil's samples of one frame."""
    place = FOV / SIZE * (np.arange(SIZE) - SIZE // 2)
    away = points[:, 0, None, None] * place + points[:, 1, None, None] * place[:, None]
    turned = away - off_resonance * np.broadcast_to(times, len(points))[:, None, None]
    return np.einsum("cyx,syx->cs", images, np.exp(-2j * np.pi * turned))


@pytest.fixture(scope="module")
def silent():
    """A scan without noise: the brain, its images and its raw data."""
    return scan()


def test_without_noise_the_samples_are_the_signal_equations(silent):
    brain, images, raw = silent
    assert images.shape == (FRAMES, SIZE, SIZE)
    assert raw.kspace.shape == (FRAMES, COILS, raw.trajectory.shape[1])
    coils = head_array(COILS, SIZE, FOV)
    for frame in (0, 7, FRAMES - 1):
        expected = direct(coils * images[frame], raw.trajectory[frame].astype(float))
        error = np.linalg.norm(raw.kspace[frame] - expected) / np.linalg.norm(expected)
        assert error < 1e-4  # the NUFFT's accuracy
    np.testing.assert_array_equal(raw.affine, brain.affine)
    assert (raw.matrix, raw.field_of_view) == ((SIZE, SIZE), (FOV, FOV))
    assert raw.dwell_time == pytest.approx(4e-6)
    np.testing.assert_array_equal(raw.sequence.flip_angle, SEQUENCE.flip_angle)


def test_the_seed_is_that_of_noise_and_brain(silent):
    brain, images, clean = silent
    _, again, first = scan(snr=5)
    _, _, second = scan(snr=5)
    np.testing.assert_array_equal(again, images)
    # The NUFFT adds in the order in which its threads come: equal to 1e-5 of the largest sample.
    rounding = 1e-5 * np.abs(clean.kspace).max()
    np.testing.assert_allclose(second.kspace, first.kspace, rtol=0, atol=rounding)
    noise = first.kspace - clean.kspace
    _, other_images, other = scan(seed=1, snr=5)
    assert np.abs(other_images - images).max() > 1e-2 * np.abs(images).max()
    # The noise of one seed and the samples of the other: 0.24, were it the same noise.
    share = np.abs(np.vdot(noise, other.kspace)) / np.linalg.norm(noise) / np.linalg.norm(other.kspace)
    assert share < 5 / np.sqrt(noise.size)  # 5 standard deviations of independent draws
    # As the flag says: of an image sampled once on the grid, whose transform of n voxels has n times their variance.
    signal = np.sqrt(np.mean(np.abs(images[:, brain.brain_mask]) ** 2))
    assert noise.real.std() == pytest.approx(signal * SIZE / 5, rel=0.02)  # 100,000 draws


def test_off_resonance_turns_the_signal_as_time_passes(silent):
    _, images, clean = silent
    _, _, raw = scan(off_resonance=100.0)
    # As documented: 100 Hz at the sinuses, 70 mm anterior of the centre, with a Gaussian of 20 mm.
    place = FOV * ((np.arange(SIZE) + 0.5) / SIZE - 0.5)
    field = 100 * np.exp(-((place[:, None] + 0.07) ** 2 + place**2) / (2 * 0.02**2))
    times = 4e-6 * (np.arange(raw.trajectory.shape[1]) + 0.5)
    coils = head_array(COILS, SIZE, FOV)
    expected = direct(coils * images[5], raw.trajectory[5].astype(float), field, times)
    # The NUFFT's accuracy, and that of the phase factors.
    assert np.linalg.norm(raw.kspace[5] - expected) < 3e-4 * np.linalg.norm(expected)
    assert np.linalg.norm(raw.kspace[5] - clean.kspace[5]) > 1e-2 * np.linalg.norm(expected)


def test_b1_reaches_the_images():
    brain, images, _ = scan(b1_variation=0.3, variation=0.0)
    place = FOV * ((np.arange(SIZE) + 0.5) / SIZE - 0.5)
    b1 = 1 + 0.3 * (1 - 2 * (place[:, None] ** 2 + place**2) / 0.1**2)
    pure = brain.fractions[0] > 0.99  # white matter
    y, x = np.unravel_index(np.argmax(np.where(pure, np.abs(b1 - 1), 0)), pure.shape)
    assert abs(b1[y, x] - 1) > 0.1

    def agreement(b1):
        signal = np.asarray(simulate(SEQUENCE, Tissue(0.832, 0.0792, b1)))
        return np.abs(np.vdot(signal, images[:, y, x])) / np.linalg.norm(signal) / np.linalg.norm(images[:, y, x])

    assert agreement(b1[y, x]) > 1 - 1e-4  # a percent of another tissue at most
    assert agreement(1.0) < 1 - 1e-3


@pytest.mark.parametrize("snr", [-1.0, float("nan")])
def test_an_snr_is_not_negative(snr):
    found = Scanner(SIZE, FOV).image(mrf_fisp(2))
    with pytest.raises(ValueError, match=r"snr must be 0 \(no noise\) or more; got"):
        found.with_noise(snr)


def test_perfect_images_are_those_that_the_coils_see(silent):
    brain, images, _ = silent
    found = Scanner(SIZE, FOV).image(SEQUENCE, seed=0)
    np.testing.assert_array_equal(found.images, images)
    assert found.with_noise(0) is found
    noise = found.with_noise(5, seed=3).images - images
    signal = np.sqrt(np.mean(np.abs(images[:, brain.brain_mask]) ** 2))
    assert noise.real.std() == pytest.approx(signal / 5, rel=0.02)  # 100,000 draws


def test_a_brain_of_too_few_voxels_is_refused():
    with pytest.raises(ValueError, match="size = 1 is too coarse"):
        Scanner(1).image(SEQUENCE)


def test_a_scan_that_does_not_fit_is_refused_with_both_figures(monkeypatch):
    monkeypatch.setattr("psutil.virtual_memory", lambda: types.SimpleNamespace(available=1e9))
    # Images and samples alone, 8 bytes each, are 0.5 and 0.3 GB; both are held more than once.
    with pytest.raises(ValueError, match=r"a scan of 256 x 256 needs 2\.\d GB of memory, but 1.0 GB are there"):
        Scanner().require_memory(1000, 2000)
    monkeypatch.setattr("psutil.virtual_memory", lambda: types.SimpleNamespace(available=4e9))
    Scanner().require_memory(1000, 2000)


def test_the_brains_b0_turns_signal_and_readout():
    brain, images, raw = scan(b0_variation=50.0)
    field = np.asarray(brain.tissue.off_resonance)
    assert np.ptp(field) > 20
    assert np.abs(images.imag).max() > 0
    times = 4e-6 * (np.arange(raw.trajectory.shape[1]) + 0.5)
    expected = direct(head_array(COILS, SIZE, FOV) * images[5], raw.trajectory[5].astype(float), field, times)
    assert np.linalg.norm(raw.kspace[5] - expected) < 3e-4 * np.linalg.norm(expected)  # as above
