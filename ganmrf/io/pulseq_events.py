"""The events of a Pulseq file in SI units: pulses, readouts, gradients and their rotations, each from its block on."""

import math
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from ganmrf.io.pulseq_file import MOST_SAMPLES, PulseqFile
from ganmrf.physics.constants import GYROMAGNETIC_RATIO

_NO_TIME = 1e-12  # s, of a step in which a gradient jumps
_FIELD = 3.0  # T: offsets in ppm are nearly the same for all pulses of a scan, so that the field hardly matters
_UNIT = 1e-3  # of the length of a quaternion: six digits are in a file
_USES = {"e": "excitation", "r": "refocusing", "i": "inversion", "s": "saturation", "p": "preparation", "o": "other"}
_PLAY_NOTHING = ("TRIGGERS", "LABELSET", "LABELINC", "DELAYS")


class Waveform(NamedTuple):
    """A gradient on one axis, in Hz/m, or a pulse, complex, in its amplitudes: straight lines between points."""

    times: np.ndarray  # s
    values: np.ndarray
    moments: np.ndarray  # integrals up to each time: cycles/m, or s

    def moment(self, times) -> np.ndarray:
        """The integral up to some times."""
        i = np.clip(np.searchsorted(self.times, times, side="right") - 1, 0, len(self.times) - 2)
        step, rise = self.times[i + 1] - self.times[i], self.values[i + 1] - self.values[i]
        into = np.clip(times - self.times[i], 0, step)
        return self.moments[i] + into * (self.values[i] + rise * into / (2 * np.maximum(step, _NO_TIME)))

    def value(self, time) -> np.ndarray:
        """The values at some times."""
        return np.interp(time, self.times, self.values, left=0, right=0)


class Pulse(NamedTuple):
    """An RF pulse."""

    time: float  # of its centre, s
    flip: complex  # the flip angle on resonance, with the phase at the centre, rad
    use: str  # a word of Pulseq; "undefined" in files before version 1.5
    frequency: float  # Hz
    phase: float  # of the flip angle, also of one of 0, rad
    amplitude: complex  # Hz, with the phase at the start, of what the waveform is a multiple
    waveform: Waveform  # from the start of the pulse, s
    start: float  # of the pulse, s
    gradient: np.ndarray | None = None  # along x, y and z at the centre, Hz/m
    block: int = 0  # in which it is played, from 1


class Readout(NamedTuple):
    """The samples of an ADC event, each in the middle of its dwell time."""

    start: float  # s
    n_samples: int
    dwell_time: float  # s
    phase: float  # rad
    block: int = 0  # in which it is played, from 1


def definition(file: PulseqFile, name: str, default: float) -> float:
    """A number above 0 of the definitions, or the default where there is none; raises `ValueError` for another."""
    try:
        value = float(file.definitions.get(name, default))
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        held = file.definitions[name][:40]
        raise ValueError(f"{file.path}: the definition {name} must be a number above 0; got {held!r}")
    return value


def rf_shape(file: PulseqFile, raster: float, magnitude, phase, spacing) -> Waveform:
    """The waveform of the shapes of an RF event, on a raster in s; a phase or spacing of 0 has no shape.

    Without a spacing samples lie in the middle of the steps of the raster, and hold for each step.
    """
    size = file.find(file.shapes, magnitude, "shape")
    turns = file.find(file.shapes, phase, "shape") if phase else np.zeros_like(size)
    steps = np.arange(len(size)) + 0.5
    times = file.find(file.shapes, spacing, "shape") if spacing else steps
    what = f"RF shape {magnitude:g}"
    if len(size) != len(turns):
        raise ValueError(f"{file.path}: {what} and its phases, shape {phase:g}, do not go together")
    values = size * np.exp(2j * np.pi * turns)
    if len(times) == len(values) and np.allclose(np.diff(times), 2 * times[0], rtol=1e-3, atol=0):
        times, values = np.repeat(2 * times[0] * np.arange(len(size) + 1), 2)[1:-1], np.repeat(values, 2)
    return _integrated(file, what, raster * times, values)


def pulse_of(file: PulseqFile, shape_of, number: int) -> tuple[Pulse, float]:
    """The pulse of an RF event, from the start of its block, and the time at which it ends, s.

    Its waveform is that of ``shape_of(magnitude, phase, spacing)``, as `rf_shape` has it. The centre is in files of
    version 1.5; in others it is the middle of the highest plateau, as Pulseq takes it.
    """
    event = file.find(file.events["RF"], number, "RF event")
    waveform = shape_of(event["magnitude"], event["phase"], event.get("time", 0))
    if "center" in event:
        centre = 1e-6 * event["center"]
    else:
        size = np.abs(waveform.values)
        highest = waveform.times[size >= (1 - 1e-5) * size.max()]
        centre = (highest[0] + highest[-1]) / 2
    frequency = event["frequency"] + _from_ppm(file, event.get("frequency_ppm", 0))
    angle = event["phase_offset"] + _from_ppm(file, event.get("phase_ppm", 0))
    area = waveform.moments[-1] * np.exp(2j * np.pi * frequency * centre)
    turned = np.exp(1j * angle) * (-1 if event["amplitude"] < 0 else 1)
    delay, amplitude = 1e-6 * event["delay"], abs(event["amplitude"])
    pulse = Pulse(
        time=delay + centre,
        flip=2 * np.pi * amplitude * turned * area,
        use=_USES.get(event.get("use"), "undefined"),
        frequency=frequency,
        phase=float(np.angle(turned * area)),
        amplitude=amplitude * turned,
        waveform=waveform,
        start=delay,
    )
    return pulse, delay + waveform.times[-1]


def _from_ppm(file, value):
    """An offset in ppm in Hz, and one in rad/MHz in rad."""
    return 1e-6 * GYROMAGNETIC_RATIO * definition(file, "B0", _FIELD) * value


def readout_of(file: PulseqFile, number: int) -> Readout:
    """The readout of an ADC event."""
    event = file.find(file.events["ADC"], number, "ADC event")
    if not 1 <= event["samples"] <= MOST_SAMPLES or event["dwell"] <= 0:
        what = f"a readout of {event['samples']:.4g} samples of {event['dwell']:.4g} ns"
        raise ValueError(f"{file.path}: {what}; 1 to {MOST_SAMPLES} are read, of more than 0")
    phase = event["phase_offset"] + _from_ppm(file, event.get("phase_ppm", 0))
    return Readout(1e-6 * event["delay"], int(event["samples"]), 1e-9 * event["dwell"], phase)


def gradient_of(file: PulseqFile, raster: float, number: int, before: float) -> Waveform:
    """The waveform of a gradient event, a trapezoid or a shape on a raster in s.

    Samples lie in the middle of the steps of the raster, and with a time shape of -1 also between the steps. The values
    at the first and the last edge are in files of version 1.5; in others the first is ``before``, what the block before
    left, and the last lies on the line through the last two samples, as in pypulseq.
    """
    if number in file.events["TRAP"]:
        event = file.events["TRAP"][number]
        times = np.cumsum([event[name] for name in ("delay", "rise", "flat", "fall")])
        return _integrated(
            file, f"gradient {number}", 1e-6 * times, event["amplitude"] * np.array([0.0, 1.0, 1.0, 0.0])
        )
    event = file.find(file.events["GRADIENTS"], number, "gradient")
    values = event["amplitude"] * file.find(file.shapes, event["shape"], "shape")
    spacing, delay = event.get("time", 0), 1e-6 * event["delay"]
    if spacing not in (0, -1):
        times = raster * file.find(file.shapes, spacing, "shape")
        return _integrated(file, f"gradient {number}", delay + times, values)
    times = raster * (np.arange(len(values)) + 0.5 if spacing == 0 else (np.arange(len(values)) + 1) / 2)
    first = event.get("first", 0.0 if delay else before)
    last = event.get("last", 1.5 * values[-1] - 0.5 * values[-2:][0])
    times = np.concatenate([[0.0], times, [times[-1] + raster / 2]])
    return _integrated(file, f"gradient {number}", delay + times, np.concatenate([[first], values, [last]]))


def _integrated(file, what, times, values):
    if len(times) != len(values) or np.any(np.diff(times) < 0):
        raise ValueError(f"{file.path}: the times of {what} do not go with it, or are not in order")
    steps = np.diff(times) * (values[1:] + values[:-1]) / 2
    return Waveform(times, values, np.concatenate([[0.0], np.cumsum(steps)]))


def extensions_of(file: PulseqFile, block: dict):
    """Yields the kind and the number of each extension event of a block, which are linked by numbers."""
    table, number = file.events["EXTENSIONS"], block.get("extension", 0)
    for _ in range(len(table) + 1):
        if not number:
            return
        entry = file.find(table, number, "extension")
        yield file.find(file.extensions, entry["kind"], "extension of kind"), entry["event"]
        number = entry["next"]
    raise ValueError(f"{file.path}: damaged: the extensions of a block have no end")


def rotation_of(file: PulseqFile, block: dict, number: int) -> np.ndarray | None:
    """The matrix, (3, 3), that the gradients of a block, the file's ``number``, are multiplied by, or None.

    Raises:
      ValueError: more than one rotation, one that is none, or an extension that may change pulses or gradients; with
        the number.
    """
    found, place = None, f"{file.path}: block {number}"
    for kind, event in extensions_of(file, block):
        if kind == "ROTATIONS":
            w, *xyz = file.find(file.events["extension ROTATIONS"], event, "rotation").values()
            if found is not None or abs(math.hypot(w, *xyz) - 1) > _UNIT:
                raise ValueError(f"{place}: a rotation must be one quaternion of length 1; got {[w, *xyz]}")
            found = Rotation.from_quat([*xyz, w]).as_matrix()
        elif kind not in _PLAY_NOTHING:
            known = ", ".join(("ROTATIONS", *_PLAY_NOTHING))
            raise ValueError(f"{place} has the extension {kind}, which is not one of {known}")
    return found
