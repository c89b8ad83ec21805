"""Disturbs the commands for a while, and says what they could not bear.

Example::

    python -m tests.soak --seconds=600 --seed=0
    python -m tests.soak --seed=0 --only=files --case=17

Parts: jobs that are killed, files that cannot be written, damaged inputs, wrong values of flags. The second line
repeats one case. Exit code 1 where any case is bad.
"""

import itertools
import os
import pathlib
import random
import shutil
import sys
import tempfile
import time

from experiments.flags.command_line import command
from ganmrf.progress import Progress
from ganmrf.settings import configuration, setting
from tests.soak import files, flags, kills, running, writes
from tests.soak.bench import JOBS, Bench

PARTS = {"kills": kills.case, "writes": writes.case, "files": files.case, "flags": flags.case}


@configuration
class Config:
    """What to disturb."""

    seconds: float = setting(600.0, "how long to go on, shared by the parts", above=0)
    seed: int = setting(0, "of what is disturbed, when and how", at_least=0)
    only: tuple[str, ...] = setting(tuple(PARTS), "parts", choices=tuple(PARTS))
    case: int | None = setting(None, "number of one case of a part, to repeat it alone", at_least=0)


@command(Config)
def main(config: Config):
    """Goes through the parts, and shows their table and their bad cases."""
    # Of processes that are killed on purpose, Python's tracker would say at the end that they left semaphores to it.
    os.environ["PYTHONWARNINGS"] = "ignore::UserWarning:multiprocessing.resource_tracker"
    running.import_first(sorted({f"experiments.{job.words[0]}" for job in JOBS.values()}))
    work = pathlib.Path(tempfile.mkdtemp(prefix="soak-")).resolve()
    bench, tried, bad, start = Bench(work), dict.fromkeys(config.only, 0), [], time.monotonic()
    with Progress(config.seconds, "soak", unit="s") as bar:
        for position, part in enumerate(config.only):
            left = config.seconds - (time.monotonic() - start)
            until = time.monotonic() + left / (len(config.only) - position)
            for number in itertools.count() if config.case is None else [config.case]:
                if config.case is None and time.monotonic() > until:
                    break
                try:
                    found = PARTS[part](bench, number, random.Random(f"{config.seed} {part} {number}"))
                except ValueError as error:
                    found = "nothing disturbed", work, str(error)
                if found is None:
                    break
                told, folder, fault = found
                tried[part] += 1
                if fault:
                    bad.append((part, number, told, folder, fault))
                    print(f"{part} {number}: {told}\n  {fault}", file=sys.stderr)
                else:
                    bench.remove(folder)
                bar.update(min(round(time.monotonic() - start, 1), config.seconds) - bar.n)
    _show(config.seed, tried, bad)
    if bad:
        sys.exit(1)
    shutil.rmtree(work)


def _show(seed, tried, bad):
    print(f"{'part':8s}{'tried':>8s}{'bad':>8s}")
    for part, count in tried.items():
        print(f"{part:8s}{count:8d}{sum(each[0] == part for each in bad):8d}")
    for part, number, told, folder, fault in bad:
        print(f"\npython -m tests.soak --seed={seed} --only={part} --case={number}")
        print(f"  {told}\n  {fault}\n  in {folder}")


if __name__ == "__main__":
    main.run()
