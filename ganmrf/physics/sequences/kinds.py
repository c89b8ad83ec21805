"""The kinds of sequences by the names that flags and files have for them."""

from ganmrf.physics.sequences.blocks import (
    Blocks,
    Delay,
    HalfTurns,
    Inversion,
    Played,
    PulseSequence,
    Saturation,
    T2Preparation,
    Train,
)
from ganmrf.physics.sequences.bssfp import Bssfp
from ganmrf.physics.sequences.cardiac import CardiacFisp
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.sequences.multi_spin_echo import MultiSpinEcho
from ganmrf.physics.sequences.spoiled_gradient_echo import SpoiledGradientEcho

KINDS = {
    "fisp": Fisp,
    "cardiac": CardiacFisp,
    "bssfp": Bssfp,
    "spgr": SpoiledGradientEcho,
    "tse": MultiSpinEcho,
    "blocks": Blocks,
}
PARTS = (Train, HalfTurns, Delay, Inversion, Saturation, T2Preparation, Played)  # what their fields may hold


def kind_of(sequence: PulseSequence) -> str:
    """The name of a sequence's kind.

    Raises:
      ValueError: a sequence of a class that is not among `KINDS`; its `as_blocks` is of the kind ``blocks``.
    """
    for kind, cls in KINDS.items():
        if type(sequence) is cls:
            return kind
    raise ValueError(f"{type(sequence).__name__} is none of {', '.join(KINDS)}: its as_blocks() is")
