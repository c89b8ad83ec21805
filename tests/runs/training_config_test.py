"""Configuration of a training run: its defaults, and what it refuses."""

import dataclasses

import pytest

from ganmrf.runs.training_config import TrainingConfig

pytestmark = pytest.mark.usefixtures("quick_compiler")


def test_a_split_by_bands_wants_a_set_to_hold_out():
    with pytest.raises(ValueError, match=r"split must have a share .* split_kind=blocked; got \(1.0, 0.0, 0.0\)"):
        TrainingConfig(split=(1.0, 0.0, 0.0), split_kind="blocked")


def test_records_come_in_twentieths_of_a_training():
    assert TrainingConfig().every == TrainingConfig().recipe.steps // 20
    assert dataclasses.replace(TrainingConfig(), every=7).every == 7
