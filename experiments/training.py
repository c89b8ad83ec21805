"""A training run in its folder: begun, or gone on with from its newest checkpoint."""

import dataclasses
import json
import sys
import time
import warnings
import zlib
from typing import NamedTuple

import jax
import numpy as np
import tqdm

from experiments.recipe_flags import TrainingConfig
from experiments.sequence_flags import SimulationConfig
from experiments.workdir import Workdir
from ganmrf.atomic import replacing
from ganmrf.dictionary.build import Dictionary, build_dictionary
from ganmrf.gan.checkpoint import Checkpoints
from ganmrf.gan.data import Data, prepare
from ganmrf.gan.generate import TrainedGenerator, finish, save_generator
from ganmrf.gan.recipes import Recipe
from ganmrf.gan.train import TrainState, fit, init_state

_ACCURACY = 1e-5  # of the dictionaries that are learned from and judged by


class Run(NamedTuple):
    """A finished run: its settings, what it learned from, what it made, its record, and seconds of this process."""

    config: TrainingConfig
    dictionary: Dictionary
    data: Data
    state: TrainState
    generator: TrainedGenerator
    rows: list[dict]
    seconds: float
    core_seconds: float


def simulate_for_training(simulation: SimulationConfig) -> Dictionary:
    """The dictionary that the flags name, simulated more accurately than a generator can be."""
    sequence, tissue, profile = simulation.sequence(), simulation.tissue(), simulation.slice_profile()
    return build_dictionary(sequence, tissue, slice_profile=profile, accuracy=_ACCURACY)


def train_in_folder(path, simulation: SimulationConfig, training: TrainingConfig, given: set[str]) -> Run:
    """Trains in a folder, from its newest whole checkpoint if it has one.

    Args:
      path: gets ``config.json``, ``metrics.jsonl``, ``checkpoints``, ``generator.npz`` and ``summary.json``.
      simulation: the dictionary to learn.
      training: how.
      given: names of the settings that the user gave; the others yield to those of a run that the folder holds.

    Raises:
      ValueError: a folder in use or of other settings, or a training that diverges.
    """
    settings = {"simulation": dataclasses.asdict(simulation), **dataclasses.asdict(training)}
    # A longer run of a constant learning rate begins as the shorter one did.
    extendable = frozenset({"steps"} if training.recipe.learning_rate_schedule == "constant" else ())
    with Workdir(path, settings, given, extendable=extendable) as workdir:
        kept = dict(workdir.config)
        simulation = SimulationConfig(**kept.pop("simulation"))
        training = TrainingConfig(**kept | {"recipe": Recipe(**kept["recipe"])})
        recipe = training.recipe
        dictionary = simulate_for_training(simulation)
        _check_unchanged(workdir.path / "dictionary.json", dictionary)
        data = prepare(dictionary, recipe, split=training.shares, seed=training.seed)
        state = init_state(recipe, data, training.seed)
        with Checkpoints(workdir.path / "checkpoints") as checkpoints:
            state = _resumed(checkpoints, state, workdir)
            rows = workdir.rows(int(state.step))
            start, start_core = time.perf_counter(), time.process_time()
            state = _advance(training, data, state, checkpoints, workdir, rows)
            seconds, core_seconds = time.perf_counter() - start, time.process_time() - start_core
        generator = finish(recipe, state.params, data, dictionary)
        save_generator(workdir.path / "generator.npz", generator)
    return Run(training, dictionary, data, state, generator, rows, seconds, core_seconds)


def _resumed(checkpoints, state, workdir):
    restored = checkpoints.restore(state)
    step = 0 if restored is None else restored[0]
    if (recorded := workdir.last_step()) > step:
        warnings.warn(
            f"{workdir.path} has records up to step {recorded}, but no checkpoint after {step}: going on from there",
            stacklevel=2,
        )
    if restored is None:
        return state
    print(f"{workdir.path}: going on from step {step}", flush=True)
    return restored[1]


def _advance(training, data, state, checkpoints, workdir, rows):
    recipe, first = training.recipe, int(state.step)
    with tqdm.tqdm(
        total=recipe.steps, initial=first, desc="training", unit="step", disable=not sys.stderr.isatty()
    ) as bar:
        for trained, row in fit(recipe, data, state, seed=training.seed, chunk=training.every):
            state = trained
            checkpoints.save(row["step"], state)
            workdir.record(row)
            rows.append(row)
            bar.update(row["step"] - bar.n)
            bar.set_postfix_str(f"validation error {row.get('validation_error', row['train_error']):.1e}")
    return state


def _check_unchanged(path, dictionary):
    """Refuses a folder whose run learned from other tissue or another sequence, under flags that look the same."""
    arrays = jax.tree.leaves((dictionary.tissue, dictionary.sequence, dictionary.slice_profile))
    checksum = {"crc32": zlib.crc32(b"".join(np.asarray(array).tobytes() for array in arrays))}
    if path.exists():
        if json.loads(path.read_text(encoding="utf-8")) != checksum:
            raise ValueError(f"{path.parent} was trained with another sequence or grid than its flags give now")
        return
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(checksum) + "\n", encoding="utf-8")
