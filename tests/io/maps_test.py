"""Map files hold the maps in seconds, every voxel where it was in the scanner, with what they came from beside them."""

import dataclasses
import json
import shutil
import subprocess

import nibabel
import numpy as np
import pytest
import scipy.io

import ganmrf
from ganmrf.dictionary.build import Dictionary
from ganmrf.dictionary.match import Maps
from ganmrf.dictionary.refine import Refined
from ganmrf.files import make_folder, read_arrays
from ganmrf.io.field_maps import read_b0_map, read_b1_map
from ganmrf.io.maps import describe, save_maps, write_dataset, write_maps
from ganmrf.io.series import read_series
from ganmrf.physics.rf_pulse import windowed_sinc
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.sequences.multi_spin_echo import MultiSpinEcho
from ganmrf.physics.slice_profile import FullSlice, PartitionedSlice, small_tip
from ganmrf.physics.tissue import FACTS, Tissue

NAMES = ("T1map", "T2map", "M0map", "part-phase_M0map", "quality")
AFFINE = np.array([[0, -2.0, 0, 10], [1.5, 0, 0, -20], [0, 0, 3.0, 30], [0, 0, 0, 1]])


def maps(shape):
    """Maps with no value twice, and with voxels that were not matched holding numbers that must not be written."""
    n = np.arange(np.prod(shape)).reshape(shape)
    m0 = (1 + n) * np.exp(1j * (n / n.size - 0.5))
    index, quality = np.where(n % 3, n, -1), (1.0 + n) / n.size
    return Maps(t1=1.0 + n, t2=0.01 * (1.0 + n), b1=0.5 + quality, m0=m0, index=index, quality=quality)


def with_b0(some):
    """The maps with off-resonance, and its standard deviation where they are refined, of both signs."""
    more = {"off_resonance_std": 0.01 * some.t1} if isinstance(some, Refined) else {}
    return dataclasses.replace(some, off_resonance=some.t1 - np.mean(some.t1), **more)


def refined(shape):
    """Other numbers than `maps`, none of them twice."""
    n = np.arange(np.prod(shape)).reshape(shape)
    zero = np.zeros(shape)
    return Refined(
        t1=100.5 + n,
        t2=0.5 + n,
        m0=(200 + n) * 1j,
        b1=0.9 + 0.001 * n,
        t1_std=0.01 + 0.001 * n,
        t2_std=0.03 + 0.001 * n,
        m0_std=zero,
        noise=zero,
        converged=zero == 0,
    )


@pytest.mark.parametrize("shape", [(2, 3, 4), (3, 4), (4,)])
def test_every_voxel_is_in_its_place(tmp_path, shape):
    expected = maps(shape)
    paths = write_maps(tmp_path, expected, affine=AFFINE)
    assert tuple(paths) == NAMES
    values = (expected.t1, expected.t2, np.abs(expected.m0), np.angle(expected.m0), expected.quality)
    for name, value in zip(NAMES, values, strict=True):
        assert paths[name] == tmp_path / f"{name}.nii.gz"
        image = nibabel.load(paths[name])
        assert image.get_data_dtype() == np.float32
        assert image.shape == (*shape[::-1], 1, 1)[:3]
        stored = np.asarray(image.dataobj).reshape(shape[::-1]).T
        np.testing.assert_array_equal(stored, np.where(expected.index >= 0, value, 0).astype(np.float32))


def test_geometry(tmp_path):
    for affine, voxel_size, expected, code in (
        (AFFINE, (1, 1, 1), AFFINE, 1),  # scanner
        (None, (3e-3, 2e-3, 1e-3), np.diag([1.0, 2.0, 3.0, 1.0]), 2),  # aligned: positions in the scanner are unknown
    ):
        paths = write_maps(tmp_path, maps((2, 3, 4)), affine=affine, voxel_size=voxel_size)
        header = nibabel.load(paths["T1map"]).header
        # Both are stored in float32, the qform as a quaternion.
        np.testing.assert_allclose(header.get_sform(), expected, atol=1e-5)
        np.testing.assert_allclose(header.get_qform(), expected, atol=1e-5)
        assert (header["sform_code"], header["qform_code"]) == (code, code)
        assert header.get_xyzt_units()[0] == "mm"


def test_maps_lie_on_the_series_they_came_from(tmp_path):
    """Reading a NIfTI series and writing a map of it gives back the voxel grid of the series."""
    scan = np.random.default_rng(0).random((4, 3, 2, 5)).astype(np.float32)  # (x, y, z, frames)
    nibabel.save(nibabel.Nifti1Image(scan, AFFINE), tmp_path / "scan.nii.gz")
    series = read_series(tmp_path / "scan.nii.gz")
    first = series.images[0].astype(float)
    whole = dataclasses.replace(maps(first.shape), t1=first, index=np.zeros(first.shape, int))
    image = nibabel.load(write_maps(tmp_path, whole, affine=series.affine)["T1map"])
    np.testing.assert_array_equal(image.dataobj, scan[..., 0])
    np.testing.assert_array_equal(image.affine, nibabel.load(tmp_path / "scan.nii.gz").affine)


@pytest.mark.parametrize("prefix", ["sub-01_ses-2", "sub-01_ses-2_"])
def test_names_and_sidecars(tmp_path, prefix):
    write_maps(tmp_path / "new" / "folder", maps((3, 4)), prefix=prefix, sidecar={"Sources": ["scan.nii.gz"]})
    files = {path.name for path in (tmp_path / "new" / "folder").iterdir()}
    assert files == {f"sub-01_ses-2_{name}.{suffix}" for name in NAMES for suffix in ("nii.gz", "json")}
    units = {}
    for name in NAMES:
        sidecar = json.loads((tmp_path / "new" / "folder" / f"sub-01_ses-2_{name}.json").read_text(encoding="utf-8"))
        units[name] = sidecar["Units"]
        assert sidecar["Sources"] == ["scan.nii.gz"]
        assert "matching" in sidecar["EstimationAlgorithm"]
        assert sidecar["GeneratedBy"] == [{"Name": "ganmrf", "Version": ganmrf.__version__}]
        if name.endswith("M0map"):
            assert ("magnitude of" if name == "M0map" else "phase of") in sidecar["Description"]
    assert units == {"T1map": "s", "T2map": "s", "M0map": "arbitrary", "part-phase_M0map": "rad", "quality": "1"}


def test_a_dataset_is_accepted_by_the_bids_validator(tmp_path):
    """That of the BIDS consortium: ``pip install bids-validator-deno``."""
    command = shutil.which("bids-validator-deno")
    if command is None:
        pytest.skip("needs bids-validator-deno")
    write_dataset(tmp_path, "maps of a phantom")
    place = {"prefix": "sub-01", "affine": AFFINE, "with_b1": True}
    others = {name: np.ones((2, 3, 4)) for name in FACTS.keys() - {"t1", "t2", "b1", "off_resonance"}}
    found = with_b0(maps((2, 3, 4))), with_b0(refined((2, 3, 4)))
    stds = {f"{name}_std": values for name, values in others.items()}
    found = dataclasses.replace(found[0], **others), dataclasses.replace(found[1], **others, **stds)
    write_maps(tmp_path / "sub-01" / "anat", found[0], refined=found[1], **place)
    said = subprocess.run([command, "--json", tmp_path], capture_output=True, text=True, check=False)
    issues = json.loads(said.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue["severity"] == "error"] == []


def test_b1_is_written_in_percent_and_read_back(tmp_path):
    expected = maps((2, 3, 4))
    path = write_maps(tmp_path, expected, prefix="sub-01", with_b1=True)["TB1map"]
    assert path == tmp_path / "sub-01_TB1map.nii.gz"
    b1 = np.where(expected.index >= 0, expected.b1, 0)
    np.testing.assert_allclose(nibabel.load(path).get_fdata().T, 100 * b1, rtol=1e-6)  # float32
    np.testing.assert_allclose(read_b1_map(path, (2, 3, 4), scale=0.01), b1, rtol=1e-6)
    sidecar = json.loads((tmp_path / "sub-01_TB1map.json").read_text(encoding="utf-8"))
    assert sidecar["Units"] == "arbitrary"  # as BIDS has it
    assert "in percent of the nominal one" in sidecar["Description"]


def test_b0_is_written_in_hz_and_read_back(tmp_path):
    matched, better = with_b0(maps((2, 3, 4))), with_b0(refined((2, 3, 4)))
    paths = write_maps(tmp_path, matched, refined=better, prefix="sub-01")
    inside = matched.index >= 0
    b0 = np.where(inside, better.off_resonance, 0)
    np.testing.assert_allclose(nibabel.load(paths["fieldmap"]).get_fdata().T, b0, rtol=1e-6)  # float32
    std = np.where(inside, better.off_resonance_std, 0)
    np.testing.assert_allclose(nibabel.load(paths["desc-std_fieldmap"]).get_fdata().T, std, rtol=1e-6)
    for name in ("fieldmap", "desc-std_fieldmap"):
        sidecar = json.loads((tmp_path / f"sub-01_{name}.json").read_text(encoding="utf-8"))
        assert sidecar["Units"] == "Hz"  # as BIDS has it
    np.testing.assert_allclose(read_b0_map(paths["fieldmap"], (2, 3, 4)), b0, rtol=1e-6)
    assert set(write_maps(tmp_path / "matched", matched)) == {*NAMES, "fieldmap"}
    save_maps(tmp_path / "maps.npz", matched, refined=better)
    arrays = read_arrays(tmp_path / "maps.npz")
    np.testing.assert_array_equal(arrays["off_resonance_hz"], better.off_resonance)
    np.testing.assert_array_equal(arrays["off_resonance_std_hz"], better.off_resonance_std)


@pytest.mark.parametrize(
    ("unit", "hz"), [("Hz", 1), ("rad/s", 0.159154943), ("T", 42.577478518e6)]
)  # CODATA 2018: gamma over 2 pi
def test_units_of_b0_maps(tmp_path, unit, hz):
    b0 = np.linspace(-80, 120, 24).reshape(2, 3, 4)
    nibabel.save(nibabel.Nifti1Image((b0 / hz).T, AFFINE), tmp_path / "b0.nii.gz")
    (tmp_path / "b0.json").write_text(json.dumps({"Units": unit}), encoding="utf-8")
    np.testing.assert_allclose(read_b0_map(tmp_path / "b0.nii.gz", (2, 3, 4)), b0, rtol=1e-6)
    np.testing.assert_allclose(read_b0_map(tmp_path / "b0.nii.gz", (2, 3, 4), scale=-hz), -b0, rtol=1e-6)


def test_b0_maps_that_are_none(tmp_path):
    b0 = np.linspace(-80, 120, 6).reshape(2, 3)
    np.savez(tmp_path / "b0.npz", b0=b0, mask=np.ones((2, 3)))
    np.testing.assert_array_equal(read_b0_map(tmp_path / "b0.npz", (2, 3)), b0)
    np.savez(tmp_path / "none.npz", b0=np.full((2, 3), np.nan))
    assert np.isnan(read_b0_map(tmp_path / "none.npz", (2, 3))).all()
    np.savez(tmp_path / "far.npz", b0=100 * b0)
    with pytest.raises(ValueError, match=r"far\.npz: half of the values .* 8000 Hz or more off.* --b0_scale, 0.1592"):
        read_b0_map(tmp_path / "far.npz", (2, 3))
    for scale in (0, np.inf, np.nan):
        with pytest.raises(ValueError, match="scale of a B0 map must be finite, and not 0; got"):
            read_b0_map(tmp_path / "b0.npz", (2, 3), scale=scale)
    nibabel.save(nibabel.Nifti1Image(b0.T[:, :, None], AFFINE), tmp_path / "b0.nii")
    (tmp_path / "b0.json").write_text(json.dumps({"Units": "ppm"}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"b0\.json: Units must be one of Hz, rad/s, T; got 'ppm': give --b0_scale"):
        read_b0_map(tmp_path / "b0.nii", (2, 3))
    np.testing.assert_allclose(read_b0_map(tmp_path / "b0.nii", (2, 3), scale=2.0), 2 * b0)


def test_b1_maps_of_arrays(tmp_path):
    b1 = np.linspace(0.8, 1.2, 6).reshape(2, 3)
    np.savez(tmp_path / "b1.npz", b1=b1, mask=np.ones((2, 3)))
    scipy.io.savemat(tmp_path / "b1.mat", {"percent": (100 * b1).astype(np.uint8)})
    for shape in ((2, 3), (1, 2, 3)):
        np.testing.assert_array_equal(read_b1_map(tmp_path / "b1.npz", shape), b1.reshape(shape))
    np.testing.assert_allclose(read_b1_map(tmp_path / "b1.mat", (2, 3), scale=0.01), b1, atol=0.01)
    signalling = np.array([0x7F800001] * 6, np.uint32).view(np.float32)  # a NaN that arithmetic would warn of
    np.savez(tmp_path / "nan.npz", b1=signalling.reshape(2, 3))
    assert np.isnan(read_b1_map(tmp_path / "nan.npz", (2, 3))).all()
    with pytest.raises(ValueError, match=r"b1\.npz: the B1 map has shape \(2, 3\), but the images have \(3, 2\)"):
        read_b1_map(tmp_path / "b1.npz", (3, 2))
    np.savez(tmp_path / "complex.npz", b1=1j * b1)
    with pytest.raises(ValueError, match=r"complex\.npz: a B1 map must be real; got complex128"):
        read_b1_map(tmp_path / "complex.npz", (2, 3))
    for scale in (0, np.inf, np.nan):
        with pytest.raises(ValueError, match="scale of a B1 map must be positive and finite; got"):
            read_b1_map(tmp_path / "b1.npz", (2, 3), scale=scale)


def test_refined_maps_take_the_place_of_matched_ones(tmp_path):
    matched, better = maps((3, 4)), refined((3, 4))
    paths = write_maps(tmp_path, matched, refined=better, prefix="sub-01", with_b1=True)
    expected = {
        "T1map": better.t1,
        "T2map": better.t2,
        "M0map": np.abs(better.m0),
        "part-phase_M0map": np.angle(better.m0),
        "quality": matched.quality,
        "desc-std_T1map": better.t1_std,
        "desc-std_T2map": better.t2_std,
        "TB1map": 100 * better.b1,
    }
    assert set(paths) == set(expected)
    for name, values in expected.items():
        assert paths[name] == tmp_path / f"sub-01_{name}.nii.gz"
        values = np.where(matched.index >= 0, values, 0)
        np.testing.assert_allclose(nibabel.load(paths[name]).get_fdata()[..., 0].T, values, rtol=1e-6)  # float32
        sidecar = json.loads((tmp_path / f"sub-01_{name}.json").read_text(encoding="utf-8"))
        algorithm = sidecar["EstimationAlgorithm"]
        assert (algorithm == "dictionary matching, refined by Gauss-Newton") == (name != "quality")
        if name.startswith("desc-std"):
            assert sidecar["Units"] == "s"
            assert sidecar["Description"].startswith("standard deviation of T")
    for write in (write_maps, lambda folder, *a, **k: save_maps(folder / "maps.npz", *a, **k)):
        with pytest.raises(ValueError, match=r"refined maps have shape \(3, 4\), but the matched ones have \(4, 3\)"):
            write(tmp_path / "new", maps((4, 3)), refined=better)


@pytest.mark.parametrize("suffix", [".npz", ".mat"])
def test_maps_as_arrays(tmp_path, suffix):
    matched, better, path = maps((3, 4)), refined((3, 4)), tmp_path / f"maps{suffix}"
    own = {"quality": matched.quality, "index": matched.index}
    for options, best, more in (
        ({}, matched, {}),
        ({"refined": better}, better, {"t1_std_s": better.t1_std, "t2_std_s": better.t2_std}),
    ):
        save_maps(path, matched, **options)
        arrays = read_arrays(path)
        expected = {"t1_s": best.t1, "t2_s": best.t2, "m0": best.m0, "b1": best.b1, **own, **more}
        assert set(arrays) == set(expected)
        for name, values in expected.items():
            np.testing.assert_array_equal(arrays[name], values)
            assert arrays[name].dtype == values.dtype
    with pytest.raises(ValueError, match=r"maps.csv: suffix '.csv' is not one of .npz, .mat"):
        save_maps(tmp_path / "maps.csv", matched)
    with pytest.raises(ValueError, match=r"cannot write .*: No such file"):
        save_maps(tmp_path / "none" / path.name, matched)
    assert list(tmp_path.iterdir()) == [path]


def test_a_b1_map_on_another_grid_is_refused(tmp_path):
    image = nibabel.Nifti1Image(np.ones((4, 3, 2), np.float32), AFFINE)
    nibabel.save(image, tmp_path / "b1.nii")
    assert read_b1_map(tmp_path / "b1.nii", (2, 3, 4), affine=AFFINE).all()
    moved = AFFINE + np.eye(4, k=1) @ np.diag([0, 0, 0, 2.5])  # 2.5 mm along the third axis
    with pytest.raises(
        ValueError, match=r"b1\.nii: the B1 map lies up to 2.5 mm from the images: it is of another grid"
    ):
        read_b1_map(tmp_path / "b1.nii", (2, 3, 4), affine=moved)


def test_description_of_a_dictionary():
    dictionary = Dictionary(
        tissue=Tissue([0.5, 1.0], [0.05, 0.1], 1.1),
        fingerprints=np.eye(2, 3),
        norms=np.ones(2),
        sequence=Fisp([0.0, np.pi / 6, np.pi / 3], [0.012, 0.013, 0.014], 0.002, 0.018),
    )
    assert describe(dictionary) == {
        "Dictionary": {
            "Atoms": 2,
            "Rank": None,
            "Tissue": "one_pool",
            "T1Range": [0.5, 1.0],
            "T2Range": [0.05, 0.1],
            "B1Range": [1.1, 1.1],
            "OffResonanceRange": None,
            "SliceProfile": False,
            "SliceModel": None,
        },
        "Sequence": {
            "Kind": "fisp",
            "Frames": 3,
            "FlipAngleRangeDegrees": [0.0, 60.0],
            "RepetitionTimeRange": [0.012, 0.014],
            "EchoTimeRange": [0.002, 0.002],
            "InversionTime": 0.018,
        },
    }
    bare = dataclasses.replace(dictionary, sequence=Fisp([0.1], 0.012, 0.002), basis=np.eye(3, 2))
    assert describe(bare)["Sequence"]["InversionTime"] is None
    assert describe(bare)["Dictionary"]["Rank"] == 2


def test_description_of_a_slice():
    pulse, tissue, sequence = windowed_sinc(8, "hann"), Tissue([0.5, 1.0], 0.05), Fisp([0.1], 0.012, 0.002)
    described = [
        describe(Dictionary(tissue, np.eye(2, 1), np.ones(2), sequence, profile))["Dictionary"]
        for profile in (FullSlice(pulse, 4), PartitionedSlice(pulse, 32), small_tip(pulse, 5))
    ]
    assert [each["SliceProfile"] for each in described] == [True, True, True]
    of_pulse = {"TimeBandwidthProduct": 8.0, "PulseSamples": 180}
    assert [each["SliceModel"] for each in described] == [
        {"Name": "full", **of_pulse, "SpoilerTurns": 4.0},
        {"Name": "partitioned", **of_pulse, "Positions": 32, "PulsePhases": True},
        {"Name": "small_tip", "Nodes": 5},
    ]
    assert json.loads(json.dumps(described)) == described


def test_description_of_other_sequences():
    tissue = Tissue([0.5, 1.0], [0.05, 0.1], off_resonance=[-20.0, 20.0])
    echoes = MultiSpinEcho([np.pi, np.pi / 2, np.pi / 3], 0.01)
    described = describe(Dictionary(tissue, np.eye(2, 3), np.ones(2), echoes))
    assert described["Dictionary"]["OffResonanceRange"] == [-20.0, 20.0]
    assert described["Sequence"] == {
        "Kind": "tse",
        "Frames": 3,
        "RefocusingAngleRangeDegrees": [60.0, 180.0],
        "EchoSpacingRange": [0.01, 0.01],
    }
    blocks = describe(Dictionary(tissue, np.eye(2, 3), np.ones(2), echoes.as_blocks()))["Sequence"]
    assert blocks == {"Kind": "blocks", "Frames": 3}


def test_an_interrupted_write_leaves_the_old_map(tmp_path, monkeypatch):
    path = write_maps(tmp_path, maps((3, 4)))["T1map"]
    before, files = path.read_bytes(), set(tmp_path.iterdir())

    def interrupted(_, temporary):
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(nibabel, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_maps(tmp_path, maps((3, 5)))
    assert path.read_bytes() == before
    assert set(tmp_path.iterdir()) == files


def test_bad_input_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match=r"cannot write to .*file.*: (Not a directory|File exists)$"):
            make_folder(folder)
    with pytest.raises(ValueError, match=r"prefix must not hold a path; got 'sub-01/anat/'"):
        write_maps(tmp_path, maps((3, 4)), prefix="sub-01/anat/")
    with pytest.raises(ValueError, match=r"1 to 3 spatial axes; got shape \(1, 2, 3, 4\)"):
        write_maps(tmp_path, maps((1, 2, 3, 4)))
    for affine in (np.zeros((4, 4)), np.eye(3), np.full((4, 4), np.nan)):
        with pytest.raises(ValueError, match=r"affine must be an invertible \(4, 4\) matrix"):
            write_maps(tmp_path, maps((3, 4)), affine=affine)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
