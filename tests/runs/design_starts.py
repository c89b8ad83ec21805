"""The sequence and the tissues that designs of these tests begin with."""

import numpy as np

from ganmrf.design.bounds import precision
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.tissue import Tissue
from ganmrf.runs.simulation_config import SimulationConfig

FRAMES = 24
START = mrf_fisp(FRAMES)
OF_START = SimulationConfig(frames=FRAMES)
TISSUE = Tissue(np.array([0.832, 1.331, 2.569]), np.array([0.0792, 0.11, 0.329]))  # those of the default


def ratios(sequence, start=START, tissue=TISSUE):
    """Standard deviations of T1 and T2 over those of the start, (2, tissues)."""
    ours, others = (precision(each, tissue) for each in (sequence, start))
    return np.stack([ours.t1 / others.t1, ours.t2 / others.t2])


def written(path, titles, row):
    """A simulation of a CSV of as many equal rows as the start has frames."""
    path.write_text("\n".join([titles, *[row] * FRAMES]) + "\n", encoding="utf-8")
    return SimulationConfig(schedule=str(path))
