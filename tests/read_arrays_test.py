"""Array files are read by name, to the end of their checksums, and never into more memory than there is."""

import gzip
import struct
import types
import zipfile
import zlib

import h5py
import nibabel
import numpy as np
import pytest
import scipy.io

from ganmrf.files import read_arrays, read_npy
from ganmrf.io.series import read_series

ARRAYS = ("scan.npz", "v7.mat", "v73.mat")
MASK = np.arange(6.0).reshape(2, 3)


def write_claim(path, rows):
    """A file that says of its ``images`` that they are rows of 10,000 float64, and does not hold them; and a mask."""
    if path.name == "scan.npz":
        np.savez(path, images=np.zeros(9), mask=MASK)
        with zipfile.ZipFile(path, "a") as archive:
            archive.getinfo("images.npy").file_size = 80_000 * rows
            archive.comment = b"changed"  # else the directory is not written again
    elif path.name == "v7.mat":
        scipy.io.savemat(path, {"images": np.zeros((1, 1)), "mask": MASK})
        content = path.read_bytes()
        images = bytearray(content[128:192])  # tag, flags, shape, name and tag of the numbers
        count = 5_000 * rows  # complex, stored as two arrays of bytes
        for place, value in ((4, 2 * count + 56), (16, 0x806), (32, rows), (36, 5_000), (56, 2), (60, count)):
            images[place : place + 4] = struct.pack("<I", value)
        images = zlib.compress(images + bytes(1_000_000), 0)  # 1 MB: less cannot become a GB
        path.write_bytes(content[:128] + struct.pack("<II", 15, len(images)) + images + content[200:])
    elif path.name == "v73.mat":
        with h5py.File(path, "w", userblock_size=512) as file:
            file.create_dataset("images", (10_000, rows), "f8", chunks=(100, 100))
            file["mask"] = MASK.T
        with open(path, "r+b") as file:
            file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    else:
        content = bytearray(nibabel.Nifti1Image(np.zeros((1, 1, 1, 1)), np.eye(4)).to_bytes())
        content[40:50] = np.array([4, rows // 100, 100, 100, 100], "<i2").tobytes()
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.mark.parametrize("name", [*ARRAYS, "scan.nii", "scan.nii.gz"])
def test_a_claim_is_compared_with_the_file_and_with_the_memory(tmp_path, monkeypatch, name):
    for rows, available, words in ((2_500, 1e8, r"0\.8 GB.* 0\.1 GB"), (100_000, 1e12, r"8\.0 GB")):
        monkeypatch.setattr("psutil.virtual_memory", lambda there=available: types.SimpleNamespace(available=there))
        write_claim(tmp_path / name, rows)
        with pytest.raises(ValueError, match=rf"{name}.*{words}"):
            read_series(tmp_path / name)


@pytest.mark.parametrize("name", ARRAYS)
def test_what_is_not_named_is_not_read(tmp_path, name):
    write_claim(tmp_path / name, 100_000)
    found = read_arrays(tmp_path / name, ["mask", "none"])
    assert set(found) == {"mask"}
    np.testing.assert_array_equal(found["mask"], MASK)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("part", ["variable", "axes", "name", "numbers"])
def test_a_size_in_a_v5_file_is_no_larger_than_what_holds_it(tmp_path, monkeypatch, part, compressed):
    """SciPy would allocate 4 GB of it."""
    monkeypatch.setattr("scipy.io.loadmat", None)
    path, place = tmp_path / "v7.mat", {"variable": 4, "axes": 28, "name": 44, "numbers": 60}[part]
    scipy.io.savemat(path, {"images": MASK})
    content = bytearray(path.read_bytes())
    content[128 + place : 132 + place] = struct.pack("<I", 2**32 - 16)
    if compressed:
        images = zlib.compress(content[128:])
        content[128:] = struct.pack("<II", 15, len(images)) + images
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"v7\.mat: not a whole"):
        read_arrays(path)


@pytest.mark.parametrize("order", "<>")
def test_numbers_of_v5_files_are_read_beside_other_variables(tmp_path, order):
    """As MATLAB writes: whole numbers in fewer bytes, short names and numbers in their tags, either order of bytes."""

    def element(kind, content):
        return struct.pack(f"{order}II", kind, len(content)) + content + bytes(-len(content) % 8)

    def short(kind, content):
        return struct.pack(f"{order}I", len(content) << 16 | kind) + content.ljust(4, b"\0")

    def variable(flags, shape, *parts):
        axes = struct.pack(f"{order}{len(shape)}i", *shape)
        return element(14, element(6, struct.pack(f"{order}II", flags, 0)) + element(5, axes) + b"".join(parts))

    deflated = zlib.compress(variable(0x806, (1, 2), short(1, b"z"), short(2, b"\1\2"), short(2, b"\3\4")))
    content = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(f"{order}H", 0x100) + {"<": b"IM", ">": b"MI"}[order]
    content += variable(4, (1, 2), short(1, b"text"), element(4, struct.pack(f"{order}HH", 72, 105)))
    content += variable(6, (2, 3), element(1, b"numbers"), element(2, bytes(range(6))))
    (tmp_path / "v7.mat").write_bytes(content + struct.pack(f"{order}II", 15, len(deflated)) + deflated)
    assert read_arrays(tmp_path / "v7.mat", ["text"]) == {"text": "Hi"}
    found = read_arrays(tmp_path / "v7.mat")
    assert set(found) == {"numbers", "z"}
    np.testing.assert_array_equal(found["numbers"], [[0, 2, 4], [1, 3, 5]])
    np.testing.assert_array_equal(found["z"], [[1 + 3j, 2 + 4j]])


STRUCTURE = {"rec": {"images": MASK + 1j, "how": {"times": MASK.T, "note": "in vivo", "none": np.zeros((0, 2))}}}


def test_text_of_matlab_is_read_by_its_name(tmp_path):
    path = tmp_path / "v7.mat"
    scipy.io.savemat(path, {"text": "Hi there", "mask": MASK})
    assert set(read_arrays(path)) == {"mask"}
    assert read_arrays(path, ["text"]) == {"text": "Hi there"}
    scipy.io.savemat(path, {"text": " " * (2**24 + 1)})
    with pytest.raises(ValueError, match=r"v7.mat: not a whole .mat file .*text of 16777217 characters"):
        read_arrays(path, ["text"])


def save_structure(path):
    """`STRUCTURE` beside other variables in version 7 of the format; in 7.3, with a link that leads back."""
    if path.name == "v7.mat":
        many = np.array([({"images": MASK},), ({"images": MASK},)], object)
        cells = np.empty((1, 2), object)
        cells[0, 0], cells[0, 1] = MASK, STRUCTURE
        scipy.io.savemat(path, {"text": "a", "cells": cells, "many": many, **STRUCTURE}, do_compression=True)
        return
    with h5py.File(path, "w", userblock_size=512) as file:
        file["rec/images"] = np.rec.fromarrays([MASK.T, np.ones(MASK.T.shape)], names="real,imag")
        file["rec/how/times"] = MASK
        file["rec/how/none"] = np.array([0, 2], np.uint64)
        file["rec/how/none"].attrs["MATLAB_empty"] = 1
        file["rec/how/back"] = file["rec"]
        for name in ("rec", "rec/how"):
            file[name].attrs["MATLAB_class"] = np.bytes_("struct")
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")


@pytest.mark.parametrize("name", ["v7.mat", "v73.mat"])
def test_fields_of_structures_are_arrays(tmp_path, name):
    path = tmp_path / name
    save_structure(path)
    found = read_arrays(path)
    expected = {"rec.images": MASK + 1j, "rec.how.times": MASK.T, "rec.how.none": np.zeros((0, 2))}
    assert set(found) == set(expected)
    for each, values in expected.items():
        np.testing.assert_array_equal(found[each], values)
    assert set(read_arrays(path, ["rec.how.times", "rec", "rec.how"])) == {"rec.how.times"}
    np.testing.assert_array_equal(read_series(path, "rec.images").images, np.moveaxis(expected["rec.images"], -1, 0))


def test_a_damaged_structure_is_refused_or_read(tmp_path):
    """Whatever a byte of it becomes: one line, or arrays; never another error, or more memory than the file."""
    path = tmp_path / "v7.mat"
    scipy.io.savemat(path, STRUCTURE)
    whole, refused = path.read_bytes(), 0
    for place in range(128, len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x5A]) + whole[place + 1 :])
        try:
            assert sum(array.nbytes for array in read_arrays(path).values()) < 2 * len(whole)
        except ValueError:
            refused += 1
    assert refused > 100


def test_npy(tmp_path):
    path = tmp_path / "scan.npy"
    np.save(path, MASK)
    np.testing.assert_array_equal(read_npy(path), MASK)
    whole = path.read_bytes()
    np.save(path, np.array([None]), allow_pickle=True)
    for content in (path.read_bytes(), whole[:-1], whole[:50], b""):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"scan\.npy: not a whole"):
            read_npy(path)


def test_an_array_that_is_smaller_than_its_place_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", images=MASK)
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        content = archive.read("images.npy")
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("images.npy", content.replace(b"(2, 3)", b"(1, 3)"))
    with pytest.raises(ValueError, match=r"b\.npz.*images"):
        read_arrays(tmp_path / "b.npz")


def test_an_empty_array_in_v73_has_no_numbers(tmp_path):
    path = tmp_path / "v73.mat"
    write_claim(path, 100)
    for shape in ([1000, 2], [-1, 7]):
        with h5py.File(path, "r+") as file:
            del file["mask"]
            file.create_dataset("mask", data=np.array(shape)).attrs["MATLAB_empty"] = 1
        with pytest.raises(ValueError, match=r"v73\.mat: not a whole"):
            read_arrays(path, ["mask"])
