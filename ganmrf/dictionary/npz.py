"""A dictionary in one file: NumPy `.npz`, or MATLAB `.mat` (written as v5, read up to v7.3) for matching in MATLAB.

Both hold the same variables, named with their units: those of `AXES`, and those of the tissue, the sequence and the
slice, which `ganmrf.dictionary.tissue_fields`, `sequence_fields` and `slice_fields` tell. A dictionary without
off-resonance, slice profile or basis has none of the variables for it in its file.
"""

import pathlib
import zipfile
from collections.abc import Iterable

import numpy as np

from ganmrf.dictionary import sequence_fields, slice_fields, tissue_fields
from ganmrf.dictionary.build import Dictionary
from ganmrf.dictionary.sequence_fields import DTYPES, fields_of_sequence, has_power, sequence_of
from ganmrf.dictionary.slice_fields import MODEL, fields_of_slice, slice_of
from ganmrf.dictionary.tissue_fields import KIND, OR_ONE, fields_of_tissue, tissue_of, tissue_variables
from ganmrf.files import array_suffix, read_arrays, replacing, write_arrays
from ganmrf.matlab import check_variable
from ganmrf.pytrees import require, require_positive

# Of FISP on resonance, which versions that know nothing else read, too; of other sequences, and off resonance; of a
# slice with a model, which older versions would take for a uniform one; of tissue of several pools, or of a sequence
# that says the power of its pulses, which older versions would lose.
SCHEMA_VERSIONS = (1, 2, 3, 4)
TEXTS = (*sequence_fields.TEXTS, MODEL, KIND)
# Of any tissue, sequence and slice, but for parts of sequences.
NAMES = sequence_fields.NAMES | slice_fields.NAMES | {*tissue_fields.NAMES}

AXES = {  # name of a variable in the file: its axes
    "dictionary": ("atoms", "columns"),
    "norms": ("atoms",),
    **dict.fromkeys(tissue_fields.NAMES, ("atoms",)),
    "slice_nodes": ("nodes",),
    "slice_weights": ("nodes",),
    "basis": ("frames", "columns"),
    "errors": ("atoms",),
}
OPTIONAL = {"inversion_time_s", "slice_nodes", "slice_weights", "basis", "errors"} | tissue_fields.OPTIONAL
_REAL = ("float32", "float64")
_COMPLEX = (*_REAL, "complex64", "complex128")


def save_dictionary(path, dictionary: Dictionary):
    """Writes a dictionary to a ``.npz`` (NumPy) or ``.mat`` (MATLAB v5) file, bit for bit, whole or not at all.

    In the file: the variables of `AXES`, where columns are frames, or the rank of the ``basis``; those of the sequence;
    ``schema_version``; ``b1_per_atom`` and the like for each parameter but T1 and T2. In MATLAB vectors are columns.

    Raises:
      ValueError: another suffix, a folder that cannot be written, a dictionary whose arrays do not fit together, or a
        variable of 2 GB or more in a ``.mat`` file.
    """
    path = pathlib.Path(path)
    fields = fields_of(dictionary)
    check_size(path, *fields["dictionary"].shape, fields["dictionary"].dtype)
    _check(path, fields, dictionary.sequence.n_frames)
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
                _check(path, fields, block.sequence.n_frames)
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
            if axes == ("atoms",) and np.ndim(fields.get(name)):
                fields[name] = np.concatenate([part[name] for part in small])
        for name, array in _contents(fields).items():
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)


def load_dictionary(path) -> Dictionary:
    """Reads a ``.npz`` or ``.mat`` file of `save_dictionary`, and checks it.

    Fingerprints, norms, slice profile and basis come back as NumPy arrays, tissue and sequence as JAX arrays, all in
    the dtype that they were saved in (JAX keeps float64 of tissue and sequence only under ``jax.enable_x64``).

    Raises:
      ValueError: a file that is missing, truncated, no dictionary, of a newer schema or of a kind of sequence that this
        version does not know; a field that is missing, of a wrong dtype, of a shape that disagrees with the others, or
        with impossible values. The message names the file.
    """
    path = pathlib.Path(path)
    contents = read_arrays(path, (*TEXTS, "schema_version"))
    version = check_schema(path, contents.pop("schema_version", None))
    variables = variables_of(path, contents)
    contents |= read_arrays(path, (*variables, *OR_ONE.values(), *NAMES))
    check_names(path, version, variables, contents)
    fields = {name: array for name, array in contents.items() if name not in OR_ONE.values()}
    if array_suffix(path) == ".mat":
        fields |= {name: _from_matlab(fields[name], *variables[name]) for name in variables if name in fields}
    for name, per_atom in OR_ONE.items():
        if name in fields and fields[name].size == 1 and np.array_equal(np.ravel(contents.get(per_atom, 0)), [0]):
            fields[name] = fields[name].reshape(())
    dictionary = dictionary_of(path, fields)
    _check(path, fields, dictionary.sequence.n_frames)
    return dictionary


def check_schema(path, version) -> int:
    """The ``version`` of a file; raises `ValueError` unless it, which may be None, is one of `SCHEMA_VERSIONS`."""
    version = np.asarray(np.nan if version is None else version)
    if version.size != 1 or version.dtype.kind not in "iuf" or np.isnan(version).any():
        raise ValueError(f"{path}: no schema_version: not a dictionary of ganmrf")
    if (version := version.item()) not in SCHEMA_VERSIONS:
        newest = SCHEMA_VERSIONS[-1]
        advice = ": update ganmrf" if version > newest else ""
        raise ValueError(f"{path} has schema {version:g}; this version reads up to {newest}{advice}")
    return int(version)


def variables_of(path, texts) -> dict[str, tuple[int, str | None]]:
    """Names of all arrays of a file: number of axes and dtype of each, None where it may be any of floats.

    Raises:
      ValueError: as `sequence_fields.variables_of`, `slice_fields.slice_variables` and `tissue_variables`.
    """
    others = {*tissue_fields.NAMES} - {*tissue_variables(path, texts)}
    found = {name: (len(axes), None) for name, axes in AXES.items() if name not in others}
    return found | sequence_fields.variables_of(path, texts) | slice_fields.slice_variables(path, texts)


def check_names(path, version, needed, present):
    """Raises `ValueError` naming what is needed but neither `OPTIONAL` nor present, or present but of another kind.

    Nor may the variables be those of another schema: a kind that was changed or lost would make them another sequence.
    """
    if others := [name for name in NAMES if name in present and name not in needed]:
        raise ValueError(
            f"{path}: {', '.join(sorted(others))} is no variable of a sequence, slice or tissue of its kind: damaged"
        )
    if version != schema_of(present) or (version > 1 and "kind" not in present):
        told = f"kind, structure, off_resonance_hz, {MODEL}, {KIND} and pulses"
        raise ValueError(f"{path}: its {told} are not those of schema {version}: damaged")
    if missing := [name for name in needed if name not in present and name not in OPTIONAL]:
        raise ValueError(f"{path}: no {', '.join(missing)}: not a whole dictionary")


def _from_matlab(array, ndim, dtype):
    """An array as it was before MATLAB made at least two axes of it, and integers of whole numbers."""
    if dtype is None and array.dtype.kind in "iu":
        dtype = float
    if dtype is not None and array.dtype.kind in "biuf":
        with np.errstate(invalid="ignore"):  # of numbers that the dtype does not have
            cast = array.astype(dtype)
        array = cast if np.array_equal(cast, array) else array
    if array.size == max(array.shape, default=0) and ndim < 2:
        return array.ravel() if ndim else array.squeeze()
    return np.ascontiguousarray(array)


def fields_of(dictionary: Dictionary) -> dict[str, np.ndarray]:
    """The arrays of a dictionary by their names on disk; fields that are None are absent."""
    tissue = fields_of_tissue(dictionary.tissue)
    fields = {"dictionary": dictionary.fingerprints, "norms": dictionary.norms, **tissue, "basis": dictionary.basis}
    fields["errors"] = dictionary.errors
    fields = {name: np.asarray(value) for name, value in fields.items() if value is not None}
    return fields | fields_of_sequence(dictionary.sequence) | fields_of_slice(dictionary.slice_profile)


def schema_of(fields) -> int:
    """The schema that a dictionary of such fields is written in."""
    if KIND in fields or has_power(fields):
        return 4
    return 3 if MODEL in fields else 2 if "structure" in fields or "off_resonance_hz" in fields else 1


def _contents(fields):
    """All variables of a file, by name."""
    # MATLAB arrays have at least two axes: for a single atom, B1 of the atom and B1 of all would look the same.
    per_atom = {variable: fields[name].ndim == 1 for name, variable in OR_ONE.items() if name in fields}
    return {**fields, "schema_version": schema_of(fields), **per_atom}


def dictionary_of(path, fields) -> Dictionary:
    """The dictionary that has these fields: the inverse of `fields_of`; errors of impossible values name the path."""
    sequence = sequence_of(path, fields)
    check_shapes(path, fields, sequence.n_frames)
    tissue, profile, optional = tissue_of(path, fields), slice_of(path, fields), map(fields.get, ("basis", "errors"))
    return Dictionary(tissue, fields["dictionary"], fields["norms"], sequence, profile, *optional)


def check_shapes(path, fields, n_frames: int | None = None):
    """Raises `ValueError` unless arrays, in memory or not, have dtypes and shapes of a dictionary's `AXES`.

    ``n_frames`` is that of the sequence; None where it is not known yet.
    """
    lengths = {} if n_frames is None else {"frames": n_frames}
    for name, array in ((name, fields[name]) for name in AXES if name in fields):
        _check_dtype(path, name, array, _COMPLEX if name in ("dictionary", "basis") else _REAL)
        axes = () if name in OR_ONE and array.ndim == 0 else AXES[name]
        if array.ndim != len(axes) or array.size == 0:
            raise ValueError(f"{path}: {name} must be ({', '.join(axes)}), not empty; got shape {array.shape}")
        for axis, length in zip(axes, array.shape, strict=True):
            if lengths.setdefault(axis, length) != length:
                raise ValueError(f"{path}: {name} has shape {array.shape}, but there are {lengths[axis]} {axis}")
    if ("slice_nodes" in fields) != ("slice_weights" in fields):
        raise ValueError(f"{path}: slice_nodes and slice_weights must come together")
    if "basis" not in fields and lengths["columns"] != lengths.get("frames", lengths["columns"]):
        raise ValueError(
            f"{path}: dictionary has {lengths['columns']} columns, but the sequence has {lengths['frames']} frames"
        )


def _check_dtype(path, name, array, allowed):
    if array.dtype.name not in allowed:
        raise ValueError(f"{path}: {name} has dtype {array.dtype.name}; allowed: {', '.join(allowed)}")


def _check(path, fields, n_frames):
    """As `check_shapes`, and unless norms, rows and basis are possible for a dictionary."""
    check_shapes(path, fields, n_frames)
    for name in fields.keys() - AXES.keys() - {*TEXTS} - slice_fields.NAMES:
        _check_dtype(path, name, fields[name], DTYPES)
    require_positive(f"{path}: norms", fields["norms"])
    require(f"{path}: errors", fields.get("errors", 0.0), lambda x: (x >= 0) & (x <= 2), "0 to 2")  # of unit vectors
    # Rounding of a norm in float32 stays below 1e-5; rows that were never normalised are off by far more.
    with np.errstate(all="ignore"):  # infinite entries fail the checks below
        squares = np.linalg.vecdot(fields["dictionary"], fields["dictionary"]).real
        require(f"{path}: squared norm of a row of dictionary", squares, lambda x: np.abs(x - 1) < 1e-3, "1")
        if "basis" in fields:
            gram = fields["basis"].conj().T @ fields["basis"]
            orthonormal = "orthonormal: products of its columns must be 0, or 1 with themselves"
            require(f"{path}: basis", gram, lambda x: np.abs(x - np.eye(len(x))) < 1e-4, orthonormal)
