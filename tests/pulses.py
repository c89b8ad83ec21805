"""What a Pulseq file plays in the place of the slice-selective pulse."""

import numpy as np
import pypulseq

from ganmrf.io.pulseq_settings import Excitation
from ganmrf.physics.rf_pulse import RfPulse

_COSINE = {"hann": 0.5, "hamming": 0.46, "none": 0.0}  # of a window: 1 minus it, plus it times a cosine


def played_slice(path, slice_thickness):
    """The excitations of a file, None for an amplitude of 0; and the turns across the slice from one to the next."""
    played = pypulseq.Sequence()
    played.read(str(path))
    at, value = played.waveforms()[2]
    fine = np.unique(np.concatenate([at, np.arange(0, played.duration()[0], 1e-6)]))
    gradient = np.interp(fine, at, value, left=0, right=0)
    moment = np.append(0, np.cumsum(np.diff(fine) * (gradient[1:] + gradient[:-1]) / 2))
    start, pulses, middles = 0.0, [], []
    for number, duration in played.block_durations.items():
        rf = played.get_block(number).rf
        if rf is not None and rf.use == "excitation":
            step, begins = rf.t[1] - rf.t[0], start + rf.delay
            first, middle, last = np.interp(begins + step * len(rf.t) * np.array([0, 0.5, 1]), fine, moment)
            # As much before the centre as after it: nothing but the middle's flip angle is left of the middle.
            np.testing.assert_allclose(rf.center, step * len(rf.t) / 2, atol=1e-9)
            np.testing.assert_allclose(middle - first, last - middle, rtol=1e-6)
            plays = rf.signal.any()
            pulses.append(RfPulse.of_waveform(rf.signal, slice_thickness * (last - first)) if plays else None)
            middles.append(middle)
        start += duration
    return pulses, slice_thickness * np.diff(middles)


def assert_excites(path, expected: Excitation):
    """The excitation pulses of a file have the shape, and the gradients along z the moments, that were expected."""
    pulses, turns = played_slice(path, expected.slice_thickness)
    first = next(pulse for pulse in pulses if pulse)
    assert first.samples.size == round(1e6 * expected.duration)  # samples of 1 us
    time, share = (np.arange(first.samples.size) + 0.5) / first.samples.size - 0.5, _COSINE[expected.window]
    shape = np.sinc(expected.time_bandwidth * time) * (1 - share + share * np.cos(2 * np.pi * time))
    if expected.pulse is not None:
        given = expected.pulse.samples
        shape = np.interp(time, (np.arange(given.size) + 0.5) / given.size - 0.5, given)
    # Seven digits of each step of a shape are in a file.
    np.testing.assert_allclose(first.samples * shape.sum(), shape, atol=1e-4 * np.abs(shape).max())
    np.testing.assert_allclose(first.time_bandwidth, (expected.pulse or expected).time_bandwidth, rtol=1e-5)
    # Six digits of gradients that leave up to 900 cycles/m either way.
    np.testing.assert_allclose(turns, expected.spoil_cycles, atol=1e-3)
