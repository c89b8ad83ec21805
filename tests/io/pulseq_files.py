"""Pulseq files for tests: scans that `write_pulseq` writes, and files of others, built block by block."""

import re

import numpy as np
import pypulseq

from ganmrf.io.pulseq_settings import Excitation, Readout
from ganmrf.io.pulseq_write import write_pulseq
from ganmrf.physics.sequences.fisp import Fisp

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
    return Fisp(**values)


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


def selective(add, degrees, position):
    """Excites a slice of 5 mm at a position along z, m, with the same phase at the centre of the pulse everywhere."""
    pulse = {"duration": 1e-3, "slice_thickness": THICKNESS, "return_gz": True, "use": "excitation"}
    rf, gz, rephaser = pypulseq.make_sinc_pulse(np.deg2rad(degrees), **pulse)
    rf.freq_offset = gz.amplitude * position
    rf.phase_offset = -2 * np.pi * rf.freq_offset * pypulseq.calc_rf_center(rf)[0]
    add(rf, gz)
    add(rephaser)


def sliced(add, frame):
    """What follows in a frame: as `fisp`."""
    before, gx, adc = readout()
    add(before)
    add(gx, adc)
    add(pypulseq.make_trapezoid("z", area=1000.0, duration=2e-3))
    add(pypulseq.make_delay(3e-3 + 1e-4 * frame))


def unsigned(path):
    text = path.read_text(encoding="utf-8")
    return text[: text.index("\n[SIGNATURE]")] + "\n"


# Files written by hand: what pypulseq does not write. Two frames of a block pulse of 36 degrees in 0.1 ms, shape 3 as
# gradient along x of 1e6 Hz/m, after 50 us, under 20 samples of 10 us, and a spoiler.

_OLD = """[VERSION]
major 1
minor 3
revision 1

[BLOCKS]
1 0 1 0 0 0 0 0
2 0 0 1 0 0 1 0
3 0 0 0 0 2 0 0
4 0 1 0 0 0 0 0
5 0 0 1 0 0 1 0
6 0 0 0 0 2 0 0

[RF]
1 1000 1 2 0 0 0

[GRADIENTS]
1 1000000 3 50

[TRAP]
2 1000000 200 600 200 0

[ADC]
1 20 10000 50 0 0
"""
_NEW = """[VERSION]
major 1
minor 5
revision 1

[DEFINITIONS]
BlockDurationRaster 1e-5
GradientRasterTime 1e-5
RadiofrequencyRasterTime 1e-6

[BLOCKS]
1 10 1 0 0 0 0 0
2 30 0 1 0 0 1 0
3 100 0 0 0 2 0 0
4 10 1 0 0 0 0 0
5 30 0 1 0 0 1 0
6 100 0 0 0 2 0 0

[RF]
1 1000 1 2 0 50 0 0 0 0 0 e

[GRADIENTS]
1 1000000 {first} {last} 3 {spacing} 50

[TRAP]
2 1000000 200 600 200 0

[ADC]
1 20 10000 50 0 0 0 0 0
"""


def by_hand(path, minor, *shapes, **gradient):
    """Writes a file of version 1.3 or 1.5 with shapes from number 3 on, each the number of samples and the lines."""
    text = _OLD if minor == 3 else _NEW.format(**gradient)
    text += "\n[SHAPES]\n"
    for number, (count, lines) in enumerate([(100, (1, 0, 0, 97)), (100, (0, 0, 98)), *shapes], 1):
        text += "\n".join([f"\nshape_id {number}", f"num_samples {count}", *(f"{value:.9g}" for value in lines), ""])
    path.write_text(text, encoding="utf-8")
    return path


def with_extensions(path, rows, sections):
    """Gives the blocks of ``rows``, numbers of extension events by number, to an unsigned file that has none."""
    head, blocks, rest = re.split(r"(?<=\[BLOCKS\]\n)(.*?)(?=\n\n)", unsigned(path), maxsplit=1, flags=re.DOTALL)
    lines = [line.rsplit(maxsplit=1)[0] + f" {rows.get(i, 0)}" for i, line in enumerate(blocks.splitlines(), 1)]
    path.write_text(head + "\n".join(lines) + f"\n\n{sections}\n" + rest.lstrip("\n"), encoding="utf-8")
    return path


def played_out(signal, step, *, b1, off_resonance, t1, t2):
    """Z after a waveform of amplitudes, Hz, at equal steps, s, of 1 before: by the matrices of all steps."""
    turn = 2 * np.pi * step * np.stack([b1 * signal.real, b1 * signal.imag, off_resonance + 0 * signal.real])
    angle = np.linalg.norm(turn, axis=0)
    x, y, z = turn / np.where(angle, angle, 1)
    zero = np.zeros_like(x)
    cross = np.array([[zero, -z, y], [z, zero, -x], [-y, x, zero]])
    rotation = np.moveaxis(np.eye(3)[..., None] + np.sin(angle) * cross, -1, 0)
    cross = np.moveaxis(cross, -1, 0)
    rotation = rotation + (1 - np.cos(angle))[:, None, None] * (cross @ cross)
    decay = np.exp(-step / np.array([t2, t2, t1]))
    matrices = np.zeros((len(x), 4, 4))
    matrices[:, :3, :3], matrices[:, 2, 3], matrices[:, 3, 3] = decay[:, None] * rotation, 1 - decay[2], 1
    while len(matrices) > 1:
        even = len(matrices) // 2 * 2
        matrices = np.concatenate([matrices[1:even:2] @ matrices[:even:2], matrices[even:]])
    return matrices[0, 2, 2] + matrices[0, 2, 3]
