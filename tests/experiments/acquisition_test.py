"""Scans from the command line: gridded for an evaluation, played with a measured trajectory, and compared."""

import json

import ismrmrd
import nibabel
import numpy as np
import pytest

from experiments.evaluation.generator import scan_brain
from experiments.studies.compare_reconstructions import Config, compare
from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.grids import tissue_grid
from ganmrf.imaging.trajectory import rotated
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.runs.simulation_config import SimulationConfig
from ganmrf.runs.spiral_config import SpiralConfig
from ganmrf.scanner import Scanner
from tests.commands import UNIFORM, run

pytestmark = pytest.mark.usefixtures("quick_compiler")
SIZE, FOV, FRAMES, COILS = 40, 0.22, 80, 4
SAMPLING = SpiralConfig(size=SIZE, field_of_view_mm=1e3 * FOV, interleaves=6)
SEQUENCE = mrf_fisp(FRAMES)
SPIRALS = (f"--size={SIZE}", "--field_of_view_mm=220", "--interleaves=6", f"--frames={FRAMES}", f"--coils={COILS}")


def test_a_generator_is_evaluated_on_gridded_frames():
    scanner = Scanner(SIZE, FOV, coils=COILS)
    perfect = scanner.image(SEQUENCE, seed=0)
    images = perfect.images[:, perfect.brain.brain_mask]
    dictionary = build_dictionary(SEQUENCE, tissue_grid("coarse"))
    found = scan_brain(dictionary, scanner, snrs=(1e4, 2.0), seed=0, trajectory=SAMPLING.trajectory(FRAMES))
    np.testing.assert_array_equal(found.brain.fractions, perfect.brain.fractions)
    assert {snr: signals.shape for snr, signals in found.signals.items()} == dict.fromkeys((1e4, 2.0), images.shape)

    def agreement(signals):
        size = np.linalg.norm(signals, axis=0) * np.linalg.norm(images, axis=0)
        return np.median(np.abs((signals.conj() * images).sum(axis=0)) / size)

    # Of 80 frames: 0.11 for noise alone, 1 for the truth. Aliasing of one spiral in six adds to each frame alike.
    assert agreement(found.signals[1e4]) > 0.6
    assert agreement(found.signals[2.0]) < agreement(found.signals[1e4]) - 0.05


def test_a_measured_trajectory_is_the_one_of_the_file(tmp_path):
    spiral = 0.97 * SAMPLING.spiral().k  # what a slower gradient would trace
    np.savez(tmp_path / "measured.npz", trajectory=spiral)
    flags = (f"--trajectory={tmp_path / 'measured.npz'}", UNIFORM, *SPIRALS)
    done = run("simulate_acquisition", f"--output={tmp_path / 'scan.h5'}", *flags)
    assert done.returncode == 0, done.stderr
    assert f"scan.h5: {FRAMES} frames, {COILS} coils, {len(spiral)} samples of a frame" in done.stdout
    expected = np.asarray(rotated(spiral, SAMPLING.angles(FRAMES))) * FOV / SIZE  # cycles per voxel
    with ismrmrd.Dataset(str(tmp_path / "scan.h5"), create_if_needed=False) as dataset:
        for frame in (0, 1, FRAMES - 1):
            points = dataset.read_acquisition(frame).traj
            np.testing.assert_allclose(points, expected[frame], atol=1e-6)  # float32, below 1


def test_a_scan_of_balanced_frames_gives_t1_and_b0(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    played = ("--sequence=bssfp", f"--frames={FRAMES}", UNIFORM)
    flags = ("--b0_variation_hz=20", "--snr=200", "--variation=0", *played, *SPIRALS)
    for job, given in (
        ("simulate_acquisition", ("--output=scan.h5", "--truth=truth", *flags)),
        ("simulate_dictionary", ("--output=d.npz", "--grid=coarse", "--off_resonance_hz=-30:30:3", *played)),
        ("reconstruct_maps", ("--input=scan.h5", "--output=maps", "--dictionary=d.npz", "--rank=12")),
    ):
        done = run(job, *given)
        assert done.returncode == 0, done.stderr
    truth, found = (
        {name: nibabel.load(f"{folder}/{name}.nii.gz").get_fdata() for name in ("T1map", "fieldmap")}
        for folder in ("truth", "maps")
    )
    inside = truth["T1map"] > 0
    wrong = {name: np.abs(found[name] - truth[name])[inside] for name in truth}
    # Twelve vectors leave 4 % of the energy of such a dictionary out.
    assert np.median(wrong["T1map"] / truth["T1map"][inside]) < 0.05
    assert np.median(wrong["fieldmap"]) < 1  # Hz, of a field that spans 19


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (
            np.zeros((FRAMES - 1, 50, 2)),
            f"trajectory must be (samples, 2), or ({FRAMES}, samples, 2); got ({FRAMES - 1}, 50, 2)",
        ),
        (np.full((50, 2), np.nan), "wrong.npz: trajectory holds values that are not finite"),
    ],
    ids=["shape", "nan"],
)
def test_a_trajectory_that_is_none_is_refused(tmp_path, values, text):
    np.savez(tmp_path / "wrong.npz", trajectory=values)
    flags = (f"--trajectory={tmp_path / 'wrong.npz'}", UNIFORM, *SPIRALS)
    done = run("simulate_acquisition", f"--output={tmp_path / 'scan.h5'}", *flags)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert text in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["wrong.npz"]


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A comparison from Python, and its folder."""
    folder = tmp_path_factory.mktemp("compared")
    asked = {"seeds": (0,), "rotations": ("golden",), "methods": ("gridding", "sense"), "rank": 4}
    simulation = SimulationConfig(frames=FRAMES, grid="coarse")
    config = Config(str(folder), coils=COILS, simulation=simulation, sampling=SAMPLING, **asked)
    return compare(folder, config)[0], folder


def test_least_squares_undo_the_aliasing_that_gridding_leaves(compared):
    rows, _ = compared
    keys = ("rotation", "seed", "method", "maps", "tissue")
    assert sorted(tuple(row[key] for key in keys) for row in rows) == sorted(
        ("golden", 0, method, kind, tissue)
        for method in ("gridding", "sense")
        for kind in ("matched", "refined")
        for tissue in ("white matter", "grey matter")
    )
    t2 = {row["method"]: row["rrmse_t2"] for row in rows if row["maps"] == "refined" and "white" in row["tissue"]}
    assert 0 < t2["sense"] < t2["gridding"]


def test_what_was_reconstructed_is_kept(compared):
    rows, folder = compared
    (folder / "golden_0" / "gridding.npz").unlink()
    kept = (folder / "golden_0" / "sense.npz").read_bytes()
    flags = ("--grid=coarse", "--rank=4", "--seeds=0", "--rotations=golden", "--methods=gridding,sense", *SPIRALS)
    done = run("studies.compare_reconstructions", f"--workdir={folder}", *flags)
    assert done.returncode == 0, done.stderr
    assert "gridding: " in done.stdout  # with its seconds, once it is made
    assert "sense: " not in done.stdout
    assert (folder / "golden_0" / "sense.npz").read_bytes() == kept
    again = json.loads((folder / "reconstructions.json").read_text(encoding="utf-8"))
    assert [row for row in again if row["method"] == "sense"] == [row for row in rows if row["method"] == "sense"]
    for row in again:
        if (row["maps"], row["tissue"], row["method"]) == ("refined", "white matter", "sense"):
            assert f"{100 * row['rrmse_t1']:.2f} ({100 * row['rrmse_t1']:.2f})" in done.stdout
    report = (folder / "report.html").read_text(encoding="utf-8")
    assert "least squares in the temporal basis" in report
    assert report.count("data:image/png;base64") == 2


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (("--rotations=golden,nonsense",), "--rotations must be one of uniform, golden; got golden,nonsense"),
        (("--seeds=-1",), "--seeds must be at least 0; got -1"),
        (("--schedule=none.csv",), "none.csv"),
    ],
)
def test_a_comparison_that_cannot_be_leaves_a_folder_that_can_be_used(tmp_path, flags, text):
    done = run("studies.compare_reconstructions", f"--workdir={tmp_path / 'none'}", *flags)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert text in done.stderr
    assert [path.name for path in tmp_path.glob("none/*")] in ([], ["lock"])
