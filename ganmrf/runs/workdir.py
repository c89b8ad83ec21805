"""The folder of one run: its lock, its settings, and its record."""

import contextlib
import dataclasses
import json
import pathlib
import shutil
import zlib
from collections.abc import Iterable

import filelock
import jax
import numpy as np

from ganmrf.files import check_readable, make_folder, read_json, replacing, write_json
from ganmrf.settings import flat, from_plain, to_plain

_PREPARED = {"lock", "config.json", "dictionary.json", "start.npz"}  # files of a run that has recorded nothing yet


class Workdir:
    """A context manager: one run at a time, always with the settings it was begun with.

    A run that was begun here, and ends with an error before it has recorded anything, leaves the folder as it was. One
    that was killed before that yields to other settings.

    Attributes:
      path: the folder.
      config: the settings in force.
      begun: whether the folder held settings before.
    """

    def __init__(self, path, config, given: frozenset[str] | None = None, *, extendable: frozenset[str] = frozenset()):
        """Locks the folder, made if need be, and writes or reads back ``config.json``.

        Args:
          path: the folder.
          config: settings, a dataclass whose fields may be groups of settings.
          given: names of the fields that the user gave; the others are taken from ``config.json`` where there is one.
            None: all of them.
          extendable: names whose new value may replace the stored one.

        Raises:
          ValueError: a folder in use by another run, a damaged ``config.json``, or a given field that conflicts with
            it.
        """
        self.path, self._found = pathlib.Path(path), set()
        self._made = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        self._lock = filelock.FileLock(self.path / "lock", timeout=0)
        locked_before = (self.path / "lock").exists()
        try:
            make_folder(self.path)
            self._lock.acquire()
            self._found = self._names() - (set() if locked_before else {"lock"})
            self.begun = "config.json" in self._found
            self.config = self._settle(config, frozenset(flat(config)) if given is None else given, extendable)
        except BaseException as error:
            self.__exit__(type(error), error, None)
            if isinstance(error, filelock.Timeout):
                raise ValueError(f"{self.path} is in use by another run") from error
            raise

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        if error is not None and self._lock.is_locked:
            self._leave()
        self._lock.release()  # as the end of the process would
        if error is not None:
            for folder in self._made:
                with contextlib.suppress(OSError):  # not made yet, or not empty
                    folder.rmdir()

    def _leave(self):
        """Removes what was made here, if nothing was recorded in it."""
        made = self._names() - self._found
        for path in [self.path / name for name in made] if self._prepared(made) else ():
            with contextlib.suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _names(self):
        return {path.name for path in self.path.iterdir()}

    def _prepared(self, names):
        """Whether these entries of the folder record nothing: folders without a file, and files that come before."""
        return all(
            not any(entry.is_file() for entry in (self.path / name).rglob("*"))
            if (self.path / name).is_dir()
            else name in _PREPARED
            for name in names
        )

    def record(self, row: dict):
        """Appends a row to ``metrics.jsonl``."""
        with open(self.path / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def rows(self, up_to: int) -> list[dict]:
        """The rows whose ``step`` is at most ``up_to``; the others, and a line cut off in its midst, are removed."""
        path = self.path / "metrics.jsonl"
        kept = [row for row in read_records(self.path) if row["step"] <= up_to]
        text = "".join(json.dumps(row) + "\n" for row in kept)
        if path.exists() and path.read_text(encoding="utf-8") != text:
            with replacing(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
        return kept

    def _settle(self, config, given, extendable):
        path, plain = self.path / "config.json", to_plain(config)
        if self.begun:
            stored = to_plain(read_config(self.path, config))
            if new := self._prepared(self._found):  # killed before its first record: other settings may have the folder
                (self.path / "dictionary.json").unlink(missing_ok=True)
            plain = _merged(path, plain, stored, given, given if new else extendable, longer=not new)
        settled = from_plain(config, plain)  # before the file is touched: settings that do not go together raise here
        write_json(path, plain)
        return settled


def read_records(folder, names: Iterable[str] = ()) -> list[dict]:
    """The rows of ``metrics.jsonl``, none where there is no such file; a line that was cut off is left out.

    Args:
      folder: of the run.
      names: of what every row must hold beside its ``step``, which rises from row to row: numbers, or lists of them.

    Raises:
      ValueError: a file that cannot be read, or a line that holds no such row.
    """
    path, rows = pathlib.Path(folder) / "metrics.jsonl", []
    if not path.exists():
        return rows
    check_readable(path)
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
        if line.endswith(b"\n"):
            try:
                row = json.loads(line)
                steps = [row["step"], *(last["step"] for last in rows[-1:])]
                for name in names:
                    _ = np.asarray(row[name]) + 0.0
                if not isinstance(steps[0], int) or steps != sorted(set(steps), reverse=True):
                    raise ValueError("step")
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                raise ValueError(f"{path}, line {number}: no record of a run, or not after the one before") from error
            rows.append(row)
    return rows


def read_config(folder, config):
    """The settings of the run that a folder holds; a setting of a group that is newer than the run has its default.

    Args:
      folder: of the run.
      config: settings of the same kind, such as the default ones.

    Raises:
      ValueError: no run, a run of another kind, or a damaged ``config.json``.
    """
    path, plain = pathlib.Path(folder) / "config.json", to_plain(config)
    if not path.exists():
        raise ValueError(f"{folder} holds no run: it has no config.json")
    stored = read_json(path)
    if not isinstance(stored, dict):
        raise ValueError(f"{path} is damaged: it holds no settings by name")
    stored = _completed(config, stored)
    if _names(stored) != _names(plain):
        raise ValueError(f"{path} is of another kind of run or version: its settings have other names")
    try:
        return from_plain(config, stored)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def require_own(folder, config):
    """Raises `ValueError` where a folder holds the settings of a run of another kind, or damaged ones."""
    if (pathlib.Path(folder) / "config.json").exists():
        read_config(folder, config)


def check_unchanged(folder, learned, *, note: bool = False):
    """Refuses a folder whose run learned from something else, under settings that look the same, as files may change.

    Args:
      folder: of the run.
      learned: tissue, sequence and slice that it learns from, a tree of arrays.
      note: whether to note their checksum in the folder, where there is none.

    Raises:
      ValueError: another checksum than the folder has.
    """
    path = pathlib.Path(folder) / "dictionary.json"
    checksum = {"crc32": zlib.crc32(b"".join(np.asarray(array).tobytes() for array in jax.tree.leaves(learned)))}
    if path.exists() and read_json(path) != checksum:
        raise ValueError(f"{folder} was made with another sequence, slice or grid than its settings give now")
    if note and not path.exists():
        write_json(path, checksum)


def stored_settings(folder) -> dict:
    """The settings of the run that a folder holds, by name, lists as tuples; none where no run is, or a damaged one."""

    def leaves(plain):
        for name, value in plain.items():
            if isinstance(value, dict):
                yield from leaves(value)
            else:
                yield name, tuple(value) if isinstance(value, list) else value

    with contextlib.suppress(ValueError, AttributeError):  # whoever reads it as a run says what is wrong
        return dict(leaves(read_json(pathlib.Path(folder) / "config.json")))
    return {}


def _completed(config, stored):
    """Stored settings, and the defaults of those in their groups that are not stored."""
    found = dict(stored)
    for field in dataclasses.fields(config):
        own, group = getattr(config, field.name), stored.get(field.name)
        if dataclasses.is_dataclass(own) and isinstance(group, dict):
            found[field.name] = _defaults(own) | _completed(own, group)
    return found


def _defaults(config):
    """Default settings as `to_plain` has them, of groups, too."""
    found = {}
    for field in dataclasses.fields(config):
        if field.default is not dataclasses.MISSING and field.metadata.get("kept", True):
            found[field.name] = list(field.default) if isinstance(field.default, tuple) else field.default
        elif field.default_factory is not dataclasses.MISSING:
            found[field.name] = to_plain(field.default_factory())
    return found


def _names(plain):
    return {name: _names(value) if isinstance(value, dict) else None for name, value in plain.items()}


def _merged(path, plain, stored, given, replaceable, *, longer):
    """The settings given, and the others as stored; ``replaceable`` ones may change, with ``longer`` upwards alone."""
    merged = {}
    for name, value in plain.items():
        if isinstance(value, dict):
            merged[name] = _merged(path, value, stored[name], given, replaceable, longer=longer)
        elif name not in given or value == stored[name]:
            merged[name] = stored[name]
        elif name in replaceable and not (longer and value < stored[name]):
            merged[name] = value
        else:
            value, before = (",".join(map(str, v)) if isinstance(v, list) else v for v in (value, stored[name]))
            raise ValueError(
                f"{name}={value} conflicts with {before} in {path}: resume without it, or begin in another folder"
            )
    return merged
