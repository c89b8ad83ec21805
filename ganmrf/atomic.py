"""Files that are whole or not there: written under a temporary name beside their place, then renamed over it."""

import contextlib
import os
import pathlib
import tempfile


@contextlib.contextmanager
def replacing(path):
    """Yields a temporary path with the same suffixes in the same folder; on success it takes the place of ``path``.

    When the block raises, the temporary file is removed and whatever stood at ``path`` stays as it was.

    Raises:
      ValueError: the folder does not exist or cannot be written.
    """
    path = pathlib.Path(path)
    try:
        handle, name = tempfile.mkstemp(prefix=".", suffix=f".part{''.join(path.suffixes)}", dir=path.parent)
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror}") from error
    os.close(handle)
    temporary = pathlib.Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
