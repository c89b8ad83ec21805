"""Configuration of a training run: what a generator learns from, and how."""

import dataclasses

from ganmrf.gan.recipes import PRESETS, Recipe
from ganmrf.gan.split import SPLIT, SPLIT_KINDS, check_split
from ganmrf.runs.simulation_config import SimulationConfig
from ganmrf.settings import configuration, group, setting


@configuration
class TrainingConfig:
    """Training of a generator.

    Attributes:
      every: once made, a number: by default a twentieth of the steps.

    Raises:
      ValueError: a field that breaks its rule.
    """

    preset: str = setting(
        "regression", "recipe whose fields are the defaults of the flags below", choices=tuple(PRESETS)
    )
    recipe: Recipe = group(Recipe, presets=PRESETS, by="preset")
    split: tuple[float, ...] = setting(
        SPLIT, "shares of the training, validation and test set", at_least=0, repeats=True
    )
    split_kind: str = setting(
        "random",
        "how atoms are split: random, each by itself, so that an atom's neighbours on the grid mostly are in the "
        "training set; or blocked, where whole bands of T1 and of T2 are the validation and the test set",
        choices=SPLIT_KINDS,
    )
    seed: int = setting(0, "of the split, the networks, the batches and z", at_least=0)
    every: int | None = setting(
        None, "steps between two records and checkpoints; default: a 20th of --steps", at_least=1
    )

    def __post_init__(self):
        check_split(self.split, self.split_kind)
        if self.recipe == Recipe():
            object.__setattr__(self, "recipe", PRESETS[self.preset])
        if self.every is None:
            object.__setattr__(self, "every", max(self.recipe.steps // 20, 1))


@configuration
class TrainingJob:
    """What a training run learns from, and how."""

    simulation: SimulationConfig = group(SimulationConfig)
    training: TrainingConfig = group(TrainingConfig)

    def changed(self, **fields) -> "TrainingJob":
        """The same with some fields of the training or of its recipe changed."""
        own = {name: fields.pop(name) for name in vars(self.training) if name in fields}
        own["recipe"] = dataclasses.replace(own.get("recipe", self.training.recipe), **fields)
        return dataclasses.replace(self, training=dataclasses.replace(self.training, **own))
