import dataclasses
import importlib.resources

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest
from scipy import ndimage

from ganmrf.imaging.phantom import PURE, TISSUES, Brain, acquire, add_noise, add_noise_in, digital_brain, noise_std
from ganmrf.physics import epg
from ganmrf.physics.sequences.blocks import simulate_voxel
from ganmrf.physics.sequences.bssfp import Bssfp
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.tissue import Tissue

WHITE, SKULL, SCALP = 0, 3, 4


@pytest.fixture(scope="module")
def brain():
    return digital_brain()


@pytest.fixture(scope="module")
def small():
    return digital_brain(size=24, b1_variation=0.2)


def by_hand(sequence, t1, t2, b1):
    """One voxel's transverse magnetisation over -1j, from the operators, every order kept."""
    states = epg.equilibrium(sequence.n_frames)
    states = epg.relax(epg.invert(states), sequence.inversion_time, t1, t2)
    signal = []
    for flip, tr, te in zip(sequence.flip_angle, sequence.repetition_time, sequence.echo_time, strict=True):
        states = epg.relax(epg.excite(states, b1 * flip), te, t1, t2)
        signal.append(1j * states.f_plus[0])
        states = epg.dephase(epg.relax(states, tr - te, t1, t2))
    return np.array(signal)


def one_voxel(fractions, **changes):
    """A brain of one voxel with the given fractions."""
    count = len(fractions)
    fields = {
        "fractions": np.reshape(fractions, (count, 1, 1)),
        "tissue": Tissue(np.linspace(0.5, 1, count).reshape(count, 1, 1), np.full((count, 1, 1), 0.05)),
        "proton_density": np.ones(count),
        "phase": np.zeros((1, 1)),
        "affine": np.eye(4),
        "tissue_names": ("white matter", "grey matter", "CSF")[:count],
    }
    return Brain(**(fields | changes))


@hypothesis.settings(max_examples=6)
@hypothesis.given(st.integers(1, 40), st.floats(0.05, 0.5), st.integers(0, 9))
def test_fractions_are_shares_of_a_voxel_and_t2_never_exceeds_t1(size, field_of_view, seed):
    brain = digital_brain(size=size, field_of_view=field_of_view, variation=0.49, seed=seed)
    assert brain.fractions.shape == (5, size, size)
    assert brain.fractions.min() >= 0
    assert brain.fractions.sum(axis=0).max() <= 1 + 1e-6  # five float32 roundings
    assert np.all(brain.tissue.t2 <= brain.tissue.t1)


def test_coarse_voxels_hold_the_mean_of_the_fine_ones_they_cover(brain):
    coarse = digital_brain(size=32).fractions
    # 3 against 19 sample points along a voxel's edge: each mean is good to about 1 / (2 * 3 * 8) of the steepest edge.
    np.testing.assert_allclose(coarse, brain.fractions.reshape(5, 32, 8, 32, 8).mean(axis=(2, 4)), atol=0.02)


def test_the_slice_is_as_large_as_a_head_and_its_tissues_lie_in_order(brain):
    pixel_cm2 = 1e4 * brain.voxel_size[0] * brain.voxel_size[1]
    white, grey, csf, *_ = brain.fractions.sum(axis=(1, 2)) * pixel_cm2
    # Axial slice at the ventricles: 14 x 17.5 cm of brain or so; grey and white about equal, CSF a tenth or so.
    assert 120 < white + grey + csf < 220
    assert 0.7 < grey / white < 1.4
    assert 0.05 < csf / (white + grey) < 0.25
    assert brain.voxel_size == pytest.approx((0.3 / 256, 0.3 / 256, 5e-3))
    outward = brain.labels[128, 128 + np.argmax(brain.labels[128, 128:] == SKULL) :]
    assert list(dict.fromkeys(outward[outward >= 0])) == [SKULL, SCALP]
    assert brain.mask[brain.brain_mask].all()
    assert not brain.brain_mask[brain.labels >= SKULL].any()


def test_a_template_voxel_lands_on_its_pixel_with_the_front_up_and_the_right_side_left(brain):
    with importlib.resources.files("ganmrf.data").joinpath("mni152_slab.npz").open("rb") as file, np.load(file) as slab:
        white, affine = slab["wm"][..., 2:8], slab["affine"]
    # White matter all around and through the slice, where the mirror image front to back has none. (Left and right are
    # alike in this template: only the signs below tell them apart.)
    everywhere = ndimage.binary_erosion((white >= 250).all(axis=2), np.ones((3, 3)))
    landmarks = np.argwhere(everywhere & (white[:, ::-1] == 0).all(axis=2))
    assert len(landmarks) > 20
    for x, y in landmarks:
        column, row, *_ = np.linalg.solve(brain.affine, affine @ [x, y, 4.5, 1])
        assert brain.fractions[WHITE, round(row), round(column)] >= 0.95
    np.testing.assert_allclose(brain.affine[:3, :3] * [1, 1, 0], [[-300 / 256, 0, 0], [0, -300 / 256, 0], [0, 0, 0]])
    # Slice centre: the middle of the slab, 17.5 mm above the origin; the plane's centre is that of the slab.
    np.testing.assert_allclose(brain.affine @ [127.5, 127.5, 0, 1], [0, -18, 17.5, 1])


def test_tissues_take_literature_values_that_vary_smoothly(brain):
    still = digital_brain(size=8, variation=0)
    for index, (t1, t2, proton_density) in enumerate(TISSUES.values()):
        np.testing.assert_allclose(still.tissue.t1[index], t1, rtol=1e-6)  # float32
        np.testing.assert_allclose(still.tissue.t2[index], t2, rtol=1e-6)
        assert still.proton_density[index] == pytest.approx(proton_density)
        ratio = np.asarray(brain.tissue.t1[index]) / t1
        assert np.abs(ratio - 1).max() <= 0.1 + 1e-6  # cut at two standard deviations of 0.05
        # A field of correlation length 26 pixels: some hundred independent patches of standard deviation 0.05, and a
        # slope of 0.05 / 26 a pixel, seldom above 5 times that.
        assert 0.03 < ratio.std() < 0.07
        assert np.abs(np.diff(ratio)).max() < 5 * 0.05 / 26
    patterns = np.concatenate([brain.tissue.t1, brain.tissue.t2]).reshape(10, -1)
    assert np.abs(np.corrcoef(patterns) - np.eye(10)).max() < 0.6  # a field each: chance correlations only


def test_seeds_repeat_and_differ_and_leave_the_anatomy_alone(small):
    again, other = (digital_brain(size=24, b1_variation=0.2, seed=seed) for seed in (0, 1))
    jax.tree.map(np.testing.assert_array_equal, again, small)
    np.testing.assert_array_equal(other.fractions, small.fractions)
    assert not np.allclose(other.tissue.t1, small.tissue.t1)
    assert not np.allclose(other.tissue.t2, small.tissue.t2)
    assert not np.allclose(other.phase, small.phase)


def test_fields_do_not_depend_on_the_matrix_size():
    # An odd matrix refined three times shares its pixel centres with the coarse one.
    coarse, fine = digital_brain(size=9, seed=3), digital_brain(size=27, seed=3)
    np.testing.assert_allclose(fine.tissue.t1[:, 1::3, 1::3], coarse.tissue.t1, rtol=1e-6)  # float32
    np.testing.assert_allclose(fine.phase[1::3, 1::3], coarse.phase, atol=1e-6)


def test_b1_is_highest_at_the_centre_and_uniform_by_default(brain):
    assert brain.tissue.b1 == 1.0
    b1 = np.asarray(digital_brain(size=65, b1_variation=0.2).tissue.b1)
    assert b1.shape == (65, 65)
    assert b1[32, 32] == b1.max() == pytest.approx(1.2)
    assert b1.min() == pytest.approx(0.8)


@hypothesis.given(st.floats(0, 1), st.floats(0, 1))
def test_a_voxel_has_a_truth_where_one_tissue_fills_95_percent(first, share_of_rest):
    brain = one_voxel([first, (1 - first) * share_of_rest])
    t1, t2 = brain.truth()
    pure = np.flatnonzero(brain.fractions.ravel() >= PURE)
    assert brain.labels[0, 0] == (pure[0] if pure.size else -1)
    assert t1[0, 0] == brain.tissue.t1[pure[0], 0, 0] if pure.size else np.isnan(t1[0, 0])
    assert t2[0, 0] == brain.tissue.t2[pure[0], 0, 0] if pure.size else np.isnan(t2[0, 0])


def test_every_tissue_has_pure_voxels_and_its_own_truth(brain):
    t1, _ = brain.truth()
    for index, (mean, *_) in enumerate(TISSUES.values()):
        here = brain.labels == index
        assert here.sum() > 200
        assert np.abs(t1[here] / mean - 1).max() <= 0.1 + 1e-6  # cut at two standard deviations of 0.05


def test_a_mixed_voxel_is_the_sum_of_its_tissues_signals(small):
    sequence = mrf_fisp(20)
    images = acquire(small, sequence)
    assert images.dtype == np.complex64
    assert images.shape == (20, 24, 24)
    np.testing.assert_array_equal(images[:, small.fractions.sum(axis=0) == 0], 0)
    y, x = np.unravel_index(np.argmax(np.sort(small.fractions, axis=0)[-2]), small.mask.shape)
    weights = small.fractions[:, y, x] * small.proton_density
    assert np.sum(small.fractions[:, y, x] > 0.2) >= 2
    t1, t2, b1 = small.tissue.t1[:, y, x], small.tissue.t2[:, y, x], small.tissue.b1[y, x]
    expected = sum(w * by_hand(sequence, *times, b1) for w, *times in zip(weights, t1, t2, strict=True) if w > 0)
    expected = expected * np.exp(1j * small.phase[y, x])
    error = np.linalg.norm(images[:, y, x] - expected) / np.linalg.norm(expected)
    assert error < 1e-5  # float32 over 20 frames
    averaged = by_hand(sequence, weights @ t1 / weights.sum(), weights @ t2 / weights.sum(), b1)
    averaged = averaged * weights.sum() * np.exp(1j * small.phase[y, x])
    # One tissue of mean T1 and T2 is another signal, a hundred times farther away than rounding.
    assert np.linalg.norm(averaged - expected) / np.linalg.norm(expected) > 1e-3


@pytest.mark.parametrize("whole", [True, False])
def test_signals_and_noise_of_some_voxels_are_those_of_the_images(small, whole):
    mask = np.ones_like(small.brain_mask) if whole else small.brain_mask
    images, signals = acquire(small, mrf_fisp(20)), acquire(small, mrf_fisp(20), mask=mask)
    np.testing.assert_array_equal(signals, images[:, mask])
    noisy = add_noise(images, 5.0, mask=mask, seed=3)
    np.testing.assert_array_equal(add_noise_in(signals, 5.0, mask=mask, seed=3), noisy[:, mask])


def test_noise_has_the_stated_snr_everywhere(small):
    images = (np.linspace(0.1, 1, 50)[:, None, None] * small.fractions.sum(axis=0)).astype(np.complex64)
    noise = add_noise(images, 10.0, mask=small.brain_mask, seed=1) - images
    rms = np.sqrt(np.mean(np.abs(images[:, small.brain_mask]) ** 2))
    for part in (noise.real, noise.imag, noise.real[:, ~small.mask], noise.imag[:, small.brain_mask]):
        # The standard deviation of n normal numbers is known to 1 / sqrt(2 n); five of those.
        assert rms / part.std() == pytest.approx(10.0, rel=5 / np.sqrt(2 * part.size))
        assert abs(part.mean()) < 5 * part.std() / np.sqrt(part.size)
    assert abs(np.corrcoef(noise.real.ravel(), noise.imag.ravel())[0, 1]) < 5 / np.sqrt(noise.size)


def test_noise_is_the_root_mean_square_signal_over_the_ratio():
    signals = np.array([[3j, 4.0], [0, 5.0]])
    assert noise_std(signals, 10.0) == pytest.approx(np.sqrt(50 / 4) / 10)
    assert noise_std(iter(signals), 10.0) == noise_std(signals, 10.0)


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_noise_repeats_with_its_seed_and_keeps_the_dtype(dtype):
    images, mask = np.ones((3, 4, 4), dtype), np.ones((4, 4), bool)
    first, again, other = (add_noise(images, 5, mask=mask, seed=seed) for seed in (0, 0, 1))
    assert first.dtype == dtype
    np.testing.assert_array_equal(first, again)
    assert not np.isclose(first, other).any()


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("size", 0),
        ("size", 2.5),
        ("field_of_view", 0.0),
        ("field_of_view", np.inf),
        ("variation", 0.5),
        ("variation", -0.1),
        ("b1_variation", 1.0),
        ("seed", -1),
    ],
)
def test_bad_arguments_are_named(keyword, value):
    with pytest.raises(ValueError, match=rf"^{keyword} must be .*; got {value:.6g}$"):
        digital_brain(**{keyword: value})


def test_bad_noise_is_named():
    images, mask = np.ones((2, 3, 3), np.complex64), np.ones((3, 3), bool)
    for snr in (0, -1, np.nan):
        with pytest.raises(ValueError, match="snr must be positive"):
            add_noise(images, snr, mask=mask)
    with pytest.raises(ValueError, match="images must be complex; got dtype float32"):
        add_noise(images.real, 1, mask=mask)
    for wrong in (mask[:2], ~mask, mask.astype(int)):
        with pytest.raises(ValueError, match="mask must be bool"):
            add_noise(images, 1, mask=wrong)


def test_a_brain_that_does_not_fit_together_is_refused():
    with pytest.raises(ValueError, match=r"Brain.fractions must be within 0 to 1; got 1.2 at index 0, 0, 0"):
        one_voxel([1.2, 0.1])
    with pytest.raises(ValueError, match=r"Brain: .* phase \(2, 1\)"):
        one_voxel([0.5, 0.5], phase=np.zeros((2, 1)))
    with pytest.raises(ValueError, match="1 names"):
        dataclasses.replace(one_voxel([0.5, 0.5]), tissue_names=("CSF",))


def test_b0_is_smooth_and_highest_in_front_and_leaves_the_rest_alone(small):
    brain = digital_brain(size=24, b1_variation=0.2, b0_variation=20.0)
    jax.tree.map(np.testing.assert_array_equal, dataclasses.replace(brain.tissue, off_resonance=None), small.tissue)
    b0 = np.asarray(digital_brain(b0_variation=20.0).tissue.off_resonance)
    # A field that stays within 10 Hz, and 20 Hz in the middle of the front: their sum's top is in front.
    assert np.abs(b0[200:]).max() <= 10
    row, column = np.unravel_index(b0.argmax(), b0.shape)
    assert (50 < row < 90, 100 < column < 156) == (True, True)  # 70 mm before the centre: row 68 of 256
    # It falls from 20 Hz by exp(-1/2) within 20 mm, 17 pixels: 20 / 17 / sqrt(e) a pixel, and the field's slope.
    assert np.abs(np.diff(b0, axis=0)).max() < 1.2
    with pytest.raises(ValueError, match="b0_variation must be 0 or more"):
        digital_brain(size=8, b0_variation=-1.0)


def test_voxels_off_resonance_have_the_signal_of_their_frequency():
    sequence = Bssfp(np.deg2rad(np.linspace(10, 60, 12)), 0.01)
    tissue = Tissue(np.full((1, 1, 1), 0.8), np.full((1, 1, 1), 0.08), off_resonance=np.full((1, 1), 12.0))
    images = acquire(one_voxel([1.0], tissue=tissue), sequence)
    expected = simulate_voxel(sequence, 0.8, 0.08, off_resonance=12.0)
    assert np.iscomplexobj(expected)
    np.testing.assert_allclose(images[:, 0, 0], expected, atol=2e-6)  # float32
