"""Coil sensitivities from the scan itself, and the combination of coil images."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage, spatial

from ganmrf.imaging.reconstruct import conjugate_gradients, grid_coefficients, normal_operator
from ganmrf.imaging.trajectory import density_compensation, distinct
from ganmrf.pytrees import require

_RESOLUTION = 6e-3  # m, of the calibration images: sensitivities vary over centimetres
_RANK = 2  # coefficients that are reconstructed, so that the first is free of the second's aliases
_ITERATIONS = 15  # of conjugate gradients: enough at a resolution that is fully sampled
_POWER_ITERATIONS = 20  # that find the strongest combination of coils in each window
# Widest distance from a place of k-space to its nearest sample, times the field of view: 0.71 is that of a square grid
# at the Nyquist rate, and aliases grow from there on. A small share may be further away: the error stays that of noise.
_GAP, _GAPS = 0.75, 0.03
_PLACES = 81  # along an edge, at which this distance is measured
_WINDOW = 3  # voxels of a calibration image over which a sensitivity is taken to be constant


def calibrate(kspace, trajectory, basis, shape: tuple[int, int], voxel_size) -> np.ndarray:
    """Sensitivities from the centre of k-space, where all frames together sample it densely.

    The first coefficients of each coil are reconstructed by least squares at a resolution of 6 mm, where they are free
    of aliasing. `estimate_sensitivities` takes ratios between coils from these images; the ratios are interpolated.

    The arguments are arrays of `ganmrf.imaging.reconstruct`; the first column of the basis is the strongest.

    Returns:
      (coils, y, x), complex64, root sum of squares 1.

    Warns where all frames together leave gaps in the centre of k-space, which make the sensitivities wrong.

    Raises:
      ValueError: the trajectory has no sample near the centre of k-space.
    """
    axes = [*zip(shape, voxel_size, strict=True)]
    coarse = [min(count, max(2 * round(count * size / _RESOLUTION / 2), 2)) for count, size in axes]
    coarse_size = tuple(count * size / few for (count, size), few in zip(axes, coarse, strict=True))
    radius = 1 / (2 * max(coarse_size))
    inside = (np.linalg.norm(trajectory, axis=2) <= radius).all(axis=0)
    if not inside.any():
        raise ValueError(f"trajectory has no sample that stays within {radius:.4g} cycles/m in every frame")
    points, basis = np.ascontiguousarray(trajectory[:, inside]), basis[:, :_RANK]
    if kspace.shape[1] > 1:
        _warn_of_gaps(points, radius, np.multiply(shape, voxel_size)[::-1])
    weights = density_compensation(points, coarse, coarse_size)
    gridded = grid_coefficients(kspace[:, :, inside], points, weights, basis, coarse, coarse_size)
    normal = normal_operator(points, weights, basis, np.ones((1, *coarse), np.complex64), coarse_size)
    images = [conjugate_gradients(normal, coil, iterations=_ITERATIONS)[0] for coil in gridded]
    rough = np.asarray(estimate_sensitivities(np.stack(images)[:, :1], window=_WINDOW))
    at = [(np.arange(count) - count // 2) * few / count + few // 2 for count, few in zip(shape, coarse, strict=True)]
    places = np.meshgrid(*at, indexing="ij")
    fine = np.stack([ndimage.map_coordinates(coil, places, order=3, mode="nearest") for coil in rough])
    return (fine / np.linalg.norm(fine, axis=0)).astype(np.complex64)


def estimate_sensitivities(coil_images, *, window: int = 5) -> jax.Array:
    """Sensitivities from coil images, voxel by voxel, assuming that they are constant in a window around the voxel.

    Args:
      coil_images: (coils, ..., y, x), complex; the axes between are further images of the same coils.
      window: edge of the window, voxels, odd.

    Returns:
      (coils, y, x), complex64, root sum of squares 1. The phase is relative to the combination of coils that is
      strongest in the whole image.

    Raises:
      ValueError: fewer than three axes, or an even window.

    References:
      Walsh et al. 2000, doi:10.1002/(SICI)1522-2594(200005)43:5<682::AID-MRM10>3.0.CO;2-G.
    """
    coil_images = jnp.asarray(coil_images, jnp.complex64)
    if coil_images.ndim < 3:
        raise ValueError(f"coil_images must be (coils, ..., y, x); got shape {coil_images.shape}")
    require("window", window, lambda n: (n >= 1) & (n % 2 == 1), "odd")
    return _strongest(coil_images.reshape(len(coil_images), -1, *coil_images.shape[-2:]), window)


def combine(coil_images, sensitivities) -> jax.Array:
    """Combines coil images: each coil is weighted by the conjugate of its sensitivity.

    From images (coils, ..., y, x) and sensitivities (coils, y, x), of root sum of squares 1, to images (..., y, x).

    References:
      Roemer et al. 1990, doi:10.1002/mrm.1910160203.
    """
    return jnp.einsum("c...yx,cyx->...yx", jnp.asarray(coil_images), jnp.conj(sensitivities))


def _warn_of_gaps(trajectory, radius, field_of_view):
    """Warns where the centre of k-space has places far from any sample; ``field_of_view`` is along (x, y)."""
    line = np.linspace(-radius, radius, _PLACES)
    places = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    places = places[np.linalg.norm(places, axis=1) <= radius]
    samples = spatial.cKDTree(distinct(trajectory)[0].reshape(-1, 2) * field_of_view)
    gaps = np.mean(samples.query(places * field_of_view)[0] > _GAP)
    if gaps > _GAPS:
        warnings.warn(
            f"{100 * gaps:.0f} % of the centre of k-space lies between samples, so that coil sensitivities from the "
            "scan itself are wrong, and the maps with them: scan more interleaves, or give --sensitivities",
            stacklevel=3,
        )


@functools.partial(jax.jit, static_argnums=1)
def _strongest(images, window):
    """Dominant eigenvector of the coils' covariance in each window; images (coils, n, y, x)."""
    shifts = jnp.array([(row, column) for row in range(window) for column in range(window)]) - window // 2

    def times_covariance(vectors):
        def add(total, shift):
            there = jnp.roll(images, shift, axis=(2, 3))
            inner = jnp.sum(there.conj() * vectors[:, None], axis=0, keepdims=True)
            return total + jnp.sum(there * inner, axis=1), None

        return jax.lax.scan(add, jnp.zeros_like(vectors), shifts)[0]

    def improve(_, vectors):
        better = times_covariance(vectors)
        norm = jnp.sqrt(jnp.sum(jnp.abs(better) ** 2, axis=0, keepdims=True))
        return jnp.where(norm > 0, better / jnp.where(norm > 0, norm, 1), vectors)

    largest = jnp.abs(images).max()  # fourth powers of the images would leave the range of float32
    images = images / jnp.where(largest > 0, largest, 1)
    whole = jnp.einsum("cnyx,dnyx->cd", images, images.conj())
    reference = jnp.linalg.eigh(whole)[1][:, -1]
    start = jnp.broadcast_to(reference[:, None, None], (len(images), *images.shape[2:]))
    vectors = jax.lax.fori_loop(0, _POWER_ITERATIONS, improve, start)
    common = jnp.einsum("c,cyx->yx", reference.conj(), vectors)
    return vectors * jnp.where(common == 0, 1, jnp.exp(-1j * jnp.angle(common)))[None]
