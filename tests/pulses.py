"""What a Pulseq file plays in the place of the slice-selective pulse."""

import numpy as np
import pypulseq

from ganmrf.io.pulseq_settings import Excitation

_COSINE = {"hann": 0.5, "hamming": 0.46, "none": 0.0}  # of a window: 1 minus it, plus it times a cosine


def assert_excites(path, expected: Excitation):
    """The excitation pulses of a file have the shape, and the gradients along z the moments, that were expected."""
    played = pypulseq.Sequence()
    played.read(str(path))
    blocks = (played.get_block(number) for number in played.block_events)
    block = next(each for each in blocks if each.rf is not None and each.rf.use == "excitation")
    rf, share, duration = block.rf, _COSINE[expected.window], expected.duration
    time = (rf.t - rf.t.mean()) / duration  # from -1/2 to 1/2
    shape = np.sinc(expected.time_bandwidth * time) * (1 - share + share * np.cos(2 * np.pi * time))
    # Seven digits of each step of a shape are in a file.
    np.testing.assert_allclose(rf.signal / np.abs(rf.signal).max(), shape / shape.max(), atol=1e-4)
    np.testing.assert_allclose(np.ptp(rf.t), duration, atol=1.1e-6)  # samples of 1 us
    bandwidth = expected.time_bandwidth / duration  # Hz; the gradient is in Hz/m
    np.testing.assert_allclose(block.gz.amplitude, bandwidth / expected.slice_thickness, rtol=1e-5)
    at, value = played.waveforms()[2]
    moments = np.append(0, np.cumsum(np.diff(at) * (value[1:] + value[:-1]) / 2))
    kinds = played.rf_times()[0]
    cycles = np.diff(np.interp(kinds, at, moments)) * expected.slice_thickness
    # Six digits of gradients that leave up to 900 cycles/m either way; between points that are not those of pulses.
    np.testing.assert_allclose(cycles, expected.spoil_cycles, atol=2e-2)
