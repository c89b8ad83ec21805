"""Refined maps are exact without noise, and with noise they scatter as the Cramer-Rao bound says."""

import dataclasses
import functools
import sys

import hypothesis
import jax
import numpy as np
import pytest
from hypothesis import strategies as st

from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.compress import compress
from ganmrf.dictionary.grids import grid_of
from ganmrf.dictionary.match import match
from ganmrf.dictionary.refine import refine
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate
from ganmrf.physics.slice_profile import SliceProfile
from ganmrf.physics.tissue import Tissue

SLICE = SliceProfile(np.array([0.6, 1.0]), np.array([0.3, 0.7]))


def signals(n_frames, t1, t2, b1=1.0, slice_profile=None):
    """Signals in float64 with all orders, (..., frames); 64 voxels at a time, so that one program serves all."""
    shape = np.broadcast_shapes(np.shape(t1), np.shape(t2), np.shape(b1))
    fields = [np.broadcast_to(np.asarray(field, float), shape).ravel() for field in (t1, t2, b1)]
    with jax.enable_x64(True):
        form = {"n_states": n_frames // 2 + 1, "slice_profile": slice_profile}
        starts = range(0, fields[0].size, 64)
        tissues = [Tissue(*(np.resize(field[n : n + 64], 64) for field in fields)) for n in starts]
        parts = [simulate(mrf_fisp(n_frames), tissue, **form) for tissue in tissues]
        return np.concatenate(parts)[: fields[0].size].reshape(*shape, n_frames)


@functools.cache
def small_dictionary():
    """Atoms far apart, by 8 %, and a short sequence."""
    return build_dictionary(mrf_fisp(200), grid_of(0.4 * 1.08 ** np.arange(27), 0.03 * 1.08 ** np.arange(35)))


@pytest.fixture
def small():
    return small_dictionary()


@pytest.fixture(scope="module")
def off_grid():
    """T1, T2 and m0 of voxels between the atoms, and their clean series."""
    rng = np.random.default_rng(0)
    t1, t2 = rng.uniform(0.5, 2.5, 40), rng.uniform(0.04, 0.3, 40)
    m0 = rng.uniform(0.5, 2, 40) * np.exp(1j * rng.uniform(0, 6, 40))
    return t1, t2, m0, m0 * signals(200, t1, t2).T


@pytest.mark.parametrize("form", ["frames", "basis", "coefficients"])
def test_clean_voxels_between_atoms_are_exact(small, off_grid, form):
    t1, t2, m0, images = off_grid
    dictionary = small if form == "frames" else compress(small, 20)[0]
    maps = match(dictionary, images)
    assert np.abs(maps.t2 / t2 - 1).max() > 0.02  # the grid's own error
    if form == "coefficients":
        images = dictionary.basis.T @ images
    refined = refine(dictionary, images, maps)
    for values, truth in ((refined.t1, t1), (refined.t2, t2), (refined.m0, m0)):
        np.testing.assert_allclose(values, truth, rtol=1e-4)  # measured 1e-5, the step that is not taken any more
    assert refined.converged.all()
    # What is left of the signals is rounding, and orders left out, at most 1e-4 of each.
    columns = dictionary.fingerprints.shape[1]
    assert (refined.noise < 1e-4 * np.linalg.norm(images, axis=0) / np.sqrt(columns)).all()


TISSUES = np.array([[0.8, 0.06], [1.3, 0.1], [1.9, 0.2]])  # T1 and T2, s
DRAWS = 340
SIGMA = 2e-3  # about 1 % of the signals


@pytest.mark.parametrize("kind", [float, complex])
@pytest.mark.parametrize("rank", [None, 6])
def test_maps_scatter_as_the_error_bars_say(small, kind, rank):
    """1020 voxels know their spread and its mean square to 2 %, a bound that ignores M0 would be 10 % off and more."""
    rng = np.random.default_rng(1)
    dictionary = small if rank is None else compress(small, rank)[0]
    t1, t2 = np.repeat(TISSUES, DRAWS, axis=0).T
    m0 = 1.0 if kind is float else np.exp(2j)
    noise = rng.standard_normal((2, 200, t1.size))
    noise = noise[0] if kind is float else noise[0] + 1j * noise[1]
    images = m0 * np.repeat(signals(200, *TISSUES.T), DRAWS, axis=0).T + SIGMA * noise
    refined = refine(dictionary, images, match(dictionary, images))
    assert refined.converged.mean() > 0.99
    # Of one voxel from 200 frames, known to 5 %; from 6 coefficients, that of all voxels.
    np.testing.assert_allclose(np.sqrt(np.mean(refined.noise**2)), SIGMA, rtol=0.03)
    assert (np.ptp(refined.noise) == 0) == (rank is not None)
    errors = (refined.t1 - t1, refined.t1_std), (refined.t2 - t2, refined.t2_std), (abs(refined.m0) - 1, refined.m0_std)
    for error, std in errors:
        assert np.sqrt(np.mean((error / std) ** 2)) == pytest.approx(1, abs=0.1)


def derivatives(t1, t2):
    """Signal and its derivatives by T1 and T2, by central differences: 1e-8 is left out, and 1e-11 is rounding."""
    h = 1e-4
    signal, *sides = signals(200, t1 * (1 + h * np.array([0, 1, -1, 0, 0])), t2 * (1 + h * np.array([0, 0, 0, 1, -1])))
    return signal, (sides[0] - sides[1]) / (2 * h * t1), (sides[2] - sides[3]) / (2 * h * t2)


def whole_fisher_bounds(signal, d_t1, d_t2, m0, noise):
    """Standard deviations of T1, T2 and abs(M0) from the 4 x 4 Fisher information with Re M0 and Im M0."""
    columns = np.stack([m0 * d_t1, m0 * d_t2, signal, 1j * signal])
    jacobian = np.concatenate([columns.real, columns.imag], axis=1)
    covariance = noise**2 * np.linalg.inv(jacobian @ jacobian.T)
    along = np.array([m0.real, m0.imag]) / abs(m0)
    return np.sqrt([covariance[0, 0], covariance[1, 1], along @ covariance[2:, 2:] @ along])


T1, T2, M0 = 1.1, 0.08, 0.7 - 0.4j


def test_error_bars_of_a_map_are_the_bound(small):
    images = M0 * signals(200, [T1], [T2]).T
    noise = np.array([0.01])
    refined = refine(small, images, match(small, images), noise=noise)
    found = np.concatenate([refined.t1_std, refined.t2_std, refined.m0_std])
    expected = whole_fisher_bounds(*derivatives(T1, T2), M0, noise[0])
    np.testing.assert_allclose(found, expected, rtol=1e-4)  # orders left out
    np.testing.assert_array_equal(refined.noise, noise)


def test_what_images_do_not_determine_has_no_error_bars(small):
    two, _ = compress(small, 2)  # real numbers, for three unknowns
    images = small.fingerprints[:4].T
    refined = refine(two, images, match(two, images), noise=0.1)
    assert np.isinf([refined.t1_std, refined.t2_std, refined.m0_std]).all()


@pytest.mark.parametrize(("slice_profile", "n_frames"), [(None, 200), (SLICE, 80)])
def test_b1_map_corrects(slice_profile, n_frames):
    grid = grid_of(0.8 * 1.08 ** np.arange(10), 0.05 * 1.08 ** np.arange(14))
    nominal = build_dictionary(mrf_fisp(n_frames), grid, slice_profile=slice_profile)
    t1, t2, b1 = np.array([[1.1, 1.2]]), np.array([[0.08, 0.09]]), np.array([[0.9, 1.07]])
    images = np.moveaxis(signals(n_frames, t1, t2, b1, slice_profile), -1, 0)
    maps = match(nominal, images)
    refined = refine(nominal, images, maps, b1_map=b1)
    np.testing.assert_allclose(refined.t1, t1, rtol=1e-4)  # as without B1
    np.testing.assert_allclose(refined.t2, t2, rtol=1e-4)
    np.testing.assert_array_equal(refined.b1, b1)
    without = refine(nominal, images, maps)
    assert (np.abs(without.t2 / t2 - 1) > 0.05).all()
    np.testing.assert_array_equal(without.b1, 1)


def residuals(tissue, images):
    """Norm of what the best amplitude leaves of each voxel, (voxels,)."""
    s = signals(images.shape[0], *tissue)
    m0 = np.sum(s * images.T, axis=1) / np.sum(s**2, axis=1)
    return np.linalg.norm(images.T - m0[:, None] * s, axis=1)


def test_no_voxel_gets_worse_or_leaves_its_range(small):
    """Data of no tissue: noise alone, and tissues of twice the longest T2."""
    rng = np.random.default_rng(3)
    noise = rng.standard_normal((200, 30)) + 1j * rng.standard_normal((200, 30))
    images = np.concatenate([noise, signals(200, np.linspace(2, 6, 10), np.full(10, 1.5)).T], axis=1)
    maps = match(small, images)
    refined = refine(small, images, maps)
    before, after = (residuals((m.t1, m.t2), images) for m in (maps, refined))
    assert (after <= before * (1 + 1e-6)).all()  # float32 signals
    assert np.mean(after < before) > 0.5
    t1, t2 = (np.asarray(times, float) for times in (small.tissue.t1, small.tissue.t2))
    for values, atoms in ((refined.t1, t1), (refined.t2, t2)):
        assert atoms.min() / 2 <= values.min()
        assert values.max() <= atoms.max() * 2
    assert (refined.t2 <= refined.t1).all()
    ends = (refined.t2 == 2 * t2.max()) | (refined.t2 == refined.t1)
    assert ends[-10:].any()
    assert not refined.converged[ends].any()
    assert np.isinf([refined.t1_std[ends], refined.t2_std[ends], refined.m0_std[ends]]).all()


@hypothesis.settings(max_examples=5)
@hypothesis.given(st.floats(1e-3, 1e3), st.floats(-3, 3))
def test_scale_and_phase_of_images_are_those_of_m0(scale, phase):
    small, rng = small_dictionary(), np.random.default_rng(4)
    images = signals(200, *TISSUES.T).T + 5e-3 * rng.standard_normal((200, 6)).view(complex)
    factor = scale * np.exp(1j * phase)
    maps = match(small, images)
    refined, scaled = refine(small, images, maps), refine(small, factor * images, maps)
    for name in ("t1", "t2", "t1_std", "t2_std"):  # rounding, or a last step more or less
        np.testing.assert_allclose(getattr(scaled, name), getattr(refined, name), rtol=2e-5)
    np.testing.assert_allclose(scaled.m0, factor * refined.m0, rtol=2e-5)
    np.testing.assert_allclose(scaled.m0_std, scale * refined.m0_std, rtol=2e-5)


def test_voxels_without_a_match_stay_zero(small, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    images = np.moveaxis(signals(200, np.full((2, 3), 1.1), np.full((2, 3), 0.08)), -1, 0)
    images[:, 0, 0] = 0
    mask = np.ones((2, 3), bool)
    mask[1, 2] = False
    maps = match(small, images)
    images[:, 1, 2] = np.nan  # is not looked at
    b1_map = np.where(mask & (maps.index >= 0), 1, np.nan)
    refined = refine(small, images, maps, mask=mask, b1_map=b1_map, noise=1e-3, progress=True)
    for values in refined.arrays().values():
        np.testing.assert_array_equal(values != 0, [[False, True, True], [True, True, False]])
    assert "refining" in capsys.readouterr().err
    nothing = refine(small, images, maps, mask=np.zeros((2, 3), bool))
    assert not any(values.any() for values in nothing.arrays().values())
    at_the_end = refine(small, np.moveaxis(images, 0, -1), maps, mask=mask, b1_map=b1_map, noise=1e-3, axis=-1)
    np.testing.assert_array_equal(at_the_end.t2, refined.t2)


def test_bad_input(small):
    images = np.moveaxis(signals(200, np.full((2, 3), 1.1), np.full((2, 3), 0.08)), -1, 0)
    maps = match(small, images)
    compressed, _ = compress(small, 4)
    with pytest.raises(
        ValueError, match=r"images have 20 frames along axis 0 \(shape .*\), but the dictionary has 200$"
    ):
        refine(small, images[:20], maps)
    with pytest.raises(ValueError, match=r"images have 5 frames .* the dictionary has 200 and a basis of rank 4$"):
        refine(compressed, images[:5], maps)
    shapes = r"has shape \(3, 2\), but the images have \(2, 3\)"
    for name in ("mask", "b1_map", "noise"):
        with pytest.raises(ValueError, match=f"{name} {shapes}"):
            refine(small, images, maps, **{name: np.ones((3, 2))})
    with pytest.raises(ValueError, match=f"maps.index {shapes}"):
        refine(small, images, dataclasses.replace(maps, index=maps.index.T.copy()))
    b1_map = np.ones((2, 3))
    b1_map[1, 0] = 0
    with pytest.raises(ValueError, match="b1_map must be positive and finite in every refined voxel; got 0 at index 3"):
        refine(small, images, maps, b1_map=b1_map)
    for noise in (0.0, -1.0, np.nan):
        with pytest.raises(
            ValueError, match=f"noise must be positive and finite in every refined voxel; got {noise:g}"
        ):
            refine(small, images, maps, noise=noise)
    far = np.where(maps.index > 0, 10**6, 0)
    with pytest.raises(
        ValueError, match=r"maps.index holds 1000000, but the dictionary has \d+ atoms: not matched with"
    ):
        refine(small, images, dataclasses.replace(maps, index=far))
    other = dataclasses.replace(maps, index=np.zeros_like(maps.index))
    with pytest.raises(
        ValueError, match=r"maps.t1 holds 1\.\d+ s where atom 0 of the dictionary has 0.4 s: not matched"
    ):
        refine(small, images, other)
    images[5, 1, 1] = np.inf
    with pytest.raises(ValueError, match="images hold NaN or infinite values, in 1 voxels of a chunk"):
        refine(small, images, maps)
    two = compress(small, 2)[0]
    with pytest.raises(ValueError, match="noise must be given: 2 numbers a voxel are too few to measure it"):
        refine(two, np.ones((2, 2, 3), complex), maps)
