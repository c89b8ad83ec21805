"""Work in stages, each kept on disk, so that a job that was cut off goes on with the first one that is missing."""

import contextlib
import json
import pathlib
import time

import numpy as np

from ganmrf.files import make_folder, read_arrays, replacing


class Stages:
    """The stages of one job.

    Attributes:
      seconds: what each took when it was done, by name, those of earlier runs included.
    """

    def __init__(self, folder, sources=()):
        """Opens a folder of stages.

        Args:
          folder: of the stages, made if need be.
          sources: the files that they are made from.

        Raises:
          ValueError: stages of other files, or a source that cannot be read.
        """
        self._folder = make_folder(folder)
        self.seconds = {}
        self._require_same(sources)

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

    def _require_same(self, sources):
        identities = {str(source): _identity(source) for source in sources}
        path = self._folder / "sources.json"
        if path.exists():
            begun = json.loads(path.read_text(encoding="utf-8"))
            if changed := [name for name in begun | identities if begun.get(name) != identities.get(name)]:
                raise ValueError(f"{changed[0]} has changed since {self._folder} was begun: use another folder")
        else:
            with replacing(path) as temporary:
                temporary.write_text(json.dumps(identities) + "\n", encoding="utf-8")


def _identity(source):
    try:
        found = pathlib.Path(source).stat()
    except OSError as error:
        raise ValueError(f"cannot read {source}: {error.strerror}") from error
    return {"bytes": found.st_size, "modified_ns": found.st_mtime_ns}
