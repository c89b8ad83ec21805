"""Limits of a sequence by scanner, patient and timetable, and how far a sequence keeps or exhausts them."""

import dataclasses

import numpy as np

from ganmrf.physics.sequences.fisp import Fisp, require_fisp
from ganmrf.pytrees import require_positive

_NEAR = 0.01  # of a range or a limit: values this near to a bound count as at it
ROUNDING = 1e-6  # of a limit: the error of float32 values, of their sums, and of six decimals of degrees and ms


@dataclasses.dataclass(frozen=True)
class Limits:
    """Bounds of a sequence.

    Attributes:
      flip_angle: smallest and largest flip angle, rad, 0 or more.
      repetition_time: shortest and longest repetition time, s.
      echo_time: echo time of every frame, s.
      inversion_time: shortest and longest inversion time, s; one number where it is fixed; None for no inversion.
      scan_time: largest sum of the inversion time and all repetition times, s; None for any.
      scan_time_fixed: whether the sum must equal ``scan_time``.
      max_flip_change: largest change of the flip angle from one frame to the next, rad; None for any.
      rf_power: largest sum of squared flip angles divided by the scan time, rad^2/s; None for any. The RF power that is
        absorbed is proportional to it where pulses differ in amplitude alone. Saturation pulses count, too.
      saturation_angle: largest angle of the saturation pulse in front of each frame, rad; None where there are none.
        That frames are long enough for them is not checked.

    Raises:
      ValueError: a range whose ends are reversed or that no sequence can have, or limits that exclude each other for
        any number of frames.
    """

    flip_angle: tuple[float, float]
    repetition_time: tuple[float, float]
    echo_time: float
    inversion_time: tuple[float, float] | float | None = None
    scan_time: float | None = None
    scan_time_fixed: bool = False
    max_flip_change: float | None = None
    rf_power: float | None = None
    saturation_angle: float | None = None

    def __post_init__(self):
        for name in ("echo_time", "scan_time", "max_flip_change", "rf_power", "saturation_angle"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, float(value))  # arrays would be traced under `jit`
        low, high = _range("flip_angle", self.flip_angle)
        if not 0 <= low <= high <= 2 * np.pi * (1 + ROUNDING):
            raise ValueError(f"Limits.flip_angle must rise from 0 or more to 2 pi rad at most; got {low:g} to {high:g}")
        low, high = _range("repetition_time", self.repetition_time)
        if not 0 < low <= high < np.inf:
            raise ValueError(
                f"Limits.repetition_time must rise from above 0 to a finite time; got {low:g} to {high:g} s"
            )
        if not 0 <= self.echo_time <= low:
            raise ValueError(
                "Limits.echo_time must lie between 0 and the shortest repetition_time: got echo_time = "
                f"{self.echo_time:g} s, repetition_time from {low:g} s"
            )
        if self.inversion_time is not None:
            low, high = self.inversion_range
            if not 0 <= low <= high < np.inf:
                raise ValueError(f"Limits.inversion_time must rise from 0 or more; got {low:g} to {high:g} s")
        for name in ("scan_time", "max_flip_change", "rf_power", "saturation_angle"):
            if (value := getattr(self, name)) is not None:
                require_positive(f"Limits.{name}", value, "positive and finite, or None for no limit")
        if self.scan_time_fixed and self.scan_time is None:
            raise ValueError("Limits.scan_time_fixed needs a scan_time; got None")

    @property
    def inversion_range(self) -> tuple[float, float]:
        """Shortest and longest inversion time, s; (0, 0) where there is no inversion."""
        if self.inversion_time is None:
            return 0.0, 0.0
        if np.ndim(self.inversion_time) == 0:
            return float(self.inversion_time), float(self.inversion_time)
        return _range("inversion_time", self.inversion_time)


def check_feasible(
    limits: Limits,
    n_frames: int,
    *,
    repetition_times: float | None = None,
    inversion_time: float | None = None,
    energy: float | None = None,
):
    """Raises `ValueError` unless a sequence meets the limits; it names those in conflict and the change needed.

    Args:
      limits: the limits.
      n_frames: number of frames.
      repetition_times: sum of the repetition times where they are given, s; None for any that the limits allow.
      inversion_time: the inversion time where it is given, s.
      energy: sum of the squared flip angles where they are given, rad^2.
    """
    if n_frames < 1:
        raise ValueError(f"n_frames must be 1 or more; got {n_frames}")
    times = [n_frames * end for end in limits.repetition_time] if repetition_times is None else [repetition_times] * 2
    inversion = limits.inversion_range if inversion_time is None else [inversion_time] * 2
    shortest, longest = (sum(ends) for ends in zip(times, inversion, strict=True))
    if limits.scan_time is not None:
        if limits.scan_time < shortest * (1 - ROUNDING):
            raise ValueError(
                f"Limits.scan_time: {limits.scan_time:.6g} s is too short for {n_frames} frames: their shortest "
                f"repetition_time and inversion_time need at least {shortest:.6g} s"
            )
        if limits.scan_time_fixed and limits.scan_time > longest * (1 + ROUNDING):
            raise ValueError(
                f"Limits.scan_time: {limits.scan_time:.6g} s cannot be filled by {n_frames} frames: their longest "
                f"repetition_time and inversion_time fill at most {longest:.6g} s"
            )
        longest = min(longest, limits.scan_time)
    least = (n_frames * limits.flip_angle[0] ** 2 if energy is None else energy) / longest
    if limits.rf_power is not None and limits.rf_power < least * (1 - ROUNDING):
        raise ValueError(
            f"Limits.rf_power: {limits.rf_power:.6g} rad^2/s is too low for {n_frames} frames: the smallest "
            f"flip_angle they may have need at least {least:.6g} rad^2/s in {longest:.6g} s"
        )


def violations(sequence: Fisp, limits: Limits) -> dict[str, float]:
    """How far a sequence is beyond each limit, in the unit of the limit; 0 where the limit is kept, to `ROUNDING`.

    Not under `jit`: the values are read.

    Returns:
      Name of each limit that is set -> its excess; for a limit of frames, the largest of all frames.

    Raises:
      ValueError: an inversion in only one of the sequence and its limits.
    """
    angle, time, echo, inversion, scan_time = _values(sequence, limits)
    found = {
        "flip_angle": _outside(angle, *limits.flip_angle),
        "repetition_time": _outside(time, *limits.repetition_time),
        "echo_time": _outside(echo, limits.echo_time, limits.echo_time),
    }
    if limits.inversion_time is not None:
        found["inversion_time"] = _outside(inversion, *limits.inversion_range)
    if limits.scan_time is not None:
        shortest = limits.scan_time if limits.scan_time_fixed else 0.0
        found["scan_time"] = _outside(scan_time, shortest, limits.scan_time)
    if limits.max_flip_change is not None:
        # A difference of angles is as exact as the angles are.
        rounding = ROUNDING * limits.flip_angle[1]
        found["max_flip_change"] = _outside(np.abs(np.diff(angle)), 0.0, limits.max_flip_change, rounding=rounding)
    saturation = _saturation(sequence)
    if limits.saturation_angle is not None:
        found["saturation_angle"] = _outside(saturation, 0.0, limits.saturation_angle)
    if limits.rf_power is not None:
        found["rf_power"] = _outside((np.sum(angle**2) + np.sum(saturation**2)) / scan_time, 0.0, limits.rf_power)
    return found


def activity(sequence: Fisp, limits: Limits) -> dict[str, np.ndarray]:
    """Which limits a sequence reaches to 1 % of the range or limit, frame by frame where they are limits of frames.

    Not under `jit`: the values are read.

    Returns:
      Whether each frame is at "flip_angle min", "flip_angle max", "repetition_time min", "repetition_time max" and
      "max_flip_change" (from the frame before), bool, (frames,) each; and whether the sequence is at "inversion_time
      min", "inversion_time max", "scan_time" and "rf_power", bool, (). Limits that are not set, and ranges of a single
      value, are left out.

    Raises:
      ValueError: as `violations`.
    """
    angle, time, _, inversion, scan_time = _values(sequence, limits)
    found = {}
    for name, value, (low, high) in (
        ("flip_angle", angle, limits.flip_angle),
        ("repetition_time", time, limits.repetition_time),
        ("inversion_time", inversion, limits.inversion_range),
        ("saturation_angle", _saturation(sequence), (0.0, limits.saturation_angle or 0.0)),
    ):
        if low < high:
            found[f"{name} min"] = value <= low + _NEAR * (high - low)
            found[f"{name} max"] = value >= high - _NEAR * (high - low)
    if limits.max_flip_change is not None:
        change = np.abs(np.diff(angle, prepend=angle[:1]))
        found["max_flip_change"] = change >= (1 - _NEAR) * limits.max_flip_change
    if limits.scan_time is not None and not limits.scan_time_fixed:
        found["scan_time"] = np.asarray(scan_time >= (1 - _NEAR) * limits.scan_time)
    if limits.rf_power is not None:
        power = (np.sum(angle**2) + np.sum(_saturation(sequence) ** 2)) / scan_time
        found["rf_power"] = np.asarray(power >= (1 - _NEAR) * limits.rf_power)
    return found


def check_inversion(sequence: Fisp, limits: Limits):
    """Raises `ValueError` where only one of a sequence and its limits has an inversion."""
    if (sequence.inversion_time is None) != (limits.inversion_time is None):
        has, lacks = ("Limits", "sequence") if sequence.inversion_time is None else ("sequence", "Limits")
        raise ValueError(f"inversion_time must be None in both or neither; {has} has one, {lacks} has None")


def _range(name, value):
    try:
        low, high = value
        return float(low), float(high)
    except (TypeError, ValueError) as error:
        raise ValueError(f"Limits.{name} must be (smallest, largest); got {value!r}") from error


def _values(sequence, limits):
    """Flip angles, repetition times, echo times, inversion time and scan time of a sequence, float64."""
    require_fisp(sequence, "a design")
    check_inversion(sequence, limits)
    inversion = 0.0 if sequence.inversion_time is None else sequence.inversion_time
    fields = (sequence.flip_angle, sequence.repetition_time, sequence.echo_time, inversion)
    angle, time, echo, inversion = (np.asarray(value, np.float64) for value in fields)
    return angle, time, echo, inversion, inversion + time.sum()


def _saturation(sequence):
    """Angles of the saturation pulses, rad, (frames,); 0 without any."""
    angle = 0.0 if sequence.saturation_angle is None else np.asarray(sequence.saturation_angle, np.float64)
    return np.broadcast_to(angle, sequence.n_frames)


def _outside(value, low, high, rounding=0.0):
    excess = float(np.max(np.maximum(low - value, value - high), initial=0.0))
    return excess if excess > max(ROUNDING * high, rounding) else 0.0
