"""The experiments as a user runs them: good flags give files, bad ones give one line and exit code 2."""

import json
import pathlib
import subprocess
import sys

import nibabel
import numpy as np
import pytest

from ganmrf.dictionary.store import load_dictionary
from ganmrf.imaging.phantom import digital_brain

ROOT = pathlib.Path(__file__).parents[2]


def run(experiment, *flags):
    command = [sys.executable, "-m", f"experiments.{experiment}", *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_a_dictionary_of_ones_own(tmp_path):
    schedule = tmp_path / "own.csv"
    schedule.write_text("fa_deg,tr_ms\n" + "".join(f"{10 + n},{12 + n / 10}\n" for n in range(20)))
    path = tmp_path / "own.npz"
    done = run(
        "simulate_dictionary",
        f"--output={path}",
        f"--schedule={schedule}",
        "--echo_time_ms=3",
        "--frames=15",
        "--t1_ms=100:500:100",
        "--t2_ms=50,80",
        "--slice_nodes=4",
        "--precision=float64",
    )
    assert done.returncode == 0, done.stderr
    assert "10 atoms of 15 frames" in done.stdout
    dictionary = load_dictionary(path)
    assert dictionary.fingerprints.shape == (10, 15)
    assert dictionary.fingerprints.dtype == np.float64
    assert dictionary.sequence.inversion_time is None
    np.testing.assert_allclose(dictionary.sequence.flip_angle, np.deg2rad(10 + np.arange(15)), rtol=1e-6)
    np.testing.assert_allclose(dictionary.sequence.echo_time, 0.003, rtol=1e-6)
    assert dictionary.slice_profile.nodes.shape == (4,)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--output=a.txt",), "--output must end in .npz or .mat; got a.txt"),
        (("--output=/nowhere/a.npz",), "--output: the folder /nowhere does not exist"),
        (("--output=a.npz", "--grid=medium"), "grid must be one of paper, coarse, fine; got 'medium'"),
        (("--output=a.npz", "--t1_ms=100"), "--t1_ms and --t2_ms go together"),
        (("--output=a.npz", "--schedule=none.csv"), "none.csv"),
        (("--output=a.npz", "--accuracy=0", "--frames=5", "--grid=coarse"), "accuracy must be positive; got 0.0"),
    ],
)
def test_bad_flags_are_one_line(flags, message):
    done = run("simulate_dictionary", *flags)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (ROOT / "a.npz").exists()


def test_main_job_on_a_small_brain(tmp_path):
    flags = ("--size=48", "--frames=120", "--grid=coarse", "--snr=50", "--rank=12", "--slice_nodes=2")
    done = run("map_brain", f"--output={tmp_path / 'brain'}", *flags)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "brain"
    metrics = json.loads((folder / "metrics.json").read_text())
    # The coarse grid steps T1 by 100 ms and T2 by 10 ms, half a step of 832 and 79 ms is 6 %; noise and mixture add.
    assert metrics["tissues"]["white matter"]["voxels"] > 20
    assert metrics["tissues"]["white matter"]["t1_rrmse"] < 0.12
    assert metrics["tissues"]["white matter"]["t2_rrmse"] < 0.12
    config = json.loads((folder / "config.json").read_text())
    assert (config["size"], config["simulation"]["frames"]) == (48, 120)
    image = nibabel.load(folder / "T1map.nii.gz")
    brain = digital_brain(size=48)
    np.testing.assert_allclose(image.affine, brain.affine)
    t1 = image.get_fdata()[..., 0].T
    np.testing.assert_array_equal(t1 > 0, brain.mask)
    report = (folder / "report.html").read_text()
    assert report.count("data:image/png;base64") == 7
    assert "Energy the basis leaves out" in report
    assert (folder / "maps.png").stat().st_size > 10_000


def test_the_table_of_slice_profiles(tmp_path):
    path = tmp_path / "table.json"
    done = run("slice_profile_accuracy", "--nodes=16,32", f"--output={path}")
    assert done.returncode == 0, done.stderr
    errors = {row["nodes"]: row["gauss"] for row in json.loads(path.read_text())["errors"]}
    assert errors[16] <= 1e-3
    assert errors[32] <= 1e-4


@pytest.mark.parametrize(
    ("flag", "message"),
    [("--size=8", "--size=8 is too coarse"), ("--snr=nan", "--snr must be 0 (no noise) or more; got nan")],
)
def test_main_job_refuses_before_it_works(tmp_path, flag, message):
    done = run("map_brain", f"--output={tmp_path}", flag)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
