"""One network for a whole family of sequences: trained in a folder, resumed, and evaluated on sequences never seen."""

import dataclasses
import functools
import pathlib
import time

import numpy as np

from experiments.studies.sequence_input_data import SequenceInputTask, prepare_task, refit
from experiments.studies.variants import with_scaled_lambda
from ganmrf.gan.emission import generator_errors
from ganmrf.gan.recipes import Recipe
from ganmrf.gan.train import fit, init_state
from ganmrf.runs.loop import advance
from ganmrf.runs.workdir import Workdir

GAN, REGRESSION, LONGER = "conditional GAN", "regression", "regression, as long as the GAN"
L1, FLATTENED = "regression, l1", "regression, flip angles and TRs"
_REGRESSION = {"adversarial_weight": 0.0, "reconstruction_weight": 1.0}
_L1 = {"reconstruction": "l1", "reduction": "mean"}

# What differs in each recipe.
VARIANTS = {
    REGRESSION: _REGRESSION,
    GAN: {**_L1, "adversarial_weight": 1.0, "r1_weight": 1.0, "whiten": False},  # and lambda of the paper
    L1: {**_L1, "adversarial_weight": 0.0},  # what is left of it without the adversary
    FLATTENED: _REGRESSION,
    LONGER: _REGRESSION,
}


def train_and_evaluate(folder: pathlib.Path, settings: dict, variant: str, seed: int) -> dict:
    """Trains from the newest checkpoint in the folder to the end, and evaluates.

    ``settings`` are those of the study, but ``steps`` those of this run.

    Returns:
      ``steps``; ``seconds_per_step`` of a core, without compiling; ``discriminator_loss`` at the end, None without one;
      ``curve``, the core-seconds and the validation error after each chunk of steps; and for ``trained`` and ``refit``
      the core-seconds up to there, and mean and 99 % quantile of the error on the test set.

    Raises:
      ValueError: a training that diverges, or a folder in use.
    """
    start = time.process_time()
    task = SequenceInputTask(settings["frames"], settings["sequences"], seed, schedule_input=variant == FLATTENED)
    recipe = _recipe(variant, settings)
    data = prepare_task(task, recipe, n_evaluated=settings["judged"])
    if recipe.adversarial_weight:
        recipe = with_scaled_lambda(recipe, data.sets["validation"].fingerprints)
    state, rows = _trained(folder, task, recipe, data, settings["every"], start)
    trained = rows[-1]["core_seconds"]
    start = time.process_time()
    solved = refit(task, recipe, state.params, data.scaling, settings["refit_draws"])
    solving = time.process_time() - start
    return {
        "steps": rows[-1]["step"],
        "seconds_per_step": _seconds_per_step(rows),
        "discriminator_loss": rows[-1].get("discriminator_loss"),
        "curve": [[row["core_seconds"], row["validation_error"]] for row in rows],
        "trained": {"core_seconds": trained} | _errors(recipe, state.params, data),
        "refit": {"core_seconds": trained + solving} | _errors(recipe, solved, data),
    }


def steps_of_equal_time(regression: dict, gan: dict) -> int:
    """Steps of regression that take as long as the GAN's, from what `train_and_evaluate` found of both."""
    return round(gan["steps"] * gan["seconds_per_step"] / regression["seconds_per_step"])


def _recipe(variant, settings):
    names = ("width", "depth", "rank", "batch_size", "steps", "reconstruction_weight")
    common = {name: settings[name] for name in names}
    return Recipe(**{"residual": True, "refit": False} | common | VARIANTS[variant])


@dataclasses.dataclass(frozen=True)
class _Run:
    """What a run's own folder keeps."""

    steps: int


def _trained(folder, task, recipe, data, every, start):
    """The last state, and a row for every chunk; its core-seconds count from ``start``, over all attempts."""
    shown = dataclasses.replace(data, sets={"validation": data.sets["validation"]})
    with Workdir(folder, _Run(recipe.steps), frozenset()) as workdir:
        # A resumed run keeps the number of steps that was first fitted into the time budget.
        recipe = dataclasses.replace(recipe, steps=workdir.config.steps)
        draw = functools.partial(task.draw, data.scaling)
        chunks = functools.partial(fit, recipe, shown, seed=task.seed, chunk=every, draw=draw)
        spent = time.process_time() - start
        state = init_state(recipe, data, task.seed)
        return advance(chunks, state, workdir, recipe.steps, core_seconds=spent, progress=False)


def _seconds_per_step(rows):
    """Median over the chunks but the first, which compiles; over all of the first where it is the only one."""
    steps, seconds = (np.array([row[name] for row in rows]) for name in ("step", "core_seconds"))
    later = np.diff(seconds) / np.diff(steps)
    return float(np.median(later)) if later.size else float(seconds[0] / steps[0])


def _errors(recipe, params, data):
    errors = np.asarray(generator_errors(recipe, params, data.scaling, data.sets["test"]), float)
    return {"mean": float(errors.mean()), "quantile": float(np.quantile(errors, 0.99))}
