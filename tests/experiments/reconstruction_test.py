"""Scanned, reconstructed and mapped as a user does it: the tissue comes back, a cut run goes on, bad input is refused.

Most runs call ``main`` here, where the programs stay compiled; that a `ValueError` ends a command with code 2 and one
line is seen once, from outside.
"""

import dataclasses
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from unittest import mock

import h5py
import ismrmrd
import nibabel
import numpy as np
import pypulseq
import pytest
import scipy.io
from absl import flags
from absl.testing import flagsaver

from experiments import reconstruct_maps
from ganmrf import parallel
from ganmrf.io.maps import write_image
from ganmrf.io.mrd import read_mrd, write_mrd
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate
from ganmrf.physics.tissue import Tissue

ROOT = pathlib.Path(__file__).parents[2]
FRAMES = 80
SPIRALS = ("--size=40", "--field_of_view_mm=220", "--interleaves=6")
SMALL = ("--grid=coarse", "--rank=4")


def command(experiment, *options):
    return [sys.executable, "-m", f"experiments.{experiment}", *map(str, options)]


def run(experiment, *options):
    return subprocess.run(command(experiment, *options), cwd=ROOT, capture_output=True, text=True)


def reconstruct(*options, report=False):
    """The command, in this process; figures take as long as the rest, and are drawn where they are looked at."""
    drawn = reconstruct_maps.write_reconstruction_report if report else lambda *_: None
    with flagsaver.flagsaver(), mock.patch.object(reconstruct_maps, "write_reconstruction_report", drawn):
        others = {"workdir"} & set(flags.FLAGS)  # required by a command that another file of tests imported
        flags.FLAGS(["reconstruct_maps", *map(str, options), *(f"--{name}=unused" for name in others)])
        reconstruct_maps.main()


def stored(path):
    return nibabel.load(path).get_fdata()[..., 0].T


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a scan of the brain, and its truth in a folder."""
    folder = tmp_path_factory.mktemp("scan")
    options = (f"--truth={folder / 'truth'}", f"--frames={FRAMES}", "--coils=4", "--snr=200", "--variation=0")
    done = run("simulate_acquisition", f"--output={folder / 'scan.h5'}", *options, *SPIRALS)
    assert (done.returncode, done.stderr) == (0, "")
    assert "scan.h5: 80 frames, 4 coils, " in done.stdout
    return folder


@pytest.fixture(scope="module")
def mapped(folder):
    """Maps of that scan in every format."""
    reconstruct(
        f"--input={folder / 'scan.h5'}", f"--output={folder / 'maps'}", "--also=npz,mat,mrd", *SMALL, report=True
    )
    return folder / "maps"


def errors(folder, maps, tissue):
    """Relative errors of T1 and T2 where a tissue of that T1 (s) fills the voxel; all such voxels were mapped."""
    truth = {name: stored(folder / "truth" / f"{name}.nii.gz") for name in ("T1map", "T2map", "mask")}
    inside = np.isclose(truth["T1map"], tissue) & (truth["mask"] > 0)
    found = [stored(maps / f"{name}.nii.gz")[inside] for name in ("T1map", "T2map")]
    assert np.all(found)
    return [np.abs(values / truth[name][inside] - 1) for values, name in zip(found, truth, strict=False)]


def test_the_brain_comes_back(folder, mapped):
    for tissue, voxels, tolerance in ((0.832, 100, 0.03), (1.331, 10, 0.06)):
        t1, t2 = errors(folder, mapped, tissue)
        assert len(t1) >= voxels
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
    assert set(results["seconds"]) == {"sensitivities", "reconstruction", "matching", "refining"}
    report = (mapped / "report.html").read_text()
    assert str(folder / "scan.h5") in report
    assert "CG-SENSE" in report
    # Maps, error bars, trajectory, sensitivities, coefficients, residuals, sequence.
    assert report.count("data:image/png;base64") == 7


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
def test_other_methods_without_refinement(folder, tmp_path, method, t1_tolerance, t2_tolerance):
    options = (f"--method={method}", "--norefine", "--prefix=sub-01", *SMALL)
    reconstruct(f"--input={folder / 'scan.h5'}", f"--output={tmp_path}", *options)
    names = {path.name.removesuffix(".nii.gz") for path in tmp_path.glob("*.nii.gz")}
    assert names == {f"sub-01_{name}" for name in ("T1map", "T2map", "M0map", "part-phase_M0map", "quality")}
    for path in tmp_path.glob("sub-01_*"):
        path.rename(tmp_path / path.name.removeprefix("sub-01_"))
    t1, t2 = errors(folder, tmp_path, 0.832)
    assert np.median(t1) < t1_tolerance
    assert np.median(t2) < t2_tolerance
    steps = {"sensitivities", "reconstruction", "matching"}
    assert set(json.loads((tmp_path / "results.json").read_text())["seconds"]) == steps
    # Coefficients are those of the temporal basis, which each frame by itself has none of.
    rank = json.loads((tmp_path / "T1map.json").read_text())["Dictionary"]["Rank"]
    assert rank == (None if method == "frames" else 4)


@pytest.fixture(scope="module")
def bare(folder):
    """The scan in a file with neither its trajectory nor its sequence, and the .seq that was played."""
    raw = read_mrd(folder / "scan.h5")
    write_mrd(folder / "bare.h5", dataclasses.replace(raw, trajectory=None, sequence=None))
    done = run("export_pulseq", f"--output={folder / 'played.seq'}", f"--frames={FRAMES}", *SPIRALS)
    assert (done.returncode, done.stderr) == (0, "")
    assert "played.seq: 80 frames in " in done.stdout
    return folder


def test_a_pulseq_file_says_what_the_raw_data_does_not(bare, mapped, tmp_path):
    played = bare / "played.seq"
    options = (f"--schedule={played}", f"--trajectory={played}", *SMALL)
    reconstruct(f"--input={bare / 'bare.h5'}", f"--output={tmp_path}", *options)
    for name in ("T1map", "T2map"):
        expected, found = stored(mapped / f"{name}.nii.gz"), stored(tmp_path / f"{name}.nii.gz")
        inside = expected > 0
        # Times of the file are on a raster of 10 us of 12 ms, its gradients on one of 10 us of a readout of 1 ms.
        assert np.median(np.abs(found[inside] / expected[inside] - 1)) < 2e-3
    assert json.loads((tmp_path / "T1map.json").read_text())["Sources"] == [str(bare / "bare.h5"), str(played)]


def test_a_named_sequence_takes_the_place_of_the_files(folder, mapped, tmp_path):
    """Also where the folder, and not the command line, names it."""
    schedule = tmp_path / "own.csv"
    schedule.write_text("fa_deg,tr_ms,te_ms\n" + 79 * "20,12,3\n")
    options = (f"--input={folder / 'scan.h5'}", f"--output={tmp_path / 'maps'}")
    words = "scan.h5 has 80 frames, but the given sequence has 79"
    with pytest.raises(ValueError, match=words):
        reconstruct(*options, f"--schedule={schedule}")
    settings = json.loads((mapped / "config.json").read_text())
    settings["simulation"]["schedule"] = str(schedule)
    (tmp_path / "maps" / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=words):
        reconstruct(*options)


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """A folder with images of 24 voxels without noise, T1 and T2 between the atoms, B1 0.9 to 1.1; T1, T2 and B1."""
    folder = tmp_path_factory.mktemp("series")
    rng = np.random.default_rng(0)
    t1, t2, b1 = (rng.uniform(*bounds, (4, 6)) for bounds in ((0.5, 2.0), (0.05, 0.2), (0.9, 1.1)))
    images = np.moveaxis(30 * np.exp(1j) * np.asarray(simulate(mrf_fisp(FRAMES), Tissue(t1, t2, b1))), -1, 0)
    np.savez(folder / "images.npz", images=images.astype(np.complex64))
    even = np.moveaxis(np.asarray(simulate(mrf_fisp(FRAMES), Tissue(t1, t2))), -1, 0)
    affine = np.diag([-2.0, 3.0, 4.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(even.T[:, :, None].astype(np.float32), affine), folder / "images.nii.gz")
    np.savez(folder / "percent.npz", b1=100 * b1)
    return folder, affine, t1, t2, b1


def test_an_image_series_with_mask_and_b1(series, tmp_path):
    folder, _, t1, t2, b1 = series
    inside = np.random.default_rng(1).random(t1.shape) > 0.3
    np.savez(folder / "mask.npz", mask=inside)
    options = (f"--mask={folder / 'mask.npz'}", f"--b1_map={folder / 'percent.npz'}", "--b1_scale=0.01")
    options += ("--b1=0.85:1.15:0.05", "--grid=coarse", "--rank=12", f"--frames={FRAMES}")
    reconstruct(f"--input={folder / 'images.npz'}", f"--output={tmp_path}", *options, report=True)
    # Rank 12 of 80 frames leaves out less than 1e-3 of a signal, and the fit is linear between atoms of two B1.
    for name, values, tolerance in (("T1map", t1, 0.01), ("T2map", t2, 0.02), ("TB1map", 100 * b1, 1e-6)):
        np.testing.assert_allclose(stored(tmp_path / f"{name}.nii.gz"), np.where(inside, values, 0), rtol=tolerance)
    report = (tmp_path / "report.html").read_text()
    assert "an image series" in report
    assert "Sensitivities" not in report


def test_a_nifti_series_keeps_its_place(series, tmp_path):
    folder, affine, t1, t2, _ = series
    reconstruct(
        f"--input={folder / 'images.nii.gz'}", f"--output={tmp_path}", f"--frames={FRAMES}", "--grid=coarse", "--rank=8"
    )
    # As above; no mask: every voxel has a tenth of the strongest signal.
    for name, values in (("T1map", t1), ("T2map", t2)):
        np.testing.assert_allclose(stored(tmp_path / f"{name}.nii.gz"), values, rtol=0.01)
        np.testing.assert_allclose(nibabel.load(tmp_path / f"{name}.nii.gz").affine, affine, atol=1e-5)


def test_a_killed_run_goes_on_with_the_stage_that_is_missing(folder, mapped, tmp_path, capsys):
    options = (f"--input={folder / 'scan.h5'}", f"--output={tmp_path}", *SMALL)
    process = subprocess.Popen(command("reconstruct_maps", *options), cwd=ROOT, stdout=subprocess.DEVNULL)
    kept = tmp_path / "stages" / "sensitivities.npz"
    while process.poll() is None and not kept.exists():
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "results.json").exists()
    before = kept.read_bytes()
    reconstruct(*options)
    assert kept.read_bytes() == before
    said = capsys.readouterr().out
    assert "sensitivities:" not in said
    assert "reconstruction:" in said
    for name in ("T1map", "T2map"):
        expected = stored(mapped / f"{name}.nii.gz")
        np.testing.assert_array_equal(stored(tmp_path / f"{name}.nii.gz"), expected)


def test_a_damaged_stage_is_made_again_to_the_same_bytes(folder, mapped, tmp_path, capsys):
    """Those that come from the same reconstruction, that is."""
    shutil.copytree(mapped, tmp_path / "maps")
    for path in (tmp_path / "maps").glob("*map*"):
        path.unlink()
    damaged = tmp_path / "maps" / "stages" / "matching.npz"
    damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
    (tmp_path / "maps" / "stages" / "refining.npz").unlink()
    reconstruct(f"--input={folder / 'scan.h5'}", f"--output={tmp_path / 'maps'}")  # everything else is read back
    said = capsys.readouterr().out
    assert [name for name in ("sensitivities", "reconstruction", "matching", "refining") if f"{name}:" in said] == [
        "matching",
        "refining",
    ]
    found, expected = contents(tmp_path / "maps"), contents(mapped)
    for name in expected:
        if name.endswith(".nii.gz"):
            np.testing.assert_array_equal(stored(tmp_path / "maps" / name), stored(mapped / name), err_msg=name)
        elif name.endswith("map.json"):
            assert found[name] == expected[name]


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--rank=5", "--rank=5 conflicts with 4 in "),
        ("--method=gridding", "--method=gridding conflicts with sense in "),
        ("--norefine", "--refine=False conflicts with True in "),
        ("--grid=paper", "--grid=paper conflicts with coarse in "),
        ("--input=none.h5", "--input=none.h5 conflicts with "),
    ],
)
def test_a_folder_keeps_to_its_settings(folder, mapped, flag, words):
    before = contents(mapped)
    with pytest.raises(ValueError, match=words):
        reconstruct(f"--input={folder / 'scan.h5'}", f"--output={mapped}", flag)
    assert contents(mapped) == before


def test_a_changed_input_is_refused(folder, mapped, tmp_path):
    shutil.copy(folder / "scan.h5", tmp_path / "scan.h5")
    shutil.copytree(mapped, tmp_path / "maps")
    for name in ("config.json", "stages/sources.json"):
        path = tmp_path / "maps" / name
        path.write_text(path.read_text().replace(str(folder / "scan.h5"), str(tmp_path / "scan.h5")))
    before = contents(tmp_path / "maps")
    with pytest.raises(ValueError, match=r"scan.h5 has changed since .*stages was begun: use another folder"):
        reconstruct(f"--input={tmp_path / 'scan.h5'}", f"--output={tmp_path / 'maps'}")
    assert set(contents(tmp_path / "maps")) == set(before)


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
    ("options", "words"),
    [
        ({"input": "none.h5"}, "cannot read .*none.h5: No such file or directory"),
        ({"input": "truncated.h5"}, "truncated.h5: not a whole HDF5 file"),
        ({"input": "text.h5"}, "text.h5: not a whole HDF5 file"),
        ({"input": "foreign.h5"}, "foreign.h5: no MRD raw data in 'dataset': the file holds images"),
        ({"input": "gap.h5"}, "gap.h5: repetition: missing of 0 to 79: 17"),
        ({"input": "nan.h5"}, "nan.h5: kspace: 1 of .* values are NaN or infinite, first in frame 23"),
        ({"input": "bare.h5"}, "bare.h5: .*trajectory"),
        ({"input": "played.seq"}, "suffix '.seq' is not one of"),
        ({"trajectory": "short_trajectory.npz"}, r"scan.h5: .*trajectory.*\(80, 7, 2\)"),
        ({"trajectory": "pulse.seq"}, r"pulse.seq: no readout \(ADC\) after any of 1 RF pulses"),
        ({"schedule": "pulse.seq"}, r"pulse.seq: no readout \(ADC\) after any of 1 RF pulses"),
        ({"trajectory": "none.seq"}, "none.seq: No such file or directory"),
        ({"frames": 79}, "scan.h5 has 80 frames, but the given sequence has 79"),
        ({"mask": "moved.nii.gz"}, "moved.nii.gz: the mask lies up to 3 mm from the images: it is of another grid"),
        ({"b1_map": "b1.npz"}, "b1_map=.*b1.npz wants atoms of several B1"),
        ({"also": "npz,nonsense"}, "--also must be of npz, mat, mrd; got nonsense"),
        ({"prefix": "sub/01"}, "prefix must not hold a path; got 'sub/01'"),
        ({"slice": 3}, "scan.h5: no slice 3"),
        (
            {"input": "images.npz", "also": "mrd", "frames": FRAMES},
            "--also=mrd goes with raw data, .h5 or .mrd; got --input",
        ),
    ],
    ids=lambda value: ",".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_bad_input_is_refused_and_the_folder_can_be_used(spoilt, tmp_path, options, words):
    files = {"input": "scan.h5"} | options
    given = [f"--{name}={spoilt / value if '.' in str(value) else value}" for name, value in files.items()]
    with pytest.raises(ValueError, match=words):
        reconstruct(f"--output={tmp_path}", *given, "--grid=coarse")
    assert [path.name for path in tmp_path.iterdir()] in ([], ["lock"])


def test_a_scan_that_does_not_fit_is_refused_with_both_figures(folder, tmp_path, monkeypatch):
    (tmp_path / "meminfo").write_text("MemTotal: 2000000 kB\nMemAvailable:  100000 kB\n")
    monkeypatch.setattr(parallel, "_MEMINFO", tmp_path / "meminfo")
    with pytest.raises(ValueError, match=r"scan.h5 needs 0.\d GB of memory, but 0.1 GB are there: fewer virtual_coils"):
        reconstruct(f"--input={folder / 'scan.h5'}", f"--output={tmp_path / 'maps'}")
    assert [path.name for path in (tmp_path / "maps").iterdir()] == ["lock"]


def test_code_2_and_one_line(spoilt, tmp_path):
    done = run("reconstruct_maps", f"--input={spoilt / 'gap.h5'}", f"--output={tmp_path}")
    assert done.returncode == 2
    assert done.stderr == f"error: {spoilt / 'gap.h5'}: repetition: missing of 0 to 79: 17\n"
    assert done.stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
