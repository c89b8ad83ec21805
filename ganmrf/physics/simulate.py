"""Signals of any tissue under any sequence, also for reverse mode, and with their derivatives by tissue."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax import lax

from ganmrf.physics.engines import one_kernel
from ganmrf.physics.engines.programs import compiled, lanes
from ganmrf.physics.engines.tangents import tangents_in_chunks
from ganmrf.physics.engines.trains import train_signal
from ganmrf.physics.lowering import as_played, lower_slice, turns_alike
from ganmrf.physics.n_states import resolve_n_states
from ganmrf.physics.sequences.blocks import PulseSequence
from ganmrf.physics.slice_positions import FullPositions
from ganmrf.physics.slice_profile import FullSlice, PartitionedSlice, SliceModel
from ganmrf.physics.tissue import TissueModel
from ganmrf.physics.tissue import parameters as parameters_of
from ganmrf.pytrees import is_traced, pytree


def simulate(
    sequence: PulseSequence,
    tissue: TissueModel,
    *,
    n_states: int | None = None,
    accuracy: float = 1e-4,
    slice_profile: SliceModel | None = None,
) -> jax.Array:
    """Signals of any number of voxels, by extended phase graphs, or isochromats where nothing dephases.

    Where RF phases are multiples of pi, one real number carries the transverse magnetisation. Every JAX transform works
    on this function: forward and reverse mode in every angle, time, efficiency and phase of the sequence and every
    parameter of the tissue, vmap and jit.

    Args:
      sequence: the pulse sequence, of `ganmrf.physics.sequences`.
      tissue: voxels of any shape: `Tissue`, `ExchangingPools` or `SemisolidPool`.
      n_states: states of the extended phase graph to keep. None chooses as few as keep ``accuracy``
        (`choose_n_states`); where values are traced and cannot be read, all states that matter (frames // 2 + 1) are
        kept. On a CPU a given number is rounded up to one more than a multiple of 8, unless values are traced. In a
        `FullSlice` it stands for as many positions as are as good as so many states.
      accuracy: largest relative L2 error of a signal that leaving out states may cause; used when ``n_states`` is None.
      slice_profile: a model of the slice, whose signal is the integral over position in slice thicknesses; None for a
        uniform slice one thickness wide.

    Returns:
      Signals, the voxels' shape first: (..., frames), for M0 = 1: ``1j (Mx + i My) exp(-i receiver phase)`` at the
      recorded echoes. A rotation of +z by alpha about +x gives ``sin(alpha)``. They are real where every phase is a
      multiple of pi, known as such (`HalfTurns`), and nothing is off resonance; else complex.

    Raises:
      ValueError: ``n_states`` below 1, ``accuracy`` not positive, a flip angle times B1 above 360 degrees with a model
        of the slice that plays its pulse, or a `SemisolidPool` and pulses of unknown duration.

    References:
      Weigel 2015, doi:10.1002/jmri.24619. Jiang et al. 2015, doi:10.1002/mrm.25559.
    """
    sequence = as_played(sequence, tissue)
    n_states = resolve_n_states(sequence, tissue, slice_profile, n_states, accuracy)
    if is_traced(sequence, tissue, slice_profile):
        return _simulate_traced(sequence, tissue, slice_profile, n_states=n_states)
    slice_profile = lower_slice(slice_profile, sequence, tissue, n_states, padded=one_kernel.works())
    if isinstance(slice_profile, FullPositions):
        n_states = 1
    run = compiled(simulate_in_chunks, n_states=n_states)
    if not is_traced(jnp.zeros(())):
        return run(sequence, tissue, slice_profile)
    # A caller's function is being traced, and these values are no part of it. Every constant is then a program.
    with jax.ensure_compile_time_eval():
        return run(sequence, tissue, slice_profile)


def simulate_in_chunks(
    sequence, tissue, slice_profile, *, n_states, max_states: int | None = None, n_shifts: int | None = None
) -> jax.Array:
    """The signals of `simulate` for a given number of states, chunk by chunk, so that the states fit the cache.

    ``n_states`` (at most `exact_states`; with ``max_states`` also one for each run of `lanes` voxels) and
    ``max_states`` are those of `fisp_signal`. With ``n_shifts``, runs of so many voxels differ in off-resonance alone,
    each run in the same ones: its T1, T2 and B1 are read from its first voxel, and the off-resonances from the first
    run.
    """
    flat = tissue.ravel()
    slice_profile = lower_slice(slice_profile, sequence, tissue, n_states)
    size = n_shifts or lanes(sequence, tissue, slice_profile, n_states, max_states)
    if max_states is not None and not n_shifts:
        size = min(size, -(-flat.size // 16) * 16)  # whole vector registers
    inputs = {name: value for name, value in vars(flat).items() if value is not None and value.ndim}
    inputs["n_states"], shared = None, {}  # None where no chunk has its own

    @jax.checkpoint
    def chunk(inputs):
        own = {name: value for name, value in inputs.items() if name != "n_states"}
        voxels = dataclasses.replace(flat, **shared, **own)
        states = n_states if inputs["n_states"] is None else inputs["n_states"]
        return train_signal(sequence, voxels, slice_profile, n_states=states, max_states=max_states).T

    if flat.size <= size and max_states is None:
        signals = chunk(inputs)
    else:
        inputs = {name: value if value is None else _in_chunks(value, size) for name, value in inputs.items()}
        if n_shifts:
            shared["off_resonance"] = inputs.pop("off_resonance")[0]
            inputs = {name: value if value is None else value[:, :1] for name, value in inputs.items()}
        if getattr(slice_profile, "common_b1", False) and "b1" in inputs:
            inputs["b1"] = inputs["b1"][:, :1]
        if max_states is not None:
            inputs["n_states"] = jnp.broadcast_to(n_states, len(inputs["t1"]))
        signals = lax.map(chunk, inputs).reshape(-1, sequence.n_frames)[: flat.size]
    return signals.reshape(*tissue.shape, sequence.n_frames)


_simulate_traced = jax.jit(simulate_in_chunks, static_argnames="n_states")


def _in_chunks(values, size):
    return jnp.pad(values, (0, -values.size % size), mode="edge").reshape(-1, size)


def simulate_reverse(
    sequence: PulseSequence,
    tissue: TissueModel,
    *,
    n_states: int | None = None,
    slice_profile: SliceModel | None = None,
) -> jax.Array:
    """The signals of `simulate`, for `jax.grad` and `jax.vjp`; its arguments, results and errors are the same.

    Gradients by every leaf of sequence, tissue and slice profile cost four to six forward passes more, and memory for
    the states of some dozens of frames. `jax.jit` and `jax.vmap` work. Forward mode (`jax.jvp`, `jax.hessian`) works on
    `simulate` only, as this function is a `jax.custom_vjp`. ``accuracy`` is 1e-4; under `jax.grad` values are traced,
    and all states that matter are kept.

    Where nothing dephases, frames have different numbers of turns, or pulses rotate a slice (`FullSlice`,
    `PartitionedSlice`), this is `simulate` itself.
    """
    sequence = as_played(sequence, tissue)
    n_states = resolve_n_states(sequence, tissue, slice_profile, n_states)
    if not _has_adjoint(sequence, slice_profile):
        return _simulate_traced(sequence, tissue, slice_profile, n_states=n_states)
    return tangents_in_chunks(sequence, tissue, slice_profile, n_states=n_states)[0]


def _has_adjoint(sequence, slice_profile):
    """Whether the recurrence with a hand-written adjoint serves: other engines are differentiated as they are."""
    return turns_alike(sequence) and not isinstance(slice_profile, FullSlice | PartitionedSlice)


@pytree
@dataclasses.dataclass(frozen=True)
class SignalTangents:
    """Signals and their derivatives by tissue, (..., frames), for M0 = 1: real or complex, as those of `simulate`.

    Attributes:
      signal: the signal that `simulate` returns.
      by: name of a field of the tissue -> derivative by it, for SI units: that by T1 in 1/s.
    """

    signal: jax.Array
    by: dict[str, jax.Array]

    @property
    def d_t1(self) -> jax.Array | None:
        """Derivative by T1, 1/s; None where there is none, as of the others."""
        return self.by.get("t1")

    @property
    def d_t2(self) -> jax.Array | None:
        """Derivative by T2, 1/s."""
        return self.by.get("t2")

    @property
    def d_b1(self) -> jax.Array | None:
        """Derivative by B1, dimensionless."""
        return self.by.get("b1")

    @property
    def d_off_resonance(self) -> jax.Array | None:
        """Derivative by off-resonance, 1/Hz."""
        return self.by.get("off_resonance")


def simulate_with_tangents(
    sequence: PulseSequence,
    tissue: TissueModel,
    *,
    parameters: tuple[str, ...] | None = None,
    n_states: int | None = None,
    slice_profile: SliceModel | None = None,
    with_b1: bool = False,
    with_off_resonance: bool = False,
) -> SignalTangents:
    """Signals of any number of voxels and their derivatives by any parameters of their tissue.

    The derivatives are carried beside the signal in one recurrence. Reverse mode (`jax.grad`, `jax.vjp`) by every leaf
    of sequence, tissue and slice profile has a hand-written adjoint, so that an objective of signal and derivatives,
    such as a Cramer-Rao bound, can be minimised over flip angles and times. Forward mode is not available.

    Where nothing dephases, frames have different numbers of turns, or pulses rotate a slice (`FullSlice`,
    `PartitionedSlice`), `jax.jvp` of `simulate` takes its place.

    The arguments that `simulate` has, too, mean the same here, with an ``accuracy`` of 1e-4. The ``parameters`` are
    names of fields of ``tissue``, such as "t1", "fraction" or "b1"; each costs about a third of the time for T1 and T2.
    None is short for "t1" and "t2", with "b1" if ``with_b1`` and "off_resonance" if ``with_off_resonance``. All
    derivatives are those at each voxel's own values.

    Raises:
      ValueError: ``n_states`` below 1, another name than those of ``tissue``, or a parameter that ``tissue`` has as
        None, which is not the same as 0.

    References:
      Zhao et al. 2018, arXiv:1710.08062, for the bound.
    """
    names = unknowns(tissue, parameters, with_b1=with_b1, with_off_resonance=with_off_resonance)
    sequence = as_played(sequence, tissue)
    n_states = resolve_n_states(sequence, tissue, slice_profile, n_states)
    carried = tangents_in_chunks if _has_adjoint(sequence, slice_profile) else _tangents_by_jvp
    signal, *tangents = carried(sequence, tissue, slice_profile, n_states=n_states, parameters=names)
    return SignalTangents(signal, dict(zip(names, tangents, strict=True)))


def unknowns(
    tissue: TissueModel, names=None, *, with_b1: bool = False, with_off_resonance: bool = False
) -> tuple[str, ...]:
    """The ``parameters`` of `simulate_with_tangents` as names of fields of ``tissue``; it raises what that raises."""
    known, kind = parameters_of(tissue), type(tissue).__name__
    if names is None:
        names = "t1", "t2", *("b1",) * with_b1, *("off_resonance",) * with_off_resonance
    for name in (names := tuple(names)):
        if name not in known:
            raise ValueError(f"parameters must be some of {', '.join(known)} for {kind}; got {name!r}")
        if getattr(tissue, name) is None:
            raise ValueError(f"{kind}.{name} must be given, 0 for none, for derivatives by it; got None")
    return names


@functools.partial(jax.jit, static_argnames=("n_states", "parameters"))
def _tangents_by_jvp(sequence, tissue, slice_profile, *, n_states, parameters):
    """As `tangents_in_chunks`, for any sequence, by forward mode of the plain scan."""

    def by(name):
        value = jnp.broadcast_to(getattr(tissue, name), tissue.shape)

        def signals(value):
            changed = dataclasses.replace(tissue, **{name: value})
            return simulate_in_chunks(sequence, changed, slice_profile, n_states=n_states)

        return jax.jvp(signals, (value,), (jnp.ones_like(value),))

    found = [by(name) for name in parameters]
    return [found[0][0], *(tangent for _, tangent in found)]
