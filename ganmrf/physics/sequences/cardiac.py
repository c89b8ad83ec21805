"""Cardiac MRF-FISP: a block of frames in each heartbeat, at one phase of the heart.

::

    ECG       R                         R                         R
    RF      inv  |||||||||||            |||||||||||               |||||||||||
    time         frames of a beat
                 |<---- R to R ------->|<---- R to R ----------->|

The last frame of a beat lasts until the first frame of the next beat: a long repetition time. Every patient's rhythm is
therefore another sequence, with a dictionary of its own.

`CardiacFisp` has what Hamilton et al., Magn Reson Med 77:1446 (2017), play: an inversion, nothing, or T2 preparations
before the blocks in turn. `cardiac_mrf` prepares the first block alone, by an inversion, and is a `Fisp`.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.physics.sequences.blocks import Blocks, Delay, Train
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.sequences.preparations import Inversion, Preparation, T2Preparation
from ganmrf.physics.sequences.pulse_power import check_pulses, pulses_of
from ganmrf.pytrees import floating, is_traced, pytree, require, require_positive

_RATES = (40.0, 140.0)  # beats a minute: a slow adult's at rest to a fast heart's


@pytree
@dataclasses.dataclass(frozen=True)
class CardiacFisp:
    """Trains of frames with one turn each, one train in each heartbeat, each after a preparation.

    Attributes:
      flip_angle: nominal flip angle, rad, (beats, frames of a beat).
      repetition_time: s, one number for all frames.
      echo_time: s, likewise.
      preparations: of each beat, (beats,): an `Inversion`, `Saturation`, `T2Preparation` or `Played`, or None.
      rr_intervals: time from the first frame of each beat to the first frame of the next, s, (beats,); the last one
        changes no signal.
      pulse_duration: of the pulses, s, one number, which a semisolid pool needs; None where it is not known.
      pulse_shape: mean of the squared waveform of the pulses over the squared mean, likewise; None for 1.

    Raises:
      ValueError: counts that disagree, an interval that is shorter than a train and the preparation after it (with the
        beat, counted from 1), or values that a `Train` refuses.
    """

    flip_angle: jax.Array
    repetition_time: jax.Array | float
    echo_time: jax.Array | float
    preparations: tuple
    rr_intervals: jax.Array
    pulse_duration: jax.Array | float | None = None
    pulse_shape: jax.Array | float | None = 1.0

    def __post_init__(self):
        for name in ("flip_angle", "repetition_time", "echo_time", "rr_intervals"):
            object.__setattr__(self, name, floating(name, getattr(self, name)))
        object.__setattr__(self, "preparations", tuple(self.preparations))
        if self.flip_angle.ndim != 2 or 0 in self.flip_angle.shape:
            raise ValueError(f"CardiacFisp.flip_angle must be (beats, frames of a beat); got {self.flip_angle.shape}")
        for name in ("repetition_time", "echo_time"):
            if getattr(self, name).ndim:
                raise ValueError(f"CardiacFisp.{name} must be one number; got shape {getattr(self, name).shape}")
        beats = len(self.flip_angle)
        if self.rr_intervals.shape != (beats,) or len(self.preparations) != beats:
            raise ValueError(
                f"CardiacFisp has {beats} beats of flip angles, {self.rr_intervals.size} of rr_intervals and "
                f"{len(self.preparations)} preparations: one of each a beat"
            )
        for beat, preparation in enumerate(self.preparations, 1):
            if not isinstance(preparation, Preparation | None):
                raise ValueError(f"CardiacFisp.preparations: beat {beat} has {preparation!r:.60}")
        Train(self.flip_angle.ravel(), self.repetition_time, self.echo_time)
        check_pulses(self, 1, self.flip_angle.dtype)
        require_positive("CardiacFisp.rr_intervals", self.rr_intervals)
        if not is_traced(self):
            self._check_gaps()

    def _check_gaps(self):
        rhythm = zip(np.asarray(self.rr_intervals), np.asarray(self._gaps())[:-1], strict=False)
        for beat, (interval, gap) in enumerate(rhythm, 1):
            if gap < -1e-9:  # rounding of the times
                raise ValueError(
                    f"CardiacFisp.rr_intervals: beat {beat} lasts {interval:.4g} s, {-gap:.4g} s less than its frames "
                    "and the next preparation"
                )

    def _gaps(self):
        """From the end of each train to the next preparation, s, (beats,)."""
        train = self.flip_angle.shape[-1] * self.repetition_time
        after = [jnp.zeros(()) if each is None else each.duration for each in (*self.preparations[1:], None)]
        return self.rr_intervals - train - jnp.stack(after)

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return self.flip_angle.shape[-1] * self.flip_angle.shape[-2]

    def as_blocks(self) -> Blocks:
        """For each beat its preparation, its train, and the gap that the heart leaves."""
        blocks, gaps = [], self._gaps()
        for beat, preparation in enumerate(self.preparations):
            train = Train(self.flip_angle[beat], self.repetition_time, self.echo_time, **pulses_of(self))
            blocks += [] if preparation is None else [preparation]
            blocks += [train, Delay(jnp.maximum(gaps[beat], 0))]
        return Blocks(tuple(blocks[:-1]))


def cardiac_mrf(
    rr_intervals,
    *,
    flip_angle=None,
    frames_per_beat: int = 50,
    repetition_time: float = 5.1e-3,
    echo_time: float = 1.4e-3,
    inversion_time: float | None = 21e-3,
) -> Fisp:
    """The MRF sequence of one rhythm of the heart; block, times and flip angles are by default those of the reference.

    Args:
      rr_intervals: time from the first frame of each beat to the first frame of the next, s, (beats,). The last
        interval changes no recorded signal.
      flip_angle: flip angles of every frame, rad, (beats * frames_per_beat,), or of the frames of one beat, for all
        beats, (frames_per_beat,). By default a half sine from 4 to 25 degrees in every beat.
      frames_per_beat: frames of a block.
      repetition_time: repetition time within a block, s.
      echo_time: echo time of every frame, s.
      inversion_time: from the inversion to the first frame of the first beat, s; None for no inversion.

    Raises:
      ValueError: intervals that are not positive or are shorter than a block, flip angles of another number, or values
        that `Fisp` refuses.
    """
    rr_intervals = jnp.asarray(rr_intervals, float)
    if rr_intervals.ndim != 1 or rr_intervals.size == 0:
        raise ValueError(f"rr_intervals must be (beats,) with one beat at least; got shape {rr_intervals.shape}")
    if frames_per_beat < 1:
        raise ValueError(f"frames_per_beat must be at least 1; got {frames_per_beat}")
    require_positive("rr_intervals", rr_intervals, "positive and finite (s)")
    if not is_traced(rr_intervals, repetition_time):
        block = frames_per_beat * float(repetition_time)
        rule = f"no shorter than a block of {frames_per_beat} frames, {block:.4g} s"
        require("rr_intervals", rr_intervals, lambda x: x >= block * (1 - 1e-6), rule)
    beats = rr_intervals.size
    if flip_angle is None:
        low, high = np.deg2rad((4.0, 25.0))
        flip_angle = low + (high - low) * np.sin(np.pi * (np.arange(frames_per_beat) + 0.5) / frames_per_beat)
    flip_angle = jnp.asarray(flip_angle, float)
    if flip_angle.shape == (frames_per_beat,):
        flip_angle = jnp.tile(flip_angle, beats)
    if flip_angle.shape != (beats * frames_per_beat,):
        raise ValueError(
            f"flip_angle must hold {frames_per_beat} values, or {beats * frames_per_beat} for {beats} beats; got shape "
            f"{flip_angle.shape}"
        )
    times = _until_next(rr_intervals, frames_per_beat, repetition_time)
    return Fisp(flip_angle, times, echo_time, inversion_time)


def published_cardiac(
    rr_intervals,
    *,
    flip_angle=None,
    frames_per_beat: int = 47,
    repetition_time: float = 5.1e-3,
    echo_time: float = 1.4e-3,
    preparations: tuple | None = None,
) -> CardiacFisp:
    """The published sequence of cardiac MRF, which has 15 heartbeats, for one rhythm of the heart.

    Args:
      rr_intervals: time from the first frame of each beat to the first frame of the next, s, (beats,).
      flip_angle: rad, of the frames of one beat, for all beats, (frames_per_beat,), or of every frame, (beats *
        frames_per_beat,). By default they rise within 16 frames from 4 degrees to 12.5, 18.75, 25, 25 and 25 degrees in
        turn, and stay there.
      frames_per_beat: frames of a train.
      repetition_time: repetition time within a train, s.
      echo_time: echo time of every frame, s.
      preparations: what stands before the trains in turn, as `CardiacFisp` has it, nothing where it is empty; None for
        an inversion of 21 ms, nothing, and T2 preparations of 30, 50 and 100 ms.

    Raises:
      ValueError: flip angles of another number, or as `CardiacFisp`.

    References:
      Preparations in turn: Hamilton et al. 2017, doi:10.1002/mrm.26216, whose repetition and echo time these are.
      Flip angles and times of the preparations: the open sequence of PTB, https://github.com/PTB-MR/cMRF.
    """
    rr_intervals = jnp.asarray(rr_intervals, float)
    beats = rr_intervals.size
    if preparations is None:
        preparations = (Inversion(21e-3), None, *(T2Preparation(time) for time in (30e-3, 50e-3, 100e-3)))
    if flip_angle is None:
        rise = np.minimum(np.arange(frames_per_beat) / 15, 1.0)
        flip_angle = np.deg2rad(4 + (np.resize([12.5, 18.75, 25, 25, 25], (beats, 1)) - 4) * rise)
    flip_angle = jnp.asarray(flip_angle, float)
    if flip_angle.size not in (frames_per_beat, beats * frames_per_beat):
        raise ValueError(
            f"flip_angle must hold {frames_per_beat} values, or {beats * frames_per_beat} for {beats} beats; got "
            f"{flip_angle.size}"
        )
    flip_angle = jnp.broadcast_to(flip_angle.reshape(-1, frames_per_beat), (beats, frames_per_beat))
    in_turn = tuple(itertools.islice(itertools.cycle(preparations or (None,)), beats))
    return CardiacFisp(flip_angle, repetition_time, echo_time, in_turn, rr_intervals)


def without_gaps(sequence: CardiacFisp) -> Fisp:
    """The same as a `Fisp`, whose frames last until the next: of a sequence that prepares the first beat alone.

    Raises:
      ValueError: a preparation that `Fisp` does not have.
    """
    first, *rest = sequence.preparations
    ideal = isinstance(first, Inversion) and (is_traced(first.efficiency) or float(first.efficiency) == 1)
    if any(each is not None for each in rest) or not (first is None or ideal):
        raise ValueError("FISP has an ideal inversion before the first beat, or none, and no other preparation")
    times = _until_next(sequence.rr_intervals, sequence.flip_angle.shape[1], sequence.repetition_time)
    prepared = {} if first is None else {"inversion_time": first.time, "inversion_saturation": first.saturation}
    return Fisp(sequence.flip_angle.ravel(), times, sequence.echo_time, **prepared, **pulses_of(sequence))


def _until_next(rr_intervals, frames, repetition_time):
    """Time from each frame to the next, s, (beats * frames,): the last frame of a beat lasts until the next beat."""
    last = rr_intervals - (frames - 1) * repetition_time
    within = jnp.full((len(rr_intervals), frames - 1), repetition_time)
    return jnp.concatenate([within, last[:, None]], axis=1).ravel()


def sample_rr_intervals(key: jax.Array, beats: int = 15) -> jax.Array:
    """A random rhythm: 40 to 140 beats a minute, each beat up to 40 % shorter or longer, s, (beats,)."""
    keys = jax.random.split(key, 3)
    mean = 60 / jax.random.uniform(keys[0], minval=_RATES[0], maxval=_RATES[1])
    arrhythmia = jax.random.uniform(keys[1], maxval=0.4)
    intervals = mean * (1 + arrhythmia * jax.random.uniform(keys[2], (beats,), minval=-1.0))
    return jnp.maximum(intervals, 60 / _RATES[1])
