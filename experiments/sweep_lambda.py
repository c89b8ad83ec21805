"""Trains one generator for each weight lambda of the reconstruction term, and picks the weight by validation.

Example::

    python -m experiments.sweep_lambda --workdir=runs/sweep --steps=2000 --lambdas=0.01,1,100,10000

Every lambda has a folder of its own, as `train` makes them. ``sweep.json`` has the errors, and ``report.html`` shows
them as the paper's Fig. 4a does. Called again with the same ``--workdir`` it goes on where it was cut off.
"""

import dataclasses
import json
import pathlib

from absl import flags

from experiments.flags import recipe_flags, sequence_flags
from experiments.flags.command_line import given_flags, numbers_in, run
from ganmrf.files import replacing
from ganmrf.report.html import Picture, Section, Table, write_report
from ganmrf.report.training_figures import sweep_figure
from ganmrf.runs.configs import SimulationConfig, TrainingConfig, stored_configs
from ganmrf.runs.side_by_side import Job, train_side_by_side
from ganmrf.runs.workdir import Workdir, read_records

flags.adopt_module_key_flags(sequence_flags)
flags.adopt_module_key_flags(recipe_flags)
_WORKDIR = flags.DEFINE_string("workdir", None, "folder of the sweep", required=True)
_LAMBDAS = flags.DEFINE_list("lambdas", ["0.01", "1", "100", "10000"], "weights, 0 or more, separated by commas")


def main():
    """Sweeps, and writes what came out."""
    weights = numbers_in(_LAMBDAS.value, "--lambdas")
    simulation, training = sequence_flags.simulation_config(), recipe_flags.training_config()
    settings = {"simulation": dataclasses.asdict(simulation), **dataclasses.asdict(training), "lambdas": weights}
    with Workdir(_WORKDIR.value, settings, given_flags()) as workdir:
        simulation, training = stored_configs(workdir.config)
        jobs = sweep_jobs(workdir.path, simulation, training, workdir.config["lambdas"])
        train_side_by_side(jobs)
        rows = sweep_rows(jobs)
        chosen = best_weight(rows)
        with replacing(workdir.path / "sweep.json") as path:
            path.write_text(json.dumps({"chosen": chosen, "rows": rows}, indent=2) + "\n")
        write_report(
            workdir.path / "report.html",
            title="Weight of the reconstruction term",
            summary=f"The validation error after {training.recipe.steps} steps is least at lambda = {chosen:g}.",
            sections=[sweep_section(rows)],
            settings=workdir.config,
        )
    for row in rows:
        print(f"lambda {row['lambda']:g}: RMSE", ", ".join(f"{name} {row[key]:.2e}" for name, key in SETS.items()))
    print(f"lambda {chosen:g} has the least validation error: {workdir.path / 'report.html'}")


SETS = {"training": "train_rmse", "validation": "validation_rmse"}  # what is shown: key in a record


def sweep_jobs(folder: pathlib.Path, simulation: SimulationConfig, training: TrainingConfig, weights) -> dict:
    """Folder -> job of every weight.

    Raises:
      ValueError: no validation set to pick by, or a weight of 0 without an adversarial loss.
    """
    if not training.shares[1] > 0:
        raise ValueError(f"--split={training.split} has no validation set to pick lambda by")

    job = Job(simulation, training)
    return {folder / f"lambda_{weight:g}": job.changed(reconstruction_weight=weight) for weight in sorted(weights)}


def sweep_rows(jobs) -> list[dict]:
    """The last record of every finished run, with its ``lambda``."""
    return [
        {"lambda": job.training.recipe.reconstruction_weight} | read_records(folder)[-1] for folder, job in jobs.items()
    ]


def best_weight(rows) -> float:
    """The lambda of the least validation error."""
    return min(rows, key=lambda row: row["validation_rmse"])["lambda"]


def sweep_section(rows) -> Section:
    """The paper's Fig. 4a, and its numbers."""
    weights = [row["lambda"] for row in rows]
    chosen = best_weight(rows)
    figure = sweep_figure(weights, {name: [row[key] for row in rows] for name, key in SETS.items()}, chosen=chosen)
    cells = [[f"{row['lambda']:g}", *(f"{row[key]:.2e}" for key in SETS.values())] for row in rows]
    return Section(
        "Weight of the reconstruction term (the paper's Fig. 4a)",
        f"Each point is a run of {rows[0]['step']} steps; the weight of least validation error was picked.",
        figures=[Picture(figure, "RMSE of all entries of the fingerprints of unit norm, against lambda.")],
        tables=[Table(("lambda", *(f"RMSE, {name}" for name in SETS)), cells)],
    )


if __name__ == "__main__":
    run(main)
