"""The MRF-FISP simulation with its derivatives by tissue, as sequence design needs them: differentiable once more."""

import dataclasses

import jax
import jax.numpy as jnp

from ganmrf.physics.fisp_pools import B1, SIGNAL, T1, T2, pools_in_chunks
from ganmrf.physics.n_states import orders_kept
from ganmrf.physics.slice_profile import SliceProfile
from ganmrf.physics.types import Sequence, Tissue, pytree


@pytree
@dataclasses.dataclass(frozen=True)
class SignalTangents:
    """Signals and their derivatives by tissue, each real, (..., frames), for M0 = 1.

    Attributes:
      signal: as `fisp.simulate` returns it.
      d_t1: derivative by T1, 1/s.
      d_t2: derivative by T2, 1/s.
      d_b1: derivative by B1, dimensionless; None where it was not asked for.
    """

    signal: jax.Array
    d_t1: jax.Array
    d_t2: jax.Array
    d_b1: jax.Array | None = None


def simulate_with_tangents(
    sequence: Sequence,
    tissue: Tissue,
    *,
    n_states: int | None = None,
    slice_profile: SliceProfile | None = None,
    with_b1: bool = False,
) -> SignalTangents:
    """Signals of any number of voxels and their derivatives by T1, T2 and, on request, B1.

    The derivatives are carried beside the signal in one recurrence. Reverse mode (`jax.grad`, `jax.vjp`) by every leaf
    of sequence, tissue and slice profile has a hand-written adjoint, so that an objective of signal and derivatives,
    such as a Cramer-Rao bound, can be minimised over flip angles and times. Forward mode is not available.

    Args:
      sequence: the pulse sequence.
      tissue: voxels of any shape.
      n_states: orders of the extended phase graph to keep. None chooses them as `fisp.simulate` does: for 1e-4 relative
        L2 error of the signal, or all that matter (frames // 2 + 1) where values are traced, as under `jax.grad`.
      slice_profile: quadrature over the slice; None for a uniform slice.
      with_b1: whether to return the derivative by B1 too, which costs a third more.

    Returns:
      The signals and their derivatives at each voxel's own T1, T2 and B1.

    Raises:
      ValueError: ``n_states`` below 1.

    References:
      Zhao et al. 2018, arXiv:1710.08062, for the bound.
    """
    n_states = orders_kept(sequence, tissue, slice_profile, n_states)
    n_pools = B1 + 1 if with_b1 else T2 + 1
    pools = pools_in_chunks(sequence, tissue, slice_profile, n_states=n_states, n_pools=n_pools)

    def by(pool, values):
        return pools[pool] / jnp.broadcast_to(values, tissue.shape)[..., None]

    d_b1 = by(B1, tissue.b1) if with_b1 else None
    return SignalTangents(signal=pools[SIGNAL], d_t1=by(T1, tissue.t1), d_t2=by(T2, tissue.t2), d_b1=d_b1)
