"""Images to samples of k-space at any points, and the adjoint: the one module that calls jax-finufft.

``kspace(k) = sum over voxels r of image(r) exp(-2 pi i k r)``, with voxel ``n // 2`` of each axis at the origin, rows
along y and columns along x. Points are kx and ky, cycles/m, (samples, 2), and voxel sizes are along (y, x), m.
"""

import functools
import threading

import jax
import jax.numpy as jnp
from jax_finufft import nufft1, nufft2
from jax_finufft.options import Opts

# The coarser grid of the two that finufft offers (upsampfac) takes a quarter of the time; errors stay below 1e-4.
# One thread sums in one order, so that results repeat to the bit; callers use a core for each coil or frame.
_SETTINGS = {"eps": 1e-5, "opts": Opts(upsampfac=1.25, nthreads=1)}
_ONE_AT_A_TIME = threading.Lock()


def image_to_kspace(images, points, voxel_size) -> jax.Array:
    """Samples, (..., samples), complex64, of the Fourier transforms of images, (..., y, x)."""
    _make_ready()
    images = jnp.asarray(images, jnp.complex64)
    flat = images.reshape(-1, *images.shape[-2:])
    samples = nufft2(flat, *_phases(points, voxel_size), iflag=-1, **_SETTINGS)
    return samples.reshape(*images.shape[:-2], samples.shape[-1])


def kspace_to_image(samples, points, shape: tuple[int, int], voxel_size) -> jax.Array:
    """The adjoint of `image_to_kspace`, without any weights: images of a ``shape`` (y, x), (..., y, x), complex64."""
    _make_ready()
    samples = jnp.asarray(samples, jnp.complex64)
    flat = samples.reshape(-1, samples.shape[-1])
    images = nufft1(tuple(shape), flat, *_phases(points, voxel_size), iflag=1, **_SETTINGS)
    return images.reshape(*samples.shape[:-1], *shape)


def _make_ready():
    """Transforms one sample, once in a process, before any other transform.

    The first transform of a process computes finufft's kernel and stores it in a table without a lock: two first
    transforms in two threads at once crash.
    """
    with _ONE_AT_A_TIME:
        _transform_one()


@functools.cache
def _transform_one():
    with jax.ensure_compile_time_eval():
        origin = jnp.zeros(1, jnp.float32)
        image = nufft1((2, 2), jnp.ones(1, jnp.complex64), origin, origin, iflag=1, **_SETTINGS)
        jax.block_until_ready(nufft2(image, origin, origin, iflag=-1, **_SETTINGS))


def _phases(points, voxel_size):
    """Phase between neighbouring voxels along y and x, rad, (samples,) each."""
    points = jnp.asarray(points, jnp.float32)
    return tuple(2 * jnp.pi * size * points[:, axis] for axis, size in ((1, voxel_size[0]), (0, voxel_size[1])))
