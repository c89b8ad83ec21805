"""Complex signals as real numbers, for what is linear over the reals: networks, and weights that tissue alone decides.

Real and imaginary part of each frame stand side by side. Real signals are their own columns. No norm changes.
"""

import jax
import numpy as np


def real_columns(signals: np.ndarray) -> np.ndarray:
    """A view of signals (..., frames), of complex ones as real numbers (..., 2 frames)."""
    return signals.view(signals.real.dtype)


def weighted(weights: np.ndarray, signals: np.ndarray) -> np.ndarray:
    """Sums of signals (n, frames) with real weights (m, n), (m, frames): half the work of complex products."""
    return (weights @ real_columns(signals)).view(signals.dtype)


def complex_frames(columns: jax.Array) -> jax.Array:
    """The complex signals (..., frames) whose `real_columns` these are; traceable."""
    parts = columns.reshape(*columns.shape[:-1], -1, 2)
    return jax.lax.complex(parts[..., 0], parts[..., 1])


def real_basis(basis: np.ndarray) -> np.ndarray:
    """The matrix (2 frames, 2 rank) that does to `real_columns` what a complex basis (frames, rank) does to signals."""
    parts = np.stack([np.stack([basis.real, basis.imag], -1), np.stack([-basis.imag, basis.real], -1)], 1)
    return parts.reshape(2 * len(basis), -1)


def complex_basis(matrix: np.ndarray) -> np.ndarray:
    """The complex basis (frames, rank) whose `real_basis` this is."""
    return matrix[::2, ::2] + 1j * matrix[::2, 1::2]
