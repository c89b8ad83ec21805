"""Jobs that are killed at random moments and called again until they end."""

import random
import signal

from tests.soak.bench import KILLED, Bench
from tests.soak.verdicts import fault_of, temporary


def case(bench: Bench, number: int, draw: random.Random):
    """The command and its disturbance, the folder where it ran, and its fault."""
    job = list(KILLED.values())[number % len(KILLED)]
    moments = [draw.uniform(0.05, 1.0) * bench.core_seconds(job) for _ in range(draw.randint(1, 3))]
    folder = bench.fresh(job.inputs)
    for moment in [*moments, float("inf")]:
        outcome = bench.run(job, folder, kill_after=moment)
        if outcome.code != -signal.SIGKILL or outcome.late:
            break
    told = f"ganmrf {job.line} killed after {', '.join(f'{moment:.2f}' for moment in moments)} core-seconds"
    made, _ = bench.undisturbed(job)
    return told, folder, fault_of(outcome, left=temporary(folder), result=folder / job.output, made=made)
