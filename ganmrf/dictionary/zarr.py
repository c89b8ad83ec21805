"""A dictionary that need not fit in memory: a Zarr v3 folder, written in chunks of atoms and read in blocks.

The arrays have the names of a dictionary in a file (`ganmrf.dictionary.npz`), and text is in the group's attributes.
Three arrays are divided into chunks of the same atoms: ``dictionary``, ``norms`` and, in a compressed dictionary,
``left_out``, the share of each atom's energy that the basis leaves out. Each chunk is a file with a checksum, renamed
to its place when it is whole.
The folder is renamed to its place when it has everything but chunks: after a killed run only chunks can be missing.
Once none is, the group's attributes have the checksum of each, by which a chunk that is not in its place is known.
"""

import contextlib
import dataclasses
import functools
import itertools
import math
import os
import pathlib

import numpy as np
import tensorstore

from ganmrf.dictionary.build import Dictionary
from ganmrf.dictionary.npz import (
    AXES,
    NAMES,
    TEXTS,
    check_names,
    check_schema,
    check_shapes,
    dictionary_of,
    load_dictionary,
    schema_of,
    variables_of,
)
from ganmrf.dictionary.rows import RowsOnDemand
from ganmrf.dictionary.slice_fields import SAMPLES
from ganmrf.files import making_folder, read_json, write_json
from ganmrf.memory import check_claim, require_memory

_CHUNKED = ("dictionary", "norms", "left_out")
_CHECKSUMS = "checksums"  # attribute of the group
_EXTRA_AXES = {"left_out": ("atoms",), "n_states": ("atoms",)}


def open_dictionary(path) -> Dictionary:
    """Opens a ``.zarr`` folder, or a file that `load_dictionary` reads.

    Rows of a folder are read when they are indexed, as `match` does in blocks.

    Returns:
      The dictionary; ``fingerprints`` and ``norms`` of a ``.zarr`` one are `RowsOnDemand`.

    Raises:
      ValueError: a folder that is missing, not whole, damaged, no dictionary or of a newer schema, or as
        `load_dictionary`.
    """
    path = pathlib.Path(path)
    if path.suffix.lower() != ".zarr":
        return load_dictionary(path)
    store = ChunkedStore.open(path)
    if missing := store.missing():
        some = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
        raise ValueError(
            f"{path} is not whole: {len(missing)} of its {store.n_chunks} chunks are missing ({some}): {store.remedy}"
        )
    if misplaced := store.misplaced():
        raise ValueError(
            f"{path}: chunk {misplaced[0]} is another than it was when the folder was whole: {store.remedy}"
        )
    return store.dictionary()


@dataclasses.dataclass(frozen=True)
class ChunkedStore:
    """A dictionary's folder, with all of its chunks or only some.

    Attributes:
      path: the folder.
      settings: settings of the simulation, plain values by name.
      checksums: that of each chunk, by its place in the folder, from when all were there; None before.
      fields: the small arrays by name, in memory.
      arrays: the chunked arrays by name, on disk.
    """

    path: pathlib.Path
    settings: dict
    checksums: dict[str, int] | None
    fields: dict[str, np.ndarray]
    arrays: dict[str, tensorstore.TensorStore]

    @classmethod
    def create(cls, path, settings: dict, fields: dict[str, np.ndarray], *, columns: int, chunk: int, dtype):
        """Makes the folder, which must not exist, without any chunk, whole or not at all.

        ``fields`` are all arrays but the chunked ones, by name; ``basis`` adds ``left_out`` to the chunked ones, which
        have ``chunk`` atoms a chunk. ``dictionary`` has so many ``columns``, of the ``dtype``; the other chunked ones
        are real numbers of the same precision.
        """
        n_atoms, frames, dtype = fields["t1_s"].size, len(fields.get("basis", range(columns))), np.dtype(dtype)
        shapes = {"dictionary": (n_atoms, columns), "norms": (n_atoms,)}
        if "basis" in fields:
            shapes["left_out"] = (n_atoms,)
        texts = {name: str(fields[name]) for name in TEXTS if name in fields}
        arrays = {name: array for name, array in fields.items() if name not in texts}
        with making_folder(path) as begun:
            opening = {
                name: _create_array(begun, name, each.shape, each.dtype, frames) for name, each in arrays.items()
            }
            writing = [array.result().write(arrays[name]) for name, array in opening.items()]
            for name, shape in shapes.items():
                of_array = dtype if name == "dictionary" else np.finfo(dtype).dtype
                _create_array(begun, name, shape, of_array, chunk=chunk).result()
            for write in writing:
                write.result()
            members = {name: read_json(begun / name / "zarr.json") for name in (*shapes, *arrays)}
            group = {
                "zarr_format": 3,
                "node_type": "group",
                "attributes": {"schema_version": schema_of(fields), **texts, "settings": settings},
                # A copy of the arrays' metadata, where xarray looks for it.
                "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": members},
            }
            write_json(begun / "zarr.json", group)

    @classmethod
    def open(cls, path) -> "ChunkedStore":
        """Opens a folder that `create` made.

        Raises:
          ValueError: a folder that is missing, damaged, something else, of a newer schema, or with a kind of sequence
            that this version does not know; arrays that do not fit together, or that are larger than their files or the
            memory can hold.
        """
        path = pathlib.Path(path)
        try:
            attributes = read_json(path / "zarr.json")["attributes"]
            version, settings = attributes["schema_version"], attributes["settings"]
            checksums = attributes.get(_CHECKSUMS)
            texts = {name: attributes[name] for name in TEXTS if name in attributes}
            if not (isinstance(settings, dict) and isinstance(checksums, dict | None)):
                raise TypeError
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path}: no dictionary of ganmrf") from error
        version = check_schema(path, version)
        texts = {name: np.asarray(text) for name, text in texts.items()}
        own = variables_of(path, texts)
        names = [name for name in dict.fromkeys((*own, *_EXTRA_AXES, *NAMES)) if (path / name).is_dir()]
        check_names(path, version, (*own, "n_states"), (*names, *texts))
        opening = {name: tensorstore.open(_spec(path, name)) for name in names}
        arrays = {name: _result(array) for name, array in opening.items()}
        _check_claims(path, arrays)
        reading = {name: array.read() for name, array in arrays.items() if name not in _CHUNKED}
        fields = texts | {name: _result(array) for name, array in reading.items()}
        chunked = {name: array for name, array in arrays.items() if name in _CHUNKED}
        return cls(path, settings, checksums, fields, chunked)

    def dictionary(self) -> Dictionary:
        """The dictionary; rows of missing chunks cannot be read.

        Raises:
          ValueError: fields with values that a dictionary cannot have.
        """
        rows = {
            name: RowsOnDemand(functools.partial(self.read, name), array.shape, array.dtype.numpy_dtype)
            for name, array in self.arrays.items()
        }
        return dictionary_of(self.path, self.fields | rows)

    @property
    def dtype(self) -> np.dtype:
        """Dtype of fingerprints."""
        return self.arrays["dictionary"].dtype.numpy_dtype

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return self.arrays["dictionary"].shape[0]

    @property
    def chunk_atoms(self) -> int:
        """Atoms of a chunk; the last chunk may have fewer."""
        return self.arrays["dictionary"].chunk_layout.read_chunk.shape[0]

    @property
    def n_chunks(self) -> int:
        """Number of chunks, missing ones included."""
        return -(-self.n_atoms // self.chunk_atoms)

    @property
    def remedy(self) -> str:
        """Advice for missing or damaged chunks, to end an error message with."""
        return f"run simulate_dictionary --output={self.path} again, with the flags that it was begun with"

    def rows(self, chunk: int) -> slice:
        """The atoms of a chunk."""
        return slice(chunk * self.chunk_atoms, min((chunk + 1) * self.chunk_atoms, self.n_atoms))

    def missing(self) -> list[int]:
        """The numbers of the missing chunks."""
        return [
            n for n in range(self.n_chunks) if not all(os.path.exists(f"{self.path}/{file}") for file in self._files(n))
        ]

    def misplaced(self) -> list[int]:
        """The numbers of the chunks that are not those which were there when all were."""
        kept = self.checksums
        if kept is None:
            return []
        return [
            n for n in range(self.n_chunks) if any(kept.get(file) != self._checksum(file) for file in self._files(n))
        ]

    def keep_checksums(self):
        """Writes the checksums of all chunks to the group's attributes, once none is missing."""
        if self.missing():
            return
        group, files = read_json(self.path / "zarr.json"), map(self._files, range(self.n_chunks))
        found = {file: self._checksum(file) for file in itertools.chain.from_iterable(files)}
        if group["attributes"].get(_CHECKSUMS) != found:
            group["attributes"][_CHECKSUMS] = found
            write_json(self.path / "zarr.json", group)

    def remove_damaged(self, chunks):
        """Reads ``chunks`` and removes those whose checksum is wrong, or not that of their place."""
        misplaced = self.misplaced()
        for chunk in chunks:
            try:
                for name in self.arrays:
                    self.read(name, self.rows(chunk))
                damaged = chunk in misplaced
            except ValueError:
                damaged = True
            if damaged:
                for file in self._files(chunk):
                    (self.path / file).unlink(missing_ok=True)

    def write(self, chunk: int, values):
        """Writes a chunk of each chunked array: fingerprints, norms and, with a basis, ``left_out``."""
        pairs = zip(self.arrays.values(), values, strict=True)
        writes = [
            array[self.rows(chunk)].write(value.astype(array.dtype.numpy_dtype, copy=False)) for array, value in pairs
        ]
        for write in writes:
            _result(write)

    def read(self, name: str, rows) -> np.ndarray:
        """Rows of a chunked array, by any NumPy index of the first axis except a single number.

        Raises:
          ValueError: a chunk is missing or damaged; the message names the file.
        """
        array = self.arrays[name]
        try:
            if isinstance(rows, slice):
                return _result(array[rows].read())
            rows = np.arange(self.n_atoms)[rows]
            found = np.empty((rows.size, *array.shape[1:]), array.dtype.numpy_dtype)
            chunks = rows // self.chunk_atoms
            for chunk in np.unique(chunks):  # one after the other: TensorStore would have all of them in memory
                here = chunks == chunk
                found[here] = _result(array[rows[here]].read())
            return found
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}: {self.remedy}") from error

    def _files(self, chunk):
        """Yields the file of ``chunk`` in each array, as Zarr names it."""
        for name, array in self.arrays.items():
            yield f"{name}/c/{chunk}{'/0' * (array.ndim - 1)}"

    def _checksum(self, file):
        """The checksum with which the file of a chunk ends; None where it has none."""
        with contextlib.suppress(OSError), open(f"{self.path}/{file}", "rb", buffering=0) as content:
            content.seek(-4, os.SEEK_END)
            return int.from_bytes(content.read(4), "little")


def _check_claims(path, arrays):
    """Raises `ValueError` where arrays do not fit together, or are larger than their files or the memory can hold."""
    check_shapes(path, arrays)
    chunks = {name: array.chunk_layout.read_chunk.shape or () for name, array in arrays.items()}
    atoms, together = arrays["norms"].shape, chunks["norms"]
    for name, array in arrays.items():
        lengths = array.shape[:1] if name in (*_CHUNKED, *_EXTRA_AXES) else atoms
        if lengths != atoms or (name in _CHUNKED and chunks[name] != together + array.shape[1:]):
            raise ValueError(f"{path}: {name} has shape {array.shape} in chunks of {chunks[name]}, norms {atoms}")
    sizes = {name: array.dtype.numpy_dtype.itemsize * math.prod(chunks[name]) for name, array in arrays.items()}
    require_memory(sum(sizes.pop(name, 0) for name in _CHUNKED), f"a chunk of {path}", "smaller chunks need less")
    claimed = sum(
        max(size, arrays[name].dtype.numpy_dtype.itemsize * arrays[name].size) for name, size in sizes.items()
    )
    files = [path.joinpath(name, "c", *["0"] * arrays[name].ndim) for name in sizes]
    check_claim(path, claimed, sum(file.stat().st_size for file in files if file.is_file()))


def _create_array(folder, name, shape, dtype, frames=None, chunk=None):
    """A future of a new array, in chunks of so many of its first axis, or in one.

    Axes that have no name elsewhere are those of so many ``frames``, or the array's own.
    """
    chunk_shape = shape if chunk is None else (chunk, *shape[1:])
    axes = ["frames" if length == frames else f"{name}_{axis}" for axis, length in enumerate(shape)]
    missing = "NaN" if dtype.kind == "f" else ["NaN", "NaN"] if dtype.kind == "c" else dtype.type(0).item()
    metadata = {
        "shape": shape,
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [max(size, 1) for size in chunk_shape]}},
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
        "fill_value": missing,
        "dimension_names": (AXES | _EXTRA_AXES | {SAMPLES: ("samples",)}).get(name, axes)[: len(shape)],
    }
    spec = {**_spec(folder, name), "metadata": metadata, "store_data_equal_to_fill_value": True}
    return tensorstore.open(spec, create=True)


def _spec(folder, name):
    store = {"driver": "file", "path": f"{folder / name}/"}
    return {"driver": "zarr3", "kvstore": store, "fill_missing_data_reads": False}


def _result(future):
    """The result of a TensorStore future; error messages are cut to one line, without TensorStore's specification."""
    try:
        return future.result()
    except ValueError as error:
        raise ValueError(" ".join(str(error).split(" [tensorstore_spec")[0].split())) from error
