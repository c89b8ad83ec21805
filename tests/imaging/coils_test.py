"""Fields of loops by closed form and symmetry; virtual coils by the energy they keep; noise by its covariance."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from ganmrf.imaging.coils import compress_coils, head_array, prewhiten

LOOP_RADIUS, ARRAY_RADIUS = 0.045, 0.14  # m, of the array


def complex_normal(rng, *shape):
    return (rng.standard_normal((*shape, 2), np.float32).view(np.complex64)[..., 0]).copy()


def test_field_falls_along_the_axis_of_a_loop_as_the_closed_form_has_it():
    size, field_of_view = 41, 0.2
    (field,) = head_array(1, size, field_of_view)
    distance = ARRAY_RADIUS - field_of_view * (np.arange(size) - size // 2) / size  # along x, where y is 0
    on_axis = field[size // 2]
    expected = (LOOP_RADIUS**2 + distance**2) ** -1.5
    # Wire in 64 straight pieces is nearer to the axis by (pi / 64)^2 / 2, 1.2e-3, which counts up to three times.
    np.testing.assert_allclose(on_axis / on_axis[20], expected / expected[20], rtol=3e-3)
    np.testing.assert_allclose(field, np.conj(field[::-1]), atol=1e-6)  # above and below the axis By is opposite


@pytest.mark.parametrize("n_coils", [4, 8])
def test_a_quarter_turn_of_the_array_is_the_array(n_coils):
    fields = head_array(n_coils, 33, 0.24)
    for coil in range(n_coils):
        # x + iy turns by i, and so does Bx + iBy; rows along y make it a turn of the array from axis 1 to axis 0.
        turned = -1j * np.rot90(fields[coil], -1)
        np.testing.assert_allclose(fields[(coil + n_coils // 4) % n_coils], turned, atol=1e-5)  # float32


def test_coils_see_their_own_side_and_together_the_whole_head():
    fields = head_array(8, 64, 0.3)
    assert fields.dtype == np.complex64
    assert fields.shape == (8, 64, 64)
    position = 0.3 * (np.arange(64) - 32) / 64
    inside = np.hypot(position[:, None], position) <= 0.09
    together = np.linalg.norm(fields, axis=0)
    assert together[inside].mean() == pytest.approx(1, rel=1e-6)
    ring = np.abs(np.hypot(position[:, None], position) - 0.08) < 0.004
    angle = np.arctan2(position[:, None], position)
    for coil, field in enumerate(np.abs(fields)):
        strongest = np.argmax(np.where(ring, field, 0))
        away = angle.ravel()[strongest] - 2 * np.pi * coil / 8
        assert abs(np.angle(np.exp(1j * away))) < 0.1  # rad: a voxel of the ring is 0.06
    correlation = np.abs(np.corrcoef(fields[:, inside])) - np.eye(8)
    assert correlation.max() < 0.9  # each sees something of its own


def test_fields_do_not_depend_on_the_grid():
    coarse, fine = head_array(3, 16, 0.24), head_array(3, 48, 0.24)
    ratio = fine[:, ::3, ::3] / coarse
    # The places are the same, and so is the array; only the mean over the head is taken over other voxels.
    np.testing.assert_allclose(ratio, ratio[0, 0, 0], rtol=1e-5)
    assert ratio[0, 0, 0] == pytest.approx(1, abs=0.05)


@hypothesis.given(st.integers(2, 8), st.integers(1, 5), st.integers(0, 99), st.data())
def test_virtual_coils_keep_the_share_of_energy_that_they_say(n_coils, n_frames, seed, data):
    kept = data.draw(st.integers(1, n_coils))
    rng = np.random.default_rng(seed)
    kspace = np.einsum("cd,fds->fcs", complex_normal(rng, n_coils, n_coils), complex_normal(rng, n_frames, n_coils, 30))
    virtual, share = compress_coils(kspace, kept)
    assert virtual.shape == (n_frames, kept, 30)
    assert virtual.dtype == np.complex64
    rounding = 1e-5
    assert share == pytest.approx(np.linalg.norm(virtual) ** 2 / np.linalg.norm(kspace) ** 2, rel=rounding)
    everything = kspace.transpose(1, 0, 2).reshape(n_coils, -1).astype(complex)
    singular = np.linalg.svd(everything, compute_uv=False) ** 2
    assert share == pytest.approx(singular[:kept].sum() / singular.sum(), rel=rounding)  # no others keep more
    together = virtual.transpose(1, 0, 2).reshape(kept, -1)
    covariance = together @ together.conj().T
    np.testing.assert_allclose(covariance, np.diag(singular[:kept]), atol=rounding * singular[0])


def test_redundant_coils_are_compressed_without_loss():
    rng = np.random.default_rng(0)
    kspace = np.einsum("cd,fds->fcs", complex_normal(rng, 8, 3), complex_normal(rng, 4, 3, 50))
    virtual, share = compress_coils(kspace, 3)
    assert share == pytest.approx(1, abs=1e-6)  # float32
    everything, few = (k.transpose(1, 0, 2).reshape(k.shape[1], -1) for k in (kspace, virtual))
    mixing = np.linalg.lstsq(few.T, everything.T, rcond=None)[0].T
    np.testing.assert_allclose(mixing @ few, everything, atol=1e-4)  # float32, of values up to 10
    np.testing.assert_allclose(mixing.conj().T @ mixing, np.eye(3), atol=1e-5)  # noise stays white and as it was


def receivers(n_coils):
    """Mixing of white noise by receivers: neighbours are correlated, the noisiest has five times the least's."""
    deviation = np.geomspace(1, 5, n_coils)[np.random.default_rng(1).permutation(n_coils)]
    correlation = 0.6 ** np.abs(np.subtract.outer(np.arange(n_coils), np.arange(n_coils)))
    return np.linalg.cholesky(np.outer(deviation, deviation) * correlation)


@pytest.mark.parametrize("n_coils", [1, 2, 8])
def test_noise_is_white_after_prewhitening(n_coils):
    rng = np.random.default_rng(0)
    noise = (receivers(n_coils) @ complex_normal(rng, n_coils, 500)).astype(np.complex64) + np.complex64(3 - 2j)
    white = prewhiten(np.stack([noise, 2 * noise]), noise)
    assert white.dtype == np.complex64
    rounding = 1e-5
    np.testing.assert_allclose(np.atleast_2d(np.cov(white[0])), np.eye(n_coils), atol=rounding)
    np.testing.assert_allclose(white[1], 2 * white[0], rtol=rounding)


def test_prewhitening_gives_images_the_best_snr():
    """Correlated, unequal coils: combined images have the noise of the closed forms, with and without."""
    n_coils, size, rng = 8, 32, np.random.default_rng(0)
    mixing, sensitivities = receivers(n_coils), head_array(n_coils, size, 0.24).reshape(n_coils, -1)
    noise = (mixing @ complex_normal(rng, n_coils, 4000)).astype(np.complex64)
    scan = sensitivities + (mixing @ complex_normal(rng, 20, n_coils, size**2)).astype(np.complex64)  # of ones

    def error(kspace, coils):
        image = np.sum(coils.conj() * kspace, axis=1) / np.sum(np.abs(coils) ** 2, axis=0)
        return np.sqrt(np.mean(np.abs(image - 1) ** 2))

    covariance = 2 * mixing @ mixing.T  # real and imaginary part
    plain = np.einsum("cv,cd,dv->v", sensitivities.conj(), covariance, sensitivities).real
    best = np.einsum("cv,cd,dv->v", sensitivities.conj(), np.linalg.inv(covariance), sensitivities).real
    without = error(scan, sensitivities)
    with_it = error(prewhiten(scan, noise), prewhiten(sensitivities[None], noise)[0])
    # 20 images of 1024 voxels have the error to 1 %; a covariance from 4000 samples costs 0.1 %.
    assert without == pytest.approx(np.sqrt(np.mean(plain / np.sum(np.abs(sensitivities) ** 2, axis=0) ** 2)), rel=0.02)
    assert with_it == pytest.approx(np.sqrt(np.mean(1 / best)), rel=0.02)
    assert 1.5 * with_it < without


def test_noise_that_whitens_nothing_is_refused():
    rng = np.random.default_rng(0)
    kspace, noise = complex_normal(rng, 2, 4, 6), complex_normal(rng, 4, 20)
    for wrong, words in (
        (noise[:3], "noise has 3 coils, but k-space has 4"),
        (noise[:, :19], "noise has 19 samples, but 4 coils need 20"),
        (noise * np.array([[1], [0], [1], [0]]), "noise: 2 of 4 coils have none, first coil 1"),
        (np.full_like(noise, 1e-3), "noise: 4 of 4 coils have none, first coil 0"),
        (noise[[0, 1, 2, 1]], "noise: that of some of the 4 coils is a sum of that of others"),
    ):
        with pytest.raises(ValueError, match=words):
            prewhiten(kspace, wrong)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="n_coils must be a whole number, 1 or more; got 0"):
        head_array(0, 16, 0.24)
    for wrong in (0, 5):
        with pytest.raises(ValueError, match=f"n_coils must be 1 to 4; got {wrong}"):
            compress_coils(np.ones((2, 4, 6), np.complex64), wrong)
