"""Files: written whole or not at all, read without ever unpickling."""

import contextlib
import contextvars
import itertools
import json
import math
import os
import pathlib
import platform
import shutil
import stat
import tempfile
import warnings
import zipfile
import zlib

import h5py
import numpy as np
import psutil
import scipy.io

from ganmrf.memory import TooLarge, require_memory

_HOST = f"{zlib.crc32(platform.node().encode()):08x}"
_writes = itertools.count()
_under_way = set()  # temporary paths of this process
_LARGE = 2**30  # bytes that a file may claim to hold whatever its size
_MOST_COMPRESSED = 100  # times: arrays of measurements and simulations stay below, a bomb of zeros reaches 1000
_DEFLATED = 1032  # times: the most that the method of .mat (v5) files compresses
_inputs = contextvars.ContextVar("inputs", default=frozenset())


@contextlib.contextmanager
def keeping(inputs):
    """Inside, nothing is written over the files of ``inputs``, paths that need not exist."""
    token = _inputs.set(_inputs.get() | {os.path.realpath(path) for path in inputs})
    try:
        yield
    finally:
        _inputs.reset(token)


def check_output(path, *, folder: bool = False) -> pathlib.Path:
    """The file, or the ``folder``, that a write to ``path`` makes or replaces: where symbolic links lead.

    Raises:
      ValueError: a folder around it that does not exist or cannot be written, a name that no file can have, an input
        (`keeping`), or something else in its place than such a file or folder.
    """
    target = _target(path, folder)
    with _told_of(path):
        tempfile.TemporaryFile(dir=target.parent).close()
    return target


@contextlib.contextmanager
def _told_of(path):
    try:
        yield
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror}") from error


def _target(path, folder=False):
    """`check_output`, but for whether the folder around it can be written."""
    wanted = stat.S_IFDIR if folder else stat.S_IFREG
    target, kind = pathlib.Path(os.path.realpath(path)), wanted
    with _told_of(path), contextlib.suppress(FileNotFoundError):
        kind = target.stat().st_mode
    if str(target) in _inputs.get():
        raise ValueError(f"cannot write {path}: it is an input of the same call")
    if stat.S_IFMT(kind) != wanted:
        found = "no folder" if folder else "a folder" if stat.S_ISDIR(kind) else "no file"
        raise ValueError(f"cannot write {path}: it is {found}")
    return target


@contextlib.contextmanager
def replacing(path):
    """Yields a temporary path in the same folder, with the same suffixes, whose file replaces ``path`` on success.

    When the block raises, the temporary file is removed and a file at ``path`` stays as it was. What a killed process
    left behind of a write to ``path`` is removed.

    Raises:
      ValueError: as `check_output`.
    """
    target = _target(path)
    with _beside(target) as temporary:
        with _told_of(path):
            temporary.touch()
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, target)


@contextlib.contextmanager
def making_folder(path):
    """As `replacing`, for a folder: ``path`` must not exist, or be an empty folder."""
    target = _target(path, folder=True)
    with _beside(target) as temporary:
        with _told_of(path):
            temporary.mkdir()
        yield temporary
        os.rename(temporary, target)


def remove_folder(path):
    """Removes a folder at once: what is left of it where this process is killed has another name, as of `replacing`."""
    target = pathlib.Path(path)
    with _beside(target) as temporary:
        os.rename(target, temporary)


@contextlib.contextmanager
def _beside(target):
    """A temporary path that tells whose it is: a hash of the name, then host and process; it does not exist after."""
    mine, here = f".{zlib.crc32(os.fsencode(target.name)):08x}-{_HOST}-", os.getpid()
    for left in target.parent.glob(f"{mine}*.part*"):
        process = int(left.name.split("-")[2])  # in a container, the next run often has the number of a killed one
        if left not in _under_way and (process == here or not psutil.pid_exists(process)):
            _remove(left)
    temporary = target.parent / f"{mine}{here}-{next(_writes)}.part{''.join(target.suffixes[-2:])}"
    _under_way.add(temporary)
    try:
        yield temporary
    finally:
        _under_way.remove(temporary)
        _remove(temporary)


def _remove(path):
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    path.unlink(missing_ok=True)


def make_folder(folder) -> pathlib.Path:
    """Creates a folder where it is missing; raises `ValueError`, before any work, where it cannot be written to."""
    folder = pathlib.Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(f"cannot write to {folder}: {error.strerror}") from error
    return folder


def write_json(path, content):
    """Writes ``content`` as JSON, as `replacing` does: indented by two spaces, UTF-8, a newline at the end."""
    text = json.dumps(content, indent=2)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path):
    """The content of a JSON file; raises `ValueError` naming a file that cannot be read or holds no JSON."""
    path = pathlib.Path(path)
    check_readable(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # of UTF-8, and of lists in lists in lists, too
        raise ValueError(f"{path}: no JSON ({error})") from error


def write_arrays(path, arrays: dict):
    """Writes arrays by name to a ``.npz`` or ``.mat`` (v5) file, whole or not at all; in MATLAB vectors are columns.

    Raises:
      ValueError: another suffix, or a folder that cannot be written.
    """
    suffix = array_suffix(pathlib.Path(path))
    with replacing(path) as temporary:
        if suffix == ".mat":
            scipy.io.savemat(temporary, arrays, oned_as="column")
        else:
            np.savez(temporary, allow_pickle=False, **arrays)


def read_arrays(path, names=None) -> dict[str, np.ndarray]:
    """The arrays of a ``.npz`` or ``.mat`` (v5 to v7.3) file; nothing in it is ever unpickled.

    Of a v7.3 file, which is HDF5, only arrays of numbers are read; text, structures, cells, sparse matrices and the
    targets of references and links are left out.

    Returns:
      Arrays by name, of ``names`` alone unless it is None, in the shapes of the file (in MATLAB two axes at least).
      Nothing else is read.

    Raises:
      ValueError: another suffix, or a file that is missing, truncated or of another kind; `TooLarge` as `check_claim`.
    """
    path = pathlib.Path(path)
    suffix = array_suffix(path)
    check_readable(path)
    try:
        with warnings.catch_warnings():
            for damage in (RuntimeWarning, scipy.io.matlab.MatReadWarning):
                warnings.simplefilter("error", damage)
            contents = (_read_mat if suffix == ".mat" else _read_npz)(path, names)
    except TooLarge:
        raise
    except Exception as error:  # a damaged file makes the readers raise whatever they trip over, a dozen types
        cause = " ".join(str(error).split())
        raise ValueError(f"{path}: not a whole {suffix} file of plain arrays ({cause})") from error
    return {name: value for name, value in contents.items() if isinstance(value, np.ndarray)}


def check_claim(path, claimed: int, stored: int):
    """Raises `TooLarge` before arrays are allocated as large as a file claims that they are, in bytes.

    It does where a GB or more is over 100 times the ``stored`` bytes of the file that hold the arrays, or more than the
    memory that is available.
    """
    if claimed > max(_LARGE, _MOST_COMPRESSED * stored):
        raise TooLarge(f"{path}: {stored / 1e6:.1f} MB of a file cannot hold arrays of {claimed / 1e9:.1f} GB")
    require_memory(claimed, f"{path}", "smaller arrays, or a dictionary in .zarr, need less")


def check_readable(path):
    """Raises `ValueError` naming ``path`` and the reason when it is no file, or cannot be opened for reading."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would make the reader wait for ever
            raise ValueError(f"cannot read {path}: it is {'a folder' if os.path.isdir(path) else 'no file'}")
        open(path, "rb").close()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error


def _read_npz(path, names):
    with zipfile.ZipFile(path) as archive:
        members = {info.filename[:-4]: info for info in archive.infolist() if info.filename.endswith(".npy")}
        chosen = {name: info for name, info in members.items() if names is None or name in names}
        stored = sum(info.compress_size for info in chosen.values())
        check_claim(path, sum(info.file_size for info in chosen.values()), min(stored, path.stat().st_size))
        return {name: _from_zip(archive, info) for name, info in chosen.items()}


def _from_zip(archive, info):
    with archive.open(info) as file:
        array = np.lib.format.read_array(file, allow_pickle=False)
        if file.read(1):  # at the end of a member its checksum is compared
            raise ValueError(f"{info.filename} has more bytes than its header says")
    return array


def _read_mat(path, names):
    try:
        if (size := path.stat().st_size) * _DEFLATED > _LARGE:
            found = [(kind, shape) for name, shape, kind in scipy.io.whosmat(path) if names is None or name in names]
            check_claim(path, sum(_MATLAB_NUMBERS.get(kind, 1) * math.prod(shape) for kind, shape in found), size)
        return scipy.io.loadmat(path, variable_names=names)
    except NotImplementedError:  # v7.3
        pass
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
    return item if kind and _matlab_class(item) in _MATLAB_NUMBERS else None


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


_MATLAB_NUMBERS = {"double": 8, "single": 4, "logical": 1}  # bytes of a number, by class
_MATLAB_NUMBERS |= {f"{kind}{8 * size}": size for kind in ("int", "uint") for size in (1, 2, 4, 8)}


def array_suffix(path: pathlib.Path) -> str:
    """The suffix in lower case; raises `ValueError` unless it is ``.npz`` or ``.mat``."""
    suffix = path.suffix.lower()
    if suffix not in (".npz", ".mat"):
        raise ValueError(f"{path}: suffix {suffix!r} is not one of .npz, .mat")
    return suffix
