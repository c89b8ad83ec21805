"""The curve of a long training of the paper's network that is shipped."""

import numpy as np

from experiments.evaluation.long_run import long_run_rows
from experiments.reproduce import Config


def test_the_shipped_curve_is_of_what_reproduce_trains_by_default():
    rows = long_run_rows(None, Config(workdir="w").paper)
    steps, errors = np.array([[row["step"], row["train_error"]] for row in rows]).T
    assert steps[-1] >= 200_000
    late = steps >= 20_000
    slope, _ = np.polyfit(np.log(steps[late]), np.log(errors[late]), 1)
    assert -1 < slope < -0.4  # of the paper's text nothing is known; the first 110,000 steps fell as steps^-0.65


def test_another_sequence_has_no_shipped_curve():
    config = Config(workdir="w")
    simulation = config.job.simulation.on_grid("coarse")
    assert long_run_rows(None, type(config.job)(simulation, config.paper.training)) is None
