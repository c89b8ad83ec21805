"""Few values of B1 for the tissues that are simulated with every sequence.

In a slice the rotations of a pulse depend on position and B1, and take nine tenths of the time. Tissues of one B1 share
them, so that some hundred anchors at few values of B1 are simulated several times as fast.
"""

import numpy as np

from ganmrf.physics.tissue_box import TissueBox

# Places along the axis, 0 to 1. Of anchors, and of sentinels that may join them, the ends and the points between them
# from which polynomials interpolate best (Chebyshev's): with nine of them the errors of 512 anchors over seven axes
# were twice as large. Of held-out tissues other places, whose mean is that of random ones.
OF_ANCHORS = (1 - np.cos(np.pi * np.arange(17) / 16)) / 2
OF_HELD_OUT = (np.arange(8) + 0.5) / 8


def at_levels(box: TissueBox, cube, levels: np.ndarray) -> np.ndarray:
    """Places in the unit cube, (..., axes), with those along the axis of B1, if there is one, moved to ``levels``.

    Places that are uniform from 0 to 1 move to all levels equally often.
    """
    cube = np.array(cube)
    if "b1" in box.names:
        axis = box.names.index("b1")
        cube[..., axis] = levels[np.minimum((cube[..., axis] * len(levels)).astype(int), len(levels) - 1)]
    return cube
