"""Configuration of a simulation: its sequence, its tissue grid and its slice."""

import dataclasses
import functools

import numpy as np

from ganmrf.dictionary.grids import GRIDS, GRIDS_ON_RESONANCE, grid_axes, grid_box, pool_grid, random_tissue
from ganmrf.physics.rf_pulse import WINDOWS
from ganmrf.physics.sequences.blocks import LONGEST, PulseSequence
from ganmrf.physics.sequences.sequence_power import Power, with_power
from ganmrf.physics.slice_profile import MAX_TIME_BANDWIDTH, MIDPOINTS, N_POSITIONS, SliceModel
from ganmrf.physics.tissue import TissueModel
from ganmrf.physics.tissue_box import TissueBox
from ganmrf.runs.pulseq_schedules import is_pulseq
from ganmrf.runs.sequences import SequenceConfig
from ganmrf.runs.slices import OF_PULSE, TIME_BANDWIDTH, WINDOW, Played, PowerConfig, SliceConfig, power_of
from ganmrf.runs.tissues import FURTHER_FIELDS, SATURATED, TissueConfig, axes_of, check_axes, check_preparations
from ganmrf.settings import configuration, group, naming_fields, setting

TISSUE_FIELDS = "grid", "t1_ms", "t2_ms", "b1", "off_resonance_hz", "random_atoms", *FURTHER_FIELDS
OF_OTHER_SEQUENCES = tuple(field.name for field in dataclasses.fields(SequenceConfig) if field.name != "sequence")
OF_POOLS = *FURTHER_FIELDS, *vars(PowerConfig())
OF_OTHER_KINDS = *OF_OTHER_SEQUENCES, *OF_POOLS
# Of `group`, for those who take FISP on resonance of one pool alone.
FISP_ALONE = {
    "choices": {"sequence": ("fisp",), "grid": GRIDS_ON_RESONANCE},
    "meanings": {
        "sequence": "kind of sequence: inversion-prepared FISP",
        "frames": "frames of the sequence, from the first; default: all",
        "grid": "tissue grid of 5970, 297, or 106160 atoms",
    },
}


@configuration
class SimulationConfig:
    """Sequence, tissue grid and slice.

    The fields hold ms and text, as flags and ``config.json`` do; the methods return what they name in SI units.

    Raises:
      ValueError: a field that breaks its rule.
    """

    schedule: str | None = setting(
        None,
        "CSV with flip angles and times, or Pulseq .seq; default: the published one of its kind",
        reads=True,
        goes_with=("sequence=fisp|bssfp|cardiac",),
    )
    frames: int | None = setting(
        None,
        "frames of the sequence, from the first; default: all, or of spgr 1000 frames and of tse 32 echoes",
        at_least=1,
    )
    echo_time_ms: float | None = setting(
        None,
        "echo time in ms, where the schedule has no column for it; of bssfp and spgr by default half the repetition "
        "time",
        at_least=0,
        goes_with=("schedule", "sequence=bssfp|spgr|cardiac"),
    )
    inversion_time_ms: float | None = setting(
        None,
        "inversion time in ms; default: that of the schedule, or none",
        at_least=0,
        at_most=1e3 * LONGEST,
        goes_with=("schedule", "sequence=bssfp|spgr"),
    )
    grid: str = setting(
        "paper", "tissue grid of 5970, 297, 106160, or, with off-resonance, 563784 atoms", choices=GRIDS
    )
    t1_ms: str | None = setting(
        None, "T1 values in ms in place of --grid, such as 100:1000:10,1050:3000:50", instead_of=("grid",)
    )
    t2_ms: str | None = setting(None, "T2 values in ms in place of --grid", instead_of=("grid",))
    b1: str | None = setting(None, "B1+ values, a third axis of the grid, such as 0.7:1.3:0.05; default: 1 for all")
    slice_nodes: int = setting(
        0,
        f"nodes of --slice_model=small_tip, or positions of a partitioned slice; 0: 12, or {MIDPOINTS}",
        at_least=0,
        at_most=N_POSITIONS,
    )
    time_bandwidth: float | None = setting(
        None,
        f"time-bandwidth product of the pulse; default: that of a .seq schedule, else {TIME_BANDWIDTH:g}",
        above=0,
        at_most=MAX_TIME_BANDWIDTH,
        goes_with=OF_PULSE,
    )
    window: str | None = setting(
        None, f"window of the sinc pulse; default: {WINDOW}", choices=tuple(WINDOWS), goes_with=OF_PULSE
    )
    schedule_slice: int | None = setting(
        None, "slice of a .seq schedule that has several", at_least=0, goes_with=("schedule",)
    )
    off_resonance_hz: str | None = setting(
        None,
        "off-resonance in Hz, a further axis of the grid, such as -250:250:5; one number for all atoms; default: "
        "that of --grid, or on resonance",
    )
    random_atoms: int | None = setting(
        None,
        "so many random tissues within the ranges of the axes, in place of their grid, which explodes with many axes",
        at_least=1,
    )
    kind: SequenceConfig = group(SequenceConfig)
    slice: SliceConfig = group(SliceConfig)
    pools: TissueConfig = group(TissueConfig)
    powers: PowerConfig = group(PowerConfig)

    def __post_init__(self):
        for name, value in vars(self.powers).items():
            if value is not None and not self.pools.saturated:
                of = "|".join(SATURATED)
                raise ValueError(f"{name} would change nothing: it goes with --tissue={of}; got {value:g}")
        check_preparations(self.kind.preparations_ms, self.pools)
        if self.slice_nodes and self.slice.slice_model in ("none", "full"):
            raise ValueError(
                f"slice_nodes would change nothing: it goes with --slice_model=small_tip or a partitioned slice; got "
                f"{self.slice_nodes} with {self.slice.slice_model}"
            )
        if (self.t1_ms is None) != (self.t2_ms is None):
            raise ValueError("t1_ms and --t2_ms go together")
        check_axes(self)

    @property
    def names_sequence(self) -> bool:
        """Whether any field names a sequence: none may stand for that of a file."""
        fields = self.schedule, self.frames, self.echo_time_ms, self.inversion_time_ms
        return self.kind.sequence != "fisp" or any(value is not None for value in fields)

    def sequence(self, assumed: SliceModel = None) -> PulseSequence:
        """The sequence that the fields name.

        A semisolid pool is saturated by the pulse of the slice ``assumed``, such as that of a generator, where neither
        fields nor a schedule name another.

        Raises:
          ValueError: a schedule that cannot be read, or fields that do not go with it.
        """
        sequence = self._named()
        return with_power(sequence, self._power(sequence, assumed)) if self.pools.saturated else sequence

    def _named(self):
        names = "schedule", "schedule_slice", "frames", "echo_time_ms", "inversion_time_ms"
        return self.kind.named(**{name: getattr(self, name) for name in names})

    def power(self) -> Power:
        """Duration and shape of the excitations: those of flags, of the schedule, or of the pulse of the slice.

        Raises:
          ValueError: nothing says how long they last, or a pulse or schedule that cannot be read or made.
        """
        return self._power(self._named() if self.names_sequence else None)

    def _power(self, sequence, assumed=None):
        played = self.slice.power(self.slice_nodes, **self._pulse())
        if played.duration is None and self.slice.slice_model is None and hasattr(assumed, "pulse"):
            played = power_of(assumed.pulse)
        for name in played._fields[:2]:  # a schedule in CSV may say them
            if (own := getattr(sequence, f"pulse_{name}", None)) is not None:
                played = played._replace(**{name: own})
        return self.powers.given(played)

    def tissue(self) -> TissueModel:
        """The tissue grid, or the random tissues, that the fields name."""
        if self.random_atoms is not None:
            return random_tissue(self.box(), self.random_atoms, np.random.default_rng(0))
        return pool_grid(self.pools.tissue, **self._axes())

    def box(self) -> TissueBox:
        """The ranges of the axes of the tissue grid, and the one value of all else.

        Raises:
          ValueError: a single T1 or T2.
        """
        with naming_fields(t1="t1_ms", t2="t2_ms"):
            return grid_box(self.pools.tissue, **self._axes())

    def _axes(self):
        named = grid_axes(self.grid) if self.t1_ms is None else {}
        return named | axes_of(self) | self.pools.axes()

    def slice_profile(self) -> SliceModel:
        """The model of the slice that the fields name; None for a uniform slice.

        Raises:
          ValueError: a pulse that cannot be read or made, or a spoiler that is too weak for the model.
        """
        return self.slice.model(self.slice_nodes, **self._pulse())

    def slice_or(self, own: SliceModel) -> SliceModel:
        """The model of the slice that the fields name, or that a .seq schedule plays; ``own`` where neither says any.

        Raises:
          ValueError: as `slice_profile`.
        """
        if self.slice.slice_model is None and not self.slice_nodes:
            return self.with_slice("full").slice_profile() if is_pulseq(self.schedule) else own
        return self.slice_profile()

    def played(self) -> Played:
        """The pulse and the spoiler that the fields name, whatever model of the slice they do.

        Raises:
          ValueError: a pulse that cannot be read or made.
        """
        return self.slice.played(**self._pulse())

    def _pulse(self):
        scan = None
        if is_pulseq(self.schedule):
            names = "schedule", "schedule_slice", "frames"
            scan = functools.partial(self.kind.scan, **{name: getattr(self, name) for name in names})
        return {"time_bandwidth": self.time_bandwidth, "window": self.window, "scan": scan}

    def with_slice(self, model: str) -> "SimulationConfig":
        """The same with another model of the slice, of the same pulse and spoiler."""
        return dataclasses.replace(self, slice=dataclasses.replace(self.slice, slice_model=model), slice_nodes=0)

    def on_grid(self, grid: str) -> "SimulationConfig":
        """The same sequence and slice with a named tissue grid."""
        return dataclasses.replace(self, grid=grid, t1_ms=None, t2_ms=None, random_atoms=None)
