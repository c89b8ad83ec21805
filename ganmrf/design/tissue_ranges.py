"""The box that holds some tissue: where the population of a design lies, and the anchors for it."""

import numpy as np

from ganmrf.physics.tissue import ORDERED_TIMES, TISSUES, TissueModel, parameters
from ganmrf.physics.tissue_box import TissueBox


def ranges_of(tissue: TissueModel) -> dict[str, tuple[float, float]]:
    """Name -> least and largest value, SI, of each parameter that a tissue has, but for B1."""
    values = {name: np.asarray(value) for name, value in vars(tissue).items() if value is not None and name != "b1"}
    return {name: (float(np.min(each)), float(np.max(each))) for name, each in values.items()}


def box_of(
    tissue: TissueModel, *, axes: tuple[str, ...] = (), margin: float = 0.0, least_margin: float = 0.0
) -> TissueBox:
    """A box around some tissue, of any shape and B1; what is one value for all of it is fixed.

    Args:
      tissue: the tissue, at least one voxel.
      axes: parameters that are axes even where all tissue has the same value, beside T1 and T2.
      margin: by which the box goes beyond the tissue at either end, as a share of each range.
      least_margin: the least of these margins, relative to the larger value.

    Raises:
      ValueError: an axis without a range, where nothing makes the box wider.
    """
    facts, found, fixed = parameters(tissue), {}, {}
    for name, (low, high) in ranges_of(tissue).items():
        if low == high and name not in ("t1", "t2", *axes):
            fixed[name] = low
            continue
        more = max(margin * (high - low), least_margin * max(abs(low), abs(high)))
        least = facts[name].least if facts[name].may_be_least else low / 2
        found[name] = [max(low - more, least), min(high + more, facts[name].most)]
    for t1, t2 in ORDERED_TIMES:
        if t2 in found:  # of tissue T2 <= T1: the least T2 is no longer than any T1
            found[t2][0] = min(found[t2][0], found[t1][0] if t1 in found else fixed[t1])
    kind = next(name for name, each in TISSUES.items() if each is type(tissue))
    return TissueBox(tuple(found), *np.transpose(list(found.values())), kind=kind, fixed=fixed)
