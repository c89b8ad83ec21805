"""From samples of k-space to images: frame by frame, or straight to the coefficients of a temporal basis.

Everything is an array: k-space (frames, coils, samples), trajectories (frames, samples, 2) in cycles/m, weights
(frames, samples) as `density_compensation` gives them, sensitivities (coils, y, x) with a root sum of squares of 1, and
a basis with orthonormal columns (frames, rank), in which a series of images is ``x_t = sum over r of basis[t, r] c_r``.
``shape`` is that of an image, (y, x), and ``voxel_size`` is along (y, x), m.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.imaging.nufft import kspace_to_image
from ganmrf.imaging.trajectory import distinct
from ganmrf.parallel import run_chunks
from ganmrf.progress import watched
from ganmrf.pytrees import pytree

_PATCH = 8  # voxels along an edge of a locally low-rank patch: a few tissues at most
_POWER_ITERATIONS = 12  # leave an error below 5 %, which `largest_eigenvalue` adds


def grid_frames(kspace, trajectory, weights, sensitivities, voxel_size, *, progress: bool = False) -> np.ndarray:
    """Grids each frame by itself and combines the coils, as the GAN-MRF paper did: (frames, y, x), complex64.

    Each image is aliased; averaged over trajectories that sample k-space completely, the aliasing cancels.
    """
    images = np.empty((len(kspace), *sensitivities.shape[1:]), np.complex64)
    scaled, size = len(kspace) * np.asarray(weights)[:, None], tuple(voxel_size)

    def grid(frame, _):
        weighted = scaled[frame] * kspace[frame]
        images[frame] = _combined_image(weighted, trajectory[frame], sensitivities, size)

    run_chunks(grid, range(len(kspace)), progress="gridding frames" if progress else None)
    return images


def grid_coefficients(
    kspace, trajectory, weights, basis, shape: tuple[int, int], voxel_size, *, progress: bool = False
) -> np.ndarray:
    """Grids the coefficients of a temporal basis, coil by coil: (coils, rank, y, x), complex64, for `combine`.

    The result is that of gridding each frame and projecting the images, at a fraction of the cost: frames with the same
    trajectory are added first, and there are fewer coefficients than frames.
    """
    readouts, which = distinct(trajectory)
    projection = (len(kspace) * np.conj(basis).T).astype(np.complex64 if np.iscomplexobj(basis) else np.float32)
    images = np.empty((kspace.shape[1], len(projection), *shape), np.complex64)
    grid = tuple(shape), tuple(voxel_size)

    def grid_coil(coil, _):
        samples = np.ascontiguousarray(kspace[:, coil])
        images[coil] = _coil_coefficients(samples, weights, projection, readouts, which, *grid)

    run_chunks(grid_coil, range(len(images)), progress="gridding coefficients" if progress else None)
    return images


@pytree
@dataclasses.dataclass(frozen=True)
class NormalOperator:
    """Sampling, weighting and gridding of coefficients, ``A^H W A``: a convolution, by FFT on a grid of twice the size.

    Attributes:
      kernel: spectra of the point spread to each coefficient from each other, (rank, rank, 2 y, 2 x), float32, or
        complex64 of a complex basis.
      sensitivities: (coils, y, x), complex64.
    """

    kernel: jax.Array
    sensitivities: jax.Array

    @jax.jit
    def __call__(self, coefficients) -> jax.Array:
        """``A^H W A`` of coefficients (rank, y, x), complex64."""
        rows, columns = self.sensitivities.shape[1:]

        def add_coil(total, sensitivity):
            seen = jnp.fft.fft2(sensitivity[None] * coefficients, (2 * rows, 2 * columns))
            # A sum of few terms is one pass; a reduction over so short an axis takes XLA 50 times as long on CPUs.
            spread = sum(self.kernel[:, i] * one[None] for i, one in enumerate(seen))
            return total + jnp.conj(sensitivity)[None] * jnp.fft.ifft2(spread)[:, :rows, :columns], None

        return jax.lax.scan(add_coil, jnp.zeros_like(coefficients), self.sensitivities)[0]


def normal_operator(trajectory, weights, basis, sensitivities, voxel_size) -> NormalOperator:
    """Computes the point spread of a trajectory in a temporal basis: iterations then do not need the samples.

    Returns:
      The operator, a function of coefficients (rank, y, x) that JAX can transform.

    References:
      Fessler et al. 2005, doi:10.1109/TSP.2005.853152 (Toeplitz); Tamir et al. 2017, doi:10.1002/mrm.26102 (subspace).
    """
    rank, twice = basis.shape[1], tuple(2 * count for count in sensitivities.shape[1:])
    readouts, which = distinct(trajectory)
    spectra = np.empty((rank, rank, *twice), np.complex64 if np.iscomplexobj(basis) else np.float32)

    def spectrum(products):
        return _spectrum(products.astype(np.float32), weights, readouts, which, twice, tuple(voxel_size))

    def fill(pair, _):
        i, j = pair
        products = len(basis) * basis[:, i].conj() * basis[:, j]
        found = spectrum(products.real)
        spectra[i, j] = found + 1j * spectrum(products.imag) if np.iscomplexobj(basis) else found
        spectra[j, i] = spectra[i, j].conj()

    run_chunks(fill, [(i, j) for i in range(rank) for j in range(i + 1)])
    return NormalOperator(jnp.asarray(spectra), jnp.asarray(sensitivities, jnp.complex64))


def conjugate_gradients(normal: NormalOperator, gridded, *, iterations: int = 20, progress: bool = False):
    """Coefficients whose weighted samples fit the measured ones best in the least-squares sense (CG-SENSE).

    ``gridded`` are the combined coefficients of the samples, ``A^H W y``, (rank, y, x). Fewer ``iterations`` leave out
    noise and fine detail.

    Returns:
      Coefficients (rank, y, x), complex64, and the norm of the residual, relative to ``gridded``, after each iteration.

    References:
      Pruessmann et al. 2001, doi:10.1002/mrm.1241.
    """
    gridded = jnp.asarray(gridded, jnp.complex64)
    scale = float(jnp.abs(gridded).max()) or 1.0  # squares of a scanner's numbers may leave the range of float32
    gridded = gridded / scale
    first = _energy(gridded)
    state, residuals = (jnp.zeros_like(gridded), gridded, gridded, first), []
    for _ in watched(range(iterations), "conjugate gradients", shown=progress):
        state = _conjugate_step(normal, state)
        residuals.append(state[-1])
    return scale * np.asarray(state[0]), np.asarray(jnp.sqrt(_ratio(jnp.array(residuals), first)))


def locally_low_rank(
    normal: NormalOperator, gridded, start, *, threshold: float = 5e-4, iterations: int = 30, progress: bool = False
):
    """Least squares with a prior: in small patches the coefficients of all voxels span few directions (FISTA).

    ``gridded`` are the combined coefficients of the samples, ``A^H W y``, (rank, y, x). Accelerated proximal gradient
    steps begin at the coefficients ``start``, such as those of `conjugate_gradients`. The soft ``threshold`` of the
    singular values of each patch of 8 x 8 voxels is a fraction of the largest singular value of ``start``.

    Returns:
      Coefficients (rank, y, x), complex64.

    References:
      Beck and Teboulle 2009, doi:10.1137/080716542. Zhang, Pauly and Levesque 2015, doi:10.1002/mrm.25161.
    """
    gridded, start = (jnp.asarray(values, jnp.complex64) for values in (gridded, start))
    key = jax.random.key(0)  # of the shifts of the patches
    size = 1 / largest_eigenvalue(normal, gridded.shape)
    shrink_by = size * threshold * _largest_singular_value(start)
    state = start, start, jnp.float32(1)
    for n in watched(range(iterations), "locally low rank", shown=progress):
        shift = jax.random.randint(jax.random.fold_in(key, n), (2,), 0, _PATCH)
        state = _proximal_step(normal, state, gridded, size, shrink_by, shift)
    return np.asarray(state[0])


def largest_eigenvalue(normal: NormalOperator, shape: tuple[int, int, int]) -> jax.Array:
    """Largest eigenvalue of the normal operator on coefficients of this shape, by power iteration, plus 5 %."""
    vector = jax.random.normal(jax.random.key(0), shape, jnp.complex64)
    for _ in range(_POWER_ITERATIONS):
        vector = normal(vector / jnp.linalg.norm(vector.ravel()))
    return 1.05 * jnp.linalg.norm(vector.ravel())


@functools.partial(jax.jit, static_argnums=3)
def _combined_image(samples, points, sensitivities, voxel_size):
    coil_images = kspace_to_image(samples, points, sensitivities.shape[1:], voxel_size)
    return jnp.sum(coil_images * jnp.conj(sensitivities), axis=0)


@functools.partial(jax.jit, static_argnums=(5, 6))
def _coil_coefficients(samples, weights, projection, readouts, which, shape, voxel_size):
    def coefficient(row):
        added = jax.ops.segment_sum(row[:, None] * weights * samples, which, len(readouts))
        return kspace_to_image(added.ravel(), readouts.reshape(-1, 2), shape, voxel_size)

    return jax.lax.map(coefficient, projection)


@functools.partial(jax.jit, static_argnums=(4, 5))
def _spectrum(products, weights, readouts, which, shape, voxel_size):
    """Spectrum of the point spread, for the products of two basis functions in each frame."""
    added = jax.ops.segment_sum(products[:, None] * weights, which, len(readouts))
    spread = kspace_to_image(added.astype(jnp.complex64).ravel(), readouts.reshape(-1, 2), shape, voxel_size)
    spread = spread.at[0].set(0).at[:, 0].set(0)  # offsets of -n: no two voxels have them
    return jnp.fft.fft2(jnp.fft.ifftshift(spread)).real


def _energy(values):
    return jnp.sum(jnp.abs(values) ** 2)


def _ratio(energy, of):
    """``energy / of``, and 0 where ``of`` is 0: nothing is left to fit."""
    return jnp.where(of > 0, energy / jnp.where(of > 0, of, 1), 0)


@jax.jit
def _conjugate_step(normal, state):
    solution, residual, direction, before = state
    image = normal(direction)
    step = _ratio(before, jnp.sum(jnp.conj(direction) * image).real)
    solution, residual = solution + step * direction, residual - step * image
    after = _energy(residual)
    return solution, residual, residual + _ratio(after, before) * direction, after


@jax.jit
def _proximal_step(normal, state, gridded, size, shrink_by, shift):
    solution, ahead, momentum = state
    shrunk = _shrink(ahead - size * (normal(ahead) - gridded), shrink_by, shift)
    following = (1 + jnp.sqrt(1 + 4 * momentum**2)) / 2
    return shrunk, shrunk + (momentum - 1) / following * (shrunk - solution), following


def _patches(coefficients):
    """Patches of the image, padded to whole patches: (patches, voxels of a patch, rank)."""
    rank, rows, columns = coefficients.shape
    padded = jnp.pad(coefficients, ((0, 0), (0, -rows % _PATCH), (0, -columns % _PATCH)))
    blocks = padded.reshape(rank, padded.shape[1] // _PATCH, _PATCH, -1, _PATCH)
    return blocks.transpose(1, 3, 2, 4, 0).reshape(-1, _PATCH**2, rank)


def _shrink(coefficients, threshold, shift):
    """Soft-thresholds the singular values of all patches of a grid that is moved by ``shift``."""
    rank, rows, columns = coefficients.shape
    patches = _patches(jnp.roll(coefficients, shift, (1, 2)))
    squares, directions = jnp.linalg.eigh(jnp.swapaxes(patches.conj(), 1, 2) @ patches)
    singular = jnp.sqrt(jnp.maximum(squares, jnp.finfo(jnp.float32).tiny))
    kept = jnp.maximum(1 - threshold / singular, 0)
    shrunk = patches @ ((directions * kept[:, None]) @ jnp.swapaxes(directions.conj(), 1, 2))
    height, width = -(-rows // _PATCH), -(-columns // _PATCH)
    blocks = shrunk.reshape(height, width, _PATCH, _PATCH, rank).transpose(4, 0, 2, 1, 3)
    image = blocks.reshape(rank, height * _PATCH, width * _PATCH)[:, :rows, :columns]
    return jnp.roll(image, -shift, (1, 2))


@jax.jit
def _largest_singular_value(coefficients):
    patches = _patches(coefficients)
    return jnp.sqrt(jnp.linalg.eigvalsh(jnp.swapaxes(patches.conj(), 1, 2) @ patches).max())
