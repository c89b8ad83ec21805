"""Whether a job fits the memory that is there, asked before it starts."""

import pathlib
import re

_MEMINFO = pathlib.Path("/proc/meminfo")  # Linux
_BASE_BYTES = 0.6e9  # of a process with JAX and what it compiled


def require_memory(needed: float, what: str, advice: str):
    """Refuses a job that needs more than is available, where the system tells.

    Args:
      needed: bytes of the job's arrays.
      what: the job, for the error.
      advice: which flags need less.

    Raises:
      ValueError: it has both figures.
    """
    if (available := _available()) is not None and needed + _BASE_BYTES > available:
        needed = (needed + _BASE_BYTES) / 1e9
        raise ValueError(f"{what} needs {needed:.1f} GB of memory, but {available / 1e9:.1f} GB are there: {advice}")


def _available():
    try:
        return 1024 * int(re.search(r"^MemAvailable:\s+(\d+) kB", _MEMINFO.read_text(), re.MULTILINE)[1])
    except (OSError, TypeError):
        return None
