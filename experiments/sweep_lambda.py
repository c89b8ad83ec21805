"""Trains one generator for each weight lambda of the reconstruction term, and picks the weight by validation.

Example::

    ganmrf sweep_lambda --workdir=runs/sweep --steps=2000 --lambdas=0.01,1,100,10000

The recipe is the paper's where ``--preset`` names no other; without an adversary lambda changes nothing. Every lambda
has a folder of its own, as `train` makes them. ``sweep.json`` has the errors, and ``report.html`` shows them as the
paper's Fig. 4a does. Called again with the same ``--workdir`` it goes on where it was cut off.
"""

import pathlib

from experiments.flags.command_line import command
from experiments.reports.sweep import best_weight, sweep_section
from ganmrf.files import write_json
from ganmrf.report.html import write_report
from ganmrf.runs.side_by_side import train_side_by_side
from ganmrf.runs.simulation_config import FISP_ALONE, OF_OTHER_KINDS
from ganmrf.runs.training import simulate_accurately
from ganmrf.runs.training_config import TrainingJob
from ganmrf.runs.workdir import Workdir, read_records
from ganmrf.settings import configuration, group, setting


@configuration
class Config:
    """The sweep."""

    workdir: str = setting(meaning="folder of the sweep", kept=False)
    lambdas: tuple[float, ...] = setting((0.01, 1.0, 100.0, 10000.0), "weights, separated by commas", at_least=0)
    job: TrainingJob = group(
        TrainingJob,
        without=("reconstruction_weight", "off_resonance_hz", *OF_OTHER_KINDS),
        defaults={"preset": "paper"}.items(),
        **FISP_ALONE,
    )


@command(Config)
def main(config: Config, given: frozenset[str]):
    """Sweeps, and writes what came out."""
    with Workdir(config.workdir, config, given) as workdir:
        config = workdir.config
        jobs = sweep_jobs(workdir.path, config.job, config.lambdas)
        simulation = config.job.simulation
        train_side_by_side(jobs, dictionaries={simulation: simulate_accurately(simulation)})
        rows = sweep_rows(jobs)
        chosen = best_weight(rows)
        write_json(workdir.path / "sweep.json", {"chosen": chosen, "rows": rows})
        steps = config.job.training.recipe.steps
        section = sweep_section(rows)
        write_report(
            workdir.path / "report.html",
            title="Weight of the reconstruction term",
            summary=f"The validation error after {steps} steps is least at lambda = {chosen:g}.",
            sections=[section],
            settings=config,
        )
    print(section.tables[0].text())
    print(f"lambda {chosen:g} has the least validation error: {workdir.path / 'report.html'}")


def sweep_jobs(folder: pathlib.Path, job: TrainingJob, weights) -> dict[pathlib.Path, TrainingJob]:
    """Folder -> job of every weight of the reconstruction term.

    Raises:
      ValueError: no validation set to pick a weight by, or no adversary to weigh against.
    """
    if not job.training.recipe.adversarial_weight:
        raise ValueError(
            f"adversarial_weight must be above 0, or lambda changes nothing; got --preset={job.training.preset}"
        )
    if not job.training.split[1] > 0:
        raise ValueError(f"split must have a validation set to pick lambda by; got {job.training.split}")
    return {folder / f"lambda_{weight:g}": job.changed(reconstruction_weight=weight) for weight in sorted(weights)}


def sweep_rows(jobs) -> list[dict]:
    """The last record of every finished run, with its ``lambda``."""
    return [
        {"lambda": job.training.recipe.reconstruction_weight} | read_records(folder)[-1] for folder, job in jobs.items()
    ]


if __name__ == "__main__":
    main.run()
