"""A training run in its folder: begun, gone on with from its newest checkpoint, or read for what it made."""

import dataclasses
import functools
import json
import pathlib
import sys
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np
import tqdm

from ganmrf.anchors.generator_file import save_generator
from ganmrf.dictionary.build import Dictionary, build_dictionary
from ganmrf.files import replacing
from ganmrf.gan.checkpoint import Checkpoints
from ganmrf.gan.data import Data, split_and_scale
from ganmrf.gan.generate import TrainedGenerator, finish
from ganmrf.gan.train import DivergedError, TrainState, fit, init_state
from ganmrf.runs.configs import SimulationConfig, TrainingConfig, stored_configs
from ganmrf.runs.workdir import Workdir, read_config, read_records

_ACCURACY = 1e-5  # of the dictionaries that are learned from and judged by


class Run(NamedTuple):
    """What a run learned from, where it stands, and its records so far."""

    simulation: SimulationConfig
    training: TrainingConfig
    dictionary: Dictionary
    data: Data
    state: TrainState
    rows: list[dict]

    def generator(self, *, refit: bool | None = None) -> TrainedGenerator:
        """The generator, its output layer solved for or not; as the recipe says by default."""
        recipe = self.training.recipe
        if refit is not None:
            recipe = dataclasses.replace(recipe, refit=refit)
        return finish(recipe, self.state.params, self.data, self.dictionary)


def simulate_accurately(simulation: SimulationConfig) -> Dictionary:
    """The dictionary that the flags name, more accurate than a generator of it can be."""
    sequence, tissue, profile = simulation.sequence(), simulation.tissue(), simulation.slice_profile()
    return build_dictionary(sequence, tissue, slice_profile=profile, accuracy=_ACCURACY)


def train_in_folder(
    path, simulation: SimulationConfig, training: TrainingConfig, given: frozenset[str], *, progress: bool = True
) -> Run:
    """Trains in a folder, from its newest whole checkpoint if it has one.

    Args:
      path: gets ``config.json``, ``metrics.jsonl``, ``checkpoints`` and ``generator.npz``.
      simulation: the dictionary to learn.
      training: how.
      given: names of the settings that the user gave; the others yield to those of a run that the folder holds.
      progress: whether to show a progress bar where stderr is a terminal.

    Raises:
      ValueError: a folder in use or of other settings, or a training that diverges.
    """
    settings = {"simulation": dataclasses.asdict(simulation), **dataclasses.asdict(training)}
    # A longer run of a constant learning rate begins as the shorter one did.
    extendable = frozenset({"steps"} if training.recipe.learning_rate_schedule == "constant" else ())
    with Workdir(path, settings, given, extendable=extendable) as workdir:
        run = _begin(workdir.path, workdir.config)
        training = run.training  # as stored
        with Checkpoints(workdir.path / "checkpoints") as checkpoints:
            state, rows = resumed(checkpoints, run.state, workdir)
            trainer = functools.partial(fit, training.recipe, run.data, seed=training.seed, chunk=training.every)
            state = advance(trainer, state, rows, checkpoints, workdir, training.recipe.steps, progress=progress)
        run = run._replace(state=state, rows=rows)
        save_generator(workdir.path / "generator.npz", run.generator())
    return run


def read_run(path) -> Run:
    """The run that a folder holds, as of its newest whole checkpoint.

    Raises:
      ValueError: no run, or no checkpoint yet.
    """
    path = pathlib.Path(path)
    run = _begin(path, read_config(path))
    with Checkpoints(path / "checkpoints") as checkpoints:
        restored = checkpoints.restore(run.state)
    if restored is None:
        raise ValueError(f"{path} has no checkpoint yet")
    step, state = restored
    return run._replace(state=state, rows=[row for row in read_records(path) if row["step"] <= step])


def _begin(path, settings):
    """The run of these settings before its first step."""
    simulation, training = stored_configs(settings)
    dictionary = simulate_accurately(simulation)
    _check_unchanged(path / "dictionary.json", dictionary)
    data = split_and_scale(dictionary, training.recipe, split=training.shares, seed=training.seed)
    return Run(simulation, training, dictionary, data, init_state(training.recipe, data, training.seed), [])


def resumed(checkpoints: Checkpoints, state: TrainState, workdir: Workdir) -> tuple[TrainState, list[dict]]:
    """The state of the newest checkpoint, or ``state`` where there is none, and the records up to it."""
    restored = checkpoints.restore(state)
    step = 0 if restored is None else restored[0]
    if (recorded := max((row["step"] for row in read_records(workdir.path)), default=0)) > step:
        warnings.warn(
            f"{workdir.path} has records up to step {recorded}, but no checkpoint after {step}: going on from there",
            stacklevel=2,
        )
    if restored is not None:
        print(f"{workdir.path}: going on from step {step}", flush=True)
        state = restored[1]
    return state, workdir.rows(step)


def advance(
    trainer: Callable[[TrainState], Iterator],
    state: TrainState,
    rows: list[dict],
    checkpoints: Checkpoints,
    workdir: Workdir,
    steps: int,
    *,
    progress: bool,
) -> TrainState:
    """Trains to the end, and returns the last state.

    Args:
      trainer: `train.fit` but for the state.
      state: where to begin.
      rows: the records so far; those to come are added.
      checkpoints: get every state that ``trainer`` yields.
      workdir: gets every record.
      steps: number of all steps.
      progress: whether to show a progress bar where stderr is a terminal.
    """
    first = int(state.step)
    before = {name: rows[-1][name] if rows else 0.0 for name in ("seconds", "core_seconds")}
    start = {"seconds": time.perf_counter(), "core_seconds": time.process_time()}
    hidden = not (progress and sys.stderr.isatty())
    with tqdm.tqdm(total=steps, initial=first, desc="training", unit="step", disable=hidden) as bar:
        try:
            for trained, row in trainer(state):
                state = trained
                now = {"seconds": time.perf_counter(), "core_seconds": time.process_time()}
                row |= {name: round(before[name] + now[name] - start[name], 3) for name in now}
                workdir.record(row)  # before the checkpoint: a resumed run then has every record up to it
                checkpoints.save(row["step"], state)
                rows.append(row)
                bar.update(row["step"] - bar.n)
                error = row["validation_error" if "validation_error" in row else "train_error"]
                bar.set_postfix_str(f"validation error {error:.1e}")
        except DivergedError as error:
            kept = f"the last good checkpoint is that of step {rows[-1]['step']}" if rows else "there is no checkpoint"
            raise ValueError(f"{workdir.path}: {error}; {kept}") from error
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
