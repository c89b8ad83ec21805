"""The report of `map_continuous`: maps with error bars, and what the generator's errors and ranges do to them."""

import numpy as np

from experiments.evaluation.continuous import Continuous
from experiments.reports.generator import NAMES
from experiments.reports.scan import (
    bars_of,
    fit_section,
    map_sections,
    mapped,
    median_words,
    stages_section,
    undetermined_words,
)
from ganmrf.physics.tissue import FACTS
from ganmrf.report.html import Picture, Section, Table, enumerated, write_report
from ganmrf.report.sequence_figures import schedule_caption, schedule_figure
from ganmrf.runs.slices import slice_words
from ganmrf.runs.tissues import pulse_words


def write_continuous_report(path, config, found: Continuous):
    """Writes the report of maps by `continuous_maps`, made with a `map_continuous.Config`, as one HTML file."""
    results, prepared = found.results, found.prepared
    matched, sequence = results.maps.index >= 0, results.dictionary.sequence
    kind = prepared.generator.box.kind
    played = f", as {config.simulation.schedule} has them" if config.simulation.schedule else ""
    write_report(
        path,
        title=f"{enumerated([FACTS[name].name for name in mapped(results)])} maps without a grid",
        summary=(
            f"{config.input}, an image series, was fitted by {len(prepared.signals)} anchors of {config.generator}, "
            f"simulated in {slice_words(prepared.slice_profile)}, of tissue of kind {kind}"
            f"{pulse_words(kind, sequence)}. {np.count_nonzero(matched)} voxels have "
            f"{enumerated(median_words(results))}. The median standard deviation "
            f"{enumerated(bars_of(results, matched))}.{undetermined_words(config, results)} {bias_words(found)}"
        ),
        sections=[
            *map_sections(config, results, "fit"),
            _errors_section(found),
            fit_section(results),
            Section(
                "Sequence",
                figures=[
                    Picture(schedule_figure(sequence), f"{schedule_caption(sequence).removesuffix('.')}{played}.")
                ],
            ),
            stages_section(results),
        ],
        settings=config,
    )


def ends_words(found: Continuous) -> list[str]:
    """A sentence on each parameter that ends at an end of its range in some voxels."""
    return [
        f"{FACTS[name].name} is at an end of the generator's range in {100 * share:.3g} % of the voxels"
        for name, share in found.shares_at_ends.items()
        if share
    ]


def bias_words(found: Continuous) -> str:
    """A sentence on the parameters that errors of the generator move by more than noise does; empty where none is."""
    moved = {name: each["median"] for name, each in found.biases.items() if each["median"] > 1}
    if not moved:
        return ""
    listed = enumerated([f"{NAMES[name]} by {each:.2g}" for name, each in moved.items()])
    return (
        f"Errors of the generator move {listed} times the error bar in the median voxel: the error bars are too small."
    )


def _errors_section(found):
    certificate = found.prepared.certificate
    box = found.prepared.generator.box
    rows = []
    for name in found.results.refined.stds:
        biases = [f"{each:.2g}" for each in found.biases.get(name, {}).values()] or ["-", "-"]
        rows.append((FACTS[name].name, box.range_words(name), f"{100 * found.shares_at_ends[name]:.3g} %", *biases))
    of_m0 = [f"{each:.2g}" for each in found.biases.get("m0", {}).values()] or ["-", "-"]
    rows.append(("|M0|", "-", "-", *of_m0))
    columns = "Parameter", "Range", "Voxels at an end", "Bias / error bar, median", "largest"
    caption = (
        f"Bias that errors of the generator induce, over the standard deviation by noise, in {found.bias.m0.size} "
        "voxels spread over T1 that were simulated: below 1 it is lost in the scatter of one voxel. Means over many "
        "voxels have smaller error bars, and the same bias"
    )
    text = (
        f"{found.prepared.summary()}. The largest error of a unit fingerprint under this sequence is "
        f"{certificate.largest:.2g}. Error bars do not know of it. A voxel at an end of a range has no error bar, and "
        "its tissue may lie beyond: nothing is extrapolated."
    )
    return Section("Errors of the generator, and its ranges", text=text, tables=[Table(columns, rows, caption)])
