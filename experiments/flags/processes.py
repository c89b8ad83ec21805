"""Several processes, on one machine or many, that share a job."""

import threading

import jax

from ganmrf.settings import configuration, setting

_NEVER_S = 10**6  # the coordination service ends the process when its own time is out, so ours must be out before


@configuration
class ProcessConfig:
    """Several processes that share the job.

    Raises:
      ValueError: fields that do not go together.
    """

    coordinator: str | None = setting(None, "host:port of process 0, for a job of several processes")
    processes: int | None = setting(None, "number of processes, with --coordinator", at_least=1)
    process_id: int | None = setting(None, "which process this is, from 0, with --coordinator", at_least=0)
    coordinator_timeout_s: float = setting(
        60.0, "how long to wait until all processes have joined, s", above=0, goes_with=("coordinator",)
    )

    def __post_init__(self):
        given = [value is not None for value in (self.coordinator, self.processes, self.process_id)]
        if not any(given):
            return
        if not all(given):
            raise ValueError("coordinator, --processes and --process_id go together")
        host, _, port = self.coordinator.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
            raise ValueError(f"coordinator must be host:port; got {self.coordinator!r}")
        if self.process_id >= self.processes:
            raise ValueError(
                f"process_id must be 0 to {self.processes - 1}, one less than --processes; got {self.process_id}"
            )

    def join(self):
        """Joins the other processes, if there are any, before JAX is used for anything else.

        A process that dies, other than process 0, may join again with the same flags.

        Raises:
          ValueError: processes that have not all joined in time.
        """
        if self.coordinator is None:
            return
        jax.config.update("jax_enable_recoverability", True)
        errors = []

        def initialize():
            try:
                jax.distributed.initialize(
                    self.coordinator, self.processes, self.process_id, initialization_timeout=_NEVER_S
                )
            except RuntimeError as error:
                errors.append(error)

        thread = threading.Thread(target=initialize, daemon=True)
        thread.start()
        thread.join(self.coordinator_timeout_s)
        if errors:
            raise ValueError(f"coordinator={self.coordinator}: {errors[0]}")
        if thread.is_alive():
            missing = "some process did not come"
            if self.process_id:
                missing = f"it was not reached, or {missing}"
            raise ValueError(f"coordinator={self.coordinator}: {missing} within {self.coordinator_timeout_s:g} s")


def leave_processes():
    """Lets process 0 end before the others, which keep their numbers: joined to it, they would end when it does."""
    if jax.process_index() > 0:
        jax.distributed.shutdown()
