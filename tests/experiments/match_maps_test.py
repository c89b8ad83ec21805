"""The command gives the tissue back from a scan made of it; bad input ends it with code 2 and one line on stderr."""

import json
import pathlib
import subprocess
import sys

import nibabel
import numpy as np
import pytest

from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.grids import grid_of
from ganmrf.dictionary.npz import save_dictionary
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.tissue import Tissue

ROOT = pathlib.Path(__file__).parents[2]
SHAPE = (2, 3, 4)  # z, y, x
T1 = np.repeat([0.4, 0.8, 1.4, 2.4], 2)
T2 = np.tile([0.05, 0.1], 4)
AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])


def run(folder, *options, **flags):
    """The command, in ``folder``'s files unless ``flags`` say otherwise."""
    defaults = {"dictionary": folder / "atoms.npz", "images": folder / "scan.nii.gz", "output": folder / "maps"}
    flags = [f"--{name}={value}" for name, value in (defaults | flags).items()]
    command = [sys.executable, "-m", "experiments.match_maps", *flags, *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


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
        np.savez(folder / "newer.npz", **(dict(archive) | {"schema_version": 2}))
    return folder, index, m0


def test_the_tissue_comes_back(scan):
    folder, index, m0 = scan
    inside = np.random.default_rng(1).random(SHAPE) > 0.3
    inside[0, 0, 0] = True  # inside, but without signal
    nibabel.save(nibabel.Nifti1Image(inside.astype(np.uint8).T, AFFINE), folder / "brain.nii.gz")
    done = run(folder, mask=folder / "brain.nii.gz", rank=6, prefix="sub-01")
    assert (done.returncode, done.stderr) == (0, "")
    matched = inside & (m0 != 0)
    assert f"matched {matched.sum()} of 24 voxels with 8 atoms" in done.stdout
    t1, t2 = np.median(T1[index][matched]), np.median(T2[index][matched])
    assert f"median T1 {t1:.4g} s, T2 {t2:.4g} s, quality 1.0000" in done.stdout
    assert f"maps in {folder / 'maps'}: sub-01_T1map.nii.gz, " in done.stdout
    # T1 and T2 are stored in float32; M0 is known to the rounding of float32 signals and what rank 6 of 8 leaves out.
    for name, values, tolerance in (("T1map", T1[index], 1e-6), ("T2map", T2[index], 1e-6), ("M0map", abs(m0), 1e-4)):
        image = nibabel.load(folder / "maps" / f"sub-01_{name}.nii.gz")
        np.testing.assert_array_equal(image.affine, AFFINE)
        stored = np.asarray(image.dataobj).T
        np.testing.assert_allclose(stored, np.where(matched, values, 0), rtol=tolerance)
    sidecar = json.loads((folder / "maps" / "sub-01_T1map.json").read_text())
    assert sidecar["Sources"] == [str(folder / name) for name in ("scan.nii.gz", "brain.nii.gz", "atoms.npz")]
    assert sidecar["Dictionary"]["Rank"] == 6
    assert sidecar["Sequence"]["Frames"] == 60
    assert not list((folder / "maps").glob("*TB1map*"))


@pytest.fixture(scope="module")
def uneven_scan(tmp_path_factory):
    """A folder with a dictionary of 3 B1, a scan of 9 of its atoms in voxels of random B1, and the B1 in percent."""
    folder = tmp_path_factory.mktemp("uneven")
    atoms = build_dictionary(mrf_fisp(60), grid_of([0.8, 1.4], [0.05, 0.1], [0.8, 1.0, 1.2]), n_states=20)
    save_dictionary(folder / "atoms.npz", atoms)
    index = np.random.default_rng(0).permutation(12)[:9].reshape(3, 3)
    b1 = np.asarray(atoms.tissue.b1)[index]
    np.savez(folder / "scan.npz", images=np.moveaxis(atoms.fingerprints[index], -1, 0))
    np.savez(folder / "percent.npz", b1=100 * b1 + 5)
    return folder, atoms.tissue, index


@pytest.mark.parametrize("given", [True, False])
def test_b1_is_given_or_estimated(uneven_scan, given):
    folder, tissue, index = uneven_scan
    flags = {"b1_map": folder / "percent.npz", "b1_scale": 0.01} if given else {}
    done = run(folder, images=folder / "scan.npz", **flags)
    assert (done.returncode, done.stderr) == (0, "")
    assert "B1 0.8 to 1.2" in done.stdout
    for name, unit, values in (("T1map", 1, tissue.t1), ("T2map", 1, tissue.t2), ("TB1map", 100, tissue.b1)):
        stored = nibabel.load(folder / "maps" / f"{name}.nii.gz").get_fdata()[..., 0].T
        np.testing.assert_allclose(stored, unit * np.asarray(values)[index], rtol=1e-6)
    sources = json.loads((folder / "maps" / "TB1map.json").read_text())["Sources"]
    assert (str(folder / "percent.npz") in sources) == given


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"images": "short.npz"}, "short.npz has 50 frames, but "),
        ({"mask": "mask.npz"}, "mask.npz: the mask has shape (3, 4), but the images have (2, 3, 4)"),
        ({"b1_map": "b1.npz"}, "b1.npz: the B1 map has shape (3, 4), but the images have (2, 3, 4)"),
        ({"dictionary": "truncated.npz"}, "truncated.npz: not a whole .npz file"),
        ({"dictionary": "newer.npz"}, "newer.npz has schema 2; this version reads up to 1: update ganmrf"),
        ({"output": "mask.npz/maps"}, "mask.npz/maps: Not a directory"),
        ({"prefix": "sub-01"}, "prefix must not hold a path; got '/"),
        ({"mas": "mask.npz"}, "Unknown command line flag 'mas'"),
    ],
    ids=lambda value: "=".join(*value.items()) if isinstance(value, dict) else "",
)
def test_bad_input_is_one_line_and_code_2(scan, flags, words):
    folder, *_ = scan
    done = run(folder, **{"output": folder / "none"} | {name: folder / value for name, value in flags.items()})
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert words in done.stderr
    assert done.stdout == ""
    assert not list(folder.glob("none/*"))
