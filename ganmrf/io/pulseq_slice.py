"""The slice of a Pulseq scan: its RF pulse as hard pulses with their gradient, its thickness, and what spoils it.

::

    RF          ..||###||..                                     ..||###||..
    gradient   |###########|           |rephaser|  |spoiler|   |###########|
    middle           |<------------- turns ------------------------->|
                     |<--------- 0 --------->| echo

The dephasing across the slice is counted between the middles of pulses, where middle is the moment of the gradient that
the rephaser takes back until the echo. Where that is not the middle of the waveform, as of pulses of minimal phase, the
waveform goes on with zeros at one end.
"""

import math
import warnings
from typing import NamedTuple

import numpy as np

from ganmrf.io.pulseq_events import Pulse
from ganmrf.io.pulseq_scan import Scan, read_scan
from ganmrf.physics.rf_pulse import N_SAMPLES, RfPulse
from ganmrf.physics.sequences.sequence_power import Power

_NO_GRADIENT = 1e3  # Hz/m: within the bandwidth of a pulse across a head or body
BALANCED = 10.0  # cycles/m between pulses: a tenth of a cycle across 1 cm does not spoil
_FINE = 8 * N_SAMPLES  # times at which moments during a pulse are looked up; lines between them
_ACROSS = 200.0  # cycles/m: a turn across 5 mm
_ALIKE = 0.02  # of spoilers
_SAME = 1e-3  # of a sample or a gradient: six digits are in a file, but some programs round shapes
_FINEST = 4  # parts of the weakest spoiler of which stronger ones may be multiples
_STEP = 0.01  # turns between positions at which a profile is looked up; it is 2 to 20 wide


class SlicePulse(NamedTuple):
    """A pulse with its gradient, before the thickness of its slice is known."""

    samples: np.ndarray  # share of the flip angle, at equal steps of the gradient's moment
    cycles: float  # moment of the gradient during the samples, cycles/m
    axis: np.ndarray  # direction of the gradient, of length 1

    def like(self, other: "SlicePulse") -> bool:
        """Whether two pulses turn each slice alike, but for flip angle and phase."""
        size = np.abs(other.samples).max()
        return (
            self.samples.shape == other.samples.shape
            and bool(np.abs(self.samples - other.samples).max() < _SAME * size)
            and abs(self.cycles - other.cycles) < _SAME * other.cycles
            and float(self.axis @ other.axis) > 1 - _SAME
        )


def power_of(pulse: Pulse) -> Power:
    """Duration and shape of a pulse, of the straight lines that its waveform is."""
    times, values = pulse.waveform.times, pulse.waveform.values
    left, right = values[:-1], values[1:]
    squares = (np.abs(left) ** 2 + (left * right.conj()).real + np.abs(right) ** 2) / 3
    duration = float(times[-1] - times[0])
    return Power(duration, float(duration * (np.diff(times) @ squares) / np.abs(pulse.waveform.moments[-1]) ** 2))


def is_selective(pulse: Pulse) -> bool:
    """Whether a gradient is played with a pulse."""
    return bool(np.linalg.norm(pulse.gradient) >= _NO_GRADIENT)


def slice_pulse(scan: Scan, pulse: Pulse, echo: float | None = None) -> SlicePulse:
    """A selective pulse whose slice gradients have rephased at the time ``echo``, s; None: as that of symmetric pulses.

    Where gradients rephase no part of the slice gradient, a warning says so, and the pulse is taken as symmetric.

    Raises:
      ValueError: a gradient that changes its direction during the pulse, or a pulse without area; with the block.
    """
    place = f"{scan.file.path}: block {pulse.block}"
    times = pulse.start + np.linspace(0, pulse.waveform.times[-1], _FINE + 1)
    moments = scan.moments(times)
    whole = moments[-1] - moments[0]
    axis = whole / max(np.linalg.norm(whole), 1e-12)
    along = (moments - moments[0]) @ axis
    across = np.linalg.norm(moments - moments[0] - along[:, None] * axis, axis=1).max()
    if not along[-1] or np.diff(along).min() < -_SAME * along[-1] / _FINE or across > _SAME * along[-1]:
        raise ValueError(f"{place}: the gradient of the pulse changes its direction, so that it selects no one slice")
    start, end = 0.0, float(along[-1])
    if echo is not None:
        middle = float((scan.moments(np.array([echo]))[0] - moments[0]) @ axis)
        if not 0 <= middle <= end:
            what = f"{abs(middle - end / 2):.4g} cycles/m are left at the echo, of {end:.4g} of its gradient"
            warnings.warn(f"{place}: the slice is not rephased, {what}: it is taken as rephased", stacklevel=2)
        elif abs(middle - end / 2) > end / (2 * N_SAMPLES):  # half a sample
            start, end = min(start, 2 * middle - end), max(end, 2 * middle)
    steps = math.ceil(N_SAMPLES * (end - start) / along[-1] - 1e-6)
    edges = np.interp(np.linspace(start, end, steps + 1), along, times - pulse.start)
    samples = np.diff(pulse.waveform.moment(edges))
    area = samples.sum()
    if not abs(area) > 1e-6 * np.abs(samples).sum():
        raise ValueError(f"{place}: the pulse has no area: it turns nothing in the middle of its slice")
    samples = samples / area
    # Rounding of phases of pi; what modulates a phase is far above.
    samples = samples.real if np.abs(samples.imag).max() < 1e-6 * np.abs(samples).max() else samples
    return SlicePulse(samples, end - start, axis)


def like_first(scan: Scan, pulses: list[Pulse]) -> list[bool]:
    """Whether each pulse is like the first one, but for flip angle and phase; all pulses without a gradient are."""
    times = np.array([pulse.start + end for pulse in pulses for end in (0, pulse.waveform.times[-1])])
    spans = np.diff(scan.moments(times).reshape(-1, 2, 3), axis=1)[:, 0]
    found = {}
    for pulse, span in zip(pulses, spans, strict=True):
        key = _key(pulse, span)
        if key not in found:
            found[key] = slice_pulse(scan, pulse) if is_selective(pulse) else None
    alike, first = {}, found[_key(pulses[0], spans[0])]
    for key, other in found.items():
        alike[key] = other is first or (None not in (other, first) and other.like(first))
    return [alike[_key(pulse, span)] for pulse, span in zip(pulses, spans, strict=True)]


def _key(pulse, span):
    """What pulses that turn their slice alike have in common, but for some that are written twice."""
    return id(pulse.waveform), *np.round(pulse.gradient), *np.round(span, 3)


def spoilers(scan: Scan, pairs: list[tuple[Pulse, Pulse]], axis: np.ndarray | None) -> tuple[float | None, list[int]]:
    """What the gradients leave from each pulse to the next, as multiples of one spoiler.

    Args:
      scan: the scan.
      pairs: pulses, and the ones after them.
      axis: direction of the slice gradient, or None without one.

    Returns:
      the spoiler, cycles/m along the axis, of any sign; 0 for balanced frames; None where the spoiler is none of the
      slice, but across it, or there is no slice; and how often each pair has it.

    Raises:
      ValueError: some pairs are balanced, and others are no multiples of one spoiler, or of opposite ones.
    """
    if not pairs:
        return 0.0 if axis is not None else None, []
    starts, ends = (scan.moments(np.array([pair[i].time for pair in pairs])) for i in range(2))
    moments = ends - starts
    spoils = axis is not None and np.abs(moments @ axis).max() >= BALANCED
    if not spoils:
        largest = moments[np.argmax(np.linalg.norm(moments, axis=1))]
        if np.linalg.norm(largest) < BALANCED:
            return 0.0, [0] * len(pairs)
        axis = largest / np.linalg.norm(largest)
    along = moments @ axis
    if (across := np.linalg.norm(moments - along[:, None] * axis, axis=1).max()) >= _ACROSS:
        what = f"gradients across the spoiler leave up to {across:.3g} cycles/m from pulse to pulse"
        warnings.warn(f"{scan.file.path}: {what}, which are left out", stacklevel=2)
    spoiler, counts = _multiples(scan, pairs, along)
    return spoiler if spoils else None, counts


def _multiples(scan, pairs, along):
    """A moment, cycles/m, and how often each of some moments is it, whole numbers."""
    sizes, path = np.abs(along), scan.file.path
    plays = sizes >= BALANCED
    least = sizes[plays].min()
    opposite = np.sign(along[plays]).min() < np.sign(along[plays]).max()
    for parts in range(1, _FINEST + 1):
        counts = np.rint(sizes * parts / least)
        if not opposite and np.abs(sizes - counts * least / parts).max() <= _ALIKE * least:
            return float(along.sum() / counts.sum()), counts.astype(int).tolist()
    low, high = int(np.argmin(along)), int(np.argmax(along))
    found = (
        f"{along[low]:.4g} cycles/m after block {pairs[low][0].block}, {along[high]:.4g} after {pairs[high][0].block}"
    )
    if opposite or not plays.all():
        raise ValueError(f"{path}: spoilers that are no multiples of one, from pulse to pulse: {found}")
    warnings.warn(f"{path}: spoilers differ, {found}: all are taken as their mean", stacklevel=3)
    return float(along.mean()), [1] * len(along)


def thickness_of(scan: Scan, pulse: SlicePulse) -> float:
    """Thickness of a slice, m: as the file defines it, else the width of the small-tip profile at half its height.

    A definition is ``SliceThickness``, or the third edge of the ``FOV``, where it is half to twice the width: some
    files have mm, and some the edge of a stack of slices.

    Raises:
      ValueError: a pulse that does not select the middle of its slice.
    """
    n_samples = pulse.samples.size
    turns = np.arange(0, n_samples / 4, _STEP)  # across the pulse; beyond, profiles of hard pulses repeat
    within = ((np.arange(n_samples) + 0.5) / n_samples - 0.5) * pulse.samples.size
    sides = []
    for sign in (1, -1):
        phase = np.exp(sign * 2j * np.pi * np.multiply.outer(turns / n_samples, within))
        profile = np.abs(phase @ pulse.samples)
        below = np.argmax(profile < 0.5)
        if profile.max() > 2 or not below:  # of 1 in the middle
            raise ValueError(f"{scan.file.path}: the pulse of the slice selects beside its middle")
        sides.append(np.interp(0.5, profile[[below, below - 1]], turns[[below, below - 1]]))
    width = sum(sides) / pulse.cycles
    definitions = scan.file.definitions
    for text in (definitions.get("SliceThickness", ""), "".join(definitions.get("FOV", "").split()[2:3])):
        try:
            given = float(text)
        except ValueError:
            continue
        if width / 2 < given < 2 * width:
            return given
    return float(width)


def rf_pulse_of(pulse: SlicePulse, thickness: float) -> RfPulse:
    """The pulse of a slice of a thickness, m."""
    return RfPulse(pulse.samples, pulse.cycles * thickness)


def read_rf_pulse(path) -> RfPulse:
    """Reads the first slice-selective pulse of a ``.seq`` file of Pulseq 1.2 to 1.5, with its gradient.

    Its phase is taken as constant where only its amplitude changes sign; its slice is as thick as `thickness_of` says.

    Raises:
      ValueError: as `ganmrf.io.pulseq_scan.read_scan`, `slice_pulse` and `thickness_of`; or no such pulse.
    """
    scan, pulse = _first_selective(path)
    found = slice_pulse(scan, pulse)
    return rf_pulse_of(found, thickness_of(scan, found))


def read_power(path) -> Power:
    """Reads the duration and the shape of the pulse that `read_rf_pulse` reads.

    Raises:
      ValueError: as `ganmrf.io.pulseq_scan.read_scan`, or no such pulse.
    """
    return power_of(_first_selective(path)[1])


def _first_selective(path):
    """The scan of a file, and its first pulse that selects a slice."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*they last as long as the file says")  # times do not matter
        scan = read_scan(path)
    for pulse in scan.pulses:
        if is_selective(pulse):
            return scan, pulse
    raise ValueError(f"{scan.file.path}: none of {len(scan.pulses)} RF pulses selects a slice")
