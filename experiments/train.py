"""Trains a generator of fingerprints, or goes on with a run that was cut off.

Example::

    ganmrf train --workdir=runs/regression
    ganmrf train --workdir=runs/paper --preset=paper --steps=200000

The folder gets ``config.json``, ``metrics.jsonl`` (losses and errors), ``checkpoints`` and, at the end,
``generator.npz``. Called again with the same ``--workdir`` it goes on from the newest checkpoint, on whatever device.
"""

from experiments.flags.command_line import command
from ganmrf.parallel import start_on_one_thread
from ganmrf.runs.slices import AS_PLAYED, slice_words
from ganmrf.runs.training import train_in_folder
from ganmrf.runs.training_config import TrainingJob
from ganmrf.settings import configuration, group, setting


@configuration
class Config:
    """Where it is trained."""

    workdir: str = setting(meaning="folder of the run", kept=False)
    job: TrainingJob = group(TrainingJob, defaults=AS_PLAYED)


@command(Config)
def main(config: Config, given: frozenset[str]):
    """Trains."""
    start_on_one_thread()
    run = train_in_folder(config.workdir, config.job, given)
    last = run.rows[-1]
    print(f"slice: {slice_words(run.dictionary.slice_profile)}")
    errors = ", ".join(f"{name} {last[f'{name}_error']:.2e}" for name in run.data.sets)
    print(f"step {last['step']}: mean relative error before any refit: {errors}")
    print(f"{last['seconds']:.1f} s, {last['core_seconds']:.1f} core-seconds: {config.workdir}/generator.npz")


if __name__ == "__main__":
    main.run()
