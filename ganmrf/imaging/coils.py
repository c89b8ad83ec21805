"""Receive coils: an array around a head by Biot and Savart's law; coils with white noise, and fewer of them."""

import itertools

import numpy as np

from ganmrf.pytrees import require, require_whole

_LOOP_RADIUS, _ARRAY_RADIUS, _ROW_SPACING = 0.045, 0.14, 0.08  # m: loops of 9 cm on a helmet of 28 cm
_SEGMENTS = 64  # straight pieces of a loop: the field's error is far below that of the geometry
# With a covariance from 5 samples a coil, 0.8 of the SNR's square is left on average of what the true one would give
# (Reed et al. 1974, doi:10.1109/TAES.1974.307893): with fewer, prewhitening may lose more than it gains.
_FEWEST_SAMPLES = 5
_SAME_NOISE = 1e-6  # of the largest standard deviation or eigenvalue: float32's rounding
_HEAD_RADIUS = 0.09  # m: within this radius the array's root sum of squares is 1 on average


def head_array(n_coils: int, size: int, field_of_view: float) -> np.ndarray:
    """Sensitivities of loops on a cylinder around the slice, half of them above it and half below.

    Fewer than eight loops form one row. The image has ``size`` rows and columns and an edge of ``field_of_view``, m.

    Returns:
      (coils, y, x), complex64: ``Bx - i By`` of a current in each loop, scaled so that the root sum of squares is 1 on
      average within 90 mm of the centre.

    Raises:
      ValueError: a number of coils below 1.

    References:
      Hoult and Richards 1976, doi:10.1016/0022-2364(76)90233-X: reciprocity.
    """
    require_whole("n_coils", n_coils)
    position = field_of_view * (np.arange(size) - size // 2) / size
    y, x = np.meshgrid(position, position, indexing="ij")
    points = np.stack([x, y, np.zeros_like(x)], axis=-1)
    rows = 1 if n_coils < 8 else 2
    coils = np.arange(n_coils)
    heights = (coils % rows - (rows - 1) / 2) * _ROW_SPACING  # alternating rows, whose loops are therefore staggered
    fields = np.array([_loop_field(*place, points) for place in zip(2 * np.pi * coils / n_coils, heights, strict=True)])
    inside = np.hypot(x, y) <= _HEAD_RADIUS
    return (fields / np.linalg.norm(fields[:, inside], axis=0).mean()).astype(np.complex64)


def prewhiten(kspace: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Mixes the coils of k-space so that their noise is not correlated and has unit variance, ``E |n|^2 = 1``.

    Sums over the coils that weight them by their sensitivities then have the best SNR.

    Args:
      kspace: (frames, coils, samples).
      noise: samples of noise alone, (coils, samples); their mean is an offset of the receiver and does not count.

    Returns:
      (frames, coils, samples), complex64: the inverse Cholesky factor of the noise covariance times k-space.

    Raises:
      ValueError: noise of other coils, with fewer than 5 samples a coil, or of coils that have none or all the same.

    References:
      Pruessmann et al. 2001, doi:10.1002/mrm.1241.
    """
    coils, samples = noise.shape
    if coils != kspace.shape[1]:
        raise ValueError(f"noise has {coils} coils, but k-space has {kspace.shape[1]}")
    if samples < _FEWEST_SAMPLES * coils:
        raise ValueError(f"noise has {samples} samples, but {coils} coils need {_FEWEST_SAMPLES * coils}")
    covariance = np.atleast_2d(np.cov(noise.astype(complex)))
    deviation = np.sqrt(np.diag(covariance).real)
    if len(silent := np.flatnonzero(deviation <= _SAME_NOISE * deviation.max())):
        raise ValueError(f"noise: {len(silent)} of {coils} coils have none, first coil {silent[0]}")
    if np.linalg.eigvalsh(covariance / np.outer(deviation, deviation))[0] < _SAME_NOISE:
        raise ValueError(f"noise: that of some of the {coils} coils is a sum of that of others")
    mixing = np.linalg.inv(np.linalg.cholesky(covariance))
    return np.matmul(mixing.astype(np.complex64), kspace)


def compress_coils(kspace: np.ndarray, n_coils: int) -> tuple[np.ndarray, float]:
    """Combines the coils of k-space (frames, coils, samples) into ``n_coils`` that hold most of the energy.

    Returns:
      (frames, n_coils, samples), complex64, and the share of the energy that the virtual coils keep.

    Raises:
      ValueError: ``n_coils`` that is not 1 to the number of coils.

    References:
      Buehrer et al. 2007, doi:10.1002/mrm.21237.
    """
    mixing, energy = _main_directions(kspace, n_coils)
    return np.matmul(mixing, kspace), energy


def virtual_coils(kspace, n_coils: int, noise=None, sensitivities=None) -> tuple[np.ndarray, float, np.ndarray | None]:
    """Prewhitened coils, combined into fewer, and their sensitivities.

    Args:
      kspace: (frames, coils, samples).
      n_coils: number of virtual coils, as for `compress_coils`.
      noise: as for `prewhiten`; None leaves the coils' noise as it is.
      sensitivities: of the coils, of any scale, (coils, y, x); None where they are not known.

    Returns:
      K-space (frames, n_coils, samples), the share of the energy that it keeps, and the sensitivities of the virtual
      coils, (n_coils, y, x), complex64, with a root sum of squares of 1, or 0 where they were 0; None without any.

    Raises:
      ValueError: as `prewhiten` and `compress_coils`.
    """
    if noise is not None:
        if sensitivities is not None:
            flat = sensitivities.reshape(1, len(sensitivities), -1)
            sensitivities = prewhiten(flat, noise).reshape(sensitivities.shape)
        kspace = prewhiten(kspace, noise)
    mixing, energy = _main_directions(kspace, n_coils)
    if sensitivities is not None:
        mixed = np.tensordot(mixing, sensitivities, 1)
        norm = np.linalg.norm(mixed, axis=0)
        sensitivities = np.divide(mixed, norm, out=np.zeros_like(mixed), where=norm > 0)
    return np.matmul(mixing, kspace), energy, sensitivities


def _main_directions(kspace, n_coils):
    """Coefficients of the coils in so many virtual ones, (n_coils, coils), and the share of the energy they keep."""
    require("n_coils", n_coils, lambda n: (n >= 1) & (n <= kspace.shape[1]), f"1 to {kspace.shape[1]}")
    covariance = sum(frame @ frame.conj().T for frame in kspace)
    energies, directions = np.linalg.eigh(covariance)
    mixing = directions[:, ::-1][:, :n_coils].conj().T.astype(np.complex64)
    return mixing, float(energies[::-1][:n_coils].sum() / energies.sum())


def _loop_field(angle, height, points):
    """``Bx - i By`` at points (..., 3) of a loop around a radial axis, in an arbitrary unit."""
    turns = 2 * np.pi * np.arange(_SEGMENTS + 1) / _SEGMENTS
    outward = np.array([np.cos(angle), np.sin(angle), 0])
    along = np.array([-np.sin(angle), np.cos(angle), 0])
    centre = _ARRAY_RADIUS * outward + [0, 0, height]
    wire = centre + _LOOP_RADIUS * (np.cos(turns)[:, None] * along + np.sin(turns)[:, None] * [0, 0, 1])
    field = np.zeros(points.shape[:-1], complex)
    for start, end in itertools.pairwise(wire):
        away = points - (start + end) / 2
        crossed = np.cross(end - start, away) / np.sum(away**2, axis=-1, keepdims=True) ** 1.5
        field += crossed[..., 0] - 1j * crossed[..., 1]
    return field
