"""Duration and shape of the excitations of a sequence, by which they saturate a semisolid pool."""

import dataclasses
from typing import NamedTuple

import jax

from ganmrf.physics.sequences.blocks import Blocks, Played, PulseSequence, Train


class Power(NamedTuple):
    """What saturates a semisolid pool, beside the flip angle of a pulse."""

    duration: jax.Array | float | None  # s, one number or (frames,); None where nothing says it
    shape: jax.Array | float  # mean of the squared waveform over the squared mean, likewise
    preparations: tuple[jax.Array, ...] = ()  # s, of the hard pulses of each `Played` block in turn


def with_power(sequence: PulseSequence, power: Power) -> PulseSequence:
    """A sequence with the duration and the shape of its excitations, and the durations of what it plays otherwise."""
    if isinstance(sequence, Blocks):
        blocks, durations = [], iter(power.preparations)
        for block in sequence.blocks:
            if isinstance(block, Train):
                block = with_power(block, power)
            elif isinstance(block, Played) and (duration := next(durations, None)) is not None:
                block = dataclasses.replace(block, pulse_duration=duration)
            blocks.append(block)
        return Blocks(tuple(blocks))
    return dataclasses.replace(sequence, pulse_duration=power.duration, pulse_shape=power.shape)
