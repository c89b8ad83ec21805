"""MATLAB's files: arrays of numbers, read after the sizes that a file claims have been compared with what it holds."""

import math
import pathlib
import struct
import zlib

import h5py
import numpy as np

from ganmrf.memory import check_claim

_LIMIT = 2**31  # bytes of a variable in version 5, which it must stay below
_HEADER = 128  # bytes before the first variable; the last four tell the version and the order of bytes
_ORDERS = {b"IM": "<", b"MI": ">"}
_SMALL = 2**20  # bytes of a shape, a name or the names of fields: MATLAB's are a thousand times smaller
_LONGEST_TEXT = 2**24  # characters: each takes four bytes as NumPy's, and text says what arrays are
_DEFLATED = 1032  # times: the most that zlib compresses
_AT_ONCE = 2**16  # bytes that are read, and passed over, at a time
_MATRIX, _COMPRESSED = 14, 15  # kinds of elements
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}  # of numbers
_STORED |= {16: "u1", 17: "u2"}  # of text: UTF-8, of which ASCII alone has one byte a character, and UTF-16
_STRUCTURE, _TEXT, _CLASSES, _SINGLE, _OPAQUE = 2, 4, range(6, 16), 7, 17  # one, text, of numbers, and of objects
_COMPLEX = 0x800  # flag of an array
_NUMBERS = {"double", "single", "logical", *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64))}


def read_matlab(path: pathlib.Path, names=None) -> dict[str, np.ndarray]:
    """The arrays of numbers of a version 5 to 7.3 file, of ``names`` alone unless it is None; nothing else is read.

    Text is read where it is among the ``names``, as an array of one string; of version 5, ASCII alone. Fields of a
    structure are called ``structure.field``; those of arrays of structures and of cells are passed over.

    Raises:
      ValueError: a file that is not whole; `TooLarge` as `check_claim`; or whatever zlib and HDF5 raise.
    """
    with open(path, "rb") as file:
        *_, version, order = struct.unpack(f"{_HEADER - 4}s2s2s", file.read(_HEADER))
    if order not in _ORDERS:
        raise ValueError("no MATLAB file of version 5 to 7.3")
    if int.from_bytes(version, "little" if order == b"IM" else "big") >> 8 == 2:
        return _read_hdf5(path, names)
    return _Reader(path, _ORDERS[order], names).read()


def check_variable(path, name: str, size: int):
    """Raises `ValueError` where a variable has more bytes than version 5 of the format, which is written, can hold."""
    if size >= _LIMIT:
        raise ValueError(f"{path}: {name} takes {size / 2**30:.1f} GiB; a MATLAB v5 variable must be below 2: use .npz")


class _Reader:
    """Reads a file of version 5; refuses, before it allocates them, sizes that cannot be."""

    def __init__(self, path, order, names):
        self._path, self._order, self._names = path, order, names
        self._claimed = self._stored = 0  # bytes of arrays read so far, and of the variables that hold them
        self._found = {}

    def read(self):
        size, place = self._path.stat().st_size, _HEADER
        with open(self._path, "rb") as file:
            while place < size:
                file.seek(place)
                kind, stored = struct.unpack(f"{self._order}II", file.read(8))
                place += 8
                if kind not in (_MATRIX, _COMPRESSED) or stored > size - place:
                    raise ValueError(f"a variable of {stored} bytes where {size - place} are left")
                content, length = _Content(file, stored, kind == _COMPRESSED), stored
                if kind == _COMPRESSED:
                    kind, length, _ = self._tag(content)
                if kind != _MATRIX or length > _DEFLATED * stored:
                    raise ValueError(f"a variable of {length} bytes in {stored}")
                self._stored += stored
                if self._matrix(content, content.at + length):
                    content.close()
                else:
                    self._stored -= stored
                place += stored
        return self._found

    def _matrix(self, content, end, name=None):
        """Reads the array that begins here, of numbers or structures, if it is wanted, and says whether it was."""
        (flags,) = struct.unpack_from(f"{self._order}I", self._small(content, end))
        kind = flags & 0xFF
        if kind == _OPAQUE:  # it has no shape here
            return False
        shape = np.frombuffer(self._small(content, end), f"{self._order}i4").tolist()
        own = bytes(self._small(content, end)).decode("latin-1")
        name = own if name is None else name
        is_text = kind == _TEXT and self._names is not None
        if (kind in _CLASSES or is_text) and self._wanted(name):
            numbers = self._numbers(content, end, name, shape, kind, flags & _COMPLEX)
            self._found[name] = _text(numbers) if is_text else numbers
            return True
        if kind == _STRUCTURE and shape == [1, 1] and self._wanted(name, structure=True):
            self._fields(content, end, name)
            return True
        return False

    def _fields(self, content, end, name):
        (length,) = struct.unpack(f"{self._order}i", self._small(content, end))
        fields = bytes(self._small(content, end))
        for start in range(0, len(fields), max(length, 1)):
            kind, size, _ = self._tag(content)
            last = content.at + size
            if kind != _MATRIX or last > end:
                raise ValueError(f"a field of {size} bytes in {name}")
            if size:  # else an empty array, without anything
                field = fields[start : start + length].split(b"\0")[0].decode("latin-1")
                self._matrix(content, last, f"{name}.{field}")
            content.skip(last - content.at)

    def _wanted(self, name, *, structure=False):
        if self._names is None:
            return True
        return any(each.startswith(f"{name}.") for each in self._names) if structure else name in self._names

    def _numbers(self, content, end, name, shape, kind, is_complex):
        count, parts, whole = math.prod(shape), 1 + bool(is_complex), None
        for part in range(parts):
            stored, size, small = self._tag(content)
            left = size if small else end - content.at
            if min(shape) < 0 or size != count * np.dtype(_STORED[stored]).itemsize or size > left:
                raise ValueError(f"{name} of shape {tuple(shape)} in {size} of {left} bytes")
            if part == 0:
                self._claimed += 16 * count if is_complex else size
                check_claim(self._path, self._claimed, self._stored)
                whole = np.empty(count, np.complex64 if kind == _SINGLE else np.complex128) if is_complex else None
            numbers = np.frombuffer(small or content.read(size), f"{self._order}{_STORED[stored]}", count)
            if whole is not None:
                (whole.imag if part else whole.real)[:] = numbers
            if small is None:
                content.skip(-size % 8)
        numbers = numbers if whole is None else whole
        return numbers.astype(numbers.dtype.newbyteorder("="), copy=False).reshape(shape, order="F")

    def _tag(self, content):
        """Kind and bytes of the content of the element that begins here; the content itself where it is in its tag."""
        tag = content.read(8)
        kind, size = struct.unpack(f"{self._order}II", tag)
        if kind >> 16:
            return kind & 0xFFFF, kind >> 16, tag[4:8]
        return kind, size, None

    def _small(self, content, end):
        """The content of an element that says what an array is."""
        _, size, small = self._tag(content)
        if small is not None:
            return small[:size]
        if size > min(_SMALL, end - content.at):
            raise ValueError(f"{size} bytes that say what an array is")
        found = content.read(size)
        content.skip(-size % 8)
        return found


class _Content:
    """What a variable holds, from its first byte on; ``at`` bytes of it have been read."""

    def __init__(self, file, stored, compressed):
        self._file, self._left, self.at = file, stored, 0
        self._inflate = zlib.decompressobj() if compressed else None

    def read(self, size):
        """The next bytes, as an array that can be written to."""
        found = np.empty(size, np.uint8)
        self.at += size
        filled = 0
        while filled < size:
            part = self._some(size - filled)
            if not part:
                raise ValueError(f"{size - filled} bytes are missing")
            found[filled : filled + len(part)] = np.frombuffer(part, np.uint8)
            filled += len(part)
        return found.data

    def skip(self, size):
        """Passes over the next bytes."""
        while size > 0:
            size -= len(self.read(min(size, _AT_ONCE)))

    def close(self):
        """Reads what is left, at whose end is a checksum."""
        while self._some(_AT_ONCE):
            pass
        if self._inflate is not None and not self._inflate.eof:
            raise ValueError("a compressed variable that has no end")

    def _some(self, most):
        """The next bytes, not more than ``most``; none at the end."""
        while True:
            waiting = b"" if self._inflate is None else self._inflate.unconsumed_tail
            if not waiting:
                waiting = self._file.read(min(self._left, _AT_ONCE, most if self._inflate is None else _AT_ONCE))
                self._left -= len(waiting)
            if self._inflate is None:
                return waiting
            part = self._inflate.decompress(waiting, most)
            if part or not waiting or self._inflate.eof:
                return part


def _read_hdf5(path, names):
    with h5py.File(path, "r") as file:
        classes = _NUMBERS if names is None else _NUMBERS | {"char"}
        found = {name: item for name, item in _datasets(file, {file}, classes) if names is None or name in names}
        stored = sum(item.id.get_storage_size() for item in found.values())
        check_claim(path, sum(item.nbytes for item in found.values()), stored)
        return {name: _from_hdf5(item) for name, item in found.items()}


def _datasets(group, seen, classes, prefix=""):
    """Name and dataset of what MATLAB would call arrays of these classes, also in structures."""
    for name in group:
        if name.startswith("#") or not isinstance(group.get(name, getlink=True), h5py.HardLink):  # MATLAB's own names
            continue
        item = group[name]
        if isinstance(item, h5py.Dataset):
            if _is_array(item, classes):
                yield prefix + name, item
        elif _matlab_class(item, "struct") == "struct" and "MATLAB_sparse" not in item.attrs and item not in seen:
            seen.add(item)  # hard links may lead round in circles
            yield from _datasets(item, seen, classes, f"{prefix}{name}.")


def _text(codes):
    """An array of one string: the characters that have these codes, row by row."""
    if codes.size > _LONGEST_TEXT:
        raise ValueError(f"text of {codes.size} characters")
    return np.array(codes.astype("<u2").tobytes().decode("utf-16-le", "replace"))


def _is_array(item, classes):
    if item.external or item.is_virtual or item.shape is None:  # of other files
        return False
    kind = item.dtype.kind in "biufc" or item.dtype.names == ("real", "imag")
    return kind and _matlab_class(item) in classes


def _matlab_class(item, otherwise="double"):
    kind = item.attrs.get("MATLAB_class", otherwise)
    return kind.decode() if isinstance(kind, bytes) else str(kind)


def _from_hdf5(item):
    """An array of numbers as MATLAB had it."""
    stored = item[()]
    if _matlab_class(item) == "char":
        return _text(np.atleast_2d(stored).T)
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
