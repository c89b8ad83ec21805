"""The study of fits without a grid: both engines find the same tissue, and bad input is one line."""

import numpy as np
import pytest

from experiments.studies.continuous_fit import Config, measure
from ganmrf.anchors.anchor_set import build_anchor_set
from ganmrf.anchors.generator import radial_generator
from ganmrf.anchors.generator_file import save_generator
from ganmrf.physics.tissue_box import TissueBox

pytestmark = pytest.mark.usefixtures("quick_compiler")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    box = TissueBox(("t1", "t2"), [0.4, 0.04], [2.0, 0.2])
    anchor_set = build_anchor_set(box, None, n_anchors=48, n_sequences=2, n_frames=40, n_candidates=256)
    path = tmp_path_factory.mktemp("generator") / "generator.npz"
    save_generator(path, radial_generator(anchor_set))
    return str(path)


def test_both_engines_end_in_the_same_valley(path):
    rows = measure(Config(generator=path, frames=60, voxels=64, simulated=32, snr=500.0))
    (both,) = [row for row in rows if row["row"] == "both"]
    assert both["same_valley"] == 1
    for row in rows:
        if row["row"] == "parameter" and row["engine"] in ("generator", "simulator"):
            assert abs(row["bias"]) < 0.8  # four standard deviations of a mean of 32, and more
            assert 0.6 < row["spread"] < 1.5
    costs = {row["engine"]: row["core_seconds"] for row in rows if row["row"] == "cost"}
    assert set(costs) == {"generator", "simulator", "generator, no noise"}
    clean = [row["median"] for row in rows if row.get("engine") == "generator, no noise" and "median" in row]
    assert len(clean) == 2
    assert np.max(clean) < 1e-2
    for row in rows:
        if row["row"] == "parameter":  # without noise there is no bound that errors could be told in
            assert (row["bias"] is None) == (row["spread"] is None) == (row["engine"] == "generator, no noise")


def test_what_is_known_is_not_fitted(path):
    rows = measure(Config(generator=path, frames=60, voxels=16, simulated=8, known=("t2",)))
    assert {row["parameter"] for row in rows if row["row"] == "parameter"} == {"t1"}


def test_bad_input(path):
    with pytest.raises(ValueError, match="known must be axes of the generator, t1, t2; got b1"):
        measure(Config(generator=path, known=("b1",)))
    with pytest.raises(ValueError, match="known names all axes"):
        measure(Config(generator=path, known=("t1", "t2")))
    with pytest.raises(ValueError, match="simulated must be voxels, 10, or fewer; got 20"):
        Config(generator=path, voxels=10, simulated=20)
