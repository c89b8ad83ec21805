"""The header and the acquisitions in an MRD file, once its HDF5 structures are known to hold what they claim."""

import itertools
import math
import struct
import warnings
import zlib

import h5py
import numpy as np

from ganmrf.files import check_readable
from ganmrf.io.mrd_frames import listed
from ganmrf.memory import TooLarge, check_claim

with warnings.catch_warnings():  # the import changes which warnings a user sees
    from ismrmrd import hdf5

_POINTER = np.dtype([("length", "<u4"), ("address", "<u8"), ("index", "<u4")])  # to a value of variable length
_OBJECT = struct.Struct("<HHIQ")  # before each object of a heap: index, references, reserved, size
_MOST_XML = 2**24  # bytes of a header in a string of fixed length


def read_file(path):
    """The XML header and all acquisitions, in one read; `ValueError` naming a file that does not hold them whole.

    Nothing is read that lies in other files. HDF5 would allocate what a file claims, and never return from a heap with
    zeros in it: both are looked at before.
    """
    check_readable(path)
    try:
        with h5py.File(path, "r") as file:
            group, held = _own(file, "dataset"), sorted(file)
            if isinstance(group, h5py.Group):
                held = sorted(f"dataset/{name}" for name in group)
                if {"xml", "data"} <= set(group):
                    xml, data = _own(group, "xml"), _own(group, "data")
                    if not _is_laid_out(data.dtype):
                        raise ValueError("the acquisitions of dataset/data are not laid out as MRD has them")
                    if (kind := h5py.check_string_dtype(xml.dtype)) is None or (kind.length or 0) > _MOST_XML:
                        raise ValueError("dataset/xml is no text")
                    check_claim(path, data.nbytes, data.id.get_storage_size())
                    if kind.length is None:
                        _check_heaps(path, xml, _POINTER.itemsize, [0])
                    _check_heaps(path, data, data.dtype.itemsize, [data.dtype.fields[n][1] for n in ("traj", "data")])
                    return xml[0], data[()]
    except TooLarge:
        raise
    except Exception as error:  # a damaged file makes HDF5 raise whatever it trips over
        cause = " ".join(str(error).split())
        raise ValueError(f"{path}: not a whole HDF5 file ({cause})") from error
    raise ValueError(f"{path}: no MRD raw data in 'dataset': the file holds {listed(held) or 'nothing'}")


def _own(group, name):
    """A member that lies in this file; None for none."""
    if name not in group:
        return None
    item = group[name] if isinstance(group.get(name, getlink=True), h5py.HardLink) else None
    if item is None or (isinstance(item, h5py.Dataset) and (item.external or item.is_virtual)):
        raise ValueError(f"{name} is a link, or lies in other files")
    return item


def _is_laid_out(dtype):
    """Whether acquisitions can be read: HDF5 puts pointers where a damaged layout would have them overwritten."""
    if set(dtype.names or ()) != {"head", "traj", "data"} or dtype["head"] != hdf5.acquisition_header_dtype:
        return False
    if any(h5py.check_vlen_dtype(dtype[name]) != np.float32 for name in ("traj", "data")):
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
