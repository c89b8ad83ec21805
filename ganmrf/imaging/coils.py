"""Receive coils: an array around a head by Biot and Savart's law, and fewer virtual ones in place of many."""

import itertools

import numpy as np

from ganmrf.pytrees import require, require_whole

_LOOP_RADIUS, _ARRAY_RADIUS, _ROW_SPACING = 0.045, 0.14, 0.08  # m: loops of 9 cm on a helmet of 28 cm
_SEGMENTS = 64  # straight pieces of a loop: the field's error is far below that of the geometry
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


def compress_coils(kspace: np.ndarray, n_coils: int) -> tuple[np.ndarray, float]:
    """Combines the coils of k-space (frames, coils, samples) into ``n_coils`` that hold most of the energy.

    Returns:
      (frames, n_coils, samples), complex64, and the share of the energy that the virtual coils keep.

    Raises:
      ValueError: ``n_coils`` that is not 1 to the number of coils.

    References:
      Buehrer et al. 2007, doi:10.1002/mrm.21237.
    """
    require("n_coils", n_coils, lambda n: (n >= 1) & (n <= kspace.shape[1]), f"1 to {kspace.shape[1]}")
    covariance = sum(frame @ frame.conj().T for frame in kspace)
    energies, directions = np.linalg.eigh(covariance)
    mixing = directions[:, ::-1][:, :n_coils].conj().T.astype(np.complex64)
    return np.matmul(mixing, kspace), float(energies[::-1][:n_coils].sum() / energies.sum())


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
