"""Sequences that no generator has learned from: published ones, random ones of its family, and others far from it."""

import dataclasses
import importlib.resources

import jax
import numpy as np

from ganmrf.anchors.families import sample_sequences
from ganmrf.anchors.generator import AnchoredGenerator
from ganmrf.io.schedule import read_schedule
from ganmrf.physics.sequences.blocks import PulseSequence
from ganmrf.physics.sequences.bssfp import ma_bssfp
from ganmrf.physics.sequences.cardiac import published_cardiac
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.sequences.published import ECHO_TIME_S, mrf_fisp
from ganmrf.physics.sequences.sequence_power import Power, with_power

PUBLISHED = ("published, 1000 frames", "published, 500 frames", "published")  # the last one of other kinds than FISP
_STREAM = 1000  # folded into the seed of the sequences: a stream that `train_anchored` does not use
_FOREIGN_TR_S = 13.4e-3  # the mean of the published ones
_SHARE_BSSFP, _SHARE_CARDIAC = 2 / 3, 1 / 3  # of the flip angles of FISP: 60 and 30 degrees at most
_BEATS, _INTERVAL_S = 15, 0.9  # of the published cardiac scan, and of a heart at rest
_PULSE_DURATION_S, _PULSE_SHAPE = 1.8e-3, 1.5  # of pulses that saturate a semisolid pool: about those of a Hann sinc


def unseen_sequences(
    generator: AnchoredGenerator, seed: int, number: int, n_frames: int
) -> dict[str, list[PulseSequence]]:
    """Name of a group -> sequences: published ones of the generator's family, random ones of it, and, of FISP, hearts'.

    Random sequences are other ones than those that generators learn from, with other seeds.
    """
    form = {"family": generator.family, "tissue": type(generator.anchors)}
    if generator.box.periodic:
        (axis,) = (generator.box.names.index(name) for name in generator.box.periodic)
        form["repetition_time"] = float(1 / (generator.box.high[axis] - generator.box.low[axis]))
    drawn = sample_sequences(jax.random.fold_in(jax.random.key(seed), _STREAM), number, n_frames, **form)
    if generator.family != "fisp":
        published = {"cardiac": _steady_heart, "bssfp": ma_bssfp}[generator.family]
        groups = {PUBLISHED[2]: [] if generator.box.periodic else [published()], "random": drawn}
        return {name: [_played(generator, each) for each in of] for name, of in groups.items() if of}
    hearts = [np.ptp(sequence.repetition_time) > 0.1 for sequence in drawn]
    schedule = importlib.resources.files("ganmrf") / "data" / "mrf_fisp_cao2019.csv"
    short = read_schedule(schedule, echo_time=ECHO_TIME_S, inversion_time=20e-3)
    groups = {PUBLISHED[0]: [mrf_fisp()], PUBLISHED[1]: [short]}
    for name, chosen in (("random", False), ("heart rhythms", True)):
        groups[name] = [each for each, heart in zip(drawn, hearts, strict=True) if heart == chosen]
    return {name: [_played(generator, each) for each in of] for name, of in groups.items()}


def foreign_sequences(
    generator: AnchoredGenerator, seed: int, number: int, n_frames: int
) -> dict[str, list[PulseSequence]]:
    """Name of a family -> sequences, about ``number`` in all, none of a family that generators learn from.

    The flip angles are constant, drawn for each frame anew, or a sine of any period, and of FISP turns of 180 degrees
    among others, with times from 3 ms to 3 s; all else is as the generator's family has it.
    """
    rng, frames = np.random.default_rng([seed, _STREAM]), np.arange(n_frames)
    each = -(-number // (4 if generator.family == "fisp" else 3))
    periods = np.geomspace(8, n_frames, each)
    flips = {
        "constant flips": np.broadcast_to(np.linspace(5, 85, each)[:, None], (each, n_frames)),
        "random flips": rng.uniform(0, 90, (each, n_frames)),
        "sinusoids": 40 + 35 * np.sin(2 * np.pi * frames / periods[:, None]),
    }
    found = {name: [_with_flips(generator, np.deg2rad(one)) for one in values] for name, values in flips.items()}
    if generator.family == "fisp":
        found["extremes"] = _extremes(rng, each, n_frames)
    return {name: [_played(generator, one) for one in of] for name, of in found.items()}


def _with_flips(generator, flip_angle):
    """A sequence of the generator's family with these flip angles, rad, (frames,)."""
    if generator.family == "fisp":
        return Fisp(flip_angle, _FOREIGN_TR_S, ECHO_TIME_S, 20e-3)
    if generator.family == "bssfp":
        usual = unseen_sequences(generator, 0, 1, flip_angle.size)["random"][0]
        times = np.full(flip_angle.size, float(np.mean(usual.repetition_time)))
        return dataclasses.replace(usual, flip_angle=_SHARE_BSSFP * flip_angle, repetition_time=times)
    usual = _steady_heart()
    beats, per_beat = usual.flip_angle.shape
    return dataclasses.replace(usual, flip_angle=_SHARE_CARDIAC * np.resize(flip_angle, (beats, per_beat)))


def _steady_heart():
    """The published cardiac sequence of a heart that beats regularly."""
    return published_cardiac(np.full(_BEATS, _INTERVAL_S))


def _extremes(rng, number, n_frames):
    """FISP far from any that is played: trains of 180 degrees, times of 3 ms and of 3 s, a few frames."""
    made = []
    for n in range(number):
        flips = np.deg2rad(rng.uniform(0, 90, 10 if n % 4 == 3 else n_frames))
        time = (_FOREIGN_TR_S, 3e-3, 3.0, _FOREIGN_TR_S)[n % 4]
        if n % 4 == 0:
            flips[rng.random(flips.size) < 1 / 8] = np.pi
        made.append(Fisp(flips, time, min(ECHO_TIME_S, time / 2), 20e-3))
    return made


def _played(generator, sequence):
    """The sequence with the power of its pulses, where the generator's tissue feels it."""
    if not hasattr(generator.anchors, "lineshape") or getattr(sequence, "pulse_duration", None) is not None:
        return sequence
    return with_power(sequence, Power(_PULSE_DURATION_S, _PULSE_SHAPE))
