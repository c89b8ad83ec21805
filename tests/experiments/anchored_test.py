"""Generators for any sequence of a kind as a user makes, resumes and uses them."""

import signal
import subprocess
import time

import numpy as np
import pytest

from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.npz import load_dictionary
from ganmrf.physics.sequences.cardiac import published_cardiac
from ganmrf.runs.anchoring import AnchoredConfig, make_in_folder
from ganmrf.runs.workdir import read_config
from tests.commands import ROOT, UNIFORM, run, words

pytestmark = pytest.mark.usefixtures("quick_compiler")

# Frames of random sequences as of a heart beat, so that one program simulates both.
SMALL = ("--frames=50", "--t1_range_ms=100,3000", "--t2_range_ms=10,500", "--sequences=4", "--candidates=128")
NETWORK = ("--width=32", "--depth=2", "--steps=60", "--tissues=128", "--refit_tissues=256", "--batch_size=64")
TRUNK = (*SMALL, *NETWORK, "--anchors=32")
GRID = ("--t1_ms=200:1400:200", "--t2_ms=20:120:20")
FEW = ("--frames_per_beat=10", *GRID)
LARGE = "--t1_ms=1000:2200:1", "--t2_ms=20:500:1"  # of 1000 frames more than MATLAB has a variable for
BEATS = (f"--rr_ms={'800,' * 19}800", "--frames_per_beat=50")  # 1000 frames, too


def ends(folder):
    with np.load(folder / "generator.npz") as archive:
        return dict(archive)


@pytest.fixture(scope="module")
def trunk(tmp_path_factory):
    """A generator whose making was killed, and gone on with."""
    folder = tmp_path_factory.mktemp("runs") / "trunk"
    process = subprocess.Popen(words("train_anchored", f"--workdir={folder}", *TRUNK), cwd=ROOT)
    metrics = folder / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.read_text().count("\n") >= 2):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (folder / "generator.npz").exists()
    done = run("train_anchored", f"--workdir={folder}")  # everything else is read back
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert "going on from step" in done.stdout
    assert "radial_spread" in done.stdout  # beside the trunk
    return folder


def test_the_report_has_figures_and_every_setting(trunk):
    report = (trunk / "report.html").read_text(encoding="utf-8")
    assert report.count("data:image/png;base64") == 4  # errors, three fingerprints, anchors, training
    for name in ("anchors", "t1_range_ms", "frames", "slice_nodes"):
        assert name in report


def test_a_killed_making_ends_as_if_it_had_not_been(trunk, tmp_path):
    make_in_folder(tmp_path, read_config(trunk, AnchoredConfig()), progress=False)
    one, other = ends(trunk), ends(tmp_path)
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


def test_a_heart_rhythm_becomes_its_dictionary(tmp_path):
    output = tmp_path / "patient.npz"
    done = run("cardiac_dictionary", f"--output={output}", "--rr_ms=800,1100,620,800", *FEW, UNIFORM)
    assert done.returncode == 0, done.stderr
    assert "4 beats, 40 frames" in done.stdout
    found = load_dictionary(output)
    truth = build_dictionary(published_cardiac([0.8, 1.1, 0.62, 0.8], frames_per_beat=10), found.tissue)
    np.testing.assert_allclose(found.fingerprints, truth.fingerprints, atol=1e-6)  # float32
    assert output.with_suffix(".html").read_text(encoding="utf-8").count("data:image/png;base64") == 3


ALONE = "--preparations_ms=inversion:21,none,none,none,none"


def test_a_heart_rhythm_without_preparations_between_the_beats_is_generated(trunk, tmp_path):
    output = tmp_path / "patient.npz"
    rhythm = "--rr_ms=800,1100,620,800,900"
    flags = (f"--generator={trunk / 'generator.npz'}", f"--output={output}", rhythm, *FEW)
    done = run("cardiac_dictionary", *flags, ALONE, "--check", "--allow_error=1")
    assert done.returncode == 0, done.stderr
    assert "5 beats, 50 frames" in done.stdout
    assert "32 anchors" in done.stdout
    assert done.stdout.count("largest") == 2  # by the certificate, and by the check
    found = load_dictionary(output)
    np.testing.assert_allclose(
        found.sequence.repetition_time[9::10][:4], np.array([800, 1100, 620, 800]) / 1e3 - 9 * 5.1e-3, rtol=1e-5
    )
    truth = build_dictionary(found.sequence, found.tissue)
    assert np.linalg.norm(found.fingerprints - truth.fingerprints, axis=1).mean() < 0.05  # 50 frames taught it little
    report = output.with_suffix(".html").read_text(encoding="utf-8")
    assert report.count("data:image/png;base64") == 3
    assert "--slice_model" not in report  # the slice is that of the generator


def test_any_sequence_is_generated_from_the_command_line(trunk, tmp_path):
    output = tmp_path / "d.npz"
    flags = (f"--generator={trunk / 'generator.npz'}", f"--output={output}", "--frames=50", "--accuracy=0.1", *GRID)
    done = run("generate_dictionary", *flags)
    assert done.returncode == 0, done.stderr
    assert "largest" in done.stdout
    found = load_dictionary(output)
    truth = build_dictionary(found.sequence, found.tissue)
    assert np.linalg.norm(found.fingerprints - truth.fingerprints, axis=1).max() < 0.1


@pytest.mark.parametrize(
    ("job", "flags", "message"),
    [
        ("cardiac_dictionary", ("--rr_ms=800,-5", "--output=d.npz"), ("--rr_ms", "above 0", "-5")),
        ("cardiac_dictionary", ("--rr_ms=800,200,900", "--output=d.npz"), ("--rr_ms", "beat 2", "200 ms")),
        ("cardiac_dictionary", ("--rr_ms=800", "--frames=9", "--output=d.npz"), ("--frames", "cardiac_dictionary")),
        (
            "generate_dictionary",
            ("--t1_ms=4000", "--t2_ms=50", "--output=d.npz"),
            ("t1 = 4000 ms", "33.3 %", "3000 ms"),
        ),
        ("generate_dictionary", ("--frames=50", "--accuracy=1e-12", *GRID, "--output=d.npz"), ("accuracy", "1e-12")),
        (
            "generate_dictionary",
            ("--frames=50", "--allow_error=1e-9", *GRID, "--output=d.npz"),
            ("allow_error", "1e-09"),
        ),
        ("generate_dictionary", (*LARGE, "--output=d.mat"), ("d.mat", "2.2 GiB", ".npz")),
        ("cardiac_dictionary", (*LARGE, *BEATS, "--output=d.mat"), ("d.mat", "2.2 GiB", ".npz")),
        ("benchmarks.generation", (), ("for any sequence of a kind", "train_anchored")),
    ],
)
def test_bad_input_is_one_line(trunk, monkeypatch, tmp_path, job, flags, message):
    monkeypatch.chdir(tmp_path)
    done = run(job, f"--generator={trunk / 'generator.npz'}", *flags)
    assert done.returncode == 2, done.stderr
    assert all(part in done.stderr for part in message)
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--t1_range_ms=3000,10",), ("--t1_range_ms", "the lower one first", "3000,10")),
        (("--schedule=mine.csv",), ("--schedule", "train_anchored")),
        (("--kind=forest",), ("kind", "forest", "trunk")),
        (("--anchors=0",), ("--anchors", "at least 16", "0")),
    ],
)
def test_what_cannot_be_made_is_refused(tmp_path, flags, message):
    done = run("train_anchored", f"--workdir={tmp_path / 'w'}", *flags)
    assert done.returncode == 2
    assert all(part in done.stderr for part in message)
    assert done.stderr.count("\n") == 1


def test_other_settings_than_those_of_the_folder_are_refused(trunk):
    done = run("train_anchored", f"--workdir={trunk}", "--b1_range=0.8,1.2")
    assert done.returncode == 2
    assert "--b1_range=0.8,1.2 conflicts with None" in done.stderr
    assert done.stderr.count("\n") == 1
