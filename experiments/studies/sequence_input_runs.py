"""One network for a whole family of sequences: trained in a folder, resumed, and judged on sequences never seen."""

import dataclasses
import json
import pathlib
import time

import jax.numpy as jnp
import numpy as np

from experiments.studies.sequence_input_data import DirectTask, prepare_direct, refit
from ganmrf.files import replacing
from ganmrf.gan.checkpoint import Checkpoints
from ganmrf.gan.recipes import Recipe
from ganmrf.gan.train import DivergedError, fit, init_state, relative_errors
from ganmrf.runs.workdir import Workdir

GAN, REGRESSION, LONGER = "conditional GAN", "regression", "regression, as long as the GAN"
L1, FLATTENED = "regression, l1", "regression, flip angles and TRs"
_REGRESSION = {"adversarial_weight": 0.0, "reconstruction_weight": 1.0}
_L1 = {"reconstruction": "l1", "reduction": "mean"}

# What differs in each recipe.
VARIANTS = {
    REGRESSION: _REGRESSION,
    GAN: _L1,  # with R1, and lambda of the paper
    L1: {**_L1, "adversarial_weight": 0.0},  # what is left of it without the adversary
    FLATTENED: _REGRESSION,
    LONGER: _REGRESSION,
}


def train_and_judge(folder: pathlib.Path, settings: dict, variant: str, seed: int) -> dict:
    """Trains from the newest checkpoint to the end, and judges; at once where the folder has a judgement already.

    Args:
      folder: gets ``config.json``, ``metrics.jsonl``, ``checkpoints`` and ``judgement.json``.
      settings: of the study; its ``steps`` are those of this run.
      variant: one of `VARIANTS`.
      seed: of the network and of everything that is trained on.

    Returns:
      ``steps``; ``seconds_per_step`` of a core, without compiling; ``discriminator_loss`` at the end, None without one;
      ``curve``, the core-seconds and the validation error after each chunk of steps; and for ``trained`` and ``refit``
      the core-seconds up to there, and mean and 99 % quantile of the error on the test set.

    Raises:
      ValueError: a training that diverges, or a folder in use.
    """
    judgement = folder / "judgement.json"
    if judgement.exists():
        return json.loads(judgement.read_text(encoding="utf-8"))
    start = time.process_time()
    task = DirectTask(
        n_frames=settings["frames"],
        sequence_input="schedule" if variant == FLATTENED else "parameters",
        n_sequences=settings["sequences"],
        seed=seed,
    )
    recipe = _recipe(variant, settings)
    data = prepare_direct(task, recipe, n_judged=settings["judged"])
    if recipe.adversarial_weight:
        # The paper's fingerprints are over the largest value, ours have unit norm.
        largest = float(jnp.abs(data.sets["validation"].fingerprints).max())
        recipe = dataclasses.replace(recipe, reconstruction_weight=recipe.reconstruction_weight / largest)
    state, rows = _trained(folder, task, recipe, data, settings["every"], start)
    trained = rows[-1]["core_seconds"]
    start = time.process_time()
    solved = refit(task, recipe, state.params, data.scaling, settings["refit_draws"])
    solving = time.process_time() - start
    found = {
        "steps": rows[-1]["step"],
        "seconds_per_step": _seconds_per_step(rows),
        "discriminator_loss": rows[-1].get("discriminator_loss"),
        "curve": [[row["core_seconds"], row["validation_error"]] for row in rows],
        "trained": {"core_seconds": trained} | _errors(recipe, state.params, data),
        "refit": {"core_seconds": trained + solving} | _errors(recipe, solved, data),
    }
    with replacing(judgement) as path:
        path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return found


def steps_of_equal_time(regression: dict, gan: dict) -> int:
    """Steps of regression that take as long as the GAN's, from what `train_and_judge` found of both."""
    return round(gan["steps"] * gan["seconds_per_step"] / regression["seconds_per_step"])


def _recipe(variant, settings):
    common = {name: settings[name] for name in ("width", "depth", "rank", "batch_size", "steps")}
    common |= {"reconstruction_weight": settings["reconstruction_weight"]}
    return Recipe(**{"residual": True, "refit": False} | common | VARIANTS[variant])


def _trained(folder, task, recipe, data, every, start):
    """The last state, and a row for every chunk; its core-seconds count from ``start``, over all attempts."""
    shown = dataclasses.replace(data, sets={"validation": data.sets["validation"]})
    with Workdir(folder, {"steps": recipe.steps}, frozenset()) as workdir, Checkpoints(folder / "checkpoints") as saved:
        recipe = dataclasses.replace(recipe, steps=workdir.config["steps"])  # where times decide, the first ones do
        state = init_state(recipe, data, task.seed)
        if (restored := saved.restore(state)) is not None:
            _, state = restored
        rows = workdir.rows(int(state.step))
        before = rows[-1]["core_seconds"] if rows else 0.0
        try:
            for trained, row in fit(
                recipe, shown, state, seed=task.seed, chunk=every, draw=lambda step: task.draw(data.scaling, step)
            ):
                state = trained
                row |= {"core_seconds": round(before + time.process_time() - start, 3)}
                workdir.record(row)  # before the checkpoint: a resumed run then has every record up to it
                saved.save(row["step"], state)
                rows.append(row)
        except DivergedError as error:
            raise ValueError(f"{folder}: {error}") from error
    return state, rows


def _seconds_per_step(rows):
    """Median over the chunks but the first, which compiles; over all of the first where it is the only one."""
    steps, seconds = (np.array([row[name] for row in rows]) for name in ("step", "core_seconds"))
    later = np.diff(seconds) / np.diff(steps)
    return float(np.median(later)) if later.size else float(seconds[0] / steps[0])


def _errors(recipe, params, data):
    errors = np.asarray(relative_errors(recipe, params, data.scaling, data.sets["test"]), float)
    return {"mean": float(errors.mean()), "quantile": float(np.quantile(errors, 0.99))}
