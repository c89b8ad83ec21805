"""A scan in pieces: the magnetisation of a running scan, and the signals of what continues it.

`start` puts voxels at rest, `advance` plays a block or some blocks and returns their signals and the magnetisation that
they leave, and `advance_each` plays many continuations of one scan, for their signals alone. Pieces give the signals of
the whole sequence to rounding: the magnetisation between two pieces is all that the later one depends on.

Magnetisation is kept in the frame of reference of RF phase 0: of a phase graph p, q and z as of `lowering` with phase
0, of isochromats their transverse parts about the same axes.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ganmrf.physics.between_trains import between_trains
from ganmrf.physics.engines import one_kernel
from ganmrf.physics.engines.between_pieces import followed_by, phase_of, turned_by
from ganmrf.physics.engines.isochromats import at_echo, continued_isochromats
from ganmrf.physics.engines.parts import conjugate
from ganmrf.physics.engines.slices import continued_signal, continued_slice
from ganmrf.physics.engines.states import STATES_AT_A_TIME, scan_states
from ganmrf.physics.engines.trains import recorded_rows, single_turns
from ganmrf.physics.lowering import (
    Coefficients,
    is_real,
    lower,
    played_turns,
    recorded_frames,
    require_pulse_durations,
    require_within_largest,
    trains_of,
)
from ganmrf.physics.pools import equilibrium, n_pools
from ganmrf.physics.slice_positions import FullPositions, full_positions, n_positions
from ganmrf.physics.slice_profile import FullSlice
from ganmrf.physics.tissue import TissueModel
from ganmrf.pytrees import is_traced, pytree, require_whole

_FEWEST_IN_KERNEL = 4  # frames: XLA aborts on a loop of one turn within one kernel, and there are two frames a turn


@pytree
@dataclasses.dataclass(frozen=True)
class Piece:
    """Blocks that continue a scan, in the order in which they are played; unlike `Blocks` there may be no frame."""

    blocks: tuple

    def as_blocks(self) -> "Piece":
        """Itself."""
        return self


@pytree
@dataclasses.dataclass(frozen=True)
class ScanState:
    """The magnetisation of voxels within a scan, by `start` and `advance`.

    Attributes:
      tissue: the voxels, of any shape.
      across: transverse magnetisation of each mobile pool, in parts, real or real and imaginary: of a phase graph p and
        then q, (states, voxels); of isochromats (voxels,), in a full slice (positions, voxels).
      along: longitudinal magnetisation of each pool, of a phase graph in parts, of shapes as those of ``across``.
      positions: of a full slice; else None.
      turns: what dephases at the end of a frame is a multiple of so many turns, in a full slice at most so many,
        static; 0 where nothing dephases.
    """

    tissue: TissueModel
    across: tuple
    along: tuple
    positions: FullPositions | None
    turns: int = dataclasses.field(metadata={"static": True})

    @property
    def is_graph(self) -> bool:
        """Whether these are states of a phase graph, not isochromats."""
        return self.turns > 0 and self.positions is None

    @property
    def is_complex(self) -> bool:
        """Whether pulses may have phases that are no half turns."""
        if self.positions is not None:
            return not self.positions.mirrored
        return len(self.across[0][0] if self.is_graph else self.across[0]) == 2


def start(
    tissue: TissueModel,
    *,
    n_states: int | None = None,
    slice_profile: FullSlice | None = None,
    turns: int = 1,
    phased: bool = False,
) -> ScanState:
    """Voxels at rest, all magnetisation along the field.

    Args:
      tissue: voxels of any shape, of any kind of tissue.
      n_states: states of the phase graph to keep, rounded up to one more than a multiple of 8 (`choose_n_states` of a
        sequence like that to come); in a full slice as many positions are taken as are as good. Not where nothing
        dephases.
      slice_profile: a full slice, or None for a uniform one.
      turns: of dephasing at the end of a frame, or 0 where no frame dephases; frames to come may have none or a
        multiple of it, and in a full slice any number up to it.
      phased: whether pulses or receivers will have phases that are no half turns. Voxels off resonance, and pools with
        a chemical shift, may have such pulses anyway.

    Raises:
      ValueError: another model of a slice, ``n_states`` or ``turns`` that are no such number, or ``n_states`` left out
        where frames dephase.
    """
    require_whole("turns", turns, 0)
    if not isinstance(slice_profile, FullSlice | None):
        kind = type(slice_profile).__name__
        raise ValueError(f"slice_profile of a scan in pieces must be a FullSlice or None; got {kind}")
    if n_states is None and (turns or slice_profile is not None):
        raise ValueError("n_states must be given where frames dephase")
    require_whole("n_states", 1 if n_states is None else n_states)
    dtype, real = jnp.result_type(*jax.tree.leaves(tissue)), not phased and is_real(Piece(()), tissue, slice_profile)
    mobile, _ = n_pools(tissue)
    m0 = [jnp.broadcast_to(jnp.asarray(each, dtype).ravel(), tissue.size) for each in equilibrium(tissue.ravel())]
    positions, parts = None, 1 if real else 2
    shape = (tissue.size,)
    if slice_profile is not None:
        number, parts = n_positions(slice_profile, n_states, max(turns, 1)), 2
        positions = full_positions(slice_profile, number, real, False, np.dtype(dtype), whole_blocks=True)
        shape = len(positions.weights), tissue.size
    elif turns:
        shape = -(-max(n_states - 1, 1) // STATES_AT_A_TIME) * STATES_AT_A_TIME + 1, tissue.size
        nothing = (jnp.zeros(shape, dtype),) * parts
        along = tuple((nothing[0].at[0].set(each), *nothing[1:]) for each in m0)
        return ScanState(tissue, ((nothing,) * mobile,) * 2, along, None, turns)
    nothing = ((jnp.zeros(shape, dtype),) * parts,) * mobile
    return ScanState(tissue, nothing, tuple(jnp.broadcast_to(each, shape) for each in m0), positions, turns)


def advance(state: ScanState, piece) -> tuple[jax.Array, ScanState]:
    """Plays a piece of a scan.

    Every JAX transform works on this function: derivatives by tissue and by the piece go on through the magnetisation.

    Args:
      state: before the piece.
      piece: a block of `ganmrf.physics.sequences.blocks`, a tuple of blocks, or a sequence.

    Returns:
      Signals at the recorded echoes, (..., frames), as those of `simulate`, and the magnetisation after the piece.

    Raises:
      ValueError: turns of a frame that do not go with ``state.turns``; phases that are no half turns, which
        ``start`` has to be told; a semisolid pool and pulses of unknown duration; or a flip angle times B1 above 360
        degrees in a slice.
    """
    piece = _checked(state, piece)
    return _advance(state, piece)


def stacked(pieces) -> Piece:
    """Continuations of one structure as one tree of arrays, (continuations, ...), for `advance_each`.

    Raises:
      ValueError: none, or one whose blocks, frames, turns, half turns or recorded frames are others than the first's.
    """
    pieces = [_piece(each) for each in pieces]
    if not pieces:
        raise ValueError("pieces must hold one continuation at least")

    def structure(piece):
        return jax.tree.structure(piece), [leaf.shape for leaf in jax.tree.leaves(piece)]

    for number, each in enumerate(pieces):
        if structure(each) != structure(pieces[0]):
            raise ValueError(f"pieces must all have the same blocks and frames; number {number} has others than 0")
    return jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *pieces)


def advance_each(state: ScanState, pieces: Piece) -> jax.Array:
    """Signals of many continuations of one scan, (continuations, ..., frames), each from the same magnetisation on.

    Args:
      state: before all of them.
      pieces: the continuations, by `stacked`.

    Raises:
      ValueError: as `advance`.
    """
    pieces = _checked(state, pieces)
    has_kernel = state.turns > 0 and len(played_turns(pieces)) >= _FEWEST_IN_KERNEL
    each = _each_in_kernel() if has_kernel and one_kernel.works() else _each
    return each(state, pieces)


@functools.cache
def _each_in_kernel():
    def each(*arguments):
        return one_kernel.in_one_kernel(functools.partial(_signals_of_each, in_kernel=True))(*arguments)

    return jax.jit(each, compiler_options=one_kernel.OPTIONS)


def _signals_of_each(state, pieces, in_kernel=False):
    signals = lax.map(lambda piece: _played(state, piece, in_kernel)[0].T, pieces)
    return signals.reshape(len(signals), *state.tissue.shape, -1)


_each = jax.jit(_signals_of_each)


def _piece(piece):
    if isinstance(piece, tuple | list):
        return Piece(tuple(piece))
    return Piece(piece.as_blocks().blocks) if hasattr(piece, "as_blocks") else Piece((piece,))


def _checked(state, piece):
    """The piece, of whose structure, and values that are not traced, all holds that `advance` says."""
    piece = _piece(piece)
    require_pulse_durations(piece, state.tissue)
    most = max(played_turns(piece), default=0)
    if state.positions is not None and most > state.turns:
        raise ValueError(
            f"turns of frames must be at most the {state.turns} that the scan was started with; got {most}"
        )
    if state.positions is None and any(turn % state.turns if state.turns else turn for turn in played_turns(piece)):
        allowed = f"0 or a multiple of the {state.turns} that the scan was started with" if state.turns else "0"
        raise ValueError(f"turns of frames must be {allowed}; got {most}")
    if not (state.is_complex or is_real(piece, state.tissue)):
        raise ValueError("phases of pulses and receivers must be half turns; start(phased=True) allows any")
    angles = [train.flip_angle for train in trains_of(piece)]
    if state.positions is not None and angles and not is_traced(angles, state.tissue.b1):
        require_within_largest(max(np.abs(angle).max() for angle in angles) * np.max(np.asarray(state.tissue.b1)))
    return piece


def _played(state, piece, in_kernel=False):
    """Signals, (recorded frames, voxels), and the state after a piece."""
    tissue = state.tissue.ravel()
    dtype = jnp.result_type(*jax.tree.leaves((piece, tissue)))
    magnetisation = jax.tree.map(lambda part: part.astype(dtype), (state.across, state.along))
    trains, (first, after) = trains_of(piece), between_trains(piece.blocks, tissue)
    off_resonance, is_graph = tissue.off_resonance, state.is_graph
    magnetisation = followed_by(magnetisation, first, off_resonance, is_graph)
    if not trains:
        signals = jnp.zeros((0, tissue.size), jnp.result_type(dtype, jnp.complex64) if state.is_complex else dtype)
    else:
        magnetisation = turned_by(magnetisation, conjugate(phase_of(trains[0], 0)), is_graph)
        signals, magnetisation = _frames(state, magnetisation, piece, in_kernel)
        magnetisation = turned_by(magnetisation, phase_of(trains[-1], -1), is_graph)
        magnetisation = followed_by(magnetisation, after[-1], off_resonance, is_graph)
    across, along = magnetisation
    return signals, dataclasses.replace(state, across=across, along=along)


def _frames(state, magnetisation, piece, in_kernel):
    """Signals, (recorded frames, voxels), and magnetisation in the frame of the last pulse, from that of the first."""
    c, recorded = lower(piece, state.tissue.ravel()), recorded_frames(piece)
    if state.positions is not None and in_kernel:  # for its signals alone
        seen = continued_signal(c, played_turns(piece), state.positions, magnetisation)
    elif state.positions is not None:
        seen, magnetisation = continued_slice(c, played_turns(piece), state.positions, magnetisation)
    elif state.is_graph:
        c, recorded, seen, magnetisation = _graph_frames(state, c, piece, magnetisation, in_kernel)
    else:
        seen, magnetisation = continued_isochromats(c, magnetisation)
    turn = () if c.echo_turn is None else one_kernel.cos_sin(c.echo_turn, in_kernel)
    signals = at_echo(seen, c.echo, *turn)
    signals = signals[0] if len(signals) == 1 else lax.complex(*signals)
    return (recorded_rows(signals, recorded) if recorded.size else signals[:0]), magnetisation


def _graph_frames(state, c: Coefficients, piece, magnetisation, in_kernel):
    """As `_frames`, before the echo; and the frames that are played, with the places of recorded ones among them."""
    turns, recorded = np.array(played_turns(piece)) // state.turns, recorded_frames(piece)
    if state.is_complex and c.n_parts == 1:
        nothing = jnp.zeros_like(c.longitudinal[0][0])
        c = dataclasses.replace(c, turn=nothing, echo_turn=nothing)
    if max(turns) > 1 or len(turns) % 2:  # two frames at a time
        c, turns, places = single_turns(c, turns, even=True)
        recorded = places[recorded]
    (p, q), z = magnetisation
    n_states = len(z[0][0])
    values = c.angle, c.longitudinal, c.transverse, c.recovery, c.turn
    one_block = jax.tree.map(lambda each: each[None], values)
    passes = jnp.full((1, len(turns)), (n_states - 1) // STATES_AT_A_TIME, jnp.int32)
    shifts = jnp.asarray(turns, jnp.int32)[None]
    capacity = n_states if in_kernel else None
    seen, (p, q, z) = scan_states(*one_block, passes, shifts, None, n_states, capacity, None, (p, q, z))
    return c, recorded, jax.tree.map(lambda each: each[0], seen), ((p, q), z)


@jax.jit
def _advance(state, piece):
    signals, state = _played(state, piece)
    return signals.T.reshape(*state.tissue.shape, -1), state
