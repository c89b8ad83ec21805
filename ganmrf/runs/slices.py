"""The slice that a command assumes: the pulse and the spoiler that are played, and the model of them."""

import numpy as np

from ganmrf.io.rf_waveform import read_waveform
from ganmrf.physics.rf_pulse import RfPulse, gaussian, windowed_sinc
from ganmrf.physics.slice_profile import FullSlice, PartitionedSlice, SliceModel, SliceProfile, small_tip
from ganmrf.physics.slr import slr
from ganmrf.settings import configuration, naming_fields, setting

MODELS = "none", "full", "partitioned", "partitioned_no_phases", "small_tip"
# Of commands that simulate what a scanner plays, for `ganmrf.settings.group`; from Python a slice is uniform.
AS_PLAYED = {"slice_model": "full"}.items()
OF_SLICE = "slice_model", "slice_nodes", "rf_pulse", "time_bandwidth", "window", "spoiler_turns"
# Where a pulse is of use: in the model of a slice, and in a Pulseq file.
OF_PULSE = "slice_model=" + "|".join(MODELS[1:]), "slice_nodes", "slice_thickness_mm"
TIME_BANDWIDTH, WINDOW, SPOILER_TURNS = 8.0, "hann", 4.0  # as our Pulseq files play where nothing else is said
_PULSES = {"sinc": windowed_sinc, "gauss": lambda product, _: gaussian(product), "slr": lambda product, _: slr(product)}


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
        choices=tuple(_PULSES),
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

    def played(self, *, time_bandwidth: float, window: str) -> FullSlice:
        """The pulse and the spoiler that are played.

        Raises:
          ValueError: a pulse that cannot be read or made, or fields that do not go together.
        """
        name = self.rf_pulse or "sinc"
        if name != "sinc" and window != WINDOW:
            raise ValueError(f"window would change nothing: it goes with --rf_pulse=sinc; got {name}")
        with naming_fields(waveform=f"{name}: the RF pulse", time_bandwidth="time_bandwidth"):
            if name in _PULSES:
                pulse = _PULSES[name](time_bandwidth, window)
            else:
                pulse = RfPulse.of_waveform(read_waveform(name), time_bandwidth)
        return FullSlice(pulse, SPOILER_TURNS if self.spoiler_turns is None else self.spoiler_turns)

    def model(self, n_nodes: int, **pulse) -> SliceModel:
        """What simulations take as ``slice_profile``, None for a uniform slice; ``pulse`` are arguments of `played`.

        ``n_nodes`` are those of a small-tip profile, or the positions of a partitioned slice; 0: as many as they have.

        Raises:
          ValueError: as `played`; or a spoiler that is too weak for the model.
        """
        kind = self.slice_model or ("small_tip" if n_nodes else "none")
        if kind == "none":
            return None
        full, nodes = self.played(**pulse), (n_nodes,) if n_nodes else ()
        if kind == "full":
            return full
        if full.turns < 1:
            raise ValueError(
                f"spoiler_turns must be at least 1 with --slice_model={kind}, whose phase graphs take every repetition "
                f"for spoiled, or --slice_model=full; got {full.turns:g}"
            )
        if kind == "small_tip":
            return small_tip(full.pulse, *nodes)
        return PartitionedSlice(full.pulse, *nodes, phases=kind == "partitioned")


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
