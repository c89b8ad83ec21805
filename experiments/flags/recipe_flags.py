"""The flags of a training run: a preset, and every field of its recipe that is to differ."""

import dataclasses
import inspect
import re

from absl import flags

from ganmrf.gan.recipes import CHOICES, PRESETS, Recipe, recipe
from ganmrf.runs.configs import TrainingConfig

# The meaning of each field, as the docstring of `Recipe` gives it.
_MEANINGS = dict(re.findall(r"^  (\w+): (.+?)(?=^  \w+: |^$)", inspect.getdoc(Recipe), re.MULTILINE | re.DOTALL))
_DEFINE = {int: flags.DEFINE_integer, float: flags.DEFINE_float, bool: flags.DEFINE_bool}

_PRESET = flags.DEFINE_enum("preset", "best", list(PRESETS), "recipe whose fields are the defaults of the flags below")
_SPLIT = flags.DEFINE_string("split", "0.6,0.2,0.2", "shares of the training, validation and test set")
_SEED = flags.DEFINE_integer("seed", 0, "of the split, the networks, the batches and z")
_EVERY = flags.DEFINE_integer("every", None, "steps between two records and checkpoints; default: a 20th of --steps")


def _define(field):
    meaning = " ".join(_MEANINGS[field.name].split())
    if field.name in CHOICES:
        return flags.DEFINE_enum(field.name, None, CHOICES[field.name], meaning)
    return _DEFINE[field.type](field.name, None, meaning)


_FIELDS = {field.name: _define(field) for field in dataclasses.fields(Recipe)}


def training_config() -> TrainingConfig:
    """The parsed flags."""
    chosen = {name: flag.value for name, flag in _FIELDS.items() if flag.value is not None}
    if _EVERY.value is not None and _EVERY.value < 1:
        raise ValueError(f"--every must be at least 1; got {_EVERY.value}")
    made = recipe(_PRESET.value, **chosen)
    every = _EVERY.value or max(made.steps // 20, 1)
    return TrainingConfig(_PRESET.value, made, _SPLIT.value, _SEED.value, every)
