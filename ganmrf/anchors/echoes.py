"""Where signals are combined: right after each pulse, where the echo is a factor of tissue alone, or at the echo.

Until the echo the signal of one transverse pool decays by exp(-TE / T2) and turns with off-resonance, whatever the
sequence has been. Weights then need not know the echo time. Two transverse pools that exchange have no such factor:
their signals are combined at the echo, and weights serve echo times like those that they were learned from.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.physics.lowering import trains_of
from ganmrf.physics.sequences.blocks import Blocks, PulseSequence, Train
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.tissue import TissueModel, parameters


def combined_at_echo(tissue: TissueModel | type[TissueModel]) -> bool:
    """Whether a tissue, or a class of tissue, has two transverse pools."""
    return "t2_b" in parameters(tissue)


def without_echo(sequence: PulseSequence, tissue: TissueModel | type[TissueModel]) -> PulseSequence:
    """The sequence observed right after each pulse; where a tissue's signals are combined at the echo, as it is."""
    if combined_at_echo(tissue):
        return sequence
    if isinstance(sequence, Fisp):
        return dataclasses.replace(sequence, echo_time=0.0)
    blocks = sequence.as_blocks().blocks
    return Blocks([dataclasses.replace(each, echo_time=0.0) if isinstance(each, Train) else each for each in blocks])


def echo_times(sequence: PulseSequence, tissue: TissueModel | type[TissueModel]) -> jax.Array:
    """Time from where signals are combined to the echo of each recorded frame, s, (frames,)."""
    times = jnp.concatenate([train.echo_time[np.flatnonzero(train.recorded)] for train in trains_of(sequence)])
    return 0 * times if combined_at_echo(tissue) else times


def until_echo(numpy, echo_time, tissue: TissueModel):
    """What `echo_times`, s, (frames,), multiply the frames of tissue by, (atoms, frames); NumPy's or JAX's."""
    exponent = echo_time[None] * (-1 / tissue.t2)[:, None]
    if tissue.off_resonance is None:
        return numpy.exp(exponent)
    turns = 2 * np.pi * echo_time[None] * numpy.reshape(tissue.off_resonance, (-1, 1))
    return numpy.exp(exponent + 1j * turns)
