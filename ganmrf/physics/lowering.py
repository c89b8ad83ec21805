"""From the blocks of any sequence to four coefficients a frame: flip angle, E1, E2 and recovery.

In the frame of reference whose x axis is that of pulse n, with ``f_plus = -i exp(i phase) p``, ``f_minus = i exp(-i
phase) q`` and ``c, s`` the cosine and sine of the flip angle, a frame is::

    p' = E2 ((c + 1)/2 p + (c - 1)/2 q + s z)         E2 = k exp(-TR/T2 + i turn)
    q' = conj(E2) ((c - 1)/2 p + (c + 1)/2 q + s z)   E1 = A exp(-TR/T1)
    z' = E1 (c z - s/2 (p + q)), + R at order 0       R = A (1 - exp(-TR/T1)) + B
    turn = 2 pi off_resonance TR + phase(n) - phase(n + 1)

and a shift of the orders by ``turns``. What stands between frames n and n + 1 (inversions, saturations, preparations,
delays) makes ``z -> A z + B`` on all orders, B at order 0, and multiplies the transverse states by k: it costs nothing.
Of several pools p, q and z are vectors over them, E1, E2, A and k matrices, and pulses turn the transverse pools alone
(`ganmrf.physics.pools`).
"""

import dataclasses
import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ganmrf.physics.between_trains import Effect, between_trains, followed
from ganmrf.physics.pools import applied, equilibrium, longitudinal, saturated, transverse
from ganmrf.physics.rf_pulse import LARGEST_ANGLE
from ganmrf.physics.sequences.blocks import HalfTurns, Played, Train
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.sequences.pulse_power import require_durations, saturating_power
from ganmrf.physics.slice_positions import (
    FullPositions,
    PartitionedPositions,
    full_positions,
    n_positions,
    partitioned_positions,
)
from ganmrf.physics.slice_profile import FullSlice, PartitionedSlice
from ganmrf.physics.tissue import SemisolidPool, Tissue
from ganmrf.pytrees import is_traced

REAL, COMPLEX, ISOCHROMAT, SLICE = "real", "complex", "isochromat", "slice"  # what a frame acts on: see `form_of`


@dataclasses.dataclass(frozen=True)
class Coefficients:
    """Frames of some voxels, arrays (frames, lanes) unless they say otherwise.

    Tissue has m transverse pools, which pulses turn, and n longitudinal ones, m of them first (`ganmrf.physics.pools`):
    what is above a number is a matrix over them. An entry of transverse pools is a tuple of its real and, where a pool
    has a chemical shift, its imaginary part.

    Attributes:
      angle: flip angle, rad.
      longitudinal: E1, n rows of n arrays; with what the pulse leaves of a semisolid pool.
      transverse: magnitude of E2 times the sign that phases of half turns give it, m rows of m entries.
      z0: z before the first pulse, n arrays (lanes,).
      echo: what the transverse magnetisation right after a pulse is multiplied by until the echo, m entries, whose
        products are summed.
      recovery: R, n arrays; None for ``1 - e1`` of one pool.
      turn: phase of E2, rad, of all pools; None for 0.
      echo_turn: its phase at the echo less that of the receiver, rad; None for 0.
    """

    angle: jax.Array
    longitudinal: tuple
    transverse: tuple
    z0: tuple
    echo: tuple
    recovery: tuple | None = None
    turn: jax.Array | None = None
    echo_turn: jax.Array | None = None

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return len(self.longitudinal[0][0])

    @property
    def n_lanes(self) -> int:
        """Number of lanes of what relaxation makes; 1 where all lanes share it."""
        return self.longitudinal[0][0].shape[1]

    @property
    def n_parts(self) -> int:
        """1 where transverse states are real, else 2."""
        return 2 if self.turn is not None or len(self.echo[0]) > 1 else 1


def trains_of(sequence) -> list[Train]:
    """The trains of a sequence, in order."""
    return [block for block in sequence.as_blocks().blocks if isinstance(block, Train)]


def form_of(sequence, tissue, slice_profile=None) -> str:
    """What the frames of a sequence act on, known from the structure of sequence, tissue and slice alone.

    ``REAL`` states of all orders, where phases are half turns and nothing is off resonance; ``COMPLEX`` states;
    ``ISOCHROMAT``, order 0 alone, where no frame but the last turns the magnetisation; or ``SLICE``, isochromats across
    a slice.
    """
    if isinstance(slice_profile, FullSlice | FullPositions):
        return SLICE
    turned = isinstance(slice_profile, PartitionedSlice | PartitionedPositions) and slice_profile.phases
    if is_plain_fisp(sequence, tissue):  # known without its blocks
        return COMPLEX if turned else REAL
    if not any(turns_of(sequence)[:-1]):
        return ISOCHROMAT
    return COMPLEX if turned or not is_real(sequence, tissue, slice_profile) else REAL


def is_real(sequence, tissue, slice_profile=None) -> bool:
    """Whether signals are real: phases of pulses are half turns, and tissue is on resonance, all None."""
    if slice_profile is not None and not slice_profile.is_real:
        return False
    if is_plain_fisp(sequence, tissue):
        return True
    if tissue.off_resonance is not None or getattr(tissue, "shift", None) is not None:
        return False
    phases = [phase for train in trains_of(sequence) for phase in (train.rf_phase, train.receiver_phase)]
    return all(phase is None or isinstance(phase, HalfTurns) for phase in phases)


def is_plain_fisp(sequence, tissue) -> bool:
    """Whether this is `Fisp` of one pool on resonance, whose coefficients are computed from its own fields."""
    return isinstance(sequence, Fisp) and isinstance(tissue, Tissue) and tissue.off_resonance is None


def require_pulse_durations(sequence, tissue):
    """Raises `ValueError` for a semisolid pool and pulses of unknown duration, and warns of very short ones."""
    if not isinstance(tissue, SemisolidPool):
        return
    name = type(sequence).__name__
    if hasattr(sequence, "pulse_duration"):
        require_durations(f"{name}.pulse_duration", sequence.pulse_duration)
    for block in sequence.as_blocks().blocks:
        if isinstance(block, Train) and not hasattr(sequence, "pulse_duration"):
            require_durations("Train.pulse_duration", block.pulse_duration)
        elif isinstance(block, Played) and block.pulse_duration is None:
            require_durations("Played.pulse_duration", None)


def lower_slice(slice_profile, sequence, tissue, n_states=None, *, padded: bool = False, **batches):
    """What engines take in place of a model of a slice: its positions, of a `FullSlice` or `PartitionedSlice`.

    Args:
      slice_profile: any model of a slice, or None; what engines take anyway is returned as it is.
      sequence: the pulse sequence.
      tissue: voxels, of which only B1, and whether they are on resonance, counts.
      n_states: of a full slice, the states of a phase graph that its positions are as good as.
      padded: whether arrays of a full slice have one of few sizes.
      batches: of a full slice, ``common_b1`` and ``lanes`` of `FullPositions`.

    Raises:
      ValueError: flip angle times B1 beyond `LARGEST_ANGLE`.
    """
    if not isinstance(slice_profile, FullSlice | PartitionedSlice):
        return slice_profile
    trains = trains_of(sequence)
    angles = [train.flip_angle for train in trains]
    if not is_traced(angles, tissue.b1):
        require_within_largest(max(np.abs(angle).max() for angle in angles) * np.max(np.asarray(tissue.b1)))
    dtype = np.dtype(jnp.result_type(*jax.tree.leaves((sequence, tissue))))
    mirrored = is_real(sequence, tissue, slice_profile)
    if isinstance(slice_profile, PartitionedSlice):
        return partitioned_positions(slice_profile, mirrored, dtype)
    n = n_positions(slice_profile, n_states, max(max(train.turns) for train in trains))
    positions = full_positions(slice_profile, n, mirrored, padded, dtype)
    return dataclasses.replace(positions, **batches)


def require_within_largest(angle):
    """Raises `ValueError` for a flip angle times B1, rad, that rotations across a slice have no polynomials for."""
    largest, most = np.rad2deg(angle), np.rad2deg(LARGEST_ANGLE)
    if largest > most:
        raise ValueError(f"flip angle times B1 must be {most:.0f} degrees at most in a slice; got {largest:.6g}")


def as_played(sequence, tissue):
    """A sequence in the form that engines take: its blocks, unless it is plain FISP.

    Engines take any sequence, but what its blocks are is better computed once than by every batch of voxels.
    """
    require_pulse_durations(sequence, tissue)
    return sequence if is_plain_fisp(sequence, tissue) else sequence.as_blocks()


def signal_dtype(sequence, tissue, slice_profile=None) -> np.dtype:
    """The dtype of signals: that of the inputs, or the complex one of the same precision."""
    real = jnp.result_type(*jax.tree.leaves((sequence, tissue)))
    return real if is_real(sequence, tissue, slice_profile) else jnp.result_type(real, jnp.complex64)


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


def lower(sequence, tissue) -> Coefficients:
    """The coefficients of a sequence for voxels in one dimension, whose fields are (lanes,) or one number each."""
    dtype = jnp.result_type(*(leaf.dtype for leaf in jax.tree.leaves((sequence, tissue))))
    blocks, trains = sequence.as_blocks().blocks, trains_of(sequence)
    # Behind a barrier, or XLA would join the trains again for every number of all lanes.
    times, echoes, flips = lax.optimization_barrier(
        [
            jnp.concatenate([getattr(train, name) for train in trains])[:, None]
            for name in ("repetition_time", "echo_time", "flip_angle")
        ]
    )
    voxels = jax.tree.map(lambda leaf: jnp.reshape(leaf, (1, -1)), tissue)
    start, after = between_trains(blocks, tissue)
    along, recovery = longitudinal(voxels, times)
    if isinstance(tissue, SemisolidPool):
        powers = jnp.concatenate([saturating_power(train, 1.0) for train in trains])
        along = saturated(voxels, along, lax.optimization_barrier(powers) * voxels.b1**2)
    frames = Effect(along, recovery, transverse(voxels, times), times)
    ends = np.cumsum([train.n_frames for train in trains]) - 1
    prepared = [(end, effect) for end, effect in zip(ends, after[:-1], strict=False) if effect is not None]
    if prepared:
        frames = followed(frames, *zip(*prepared, strict=True))
    sign, phase = _phases(trains, "rf_phase")
    received, receiver = _phases(trains, "receiver_phase")
    step, seen = _steps(sign), sign * received
    turn = echo_turn = None
    if voxels.off_resonance is not None or phase is not None or receiver is not None:
        off = 0.0 if voxels.off_resonance is None else voxels.off_resonance
        phase, receiver = (0.0 if each is None else each for each in (phase, receiver))
        phase = jnp.broadcast_to(phase, (len(sign),))
        turn = 2 * jnp.pi * off * frames.free + (phase - jnp.append(phase[1:], phase[-1:]))[:, None]
        echo_turn = 2 * jnp.pi * off * echoes + (phase - receiver)[:, None]
    across = jax.tree.map(lambda entry: _parts(step[:, None] * entry, dtype), _without_rest(frames.transverse))
    decay = transverse(voxels, echoes)
    echo = tuple(_parts(seen[:, None] * sum(column[1:], column[0]), dtype) for column in zip(*decay, strict=True))
    m0 = equilibrium(tissue)
    z0 = m0 if start is None else map(operator.add, applied(start.longitudinal, m0), start.recovery)
    plain = isinstance(tissue, Tissue) and not prepared
    return Coefficients(
        angle=(flips * voxels.b1).astype(dtype),
        longitudinal=jax.tree.map(lambda entry: entry.astype(dtype), frames.longitudinal),
        transverse=across,
        turn=None if turn is None else _widened(turn, across[0][0][0]).astype(dtype),
        recovery=None if plain else jax.tree.map(lambda entry: entry.astype(dtype), frames.recovery),
        z0=tuple((each + jnp.zeros_like(tissue.t1)).astype(dtype) for each in z0),
        echo=echo,
        echo_turn=None if echo_turn is None else _widened(echo_turn, across[0][0][0]).astype(dtype),
    )


def _without_rest(matrix):
    """What a long gap leaves below rounding as 0: it would go on as numbers that are not normal, 100 times as slow.

    That is a matter of all entries: one that is 0 alone, as of an empty pool, has a derivative.
    """
    largest = functools.reduce(jnp.maximum, map(jnp.abs, jax.tree.leaves(matrix)))
    return jax.tree.map(lambda entry: jnp.where(largest < jnp.finfo(entry.dtype).eps, 0, entry), matrix)


def _parts(entry, dtype):
    """Real and, of complex entries, imaginary part."""
    parts = (entry.real, entry.imag) if jnp.iscomplexobj(entry) else (entry,)
    return tuple(part.astype(dtype) for part in parts)


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
