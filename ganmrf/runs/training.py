"""A generator trained in its folder: begun, gone on with from its newest checkpoint, or read for what it made."""

import dataclasses
import functools
import pathlib
from typing import NamedTuple

import jax
import numpy as np

from ganmrf.anchors.generator_file import save_generator
from ganmrf.dictionary.build import Dictionary, build_dictionary
from ganmrf.dictionary.slice_fields import fields_of_slice
from ganmrf.dictionary.zarr import open_dictionary
from ganmrf.dictionary.zarr_fill import begin_store, fill_store
from ganmrf.gan.checkpoint import Checkpoints
from ganmrf.gan.data import Data, split_and_scale
from ganmrf.gan.generate import TrainedGenerator, finish, generate
from ganmrf.gan.memory import require_training_memory
from ganmrf.gan.train import TrainState, fit, init_state
from ganmrf.metrics import fingerprint_errors
from ganmrf.runs.loop import TIMES, advance
from ganmrf.runs.simulation_config import SimulationConfig
from ganmrf.runs.training_config import TrainingJob
from ganmrf.runs.workdir import Workdir, check_unchanged, read_config, read_records

_ACCURACY = 1e-5  # of the dictionaries that are learned from and evaluated with: below what a generator reaches

_BETWEEN = 1024  # atoms between the trained off-resonances: their mean error is known to some per cent


class Run(NamedTuple):
    """A training run: what it learned from, where it stands, and its records so far."""

    job: TrainingJob
    dictionary: Dictionary
    data: Data
    state: TrainState
    rows: list[dict]

    @property
    def recipe(self):
        """How the generator is trained."""
        return self.job.training.recipe

    def generator(self, *, refit: bool | None = None) -> TrainedGenerator:
        """The generator; its output layer is solved for as ``refit`` says, or by default as the recipe says."""
        recipe = self.recipe if refit is None else dataclasses.replace(self.recipe, refit=refit)
        return finish(recipe, self.state.params, self.data, self.dictionary)


def simulate_accurately(simulation: SimulationConfig, store=None) -> Dictionary:
    """The dictionary of a configuration, more accurate than a generator of it can be.

    Args:
      simulation: sequence, tissue grid and slice profile.
      store: None for a dictionary in memory; or the ``.zarr`` folder that it is simulated to, and read from.
    """
    sequence, tissue, profile = simulation.sequence(), simulation.tissue(), simulation.slice_profile()
    if store is None:
        return build_dictionary(sequence, tissue, slice_profile=profile, accuracy=_ACCURACY)
    fill_store(begin_store(store, sequence, tissue, slice_profile=profile, accuracy=_ACCURACY))
    dictionary = open_dictionary(store)
    return dataclasses.replace(dictionary, norms=np.asarray(dictionary.norms))


def train_in_folder(
    path,
    job: TrainingJob | None = None,
    given: frozenset[str] | None = None,
    *,
    dictionary: Dictionary | None = None,
    progress: bool = True,
) -> Run:
    """Trains in a folder, from its newest whole checkpoint if it has one, to its end.

    On a CPU, XLA's threads add up large matrix products in parts: the last digits of wide networks depend on how many
    there are. After `ganmrf.parallel.start_on_one_thread` the same bits come out on any number of cores.

    Args:
      path: gets ``config.json``, ``metrics.jsonl``, ``checkpoints`` and ``generator.npz``.
      job: what to learn, and how. None: as the folder says, whose run is gone on with.
      given: names of the fields of ``job`` that the user gave; the others yield to those of a run that the folder
        holds. None: all of them.
      dictionary: what is learned from, as `simulate_accurately` makes it; None: it is simulated here.
      progress: whether to show progress.

    Raises:
      ValueError: a folder in use or of other settings, or a training that diverges.
    """
    begun = (pathlib.Path(path) / "config.json").exists()
    stored = read_config(path, TrainingJob()) if begun or job is None else job
    job = job or stored
    # A longer run of a constant learning rate begins as the shorter one did.
    extendable = frozenset({"steps"} if stored.training.recipe.learning_rate_schedule == "constant" else ())
    with Workdir(path, job, given, extendable=extendable) as workdir:
        run = _begin(workdir.config, dictionary)
        check_unchanged(workdir.path, _learned(run.dictionary), note=True)
        training = run.job.training
        chunks = functools.partial(fit, run.recipe, run.data, seed=training.seed, chunk=training.every)
        kept = {"note": losses, "recorded": _errors(run)}
        state, rows = advance(chunks, run.state, workdir, run.recipe.steps, **kept, progress=progress)
        run = run._replace(state=state, rows=rows)
        save_generator(workdir.path / "generator.npz", run.generator())
    return run


def read_run(path, dictionary: Dictionary | None = None) -> Run:
    """The run that a folder holds, as of its newest whole checkpoint; the folder stays as it is.

    Args:
      path: the folder.
      dictionary: what the run learned from, as `simulate_accurately` makes it; None: it is simulated here.

    Raises:
      ValueError: no run, no checkpoint yet, or a damaged folder.
    """
    path = pathlib.Path(path)
    run = _begin(read_config(path, TrainingJob()), dictionary, _blank_state)
    check_unchanged(path, _learned(run.dictionary))
    with Checkpoints(path / "checkpoints", read_only=True) as checkpoints:
        restored = checkpoints.restore(run.state)
    if restored is None:
        raise ValueError(f"{path} has no checkpoint yet")
    step, state = restored
    records = read_records(path, (*TIMES, *_errors(run)))  # after the checkpoint, whose record is older than it
    rows = [row for row in records if row["step"] <= step]
    if not rows or rows[-1]["step"] != step:
        raise ValueError(f"{path / 'metrics.jsonl'} has no record of step {step}, that of the newest checkpoint")
    return run._replace(state=state, rows=rows)


def errors_between_off_resonances(run: Run) -> np.ndarray | None:
    """Relative errors of unit fingerprints half-way between the off-resonances that a generator was trained at.

    They are of up to 1024 atoms of the dictionary of ``run``, drawn at random and moved half a step up, (atoms,); None
    where off-resonance is no axis.
    """
    tissue = jax.tree.map(np.asarray, run.dictionary.tissue.ravel())
    trained = () if tissue.off_resonance is None else np.unique(tissue.off_resonance)
    if len(trained) < 2:
        return None
    below = np.flatnonzero(tissue.off_resonance < trained[-1])
    atoms = tissue.rows(np.random.default_rng(0).choice(below, min(below.size, _BETWEEN), replace=False))
    place = np.searchsorted(trained, atoms.off_resonance)
    atoms = dataclasses.replace(atoms, off_resonance=(trained[place] + trained[place + 1]) / 2)
    sequence, profile = run.dictionary.sequence, run.dictionary.slice_profile
    simulated = build_dictionary(sequence, atoms, slice_profile=profile, accuracy=_ACCURACY)
    return fingerprint_errors(generate(run.generator(), atoms).fingerprints, simulated.fingerprints)


def losses(row: dict) -> str:
    """The last losses and the error of a record, in words."""
    shown = {name: value for name, value in row.items() if name.endswith("_loss")}
    shown["error"] = row.get("validation_error", row.get("train_error", np.nan))
    return ", ".join(f"{name.replace('_', ' ')} {value:.1e}" for name, value in shown.items())


def _begin(job, dictionary=None, make_state=init_state):
    """The run of these settings before its first step."""
    simulation, training = job.simulation, job.training
    require_training_memory(training.recipe, simulation.tissue().size, simulation.sequence().n_frames)
    dictionary = dictionary or simulate_accurately(simulation)
    of_split = {"split": training.split, "split_kind": training.split_kind}
    data = split_and_scale(dictionary, training.recipe, **of_split, seed=training.seed)
    return Run(job, dictionary, data, make_state(training.recipe, data, training.seed), [])


def _blank_state(recipe, data, seed):
    """A state for a checkpoint to be read into: of the shapes and dtypes of `init_state`, and nothing is compiled."""
    shapes = jax.eval_shape(lambda: init_state(recipe, data, seed))
    return jax.tree.map(lambda leaf: jax.device_put(np.zeros(leaf.shape, leaf.dtype)), shapes)


def _learned(dictionary):
    """What a run learns from, in arrays."""
    return dictionary.tissue, dictionary.sequence, fields_of_slice(dictionary.slice_profile)


def _errors(run):
    """Names of the errors in every record of a run."""
    return [f"{name}_error" for name in run.data.sets]
