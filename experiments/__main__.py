"""The front door: ``ganmrf`` lists the jobs, ``ganmrf JOB --flag=...`` runs one, ``ganmrf JOB --help`` explains it."""

import difflib
import importlib
import os
import sys

from experiments.flags.jobs import GROUPS, job_modules, summary


def main(arguments: list[str] | None = None):
    """Runs the job that the first argument names; without arguments lists them."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("help", "--help", "-h", "--version"):
        try:
            _list(version="--version" in arguments)
            sys.stdout.flush()
        except BrokenPipeError:  # whoever reads the list has seen enough, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    job, *rest = arguments
    jobs = job_modules()
    if job not in jobs:
        near = difflib.get_close_matches(job, jobs, n=3, cutoff=0.4)
        nearest = f"; the nearest: {', '.join(near)}" if near else ""
        _refuse(f"{job!r} is no job of ganmrf{nearest}; ganmrf alone lists them")
    if second := [word for word in rest if word in jobs]:
        _refuse(f"one job at a time; got {job} and {second[0]}")
    importlib.import_module(f"experiments.{job}").main.run(rest)


def _list(version):
    from ganmrf import __version__

    if version:
        print(f"ganmrf {__version__}")
        return
    print("ganmrf JOB --flag=value ...   MR fingerprinting: simulate, learn, map, design; ganmrf JOB --help for flags")
    for group, jobs in GROUPS.items():
        print(f"\n{group}")
        for job in jobs:
            print(f"  {job:32s}{summary(job)}")


def _refuse(message):
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
