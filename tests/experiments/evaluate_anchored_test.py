"""Generators for any spoiled FISP without a network, as a user makes and evaluates them."""

import json

import numpy as np
import pytest

from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.npz import load_dictionary
from ganmrf.runs.anchoring import AnchoredConfig, make_in_folder
from ganmrf.runs.boxes import BoxConfig
from ganmrf.runs.simulation_config import SimulationConfig
from tests.commands import run

pytestmark = pytest.mark.usefixtures("quick_compiler")

# Sequences have 50 frames, as a heart beat has, so that one program simulates both.
BOX = {"ranges": BoxConfig(t1_range_ms=(100.0, 3000.0), t2_range_ms=(10.0, 500.0))}
GRID = ("--t1_ms=200:1400:400", "--t2_ms=20:120:20")


def test_a_generator_is_evaluated(tmp_path):
    config = AnchoredConfig(SimulationConfig(frames=50), "radial", **BOX, anchors=32, sequences=4, candidates=128)
    make_in_folder(tmp_path / "radial", config)
    small = ("--frames=50", "--sequences=4", "--foreign=3", "--tissues=20", "--maps=1", "--size=32", "--rounds=1")
    generator = f"--generator={tmp_path / 'radial' / 'generator.npz'}"
    flags = (f"--output={tmp_path / 'evaluated'}", generator, *small, *GRID)
    done = run("evaluate_anchored", *flags, "--recurrent_steps=20")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("recurrent network, as Liu 2021") == 2  # with its errors, and with its cost
    found = json.loads((tmp_path / "evaluated" / "evaluation.json").read_text(encoding="utf-8"))["radial"]
    assert set(found["errors"]) == {"published, 1000 frames", "published, 500 frames", "random", "heart rhythms"}
    for by_size in found["errors"].values():
        assert by_size["32"]["mean"] < by_size["16"]["mean"] < by_size["16"]["quantile_99"] < 1
    for by_family in found["certified"].values():
        assert set(by_family) == {"published", "constant flips", "random flips", "sinusoids", "extremes"}
        for each in (each for of_family in by_family.values() for each in of_family):
            assert each["printed"][0] < each["printed"][1] <= each["printed"][2]
            assert 0.2 < each["true"][0] / each["printed"][0] < 5
    assert found["certified"]["anchors"]["published"][0]["added"] == 0
    assert found["certified"]["completed"]["published"][0]["added"] > 0
    assert all(mean < largest for mean, largest in found["tangents"].values())
    assert set(found["outside"]) == {"t1 below", "t1 above", "t2 below", "t2 above"}
    assert found["outside"]["t2 above"][-1] > found["outside"]["t2 above"][0]
    assert found["gradient"]["flip_angle"] < 0.1
    assert set(found["bias_over_noise"]) == {"t1", "t2", "m0"}
    assert all(0 < each["mean"] <= each["quantile_99"] <= each["worst"] for each in found["bias_over_noise"].values())
    recurrent = found["recurrent"]
    assert recurrent["steps"] == 20
    assert recurrent["core_seconds"] > 0
    assert set(recurrent["errors"]) == set(found["errors"])
    assert all(0 < each["mean"] < each["quantile_99"] <= each["worst"] for each in recurrent["errors"].values())
    assert min(recurrent["generate"]) > 0
    report = (tmp_path / "evaluated" / "report.html").read_text(encoding="utf-8")
    assert report.count("data:image/png;base64") == 4  # errors, three fingerprints, outside the box, break-even
    assert "recurrent network, as Liu 2021" in report
    done = run("evaluate_anchored", *flags, "--recurrent_steps=30")
    assert done.returncode == 2
    assert "--recurrent_steps=30 conflicts with 20" in done.stderr
    assert str(tmp_path / "evaluated" / "recurrent" / "radial") in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_generator_of_pools_is_made_evaluated_and_used(tmp_path):
    small = ("--frames=50", "--sequences=2", "--candidates=64", "--anchors=32", "--kind=radial")
    box = ("--t1_range_ms=500,2500", "--t2_range_ms=30,200", "--fraction_range=0,0.3", "--tissue=semisolid")
    done = run("train_anchored", f"--workdir={tmp_path / 'pools'}", *small, *box)
    assert done.returncode == 0, done.stderr
    generator = f"--generator={tmp_path / 'pools' / 'generator.npz'}"
    small = ("--frames=50", "--sequences=4", "--foreign=4", "--tissues=16", "--rounds=1")
    done = run("evaluate_anchored", f"--output={tmp_path / 'evaluated'}", generator, *small)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "evaluated" / "evaluation.json").read_text(encoding="utf-8"))["pools"]
    assert found["axes"] == ["t1", "t2", "fraction"]
    assert set(found["outside"]) == {"t1 below", "t1 above", "t2 below", "t2 above", "fraction above"}
    assert not any(found[name] for name in ("maps", "gradient", "tangents"))
    assert found["cost"]["simulate"][1] > 0
    grid = ("--t1_ms=600:2400:600", "--t2_ms=40:160:40", "--fraction=0:0.3:0.1", "--tissue=semisolid")
    flags = (generator, f"--output={tmp_path / 'd.npz'}", "--frames=50", "--allow_error=1", *grid)
    assert "pulse_duration_ms is required" in run("generate_dictionary", *flags).stderr
    done = run("generate_dictionary", *flags, "--pulse_duration_ms=1.3")
    assert done.returncode == 0, done.stderr
    made = load_dictionary(tmp_path / "d.npz")
    truth = build_dictionary(made.sequence, made.tissue)
    assert np.linalg.norm(made.fingerprints - truth.fingerprints, axis=1).mean() < 0.05


def test_a_number_of_steps_below_0_is_refused(tmp_path):
    done = run("evaluate_anchored", f"--output={tmp_path}", f"--generator={__file__}", "--recurrent_steps=-1")
    assert done.returncode == 2
    assert "--recurrent_steps must be at least 0; got -1" in done.stderr


def test_a_table_with_b1_and_a_slice_profile(tmp_path):
    table, output, b1 = tmp_path / "table", tmp_path / "d.npz", "--b1=0.9,1.0"
    small = ("--frames=50", "--t1_range_ms=100,3000", "--t2_range_ms=10,500", "--sequences=4", "--candidates=128")
    flags = (f"--workdir={table}", "--kind=table", "--anchors=32", "--b1_range=0.8,1.2", *small, b1, *GRID)
    done = run("train_anchored", *flags, "--slice_nodes=2")
    assert done.returncode == 0, done.stderr
    flags = (f"--generator={table / 'generator.npz'}", f"--output={output}", "--frames=50", b1, *GRID)
    flags += ("--allow_error=1",)  # 4 sequences of 50 frames teach it little
    done = run("generate_dictionary", *flags)
    assert done.returncode == 0, done.stderr
    found = load_dictionary(output)
    assert found.slice_profile.nodes.shape == (2,)
    truth = build_dictionary(found.sequence, found.tissue, slice_profile=found.slice_profile)
    assert np.linalg.norm(found.fingerprints - truth.fingerprints, axis=1).mean() < 0.05
    done = run("generate_dictionary", *flags[:-1], "--slice_nodes=3")
    assert done.returncode == 2
    assert "this generator was made for another slice, pulse or spoiler" in done.stderr
    done = run("generate_dictionary", *flags, "--slice_nodes=3")  # is allowed any error
    assert done.returncode == 0, done.stderr
    assert load_dictionary(output).slice_profile.nodes.shape == (3,)
