"""A process that works for another one, and ends with it, however that one ends.

This module is also the script of the process: it watches its parent before it imports anything that takes seconds.
"""

import contextlib
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
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

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
            raise ValueError(f"a process ended by itself (exit code {code}): out of memory?") from None
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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends this process
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
    with warnings_in_lines():
        while True:
            function, item = pickle.loads(tasks.get())
            try:
                answer = _Answer(ended=True, result=function(item))
            except (ValueError, OSError, MemoryError, jax.errors.JaxRuntimeError) as error:
                answer = _Answer(ended=True, error=str(error) or type(error).__name__)
            _send(stdout, pickle.dumps(tuple(answer)))


class _Words:
    """A stream that sends what is written to it."""

    def __init__(self, pipe):
        self._pipe = pipe

    def write(self, text):
        _send(self._pipe, pickle.dumps(tuple(_Answer(text))))

    def flush(self):
        """Nothing waits."""


if __name__ == "__main__":
    sys.path[:] = sys.argv[1:]
    _work(sys.stdin.buffer, sys.stdout.buffer)
