"""The loop of every long run: it goes on from the newest checkpoint, and records before it keeps."""

import time
import warnings
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from ganmrf.gan.checkpoint import Checkpoints
from ganmrf.gan.train import DivergedError
from ganmrf.parallel import one_blas_thread
from ganmrf.progress import Progress
from ganmrf.runs.workdir import Workdir, read_records

TIMES = "seconds", "core_seconds"  # in every row, of all calls so far


@one_blas_thread()
def advance(
    chunks: Callable[..., Iterator],
    state,
    workdir: Workdir,
    steps: int,
    *,
    label: str = "training",
    note: Callable[[dict], str] | None = None,
    ended: Callable[[list[dict]], bool] | None = None,
    core_seconds: float = 0.0,
    recorded: Iterable[str] = (),
    progress: bool = True,
):
    """Advances a state to its last step, from the newest checkpoint of a folder where there is one.

    Args:
      chunks: of a state makes an iterator of (state, row), one for each chunk of steps, such as `train.fit`. A row has
        its ``step``, and arrays or numbers by name.
      state: the state before the first step, with its number of steps as ``step``.
      workdir: gets ``checkpoints`` and, in ``metrics.jsonl``, every row, with the seconds and core-seconds of all calls
        so far.
      steps: number of the last step.
      label: what the progress is called.
      note: of a row makes the words that are shown beside the progress.
      ended: whether the rows say that the run has ended before ``steps``.
      core_seconds: what the preparations of this call took, which count too.
      recorded: names that every row has, so that damaged records of earlier calls are refused.
      progress: whether to show progress.

    Returns:
      The last state, and all rows, those of earlier calls among them.

    Raises:
      ValueError: a run that diverges, where the error names the last good checkpoint; damaged records, or no usable
        checkpoint where there are some.
    """
    with Checkpoints(workdir.path / "checkpoints") as checkpoints:
        state, rows = _resumed(checkpoints, state, workdir, recorded)
        if ended is not None and ended(rows):
            return state, rows
        before = {name: rows[-1][name] if rows else 0.0 for name in TIMES}
        start = {"seconds": time.perf_counter(), "core_seconds": time.process_time() - core_seconds}
        with Progress(steps, label, unit="step", initial=int(state.step), shown=progress) as bar:
            try:
                for advanced, row in chunks(state):
                    state = advanced
                    row = {name: np.asarray(value).tolist() for name, value in row.items()}
                    now = {"seconds": time.perf_counter(), "core_seconds": time.process_time()}
                    row |= {name: round(before[name] + now[name] - start[name], 3) for name in now}
                    workdir.record(row)  # before the checkpoint: a resumed run then has every row up to it
                    checkpoints.save(row["step"], state)
                    rows.append(row)
                    bar.set_postfix_str(note(row) if note else "", refresh=False)
                    bar.update(row["step"] - bar.n)
            except DivergedError as error:
                kept = f"the last good checkpoint is that of step {rows[-1]['step']}" if rows else "no checkpoint yet"
                raise ValueError(f"{workdir.path}: {error}; {kept}") from error
    return state, rows


def _resumed(checkpoints, state, workdir, names):
    """The state of the newest checkpoint, or ``state`` where there is none, and the rows up to it."""
    steps = [row["step"] for row in read_records(workdir.path, (*TIMES, *names))]
    step, state = checkpoints.restore(state, recorded=steps) or (0, state)
    if sum(each > step for each in steps) > 1:  # one alone: the run was cut off between a record and its checkpoint
        warnings.warn(
            f"{workdir.path} has records up to step {steps[-1]}, but no checkpoint after {step}: going on from there",
            stacklevel=3,
        )
    if step:
        print(f"{workdir.path}: going on from step {step}", flush=True)
    return state, workdir.rows(step)
