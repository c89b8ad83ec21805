"""Training, validation and test set: atoms drawn at random, or whole bands of T1 and of T2 left out."""

import numpy as np

from ganmrf.physics.tissue import Tissue

SPLIT = (0.6, 0.2, 0.2)  # training, validation and test, as in the paper
SPLIT_KINDS = ("random", "blocked")
_SETS = ("training", "validation", "test")
_DRAWS = 10  # of bands, of which the nearest to the shares is taken: within 0.01 on the grid of 5970 atoms, 0.02 on 297


def check_split(split, kind: str = "random"):
    """Raises `ValueError` unless ``split`` holds shares for `split_rows` or, for ``blocked``, `blocked_rows`."""
    if len(split) != 3 or min(split) < 0 or not split[0] > 0 or abs(sum(split) - 1) > 1e-6:
        raise ValueError(f"split must be three shares that add up to 1, the first above 0; got {tuple(split)}")
    if kind == "blocked" and not any(split[1:]):
        raise ValueError(f"split must have a share for validation or test with split_kind=blocked; got {tuple(split)}")


def split_rows(n_atoms: int, split, rng: np.random.Generator) -> list[np.ndarray]:
    """Three disjoint random sets of rows, of the given shares.

    Raises:
      ValueError: shares below 0 or that do not add up to 1, no training share, or too few atoms for one of them.
    """
    check_split(split)
    ends = np.round(np.cumsum(split) * n_atoms).astype(int)
    parts = np.split(rng.permutation(n_atoms), ends[:2])
    for name, share, part in zip(_SETS, split, parts, strict=True):
        if share and not part.size:
            raise ValueError(f"a dictionary of {n_atoms} atoms is too small to split: no atom for the {name} set")
    return parts


def blocked_rows(tissue: Tissue, split, rng: np.random.Generator) -> list[np.ndarray]:
    """Three disjoint sets of rows, of which the second and third are whole bands of T1 and of T2.

    Each of the two sets, if its share is not 0, is every atom whose T1 lies in the set's band of T1, or whose T2 lies
    in its band of T2; where bands of both sets cross, the atoms are of the test set. Along each axis there are values
    for training below, between and above the bands, so that a band is a gap to interpolate across. Where the bands lie
    is drawn at random; of ten draws the one is taken whose shares are nearest to those asked for.

    Args:
      tissue: its t1 and t2 are arrays, (atoms,).
      split: shares of training, validation and test set.
      rng: what draws.

    Returns:
      Rows of the training, validation and test set, each in rising order.

    Raises:
      ValueError: shares as for `check_split`, or too few values of T1 or T2 for the bands.
    """
    check_split(split, "blocked")
    axes = {"T1": np.asarray(tissue.t1), "T2": np.asarray(tissue.t2)}
    sets = [index for index in (1, 2) if split[index]]
    for name, times in axes.items():
        if (found := np.unique(times).size) < (needed := 2 * len(sets) + 1):
            raise ValueError(
                f"split_kind=blocked leaves no band of {name}: it takes {needed} values, there are {found}"
            )
    draws = [_draw(list(axes.values()), split, sets, rng) for _ in range(_DRAWS)]
    label = min(draws, key=lambda each: np.abs(np.bincount(each, minlength=3) / each.size - split).sum())
    parts = [np.flatnonzero(label == index) for index in range(3)]
    for index in (0, *sets):
        if not parts[index].size:
            raise ValueError(f"split_kind=blocked leaves no band: no atom is left for the {_SETS[index]} set")
    return parts


def _draw(axes, split, sets, rng):
    """The set of every atom, (atoms,), for bands drawn at random."""
    label = np.zeros(axes[0].size, int)
    bands = [_bands(times, split, sets, rng) for times in axes]
    for index in sets:  # the test set last
        for times, ends in zip(axes, bands, strict=True):
            first, last = ends[index]
            label[(first <= times) & (times <= last)] = index
    return label


def _bands(times, split, sets, rng):
    """Index of a set -> first and last value of its band along an axis."""
    values, counts = np.unique(times, return_counts=True)
    # What a band of T1 and one of T2 cover together, were they independent: 1 - (1 - width)^2 of the atoms.
    left = [1 - sum(split[index] for index in sets[n:]) for n in range(len(sets) + 1)]
    widths = np.diff(np.sqrt(left)) * counts.sum()
    order = rng.permutation(len(sets))
    # Training values below, between and above the bands share the rest of the axis at random, one at least for each.
    rest = counts.sum() - widths.sum()
    gaps = rng.dirichlet(np.ones(len(sets) + 1)) * rest
    ends, start, position = {}, 1, 0.0
    middle = np.cumsum(counts) - counts / 2
    for n, which in enumerate(order):
        position += gaps[n]
        after = 2 * (len(sets) - n) - 1  # values that the bands and the training values to come need at least
        first = int(np.clip(np.searchsorted(middle, position), start, values.size - after - 1))
        position += widths[which]
        last = int(np.clip(np.searchsorted(middle, position) - 1, first, values.size - after - 1))
        ends[sets[which]] = values[first], values[last]
        start = last + 2
    return ends
