"""From a series of images to the samples of k-space that receive coils take, with off-resonance and thermal noise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.imaging.nufft import image_to_kspace
from ganmrf.imaging.phantom import noise_std
from ganmrf.parallel import run_chunks
from ganmrf.pytrees import require

_SEGMENT_ERROR = 1e-4  # largest error of the phase factors of off-resonance: that of the transforms
_FREQUENCIES = 200  # off-resonance frequencies between the extremes at which this error is computed


def sample_kspace(
    images, sensitivities, trajectory, voxel_size, *, off_resonance=None, times=None, progress: bool = False
) -> np.ndarray:
    """The samples of each coil in each frame.

    From images (frames, y, x) and sensitivities (coils, y, x), complex64, along a trajectory, (frames, samples, 2),
    cycles/m, of voxels of a size along (y, x), m. With ``off_resonance``, (y, x), Hz, each voxel turns by
    ``exp(2 pi i off_resonance t)`` by the ``times`` of the samples, (samples,), s from the start of the readout; add
    the echo time to include the phase that a voxel has at the start of the readout.

    Returns:
      (frames, coils, samples), complex64.

    Raises:
      ValueError: shapes that do not fit, or off-resonance without times.
    """
    images, sensitivities = np.asarray(images), jnp.asarray(sensitivities, jnp.complex64)
    trajectory = np.asarray(trajectory, np.float32)
    if images.ndim != 3 or trajectory.ndim != 3 or len(trajectory) != len(images):
        raise ValueError(f"trajectory must be ({len(images)}, samples, 2), a frame an image; got {trajectory.shape}")
    if sensitivities.shape[1:] != images.shape[1:]:
        raise ValueError(f"sensitivities have shape {sensitivities.shape}, but the images have {images.shape[1:]}")
    if (off_resonance is None) != (times is None):
        raise ValueError("off_resonance and times go together")
    turned, shares = sensitivities[None], jnp.ones((1, trajectory.shape[1]), jnp.complex64)
    if off_resonance is not None:
        off_resonance = np.asarray(off_resonance, float)
        if off_resonance.shape != images.shape[1:] or np.shape(times) != trajectory.shape[1:2]:
            raise ValueError(
                f"off_resonance must be {images.shape[1:]} and times {trajectory.shape[1:2]}; got "
                f"{off_resonance.shape} and {np.shape(times)}"
            )
        instants, shares = _segments(off_resonance, np.asarray(times, float))
        turns = np.exp(2j * np.pi * instants[:, None, None] * off_resonance)
        turned = jnp.asarray(turns, jnp.complex64)[:, None] * turned
        shares = jnp.asarray(shares, jnp.complex64)

    kspace = np.empty((len(images), len(sensitivities), trajectory.shape[1]), np.complex64)

    def sample(frame, _):
        kspace[frame] = _sampled(images[frame], trajectory[frame], turned, shares, tuple(voxel_size))

    run_chunks(sample, range(len(images)), progress="sampling" if progress else None)
    return kspace


def add_thermal_noise(kspace: np.ndarray, snr: float, images, *, mask: np.ndarray, seed: int = 0) -> np.ndarray:
    """Adds complex white Gaussian noise to the samples of every coil, (frames, coils, samples), complex64.

    The ``snr`` is that of an image of the same matrix whose k-space is sampled once, on the Cartesian grid, with this
    noise, as `noise_std` has it: for the images that were sampled, (frames, y, x), in the voxels of the ``mask``, bool,
    (y, x), not empty, and for the noise of an image where the root sum of squares of the sensitivities is 1.

    Raises:
      ValueError: an ``snr`` that is not positive, or a mask that does not fit.
    """
    require("snr", snr, lambda x: x > 0, "positive")
    if mask.shape != images.shape[1:] or not mask.any():
        raise ValueError(
            f"mask must be {images.shape[1:]} with a voxel at least; got {mask.shape}, {mask.sum()} voxels"
        )
    deviation = np.float32(np.sqrt(mask.size) * noise_std((image[mask] for image in images), snr))
    rng = np.random.default_rng(seed)
    noisy = kspace.copy()
    for frame in noisy:  # one frame at a time: noise of all frames would double the memory
        frame += deviation * rng.standard_normal((*frame.shape, 2), np.float32).view(np.complex64)[..., 0]
    return noisy


@functools.partial(jax.jit, static_argnums=4)
def _sampled(image, points, turned, shares, voxel_size):
    """Samples (coils, samples) of an image: of each segment (segments, coils, y, x), summed by its shares."""
    return jnp.einsum("lcs,ls->cs", image_to_kspace(turned * image[None, None], points, voxel_size), shares)


def _segments(off_resonance, times):
    """Instants t_l and shares b_l (segments, samples): ``exp(2 pi i f t)`` is nearly ``sum of b_l exp(2 pi i f t_l)``.

    The shares are least-squares fits over the frequencies, with the fewest instants that keep the error below 1e-4.

    References:
      Sutton, Noll and Fessler 2003, doi:10.1109/TMI.2002.808360.
    """
    frequencies = np.linspace(off_resonance.min(), off_resonance.max(), _FREQUENCIES)
    wanted = np.exp(2j * np.pi * np.outer(frequencies, times))
    for count in range(1, _FREQUENCIES):
        instants = np.linspace(times[0], times[-1], count)
        offered = np.exp(2j * np.pi * np.outer(frequencies, instants))
        shares = np.linalg.lstsq(offered, wanted, rcond=1e-8)[0]
        if np.abs(offered @ shares - wanted).max() <= _SEGMENT_ERROR:
            return instants, shares
    raise ValueError(f"off_resonance of {np.ptp(off_resonance):.3g} Hz turns too often within {times[-1]:.3g} s")
