"""Work in stages, each kept on disk, so that a job that was cut off goes on with the first missing stage."""

import contextlib
import hashlib
import json
import pathlib
import time

import numpy as np

from ganmrf.files import check_output, make_folder, read_arrays, read_json, write_arrays, write_json


class Stages:
    """The stages of one job.

    Attributes:
      seconds: wall time of each finished stage, by name, also of those that an earlier run finished.
    """

    def __init__(self, folder, sources=(), settings=None, *, announce: bool = True):
        """Opens a folder of stages, made from source files and settings, plain values by name; makes it if need be.

        Nothing is written before a stage is done: a folder without one may be used with other files and settings.

        With ``announce`` the name and time of each stage that is made are printed.

        Raises:
          ValueError: the folder holds stages of other files or settings, or a source cannot be read.
        """
        self._folder = make_folder(folder)
        self._announce = announce
        self.seconds = {}
        self._made_from = {"files": {str(each): _identity(each) for each in sources}, "settings": settings or {}}
        if next(self._folder.glob("*.npz"), None) is not None:  # without a stage, the folder is anybody's
            self._check_origin()

    def _check_origin(self):
        path = self._folder / "sources.json"
        begun = read_json(path)
        if not (isinstance(begun, dict) and all(isinstance(begun.get(kind), dict) for kind in self._made_from)):
            raise ValueError(f"{path} is damaged: it does not say what the stages beside it were made from")
        if changed := _differences(begun["files"], self._made_from["files"]):
            raise ValueError(f"{changed[0]} has changed since {self._folder} was begun: use another folder")
        settings = self._made_from["settings"]
        for name in _differences(begun["settings"], settings):
            values = f"{settings.get(name)}, but {begun['settings'].get(name)} when {self._folder} was begun"
            raise ValueError(f"{name} is {values}: use another folder")

    def __call__(self, name: str, make) -> dict[str, np.ndarray]:
        """The arrays that ``make()`` returns, by name: read from disk where an earlier run made them, and whole.

        What is None is left out.
        """
        path = self._folder / f"{name}.npz"
        if path.exists():
            with contextlib.suppress(ValueError, KeyError, TypeError):  # damaged, or not this stage
                arrays = read_arrays(path)
                if str(arrays.pop("stage")) == name:
                    self.seconds[name] = float(arrays.pop("seconds"))
                    return arrays
        check_output(path)
        start = time.perf_counter()
        arrays = {key: np.asarray(value) for key, value in make().items() if value is not None}
        self.seconds[name] = time.perf_counter() - start
        if self._announce:
            print(f"{name}: {self.seconds[name]:.1f} s", flush=True)
        write_json(self._folder / "sources.json", self._made_from)  # before the first stage: none is of unknown origin
        write_arrays(path, {"stage": name, "seconds": self.seconds[name], **arrays})
        return arrays


def _differences(begun, now):
    """Names of the entries of either dict that differ."""
    return [name for name in begun | now if begun.get(name) != now.get(name)]


def _identity(source):
    place = pathlib.Path(source)
    try:
        if not place.is_dir():
            return _facts(place)
        files = [{"name": str(each.relative_to(place)), **_facts(each)} for each in sorted(place.rglob("*"))]
    except OSError as error:
        raise ValueError(f"cannot read {source}: {error.strerror}") from error
    return {"files": len(files), "sha256": hashlib.sha256(json.dumps(files).encode()).hexdigest()}


def _facts(path):
    found = path.stat()
    return {"bytes": found.st_size, "modified_ns": found.st_mtime_ns}
