"""The fast form of the MRF-FISP scan: real states of many voxels in one `lax.scan`.

With RF phase 0 the states of `epg` are ``f_plus = -i p``, ``f_minus = i q`` and ``z``, all of p, q, z real, (orders,
lanes), one lane a voxel. Relaxation, recovery and excitation are merged into six coefficients a frame, made for a block
of frames at once, outside the inner scan: made inside, XLA would fuse their exponentials into every order. Two frames a
step write into each other's buffers, so that the shift by one order costs no copy. On a CPU the inner scan can be
compiled as one function (`_in_one_kernel`), which is faster.
"""

import functools

import chex
import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

# Frames a block. Blocks are also what reverse mode recomputes: it keeps the states between blocks only.
_BLOCK = 100


def fisp_signal(sequence, t1, t2, b1, slice_profile=None, *, n_states: int, one_kernel: bool = False, keep=None):
    """Signals of a batch of voxels, small enough that their states fit the cache.

    Args:
      sequence: the pulse sequence.
      t1: s, (lanes,).
      t2: s, (lanes,).
      b1: actual over nominal flip angle, (lanes,) or ().
      slice_profile: quadrature over the slice, or None.
      n_states: orders kept, static.
      one_kernel: whether to compile the inner scan as one function, static; only what `compiled` makes may.
      keep: None, or the number of orders to keep in each lane, (lanes,), where fewer than ``n_states``.

    Returns:
      Real signals (frames, lanes); see `fisp.simulate` for their sign.
    """
    chex.assert_equal_shape((t1, t2))
    dtype = jnp.result_type(*jax.tree.leaves((sequence, t1, t2, b1)))
    n_frames = sequence.n_frames
    block = min(_BLOCK, n_frames + n_frames % 2)

    def in_blocks(values):
        padded = jnp.pad(values.astype(dtype), ((0, -n_frames % block), (0, 0)))
        return padded.reshape(-1, block, values.shape[1])

    def relaxation(times, t):
        return jnp.exp(-times[:, None] / t[None, :])

    angle = in_blocks(sequence.flip_angle[:, None] * jnp.reshape(b1, (1, -1)))
    e1, e2 = (in_blocks(relaxation(sequence.repetition_time, t)) for t in (t1, t2))
    z0 = jnp.ones_like(t1) if sequence.inversion_time is None else 1 - 2 * jnp.exp(-sequence.inversion_time / t1)
    kept = None if keep is None else (jnp.arange(n_states)[:, None] < keep[None, :]).astype(dtype)
    scan = functools.partial(_scan, e1=e1, e2=e2, z0=z0, n_states=n_states, one_kernel=one_kernel, kept=kept)
    if slice_profile is None:
        signals = scan(angle)
    else:

        @jax.checkpoint
        def add_node(total, node):
            scale, weight = node
            return total + weight * scan(scale * angle), None

        nodes = (jnp.asarray(slice_profile.nodes, dtype), jnp.asarray(slice_profile.weights, dtype))
        signals = lax.scan(add_node, jnp.zeros(e1.shape, dtype), nodes)[0]
    return relaxation(sequence.echo_time, t2) * signals.reshape(-1, t1.size)[:n_frames]


def _scan(angle, e1, e2, z0, n_states, one_kernel, kept):
    """Signals right after each pulse, (blocks, frames of a block, lanes), as the angles and relaxation factors are."""
    _, block, n_lanes = e1.shape

    def frame(states, buffers, coefficients):
        """Records order 0, then excites, relaxes and dephases ``states`` into ``buffers``."""
        p, q, z = states
        a, b, g, d, h, recovery = coefficients
        observed = jnp.concatenate([p[:1], q[:1], z[:1]])
        raised = a * p[:-1] + b * q[:-1] + g * z[:-1]
        lowered = b * p[1:] + a * q[1:] + g * z[1:]
        q_next = buffers[1].at[:-1].set(lowered)
        p_next = buffers[0].at[1:].set(raised).at[:1].set(b * p[1:2] + a * q[1:2] + g * z[1:2])
        z_next = (d * z + h * (p + q)).at[:1].add(recovery)
        if kept is not None:
            p_next = kept * p_next
        return (p_next, q_next, z_next), observed

    def two_frames(carry, coefficients):
        even, odd = carry
        odd, first = frame(even, odd, [c[0] for c in coefficients])
        even, second = frame(odd, even, [c[1] for c in coefficients])
        return (even, odd), jnp.stack([first, second])

    def inner_scan(carry, coefficients):
        return lax.scan(two_frames, carry, coefficients)

    if one_kernel:
        inner_scan = _in_one_kernel(inner_scan)

    @jax.checkpoint
    def frames(carry, pulses):
        angle, e1, e2 = pulses
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        up, down = 0.5 * (cos + 1), 0.5 * (cos - 1)
        coefficients = (e2 * up, e2 * down, e2 * sin, e1 * cos, -0.5 * e1 * sin, 1 - e1)
        paired = [jnp.reshape(c, (block // 2, 2, 1, n_lanes)) for c in coefficients]
        carry, observed = inner_scan(carry, lax.optimization_barrier(paired))
        p, q, z = jnp.moveaxis(observed.reshape(block, 3, n_lanes), 1, 0)
        return carry, up * p + down * q + sin * z

    empty = jnp.zeros((max(n_states, 2), n_lanes), e1.dtype)
    states = (empty, empty, empty.at[0].set(z0))
    return lax.scan(frames, (states, (empty, empty, empty)), (angle, e1, e2))[1]


def lanes(n_states: int, one_kernel: bool) -> int:
    """Voxels to simulate together: on a CPU as many as keep their states in its first- or second-level cache."""
    if one_kernel:
        return 64 if n_states <= 16 else 32
    if jax.default_backend() == "cpu":
        return min(max(10240 // n_states // 64 * 64, 64), 512)
    return 16384


@functools.cache
def compiled(function, **static):
    """``function`` with ``static`` keywords and ``one_kernel`` bound, jitted in the fastest form this backend takes.

    For concrete arguments only: JAX takes compiler options for a whole program, not for a part of one.
    """
    one_kernel = _fast_form_works()
    options = _CPU_OPTIONS if one_kernel else None
    return jax.jit(functools.partial(function, one_kernel=one_kernel, **static), compiler_options=options)


# Lets XLA's CPU backend write the shifted states in place.
_CPU_OPTIONS = {"xla_cpu_copy_insertion_use_region_analysis": True}


@functools.cache
def _fast_form_works():
    """Whether XLA takes `_CPU_OPTIONS` and `_in_one_kernel`, neither of which it documents; only ever on a CPU."""
    if jax.default_backend() != "cpu":
        return False
    doubled = _in_one_kernel(lambda start, steps: lax.scan(lambda x, step: (2 * x + step, x), start, steps))
    try:
        with jax.ensure_compile_time_eval():
            end, _ = jax.jit(doubled, compiler_options=_CPU_OPTIONS)(jnp.ones(8), jnp.ones((3, 8)))
        return bool((end == 15).all())
    except jax.errors.JaxRuntimeError:
        return False


def _in_one_kernel(function):
    """Asks XLA's CPU backend to emit ``function`` as one compiled function with its loops inside.

    Without it every operation of every step is dispatched by itself. The inner tags keep the outer ones from what
    ``function`` calls.
    """

    @jax.jit
    def inner(*arguments):
        with set_xla_metadata(xla_cpu_small_call="false", inlineable="true"):
            return function(*arguments)

    def outer(*arguments):
        with set_xla_metadata(xla_cpu_small_call="true", inlineable="false"):
            return inner(*arguments)

    return outer
