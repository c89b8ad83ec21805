"""What is no whole MRD file is refused before it is allocated; compressed files and later headers are read."""

import h5py
import numpy as np
import pytest

from ganmrf.io.mrd import read_mrd
from tests.io.acquisitions import IN_ORDER, numbers, one_line, save, scan


def test_other_files_are_refused(tmp_path, capfd):
    path = save(tmp_path / "raw.h5", scan())
    whole = path.read_bytes()
    with pytest.raises(ValueError, match=r"cannot read .*none.h5: No such file"):
        read_mrd(tmp_path / "none.h5")
    for damaged in (b"", whole[:100], whole[: len(whole) // 2], whole[:-1], b"kx,ky\n0,1\n" * 200):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"not a whole HDF5 file \(.+\)") as error:
            read_mrd(path)
        assert one_line(error, path)
    with h5py.File(path, "w") as file:
        file["images"] = np.ones(3)
    with pytest.raises(ValueError, match=r"no MRD raw data in 'dataset': the file holds images$"):
        read_mrd(path)
    with h5py.File(path, "w") as file:
        file["dataset/xml"] = np.ones(3)
    with pytest.raises(ValueError, match=r"no MRD raw data in 'dataset': the file holds dataset/xml$"):
        read_mrd(path)
    save(path, scan())
    with h5py.File(path, "a") as file:
        file["other"] = file["dataset"]
        del file["dataset"]
    with pytest.raises(
        ValueError, match=r"no MRD raw data in 'dataset': the file holds other: choose --dataset=other$"
    ):
        read_mrd(path)
    save(path, scan())
    with h5py.File(path, "a") as file:
        del file["dataset/data"]
        file["dataset/data"] = np.ones(3)
    with pytest.raises(ValueError, match="the acquisitions of dataset/data are not laid out as MRD has them"):
        read_mrd(path)
    assert capfd.readouterr() == ("", "")


def move(file, name, link):
    file["moved"] = file[name]
    del file[name]
    file[name] = link


def claim(file, count):
    kind = file["dataset/data"].dtype
    del file["dataset/data"]
    file["dataset"].create_dataset("data", (count,), kind, chunks=(1000,))


@pytest.mark.parametrize(
    "change",
    [
        lambda file: move(file, "dataset", h5py.ExternalLink("other.h5", "/dataset")),
        lambda file: move(file, "dataset/data", h5py.ExternalLink("other.h5", "/dataset/data")),
        lambda file: move(file, "dataset/xml", h5py.SoftLink("/moved")),
        lambda file: move(file, "dataset", h5py.SoftLink("/dataset")),
        lambda file: claim(file, 10**9),
        lambda file: claim(file, 10**6),
    ],
)
def test_links_and_claims_without_data_are_refused(tmp_path, change):
    save(tmp_path / "other.h5", scan())
    path = save(tmp_path / "raw.h5", scan())
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(ValueError, match=r"raw\.h5: ") as error:
        read_mrd(path)
    assert one_line(error, path)


def stored(path, userblock=0, chunks=(3,), **compression):
    """The scan in one file, its acquisitions in chunks."""
    save(path, scan())
    with h5py.File(path) as file:
        xml, records = (file[f"dataset/{name}"][()] for name in ("xml", "data"))
    with h5py.File(path, "w", userblock_size=userblock) as file:
        file.create_dataset("dataset/xml", data=xml, dtype=h5py.string_dtype("ascii"))
        file.create_dataset("dataset/data", data=records, chunks=chunks, maxshape=(None,), **compression)
    return path


COMPRESSIONS = [{}, {"compression": "gzip"}, {"compression": "gzip", "shuffle": True}]


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("userblock", [0, 512])
def test_compressed_acquisitions_are_read(tmp_path, userblock, compression):
    assert numbers(read_mrd(stored(tmp_path / "raw.h5", userblock, **compression))) == IN_ORDER


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("userblock", [0, 512])
def test_heaps_with_zeros_in_them_are_refused(tmp_path, userblock, compression):
    """HDF5 would never return from them."""
    path = stored(tmp_path / "raw.h5", userblock, **compression)
    content = path.read_bytes()
    heap = content.rindex(b"GCOL")
    path.write_bytes(content[: heap + 64] + bytes(2000) + content[heap + 2064 :])
    with pytest.raises(ValueError, match=r"raw\.h5: not a whole HDF5 file \(a heap is damaged\)"):
        read_mrd(path)


def test_chunks_beyond_the_file_and_other_compressions_are_refused(tmp_path):
    path = tmp_path / "raw.h5"
    for layout, words in (
        ({"chunks": (6_000_000,), "compression": "gzip"}, r"cannot hold arrays of 2\.2 GB"),
        ({"chunks": (3,), "compression": "lzf"}, "compressed, and not by gzip"),
    ):
        stored(path)
        with h5py.File(path, "a") as file:
            records = file["dataset/data"][()]
            del file["dataset/data"]
            data = file["dataset"].create_dataset("data", (8,), records.dtype, maxshape=(None,), **layout)
            if "lzf" in layout.values():
                data[...] = records
        with pytest.raises(ValueError, match=words) as error:
            read_mrd(path)
        assert one_line(error, path)


def test_vectors_of_an_unknown_kind_are_refused(tmp_path):
    """HDF5 would write through a pointer that it never set."""
    path = save(tmp_path / "raw.h5", scan())
    content = bytearray(path.read_bytes())
    kind = content.index(b"\x19\0\0\0\x10\0\0\0\x11\x20\x1f\0")  # variable length, a sequence, 16 bytes, of float32
    content[kind + 1] = 2
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"raw\.h5: .* are not laid out as MRD has them"):
        read_mrd(path)
