"""The MRF-FISP scan: a readable definition for one voxel, and `simulate` for many.

One repetition, and where the operators of `epg` stand in it::

    RF        |^|                                   |^|
    readout       ----------- echo ----
    spoiler                             |#####|
    time      0                TE                   TR
              excite, relax, signal = F0, relax, dephase
"""

import jax
import jax.numpy as jnp
from jax import lax

from ganmrf.physics import epg
from ganmrf.physics.fisp_scan import compiled, fisp_signal, lanes
from ganmrf.physics.n_states import exact_n_states, orders_kept
from ganmrf.physics.slice_profile import SliceProfile
from ganmrf.physics.types import Sequence, Tissue, is_traced


def simulate_voxel(sequence: Sequence, t1, t2, b1=1.0, n_states: int | None = None) -> jax.Array:
    """The definition: the signal of one voxel, written as the pulse diagram reads.

    Args:
      sequence: the pulse sequence.
      t1: longitudinal relaxation time, s.
      t2: transverse relaxation time, s.
      b1: actual over nominal flip angle.
      n_states: orders kept; all that can come back to the signal by default.

    Returns:
      Complex transverse magnetisation Mx + i My at the echoes, (frames,), for M0 = 1.
    """
    n_states = exact_n_states(sequence.n_frames) if n_states is None else n_states

    def frame(states, pulse):
        flip_angle, repetition_time, echo_time = pulse
        states = epg.excite(states, b1 * flip_angle)
        states = epg.relax(states, echo_time, t1, t2)
        signal = states.f_plus[0]
        states = epg.relax(states, repetition_time - echo_time, t1, t2)
        return epg.dephase(states), signal

    states = epg.equilibrium(n_states, jnp.result_type(sequence.flip_angle, jnp.complex64))
    if sequence.inversion_time is not None:
        states = epg.relax(epg.invert(states), sequence.inversion_time, t1, t2)
    return lax.scan(frame, states, (sequence.flip_angle, sequence.repetition_time, sequence.echo_time))[1]


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
