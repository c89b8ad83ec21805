"""Figures of sequences: flip angles, times and phases by frame, or pulses and preparations by time."""

import collections
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from ganmrf.physics.lowering import trains_of
from ganmrf.physics.rf_pulse import RfPulse, rotation
from ganmrf.physics.sequences.blocks import Delay, HalfTurns, PulseSequence, Train
from ganmrf.physics.sequences.preparations import Inversion, Played, Preparation, Saturation, T2Preparation
from ganmrf.physics.slice_profile import EXTENT, small_tip_profile
from ganmrf.report.drawing import COLOURS, legend_above, plain_axes

_PREPARATIONS = {  # what the legend says, what stands at a mark, and the colour
    Inversion: ("inversion", "inv", COLOURS[1]),
    Saturation: ("saturation", "sat", COLOURS[4]),
    T2Preparation: ("T2 preparation", "T2", COLOURS[2]),
    Played: ("preparation", "prep", COLOURS[5]),  # of another kind: one off resonance, such as that of fat
}
_FLAT_MARKS = 16  # of that many marks the labels stand side by side; those of more are turned
_SHORT = 3.0  # s: shorter sequences have their axis in ms
_POSITIONS = 301  # a hundredth of a thickness apart
_FEW = 64  # pulses that are drawn as stems of their own


class _Timeline(NamedTuple):
    """When a sequence plays what.

    Attributes:
      start: of each frame, s, (frames,).
      train: number of the train that each frame is of, (frames,).
      flip_angle: rad, (frames,).
      phase: of the pulse, degrees, (frames,).
      echo: from the pulse to the echo, s, (frames,).
      recorded: whether there is an echo, (frames,).
      marks: (start, end, preparation), s, of each preparation.
      end: of the sequence, s.
    """

    start: np.ndarray
    train: np.ndarray
    flip_angle: np.ndarray
    phase: np.ndarray
    echo: np.ndarray
    recorded: np.ndarray
    marks: list
    end: float


def schedule_figure(sequence: PulseSequence) -> Figure:
    """Flip angle, TR and, where they are no half turns, RF phase against frame; or pulses against time.

    The axis is time where anything but an inversion stands beside the frames, such as the preparations and gaps of
    cardiac sequences, which are then drawn where they are played, or where some frames are not recorded. TE is drawn
    where it varies, and else is in the title.

    References:
      Yang et al. 2020, arXiv:2004.02270, Fig. 2.
    """
    if _by_frame(sequence):
        figure, (top, *_) = schedule_panels(4.6 + 1.6 * _has_phases(sequence), {"": (sequence, COLOURS[0], 1.2)})
        top.set_title(timing(sequence, echo=True), fontsize=10)
        return figure
    return _time_figure(sequence)


def schedule_caption(sequence: PulseSequence) -> str:
    """What `schedule_figure` shows of a sequence, as a noun phrase."""
    phases = ", and RF phase of every pulse" if _has_phases(sequence) else ""
    if _by_frame(sequence):
        return f"Flip angle and repetition time of every frame{phases}."
    preparations = ", and preparations with their times in ms" if _along_time(sequence).marks else ""
    echoes = "" if _all_alike(sequence) else "; ticks are echoes"
    return f"Flip angle of every pulse, when it is played{phases}{preparations}{echoes}."


def schedule_panels(height, sequences, ranges=None):
    """A figure and its panels of flip angles and saturation angles, of TR and of RF phases, if any, above each other.

    ``sequences``: name -> sequence, colour and width of its line; ``ranges``: `Limits` whose ranges are drawn dashed.
    """
    trains = {name: (trains_of(sequence)[-1], *style) for name, (sequence, *style) in sequences.items()}
    phases = any(_has_phases(sequence) for sequence, *_ in sequences.values())
    figure, panels = plain_axes(height, 2 + phases, sharex=True)
    units = {"flip_angle": ("Flip angle (deg)", 180 / np.pi), "repetition_time": ("TR (ms)", 1e3)}
    for axes, (field, (label, scale)) in zip(panels, units.items(), strict=False):
        for name, (train, colour, width) in trains.items():
            values = scale * np.asarray(getattr(train, field), float)
            axes.plot(np.arange(1, values.size + 1), values, color=colour, linewidth=width, label=name)
            if field == "flip_angle" and train.saturation_angle is not None:
                saturation = scale * np.broadcast_to(train.saturation_angle, values.shape)
                axes.plot(np.arange(1, values.size + 1), saturation, ":", color=colour, linewidth=width)
                label += ", dotted: saturation"
        for i, bound in enumerate(getattr(ranges, field, ())):
            style = {"color": COLOURS[1], "linewidth": 1, "linestyle": "--", "label": "" if i else "limits"}
            axes.axhline(scale * bound, **style)
        axes.set_ylabel(label)
    top, middle = panels[:2]
    top.set_ylim(bottom=min(0, top.get_ylim()[0]))
    for train, colour, width in trains.values():
        if np.ptp(echo_ms := 1e3 * np.asarray(train.echo_time, float)) > 1e-3 * echo_ms.max():
            frames = np.arange(1, echo_ms.size + 1)
            middle.plot(frames, echo_ms, ":", color=colour, linewidth=width)
            middle.set_ylabel("TR, dotted TE (ms)")
    # Equal repetition times that differ by rounding must not look like a varied schedule.
    low, high = middle.get_ylim()
    margin = max(0.0, 0.02 * high - (high - low)) / 2
    middle.set_ylim(low - margin, high + margin)
    if phases:
        for train, colour, _ in trains.values():
            _draw_phases(panels[2], np.arange(1, train.n_frames + 1), _degrees(train.rf_phase), colour)
    panels[-1].set(xlabel="Frame", xlim=(0, max(train.n_frames for train, *_ in trains.values())))
    return figure, panels


def pulse_figure(pulse: RfPulse, sequence: PulseSequence) -> Figure:
    """Flip angle across the slice over that in its middle: at small angles, and half of and all the sequence's largest.

    Half a thickness from the middle, where the edge of the slice is meant to be, a line is drawn.
    """
    largest = max(np.abs(train.flip_angle).max() for train in trains_of(sequence))
    position = np.linspace(-EXTENT, EXTENT, _POSITIONS)
    figure, (axes,) = plain_axes(3.4)
    curves = {"small angles": small_tip_profile(pulse, position)}
    for angle in (largest / 2, largest):
        flip, _, _ = rotation(pulse, np.append(angle, np.full(position.size, angle)), np.append(0.0, position))
        curves[f"{np.rad2deg(angle):.0f} degrees"] = flip[1:] / flip[0]
    for (name, values), colour in zip(curves.items(), COLOURS, strict=False):
        axes.plot(position, np.abs(values), color=colour, linewidth=1.4, label=name)
    for edge in (-0.5, 0.5):
        axes.axvline(edge, color="0.6", linewidth=0.8, linestyle="--")
    axes.set(xlabel="Position (slice thicknesses)", ylabel="Flip angle / that in the middle", xlim=(-EXTENT, EXTENT))
    axes.set_ylim(bottom=0)
    legend_above(axes)
    return figure


def timing(sequence: PulseSequence, *, echo: bool = False) -> str:
    """Number of frames, scan time, inversion time or preparations and, on request, the echo time, in words."""
    played, blocks = _along_time(sequence), sequence.as_blocks().blocks
    words = [f"{sequence.n_frames} frames in {played.end:.2f} s"]
    if _by_frame(sequence):
        times = [1e3 * float(block.time) for block in blocks if isinstance(block, Inversion)]
        words += [f"TI {time:.3g} ms" for time in times] or ["no inversion"]
    else:
        counts = collections.Counter(preparation_drawn(block)[0] for block in blocks if isinstance(block, Preparation))
        words += [f"{count} {name}{'s' * (count > 1)}" for name, count in counts.items()]
    if echo and (_by_frame(sequence) or _all_alike(sequence)):
        low, high = 1e3 * played.echo[played.recorded].min(), 1e3 * played.echo[played.recorded].max()
        words += [f"TE {low:.3g} ms" if np.isclose(low, high) else f"TE {low:.3g} to {high:.3g} ms"]
        if _by_frame(sequence) and not _has_phases(sequence) and np.ptp(_degrees(trains_of(sequence)[-1].rf_phase)):
            words += ["RF phase 0 and 180 degrees"]
    return ", ".join(words)


def preparation_drawn(block) -> tuple[str, str, str]:
    """Of a preparation its name in legends, what stands at it, with its time in ms, and its colour.

    The time is that to the first frame, from the end of a played pulse; of T2 preparations it is theirs alone.
    """
    if not isinstance(block, Played):
        name, mark, colour = _PREPARATIONS[type(block)]
        return name, f"{mark} {1e3 * float(block.time):.3g}", colour
    left = _left_of_z(block)  # -1, 0 or 1 where it is what it is meant to be
    tips_down_and_up = np.abs(block.flip_angle).sum() > np.pi
    kept = T2Preparation if tips_down_and_up else Played
    kind = Inversion if left < -0.5 else Saturation if left < 0.5 else kept
    name, mark, colour = _PREPARATIONS[kind]
    time = block.time.sum() if kind is T2Preparation else block.wait
    return f"played {name}", f"{mark} {1e3 * float(time):.3g}", colour


def _left_of_z(block):
    """What the pulses of a played preparation make of a longitudinal magnetisation of 1, without relaxation."""
    found = np.array([0.0, 0.0, 1.0])
    for angle, phase in zip(np.asarray(block.flip_angle), np.asarray(block.rf_phase), strict=True):
        axis, cos = np.array([np.cos(phase), np.sin(phase), 0]), np.cos(angle)
        found = cos * found + np.sin(angle) * np.cross(axis, found) + (1 - cos) * (axis @ found) * axis
    return found[2]


def _by_frame(sequence):
    """Whether one train holds all recorded frames, and nothing but an inversion and start-up pulses are before it."""
    *before, last = sequence.as_blocks().blocks
    starts = [block for block in before if isinstance(block, Train)]
    return (
        isinstance(last, Train)
        and all(last.recorded)
        and all(isinstance(block, Inversion | Train) for block in before)
        and not any(any(train.recorded) or train.n_frames > 1 for train in starts)
    )


def _has_phases(sequence):
    """Whether RF phases are other than half turns: such that no sign says them."""
    return not all(isinstance(train.rf_phase, HalfTurns) for train in trains_of(sequence))


def _all_alike(sequence):
    """Whether every pulse is followed by an echo."""
    return all(all(train.recorded) for train in trains_of(sequence))


def _degrees(phase):
    return np.rad2deg(np.asarray(phase, float)) % 360


def _along_time(sequence) -> _Timeline:
    now, start, marks = 0.0, [], []
    trains = trains_of(sequence)
    for block in sequence.as_blocks().blocks:
        if isinstance(block, Train):
            ends = now + np.cumsum(np.asarray(block.repetition_time, float))
            start.append(np.append(now, ends[:-1]))
            now = ends[-1]
            continue
        length = float(block.time if isinstance(block, Delay) else block.duration)
        if not isinstance(block, Delay):
            marks.append((now, now + length, block))
        now += length
    fields = [
        np.concatenate([np.asarray(getattr(train, name), float) for train in trains])
        for name in ("flip_angle", "echo_time")
    ]
    phase = np.concatenate([_degrees(train.rf_phase) for train in trains])
    recorded = np.concatenate([np.asarray(train.recorded) for train in trains])
    of_train = np.repeat(np.arange(len(trains)), [train.n_frames for train in trains])
    return _Timeline(np.concatenate(start), of_train, fields[0], phase, fields[1], recorded, marks, now)


def _time_figure(sequence):
    played, phases = _along_time(sequence), _has_phases(sequence)
    unit, scale = ("ms", 1e3) if played.end < _SHORT else ("s", 1.0)
    figure, panels = plain_axes(3.4 + 1.6 * phases, 1 + phases, sharex=True, height_ratios=(2, 1)[: 1 + phases])
    top, pulses = panels[0], played.flip_angle != 0
    start, degrees = scale * played.start, np.rad2deg(played.flip_angle)
    if pulses.sum() <= _FEW:
        top.vlines(start[pulses], 0, degrees[pulses], color=COLOURS[0], linewidth=1.5, label="pulse")
        top.plot(start[pulses], degrees[pulses], "o", color=COLOURS[0], markersize=3)
    else:
        for n in np.unique(played.train):
            one = pulses & (played.train == n)
            top.fill_between(start[one], degrees[one], color=COLOURS[0], linewidth=0.8, label="" if n else "pulses")
    if not _all_alike(sequence):
        echoes = scale * (played.start + played.echo)[played.recorded]
        top.plot(echoes, np.zeros(echoes.size), "|", color="black", markersize=9, label="echo", zorder=3)
    _draw_preparations(top, played.marks, scale)
    top.set(ylabel="Flip angle (deg)")
    top.set_ylim(bottom=min(0, top.get_ylim()[0]))
    if phases:
        _draw_phases(panels[1], start[pulses], played.phase[pulses], COLOURS[0])
    margin = 0.01 * scale * played.end  # or the first pulse would be on the axis
    panels[-1].set(xlabel=f"Time ({unit})", xlim=(-margin, scale * played.end + margin))
    room = 0 if not played.marks else 14 if len(played.marks) <= _FLAT_MARKS else 34  # points, for their labels
    top.set_title(timing(sequence, echo=True), fontsize=10, pad=6 + room)
    legend_above(top)
    return figure


def _draw_preparations(axes, marks, scale):
    """A line and a stripe as long as each preparation, and above the panel what it is, with its time in ms."""
    told = set()
    place = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "ha": "center", "va": "bottom"}
    for begin, end, block in marks:
        name, mark, colour = preparation_drawn(block)
        axes.axvline(scale * begin, color=colour, linewidth=1.2)
        label = "" if name in told else name
        axes.axvspan(scale * begin, scale * end, facecolor=colour, alpha=0.4, linewidth=0, label=label)
        told.add(name)
        turned = {"rotation": 90, "fontsize": 7} if len(marks) > _FLAT_MARKS else {"fontsize": 8}
        axes.annotate(mark, (scale * (begin + end) / 2, 1), (0, 2), color=colour, **turned, **place)


def _draw_phases(axes, where, degrees, colour):
    axes.plot(where, degrees, ".", color=colour, markersize=3)
    axes.set(ylabel="RF phase (deg)", ylim=(-10, 370), yticks=(0, 90, 180, 270, 360))
