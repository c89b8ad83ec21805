"""The slice that a command assumes: the pulse and the spoiler that are played, and the model of them."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ganmrf.io.pulseq_sequence import PulseqSequence
from ganmrf.io.pulseq_settings import Excitation
from ganmrf.io.pulseq_slice import read_power, read_rf_pulse
from ganmrf.io.rf_waveform import read_waveform
from ganmrf.physics.rf_pulse import RfPulse, gaussian, windowed_sinc
from ganmrf.physics.sequences.preparations import LONGEST
from ganmrf.physics.sequences.sequence_power import Power
from ganmrf.physics.slice_profile import FullSlice, PartitionedSlice, SliceModel, SliceProfile, small_tip
from ganmrf.physics.slr import slr
from ganmrf.runs.pulseq_schedules import is_pulseq
from ganmrf.runs.tissues import SATURATED
from ganmrf.settings import configuration, naming_fields, setting

MODELS = "none", "full", "partitioned", "partitioned_no_phases", "small_tip"
# Of commands that simulate what a scanner plays, for `ganmrf.settings.group`; from Python a slice is uniform.
AS_PLAYED = {"slice_model": "full"}.items()
OF_SLICE = "slice_model", "slice_nodes", "rf_pulse", "time_bandwidth", "window", "spoiler_turns"
# Where a pulse is of use: in the model of a slice, and in a Pulseq file.
OF_PULSE = "slice_model=" + "|".join(MODELS[1:]), "slice_nodes", "slice_thickness_mm"
# As our Pulseq files play where nothing else is said.
TIME_BANDWIDTH, WINDOW, SPOILER_TURNS, PULSE_DURATION_MS = 8.0, "hann", 4.0, 1.8
_SATURATED = (f"tissue={'|'.join(SATURATED)}",)
_PULSES = {"gauss": gaussian, "slr": slr}  # from a time-bandwidth product


@configuration
class SliceConfig:
    """Model of the slice, pulse and spoiler, beside --slice_nodes, --time_bandwidth and --window.

    Raises:
      ValueError: a field that breaks its rule.
    """

    slice_model: str | None = setting(
        None,
        "none: uniform; full: isochromats, turned by the pulse and dephased by the spoiler; partitioned: phase graphs "
        "with the pulse's rotations, with or without their phases; small_tip: a profile that the flip angle scales; "
        "with --slice_nodes alone small_tip, or none with 0 of them",
        choices=MODELS,
        yields_to=("slice_nodes",),
    )
    rf_pulse: str | None = setting(
        None,
        "excitation by name, or a file: samples in .npy, .npz or .csv, or the pulse of a .seq; default: that of a .seq "
        "schedule, else sinc",
        choices=("sinc", *_PULSES),
        reads=True,
        goes_with=OF_PULSE,
    )
    spoiler_turns: float | None = setting(
        None,
        "turns of dephasing across the slice in a repetition, best --time_bandwidth or more; default: those of a .seq "
        f"schedule, else {SPOILER_TURNS:g}",
        at_least=0,
        at_most=1000,
        goes_with=OF_PULSE,
    )

    def played(
        self, *, time_bandwidth: float | None, window: str | None, scan: Callable[[], PulseqSequence] | None
    ) -> "Played":
        """The pulse and the spoiler that are played; ``scan`` reads the .seq file of a schedule that is one.

        Raises:
          ValueError: a pulse that cannot be read or made, or fields that do not go together.
        """
        name, turns = self.rf_pulse, self.spoiler_turns
        own = scan is not None and name is None and time_bandwidth is None and window is None
        file = scan() if own or (scan is not None and turns is None) else None
        if turns is None:
            turns = SPOILER_TURNS if file is None else file.turns
        if own:
            return Played(file.rf_pulse, turns, None, file.power)
        if window is not None and name not in (None, "sinc"):
            raise ValueError(f"window would change nothing: it goes with --rf_pulse=sinc; got {name}")
        with naming_fields(waveform=f"{name}: the RF pulse", time_bandwidth="time_bandwidth"):
            if name in (None, "sinc"):
                window = window or WINDOW
                return Played(windowed_sinc(time_bandwidth or TIME_BANDWIDTH, window), turns, window)
            if name in _PULSES:
                return Played(_PULSES[name](time_bandwidth or TIME_BANDWIDTH), turns, None)
            if not is_pulseq(name):
                if time_bandwidth is None:
                    raise ValueError(f"time_bandwidth is required: the samples of {name} do not say it")
                return Played(RfPulse.of_waveform(read_waveform(name), time_bandwidth), turns, None)
        if time_bandwidth is not None:
            raise ValueError(f"time_bandwidth would change nothing: the pulse of {name} has its own")
        return Played(read_rf_pulse(name), turns, None, read_power(name))

    def model(self, n_nodes: int, **pulse) -> SliceModel:
        """What simulations take as ``slice_profile``, None for a uniform slice; ``pulse`` are arguments of `played`.

        ``n_nodes`` are those of a small-tip profile, or the positions of a partitioned slice; 0: as many as they have.
        The full slice of a .seq file is uniform where its pulse selects none, and partitioned where its spoiler is not
        along the slice.

        Raises:
          ValueError: as `played`; or a spoiler that is too weak for the model.
        """
        if (kind := self._kind(n_nodes)) == "none":
            return None
        (rf_pulse, turns, *_), nodes = self.played(**pulse), (n_nodes,) if n_nodes else ()
        if rf_pulse is None:
            return None
        if kind == "full" and turns is not None:
            return FullSlice(rf_pulse, turns)
        if turns is not None and abs(turns) < 1:
            raise ValueError(
                f"spoiler_turns must be at least 1 with --slice_model={kind}, whose phase graphs take every repetition "
                f"for spoiled, or --slice_model=full; got {turns:g}"
            )
        if kind == "small_tip":
            return small_tip(rf_pulse, *nodes)
        return PartitionedSlice(rf_pulse, *nodes, phases=kind != "partitioned_no_phases")

    def power(self, n_nodes: int, **pulse) -> Power:
        """Duration and shape of the pulses: of a .seq file, or of the pulse that a model of the slice is of.

        Such a pulse lasts as long as in our Pulseq files. Nothing says how long those of a uniform slice last, and they
        are rectangles. The arguments are those of `model`.

        Raises:
          ValueError: as `played`.
        """
        played = self.played(**pulse)
        if played.power is not None:
            return played.power
        return Power(None, 1.0) if self._kind(n_nodes) == "none" else power_of(played.rf_pulse)

    def _kind(self, n_nodes):
        return self.slice_model or ("small_tip" if n_nodes else "none")


def power_of(rf_pulse: RfPulse) -> Power:
    """Duration and shape of a pulse that lasts as long as in our Pulseq files."""
    samples = np.asarray(rf_pulse.samples)
    return Power(1e-3 * PULSE_DURATION_MS, float(np.mean(np.abs(samples) ** 2) / np.abs(np.mean(samples)) ** 2))


class Played(NamedTuple):
    """What excites and spoils a slice."""

    rf_pulse: RfPulse | None  # None where it selects no slice
    turns: float | None  # of dephasing across the slice in a repetition; None where the spoiler is not along it
    window: str | None  # of a sinc, and its time-bandwidth product is that of the pulse; None: another pulse
    power: Power | None = None  # of the pulse, where a .seq file says it


@configuration
class PulseConfig:
    """How a Pulseq file plays the pulse of --rf_pulse, --time_bandwidth and --window, and --spoiler_turns."""

    slice_thickness_mm: float = setting(5.0, "thickness of the excited slice in mm", above=0, at_most=1000)
    pulse_duration_ms: float = setting(PULSE_DURATION_MS, "duration of the pulse in ms", above=0)

    def excitation(self, played: Played) -> Excitation:
        """The pulse and the spoiler in a file; raises `ValueError` where there is none, or it cannot be played so."""
        for name in ("rf_pulse", "turns"):
            if getattr(played, name) is None:
                flag = {"turns": "spoiler_turns"}.get(name, name)
                raise ValueError(f"{flag} is required: the .seq file has none of its own for a slice")
        pulse = {"pulse": played.rf_pulse}
        if played.window is not None:
            pulse = {"time_bandwidth": played.rf_pulse.time_bandwidth, "window": played.window}
        with naming_fields(duration="pulse_duration_ms", spoil_cycles="spoiler_turns"):
            return Excitation(
                duration=1e-3 * self.pulse_duration_ms,
                slice_thickness=1e-3 * self.slice_thickness_mm,
                spoil_cycles=abs(played.turns),
                **pulse,
            )


@configuration
class PowerConfig:
    """Duration and shape of excitations, by which they saturate a semisolid pool."""

    pulse_duration_ms: float | None = setting(
        None,
        "duration of each excitation in ms; default: that of the schedule or of a .seq pulse, or with a --slice_model "
        f"{PULSE_DURATION_MS:g}",
        above=0,
        at_most=1e3 * LONGEST,
        goes_with=_SATURATED,
    )
    pulse_shape: float | None = setting(
        None,
        "mean of the squared waveform of each excitation over the squared mean; default: that of the schedule or of a "
        ".seq pulse, or of the pulse of the slice, or else 1, a rectangle",
        at_least=1,
        goes_with=_SATURATED,
    )

    def given(self, played: Power) -> Power:
        """The duration and the shape that the fields say, or else those of what is ``played``.

        Raises:
          ValueError: nothing says the duration.
        """
        duration = played.duration if self.pulse_duration_ms is None else 1e-3 * self.pulse_duration_ms
        if duration is None:
            raise ValueError(
                "pulse_duration_ms is required, since a semisolid pool is saturated by the power of pulses: neither a "
                "schedule nor a --slice_model says how long they last"
            )
        shape = played.shape if self.pulse_shape is None else self.pulse_shape
        return played._replace(duration=duration, shape=shape)


def slice_words(profile: SliceModel) -> str:
    """A slice in words, as reports and commands tell what they assume."""
    if profile is None:
        return "a uniform slice"
    if isinstance(profile, SliceProfile):
        return f"a small-tip slice profile of {np.size(profile.nodes)} nodes"
    pulse = f"a pulse of time-bandwidth {float(profile.pulse.time_bandwidth):.3g}"
    if isinstance(profile, FullSlice):
        return f"the full slice of {pulse} and a spoiler of {float(profile.turns):.3g} turns"
    phases = "" if profile.phases else ", phases dropped"
    return f"a partitioned slice of {pulse}, {profile.n_positions} positions{phases}"
