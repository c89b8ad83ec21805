"""From raw data to images or coefficients for matching, in one call."""

import dataclasses

import numpy as np

from ganmrf.imaging.reconstruct import (
    conjugate_gradients,
    grid_coefficients,
    grid_frames,
    locally_low_rank,
    normal_operator,
)
from ganmrf.imaging.sensitivities import calibrate, combine
from ganmrf.imaging.trajectory import density_compensation, scaled_weights

METHODS = {
    "frames": "each frame gridded by itself",
    "gridding": "gridded in the temporal basis",
    "sense": "least squares in the temporal basis (CG-SENSE)",
    "low_rank": "least squares with a locally low-rank prior",
}


@dataclasses.dataclass(frozen=True)
class Reconstruction:
    """Reconstructed images and the coil sensitivities that they were combined with.

    Attributes:
      images: (frames, y, x) by the method ``frames``, else coefficients in the basis, (rank, y, x); complex64. `match`
        and `refine` take either.
      sensitivities: of the coils, (coils, y, x), complex64, root sum of squares 1.
      residuals: relative norm of the residual after each iteration of conjugate gradients; None for other methods.
    """

    images: np.ndarray
    sensitivities: np.ndarray
    residuals: np.ndarray | None = None


def reconstruct(
    kspace,
    trajectory,
    basis,
    shape: tuple[int, int],
    voxel_size,
    *,
    method: str = "sense",
    sensitivities=None,
    weights=None,
    iterations: int = 6,
    threshold: float = 5e-4,
    progress: bool = False,
) -> Reconstruction:
    """Images of raw data, or their coefficients in a temporal basis, by one of `METHODS`.

    The arguments are arrays of `ganmrf.imaging.reconstruct`; virtual coils (`compress_coils`) take less time. The basis
    is that of a compressed dictionary: real, the strongest column first. Sensitivities of None come from
    `calibrate`, density ``weights`` of None from `density_compensation`; given ones, (frames, samples), may have any
    scale. ``sense`` and ``low_rank`` take so many ``iterations`` of conjugate gradients, and ``low_rank`` has the
    ``threshold`` of `locally_low_rank`.

    Raises:
      ValueError: another method, or arrays that do not fit together.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}; got {method!r}")
    frames, _, samples = np.shape(kspace)
    if np.shape(trajectory) != (frames, samples, 2) or len(basis) != frames:
        raise ValueError(
            f"kspace {np.shape(kspace)} wants a trajectory {(frames, samples, 2)} and a basis of {frames} frames; got "
            f"{np.shape(trajectory)} and {len(basis)}"
        )
    if weights is None:
        weights = density_compensation(trajectory, shape, voxel_size)
    else:
        weights = scaled_weights(weights, trajectory, shape, voxel_size)
    if sensitivities is None:
        sensitivities = calibrate(kspace, trajectory, basis, shape, voxel_size)
    if method == "frames":
        images = grid_frames(kspace, trajectory, weights, sensitivities, voxel_size, progress=progress)
        return Reconstruction(images, sensitivities)
    coils = grid_coefficients(kspace, trajectory, weights, basis, shape, voxel_size, progress=progress)
    gridded = np.asarray(combine(coils, sensitivities))
    if method == "gridding":
        return Reconstruction(gridded, sensitivities)
    normal = normal_operator(trajectory, weights, basis, sensitivities, voxel_size)
    images, residuals = conjugate_gradients(normal, gridded, iterations=iterations, progress=progress)
    if method == "low_rank":
        images = locally_low_rank(normal, gridded, images, threshold=threshold, progress=progress)
    return Reconstruction(images, sensitivities, residuals)
