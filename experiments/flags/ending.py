"""How a command ends: with its work done, or with one line on stderr and an exit code that says why."""

import contextlib
import functools
import hashlib
import os
import pathlib
import re
import signal
import subprocess
import sys

import jax
import jaxlib

import experiments
from experiments.flags.jobs import refuse
from ganmrf.messages import one_line, warnings_in_lines
from ganmrf.parallel import compiled_programs


@contextlib.contextmanager
def ending(fields):
    """Inside, a command runs: what stops it becomes one line on stderr and an exit code, as a shell knows them.

    Bad input, of which a `ValueError` or an `OSError` tells, memory or a device that is not there: exit code 2. Ctrl-C:
    130. An error that starts with the name of one of the ``fields`` names their flag. A command whose output nobody
    reads any more, or for whose words there is no room, goes on with its work.
    """
    after = signal.getsignal(signal.SIGINT)  # for the end of the process, which takes its time, too
    with contextlib.suppress(AttributeError):  # None, or no stream of bytes
        sys.stdout.reconfigure(errors="backslashreplace")  # as Python has it for stderr
    sys.stdout, sys.stderr = (_Lossy(stream) for stream in (sys.stdout, sys.stderr))
    try:
        if after not in (signal.SIG_IGN, signal.default_int_handler):
            signal.signal(signal.SIGINT, signal.default_int_handler)
        _check_xla_flags(os.environ.get("XLA_FLAGS"))
        with warnings_in_lines():
            yield
        sys.stdout.flush()
    except KeyboardInterrupt:
        after = signal.SIG_IGN  # a second one would end in a traceback
        signal.signal(signal.SIGINT, after)
        print(experiments.INTERRUPTED, file=sys.stderr)
        sys.exit(130)
    except (ValueError, OSError) as error:
        first = re.match(r"\w+", str(error))
        refuse(f"{'--' * (first is not None and first[0] in fields)}{one_line(error)}")
    except MemoryError as error:
        refuse(f"this job needs more memory than the machine has: {one_line(error) or 'nothing is left'}")
    except jax.errors.JaxRuntimeError as error:
        refuse(f"JAX: {one_line(error)}")
    except Exception:
        if not _has_device():
            refuse(f"JAX finds no device for JAX_PLATFORMS={os.environ.get('JAX_PLATFORMS', '')}")
        raise
    finally:
        if after is not signal.getsignal(signal.SIGINT):
            signal.signal(signal.SIGINT, after)
        sys.stdout, sys.stderr = sys.stdout.stream, sys.stderr.stream


@functools.cache
def _check_xla_flags(flags):
    """Has another process read them: XLA ends the one that reads a wrong one, in words of its own.

    That takes a second, once for each version and all flags: that they are right is noted beside the compiled programs.
    """
    if not flags:
        return
    folder, name = compiled_programs(), hashlib.sha256(f"{jaxlib.__version__} {flags}".encode()).hexdigest()
    right = None if folder is None else pathlib.Path(folder) / f"xla_flags_{name}"
    if right is not None and right.exists():
        return
    words = [sys.executable, "-c", "import jax; jax.devices()"]
    done = subprocess.run(words, env=os.environ | {"JAX_PLATFORMS": "cpu"}, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"XLA_FLAGS={flags}: {done.stderr.rpartition('] ')[2]}")
    if right is not None:
        with contextlib.suppress(OSError):
            right.touch()


def _has_device():
    try:
        return bool(jax.devices())
    except Exception:  # of several types
        return False


class _Lossy:
    """A stream of text, or None for a closed one, that loses what it cannot write."""

    def __init__(self, stream):
        self.stream = stream

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def isatty(self):
        return self.stream is not None and self.stream.isatty()

    def write(self, text):
        self._try("write", text)
        return len(text)

    def flush(self):
        self._try("flush")

    def _try(self, method, *arguments):
        try:
            if self.stream is not None:
                getattr(self.stream, method)(*arguments)
        except (OSError, ValueError):  # no reader, no room; closed
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())
