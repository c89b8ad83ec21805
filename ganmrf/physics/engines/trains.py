"""The fast form of a train of frames, for batches of voxels: coefficients, what they act on, and signals.

In the frame of reference of each pulse the states of `epg` are ``f_plus = -i exp(i phase) p``, ``f_minus = i exp(-i
phase) q`` and ``z`` (`lowering`), arrays (states, lanes), one lane a voxel; after dephasing p and the conjugate of q
are equal at order 0. Where phases are half turns and nothing is off resonance, as in FISP, they are real, else each
has a real and an imaginary part. Without any shift a voxel is one isochromat, and has no states of other orders.
"""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ganmrf.physics.engines import one_kernel
from ganmrf.physics.engines.isochromats import at_echo, isochromats
from ganmrf.physics.engines.looping import in_blocks
from ganmrf.physics.engines.slice_pulses import rotation
from ganmrf.physics.engines.slices import slice_signal
from ganmrf.physics.engines.states import STATES_AT_A_TIME, scan_states
from ganmrf.physics.lowering import (
    ISOCHROMAT,
    Coefficients,
    form_of,
    is_plain_fisp,
    lower,
    played_turns,
    recorded_frames,
    turns_of,
)
from ganmrf.physics.slice_positions import FullPositions, PartitionedPositions

# Frames a block. Reverse mode stores the states between blocks only, and computes those within a block again.
_BLOCK = 100
_SLICE_BLOCK = 32  # a slice has much magnetisation: as much between a thousand frames as within a block


def fisp_signal(sequence, tissue, slice_profile=None, lane_states=None, *, n_states, max_states: int | None = None):
    """Signals of a batch of voxels, small enough that their states fit the cache.

    Args:
      sequence: the pulse sequence.
      tissue: `Tissue` on resonance, T1 and T2 (lanes,), B1 (lanes,) or ().
      slice_profile: quadrature over the slice, or None.
      lane_states: number of states to keep in each lane, (lanes,), at most ``n_states``; None for ``n_states`` in all.
      n_states: states to keep: static, or with ``max_states`` an integer that may be traced. With ``max_states`` up to
        7 more are kept, for whole blocks above order 0.
      max_states: static capacity of the state arrays. None: ``n_states`` is the capacity (on GPUs, and where the
        simulation is differentiated). Set by `compiled` only.

    Returns:
      Real signals (frames, lanes); see `simulate` for their sign.
    """
    t1, t2 = tissue.t1, tissue.t2
    chex.assert_equal_shape((t1, t2))
    dtype = jnp.result_type(*jax.tree.leaves((sequence, tissue)))

    def relaxation(times, t):
        return jnp.exp(times[:, None] * (-1 / t)[None, :]).astype(dtype)

    z0 = 1.0 if sequence.inversion_time is None else 1 - 2 * jnp.exp(-sequence.inversion_time / t1)
    coefficients = Coefficients(
        angle=(sequence.flip_angle[:, None] * jnp.reshape(tissue.b1, (1, -1))).astype(dtype),
        longitudinal=((relaxation(sequence.repetition_time, t1),),),
        transverse=(((relaxation(sequence.repetition_time, t2),),),),
        z0=(z0,),
        echo=((relaxation(sequence.echo_time, t2),),),
    )
    turns = (1,) * coefficients.n_frames
    return _signal(coefficients, turns, slice_profile, lane_states, n_states=n_states, max_states=max_states)


def train_signal(sequence, tissue, slice_profile=None, lane_states=None, *, n_states, max_states=None):
    """Signals of a batch of voxels under any sequence: of `fisp_signal`, but complex where `lowering.is_real` says so.

    The ``tissue`` is of any kind, its fields (lanes,), or () or None where they may be; the other arguments are those
    of `fisp_signal`, to which plain FISP is left.

    Returns:
      Signals (recorded frames, lanes); see `simulate`.
    """
    in_slice = isinstance(slice_profile, FullPositions)
    if is_plain_fisp(sequence, tissue) and not in_slice:
        form = {"n_states": n_states, "max_states": max_states}
        return fisp_signal(sequence, tissue, slice_profile, lane_states, **form)
    coefficients, turns = lower(sequence, tissue), turns_of(sequence)
    recorded = recorded_frames(sequence)
    if in_slice:
        in_kernel = max_states is not None
        if in_kernel:  # no states of an idle batch, no positions
            slice_profile = dataclasses.replace(
                slice_profile, n_blocks=slice_profile.n_blocks * jnp.minimum(n_states, 1)
            )
        signals = slice_signal(coefficients, played_turns(sequence), slice_profile, _SLICE_BLOCK, in_kernel)
        return recorded_rows(signals[0] if len(signals) == 1 else lax.complex(*signals), recorded)
    if form_of(sequence, tissue) == ISOCHROMAT:
        n_states = None
    elif max(turns[:-1]) > 1:
        coefficients, turns, places = single_turns(coefficients, (*turns[:-1], min(turns[-1], 1)))
        recorded = places[recorded]
    form = {"n_states": n_states, "max_states": max_states}
    return recorded_rows(_signal(coefficients, turns, slice_profile, lane_states, **form), recorded)


def recorded_rows(signals, recorded):
    """The rows of recorded frames among those of all frames."""
    steps = np.unique(np.diff(recorded))
    if steps.size > 1:
        return signals[recorded]
    return signals[recorded[0] : recorded[-1] + 1 : steps[0] if steps.size else 1]  # XLA is slow with lists of rows


def single_turns(coefficients, turns, even: bool = False):
    """Frames of one turn or none in place of frames of any number of ``turns``, (frames,).

    What a frame turns beyond once is done by frames after it, without pulse, relaxation or precession. Where an
    ``even`` number of frames is asked for, such a frame without a turn may be the last one.

    Returns:
      Coefficients and turns of all these frames, and the places of the given frames among them, (frames,).
    """
    repeats = np.maximum(turns, 1)
    odd = even and repeats.sum() % 2
    repeats[-1] += odd
    frames, places = np.repeat(np.arange(len(turns)), repeats), np.cumsum(repeats) - repeats
    turns = np.minimum(turns, 1)[frames]
    turns[len(turns) - odd :] = 0
    added = np.isin(np.arange(len(frames)), places, invert=True)[:, None]
    n, m = len(coefficients.longitudinal), len(coefficients.transverse)
    idle = {
        "angle": 0.0,
        "longitudinal": tuple(tuple(float(i == j) for j in range(n)) for i in range(n)),
        "transverse": tuple(
            tuple((float(i == j), 0.0)[: len(coefficients.transverse[i][j])] for j in range(m)) for i in range(m)
        ),
        "recovery": None if coefficients.recovery is None else (0.0,) * n,
        "turn": None if coefficients.turn is None else 0.0,
        "echo": jax.tree.map(lambda _: 0.0, coefficients.echo),
        "echo_turn": None if coefficients.echo_turn is None else 0.0,
    }
    values = {name: getattr(coefficients, name) for name in idle}
    spread = jax.tree.map(lambda value, rest: jnp.where(added, rest, value[frames]), values, idle)
    return dataclasses.replace(coefficients, **spread), turns.tolist(), places


def _signal(coefficients, turns, slice_profile, lane_states, *, n_states, max_states):
    """Signals (frames, lanes), real where ``coefficients.turn`` is None; ``turns`` are 0 or 1, (frames,).

    An ``n_states`` of None is the isochromat's: nothing turns.
    """
    c, in_kernel = coefficients, max_states is not None
    partitioned = isinstance(slice_profile, PartitionedPositions)

    def scan(angle):
        if n_states is None:
            return isochromats(dataclasses.replace(c, angle=angle), _BLOCK, in_kernel)
        return _after_pulses(dataclasses.replace(c, angle=angle), turns, lane_states, n_states, max_states)

    def seen_at(position):
        """Signals at one position of a partitioned slice, at the echo."""
        polynomials = position[..., None, None].astype(c.angle.dtype)
        at_position = _turned_by_phases(c, polynomials, slice_profile.phases, in_kernel)
        if n_states is None:
            return isochromats(at_position, _BLOCK, in_kernel)[: 1 if slice_profile.mirrored else 2]
        seen = _after_pulses(at_position, turns, lane_states, n_states, max_states)
        turn = () if at_position.turn is None else one_kernel.cos_sin(at_position.echo_turn, in_kernel)
        return at_echo(seen, c.echo, *turn)[: 1 if slice_profile.mirrored else 2]

    if slice_profile is None:
        signals = scan(c.angle)
    else:
        of_node = seen_at if partitioned else lambda scale: scan(scale * c.angle)

        @jax.checkpoint
        def add_node(total, node):
            scale, weight = node
            seen = of_node(scale)
            return jax.tree.map(lambda sum_, each: sum_ + weight * each, total, seen), None

        dtype = c.angle.dtype
        scales = jnp.moveaxis(slice_profile.polynomials, -1, 0) if partitioned else slice_profile.nodes
        nodes = (jnp.asarray(scales, dtype), jnp.asarray(slice_profile.weights, dtype))
        none_yet = jax.tree.map(jnp.zeros_like, jax.eval_shape(of_node, nodes[0][0]))
        signals = lax.scan(add_node, none_yet, nodes)[0]
    if n_states is not None and not partitioned:  # after the sum over a slice, which the echo is common to
        turn = () if c.turn is None else one_kernel.cos_sin(c.echo_turn, in_kernel)
        signals = at_echo(signals, c.echo, *turn)
    return signals[0] if len(signals) == 1 else lax.complex(*signals)


def _turned_by_phases(coefficients, polynomials, phases, in_kernel):
    """Coefficients at a position of a slice: flip angles of the pulse there and, if they count, its phases."""
    c = coefficients
    cos, sin, pre, post = jax.tree.map(lambda each: each[:, 0], rotation(polynomials, c.angle, in_kernel))
    angle = jnp.arctan2(sin, cos)
    if not phases:  # beyond a zero of the profile the pulse turns the other way
        return dataclasses.replace(c, angle=jnp.where(post[0] < 0, -angle, angle))
    pre, post = (jnp.arctan2(sin, cos) for cos, sin in (pre, post))
    turn = post + jnp.concatenate([pre[1:], pre[-1:]])
    turn, echo_turn = (each if own is None else each + own for each, own in ((turn, c.turn), (post, c.echo_turn)))
    turn, echo_turn = (
        jnp.broadcast_to(each, jnp.broadcast_shapes(each.shape, c.longitudinal[0][0].shape))
        for each in (turn, echo_turn)
    )
    return dataclasses.replace(c, angle=angle, turn=turn, echo_turn=echo_turn)


def _after_pulses(coefficients, turns, lane_states, n_states, max_states):
    """Transverse magnetisation right after each pulse, (frames, lanes), of each pool: (real,), or (real, imaginary)."""
    c, so_far = coefficients, np.cumsum((0, *turns[:-1]))
    reached = jnp.asarray(np.minimum(so_far, so_far[-1] - so_far), jnp.int32)
    shifts = None if all(turns[:-1]) else jnp.asarray(turns, jnp.int32)
    values = c.angle, c.longitudinal, c.transverse, c.recovery, c.turn, reached, shifts
    *frames, reached, shifts = in_blocks(values, _BLOCK)
    highest = jnp.minimum(reached, jnp.asarray(n_states, jnp.int32) - 1)
    passes = jnp.maximum(highest + STATES_AT_A_TIME - 1, 0) // STATES_AT_A_TIME
    seen, _ = scan_states(*frames, passes, shifts, c.z0, n_states, max_states, lane_states)
    return jax.tree.map(lambda each: each.reshape(-1, each.shape[-1])[: len(turns)], seen)
