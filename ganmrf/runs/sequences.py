"""Sequences of every kind by fields that flags and ``config.json`` hold, in ms, degrees and text."""

import contextlib
import dataclasses
import inspect
import re
from collections.abc import Callable

import jax
import numpy as np

from ganmrf.io.pulseq_sequence import PulseqSequence
from ganmrf.io.schedule import read_columns, read_schedule
from ganmrf.physics.sequences.blocks import HalfTurns, PulseSequence
from ganmrf.physics.sequences.bssfp import Bssfp, ma_bssfp
from ganmrf.physics.sequences.cardiac import CardiacFisp, published_cardiac
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.sequences.multi_spin_echo import MultiSpinEcho
from ganmrf.physics.sequences.preparations import (
    LONGEST,
    Inversion,
    Saturation,
    T2Preparation,
    hard_inversion,
    hard_saturation,
    hard_t2_preparation,
    hyperbolic_secant,
    mlev4_t2_preparation,
)
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.sequences.spoiled_gradient_echo import SpoiledGradientEcho
from ganmrf.runs.pulseq_schedules import is_pulseq, read_played, soft_delay
from ganmrf.settings import configuration, naming_fields, setting

_WITH_EFFICIENCY = {"inversion": Inversion, "saturation": Saturation}
_PLAYED = {
    "hard_inversion": hard_inversion,
    "hard_saturation": hard_saturation,
    "hard_t2": hard_t2_preparation,
    "mlev4_t2": mlev4_t2_preparation,
    "hyperbolic_secant": hyperbolic_secant,
}
_PREPARATIONS = _WITH_EFFICIENCY | {"t2": T2Preparation} | _PLAYED  # from a time, s, and perhaps an efficiency
_LONGEST_MS = 1e3 * LONGEST
_SHORTEST_BEAT_MS = 10  # far below any animal's beat, and above any in s
# Where flags do not say: usual values, but for those of cardiac MRF, which are published (`published_cardiac`).
_FLIP_ANGLE_DEG, _REPETITION_MS, _ECHOES = 15.0, 10.0, 32
_CARDIAC_REPETITION_MS, _ROUND_MS = 5.1, 15 * (1000.0,)
_PUBLISHED = ("inversion:21", "none", "t2:30", "t2:50", "t2:100")
_FIELDS = {  # argument -> field
    "n_frames": "frames",
    "flip_angle": "flip_angle_deg",
    "repetition_time": "repetition_time_ms",
    "echo_time": "echo_time_ms",
    "inversion_time": "inversion_time_ms",
    "phase_increment": "phase_increment_deg",
    "refocusing_angle": "refocusing_angle_deg",
    "echo_spacing": "echo_spacing_ms",
    "rr_intervals": "rr_ms",
    "soft_delays": "soft_delays_ms",
    "slice_index": "schedule_slice",
    "preparations": "preparations_ms",
}


@contextlib.contextmanager
def _in_ms():
    """Inside, errors say times in ms, as flags and files do, in place of s."""
    try:
        yield
    except ValueError as error:
        in_ms = re.sub(r"(?<![\w.])(-?\d[\d.]*(?:e[+-]?\d+)?) s\b", lambda s: f"{1e3 * float(s[1]):.6g} ms", str(error))
        raise ValueError(in_ms) from error


@configuration
class SequenceConfig:
    """The kind of sequence, and what belongs to kinds other than FISP.

    Raises:
      ValueError: a field that breaks its rule.
    """

    sequence: str = setting(
        "fisp",
        "kind of sequence: inversion-prepared FISP, FISP in heartbeats after preparations, balanced SSFP, RF-spoiled "
        "gradient echo, or multi-spin-echo",
        choices=("fisp", "cardiac", "bssfp", "spgr", "tse"),
    )
    schedule_seed: int | None = setting(
        None, "bssfp: seed of its schedule; default: 0", at_least=0, goes_with=("sequence=bssfp",)
    )
    flip_angle_deg: float | None = setting(
        None,
        f"spgr: flip angle of every frame in degrees; default: {_FLIP_ANGLE_DEG:g}",
        above=0,
        at_most=360,
        goes_with=("sequence=spgr",),
    )
    repetition_time_ms: float | None = setting(
        None,
        f"spgr, cardiac: repetition time in ms; default: {_REPETITION_MS:g}, cardiac {_CARDIAC_REPETITION_MS:g}",
        above=0,
        at_most=_LONGEST_MS,
        goes_with=("sequence=spgr|cardiac",),
    )
    phase_increment_deg: float | None = setting(
        None,
        "spgr: increment of the RF phase's step, RF spoiling, in degrees; default: 117",
        goes_with=("sequence=spgr",),
    )
    refocusing_angle_deg: tuple[float, ...] | None = setting(
        None,
        "tse: refocusing angle in degrees, one for all echoes or one for each; default: 180",
        at_least=0,
        at_most=360,
        repeats=True,
        goes_with=("sequence=tse",),
    )
    echo_spacing_ms: float | None = setting(
        None,
        "tse: time between echoes in ms; default: 10",
        above=0,
        at_most=_LONGEST_MS,
        goes_with=("sequence=tse",),
    )
    rr_ms: tuple[float, ...] | None = setting(
        None,
        "cardiac: time from each beat to the next in ms, in the order of the beats; default: 15 beats of 1000; of a "
        ".seq schedule between its triggers; default: it never waits for one",
        above=0,
        at_most=_LONGEST_MS,
        repeats=True,
        goes_with=("sequence=cardiac", "schedule"),
    )
    frames_per_beat: int | None = setting(
        None,
        "cardiac: frames of a heartbeat; default: 47, or as --schedule has them",
        at_least=1,
        goes_with=("sequence=cardiac",),
    )
    preparations_ms: tuple[str, ...] | None = setting(
        None,
        "cardiac: before the frames of each beat in turn, none, or a preparation with a time in ms, as in t2:50; ideal "
        f"ones are inversion and saturation, which may have an efficiency, as in inversion:21:0.96, and t2; pulse by "
        f"pulse, {', '.join(_PLAYED)}; default: {','.join(_PUBLISHED)}",
        repeats=True,
        goes_with=("sequence=cardiac",),
    )

    soft_delays_ms: tuple[str, ...] | None = setting(
        None,
        "values in ms of soft delays of a .seq schedule, by name, such as TI:21; default: as the file says",
        goes_with=("schedule",),
    )

    def __post_init__(self):
        for text in self.soft_delays_ms or ():
            soft_delay(text)
        if self.rr_ms and min(self.rr_ms) < _SHORTEST_BEAT_MS:
            raise ValueError(
                f"rr_ms must be {_SHORTEST_BEAT_MS} ms or more (is it in s?); got {','.join(map(str, self.rr_ms))}"
            )
        for text in self.preparations_ms or ():
            _check_preparation(text)

    def named(self, **shared) -> PulseSequence:
        """The sequence that the fields name, and those of `SimulationConfig` that the kinds share.

        ``shared`` are ``schedule``, ``schedule_slice``, ``frames``, ``echo_time_ms`` and ``inversion_time_ms``.

        Raises:
          ValueError: a schedule that cannot be read, or fields that do not go together.
        """
        own = {name: value for name, value in vars(self).items() if name != "sequence"}
        given = {name: value for name, value in (own | shared).items() if value is not None}
        make, what = _KINDS[self.sequence], f"--sequence={self.sequence}"
        if pulseq := self.sequence == "fisp" and is_pulseq(given.get("schedule")):
            make, what = read_played, "a .seq file as --schedule"
        for name in given.keys() - inspect.signature(make).parameters.keys():
            raise ValueError(f"{name} does not go with {what}")
        with naming_fields(**_FIELDS):
            return make(**given).sequence if pulseq else make(**given)

    def scan(self, **shared) -> PulseqSequence:
        """What a .seq file plays, with the pulse and the spoiler of its slice; ``shared`` as of `named`.

        Raises:
          ValueError: a file that cannot be read.
        """
        with naming_fields(**_FIELDS):
            return read_played(**shared, rr_ms=self.rr_ms, soft_delays_ms=self.soft_delays_ms)


def _fisp(schedule=None, frames=None, echo_time_ms=None, inversion_time_ms=None) -> Fisp:
    times = {"echo_time_ms": echo_time_ms, "inversion_time_ms": inversion_time_ms}
    if schedule is None:
        for name, value in times.items():
            if value is not None:
                raise ValueError(f"{name} goes with a CSV as --schedule: the paper's sequence has its own")
        return mrf_fisp() if frames is None else mrf_fisp(frames)
    with _in_ms():
        return _first(read_schedule(schedule, **_seconds(times)), frames)


@_in_ms()
def _bssfp(schedule=None, frames=None, echo_time_ms=None, inversion_time_ms=None, schedule_seed=None) -> Bssfp:
    times = _seconds({"echo_time_ms": echo_time_ms, "inversion_time_ms": inversion_time_ms})
    if schedule is None:
        sequence = ma_bssfp(1000 if frames is None else frames, schedule_seed or 0)
        return dataclasses.replace(sequence, **times)
    if schedule_seed is not None:
        raise ValueError("schedule_seed stands in place of --schedule: give one of them")
    _require_csv(schedule, "bssfp")
    return _first(read_schedule(schedule, kind=Bssfp, **times), frames)


@_in_ms()
def _spgr(
    frames=1000,
    flip_angle_deg=_FLIP_ANGLE_DEG,
    repetition_time_ms=_REPETITION_MS,
    echo_time_ms=None,
    inversion_time_ms=None,
    phase_increment_deg=117.0,
) -> SpoiledGradientEcho:
    return SpoiledGradientEcho(
        np.full(frames, np.deg2rad(flip_angle_deg)),
        1e-3 * repetition_time_ms,
        1e-3 * (repetition_time_ms / 2 if echo_time_ms is None else echo_time_ms),
        None if inversion_time_ms is None else 1e-3 * inversion_time_ms,
        phase_increment=np.deg2rad(phase_increment_deg),
    )


def _tse(frames=None, refocusing_angle_deg=(180.0,), echo_spacing_ms=10.0) -> MultiSpinEcho:
    angles = np.deg2rad(refocusing_angle_deg)
    if angles.size == 1:
        angles = np.full(_ECHOES if frames is None else frames, angles[0])
    elif frames not in (None, angles.size):
        raise ValueError(f"frames must be {angles.size}, the number of --refocusing_angle_deg; got {frames}")
    return MultiSpinEcho(angles, 1e-3 * echo_spacing_ms)


@_in_ms()
def _cardiac(
    schedule=None,
    rr_ms=_ROUND_MS,
    frames_per_beat=None,
    repetition_time_ms=_CARDIAC_REPETITION_MS,
    echo_time_ms=None,
    preparations_ms=_PUBLISHED,
) -> CardiacFisp:
    shape = {} if frames_per_beat is None else {"frames_per_beat": frames_per_beat}
    if schedule is not None:
        _require_csv(schedule, "cardiac")
        flip_angle = read_columns(schedule).get("flip_angle")
        if flip_angle is None:
            raise ValueError(f"schedule: {schedule} has no column flip_angle_deg")
        shape = {"frames_per_beat": flip_angle.size} | shape | {"flip_angle": flip_angle}
    return published_cardiac(
        1e-3 * np.array(rr_ms),
        repetition_time=1e-3 * repetition_time_ms,
        preparations=tuple(map(_preparation, preparations_ms)),
        **shape,
        **_seconds({"echo_time_ms": echo_time_ms}),
    )


_KINDS: dict[str, Callable[..., PulseSequence]] = {
    "fisp": _fisp,
    "cardiac": _cardiac,
    "bssfp": _bssfp,
    "spgr": _spgr,
    "tse": _tse,
}


def _seconds(times_ms):
    """Arguments of a library's function, s, of those fields in ms that are given."""
    return {name.removesuffix("_ms"): 1e-3 * time for name, time in times_ms.items() if time is not None}


def _preparation(text):
    """A preparation from ``name:time`` in ms or ``name:time:efficiency``, or None from ``none``."""
    name, *numbers = text.split(":")
    if name == "none":
        return None
    time, *efficiency = map(float, numbers)
    return _PREPARATIONS[name](1e-3 * time, *efficiency)


def _check_preparation(text):
    """Raises `ValueError` for what `_preparation` cannot read; nothing is computed."""
    name, *numbers = text.split(":")
    try:
        time, efficiency, *more = [*map(float, numbers), *[1.0] * (2 - len(numbers))]
        known = text == "none" or (numbers and name in (_WITH_EFFICIENCY if len(numbers) > 1 else _PREPARATIONS))
    except ValueError:
        known = False
    if not known or more:
        rule = (
            f"none, or {', '.join(_PREPARATIONS)} with a time in ms, such as t2:50, and {' or '.join(_WITH_EFFICIENCY)}"
        )
        rule += " perhaps an efficiency, such as inversion:21:0.96"
        raise ValueError(f"preparations_ms must be {rule}, separated by commas; got {text}")
    if not 0 <= time <= _LONGEST_MS:
        raise ValueError(f"preparations_ms must have times from 0 to {_LONGEST_MS:g} ms; got {text}")
    if not 0 <= efficiency <= 1:
        raise ValueError(f"preparations_ms must have efficiencies from 0 to 1; got {text}")


def _require_csv(schedule, kind):
    if is_pulseq(schedule):
        raise ValueError(f"schedule of --sequence={kind} must be a CSV: a .seq file says by itself what it plays")


def _first(sequence, frames):
    """The first ``frames`` of a sequence that is described frame by frame; all for None."""
    if frames is None:
        return sequence
    if frames > sequence.n_frames:
        raise ValueError(f"frames must be 1 to {sequence.n_frames}, the length of --schedule; got {frames}")

    def shorter(leaf):
        if isinstance(leaf, HalfTurns):
            return HalfTurns(leaf.counts[:frames])
        return leaf[:frames] if leaf.ndim else leaf

    return jax.tree.map(shorter, sequence, is_leaf=lambda leaf: isinstance(leaf, HalfTurns))
