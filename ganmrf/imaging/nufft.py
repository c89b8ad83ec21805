"""Images to samples of k-space at any points, and the adjoint: the one module that calls jax-finufft or finufft.

``kspace(k) = sum over voxels r of image(r) exp(-2 pi i k r)``, with voxel ``n // 2`` of each axis at the origin, rows
along y and columns along x. Points are kx and ky, cycles/m, (samples, 2), and voxel sizes are along (y, x), m.

jax-finufft has no wheels for Windows. Without it, finufft itself is called back from JAX's programs: the same library,
with the same results, by way of the host.
"""

import functools
import threading

import jax
import jax.numpy as jnp
import numpy as np

_ACCURACY = 1e-5
# The coarser grid of the two that finufft offers (upsampfac) takes a quarter of the time; errors stay below 1e-4.
# One thread sums in one order, so that results repeat to the bit; callers use a core for each coil or frame.
_OPTIONS = {"upsampfac": 1.25, "nthreads": 1}
_ONE_AT_A_TIME = threading.Lock()

try:
    from jax_finufft import nufft1, nufft2
    from jax_finufft.options import Opts

    _SETTINGS = {"eps": _ACCURACY, "opts": Opts(**_OPTIONS)}
except ImportError:
    _SETTINGS = {}
    try:
        import finufft
    except ImportError:
        finufft = None

    def nufft1(shape, samples, *phases, iflag):
        """Images, (images, y, x), of samples, (images, samples), as jax-finufft has it."""
        return _called_back(tuple(shape), iflag, samples, *phases)

    def nufft2(images, *phases, iflag):
        """Samples, (images, samples), of images, (images, y, x), as jax-finufft has it."""
        return _called_back(None, iflag, images, *phases)


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


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _called_back(shape, sign, values, *phases):
    """The images of some samples, or with a ``shape`` of None the samples of some images."""
    if finufft is None:
        raise ValueError(
            "images from k-space need jax-finufft or finufft, and neither is installed: pip install finufft"
        )
    size = (phases[0].shape[0],) if shape is None else shape
    result = jax.ShapeDtypeStruct((values.shape[0], *size), jnp.complex64)

    def call(values, *phases):
        values, *phases = (np.ascontiguousarray(each) for each in (values, *phases))
        kind, modes = (2, values.shape[1:]) if shape is None else (1, shape)
        plan = finufft.Plan(kind, modes, len(values), _ACCURACY, sign, "complex64", showwarn=0, **_OPTIONS)
        plan.setpts(*phases)
        return plan.execute(values).reshape(result.shape)  # of one image, without its axis

    return jax.pure_callback(call, result, values, *phases, vmap_method="sequential")


def _called_back_forward(shape, sign, values, *phases):
    return _called_back(shape, sign, values, *phases), (values, *phases)


def _called_back_backward(shape, sign, saved, cotangent):
    """The transposed transform, and the derivatives along both phases: ``i sign n`` times the term of voxel n."""
    values, *phases = saved
    images, samples = (values, cotangent) if shape is None else (cotangent, values)
    rows, columns = (jnp.arange(count) - count // 2 for count in images.shape[1:])
    slopes = (
        jnp.sum(samples * _called_back(None, sign, 1j * sign * orders * images, *phases), axis=0).real
        for orders in (rows[None, :, None], columns[None, None])
    )
    return _called_back(None if shape else values.shape[1:], sign, cotangent, *phases), *slopes


_called_back.defvjp(_called_back_forward, _called_back_backward)
