"""What pulses of a Pulseq scan prepare, as `Played` blocks: their waveforms as hard pulses, up to each crusher.

::

    RF        |90x|         |180y|         |90-x|                 |excitation
    gradient                                     |crusher|
              one `Played`: hard pulses of all waveforms        its wait ends at the next hard pulse, or excitation
"""

import math

import numpy as np

from ganmrf.io.pulseq_events import Pulse
from ganmrf.io.pulseq_scan import Scan
from ganmrf.io.pulseq_slice import BALANCED
from ganmrf.physics.sequences.blocks import Delay, Played
from ganmrf.physics.sequences.preparations import LONGEST

CRUSHED = 200.0  # cycles/m: a turn across 5 mm
# Least integral, rad, of an inversion pulse whose use is not in the file. By stationary phase that of an adiabatic
# pulse is 2 pi f / sqrt(df/dt) with f = B1 in Hz: 2.5 rad at an adiabaticity of 1, and more above.
LEAST_INVERSION = 2.5
_REFOCUSES = np.pi / 4  # rad about 180 degrees
_ACCURACY = 1e-3  # of rotations, and so of the z that is left
_B1, _OFF_RESONANCE = (0.7, 1.0, 1.3), (-200.0, 0.0, 200.0)  # relative, and in Hz: what a preparation meets in a body
_LARGEST_STEP = 0.5  # rad that a hard pulse turns: relaxation during a pulse acts between its steps
_FEWEST, _MOST = 16, 4096  # hard pulses of a waveform


def is_inversion(pulse: Pulse) -> bool:
    """Whether a pulse inverts: the file says so, or (before Pulseq 1.5) its integral is above 2.5 rad."""
    return pulse.use == "inversion" or (pulse.use == "undefined" and abs(pulse.flip) > LEAST_INVERSION)


def preparations(scan: Scan, pulses: list[Pulse], until: float) -> list:
    """The blocks of ``pulses``, which no readout follows, ``until`` the centre of an excitation, s.

    Gradients between two pulses either crush what is transverse, or leave no moment.

    Raises:
      ValueError: gradients that do neither, or pulses that leave transverse magnetisation which nothing crushes; with
        the block.
    """
    times = np.array([*(pulse.time for pulse in pulses), until])
    moments = np.diff(scan.moments(times), axis=0)
    sizes = np.linalg.norm(moments, axis=1)
    _check_crushers(scan, pulses, moments, sizes)
    ends = np.append(np.flatnonzero(sizes[:-1] >= CRUSHED) + 1, len(pulses))
    parts = [_hard_pulses(pulses[start:end]) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    blocks = []
    for part, following in zip(parts, [*(part[0][0] for part in parts[1:]), until], strict=True):
        *_, end = part
        blocks += played(part, following - end)
    return blocks


def start_of(pulse: Pulse) -> float:
    """When the first hard pulse of a preparation is played, s."""
    return pulse.start + _steps(pulse)[0][0]


def waits(time: float) -> list[Delay]:
    """Delays of a whole ``time``, s, as many as are needed; none where it is 0."""
    count = math.ceil(time / LONGEST)
    return count * [Delay(time / count)] if count else []


def played(part, wait: float) -> list:
    """A `Played` of times, flip angles, phases and durations of hard pulses, and their end, and its ``wait``."""
    times, angles, phases, durations, end = part
    within = min(wait, LONGEST - (end - times[0]))
    return [Played(angles, phases, np.diff(times, append=end), within, durations), *waits(wait - within)]


def _check_crushers(scan, pulses, moments, sizes):
    """Raises `ValueError` for what is neither crushed nor kept, with its block."""
    path = scan.file.path
    for pulse, size, last in zip(pulses, sizes, [*(len(pulses) - 1) * [False], True], strict=True):
        if size >= CRUSHED or (size < BALANCED and not last) or (last and is_inversion(pulse)):
            continue
        rule = f"{CRUSHED:g} or more crush a preparation" + ("" if last else f", below {BALANCED:g} nothing is lost")
        what = f"a pulse of {np.rad2deg(abs(pulse.flip)):.4g} degrees, for {pulse.use}, prepares"
        raise ValueError(f"{path}: block {pulse.block}: {what}, and {size:.4g} cycles/m follow; {rule}")
    for i, pulse in enumerate(pulses[1:-1], 1):
        echo = np.linalg.norm(moments[i] - moments[i - 1]) < BALANCED and sizes[i] >= CRUSHED
        if echo and pulse.use not in ("inversion", "saturation") and abs(abs(pulse.flip) - np.pi) < _REFOCUSES:
            what = "a refocusing pulse between equal gradients in a preparation"
            raise ValueError(f"{path}: block {pulse.block}: {what}, whose echo hard pulses cannot describe")


def _hard_pulses(pulses):
    """Times, s, flip angles and phases, rad, and durations, s, of hard pulses, and the end of the last waveform, s."""
    rows = []
    for pulse in pulses:
        times, angles, phases = _steps(pulse)
        durations = np.full(times.size, pulse.waveform.times[-1] / times.size)
        rows.append((pulse.start + times, angles, phases, durations))
    parts = [np.concatenate(each) for each in zip(*rows, strict=True)]
    return *parts, pulses[-1].start + pulses[-1].waveform.times[-1]


def _steps(pulse):
    """Times from the start of a pulse, s, flip angles and phases, rad, of as many hard pulses as it needs."""
    count, fine = _FEWEST, _turned(pulse, _FEWEST)
    while True:
        steps, fine = fine, _turned(pulse, 2 * count)
        small = np.abs(steps).max() <= _LARGEST_STEP
        if 2 * count > _MOST or (small and _difference(pulse, steps, fine) < _ACCURACY):
            break
        count *= 2
    step = pulse.waveform.times[-1] / count
    return step * (np.arange(count) + 0.5), np.abs(steps), np.angle(steps)


def _turned(pulse, count):
    """Complex flip angles, rad, of equal steps of a pulse, (count,)."""
    edges = pulse.waveform.times[-1] * np.arange(count + 1) / count
    middles, turns = (edges[1:] + edges[:-1]) / 2, pulse.frequency * edges[1]
    ramp = np.exp(2j * np.pi * pulse.frequency * middles) * np.sinc(turns)
    return 2 * np.pi * pulse.amplitude * np.diff(pulse.waveform.moment(edges)) * ramp


def _difference(pulse, steps, fine):
    """Largest difference between the rotations of a pulse by two numbers of steps, over B1 and off-resonance."""
    rotations = [_rotation(each, pulse.waveform.times[-1]) for each in (steps, fine)]
    return max(np.abs(a - b).max() for a, b in zip(*rotations, strict=True))


def _rotation(steps, duration):
    """Spinors a and b, (B1, off-resonance), of hard pulses in the middles of equal steps; their count a power of 2."""
    angle = np.multiply.outer(np.abs(steps), np.array(_B1))[..., None]
    turn = np.exp(-0.5j * np.pi * duration / len(steps) * np.array(_OFF_RESONANCE))  # half of a step's
    a = np.cos(angle / 2) * turn**2
    b = -1j * np.exp(1j * np.angle(steps))[:, None, None] * np.sin(angle / 2) * np.ones_like(turn)
    while len(a) > 1:
        a, b = a[1::2] * a[::2] - b[1::2].conj() * b[::2], b[1::2] * a[::2] + a[1::2].conj() * b[::2]
    return a[0], b[0]
