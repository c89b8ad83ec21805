"""Ridge least squares in float64: how the last, linear layer of a trained network is solved for."""

from collections.abc import Iterator, Sequence

import numpy as np


def least_squares(features: np.ndarray, targets: np.ndarray, ridge: float) -> np.ndarray:
    """Weights W that minimise ``|features @ W - targets|^2 + (ridge * s)^2 |W|^2``, s the largest singular value.

    The ridge decides what is done with directions in which the features hardly vary, because hidden units are nearly
    copies of each other or outnumber the atoms: weights along singular values below ``ridge * s`` are damped. A ridge
    below the relative rounding of the features would fit that rounding.

    Args:
      features: (atoms, features), float64.
      targets: (atoms,) or (atoms, outputs), float64.
      ridge: relative to the largest singular value, dimensionless.

    Returns:
      (features,) or (features, outputs), float64.
    """
    [weights] = ridge_path(features, targets, [ridge])
    return weights


def ridge_path(features: np.ndarray, targets: np.ndarray, ridges: Sequence[float]) -> Iterator[np.ndarray]:
    """`least_squares` for one ridge after the other, from one singular value decomposition."""
    left, values, right = np.linalg.svd(features, full_matrices=False)
    projected = left.T @ targets
    for ridge in ridges:
        damped = values / (values**2 + (ridge * values[0]) ** 2)
        yield right.T @ (damped.reshape(-1, *[1] * (targets.ndim - 1)) * projected)
