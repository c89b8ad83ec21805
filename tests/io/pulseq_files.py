"""Pulseq files for tests: scans that `write_pulseq` writes, and files of others, built block by block."""

import numpy as np
import pypulseq

from ganmrf.io.pulseq_settings import Excitation, Readout
from ganmrf.io.pulseq_write import write_pulseq
from ganmrf.physics.sequences.fisp import Sequence

RASTER = 1e-5  # s
DWELL_TIME, N_SAMPLES = 5e-6, 400
THICKNESS = 5e-3
SIX_DIGITS = 6e-6  # of an amplitude are in a file: 5e-6; and float32


def spiral():
    """A short one, under ramps of 0.3 ms, and a smooth rewinder: (raster times, 2), T/m."""
    time = RASTER * (np.arange(200) + 0.5)
    out = 0.01 * np.clip(np.minimum(time, time[::-1]) / 3e-4, 0, 1) * np.exp(2j * np.pi * 1.5e3 * time)
    back = np.sin(np.pi * (np.arange(80) + 0.5) / 80) ** 2
    waveform = np.concatenate([out, -out.sum() * back / back.sum()])
    return np.stack([waveform.real, waveform.imag], axis=1)


def scan(n_frames=3, **fields):
    values = {"flip_angle": np.full(n_frames, 0.5), "repetition_time": 0.012, "echo_time": 0.002} | fields
    return Sequence(**values)


def write(path, sequence, *, limits=None, excitation=None, **readout):
    defaults = {
        "gradient": spiral(),
        "angles": 0.7 * np.arange(sequence.n_frames),
        "n_samples": N_SAMPLES,
        "dwell_time": DWELL_TIME,
    }
    excitation = Excitation(**excitation or {})
    write_pulseq(path, sequence, Readout(**defaults | readout), excitation=excitation, limits=limits)
    return path


def opened(path):
    played = pypulseq.Sequence()
    played.read(str(path))
    return played


# Files of others: blocks by hand, with a hard pulse and a Cartesian readout.


def build(path, kernel, n_frames=4, prepare=None, version=None):
    """Writes what ``kernel(add, frame)`` adds, after ``prepare(add)``."""
    made = pypulseq.Sequence()
    if prepare:
        prepare(made.add_block)
    for frame in range(n_frames):
        kernel(made.add_block, frame)
    made.write(str(path), v141_compat=version == "1.4")
    return path


def hard_pulse(degrees=20.0, phase=0.0, use="excitation"):
    return pypulseq.make_block_pulse(np.deg2rad(degrees), duration=0.5e-3, phase_offset=phase, use=use)


def readout(phase=0.0, samples=64):
    """A gradient of 1 ms and the samples around its middle, with a prephaser to have k = 0 there."""
    gx = pypulseq.make_trapezoid("x", flat_time=1.28e-3, flat_area=256.0)
    adc = pypulseq.make_adc(samples, dwell=20e-6, delay=gx.rise_time, phase_offset=phase)
    before = pypulseq.make_trapezoid("x", area=-gx.area / 2, duration=1e-3)
    return before, gx, adc


def fisp(add, frame, *, phase=0.0, receiver=0.0, degrees=20.0, spoiled=True):
    before, gx, adc = readout(receiver)
    add(pypulseq.make_delay(1e-3))
    add(hard_pulse(degrees, phase))
    add(before)
    add(gx, adc)
    if spoiled:
        add(pypulseq.make_trapezoid("z", area=1000.0, duration=2e-3))
    else:
        add(pypulseq.make_trapezoid("x", area=-gx.area / 2, duration=1e-3))
    add(pypulseq.make_delay(3e-3 + 1e-4 * frame))


def inversion(add):
    add(hard_pulse(180, use="inversion"))
    add(pypulseq.make_delay(20e-3))


def unsigned(path):
    text = path.read_text(encoding="utf-8")
    return text[: text.index("\n[SIGNATURE]")] + "\n"
