"""What a Pulseq file plays from the first block to the last: pulses, readouts, and the integrals of its gradients."""

import functools
import warnings
from typing import NamedTuple

import numpy as np

from ganmrf.io.pulseq_events import (
    Pulse,
    Readout,
    Waveform,
    definition,
    extensions_of,
    gradient_of,
    pulse_of,
    readout_of,
    rf_shape,
    rotation_of,
)
from ganmrf.io.pulseq_file import PulseqFile, read_pulseq_file
from ganmrf.io.pulseq_times import starts_of
from ganmrf.memory import check_claim

# s, where the file says none: before version 1.4 it could not, and Siemens scanners have these
_RASTERS = {"GradientRasterTime": 1e-5, "RadiofrequencyRasterTime": 1e-6, "BlockDurationRaster": 1e-5}
_ASIDE = "NOISE", "NAV"


class Moments(NamedTuple):
    """Integrals of the gradients since the start of the scan, as a function of time."""

    starts: np.ndarray  # of blocks, s
    at_starts: np.ndarray  # (blocks, 3), cycles/m
    gradients: list[tuple]  # of each block, a `Waveform` or None for x, y and z
    rotations: list  # of each block, (3, 3) or None

    def __call__(self, times) -> np.ndarray:
        """The integrals along x, y and z at times in ascending order, s, (times,): cycles/m, (times, 3)."""
        block = np.maximum(np.searchsorted(self.starts, times, side="right") - 1, 0)
        moments = self.at_starts[block]
        first = np.flatnonzero(np.diff(block, prepend=-1))
        for here in map(slice, first, [*first[1:], len(block)]):
            i = block[here.start]
            moments[here] += _within_block(self.gradients[i], self.rotations[i], times[here] - self.starts[i])
        return moments


class Scan(NamedTuple):
    """What is played, with times since the start."""

    file: PulseqFile
    pulses: list[Pulse]
    readouts: list[Readout]
    moments: Moments
    duration: float  # s


def read_scan(path, *, rr_intervals=None, soft_delays=None) -> Scan:
    """Reads a Pulseq file of versions 1.2 to 1.5, with rotations of gradients (1.5.1) applied.

    Labels play nothing, but readouts of noise or of a navigator, which labels tell, are left out. Soft delays and
    triggers last as `ganmrf.io.pulseq_times.starts_of` has them.

    Raises:
      ValueError: as `ganmrf.io.pulseq_file.read_pulseq_file` and ``starts_of``; events that are not in the file or
        cannot be played; or extensions that are not known.
    """
    file = read_pulseq_file(path)
    samples = [len(file.shapes.get(event["shape"], ())) for event in file.events["GRADIENTS"].values()]
    shapes = {(event["magnitude"], event["phase"], event.get("time")) for event in file.events["RF"].values()}
    samples += [4 * len(file.shapes.get(magnitude, ())) for magnitude, *_ in shapes]  # at both edges of steps, complex
    check_claim(file.path, 8 * len(Waveform._fields) * sum(samples), file.path.stat().st_size)
    _warn_of_rasters(file)
    gradient_raster, rf_raster, block_raster = (definition(file, *raster) for raster in _RASTERS.items())
    gradient = functools.cache(functools.partial(gradient_of, file, gradient_raster))
    shape = functools.cache(functools.partial(rf_shape, file, rf_raster))
    pulse = functools.cache(functools.partial(pulse_of, file, shape))
    pulses, readouts, durations, gradients, rotations, left, aside = [], [], [], [], [], (0.0, 0.0, 0.0), set()
    for number, block in enumerate(file.blocks, 1):
        axes = zip(("gx", "gy", "gz"), left, strict=True)
        played = tuple(gradient(block[axis], value) if block[axis] else None for axis, value in axes)
        rotation = rotation_of(file, block, number)
        aside = _set_aside(file, block, aside)
        ends = [waveform.times[-1] for waveform in played if waveform]
        if block["rf"]:
            found, end = pulse(block["rf"])
            along = np.array([waveform.value(found.time) if waveform else 0.0 for waveform in played])
            along = along if rotation is None else rotation @ along
            pulses.append(found._replace(gradient=along, block=number))
            ends.append(end)
        if block["adc"]:
            found = readout_of(file, block["adc"])
            ends.append(found.start + found.n_samples * found.dwell_time)
            if not aside:
                readouts.append(found._replace(block=number))
        duration = _duration(file, block, block_raster, ends)
        left = [
            waveform.values[-1] if waveform and waveform.times[-1] > duration - 1e-9 else 0.0 for waveform in played
        ]
        durations.append(duration)
        gradients.append(played)
        rotations.append(rotation)
    *starts, end = starts_of(file, durations, rr_intervals=rr_intervals, soft_delays=soft_delays)
    pulses = [
        pulse._replace(time=starts[pulse.block - 1] + pulse.time, start=starts[pulse.block - 1] + pulse.start)
        for pulse in pulses
    ]
    readouts = [readout._replace(start=starts[readout.block - 1] + readout.start) for readout in readouts]
    return Scan(file, pulses, readouts, _moments(starts, gradients, rotations), float(end))


def _set_aside(file, block, flags):
    """Labels that say that a readout, from this block on, is none of a frame."""
    if not block.get("extension"):
        return flags
    for kind, number in extensions_of(file, block):
        if kind == "LABELSET":
            event = file.find(file.events["extension LABELSET"], number, "label")
            if event["label"] in _ASIDE:
                flags = flags | {event["label"]} if event["value"] else flags - {event["label"]}
    return flags


def _warn_of_rasters(file):
    if file.minor_version >= 4 and (missing := [name for name in _RASTERS if name not in file.definitions]):
        taken = ", ".join(f"{name} {1e6 * _RASTERS[name]:g} us" for name in missing)
        warnings.warn(f"{file.path}: does not say, so that it is taken: {taken}", stacklevel=2)


def _duration(file, block, raster, ends):
    """S; before version 1.4 that of the longest event, of which a delay is one."""
    if block["delay"] < 0:
        raise ValueError(f"{file.path}: a block must last 0 or more; got {block['delay']}")
    if file.minor_version >= 4:
        return raster * block["delay"]
    if block["delay"]:
        ends = [*ends, 1e-6 * file.find(file.events["DELAYS"], block["delay"], "delay")["delay"]]
    return max(ends, default=0.0)


def _within_block(gradients, rotation, times):
    """Integrals along x, y and z since the start of a block, cycles/m, (times, 3)."""
    moments = np.zeros((len(times), 3))
    for axis, gradient in enumerate(gradients):
        if gradient:
            moments[:, axis] = gradient.moment(times)
    return moments if rotation is None else moments @ rotation.T


def _moments(starts, gradients, rotations):
    whole = [_within_block(*block, np.array([np.inf]))[0] for block in zip(gradients, rotations, strict=True)]
    at_starts = np.cumsum([np.zeros(3), *whole[:-1]], axis=0)
    return Moments(np.array(starts), at_starts, gradients, rotations)
