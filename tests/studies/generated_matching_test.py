"""The study of generated dictionaries: exact decisions are exact, measured radii complete, and the rest is counted."""

import pytest

from experiments.studies.errors import chosen
from experiments.studies.generated_matching import Config, measure
from ganmrf.anchors.anchor_set import build_anchor_set
from ganmrf.anchors.generator import radial_generator
from ganmrf.anchors.generator_file import save_generator
from ganmrf.physics.tissue_box import TissueBox

pytestmark = pytest.mark.usefixtures("quick_compiler")


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    """A file of a generator of T1, T2 and B1, with few anchors and large errors."""
    box = TissueBox(("t1", "t2", "b1"), [0.3, 0.03, 0.8], [3.0, 0.4, 1.2])
    anchor_set = build_anchor_set(box, None, n_anchors=32, n_sequences=2, n_frames=60, n_candidates=128)
    path = tmp_path_factory.mktemp("generator") / "generator.npz"
    save_generator(path, radial_generator(anchor_set))
    return str(path)


def test_exact_decisions_and_measured_radii_give_the_same_atoms(generator):
    few = ("t1:8", "t2:8", "b1:3")
    config = Config(
        generator, 60, few, ("t1:12", "t2:12", "b1:5"), cells=60, complete=True, subject="random", voxels=60
    )
    rows, stages = measure(config)
    exact, generated = (chosen(rows, exact=each) for each in (True, False))
    assert [row["same"] for row in exact] == [1.0] * 4  # two forms, two noises
    assert all(0 < row["simulated"] < row["atoms"] and row["t2_rrmse"] == 0 for row in exact)
    assert min(row["same"] for row in generated) < 1
    assert max(row["simulated"] for row in generated) == 0
    assert [row["same"] for row in chosen(stages, search="two stages, measured")] == [1.0] * 2
    assert all(row["same"] > 0.9 for row in chosen(stages, search="two stages, reach 1"))


def test_axes_that_the_generator_does_not_have_are_named(generator):
    with pytest.raises(ValueError, match="values: the generator has no axis fraction, but t1, t2, b1"):
        measure(Config(generator, 60, ("fraction:4",), subject="random", voxels=2))
    with pytest.raises(ValueError, match=r"large must be axes and numbers of values, 2 or more.*got 't1=4'"):
        Config(generator, large=("t1=4",))
    with pytest.raises(ValueError, match=r"values names t1 twice: t1:3,t1:4"):
        Config(generator, values=("t1:3", "t1:4"))
    with pytest.raises(ValueError, match=r"large: a grid of .* atoms needs .* GB of memory.*: fewer values need less"):
        measure(Config(generator, 60, large=("t1:1000000", "t2:1000000"), subject="random", voxels=2))
