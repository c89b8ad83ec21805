"""Schedules that are Pulseq files, by fields that flags and ``config.json`` hold, in ms and text."""

import contextlib
import functools
import os

import numpy as np

from ganmrf.io.pulseq_sequence import PulseqSequence, read_pulseq_sequence


def is_pulseq(schedule: str | None) -> bool:
    """Whether a schedule is a Pulseq file, by its suffix."""
    return schedule is not None and schedule.lower().endswith(".seq")


def soft_delay(text: str) -> tuple[str, float]:
    """Name and value, s, of ``name:value`` in ms; raises `ValueError` for another text."""
    name, _, value = text.rpartition(":")
    with contextlib.suppress(ValueError):
        if name and np.isfinite(time := float(value)):
            return name, 1e-3 * time
    raise ValueError(f"soft_delays_ms must be name:value in ms, such as TI:21; got {text}")


def read_played(schedule, schedule_slice=None, frames=None, rr_ms=None, soft_delays_ms=None) -> PulseqSequence:
    """The sequence of a file, and the pulse and the spoiler of its slice; the fields are those of `SimulationConfig`.

    Read again is a file that has changed alone.

    Raises:
      ValueError: a file that cannot be read, or fields that do not go with it.
    """
    changed = os.stat(schedule).st_mtime_ns if os.path.exists(schedule) else None
    return _read(schedule, changed, schedule_slice, frames, rr_ms, soft_delays_ms)


@functools.lru_cache(maxsize=2)
def _read(schedule, _, schedule_slice, frames, rr_ms, soft_delays_ms):
    return read_pulseq_sequence(
        schedule,
        slice_index=schedule_slice,
        n_frames=frames,
        rr_intervals=None if rr_ms is None else 1e-3 * np.array(rr_ms),
        soft_delays=dict(map(soft_delay, soft_delays_ms or ())),
    )
