"""The study of volume fractions: known components are as good as their bound, a wrong T2 or B1 biases them."""

import jax
import numpy as np
import pytest

from experiments.studies.errors import chosen
from experiments.studies.volume_fractions import MYELIN, Config, measure

pytestmark = pytest.mark.usefixtures("quick_compiler")


def test_known_components_reach_the_bound_and_wrong_ones_do_not():
    config = Config(frames=150, voxels=64, seeds=(3,), snr=300.0)
    with jax.enable_x64(True):
        rows = measure(config)
    found = {row["method"]: row for row in chosen(rows, mixture="white matter", component=MYELIN)}
    known, wrong, at_b1, *others = found.values()
    assert known["spread"] < 1.5 * known["bound"]  # 64 voxels tell it to 9 %
    assert abs(known["mean"] - known["truth"]) < known["bound"]
    assert wrong["mean"] - wrong["truth"] > 0.02
    assert at_b1["mean"] - at_b1["truth"] > 0.02
    atoms, few, refined = others
    assert max(few["spread"], refined["spread"]) < atoms["spread"]
    assert abs(refined["mean"] - refined["truth"]) < abs(few["mean"] - few["truth"]) / 2
    for method in found:
        total = sum(row["mean"] for row in chosen(rows, method=method, mixture="white matter"))
        np.testing.assert_allclose(total, 1, rtol=1e-9)
