"""The report of `reconstruct_maps`: maps with error bars, and the reconstruction that they come from."""

import numpy as np

from ganmrf.imaging.pipeline import METHODS
from ganmrf.report.distribution_figures import residual_figure
from ganmrf.report.figures import map_figure, schedule_figure
from ganmrf.report.html import Picture, Section, Table, write_report
from ganmrf.report.reconstruction_figures import (
    coefficients_figure,
    convergence_figure,
    sensitivities_figure,
    trajectory_figure,
    uncertainty_figure,
)
from ganmrf.scan_to_maps import Results


def write_reconstruction_report(path, config, results: Results):
    """Writes the report of maps by `map_scan`, made with a `reconstruct_maps.Config`, as one HTML file."""
    matched = results.maps.index >= 0
    best = results.refined or results.maps
    raw = results.trajectory is not None
    t1, t2 = (1e3 * np.median(values[matched]) for values in (best.t1, best.t2))
    source = f"raw data of {results.trajectory.shape[0]} frames" if raw else "an image series"
    how = f", reconstructed by {METHODS[config.reconstruction.method]}" if raw else ""
    bars = ""
    if results.refined is not None and results.refined.has_error_bars:
        pairs = (best.t1_std, best.t1), (best.t2_std, best.t2)
        one, two = (100 * np.median(std[matched] / value[matched]) for std, value in pairs)
        bars = f" Their standard deviations are {one:.2g} and {two:.2g} % in the median."
    words = "Flip angle and repetition time of every frame."
    write_report(
        path,
        title="T1 and T2 maps of a scan",
        summary=(
            f"{config.input}, {source}{how}, was matched with {len(results.dictionary.norms)} atoms: "
            f"{np.count_nonzero(matched)} voxels, median T1 {t1:.0f} ms and T2 {t2:.0f} ms.{bars}"
        ),
        sections=[
            *_map_sections(results),
            _fit_section(results),
            *([_reconstruction_section(results)] if raw else []),
            Section("Sequence", figures=[Picture(schedule_figure(results.dictionary.sequence), words)]),
            _stages_section(results),
        ],
        settings=config,
    )


def _map_sections(results):
    best, shape = results.refined or results.maps, results.maps.t1.shape
    images = (
        {f", slice {z}": z for z in range(shape[0])} if len(shape) == 3 else {"": np.s_[:] if len(shape) == 2 else None}
    )
    for number, cut in images.items():
        mask = (results.maps.index >= 0)[cut]
        if not mask.any():
            continue
        figure = map_figure(best.t1[cut], best.t2[cut], best.m0[cut], mask=mask, quality=results.maps.quality[cut])
        words = "T1, T2 and M0, and the normalised inner product of each voxel's signal and its atom."
        figures = [Picture(figure, words)]
        if results.refined is not None and results.refined.has_error_bars:
            figure = uncertainty_figure(best.t1[cut], best.t1_std[cut], best.t2[cut], best.t2_std[cut], mask=mask)
            words = (
                "Standard deviations by the Cramer-Rao bound, for the noise that the residuals show: what the sequence "
                "and the noise allow, without what a wrong model adds."
            )
            figures.append(Picture(figure, words))
        yield Section(f"Maps{number}", figures=figures)


def _fit_section(results):
    found = Table(("What was found and assumed",), [(note,) for note in results.notes]) if results.notes else None
    figures = []
    if results.fit is not None:
        words = (
            "What the fitted signals leave of the signals, over the noise that voxels two apart show. Residuals "
            "of noise alone lie under the line; beyond it, the model (sequence, slice profile, B1, tissue) or the "
            "reconstruction is wrong there, whatever the match quality."
        )
        figures.append(Picture(residual_figure(results.fit.ratio, results.fit.freedom), words))
    return Section("Does the model fit?", figures=figures, tables=[found] if found else [])


def _reconstruction_section(results):
    coils = results.reconstruction["sensitivities"]
    kept = f"{100 * float(results.reconstruction['energy']):.2f}"
    words = f"Sensitivities of {len(coils)} virtual coils, which hold {kept} % of the energy of all coils."
    sampled = "Where the first frame samples k-space, and the frames after it."
    figures = [
        Picture(trajectory_figure(results.trajectory), sampled),
        Picture(sensitivities_figure(coils), words),
    ]
    if results.coefficients is not None:
        figure = coefficients_figure(results.coefficients, mask=results.maps.index >= 0)
        figures.append(Picture(figure, "Coefficients in the temporal basis."))
    residuals = results.reconstruction.get("residuals", np.zeros(1))
    if residuals.all():  # where there is nothing left to fit, there is nothing to show
        figures.append(Picture(convergence_figure(residuals), "Residual of conjugate gradients."))
    return Section("Reconstruction", figures=figures)


def _stages_section(results):
    seconds = results.seconds | {"all stages": sum(results.seconds.values())}
    rows = [(name, f"{value:.1f}") for name, value in seconds.items()]
    return Section("Stages", tables=[Table(("Stage", "Seconds"), rows, "When it was done, compilation included")])
