"""The folder of one run: its lock, its settings, and its record."""

import json
import pathlib

import filelock

from ganmrf.files import make_folder, read_json, replacing, write_json
from ganmrf.settings import flat, from_plain, to_plain


class Workdir:
    """A context manager: one run at a time, always with the settings it was begun with.

    A `ValueError` or `OSError` before a new run has made anything in the folder leaves no settings there.

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
        self.path = make_folder(path)
        self._lock = filelock.FileLock(self.path / "lock", timeout=0)
        try:
            self._lock.acquire()
        except filelock.Timeout as error:
            raise ValueError(f"{self.path} is in use by another run") from error
        try:
            self._found = self._names()
            self.config = self._settle(config, frozenset(flat(config)) if given is None else given, extendable)
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        if isinstance(error, ValueError | OSError) and not self.begun and self._names() == self._found:
            (self.path / "config.json").unlink()  # bad input, and nothing made: other settings may have the folder
        self._lock.release()  # as the end of the process would

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

    def _names(self):
        return {path.name for path in self.path.iterdir()} - {"config.json"}

    def _settle(self, config, given, extendable):
        path, plain = self.path / "config.json", to_plain(config)
        self.begun = path.exists()
        if self.begun:
            plain = _merged(path, plain, _stored(self.path, plain), given, extendable)
        settled = _read(path, config, plain)  # before the file is touched: it may hold what no field can
        write_json(path, plain)
        return settled


def read_records(folder) -> list[dict]:
    """The rows of ``metrics.jsonl``, none where there is no such file; a line that was cut off is left out.

    Raises:
      ValueError: a line that holds no row.
    """
    path = pathlib.Path(folder) / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    rows = []
    for number, line in enumerate(lines, 1):
        if line.endswith("\n"):
            try:
                row = json.loads(line)
                _ = row["step"] + 1
            except (ValueError, TypeError, KeyError) as error:
                raise ValueError(f"{path}, line {number}: no record of a run") from error
            rows.append(row)
    return rows


def read_config(folder, config):
    """The settings of the run that a folder holds.

    Args:
      folder: of the run.
      config: settings of the same kind, such as the default ones.

    Raises:
      ValueError: no run, a run of another kind, or a damaged ``config.json``.
    """
    if not (pathlib.Path(folder) / "config.json").exists():
        raise ValueError(f"{folder} holds no run: it has no config.json")
    return _read(pathlib.Path(folder) / "config.json", config, _stored(folder, to_plain(config)))


def _stored(folder, plain):
    path = pathlib.Path(folder) / "config.json"
    stored = read_json(path)
    if not isinstance(stored, dict):
        raise ValueError(f"{path} is damaged: it holds no settings by name")
    if _names(stored) != _names(plain):
        raise ValueError(f"{path} is of another kind of run or version: its settings have other names")
    return stored


def _read(path, config, plain):
    try:
        return from_plain(config, plain)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _names(plain):
    return {name: _names(value) if isinstance(value, dict) else None for name, value in plain.items()}


def _merged(path, plain, stored, given, extendable):
    merged = {}
    for name, value in plain.items():
        if isinstance(value, dict):
            merged[name] = _merged(path, value, stored[name], given, extendable)
        elif name in given and value != stored[name] and not (name in extendable and value > stored[name]):
            value, before = (",".join(map(str, v)) if isinstance(v, list) else v for v in (value, stored[name]))
            raise ValueError(
                f"{name}={value} conflicts with {before} in {path}: resume without it, or begin in another folder"
            )
        else:
            merged[name] = value if name in given else stored[name]
    return merged
