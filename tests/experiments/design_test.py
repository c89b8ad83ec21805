"""Sequences designed as a user does it: better within every limit, playable, killed and gone on with."""

import csv
import json
import signal
import subprocess
import time

import numpy as np
import pypulseq
import pytest

from experiments.design_sequence import Config
from ganmrf.design.bounds import precision
from ganmrf.io.pulseq_read import read_pulseq
from ganmrf.io.pulseq_settings import Excitation
from ganmrf.io.schedule import read_schedule, write_schedule
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.tissue import Tissue
from ganmrf.runs.designing import design_in_folder
from ganmrf.runs.workdir import read_config
from tests.commands import ROOT, UNIFORM, run, words
from tests.pulses import assert_excites

pytestmark = pytest.mark.usefixtures("quick_compiler")
FRAMES = 24
TISSUE = Tissue(np.array([0.832, 1.331, 2.569]), np.array([0.0792, 0.11, 0.329]))  # the default of the command
ROUNDING = 2e-6  # of a limit: six decimals, and float32
PULSE = ("--time_bandwidth=6", "--window=hamming", "--slice_thickness_mm=4", "--pulse_duration_ms=1.6")
SPIRALS = ("--size=64", "--interleaves=16")
CHECKS = ("--draws=20", "--brain_size=48", *SPIRALS)
SMALL = (
    f"--frames={FRAMES}",
    "--starts=2",
    "--steps=100",
    "--gain_t2=1.5",
    "--spoiler_turns=3",
    UNIFORM,
    *PULSE,
    *CHECKS,
)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != "lock"}


@pytest.fixture(scope="module")
def designed(tmp_path_factory):
    """The command, in a folder that it first refused, killed and gone on with."""
    folder = tmp_path_factory.mktemp("runs") / "designed"
    refused = run("design_sequence", f"--workdir={folder}", *SMALL, "--scan_time_s=0.1")
    assert (refused.returncode, refused.stdout) == (2, "")
    command = words("design_sequence", f"--workdir={folder}", *SMALL)
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (folder / "checkpoints" / "50").exists():
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (folder / "sequence.csv").exists()
    done = run("design_sequence", f"--workdir={folder}")  # everything else is read back
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert f"{folder}: going on from step " in done.stdout
    assert f"report: {folder / 'report.html'}" in done.stdout
    return folder


def test_the_design_is_better_within_every_limit(designed):
    """Limits as the flags' defaults name them, and the scan time of the start."""
    with open(designed / "sequence.csv", newline="", encoding="utf-8") as file:
        titles, *rows = csv.reader(file)
    found = dict(zip(titles, np.array(rows, float).T, strict=True))
    angle, time_ms, echo, inversion = (
        found[name] for name in ("flip_angle_deg", "repetition_time_ms", "echo_time_ms", "inversion_time_ms")
    )
    assert len(angle) == FRAMES
    assert angle.min() >= 0
    assert angle.max() <= 85 * (1 + ROUNDING)
    assert time_ms.min() >= 11.5 * (1 - ROUNDING)
    assert time_ms.max() <= 16 * (1 + ROUNDING)
    np.testing.assert_allclose(echo, 1.908)
    assert np.ptp(inversion) == 0
    assert 18 * (1 - ROUNDING) <= inversion[0] <= 40 * (1 + ROUNDING)
    start = mrf_fisp(FRAMES)
    allowed = float(start.inversion_time) + np.asarray(start.repetition_time, float).sum()
    np.testing.assert_allclose(1e-3 * (inversion[0] + time_ms.sum()), allowed, rtol=ROUNDING)
    results = json.loads((designed / "results.json").read_text(encoding="utf-8"))
    np.testing.assert_allclose(list(results["scan_time_s"].values()), allowed, rtol=ROUNDING)
    gains = np.array(list(results["gains"].values())).T
    ours, others = (precision(each, TISSUE) for each in (read_schedule(designed / "sequence.csv"), start))
    # float32 bounds of two programs, of 24 frames, which hardly tell T1 from T2.
    np.testing.assert_allclose(gains, [others.t1 / ours.t1, others.t2 / ours.t2], rtol=5e-3)
    # The first 24 frames of the paper's are hardly a scan by themselves.
    assert gains.min() > 1
    assert gains[1].min() > 1.5


def test_the_folder_tells_all(designed):
    results = json.loads((designed / "results.json").read_text(encoding="utf-8"))
    rows = [json.loads(line) for line in (designed / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    values = np.concatenate([row["values"] for row in rows])
    assert results["updates"] == len(values) <= 100
    np.testing.assert_allclose(results["objectives"], values.min(axis=0), rtol=1e-6)
    assert (values.min(axis=0) < values[0]).all()
    assert set(results["brain"]["design"]) == set(results["brain"]["start"])
    for name in ("start", "design"):
        assert np.shape(results["b1"][name]) == (2, 3, len(results["b1"]["values"]))
        # 20 voxels of few frames: a standard deviation is known to a sixth; those at the ends of a grid vary less.
        predicted, measured = (np.array(results["monte_carlo"][name][kind]) for kind in ("predicted", "measured"))
        assert predicted.shape == measured.shape == (3, 2)
    report = (designed / "report.html").read_text(encoding="utf-8")
    for text in ("white matter", "--gain_t2", "--spoiler_turns"):
        assert text in report
    assert report.count("data:image/png;base64") == 8


def test_a_scanner_can_play_it(designed):
    played = pypulseq.Sequence()
    played.read(str(designed / "sequence.seq"))
    clean, errors = played.check_timing()
    assert clean, errors
    found, expected = read_pulseq(designed / "sequence.seq"), read_schedule(designed / "sequence.csv")
    np.testing.assert_allclose(found.flip_angle, expected.flip_angle, rtol=1e-5)  # amplitudes have six digits
    # Pulses lie within half a raster of their time since the first, however many came before, and 1 us of rounding.
    late = np.cumsum(np.asarray(found.repetition_time - expected.repetition_time, float))
    assert np.abs(late).max() < 6.1e-6
    np.testing.assert_allclose(found.echo_time, expected.echo_time, atol=0.6e-6)
    np.testing.assert_allclose(found.inversion_time, expected.inversion_time, atol=0.6e-6)


def test_it_is_played_with_the_pulse_of_the_flags(designed):
    assert_excites(designed / "sequence.seq", Excitation(1.6e-3, 6.0, "hamming", 4e-3, 3))


def test_a_killed_design_ends_as_if_it_had_not_been(designed, tmp_path):
    found = design_in_folder(tmp_path, read_config(designed, Config("w")).design, progress=False)
    write_schedule(tmp_path / "sequence.csv", found.sequence)
    assert (tmp_path / "sequence.csv").read_bytes() == (designed / "sequence.csv").read_bytes()
    searched = [
        [json.loads(line)["values"] for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        for folder in (tmp_path, designed)
    ]
    assert searched[0] == searched[1]


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("--gain_t2=3", "--gain_t2=3.0 conflicts with 1.5 in "),
        ("--tissues=fat:300/50", "--tissues=fat:300/50 conflicts with white matter:832/79.2,"),
        ("--flip_angle_deg=0,70", "--flip_angle_deg=0.0,70.0 conflicts with 0.0,85.0 in "),
        ("--frames=50", "--frames=50 conflicts with 24 in "),
        ("--interleaves=24", "--interleaves=24 conflicts with 16 in "),
        ("--steps=200", "--steps=200 conflicts with 100 in "),
        ("--design_b1=0.9,1", "--design_b1=0.9,1.0 conflicts with 1.0 in "),
    ],
)
def test_a_folder_keeps_to_its_settings(designed, flag, text):
    before = contents(designed)
    done = run("design_sequence", f"--workdir={designed}", flag)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"error: {text}" in done.stderr
    assert contents(designed) == before


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (("--repetition_time_ms=11,12,13",), "--repetition_time_ms must be one number or two; got 11.0,12.0,13.0"),
        (("--repetition_time_ms=3,16",), "the quickest sequence that the limits allow cannot be played: "),
        (("--interleaves=1",), "the quickest sequence that the limits allow cannot be played: "),
        (("--tissues=fat",), "--tissues must be name:T1/T2 in ms"),
        (("--tissues=",), "--tissues must "),
        (("--design_b1=0,1",), "--design_b1 must be above 0; got 0.0,1.0"),
        (("--objective=separation", "--reduce=rms"), "--reduce=rms goes with --objective=bound"),
        (("--scan_time_s=0.2",), "scan_time_s: 0.2 s is too short for 24 frames"),
        (("--brain_size=20",), "--brain_size must be at least 48; got 20"),
        (("--spoiler_turns=0.5",), "spoiler_turns must be 1 or more; got 0.5"),
        (("--schedule=none.csv",), "none.csv"),
        (
            ("--population=5", "--tissues=fat:300/50"),
            "--population must have ranges to spread over: all --tissues have",
        ),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, tuple) else "",
)
def test_bad_input_leaves_a_folder_that_can_be_used(tmp_path, flags, text):
    frames = () if "--schedule" in flags[0] else (f"--frames={FRAMES}",)
    done = run("design_sequence", f"--workdir={tmp_path / 'run'}", *frames, *SPIRALS, *flags)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert text in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_start_that_the_design_would_replace_is_refused(tmp_path):
    path = tmp_path / "sequence.csv"
    path.write_text("fa_deg,tr_ms,te_ms\n" + "20,13,2\n" * FRAMES, encoding="utf-8")
    before = path.read_bytes()
    done = run("design_sequence", f"--schedule={path}", f"--workdir={tmp_path}")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "sequence.csv: it is an input" in done.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["sequence.csv"]
    assert path.read_bytes() == before
