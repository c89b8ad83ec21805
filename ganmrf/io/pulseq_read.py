"""MRF-FISP scans in Pulseq files: the sequence to simulate, and the trajectory of the samples."""

import hashlib
import pathlib
import re
import traceback
import warnings
from typing import NamedTuple

import numpy as np
import pypulseq

from ganmrf.files import check_readable
from ganmrf.memory import require_memory
from ganmrf.physics.sequences.fisp import Sequence

_SAME_PHASE = 1e-3  # rad: a file has six digits of frequency offsets and phases
_NO_FLIP = 1e-6  # rad: a pulse of amplitude 0, whose phase means nothing
_BALANCED = 10.0  # cycles/m between pulses: a tenth of a cycle across 1 cm does not spoil
_SAME_PLACE = 1e-3  # cycles/m: rounding of a gradient moment
_MOST_SAMPLES = 10**6  # of a shape or a readout: a second of an RF pulse, ten of a gradient
# Least integral, rad, of an inversion pulse whose use is not in the file. By stationary phase that of an adiabatic
# pulse is 2 pi f / sqrt(df/dt) with f = B1 in Hz: 2.5 rad at an adiabaticity of 1, and more above.
_LEAST_INVERSION = 2.5


class _Pulse(NamedTuple):
    time: float  # of its centre, s
    flip: complex  # rad, with its phase
    use: str


class _Readout(NamedTuple):
    start: float  # s
    n_samples: int
    dwell_time: float  # s
    phase: float  # rad


def read_pulseq(path) -> Sequence:
    """Reads the sequence of an MRF-FISP scan, of any readout, from a ``.seq`` file of Pulseq 1.2 to 1.5.

    A frame is an RF pulse (also of amplitude 0) with the readout after it. One pulse before the first frame may be an
    inversion: the file names its use, or (before Pulseq 1.5) its integral is above 2.5 rad, as that of adiabatic pulses
    is, and no readout follows it. Delays before the first pulse are ignored.

    Flip angles are integrals of the pulses on resonance; where all phases are 0 or pi, a phase of pi makes the flip
    angle negative. Times are counted between the centres of pulses, which come from the file or else from pypulseq; the
    last repetition time ends with the file. The echo is the first beginning, middle or end of a dwell time at which k
    is nearest to 0 in x and y: for a spiral that begins at k = 0, the start of the readout, not the first sample.

    Raises:
      ValueError: a file that is missing, truncated, altered since it was signed, or of another kind; or a scan that is
        not MRF-FISP, with the reason: no RF pulse or readout, several readouts after a pulse, refocusing or preparation
        pulses, a second inversion, phases that change from frame to frame, balanced gradients.

    References:
      Layton et al. 2017, doi:10.1002/mrm.26235.
    """
    path = pathlib.Path(path)
    scan, moments = _opened(path)
    frames, inversion = _frames(path, scan)
    times = np.array([pulse.time for pulse, _ in frames])
    _check_not_balanced(path, moments, times)
    end = sum(scan.block_durations.values())
    try:
        return Sequence(
            flip_angle=_flip_angles(path, frames),
            repetition_time=np.diff(times, append=end),
            echo_time=np.array([_echo(moments, pulse, readout) - pulse.time for pulse, readout in frames]),
            inversion_time=None if inversion is None else times[0] - inversion.time,
        )
    except ValueError as error:
        raise ValueError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error


def read_pulseq_trajectory(path) -> np.ndarray:
    """Reads the trajectory of an MRF-FISP scan from a file as `read_pulseq` takes.

    Returns:
      kx and ky, cycles/m, of each sample in the middle of its dwell time, with k = 0 at the centre of the frame's RF
      pulse; (frames, samples, 2), float32.

    Raises:
      ValueError: as `read_pulseq`, except for balanced gradients and times; or readouts of different lengths.
    """
    path = pathlib.Path(path)
    scan, moments = _opened(path)
    frames, _ = _frames(path, scan)
    lengths = {readout.n_samples for _, readout in frames}
    if len(lengths) > 1:
        raise ValueError(f"{path}: readouts must be of one length; found {min(lengths)} to {max(lengths)} samples")
    require_memory(32 * len(frames) * max(lengths), f"{path}", "shorter readouts need less")  # float64, beside a copy
    into = np.arange(lengths.pop()) + 0.5
    k = [_k(moments[:2], pulse, readout.start + readout.dwell_time * into) for pulse, readout in frames]
    return np.array(k, np.float32)


def _opened(path):
    """The scan as a pypulseq object, once the file is known to be whole; and its `_moments`."""
    check_readable(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        text = ""
    if "[VERSION]" not in text:
        raise ValueError(f"{path}: not a Pulseq file: no [VERSION] section")
    _check_whole(path, text)
    scan = pypulseq.Sequence()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pypulseq warns of older versions and missing definitions, and fills in
        warnings.simplefilter("error", DeprecationWarning)  # NumPy warns so of a line without numbers
        try:
            scan.read(str(path))
            for block in scan.block_events:
                scan.get_block(block)
            return scan, _moments(scan)
        except Exception as error:  # a damaged file makes the reader raise whatever it trips over
            traceback.clear_frames(error.__traceback__)  # closes the file, which the reader leaves open
            cause = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise ValueError(f"{path}: not a whole Pulseq file ({cause})") from error


def _check_whole(path, text):
    """Refuses files that differ from their signature, and what pypulseq never returns from or allocates unasked.

    These are files cut within a shape, and shapes that claim to be of more samples than any is.
    """
    body, signed, signature = text.rpartition("\n[SIGNATURE]")
    if signed:
        found = re.search(r"^Hash\s+(\w+)\s*$", signature, re.MULTILINE)
        either = body, body + "\n"  # the line break belongs to the signature, which some writers ignore
        if not found or found[1].lower() not in [hashlib.md5(signed.encode()).hexdigest() for signed in either]:
            raise ValueError(
                f"{path}: truncated, damaged or edited: it does not match its signature (where the edit was meant, "
                "remove the [SIGNATURE] section)"
            )
    elif "\n[SHAPES]" in text and not re.search(r"\n[-+.\deE]+[ \t]*\n\s*\n\s*\Z", text):
        raise ValueError(f"{path}: truncated: it ends within its shapes")
    for section in re.findall(r"^\[SHAPES\]$(.*?)(?=^\[|\Z)", text, re.MULTILINE | re.DOTALL):
        counts = re.findall(r"^\s*[A-Za-z]\w*[ \t]+\+?(\d[\d_]*)\s*$", section, re.MULTILINE)
        if (most := max((float(count.replace("_", "")) for count in counts), default=0)) > _MOST_SAMPLES:
            raise ValueError(f"{path}: a shape of {most:.4g} samples; {_MOST_SAMPLES} are the most that are read")


def _frames(path, scan):
    """Pairs of excitation and readout of an MRF-FISP scan, and the inversion or None."""
    pulses, readouts = _events(scan)
    if not pulses:
        raise ValueError(f"{path}: no RF pulse in {len(scan.block_events)} blocks")
    if not readouts:
        raise ValueError(f"{path}: no readout (ADC) after any of {len(pulses)} RF pulses")
    if (most := max(readout.n_samples for readout in readouts)) > _MOST_SAMPLES:
        raise ValueError(f"{path}: a readout of {most:.4g} samples; {_MOST_SAMPLES} are the most that are read")
    after = np.searchsorted([pulse.time for pulse in pulses], [readout.start for readout in readouts]) - 1
    if after[0] < 0:
        raise ValueError(f"{path}: found a readout at {readouts[0].start:.6g} s, before the first RF pulse")
    counts = np.bincount(after, minlength=len(pulses))
    inversion = pulses[0] if _inverts(pulses[0], counts[0]) else None
    if inversion is not None:
        if counts[0]:
            raise ValueError(f"{path}: found a readout after the inversion pulse at {inversion.time:.6g} s")
        pulses, counts = pulses[1:], counts[1:]
    for pulse in pulses:
        if pulse.use not in ("excitation", "undefined", "other"):
            rule = "MRF-FISP has excitations, after one inversion at most"
            raise ValueError(f"{path}: found a pulse for {pulse.use} at {pulse.time:.6g} s; {rule}")
    for pulse, count in zip(pulses, counts, strict=True):
        if count == 0:
            degrees = np.rad2deg(np.abs(pulse.flip))
            raise ValueError(
                f"{path}: found a pulse of {degrees:.4g} degrees without a readout after it, at {pulse.time:.6g} s"
            )
        if count > 1:
            raise ValueError(f"{path}: found {count} readouts after the excitation at {pulse.time:.6g} s, not one")
    return list(zip(pulses, readouts, strict=True)), inversion


def _events(scan):
    """All pulses and all readouts, in order."""
    pulses, readouts, start, known = [], [], 0.0, {}
    for block, ids in scan.block_events.items():
        if ids[1]:
            if ids[1] not in known:
                rf = scan.get_block(block).rf
                known[ids[1]] = rf.delay + pypulseq.calc_rf_center(rf)[0], _flip(scan, rf), rf.use
            centre, *rest = known[ids[1]]
            pulses.append(_Pulse(start + centre, *rest))
        if ids[5]:
            adc = scan.get_block(block).adc
            readouts.append(_Readout(start + adc.delay, adc.num_samples, adc.dwell, adc.phase_offset))
        start += scan.block_durations[block]
    return pulses, readouts


def _flip(scan, rf):
    """Flip angle on resonance, rad, times the phase factor at the centre of the pulse."""
    regular = np.allclose(np.diff(rf.t), scan.rf_raster_time, rtol=1e-3) and len(rf.t) > 2
    area = scan.rf_raster_time * rf.signal.sum() if regular else np.trapezoid(rf.signal, rf.t)
    to_hz = 1e-6 * scan.system.gamma * scan.system.B0
    frequency = rf.freq_offset + to_hz * rf.freq_ppm
    phase = rf.phase_offset + to_hz * rf.phase_ppm + 2 * np.pi * frequency * pypulseq.calc_rf_center(rf)[0]
    return 2 * np.pi * area * np.exp(1j * phase)


def _inverts(pulse, n_readouts):
    if pulse.use == "undefined":
        return n_readouts == 0 and np.abs(pulse.flip) > _LEAST_INVERSION
    return pulse.use == "inversion"


def _flip_angles(path, frames):
    """Signed flip angles, rad, (frames,): negative where the phase is pi from that of the scan."""
    flip = np.array([pulse.flip for pulse, _ in frames])
    plays = np.abs(flip) > _NO_FLIP
    if np.any(np.abs(flip.imag) > _SAME_PHASE * np.abs(flip) + _NO_FLIP):
        flip = flip * np.exp(-1j * np.angle(flip[np.argmax(plays)]))
    phase = np.where(plays, np.angle(flip), 0)
    receiver = np.array([readout.phase for _, readout in frames])
    for what, turns, period in (("an RF", phase, np.pi), ("a receiver", receiver - receiver[0], 2 * np.pi)):
        away = np.abs(turns - period * np.round(turns / period))
        if (away > _SAME_PHASE).any():
            frame = int(np.argmax(away > _SAME_PHASE))
            raise ValueError(
                f"{path}: found {what} phase that changes, by {np.rad2deg(turns[frame]):.4g} degrees until frame "
                f"{frame}: RF spoiling or phase cycling is not MRF-FISP"
            )
    return np.abs(flip) * np.where(np.abs(phase) > np.pi / 2, -1, 1)


def _moments(scan):
    """Integrals of the gradients along x, y and z, cycles/m, as functions of time."""
    gradients = scan.get_gradients()
    return [np.zeros_like if gradient is None else gradient.antiderivative() for gradient in gradients]


def _k(moments, pulse, times):
    """K at some times, 0 at the centre of a pulse, (times, axes)."""
    return np.stack([moment(times) - moment(np.array(pulse.time)) for moment in moments], axis=1)


def _echo(moments, pulse, readout):
    """Time at which k is nearest to 0 in a readout, s."""
    times = readout.start + readout.dwell_time / 2 * np.arange(2 * readout.n_samples + 1)
    distance = np.linalg.norm(_k(moments[:2], pulse, times), axis=1)
    return times[np.argmax(distance < distance.min() + _SAME_PLACE)]


def _check_not_balanced(path, moments, times):
    left = np.linalg.norm([np.diff(moment(times)) for moment in moments], axis=0)
    if left.size and left.max() < _BALANCED:
        raise ValueError(
            f"{path}: found balanced gradients, {left.max():.3g} cycles/m from pulse to pulse at most: nothing spoils"
        )
