"""The flags by which every experiment names its sequence, slice profile and tissue grid."""

import dataclasses

import jax
import numpy as np
from absl import flags

from ganmrf.dictionary.grids import grid_of, tissue_grid, values_in_ranges
from ganmrf.physics.schedules import mrf_fisp, read_schedule
from ganmrf.physics.slice_profile import sinc_slice_profile

_SCHEDULE = flags.DEFINE_string("schedule", None, "CSV with flip angles and times; default: the paper's 1000 frames")
_FRAMES = flags.DEFINE_integer("frames", None, "frames to use, from the first; default: all")
_ECHO_TIME_MS = flags.DEFINE_float("echo_time_ms", None, "echo time, where the schedule has no column for it")
_INVERSION_TIME_MS = flags.DEFINE_float("inversion_time_ms", None, "inversion time of --schedule; default: none")
_GRID = flags.DEFINE_string("grid", "paper", "tissue grid: paper (5970 atoms), coarse (297) or fine (106160)")
_T1_MS = flags.DEFINE_string("t1_ms", None, "T1 values in place of --grid, such as 100:1000:10,1050:3000:50")
_T2_MS = flags.DEFINE_string("t2_ms", None, "T2 values in place of --grid")
_SLICE_NODES = flags.DEFINE_integer("slice_nodes", 0, "quadrature nodes of the slice profile; 0: uniform slice")
_TIME_BANDWIDTH = flags.DEFINE_float("time_bandwidth", 8.0, "time-bandwidth product of the sinc pulse")
_WINDOW = flags.DEFINE_string("window", "hann", "window of the sinc pulse: hann, hamming or none")


@dataclasses.dataclass(frozen=True)
class SimulationConfig:
    """What is simulated; the fields are the flags."""

    schedule: str | None
    frames: int | None
    echo_time_ms: float | None
    inversion_time_ms: float | None
    grid: str
    t1_ms: str | None
    t2_ms: str | None
    slice_nodes: int
    time_bandwidth: float
    window: str

    def sequence(self):
        """The sequence the flags name."""
        if self.schedule is None:
            for name in ("echo_time_ms", "inversion_time_ms"):
                if getattr(self, name) is not None:
                    raise ValueError(f"--{name} goes with --schedule: the paper's sequence has its own")
            return mrf_fisp() if self.frames is None else mrf_fisp(self.frames)
        times = {
            name: None if value is None else 1e-3 * value
            for name, value in (("echo_time", self.echo_time_ms), ("inversion_time", self.inversion_time_ms))
        }
        sequence = read_schedule(self.schedule, **times)
        if self.frames is None:
            return sequence
        if not 1 <= self.frames <= sequence.n_frames:
            raise ValueError(f"--frames must be 1 to {sequence.n_frames}, the length of --schedule; got {self.frames}")
        prefix = {
            name: getattr(sequence, name)[: self.frames] for name in ("flip_angle", "repetition_time", "echo_time")
        }
        return dataclasses.replace(sequence, **prefix)

    def tissue(self):
        """The tissue grid the flags name."""
        if (self.t1_ms is None) != (self.t2_ms is None):
            raise ValueError("--t1_ms and --t2_ms go together")
        if self.t1_ms is None:
            return tissue_grid(self.grid)
        values = ("--t1_ms", self.t1_ms), ("--t2_ms", self.t2_ms)
        return grid_of(*(1e-3 * values_in_ranges(text, name) for name, text in values))

    def slice_profile(self):
        """The slice profile the flags name, or None."""
        if self.slice_nodes < 0:
            raise ValueError(f"--slice_nodes must be 0 or more; got {self.slice_nodes}")
        if self.slice_nodes == 0:
            return None
        return sinc_slice_profile(self.slice_nodes, time_bandwidth=self.time_bandwidth, window=self.window)


def check_same_simulation(config: SimulationConfig, sequence, slice_profile, source):
    """Refuses flags on the command line that name another sequence or slice profile than a file's.

    Raises:
      ValueError: it names the flags.
    """
    kinds = {
        "sequence": (("schedule", "frames", "echo_time_ms", "inversion_time_ms"), config.sequence, sequence),
        "slice profile": (("slice_nodes", "time_bandwidth", "window"), config.slice_profile, slice_profile),
    }
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
    )
