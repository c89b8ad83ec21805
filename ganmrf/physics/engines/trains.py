"""The fast form of a train of frames: states of many voxels in one `lax.scan`.

In the frame of reference of each pulse the states of `epg` are ``f_plus = -i exp(i phase) p``, ``f_minus = i exp(-i
phase) q`` and ``z`` (`lowering`), arrays (states, lanes), one lane a voxel; after dephasing p and the conjugate of q
are equal at order 0. Where phases are half turns and nothing is off resonance, as in FISP, they are real, else each
has a real and an imaginary part. Relaxation, recovery and excitation are merged into some coefficients a frame.
Exponentials, sines and cosines are computed for many frames at once, outside the inner scan: XLA would fuse them into
every state inside it. Two frames a step write into each other's buffers, so that the shift by one order costs no
copy. Without any shift a voxel is one isochromat, and has no states of other orders.

On a CPU the whole scan is compiled as one function (`one_kernel`), and each frame updates, in small blocks, only the
states that have been reached by then and can still come back to order 0. The number of states is then a value, not a
shape: one compiled program serves every number up to its ``max_states``.
"""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec

from ganmrf.physics.engines import one_kernel
from ganmrf.physics.lowering import ISOCHROMAT, Coefficients, form_of, is_plain_fisp, lower, recorded_frames, turns_of

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

    def relaxation(times, t):
        return jnp.exp(times[:, None] * (-1 / t)[None, :]).astype(dtype)

    z0 = 1.0 if sequence.inversion_time is None else 1 - 2 * jnp.exp(-sequence.inversion_time / t1)
    coefficients = Coefficients(
        angle=(sequence.flip_angle[:, None] * jnp.reshape(b1, (1, -1))).astype(dtype),
        e1=relaxation(sequence.repetition_time, t1),
        e2=relaxation(sequence.repetition_time, t2),
        z0=z0,
        echo=relaxation(sequence.echo_time, t2),
    )
    return _signal(coefficients, None, slice_profile, lane_states, n_states=n_states, max_states=max_states)


def train_signal(
    sequence, t1, t2, b1, off_resonance=None, slice_profile=None, lane_states=None, *, n_states, max_states=None
):
    """Signals of a batch of voxels under any sequence: of `fisp_signal`, but complex where `lowering.is_real` says so.

    The ``off_resonance`` is in Hz, (lanes,), or None; the other arguments are those of `fisp_signal`, to which plain
    FISP is left.

    Returns:
      Signals (recorded frames, lanes); see `simulate`.
    """
    if is_plain_fisp(sequence, off_resonance):
        form = {"n_states": n_states, "max_states": max_states}
        return fisp_signal(sequence, t1, t2, b1, slice_profile, lane_states, **form)
    coefficients, turns = lower(sequence, t1, t2, b1, off_resonance), turns_of(sequence)
    recorded = recorded_frames(sequence)
    if form_of(sequence, off_resonance) == ISOCHROMAT:
        n_states = None
    elif max(turns[:-1]) > 1:
        coefficients, turns, places = _single_turns(coefficients, turns)
        recorded = places[recorded]
    form = {"n_states": n_states, "max_states": max_states}
    signals = _signal(coefficients, None if all(turns[:-1]) else turns, slice_profile, lane_states, **form)
    return signals[recorded]


def _single_turns(coefficients, turns):
    """Frames of one turn or none in place of frames of any number of ``turns``, (frames,).

    What a frame turns beyond once is done by frames after it, without pulse, relaxation or precession.

    Returns:
      Coefficients and turns of all these frames, and the places of the given frames among them, (frames,).
    """
    repeats = np.maximum((*turns[:-1], 1), 1)
    frames, places = np.repeat(np.arange(len(turns)), repeats), np.cumsum(repeats) - repeats
    added = np.isin(np.arange(len(frames)), places, invert=True)[:, None]
    idle = {"angle": 0, "e1": 1, "e2": 1, "recovery": 0, "turn": 0, "echo": 0, "echo_turn": 0}
    values = {name: getattr(coefficients, name) for name in idle}
    spread = {name: jnp.where(added, idle[name], value[frames]) for name, value in values.items() if value is not None}
    return dataclasses.replace(coefficients, **spread), np.minimum(turns, 1)[frames].tolist(), places


def _signal(coefficients, turns, slice_profile, lane_states, *, n_states, max_states):
    """Signals (frames, lanes), real where ``coefficients.turn`` is None; ``turns`` of None are 1 at every frame.

    An ``n_states`` of None is the isochromat's: nothing turns.
    """
    c = coefficients
    n_frames, n_lanes = c.e1.shape
    block = min(_BLOCK, n_frames + n_frames % 2)

    def in_blocks(values):
        if values is None:
            return None
        padded = jnp.pad(values, ((0, -n_frames % block), (0, 0)))
        return padded.reshape(-1, block, values.shape[1])

    angle, *others = map(in_blocks, (c.angle, c.e1, c.e2, c.recovery, c.turn))
    if n_states is not None:
        blocks = -(-n_frames // block)
        so_far = np.arange(blocks * block) if turns is None else np.cumsum((0, *turns[:-1], *[0] * (-n_frames % block)))
        to_come = n_frames - 1 - so_far if turns is None else so_far[n_frames - 1] - so_far
        reached = jnp.asarray(np.minimum(so_far, to_come).reshape(blocks, block), jnp.int32)
        highest = jnp.minimum(reached, jnp.asarray(n_states, jnp.int32) - 1)
        passes = jnp.maximum(highest + _STATES_AT_A_TIME - 1, 0) // _STATES_AT_A_TIME
        shifts = None if turns is None else in_blocks(jnp.asarray(turns, jnp.int32)[:, None])[..., 0]

    def scan(angle):
        if n_states is None:
            return _isochromats(angle, *others, c.z0)
        return _scan(angle, *others, passes, shifts, c.z0, n_states, max_states, lane_states)

    if slice_profile is None:
        signals = scan(angle)
    else:

        @jax.checkpoint
        def add_node(total, node):
            scale, weight = node
            seen = scan(scale * angle)
            return tuple(sum_ + weight * each for sum_, each in zip(total, seen, strict=True)), None

        dtype = c.e1.dtype
        nodes = (jnp.asarray(slice_profile.nodes, dtype), jnp.asarray(slice_profile.weights, dtype))
        none_yet = (jnp.zeros((*others[0].shape,), dtype),) * (1 if c.turn is None else 2)
        signals = lax.scan(add_node, none_yet, nodes)[0]
    signals = [each.reshape(-1, n_lanes)[:n_frames] for each in signals]
    if c.turn is None:
        return c.echo * signals[0]
    real, imaginary = signals
    cos, sin = jnp.cos(c.echo_turn), jnp.sin(c.echo_turn)
    return lax.complex(c.echo * (cos * real - sin * imaginary), c.echo * (cos * imaginary + sin * real))


def _isochromats(angle, e1, e2, recovery, turn, z0):
    """Transverse magnetisation right after each pulse, real and imaginary part or one, as `_scan` has it."""
    recovery = 1 - e1 if recovery is None else recovery
    turning = () if turn is None else (e2 * jnp.cos(turn), e2 * jnp.sin(turn))

    def frame(state, inputs):
        x, y, z = state
        cos, sin, e1, e2, recovery, *turning = inputs
        x, z = cos * x + sin * z, e1 * (cos * z - sin * x) + recovery
        if not turning:
            return (e2 * x, y, z), (x,)
        real, imaginary = turning
        return (real * x - imaginary * y, real * y + imaginary * x, z), (x, y)

    @jax.checkpoint
    def frames(state, inputs):
        return lax.scan(frame, state, inputs)

    zero = jnp.zeros(e1.shape[2], e1.dtype)
    inputs = jnp.broadcast_to(jnp.cos(angle), e1.shape), jnp.broadcast_to(jnp.sin(angle), e1.shape)
    return lax.scan(frames, (zero, zero, zero + z0), (*inputs, e1, e2, recovery, *turning))[1]


def _scan(angle, e1, e2, recovery, turn, passes, shifts, z0, n_states, max_states, lane_states):
    """Transverse magnetisation right after each pulse: (real part,), or (real, imaginary) with a ``turn``.

    Both are (blocks, frames of a block, lanes), as ``angle``, rad, e1, e2, and, unless they are None, ``recovery`` and
    ``turn``. In the one-kernel form each frame updates ``passes`` blocks of states. Orders are shifted by ``shifts``, 0
    or 1, (blocks, frames of a block); by 1 where it is None. ``z0`` is z before the first pulse.
    """
    _, block, n_lanes = e1.shape
    # A row for each state, plus one scratch row: dephasing writes the highest state there and nothing reads it.
    n_rows = n_states + 1 if max_states is None else 2 - (1 - max_states) // _STATES_AT_A_TIME * _STATES_AT_A_TIME
    kept = None if lane_states is None else (jnp.arange(n_rows)[:, None] < lane_states[None, :]).astype(e1.dtype)
    frame = functools.partial(_frame, n_states=n_states, in_passes=max_states is not None, kept=kept)

    def two_frames(carry, inputs):
        even, odd = carry
        coefficients, n_passes, shift = inputs
        first, second = ([None if c is None else c[i] for c in coefficients] for i in range(2))
        shift = (1, 1) if shift is None else shift
        odd, seen = frame(even, odd, first, n_passes[0], shift[0])
        even, then = frame(odd, even, second, n_passes[1], shift[1])
        return (even, odd), jnp.stack([seen, then])

    @jax.checkpoint
    def frames(carry, pulses):
        cos, sin, e1, e2, recovery, turning, n_passes, shifts = pulses
        coefficients = (cos, sin, e1, e2, recovery)
        coefficients = _coefficients(*coefficients) if max_states is None else coefficients
        paired = [None if c is None else jnp.reshape(c, (block // 2, 2, 1, -1)) for c in (*coefficients, *turning)]
        shifts = None if shifts is None else shifts.reshape(-1, 2)
        carry, observed = lax.scan(two_frames, carry, (paired, n_passes.reshape(-1, 2), shifts))
        p, *imaginary, z = jnp.moveaxis(observed.reshape(block, -1, n_lanes), 1, 0)
        return carry, (cos * p + sin * z, *imaginary)

    turning = () if turn is None else (jnp.cos(turn), jnp.sin(turn))
    empty = jnp.zeros((n_rows, n_lanes), e1.dtype)
    nothing = ((empty,) * (1 + len(turning[:1])),) * 3
    states = (*nothing[:2], (empty.at[0].set(z0), *nothing[2][1:]))
    pulses = (jnp.cos(angle), jnp.sin(angle), e1, e2, recovery, turning, passes, shifts)
    return lax.scan(frames, (states, nothing), pulses)[1]


def _frame(states, buffers, coefficients, n_passes, shift, *, n_states, in_passes, kept):
    """Excites, relaxes and dephases p, q and z, each one or two parts (rows, lanes), into ``buffers``.

    In the one-kernel form, ``in_passes``, ``coefficients`` are the arguments of `_coefficients`, and ``n_passes``
    blocks of states above order 0 are updated; else ``n_states``. Two more coefficients are cosine and sine of the
    turn. ``shift`` is 0 or 1; ``kept`` is 1 for states that a lane keeps, or None.
    Also returns p of order 0, all parts, and z before the frame, (2 or 3, lanes), which the signal is made of.
    """
    parts = len(states[0])
    turning = coefficients[len(coefficients) - 2 * (parts - 1) :]
    coefficients = coefficients[: len(coefficients) - len(turning)]
    coefficients = _coefficients(*coefficients) if in_passes else coefficients
    recovery = coefficients[5]
    raised, _, longitudinal = _excited(states, coefficients, turning, 0, 1)
    lowered = _excited(states, coefficients, turning, 1, 1)[1]
    moved = isinstance(shift, int)  # by 1, at every frame
    if not moved:  # without a shift order 0 stays, and p and q are each other's conjugates there
        lowered = [jnp.where(shift == 1, low, -up if part else up) for part, (low, up) in _numbered(lowered, raised)]
    p, q, z = buffers
    above = [up if kept is None else up * kept[1:2] for up in raised]
    conjugate = [-low if part else low for part, low in enumerate(lowered)]
    if moved:
        p = [buffer.at[:1].set(low).at[1:2].set(up) for buffer, low, up in zip(p, conjugate, above, strict=True)]
    else:
        p = [lax.dynamic_update_slice_in_dim(buffer, up, shift, 0) for buffer, up in zip(p, above, strict=True)]
        p = [buffer.at[:1].set(low) for buffer, low in zip(p, conjugate, strict=True)]
    q = [buffer.at[:1].set(low) for buffer, low in zip(q, lowered, strict=True)]
    # z of order 0 is real.
    z = [buffer.at[:1].set(0 * new if part else new + recovery) for part, (buffer, new) in _numbered(z, longitudinal)]

    def update(first, size, buffers):
        p, q, z = _excited(states, coefficients, turning, first, size)
        if kept is not None:
            p = [each * lax.dynamic_slice_in_dim(kept, first + shift, each.shape[0]) for each in p]
        rows = (first + shift, first - shift, first)
        return tuple(
            tuple(lax.dynamic_update_slice_in_dim(old, new, row, 0) for old, new in zip(*pair, strict=True))
            for *pair, row in zip(buffers, (p, q, z), rows, strict=True)
        )

    def update_block(index, buffers):
        return update(1 + index * _STATES_AT_A_TIME, _STATES_AT_A_TIME, buffers)

    buffers = tuple(map(tuple, (p, q, z)))
    buffers = lax.fori_loop(0, n_passes, update_block, buffers) if in_passes else update(1, n_states - 1, buffers)
    return buffers, jnp.concatenate([*(part[:1] for part in states[0]), states[2][0][:1]])


def _numbered(*lists):
    return enumerate(zip(*lists, strict=True))


def _excited(states, coefficients, turning, first, size):
    """p, q and z, all parts of each, of ``size`` orders from ``first`` on, excited and relaxed, not yet dephased."""
    a, b, g, d, h, _ = coefficients
    p, q, z = ([lax.dynamic_slice_in_dim(x, first, size) for x in parts] for parts in states)
    up = [a * x + b * y + g * w for x, y, w in zip(p, q, z, strict=True)]
    down = [b * x + a * y + g * w for x, y, w in zip(p, q, z, strict=True)]
    along = [d * w + h * (x + y) for x, y, w in zip(p, q, z, strict=True)]
    if turning:
        cos, sin = turning
        up = [cos * up[0] - sin * up[1], cos * up[1] + sin * up[0]]
        down = [cos * down[0] + sin * down[1], cos * down[1] - sin * down[0]]
    return up, down, along


def _coefficients(cos, sin, e1, e2, recovery):
    """The factors a, b, g, d and h of `_excited`, and the recovery of z at order 0, for each frame."""
    recovery = 1 - e1 if recovery is None else recovery
    return e2 * (0.5 * (cos + 1)), e2 * (0.5 * (cos - 1)), e2 * sin, e1 * cos, e1 * (-0.5 * sin), recovery


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
