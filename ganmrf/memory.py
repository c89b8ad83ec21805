"""The memory that a job may take."""

import psutil

_BASE_BYTES = 0.6e9  # of a process with JAX and the programs that it compiled
_FREELY_BYTES = 1e8  # that a job takes unasked: less than the programs of most jobs
_LARGE = 2**30  # bytes that a file may claim to hold whatever its size
_MOST_COMPRESSED = 100  # times: arrays of measurements and simulations stay below, a bomb of zeros reaches 1000


class TooLarge(ValueError):
    """What a job would hold is more than there can be."""


def require_memory(needed: float, what: str, advice: str):
    """Raises `TooLarge` with both figures where a job's arrays need more bytes of memory than are available.

    The error names the job, ``what``, and what needs less, such as flags: ``advice``.
    """
    if not fits_memory(needed):
        needed, there = (needed + _BASE_BYTES) / 1e9, psutil.virtual_memory().available / 1e9
        raise TooLarge(f"{what} needs {needed:.1f} GB of memory, but {there:.1f} GB are there: {advice}")


def fits_memory(needed: float) -> bool:
    """Whether a job's arrays need no more bytes of memory than are available; 0.1 GB always are."""
    return needed <= _FREELY_BYTES or needed + _BASE_BYTES <= psutil.virtual_memory().available


def check_claim(path, claimed: int, stored: int):
    """Raises `TooLarge` before arrays are allocated as large as a file claims that they are, in bytes.

    It does where a GB or more is over 100 times the ``stored`` bytes of the file that hold the arrays, or more than the
    memory that is available.
    """
    if claimed > max(_LARGE, _MOST_COMPRESSED * stored):
        raise TooLarge(f"{path}: {stored / 1e6:.1f} MB of a file cannot hold arrays of {claimed / 1e9:.1f} GB")
    require_memory(claimed, f"{path}", "smaller arrays, or a dictionary in .zarr, need less")
