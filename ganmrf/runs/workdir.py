"""The folder of one training run: its lock, its settings, and its record."""

import fcntl
import json
import os
import pathlib

from ganmrf.files import make_folder, replacing


class Workdir:
    """A context manager: one run at a time, always with the settings it was begun with.

    Attributes:
      path: the folder.
      config: the settings in force, as plain values.
      begun: whether the folder held them before.
    """

    def __init__(self, path, config: dict, given: frozenset[str], *, extendable: frozenset[str] = frozenset()):
        """Locks the folder, made if need be, and writes or reads back ``config.json``.

        Args:
          path: the folder.
          config: settings by name, some of them dicts of settings.
          given: names that the user gave; the others are taken from ``config.json`` where there is one.
          extendable: names whose new value may replace the stored one.

        Raises:
          ValueError: a folder in use by another run, a damaged ``config.json``, or a given setting that conflicts with
            it.
        """
        self.path = make_folder(path)
        self._lock = open(self.path / "lock", "a+")  # noqa: SIM115  open as long as the run
        try:
            self._acquire()
            self.config = self._settle(config, given, extendable)
        except BaseException:
            self._lock.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._lock.close()  # which unlocks it, as the end of the process would

    def abandon(self):
        """Forgets the settings, for a run that ended before it had made anything: others may begin in the folder."""
        (self.path / "config.json").unlink()

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

    def _acquire(self):
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.seek(0)
            raise ValueError(f"--workdir={self.path} is in use by another run (process {self._lock.read()})") from error
        self._lock.truncate(0)
        self._lock.write(str(os.getpid()))
        self._lock.flush()

    def _settle(self, config, given, extendable):
        path = self.path / "config.json"
        settled, self.begun = config, path.exists()
        if self.begun:
            stored = read_config(self.path)
            if _names(stored) != _names(config):
                raise ValueError(f"{path} is of another kind of run or version: its settings have other names")
            settled = _merged(path, config, stored, given, extendable)
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(settled, indent=2) + "\n", encoding="utf-8")
        return settled


def read_records(folder) -> list[dict]:
    """The rows of ``metrics.jsonl``, none where there is no such file; a line that was cut off is left out."""
    path = pathlib.Path(folder) / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def read_config(folder) -> dict:
    """The settings of the run that a folder holds.

    Raises:
      ValueError: no run, or a damaged ``config.json``.
    """
    path = pathlib.Path(folder) / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{folder} holds no run: {path.name}: {error.strerror}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} is damaged: it holds no settings by name")
    if "simulation" in config:
        config["simulation"].setdefault("b1", None)  # runs from before the flag: 1 for all atoms
    if "recipe" in config:
        config["recipe"] = {"residual": False, "whiten": False} | config["recipe"]  # likewise
    if "paper_steps" in config:
        config = {"acquisition": "image", "coils": 20, "rotation": "uniform"} | config  # likewise
    return config


def _names(config):
    return {name: _names(value) if isinstance(value, dict) else None for name, value in config.items()}


def _merged(path, config, stored, given, extendable):
    merged = {}
    for name, value in config.items():
        if isinstance(value, dict):
            merged[name] = _merged(path, value, stored[name], given, extendable)
        elif name in given and value != stored[name] and name not in extendable:
            raise ValueError(
                f"--{name}={value} conflicts with {stored[name]} in {path}: resume without it, or begin in another "
                "folder"
            )
        else:
            merged[name] = value if name in given else stored[name]
    return merged
