"""How tests run the commands: in this process, where programs stay compiled, or in one of their own."""

import contextlib
import dataclasses
import importlib
import io
import os
import pathlib
import subprocess
import sys
import warnings

ROOT = pathlib.Path(__file__).parents[1]
UNIFORM = "--slice_model=none"  # for tests of anything but the slice: the full one is dearer to simulate


@dataclasses.dataclass(frozen=True)
class Done:
    """What a command left behind: as `subprocess.CompletedProcess` has it."""

    returncode: int
    stdout: str
    stderr: str


def run(job: str, *flags) -> Done:
    """Runs a command in this process, as ``ganmrf JOB --flag=...`` would."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.showwarning = _on_stderr
        try:
            importlib.import_module(f"experiments.{job}").main.run(list(flags))
        except SystemExit as end:
            code = end.code or 0
    return Done(code, out.getvalue(), err.getvalue())


def _on_stderr(message, category, filename, lineno, *_):
    """Shows a warning where a user sees it; pytest would keep it for its own summary."""
    sys.stderr.write(warnings.formatwarning(message, category, filename, lineno))


def words(job: str, *flags) -> list[str]:
    """The command line of a process of its own."""
    return [sys.executable, "-m", f"experiments.{job}", *map(str, flags)]


def run_apart(job: str, *flags, **environment) -> subprocess.CompletedProcess:
    """Runs a command in a process of its own: for what happens when it starts, ends or is killed."""
    return subprocess.run(words(job, *flags), cwd=ROOT, capture_output=True, text=True, env=os.environ | environment)
