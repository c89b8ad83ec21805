"""Trains one generator for each weight lambda of the reconstruction term, and picks the weight by validation.

Example::

    python -m experiments.sweep_lambda --workdir=runs/sweep --steps=2000 --lambdas=0.01,1,100,10000

Every lambda has a folder of its own, as `train` makes them. ``sweep.json`` has the errors, and ``report.html`` shows
them as the paper's Fig. 4a does. Called again with the same ``--workdir`` it goes on where it was cut off.
"""

import dataclasses
import json

from absl import flags

from experiments import recipe_flags, sequence_flags
from experiments.command_line import given_flags, numbers_in, run
from experiments.config import stored_configs
from experiments.side_by_side import train_side_by_side
from experiments.sweep import SETS, best_weight, sweep_jobs, sweep_rows, sweep_section
from experiments.workdir import Workdir
from ganmrf.atomic import replacing
from ganmrf.report.html import Section, machine_facts, write_report

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
            sections=[sweep_section(rows), Section("Machine", facts=machine_facts())],
        )
    for row in rows:
        print(f"lambda {row['lambda']:g}: RMSE", ", ".join(f"{name} {row[key]:.2e}" for name, key in SETS.items()))
    print(f"lambda {chosen:g} has the least validation error: {workdir.path / 'report.html'}")


if __name__ == "__main__":
    run(main)
