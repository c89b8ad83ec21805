"""The report of `studies.hidden_b1`: distances between distributions, and the distributions at two tissues."""

import numpy as np

from experiments.studies.hidden_b1_data import B1_DEVIATION, B1_HUMPS
from experiments.studies.hidden_b1_runs import FLOOR, SHOWN
from ganmrf.report.distribution_figures import distribution_figure
from ganmrf.report.figures import REFERENCE_TIMES
from ganmrf.report.html import Picture, Section, Table, write_report

_MEASURES = {
    "sliced_wasserstein": "Sliced Wasserstein distance",
    "covariance": "Relative error of the covariance",
    "mean": "Relative error of the mean",
}


def result_rows(found, variants, seeds) -> list[dict]:
    """Mean, least and largest of every measure over the seeds, for each variant and for a second simulated set.

    ``found`` is (variant, seed) -> what `train_and_evaluate` found.
    """
    evaluated = {name: [found[name, seed][name] for seed in seeds] for name in variants}
    evaluated[FLOOR] = [found[variants[0], seed][FLOOR] for seed in seeds]  # the same for all variants
    return [
        {"variant": name} | {measure: _spread([each[measure] for each in by_seed]) for measure in _MEASURES}
        for name, by_seed in evaluated.items()
    ]


def result_table(rows, settings) -> Table:
    """The rows of `result_rows` as text."""
    cells = [[row["variant"], *(_text(row[measure]) for measure in _MEASURES)] for row in rows]
    n_tissues, n_seeds = settings["conditions"], len(settings["seeds"])
    caption = f"Mean over {n_tissues} tissues and {n_seeds} seeds, and the range over the seeds"
    return Table(("", *_MEASURES.values()), cells, caption)


def write_hidden_b1_report(path, settings: dict, rows, table: Table, folders):
    """Writes an HTML file; ``folders`` is variant -> folder of the run whose samples are shown."""
    *generated, floor = rows
    best = min(generated, key=lambda row: row["sliced_wasserstein"]["mean"])
    humps = " and ".join(f"{hump:g}" for hump in B1_HUMPS)
    summary = (
        f"B1 is drawn from two normal distributions around {humps}, of standard deviation {B1_DEVIATION:g}, and hidden "
        "from the generator, whose noise z has to stand for it. Of the sliced Wasserstein distances to the simulated "
        f"fingerprints at the same T1 and T2, {best['variant']} has the least: {_text(best['sliced_wasserstein'])}; a "
        f"second simulated set has {_text(floor['sliced_wasserstein'])}."
    )
    sections = [Section("Distances between distributions", tables=[table]), *_figures(folders)]
    write_report(path, title="What is the adversary for?", summary=summary, sections=sections, settings=settings)


def _spread(values):
    return {"mean": float(np.mean(values)), "low": min(values), "high": max(values)}


def _text(value):
    return f"{value['mean']:.4f} ({value['low']:.4f} to {value['high']:.4f})"


def _figures(folders):
    """One section for each tissue of `SHOWN`."""
    samples = {}
    for name, folder in folders.items():
        with np.load(folder / "shown.npz") as file:
            samples[name] = file["simulated"], file["generated"]
    simulated, _ = next(iter(samples.values()))
    for i, tissue in enumerate(SHOWN):
        t1, t2 = (1e3 * time for time in REFERENCE_TIMES[tissue])
        figure = distribution_figure(simulated[i], {name: generated[i] for name, (_, generated) in samples.items()})
        caption = (
            f"Fingerprints at T1 {t1:g} and T2 {t2:g} ms, less the mean of the simulated ones, in per cent of its root "
            "mean square over the frames; and their density along the direction in which the simulated ones vary most, "
            "in per cent of its norm: the two humps of B1."
        )
        yield Section(f"Fingerprints of {tissue}", figures=[Picture(figure, caption)])
