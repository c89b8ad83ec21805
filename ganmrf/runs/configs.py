"""The settings of an experiment, as the flags name them."""

import dataclasses

from ganmrf.dictionary.grids import grid_of, tissue_grid, values_in_ranges
from ganmrf.gan.recipes import Recipe
from ganmrf.imaging.trajectory import Spiral, design_spiral, rotated, rotation_angles
from ganmrf.io.schedule import read_schedule
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.slice_profile import sinc_slice_profile


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
    b1: str | None = None  # absent from the config.json of older runs

    def sequence(self):
        """The sequence the flags name."""
        pulseq = self.schedule is not None and self.schedule.lower().endswith(".seq")
        if self.schedule is None or pulseq:
            for name in ("echo_time_ms", "inversion_time_ms"):
                if getattr(self, name) is not None:
                    whose = "a .seq file" if pulseq else "the paper's sequence"
                    raise ValueError(f"--{name} goes with a CSV as --schedule: {whose} has its own")
        if self.schedule is None:
            return mrf_fisp() if self.frames is None else mrf_fisp(self.frames)
        times = {
            name: None if value is None else 1e-3 * value
            for name, value in (("echo_time", self.echo_time_ms), ("inversion_time", self.inversion_time_ms))
        }
        if pulseq:
            from ganmrf.io.pulseq_read import read_pulseq  # here: it imports for a second, and most runs need none

            sequence = read_pulseq(self.schedule)
        else:
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
        # A single value becomes one number, as 1 is: no axis.
        b1 = 1.0 if self.b1 is None else values_in_ranges(self.b1, "--b1").squeeze()
        if self.t1_ms is None:
            return tissue_grid(self.grid, b1)
        values = ("--t1_ms", self.t1_ms), ("--t2_ms", self.t2_ms)
        return grid_of(*(1e-3 * values_in_ranges(text, name) for name, text in values), b1)

    def slice_profile(self):
        """The slice profile the flags name, or None."""
        if self.slice_nodes < 0:
            raise ValueError(f"--slice_nodes must be 0 or more; got {self.slice_nodes}")
        if self.slice_nodes == 0:
            return None
        return sinc_slice_profile(self.slice_nodes, time_bandwidth=self.time_bandwidth, window=self.window)


@dataclasses.dataclass(frozen=True)
class SpiralConfig:
    """How k-space is sampled; the fields are the flags."""

    size: int = 256
    field_of_view_mm: float = 300.0
    interleaves: int = 48
    rotation: str = "uniform"
    centre_density: float = 2.0
    max_gradient_mt_per_m: float = 40.0
    max_slew_rate_t_per_m_s: float = 150.0
    dwell_time_us: float = 4.0

    @property
    def field_of_view(self) -> float:
        """Edge of the image, m."""
        return 1e-3 * self.field_of_view_mm

    @property
    def voxel_size(self) -> tuple[float, float]:
        """Along (y, x), m."""
        return (self.field_of_view / self.size,) * 2

    def spiral(self) -> Spiral:
        """The readout."""
        return design_spiral(
            matrix=self.size,
            field_of_view=self.field_of_view,
            interleaves=self.interleaves,
            centre_density=self.centre_density,
            max_gradient=1e-3 * self.max_gradient_mt_per_m,
            max_slew_rate=self.max_slew_rate_t_per_m_s,
            dwell_time=1e-6 * self.dwell_time_us,
        )

    def angles(self, n_frames: int):
        """By how much it is turned in each frame, rad."""
        return rotation_angles(n_frames, self.rotation, interleaves=self.interleaves)

    def trajectory(self, n_frames: int):
        """Where all frames sample k-space, 1/m, (frames, samples, 2)."""
        return rotated(self.spiral().k, self.angles(n_frames))


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """A training run; the fields, and those of the recipe, are the flags."""

    preset: str
    recipe: Recipe
    split: str
    seed: int
    every: int

    @property
    def shares(self) -> tuple[float, ...]:
        """``split`` as numbers."""
        try:
            return tuple(float(share) for share in self.split.split(","))
        except ValueError:
            raise ValueError(f"--split must be three numbers such as 0.6,0.2,0.2; got {self.split!r}") from None


def flag_facts(settings: dict) -> dict[str, str]:
    """Settings flag by flag, for a report: groups of them, dicts, one level down; what is None is left out."""
    flat = {}
    for name, value in settings.items():
        flat |= value if isinstance(value, dict) else {name: value}
    return {f"--{name}": str(value) for name, value in flat.items() if value is not None}


def stored_configs(settings: dict) -> tuple[SimulationConfig, TrainingConfig]:
    """Both parts of a run's settings, from the plain values in its ``config.json``; others are passed over.

    Raises:
      ValueError: a grid that a generator cannot learn.
    """
    training = {field.name: settings[field.name] for field in dataclasses.fields(TrainingConfig)}
    training["recipe"] = Recipe(**training["recipe"])
    simulation = SimulationConfig(**settings["simulation"])
    if simulation.tissue().b1.ndim:
        raise ValueError(f"--b1 must be one value: a generator learns T1 and T2 alone; got {simulation.b1}")
    return simulation, TrainingConfig(**training)
