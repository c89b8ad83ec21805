"""The flags by which several processes, on one machine or many, share a job."""

import threading

import jax
from absl import flags

_COORDINATOR = flags.DEFINE_string("coordinator", None, "host:port of process 0, for a job of several processes")
_PROCESSES = flags.DEFINE_integer("processes", None, "number of processes, with --coordinator")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "which process this is, from 0, with --coordinator")
_TIMEOUT_S = flags.DEFINE_float("coordinator_timeout_s", 60.0, "how long to wait until all processes have joined")

_NEVER_S = 10**6  # the coordination service ends the process when its own time is out, so ours must be out before


def join_processes():
    """Joins the processes that the flags name, if any, before JAX is used for anything else.

    A process that dies, other than process 0, may join again with the same flags.

    Raises:
      ValueError: flags that do not go together, or processes that have not all joined in time.
    """
    given = [flag.value is not None for flag in (_COORDINATOR, _PROCESSES, _PROCESS_ID)]
    if not any(given):
        return
    if not all(given):
        raise ValueError("--coordinator, --processes and --process_id go together")
    address, count, index, timeout = _COORDINATOR.value, _PROCESSES.value, _PROCESS_ID.value, _TIMEOUT_S.value
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError(f"--coordinator must be host:port; got {address!r}")
    if not 0 <= index < count:
        raise ValueError(f"--process_id must be 0 to {count - 1}, one less than --processes; got {index}")
    if not timeout > 0:
        raise ValueError(f"--coordinator_timeout_s must be positive; got {timeout:g}")
    jax.config.update("jax_enable_recoverability", True)
    errors = []

    def join():
        try:
            jax.distributed.initialize(address, count, index, initialization_timeout=_NEVER_S)
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=join, daemon=True)
    thread.start()
    thread.join(timeout)
    if errors:
        raise ValueError(f"--coordinator={address}: {errors[0]}")
    if thread.is_alive():
        missing = "some process did not come" if index == 0 else "it was not reached, or some process did not come"
        raise ValueError(f"--coordinator={address}: {missing} within {timeout:g} s")


def leave_processes():
    """Lets process 0 end before the others, which keep their numbers: joined to it, they would end when it does."""
    if jax.process_index() > 0:
        jax.distributed.shutdown()
