"""The flags by which every experiment names its sequence, slice profile and tissue grid."""

import jax
import numpy as np
from absl import flags

from ganmrf.runs.configs import SimulationConfig

_SCHEDULE = flags.DEFINE_string(
    "schedule", None, "CSV with flip angles and times, or Pulseq .seq; default: the paper's"
)
_FRAMES = flags.DEFINE_integer("frames", None, "frames to use, from the first; default: all")
_ECHO_TIME_MS = flags.DEFINE_float("echo_time_ms", None, "echo time, where the schedule has no column for it")
_INVERSION_TIME_MS = flags.DEFINE_float("inversion_time_ms", None, "inversion time of --schedule; default: none")
_GRID = flags.DEFINE_string("grid", "paper", "tissue grid: paper (5970 atoms), coarse (297) or fine (106160)")
_T1_MS = flags.DEFINE_string("t1_ms", None, "T1 values in place of --grid, such as 100:1000:10,1050:3000:50")
_T2_MS = flags.DEFINE_string("t2_ms", None, "T2 values in place of --grid")
_B1 = flags.DEFINE_string("b1", None, "B1+ values, a third axis of the grid, such as 0.7:1.3:0.05; default: 1 for all")
_SLICE_NODES = flags.DEFINE_integer("slice_nodes", 0, "quadrature nodes of the slice profile; 0: uniform slice")
_TIME_BANDWIDTH = flags.DEFINE_float("time_bandwidth", 8.0, "time-bandwidth product of the sinc pulse")
_WINDOW = flags.DEFINE_string("window", "hann", "window of the sinc pulse: hann, hamming or none")


def check_same_simulation(config: SimulationConfig, sequence, slice_profile, source):
    """Refuses flags on the command line that name another sequence or slice profile than a file's.

    Without a ``sequence`` the slice profile alone is compared.

    Raises:
      ValueError: it names the flags.
    """
    kinds = {
        "sequence": (("schedule", "frames", "echo_time_ms", "inversion_time_ms"), config.sequence, sequence),
        "slice profile": (("slice_nodes", "time_bandwidth", "window"), config.slice_profile, slice_profile),
    }
    if sequence is None:
        del kinds["sequence"]
    for kind, (names, make, stored) in kinds.items():
        given = [f"--{name}" for name in names if flags.FLAGS[name].present]
        leaves = [jax.tree.leaves(tree) for tree in (make(), stored)] if given else [(), ()]
        same = len(leaves[0]) == len(leaves[1]) and all(
            np.shape(one) == np.shape(other) and np.allclose(one, other, rtol=1e-5, atol=1e-9)
            for one, other in zip(*leaves, strict=True)
        )
        if not same:
            raise ValueError(f"{' '.join(given)} gives another {kind} than the one of {source}")


def simulation_config() -> SimulationConfig:
    """The parsed flags."""
    return SimulationConfig(
        schedule=_SCHEDULE.value,
        frames=_FRAMES.value,
        echo_time_ms=_ECHO_TIME_MS.value,
        inversion_time_ms=_INVERSION_TIME_MS.value,
        grid=_GRID.value,
        t1_ms=_T1_MS.value,
        t2_ms=_T2_MS.value,
        slice_nodes=_SLICE_NODES.value,
        time_bandwidth=_TIME_BANDWIDTH.value,
        window=_WINDOW.value,
        b1=_B1.value,
    )
