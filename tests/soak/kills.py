"""Jobs that are killed at random moments and called again until they end."""

import random
import signal

from tests.soak.bench import KILLED, Bench
from tests.soak.verdicts import contents, fault_of, temporary


def case(bench: Bench, number: int, draw: random.Random):
    """The command and its disturbance, the folder where it ran, and its fault."""
    job = list(KILLED.values())[number % len(KILLED)]
    whole = bench.undisturbed(job)
    moments = [draw.uniform(0.05, 1.0) * whole.seconds for _ in range(draw.randint(1, 3))]
    folder = bench.fresh(job.inputs)
    for moment in [*moments, float("inf")]:
        outcome = bench.run(job, folder, kill_after=moment)
        if outcome.code != -signal.SIGKILL or outcome.late:
            break
    output = folder / job.output
    same = outcome.code == 0 and contents(output) == whole.contents
    told = f"ganmrf {job.line} killed after {', '.join(f'{moment:.2f}' for moment in moments)} core-seconds"
    return told, folder, fault_of(outcome, left=temporary(folder), same=same)
