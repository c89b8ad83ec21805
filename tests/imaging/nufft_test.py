"""The transforms against the sum that defines them, in float64; and with either of the libraries that compute them."""

import functools
import importlib.util
import pathlib
import subprocess
import sys
from unittest import mock

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganmrf.imaging.nufft import image_to_kspace, kspace_to_image
from ganmrf.pytrees import is_traced

VOXEL_SIZE = (5e-3, 4e-3)  # along y, x
ACCURACY = 1e-4  # of the coarser grid of finufft, whose floor is 5e-5
SHAPES = [(24, 24), (25, 18), (16, 33), (33, 17)]  # even and odd; every shape compiles anew
N_POINTS = 300


def loaded_anew(*missing):
    """The module of the transforms as a new process has it that lacks some libraries."""
    with mock.patch.dict(sys.modules, dict.fromkeys(missing)):
        fresh = importlib.util.module_from_spec(importlib.util.find_spec("ganmrf.imaging.nufft"))
        fresh.__spec__.loader.exec_module(fresh)
    return fresh


@functools.cache
def by_finufft():
    pytest.importorskip("finufft")
    return loaded_anew("jax_finufft")


def complex_normal(rng, *shape):
    return (rng.standard_normal((*shape, 2), np.float32).view(np.complex64)[..., 0]).copy()


def anywhere(rng, n_points, reach=1.0):
    """kx and ky within the Nyquist rectangle times ``reach``, cycles/m."""
    return (reach * rng.uniform(-0.5, 0.5, (n_points, 2)) / VOXEL_SIZE[::-1]).astype(np.float32)


def waves(points, shape):
    """exp(-2 pi i k r), (samples, y, x), with r = 0 in voxel n // 2."""
    points = points.astype(float)
    y, x = (size * (np.arange(count) - count // 2) for count, size in zip(shape, VOXEL_SIZE, strict=True))
    return np.exp(-2j * np.pi * (points[:, 1, None, None] * y[:, None] + points[:, 0, None, None] * x))


@hypothesis.given(st.sampled_from(SHAPES), st.sampled_from([1.0, 1.9]), st.integers(0, 99))
@hypothesis.settings(max_examples=8)
def test_both_ways_are_the_direct_sum(shape, reach, seed):
    rng = np.random.default_rng(seed)
    points = anywhere(rng, N_POINTS, reach)
    image, samples = complex_normal(rng, *shape), complex_normal(rng, N_POINTS)
    exact = waves(points, shape)
    for found, expected in (
        (image_to_kspace(image, points, VOXEL_SIZE), np.einsum("syx,yx->s", exact, image)),
        (kspace_to_image(samples, points, shape, VOXEL_SIZE), np.einsum("syx,s->yx", exact.conj(), samples)),
    ):
        assert found.dtype == np.complex64
        assert np.linalg.norm(found - expected) / np.linalg.norm(expected) < ACCURACY


@pytest.mark.parametrize("shape", SHAPES[:2])
def test_one_is_the_adjoint_of_the_other(shape):
    rng = np.random.default_rng(1)
    points = anywhere(rng, N_POINTS)
    image, samples = complex_normal(rng, *shape), complex_normal(rng, N_POINTS)
    forward = np.vdot(samples, image_to_kspace(image, points, VOXEL_SIZE))
    back = np.vdot(kspace_to_image(samples, points, shape, VOXEL_SIZE), image)
    # The same kernel spreads and gathers: float32 rounding is left, however inexact both are.
    assert abs(forward - back) / (np.linalg.norm(image) * np.linalg.norm(samples)) < 1e-5


def test_the_middle_voxel_is_the_origin_and_rows_run_along_y():
    points = np.array([[10.0, 0.0], [0.0, 10.0], [-30.0, 20.0]], np.float32)
    image = np.zeros((24, 31), np.complex64)
    image[12, 15] = 2
    np.testing.assert_allclose(image_to_kspace(image, points, VOXEL_SIZE), 2, rtol=ACCURACY)
    moved = np.roll(image, (3, 5), (0, 1))  # by 15 mm along y and 20 mm along x
    expected = 2 * np.exp(-2j * np.pi * (points[:, 0] * 0.02 + points[:, 1] * 0.015))
    np.testing.assert_allclose(image_to_kspace(moved, points, VOXEL_SIZE), expected, rtol=ACCURACY)


def test_images_at_cartesian_points_are_fft():
    rng = np.random.default_rng(2)
    image = complex_normal(rng, 20, 24)
    ky, kx = np.meshgrid(np.arange(-10, 10) / (20 * 5e-3), np.arange(-12, 12) / (24 * 4e-3), indexing="ij")
    found = image_to_kspace(image, np.stack([kx.ravel(), ky.ravel()], axis=1), VOXEL_SIZE)
    expected = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(image)))
    assert np.linalg.norm(found.reshape(20, 24) - expected) / np.linalg.norm(expected) < ACCURACY


def test_leading_axes_are_further_images():
    rng = np.random.default_rng(3)
    points, images = anywhere(rng, 50), complex_normal(rng, 2, 3, 16, 18)
    samples = image_to_kspace(images, points, VOXEL_SIZE)
    back = kspace_to_image(samples, points, (16, 18), VOXEL_SIZE)
    assert samples.shape == (2, 3, 50)
    assert back.shape == (2, 3, 16, 18)
    alone = image_to_kspace(images[1, 2], points, VOXEL_SIZE)
    np.testing.assert_allclose(samples[1, 2], alone, atol=1e-5 * np.abs(alone).max())  # float32
    alone = kspace_to_image(samples[1, 2], points, (16, 18), VOXEL_SIZE)
    np.testing.assert_allclose(back[1, 2], alone, atol=1e-5 * np.abs(alone).max())


@pytest.mark.parametrize("name", ["image_to_kspace", "kspace_to_image"])
def test_one_transform_comes_before_all_others(monkeypatch, name):
    """Two threads that come first at once crash finufft, in one of 200 processes: tracing is enough to be ready."""
    fresh = loaded_anew()
    calls = []

    def recorded(transform):
        def call(*arguments, **settings):
            calls.append(is_traced(arguments[-1]))
            return transform(*arguments, **settings)

        return call

    for transform in ("nufft1", "nufft2"):
        monkeypatch.setattr(fresh, transform, recorded(getattr(fresh, transform)))
    place = {"points": np.zeros((7, 2), np.float32), "voxel_size": VOXEL_SIZE}
    shape = (4, 6) if name == "image_to_kspace" else (7,)
    place |= {} if name == "image_to_kspace" else {"shape": (4, 6)}
    for _ in range(2):
        # A transform by a new name each time, so that JAX traces it again.
        jax.jit(lambda values: getattr(fresh, name)(values, **place)).lower(np.ones(shape, np.complex64))
    made, traced = [n for n, call in enumerate(calls) if not call], [n for n, call in enumerate(calls) if call]
    assert made
    assert len(traced) == 2
    assert max(made) < min(traced)  # and not again


@pytest.mark.parametrize("shape", SHAPES[1:3])
def test_without_jax_finufft_the_results_are_the_same(shape):
    pytest.importorskip("jax_finufft")
    rng = np.random.default_rng(4)
    points = anywhere(rng, N_POINTS)
    images, samples = complex_normal(rng, 2, 3, *shape), complex_normal(rng, 2, N_POINTS)
    for found, expected in (
        (by_finufft().image_to_kspace(images, points, VOXEL_SIZE), image_to_kspace(images, points, VOXEL_SIZE)),
        (
            jax.jit(by_finufft().kspace_to_image, static_argnums=(2, 3))(samples, points, shape, VOXEL_SIZE),
            kspace_to_image(samples, points, shape, VOXEL_SIZE),
        ),
    ):
        assert found.dtype == np.complex64
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())  # float32


def test_without_jax_finufft_one_is_the_adjoint_of_the_other():
    rng = np.random.default_rng(5)
    points = anywhere(rng, N_POINTS)
    image, samples = complex_normal(rng, 25, 18), complex_normal(rng, N_POINTS)
    forward = np.vdot(samples, by_finufft().image_to_kspace(image, points, VOXEL_SIZE))
    back = np.vdot(by_finufft().kspace_to_image(samples, points, (25, 18), VOXEL_SIZE), image)
    assert abs(forward - back) / (np.linalg.norm(image) * np.linalg.norm(samples)) < 1e-5


def test_without_jax_finufft_derivatives_are_those_of_the_direct_sum():
    rng, shape = np.random.default_rng(6), (9, 8)
    points, image, samples = anywhere(rng, 20), complex_normal(rng, *shape), complex_normal(rng, 20)
    goals = complex_normal(rng, 20), complex_normal(rng, *shape)

    def direct(points):
        y, x = (size * (np.arange(count) - count // 2) for count, size in zip(shape, VOXEL_SIZE, strict=True))
        turns = points[:, 1, None, None] * y[None, :, None] + points[:, 0, None, None] * x[None, None]
        return jnp.exp(-2j * jnp.pi * turns)

    def loss(image, samples, points, forward, back):
        return sum(
            jnp.sum(jnp.abs(found - goal) ** 2)
            for found, goal in zip((forward(image, points), back(samples, points)), goals, strict=True)
        )

    expected = jax.grad(loss, (0, 1, 2))(
        image,
        samples,
        points,
        lambda image, points: jnp.einsum("syx,yx->s", direct(points), image),
        lambda samples, points: jnp.einsum("syx,s->yx", direct(points).conj(), samples),
    )
    found = jax.grad(loss, (0, 1, 2))(
        image,
        samples,
        points,
        lambda image, points: by_finufft().image_to_kspace(image, points, VOXEL_SIZE),
        lambda samples, points: by_finufft().kspace_to_image(samples, points, shape, VOXEL_SIZE),
    )
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=ACCURACY * np.abs(other).max())


def test_without_either_library_everything_imports_and_transforms_are_refused():
    script = "import sys; sys.modules |= {'jax_finufft': None, 'finufft': None}; import ganmrf.scan_to_maps"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=pathlib.Path(__file__).parents[2])
    neither = loaded_anew("jax_finufft", "finufft")
    for transform in (
        lambda: neither.image_to_kspace(np.ones((4, 4)), np.zeros((1, 2)), VOXEL_SIZE),
        lambda: neither.kspace_to_image(np.ones(1), np.zeros((1, 2)), (4, 4), VOXEL_SIZE),
    ):
        with pytest.raises(ValueError, match="pip install finufft"):
            transform()
