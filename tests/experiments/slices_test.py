"""Commands assume the slice that a scanner excites, say so, and tell what other models of it cost."""

import json

import numpy as np
import pytest

from ganmrf.dictionary.npz import load_dictionary
from ganmrf.physics.slice_profile import FullSlice
from tests.commands import run

pytestmark = pytest.mark.usefixtures("quick_compiler")
GRID = ("--t1_ms=700:1500:100", "--t2_ms=50:130:4")


def test_a_brain_is_mapped_with_every_model_of_its_slice(tmp_path):
    done = run("map_brain", f"--output={tmp_path / 'w'}", "--size=24", "--frames=120", "--snr=0", *GRID)
    assert done.returncode == 0, done.stderr
    assert "slice: the full slice of a pulse of time-bandwidth 8 and a spoiler of 4 turns" in done.stdout
    metrics = json.loads((tmp_path / "w" / "metrics.json").read_text(encoding="utf-8"))
    bias = {model: rows["white matter"]["t2_bias"] for model, rows in metrics["slice_models"].items()}
    assert metrics["slice_models"]["full"]["white matter"] == metrics["tissues"]["white matter"]
    # Steps of 4 ms are 5 %, of which the mean is less; 4 turns spoil a slice of 8 incompletely.
    assert abs(bias["full"]) < 0.03
    assert bias["small tip"] < bias["partitioned"] < -0.05
    assert "Models of the slice" in (tmp_path / "w" / "report.html").read_text(encoding="utf-8")


def test_a_dictionary_is_of_the_slice_that_is_played(tmp_path):
    for name, flags in (("d", ()), ("turned", ("--rf_pulse=gauss", "--spoiler_turns=2.5"))):
        path = tmp_path / f"{name}.npz"
        done = run("simulate_dictionary", f"--output={path}", "--frames=20", "--t1_ms=800", "--t2_ms=40,80", *flags)
        assert done.returncode == 0, done.stderr
        assert "the full slice" in done.stdout
    one, other = (load_dictionary(tmp_path / f"{name}.npz") for name in ("d", "turned"))
    assert isinstance(one.slice_profile, FullSlice)
    assert (float(one.slice_profile.turns), float(other.slice_profile.turns)) == (4, 2.5)
    assert np.abs(one.fingerprints - other.fingerprints).max() > 0.01
