"""Sequences designed as a user does it: better within every limit, playable, killed and gone on with."""

import json
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pypulseq
import pytest

from experiments.evaluation.design import atoms, monte_carlo
from ganmrf.anchors.anchor_set import fit_norms
from ganmrf.anchors.generator import AnchoredGenerator
from ganmrf.anchors.generator_file import save_generator
from ganmrf.anchors.radial import RadialFeatures, RadialWeights, weight_matrix
from ganmrf.io.pulseq_read import read_pulseq
from ganmrf.io.schedule import read_schedule
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate
from ganmrf.physics.tissue import Tissue
from ganmrf.physics.tissue_box import TissueBox
from tests.experiments.designs import CHECKS, FEW, ROUNDING, TISSUE, columns, degrees, main, ratios

ROOT = pathlib.Path(__file__).parents[2]
FRAMES = 48
SMALL = (f"--frames={FRAMES}", "--starts=2", "--steps=150", "--gain_t2=1.5", *CHECKS)


def command(*options):
    return [sys.executable, "-m", "experiments.design_sequence", *map(str, options)]


def run(*options):
    return subprocess.run(command(*options), cwd=ROOT, capture_output=True, text=True)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != "lock"}


@pytest.fixture(scope="module")
def designed(tmp_path_factory):
    """The command, from outside, in a folder that it first refused."""
    folder = tmp_path_factory.mktemp("runs") / "designed"
    done = run(f"--workdir={folder}", *SMALL, "--tissues=white matter:832")
    assert done.returncode == 2
    assert done.stderr == "error: --tissues must be name:T1/T2 in ms, separated by commas; got white matter:832\n"
    assert done.stdout == ""
    done = run(f"--workdir={folder}", *SMALL)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"report: {folder / 'report.html'}" in done.stdout
    return folder


def test_the_design_is_better_within_every_limit(designed):
    """Limits as the flags' defaults name them, and the scan time of the start."""
    found = columns(designed)
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
    results = json.loads((designed / "results.json").read_text())
    np.testing.assert_allclose(list(results["scan_time_s"].values()), allowed, rtol=ROUNDING)
    gains = np.array(list(results["gains"].values())).T
    # float32 bounds of two programs.
    np.testing.assert_allclose(1 / gains, ratios(read_schedule(designed / "sequence.csv"), start), rtol=1e-3)
    # The first 48 frames of the paper's are hardly a scan by themselves.
    assert gains.min() > 1
    assert gains[1].min() > 1.5


def test_the_folder_tells_all(designed):
    results = json.loads((designed / "results.json").read_text())
    rows = [json.loads(line) for line in (designed / "metrics.jsonl").read_text().splitlines()]
    values = np.concatenate([row["values"] for row in rows])
    assert results["updates"] == len(values) <= 150
    np.testing.assert_allclose(results["objectives"], values.min(axis=0), rtol=1e-6)
    assert (values.min(axis=0) < values[0]).all()
    assert set(results["brain"]["design"]) == set(results["brain"]["start"])
    for name in ("start", "design"):
        assert np.shape(results["b1"][name]) == (2, 3, len(results["b1"]["values"]))
        # 20 voxels of few frames: a standard deviation is known to a sixth; those at the ends of a grid vary less.
        predicted, measured = (np.array(results["monte_carlo"][name][kind]) for kind in ("predicted", "measured"))
        assert predicted.shape == measured.shape == (3, 2)
    report = (designed / "report.html").read_text()
    for words in ("A designed MRF-FISP sequence", "white matter", "--gain_t2", "Other B1, other tissues"):
        assert words in report
    assert report.count("data:image/png;base64") == 8


def test_a_scanner_can_play_it(designed):
    played = pypulseq.Sequence()
    played.read(str(designed / "sequence.seq"))
    clean, errors = played.check_timing()
    assert clean, errors
    found, expected = read_pulseq(designed / "sequence.seq"), read_schedule(designed / "sequence.csv")
    np.testing.assert_allclose(degrees(found), degrees(expected), rtol=1e-5)  # amplitudes have six digits
    # Pulses lie within half a raster of their time since the first, however many came before, and 1 us of rounding.
    late = np.cumsum(np.asarray(found.repetition_time - expected.repetition_time, float))
    assert np.abs(late).max() < 6.1e-6
    np.testing.assert_allclose(found.echo_time, expected.echo_time, atol=0.6e-6)
    np.testing.assert_allclose(found.inversion_time, expected.inversion_time, atol=0.6e-6)


def test_a_killed_design_ends_as_if_it_had_not_been(designed, tmp_path, capsys):
    process = subprocess.Popen(command(f"--workdir={tmp_path}", *SMALL), cwd=ROOT, stdout=subprocess.DEVNULL)
    while process.poll() is None and not (tmp_path / "checkpoints" / "50").exists():
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "sequence.csv").exists()
    main(f"--workdir={tmp_path}", jit=jax.jit)  # everything else is read back
    assert f"{tmp_path}: going on from step " in capsys.readouterr().out
    assert (tmp_path / "sequence.csv").read_bytes() == (designed / "sequence.csv").read_bytes()
    rows = [
        [json.loads(line)["values"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in (tmp_path, designed)
    ]
    assert rows[0] == rows[1]


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--gain_t2=3", "--gain_t2=3.0 conflicts with 1.5 in "),
        ("--tissues=fat:300/50", r"--tissues=\['fat:300/50'\] conflicts with \['white matter:832/79.2', "),
        ("--flip_angle_deg=0,70", r"--flip_angle_deg=\[0.0, 70.0\] conflicts with \[0.0, 85.0\]"),
        ("--frames=50", "--frames=50 conflicts with 48"),
        ("--interleaves=24", "--interleaves=24 conflicts with 48"),
        ("--steps=200", "--steps=200 conflicts with 150"),
        ("--design_b1=0.9,1", r"--design_b1=\[0.9, 1.0\] conflicts with \[1.0\]"),
    ],
)
def test_a_folder_keeps_to_its_settings(designed, flag, words):
    before = contents(designed)
    with pytest.raises(ValueError, match=words):
        main(f"--workdir={designed}", flag)
    assert contents(designed) == before


def worst(sequence, start, b1):
    """The largest of all standard deviations times its gain, over tissues and B1 values; those of the start are 1."""
    return max(np.max([[1], [1.5]] * ratios(sequence, start, Tissue(TISSUE.t1, TISSUE.t2, each))) for each in b1)


def test_a_robust_design_is_better_at_the_worst_b1(designed, tmp_path):
    plain, start = read_schedule(designed / "sequence.csv"), mrf_fisp(FRAMES)
    robust = main(f"--workdir={tmp_path}", *SMALL, "--design_b1=0.8,1,1.2", "--starts=1").sequence
    values = 0.8, 1.0, 1.2
    assert worst(robust, start, values) < 0.98 * worst(plain, start, values)
    assert worst(robust, start, [1.0]) > worst(plain, start, [1.0])  # which is what it costs


def test_lbfgs_designs_too(tmp_path):
    found = main(f"--workdir={tmp_path}", f"--frames={FEW}", "--starts=1", "--steps=12", "--optimiser=lbfgs", *CHECKS)
    assert found.values.min() < 0.95 * found.values[0, 0]
    assert (np.diff(found.values[:, 0]) < 1e-4).all()  # a line search goes down, to rounding


def radial_generator(path):
    """Quintic radial basis functions about 6 x 6 tissues between white and grey matter, and no training."""
    box = TissueBox(("t1", "t2"), [0.6, 0.06], [1.6, 0.13])
    axis = np.linspace(0, 1, 6)
    anchors = box.spread(np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2).astype(np.float32))
    places = np.asarray(box.coordinates(anchors), float)
    norm = fit_norms(places, np.linalg.norm(np.asarray(simulate(mrf_fisp(FEW), anchors), float), axis=1))
    features, size = RadialFeatures(places, np.ones(2), "quintic"), anchors.size
    model = RadialWeights({size: features}, {size: weight_matrix(features)})
    norms = np.asarray(norm(box.coordinates(anchors)))
    generator = AnchoredGenerator(box, anchors, norms, norm, None, model, anchors, {size: np.eye(size)})
    save_generator(path, generator)


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    path = tmp_path_factory.mktemp("generator") / "radial.npz"
    radial_generator(path)
    return path


def test_a_generator_designs_for_the_simulator(generator, tmp_path):
    tissue = Tissue(np.array([0.8, 1.3]), np.array([0.08, 0.11]))
    options = ("--tissues=white:800/80,grey:1300/110", f"--frames={FEW}", "--starts=1", "--steps=40", *CHECKS)
    found = main(f"--workdir={tmp_path}", f"--generator={generator}", *options)
    t1, t2 = ratios(found.sequence, found.start, tissue)
    # Derivatives of 36 radial basis functions, and a smooth maximum, are worth a few per cent.
    assert float(found.best[0]) == pytest.approx(np.max([t1, 2 * t2]), rel=0.08)
    assert max(t1.max(), 2 * t2.max()) < 0.95 * 2  # the start has 2


def test_a_generator_must_cover_the_tissues(generator, tmp_path):
    with pytest.raises(ValueError, match=r"1 of 3 .*outside"):
        main(f"--workdir={tmp_path}", f"--generator={generator}", f"--frames={FEW}", *CHECKS)
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_noisy_voxels_spread_as_the_bound_says():
    """60 frames, at noise so small that estimates are linear in it."""
    start = mrf_fisp(60)
    found = monte_carlo(start, atoms(start, None), TISSUE, snr=3000.0, draws=400, seed=0)
    assert found.predicted.max() < 0.1
    # The standard deviation of 400 is known to 3.5 %, the mean of 6, of which pairs are correlated, to 2 %: 10 % is
    # five times that.
    assert np.sqrt(np.mean((found.measured / found.predicted) ** 2)) == pytest.approx(1, abs=0.1)
    np.testing.assert_allclose(found.measured, found.predicted, rtol=0.18)  # five times 3.5 %
