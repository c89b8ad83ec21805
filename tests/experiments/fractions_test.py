"""Fractions mapped as a user does it: known components, or few that are found; what is refused, and how."""

import json
import re

import nibabel
import numpy as np
import pytest

from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.grids import grid_of
from ganmrf.dictionary.npz import save_dictionary
from ganmrf.physics.sequences.multi_spin_echo import MultiSpinEcho
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.tissue import Tissue
from tests.commands import run

pytestmark = pytest.mark.usefixtures("quick_compiler")

FRAMES, AFFINE = 80, np.diag([1.0, 2.0, 3.0, 1.0])
T1, T2 = np.array([0.4, 1.0, 4.0]), np.array([0.02, 0.08, 0.5])
KNOWN = ("--components_ms=400:20,1000:80,4000:500", "--names=myelin,cells,free")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a dictionary, and a series of 2 x 3 x 4 voxels (z, y, x) of three of its atoms; their fractions."""
    folder = tmp_path_factory.mktemp("fractions")
    dictionary = build_dictionary(mrf_fisp(FRAMES), grid_of(T1, T2))
    save_dictionary(folder / "atoms.npz", dictionary)
    components = build_dictionary(mrf_fisp(FRAMES), Tissue(T1, T2))
    signals = np.asarray(components.fingerprints) * np.asarray(components.norms)[:, None]
    rng = np.random.default_rng(0)
    fractions = np.moveaxis(rng.dirichlet(np.ones(3), (2, 3, 4)), -1, 0)
    images = 20 * np.exp(1j) * np.einsum("kzyx,kf->fzyx", fractions, signals)
    images = images + 1e-3 * (rng.standard_normal((*images.shape, 2)) @ [1, 1j])
    nibabel.save(nibabel.Nifti1Image(images.T.astype(np.complex64), AFFINE), folder / "images.nii.gz")
    return folder, fractions


def mapped(folder, *flags):
    done = run("map_fractions", *(f"--{n}={folder / f}" for n, f in _INPUTS.items()), *flags)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    return done.stdout


_INPUTS = {"input": "images.nii.gz", "dictionary": "atoms.npz"}


def refused(folder, *flags):
    """The one line of a refusal; later flags win."""
    inputs = (f"--{n}={folder / f}" for n, f in _INPUTS.items())
    done = run("map_fractions", *inputs, f"--output={folder / 'refused'}", *flags)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    return line


def test_known_components_become_maps_in_place(folder, tmp_path):
    folder, fractions = folder
    printed = mapped(folder, f"--output={tmp_path}", "--prefix=sub-01", *KNOWN)
    assert "myelin (T1 400 ms, T2 20 ms)" in printed
    for name, expected in zip(("myelin", "cells", "free"), fractions, strict=True):
        image = nibabel.load(tmp_path / f"sub-01_desc-{name}_fractionmap.nii.gz")
        np.testing.assert_allclose(image.get_fdata().T, expected, atol=0.01)  # noise
        np.testing.assert_array_equal(image.affine, AFFINE)
        std = nibabel.load(tmp_path / f"sub-01_desc-{name}std_fractionmap.nii.gz").get_fdata()
        assert (std > 0).all()
        assert std.max() < 0.01
    said = json.loads((tmp_path / "sub-01_desc-cells_fractionmap.json").read_text("utf-8"))
    assert said["Component"] == {"t1_s": 1.0, "t2_s": 0.08, "b1": 1.0}
    m0 = nibabel.load(tmp_path / "sub-01_M0map.nii.gz").get_fdata()
    np.testing.assert_allclose(m0, 20, rtol=0.01)
    page = (tmp_path / "report.html").read_text("utf-8")
    assert page.count("<img") == 6  # three figures for each slice
    assert "http" not in page.replace("http://www.w3.org", "")
    assert (tmp_path / "maps.png").stat().st_size > 1000


def test_a_map_of_b1_is_taken(folder, tmp_path):
    folder, fractions = folder
    np.savez(tmp_path / "b1.npz", b1=np.full((2, 3, 4), 100.0))
    flags = (KNOWN[0], f"--b1_map={tmp_path / 'b1.npz'}", "--b1_scale=0.01")
    for scale, close in ((flags[2], True), ("--b1_scale=0.012", False)):
        mapped(folder, f"--output={tmp_path / 'out'}", *flags[:2], scale)
        part = nibabel.load(tmp_path / "out" / "desc-c1_fractionmap.nii.gz").get_fdata().T
        assert (np.abs(part - fractions[0]).max() < 0.02) == close


def test_components_are_found_without_being_known(folder, tmp_path):
    folder, fractions = folder
    mask = np.ones((2, 3, 4), bool)
    mask[0, 0] = False
    np.savez(tmp_path / "mask.npz", mask=mask)
    mapped(folder, f"--output={tmp_path / 'out'}", f"--mask={tmp_path / 'mask.npz'}", "--norefine")
    found = {}
    for path in (tmp_path / "out").glob("desc-c?_fractionmap.json"):
        said = json.loads(path.read_text("utf-8"))["Component"]
        found[said["t1_s"], said["t2_s"]] = nibabel.load(path.with_suffix(".nii.gz")).get_fdata().T
    assert len(found) == 3
    for times, expected in zip(zip(T1, T2, strict=True), fractions, strict=True):
        np.testing.assert_allclose(found[times], np.where(mask, expected, 0), atol=0.01)


def test_one_magnitude_may_add_to_another_where_signals_keep_their_sign(tmp_path):
    dictionary = build_dictionary(MultiSpinEcho(np.full(16, np.pi), 0.01), Tissue(T1, T2))
    save_dictionary(tmp_path / "atoms.npz", dictionary)
    signals = np.asarray(dictionary.fingerprints) * np.asarray(dictionary.norms)[:, None]
    np.save(tmp_path / "images.npy", np.abs(np.array([[0.2, 0.8, 0], [0.1, 0.6, 0.3]]) @ signals).T)
    flags = (f"--input={tmp_path / 'images.npy'}", f"--output={tmp_path / 'out'}", KNOWN[0])
    done = run("map_fractions", f"--dictionary={tmp_path / 'atoms.npz'}", *flags)
    assert done.returncode == 0, done.stderr
    part = nibabel.load(tmp_path / "out" / "desc-c1_fractionmap.nii.gz").get_fdata()[:, 0, 0]
    np.testing.assert_allclose(part, [0.2, 0.1], atol=1e-3)  # float32, and a condition of some hundreds


def test_bad_input_is_one_line(folder, tmp_path):
    folder, _ = folder
    images = nibabel.load(folder / "images.nii.gz").get_fdata(dtype=np.complex64).T
    for name, values in {"short": images[:9], "sizes": np.abs(images), "nothing": 0 * images}.items():
        np.save(tmp_path / f"{name}.npy", values)
    uneven = build_dictionary(mrf_fisp(FRAMES), grid_of([1.0], [0.1], [0.9, 1.0]))
    save_dictionary(tmp_path / "uneven.npz", uneven)
    of = {name: f"--input={tmp_path / f'{name}.npy'}" for name in ("short", "sizes", "nothing")}
    cases = {
        ("--components_ms=400,20",): "components_ms",
        ("--components_ms=20:400",): "t2 must not exceed",
        (KNOWN[0], "--names=one,two"): "names must be 3",
        (KNOWN[0], "--names=a/b,c,d"): "letters and digits",
        (*KNOWN, "--sparsity=2"): "components_ms stands in place of --sparsity",
        ("--components_ms=1000:80,1001:80",): "T1 1000 ms.*T1 1001 ms",
        (f"--b1_map={folder / 'images.nii.gz'}",): "b1_map would change nothing",
        (of["short"],): "9 frames",
        (*KNOWN, of["sizes"]): "magnitudes",
        (of["sizes"],): "magnitudes",
        (of["nothing"],): "no signal",
        (f"--dictionary={tmp_path / 'uneven.npz'}",): "b1.*0.9 to 1.*--b1",
    }
    for flags, words in cases.items():
        line = refused(folder, *flags)
        assert line.startswith("error: ")
        assert re.search(words, line), line
