"""The scanner samples what the signal equation says; scans from the command line hold it, and are compared."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import ismrmrd
import numpy as np
import pytest

from experiments.evaluation.generator import scan_brain
from experiments.evaluation.scanner import Scanner
from experiments.studies.compare_reconstructions import compare
from ganmrf import parallel
from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.grids import tissue_grid
from ganmrf.imaging.coils import head_array
from ganmrf.imaging.trajectory import rotated
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate
from ganmrf.physics.tissue import Tissue
from ganmrf.runs.configs import SpiralConfig

ROOT = pathlib.Path(__file__).parents[2]
SIZE, FOV, FRAMES, COILS = 40, 0.22, 80, 4
SAMPLING = SpiralConfig(size=SIZE, field_of_view_mm=1e3 * FOV, interleaves=6)
SEQUENCE = mrf_fisp(FRAMES)
SIMULATION = {"schedule": None, "frames": FRAMES, "echo_time_ms": None, "inversion_time_ms": None, "grid": "coarse"}
SIMULATION |= {"t1_ms": None, "t2_ms": None, "slice_nodes": 0, "time_bandwidth": 8.0, "window": "hann"}
SPIRALS = (f"--size={SIZE}", "--field_of_view_mm=220", "--interleaves=6", f"--frames={FRAMES}", f"--coils={COILS}")


def begin(experiment, *options):
    command = [sys.executable, "-m", f"experiments.{experiment}", *map(str, options)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(process):
    said, error = process.communicate(timeout=300)
    return process.returncode, said, error


def scan(seed=0, **fields):
    scanner = Scanner(SAMPLING, **{"coils": COILS, "snr": 0} | fields)
    return scanner.scan(SEQUENCE, SAMPLING.trajectory(FRAMES), seed=seed)


def direct(images, points, off_resonance=0.0, times=0.0):
    """The signal equation summed voxel by voxel in double precision: a coil's samples of one frame."""
    place = FOV / SIZE * (np.arange(SIZE) - SIZE // 2)
    away = points[:, 0, None, None] * place + points[:, 1, None, None] * place[:, None]
    turned = away - off_resonance * np.broadcast_to(times, len(points))[:, None, None]
    return np.einsum("cyx,syx->cs", images, np.exp(-2j * np.pi * turned))


@pytest.fixture(scope="module")
def silent():
    """A scan without noise: the brain, its images and its raw data."""
    return scan()


def test_without_noise_the_samples_are_the_signal_equations(silent):
    brain, images, raw = silent
    assert images.shape == (FRAMES, SIZE, SIZE)
    assert raw.kspace.shape == (FRAMES, COILS, raw.trajectory.shape[1])
    coils = head_array(COILS, SIZE, FOV)
    for frame in (0, 7, FRAMES - 1):
        expected = direct(coils * images[frame], raw.trajectory[frame].astype(float))
        error = np.linalg.norm(raw.kspace[frame] - expected) / np.linalg.norm(expected)
        assert error < 1e-4  # the NUFFT's accuracy
    np.testing.assert_array_equal(raw.affine, brain.affine)
    assert (raw.matrix, raw.field_of_view) == ((SIZE, SIZE), (FOV, FOV))
    assert raw.dwell_time == pytest.approx(4e-6)
    np.testing.assert_array_equal(raw.sequence.flip_angle, SEQUENCE.flip_angle)


def test_the_seed_is_that_of_noise_and_brain(silent):
    brain, images, clean = silent
    _, again, first = scan(snr=5)
    _, _, second = scan(snr=5)
    np.testing.assert_array_equal(again, images)
    # The NUFFT adds in the order in which its threads come: equal to 1e-5 of the largest sample.
    rounding = 1e-5 * np.abs(clean.kspace).max()
    np.testing.assert_allclose(second.kspace, first.kspace, rtol=0, atol=rounding)
    noise = first.kspace - clean.kspace
    _, other_images, other = scan(seed=1, snr=5)
    assert np.abs(other_images - images).max() > 1e-2 * np.abs(images).max()
    # The noise of one seed and the samples of the other: 0.24, were it the same noise.
    share = np.abs(np.vdot(noise, other.kspace)) / np.linalg.norm(noise) / np.linalg.norm(other.kspace)
    assert share < 5 / np.sqrt(noise.size)  # 5 standard deviations of independent draws
    # As the flag says: of an image sampled once on the grid, whose transform of n voxels has n times their variance.
    signal = np.sqrt(np.mean(np.abs(images[:, brain.brain_mask]) ** 2))
    assert noise.real.std() == pytest.approx(signal * SIZE / 5, rel=0.02)  # 100,000 draws


def test_off_resonance_turns_the_signal_as_time_passes(silent):
    _, images, clean = silent
    _, _, raw = scan(off_resonance_hz=100.0)
    # As documented: 100 Hz at the sinuses, 70 mm anterior of the centre, with a Gaussian of 20 mm.
    place = FOV * ((np.arange(SIZE) + 0.5) / SIZE - 0.5)
    field = 100 * np.exp(-((place[:, None] + 0.07) ** 2 + place**2) / (2 * 0.02**2))
    times = 4e-6 * (np.arange(raw.trajectory.shape[1]) + 0.5)
    coils = head_array(COILS, SIZE, FOV)
    expected = direct(coils * images[5], raw.trajectory[5].astype(float), field, times)
    # The NUFFT's accuracy, and that of the phase factors.
    assert np.linalg.norm(raw.kspace[5] - expected) < 3e-4 * np.linalg.norm(expected)
    assert np.linalg.norm(raw.kspace[5] - clean.kspace[5]) > 1e-2 * np.linalg.norm(expected)


def test_b1_reaches_the_images():
    brain, images, _ = scan(b1_variation=0.3, variation=0.0)
    place = FOV * ((np.arange(SIZE) + 0.5) / SIZE - 0.5)
    b1 = 1 + 0.3 * (1 - 2 * (place[:, None] ** 2 + place**2) / 0.1**2)
    pure = brain.fractions[0] > 0.99  # white matter
    y, x = np.unravel_index(np.argmax(np.where(pure, np.abs(b1 - 1), 0)), pure.shape)
    assert abs(b1[y, x] - 1) > 0.1

    def agreement(b1):
        signal = np.asarray(simulate(SEQUENCE, Tissue(0.832, 0.0792, b1)))
        return np.abs(np.vdot(signal, images[:, y, x])) / np.linalg.norm(signal) / np.linalg.norm(images[:, y, x])

    assert agreement(b1[y, x]) > 1 - 1e-4  # a percent of another tissue at most
    assert agreement(1.0) < 1 - 1e-3


@pytest.mark.parametrize("snr", [-1.0, float("nan")])
def test_an_snr_is_not_negative(snr):
    with pytest.raises(ValueError, match=r"--snr must be 0 \(no noise\) or more; got"):
        scan(snr=snr)


def test_a_scan_that_does_not_fit_is_refused_with_both_figures(tmp_path, monkeypatch):
    (tmp_path / "meminfo").write_text("MemTotal: 9000000 kB\nMemAvailable:  1000000 kB\n")
    monkeypatch.setattr(parallel, "_MEMINFO", tmp_path / "meminfo")
    scanner = Scanner(SpiralConfig(), coils=20)
    # Images and samples alone, 8 bytes each, are 0.5 and 0.3 GB; both are held more than once.
    with pytest.raises(ValueError, match=r"a scan of 256 x 256 needs 2\.\d GB of memory, but 1.0 GB are there: few"):
        scanner.require_memory(1000, 2000)
    monkeypatch.setattr(parallel, "_MEMINFO", tmp_path / "none")  # a system that does not tell
    scanner.require_memory(1000, 2000)


def test_a_generator_is_judged_on_gridded_frames(silent):
    brain, images, _ = silent
    dictionary = build_dictionary(SEQUENCE, tissue_grid("coarse"))
    scanner = Scanner(SAMPLING, coils=COILS)
    found = scan_brain(dictionary, size=SIZE, snrs=(1e4, 2.0), seed=0, progress=False, scanner=scanner)
    np.testing.assert_array_equal(found.brain.fractions, brain.fractions)
    assert {snr: series.shape for snr, series in found.images.items()} == dict.fromkeys((1e4, 2.0), images.shape)

    def agreement(series):
        inside = brain.brain_mask
        one, other = series[:, inside], images[:, inside]
        size = np.linalg.norm(one, axis=0) * np.linalg.norm(other, axis=0)
        return np.median(np.abs((one.conj() * other).sum(axis=0)) / size)

    # Of 80 frames: 0.11 for noise alone, 1 for the truth. Aliasing of one spiral in six adds to each frame alike.
    assert agreement(found.images[1e4]) > 0.6
    assert agreement(found.images[2.0]) < agreement(found.images[1e4]) - 0.05


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
    sampling = dataclasses.asdict(SAMPLING)
    settings = {"simulation": SIMULATION, "sampling": sampling, "seeds": [0], "rotations": ["golden"], "rank": 4}
    settings |= {"coils": COILS, "virtual_coils": COILS, "snr": 50.0, "iterations": 6, "threshold": 5e-4}
    settings["methods"] = ["gridding", "sense"]
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
    wrong = begin("compare_reconstructions", f"--workdir={tmp_path / 'none'}", "--rotations=golden,nonsense")
    code, said, error = end(begin("compare_reconstructions", *flags, "--methods=gridding,sense"))
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
    assert error == "error: --rotations must be of uniform, golden; got nonsense\n"
    assert not (tmp_path / "none").exists()
