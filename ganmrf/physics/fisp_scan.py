"""The fast form of the MRF-FISP scan: real states of many voxels in one `lax.scan`.

With RF phase 0 the states of `epg` are ``f_plus = -i p``, ``f_minus = i q`` and ``z``, all of p, q, z real, (orders,
lanes), one lane a voxel. Relaxation, recovery and excitation are merged into six coefficients a frame, made for a block
of frames at once, outside the inner scan: made inside, XLA would fuse their exponentials into every order. Two frames a
step write into each other's buffers, so that the shift by one order costs no copy.
"""

import functools

import chex
import jax
import jax.numpy as jnp
from jax import lax

# Frames a block. Blocks are also what reverse mode recomputes: it keeps the states between blocks only.
_BLOCK = 50


def fisp_signal(sequence, t1, t2, b1, slice_profile=None, *, n_states: int, keep=None):
    """Signals of a batch of voxels, small enough that their states fit the cache.

    Args:
      sequence: the pulse sequence.
      t1: s, (lanes,).
      t2: s, (lanes,).
      b1: actual over nominal flip angle, (lanes,) or ().
      slice_profile: quadrature over the slice, or None.
      n_states: orders kept, static.
      keep: None, or the number of orders to keep in each lane, (lanes,), where fewer than ``n_states``.

    Returns:
      Real signals (frames, lanes); see `fisp.simulate` for their sign.
    """
    chex.assert_equal_shape((t1, t2))
    decay = jnp.exp(-sequence.echo_time[:, None] / t2[None, :])
    if slice_profile is None:
        return decay * _scan(sequence, t1, t2, b1, n_states, keep)

    @jax.checkpoint
    def add_node(total, node):
        scale, weight = node
        return total + weight * _scan(sequence, t1, t2, b1 * scale, n_states, keep), None

    dtype = jnp.result_type(sequence.flip_angle, t1, t2, b1)
    nodes = (jnp.asarray(slice_profile.nodes, dtype), jnp.asarray(slice_profile.weights, dtype))
    return decay * lax.scan(add_node, jnp.zeros((sequence.n_frames, t1.size), dtype), nodes)[0]


def _scan(sequence, t1, t2, b1, n_states, keep):
    """Signals right after each pulse, before they decay for the echo time."""
    dtype = jnp.result_type(sequence.flip_angle, sequence.repetition_time, t1, t2, b1)
    n_frames, lanes = sequence.n_frames, t1.size
    block = min(_BLOCK, n_frames + n_frames % 2)
    kept = None if keep is None else (jnp.arange(n_states)[:, None] < keep[None, :]).astype(dtype)
    rate1, rate2 = (1 / t1)[None, :], (1 / t2)[None, :]
    b1 = jnp.reshape(b1, (1, -1))

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

    @jax.checkpoint
    def frames(carry, pulses):
        flip_angle, repetition_time = (pulse[:, None] for pulse in pulses)
        cos, sin = jnp.cos(b1 * flip_angle), jnp.sin(b1 * flip_angle)
        up, down = 0.5 * (cos + 1), 0.5 * (cos - 1)
        e1, e2 = jnp.exp(-repetition_time * rate1), jnp.exp(-repetition_time * rate2)
        coefficients = (e2 * up, e2 * down, e2 * sin, e1 * cos, -0.5 * e1 * sin, 1 - e1)
        paired = [jnp.reshape(c, (block // 2, 2, 1, lanes)) for c in coefficients]
        carry, observed = lax.scan(two_frames, carry, lax.optimization_barrier(paired))
        p, q, z = jnp.moveaxis(observed.reshape(block, 3, lanes), 1, 0)
        return carry, up * p + down * q + sin * z

    pulses = [
        jnp.pad(pulse, (0, -n_frames % block)).reshape(-1, block).astype(dtype)
        for pulse in (sequence.flip_angle, sequence.repetition_time)
    ]
    empty = jnp.zeros((max(n_states, 2), lanes), dtype)
    z0 = 1.0 if sequence.inversion_time is None else 1 - 2 * jnp.exp(-sequence.inversion_time / t1)
    states = (empty, empty, empty.at[0].set(z0))
    _, signals = lax.scan(frames, (states, (empty, empty, empty)), pulses)
    return signals.reshape(-1, lanes)[:n_frames]


def lanes(n_states: int) -> int:
    """Voxels to simulate together: on a CPU as many as keep their states in its second-level cache."""
    if jax.default_backend() != "cpu":
        return 16384
    return min(max(10240 // n_states // 64 * 64, 64), 512)


@functools.cache
def compiler_options() -> dict | None:
    """Options for `jax.jit` under which XLA's CPU backend writes the shifted states in place; None elsewhere.

    They are XLA's own, undocumented: where it refuses them the scan still runs, at two thirds of the speed.
    """
    options = {"xla_cpu_copy_insertion_use_region_analysis": True}
    if jax.default_backend() != "cpu":
        return None
    try:
        jax.jit(lambda x: x, compiler_options=options)(0.0)
    except jax.errors.JaxRuntimeError:
        return None
    return options


@functools.cache
def compiled(function, **static):
    """``function`` with ``static`` keywords bound, jitted with `compiler_options`; for concrete arguments only."""
    return jax.jit(functools.partial(function, **static), compiler_options=compiler_options())
