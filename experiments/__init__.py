"""The commands of ganmrf: flags, one library call, files."""

import logging
import os
import signal
import sys

INTERRUPTED = "interrupted; the same command goes on"


def end_at_interrupt():
    """Has Ctrl-C end the process with one line; `flags.ending.ending` takes over when the modules are imported."""

    def end(*_):
        os.write(2, f"{INTERRUPTED}\n".encode())
        os._exit(130)

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell's background jobs ignore it
        signal.signal(signal.SIGINT, end)


# Before JAX is imported: XLA would write of its own about what a command says in one line.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if not os.path.isabs(os.environ.get("XDG_CACHE_HOME", "/")):
    del os.environ["XDG_CACHE_HOME"]  # Its specification has relative ones ignored.
logging.getLogger("matplotlib").setLevel(logging.ERROR)  # where it keeps its fonts is of no interest
while (_free := os.open(os.devnull, os.O_RDWR)) < 3:  # a closed stream's number would be that of the next file
    os.set_inheritable(_free, True)
os.close(_free)
if sys.argv[0] == "-m":  # python -m experiments.JOB, which now imports for seconds
    end_at_interrupt()
