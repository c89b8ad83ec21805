"""Positions across a slice, with all that is simulated there: rotations of the pulse, dephasing, and weights.

The spinors a(angle, z) and b(angle, z) of a pulse are entire functions of the flip angle, a even and b odd. So a and
``i b / angle`` are polynomials of low degree in the square of the angle, and their coefficients, a table over position,
give the rotation of any product of flip angle and B1 in a few multiplications that can be differentiated.
"""

import dataclasses
import functools

import jax
import numpy as np

from ganmrf.memory import require_memory
from ganmrf.physics.rf_pulse import LARGEST_ANGLE, RfPulse, spinors
from ganmrf.physics.slice_profile import FullSlice, PartitionedSlice
from ganmrf.pytrees import pytree

# Positions of a full slice are simulated in blocks of so many, whose magnetisation fits the first-level cache.
BLOCK = 8
# Terms of polynomials are added so many in a turn of a loop. It has two turns at least, as XLA aborts on a loop of one
# turn within one kernel; what fills the first turn is 0.
TERMS_A_STEP = 4
# Cycles per slice thickness, in units of the time-bandwidth, that positions resolve beyond those of the spoiler: for
# the pulse's own bandwidth, and for each state. In a balanced sequence of T2 2 s, where 200 states stand for the memory
# of 400 frames, signals then are within 1e-6 of any more positions.
_BEYOND, _BEYOND_A_STATE = 3.0, 1 / 16
# Where pulses turn by more than a share of the flip angle at the end of the slice, midpoints err by the square of their
# distance, whatever the states: those of so many states, or cycles in units of the time-bandwidth, hold that to 1e-4.
_SHARE_AT_END, _STATES_OF_END, _CYCLES_OF_END = 2.5e-3, 49, 56.0
_LOST = 1e-4  # largest error that the rounding of polynomials' terms, which cancel, may make of a rotation
_AT_ONCE = 1024  # positions whose waves are in memory together
_BYTES = 2000  # of memory for each position: polynomials of 20 terms in double precision, twice, and padded
_FEWEST_IN_ARRAYS = 128  # positions; arrays have room for a power of 4 times as many, so that few programs serve all
# By dtype: terms of polynomials that are left out, below its rounding; and terms beyond those of a pulse of no effect.
_PRECISIONS = {np.dtype(np.float64): (1e-15, 12), np.dtype(np.float32): (1e-8, 6)}


@pytree
@dataclasses.dataclass(frozen=True)
class FullPositions:
    """The positions of a `FullSlice`.

    Attributes:
      polynomials: (terms, 3 or 4, positions), highest power of ``2 (angle / LARGEST_ANGLE)**2 - 1`` first: real and
        imaginary parts of a, and of ``i b / angle``, which is real where the pulse is the same forwards and backwards.
      dephasing: in a frame of one turn, rad, within half a turn, (positions,).
      weights: slice thicknesses that each position stands for, (positions,); 0 for those that fill the last block.
      n_blocks: blocks of `BLOCK` positions that count; what is beyond fills the arrays.
      mirrored: whether each position also stands for that on the other side of the slice, static.
      common_b1: whether the voxels of a batch have the B1 of its first one, static.
      lanes: voxels of a batch, static; None for the usual number.
    """

    polynomials: np.ndarray | jax.Array
    dephasing: np.ndarray | jax.Array
    weights: np.ndarray | jax.Array
    n_blocks: np.ndarray | jax.Array
    mirrored: bool = dataclasses.field(metadata={"static": True})
    common_b1: bool = dataclasses.field(default=False, metadata={"static": True})
    lanes: int | None = dataclasses.field(default=None, metadata={"static": True})

    @property
    def is_real(self) -> bool:
        """Whether signals are real."""
        return self.mirrored


@pytree
@dataclasses.dataclass(frozen=True)
class PartitionedPositions:
    """The positions of a `PartitionedSlice`: fields of `FullPositions`, and whether ``phases`` of rotations count."""

    polynomials: np.ndarray | jax.Array
    weights: np.ndarray | jax.Array
    mirrored: bool = dataclasses.field(metadata={"static": True})
    phases: bool = dataclasses.field(metadata={"static": True})

    @property
    def is_real(self) -> bool:
        """Whether signals are real."""
        return self.mirrored


def n_positions(slice_profile: FullSlice, n_states: int, most_turns: int) -> int:
    """Positions from the middle of a slice to its end that are as good as ``n_states`` states of a phase graph.

    Such a graph leaves out what dephases so often and then comes back. Positions whose distance is 1 / f take for an
    echo what has dephased by f cycles per slice thickness, so they must resolve twice as many orders. Each order is
    broadened by the pulse, and f is put half-way between two orders, where frames have ``most_turns`` each.
    """
    turns, bandwidth = abs(slice_profile.turns) * most_turns, slice_profile.pulse.time_bandwidth
    least = 0.0
    if _share_at_end(slice_profile.pulse, slice_profile.extent) > _SHARE_AT_END:
        n_states, least = max(n_states, _STATES_OF_END), _CYCLES_OF_END * bandwidth
    cycles = max(max(2 * turns, _BEYOND_A_STATE * bandwidth) * n_states + _BEYOND * bandwidth, least)
    if turns >= 1:
        cycles = turns * (np.ceil(cycles / turns) - 0.5)
    return int(np.ceil(slice_profile.extent * cycles))


@functools.lru_cache(maxsize=64)
def _share_at_end(pulse, extent):
    """Largest small flip angle in the last tenth of the extent, on either side, as a share of that in the middle."""
    angle, position = 1e-3, extent * np.linspace(0.9, 1, 40)
    _, b = spinors(pulse, angle, np.concatenate([-position, position]))
    return 2 * np.abs(b).max() / angle


@functools.lru_cache(maxsize=64)
def full_positions(
    slice_profile: FullSlice, n: int, mirrored: bool, padded: bool, dtype: np.dtype, whole_blocks: bool = False
) -> FullPositions:
    """The ``n`` midpoints of equal steps from the middle of a slice to its end, and as many on the other side.

    Where ``mirrored`` those on the other side are left out. ``padded`` arrays have one of few sizes, those of
    ``whole_blocks`` that of the blocks.
    """
    require_memory(
        _BYTES * n * (1 if mirrored else 2),
        f"a slice of {float(n):.3g} positions",
        "fewer turns, states or thicknesses need less",
    )
    position, weight = _midpoints(n, slice_profile.extent, mirrored)
    turns, n_blocks = slice_profile.turns * position, -(-len(position) // BLOCK)
    polynomials = _polynomials(slice_profile.pulse, position, dtype)
    dephasing, weights = 2 * np.pi * (turns - np.rint(turns)), np.full(len(position), weight)
    if padded or whole_blocks:
        size = n_blocks * BLOCK if whole_blocks else _FEWEST_IN_ARRAYS
        while size < len(position):
            size *= 4
        room = 0, size - len(position)
        polynomials = np.pad(polynomials, [(0, 0), (0, 0), room])
        polynomials[-1, 0, len(position) :] = 1  # no rotation
        dephasing, weights = np.pad(dephasing, [room]), np.pad(weights, [room])
    return FullPositions(polynomials, dephasing.astype(dtype), weights.astype(dtype), np.int32(n_blocks), mirrored)


@functools.lru_cache(maxsize=64)
def partitioned_positions(slice_profile: PartitionedSlice, mirrored: bool, dtype: np.dtype) -> PartitionedPositions:
    """The positions of a `PartitionedSlice`; where ``mirrored`` those on one side alone."""
    position, weight = _midpoints(slice_profile.n_positions, slice_profile.extent, mirrored)
    polynomials = _polynomials(slice_profile.pulse, position, dtype)
    return PartitionedPositions(polynomials, np.full(len(position), weight, dtype), mirrored, slice_profile.phases)


def _midpoints(n, extent, mirrored):
    """Positions, and the slice thicknesses that each stands for."""
    position = extent * (np.arange(n) + 0.5) / n
    return (position, 2 * extent / n) if mirrored else (np.concatenate([-position[::-1], position]), extent / n)


def _polynomials(pulse: RfPulse, position, dtype):
    """The ``polynomials`` of positions."""
    turn = 2 * np.pi * pulse.time_bandwidth / pulse.samples.size * position  # of a sample, rad
    series, order = _fourier_series(pulse, np.dtype(dtype)), np.arange(pulse.samples.size + 1)
    some = np.array_split(turn, -(-len(turn) // _AT_ONCE))  # waves of all positions of a long memory are gigabytes
    values = np.concatenate([series @ np.exp(1j * np.multiply.outer(order, each)) for each in some], axis=-1)
    values[:, 1] *= _shift(pulse, -turn)
    # Powers are of numbers from -1 to 1.
    if not np.finfo(dtype).eps * np.abs(values).sum(axis=0).max() <= _LOST:
        raise ValueError(
            f"RfPulse.samples must cancel less: their sizes add up to {np.abs(pulse.samples).sum():.3g} times the flip "
            f"angle in the middle of the slice, and {np.dtype(dtype)} would not hold the rotations across it; 8 times "
            "is always possible"
        )
    parts = [values[:, 0].real, values[:, 0].imag, values[:, 1].real, values[:, 1].imag]
    forwards_as_backwards = np.abs(parts[-1]).max() <= _PRECISIONS[np.dtype(dtype)][0]
    parts = np.stack(parts[:-1] if forwards_as_backwards else parts, axis=1)[::-1]
    fill = max(2 * TERMS_A_STEP - len(parts), -len(parts) % TERMS_A_STEP)
    return np.pad(parts, [(fill, 0), (0, 0), (0, 0)]).astype(dtype)


def _shift(pulse, turn):
    """What makes b a polynomial in ``exp(i turn)``, as a is one, by the ``turn`` of a sample."""
    return np.exp(0.5j * (pulse.samples.size - 1) * turn)


@functools.lru_cache(maxsize=16)
def _fourier_series(pulse, dtype):
    """Fourier series over position of the polynomials of a, and of ``i b / angle``: (terms, 2, samples + 1).

    Of hard pulses a, and b but for a `_shift`, are polynomials in ``exp(i turn)`` with the turn of a sample, of as high
    a degree as there are samples (Pauly et al. 1991). So one position more than samples determines them.
    """
    least, further = _PRECISIONS[dtype]
    # Like cos(k sqrt(v)), where k is at most half of all that the samples turn: higher terms are below rounding.
    degree = further + int(np.ceil(np.abs(pulse.samples).sum() * LARGEST_ANGLE / 2))
    nodes = np.cos(np.pi * (np.arange(degree + 1) + 0.5) / (degree + 1))
    angle = LARGEST_ANGLE * np.sqrt((nodes + 1) / 2)[:, None]
    n_samples = pulse.samples.size
    turn = 2 * np.pi * np.arange(n_samples + 1) / (n_samples + 1)
    a, b = spinors(pulse, angle, turn * n_samples / (2 * np.pi * pulse.time_bandwidth))
    values = np.stack([a, 1j * b / angle * _shift(pulse, turn)], axis=1)
    # Chebyshev's interpolation, at whose points the polynomials are orthogonal.
    rule = np.polynomial.chebyshev.chebvander(nodes, degree) * 2 / (degree + 1)
    rule[:, 0] /= 2
    series = np.tensordot(rule.T, values, 1)
    kept = np.flatnonzero(np.abs(series).max(axis=(1, 2)) > least)[-1] + 1
    return np.tensordot(_powers(kept), np.fft.fft(series[:kept]) / (n_samples + 1), 1)


def _powers(n_terms):
    """Chebyshev's polynomials as powers: a matrix (powers, polynomials)."""
    matrix = np.zeros((n_terms, n_terms))
    for n in range(n_terms):
        powers = np.polynomial.chebyshev.cheb2poly([0] * n + [1])
        matrix[: len(powers), n] = powers
    return matrix
