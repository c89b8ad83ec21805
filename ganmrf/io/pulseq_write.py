"""An MRF-FISP scan as a Pulseq file, which scanners can play."""

import copy
import pathlib

import numpy as np
import pypulseq

from ganmrf.files import replacing
from ganmrf.io.pulseq_plan import excite, plan, up
from ganmrf.io.pulseq_settings import RASTER_US, Excitation, Readout, ScannerLimits
from ganmrf.physics.constants import GYROMAGNETIC_RATIO
from ganmrf.physics.sequences.fisp import Fisp, require_fisp


def write_pulseq(
    path,
    sequence: Fisp,
    readout: Readout,
    *,
    excitation: Excitation | None = None,
    limits: ScannerLimits | None = None,
):
    """Writes the scan of a sequence, of one slice in the plane of x and y, as a ``.seq`` file, whole or not at all.

    An adiabatic inversion (hyperbolic secant, of all space) and a crusher; then, each frame, the slice-selective pulse,
    the rephaser, the readout, and a spoiler that makes up what the slice gradients leave of ``spoil_cycles`` between
    the centres of two RF pulses. Frames of 0 degrees have an RF pulse of amplitude 0, and negative flip angles one of
    phase pi. `Excitation.full_slice` is what to simulate: the centre of a pulse is the middle of its duration.

    Times are what their rasters allow. Echo time, from the centre of the RF pulse to the start of the readout, and
    inversion time, between the centres of pulses, are the nearest 1 us. A readout begins on a raster of 10 us, so that
    repetition times are rounded to it where echo times are equal; every pulse lies within 5 us of its time since the
    first one, however many came before it. The last repetition time ends with the file.

    An ``excitation`` or ``limits`` of None have the defaults of `Excitation` and `ScannerLimits`.

    Raises:
      ValueError: saturation pulses, which it does not write; another suffix, a number of angles that is not that of
        the frames, limits exceeded, or times too short for what must happen in them, with the frame and the shortest
        possible.

    References:
      Layton et al. 2017, doi:10.1002/mrm.26235. Jiang et al. 2015, doi:10.1002/mrm.25559.
    """
    require_fisp(sequence, "write_pulseq")
    if sequence.saturation_angle is not None:
        raise ValueError(
            "Fisp.saturation_angle must be None for a Pulseq file: its pulses off resonance are not written"
        )
    path = pathlib.Path(path)
    if path.suffix != ".seq":
        raise ValueError(f"{path}: a Pulseq file is named .seq")
    excitation, limits = excitation or Excitation(), limits or ScannerLimits()
    if len(readout.angles) != sequence.n_frames:
        raise ValueError(f"angles must be (frames,) for {sequence.n_frames} frames; got shape {readout.angles.shape}")
    _check_gradients(excitation, readout, limits)
    system = pypulseq.Opts(
        max_grad=GYROMAGNETIC_RATIO * limits.max_gradient,
        max_slew=GYROMAGNETIC_RATIO * limits.max_slew_rate,
        gamma=GYROMAGNETIC_RATIO,
        rf_dead_time=limits.rf_dead_time,
        rf_ringdown_time=limits.rf_ringdown_time,
        adc_dead_time=limits.adc_dead_time,
    )
    pulse = excite(excitation, system)
    _check_b1(sequence, pulse, limits)
    duration = max(RASTER_US * len(readout.gradient), up(readout.n_samples * readout.dwell_time + limits.adc_dead_time))
    timed = plan(sequence, pulse, duration, excitation.spoil_cycles / excitation.slice_thickness, system)
    scan = pypulseq.Sequence(system)
    scan.set_definition("Name", "mrf_fisp")
    scan.set_definition("FOV", [readout.field_of_view, readout.field_of_view, excitation.slice_thickness])
    if timed.inversion:
        scan.add_block(timed.inversion.rf, pypulseq.make_delay(1e-6 * timed.inversion.duration))
        scan.add_block(timed.inversion.crusher, pypulseq.make_delay(1e-6 * timed.inversion.rest))
    _add_frames(scan, timed, pulse, np.asarray(sequence.flip_angle, float), readout)
    with replacing(path) as temporary:
        scan.write(str(temporary), check_timing=False, remove_duplicates=False)


def _check_gradients(excitation, readout, limits):
    bandwidth = excitation.full_slice().pulse.time_bandwidth / excitation.duration
    selecting = bandwidth / excitation.slice_thickness / GYROMAGNETIC_RATIO
    limits.require_within("max_gradient", selecting, "the gradient that selects the slice")
    steps = np.diff(np.pad(readout.gradient, ((1, 1), (0, 0))), axis=0)
    slew_rate = np.linalg.norm(steps, axis=1).max() / (1e-6 * RASTER_US)
    limits.require_within("max_gradient", np.linalg.norm(readout.gradient, axis=1).max(), "gradient")
    limits.require_within("max_slew_rate", slew_rate, "gradient, from 0 to 0,")


def _check_b1(sequence, pulse, limits):
    """Checks the largest flip angle of the scan, which has the highest peak."""
    flip_angle = np.abs(np.asarray(sequence.flip_angle, float))
    frame = int(np.argmax(flip_angle))
    peak = flip_angle[frame] * np.abs(pulse.rf.signal).max() / GYROMAGNETIC_RATIO
    limits.require_within("max_b1", peak, f"flip_angle of frame {frame}, {np.rad2deg(flip_angle[frame]):.6g} degrees,")


def _add_frames(scan, timed, pulse, flip_angle, readout):
    pulses = _register_pulses(scan, pulse.rf, flip_angle, timed.shift)
    system = scan.system
    turned = {}
    for frame, (rf, angle) in enumerate(zip(pulses, readout.angles, strict=True)):
        wait = 1e-6 * timed.wait[frame]
        key = round(angle % (2 * np.pi), 9), timed.wait[frame]
        if key not in turned:
            turned[key] = _register_turned(scan, readout.gradient, angle, wait)
        delay = max(wait, system.adc_dead_time)
        adc = pypulseq.make_adc(readout.n_samples, dwell=readout.dwell_time, delay=delay, system=system)
        scan.add_block(rf, pulse.gz, pypulseq.make_delay(1e-6 * pulse.duration))
        block = pypulseq.make_delay(wait + 1e-6 * timed.readout)
        scan.add_block(timed.rephaser[frame], *turned[key], adc, block)
        scan.add_block(timed.spoiler[frame], pypulseq.make_delay(1e-6 * timed.rest[frame]))


def _register_pulses(scan, unit, flip_angle, shift):
    """Registers the RF events of the frames, (frames,), which all share one shape."""
    made, shape_ids = {}, None
    for frame in np.argsort(-np.abs(flip_angle), kind="stable"):  # the largest first, since a pulse of 0 has no shape
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
    """Registers the waveform, turned by an angle, as events of x and y."""
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
            max_slew=2 * scan.system.max_slew,  # pypulseq counts the first and the last step as half a raster time
            system=scan.system,
        )
        event.id, _ = scan.register_grad_event(event)
        events.append(event)
    return events
