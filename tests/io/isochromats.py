"""Isochromats along z, moved through the blocks of a scan as pypulseq reads them, by microseconds of its pulses."""

import numpy as np

STEP = 1e-6  # s, in which a pulse and its gradient are taken as constant


def play(scan, position, *, t1=np.inf, t2=np.inf, off_resonance=0.0):
    """Mx + i My at positions, m, times exp(-i receiver phase), in the middle of each readout, (readouts, positions).

    What gradients along x and y do is left out. It begins with Mz = 1; T1 and T2 are in s, the off-resonance in Hz.
    """
    magnetisation, echoes = np.zeros((len(position), 3)), []
    magnetisation[:, 2] = 1
    voxel = position, t1, t2, off_resonance
    for number, duration in scan.block_durations.items():
        block, at = scan.get_block(number), 0.0
        moment = _moment(block.gz)
        if block.rf is not None:
            magnetisation = _precess(magnetisation, moment, (0.0, block.rf.delay), *voxel)
            magnetisation = _excite(magnetisation, block.rf, moment, *voxel)
            at = block.rf.delay + block.rf.shape_dur
        if block.adc is not None:
            middle = block.adc.delay + block.adc.dwell * block.adc.num_samples / 2
            magnetisation, at = _precess(magnetisation, moment, (at, middle), *voxel), middle
            transverse = magnetisation[:, 0] + 1j * magnetisation[:, 1]
            echoes.append(transverse * np.exp(-1j * block.adc.phase_offset))
        magnetisation = _precess(magnetisation, moment, (at, duration), *voxel)
    return np.array(echoes)


def _moment(gz):
    """The integral of a gradient up to a time in its block, cycles/m."""
    if gz is None:
        return np.zeros_like
    if gz.type == "trap":
        times = np.cumsum([0.0, gz.delay, gz.rise_time, gz.flat_time, gz.fall_time])
        values = gz.amplitude * np.array([0.0, 0.0, 1.0, 1.0, 0.0])
    else:
        times, values = gz.delay + gz.tt, gz.waveform
    fine = np.unique(np.concatenate([np.linspace(0, times[-1], 20001), times]))
    heights = np.interp(fine, times, values, left=0)
    moments = np.concatenate([[0], np.cumsum(np.diff(fine) * (heights[1:] + heights[:-1]) / 2)])
    return lambda time: np.interp(time, fine, moments)


def _precess(magnetisation, moment, times, position, t1, t2, off_resonance):
    start, end = times
    turn = 2 * np.pi * ((moment(end) - moment(start)) * position + off_resonance * (end - start))
    transverse = (magnetisation[:, 0] + 1j * magnetisation[:, 1]) * np.exp(1j * turn - (end - start) / t2)
    z = 1 + (magnetisation[:, 2] - 1) * np.exp(-(end - start) / t1)
    return np.stack([transverse.real, transverse.imag, z], axis=1)


def _excite(magnetisation, rf, moment, position, t1, t2, off_resonance):
    count = round(rf.shape_dur / STEP)
    middle = STEP * (np.arange(count) + 0.5)
    along = np.diff(moment(rf.delay + STEP * np.arange(count + 1))) / STEP
    offset = np.exp(1j * (rf.phase_offset + 2 * np.pi * rf.freq_offset * middle))
    signal = (np.interp(middle, rf.t, rf.signal.real) + 1j * np.interp(middle, rf.t, rf.signal.imag)) * offset
    decay = np.exp(-STEP / np.array([t2, t2, t1]))
    for sample, gradient in zip(signal, along, strict=True):
        field = np.stack(np.broadcast_arrays(sample.real, sample.imag, gradient * position + off_resonance), axis=1)
        size = np.linalg.norm(field, axis=1)[:, None]
        axis, turn = field / np.maximum(size, 1e-12), 2 * np.pi * STEP * size
        parallel = axis * np.sum(axis * magnetisation, axis=1)[:, None]
        magnetisation = (
            parallel + np.cos(turn) * (magnetisation - parallel) + np.sin(turn) * np.cross(axis, magnetisation)
        )
        magnetisation = magnetisation * decay + [0, 0, 1 - decay[2]]
    return magnetisation
