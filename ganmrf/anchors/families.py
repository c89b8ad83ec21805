"""Families of random sequences, by kind, that generators learn from and are validated by: functions of a key."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.anchors.echoes import combined_at_echo
from ganmrf.memory import require_memory
from ganmrf.physics.sequences.blocks import Inversion, PulseSequence, Saturation, T2Preparation
from ganmrf.physics.sequences.bssfp import Bssfp
from ganmrf.physics.sequences.cardiac import CardiacFisp, cardiac_mrf, sample_rr_intervals
from ganmrf.physics.sequences.random import sample
from ganmrf.physics.sequences.sequence_power import Power, with_power
from ganmrf.physics.tissue import Tissue, TissueModel, parameters

_SEQUENCE_BYTES = 12  # of a frame: flip angle, repetition time and echo time
_SHARE_CARDIAC = 0.25  # heart rhythms of FISP sequences; the families of `physics.sequences.random` share the rest
_BEATS = 0.015  # for each frame of the other sequences: 15 for 1000
_BEAT_FRAMES = 47  # of `published_cardiac`
# What stands before the trains of beats in turn: as `published_cardiac` has it, in other turns, and with saturations.
# Four alone, as each is a program to compile.
_TURNS = ("I.TTT", "TT.I.", "ITIT.", "S.STI")
_ECHO_TIMES_S, _LATEST_ECHO = (1e-3, 6e-3), 0.4  # of FISP with readouts from the centre of k-space
_PULSE_DURATIONS_S, _PULSE_SHAPES = (0.5e-3, 3e-3), (1.0, 2.5)  # of sincs and Gaussians
_BSSFP_FLIP = np.deg2rad(60.0)  # the largest of `ma_bssfp`
_BSSFP_NOISE = np.deg2rad(5.0)  # its noise
_BSSFP_JITTER = 0.14  # of its repetition times, relative to their mean
_BSSFP_TIMES_S = (5e-3, 14e-3)  # of mean repetition times: from as short as gradients play to the longest of `ma_bssfp`


def sample_sequences(
    key: jax.Array,
    number: int,
    n_frames: int = 1000,
    family: str = "fisp",
    *,
    tissue: type[TissueModel] = Tissue,
    repetition_time: float | None = None,
) -> list[PulseSequence]:
    """Sequences of a family of `FAMILIES`, functions of the key, of about ``n_frames``.

    FISP has lobes, splines, steps and random walks, and a quarter are heart rhythms (15 beats of 50 frames for 1000),
    prepared by one inversion. Cardiac sequences have preparations before all beats (15 of 47 frames). bSSFP has flip
    angles like FISP, up to 60 degrees, with noise, alternating phases, and times of 5 to 14 ms.

    For tissue whose signals are combined at the echo (`echoes`) echo times of FISP are random, from 1 ms to 6 ms or two
    fifths of the shortest repetition; for tissue with a semisolid pool so are the duration of pulses, 0.5 to 3 ms, and
    their shape, from that of a rectangle to 2.5 times it.

    Args:
      key: of all randomness.
      number: of sequences.
      n_frames: length of sequences that are not cardiac.
      family: a name of `FAMILIES`.
      tissue: class of the tissue that they are for.
      repetition_time: of all frames of bSSFP, s; None for random ones.

    Raises:
      ValueError: more sequences than the memory holds, or a ``repetition_time`` of another family.
    """
    require_memory(_SEQUENCE_BYTES * number * n_frames, f"a set of {number} sequences", "fewer --sequences need less")
    drawn = FAMILIES[family](jax.random.split(key, number), n_frames)
    if repetition_time is not None:
        if family != "bssfp":
            raise ValueError(f"repetition_time goes with sequences of the family bssfp; got {family}")
        times = np.full(n_frames, repetition_time, np.float32)
        drawn = [dataclasses.replace(each, repetition_time=times) for each in drawn]
    if combined_at_echo(tissue) or "lineshape" in parameters(tissue):
        rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        drawn = [_for_tissue(each, tissue, rng) for each in drawn]
    return drawn


def _for_tissue(sequence, tissue, rng):
    """The sequence with what tissue of several pools feels beside one pool's."""
    if "lineshape" in parameters(tissue):
        return with_power(sequence, Power(rng.uniform(*_PULSE_DURATIONS_S), rng.uniform(*_PULSE_SHAPES)))
    if isinstance(sequence, Bssfp):  # its echo is in the middle
        return sequence
    longest = min(_ECHO_TIMES_S[1], _LATEST_ECHO * float(np.min(sequence.repetition_time)))
    return dataclasses.replace(sequence, echo_time=rng.uniform(_ECHO_TIMES_S[0], longest))


def _fisp(keys, n_frames):
    n_cardiac = round(_SHARE_CARDIAC * len(keys))
    drawn = [_sample(each, n_frames) for each in keys[n_cardiac:]]
    return drawn + [cardiac_mrf(_sample_rr_intervals(each, _n_beats(n_frames))) for each in keys[:n_cardiac]]


def _cardiac(keys, n_frames):
    return [_sample_cardiac(each, _n_beats(n_frames), _TURNS[n % len(_TURNS)]) for n, each in enumerate(keys)]


def _bssfp(keys, n_frames):
    return [_sample_bssfp(each, n_frames) for each in keys]


def _sample_one_cardiac(key, beats, turn) -> CardiacFisp:
    """Trains of a random shape or half a sine, of random height, after preparations that ``turn`` says, in turn."""
    keys = jax.random.split(key, 6)
    shapes = sample(keys[0], beats * _BEAT_FRAMES).flip_angle.reshape(beats, _BEAT_FRAMES)
    peaks = jnp.deg2rad(jax.random.uniform(keys[1], (beats, 1), minval=10.0, maxval=30.0))
    rise = jnp.minimum(jnp.arange(_BEAT_FRAMES)[None] / jax.random.uniform(keys[2], minval=2.0, maxval=30.0), 1)
    flips = jnp.where(jax.random.bernoulli(keys[3]), shapes / 2, jnp.deg2rad(4.0) + peaks * rise)
    each = zip(jax.random.split(keys[4], beats), np.resize([*turn], beats), strict=True)
    preparations = [_PREPARATIONS[letter](*jax.random.uniform(own, (2,))) for own, letter in each]
    return CardiacFisp(flips, 5.1e-3, 1.4e-3, tuple(preparations), sample_rr_intervals(keys[5], beats))


_PREPARATIONS = {  # from two places between 0 and 1; adiabatic pulses invert 0.85 of z at least
    ".": lambda *_: None,
    "I": lambda time, efficiency: Inversion(0.01 + 0.05 * time, 0.85 + 0.15 * efficiency),
    "S": lambda time, efficiency: Saturation(0.02 + 0.1 * time, 0.85 + 0.15 * efficiency),
    "T": lambda time, wait: T2Preparation(0.02 + 0.1 * time, 0.01 * wait),
}


def _sample_one_bssfp(key, n_frames) -> Bssfp:
    keys = jax.random.split(key, 6)
    like = sample(keys[0], n_frames)
    noise = _BSSFP_NOISE * jax.random.uniform(keys[1]) * jax.random.normal(keys[2], (n_frames,))
    jitter = jax.random.uniform(keys[4], (n_frames,), minval=-_BSSFP_JITTER, maxval=_BSSFP_JITTER)
    jitter *= jax.random.bernoulli(keys[3])
    mean = jax.random.uniform(keys[5], minval=_BSSFP_TIMES_S[0], maxval=_BSSFP_TIMES_S[1])
    times = like.repetition_time / like.repetition_time.mean() + jitter
    flips = jnp.clip(2 / 3 * like.flip_angle + noise, 0, _BSSFP_FLIP)
    return Bssfp(flips, mean * times, inversion_time=like.inversion_time)


FAMILIES = {"fisp": _fisp, "cardiac": _cardiac, "bssfp": _bssfp}  # by the names of `kinds.KINDS`


def _n_beats(n_frames):
    return max(round(_BEATS * n_frames), 1)


_sample, _sample_rr_intervals, _sample_bssfp = (
    jax.jit(draw, static_argnums=1) for draw in (sample, sample_rr_intervals, _sample_one_bssfp)
)
_sample_cardiac = jax.jit(_sample_one_cardiac, static_argnums=(1, 2))
