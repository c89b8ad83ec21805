"""Several training runs at once, each in a process of its own."""

import contextlib
import dataclasses
import itertools
import multiprocessing
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import tqdm

from experiments.flags import command_line
from ganmrf.parallel import bound_to, cores
from ganmrf.runs.configs import SimulationConfig, TrainingConfig
from ganmrf.runs.training import train_in_folder
from ganmrf.runs.workdir import read_records


class Job(NamedTuple):
    """What `train_in_folder` is to do in a folder."""

    simulation: SimulationConfig
    training: TrainingConfig

    def changed(self, **fields) -> "Job":
        """The same with some fields of the recipe changed."""
        recipe = dataclasses.replace(self.training.recipe, **fields)
        return self._replace(training=dataclasses.replace(self.training, recipe=recipe))


def train_side_by_side(jobs: Mapping):
    """Trains every run to its end, from its newest checkpoint where it has one.

    On CPUs every run has a core of its own: networks as small as these train in half the core-seconds on one core, and
    two runs on two cores in half the time. On other devices the runs follow one another.

    Args:
      jobs: folder -> `Job`, in the order in which they are begun.

    Raises:
      ValueError: as `train_in_folder`; the other runs are left where they are, and go on when called again.
    """
    if jax.default_backend() != "cpu":
        for folder, job in jobs.items():
            _train(folder, job)
        return
    context = multiprocessing.get_context("spawn")
    tasks, finished = context.Queue(), context.Queue()
    processes = []
    for core in cores()[: len(jobs)]:
        process = context.Process(target=_work, args=(tasks, finished, os.getpid()), daemon=True)
        with bound_to({core}):  # before it starts: XLA makes one thread for each core that it finds
            process.start()
        processes.append(process)
    for task in [*jobs.items(), *[None] * len(processes)]:
        tasks.put(task)
    try:
        _wait(jobs, finished, processes)
    finally:
        for process in processes:
            process.terminate()
            process.join()


def run_side_by_side(function: Callable, items: list) -> dict:
    """Results by key, of a function that returns (key, result), for each of some items.

    On CPUs there is a process for each core, bound to it, and the items are dealt out to them; elsewhere one item
    follows another. ``function`` and the items must be picklable.
    """
    pools, results = [], map(function, items)
    with contextlib.ExitStack() as stack:
        if jax.default_backend() == "cpu":
            context = multiprocessing.get_context("spawn")
            for core in cores()[: len(items)]:
                with bound_to({core}):  # before it starts: XLA makes one thread for each core that it finds
                    pools.append(stack.enter_context(context.Pool(1, _begin, (os.getpid(),))))
            results = itertools.chain(*(pool.imap(function, items[i :: len(pools)]) for i, pool in enumerate(pools)))
        found = dict(tqdm.tqdm(results, "training and judging", len(items), disable=not sys.stderr.isatty()))
        for pool in pools:  # ended in order; those of a failure are terminated
            pool.close()
            pool.join()
    return found


def _wait(jobs, finished, processes):
    total, remaining = sum(job.training.recipe.steps for job in jobs.values()), len(jobs)
    with tqdm.tqdm(total=total, desc="training", unit="step", disable=not sys.stderr.isatty()) as bar:
        while remaining:
            with contextlib.suppress(queue.Empty):
                if error := finished.get(timeout=0.5):
                    raise ValueError(error)
                remaining -= 1
            if remaining and all(process.exitcode is not None for process in processes):
                codes = ", ".join(str(process.exitcode) for process in processes)
                raise ValueError(f"a training process ended by itself (exit codes {codes}): out of memory?")
            bar.update(sum(_steps_done(folder) for folder in jobs) - bar.n)


def _train(folder, job):
    names = frozenset(name for part in (*job, job.training.recipe) for name in vars(part))
    train_in_folder(folder, *job, names, progress=jax.default_backend() != "cpu")


def _steps_done(folder):
    return max((row["step"] for row in read_records(folder)), default=0)


def _begin(parent):
    """What each process does first: it is to end with its parent, however that is killed."""

    def watch():
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    tqdm.tqdm.set_lock(threading.RLock())  # its own is a semaphore that a process which is ended leaves behind
    command_line.keep_compiled_programs()


def _work(tasks, finished, parent):
    """One process: trains what it takes from ``tasks``."""
    _begin(parent)
    while (task := tasks.get()) is not None:
        try:
            _train(*task)
            finished.put(None)
        except (ValueError, OSError) as error:
            finished.put(str(error))
