"""Recurrent networks trained in their folders, one beside each anchored generator, and what they reach."""

import contextlib
import functools
import pathlib
import statistics
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from experiments.benchmarks.timing import timed
from experiments.evaluation.recurrent import MOST_FRAMES, RecurrentConfig, fit, init_state, recurrent_signals
from ganmrf.anchors.generator import AnchoredGenerator
from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.slice_fields import fields_of_slice
from ganmrf.metrics import fingerprint_errors
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.slice_profile import SliceModel
from ganmrf.physics.tissue import Tissue
from ganmrf.runs.loop import advance
from ganmrf.runs.training import losses
from ganmrf.runs.workdir import Workdir, check_unchanged
from ganmrf.settings import naming_fields

_ACCURACY = 1e-5  # of reference simulations
_TIMED = 512  # atoms whose fingerprints are timed: the time of a dictionary is proportional to its atoms


class Recurrent(NamedTuple):
    """A trained network, the core-seconds of its training, those of its examples among them, and its slice."""

    config: RecurrentConfig
    params: Any
    core_seconds: float
    slice_profile: SliceModel | None = None

    def fingerprints(self, sequence: Fisp, tissue: Tissue) -> np.ndarray:
        """Unit fingerprints, (atoms, frames)."""
        signals = recurrent_signals(self.config, self.params, sequence, tissue)
        return signals / np.linalg.norm(signals, axis=1, keepdims=True)

    def errors(self, sequences: list[Fisp], tissue: Tissue) -> np.ndarray:
        """Relative errors of unit fingerprints, (sequences * tissues,)."""
        found = []
        for sequence in sequences:
            truth = build_dictionary(sequence, tissue, accuracy=_ACCURACY, slice_profile=self.slice_profile)
            found.append(fingerprint_errors(self.fingerprints(sequence, tissue), truth.fingerprints))
        return np.concatenate(found)

    def cost(self, sequence: Fisp, tissue: Tissue, rounds: int) -> tuple[float, float]:
        """Cost of the dictionary of all atoms, (s, core-seconds): medians over rounds, of some of the atoms."""
        some = tissue.rows(np.arange(min(_TIMED, tissue.size)))
        jobs = {"generate": functools.partial(self.fingerprints, sequence, some)}
        clocks = time.perf_counter, time.process_time
        share = some.size / tissue.size
        return tuple(statistics.median(timed(jobs, rounds, clock)["generate"]) / share for clock in clocks)


def train_beside(
    path: pathlib.Path, generators: Mapping[str, AnchoredGenerator], *, steps: int, seed: int, n_frames: int
) -> dict[str, Recurrent]:
    """Trains a network for the box and the slice profile of each generator, from where it was cut off if it was.

    Args:
      path: gets a folder for each generator, by its name, with ``config.json``, ``metrics.jsonl`` and ``checkpoints``.
      generators: by name.
      steps: updates of each network.
      seed: of the sequences and tissues that the networks learn from.
      n_frames: length of the sequences that the networks are for; they learn from shorter ones, see `MOST_FRAMES`.

    Raises:
      ValueError: a folder with a run of other settings or of another slice, or a slice whose signals are complex,
        before any training, or a training that diverges.
    """
    for name, generator in generators.items():
        if generator.slice_profile is not None and not generator.slice_profile.is_real:
            raise ValueError(f"recurrent_steps: the network makes real signals, but those of {name} are complex")
    with naming_fields(steps="recurrent_steps"), contextlib.ExitStack() as stack:
        workdirs = {}
        for name, generator in generators.items():
            config = _config(generator.box, steps, seed, n_frames)
            workdirs[name] = stack.enter_context(Workdir(path / name, config))
            check_unchanged(workdirs[name].path, fields_of_slice(generator.slice_profile), note=True)
        return {name: _trained(workdirs[name], name, generators[name].slice_profile) for name in workdirs}


def _config(box, steps, seed, n_frames):
    ends = {"axes": box.names, "low": tuple(box.low.tolist()), "high": tuple(box.high.tolist())}
    return RecurrentConfig(steps=steps, seed=seed, frames=min(n_frames, MOST_FRAMES), **ends)


def _trained(workdir, name, profile):
    config, start = workdir.config, time.process_time()
    state = init_state(config)
    spent = time.process_time() - start
    label = f"{name}: recurrent network"
    chunks = functools.partial(fit, config, slice_profile=profile)
    state, rows = advance(
        chunks, state, workdir, config.steps, label=label, note=losses, recorded=["train_error"], core_seconds=spent
    )
    return Recurrent(config, state.params, rows[-1]["core_seconds"], profile)
