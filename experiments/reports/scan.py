"""The report of `reconstruct_maps`: maps with error bars, and the reconstruction that they come from."""

import numpy as np

from ganmrf.imaging.pipeline import METHODS
from ganmrf.report.distribution_figures import residual_figure
from ganmrf.report.figures import map_figure
from ganmrf.report.html import Picture, Section, Table, write_report
from ganmrf.report.reconstruction_figures import (
    coefficients_figure,
    convergence_figure,
    sensitivities_figure,
    trajectory_figure,
    uncertainty_figure,
)
from ganmrf.report.sequence_figures import schedule_caption, schedule_figure
from ganmrf.runs.slices import slice_words
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
        one, two = (_per_cent(np.median(std[matched] / value[matched])) for std, value in pairs)
        bars = f" The median standard deviation of T1 is {one} of T1, that of T2 {two} of T2."
    words = f"{schedule_caption(results.dictionary.sequence).removesuffix('.')}{_sequence_source(config)}."
    write_report(
        path,
        title="T1 and T2 maps of a scan",
        summary=(
            f"{config.input}, {source}{how}, was matched with {len(results.dictionary.norms)} atoms of "
            f"{slice_words(results.dictionary.slice_profile)}. "
            f"{np.count_nonzero(matched)} voxels have a median T1 of {t1:.0f} ms and a median T2 of {t2:.0f} ms.{bars}"
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


def _per_cent(share):
    return f"{100 * share:.3g} %" if share <= 1 else "over 100 %"


def _sequence_source(config):
    """Where flags name a sequence, which; otherwise the notes say what the files had."""
    simulation = config.simulation
    if config.reconstruction.dictionary is not None:
        return f", as {config.reconstruction.dictionary} holds them"
    if simulation.schedule is not None:
        return f", as {simulation.schedule} has them"
    of_paper = simulation.names_sequence and simulation.kind.sequence == "fisp"
    return " of the paper's sequence, from the first" if of_paper else ""


def _map_sections(results):
    best, shape = results.refined or results.maps, results.maps.t1.shape
    images = {"": np.s_[:] if len(shape) == 2 else 0 if len(shape) == 3 else None}
    if len(shape) == 3 and shape[0] > 1:
        images = {f", slice {z}": z for z in range(shape[0])}
    for number, cut in images.items():
        mask = (results.maps.index >= 0)[cut]
        if not mask.any():
            continue
        b0 = None if best.off_resonance is None else best.off_resonance[cut]
        more = {"quality": results.maps.quality[cut], "off_resonance": b0}
        figure = map_figure(best.t1[cut], best.t2[cut], best.m0[cut], mask=mask, **more)
        words = (
            f"T1, T2{' and M0' if b0 is None else ', M0 and B0'}, and the match quality, the normalised inner product "
            "of each voxel's signal and its atom: 1 where both have the same shape. Voxels that were not matched are "
            "black."
        )
        figures = [Picture(figure, words)]
        if results.refined is not None and results.refined.has_error_bars:
            b0_std = None if best.off_resonance_std is None else best.off_resonance_std[cut]
            times = best.t1[cut], best.t1_std[cut], best.t2[cut], best.t2_std[cut]
            figure = uncertainty_figure(*times, mask=mask, off_resonance_std=b0_std)
            words = (
                "Standard deviations by the Cramer-Rao bound, the smallest that an unbiased fit can have with this "
                "sequence, at the noise that the residuals show. What a wrong model adds is not in them. Where they "
                "reach 100 %, the scan does not tell the value."
            )
            figures.append(Picture(figure, words))
        yield Section(f"Maps{number}", figures=figures)


def _fit_section(results):
    found = Table(("What was found and assumed",), [(note,) for note in results.notes]) if results.notes else None
    figures = []
    if results.fit is not None:
        words = (
            "Residual of each voxel: what the fitted signal leaves of the measured one, divided by the noise, which "
            "is estimated from voxels two apart. If noise alone were left, equal in all voxels, residuals would be "
            "distributed as the line. Voxels far to the right of it are ones where the model (sequence, slice "
            "profile, B1, tissue) or the reconstruction is wrong, however high their match quality."
        )
        figures.append(Picture(residual_figure(results.fit.ratio, results.fit.freedom), words))
    text = "" if figures else "Residuals are not shown: they need refined maps, neighbouring voxels and noise."
    return Section("Does the model fit?", text=text, figures=figures, tables=[found] if found else [])


def _reconstruction_section(results):
    coils = results.reconstruction["sensitivities"]
    kept = f"{100 * float(results.reconstruction['energy']):.2f}"
    words = f"Sensitivities of the virtual coils, which hold {kept} % of the energy of all coils."
    sampled = "Where k-space is sampled by the first frame (blue) and by the frames after it (grey)."
    figures = [
        Picture(trajectory_figure(results.trajectory), sampled),
        Picture(sensitivities_figure(coils), words),
    ]
    if results.coefficients is not None:
        figure = coefficients_figure(results.coefficients, mask=results.maps.index >= 0)
        words = "Coefficients in the temporal basis, the dictionary's singular vectors, from the largest one on."
        figures.append(Picture(figure, words))
    residuals = results.reconstruction.get("residuals", np.zeros(1))
    if residuals.all():  # where there is nothing left to fit, there is nothing to show
        words = "What is left of the least-squares equations after each iteration of conjugate gradients."
        figures.append(Picture(convergence_figure(residuals), words))
    return Section("Reconstruction", figures=figures)


def _stages_section(results):
    seconds = results.seconds | {"all stages": sum(results.seconds.values())}
    rows = [(name, f"{value:.1f}") for name, value in seconds.items()]
    words = "Wall time of each stage in the call that finished it, compilation of its programs included."
    return Section("Stages", text=words, tables=[Table(("Stage", "Seconds"), rows)])
