"""A dictionary in one file: NumPy `.npz`, or MATLAB `.mat` (written as v5, read up to v7.3) for matching in MATLAB.

Both hold the same variables, named with their units in `AXES`. A dictionary without inversion, slice profile or basis
has none of the variables for it in its file.
"""

import pathlib
import zipfile
from collections.abc import Iterable

import numpy as np

from ganmrf.dictionary.build import Dictionary
from ganmrf.files import array_suffix, read_arrays, replacing, write_arrays
from ganmrf.matlab import check_variable
from ganmrf.physics.lowering import require_plain_fisp
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.slice_profile import SliceProfile
from ganmrf.physics.tissue import Tissue
from ganmrf.pytrees import require, require_positive

SCHEMA_VERSION = 1

AXES = {  # name of a variable in the file: its axes; b1 may also be one number
    "dictionary": ("atoms", "columns"),
    "norms": ("atoms",),
    "t1_s": ("atoms",),
    "t2_s": ("atoms",),
    "b1": ("atoms",),
    "flip_angle_rad": ("frames",),
    "repetition_time_s": ("frames",),
    "echo_time_s": ("frames",),
    "inversion_time_s": (),
    "slice_nodes": ("nodes",),
    "slice_weights": ("nodes",),
    "basis": ("frames", "columns"),
}
OPTIONAL = ("inversion_time_s", "slice_nodes", "slice_weights", "basis")
_NAMES = (*AXES, "schema_version", "b1_per_atom")  # of all variables of a file
_REAL = ("float32", "float64")
_COMPLEX = (*_REAL, "complex64", "complex128")


def save_dictionary(path, dictionary: Dictionary):
    """Writes a dictionary to a ``.npz`` (NumPy) or ``.mat`` (MATLAB v5) file, bit for bit, whole or not at all.

    In the file: the variables of `AXES`, where columns are frames, or the rank of the ``basis``; ``schema_version``;
    ``b1_per_atom``. In MATLAB vectors are columns.

    Raises:
      ValueError: another suffix, a folder that cannot be written, a dictionary whose arrays do not fit together, or a
        variable of 2 GB or more in a ``.mat`` file.
    """
    path = pathlib.Path(path)
    fields = fields_of(dictionary)
    check_size(path, *fields["dictionary"].shape, fields["dictionary"].dtype)
    _check(path, fields)
    write_arrays(path, _contents(fields))


def check_size(path, n_atoms: int, n_columns: int, dtype=np.float32):
    """Raises `ValueError`, before any work, where a dictionary of that size is more than the file can hold."""
    if array_suffix(pathlib.Path(path)) == ".mat":
        check_variable(path, "dictionary", n_atoms * n_columns * np.dtype(dtype).itemsize)


def save_dictionary_in_blocks(path, blocks: Iterable[Dictionary], n_atoms: int):
    """Writes the file of `save_dictionary` from blocks of atoms, so that the dictionary need not fit in memory.

    The blocks, one at least, have the same sequence, slice profile and basis, and ``n_atoms`` atoms together, in order.

    Raises:
      ValueError: another suffix, a folder that cannot be written, blocks that do not fit together, or another number of
        atoms than ``n_atoms``.
    """
    path = pathlib.Path(path)
    if array_suffix(path) != ".npz":
        raise ValueError(f"{path}: a dictionary in blocks can be written to .npz alone")
    small, total = [], 0
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", allowZip64=True) as archive:
        with archive.open("dictionary.npy", "w", force_zip64=True) as file:
            for block in blocks:
                fields = fields_of(block)
                _check(path, fields)
                rows = np.ascontiguousarray(fields.pop("dictionary"))
                if not total:
                    kind = rows.dtype, rows.shape[1]
                    header = {"descr": rows.dtype.str, "fortran_order": False, "shape": (n_atoms, rows.shape[1])}
                    np.lib.format.write_array_header_1_0(file, header)
                if (rows.dtype, rows.shape[1]) != kind:
                    raise ValueError(f"{path}: a block has {rows.shape[1]} columns of {rows.dtype}, the first {kind}")
                file.write(rows.data)
                total += len(rows)
                small.append(fields)
        if total != n_atoms:
            raise ValueError(f"{path}: the blocks hold {total} atoms, not {n_atoms}")
        fields = dict(small[0])
        for name, axes in AXES.items():
            if axes == ("atoms",) and np.ndim(fields[name]):
                fields[name] = np.concatenate([part[name] for part in small])
        for name, array in _contents(fields).items():
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)


def load_dictionary(path) -> Dictionary:
    """Reads a ``.npz`` or ``.mat`` file of `save_dictionary`, and checks it.

    Fingerprints, norms, slice profile and basis come back as NumPy arrays, tissue and sequence as JAX arrays, all in
    the dtype that they were saved in (JAX keeps float64 of tissue and sequence only under ``jax.enable_x64``).

    Raises:
      ValueError: a file that is missing, truncated, no dictionary, or of a newer schema; a field that is missing, of a
        wrong dtype, of a shape that disagrees with the others, or with impossible values. The message names the file.
    """
    path = pathlib.Path(path)
    contents = read_arrays(path, _NAMES)
    _check_schema(path, contents)
    if missing := [name for name in AXES if name not in contents and name not in OPTIONAL]:
        raise ValueError(f"{path}: no {', '.join(missing)}: not a whole dictionary")
    fields = {name: contents[name] for name in AXES if name in contents}
    if array_suffix(path) == ".mat":
        fields = {name: _from_matlab(array, AXES[name]) for name, array in fields.items()}
    if fields["b1"].size == 1 and np.array_equal(contents.get("b1_per_atom", np.zeros(1)).ravel(), [0]):
        fields["b1"] = fields["b1"].reshape(())
    _check(path, fields)
    return dictionary_of(path, fields)


def _check_schema(path, contents):
    version = contents.get("schema_version", np.empty(0))
    if version.size != 1 or version.dtype.kind not in "iuf":
        raise ValueError(f"{path}: no schema_version: not a dictionary of ganmrf")
    if (version := version.item()) != SCHEMA_VERSION:
        advice = ": update ganmrf" if version > SCHEMA_VERSION else ""
        raise ValueError(f"{path} has schema {version:g}; this version reads up to {SCHEMA_VERSION}{advice}")


def _from_matlab(array, axes):
    if array.dtype.kind in "iu":  # MATLAB stores doubles that happen to be whole numbers as integers
        array = array.astype(np.float64)
    if array.size == max(array.shape, default=0) and len(axes) < 2:
        return array.ravel() if axes else array.squeeze()
    return np.ascontiguousarray(array)


def fields_of(dictionary: Dictionary) -> dict[str, np.ndarray]:
    """The arrays of a dictionary by their names on disk, `AXES`; fields that are None are absent."""
    tissue, sequence, profile = dictionary.tissue, dictionary.sequence, dictionary.slice_profile
    require_plain_fisp(sequence, tissue, "a dictionary in a file")
    fields = {
        "dictionary": dictionary.fingerprints,
        "norms": dictionary.norms,
        "t1_s": tissue.t1,
        "t2_s": tissue.t2,
        "b1": tissue.b1,
        "flip_angle_rad": sequence.flip_angle,
        "repetition_time_s": sequence.repetition_time,
        "echo_time_s": sequence.echo_time,
        "inversion_time_s": sequence.inversion_time,
        "slice_nodes": getattr(profile, "nodes", None),
        "slice_weights": getattr(profile, "weights", None),
        "basis": dictionary.basis,
    }
    return {name: np.asarray(value) for name, value in fields.items() if value is not None}


def _contents(fields):
    """All variables of a file, by name."""
    # MATLAB arrays have at least two axes: for a single atom, B1 of the atom and B1 of all would look the same.
    return {**fields, "schema_version": SCHEMA_VERSION, "b1_per_atom": fields["b1"].ndim == 1}


def dictionary_of(path, fields) -> Dictionary:
    """The dictionary that has these fields: the inverse of `fields_of`; errors of impossible values name the path."""
    times = fields["repetition_time_s"], fields["echo_time_s"], fields.get("inversion_time_s")
    try:
        tissue = Tissue(fields["t1_s"], fields["t2_s"], fields["b1"])
        sequence = Fisp(fields["flip_angle_rad"], *times)
        profile = SliceProfile(fields["slice_nodes"], fields["slice_weights"]) if "slice_nodes" in fields else None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return Dictionary(tissue, fields["dictionary"], fields["norms"], sequence, profile, fields.get("basis"))


def check_shapes(path, fields):
    """Raises `ValueError` unless arrays, in memory or not, have dtypes and shapes of a dictionary's `fields_of`."""
    lengths = {}
    for name, array in fields.items():
        allowed = _COMPLEX if name in ("dictionary", "basis") else _REAL
        if array.dtype.name not in allowed:
            raise ValueError(f"{path}: {name} has dtype {array.dtype.name}; allowed: {', '.join(allowed)}")
        axes = () if name == "b1" and array.ndim == 0 else AXES[name]
        if array.ndim != len(axes) or array.size == 0:
            raise ValueError(f"{path}: {name} must be ({', '.join(axes)}), not empty; got shape {array.shape}")
        for axis, length in zip(axes, array.shape, strict=True):
            if lengths.setdefault(axis, length) != length:
                raise ValueError(f"{path}: {name} has shape {array.shape}, but there are {lengths[axis]} {axis}")
    if ("slice_nodes" in fields) != ("slice_weights" in fields):
        raise ValueError(f"{path}: slice_nodes and slice_weights must come together")
    if "basis" not in fields and lengths["columns"] != lengths["frames"]:
        raise ValueError(
            f"{path}: dictionary has {lengths['columns']} columns, but the sequence has {lengths['frames']} frames"
        )


def _check(path, fields):
    """As `check_shapes`, and unless norms, rows and basis are possible for a dictionary."""
    check_shapes(path, fields)
    require_positive(f"{path}: norms", fields["norms"])
    # Rounding of a norm in float32 stays below 1e-5; rows that were never normalised are off by far more.
    with np.errstate(all="ignore"):  # infinite entries fail the checks below
        squares = np.linalg.vecdot(fields["dictionary"], fields["dictionary"]).real
        require(f"{path}: squared norm of a row of dictionary", squares, lambda x: np.abs(x - 1) < 1e-3, "1")
        if "basis" in fields:
            gram = fields["basis"].conj().T @ fields["basis"]
            orthonormal = "orthonormal: products of its columns must be 0, or 1 with themselves"
            require(f"{path}: basis", gram, lambda x: np.abs(x - np.eye(len(x))) < 1e-4, orthonormal)
