"""An MRF-FISP scan as a Pulseq file, which scanners can play."""

import copy
import dataclasses
import pathlib

import numpy as np
import pypulseq

from ganmrf.files import replacing
from ganmrf.io.pulseq_plan import RASTER, excitation, plan, up
from ganmrf.physics.constants import GYROMAGNETIC_RATIO
from ganmrf.physics.sequences.fisp import Sequence
from ganmrf.pytrees import require

_ADC_RASTER = 1e-7  # s
_RESIDUAL = 1.0  # cycles/m that a readout may leave: a thousandth of a cycle across 1 mm
_WITHIN = 1 + 1e-9  # rounding of a waveform designed up to the limits


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a scanner can do.

    Attributes:
      max_gradient: T/m, in any direction.
      max_slew_rate: T/m/s, in any direction.
      max_b1: T, peak of an RF pulse.
      rf_dead_time: before an RF pulse, s.
      rf_ringdown_time: after an RF pulse, s.
      adc_dead_time: before and after a readout, s.

    Raises:
      ValueError: a limit that is not positive, or a time that is negative.
    """

    max_gradient: float = 0.04
    max_slew_rate: float = 150.0
    max_b1: float = 25e-6
    rf_dead_time: float = 100e-6
    rf_ringdown_time: float = 30e-6
    adc_dead_time: float = 10e-6

    def __post_init__(self):
        for name in ("max_gradient", "max_slew_rate", "max_b1"):
            _positive(f"limits.{name}", getattr(self, name))
        for name in ("rf_dead_time", "rf_ringdown_time", "adc_dead_time"):
            value = getattr(self, name)
            require(f"limits.{name}", value, lambda x: (x >= 0) & np.isfinite(x), "0 or more, and finite")


def write_pulseq(
    path,
    sequence: Sequence,
    *,
    gradient,
    angles,
    n_samples: int,
    dwell_time: float,
    slice_thickness: float = 5e-3,
    field_of_view: float = 0.3,
    pulse_duration: float = 1.8e-3,
    time_bandwidth: float = 8.0,
    spoil_cycles: int = 4,
    limits: Limits | None = None,
):
    """Writes the scan of a sequence, of one slice in the plane of x and y, as a ``.seq`` file, whole or not at all.

    An adiabatic inversion (hyperbolic secant, of all space) and a crusher; then, each frame, a slice-selective sinc
    under a Hann window, the rephaser, the readout, and a spoiler that makes up what the slice gradients leave of
    ``spoil_cycles`` between the centres of two RF pulses. Frames of 0 degrees have an RF pulse of amplitude 0, and
    negative flip angles one of phase pi.

    Times are what their rasters allow. Echo time, from the centre of the RF pulse to the start of the readout, and
    inversion time, between the centres of pulses, are the nearest 1 us. A readout begins on a raster of 10 us, so that
    repetition times are rounded to it where echo times are equal; every pulse lies within 5 us of its time since the
    first one, however many came before it. The last repetition time ends with the file.

    Args:
      path: the file to write, ``.seq``.
      sequence: the scan, any number of frames.
      gradient: x and y of the readout, T/m, in the middle of each raster time of 10 us, (raster times, 2); from 0 to 0
        and with its rewinder.
      angles: by how much it is turned in each frame, counter-clockwise from x to y, rad, (frames,).
      n_samples: number of samples of a readout; the first dwell time begins with the waveform.
      dwell_time: between samples, s, on the raster of 0.1 us.
      slice_thickness: m.
      field_of_view: edge of the image, m; told in the file, nothing else depends on it.
      pulse_duration: of the excitation, s, on the raster of 10 us.
      time_bandwidth: of the excitation, as in `ganmrf.physics.slice_profile.sinc_profile`.
      spoil_cycles: dephasing across the slice in each repetition, in units of 2 pi; 1 or more.
      limits: of the scanner; None for those of `Limits`.

    Raises:
      ValueError: an argument out of range or off its raster, a waveform that does not return to k = 0, limits exceeded,
        or times too short for what must happen in them, with the frame and the shortest possible.

    References:
      Layton et al. 2017, doi:10.1002/mrm.26235. Jiang et al. 2015, doi:10.1002/mrm.25559.
    """
    path = pathlib.Path(path)
    if path.suffix != ".seq":
        raise ValueError(f"{path}: a Pulseq file is named .seq")
    limits = limits or Limits()
    for name, value in (
        ("slice_thickness", slice_thickness),
        ("field_of_view", field_of_view),
        ("pulse_duration", pulse_duration),
        ("time_bandwidth", time_bandwidth),
    ):
        _positive(name, value)
    if abs(up(pulse_duration) - 1e6 * pulse_duration) > 1e-3:
        raise ValueError(f"pulse_duration must be a multiple of {RASTER} us; got {1e6 * pulse_duration:.6g} us")
    amplitude = time_bandwidth / pulse_duration / slice_thickness / GYROMAGNETIC_RATIO
    _within("the gradient that selects the slice", "T/m", amplitude, "max_gradient", limits)
    require("spoil_cycles", spoil_cycles, lambda n: (n >= 1) & (n % 1 == 0), "a whole number, 1 or more")
    gradient, angles = _checked_readout(gradient, angles, sequence.n_frames, n_samples, dwell_time, limits)
    system = pypulseq.Opts(
        max_grad=GYROMAGNETIC_RATIO * limits.max_gradient,
        max_slew=GYROMAGNETIC_RATIO * limits.max_slew_rate,
        gamma=GYROMAGNETIC_RATIO,
        rf_dead_time=limits.rf_dead_time,
        rf_ringdown_time=limits.rf_ringdown_time,
        adc_dead_time=limits.adc_dead_time,
    )
    pulse = excitation(pulse_duration, time_bandwidth, slice_thickness, system)
    _check_b1(sequence, pulse, limits)
    readout = max(RASTER * len(gradient), up(n_samples * dwell_time + limits.adc_dead_time))
    timed = plan(sequence, pulse, readout, spoil_cycles / slice_thickness, system)
    scan = pypulseq.Sequence(system)
    scan.set_definition("Name", "mrf_fisp")
    scan.set_definition("FOV", [field_of_view, field_of_view, slice_thickness])
    if timed.inversion:
        _add_inversion(scan, timed)
    _add_frames(scan, timed, pulse, np.asarray(sequence.flip_angle, float), gradient, angles, (n_samples, dwell_time))
    with replacing(path) as temporary:
        scan.write(str(temporary), check_timing=False, remove_duplicates=False)


def _positive(name, value):
    require(name, value, lambda x: (x > 0) & np.isfinite(x), "positive and finite")


def _checked_readout(gradient, angles, n_frames, n_samples, dwell_time, limits):
    """The waveform and its angles in float64, once both can be played."""
    gradient, angles = np.asarray(gradient, float), np.asarray(angles, float)
    if gradient.ndim != 2 or gradient.shape[1] != 2 or len(gradient) < 2 or not np.isfinite(gradient).all():
        raise ValueError(f"gradient must be (raster times, 2) and finite; got shape {gradient.shape}")
    if angles.shape != (n_frames,) or not np.isfinite(angles).all():
        raise ValueError(f"angles must be (frames,), finite, for {n_frames} frames; got shape {angles.shape}")
    require("n_samples", n_samples, lambda n: (n >= 1) & (n % 1 == 0), "a whole number, 1 or more")
    _positive("dwell_time", dwell_time)
    steps = dwell_time / _ADC_RASTER
    if abs(steps - round(steps)) > 1e-6:
        raise ValueError(f"dwell_time must be a multiple of {_ADC_RASTER:g} s; got {dwell_time:.9g} s")
    duration = 1e-6 * RASTER * len(gradient)
    if n_samples * dwell_time > duration * _WITHIN:
        raise ValueError(
            f"n_samples of dwell_time must not outlast gradient; got {1e3 * n_samples * dwell_time:.6g} ms, "
            f"gradient {1e3 * duration:.6g} ms"
        )
    steps = np.diff(np.pad(gradient, ((1, 1), (0, 0))), axis=0)
    slew_rate = np.linalg.norm(steps, axis=1).max() / (1e-6 * RASTER)
    _within("gradient", "T/m", np.linalg.norm(gradient, axis=1).max(), "max_gradient", limits)
    _within("gradient, from 0 to 0,", "T/m/s", slew_rate, "max_slew_rate", limits)
    residual = np.linalg.norm(GYROMAGNETIC_RATIO * 1e-6 * RASTER * gradient.sum(axis=0))
    if residual > _RESIDUAL:
        raise ValueError(f"gradient must return to k = 0; it ends at {residual:.6g} cycles/m, {_RESIDUAL:g} allowed")
    return gradient, angles


def _within(what, unit, found, name, limits):
    allowed = getattr(limits, name)
    if found > allowed * _WITHIN:
        raise ValueError(f"{what} needs {found:.6g} {unit}; limits.{name} is {allowed:.6g} {unit}")


def _check_b1(sequence, pulse, limits):
    """The largest flip angle of the scan has the highest peak."""
    flip_angle = np.abs(np.asarray(sequence.flip_angle, float))
    frame = int(np.argmax(flip_angle))
    peak = flip_angle[frame] * np.abs(pulse.rf.signal).max() / GYROMAGNETIC_RATIO
    _within(f"flip_angle of frame {frame}, {np.rad2deg(flip_angle[frame]):.6g} degrees,", "T", peak, "max_b1", limits)


def _add_inversion(scan, timed):
    scan.add_block(timed.inversion.rf, pypulseq.make_delay(1e-6 * timed.inversion.duration))
    scan.add_block(timed.inversion.crusher, pypulseq.make_delay(1e-6 * timed.inversion.rest))


def _add_frames(scan, timed, pulse, flip_angle, gradient, angles, samples):
    n_samples, dwell_time = samples
    pulses = _register_pulses(scan, pulse.rf, flip_angle, timed.shift)
    system = scan.system
    turned = {}
    for frame, (rf, angle) in enumerate(zip(pulses, angles, strict=True)):
        wait = 1e-6 * timed.wait[frame]
        key = round(angle % (2 * np.pi), 9), timed.wait[frame]
        if key not in turned:
            turned[key] = _register_turned(scan, gradient, angle, wait)
        adc = pypulseq.make_adc(n_samples, dwell=dwell_time, delay=max(wait, system.adc_dead_time), system=system)
        scan.add_block(rf, pulse.gz, pypulseq.make_delay(1e-6 * pulse.duration))
        block = pypulseq.make_delay(wait + 1e-6 * timed.readout)
        scan.add_block(timed.rephaser[frame], *turned[key], adc, block)
        scan.add_block(timed.spoiler[frame], pypulseq.make_delay(1e-6 * timed.rest[frame]))


def _register_pulses(scan, unit, flip_angle, shift):
    """The RF events of the frames, (frames,); all share one shape."""
    made, shape_ids = {}, None
    for frame in np.argsort(-np.abs(flip_angle), kind="stable"):  # so that the first is not 0, and has a shape
        key = flip_angle[frame], shift[frame]
        if key in made:
            continue
        rf = copy.copy(unit)
        rf.signal = np.abs(flip_angle[frame]) * unit.signal
        rf.delay = unit.delay + 1e-6 * shift[frame]
        rf.phase_offset = np.pi if flip_angle[frame] < 0 else 0.0
        if shape_ids is not None:
            rf.shape_IDs = shape_ids
        with np.errstate(invalid="ignore"):  # a pulse of amplitude 0 is divided by its amplitude
            rf.id, shape_ids = scan.register_rf_event(rf)
        made[key] = rf
    return [made[key] for key in zip(flip_angle, shift, strict=True)]


def _register_turned(scan, gradient, angle, delay):
    """The waveform turned by an angle, as events of x and y."""
    cosine, sine = np.cos(angle), np.sin(angle)
    turned = GYROMAGNETIC_RATIO * gradient @ np.array([[cosine, sine], [-sine, cosine]])
    events = []
    for channel, waveform in zip("xy", turned.T, strict=True):
        event = pypulseq.make_arbitrary_grad(
            channel,
            np.ascontiguousarray(waveform),
            first=0.0,
            last=0.0,
            delay=delay,
            max_slew=2 * scan.system.max_slew,  # it counts the first and the last step as done in half a raster time
            system=scan.system,
        )
        event.id, _ = scan.register_grad_event(event)
        events.append(event)
    return events
