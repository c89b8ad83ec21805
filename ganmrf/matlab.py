"""MATLAB's files: arrays of numbers, read after the sizes that a file claims have been compared with what it holds."""

import math
import pathlib
import struct
import zlib
from typing import NamedTuple

import h5py
import numpy as np
import scipy.io

from ganmrf.memory import check_claim

_LIMIT = 2**31  # bytes of a variable in version 5, which it must stay below
_HEADER = 128  # bytes before the first variable; the last four tell the version and the order of bytes
_ORDERS = {b"IM": "<", b"MI": ">"}
_HEAD = 4096  # bytes in which a variable says what it is: 31 axes and a name of 63 characters, and much to spare
_DEFLATED = 1032  # times: the most that zlib compresses
_MATRIX, _COMPRESSED = 14, 15  # kinds of elements
_STORED = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}  # bytes of a number, by kind of element
_CLASSES, _OPAQUE = range(6, 16), 17  # of arrays of numbers in version 5, and of objects
_COMPLEX = 0x800  # flag of an array
_NUMBERS = {"double", "single", "logical", *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64))}


class _Array(NamedTuple):
    """An array of numbers in a file of version 5: its name, its bytes in memory, and those in the file."""

    name: str
    claimed: int
    stored: int


def read_matlab(path: pathlib.Path, names=None) -> dict[str, np.ndarray]:
    """The arrays of numbers of a version 5 to 7.3 file, of ``names`` alone unless it is None; nothing else is read.

    Raises:
      ValueError: a file that is not whole; `TooLarge` as `check_claim`; or whatever SciPy and HDF5 raise.
    """
    with open(path, "rb") as file:
        *_, version, order = struct.unpack(f"{_HEADER - 4}s2s2s", file.read(_HEADER))
    if order not in _ORDERS:
        raise ValueError("no MATLAB file of version 5 to 7.3")
    if int.from_bytes(version, "little" if order == b"IM" else "big") >> 8 == 2:
        return _read_hdf5(path, names)
    found = [each for each in _arrays(path, _ORDERS[order]) if names is None or each.name in names]
    check_claim(path, sum(each.claimed for each in found), sum(each.stored for each in found))
    return scipy.io.loadmat(path, variable_names=[each.name for each in found]) if found else {}


def check_variable(path, name: str, size: int):
    """Raises `ValueError` where a variable has more bytes than version 5 of the format, which is written, can hold."""
    if size >= _LIMIT:
        raise ValueError(f"{path}: {name} takes {size / 2**30:.1f} GiB; a MATLAB v5 variable must be below 2: use .npz")


def _arrays(path, order):
    """The arrays of numbers in a file of version 5; refuses, before SciPy allocates them, sizes that cannot be."""
    size, place, found = path.stat().st_size, _HEADER, []
    with open(path, "rb") as file:
        while place < size:
            file.seek(place)
            kind, stored = struct.unpack(f"{order}II", file.read(8))
            if kind not in (_MATRIX, _COMPRESSED) or stored > size - place - 8:
                raise ValueError(f"a variable of {stored} bytes where {size - place - 8} are left")
            if kind == _COMPRESSED:
                head = zlib.decompressobj().decompress(file.read(min(stored, 2 * _HEAD)), _HEAD)
                most = _DEFLATED * stored
            else:
                file.seek(place)
                head, most = file.read(_HEAD), stored
            found.append(_array(head, order, most, stored))
            place += 8 + stored
    return [array for array in found if array is not None]


def _array(head, order, most, stored):
    """The array that begins with these bytes, its content ``most`` bytes long at most; None for other content."""
    kind, length, first, _ = _element(head, order, 0)
    if kind != _MATRIX or length > most:
        raise ValueError(f"a variable of {length} bytes in {most}")
    _, _, start, after = _element(head, order, first)
    (flags,) = struct.unpack_from(f"{order}I", head, start)
    if flags & 0xFF == _OPAQUE:  # it has no shape here
        return None
    _, size, start, after = _element(head, order, after)
    shape = struct.unpack_from(f"{order}{size // 4}i", head, start)
    _, size, start, after = _element(head, order, after)
    if start + size > len(head):
        raise ValueError(f"a name of {size} bytes")
    if flags & 0xFF not in _CLASSES:
        return None
    name = head[start : start + size].decode("latin-1")
    kind, size, _, _ = _element(head, order, after)
    count, n_parts = math.prod(shape), 1 + bool(flags & _COMPLEX)
    if min(shape) < 0 or size != count * _STORED[kind] or size * n_parts > length:
        raise ValueError(f"{name} of shape {shape} in {size} of {length} bytes")
    return _Array(name, 16 * count if n_parts > 1 else size, stored)


def _element(content, order, at):
    """Kind, bytes and first place of an element's content, and the place after the element."""
    kind, size = struct.unpack_from(f"{order}II", content, at)
    if kind >> 16:  # a small one, whose content lies in its head
        return kind & 0xFFFF, kind >> 16, at + 4, at + 8
    return kind, size, at + 8, at + 8 + -(-size // 8) * 8


def _read_hdf5(path, names):
    with h5py.File(path, "r") as file:
        found = {name: _numbers(file, name) for name in file if names is None or name in names}
        found = {name: item for name, item in found.items() if item is not None}
        stored = sum(item.id.get_storage_size() for item in found.values())
        check_claim(path, sum(item.nbytes for item in found.values()), stored)
        return {name: _from_hdf5(item) for name, item in found.items()}


def _numbers(file, name):
    """The dataset if MATLAB would call it an array of numbers; None for anything else."""
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        return None
    item = file[name]
    if not isinstance(item, h5py.Dataset) or item.external or item.is_virtual or item.shape is None:  # of other files
        return None
    kind = item.dtype.kind in "biufc" or item.dtype.names == ("real", "imag")
    return item if kind and _matlab_class(item) in _NUMBERS else None


def _matlab_class(item):
    kind = item.attrs.get("MATLAB_class", b"double")
    return kind.decode() if isinstance(kind, bytes) else str(kind)


def _from_hdf5(item):
    """An array of numbers as MATLAB had it."""
    stored = item[()]
    if item.attrs.get("MATLAB_empty", 0):  # the data of an empty array are its shape
        shape, kind = stored.astype(int).ravel(), _matlab_class(item)
        if shape.all():
            raise ValueError(f"an empty array of shape {tuple(shape)}")
        return np.zeros(shape, kind if kind != "logical" else np.uint8)
    if stored.dtype.names:
        array = np.empty(stored.shape, np.result_type(stored.dtype["real"], np.complex64))
        array.real, array.imag = stored["real"], stored["imag"]
        stored = array
    return np.atleast_2d(stored).T  # MATLAB stores the first axis fastest
