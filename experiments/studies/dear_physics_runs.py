"""Generators of one dictionary that is dear to simulate: trained for the same time, and judged on tissues unseen."""

import dataclasses
import functools
import pathlib
import time

import jax
import numpy as np

from ganmrf.anchors.generator_file import load_anchored
from ganmrf.anchors.prepared import prepare
from ganmrf.dictionary.build import Dictionary
from ganmrf.dictionary.induced_bias import bias_to_noise
from ganmrf.dictionary.slice_fields import same_slice
from ganmrf.dictionary.zarr import open_dictionary
from ganmrf.dictionary.zarr_fill import begin_store, fill_store
from ganmrf.files import read_arrays, replacing
from ganmrf.gan.baselines import radial_basis_functions
from ganmrf.gan.data import split_and_scale
from ganmrf.gan.generate import generate
from ganmrf.gan.recipes import recipe
from ganmrf.gan.train import fit, init_state
from ganmrf.metrics import fingerprint_errors
from ganmrf.runs.simulation_config import SimulationConfig
from ganmrf.runs.training import train_in_folder
from ganmrf.runs.training_config import TrainingConfig, TrainingJob
from ganmrf.settings import from_plain

VARIANTS = "regression", "gan", "hinge", "wasserstein", "paper"  # presets of `train`
ADVERSARIES = VARIANTS[1:]
RADIAL, ANCHORS = "radial basis functions", "anchors"
_SPLIT = (0.9, 0.1, 0.0)  # the test set is simulated apart
_ACCURACY = 1e-4  # of what is simulated: far below what a network reaches in these dimensions
_TIMED = 20  # steps, after as many that compile: two turns of the eigenbasis of `soap`
_RECORDS = 10  # of a run
_STAGES = {False: "trained", True: "refit"}  # whether the output layer is solved for


def simulate_once(path: pathlib.Path, simulation: SimulationConfig, tissue) -> Dictionary:
    """The dictionary of some tissues, simulated to a ``.zarr`` folder, or read from there as far as it is done."""
    sequence, profile = simulation.sequence(), simulation.slice_profile()
    fill_store(begin_store(path, sequence, tissue, slice_profile=profile, accuracy=_ACCURACY), progress=True)
    return read_whole(path)


def read_whole(path) -> Dictionary:
    """A dictionary of a ``.zarr`` folder, in memory."""
    dictionary = open_dictionary(path)
    own = {name: np.asarray(getattr(dictionary, name)[:]) for name in ("fingerprints", "norms")}
    return dataclasses.replace(dictionary, tissue=jax.tree.map(np.asarray, dictionary.tissue), **own)


def held_out(simulation: SimulationConfig, number: int):
    """Tissues of the box that training sets are drawn from, spread at random and evenly, (number,)."""
    box = simulation.box()
    return box.spread(np.random.default_rng(1).random((number, len(box.names))))


def seconds_per_step(folder: pathlib.Path, settings: dict, variant: str, seed: int) -> dict:
    """Seconds of a core that a step of a variant takes, without compiling, as ``{"seconds": ...}``."""
    folder.mkdir(parents=True, exist_ok=True)
    own = dataclasses.replace(_recipe(settings, variant), steps=2 * _TIMED)
    data = split_and_scale(read_whole(settings["dictionary"]), own, split=_SPLIT, seed=seed)
    chunks = fit(own, data, init_state(own, data, seed), seed=seed, chunk=_TIMED)
    next(chunks)
    start = time.process_time()
    next(chunks)
    return {"seconds": (time.process_time() - start) / _TIMED}


def train_and_generate(folder: pathlib.Path, settings: dict, variant: str, seed: int) -> dict:
    """Trains from the newest checkpoint to the end, and generates the fingerprints of the tissues held out.

    The folder gets what `train_in_folder` writes and ``generated.npz``: fingerprints and norms before and after the
    output layer is solved for. Returned are the records, of ``rows``, and whether the layer was solved for, ``refit``.
    """
    own = dataclasses.replace(_recipe(settings, variant), steps=settings["steps"])
    training = TrainingConfig(variant, own, _SPLIT, seed=seed, every=max(own.steps // _RECORDS, 1))
    job = TrainingJob(from_plain(SimulationConfig(), settings["simulation"]), training)
    run = train_in_folder(folder, job, dictionary=read_whole(settings["dictionary"]), progress=False)
    tissue, arrays = read_whole(settings["held_out"]).tissue, {}
    for refit in sorted({False, own.refit}):
        made = generate(run.generator(refit=refit), tissue, allow_extrapolation=True)
        arrays |= {f"{_STAGES[refit]}_fingerprints": made.fingerprints, f"{_STAGES[refit]}_norms": made.norms}
    with replacing(folder / "generated.npz") as path:
        np.savez(path, allow_pickle=False, **arrays)
    return {"rows": run.rows, "refit": own.refit}


def _recipe(settings, variant):
    own, weight = recipe(variant), settings["reconstruction_weight"]
    if weight is not None and variant in ADVERSARIES:
        own = dataclasses.replace(own, reconstruction_weight=weight)
    return own


def load_fitting(path, simulation: SimulationConfig):
    """The generator for any sequence of a kind in a file, checked against a study.

    Raises:
      ValueError: a file that holds none, one of another slice, or a box that does not hold the tissues of the study.
    """
    generator = load_anchored(path)
    if not same_slice(generator.slice_profile, simulation.slice_profile()):
        raise ValueError(f"generator: {path} is for another slice than the flags name")
    try:
        generator.require_inside(held_out(simulation, simulation.random_atoms))
    except ValueError as error:
        raise ValueError(f"generator: {path}: {error}") from error
    return generator


def methods_beside(learned: Dictionary, truth: Dictionary, generator) -> dict[str, tuple[Dictionary, float]]:
    """What no network emits: name -> the dictionary of the tissues held out, and the core-seconds that it took.

    Args:
      learned: what the networks learn from.
      truth: the simulated dictionary of the tissues held out, whose norms stand in where a method has none.
      generator: None, or one for any sequence of a kind, whose anchors are simulated here.
    """
    found, start = {}, time.process_time()
    interpolate = radial_basis_functions(learned.tissue, learned.fingerprints)
    made = dataclasses.replace(truth, fingerprints=interpolate(truth.tissue))
    found[RADIAL] = made, time.process_time() - start
    if generator is not None:
        start = time.process_time()
        prepared = prepare(generator, truth.sequence, allow_error=1.0)  # judged here, whatever its error
        made = prepared.generate(truth.tissue, allow_extrapolation=True)
        found[f"{prepared.n_anchors} {ANCHORS}"] = made, time.process_time() - start
    return found


def generated_by(folder: pathlib.Path, truth: Dictionary, stage: str) -> Dictionary:
    """What a generator made of the tissues held out, ``trained`` or, with its output layer solved for, ``refit``."""
    arrays = read_arrays(folder / "generated.npz")
    own = {name: arrays[f"{stage}_{name}"] for name in ("fingerprints", "norms")}
    return dataclasses.replace(truth, **own)


def judge(truth: Dictionary, made: dict, noise: float, parameters, n_biased: int) -> dict[str, dict]:
    """Errors and biases by name of what was generated.

    Args:
      truth: the simulated dictionary of the tissues held out.
      made: name -> a generated one.
      noise: standard deviation, as `bias_to_noise` has it.
      parameters: that a fit estimates.
      n_biased: tissues whose bias is looked at, the first ones: their derivatives are several simulations each.

    Returns:
      Name -> ``errors``, (atoms,), and ``bias``, parameter -> bias over noise, (n_biased,).
    """
    rows = np.arange(min(n_biased, truth.norms.size))
    biases = bias_to_noise(truth, list(made.values()), noise, parameters=parameters, rows=rows, progress=True)
    errors = functools.partial(fingerprint_errors, simulated=truth.fingerprints)
    return {
        name: {"errors": errors(each.fingerprints), "bias": bias.parameters}
        for (name, each), bias in zip(made.items(), biases, strict=True)
    }


def noise_at(truth: Dictionary, snr: float) -> float:
    """Standard deviation of noise for a ratio of the root mean square of all signals to it."""
    return float(np.sqrt(np.mean(np.asarray(truth.norms, float) ** 2) / truth.sequence.n_frames) / snr)
