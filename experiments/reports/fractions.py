"""The report of `map_fractions`: maps of the fractions, of their standard deviations, and of what the fit leaves."""

import numpy as np

from ganmrf.dictionary.fractions import Fractions, component_name
from ganmrf.files import replacing
from ganmrf.report.fraction_figures import fraction_maps_figure
from ganmrf.report.html import Picture, Section, Table, write_report


def save_maps_figure(path, found: Fractions, names):
    """Writes the maps of the fractions, in the slice with most voxels, as PNG; of a line of voxels none."""
    slices = _slices(found)
    if not slices:
        return
    cut = max(slices.values(), key=lambda cut: np.count_nonzero(found.fitted[cut]))
    with replacing(path) as picture:
        figure = fraction_maps_figure(
            found.fractions[(slice(None), *cut)], names, label="Fraction", mask=found.fitted[cut]
        )
        figure.savefig(picture, dpi=120)


def write_fractions_report(path, config, found: Fractions, names):
    """Writes the report of fractions, made with a `map_fractions.Config`, as one HTML file."""
    fitted = found.fitted
    left = 100 * np.median(found.residual[fitted])
    known = (
        "with the components that were given" if config.components_ms else "with atoms that all voxels share (SPIJN)"
    )
    write_report(
        path,
        title="Volume fractions",
        summary=(
            f"{np.count_nonzero(fitted)} voxels of {config.input} were fitted {known}, by non-negative least squares "
            f"with one phase a voxel. The median residual is {left:.3g} % of the signal."
        ),
        sections=[_components_section(found, names), *_map_sections(found, names)],
        settings=config,
    )


def _components_section(found, names):
    rows = []
    for row, name in enumerate(names):
        values = found.fractions[row][found.fitted]
        low, middle, high = np.quantile(values, (0.05, 0.5, 0.95))
        std = np.median(found.stds[row][found.fitted])
        rows.append(
            (name, component_name(found.components, row), f"{middle:.3f}", f"{low:.3f} to {high:.3f}", f"{std:.3f}")
        )
    columns = "Component", "Parameters", "Median fraction", "5 to 95 %", "Median standard deviation"
    words = (
        "Fractions are parts of M0. Standard deviations are Cramer-Rao bounds at the noise that the residuals show. "
        "What is not in them is the bias by components whose parameters are not the tissue's: a T2 of intra- and "
        "extra-cellular water of 70 ms taken for 80 ms reads a myelin water fraction of 0.15 as 0.19 with the 1000 "
        "frames of the GAN-MRF paper."
    )
    return Section("Components", text=words, tables=[Table(columns, rows)])


def _map_sections(found, names):
    for title, cut in _slices(found).items():
        mask = found.fitted[cut]
        parts = (slice(None), *cut)
        figures = [
            Picture(
                fraction_maps_figure(found.fractions[parts], names, label="Fraction", mask=mask),
                "Fraction of each component. Colours reach what 99 % of the voxels need; voxels not fitted are black.",
            ),
            Picture(
                fraction_maps_figure(found.stds[parts], names, label="Standard deviation", mask=mask),
                "Standard deviations of the fractions by the Cramer-Rao bound.",
            ),
            Picture(
                fraction_maps_figure(
                    [np.abs(found.m0[cut]) / np.abs(found.m0[cut]).max(), found.residual[cut]],
                    ("|M0| over its largest", "Residual"),
                    label="Share",
                    mask=mask,
                ),
                "M0, and the norm of what the fit leaves over that of the signal: where it is larger than the noise "
                "makes it, the components are not all that there is.",
            ),
        ]
        yield Section(f"Maps{title}", figures=figures)


def _slices(found):
    """Words for each slice that has voxels -> its index in arrays of the spatial shape."""
    shape, fitted = found.m0.shape, found.fitted
    if len(shape) == 2:
        return {"": ()}
    several = len(shape) == 3 and shape[0] > 1
    cuts = {f", slice {z}" * several: (z,) for z in range(shape[0])} if len(shape) == 3 else {}
    return {title: cut for title, cut in cuts.items() if fitted[cut].any()}
