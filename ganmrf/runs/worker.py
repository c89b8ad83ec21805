"""A process that works for another one, and ends with it, however that one ends.

This module is also the script of the process: it watches its parent before it imports anything that takes seconds.
"""

import contextlib
import io
import os
import pathlib
import pickle
import queue
import signal
import subprocess
import sys
import threading
from typing import NamedTuple


class _Answer(NamedTuple):
    """What a worker says: words for stdout, or the end of its task with a result or a reason why there is none."""

    text: str = ""
    ended: bool = False
    result: object = None
    error: str | None = None


class Worker:
    """A process of this Python that calls functions until it is left; what they print appears on stdout here."""

    def __init__(self):
        """Starts the process, which has the cores that the calling thread may use."""
        words = [sys.executable, "-P", str(pathlib.Path(__file__)), *sys.path]
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # for the process: it ends with this one
        try:
            self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def call(self, function, item):
        """``function(item)``, of the process.

        Args:
          function: picklable, as ``item`` and the result are; not of the module ``__main__``.
          item: what it is called with.

        Raises:
          ValueError: bad input or too little memory, as the function says, or a process that ended by itself.
        """
        try:
            _send(self._process.stdin, pickle.dumps((function, item)))
            while not (answer := _Answer(*pickle.loads(_receive(self._process.stdout)))).ended:
                sys.stdout.write(answer.text)
        except (EOFError, BrokenPipeError):
            code = self._process.wait()
            reason = ": out of memory?" if code == -signal.SIGKILL else ""
            raise ValueError(f"a process ended by itself (exit code {code}){reason}") from None
        if answer.error is not None:
            raise ValueError(answer.error)
        return answer.result

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()


def _send(pipe, message: bytes):
    pipe.write(len(message).to_bytes(8) + message)
    pipe.flush()


def _receive(pipe) -> bytes:
    """The next message; raises `EOFError` where the other process is gone."""
    head = pipe.read(8)
    message = pipe.read(int.from_bytes(head))
    if len(head) < 8 or len(message) < int.from_bytes(head):
        raise EOFError
    return message


def _work(stdin, stdout):
    """The process: does what it is asked for."""
    tasks = queue.SimpleQueue()

    def watch():
        with contextlib.suppress(EOFError):
            while True:
                tasks.put(_receive(stdin))
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    import jax

    from ganmrf.messages import warnings_in_lines
    from ganmrf.parallel import keep_compiled_programs

    keep_compiled_programs()
    sys.stdout = _Words(stdout)
    with warnings_in_lines(), contextlib.suppress(BrokenPipeError):  # as when the parent is gone
        while True:
            function, item = pickle.loads(tasks.get())
            try:
                answer = _Answer(ended=True, result=function(item))
            except (ValueError, OSError, MemoryError, jax.errors.JaxRuntimeError) as error:
                answer = _Answer(ended=True, error=str(error) or type(error).__name__)
            _send(stdout, pickle.dumps(tuple(answer)))


class _Words(io.TextIOBase):
    """A stream that sends whole lines, which those of other processes may then stand between."""

    def __init__(self, pipe):
        self._pipe, self._begun = pipe, ""

    def write(self, text):
        lines, end, self._begun = (self._begun + text).rpartition("\n")
        if end:
            _send(self._pipe, pickle.dumps(tuple(_Answer(lines + end))))
        return len(text)


if __name__ == "__main__":
    sys.path[:] = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what libraries print by themselves is no answer
    _work(sys.stdin.buffer, answers)
    os._exit(1)
