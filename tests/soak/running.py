"""A command in a process of its own, forked from one that has imported the commands: no import to wait for."""

import dataclasses
import errno
import multiprocessing
import os
import pathlib
import sys
import time
from collections.abc import Callable

import psutil

_CONTEXT = multiprocessing.get_context("forkserver")
_CORE_S, _CLOCK_S = 60.0, 300.0  # small jobs take a tenth of either, so what takes longer hangs
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_PATHS = {"os.rename": 2, "os.link": 2, "os.symlink": 2, "os.remove": 1, "os.mkdir": 1, "os.rmdir": 1, "os.truncate": 1}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a process ended, core time in s, files that it changed below its folder, and whether it was ended as late.

    The exit code of a process that a signal ended is the signal's number below zero.
    """

    code: int
    stderr: str
    seconds: float
    changes: int
    late: bool


def import_first(modules: list[str]):
    """Has every process begin with these modules imported; none of them may start threads, as JAX's devices do."""
    _CONTEXT.set_forkserver_preload([__name__, *modules])


def run(
    function: Callable[[list[str]], None],
    words: list[str],
    folder: pathlib.Path,
    *,
    kill_after: float = float("inf"),
    fail_at: int = 0,
    error: str = "EIO",
) -> Outcome:
    """Calls ``function(words)`` in a process of its own, in the folder with this absolute path.

    SIGKILL ends the process after ``kill_after`` s of core time. Change number ``fail_at`` of a file below the folder,
    counted from 1, fails with this error of the module ``errno``. What the process says is kept beside the folder.
    """
    log, count = (folder.with_name(f"{folder.name}.{kind}") for kind in ("stderr", "changes"))
    for path in (log, count):
        path.write_text("")
    process = _CONTEXT.Process(target=_begin, args=(function, words, folder, log, count, fail_at, error))
    process.start()
    seconds, until, late = 0.0, time.monotonic() + _CLOCK_S, False
    while process.is_alive():
        seconds = max(seconds, _core_seconds(process.pid))
        late = late or seconds > _CORE_S or time.monotonic() > until
        if late or seconds >= kill_after:
            process.kill()
        process.join(0.01)
    return Outcome(process.exitcode, log.read_text(errors="replace"), seconds, count.stat().st_size, late)


def _core_seconds(pid):
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return times.user + times.system


def _begin(function, words, folder, log, count, fail_at, error):
    for number, path in ((1, os.devnull), (2, log)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), number)
    os.chdir(folder)
    counter, number = os.open(count, os.O_WRONLY | os.O_APPEND), getattr(errno, error)

    def watch(event, arguments):
        changed = [path for path in _changed(event, arguments) if os.path.abspath(path).startswith(f"{folder}{os.sep}")]
        if changed:
            os.write(counter, b".")  # the file's size is the count: a killed process has told it, too
            if os.fstat(counter).st_size == fail_at:
                raise OSError(number, os.strerror(number), changed[0])

    sys.addaudithook(watch)
    function(words)


def _changed(event, arguments):
    """The paths that an event of the interpreter changes."""
    if event == "open":
        paths = arguments[:1] if isinstance(arguments[2], int) and arguments[2] & _WRITES else ()
    else:
        paths = arguments[: _PATHS.get(event, 0)]
    return [os.fsdecode(path) for path in paths if isinstance(path, str | bytes | os.PathLike)]
