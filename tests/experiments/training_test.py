"""Training as a user runs it: killed and resumed to the same end, refused by name, and used."""

import json
import os
import shutil
import signal
import subprocess
import time

import filelock
import numpy as np
import pytest

from ganmrf.dictionary.npz import load_dictionary
from ganmrf.metrics import fingerprint_errors
from tests.commands import ROOT, UNIFORM, run, words

SMALL = (
    UNIFORM,
    "--frames=40",
    "--grid=coarse",
    "--width=8",
    "--depth=1",
    "--rank=8",
    "--batch_size=16",
    "--optimiser=adam",
)
RUN = (*SMALL, "--adversarial_weight=1", "--steps=80", "--every=10")


def records(folder):
    """What ``metrics.jsonl`` says, but for the times."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{name: value for name, value in row.items() if "seconds" not in name} for row in rows]


def same_end(one, other):
    with np.load(one / "generator.npz") as a, np.load(other / "generator.npz") as b:
        assert set(a.files) == set(b.files)
        for name in a.files:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)
    assert records(one) == records(other)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small run of 80 steps, not interrupted."""
    folder = tmp_path_factory.mktemp("runs") / "trained"
    done = run("train", f"--workdir={folder}", *RUN)
    assert done.returncode == 0, done.stderr
    assert "step 80: " in done.stdout
    assert all(line.startswith("training: ") for line in done.stderr.splitlines())  # none within half a minute
    assert [row["step"] for row in records(folder)] == list(range(10, 90, 10))
    return folder


def test_a_killed_run_ends_as_if_it_had_not_been(trained, tmp_path):
    folder = tmp_path / "run"
    process = subprocess.Popen(words("train", f"--workdir={folder}", *RUN), cwd=ROOT, stdout=subprocess.DEVNULL)
    metrics = folder / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.read_text().count("\n") >= 2):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = run("train", f"--workdir={folder}")  # everything else is read back
    assert done.returncode == 0, done.stderr
    assert f"{folder}: going on from step" in done.stdout
    same_end(folder, trained)


@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_a_damaged_or_missing_newest_checkpoint_falls_back(trained, tmp_path, damage):
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    if damage == "missing":
        for step in (70, 80):
            shutil.rmtree(folder / "checkpoints" / str(step))
        expected = 60, "records up to step 80, but no checkpoint after 60"
    else:
        for path in folder.glob("checkpoints/80/state/**/d/*"):  # the largest alone may be one that nothing refers to
            os.truncate(path, path.stat().st_size // 2)
        expected = 70, "is damaged"
    done = run("train", f"--workdir={folder}")
    assert done.returncode == 0, done.stderr
    assert f"{folder}: going on from step {expected[0]}" in done.stdout
    assert expected[1] in done.stderr
    same_end(folder, trained)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--width=32",), ("--width=32", "8")),
        (("--frames=50",), ("--frames=50", "40")),
        (("--grid=paper",), ("--grid=paper", "coarse")),
        (("--seed=1",), ("--seed=1", "0")),
        (("--preset=fast",), ("--preset=fast", "regression", "gan", "paper")),
        (("--reconstruction_weight=-1",), ("--reconstruction_weight", "at least 0", "-1.0")),
    ],
    ids=lambda value: value[0],
)
def test_conflicts_and_bad_flags_are_one_line(trained, flags, message):
    before = records(trained)
    done = run("train", f"--workdir={trained}", *flags)
    assert done.returncode == 2
    assert all(part in done.stderr for part in message)
    assert done.stderr.count("\n") == 1
    assert records(trained) == before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--split=0.5,0.5",), ("--split", "three shares", "0.5, 0.5")),
        (("--split=1,0,0", "--split_kind=blocked"), ("--split", "split_kind=blocked", "1.0, 0.0, 0.0")),
        (("--random_atoms=9", "--t1_ms=500", "--t2_ms=40"), ("--t1_ms", "one value", "0.5 s")),
        (("--random_atoms=0",), ("--random_atoms", "at least 1", "0")),
        (("--adversarial_loss=hinge",), ("--adversarial_loss", "goes with --adversarial_weight")),
        (("--t1_ms=500,900", "--t2_ms=40", "--frames=40"), ("too small to split",)),
    ],
)
def test_what_cannot_be_learned_from_is_refused_before_training(tmp_path, flags, message):
    small = [each for each in SMALL if each != "--grid=coarse"]
    done = run("train", f"--workdir={tmp_path / 'run'}", *small, *flags)
    assert done.returncode == 2
    assert all(part in done.stderr for part in message)
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_folder_in_use_is_refused(trained):
    with filelock.FileLock(trained / "lock"):
        done = run("train", f"--workdir={trained}")
    assert done.returncode == 2
    assert f"{trained} is in use by another run" in done.stderr


def test_a_run_that_diverges_keeps_its_last_good_checkpoint(tmp_path):
    flags = ("--steps=40", "--every=2", "--learning_rate=1e18")
    done = run("train", f"--workdir={tmp_path / 'run'}", *SMALL, *flags)
    assert done.returncode == 2
    assert "training diverged before step" in done.stderr
    assert "checkpoint" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_dictionary_from_the_generator(trained, tmp_path):
    generator = f"--generator={trained / 'generator.npz'}"
    done = run("generate_dictionary", generator, "--grid=fine", f"--output={tmp_path / 'fine.npz'}")
    assert done.returncode == 2
    assert "3714 of 106160 atoms lie outside the trained box; the farthest has t" in done.stderr
    assert not list(tmp_path.iterdir())
    flags = (generator, "--grid=fine", "--allow_extrapolation", f"--output={tmp_path / 'fine.npz'}")
    done = run("generate_dictionary", *flags)
    assert done.returncode == 0, done.stderr
    made = load_dictionary(tmp_path / "fine.npz")  # which checks shapes, norms and order
    assert made.fingerprints.shape == (106160, 40)
    done = run("generate_dictionary", generator, "--grid=coarse", f"--output={tmp_path / 'coarse.mat'}", "--compressed")
    assert done.returncode == 0, done.stderr
    few = load_dictionary(tmp_path / "coarse.mat")
    assert few.basis.shape == (40, 8)
    same = np.flatnonzero((made.tissue.t1 == few.tissue.t1[100]) & (made.tissue.t2 == few.tissue.t2[100]))
    np.testing.assert_allclose(few.fingerprints[100] @ few.basis.T, made.fingerprints[same[0]], atol=1e-5)
    done = run("generate_dictionary", generator, "--grid=coarse", "--frames=41", f"--output={tmp_path / 'other.npz'}")
    assert done.returncode == 2
    assert "--frames gives another sequence than the one of" in done.stderr


def test_a_generator_off_resonance_is_evaluated_and_its_error_between_off_resonances_told(tmp_path):
    flags = ("--sequence=bssfp", "--off_resonance_hz=-20:20:20", "--frames=40", "--grid=coarse", "--width=64", UNIFORM)
    flags += ("--depth=2", "--rank=48", "--steps=100", "--optimiser=adam")
    done = run("train", f"--workdir={tmp_path}", *flags)
    assert done.returncode == 0, done.stderr
    done = run("evaluate", f"--workdir={tmp_path}", "--size=32", "--snr=20")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report.html").exists()
    found = json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8"))
    trained = found["errors"]["generator, output layer solved for"]["mean"]
    assert found["error_between_off_resonances"] > 2 * trained  # signals turn by 20 Hz times T2


@pytest.mark.usefixtures("quick_compiler")
def test_a_generator_of_random_tissues_with_a_semisolid_pool_and_b1(tmp_path):
    axes = ("--tissue=semisolid", "--t1_ms=500:2500:500", "--t2_ms=40:120:20", "--fraction=0:0.3:0.1", "--b1=0.8,1.2")
    flags = (UNIFORM, "--pulse_duration_ms=2", "--frames=40", *axes)
    small = ("--width=24", "--depth=2", "--rank=16", "--steps=100", "--optimiser=adam", "--random_atoms=300")
    done = run("train", f"--workdir={tmp_path / 'run'}", *flags, *small)
    assert done.returncode == 0, done.stderr
    generator, output = f"--generator={tmp_path / 'run' / 'generator.npz'}", f"--output={tmp_path / 'made.npz'}"
    done = run("generate_dictionary", generator, *axes, output)
    assert done.returncode == 0, done.stderr
    done = run("simulate_dictionary", *flags, f"--output={tmp_path / 'simulated.npz'}")
    assert done.returncode == 0, done.stderr
    made, simulated = (load_dictionary(tmp_path / f"{name}.npz") for name in ("made", "simulated"))
    for name, values in vars(simulated.tissue).items():
        np.testing.assert_array_equal(getattr(made.tissue, name), values)
    errors = fingerprint_errors(made.fingerprints, simulated.fingerprints)
    assert errors.mean() < 0.2 * fingerprint_errors(simulated.fingerprints[::-1], simulated.fingerprints).mean()
    for other, told in (
        ("--exchange_rate_per_s=20", "trained at exchange_rate = 14 1/s alone"),
        ("--pulse_duration_ms=3", "--pulse_duration_ms gives another sequence"),
    ):
        done = run("generate_dictionary", generator, *axes, other, output)
        assert done.returncode == 2
        assert told in done.stderr
    done = run("evaluate", f"--workdir={tmp_path / 'run'}", "--size=32", "--snr=20")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "run" / "evaluation.json").read_text(encoding="utf-8"))
    assert "radial basis functions" in found["errors"]
