"""The header and the acquisitions in an MRD file, once its structures are known to hold what they claim."""

import itertools
import math
import struct
import warnings
import zlib

import h5py
import numpy as np

from ganmrf.files import check_readable
from ganmrf.io.mrd_frames import listed
from ganmrf.io.mrd_stream import is_stream, read_stream
from ganmrf.memory import TooLarge, check_claim

with warnings.catch_warnings():  # the import changes which warnings a user sees
    from ismrmrd import hdf5

_POINTER = np.dtype([("length", "<u4"), ("address", "<u8"), ("index", "<u4")])  # to a value of variable length
_OBJECT = struct.Struct("<HHIQ")  # before each object of a heap: index, references, reserved, size
_VECTOR_KIND = 3  # byte of an encoded type of variable length whose lower half is 0 for sequences
_MOST_XML = 2**24  # bytes of a header that are allocated on trust
_KINDS = {"data": "raw data", "xml": "header"}


def read_file(path, dataset: str | None) -> tuple[bytes | str | None, np.ndarray]:
    """The XML header, None without any, and all acquisitions of an HDF5 file or a stream (`is_stream`), in one read.

    ``dataset`` is the group of an HDF5 file, ``"dataset"`` for None. Nothing is read that lies in other files. HDF5
    would allocate what a file claims, and never return from a heap with zeros in it: both are looked at before.

    Raises:
      ValueError: a file that does not hold them whole, or not in this group. The line names the file.
    """
    check_readable(path)
    if h5py.is_hdf5(path) or not is_stream(path):
        return _from_group(path, [dataset or "dataset"], "data", _acquisitions)
    if dataset is not None:
        raise ValueError(f"{path}: an ISMRMRD stream has no groups: leave out --dataset={dataset}")
    return read_stream(path)


def read_header(path, dataset: str | None) -> bytes | str | None:
    """The XML header of an HDF5 file (of the group ``dataset``, or else ``"dataset"``), a stream or a text of XML.

    Raises:
      ValueError: a file that holds none. The line names the file.
    """
    check_readable(path)
    if h5py.is_hdf5(path):
        return _from_group(path, [dataset or "dataset", "dataset"], "xml", _text)
    if is_stream(path):
        return read_stream(path)[0]
    with open(path, "rb") as file:
        text = file.read(_MOST_XML + 1)
    if len(text) > _MOST_XML:
        raise ValueError(f"{path}: no MRD header: it has more than {_MOST_XML} bytes")
    return text


def _from_group(path, names, needed, read):
    """What ``read`` takes from the first group of an HDF5 file that has the member ``needed``; or `ValueError`."""
    try:
        with h5py.File(path, "r") as file:
            held = sorted(file)
            for name in names:
                group = _own(file, name)
                if isinstance(group, h5py.Group):
                    if needed in group:
                        return read(path, group)
                    held = sorted(f"{name}/{member}" for member in group)
            others = [each for each in file if _is_own_group(file, each) and needed in file[each]]
    except TooLarge:
        raise
    except Exception as error:  # a damaged file makes HDF5 raise whatever it trips over
        cause = " ".join(str(error).split())
        raise ValueError(f"{path}: not a whole HDF5 file ({cause})") from error
    hint = f": choose --dataset={others[0]}" if others else ""
    raise ValueError(
        f"{path}: no MRD {_KINDS[needed]} in {names[0]!r}: the file holds {listed(held) or 'nothing'}{hint}"
    )


def _acquisitions(path, group):
    data = _own(group, "data")
    if not isinstance(data, h5py.Dataset) or not _is_laid_out(data.dtype, data.id.get_type()):
        raise ValueError(f"the acquisitions of {data.name[1:]} are not laid out as MRD has them")
    check_claim(path, data.nbytes, data.id.get_storage_size())
    _check_heaps(path, data, data.dtype.itemsize, [data.dtype.fields[name][1] for name in ("traj", "data")])
    return _text(path, group) if "xml" in group else None, data[()]


def _text(path, group):
    xml = _own(group, "xml")
    if (kind := h5py.check_string_dtype(xml.dtype)) is None or (kind.length or 0) > _MOST_XML:
        raise ValueError(f"{xml.name[1:]} is no text")
    if kind.length is None:
        _check_heaps(path, xml, _POINTER.itemsize, [0])
    return xml[0] if xml.shape else xml[()]


def _own(group, name):
    """A member, or a member of a member and so on, that lies in this file; None for none."""
    outer, _, name = name.strip("/").rpartition("/")
    group = _own(group, outer) if outer else group
    if not isinstance(group, h5py.Group) or name not in group:
        return None
    item = group[name] if isinstance(group.get(name, getlink=True), h5py.HardLink) else None
    if item is None or (isinstance(item, h5py.Dataset) and (item.external or item.is_virtual)):
        raise ValueError(f"{name} is a link, or lies in other files")
    return item


def _is_own_group(file, name):
    return isinstance(file.get(name, getlink=True), h5py.HardLink) and isinstance(file[name], h5py.Group)


def _is_laid_out(dtype, kind):
    """Whether acquisitions can be read: HDF5 puts pointers where a damaged layout would have them overwritten.

    ``kind`` is the type as HDF5 has it, which takes values for a sequence that are of no kind that it knows.
    """
    if set(dtype.names or ()) != {"head", "traj", "data"} or dtype["head"] != hdf5.acquisition_header_dtype:
        return False
    if any(h5py.check_vlen_dtype(dtype[name]) != np.float32 for name in ("traj", "data")):
        return False
    vectors = [kind.get_member_type(kind.get_member_index(name)).encode() for name in (b"traj", b"data")]
    if any(vector[_VECTOR_KIND] & 15 for vector in vectors):
        return False
    spans = sorted((offset, offset + field.itemsize) for field, offset in dtype.fields.values())
    return all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))


def _check_heaps(path, dataset, width, offsets):
    """Raises `ValueError` where rows are missing, or point to heaps that are damaged or smaller than their values.

    A row has ``width`` bytes in the file, and its pointers are at ``offsets``.
    """
    content = np.memmap(path, np.uint8, "r")
    if dataset.chunks:
        check_claim(path, width * math.prod(dataset.chunks), dataset.id.get_storage_size())
        pieces = []
        dataset.id.chunk_iter(pieces.append)
        some = [_chunk(content, dataset, piece, width) for piece in pieces]
    else:
        offset = dataset.id.get_offset()
        some = [] if offset is None else [content[offset:][: width * dataset.size].reshape(-1, width)]
    rows = np.concatenate([np.zeros((0, width), np.uint8), *some])
    if len(rows) != dataset.size:
        raise ValueError(f"{dataset.name} claims {dataset.size} entries, and the file has {len(rows)}")
    for offset in offsets:
        pointers = np.ascontiguousarray(rows[:, offset : offset + _POINTER.itemsize]).view(_POINTER)
        pointers = pointers[pointers["length"] > 0]
        if pointers["length"].sum(dtype=float) > content.size:
            raise ValueError(f"{dataset.name} claims more than the file holds")
        for address in np.unique(pointers["address"]).tolist():
            _check_heap(content[dataset.file.userblock_size :], address)


def _chunk(content, dataset, piece, width):
    """The rows of a chunk that belong to the dataset, as they are before they are compressed."""
    size, plist = width * math.prod(dataset.chunks), dataset.id.get_create_plist()
    stored = content[piece.byte_offset :][: piece.size]
    for i in reversed(range(plist.get_nfilters())):
        kind = plist.get_filter(i)[0]
        if piece.filter_mask >> i & 1:  # left out for this chunk
            continue
        if kind == h5py.h5z.FILTER_DEFLATE:
            stored = np.frombuffer(zlib.decompressobj().decompress(stored, size), np.uint8)
        elif kind == h5py.h5z.FILTER_SHUFFLE:  # first bytes of all rows, then second ones
            stored = stored.reshape(width, -1).T.ravel()
        else:
            raise ValueError(f"{dataset.name} is compressed, and not by gzip")
    return stored[:size].reshape(-1, width)[: len(dataset) - piece.chunk_offset[0]]


def _check_heap(content, start):
    """Goes through a global heap as HDF5 does: an object of index 0 is free space, header and all."""
    signature, size = struct.unpack_from("<8sQ", content, start)
    if signature != b"GCOL\1\0\0\0" or start + size > content.size:
        raise ValueError("a heap is damaged")
    place, end = start + 16, start + size
    while place + _OBJECT.size <= end:
        index, _, _, size = _OBJECT.unpack_from(content, place)
        step = _OBJECT.size + -(-size // 8) * 8 if index else size
        if step == 0:
            raise ValueError("a heap is damaged")
        place += step
