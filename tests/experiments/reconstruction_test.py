"""Raw data scanned, reconstructed and mapped as a user does it: the tissue comes back, a cut run goes on."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import time
import types

import h5py
import ismrmrd
import nibabel
import numpy as np
import pypulseq
import pytest
import scipy.io

from ganmrf.io.maps import write_image
from ganmrf.io.mrd import read_mrd, write_mrd
from ganmrf.io.pulseq_settings import Excitation
from ganmrf.runs.simulation_config import SimulationConfig
from ganmrf.scan_settings import RawConfig, ReconstructionConfig
from ganmrf.scan_to_maps import map_scan
from tests.commands import ROOT, UNIFORM, run, words
from tests.pulses import assert_excites

pytestmark = pytest.mark.usefixtures("quick_compiler")
FRAMES = 80
SPIRALS = ("--size=40", "--field_of_view_mm=220", "--interleaves=6")
SMALL = ("--grid=coarse", "--rank=4", UNIFORM)
PULSE = ("--time_bandwidth=6", "--window=none", "--slice_thickness_mm=6", "--pulse_duration_ms=1.6")
TISSUE = SimulationConfig(grid="coarse").tissue()


def succeed(job, *flags):
    """A command that must end well and without warnings; returns its stdout."""
    done = run(job, *flags)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    return done.stdout


def stored(path):
    return nibabel.load(path).get_fdata()[..., 0].T


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a scan of the brain, and its truth in a folder."""
    folder = tmp_path_factory.mktemp("scan")
    flags = (f"--truth={folder / 'truth'}", f"--frames={FRAMES}", "--coils=4", "--snr=200", "--variation=0", UNIFORM)
    said = succeed("simulate_acquisition", f"--output={folder / 'scan.h5'}", *flags, *SPIRALS)
    assert "scan.h5: 80 frames, 4 coils, " in said
    return folder


@pytest.fixture(scope="module")
def mapped(folder):
    """Maps of that scan in every format."""
    flags = (f"--output={folder / 'maps'}", "--also=npz,mat,mrd", *SMALL)
    said = succeed("reconstruct_maps", f"--input={folder / 'scan.h5'}", *flags)
    assert f"report: {folder / 'maps' / 'report.html'}" in said
    return folder / "maps"


def truth_of(folder, tissue):
    """Voxels that a tissue of that T1 (s) fills, and their T1 and T2."""
    truth = {name: stored(folder / "truth" / f"{name}.nii.gz") for name in ("T1map", "T2map", "mask")}
    inside = np.isclose(truth["T1map"], tissue) & (truth["mask"] > 0)
    return inside, truth["T1map"][inside], truth["T2map"][inside]


def test_the_brain_comes_back(folder, mapped):
    for tissue, voxels, tolerance in ((0.832, 100, 0.03), (1.331, 10, 0.06)):
        inside, *truth = truth_of(folder, tissue)
        found = [stored(mapped / f"{name}.nii.gz")[inside] for name in ("T1map", "T2map")]
        assert inside.sum() >= voxels
        assert np.all(found)
        t1, t2 = (np.abs(values / expected - 1) for values, expected in zip(found, truth, strict=True))
        # Up to 5 % of a voxel is another tissue, which half the voxels show less than; aliasing is left by 4 coils.
        assert max(np.median(t1), np.median(t2)) < tolerance
        assert max(t1.max(), t2.max()) < 0.15
    for name in ("T1map", "T2map", "M0map", "part-phase_M0map", "quality", "desc-std_T1map", "desc-std_T2map"):
        image = nibabel.load(mapped / f"{name}.nii.gz")
        assert image.get_data_dtype() == np.float32
        # The file's directions and positions are float32: millimetres of a few hundred.
        np.testing.assert_allclose(image.affine, nibabel.load(folder / "truth" / "T1map.nii.gz").affine, atol=1e-4)
    sidecar = json.loads((mapped / "T1map.json").read_text())
    assert sidecar["Units"] == "s"
    assert sidecar["Sources"] == [str(folder / "scan.h5")]
    assert "CG-SENSE" in sidecar["Reconstruction"]
    assert sidecar["Sequence"]["Frames"] == FRAMES  # of the file: no flag names it
    assert sidecar["Dictionary"]["Rank"] == 4
    results = json.loads((mapped / "results.json").read_text())
    assert results["voxels"] == np.count_nonzero(stored(mapped / "T1map.nii.gz"))
    assert results["atoms"] == 297
    assert 0.9 < results["median_quality"] <= 1
    assert set(results["seconds"]) == {"sensitivities", "reconstruction", "matching", "refining", "residuals"}
    report = (mapped / "report.html").read_text()
    assert str(folder / "scan.h5") in report
    assert "CG-SENSE" in report
    # Maps, error bars, trajectory, sensitivities, coefficients, residuals, sequence.
    assert report.count("data:image/png;base64") == 8


def test_every_format_holds_the_same(mapped):
    names = {"t1_s": "T1map", "t2_s": "T2map", "t1_std_s": "desc-std_T1map", "t2_std_s": "desc-std_T2map"}
    with np.load(mapped / "maps.npz") as archive:
        arrays = dict(archive)
    matlab = scipy.io.loadmat(mapped / "maps.mat")
    inside = arrays["index"] >= 0
    for name, nifti in names.items():
        expected = stored(mapped / f"{nifti}.nii.gz")
        # float32 in NIfTI, which has 0 outside.
        np.testing.assert_allclose(np.where(inside, arrays[name], 0), expected, rtol=1e-6)
        np.testing.assert_array_equal(matlab[name], arrays[name])
    np.testing.assert_allclose(np.abs(arrays["m0"])[inside], stored(mapped / "M0map.nii.gz")[inside], rtol=1e-6)
    with ismrmrd.Dataset(str(mapped / "maps.h5"), create_if_needed=False) as dataset:
        image = dataset.read_image("T1map", 0)
    np.testing.assert_allclose(image.data[0, 0], arrays["t1_s"], rtol=1e-6)
    np.testing.assert_allclose(list(image.field_of_view), [220, 220, 5], rtol=1e-6)


@pytest.mark.parametrize(
    # Half a step of the coarse grid is 6 % of the T1 and T2 of white matter. Gridding leaves the aliasing of 6-fold
    # undersampling, which T2 shows more.
    ("method", "t1_tolerance", "t2_tolerance"),
    [("frames", 0.08, 0.25), ("gridding", 0.08, 0.25), ("low_rank", 0.08, 0.08)],
)
def test_other_methods_without_refinement(folder, method, t1_tolerance, t2_tolerance):
    config = ReconstructionConfig(method=method, rank=4, refine=False)
    found = map_scan(folder / "scan.h5", tissue=TISSUE, config=config)
    inside, t1, t2 = truth_of(folder, 0.832)
    assert np.median(np.abs(found.maps.t1[inside] / t1 - 1)) < t1_tolerance
    assert np.median(np.abs(found.maps.t2[inside] / t2 - 1)) < t2_tolerance
    assert set(found.seconds) == {"sensitivities", "reconstruction", "matching"}
    assert found.refined is None
    # Coefficients are those of the temporal basis, which each frame by itself has none of.
    assert (found.coefficients is None) == (found.dictionary.basis is None) == (method == "frames")


@pytest.fixture(scope="module")
def bare(folder):
    """The scan in a file with neither its trajectory nor its sequence, and the .seq that was played."""
    raw = read_mrd(folder / "scan.h5")
    write_mrd(folder / "bare.h5", dataclasses.replace(raw, trajectory=None, sequence=None))
    said = succeed(
        "export_pulseq",
        f"--output={folder / 'played.seq'}",
        f"--frames={FRAMES}",
        *SPIRALS,
        *PULSE,
        "--spoiler_turns=2",
    )
    assert "played.seq: 80 frames in " in said
    return folder


def test_the_pulse_is_the_one_of_the_flags(bare):
    assert_excites(bare / "played.seq", Excitation(1.6e-3, 6.0, "none", 6e-3, 2))


def test_a_pulseq_file_says_what_the_raw_data_does_not(bare, mapped):
    played = str(bare / "played.seq")
    sequence = SimulationConfig(schedule=played).sequence()
    config = ReconstructionConfig(rank=4, raw=RawConfig(trajectory=played))
    results = map_scan(bare / "bare.h5", sequence=sequence, tissue=TISSUE, config=config)
    for name, found in (("T1map", results.refined.t1), ("T2map", results.refined.t2)):
        expected = stored(mapped / f"{name}.nii.gz")
        inside = expected > 0
        # Times of the file are on a raster of 10 us of 12 ms, its gradients on one of 10 us of a readout of 1 ms.
        assert np.median(np.abs(found[inside] / expected[inside] - 1)) < 2e-3


def test_a_named_sequence_takes_the_place_of_the_files(folder, mapped, tmp_path):
    """Also where the folder, and not the command line, names it."""
    schedule = tmp_path / "own.csv"
    schedule.write_text("fa_deg,tr_ms,te_ms\n" + 79 * "20,12,3\n", encoding="utf-8")
    flags = (f"--input={folder / 'scan.h5'}", f"--output={tmp_path / 'maps'}")
    text = "scan.h5 has 80 frames, but the given sequence has 79"
    assert text in run("reconstruct_maps", *flags, f"--schedule={schedule}").stderr
    settings = json.loads((mapped / "config.json").read_text(encoding="utf-8"))
    settings["simulation"]["schedule"] = str(schedule)
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    assert text in run("reconstruct_maps", *flags).stderr


def test_a_killed_run_goes_on_with_the_stage_that_is_missing(folder, mapped, tmp_path):
    flags = (f"--input={folder / 'scan.h5'}", f"--output={tmp_path}")
    settings = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}  # those of this process
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(words("reconstruct_maps", *flags, *SMALL), cwd=ROOT, env=settings, **silent)
    kept = tmp_path / "stages" / "sensitivities.npz"
    while process.poll() is None and not kept.exists():
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "results.json").exists()
    before = kept.read_bytes()
    said = succeed("reconstruct_maps", *flags)  # everything else is read back
    assert kept.read_bytes() == before
    assert "sensitivities:" not in said
    assert "reconstruction:" in said
    for name in ("T1map", "T2map"):
        np.testing.assert_array_equal(stored(tmp_path / f"{name}.nii.gz"), stored(mapped / f"{name}.nii.gz"))


def test_a_damaged_stage_is_made_again_to_the_same_values(folder, mapped, tmp_path, capsys):
    """Those that come from the same reconstruction, that is."""
    stages = shutil.copytree(mapped / "stages", tmp_path / "stages")
    damaged = stages / "matching.npz"
    damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
    (stages / "refining.npz").unlink()
    results = map_scan(folder / "scan.h5", stages, tissue=TISSUE, config=ReconstructionConfig(rank=4))
    said = capsys.readouterr().out
    assert [name for name in ("sensitivities", "reconstruction", "matching", "refining") if f"{name}:" in said] == [
        "matching",
        "refining",
    ]
    with np.load(mapped / "maps.npz") as expected:
        for name, found in (("t1_s", results.refined.t1), ("t2_std_s", results.refined.t2_std)):
            np.testing.assert_array_equal(found, expected[name])


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("--rank=5", "--rank=5 conflicts with 4 in "),
        ("--method=gridding", "--method=gridding conflicts with sense in "),
        ("--norefine", "--refine=False conflicts with True in "),
        ("--grid=paper", "--grid=paper conflicts with coarse in "),
        (f"--input={__file__}", f"--input={__file__} conflicts with "),
    ],
)
def test_a_folder_keeps_to_its_settings(folder, mapped, flag, text):
    before = contents(mapped)
    given = () if "input" in flag else (f"--input={folder / 'scan.h5'}",)
    done = run("reconstruct_maps", *given, f"--output={mapped}", flag)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"error: {text}" in done.stderr
    assert contents(mapped) == before


def test_a_changed_input_is_refused(folder, mapped, tmp_path):
    shutil.copy(folder / "scan.h5", tmp_path / "scan.h5")
    shutil.copytree(mapped, tmp_path / "maps")
    for name in ("config.json", "stages/sources.json"):
        path = tmp_path / "maps" / name
        text = path.read_text(encoding="utf-8").replace(str(folder / "scan.h5"), str(tmp_path / "scan.h5"))
        path.write_text(text, encoding="utf-8")
    before = contents(tmp_path / "maps"), contents(tmp_path / "maps" / "stages")
    done = run("reconstruct_maps", f"--input={tmp_path / 'scan.h5'}", f"--output={tmp_path / 'maps'}")
    assert "scan.h5 has changed since" in done.stderr
    assert (contents(tmp_path / "maps"), contents(tmp_path / "maps" / "stages")) == before


@pytest.fixture(scope="module")
def spoilt(bare):
    """The folder of the scan, with files beside it that are wrong in one way each."""
    whole = (bare / "scan.h5").read_bytes()
    (bare / "truncated.h5").write_bytes(whole[: len(whole) // 2])
    (bare / "text.h5").write_text("no HDF5")
    with h5py.File(bare / "foreign.h5", "w") as file:
        file["images"] = np.ones(3)
    shutil.copy(bare / "scan.h5", bare / "gap.h5")
    shutil.copy(bare / "scan.h5", bare / "nan.h5")
    with h5py.File(bare / "gap.h5", "r+") as file:
        records = file["dataset/data"][()]
        del file["dataset/data"]
        file["dataset"].create_dataset("data", data=np.delete(records, 17), maxshape=(None,))
    with h5py.File(bare / "nan.h5", "r+") as file:
        record = file["dataset/data"][23]
        record["data"][5] = np.nan
        file["dataset/data"][23] = record
    np.savez(bare / "short_trajectory.npz", trajectory=np.zeros((FRAMES, 7, 2)))
    played = pypulseq.Sequence()
    played.add_block(pypulseq.make_block_pulse(0.5, duration=1e-3, use="excitation"))
    played.write(str(bare / "pulse.seq"))
    place = nibabel.load(bare / "truth" / "mask.nii.gz").affine.copy()
    place[0, 3] += 3.0  # mm, half a voxel
    write_image(bare / "moved.nii.gz", np.ones((40, 40)), place)
    np.savez(bare / "b1.npz", b1=np.ones((40, 40)))
    np.savez(bare / "images.npz", images=np.ones((FRAMES, 3, 4)))
    return bare


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"input": "none.h5"}, "none.h5: No such file or directory"),
        ({"input": "truncated.h5"}, "truncated.h5: not a whole HDF5 file"),
        ({"input": "text.h5"}, "text.h5: not a whole HDF5 file"),
        ({"input": "foreign.h5"}, "foreign.h5: no MRD raw data in 'dataset': the file holds images"),
        ({"input": "gap.h5"}, "gap.h5: repetition: missing of 0 to 79: 17"),
        ({"input": "nan.h5"}, "values are NaN or infinite, first in frame 23"),
        ({"input": "bare.h5"}, "bare.h5: "),
        ({"input": "played.seq"}, "suffix '.seq' is not one of"),
        ({"trajectory": "short_trajectory.npz"}, "(80, 7, 2)"),
        ({"trajectory": "pulse.seq"}, "pulse.seq: no readout (ADC) after any of 1 RF pulses"),
        ({"schedule": "pulse.seq"}, "pulse.seq: no readout (ADC) after any of 1 RF pulses"),
        ({"trajectory": "none.seq"}, "none.seq: No such file or directory"),
        ({"frames": 79}, "scan.h5 has 80 frames, but the given sequence has 79"),
        ({"mask": "moved.nii.gz"}, "moved.nii.gz: the mask lies up to 3 mm from the images: it is of another grid"),
        ({"b1_map": "b1.npz"}, "b1.npz wants atoms of several B1"),
        ({"also": "npz,nonsense"}, "--also must be one of npz, mat, mrd, dicom; got npz,nonsense"),
        ({"prefix": "sub/01"}, "--prefix must not hold a path; got 'sub/01'"),
        ({"slice": 3}, "scan.h5: no slice 3"),
        (
            {"input": "images.npz", "also": "mrd", "frames": FRAMES},
            "--also=mrd goes with raw data; got --input",
        ),
    ],
    ids=lambda value: ",".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_bad_input_is_one_line_and_leaves_the_folder_as_it_was(spoilt, tmp_path, options, text):
    files = {"input": "scan.h5"} | options
    given = [f"--{name}={spoilt / value if '.' in str(value) else value}" for name, value in files.items()]
    done = run("reconstruct_maps", f"--output={tmp_path}", *given, "--grid=coarse", UNIFORM)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("error: ")
    assert text in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_folder_of_stages_that_was_there_stays(spoilt, tmp_path):
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "notes.txt").write_text("of the user", encoding="utf-8")
    done = run("reconstruct_maps", f"--input={spoilt / 'gap.h5'}", f"--output={tmp_path}", "--grid=coarse")
    assert done.returncode == 2
    assert "gap.h5: repetition: missing of 0 to 79: 17" in done.stderr
    assert (tmp_path / "stages" / "notes.txt").exists()
    assert not (tmp_path / "config.json").exists()


def test_a_scan_that_does_not_fit_is_refused_with_both_figures(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("psutil.virtual_memory", lambda: types.SimpleNamespace(available=1e8))
    done = run("reconstruct_maps", f"--input={folder / 'scan.h5'}", f"--output={tmp_path / 'maps'}", "--rank=79")
    assert done.returncode == 2
    assert "scan.h5 needs 0." in done.stderr
    assert "but 0.1 GB are there: " in done.stderr
    assert not (tmp_path / "maps").exists()
