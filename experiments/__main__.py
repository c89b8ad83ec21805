"""The front door: ``ganmrf`` lists the jobs, ``ganmrf JOB --flag=...`` runs one, ``ganmrf JOB --help`` explains it."""

import difflib
import importlib
import sys

from experiments import end_at_interrupt
from experiments.flags.jobs import GROUPS, job_modules, refuse, show, summary


def main(arguments: list[str] | None = None):
    """Runs the job that the first argument names; without arguments lists them."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("help", "--help", "-h", "--version"):
        show(_version() if "--version" in arguments else _listed())
        return
    job, *rest = arguments
    jobs = job_modules()
    if job not in jobs:
        near = difflib.get_close_matches(job, jobs, n=3, cutoff=0.4)
        nearest = f"; the nearest: {', '.join(near)}" if near else ""
        refuse(f"{job!r} is no job of ganmrf{nearest}; ganmrf alone lists them")
    if second := [word for word in rest if word in jobs]:
        refuse(f"one job at a time; got {job} and {second[0]}")
    end_at_interrupt()
    importlib.import_module(f"experiments.{job}").main.run(rest)


def _version():
    from ganmrf import __version__  # here: the list of jobs is there at once, without JAX

    return f"ganmrf {__version__}"


def _listed():
    lines = ["ganmrf JOB --flag=value ...   runs a job of MR fingerprinting; ganmrf JOB --help lists its flags"]
    for group, jobs in GROUPS.items():
        lines += ["", group, *(f"  {job:32s}{summary(job)}" for job in jobs)]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
