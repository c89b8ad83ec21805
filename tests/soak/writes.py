"""Jobs of which one change of a file fails, for a full or a broken disk; then called again."""

import random

from tests.soak.bench import JOBS, Bench
from tests.soak.verdicts import fault_of, temporary


def case(bench: Bench, number: int, draw: random.Random):
    """The command and its disturbance, the folder where it ran, and its fault."""
    job = list(JOBS.values())[number % len(JOBS)]
    made, changes = bench.undisturbed(job)
    at, error, folder = draw.randint(1, changes), draw.choice(("ENOSPC", "EIO")), bench.fresh(job.inputs)
    told = f"ganmrf {job.line} with {error} at change {at} of {changes}"
    for disturbance in ({"fail_at": at, "error": error}, {}):
        outcome = bench.run(job, folder, **disturbance)
        fault = fault_of(outcome, left=temporary(folder), result=folder / job.output, made=made)
        if outcome.code == 2 and not disturbance:
            fault = f"called again, it is refused: {outcome.stderr.strip()[-200:]}"
        if fault:
            break
    return told, folder, fault
