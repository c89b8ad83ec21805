"""The study of heart rhythms: a nominal rhythm serves a regular heart, and no heart whose triggers are missed."""

import numpy as np
import pytest

from experiments.studies.arrhythmia import RHYTHMS, Config, intervals_of, measure
from experiments.studies.errors import chosen
from ganmrf.runs.preparation_config import PreparationConfig

pytestmark = pytest.mark.usefixtures("quick_compiler")


def test_the_true_rhythm_is_what_a_dictionary_must_have():
    rows = measure(Config(beats=5, rhythms=1, voxels=4, step=0.1, m0_over_noise=1e4))
    assert {row["rhythm"] for row in rows} == set(RHYTHMS)
    for tissue in ("myocardium", "blood"):
        nominal, simulated = (chosen(rows, tissue=tissue, dictionary=name) for name in ("nominal rhythm", "simulated"))
        assert max(abs(row["t1_bias"]) for row in simulated) < 0.1  # a step of the dictionary
        regular, missed = (chosen(nominal, rhythm=name)[0] for name in ("regular", "missed triggers"))
        assert regular["t1_bias"] == chosen(simulated, rhythm="regular")[0]["t1_bias"]
        assert abs(missed["t1_bias"]) > 0.1


@pytest.mark.parametrize("kind", RHYTHMS)
def test_rhythms_leave_room_for_a_train_and_keep_their_mean(kind):
    drawn = [intervals_of(kind, Config(beats=10), np.random.default_rng(seed)) for seed in range(50)]
    assert np.min(drawn) > 0.4
    skipped = 1.2 if kind == "missed triggers" else 1.0  # two of ten beats take twice as long
    assert np.mean(drawn) == pytest.approx(0.9 * skipped, rel=0.03)
    assert (np.ptp(drawn) > 0) == (kind != "regular")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"preparations_ms": ("t2",)}, "preparations_ms must be none, or .*; got t2"),
        ({"preparation": PreparationConfig(anchors=32)}, "anchors goes with --generator"),
    ],
)
def test_settings_that_do_not_go_together(fields, message):
    with pytest.raises(ValueError, match=message):
        Config(**fields)
