"""Several jobs at once, each in a process of its own."""

import concurrent.futures
import contextlib
import pathlib
import queue
from collections.abc import Callable, Mapping

import jax

from ganmrf.parallel import bound_to, cores
from ganmrf.progress import Progress
from ganmrf.runs.anchoring import AnchoredConfig, make_in_folder
from ganmrf.runs.training import losses, train_in_folder
from ganmrf.runs.workdir import read_records
from ganmrf.runs.worker import Worker

_WAIT_S = 0.5  # between two looks at what has been done


def train_side_by_side(jobs: Mapping, anchored: Mapping | None = None, dictionaries: Mapping | None = None):
    """Trains every run to its end, from its newest checkpoint where it has one.

    Args:
      jobs: folder -> `configs.TrainingJob`, in the order in which they are begun.
      anchored: folder -> `anchoring.AnchoredConfig` of generators that are made beside the runs, begun after the first
        of them on each core.
      dictionaries: simulation -> what its runs learn from and share, as `simulate_accurately` makes it; runs of other
        simulations make their own.

    Raises:
      ValueError: as `train_in_folder`; the other runs are left where they are, and go on when called again.
    """
    items, n_first = [(*item, (dictionaries or {}).get(item[1].simulation)) for item in jobs.items()], len(cores())
    items[n_first:n_first] = [(*item, None) for item in (anchored or {}).items()]
    total = sum(job.training.recipe.steps for job in jobs.values())

    def done():
        records = {folder: rows for folder in jobs if (rows := read_records(folder))}
        under_way = [
            folder for folder, rows in records.items() if rows[-1]["step"] < jobs[folder].training.recipe.steps
        ]
        note = "; ".join(f"{pathlib.Path(folder).name}: {losses(records[folder][-1])}" for folder in under_way)
        return sum(rows[-1]["step"] for rows in records.values()), note

    run_side_by_side(_make, items, total=total, done=done)


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
    waiting, results = queue.SimpleQueue(), {}
    for task in enumerate(items):
        waiting.put(task)

    def serve(worker):
        """Has one process do items until none is left."""
        with contextlib.suppress(queue.Empty):
            while True:
                index, item = waiting.get_nowait()
                results[index] = worker.call(function, item)

    with (
        Progress(total or len(items), "training", unit="step" if total else "run") as bar,
        concurrent.futures.ThreadPoolExecutor() as pool,
        contextlib.ExitStack() as workers,
    ):
        under_way = set()
        for core in cores()[: len(items)]:
            with bound_to({core}):  # before it starts: XLA makes one thread for each core that it finds
                worker = workers.enter_context(Worker())
            under_way.add(pool.submit(serve, worker))
        while under_way:
            ended, under_way = concurrent.futures.wait(under_way, _WAIT_S, concurrent.futures.FIRST_EXCEPTION)
            for future in ended:
                future.result()  # raises what ended it
            count, note = done() if done else (len(results), "")
            bar.set_postfix_str(note, refresh=False)
            bar.update(count - bar.n)
    return [results[index] for index in range(len(items))]


def _make(task):
    folder, job, dictionary = task
    shown = {"progress": jax.default_backend() != "cpu"}
    if isinstance(job, AnchoredConfig):
        make_in_folder(folder, job, **shown)
    else:
        train_in_folder(folder, job, dictionary=dictionary, **shown)
