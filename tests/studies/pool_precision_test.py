"""The study of bounds of two pools: more unknowns never help, and noisy signals spread as their bounds say."""

import jax
import numpy as np
import pytest

from experiments.studies.pool_precision import Config, measure

pytestmark = pytest.mark.usefixtures("quick_compiler")


def test_bounds_rise_with_every_unknown_and_fits_spread_as_they_say():
    config = Config(frames=100, snr=3000.0, draws=200, checked_percent=0.5)  # fits of T1 and T2 alone
    with jax.enable_x64(True):
        rows = measure(config)
    fitted = [row for row in rows if row["measured"] is not None]
    assert fitted
    # The standard deviation of 200 is known to 5 %: five times that.
    np.testing.assert_allclose([row["measured"] / row["bound"] for row in fitted], 1, atol=0.25)
    for kind in ("semisolid", "exchanging"):
        of_t1 = {row["unknown"]: row["bound"] for row in rows if (row["tissue"], row["parameter"]) == (kind, "t1")}
        for fewer in of_t1:
            for more in of_t1:
                if set(fewer.split(", ")) < set(more.split(", ")):
                    assert of_t1[fewer] < of_t1[more] * (1 + 1e-6)
