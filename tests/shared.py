"""Files that lie beside the repository and are no part of it: inputs as scanners and other people give them."""

import pathlib

import pytest

_SHARED = pathlib.Path(__file__).resolve().parents[2] / "shared"


def shared(name: str) -> pathlib.Path:
    """The path of a file, such as ``doors/mrd_ok.h5``; the test is skipped where it is not there."""
    path = _SHARED / name
    if not path.exists():
        pytest.skip(f"needs {path}")
    return path
