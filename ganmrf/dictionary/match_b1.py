"""Pattern matching with a map of B1+ alone."""

from ganmrf.dictionary.build import Dictionary
from ganmrf.dictionary.exact import ExactAtoms
from ganmrf.dictionary.match import Maps
from ganmrf.dictionary.match_with_maps import match_with_maps


def match_with_b1(
    dictionary: Dictionary,
    images,
    b1_map,
    *,
    mask=None,
    axis: int = 0,
    progress: bool = False,
    exact: ExactAtoms | None = None,
) -> Maps:
    """`match_with_maps` with a ``b1_map``, actual over nominal flip angle; its arguments and errors are the same."""
    how = {"mask": mask, "axis": axis, "progress": progress, "exact": exact}
    return match_with_maps(dictionary, images, b1_map=b1_map, **how)
