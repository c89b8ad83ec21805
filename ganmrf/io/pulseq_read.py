"""MRF-FISP scans in Pulseq files: the sequence to simulate, and the trajectory of the samples."""

import collections
import itertools
import pathlib
import warnings

import numpy as np

from ganmrf.io.girf import Girf
from ganmrf.io.pulseq_preparations import LEAST_INVERSION
from ganmrf.io.pulseq_scan import Scan, read_scan
from ganmrf.io.pulseq_slice import BALANCED, is_selective
from ganmrf.memory import require_memory
from ganmrf.physics.sequences.fisp import Fisp

SAME_PHASE = 1e-3  # rad: a file has six digits of frequency offsets and phases
NO_FLIP = 1e-5  # rad: a pulse of amplitude 0, whose phase means nothing; OpenMRF plays it with 1e-6
_SAME_PLACE = 1e-3  # cycles/m: rounding of a gradient moment
_SAME_SLICE = 1e-4  # m
_FORGOTTEN = 5.0  # s: 3 % of an inversion are left at a T1 of 1.4 s, that of grey matter at 3 T
_RULE = "MRF-FISP has excitations, after one inversion at most"
PREPARES = ("inversion", "saturation", "preparation", "refocusing", "other")


def read_pulseq(path, *, slice_index: int | None = None) -> Fisp:
    """Reads the sequence of an MRF-FISP scan, of any readout, from a ``.seq`` file of Pulseq 1.2 to 1.5.

    A frame is an RF pulse (also of amplitude 0) with the readout after it. One pulse before the first frame may be an
    inversion: the file names its use, or (before Pulseq 1.5) its integral is above 2.5 rad, as that of adiabatic pulses
    is, and no readout follows it. Ignored are delays and readouts (of noise, of field cameras) before the first pulse,
    readouts of noise or of navigators by their labels, pulses after the last readout, other labels, and triggers.

    Flip angles are integrals of the pulses on resonance; where all phases are 0 or pi, a phase of pi makes the flip
    angle negative. Times are counted between the centres of pulses, which come from the file or else are those of the
    highest plateaus; the last repetition time ends with the file or the next pulse. The echo is the first beginning,
    middle or end of a dwell time at which k is nearest to 0 in x and y: for a spiral that begins at k = 0, the start of
    the readout, not the first sample.

    Where excitations select several slices, ``slice_index`` chooses one of them in the order of their first pulses; of
    one slice it is not read.
    What acts on it are its own pulses and those that are not selective.

    Raises:
      ValueError: as `ganmrf.io.pulseq_scan.read_scan`; several slices and no ``slice_index``, or one that there is not;
        or a scan that is not MRF-FISP, with the reason: no RF pulse or readout, several readouts after a pulse,
        refocusing or preparation pulses, a second inversion less than 5 s after the first, phases that change from
        frame to frame, balanced gradients.

    References:
      Layton et al. 2017, doi:10.1002/mrm.26235.
    """
    scan = read_scan(pathlib.Path(path))
    return fisp_of(scan, played_of(scan, slice_index))


def fisp_of(scan: Scan, played) -> Fisp:
    """The sequence of pulses with their readouts, `played_of` a scan; raises `ValueError` as `read_pulseq`."""
    path = scan.file.path
    frames, preparations, end = _frames(scan, played)
    times = np.array([pulse.time for pulse, _ in frames])
    inversion = _inversion(path, preparations, times[0])
    _check_not_balanced(path, scan.moments, times)
    try:
        return Fisp(
            flip_angle=_flip_angles(path, frames),
            repetition_time=np.diff(times, append=end),
            echo_time=np.array([echo_of(scan, pulse, readout) - pulse.time for pulse, readout in frames]),
            inversion_time=None if inversion is None else times[0] - inversion.time,
        )
    except ValueError as error:
        raise ValueError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error


def read_pulseq_trajectory(path, *, slice_index: int | None = None, girf: Girf | None = None) -> np.ndarray:
    """Reads the trajectory of a scan from a file as `read_pulseq` takes, also with preparation pulses between frames.

    With a ``girf`` it is that of the gradients which the scanner plays.

    Returns:
      kx and ky, cycles/m, of each sample in the middle of its dwell time, with k = 0 at the centre of the frame's RF
      pulse; (frames, samples, 2), float32.

    Raises:
      ValueError: as `read_pulseq`, except for pulses that prepare the magnetisation, phases, balanced gradients and
        times; or readouts of different lengths.
    """
    path = pathlib.Path(path)
    scan = read_scan(path)
    frames, _, _ = _frames(scan, played_of(scan, slice_index))
    lengths = {readout.n_samples for _, readout in frames}
    if len(lengths) > 1:
        raise ValueError(f"{path}: readouts must be of one length; found {min(lengths)} to {max(lengths)} samples")
    require_memory(32 * len(frames) * max(lengths), f"{path}", "shorter readouts need less")  # float64, beside a copy
    into = np.arange(lengths.pop()) + 0.5
    moments = scan.moments if girf is None else girf.of_moments(scan.moments, scan.duration)
    k = [_k(moments, pulse, readout.start + readout.dwell_time * into) for pulse, readout in frames]
    return np.array(k, np.float32)


def played_of(scan: Scan, slice_index: int | None) -> list[tuple]:
    """The pulses of a scan that act on a slice, each with the readouts after it, in order.

    Raises:
      ValueError: no RF pulse, no readout after one, or several slices and no ``slice_index``, or one that there is not.
    """
    path = scan.file.path
    if not scan.pulses:
        raise ValueError(f"{path}: no RF pulse in {len(scan.moments.starts)} blocks")
    after = np.searchsorted([pulse.time for pulse in scan.pulses], [readout.start for readout in scan.readouts]) - 1
    played = [(pulse, []) for pulse in scan.pulses]
    for number, readout in zip(after, scan.readouts, strict=True):
        if number >= 0:  # before the first pulse there is nothing but noise
            played[number][1].append(readout)
    played = _of_slice(path, played, slice_index)
    if not any(readouts for _, readouts in played):
        raise ValueError(f"{path}: no readout (ADC) after any of {len(scan.pulses)} RF pulses")
    return played


def _frames(scan, played):
    """Pairs of excitation and readout of a slice; pulses of other uses without a readout; and the end of the last."""
    path, last = scan.file.path, max(i for i, (_, readouts) in enumerate(played) if readouts)
    frames, preparations, selective = [], [], all(_place(pulse) for pulse, readouts in played if readouts)
    for (pulse, readouts), (following, _) in itertools.pairwise([*played, (None, [])][: last + 2]):
        use = _use(pulse, len(readouts), selective)
        if not readouts and use in PREPARES:
            preparations.append(pulse._replace(use=use))
        else:
            _check_frame(path, pulse, readouts, use, following)
            frames.append((pulse, readouts[0]))
    end = played[last + 1][0].time if last + 1 < len(played) else scan.duration
    return frames, preparations, end


def _of_slice(path, played, slice_index):
    """Pulses that act on a slice, with their readouts; of all slices where there is one."""
    places = [_place(pulse) for pulse, _ in played]
    slices = list(
        dict.fromkeys(place for place, (_, readouts) in zip(places, played, strict=True) if readouts and place)
    )
    if len(slices) < 2:  # raw data of several slices may all have been played by the file of one
        return played
    if slice_index is None:
        raise ValueError(f"{path}: has {len(slices)} slices: choose --slice_index=0 to {len(slices) - 1}")
    if not 0 <= slice_index < len(slices):
        raise ValueError(f"{path}: slice_index must be 0 to {len(slices) - 1}; got {slice_index}")
    others = {place for i, place in enumerate(slices) if i != slice_index}
    return [group for place, group in zip(places, played, strict=True) if place not in others]


def _place(pulse):
    """Where along x, y and z a pulse selects a slice, in steps of 0.1 mm; None for a pulse without a gradient."""
    if not is_selective(pulse):
        return None
    place = pulse.frequency * pulse.gradient / np.sum(pulse.gradient**2)
    return tuple(np.round(place / _SAME_SLICE).astype(int).tolist())


def _use(pulse, n_readouts, selective):
    """What a pulse is for: what the file says, or what a pulse does that no readout follows."""
    if n_readouts or pulse.use in PREPARES:
        return pulse.use
    if pulse.use == "undefined" and np.abs(pulse.flip) > LEAST_INVERSION:
        return "inversion"
    return "preparation" if selective and _place(pulse) is None else pulse.use


def _check_frame(path, pulse, readouts, use, following):
    if readouts and use in PREPARES[:-1]:
        raise ValueError(f"{path}: found a readout after a pulse for {use} at {pulse.time:.6g} s; {_RULE}")
    degrees = np.rad2deg(np.abs(pulse.flip))
    if not readouts:
        echo = following is not None and np.abs(following.flip) > max(np.abs(pulse.flip), LEAST_INVERSION)
        what = f", but one of {np.rad2deg(np.abs(following.flip)):.4g}: a spin echo is not MRF-FISP" if echo else ""
        raise ValueError(
            f"{path}: found a pulse of {degrees:.4g} degrees without a readout after it, at {pulse.time:.6g} s{what}"
        )
    if len(readouts) > 1:
        raise ValueError(f"{path}: found {len(readouts)} readouts after the excitation at {pulse.time:.6g} s, not one")


def _inversion(path, preparations, start):
    """The last pulse before the first frame, an inversion, or None; refuses all that prepare otherwise."""
    inversions = list(itertools.takewhile(lambda pulse: pulse.use == "inversion" and pulse.time < start, preparations))
    others = preparations[len(inversions) :]
    for earlier, later in itertools.pairwise(inversions):
        gap = later.time - earlier.time
        acts = f"{path}: the inversion at {earlier.time:.6g} s also acts, {gap:.3g} s before that at {later.time:.6g} s"
        if gap < _FORGOTTEN:
            raise ValueError(f"{acts}; {_RULE}")
        warnings.warn(f"{acts}: it is taken as forgotten", stacklevel=2)
    if others:
        counts = collections.Counter(pulse.use for pulse in others)
        found = ", ".join(f"{count} for {use}" for use, count in counts.items())
        raise ValueError(f"{path}: found pulses ({found}), the first at {others[0].time:.6g} s; {_RULE}")
    return inversions[-1] if inversions else None


def _flip_angles(path, frames):
    """Signed flip angles, rad, (frames,): negative where the phase is pi from that of the scan."""
    flip = np.array([pulse.flip for pulse, _ in frames])
    plays = np.abs(flip) > NO_FLIP
    if np.any(np.abs(flip.imag) > SAME_PHASE * np.abs(flip) + NO_FLIP):
        flip = flip * np.exp(-1j * np.angle(flip[np.argmax(plays)]))
    phase = np.where(plays, np.angle(flip), 0)
    receiver = np.array([readout.phase for _, readout in frames])
    for what, turns, period in (("an RF", phase, np.pi), ("a receiver", receiver - receiver[0], 2 * np.pi)):
        away = np.abs(turns - period * np.round(turns / period))
        if (away > SAME_PHASE).any():
            frame = int(np.argmax(away > SAME_PHASE))
            raise ValueError(
                f"{path}: found {what} phase that changes, by {np.rad2deg(turns[frame]):.4g} degrees until frame "
                f"{frame}: RF spoiling or phase cycling is not MRF-FISP"
            )
    return np.abs(flip) * np.where(np.abs(phase) > np.pi / 2, -1, 1)


def _k(moments, pulse, times):
    """K in x and y at some times, 0 at the centre of a pulse, (times, 2)."""
    return (moments(times) - moments(np.array([pulse.time])))[:, :2]


def echo_of(scan: Scan, pulse, readout) -> float:
    """Time at which k is nearest to 0 in a readout, s."""
    times = readout.start + readout.dwell_time / 2 * np.arange(2 * readout.n_samples + 1)
    distance = np.linalg.norm(_k(scan.moments, pulse, times), axis=1)
    return times[np.argmax(distance < distance.min() + _SAME_PLACE)]


def _check_not_balanced(path, moments, times):
    left = np.linalg.norm(np.diff(moments(times), axis=0), axis=1)
    if left.size and left.max() < BALANCED:
        raise ValueError(
            f"{path}: found balanced gradients, {left.max():.3g} cycles/m from pulse to pulse at most: nothing spoils"
        )
