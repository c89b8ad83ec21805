"""The section of a report that shows an `Example` of each generator: fingerprints, and the bias of maps."""

from collections.abc import Mapping

import numpy as np

from experiments.evaluation.example import M0_OVER_NOISE, Example
from experiments.reports.generator import NAMES, summary
from ganmrf.report.figures import fingerprint_figure
from ganmrf.report.html import Picture, Section, Table


def example_section(examples: Mapping[str, Example], played: str) -> Section:
    """Fingerprints of three tissues by each generator on simulated ones, and `bias_table`; ``played`` is the sequence.

    The keys are names of generators, and the tables and captions call them so.
    """
    return Section(
        "Fingerprints, and what their errors do to maps",
        f"Generated as `generate_dictionary` does, of a sequence that no generator learned from ({played}).",
        figures=[_picture(name, each) for name, each in examples.items()],
        tables=[bias_table({name: biases(each) for name, each in examples.items()})],
    )


def biases(example: Example) -> dict[str, dict[str, float]]:
    """Field -> mean, 99 % quantile and largest of its bias over noise, over the tissues where noise determines it."""
    return {name: summary(each) for name, each in example.bias.determined.items() if each.size}


def bias_table(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Table:
    """Name of a generator -> its `biases`, as a table with a row for each parameter."""
    rows = [
        [f"{name}, {NAMES[field]}", *(f"{value:.2g}" for value in of_field.values())]
        for name, of in found.items()
        for field, of_field in of.items()
    ]
    caption = (
        "Bias of fits of these parameters, all others known, that errors of fingerprints induce, over the standard "
        f"deviation by noise, for M0 / noise {M0_OVER_NOISE:g} and tissues spread over the box: below 1 it is lost in "
        "the scatter of one voxel"
    )
    return Table(("Generator, parameter", "Mean", "99 % below", "Largest"), rows, caption)


def _picture(name, shown):
    signals, generated = (
        np.asarray(each.norms)[:, None] * np.asarray(each.fingerprints) for each in (shown.simulated, shown.generated)
    )
    three, box = slice(len(shown.names)), shown.simulated.tissue
    others = [NAMES[field] for field, values in vars(box).items() if np.ndim(values) and field not in ("t1", "t2")]
    also = f" At a quarter, half and three quarters of its range: {', '.join(others)}." if others else ""
    figure = fingerprint_figure(signals[three], shown.names, overlay=generated[three])
    return Picture(figure, f"By {name}: three tissues (T1/T2) for M0 = 1; below, generated minus simulated.{also}")
