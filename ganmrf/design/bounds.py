"""Cramer-Rao bounds of a sequence: how precisely tissue and M0 can be estimated from its signals.

Standard deviations are relative (that of T1 divided by T1), inf for a value of 0, but for those of parameters that may
be negative: off-resonance and chemical shift, in Hz. They hold for noise of standard deviation abs(M0): where M0 is 100
times the noise, they are 100 times smaller. They bound unbiased estimates from one voxel's signal from below.
"""

import dataclasses

import jax
import jax.numpy as jnp

from ganmrf.dictionary.cramer_rao import cramer_rao
from ganmrf.physics.sequences.blocks import PulseSequence
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.simulate import SignalTangents, simulate_with_tangents
from ganmrf.physics.slice_profile import SliceModel
from ganmrf.physics.tissue import TissueModel
from ganmrf.physics.tissue import parameters as parameters_of
from ganmrf.pytrees import pytree


@pytree
@dataclasses.dataclass(frozen=True)
class Precision:
    """Standard deviations, each of the tissue's shape; inf for a parameter no signal shows.

    Attributes:
      stds: name of a parameter that is unknown -> that of its estimates, relative or in Hz.
      m0: of abs(M0), relative.
    """

    stds: dict[str, jax.Array]
    m0: jax.Array

    @property
    def t1(self) -> jax.Array | None:
        """Of T1, relative; None where it is known, as of the others."""
        return self.stds.get("t1")

    @property
    def t2(self) -> jax.Array | None:
        """Of T2, relative."""
        return self.stds.get("t2")

    @property
    def b1(self) -> jax.Array | None:
        """Of B1, relative."""
        return self.stds.get("b1")

    @property
    def off_resonance(self) -> jax.Array | None:
        """Of off-resonance, Hz."""
        return self.stds.get("off_resonance")


def precision(
    sequence: PulseSequence,
    tissue: TissueModel,
    *,
    parameters: tuple[str, ...] | None = None,
    n_states: int | None = None,
    slice_profile: SliceModel | None = None,
    with_b1: bool = False,
    with_off_resonance: bool = False,
) -> Precision:
    """The Cramer-Rao bound of some parameters and complex M0 for noise of standard deviation abs(M0), differentiable.

    Arguments and errors are those of `simulate_with_tangents`; what is not among its ``parameters`` is known, and each
    of them that is unknown raises the bounds of the others. Reverse mode by the sequence has a hand-written adjoint.

    References:
      Zhao et al. 2018, arXiv:1710.08062.
    """
    form = {"parameters": parameters, "n_states": n_states, "slice_profile": slice_profile}
    form |= {"with_b1": with_b1, "with_off_resonance": with_off_resonance}
    return precision_of(simulate_with_tangents(sequence, tissue, **form), tissue)


def precision_of(tangents: SignalTangents, tissue: TissueModel) -> Precision:
    """`precision` from what a signal model returns for the tissue; unknown is what there is a derivative by."""
    stds, m0 = cramer_rao(tangents.signal, tuple(tangents.by.values()), 1.0, 1.0)
    known = parameters_of(tissue)
    found = dict(zip(tangents.by, stds, strict=True))
    for name in (name for name in found if not known[name].signed):
        value = jnp.broadcast_to(getattr(tissue, name), tissue.shape)
        none = value == 0  # of a fraction, say: the others keep their bounds and gradients
        found[name] = jnp.where(none, jnp.inf, found[name] / jnp.where(none, 1, value))
    return Precision(found, m0)


def scan_time(sequence: Fisp) -> jax.Array:
    """Time from the inversion to the end of the last frame, s, a scalar."""
    total = jnp.sum(sequence.repetition_time)
    return total if sequence.inversion_time is None else sequence.inversion_time + total
