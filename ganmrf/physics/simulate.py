"""Signals of any tissue under any sequence; under FISP also for reverse mode, and with their derivatives by tissue."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax

from ganmrf.physics.engines.tangents import B1, SIGNAL, T1, T2, tangents_in_chunks
from ganmrf.physics.engines.trains import compiled, fisp_signal, lanes, train_signal
from ganmrf.physics.lowering import as_played, is_plain_fisp, require_plain_fisp, signal_dtype
from ganmrf.physics.n_states import resolve_n_states
from ganmrf.physics.sequences.blocks import PulseSequence
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.slice_profile import SliceProfile
from ganmrf.physics.tissue import Tissue
from ganmrf.pytrees import is_traced, pytree


def simulate(
    sequence: PulseSequence,
    tissue: Tissue,
    *,
    n_states: int | None = None,
    accuracy: float = 1e-4,
    slice_profile: SliceProfile | None = None,
) -> jax.Array:
    """Signals of any number of voxels, by extended phase graphs, or isochromats where nothing dephases.

    Where RF phases are multiples of pi, one real number carries the transverse magnetisation. Every JAX transform works
    on this function: forward and reverse mode in every angle, time, efficiency and phase of the sequence, T1, T2, B1
    and off-resonance, vmap and jit.

    Args:
      sequence: the pulse sequence, of `ganmrf.physics.sequences`.
      tissue: voxels of any shape.
      n_states: states of the extended phase graph to keep. None chooses as few as keep ``accuracy``
        (`choose_n_states`); where values are traced and cannot be read, all states that matter (frames // 2 + 1) are
        kept. On a CPU a given number is rounded up to one more than a multiple of 8, unless values are traced.
      accuracy: largest relative L2 error of a signal that leaving out states may cause; used when ``n_states`` is None.
      slice_profile: quadrature over the slice; None for a uniform slice.

    Returns:
      Signals, the voxels' shape first: (..., frames), for M0 = 1: ``1j (Mx + i My) exp(-i receiver phase)`` at the
      recorded echoes. A rotation of +z by alpha about +x gives ``sin(alpha)``. They are real where every phase is a
      multiple of pi, known as such (`HalfTurns`), and nothing is off resonance; else complex.

    Raises:
      ValueError: ``n_states`` below 1, ``accuracy`` not positive, or frames with different numbers of turns above 0.

    References:
      Weigel 2015, doi:10.1002/jmri.24619. Jiang et al. 2015, doi:10.1002/mrm.25559.
    """
    sequence = as_played(sequence, tissue.off_resonance)
    n_states = resolve_n_states(sequence, tissue, slice_profile, n_states, accuracy)
    if is_traced(sequence, tissue, slice_profile):
        return _simulate_traced(sequence, tissue, slice_profile, n_states=n_states)
    run = compiled(simulate_in_chunks, n_states=n_states)
    if not is_traced(jnp.zeros(())):
        return run(sequence, tissue, slice_profile)
    # A caller's function is being traced, and these values are no part of it. Every constant is then a program.
    with jax.ensure_compile_time_eval():
        return run(sequence, tissue, slice_profile)


def simulate_in_chunks(sequence, tissue, slice_profile, *, n_states, max_states: int | None = None) -> jax.Array:
    """The signals of `simulate` for a given number of states, chunk by chunk, so that the states fit the cache.

    ``n_states`` (at most `exact_n_states`; with ``max_states`` also one for each run of `lanes` voxels) and
    ``max_states`` are those of `fisp_signal`.
    """
    flat, plain = tissue.ravel(), is_plain_fisp(sequence, tissue.off_resonance)
    size = lanes(n_states, max_states, signal_dtype(sequence, tissue))
    if max_states is not None:
        size = min(size, -(-flat.size // 16) * 16)  # whole vector registers

    @jax.checkpoint
    def chunk(inputs):
        t1, t2, b1 = inputs["t1"], inputs["t2"], inputs.get("b1", flat.b1)
        form = {"n_states": inputs.get("n_states", n_states), "max_states": max_states}
        if plain:
            return fisp_signal(sequence, t1, t2, b1, slice_profile, **form).T
        off_resonance = inputs.get("off_resonance", flat.off_resonance)
        return train_signal(sequence, t1, t2, b1, off_resonance, slice_profile, **form).T

    inputs = {name: value for name, value in vars(flat).items() if value is not None and value.ndim}
    if flat.size <= size and max_states is None:
        signals = chunk(inputs)
    else:
        inputs = {name: _in_chunks(value, size) for name, value in inputs.items()}
        if max_states is not None:
            inputs["n_states"] = jnp.broadcast_to(n_states, len(inputs["t1"]))
        signals = lax.map(chunk, inputs).reshape(-1, sequence.n_frames)[: flat.size]
    return signals.reshape(*tissue.shape, sequence.n_frames)


_simulate_traced = jax.jit(simulate_in_chunks, static_argnames="n_states")


def _in_chunks(values, size):
    return jnp.pad(values, (0, -values.size % size), mode="edge").reshape(-1, size)


def simulate_reverse(
    sequence: Fisp, tissue: Tissue, *, n_states: int | None = None, slice_profile: SliceProfile | None = None
) -> jax.Array:
    """The signals of `simulate`, for `jax.grad` and `jax.vjp`; its arguments, results and errors are the same.

    Gradients by every leaf of sequence, tissue and slice profile cost four to six forward passes more, and memory for
    the states of some dozens of frames. `jax.jit` and `jax.vmap` work. Forward mode (`jax.jvp`, `jax.hessian`) works on
    `simulate` only, as this function is a `jax.custom_vjp`. ``accuracy`` is 1e-4; under `jax.grad` values are traced,
    and all states that matter are kept.
    """
    require_plain_fisp(sequence, tissue, "simulate_reverse")
    n_states = resolve_n_states(sequence, tissue, slice_profile, n_states)
    return tangents_in_chunks(sequence, tissue, slice_profile, n_states=n_states, n_tangents=1)[SIGNAL]


@pytree
@dataclasses.dataclass(frozen=True)
class SignalTangents:
    """Signals and their derivatives by tissue, each real, (..., frames), for M0 = 1.

    Attributes:
      signal: the signal that `simulate` returns.
      d_t1: derivative by T1, 1/s.
      d_t2: derivative by T2, 1/s.
      d_b1: derivative by B1, dimensionless; None without ``with_b1``.
    """

    signal: jax.Array
    d_t1: jax.Array
    d_t2: jax.Array
    d_b1: jax.Array | None = None


def simulate_with_tangents(
    sequence: Fisp,
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

    The arguments that `simulate` has, too, mean the same here, with an ``accuracy`` of 1e-4. ``with_b1`` adds the
    derivative by B1, at a third more time. All derivatives are those at each voxel's own T1, T2 and B1.

    Raises:
      ValueError: ``n_states`` below 1.

    References:
      Zhao et al. 2018, arXiv:1710.08062, for the bound.
    """
    require_plain_fisp(sequence, tissue, "simulate_with_tangents")
    n_states = resolve_n_states(sequence, tissue, slice_profile, n_states)
    n_tangents = B1 + 1 if with_b1 else T2 + 1
    tangents = tangents_in_chunks(sequence, tissue, slice_profile, n_states=n_states, n_tangents=n_tangents)

    def by(tangent, values):
        """Derivative by the value itself, from the derivative by its logarithm."""
        return tangents[tangent] / jnp.broadcast_to(values, tissue.shape)[..., None]

    d_b1 = by(B1, tissue.b1) if with_b1 else None
    return SignalTangents(signal=tangents[SIGNAL], d_t1=by(T1, tissue.t1), d_t2=by(T2, tissue.t2), d_b1=d_b1)
