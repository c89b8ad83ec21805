"""From the blocks of any sequence to four coefficients a frame: flip angle, E1, E2 and recovery.

In the frame of reference whose x axis is that of pulse n, with ``f_plus = -i exp(i phase) p``, ``f_minus = i exp(-i
phase) q`` and ``c, s`` the cosine and sine of the flip angle, a frame is::

    p' = E2 ((c + 1)/2 p + (c - 1)/2 q + s z)         E2 = k exp(-TR/T2 + i turn)
    q' = conj(E2) ((c - 1)/2 p + (c + 1)/2 q + s z)   E1 = A exp(-TR/T1)
    z' = E1 (c z - s/2 (p + q)), + R at order 0       R = A (1 - exp(-TR/T1)) + B
    turn = 2 pi off_resonance TR + phase(n) - phase(n + 1)

and a shift of the orders by ``turns``. What stands between frames n and n + 1 (inversions, saturations, preparations,
delays) makes ``z -> A z + B`` on all orders, B at order 0, and multiplies the transverse states by k: it costs nothing.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ganmrf.physics.between_trains import NOTHING, between_trains
from ganmrf.physics.rf_pulse import LARGEST_ANGLE
from ganmrf.physics.sequences.blocks import HalfTurns, Train
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.slice_positions import (
    FullPositions,
    PartitionedPositions,
    full_positions,
    n_positions,
    partitioned_positions,
)
from ganmrf.physics.slice_profile import FullSlice, PartitionedSlice
from ganmrf.pytrees import is_traced

REAL, COMPLEX, ISOCHROMAT, SLICE = "real", "complex", "isochromat", "slice"  # what a frame acts on: see `form_of`


@dataclasses.dataclass(frozen=True)
class Coefficients:
    """Frames of some voxels, arrays (frames, lanes) unless they say otherwise.

    Attributes:
      angle: flip angle, rad.
      e1: E1.
      e2: magnitude of E2 times the sign that phases of half turns give it.
      z0: z before the first pulse, (lanes,) or one number.
      echo: what the transverse magnetisation right after a pulse is multiplied by until the echo, real.
      recovery: R; None for ``1 - e1``.
      turn: phase of E2, rad; None for 0.
      echo_turn: its phase at the echo less that of the receiver, rad; None for 0.
    """

    angle: jax.Array
    e1: jax.Array
    e2: jax.Array
    z0: jax.Array | float
    echo: jax.Array
    recovery: jax.Array | None = None
    turn: jax.Array | None = None
    echo_turn: jax.Array | None = None


def trains_of(sequence) -> list[Train]:
    """The trains of a sequence, in order."""
    return [block for block in sequence.as_blocks().blocks if isinstance(block, Train)]


def form_of(sequence, off_resonance, slice_profile=None) -> str:
    """What the frames of a sequence act on, known from structure alone.

    ``REAL`` states of all orders, where phases are half turns and nothing is off resonance; ``COMPLEX`` states;
    ``ISOCHROMAT``, order 0 alone, where no frame but the last turns the magnetisation; or ``SLICE``, isochromats across
    a slice.
    """
    if isinstance(slice_profile, FullSlice | FullPositions):
        return SLICE
    turned = isinstance(slice_profile, PartitionedSlice | PartitionedPositions) and slice_profile.phases
    if is_plain_fisp(sequence, off_resonance):  # known without its blocks
        return COMPLEX if turned else REAL
    if not any(turns_of(sequence)[:-1]):
        return ISOCHROMAT
    return COMPLEX if turned or not is_real(sequence, off_resonance, slice_profile) else REAL


def is_real(sequence, off_resonance, slice_profile=None) -> bool:
    """Whether signals are real: phases of pulses are half turns, and ``off_resonance`` is None."""
    if slice_profile is not None and not slice_profile.is_real:
        return False
    if is_plain_fisp(sequence, off_resonance):
        return True
    phases = [phase for train in trains_of(sequence) for phase in (train.rf_phase, train.receiver_phase)]
    return off_resonance is None and all(phase is None or isinstance(phase, HalfTurns) for phase in phases)


def is_plain_fisp(sequence, off_resonance) -> bool:
    """Whether a sequence is `Fisp` on resonance, whose coefficients are computed from its own fields."""
    return isinstance(sequence, Fisp) and off_resonance is None


def lower_slice(slice_profile, sequence, tissue, n_states=None, *, padded: bool = False, common_b1: bool = False):
    """What engines take in place of a model of a slice: its positions, of a `FullSlice` or `PartitionedSlice`.

    Args:
      slice_profile: any model of a slice, or None; what engines take anyway is returned as it is.
      sequence: the pulse sequence.
      tissue: voxels, of which only B1, and whether off-resonance is given, counts.
      n_states: of a full slice, the states of a phase graph that its positions are as good as.
      padded: whether arrays of a full slice have one of few sizes.
      common_b1: of a full slice, whether the voxels of a batch have the B1 of its first one.

    Raises:
      ValueError: flip angle times B1 beyond `LARGEST_ANGLE`.
    """
    if not isinstance(slice_profile, FullSlice | PartitionedSlice):
        return slice_profile
    trains = trains_of(sequence)
    angles = [train.flip_angle for train in trains]
    if not is_traced(angles, tissue.b1):
        largest = np.rad2deg(max(np.abs(angle).max() for angle in angles) * np.max(np.asarray(tissue.b1)))
        if largest > (most := np.rad2deg(LARGEST_ANGLE)):
            raise ValueError(f"flip angle times B1 must be {most:.0f} degrees at most in a slice; got {largest:.6g}")
    dtype = np.dtype(jnp.result_type(*jax.tree.leaves((sequence, tissue))))
    mirrored = is_real(sequence, tissue.off_resonance, slice_profile)
    if isinstance(slice_profile, PartitionedSlice):
        return partitioned_positions(slice_profile, mirrored, dtype)
    n = n_positions(slice_profile, n_states, max(max(train.turns) for train in trains))
    positions = full_positions(slice_profile, n, mirrored, padded, dtype)
    return dataclasses.replace(positions, common_b1=common_b1)


def as_played(sequence, off_resonance):
    """A sequence in the form that engines take: its blocks, unless it is plain FISP.

    Engines take any sequence, but what its blocks are is better computed once than by every batch of voxels.
    """
    return sequence if is_plain_fisp(sequence, off_resonance) else sequence.as_blocks()


def signal_dtype(sequence, tissue, slice_profile=None) -> np.dtype:
    """The dtype of signals: that of the inputs, or the complex one of the same precision."""
    real = jnp.result_type(*jax.tree.leaves((sequence, tissue)))
    return real if is_real(sequence, tissue.off_resonance, slice_profile) else jnp.result_type(real, jnp.complex64)


def turns_of(sequence) -> tuple[int, ...]:
    """Turns at the end of every frame, recorded or not, in units of their greatest common divisor."""
    turns = np.array(played_turns(sequence))
    unit = np.gcd.reduce(turns[:-1]) if turns.size > 1 else 0  # after the last echo nothing matters
    return tuple((turns // max(unit, 1)).tolist())


def played_turns(sequence) -> tuple[int, ...]:
    """Turns at the end of every frame, recorded or not, as they are."""
    return tuple(turn for train in trains_of(sequence) for turn in train.turns)


def turns_alike(sequence) -> bool:
    """Whether every frame but the last has the same number of turns, above 0."""
    turns = turns_of(sequence)[:-1]
    return len(turns) == 0 or set(turns) == {1}


def recorded_frames(sequence) -> np.ndarray:
    """Indices of the frames that are recorded among all frames."""
    return np.flatnonzero([flag for train in trains_of(sequence) for flag in train.recorded])


def exact_states(sequence, slice_profile=None) -> int:
    """Number of states that matter: those of orders that turns can still bring back to order 0.

    In a full slice the pulse makes phases of its own, and every frame counts as one of a turn.
    """
    return sum(_counted_turns(sequence, slice_profile)) // 2 + 1


def dephasing_times(sequence, slice_profile=None) -> np.ndarray:
    """Time of each turn of a frame, s, shortest first: one of its frames for each, of a sequence that is not traced.

    In a full slice every frame counts as one of a turn.
    """
    times = np.concatenate([np.asarray(train.repetition_time, float) for train in trains_of(sequence)])
    turns = _counted_turns(sequence, slice_profile)
    return np.sort(np.repeat(times / np.maximum(turns, 1), turns))


def _counted_turns(sequence, slice_profile):
    turns = turns_of(sequence)
    return (1,) * len(turns) if isinstance(slice_profile, FullSlice) else turns


def lower(sequence, t1, t2, b1, off_resonance) -> Coefficients:
    """The coefficients of a sequence for voxels with T1 and T2, s, (lanes,), B1 and off-resonance, Hz, or None."""
    dtype = jnp.result_type(*(leaf.dtype for leaf in jax.tree.leaves((sequence, t1, t2, b1, off_resonance))))
    blocks, trains = sequence.as_blocks().blocks, trains_of(sequence)
    # Behind a barrier, or XLA would join the trains again for every number of all lanes.
    times, echoes, flips = lax.optimization_barrier(
        [
            jnp.concatenate([getattr(train, name) for train in trains])[:, None]
            for name in ("repetition_time", "echo_time", "flip_angle")
        ]
    )
    off = 0.0 if off_resonance is None else jnp.reshape(off_resonance, (1, -1))
    b1 = jnp.reshape(b1, (1, -1))
    rates = (-1 / t1)[None], (-1 / t2)[None]
    start, after = between_trains(blocks, t1, t2, b1, off)
    e1, e2 = (jnp.exp(times * rate) for rate in rates)
    recovery = None if all(effect is NOTHING for effect in after[:-1]) else 1 - e1
    ends = np.cumsum([train.n_frames for train in trains]) - 1
    prepared = [(end, effect) for end, effect in zip(ends, after[:-1], strict=False) if effect is not NOTHING]
    if prepared:
        ends, effects = zip(*prepared, strict=True)
        a, b, k, free = zip(*effects, strict=True)
        recovery, e1, e2 = (_at(ends, *each) for each in ((recovery, a, b), (e1, a), (e2, k)))
        times = _at(ends, times, [1.0] * len(ends), free)
    # What a long gap leaves below rounding would go on as numbers that are not normal, a hundred times as slow.
    e2 = jnp.where(e2 < jnp.finfo(dtype).eps, 0, e2)
    sign, phase = _phases(trains, "rf_phase")
    received, receiver = _phases(trains, "receiver_phase")
    step, seen = _steps(sign), sign * received
    turn = echo_turn = None
    if off_resonance is not None or phase is not None or receiver is not None:
        phase, receiver = (0.0 if each is None else each for each in (phase, receiver))
        phase = jnp.broadcast_to(phase, (len(sign),))
        turn = 2 * jnp.pi * off * times + (phase - jnp.append(phase[1:], phase[-1:]))[:, None]
        echo_turn = 2 * jnp.pi * off * echoes + (phase - receiver)[:, None]
    return Coefficients(
        angle=(flips * b1).astype(dtype),
        e1=e1.astype(dtype),
        e2=(step[:, None] * e2).astype(dtype),
        turn=None if turn is None else _widened(turn, e2).astype(dtype),
        recovery=None if recovery is None else recovery.astype(dtype),
        z0=(start[0] + start[1] + jnp.zeros_like(t1)).astype(dtype),
        echo=(seen[:, None] * jnp.exp(echoes * rates[1])).astype(dtype),
        echo_turn=None if echo_turn is None else _widened(echo_turn, e2).astype(dtype),
    )


def _at(ends, values, factors, summands=None):
    """Values, (frames, lanes), with the rows ``ends`` multiplied by factors, and with summands added.

    Each of these is a number for all lanes or has one for each. The rows are set one after the other in a loop: without
    it XLA would copy all values for every row, or, of arrays that are joined, compute each by a branch of its own.
    """
    summands = [0.0] * len(ends) if summands is None else summands
    rows = [jnp.atleast_2d(row) for row in (*factors, *summands)]
    shape = np.broadcast_shapes((1, values.shape[1]), *(row.shape for row in rows))
    rows = jnp.stack([jnp.broadcast_to(row, shape).astype(values.dtype) for row in rows])
    values = jnp.broadcast_to(values, (len(values), shape[1]))

    def set_row(values, inputs):
        end, factor, summand = inputs
        row = factor * lax.dynamic_slice_in_dim(values, end, 1) + summand
        return lax.dynamic_update_slice_in_dim(values, row, end, 0), None

    inputs = jnp.asarray(ends), rows[: len(ends)], rows[len(ends) :]
    if len(ends) == 1:  # XLA aborts on a loop of one turn within one kernel.
        return set_row(values, [each[0] for each in inputs])[0]
    return lax.scan(set_row, values, inputs)[0]


def _widened(values, other):
    return jnp.broadcast_to(values, np.broadcast_shapes(values.shape, other.shape))


def _phases(trains, name):
    """Signs, (frames,), of phases that are half turns; and all other phases, rad, (frames,), or None without any."""
    signs, phases, any_phase = [], [], False
    for train in trains:
        value = getattr(train, name)
        if value is None:
            value = train.rf_phase
        if isinstance(value, HalfTurns):
            signs.append(1.0 - 2 * np.asarray(value.counts))
            phases.append(jnp.zeros(train.n_frames))
        else:
            signs.append(np.ones(train.n_frames))
            phases.append(value)
            any_phase = True
    return np.concatenate(signs), jnp.concatenate(phases) if any_phase else None


def _steps(sign):
    """The sign that E2 of each frame has: that of its own phase and the next one's."""
    return sign * np.append(sign[1:], sign[-1:])
