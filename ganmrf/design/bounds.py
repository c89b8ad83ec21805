"""Cramer-Rao bounds of a sequence: how precisely T1, T2, M0, B1 and off-resonance can be estimated from its signals.

Standard deviations are relative (that of T1 divided by T1), but for that of off-resonance, in Hz, and hold for noise of
standard deviation abs(M0): where M0 is 100 times the noise, they are 100 times smaller. They bound unbiased estimates
from one voxel's signal from below.
"""

import dataclasses

import jax
import jax.numpy as jnp

from ganmrf.dictionary.cramer_rao import cramer_rao
from ganmrf.physics.sequences.blocks import PulseSequence
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.simulate import SignalTangents, simulate_with_tangents
from ganmrf.physics.slice_profile import SliceModel
from ganmrf.physics.tissue import Tissue
from ganmrf.pytrees import pytree


@pytree
@dataclasses.dataclass(frozen=True)
class Precision:
    """Standard deviations, each of the tissue's shape; inf for a parameter no signal shows.

    Attributes:
      t1: of T1, relative.
      t2: of T2, relative.
      m0: of abs(M0), relative.
      b1: of B1, relative; None where B1 is known.
      off_resonance: of off-resonance, Hz; None where that is known.
    """

    t1: jax.Array
    t2: jax.Array
    m0: jax.Array
    b1: jax.Array | None = None
    off_resonance: jax.Array | None = None


def precision(
    sequence: PulseSequence,
    tissue: Tissue,
    *,
    n_states: int | None = None,
    slice_profile: SliceModel | None = None,
    with_b1: bool = False,
    with_off_resonance: bool = False,
) -> Precision:
    """The Cramer-Rao bound of T1, T2 and complex M0 for noise of standard deviation abs(M0), differentiable.

    Arguments and errors are those of `simulate_with_tangents`; ``with_b1`` and ``with_off_resonance``: that is unknown
    too, and estimated, which raises the other bounds. Reverse mode by the sequence has a hand-written adjoint.

    References:
      Zhao et al. 2018, arXiv:1710.08062.
    """
    form = {"n_states": n_states, "slice_profile": slice_profile}
    form |= {"with_b1": with_b1, "with_off_resonance": with_off_resonance}
    return precision_of(simulate_with_tangents(sequence, tissue, **form), tissue)


def precision_of(tangents: SignalTangents, tissue: Tissue) -> Precision:
    """`precision` from what a signal model returns for the tissue; unknown is what there is a derivative by."""
    names = [name for name in ("t1", "t2", "b1") if getattr(tangents, f"d_{name}") is not None]
    values = [jnp.broadcast_to(getattr(tissue, name), tissue.shape)[..., None] for name in names]
    derivatives = [value * getattr(tangents, f"d_{name}") for name, value in zip(names, values, strict=True)]
    if tangents.d_off_resonance is not None:  # may be 0: no relative error
        names, derivatives = [*names, "off_resonance"], [*derivatives, tangents.d_off_resonance]
    stds, m0 = cramer_rao(tangents.signal, derivatives, 1.0, 1.0)
    return Precision(m0=m0, **dict(zip(names, stds, strict=True)))


def scan_time(sequence: Fisp) -> jax.Array:
    """Time from the inversion to the end of the last frame, s, a scalar."""
    total = jnp.sum(sequence.repetition_time)
    return total if sequence.inversion_time is None else sequence.inversion_time + total
