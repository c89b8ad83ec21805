"""What two studies share: every variant of a recipe is trained with every seed, in a folder of its own."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping

import numpy as np

from ganmrf.files import read_json, write_json
from ganmrf.gan.recipes import Recipe
from ganmrf.runs.side_by_side import run_side_by_side


def run_folder(path: pathlib.Path, variant: str, seed: int) -> pathlib.Path:
    """The folder of one run in the folder of its study."""
    return path / variant.replace(" ", "_").replace(",", "") / f"seed_{seed}"


def run_variants(train_and_evaluate: Callable, path: pathlib.Path, settings: Mapping) -> dict:
    """What every run found, by (variant, seed); one that has an ``evaluation.json`` in its folder is not made again.

    Args:
      train_and_evaluate: makes the folder it is given and, of folder, settings, variant and seed, a JSON dict;
        picklable.
      path: the folder of the study.
      settings: (variant, seed) -> settings of that run, in the order in which they are begun.
    """
    jobs = [(run_folder(path, *run), of_run, *run) for run, of_run in settings.items()]
    found = run_side_by_side(functools.partial(_evaluated, train_and_evaluate), jobs)
    return dict(zip(settings, found, strict=True))


def with_scaled_lambda(recipe: Recipe, fingerprints) -> Recipe:
    """The recipe for fingerprints of unit norm, where its lambda is meant for the paper's, over the largest value."""
    weight = recipe.reconstruction_weight / float(np.abs(fingerprints).max())
    return dataclasses.replace(recipe, reconstruction_weight=weight)


def _evaluated(train_and_evaluate, job):
    evaluation = job[0] / "evaluation.json"
    if not evaluation.exists():
        write_json(evaluation, train_and_evaluate(*job))
    return read_json(evaluation)
