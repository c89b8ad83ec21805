"""The fast form of the MRF-FISP scan: real states of many voxels in one `lax.scan`.

With RF phase 0 the states of `epg` are ``f_plus = -i p``, ``f_minus = i q`` and ``z``, all of p, q, z real, (orders,
lanes), one lane a voxel; after dephasing p and q are equal at order 0. Relaxation, recovery and excitation are merged
into six coefficients a frame. Exponentials, sines and cosines are made for many frames at once, outside the inner scan:
made inside, XLA would fuse them into every order. Two frames a step write into each other's buffers, so that the shift
by one order costs no copy.

On a CPU all of it is compiled as one function (`one_kernel`), and each frame goes through only those orders that have
been reached by then and can still come back to order 0, in small blocks. Their number is then a value, not a shape: one
compiled program serves every number of orders.
"""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec

from ganmrf.physics.engines import one_kernel

# Frames a block. Blocks are also what reverse mode recomputes: it keeps the states between blocks only.
_BLOCK = 100
# Orders that a frame goes through at a time in the one-kernel form.
_ORDERS = 8
# Orders that the states of one compiled program have room for: this many, or a multiple, above order 0.
_ROOM = 128


def fisp_signal(sequence, t1, t2, b1, slice_profile=None, *, n_states, room: int | None = None, keep=None):
    """Signals of a batch of voxels, small enough that their states fit the cache.

    Args:
      sequence: the pulse sequence.
      t1: s, (lanes,).
      t2: s, (lanes,).
      b1: actual over nominal flip angle, (lanes,) or ().
      slice_profile: quadrature over the slice, or None.
      n_states: orders kept; static, or with ``room`` an integer that may be traced (a few orders more may be kept).
      room: None, or the largest ``n_states`` that the states must have room for, static, which chooses the form for
        one CPU kernel; only what `compiled` makes may, and only for forward simulation.
      keep: None, or the number of orders to keep in each lane, (lanes,), where fewer than ``n_states``.

    Returns:
      Real signals (frames, lanes); see `fisp.simulate` for their sign.
    """
    chex.assert_equal_shape((t1, t2))
    dtype = jnp.result_type(*jax.tree.leaves((sequence, t1, t2, b1)))
    n_frames = sequence.n_frames
    block = min(_BLOCK, n_frames + n_frames % 2)

    def in_blocks(values):
        padded = jnp.pad(values, ((0, -n_frames % block), (0, 0)))
        return padded.reshape(-1, block, values.shape[1])

    def relaxation(times, t):
        return jnp.exp(times[:, None] * (-1 / t)[None, :]).astype(dtype)

    angle = in_blocks((sequence.flip_angle[:, None] * jnp.reshape(b1, (1, -1))).astype(dtype))
    e1, e2 = (in_blocks(relaxation(sequence.repetition_time, t)) for t in (t1, t2))
    z0 = 1.0 if sequence.inversion_time is None else 1 - 2 * jnp.exp(-sequence.inversion_time / t1)
    frame = jnp.arange(e1.shape[0] * block, dtype=jnp.int32).reshape(-1, block)
    highest = jnp.minimum(jnp.minimum(frame, n_frames - 1 - frame), jnp.asarray(n_states, jnp.int32) - 1)
    passes = jnp.maximum(highest + _ORDERS - 1, 0) // _ORDERS
    scan = functools.partial(_scan, e1=e1, e2=e2, passes=passes, z0=z0, n_states=n_states, room=room, keep=keep)
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


def _scan(angle, e1, e2, passes, z0, n_states, room, keep):
    """Signals right after each pulse, (blocks, frames of a block, lanes), as the angles and relaxation factors are."""
    _, block, n_lanes = e1.shape
    # Order 0, those above it, and one row for what the highest order passes on, which is never read.
    n_rows = n_states + 1 if room is None else 2 - (1 - room) // _ORDERS * _ORDERS
    kept = None if keep is None else (jnp.arange(n_rows)[:, None] < keep[None, :]).astype(e1.dtype)

    def frame(states, buffers, coefficients, n_passes):
        """Records order 0, then excites, relaxes and dephases ``states`` into ``buffers``."""
        a, b, g, d, h, recovery = coefficients if room is None else _coefficients(*coefficients)

        def excited(first, size):
            p, q, z = (lax.dynamic_slice_in_dim(x, first, size) for x in states)
            return a * p + b * q + g * z, b * p + a * q + g * z, d * z + h * (p + q)

        def write(buffers, p, q, z, first):
            if kept is not None:
                p = p * lax.dynamic_slice_in_dim(kept, first + 1, p.shape[0])
            rows = (first + 1, first - 1, first)
            return tuple(
                lax.dynamic_update_slice_in_dim(buffer, x, row, 0)
                for buffer, x, row in zip(buffers, (p, q, z), rows, strict=True)
            )

        def pass_over(index, buffers):
            first = 1 + index * _ORDERS
            return write(buffers, *excited(first, _ORDERS), first)

        raised, _, longitudinal = excited(0, 1)
        lowered = excited(1, 1)[1]
        p, q, z = buffers
        buffers = (
            p.at[:1].set(lowered).at[1:2].set(raised if kept is None else raised * kept[1:2]),
            q.at[:1].set(lowered),
            z.at[:1].set(longitudinal + recovery),
        )
        if room is None:
            buffers = write(buffers, *excited(1, n_states - 1), 1)
        else:
            buffers = lax.fori_loop(0, n_passes, pass_over, buffers)
        return buffers, jnp.concatenate([states[0][:1], states[2][:1]])

    def two_frames(carry, inputs):
        even, odd = carry
        coefficients, n_passes = inputs
        odd, first = frame(even, odd, [c[0] for c in coefficients], n_passes[0])
        even, second = frame(odd, even, [c[1] for c in coefficients], n_passes[1])
        return (even, odd), jnp.stack([first, second])

    @jax.checkpoint
    def frames(carry, pulses):
        cos, sin, e1, e2, n_passes = pulses
        coefficients = _coefficients(cos, sin, e1, e2) if room is None else (cos, sin, e1, e2)
        paired = [jnp.reshape(c, (block // 2, 2, 1, -1)) for c in coefficients]
        carry, observed = lax.scan(two_frames, carry, (paired, n_passes.reshape(-1, 2)))
        p, z = jnp.moveaxis(observed.reshape(block, 2, n_lanes), 1, 0)
        return carry, cos * p + sin * z

    empty = jnp.zeros((n_rows, n_lanes), e1.dtype)
    states = (empty, empty, empty.at[0].set(z0))
    return lax.scan(frames, (states, (empty, empty, empty)), (jnp.cos(angle), jnp.sin(angle), e1, e2, passes))[1]


def _coefficients(cos, sin, e1, e2):
    """What relaxation, excitation and recovery of a frame multiply its states by."""
    return e2 * (0.5 * (cos + 1)), e2 * (0.5 * (cos - 1)), e2 * sin, e1 * cos, e1 * (-0.5 * sin), 1 - e1


def lanes(n_states: int, room: int | None, dtype) -> int:
    """Voxels to simulate together: on a CPU as many as keep their states in its first- or second-level cache."""
    if room is not None:
        return kernel_lanes(dtype)
    if jax.default_backend() == "cpu":
        return min(max(10240 // n_states // 64 * 64, 64), 512)
    return 16384


def kernel_lanes(dtype) -> int | None:
    """Voxels that `compiled` functions simulate together, whatever their orders; None in the ordinary form."""
    return 256 // jnp.dtype(dtype).itemsize if one_kernel.works() else None


def compiled(function, *, n_states, mesh: jax.sharding.Mesh | None = None):
    """``function`` with ``n_states`` and ``room`` bound, jitted in the fastest form this backend takes.

    For concrete arguments only: JAX takes compiler options for a whole program, not for a part of one. In the
    one-kernel form a program serves all numbers of orders that it has room for; ``n_states`` may hold several.

    Args:
      function: of sequence, tissue, slice profile and whatever more.
      n_states: orders kept; in the one-kernel form one number for all voxels or for each run of `kernel_lanes`.
      mesh: divides the voxels, (voxels,), and ``n_states``, if it holds several, over its axis ``atoms``.
    """
    if mesh is not None and mesh.size == 1:
        mesh = None
    if not one_kernel.works():
        return _ordinary(function, n_states, mesh)
    room = max(-(-(np.max(n_states) - 1) // _ROOM), 1) * _ROOM + 1
    return functools.partial(_one_kernel(function, int(room), mesh), n_states=np.asarray(n_states, np.int32))


@functools.cache
def _ordinary(function, n_states, mesh):
    return jax.jit(_divided(functools.partial(function, n_states=n_states, room=None), mesh))


@functools.cache
def _one_kernel(function, room, mesh):
    def in_one_kernel(*arguments, n_states):
        run = one_kernel.in_one_kernel(lambda n_states, *rest: function(*rest, n_states=n_states, room=room))
        return run(n_states, *arguments)

    return jax.jit(_divided(in_one_kernel, mesh), compiler_options=one_kernel.OPTIONS)


def _divided(function, mesh):
    """``function`` with its tissue, and arrays among its keywords, divided over the mesh, and its results gathered."""
    if mesh is None:
        return function
    atoms, everywhere = PartitionSpec("atoms"), PartitionSpec()

    def run(sequence, tissue, slice_profile, **keywords):
        def each(sequence, tissue, slice_profile, keywords):
            return function(sequence, tissue, slice_profile, **keywords)

        shares = jax.tree.map(lambda leaf: atoms if leaf.ndim else everywhere, (tissue, keywords))
        specs = (everywhere, shares[0], everywhere, shares[1])
        divided = jax.shard_map(each, mesh=mesh, in_specs=specs, out_specs=atoms, check_vma=False)
        return divided(sequence, tissue, slice_profile, keywords)

    return run
