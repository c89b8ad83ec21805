"""Several jobs at once, each in a process of its own."""

import contextlib
import multiprocessing
import os
import pathlib
import queue
import signal
import threading
from collections.abc import Callable, Mapping

import jax
import tqdm

from ganmrf.parallel import bound_to, cores, keep_compiled_programs
from ganmrf.progress import Progress
from ganmrf.runs.training import losses, train_in_folder
from ganmrf.runs.workdir import read_records

_WAIT_S = 0.5  # between two looks at what has been done


def train_side_by_side(jobs: Mapping):
    """Trains every run to its end, from its newest checkpoint where it has one.

    Args:
      jobs: folder -> `configs.TrainingJob`, in the order in which they are begun.

    Raises:
      ValueError: as `train_in_folder`; the other runs are left where they are, and go on when called again.
    """
    total = sum(job.training.recipe.steps for job in jobs.values())

    def done():
        records = {folder: rows for folder in jobs if (rows := read_records(folder))}
        under_way = [
            folder for folder, rows in records.items() if rows[-1]["step"] < jobs[folder].training.recipe.steps
        ]
        note = "; ".join(f"{pathlib.Path(folder).name}: {losses(records[folder][-1])}" for folder in under_way)
        return sum(rows[-1]["step"] for rows in records.values()), note

    run_side_by_side(_train, jobs.items(), total=total, done=done)


def run_side_by_side(
    function: Callable, items, *, total: int | None = None, done: Callable[[], tuple[int, str]] | None = None
) -> list:
    """Results of a function for each of some items, in their order.

    On CPUs there is a process for each core, bound to it: networks as small as these train in half the core-seconds on
    one core, and two runs on two cores in half the time. On other devices one item follows another.

    Args:
      function: of an item; picklable, as the items are.
      items: what is to be done, in the order in which it is begun.
      total: what the progress counts to; the number of items by default.
      done: how far the work is, and words about it; by default how many items are done.

    Raises:
      ValueError: that of a function, or a process that ended by itself; the other items are left where they are.
    """
    items = list(items)
    if jax.default_backend() != "cpu":
        return [function(item) for item in items]
    context = multiprocessing.get_context("spawn")
    tasks, finished = context.Queue(), context.Queue()
    processes = []
    for core in cores()[: len(items)]:
        process = context.Process(target=_work, args=(function, tasks, finished), daemon=True)
        with bound_to({core}):  # before it starts: XLA makes one thread for each core that it finds
            process.start()
        processes.append(process)
    for task in [*enumerate(items), *[None] * len(processes)]:
        tasks.put(task)
    try:
        with Progress(total or len(items), "training", unit="step" if total else "run") as bar:
            found = {}
            while len(found) < len(items):
                with contextlib.suppress(queue.Empty):
                    index, result, error = finished.get(timeout=_WAIT_S)
                    if error is not None:
                        raise ValueError(error)
                    found[index] = result
                if dead := [process.exitcode for process in processes if process.exitcode]:
                    raise ValueError(f"a process ended by itself (exit code {dead[0]}): out of memory?")
                count, note = done() if done else (len(found), "")
                bar.set_postfix_str(note, refresh=False)
                bar.update(count - bar.n)
        return [found[index] for index in range(len(items))]
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _train(task):
    folder, job = task
    train_in_folder(folder, job, progress=jax.default_backend() != "cpu")


def _work(function, tasks, finished):
    """One process: does what it takes from ``tasks``, and ends with its parent, however that is killed."""

    def watch():
        multiprocessing.parent_process().join()
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends this process
    threading.Thread(target=watch, daemon=True).start()
    tqdm.tqdm.set_lock(threading.RLock())  # its own is a semaphore that a process which is ended leaves behind
    keep_compiled_programs()
    while (task := tasks.get()) is not None:
        index, item = task
        try:
            finished.put((index, function(item), None))
        except (ValueError, OSError) as error:
            finished.put((index, None, str(error)))
