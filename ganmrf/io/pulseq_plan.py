"""Times of all events of an MRF-FISP scan, on the rasters of a scanner, and the events of its z gradient.

The three blocks of one frame, and the pulse of the next frame:

            |    pulse     |           readout            |    rest    |
    RF           .-^-.                                                      .-^-.
    Gz        ~~~~~~~~~~~   rephaser                        spoiler      ~~~~~~~~~~~
    Gx, Gy                              spiral   rewinder
    ADC                                 :::::::
                   |<------- TE ------->|
                   |<--------------------------- TR ------------------------->|
"""

import functools
import types

import numpy as np
import pypulseq

from ganmrf.io.pulseq_settings import RASTER_US, RF_RASTER_US, Excitation

_INVERSION_DURATION = 10e-3  # s: inverts within +-300 Hz and at +-20 % of B1
_CRUSHER_CYCLES = 2  # times the dephasing of a repetition, so that no later spoiler refocuses it


def up(seconds):
    """A time rounded up to the raster of blocks, whole microseconds."""
    return RASTER_US * int(np.ceil(1e6 * seconds / RASTER_US - 1e-6))


def excite(excitation: Excitation, system):
    """The pulse of 1 rad with its slice gradient, which is one raster time longer for the pulse to move in.

    Returns:
      rf and gz, events; lead, us: from the start of the block to the centre of the pulse at its earliest; and duration
      of the block, us.
    """
    duration, pulse = excitation.duration, excitation.on_raster()
    amplitude = pulse.time_bandwidth / duration / excitation.slice_thickness
    flat = 1e-6 * (up(duration) + RASTER_US)
    gz = pypulseq.make_trapezoid("z", amplitude=amplitude, flat_time=flat, system=system)
    gz.delay = 1e-6 * up(max(0, system.rf_dead_time - gz.rise_time))
    rf = pypulseq.make_arbitrary_rf(
        pulse.samples,
        1.0,
        center=duration / 2,  # where half of the gradient's turns are played, whatever the shape
        delay=max(gz.delay + gz.rise_time, system.rf_dead_time),
        dwell=1e-6 * RF_RASTER_US,
        system=system,
        use="excitation",
    )
    ends = max(gz.fall_time, system.rf_ringdown_time) + rf.delay + flat
    return types.SimpleNamespace(rf=rf, gz=gz, lead=round(1e6 * (rf.delay + rf.center)), duration=up(ends))


def plan(sequence, pulse, readout, cycles, system):
    """Start of every event, in whole microseconds, and the z gradients between them.

    Returns:
      inversion: the inversion pulse and its crusher; None without inversion.
      shift: delay of each pulse in its block after the earliest possible time, 0 to 9, (frames,).
      wait: from the end of each pulse's block to the readout, (frames,).
      readout: from the start of a readout to the end of its block, one number.
      rest: from the end of each readout's block to the block of the next RF pulse, or the end of the file, (frames,).
      rephaser, spoiler: events, (frames,) each; equal events are the same object.
    """
    echo_time = np.round(1e6 * np.asarray(sequence.echo_time, float)).astype(int)
    time = np.concatenate([[0], np.cumsum(1e6 * np.asarray(sequence.repetition_time, float))])
    inversion, first = None, pulse.lead + -(pulse.lead + echo_time[0]) % RASTER_US
    if sequence.inversion_time is not None:
        inversion_time = 1e6 * float(sequence.inversion_time)
        inversion = _inversion(inversion_time, cycles, echo_time[0], system)
        first = inversion.centre + inversion_time
    # Readouts begin on the raster of gradients; RF pulses begin on any microsecond.
    centre = RASTER_US * np.round((first + time[:-1] + echo_time) / RASTER_US).astype(int) - echo_time
    end = RASTER_US * round((first + time[-1]) / RASTER_US)
    shift = (centre - pulse.lead) % RASTER_US
    start = centre - pulse.lead - shift
    if inversion is not None:
        inversion.rest = int(start[0]) - inversion.duration
        missing = _length(inversion.crusher) - inversion.rest
        _refuse_short("inversion_time", np.array([inversion_time]), np.array([missing]))
    before = pulse.gz.amplitude * (pulse.gz.rise_time / 2 + pulse.rf.center + 1e-6 * shift)  # moment up to the centre
    shortest = functools.cache(lambda area: pypulseq.make_trapezoid("z", area=area, system=system))
    rephaser = [shortest(area) for area in np.round(before - pulse.gz.area, 6)]
    spoiler = [shortest(area) for area in np.round(cycles - np.append(before[1:], before[-1]), 6)]
    wait = centre + echo_time - start - pulse.duration
    missing = np.array([max(_length(event), up(system.adc_dead_time)) for event in rephaser]) - wait
    _refuse_short("echo_time", echo_time, missing)
    rest = np.append(start[1:], end) - (centre + echo_time + readout)
    missing = np.array([_length(event) for event in spoiler]) - rest
    _refuse_short("repetition_time", np.diff(centre, append=end), missing)
    return types.SimpleNamespace(
        inversion=inversion, shift=shift, wait=wait, readout=readout, rest=rest, rephaser=rephaser, spoiler=spoiler
    )


def _refuse_short(name, found, missing):
    """Raises `ValueError` for the first frame whose time, in us, is too short by ``missing`` microseconds."""
    if (missing > 0).any():
        where = int(np.argmax(missing > 0))
        place = f" of frame {where}" if name != "inversion_time" else ""
        raise ValueError(
            f"{name}{place} is {1e-3 * found[where]:.6g} ms; the shortest possible is "
            f"{1e-3 * (found[where] + missing[where]):.6g} ms"
        )


def _length(event):
    return round(1e6 * pypulseq.calc_duration(event))


def _inversion(inversion_time, cycles, echo_time, system):
    """The inversion pulse, at a delay that puts the first readout on the raster, and its crusher."""
    earliest = up(system.rf_dead_time)
    rf = pypulseq.make_adiabatic_pulse(
        "hypsec", duration=_INVERSION_DURATION, delay=system.rf_dead_time, system=system, use="inversion"
    )
    to_readout = round(1e6 * rf.center + inversion_time) + echo_time
    rf.delay = 1e-6 * (earliest + -(earliest + to_readout) % RASTER_US)
    crusher = pypulseq.make_trapezoid("z", area=cycles * _CRUSHER_CYCLES, system=system)
    return types.SimpleNamespace(
        rf=rf,
        crusher=crusher,
        centre=1e6 * (rf.delay + rf.center),
        duration=up(rf.delay + rf.shape_dur + rf.ringdown_time),
    )
