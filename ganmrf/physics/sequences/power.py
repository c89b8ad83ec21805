"""Duration and shape of the excitations of a sequence, by which they saturate a semisolid pool."""

import dataclasses
from typing import NamedTuple

from ganmrf.physics.sequences.blocks import Blocks, PulseSequence, Train


class Power(NamedTuple):
    """What saturates a semisolid pool, beside the flip angle of a pulse."""

    duration: float | None  # s; None where nothing says it
    shape: float  # mean of the squared waveform over the squared mean


def with_power(sequence: PulseSequence, power: Power) -> PulseSequence:
    """A sequence with the duration and the shape of its excitations."""
    if isinstance(sequence, Blocks):
        blocks = [with_power(each, power) if isinstance(each, Train) else each for each in sequence.blocks]
        return dataclasses.replace(sequence, blocks=tuple(blocks))
    return dataclasses.replace(sequence, pulse_duration=power.duration, pulse_shape=power.shape)
