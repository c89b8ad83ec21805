"""Image series mapped as a user does it: as they are, or in a basis and refined; masks, B1, places, error bars."""

import json

import nibabel
import numpy as np
import pytest

from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.grids import grid_of
from ganmrf.dictionary.npz import save_dictionary
from ganmrf.dictionary.zarr_fill import begin_store, fill_store
from ganmrf.io.series import read_series
from ganmrf.physics.sequences.bssfp import ma_bssfp
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate
from ganmrf.physics.tissue import Tissue
from tests.commands import UNIFORM, run
from tests.io.dicom_files import write_classic

FRAMES, NOISE = 80, 0.02
AS_IT_IS = ("--method=frames", "--norefine", "--signal_threshold=0")
AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])
SHAPE = (2, 3, 4)  # z, y, x
T1 = np.repeat([0.4, 0.8, 1.4, 2.4], 2)
T2 = np.tile([0.05, 0.1], 4)


def reconstruct(scan, output, *flags):
    """The command, which must end well and without warnings; returns its stdout."""
    done = run("reconstruct_maps", f"--input={scan}", f"--output={output}", *flags)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    return done.stdout


def stored(path):
    return nibabel.load(path).get_fdata()[..., 0].T


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """A folder with images of 24 voxels, T1 and T2 between the atoms, B1 0.9 to 1.1; T1, T2 and B1.

    The images of uneven B1 have no noise, those of B1 = 1 have noise.
    """
    folder = tmp_path_factory.mktemp("series")
    rng = np.random.default_rng(0)
    t1, t2, b1 = (rng.uniform(*bounds, (4, 6)) for bounds in ((0.5, 2.0), (0.05, 0.2), (0.9, 1.1)))
    uneven, even = (
        np.moveaxis(30 * np.exp(1j) * np.asarray(simulate(mrf_fisp(FRAMES), Tissue(t1, t2, each))), -1, 0)
        for each in (b1, np.ones_like(b1))
    )
    np.savez(folder / "images.npz", images=uneven.astype(np.complex64))
    even = even + NOISE * (rng.standard_normal((*even.shape, 2)) @ [1, 1j])
    nibabel.save(nibabel.Nifti1Image(even.T[:, :, None].astype(np.complex64), AFFINE), folder / "images.nii.gz")
    np.savez(folder / "percent.npz", b1=100 * b1)
    return folder, t1, t2, b1


def test_a_mask_and_b1_between_the_atoms(series, tmp_path):
    folder, t1, t2, b1 = series
    inside = np.random.default_rng(1).random(t1.shape) > 0.3
    np.savez(folder / "mask.npz", mask=inside)
    flags = (f"--mask={folder / 'mask.npz'}", f"--b1_map={folder / 'percent.npz'}", "--b1_scale=0.01")
    flags += ("--b1=0.85:1.15:0.05", "--grid=coarse", "--rank=12", f"--frames={FRAMES}", UNIFORM)
    reconstruct(folder / "images.npz", tmp_path, *flags)
    # Rank 12 of 80 frames leaves out less than 1e-3 of a signal, and the fit is linear between atoms of two B1.
    for name, values, tolerance in (("T1map", t1, 0.01), ("T2map", t2, 0.02), ("TB1map", 100 * b1, 1e-6)):
        np.testing.assert_allclose(stored(tmp_path / f"{name}.nii.gz"), np.where(inside, values, 0), rtol=tolerance)
    report = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "an image series" in report
    assert "Sensitivities" not in report


def test_off_resonance_is_mapped_or_read_from_a_map(tmp_path):
    """Balanced frames in a complex basis; the map of B0 is in rad/s, as its sidecar says."""
    rng = np.random.default_rng(2)
    t1, t2, hz = (rng.uniform(*bounds, (4, 6)) for bounds in ((0.6, 1.5), (0.05, 0.15), (-18, 28)))
    images = 30 * np.moveaxis(np.asarray(simulate(ma_bssfp(FRAMES), Tissue(t1, t2, off_resonance=hz))), -1, 0)
    np.savez(tmp_path / "images.npz", images=images)
    nibabel.save(nibabel.Nifti1Image(2 * np.pi * hz.T[:, :, None], np.eye(4)), tmp_path / "b0.nii.gz")
    (tmp_path / "b0.json").write_text(json.dumps({"Units": "rad/s"}), encoding="utf-8")
    flags = ("--sequence=bssfp", f"--frames={FRAMES}", "--off_resonance_hz=-20:30:5", "--rank=30", "--also=npz,dicom")
    flags += ("--t1_ms=500:1700:200", "--t2_ms=40:180:20", "--signal_threshold=0", UNIFORM)
    for name, more in (("fitted", ()), ("given", (f"--b0_map={tmp_path / 'b0.nii.gz'}",))):
        folder = tmp_path / name
        reconstruct(tmp_path / "images.npz", folder, *flags, *more)
        # Rank 30 leaves out less than 1e-3 of a signal.
        np.testing.assert_allclose(stored(folder / "T1map.nii.gz"), t1, rtol=0.01)
        np.testing.assert_allclose(stored(folder / "T2map.nii.gz"), t2, rtol=0.02)
        np.testing.assert_allclose(stored(folder / "fieldmap.nii.gz"), hz, atol=0.3)
        with np.load(folder / "maps.npz") as archive:
            np.testing.assert_allclose(archive["off_resonance_hz"], hz, atol=0.3)
        assert (folder / "dicom" / "fieldmap" / "0001.dcm").exists()
        assert (folder / "desc-std_fieldmap.nii.gz").exists() == (name == "fitted")
    np.testing.assert_allclose(stored(tmp_path / "given" / "fieldmap.nii.gz"), hz, rtol=1e-6)


def test_error_bars_are_the_spread_of_the_errors(series, tmp_path):
    """The series has no mask: every voxel has a tenth of the strongest signal. It keeps its place, too."""
    folder, t1, t2, _ = series
    reconstruct(folder / "images.nii.gz", tmp_path, f"--frames={FRAMES}", "--grid=coarse", "--rank=8", UNIFORM)
    scores = []
    for name, values in (("T1map", t1), ("T2map", t2)):
        found, bar = (stored(tmp_path / f"{kind}{name}.nii.gz") for kind in ("", "desc-std_"))
        np.testing.assert_allclose(found, values, rtol=0.1)
        assert (bar > 0).all()
        scores.append((found - values) / bar)
        np.testing.assert_allclose(nibabel.load(tmp_path / f"{name}.nii.gz").affine, AFFINE, atol=1e-5)
    # 48 errors in pairs that belong together: their root mean square is known to a seventh; three times that.
    assert np.sqrt(np.mean(np.square(scores))) == pytest.approx(1, abs=0.45)


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """A folder with a dictionary of 8 atoms, and a scan of 24 voxels, each an atom times a complex M0; one M0 is 0."""
    folder = tmp_path_factory.mktemp("scan")
    atoms = build_dictionary(mrf_fisp(60), Tissue(T1, T2), n_states=20)
    save_dictionary(folder / "atoms.npz", atoms)
    index = np.random.default_rng(0).integers(8, size=SHAPE)
    m0 = 50 * np.exp(1j * np.linspace(-3, 3, index.size)).reshape(SHAPE)
    m0[0, 0, 0] = 0
    signals = atoms.fingerprints[index] * (m0 * atoms.norms[index])[..., None]
    images = np.moveaxis(signals, -1, 0).astype(np.complex64)
    nibabel.save(nibabel.Nifti1Image(images.T, AFFINE), folder / "scan.nii.gz")
    np.savez(folder / "short.npz", images=images[:50])
    np.savez(folder / "mask.npz", mask=np.ones((3, 4)))
    np.savez(folder / "b1.npz", b1=np.ones((3, 4)))
    (folder / "truncated.npz").write_bytes((folder / "atoms.npz").read_bytes()[:-100])
    with np.load(folder / "atoms.npz") as archive:
        np.savez(folder / "newer.npz", **(dict(archive) | {"schema_version": 9}))
    return folder, index, m0


@pytest.mark.parametrize("rank", [None, 6])
def test_a_series_of_atoms_gives_their_tissue_back(scan, tmp_path, rank):
    """With all frames, and in a basis."""
    folder, index, m0 = scan
    inside = np.random.default_rng(1).random(SHAPE) > 0.3
    inside[0, 0, 0] = True  # inside, but without signal
    nibabel.save(nibabel.Nifti1Image(inside.astype(np.uint8).T, AFFINE), folder / "brain.nii.gz")
    how = AS_IT_IS if rank is None else (f"--rank={rank}", *AS_IT_IS[1:])
    flags = (f"--dictionary={folder / 'atoms.npz'}", f"--mask={folder / 'brain.nii.gz'}", "--prefix=sub-01")
    said = reconstruct(folder / "scan.nii.gz", tmp_path, *flags, *how)
    matched = inside & (m0 != 0)
    assert f"{matched.sum()} voxels" in said
    t1, t2 = np.median(T1[index][matched]), np.median(T2[index][matched])
    assert f"median T1 {t1:.4g} s, T2 {t2:.4g} s, quality 1.0000" in said
    # T1 and T2 are stored in float32; M0 is known to the rounding of float32 signals and what rank 6 of 8 leaves out.
    for name, values, tolerance in (("T1map", T1[index], 1e-6), ("T2map", T2[index], 1e-6), ("M0map", abs(m0), 1e-4)):
        image = nibabel.load(tmp_path / f"sub-01_{name}.nii.gz")
        np.testing.assert_array_equal(image.affine, AFFINE)
        np.testing.assert_allclose(np.asarray(image.dataobj).T, np.where(matched, values, 0), rtol=tolerance)
    names = {path.name.removesuffix(".nii.gz") for path in tmp_path.glob("*.nii.gz")}
    assert names == {f"sub-01_{name}" for name in ("T1map", "T2map", "M0map", "part-phase_M0map", "quality")}
    sidecar = json.loads((tmp_path / "sub-01_T1map.json").read_text(encoding="utf-8"))
    assert sidecar["Sources"] == [str(folder / name) for name in ("scan.nii.gz", "brain.nii.gz", "atoms.npz")]
    assert sidecar["Dictionary"]["Rank"] == rank
    assert sidecar["Sequence"]["Frames"] == 60


@pytest.fixture(scope="module")
def uneven_scan(tmp_path_factory):
    """A folder with a dictionary of 3 B1 on disk, a scan of 9 of its atoms, and the B1 of their voxels in percent."""
    folder = tmp_path_factory.mktemp("uneven")
    tissue = grid_of([0.8, 1.4], [0.05, 0.1], [0.8, 1.0, 1.2])
    atoms = build_dictionary(mrf_fisp(60), tissue, n_states=20)
    fill_store(begin_store(folder / "atoms.zarr", mrf_fisp(60), tissue, n_states=20, chunk_atoms=5))
    index = np.random.default_rng(0).permutation(12)[:9].reshape(3, 3)
    b1 = np.asarray(atoms.tissue.b1)[index]
    np.savez(folder / "scan.npz", images=np.moveaxis(atoms.fingerprints[index], -1, 0))
    np.savez(folder / "percent.npz", b1=100 * b1 + 5)
    return folder, atoms.tissue, index


@pytest.mark.parametrize("given", [True, False])
def test_b1_is_given_or_estimated(uneven_scan, tmp_path, given):
    folder, tissue, index = uneven_scan
    flags = (f"--b1_map={folder / 'percent.npz'}", "--b1_scale=0.01") if given else ()
    reconstruct(folder / "scan.npz", tmp_path, f"--dictionary={folder / 'atoms.zarr'}", *AS_IT_IS, *flags)
    for name, unit, values in (("T1map", 1, tissue.t1), ("T2map", 1, tissue.t2), ("TB1map", 100, tissue.b1)):
        np.testing.assert_allclose(
            stored(tmp_path / f"{name}.nii.gz"), unit * np.asarray(values)[index], rtol=1e-6, err_msg=name
        )
    sources = json.loads((tmp_path / "TB1map.json").read_text(encoding="utf-8"))["Sources"]
    assert (str(folder / "percent.npz") in sources) == given


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ({"input": "short.npz"}, "short.npz has 50 frames, but "),
        ({"mask": "mask.npz"}, "mask.npz: the mask has shape (3, 4), but the images have (2, 3, 4)"),
        ({"b1_map": "b1.npz"}, "b1.npz: the B1 map has shape (3, 4), but the images have (2, 3, 4)"),
        ({"dictionary": "truncated.npz"}, "truncated.npz: not a whole .npz file"),
        ({"dictionary": "newer.npz"}, "newer.npz has schema 9; this version reads up to "),
        ({"output": "mask.npz/maps"}, "--output: cannot write to "),
        ({"prefix": "sub-01"}, "--prefix must not hold a path; got '/"),
        ({"mas": "mask.npz"}, "--mas is not a flag of reconstruct_maps; did you mean --mask"),
    ],
    ids=lambda value: "=".join(*value.items()) if isinstance(value, dict) else "",
)
def test_bad_input_is_one_line_and_code_2(scan, tmp_path, flags, text):
    folder, *_ = scan
    files = {"dictionary": "atoms.npz", "input": "scan.nii.gz", "output": tmp_path / "none"} | flags
    done = run("reconstruct_maps", *(f"--{name}={folder / value}" for name, value in files.items()), *AS_IT_IS)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert text in done.stderr
    assert [path.name for path in tmp_path.glob("none/*")] in ([], ["lock"])


@pytest.mark.parametrize("name", ["T1map.nii.gz", "maps.npz"])
def test_an_output_that_is_the_input_is_refused_before_any_work(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"never read")
    done = run("reconstruct_maps", f"--input={path}", f"--output={tmp_path}")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert f"{name}: it is an input" in done.stderr
    assert [each.name for each in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("inside", ["", "maps"])
def test_an_output_among_the_dicom_files_is_refused(tmp_path, inside):
    done = run("reconstruct_maps", f"--input={tmp_path}", f"--output={tmp_path / inside}")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "--output lies in the folder of the scan" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_dicom_series_gives_dicom_maps(series, tmp_path):
    """Magnitudes of a scanner and their mask, as folders: read as such, and the maps are put where they came from."""
    folder, t1, *_ = series
    images = np.abs(np.asarray(nibabel.load(folder / "images.nii.gz").dataobj).T)  # frames first
    values = np.round(images * (4095 / images.max())).astype(np.uint16)
    write_classic(tmp_path / "scan", values, RescaleIntercept=0)
    grid = "--t1_ms=400:2200:100", "--t2_ms=40:220:15", f"--frames={FRAMES}", UNIFORM
    inside = np.ones((1, *values.shape[1:]), np.uint16)
    inside[..., 0] = 0
    write_classic(tmp_path / "mask", inside, RescaleIntercept=0)
    said = reconstruct(tmp_path / "scan", tmp_path / "maps", *grid, "--also=dicom", f"--mask={tmp_path / 'mask'}")
    assert "magnitudes" in said
    assert f"{inside.sum()} of {inside.size} voxels are inside" in said
    assert not list((tmp_path / "maps").glob("desc-std*"))
    sidecar = json.loads((tmp_path / "maps" / "T1map.json").read_text())
    assert sidecar["MagnitudeImages"] is True
    found = read_series(tmp_path / "maps" / "dicom" / "T1map").images.squeeze()
    np.testing.assert_allclose(found / 1e3, stored(tmp_path / "maps" / "T1map.nii.gz").squeeze(), atol=1e-4)
    assert np.median(np.abs(found / 1e3 / t1 - 1)) < 0.02
    assert json.loads((tmp_path / "maps" / "results.json").read_text())["notes"]
