"""The section of a report that shows a sweep of lambda, and which weight was best."""

from ganmrf.report.html import Picture, Section, Table
from ganmrf.report.training_figures import sweep_figure

_SETS = {"training": "train_rmse", "validation": "validation_rmse"}  # what is shown: key in a record


def best_weight(rows) -> float:
    """The lambda of the least validation error."""
    return min(rows, key=lambda row: row["validation_rmse"])["lambda"]


def sweep_section(rows) -> Section:
    """The paper's Fig. 4a, and its numbers."""
    weights = [row["lambda"] for row in rows]
    figure = sweep_figure(
        weights, {name: [row[key] for row in rows] for name, key in _SETS.items()}, best=best_weight(rows)
    )
    cells = [[f"{row['lambda']:g}", *(f"{row[key]:.2e}" for key in _SETS.values())] for row in rows]
    return Section(
        "Weight of the reconstruction term (the paper's Fig. 4a)",
        f"Each point is a run of {rows[0]['step']} steps; the weight of least validation error was picked.",
        figures=[Picture(figure, "RMSE of all entries of the fingerprints of unit norm, against lambda.")],
        tables=[Table(("lambda", *(f"RMSE, {name}" for name in _SETS)), cells)],
    )
