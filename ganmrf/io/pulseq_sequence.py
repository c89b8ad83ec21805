"""Any scan in a Pulseq file as a sequence to simulate, with the pulse and the spoiler of its slice.

::

    RF     inversion      |^| |^| |^|       90 180 90       |^| |^| |^|
    ADC                    --  --  --                            --  --
    crusher          |##|                           |##|
    block     Played     |   Train   |     Played        |   Train, its first frame not recorded
"""

import dataclasses
import itertools
import warnings
from typing import NamedTuple

import numpy as np

from ganmrf.io.pulseq_events import Pulse
from ganmrf.io.pulseq_preparations import is_inversion, preparations, start_of, waits
from ganmrf.io.pulseq_read import PREPARES, SAME_PHASE, echo_of, fisp_of, played_of
from ganmrf.io.pulseq_scan import Scan, read_scan
from ganmrf.io.pulseq_slice import (
    BALANCED,
    is_selective,
    like_first,
    power_of,
    rf_pulse_of,
    slice_pulse,
    spoilers,
    thickness_of,
)
from ganmrf.physics.rf_pulse import RfPulse
from ganmrf.physics.sequences.blocks import Blocks, Played, PulseSequence, Train
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.sequences.preparations import LONGEST
from ganmrf.physics.sequences.sequence_power import Power

_SAME_PLACE = 1.0  # cycles/m: within 1 m of k = 0, and less than from one line of an image to the next
_REPHASED = 0.05  # turns across the slice, by which echoes may differ


class PulseqSequence(NamedTuple):
    """What a Pulseq file plays."""

    sequence: PulseSequence  # `Fisp` where it is one, else `Blocks`
    rf_pulse: RfPulse | None  # of all excitations; None where they select no slice
    turns: float | None  # of dephasing across the slice in a frame; None where the spoiler is not along it, or no slice
    slice_thickness: float | None  # m
    power: Power  # of all pulses; `ganmrf.physics.sequences.sequence_power.with_power` gives it to the sequence


class _Excitation(NamedTuple):
    pulse: Pulse
    echoes: list[tuple[float, float]]  # times, s, and phases of the receiver, rad


def read_pulseq_sequence(
    path, *, slice_index: int | None = None, n_frames: int | None = None, rr_intervals=None, soft_delays=None
) -> PulseqSequence:
    """Reads any sequence of one excitation pulse, with or without preparations, from a file of Pulseq 1.2 to 1.5.

    What `ganmrf.io.pulseq_read.read_pulseq` reads is the same `Fisp`, with an ideal inversion, unless its spoilers are
    multiples of one. Else it is `Blocks`, where

    - an excitation is a pulse that a readout follows, or that is like one: then its frame is not recorded;
    - phases of pulses and receivers are those of the file less those of the first frame, where they are 0;
    - every echo, a readout that comes nearest to k = 0 in x and y, is a frame. Those of one excitation after the first
      are frames of 0 degrees without a spoiler between them;
    - all other pulses prepare. They are played as hard pulses of their waveforms, everywhere alike, with relaxation;
      what is transverse before them counts as crushed;
    - `Train.turns` count spoilers, the moment of the gradients between pulses along the slice, or else in any
      direction; after the last frame before a preparation they are as those between frames.

    Left out are readouts before the first pulse, and of noise or navigators by their labels; pulses after the last
    readout; other slices; and that a slice lies beside the middle, where spoilers add one phase to all of it.

    Args:
      path: the file.
      slice_index: of several slices the one to read, in the order of their first pulses.
      n_frames: the first frames alone; None for all.
      rr_intervals: a heart's, for scans with triggers, as `ganmrf.io.pulseq_times.starts_of` has them, s.
      soft_delays: values of soft delays by name, likewise, s.

    Raises:
      ValueError: with the block and what stands there: two different excitation pulses, a readout after a pulse that
        does not excite, spin echoes and other pulses that select a slice without a readout, preparations whose
        gradients neither crush nor are balanced, spoilers that are no multiples of one; or as
        `ganmrf.io.pulseq_scan.read_scan`, `ganmrf.io.pulseq_slice.slice_pulse` and
        `ganmrf.io.pulseq_read.played_of`; or ``n_frames`` that the file does not have.
    """
    scan = read_scan(path, rr_intervals=rr_intervals, soft_delays=soft_delays)
    played = played_of(scan, slice_index)
    try:
        sequence = fisp_of(scan, played)
    except ValueError:  # what stands in the way of plain FISP may be said in blocks
        sequence = None
    if sequence is not None:
        frames = [pulse for pulse, readouts in played if readouts]
        _check_alike(scan, frames, like_first(scan, frames))
        echoes = np.array([pulse.time for pulse in frames]) + np.asarray(sequence.echo_time, float)
        found = _slice_of(scan, frames, echoes, list(itertools.pairwise(frames)))
        if set(found.counts) <= {1}:
            return found.with_sequence(_first(scan, sequence, n_frames))
    try:
        return _as_blocks(scan, played, n_frames)
    except ValueError as error:  # of values that no block may have
        path = scan.file.path
        raise ValueError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error


class _Slice(NamedTuple):
    rf_pulse: RfPulse | None
    turns: float | None
    thickness: float | None
    power: Power
    counts: list[int]  # of spoilers, of each pair of excitations

    def with_sequence(self, sequence):
        power = self.power
        if isinstance(sequence, Blocks):  # how long pulses last is of use where they saturate a second pool alone
            played = [block for block in sequence.blocks if isinstance(block, Played)]
            power = power._replace(preparations=tuple(block.pulse_duration for block in played))
            plain = [
                dataclasses.replace(block, pulse_duration=None) if isinstance(block, Played) else block
                for block in sequence.blocks
            ]
            sequence = Blocks(tuple(plain))
        return PulseqSequence(sequence, self.rf_pulse, self.turns, self.thickness, power)


def _slice_of(scan, pulses, echoes, pairs) -> _Slice:
    """The slice of excitations with their echoes, s, and what spoils it between pairs of excitations."""
    if not is_selective(pulses[0]):
        return _Slice(None, None, None, power_of(pulses[0]), spoilers(scan, pairs, None)[1])
    found = slice_pulse(scan, pulses[0], echoes[0])
    thickness = thickness_of(scan, found)
    left = thickness * (scan.moments(np.array(echoes)) - scan.moments(np.array([pulse.time for pulse in pulses])))
    left = left @ found.axis
    if (most := np.abs(left - left[0]).max()) > _REPHASED:
        what = f"echoes are dephased across the slice by up to {most:.3g} turns more than the first"
        warnings.warn(f"{scan.file.path}: {what}: they are taken as alike", stacklevel=3)
    spoiler, counts = spoilers(scan, pairs, found.axis)
    turns = None if spoiler is None else float(spoiler * thickness)
    return _Slice(rf_pulse_of(found, thickness), turns, thickness, power_of(pulses[0]), counts)


def _first(scan, sequence: Fisp, n_frames) -> Fisp:
    if n_frames is None:
        return sequence
    _check_count(scan, sequence.n_frames, n_frames)
    fields = {name: getattr(sequence, name)[:n_frames] for name in ("flip_angle", "repetition_time", "echo_time")}
    return Fisp(**fields, inversion_time=sequence.inversion_time)


def _check_count(scan, there, n_frames):
    if not 1 <= n_frames <= there:
        raise ValueError(f"{scan.file.path}: n_frames must be 1 to {there}, those of the file; got {n_frames}")


def _check_alike(scan, pulses, alike):
    """Raises `ValueError` for an excitation that is not like the first one."""
    for pulse, same in zip(pulses, alike, strict=True):
        if not same:
            what = f"the excitation pulse is another one than in block {pulses[0].block}"
            raise ValueError(f"{scan.file.path}: block {pulse.block}: {what}; all of a sequence must be alike")


def _as_blocks(scan: Scan, played, n_frames) -> PulseqSequence:
    last = max(i for i, (_, readouts) in enumerate(played) if readouts)
    following = [pulse for pulse, _ in played[last + 1 : last + 2]]
    end = following[0].time if following else scan.duration
    kinds = _excites(scan, played[: last + 1])
    parts = [
        (excites, [each[0] for each in part])
        for excites, part in itertools.groupby(zip(played, kinds, strict=False), key=lambda each: each[1])
    ]
    trains = [
        [_Excitation(pulse, _echoes(scan, pulse, readouts)) for pulse, readouts in part] if excites else None
        for excites, part in parts
    ]
    echoes = [(each.pulse, time) for train in trains if train for each in train for time, _ in each.echoes]
    pairs = [(a.pulse, b.pulse) for train in trains if train for a, b in itertools.pairwise(train)]
    found = _slice_of(scan, *zip(*echoes, strict=True), pairs)
    counts, rest = iter(found.counts), min(found.counts, default=0)
    blocks = []
    for number, ((_, part), train) in enumerate(zip(parts, trains, strict=True)):
        after = parts[number + 1][1][0][0] if number + 1 < len(parts) else None  # the pulse that follows
        if train is None:
            blocks += preparations(scan, [pulse for pulse, _ in part], after.time)
            continue
        ends = [*(each.pulse.time for each in train[1:]), end if after is None else start_of(after)]
        turns = [*itertools.islice(counts, len(train) - 1), rest]
        blocks.append([row for each in zip(train, ends, turns, strict=True) for row in _rows(*each)])
    return found.with_sequence(_blocks(scan, blocks, n_frames))


def _excites(scan, played):
    """Whether each pulse of a slice excites; raises `ValueError` for one that neither excites nor prepares."""
    path, first = scan.file.path, next(pulse for pulse, readouts in played if readouts)
    alike = like_first(scan, [first, *(pulse for pulse, _ in played)])[1:]
    for (pulse, readouts), same in zip(played, alike, strict=True):
        degrees = f"{np.rad2deg(abs(pulse.flip)):.4g} degrees"
        if readouts and pulse.use in PREPARES[:-1]:
            what = f"a readout (ADC) without an excitation: the pulse before it, of {degrees}, is for {pulse.use}"
            raise ValueError(f"{path}: block {readouts[0].block}: {what}, in block {pulse.block}")
        if not readouts and not same and is_selective(pulse) and not is_inversion(pulse):
            what = (
                f"a pulse of {degrees} selects a slice without a readout, unlike that of block {first.block}, with one"
            )
            raise ValueError(f"{path}: block {pulse.block}: {what}; spin echoes and saturated slices are not read")
    excitations = [pulse for pulse, readouts in played if readouts]
    _check_alike(scan, excitations, [same for (_, readouts), same in zip(played, alike, strict=True) if readouts])
    return alike if is_selective(first) else _excites_all(scan, played)


def _excites_all(scan, played):
    """Whether each pulse excites where none selects a slice: it is followed by the moment that follows excitations."""
    times = np.array([pulse.time for pulse, _ in played])
    moments = np.diff(scan.moments(times), axis=0, append=np.full((1, 3), np.nan))
    both = [i for i in range(len(played) - 1) if played[i][1] and played[i + 1][1]]
    usual = moments[both[0]] if both else np.full(3, np.nan)
    return [
        bool(readouts)
        or (pulse.use not in PREPARES and not is_inversion(pulse) and bool(np.linalg.norm(moment - usual) < BALANCED))
        for (pulse, readouts), moment in zip(played, moments, strict=True)
    ]


def _echoes(scan, pulse, readouts):
    """Times and receiver phases of the echoes after a pulse: readouts that come as near to k = 0 as any."""
    if not readouts:
        return []
    times = np.array([echo_of(scan, pulse, readout) for readout in readouts])
    k = np.linalg.norm((scan.moments(times) - scan.moments(np.array([pulse.time])))[:, :2], axis=1)
    return [
        (time, readout.phase)
        for time, readout, distance in zip(times, readouts, k, strict=True)
        if distance < k.min() + _SAME_PLACE
    ]


class _Row(NamedTuple):
    """A frame of a train, of an excitation or, of 0 degrees, of a further echo."""

    flip_angle: float
    repetition_time: float
    echo_time: float
    rf_phase: float
    receiver_phase: float | None  # None without an echo
    turns: int
    wait: float  # after the frame, s


def _rows(excitation, end, turns):
    """The frames of an excitation until the time ``end``, s."""
    pulse, echoes = excitation
    echoes = echoes or [(pulse.time, None)]
    starts = [pulse.time, *(time for time, _ in echoes[:-1])]
    rows = []
    for start, following, (time, receiver) in zip(starts, [*starts[1:], end], echoes, strict=True):
        within = min(following - start, LONGEST)
        flip_angle, wait = 0.0 if rows else abs(pulse.flip), following - start - within
        rows.append(_Row(flip_angle, within, time - start, pulse.phase, receiver, 0, wait))
    return [*rows[:-1], rows[-1]._replace(turns=turns)]


def _blocks(scan, blocks, n_frames):
    """The blocks of lists of rows and of preparations, up to the last of the first recorded frames."""
    rows = [row for block in blocks if isinstance(block, list) for row in block]
    recorded = [i for i, row in enumerate(rows) if row.receiver_phase is not None]
    if n_frames is not None:
        _check_count(scan, len(recorded), n_frames)
        recorded = recorded[:n_frames]
    first = rows[recorded[0]]
    rf_phase = np.array([row.rf_phase - first.rf_phase for row in rows])
    receiver_phase = np.array([(row.receiver_phase or 0.0) - first.receiver_phase for row in rows])
    dummy = [row.receiver_phase is None for row in rows]
    receiver_phase[dummy] = rf_phase[dummy]
    follows = np.abs(np.angle(np.exp(1j * (receiver_phase - rf_phase)))).max() < SAME_PHASE
    rf_phase, receiver_phase = _snapped(rf_phase), None if follows else _snapped(receiver_phase)
    made, start = [], 0
    for block in blocks:
        if not isinstance(block, list):
            made.append(block)
            continue
        stop = min(start + len(block), recorded[-1] + 1)
        pauses = [i + 1 for i in range(start, stop) if rows[i].wait and i + 1 < stop]
        for a, b in itertools.pairwise([start, *pauses, stop]):
            received = None if receiver_phase is None else receiver_phase[a:b]
            made += [_train(rows[a:b], rf_phase[a:b], received), *waits(rows[b - 1].wait)]
        start += len(block)
        if start > recorded[-1]:
            break
    return Blocks(tuple(made))


def _train(rows, rf_phase, receiver_phase):
    return Train(
        *(np.array([getattr(row, name) for row in rows]) for name in ("flip_angle", "repetition_time", "echo_time")),
        rf_phase=rf_phase,
        receiver_phase=receiver_phase,
        turns=tuple(row.turns for row in rows),
        recorded=tuple(row.receiver_phase is not None for row in rows),
    )


def _snapped(phases):
    """Phases, rad, as multiples of pi where all nearly are: six digits are in a file."""
    halves = np.rint(phases / np.pi)
    return np.pi * halves if np.abs(phases - np.pi * halves).max() < SAME_PHASE else phases % (2 * np.pi)
