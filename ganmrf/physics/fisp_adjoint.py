"""The MRF-FISP simulation for reverse mode: gradients by a hand-written adjoint, fast and small in memory."""

import jax

from ganmrf.physics.fisp_pools import SIGNAL, pools_in_chunks
from ganmrf.physics.n_states import orders_kept
from ganmrf.physics.slice_profile import SliceProfile
from ganmrf.physics.types import Sequence, Tissue


def simulate_reverse(
    sequence: Sequence, tissue: Tissue, *, n_states: int | None = None, slice_profile: SliceProfile | None = None
) -> jax.Array:
    """The signals of `fisp.simulate`, for `jax.grad` and `jax.vjp`.

    Gradients by every leaf (flip angle, repetition time, echo time, inversion time, T1, T2, B1, and the nodes and
    weights of the slice profile) cost four to six more forward passes, and memory for the states of some dozens of
    frames. `jax.jit` and `jax.vmap` work. Forward mode (`jax.jvp`, `jax.hessian`) does not, as with any
    `jax.custom_vjp`: `simulate` has it.

    Args:
      sequence: the pulse sequence.
      tissue: voxels of any shape.
      n_states: orders of the extended phase graph to keep. None chooses them as `simulate` does: for 1e-4 relative L2
        error, or all that matter (frames // 2 + 1) where values are traced, as under `jax.grad`.
      slice_profile: quadrature over the slice; None for a uniform slice.

    Returns:
      Real signals, the voxels' shape first: (..., frames), for M0 = 1, with the sign of `simulate`.

    Raises:
      ValueError: ``n_states`` below 1.
    """
    n_states = orders_kept(sequence, tissue, slice_profile, n_states)
    return pools_in_chunks(sequence, tissue, slice_profile, n_states=n_states, n_pools=1)[SIGNAL]
