"""What a command must leave: the right result, or one line that says why not."""

import gzip
import json
import pathlib
import re

from ganmrf.files import read_arrays
from tests.soak.running import Outcome

_TIMES = re.compile(r"seconds|timestamp")  # names of what differs from run to run
_PROGRESS = re.compile(r"\[\d\d:\d\d[<,]")  # of work that takes half a minute, on a busy machine
_TEMPORARY = re.compile(r"\.part|tmp")


def fault_of(outcome: Outcome, *, left: set[str], result: pathlib.Path, made: dict | None, naming: str = "") -> str:
    """Why an outcome is bad; an empty text for a good one.

    Good is exit code 0 with the contents ``made`` at ``result`` (None: with any), or exit code 2 with one line on
    stderr. Neither leaves the files ``left`` behind. A flag to be named, ``naming``, is one to be refused.
    """
    lines = [line for line in outcome.stderr.splitlines() if not _PROGRESS.search(line)] or [""]
    said = f"{lines[-1][:200]!r} on stderr"
    if outcome.late:
        return f"no end after {outcome.seconds:.0f} core-seconds"
    if outcome.code not in (0, 2) or "Traceback" in outcome.stderr:
        return f"exit code {outcome.code}, {said}"
    if left:
        return f"exit code {outcome.code}, but left behind: {', '.join(sorted(left)[:5])}"
    if outcome.code == 0:
        wrong = differing(made, contents(result)) if made is not None else []
        if naming or wrong:
            return f"exit code 0, but {f'{naming} is accepted' if naming else f'another {wrong[:5]}'}"
        return ""
    if len(lines) != 1 or not lines[0].startswith("error: "):
        return f"not one line that says error, but {len(lines)}, the last of them {said}"
    return "" if naming in lines[0] else f"{naming} is not named: {said}"


def differing(one: dict, other: dict) -> list[str]:
    """Names of `contents` that differ."""
    return sorted(name for name in one | other if name not in one or one[name] != other.get(name))


def names(folder: pathlib.Path) -> set[str]:
    """The files below a folder; not locks, which cannot be removed while others may wait for them."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and path.name != "lock"}


def temporary(folder: pathlib.Path) -> set[str]:
    """The files below a folder that were being written."""
    return {name for name in names(folder) if _TEMPORARY.search(name)}


def contents(place: pathlib.Path) -> dict:
    """What is in a file or in a folder, but for times and checkpoints: the same for two runs that did the same work."""
    if place.is_file():
        return {place.name: _content(place)}
    return {name: _content(place / name) for name in names(place) if "checkpoints/" not in name}


def _content(path):
    if path.suffix == ".html":  # tells times
        return None
    if path.suffix in (".npz", ".mat"):  # tell the date
        arrays = read_arrays(path)
        return {name: (each.dtype, each.shape, each.tobytes()) for name, each in _without_times(arrays).items()}
    if path.suffix in (".json", ".jsonl"):
        lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
        return [_without_times(json.loads(line)) for line in lines]
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


def _without_times(value):
    if isinstance(value, dict):
        return {name: _without_times(each) for name, each in value.items() if not _TIMES.search(name)}
    return [_without_times(each) for each in value] if isinstance(value, list) else value
