"""The report of `studies.sequence_input`: errors on sequences never seen, at equal steps and at equal time."""

import numpy as np

from experiments.studies.sequence_input_runs import FLATTENED, GAN, L1, LONGER, REGRESSION
from ganmrf.report.drawing import COLOURS, plain_axes
from ganmrf.report.html import Picture, Section, Table, write_report

_COLUMNS = ("", "Steps", "Mean error", "99 % quantile", "Core-s", "Refit: mean", "99 % quantile", "Core-s")


def result_rows(found, variants, seeds) -> list[dict]:
    """For each variant the means over the seeds, before and after the output layer is solved for, and all runs.

    ``found`` is (variant, seed) -> what `train_and_evaluate` found.
    """
    rows = []
    for name in variants:
        runs = [found[name, seed] for seed in seeds]
        row = {"variant": name, "steps": round(np.mean([run["steps"] for run in runs]))}
        for stage in ("trained", "refit"):
            row[stage] = {key: float(np.mean([run[stage][key] for run in runs])) for key in runs[0][stage]}
            row[stage]["worst_seed"] = max(run[stage]["mean"] for run in runs)
        rows.append(row | {"runs": dict(zip(map(str, seeds), runs, strict=True))})
    return rows


def result_table(rows, settings) -> Table:
    """The rows of `result_rows` as text."""

    def cells(stage):
        return f"{stage['mean']:.2e}", f"{stage['quantile']:.2e}", f"{stage['core_seconds']:.0f}"

    lines = [[row["variant"], f"{row['steps']}", *cells(row["trained"]), *cells(row["refit"])] for row in rows]
    seeds = ", ".join(map(str, settings["seeds"]))
    caption = (
        f"Relative L2 error of unit fingerprints of {settings['judged']} sequences never seen, 64 tissues each; seeds "
        f"{seeds}. Refit: with the output layer solved for. Core-seconds are up to there, from the start, with "
        "simulating and compiling."
    )
    return Table(_COLUMNS, lines, caption)


def write_sequence_input_report(path, rows, table: Table, settings):
    """Writes the report of `result_rows`, their table and the settings of the study as one HTML file."""
    caption = (
        "Mean relative error on sequences never seen: one set of them during training (lines, one a seed), another one "
        "after the output layer is solved for (stars). The learning rate falls to 0 at the end of each line."
    )
    sections = [Section("Error against computing time", figures=[Picture(_figure(rows), caption)], tables=[table])]
    title, summary = "One network for a family of sequences", _summary(rows)
    write_report(path, title=title, summary=summary, sections=sections, settings=settings)


def _summary(rows):
    means = {row["variant"]: min(row["trained"]["mean"], row["refit"]["mean"]) for row in rows}
    best = min(means, key=means.get)
    seconds = next(row["refit"]["core_seconds"] for row in rows if row["variant"] == best)
    summary = (
        "A network is told T1, T2 and the sequence, one of a family of eight parameters, and emits the fingerprint. On "
        f"sequences of the family that it has never seen, the least mean error is {means[best]:.2e} ({best}), in "
        f"{seconds / 60:.1f} core-minutes. Errors here are the lesser one of before and after the output layer is "
        "solved for."
    )
    comparisons = (
        (REGRESSION, "as many steps, regression"),
        (LONGER, "as much time, regression"),
        (L1, "as many steps, regression in the GAN's l1 norm"),
    )
    for other, what in comparisons:
        if {GAN, other} <= set(means):
            summary += f" Given {what} has {means[other]:.2e} and the GAN {means[GAN]:.2e}."
    if GAN in means:
        runs = next(row["runs"].values() for row in rows if row["variant"] == GAN)
        loss = np.mean([run["discriminator_loss"] for run in runs])
        summary += f" The discriminator's loss is {loss:.3f} at the end; one that guesses has {2 * np.log(2):.3f}."
    if FLATTENED in means:
        told = "Told all flip angles and repetition times in place of the parameters"
        summary += f" {told}, regression has {means[FLATTENED]:.2e}."
    return summary


def _figure(rows):
    figure, (axes,) = plain_axes(4.4)
    for row, colour in zip(rows, COLOURS, strict=False):
        for i, run in enumerate(row["runs"].values()):
            label = None if i else row["variant"]
            axes.plot(*zip(*run["curve"], strict=True), ".-", color=colour, linewidth=1.6, label=label)
            refit = run["refit"]
            axes.plot(refit["core_seconds"], refit["mean"], "*", color=colour, markersize=11)
    axes.set(yscale="log", xlabel="Core-seconds", ylabel="Mean relative L2 error")
    axes.set_xlim(left=0)
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return figure
