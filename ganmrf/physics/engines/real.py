"""The fast form of the MRF-FISP scan: real states of many voxels in one `lax.scan`.

With RF phase 0 the states of `epg` are ``f_plus = -i p``, ``f_minus = i q`` and ``z``, where p, q and z are real arrays
(states, lanes), one lane a voxel; after dephasing p and q are equal at order 0. Relaxation, recovery and excitation are
merged into six coefficients a frame. Exponentials, sines and cosines are computed for many frames at once, outside the
inner scan: XLA would fuse them into every state inside it. Two frames a step write into each other's buffers, so that
the shift by one order costs no copy.

On a CPU the whole scan is compiled as one function (`one_kernel`), and each frame updates, in small blocks, only the
states that have been reached by then and can still come back to order 0. The number of states is then a value, not a
shape: one compiled program serves every number up to its ``max_states``.
"""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec

from ganmrf.physics.engines import one_kernel

# Frames a block. Reverse mode stores the states between blocks only, and computes those within a block again.
_BLOCK = 100
# States above order 0 that the one-kernel form updates at a time: fewer cost more loop steps, more cost states that
# nothing needs.
_STATES_AT_A_TIME = 8
# ``max_states`` of compiled programs is a multiple of this, plus order 0: few programs, and few rows that stay empty.
_CAPACITY_STEP = 128


def fisp_signal(sequence, t1, t2, b1, slice_profile=None, lane_states=None, *, n_states, max_states: int | None = None):
    """Signals of a batch of voxels, small enough that their states fit the cache.

    Args:
      sequence: the pulse sequence.
      t1: s, (lanes,).
      t2: s, (lanes,).
      b1: actual over nominal flip angle, (lanes,) or ().
      slice_profile: quadrature over the slice, or None.
      lane_states: number of states to keep in each lane, (lanes,), at most ``n_states``; None for ``n_states`` in all.
      n_states: states to keep: static, or with ``max_states`` an integer that may be traced. With ``max_states`` up to
        7 more are kept, for whole blocks above order 0.
      max_states: static capacity of the state arrays. None: ``n_states`` is the capacity (on GPUs, and where the
        simulation is differentiated). Set by `compiled` only.

    Returns:
      Real signals (frames, lanes); see `simulate` for their sign.
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
    passes = jnp.maximum(highest + _STATES_AT_A_TIME - 1, 0) // _STATES_AT_A_TIME

    def scan(angle):
        return _scan(angle, e1, e2, passes, z0, n_states, max_states, lane_states)

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


def _scan(angle, e1, e2, passes, z0, n_states, max_states, lane_states):
    """Signals right after each pulse, (blocks, frames of a block, lanes): the shape of ``angle``, rad, e1 and e2, too.

    In the one-kernel form each frame updates ``passes`` blocks of states. ``z0`` is z before the first pulse.
    """
    _, block, n_lanes = e1.shape
    # A row for each state, plus one scratch row: dephasing writes the highest state there and nothing reads it.
    n_rows = n_states + 1 if max_states is None else 2 - (1 - max_states) // _STATES_AT_A_TIME * _STATES_AT_A_TIME
    kept = None if lane_states is None else (jnp.arange(n_rows)[:, None] < lane_states[None, :]).astype(e1.dtype)
    frame = functools.partial(_frame, n_states=n_states, in_passes=max_states is not None, kept=kept)

    def two_frames(carry, inputs):
        even, odd = carry
        coefficients, n_passes = inputs
        odd, first = frame(even, odd, [c[0] for c in coefficients], n_passes[0])
        even, second = frame(odd, even, [c[1] for c in coefficients], n_passes[1])
        return (even, odd), jnp.stack([first, second])

    @jax.checkpoint
    def frames(carry, pulses):
        cos, sin, e1, e2, n_passes = pulses
        coefficients = _coefficients(cos, sin, e1, e2) if max_states is None else (cos, sin, e1, e2)
        paired = [jnp.reshape(c, (block // 2, 2, 1, -1)) for c in coefficients]
        carry, observed = lax.scan(two_frames, carry, (paired, n_passes.reshape(-1, 2)))
        p, z = jnp.moveaxis(observed.reshape(block, 2, n_lanes), 1, 0)
        return carry, cos * p + sin * z

    empty = jnp.zeros((n_rows, n_lanes), e1.dtype)
    states = (empty, empty, empty.at[0].set(z0))
    return lax.scan(frames, (states, (empty, empty, empty)), (jnp.cos(angle), jnp.sin(angle), e1, e2, passes))[1]


def _frame(states, buffers, coefficients, n_passes, *, n_states, in_passes, kept):
    """Excites, relaxes and dephases p, q and z, (rows, lanes) each, into ``buffers``.

    In the one-kernel form, ``in_passes``, ``coefficients`` are the arguments of `_coefficients`, and ``n_passes``
    blocks of states above order 0 are updated; else ``n_states``. ``kept`` is 1 for states that a lane keeps, or None.
    Also returns p and z of order 0 before the frame, (2, lanes), which the signal is made of.
    """
    coefficients = _coefficients(*coefficients) if in_passes else coefficients
    recovery = coefficients[-1]
    raised, _, longitudinal = _excited(states, coefficients, 0, 1)
    lowered = _excited(states, coefficients, 1, 1)[1]
    p, q, z = buffers
    buffers = (
        p.at[:1].set(lowered).at[1:2].set(raised if kept is None else raised * kept[1:2]),
        q.at[:1].set(lowered),
        z.at[:1].set(longitudinal + recovery),
    )

    def update(first, size, buffers):
        p, q, z = _excited(states, coefficients, first, size)
        if kept is not None:
            p = p * lax.dynamic_slice_in_dim(kept, first + 1, p.shape[0])
        rows = (first + 1, first - 1, first)
        return tuple(
            lax.dynamic_update_slice_in_dim(buffer, x, row, 0)
            for buffer, x, row in zip(buffers, (p, q, z), rows, strict=True)
        )

    def update_block(index, buffers):
        return update(1 + index * _STATES_AT_A_TIME, _STATES_AT_A_TIME, buffers)

    buffers = lax.fori_loop(0, n_passes, update_block, buffers) if in_passes else update(1, n_states - 1, buffers)
    return buffers, jnp.concatenate([states[0][:1], states[2][:1]])


def _excited(states, coefficients, first, size):
    """p, q and z of ``size`` orders from ``first`` on, excited and relaxed, before they are dephased."""
    a, b, g, d, h, _ = coefficients
    p, q, z = (lax.dynamic_slice_in_dim(x, first, size) for x in states)
    return a * p + b * q + g * z, b * p + a * q + g * z, d * z + h * (p + q)


def _coefficients(cos, sin, e1, e2):
    """The factors a, b, g, d and h of `_excited`, and the recovery of z at order 0, for each frame."""
    return e2 * (0.5 * (cos + 1)), e2 * (0.5 * (cos - 1)), e2 * sin, e1 * cos, e1 * (-0.5 * sin), 1 - e1


def lanes(n_states: int, max_states: int | None, dtype) -> int:
    """Voxels to simulate together: on a CPU so many that their states fit its first- or second-level cache."""
    if max_states is not None:
        return kernel_lanes(dtype)
    if jax.default_backend() == "cpu":
        return min(max(10240 // n_states // 64 * 64, 64), 512)  # 40 kB for each of p, q and z in float32
    return 16384  # enough to fill a GPU


def kernel_lanes(dtype) -> int | None:
    """Voxels that a `compiled` function simulates together, whatever their number of states; else None."""
    # 256 bytes a state: p, q and z of about a hundred states, and their buffers, fit the second-level cache.
    return 256 // jnp.dtype(dtype).itemsize if one_kernel.works() else None


def compiled(function, *, n_states, mesh: jax.sharding.Mesh | None = None):
    """``function`` with ``n_states`` and ``max_states`` bound, jitted in the fastest form that this backend takes.

    For concrete arguments only: JAX takes compiler options for a whole program, not for a part of one. In the
    one-kernel form one program serves all numbers of states up to its ``max_states``.

    Args:
      function: a function of sequence, tissue, slice profile and further arguments, with the keywords ``n_states`` and
        ``max_states``.
      n_states: number of states; in the one-kernel form one number for all voxels, or one for each run of
        `kernel_lanes` voxels.
      mesh: divides the voxels, (voxels,), and ``n_states``, if it holds several, over its axis ``atoms``.
    """
    if mesh is not None and mesh.size == 1:
        mesh = None
    if not one_kernel.works():
        return _ordinary(function, n_states, mesh)
    max_states = max(-(-(np.max(n_states) - 1) // _CAPACITY_STEP), 1) * _CAPACITY_STEP + 1
    return functools.partial(_one_kernel(function, int(max_states), mesh), n_states=np.asarray(n_states, np.int32))


@functools.cache
def _ordinary(function, n_states, mesh):
    return jax.jit(_divided(functools.partial(function, n_states=n_states, max_states=None), mesh))


@functools.cache
def _one_kernel(function, max_states, mesh):
    def in_one_kernel(*arguments, n_states):
        def run(n_states, *arguments):
            return function(*arguments, n_states=n_states, max_states=max_states)

        return one_kernel.in_one_kernel(run)(n_states, *arguments)

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
