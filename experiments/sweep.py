"""The paper's choice of lambda: one run for each weight of the reconstruction term, and the least validation error."""

import pathlib

from experiments.config import SimulationConfig, TrainingConfig
from experiments.side_by_side import Job
from experiments.workdir import read_records
from ganmrf.report.html import Picture, Section, Table
from ganmrf.report.training_figures import sweep_figure

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
