"""Signals of any tissue under any sequence: for values, for reverse mode, and with their derivatives by tissue."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax

from ganmrf.physics.engines.real import compiled, fisp_signal, lanes
from ganmrf.physics.engines.tangents import B1, SIGNAL, T1, T2, tangents_in_chunks
from ganmrf.physics.n_states import orders_kept
from ganmrf.physics.sequences.fisp import Sequence
from ganmrf.physics.slice_profile import SliceProfile
from ganmrf.physics.tissue import Tissue
from ganmrf.pytrees import is_traced, pytree


def simulate(
    sequence: Sequence,
    tissue: Tissue,
    *,
    n_states: int | None = None,
    accuracy: float = 1e-4,
    slice_profile: SliceProfile | None = None,
) -> jax.Array:
    """Signals of any number of voxels, by extended phase graphs with real states.

    With RF phase 0 the transverse magnetisation is imaginary throughout, so it is carried as one real number. Every JAX
    transform works on this function: forward and reverse mode in all of flip angle, repetition time, echo time,
    inversion time, T1, T2 and B1, vmap and jit.

    Args:
      sequence: the pulse sequence.
      tissue: voxels of any shape.
      n_states: orders of the extended phase graph to keep. None chooses as few as keep ``accuracy``
        (`choose_n_states`); where values are traced and cannot be read, all that matter (frames // 2 + 1) are kept.
        On a CPU a number that is given is rounded up to one more than a multiple of 8, unless values are traced.
      accuracy: largest relative L2 error of a signal that leaving out orders may cause; used when ``n_states`` is None.
      slice_profile: quadrature over the slice; None for a uniform slice.

    Returns:
      Real signals, the voxels' shape first: (..., frames), for M0 = 1. The transverse magnetisation Mx + i My is
      ``-1j`` times it: a rotation of +z by alpha about +x gives ``sin(alpha)`` here.

    Raises:
      ValueError: ``n_states`` below 1, or ``accuracy`` not positive.

    References:
      Weigel 2015, doi:10.1002/jmri.24619. Jiang et al. 2015, doi:10.1002/mrm.25559.
    """
    n_states = orders_kept(sequence, tissue, slice_profile, n_states, accuracy)
    if is_traced(sequence, tissue, slice_profile):
        return _simulate_traced(sequence, tissue, slice_profile, n_states=n_states)
    with jax.ensure_compile_time_eval():  # all values are at hand, even where a caller's function is being traced
        return compiled(simulate_in_chunks, n_states=n_states)(sequence, tissue, slice_profile)


def simulate_in_chunks(sequence, tissue, slice_profile, *, n_states, room: int | None = None) -> jax.Array:
    """`simulate` with everything decided.

    ``n_states``, at most `exact_n_states`, and ``room`` as for `fisp_signal`; with ``room`` there may be one number for
    each run of `lanes` voxels.
    """
    flat = tissue.ravel()
    size = lanes(n_states, room, jnp.result_type(*jax.tree.leaves((sequence, tissue))))
    if room is not None:
        size = min(size, -(-flat.size // 16) * 16)  # whole vector registers

    @jax.checkpoint
    def chunk(inputs):
        t1, t2, b1 = inputs["t1"], inputs["t2"], inputs.get("b1", flat.b1)
        orders = inputs.get("n_states", n_states)
        return fisp_signal(sequence, t1, t2, b1, slice_profile, n_states=orders, room=room).T

    inputs = {name: value for name, value in vars(flat).items() if value.ndim}
    if flat.size <= size and room is None:
        signals = chunk(inputs)
    else:
        inputs = {name: _in_chunks(value, size) for name, value in inputs.items()}
        if room is not None:
            inputs["n_states"] = jnp.broadcast_to(n_states, len(inputs["t1"]))
        signals = lax.map(chunk, inputs).reshape(-1, sequence.n_frames)[: flat.size]
    return signals.reshape(*tissue.shape, sequence.n_frames)


_simulate_traced = jax.jit(simulate_in_chunks, static_argnames="n_states")


def _in_chunks(values, size):
    return jnp.pad(values, (0, -values.size % size), mode="edge").reshape(-1, size)


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
    return tangents_in_chunks(sequence, tissue, slice_profile, n_states=n_states, n_tangents=1)[SIGNAL]


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
    n_tangents = B1 + 1 if with_b1 else T2 + 1
    pools = tangents_in_chunks(sequence, tissue, slice_profile, n_states=n_states, n_tangents=n_tangents)

    def by(pool, values):
        return pools[pool] / jnp.broadcast_to(values, tissue.shape)[..., None]

    d_b1 = by(B1, tissue.b1) if with_b1 else None
    return SignalTangents(signal=pools[SIGNAL], d_t1=by(T1, tissue.t1), d_t2=by(T2, tissue.t2), d_b1=d_b1)
