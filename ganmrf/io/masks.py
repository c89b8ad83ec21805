"""Which voxels of a mask are inside: masks of 0 and 1, labels, probabilities, and masks that a program resampled."""

import numpy as np

_WHOLE = 0.05  # from a whole number: labels that a file has in 8 bits, scaled, are at most 0.04 from it
_LABELS = 20  # the largest label: a volume in percent or of 8 bits has larger values
_STRAY = 0.01  # share of the voxels inside that may be negative: where interpolation left one
_EXPLAINED = 0.75  # share of the variance that the two halves of evenly spread values explain: of a mask it is more


def inside(values: np.ndarray) -> np.ndarray:
    """Which voxels of a mask are inside, bool, of any shape.

    Whole numbers from 0 to 20, or 0 and one other number, are labels: all but 0 are inside. Other values are those of a
    probability, or of a mask that was resampled or scaled: inside are those that are in size at least half of the
    largest. A mask has most of its values near 0 and near the largest; what is more evenly spread is an image or a map.

    Raises:
      ValueError: values that are complex or not finite, negative ones, all 0, or such that neither rule holds for.
    """
    if np.iscomplexobj(values):
        raise ValueError(f"the mask must be real; got {values.dtype}")
    size = np.abs(np.asarray(values, float))
    if not np.isfinite(size).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(size))} of {size.size} values are NaN or infinite: write 0")
    largest, whole = size.max(initial=0), np.rint(size)
    graded = bool((np.abs(size - whole) > _WHOLE * min(1, largest)).any())
    chosen = size >= largest / 2 if graded else whole != 0
    if not chosen.any():
        raise ValueError("the mask is 0 everywhere: no voxel is inside")
    if not graded and largest > _LABELS + _WHOLE and not (whole[chosen] == np.rint(largest)).all():
        raise ValueError(
            f"the mask has several whole numbers, up to {largest:.0f}: labels beyond {_LABELS}, or a probability? "
            "Write 0 outside and 1 inside"
        )
    negative = np.count_nonzero(np.asarray(values)[chosen] < 0)
    if negative > graded * _STRAY * np.count_nonzero(chosen):
        raise ValueError(f"{negative} values are negative, as in no mask and no probability: write 0 outside")
    if graded and _explained(size, chosen) < _EXPLAINED:
        raise ValueError(
            f"many values are neither near 0 nor near the largest, {largest:.3g}: an image or a map, and no mask"
        )
    return chosen


def _explained(values, chosen):
    """Share of the variance that lies between the chosen values and the others."""
    share, variance = chosen.mean(), values.var()
    if share == 1 or variance == 0:
        return 1.0
    return share * (1 - share) * (values[chosen].mean() - values[~chosen].mean()) ** 2 / variance
