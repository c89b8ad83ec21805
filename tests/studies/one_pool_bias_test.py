"""The study of one pool for two: right where the second pool is empty, and off the more of it there is."""

import jax
import numpy as np
import pytest

from experiments.studies.errors import chosen
from experiments.studies.one_pool_bias import Config, measure

pytestmark = pytest.mark.usefixtures("quick_compiler")


@pytest.mark.parametrize("kind", ["semisolid", "exchanging"])
def test_one_pool_reads_the_truth_of_an_empty_second_pool_alone(kind):
    with jax.enable_x64(True):
        rows = measure(Config((kind,), (0.0, 0.3), ("jiang2015",), 120))
    white = chosen(rows, tissue="white matter")
    empty, much, own = white
    assert own["of_tissue"]
    assert 0.1 < own["fraction"] < 0.3
    assert max(abs(empty["t1_error"]), abs(empty["t2_error"]), empty["residual"]) < 1e-4  # states for 1e-4 of a signal
    assert 0 > own["t1_error"] > much["t1_error"]
    assert 1e-3 < own["residual"] < much["residual"]
    np.testing.assert_allclose([row["true_t1"] for row in white], white[0]["true_t1"])
