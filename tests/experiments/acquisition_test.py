"""Scans from the command line: gridded for an evaluation, played with a measured trajectory, and compared."""

import json
import pathlib
import subprocess
import sys

import ismrmrd
import numpy as np

from experiments.evaluation.generator import scan_brain
from experiments.studies.compare_reconstructions import Config, compare
from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.grids import tissue_grid
from ganmrf.imaging.trajectory import rotated
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.runs.configs import SimulationConfig, SpiralConfig
from ganmrf.scanner import Scanner

ROOT = pathlib.Path(__file__).parents[2]
SIZE, FOV, FRAMES, COILS = 40, 0.22, 80, 4
SAMPLING = SpiralConfig(size=SIZE, field_of_view_mm=1e3 * FOV, interleaves=6)
SEQUENCE = mrf_fisp(FRAMES)
SPIRALS = (f"--size={SIZE}", "--field_of_view_mm=220", "--interleaves=6", f"--frames={FRAMES}", f"--coils={COILS}")


def begin(experiment, *options):
    command = [sys.executable, "-m", f"experiments.{experiment}", *map(str, options)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(process):
    said, error = process.communicate(timeout=300)
    return process.returncode, said, error


def test_a_generator_is_evaluated_on_gridded_frames():
    scanner = Scanner(SIZE, FOV, coils=COILS)
    perfect = scanner.image(SEQUENCE, seed=0)
    brain, images = perfect.brain, perfect.images
    dictionary = build_dictionary(SEQUENCE, tissue_grid("coarse"))
    found = scan_brain(dictionary, scanner, snrs=(1e4, 2.0), seed=0, trajectory=SAMPLING.trajectory(FRAMES))
    np.testing.assert_array_equal(found.brain.fractions, brain.fractions)
    other = images[:, brain.brain_mask]
    assert {snr: one.shape for snr, one in found.signals.items()} == dict.fromkeys((1e4, 2.0), other.shape)

    def agreement(one):
        size = np.linalg.norm(one, axis=0) * np.linalg.norm(other, axis=0)
        return np.median(np.abs((one.conj() * other).sum(axis=0)) / size)

    # Of 80 frames: 0.11 for noise alone, 1 for the truth. Aliasing of one spiral in six adds to each frame alike.
    assert agreement(found.signals[1e4]) > 0.6
    assert agreement(found.signals[2.0]) < agreement(found.signals[1e4]) - 0.05


def test_a_measured_trajectory_is_the_one_of_the_file(tmp_path):
    spiral = 0.97 * SAMPLING.spiral().k  # what a slower gradient would trace
    np.savez(tmp_path / "measured.npz", trajectory=spiral)
    np.savez(tmp_path / "wrong.npz", trajectory=np.zeros((FRAMES - 1, 50, 2)))
    processes = {
        name: begin("simulate_acquisition", f"--output={tmp_path / name}.h5", *SPIRALS, *options)
        for name, options in {
            "measured": (f"--trajectory={tmp_path / 'measured.npz'}",),
            "wrong": (f"--trajectory={tmp_path / 'wrong.npz'}",),
        }.items()
    }
    code, said, error = end(processes["measured"])
    assert (code, error) == (0, "")
    assert f"measured.h5: {FRAMES} frames, {COILS} coils, {len(spiral)} samples of a frame" in said
    expected = np.asarray(rotated(spiral, SAMPLING.angles(FRAMES))) * FOV / SIZE  # cycles per voxel
    with ismrmrd.Dataset(str(tmp_path / "measured.h5"), create_if_needed=False) as dataset:
        for frame in (0, 1, FRAMES - 1):
            points = dataset.read_acquisition(frame).traj
            np.testing.assert_allclose(points, expected[frame], atol=1e-6)  # float32, below 1
    wrong = f"wrong.npz: trajectory must be (samples, 2), or ({FRAMES}, samples, 2); got ({FRAMES - 1}, 50, 2)"
    code, said, error = end(processes["wrong"])
    assert (code, said) == (2, "")
    assert wrong in error
    assert error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["measured.h5", "measured.npz", "wrong.npz"]


def test_reconstructions_are_compared_and_kept(tmp_path, capsys):
    settings = Config(
        str(tmp_path),
        seeds=(0,),
        rotations=("golden",),
        methods=("gridding", "sense"),
        coils=COILS,
        rank=4,
        simulation=SimulationConfig(frames=FRAMES, grid="coarse"),
        sampling=SAMPLING,
    )
    rows, _ = compare(tmp_path, settings)
    keys = ("rotation", "seed", "method", "maps", "tissue")
    assert sorted(tuple(row[key] for key in keys) for row in rows) == sorted(
        ("golden", 0, method, kind, tissue)
        for method in ("gridding", "sense")
        for kind in ("matched", "refined")
        for tissue in ("white matter", "grey matter")
    )
    t2 = {row["method"]: row["rrmse_t2"] for row in rows if row["maps"] == "refined" and "white" in row["tissue"]}
    assert 0 < t2["sense"] < t2["gridding"]  # least squares undoes the aliasing that gridding leaves
    capsys.readouterr()
    (tmp_path / "golden_0" / "gridding.npz").unlink()
    kept = (tmp_path / "golden_0" / "sense.npz").read_bytes()
    made_again, _ = compare(tmp_path, settings)
    said = capsys.readouterr().out
    assert "gridding: " in said  # with its seconds, once it is made
    assert "sense: " not in said
    assert (tmp_path / "golden_0" / "sense.npz").read_bytes() == kept
    assert [row for row in made_again if row["method"] == "sense"] == [row for row in rows if row["method"] == "sense"]
    flags = (f"--workdir={tmp_path}", "--grid=coarse", "--rank=4", "--seeds=0", "--rotations=golden", *SPIRALS)
    wrong = begin("studies.compare_reconstructions", f"--workdir={tmp_path / 'none'}", "--rotations=golden,nonsense")
    code, said, error = end(begin("studies.compare_reconstructions", *flags, "--methods=gridding,sense"))
    assert (code, error) == (0, "")
    assert "WM T1 (%)" in said
    again = json.loads((tmp_path / "reconstructions.json").read_text())
    assert again == made_again  # nothing was scanned
    for row in again:
        if (row["maps"], row["tissue"], row["method"]) == ("refined", "white matter", "sense"):
            assert f"{100 * row['rrmse_t1']:.2f} ({100 * row['rrmse_t1']:.2f})" in said
    report = (tmp_path / "report.html").read_text()
    assert "least squares in the temporal basis" in report
    assert report.count("data:image/png;base64") == 2
    code, said, error = end(wrong)
    assert (code, said) == (2, "")
    assert "--rotations must be one of uniform, golden" in error
    assert "nonsense" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "none").exists()
