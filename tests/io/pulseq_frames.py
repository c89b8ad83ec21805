"""Frames of a slice and preparations, which tests put into Pulseq files block by block."""

import numpy as np
import pypulseq

from ganmrf.physics.sequences.blocks import Train
from tests.io.pulseq_files import THICKNESS, hard_pulse, readout

FRAME = 12e-3  # s
VOXEL = {"t1": 0.9, "t2": 0.07}  # s


def sinc(degrees, phase=0.0, thickness=THICKNESS, **options):
    options = {"duration": 1e-3, "return_gz": True, "use": "excitation"} | options
    return pypulseq.make_sinc_pulse(np.deg2rad(degrees), slice_thickness=thickness, phase_offset=phase, **options)


def excite(add, degrees, phase=0.0, **options):
    """A slice of 5 mm and its rephaser; returns how long they last, s, and the slice gradient."""
    rf, gz, rephaser = sinc(degrees, phase, **options)
    add(rf, gz)
    add(rephaser)
    return pypulseq.calc_duration(rf, gz) + pypulseq.calc_duration(rephaser), gz


def frame(add, degrees, phase=0.0, *, receiver=None, area=1000.0, turned=1, recorded=True, **options):
    """A frame of 12 ms, spoiled by ``turned`` times ``area``, cycles/m, with its echo in the middle of the readout."""
    played, gz = excite(add, degrees, phase, **options)
    before, gx, adc = readout(phase if receiver is None else receiver)
    after = pypulseq.make_trapezoid("x", area=-gx.area / 2, duration=1e-3)
    add(before)
    add(gx, adc) if recorded else add(gx)
    spoiler = pypulseq.make_trapezoid("z", area=turned * area - gz.area / 2, duration=2e-3)
    add(after, spoiler)
    add(pypulseq.make_delay(FRAME - played - 3e-3 - pypulseq.calc_duration(gx)))


def echo_time():
    """From the middle of the pulse's block to the middle of the readout's."""
    rf, gz, rephaser = sinc(20)
    before, gx, _ = readout()
    lengths = [pypulseq.calc_duration(*each) for each in ((rf, gz), (rephaser,), (before,), (gx,))]
    return lengths[0] / 2 + lengths[1] + lengths[2] + lengths[3] / 2


def crush(add, area=3000.0):
    add(pypulseq.make_trapezoid("z", area=area, duration=3e-3))


def t2_prepared(add, crusher=3000.0):
    for degrees, phase, use in ((90, 0, "excitation"), (180, np.pi / 2, "refocusing"), (90, np.pi, "preparation")):
        add(hard_pulse(degrees, phase, use))
        if use != "preparation":
            add(pypulseq.make_delay(19.5e-3))
    if crusher:
        crush(add, crusher)


def trains(sequence):
    return [block for block in sequence.blocks if isinstance(block, Train)]


def kinds(sequence):
    return [type(block) for block in sequence.blocks]
