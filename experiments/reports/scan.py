"""The report of `reconstruct_maps`: maps with error bars, and the reconstruction that they come from."""

import numpy as np

from ganmrf.imaging.pipeline import METHODS
from ganmrf.physics.tissue import FACTS, parameters
from ganmrf.report.determined import undetermined
from ganmrf.report.distribution_figures import residual_figure
from ganmrf.report.drawing import from_zero
from ganmrf.report.figures import map_figure
from ganmrf.report.html import Picture, Section, Table, enumerated, write_report
from ganmrf.report.reconstruction_figures import (
    coefficients_figure,
    convergence_figure,
    sensitivities_figure,
    trajectory_figure,
    uncertainty_figure,
)
from ganmrf.report.sequence_figures import schedule_caption, schedule_figure
from ganmrf.runs.slices import slice_words
from ganmrf.runs.tissues import OF_ONE_POOL, pool_words
from ganmrf.scan_to_maps import Results

_ALWAYS = "t1", "t2", "off_resonance"


def write_reconstruction_report(path, config, results: Results):
    """Writes the report of maps by `map_scan`, made with a `reconstruct_maps.Config`, as one HTML file."""
    matched = results.maps.index >= 0
    raw = results.trajectory is not None
    source = f"raw data of {results.trajectory.shape[0]} frames" if raw else "an image series"
    how = f", reconstructed by {METHODS[config.reconstruction.method]}" if raw else ""
    bars = ""
    if results.refined is not None and results.refined.has_error_bars:
        bars = f" The median standard deviation {enumerated(bars_of(results, matched))}."
    bars += undetermined_words(config, results)
    words = f"{schedule_caption(results.dictionary.sequence).removesuffix('.')}{_sequence_source(config)}."
    write_report(
        path,
        title=f"{enumerated([FACTS[name].name for name in mapped(results)])} maps of a scan",
        summary=(
            f"{config.input}, {source}{how}, was matched with {len(results.dictionary.norms)} atoms of "
            f"{slice_words(results.dictionary.slice_profile)}{_pools(results)}. "
            f"{np.count_nonzero(matched)} voxels have {enumerated(median_words(results))}.{bars}"
        ),
        sections=[
            *map_sections(config, results),
            fit_section(results),
            *([_reconstruction_section(results)] if raw else []),
            Section("Sequence", figures=[Picture(schedule_figure(results.dictionary.sequence), words)]),
            stages_section(results),
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


def _pools(results):
    pools = pool_words(results.dictionary.tissue, results.dictionary.sequence)
    return f" and with {pools}" if pools else ""


def mapped(results) -> list[str]:
    """Fields of the parameters that were estimated, in their order; B1 is one to match with, unless it was fitted."""
    atoms, fitted = results.dictionary.tissue, () if results.refined is None else results.refined.stds
    fields = [name for name in parameters(atoms) if getattr(atoms, name) is not None]
    varied = [name for name in fields if name != "b1" and np.ptp(getattr(atoms, name))]
    return [name for name in fields if name in (*_ALWAYS, *fitted, *varied)]


def medians_of(results) -> dict[str, float]:
    """The median of each parameter that was estimated, SI, by field."""
    best, matched = results.refined or results.maps, results.maps.index >= 0
    return {name: float(np.median(best.parameters[name][matched])) for name in mapped(results)}


def median_words(results) -> list[str]:
    """The medians in the units of figures, such as "a median T1 of 950 ms"."""
    found = medians_of(results)
    return [f"a median {FACTS[name].name} of {_with_unit(FACTS[name], value)}" for name, value in found.items()]


def terminal_words(config, results) -> tuple[str, list[str]]:
    """What a terminal tells: the medians, SI, and a line on each parameter that is not determined in some voxels."""
    medians = [
        f"{FACTS[name].name} {value:.4g} {FACTS[name].unit}".rstrip() for name, value in medians_of(results).items()
    ]
    lines = [
        f"{FACTS[name].name} is not determined by this sequence in {100 * share:.3g} % of the voxels, among them those "
        "where some parameter is at an end of its range"
        for name, share in undetermined_shares(config, results).items()
        if share
    ]
    return f"median {', '.join(medians)}", lines


def _with_unit(parameter, value):
    """A value, SI, in the unit of figures."""
    value = parameter.per_shown * value
    return f"{value:.0f} {parameter.shown}" if value >= 100 else f"{value:.3g} {parameter.shown}".rstrip()


def bars_of(results, matched):
    """The median standard deviation of each fitted parameter, in words."""
    for name, std in results.refined.stds.items():
        parameter, value = FACTS[name], results.refined.parameters[name][matched]
        if from_zero(parameter):
            size = _with_unit(parameter, np.median(std[matched]))
        else:
            size = f"{_per_cent(np.median(std[matched] / value))} of {parameter.name}"
        yield f"of {parameter.name} is {size}"


def undetermined_maps(config, results) -> dict[str, np.ndarray]:
    """Where each fitted parameter is not determined, field -> bool, of the shape of the maps."""
    if results.refined is None:
        return {}
    threshold = config.reconstruction.estimate.undetermined
    found = undetermined(results.refined, results.dictionary.tissue, threshold)
    return {name: where & (results.maps.index >= 0) for name, where in found.items()}


def undetermined_shares(config, results) -> dict[str, float]:
    """The share of voxels where each fitted parameter is not determined."""
    n_matched = np.count_nonzero(results.maps.index >= 0)
    return {name: np.count_nonzero(where) / n_matched for name, where in undetermined_maps(config, results).items()}


def undetermined_words(config, results) -> str:
    """A sentence on the voxels of which parameters are not determined; empty where all are."""
    shares = undetermined_shares(config, results)
    told = [f"{FACTS[name].name} in {100 * share:.3g} %" for name, share in shares.items() if share]
    if not told:
        return ""
    limit = f"{100 * config.reconstruction.estimate.undetermined:.3g} %"
    return (
        f" Not determined by this sequence are {enumerated(told)} of the voxels, which are grey: their standard "
        f"deviation exceeds {limit} of the value, or, of what may be 0, of the spread of the dictionary's values, or a "
        "parameter is at an end of its range, where no parameter has an error bar."
    )


def map_sections(config, results, other: str = "atom"):
    """A section of the maps of each slice, and of their error bars; the match quality is with the ``other`` signal."""
    best, shape = results.refined or results.maps, results.maps.t1.shape
    images = {"": np.s_[:] if len(shape) == 2 else 0 if len(shape) == 3 else None}
    if len(shape) == 3 and shape[0] > 1:
        images = {f", slice {z}": z for z in range(shape[0])}
    for number, cut in images.items():
        mask = (results.maps.index >= 0)[cut]
        if not mask.any():
            continue
        values = {name: best.parameters[name][cut] for name in mapped(results)}
        unknown = {name: where[cut] for name, where in undetermined_maps(config, results).items()}
        more = {"quality": results.maps.quality[cut], "undetermined": unknown}
        figure = map_figure(values, best.m0[cut], mask=mask, **more)
        words = (
            f"{enumerated([*(FACTS[name].name for name in values), 'M0'])}, and the match quality, the normalised "
            f"inner product of each voxel's signal and its {other}: 1 where both have the same shape. Voxels that were "
            f"not matched are black.{_meanings(values)}"
        )
        figures = [Picture(figure, words)]
        if results.refined is not None and results.refined.has_error_bars:
            stds = {name: std[cut] for name, std in best.stds.items()}
            figure = uncertainty_figure({name: best.parameters[name][cut] for name in stds}, stds, mask=mask)
            words = (
                "Standard deviations by the Cramer-Rao bound, the smallest that an unbiased fit can have with this "
                "sequence, at the noise that the residuals show. What a wrong model adds is not in them, nor what "
                "parameters that have one value, or that of the atom, are off by. Where they reach 100 %, the scan "
                "does not tell the value."
            )
            figures.append(Picture(figure, words))
        yield Section(f"Maps{number}", figures=figures)


def _meanings(names):
    """What names of a second pool's parameters stand for."""
    told = [f"{FACTS[name].name} is the {FACTS[name].meaning}" for name in names if name not in OF_ONE_POOL]
    return f" {enumerated(told)}." if told else ""


def fit_section(results):
    """What the fit leaves of signals, over the noise, and what was found and assumed."""
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


def stages_section(results):
    """The time that each stage took."""
    seconds = results.seconds | {"all stages": sum(results.seconds.values())}
    rows = [(name, f"{value:.1f}") for name, value in seconds.items()]
    words = "Wall time of each stage in the call that finished it, compilation of its programs included."
    return Section("Stages", text=words, tables=[Table(("Stage", "Seconds"), rows)])
