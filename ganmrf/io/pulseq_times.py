"""When the blocks of a Pulseq file begin: soft delays that the user sets, and triggers that the scanner waits for."""

import warnings

import numpy as np

from ganmrf.io.pulseq_events import extensions_of
from ganmrf.io.pulseq_file import PulseqFile
from ganmrf.physics.sequences.preparations import LONGEST
from ganmrf.pytrees import require_positive, require_scale


def starts_of(file: PulseqFile, durations, *, rr_intervals=None, soft_delays=None) -> np.ndarray:
    """Start of each block and the end of the last, s, (blocks + 1,).

    Args:
      file: the file.
      durations: of its blocks, as the file says, s, (blocks,).
      rr_intervals: between the triggers that the scanner waits for, from the last one before the first pulse on, s. A
        trigger ends the delay of its event in its block. None: the scanner never waits, with a warning.
      soft_delays: values by name, s: a block with that soft delay lasts value / factor + offset. Others last as long as
        the file says, with a warning.

    Raises:
      ValueError: names that the file does not have, values that make a block last less than 0 s, intervals that are not
        positive, too few or too many, or shorter than what is played between two triggers.
    """
    found = [(i, *extension) for i, block in enumerate(file.blocks) for extension in extensions_of(file, block)]
    pulses = [i for i, block in enumerate(file.blocks) if block["rf"]]
    first = pulses[0] if pulses else len(file.blocks)
    lasting = _with_soft_delays(file, np.array(durations, float), found, first, soft_delays or {})
    starts = np.concatenate([[0.0], np.cumsum(lasting)])
    waits = [(i, _trigger(file, number)) for i, kind, number in found if kind == "TRIGGERS"]
    waits = [(i, 1e-6 * event["delay"]) for i, event in waits if event["kind"] == 2]  # 1 is a trigger that is sent
    if rr_intervals is None:
        _warn(file, sum(i >= first for i, _ in waits), "a trigger that the scanner waits for")
        return starts
    before = max((k for k, (i, _) in enumerate(waits) if i <= first), default=0)
    return _with_beats(file, starts, waits[before:], np.atleast_1d(np.asarray(rr_intervals, float)))


def _trigger(file, number):
    return file.find(file.events["extension TRIGGERS"], number, "trigger")


def _warn(file, count, what):
    if count:
        warnings.warn(f"{file.path}: {count} blocks have {what}: they last as long as the file says", stacklevel=3)


def _with_soft_delays(file, lasting, found, first, values):
    """Durations of blocks, s, with the values of soft delays by their names."""
    left, names = 0, set()
    for i, kind, number in found:
        if kind != "DELAYS":
            continue
        event = file.find(file.events["extension DELAYS"], number, "soft delay")
        names.add(event["hint"])
        if event["hint"] not in values:
            left += i >= first
            continue
        lasting[i] = values[event["hint"]] / (event["factor"] or np.nan) + 1e-6 * event["offset"]
        if not lasting[i] >= 0:
            what = f"block {i + 1} would last {1e3 * lasting[i]:.6g} ms"
            raise ValueError(f"{file.path}: soft_delays: {event['hint']} is too short: {what}")
    if unknown := values.keys() - names:
        there = ", ".join(sorted(names)) or "none"
        raise ValueError(f"{file.path}: soft_delays: there is no {min(unknown)}; the file has {there}")
    _warn(file, left, "a soft delay")
    return lasting


def _with_beats(file, starts, waits, rr_intervals):
    """Starts of blocks, s, where each trigger but the first comes an interval after the one before it."""
    require_positive("rr_intervals", rr_intervals)
    require_scale("rr_intervals", rr_intervals, LONGEST, "s", "ms")
    needed = len(waits) - 1
    if not waits or rr_intervals.size not in (needed, needed + 1):
        what = f"{len(waits)} triggers that the scanner waits for, and {max(needed, 0)} intervals between them"
        raise ValueError(f"{file.path}: rr_intervals: the file has {what}; got {rr_intervals.size}")
    starts = starts.copy()
    beat = starts[waits[0][0]] + waits[0][1]
    for number, ((i, delay), interval) in enumerate(zip(waits[1:], rr_intervals, strict=False), 1):
        played = starts[i] + delay - beat
        if played > interval * (1 + 1e-9):
            what = f"lasts {interval:.6g} s, but until the trigger in block {i + 1} {played:.6g} s are played"
            raise ValueError(f"{file.path}: rr_intervals: beat {number} {what}")
        starts[i:] += interval - played
        beat += interval
    return starts
