"""The sections of a report that show an `Evaluation`, and its numbers for a JSON file."""

import numpy as np

from experiments.evaluation.generator import Evaluation, Scan, errors_against_truth
from ganmrf.dictionary.build import Dictionary
from ganmrf.gan.generate import TrainedGenerator, generate
from ganmrf.metrics import TISSUE_COLUMNS, format_tissues
from ganmrf.physics.simulate import simulate
from ganmrf.physics.tissue import FACTS, TISSUES, Tissue
from ganmrf.physics.tissue_box import TissueBox
from ganmrf.report.figures import REFERENCE_TIMES, bias_figure, comparison_figure, fingerprint_figure
from ganmrf.report.html import Picture, Section, Table
from ganmrf.report.training_figures import error_distribution_figure, tissue_plane_figure, training_figure

NAMES = {name: parameter.name for name, parameter in FACTS.items()} | {"m0": "M0"}  # of what is fitted, by field
REFERENCE_NAMES = [f"{name} {1e3 * t1:.0f}/{1e3 * t2:.0f} ms" for name, (t1, t2) in REFERENCE_TIMES.items()]


def reference_tissue() -> Tissue:
    """The paper's white matter, grey matter and CSF, in the order of `REFERENCE_NAMES`."""
    return Tissue(*np.transpose(list(REFERENCE_TIMES.values())))


def fingerprint_section(generator: TrainedGenerator) -> Section:
    """The paper's Fig. 5: three fingerprints, generated on simulated; other axes than T1 and T2 are in their middle."""
    box, times = generator.box, reference_tissue()
    middle = dict(zip(box.names, (box.low + box.high) / 2, strict=True)) | dict(box.fixed)
    tissue = TISSUES[box.kind](**middle | {"t1": times.t1, "t2": times.t2})
    made = generate(generator, tissue, allow_extrapolation=True)
    return Section("Fingerprints (the paper's Fig. 5)", figures=[fingerprint_picture(made, box)])


def fingerprint_picture(made: Dictionary, box: TissueBox, by: str = "") -> Picture:
    """Fingerprints of `reference_tissue` on simulated ones, ``by`` a generator that learned the tissues of a box."""
    form = {"accuracy": 1e-5, "slice_profile": made.slice_profile}
    signals = np.asarray(simulate(made.sequence, made.tissue, **form))
    figure = fingerprint_figure(signals, REFERENCE_NAMES, overlay=made.fingerprints * made.norms[:, None])
    outside = [name for name, out in zip(REFERENCE_NAMES, box.outside(made.tissue), strict=True) if out]
    note = f" Outside the trained range: {', '.join(outside)}." if outside else ""
    by = f"By {by}: white" if by else "White"
    caption = f"{by} matter, grey matter and CSF (T1/T2) for M0 = 1; below, generated minus simulated.{note}"
    return Picture(figure, caption)


def training_picture(rows, what: str) -> Picture:
    """The paper's Fig. 4b for the records of one run."""
    steps = [row["step"] for row in rows]
    names = [name for name in ("train", "validation", "test") if f"{name}_rmse" in rows[0]]
    errors = {name: np.array([row[f"{name}_rmse"] for row in rows]) for name in names}
    return Picture(training_figure(steps, errors), f"{what}: RMSE of all entries of the fingerprints of unit norm.")


def error_section(evaluation: Evaluation, heading: str) -> Section:
    """Errors of fingerprints: every method's distribution and numbers, and the shown one's over T1 and T2."""
    reference, shown = evaluation.reference, evaluation.shown
    count, outside = np.count_nonzero(reference.evaluated), reference.outside
    tissue, errors = reference.simulated.tissue, np.maximum(evaluation.errors[shown], 1e-9)
    plane = tissue_plane_figure(tissue.t1, tissue.t2, errors, outside=outside)
    shares = {name: np.maximum(evaluation.counted(name), 1e-9) for name in evaluation.errors}
    marked = ""
    if n_outside := np.count_nonzero(outside):
        marked = f" {n_outside} of them lie outside the trained range and are marked: they are extrapolated."
    return Section(
        heading,
        f"Relative L2 error of fingerprints of unit norm, at the {count} atoms {reference.evaluated_as}; the errors of "
        "norms are those of M0.",
        figures=[
            Picture(error_distribution_figure(shares), f"Share of the {count} atoms whose error exceeds a value."),
            Picture(plane, f"Error of all {errors.size} atoms of the {shown}.{marked}"),
        ],
        tables=[error_table(evaluation), bias_table(evaluation)],
    )


def error_table(evaluation: Evaluation) -> Table:
    """Errors of every method's fingerprints and norms, those of extrapolated atoms apart."""
    reference = evaluation.reference
    extrapolated = bool(reference.outside.any())
    rows = []
    for name, errors in evaluation.errors.items():
        cells = [*summary(evaluation.counted(name)).values()]
        cells += [errors[reference.outside].mean(), errors[reference.outside].max()] if extrapolated else []
        norms = evaluation.norm_errors.get(name)
        shown = [f"{value:.2e}" for value in cells] + [
            "-" if norms is None else f"{norms[reference.evaluated].max():.1e}",
            f"{evaluation.core_seconds[name]:.1f}",
        ]
        rows.append([name, *shown])
    beyond = ("Extrapolated, mean", "Extrapolated, worst") * extrapolated
    columns = "Method", "Mean", "99 % below", "Worst", *beyond, "Norm (M0), worst", "Training (core-s)"
    caption = f"Relative errors at the {np.count_nonzero(reference.evaluated)} atoms {reference.evaluated_as}"
    return Table(columns, rows, caption)


def bias_table(evaluation: Evaluation) -> Table:
    """Bias by every method's errors, in standard deviations of the noise."""
    rows, count = [], 0
    for name in evaluation.biases:
        biases = evaluation.counted_biases(name)
        determined = {each: values[np.isfinite(values)] for each, values in biases.items()}
        count = determined["t1"].size
        cells = [f"{value:.2g}" for values in determined.values() for value in list(summary(values).values())[:2]]
        rows.append([name, *cells])
    columns = [f"{NAMES[each]}, {what}" for each in determined for what in ("mean", "99 % below")]
    snr = next(iter(evaluation.maps))
    caption = (
        f"Bias that errors of fingerprints induce, over the standard deviation by noise, at {count} atoms of M0 = 1, "
        f"SNR {snr:g}: below 1 it is lost in the scatter of one voxel"
    )
    return Table(("Method", *columns), rows, caption)


def map_table(evaluation: Evaluation) -> Table:
    """Errors of the maps by every method's dictionary."""
    rows = [
        [f"{name}, SNR {snr:g}", *(f"{100 * value:.3f}" for value in errors[:3])]
        for snr, methods in evaluation.maps.items()
        for name, errors in methods.items()
    ]
    columns = ("Dictionary", "T1 RRMSE (%)", "T2 RRMSE (%)", "Voxels that changed atom (%)")
    return Table(columns, rows, "Maps against those by the simulated dictionary")


def map_section(evaluation: Evaluation, scan: Scan, heading: str) -> Section:
    """Maps by both dictionaries and their differences, at the first signal-to-noise ratio; numbers at all of them."""
    first = next(iter(evaluation.maps))
    reference, ours = evaluation.reference.maps[first], evaluation.maps[first][evaluation.shown]
    mask = scan.brain.brain_mask
    pictures = [
        Picture(
            comparison_figure(simulated, generated, mask=mask, quantity=quantity, names=("simulated", "generated")),
            f"{quantity} by both dictionaries at SNR {first:g}, and their difference, with ten times the contrast, as "
            f"the paper shows it, and relative: {np.count_nonzero((simulated != generated) & mask)} of "
            f"{np.count_nonzero(mask)} voxels differ.",
        )
        for quantity, simulated, generated in (("T1", reference.t1, ours.maps.t1), ("T2", reference.t2, ours.maps.t2))
    ]
    matched = np.searchsorted(evaluation.biased, reference.index)
    if np.isin(reference.index[mask], evaluation.biased).all():
        bias = evaluation.biases[evaluation.shown]
        voxels = [np.abs(reference.m0) * np.append(values, np.nan)[matched] for values in (bias.t1, bias.t2)]
        caption = "Bias that errors of the matched atom's fingerprint induce, over the standard deviation by the noise."
        pictures.append(Picture(bias_figure(*voxels, mask=mask), caption))
    return Section(
        heading,
        f"The same noisy scan matched with both dictionaries of {len(evaluation.reference.outside)} atoms, all frames, "
        f"decided in float64; differences over the {np.count_nonzero(mask)} voxels of the brain. Tissue by tissue: "
        "where one fills a voxel to 95 %. Against the truth, the steps of the grid and the noise are in the errors of "
        "both dictionaries.",
        figures=pictures,
        tables=[map_table(evaluation), *tissue_tables(evaluation, scan)],
    )


def tissue_tables(evaluation: Evaluation, scan: Scan) -> list[Table]:
    """White matter, grey matter and CSF apart: both dictionaries against the truth, and against each other."""
    tables = []
    for snr, methods in evaluation.maps.items():
        generated = methods[evaluation.shown]
        compared = {
            "generated against simulated": generated.tissues,
            "simulated against the truth": errors_against_truth(evaluation.reference.maps[snr], scan.brain),
            "generated against the truth": errors_against_truth(generated.maps, scan.brain),
        }
        tables += [
            Table(TISSUE_COLUMNS, format_tissues(rows), f"Tissue by tissue, SNR {snr:g}, {what}")
            for what, rows in compared.items()
        ]
    return tables


def summary(errors: np.ndarray) -> dict[str, float]:
    """Mean, 99 % quantile and largest of some errors."""
    return {
        "mean": float(np.mean(errors)),
        "quantile_99": float(np.quantile(errors, 0.99)),
        "worst": float(np.max(errors)),
    }


def numbers(evaluation: Evaluation, scan: Scan) -> dict:
    """An evaluation in plain numbers."""
    reference = evaluation.reference
    counted, outside = reference.evaluated, reference.outside
    errors = {}
    for name, each in evaluation.errors.items():
        errors[name] = summary(each[counted]) | {"core_seconds": evaluation.core_seconds[name]}
        if outside.any():
            errors[name]["extrapolated"] = summary(each[outside])
        if name in evaluation.norm_errors:
            errors[name]["norm"] = summary(evaluation.norm_errors[name][counted])
        biases = evaluation.counted_biases(name)
        errors[name]["bias_over_noise"] = {
            each: summary(values[np.isfinite(values)]) for each, values in biases.items()
        }
    return {
        "atoms": outside.size,
        "evaluated": f"{np.count_nonzero(counted)} atoms {reference.evaluated_as}",
        "extrapolated": int(np.count_nonzero(outside)),
        "errors": errors,
        "maps": {
            f"snr_{snr:g}": {
                name: {
                    "rrmse_t1": errors.t1,
                    "rrmse_t2": errors.t2,
                    "changed": errors.changed,
                    "against_truth": _plain(errors_against_truth(errors.maps, scan.brain)),
                }
                for name, errors in methods.items()
            }
            for snr, methods in evaluation.maps.items()
        },
        "simulated_against_truth": {
            f"snr_{snr:g}": _plain(errors_against_truth(maps, scan.brain)) for snr, maps in reference.maps.items()
        },
    }


def _plain(rows):
    """Rows of a `tissue_table` by tissue, None where there is no voxel."""
    return {row.name: {key: None if each != each else each for key, each in row._asdict().items()} for row in rows}


def print_evaluation(evaluation: Evaluation):
    """Prints the numbers of the report's tables."""
    print(error_table(evaluation).text())
    print(map_table(evaluation).text())
