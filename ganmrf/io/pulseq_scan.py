"""What a Pulseq file plays from the first block to the last: pulses, readouts, and the integrals of its gradients."""

import collections
import functools
import warnings
from typing import NamedTuple

import numpy as np

from ganmrf.io.pulseq_events import (
    Gradient,
    Pulse,
    Readout,
    definition,
    extensions_of,
    gradient_of,
    pulse_of,
    readout_of,
    rotation_of,
)
from ganmrf.io.pulseq_file import read_pulseq_file
from ganmrf.memory import check_claim

# s, where the file says none: before version 1.4 it could not, and Siemens scanners have these
_RASTERS = {"GradientRasterTime": 1e-5, "RadiofrequencyRasterTime": 1e-6, "BlockDurationRaster": 1e-5}


class Moments(NamedTuple):
    """Integrals of the gradients since the start of the scan, as a function of time."""

    starts: np.ndarray  # of blocks, s
    at_starts: np.ndarray  # (blocks, 3), cycles/m
    gradients: list[tuple]  # of each block, a `Gradient` or None for x, y and z
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

    pulses: list[Pulse]
    readouts: list[Readout]
    moments: Moments
    duration: float  # s


def read_scan(path) -> Scan:
    """Reads a Pulseq file of versions 1.2 to 1.5, with rotations of gradients (1.5.1) applied.

    Labels and triggers play nothing and are left out. Blocks with a soft delay or, after the first pulse, one with a
    trigger that the scanner waits for last as long as the file says, with a warning.

    Raises:
      ValueError: as `ganmrf.io.pulseq_file.read_pulseq_file`; events that are not in the file or cannot be played; or
        extensions that are not known.
    """
    file = read_pulseq_file(path)
    samples = [len(file.shapes.get(event["shape"], ())) for event in file.events["GRADIENTS"].values()]
    check_claim(file.path, 8 * len(Gradient._fields) * sum(samples), file.path.stat().st_size)
    _warn_of_times(file)
    gradient_raster, rf_raster, block_raster = (definition(file, *raster) for raster in _RASTERS.items())
    gradient = functools.cache(functools.partial(gradient_of, file, gradient_raster))
    pulse = functools.cache(functools.partial(pulse_of, file, rf_raster))
    pulses, readouts, starts, gradients, rotations, start, left = [], [], [], [], [], 0.0, (0.0, 0.0, 0.0)
    for block in file.blocks:
        axes = zip(("gx", "gy", "gz"), left, strict=True)
        played = tuple(gradient(block[axis], value) if block[axis] else None for axis, value in axes)
        rotation = rotation_of(file, block)
        ends = [waveform.times[-1] for waveform in played if waveform]
        if block["rf"]:
            found, end = pulse(block["rf"])
            along = np.array([waveform.value(found.time) if waveform else 0.0 for waveform in played])
            along = along if rotation is None else rotation @ along
            pulses.append(found._replace(time=start + found.time, gradient=along))
            ends.append(end)
        if block["adc"]:
            found = readout_of(file, block["adc"])
            readouts.append(found._replace(start=start + found.start))
            ends.append(found.start + found.n_samples * found.dwell_time)
        duration = _duration(file, block, block_raster, ends)
        left = [
            waveform.values[-1] if waveform and waveform.times[-1] > duration - 1e-9 else 0.0 for waveform in played
        ]
        starts.append(start)
        gradients.append(played)
        rotations.append(rotation)
        start += duration
    return Scan(pulses, readouts, _moments(starts, gradients, rotations), start)


def _warn_of_times(file):
    """Warns of what may make blocks last longer, or all of it, than the file says."""
    counts, excited = collections.Counter(), False
    for block in file.blocks:
        excited |= bool(block["rf"])
        for kind, number in extensions_of(file, block) if excited else ():
            if kind == "TRIGGERS":
                trigger = file.find(file.events["extension TRIGGERS"], number, "trigger")
                counts["a trigger that the scanner waits for"] += trigger["kind"] == 2
            counts["a soft delay"] += kind == "DELAYS"
    for what, count in counts.items():
        if count:
            text = f"{count} blocks have {what}: they last as long as the file says"
            warnings.warn(f"{file.path}: {text}", stacklevel=2)
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
