"""Sequences composed of blocks: trains of frames, and what prepares the magnetisation before and between them.

One frame of a train, and where the operators of `epg` stand in it::

    RF        |^| flip_angle, rf_phase                        |^|
    readout        ----------- echo ----
    gradient                               |#####| turns
    time      0                TE                             TR
              excite, precess and relax, signal, precess and relax, dephase
"""

import dataclasses
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ganmrf.physics import epg
from ganmrf.physics.sequences.preparations import (
    FLIP_ANGLES,
    LONGEST,
    Inversion,
    Played,
    Preparation,
    Saturation,
    T2Preparation,
    check_times,
    common_count,
)
from ganmrf.physics.sequences.pulse_power import check_pulses
from ganmrf.pytrees import floating, is_traced, pytree, require, require_positive, require_scale, require_whole

_ROUNDING = 1e-6  # of half turns: phases in float32 are no closer to pi


class PulseSequence(Protocol):
    """What every sequence is: frames that are recorded, and a way to say itself in blocks."""

    @property
    def n_frames(self) -> int:
        """Number of recorded frames."""

    def as_blocks(self) -> "Blocks":
        """The blocks that are played."""


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass(frozen=True)
class HalfTurns:
    """RF phases that are multiples of pi, as whole numbers: a part of a sequence's structure, and no leaf of it.

    With such phases alone every signal is real, and a function that JAX traces must know that from the structure.
    """

    counts: tuple[int, ...]

    def __array__(self, dtype=None, copy=None):
        return np.pi * np.asarray(self.counts, dtype or float)

    def tree_flatten(self):
        """No leaves: all of it is structure."""
        return (), self.counts

    @classmethod
    def tree_unflatten(cls, counts, _):
        """From `tree_flatten`."""
        return cls(counts)


@pytree
@dataclasses.dataclass(frozen=True)
class Train:
    """Frames that follow each other, each with a pulse and an echo; every field is (frames,) or one value for all.

    Attributes:
      flip_angle: nominal flip angle, rad.
      repetition_time: from this frame's pulse to the end of the frame, s.
      echo_time: from this frame's pulse to its echo, s.
      rf_phase: direction of the pulse in the transverse plane, rad, from +x towards +y. NumPy's or Python's multiples
        of pi become `HalfTurns`.
      receiver_phase: of the receiver, rad, likewise; None follows the pulse.
      turns: how often the gradient turns the magnetisation across the voxel at the end of the frame, 0 or more, static:
        0 is balanced.
      recorded: whether the echo is part of the signal, static.
      pulse_duration: of the pulses, s, one number or (frames,), which a semisolid pool needs; None where not known.
      pulse_shape: mean of the squared waveform of the pulses over the squared mean, likewise; None for 1.
      saturation_angle: of a pulse off resonance in front of each frame's, rad, likewise; it has the duration and the
        shape of the other, and saturates a semisolid pool as an excitation by this angle would. None for no such pulse.

    Raises:
      ValueError: values that no scanner plays, frame counts that disagree, or times that are in ms by their size.
    """

    flip_angle: jax.Array
    repetition_time: jax.Array | float
    echo_time: jax.Array | float
    rf_phase: jax.Array | HalfTurns | float = 0.0
    receiver_phase: jax.Array | HalfTurns | float | None = None
    turns: tuple[int, ...] | int = dataclasses.field(default=1, metadata={"static": True})
    recorded: tuple[bool, ...] | bool = dataclasses.field(default=True, metadata={"static": True})
    pulse_duration: jax.Array | float | None = None
    pulse_shape: jax.Array | float | None = 1.0
    saturation_angle: jax.Array | float | None = None

    def __post_init__(self):
        values = {name: floating(name, getattr(self, name)) for name in ("flip_angle", "repetition_time", "echo_time")}
        values |= {name: _phase(name, getattr(self, name)) for name in ("rf_phase", "receiver_phase")}
        values |= {"turns": np.asarray(self.turns), "recorded": np.asarray(self.recorded, bool)}
        frames = common_count("Train", "frames", values)
        require("Train.flip_angle", values["flip_angle"], *FLIP_ANGLES)
        require_positive("Train.repetition_time", values["repetition_time"])
        require_scale("Train.repetition_time", values["repetition_time"], LONGEST, "s", "ms")
        require_whole("Train.turns", values["turns"], 0)
        require("Train.echo_time", values["echo_time"], lambda x: (x >= 0) & np.isfinite(x), "0 or more, and finite")
        require_within_frames("Train.echo_time", values["echo_time"], values["repetition_time"])
        for name, value in values.items():
            if name in ("turns", "recorded"):
                value = tuple(np.broadcast_to(value, frames).tolist())
            elif isinstance(value, np.ndarray):
                value = HalfTurns(tuple(np.broadcast_to(value, frames).tolist()))
            elif value is not None:
                value = jnp.broadcast_to(value, (frames,))
            object.__setattr__(self, name, value)
        check_pulses(self, frames, self.flip_angle.dtype)

    @property
    def n_frames(self) -> int:
        """Number of frames, recorded or not."""
        return len(self.turns)


def require_within_frames(name: str, echo_time, repetition_time):
    """Raises `ValueError` with the ``name`` of an echo time that is longer than the repetition time, both in s.

    Each is one number or (frames,); the error counts frames from 1, and names none where both are one number. Tracers
    pass.
    """
    if is_traced(echo_time, repetition_time):
        return
    echo, end = np.broadcast_arrays(echo_time, repetition_time)
    late = echo > end
    if late.any():
        first = np.argmax(late)
        frame = f" of frame {first + 1}" if late.ndim else ""
        rule = f"no longer than the repetition time{frame}, {end.flat[first]:.6g} s"
        raise ValueError(f"{name} must be {rule}; got {echo.flat[first]:.6g} s")


@pytree
@dataclasses.dataclass(frozen=True)
class Delay:
    """A ``time``, s, without pulses; ``crushed``: with a gradient that leaves no transverse magnetisation."""

    time: jax.Array | float
    crushed: bool = dataclasses.field(default=False, metadata={"static": True})

    def __post_init__(self):
        check_times(self, "time")


@pytree
@dataclasses.dataclass(frozen=True)
class Blocks:
    """Any sequence: its blocks, in the order in which they are played, one `Train` at least."""

    blocks: tuple

    def __post_init__(self):
        try:
            blocks = tuple(self.blocks)
        except TypeError as error:
            raise ValueError(f"Blocks.blocks must be a tuple of blocks; got {self.blocks!r:.80}") from error
        object.__setattr__(self, "blocks", blocks)
        for block in blocks:
            if not isinstance(block, Train | Preparation | Delay):
                raise ValueError(f"Blocks: a block must be of ganmrf.physics.sequences.blocks; got {block!r:.80}")
        if not any(isinstance(block, Train) and any(block.recorded) for block in blocks):
            raise ValueError("Blocks: no frame is recorded")

    @property
    def n_frames(self) -> int:
        """Number of recorded frames."""
        return sum(sum(block.recorded) for block in self.blocks if isinstance(block, Train))

    def as_blocks(self) -> "Blocks":
        """Itself: what every sequence can be turned into."""
        return self


def after_inversion(sequence, *blocks) -> Blocks:
    """Blocks after the ideal inversion of a sequence, and its inversion time; without one where that is None."""
    if sequence.inversion_time is None:
        return Blocks(blocks)
    return Blocks((Inversion(sequence.inversion_time, saturation=sequence.inversion_saturation), *blocks))


def simulate_voxel(sequence, t1, t2, b1=1.0, off_resonance=0.0, n_states: int | None = None) -> jax.Array:
    """The definition: the signal of one voxel under any sequence, written as the pulse diagrams read.

    T1 and T2 are in s, off-resonance in Hz. An ``n_states`` of None keeps all that can come back.

    Returns:
      ``1j (Mx + i My) exp(-i receiver phase)`` at the recorded echoes, complex, (frames,), for M0 = 1.
    """
    blocks = sequence.as_blocks().blocks
    turns = sum(sum(block.turns) for block in blocks if isinstance(block, Train))
    states = epg.equilibrium(turns // 2 + 1 if n_states is None else n_states, jnp.result_type(complex))
    signals = []
    for block in blocks:
        if isinstance(block, Train):
            states, recorded = _play(states, block, t1, t2, b1, off_resonance)
            signals += recorded
        elif isinstance(block, Delay):
            states = epg.crush(states) if block.crushed else states
            states = epg.precess(epg.relax(states, block.time, t1, t2), off_resonance * block.time)
        elif isinstance(block, T2Preparation):
            states = epg.scale_z(epg.crush(states), jnp.exp(-block.time / t2))
            states = epg.relax(states, block.wait, t1, t2)
        elif isinstance(block, Played):
            states = _prepare(epg.crush(states), block, t1, t2, b1, off_resonance)
            states = epg.relax(epg.crush(states), block.wait, t1, t2)
        elif isinstance(block, Inversion | Saturation):
            states = epg.scale_z(epg.crush(states), block.factor)
            states = epg.relax(states, block.time, t1, t2)
    return jnp.stack(signals)


def _prepare(states, block, t1, t2, b1, off_resonance):
    def pulse(states, row):
        angle, phase, time = row
        states = epg.relax(epg.excite(states, b1 * angle, phase), time, t1, t2)
        return epg.precess(states, off_resonance * time), None

    return lax.scan(pulse, states, (block.flip_angle, block.rf_phase, block.time))[0]


def _play(states, train, t1, t2, b1, off_resonance):
    phases = jnp.asarray(np.asarray(train.rf_phase) if isinstance(train.rf_phase, HalfTurns) else train.rf_phase)
    receiver = phases if train.receiver_phase is None else jnp.asarray(train.receiver_phase)
    signals = []
    for n in range(train.n_frames):
        echo, end = train.echo_time[n], train.repetition_time[n]
        states = epg.excite(states, b1 * train.flip_angle[n], phases[n])
        states = epg.precess(epg.relax(states, echo, t1, t2), off_resonance * echo)
        if train.recorded[n]:
            signals.append(1j * states.f_plus[0] * jnp.exp(-1j * receiver[n]))
        states = epg.precess(epg.relax(states, end - echo, t1, t2), off_resonance * (end - echo))
        for _ in range(train.turns[n]):
            states = epg.dephase(states)
    return states, signals


def _phase(name, value):
    """None, whole half turns as a NumPy array of integers, or an array of any phases."""
    if value is None:
        return None
    if isinstance(value, HalfTurns):
        return np.asarray(value.counts, int)
    if not isinstance(value, jax.Array):
        halves = np.asarray(value, float) / np.pi
        if np.isfinite(halves).all() and (np.abs(halves - np.rint(halves)) < _ROUNDING).all():
            return np.atleast_1d(np.rint(halves).astype(int)) % 2
    phase = floating(name, value)
    require(f"Train.{name}", phase, np.isfinite, "finite")
    return phase
