"""Files: written whole or not at all, read without ever unpickling."""

import contextlib
import contextvars
import itertools
import json
import os
import pathlib
import platform
import shutil
import stat
import tempfile
import warnings
import zipfile
import zlib

import numpy as np
import psutil
import scipy.io

from ganmrf.matlab import check_variable, read_matlab
from ganmrf.memory import TooLarge, check_claim

_HOST = f"{zlib.crc32(platform.node().encode()):08x}"
_writes = itertools.count()
_under_way = set()  # temporary paths of this process
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


def check_folder(path):
    """Raises `ValueError` for a folder that cannot be made, as a file stands in its place or in that of one around it.

    Nothing is made.
    """
    path = pathlib.Path(path)
    nearest = next(each for each in (path, *path.parents) if os.path.lexists(each))
    if not nearest.is_dir():
        raise ValueError(f"cannot write to {path}: {nearest} is no folder")


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
      ValueError: another suffix, a folder that cannot be written, or a variable of 2 GB or more in a ``.mat`` file.
    """
    suffix = array_suffix(pathlib.Path(path))
    for name, array in arrays.items() if suffix == ".mat" else ():
        check_variable(path, name, np.asarray(array).nbytes)
    with replacing(path) as temporary:
        if suffix == ".mat":
            scipy.io.savemat(temporary, arrays, oned_as="column")
        else:
            np.savez(temporary, allow_pickle=False, **arrays)


def read_arrays(path, names=None) -> dict[str, np.ndarray]:
    """The arrays of a ``.npz`` or ``.mat`` (v5 to v7.3) file; nothing in it is ever unpickled.

    Of a ``.mat`` file only arrays of numbers are read, those in a structure as ``structure.field``, and text that is
    among the ``names``; cells, arrays of structures, sparse matrices and the targets of references and links are not.

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
            warnings.simplefilter("error", RuntimeWarning)  # of damage
            contents = (read_matlab if suffix == ".mat" else _read_npz)(path, names)
    except TooLarge:
        raise
    except Exception as error:  # a damaged file makes the readers raise whatever they trip over, a dozen types
        cause = " ".join(str(error).split())
        raise ValueError(f"{path}: not a whole {suffix} file of plain arrays ({cause})") from error
    return contents


def read_npy(path) -> np.ndarray:
    """The array of a ``.npy`` file, never unpickled; raises `ValueError` as `read_arrays` does."""
    path = pathlib.Path(path)
    check_readable(path)
    try:
        stored = np.load(path, mmap_mode="r", allow_pickle=False)  # no longer than the file
        check_claim(path, stored.nbytes, path.stat().st_size)
        return np.array(stored)
    except TooLarge:
        raise
    except Exception as error:
        cause = " ".join(str(error).split())
        raise ValueError(f"{path}: not a whole .npy file of one plain array ({cause})") from error


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


def array_suffix(path: pathlib.Path) -> str:
    """The suffix in lower case; raises `ValueError` unless it is ``.npz`` or ``.mat``."""
    suffix = path.suffix.lower()
    if suffix not in (".npz", ".mat"):
        raise ValueError(f"{path}: suffix {suffix!r} is not one of .npz, .mat")
    return suffix
