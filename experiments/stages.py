"""Work in stages, each kept on disk, so that a job that was cut off goes on with the first one that is missing."""

import contextlib
import json
import pathlib
import time

import numpy as np

from ganmrf.atomic import replacing
from ganmrf.dictionary.store import read_arrays
from ganmrf.io.maps import make_folder


class Stages:
    """The stages of one job.

    Attributes:
      seconds: what each took when it was done, by name, those of earlier runs included.
    """

    def __init__(self, folder, source=None):
        """Opens a folder of stages.

        Args:
          folder: of the stages, made if need be.
          source: the file that all of them are made from, if it is one.

        Raises:
          ValueError: stages of another file, or a source that cannot be read.
        """
        self._folder = make_folder(folder)
        self.seconds = {}
        if source is not None:
            self._require_same(pathlib.Path(source))

    def __call__(self, name: str, make) -> dict[str, np.ndarray]:
        """What ``make()`` returns, arrays by name: from disk where it was made before; a damaged file is made again."""
        path = self._folder / f"{name}.npz"
        if path.exists():
            with contextlib.suppress(ValueError):
                arrays = read_arrays(path)
                self.seconds[name] = float(arrays.pop("seconds"))
                return arrays
        start = time.perf_counter()
        arrays = make()
        self.seconds[name] = time.perf_counter() - start
        print(f"{name}: {self.seconds[name]:.1f} s", flush=True)
        with replacing(path) as temporary:
            np.savez(temporary, allow_pickle=False, seconds=self.seconds[name], **arrays)
        return {key: np.asarray(value) for key, value in arrays.items()}

    def _require_same(self, source):
        try:
            found = source.stat()
        except OSError as error:
            raise ValueError(f"cannot read {source}: {error.strerror}") from error
        identity = {"bytes": found.st_size, "modified_ns": found.st_mtime_ns}
        path = self._folder / "source.json"
        if path.exists():
            if json.loads(path.read_text(encoding="utf-8")) != identity:
                raise ValueError(f"{source} has changed since {self._folder} was begun: use another folder")
        else:
            with replacing(path) as temporary:
                temporary.write_text(json.dumps(identity) + "\n", encoding="utf-8")
