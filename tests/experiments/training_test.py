"""Training as a user runs it: killed and resumed to the same end, refused by name, evaluated and used."""

import fcntl
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from ganmrf.dictionary.npz import load_dictionary

ROOT = pathlib.Path(__file__).parents[2]
SMALL = ("--frames=60", "--grid=coarse", "--width=16", "--depth=2", "--rank=20", "--batch_size=32", "--optimiser=adam")
REFIT = ", output layer solved for"


def command(experiment, *flags):
    return [sys.executable, "-m", f"experiments.{experiment}", *flags]


def run(experiment, *flags):
    return subprocess.run(command(experiment, *flags), cwd=ROOT, capture_output=True, text=True)


def records(folder):
    """What ``metrics.jsonl`` says, but for the times."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if "seconds" not in name} for row in rows]


def same_end(one, other):
    with np.load(one / "generator.npz") as a, np.load(other / "generator.npz") as b:
        assert set(a.files) == set(b.files)
        for name in a.files:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)
    assert records(one) == records(other)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small run of 600 steps, not interrupted."""
    folder = tmp_path_factory.mktemp("runs") / "trained"
    done = run("train", f"--workdir={folder}", *SMALL, "--steps=600", "--every=20")
    assert done.returncode == 0, done.stderr
    assert "step 600: mean relative error before any refit: train" in done.stdout
    assert done.stderr == ""
    return folder


def test_a_killed_run_ends_as_if_it_had_not_been(trained, tmp_path):
    flags = (f"--workdir={tmp_path / 'run'}", *SMALL, "--steps=600", "--every=20")
    process = subprocess.Popen(command("train", *flags), cwd=ROOT, stdout=subprocess.DEVNULL)
    metrics = tmp_path / "run" / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.read_text().count("\n") >= 9):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = run("train", f"--workdir={tmp_path / 'run'}")  # everything else is read back
    assert done.returncode == 0, done.stderr
    same_end(tmp_path / "run", trained)


def test_a_damaged_or_missing_newest_checkpoint_falls_back(trained, tmp_path):
    for damage in ("truncated", "missing"):
        folder = tmp_path / damage
        shutil.copytree(trained, folder)
        newest = folder / "checkpoints" / "600"
        if damage == "missing":
            shutil.rmtree(newest)
        else:
            for path in newest.glob("state/**/d/*"):  # the largest alone may be one that nothing refers to
                os.truncate(path, path.stat().st_size // 2)
        done = run("train", f"--workdir={folder}")
        assert done.returncode == 0, done.stderr
        assert f"{folder}: going on from step 580" in done.stdout
        expected = "is damaged" if damage == "truncated" else "records up to step 600, but no checkpoint after 580"
        assert expected in done.stderr
        same_end(folder, trained)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--width=32",), "--width=32 conflicts with 16"),
        (("--frames=50",), "--frames=50 conflicts with 60"),
        (("--grid=paper",), "--grid=paper conflicts with coarse"),
        (("--seed=1",), "--seed=1 conflicts with 0"),
        (("--preset=fast",), "flag --preset=fast: value should be one of <best|paper>"),
        (("--reconstruction_weight=-1",), "reconstruction_weight must be at least 0; got -1.0"),
        (("--split=0.5,0.5",), "split must be three shares"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_conflicts_and_bad_flags_are_one_line(trained, tmp_path, flags, message):
    folder = tmp_path / "new" if "split" in flags[0] else trained
    before = records(trained)
    done = run("train", f"--workdir={folder}", *flags)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert records(trained) == before


def test_a_folder_in_use_and_a_small_dictionary(trained):
    with open(trained / "lock", "a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = run("train", f"--workdir={trained}")
    assert done.returncode == 2
    assert f"--workdir={trained} is in use by another run" in done.stderr
    done = run("train", f"--workdir={trained.parent / 'tiny'}", "--frames=60", "--t1_ms=500,900", "--t2_ms=40")
    assert done.returncode == 2
    assert "too small to split" in done.stderr


def test_a_run_that_diverges_keeps_its_last_good_checkpoint(tmp_path):
    flags = ("--steps=40", "--every=1", "--learning_rate=1e18", "--adversarial_weight=0")
    done = run("train", f"--workdir={tmp_path / 'run'}", *SMALL, *flags)
    assert done.returncode == 2
    assert "training diverged before step" in done.stderr
    assert "checkpoint" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_dictionary_from_the_generator(trained, tmp_path):
    generator = f"--generator={trained / 'generator.npz'}"
    done = run("generate_dictionary", generator, "--grid=fine", f"--output={tmp_path / 'fine.npz'}")
    assert done.returncode == 2
    assert "3714 of 106160 atoms lie outside the trained range, T1 50 to 3000 ms and T2 10 to 500 ms" in done.stderr
    assert not list(tmp_path.iterdir())
    flags = (generator, "--grid=fine", "--allow_extrapolation", f"--output={tmp_path / 'fine.npz'}")
    done = run("generate_dictionary", *flags)
    assert done.returncode == 0, done.stderr
    made = load_dictionary(tmp_path / "fine.npz")  # which checks shapes, norms and order
    assert made.fingerprints.shape == (106160, 60)
    done = run("generate_dictionary", generator, "--grid=coarse", f"--output={tmp_path / 'coarse.mat'}", "--compressed")
    assert done.returncode == 0, done.stderr
    few = load_dictionary(tmp_path / "coarse.mat")
    assert few.basis.shape == (60, 20)
    same = np.flatnonzero((made.tissue.t1 == few.tissue.t1[100]) & (made.tissue.t2 == few.tissue.t2[100]))
    np.testing.assert_allclose(few.fingerprints[100] @ few.basis.T, made.fingerprints[same[0]], atol=1e-5)
    done = run("generate_dictionary", generator, "--frames=61", f"--output={tmp_path / 'other.npz'}")
    assert done.returncode == 2
    assert "--frames gives another sequence than the one of" in done.stderr


def test_the_whole_reproduction_small(tmp_path):
    flags = (*SMALL, "--steps=60", "--lambdas=1,100", "--sweep_steps=20", "--paper_steps=40", "--size=48", "--rounds=1")
    folder = tmp_path / "all"
    done = run("reproduce", f"--workdir={folder}", *flags)
    assert (done.returncode, done.stderr) == (0, "")
    results = json.loads((folder / "results.json").read_text())
    assert results["lambda"] == min(results["sweep"], key=lambda row: row["validation_rmse"])["lambda"]
    assert [row["step"] for row in results["records"]][-1] == 60
    names = {f"generator{REFIT}", "generator", "regression only", f"regression only{REFIT}"}
    assert names | {"radial basis functions", "linear interpolation"} == set(results["own"]["errors"])
    assert results["fine"]["extrapolated"] == 3714
    assert results["fine"]["errors"][f"generator{REFIT}"]["mean"] < 0.05
    for name in ("own", "coarse", "fine"):
        maps = results[name]["maps"]
        assert set(maps) == {"snr_20", "snr_1"}
        assert maps["snr_20"][f"generator{REFIT}"]["rrmse_t1"] < 0.3
    assert [cost["atoms"] for cost in results["generation"]] == [297, 106160]
    report = (folder / "report.html").read_text()
    assert report.count("data:image/png;base64") == 17
    for figure in ("Fig. 2", "Fig. 4a", "Fig. 4b", "Fig. 5", "Fig. 6", "Fig. 7", "Fig. 8"):
        assert f"the paper&#x27;s {figure})" in report
    done = run(
        "evaluate", f"--workdir={folder / 'generator'}", f"--output={tmp_path / 'evaluated'}", "--size=48", "--snr=20"
    )
    assert done.returncode == 0, done.stderr
    evaluated = json.loads((tmp_path / "evaluated" / "evaluation.json").read_text())
    assert evaluated["evaluated"] == "59 atoms of the test set"
    for refit in ("", REFIT):  # it trained the same regression again, in a folder of its own
        assert evaluated["errors"][f"generator{refit}"]["mean"] == results["own"]["errors"][f"generator{refit}"]["mean"]
    done = run("evaluate", f"--workdir={folder / 'generator_297'}", "--on=fine")
    assert done.returncode == 2
    assert "allow_extrapolation generates them all the same" in done.stderr


def test_ablations_are_tabled(tmp_path):
    variants = ("no adversary", "tanh head")
    flags = (*(f"--variant={name}" for name in variants), "--seeds=0,1", "--steps=4")
    done = run("ablate", f"--workdir={tmp_path / 'a'}", *SMALL, *flags)
    assert done.returncode == 0, done.stderr
    rows = {row["variant"]: row for row in json.loads((tmp_path / "a" / "ablation.json").read_text())}
    expected = {"no adversary", f"no adversary{REFIT}", "tanh head", "radial basis functions", "linear interpolation"}
    assert set(rows) == expected
    for row in rows.values():
        assert row["mean"] <= row["worst_seed"] <= row["worst_atom"]
    done = run("sweep_lambda", f"--workdir={tmp_path / 's'}", *SMALL, "--steps=4", "--lambdas=1,-1")
    assert done.returncode == 2
    assert "--lambdas must be numbers of 0 or more, separated by commas; got 1,-1" in done.stderr
