"""Generators for any sequence as a user makes, resumes, uses and judges them."""

import json
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.npz import load_dictionary
from ganmrf.physics.sequences.cardiac import cardiac_mrf

ROOT = pathlib.Path(__file__).parents[2]
SMALL = ("--frames=60", "--t1_range_ms=100,3000", "--t2_range_ms=10,500", "--sequences=4", "--candidates=128")
TRUNK = (*SMALL, "--anchors=32", "--width=48", "--depth=2", "--steps=120", "--tissues=256", "--refit_tissues=512")
GRID = ("--t1_ms=200:1400:200", "--t2_ms=20:120:20")


def command(experiment, *flags):
    return [sys.executable, "-m", f"experiments.{experiment}", *flags]


def run(experiment, *flags):
    return subprocess.run(command(experiment, *flags), cwd=ROOT, capture_output=True, text=True)


def ends(folder):
    with np.load(folder / "generator.npz") as archive:
        return dict(archive)


@pytest.fixture(scope="module")
def trunk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "trunk"
    done = run("train_anchored", f"--workdir={folder}", *TRUNK)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "trunk, mean" in done.stdout
    assert "radial_spread, mean" in done.stdout
    assert (folder / "report.html").read_text().count("data:image/png;base64") == 3
    return folder


def test_a_killed_making_ends_as_if_it_had_not_been(trunk, tmp_path):
    folder = tmp_path / "run"
    process = subprocess.Popen(command("train_anchored", f"--workdir={folder}", *TRUNK), cwd=ROOT)
    metrics = folder / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.read_text().count("\n") >= 2):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = run("train_anchored", f"--workdir={folder}")  # everything else is read back
    assert done.returncode == 0, done.stderr
    assert "going on from step" in done.stdout
    one, other = ends(folder), ends(trunk)
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)
    done = run("train_anchored", f"--workdir={folder}", "--b1_range=0.8,1.2")
    assert done.returncode == 2
    assert "--b1_range=0.8,1.2 conflicts with None" in done.stderr


def test_a_heart_rhythm_becomes_its_dictionary(trunk, tmp_path):
    output = tmp_path / "patient.npz"
    rhythm = "--rr_ms=800,1100,620,800"
    flags = (f"--generator={trunk / 'generator.npz'}", f"--output={output}", rhythm, "--frames_per_beat=20", *GRID)
    done = run("cardiac_dictionary", *flags, "--check")
    assert done.returncode == 0, done.stderr
    assert "4 beats, 80 frames, 32 anchors; error at held-out tissues" in done.stdout
    found = load_dictionary(output)
    sequence = cardiac_mrf([0.8, 1.1, 0.62, 0.8], frames_per_beat=20)
    np.testing.assert_allclose(found.sequence.repetition_time, sequence.repetition_time, rtol=1e-6)
    truth = build_dictionary(sequence, found.tissue)
    assert np.linalg.norm(found.fingerprints - truth.fingerprints, axis=1).mean() < 0.05  # 60 frames taught it little
    assert output.with_suffix(".html").read_text().count("data:image/png;base64") == 3


def test_a_generator_is_judged(trunk, tmp_path):
    small = ("--frames=60", "--sequences=4", "--tissues=20", "--maps=1", "--size=32", "--rounds=1")
    generator = f"--generator={trunk / 'generator.npz'}"
    done = run("evaluate_anchored", f"--output={tmp_path / 'evaluated'}", generator, *small, *GRID)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "evaluated" / "evaluation.json").read_text())["trunk"]
    assert set(found["errors"]) == {"published, 1000 frames", "published, 500 frames", "random", "heart rhythms"}
    for by_size in found["errors"].values():
        assert by_size["32"]["mean"] < by_size["16"]["mean"] < by_size["16"]["quantile_99"] < 1
    assert set(found["outside"]) == {"t1 below", "t1 above", "t2 below", "t2 above"}
    assert found["outside"]["t2 above"][-1] > found["outside"]["t2 above"][0]
    assert found["gradient"]["flip_angle"] < 0.1
    assert (tmp_path / "evaluated" / "report.html").read_text().count("data:image/png;base64") == 3


def test_a_table_with_b1_and_a_slice_profile(tmp_path):
    table, output, b1 = tmp_path / "table", tmp_path / "d.npz", "--b1=0.9,1.0"
    flags = (f"--workdir={table}", "--kind=table", "--anchors=32", "--b1_range=0.8,1.2", *SMALL, b1, *GRID)
    done = run("train_anchored", *flags, "--slice_nodes=2")
    assert done.returncode == 0, done.stderr
    flags = (f"--generator={table / 'generator.npz'}", f"--output={output}", "--frames=60", b1, *GRID)
    done = run("generate_dictionary", *flags)
    assert done.returncode == 0, done.stderr
    found = load_dictionary(output)
    assert found.slice_profile.nodes.shape == (2,)
    truth = build_dictionary(found.sequence, found.tissue, slice_profile=found.slice_profile)
    assert np.linalg.norm(found.fingerprints - truth.fingerprints, axis=1).mean() < 0.05
    done = run("generate_dictionary", *flags, "--slice_nodes=3")
    assert done.returncode == 2
    assert "--slice_nodes gives another slice profile" in done.stderr


def test_bad_input_is_one_line(trunk, tmp_path):
    generator, output = f"--generator={trunk / 'generator.npz'}", f"--output={tmp_path / 'd.npz'}"
    for experiment, flags, message in (
        ("cardiac_dictionary", (generator, "--rr_ms=800,-5"), "--rr_ms must be positive numbers"),
        ("cardiac_dictionary", (generator, "--rr_ms=800,200"), "--rr_ms: 200 is shorter than a block of 50 frames"),
        ("cardiac_dictionary", (generator, "--rr_ms=800", "--frames=9"), "--frames: the rhythm makes this sequence"),
        ("generate_dictionary", (generator, "--t1_ms=4000", "--t2_ms=50"), "t1 = 4, 33.3 % beyond 0.1 to 3"),
        ("generate_dictionary", (generator, "--accuracy=1e-12", *GRID), "no number of anchors reaches an accuracy"),
        ("benchmark_generation", (generator,), "is a generator for any sequence (of train_anchored)"),
    ):
        done = run(experiment, *flags, *([] if experiment == "benchmark_generation" else [output]))
        assert done.returncode == 2, done.stderr
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
    assert not (tmp_path / "d.npz").exists()
    done = run("train_anchored", f"--workdir={tmp_path / 'w'}", "--t1_range_ms=3000,10")
    assert done.returncode == 2
    assert "--t1_range_ms must be two positive numbers, the lower one first; got '3000,10'" in done.stderr


def test_any_sequence_is_generated_from_the_command_line(trunk, tmp_path):
    output = tmp_path / "d.npz"
    flags = (f"--generator={trunk / 'generator.npz'}", f"--output={output}", "--frames=60", "--accuracy=0.1", *GRID)
    done = run("generate_dictionary", *flags)
    assert done.returncode == 0, done.stderr
    assert "anchors; error at held-out tissues" in done.stdout
    found = load_dictionary(output)
    truth = build_dictionary(found.sequence, found.tissue)
    assert np.linalg.norm(found.fingerprints - truth.fingerprints, axis=1).max() < 0.1
