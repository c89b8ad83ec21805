"""The sections of a report that show an `Evaluation`, and its numbers for a JSON file."""

import numpy as np

from experiments.evaluation.generator import Evaluation, Scan
from ganmrf.gan.generate import TrainedGenerator, generate
from ganmrf.metrics import TISSUE_COLUMNS, format_tissues
from ganmrf.physics.simulate import simulate
from ganmrf.physics.tissue import Tissue
from ganmrf.report.figures import REFERENCE_TIMES, comparison_figure, fingerprint_figure
from ganmrf.report.html import Picture, Section, Table
from ganmrf.report.training_figures import error_distribution_figure, tissue_plane_figure, training_figure

REFERENCE_NAMES = [f"{name} {1e3 * t1:.0f}/{1e3 * t2:.0f} ms" for name, (t1, t2) in REFERENCE_TIMES.items()]


def reference_tissue() -> Tissue:
    """The paper's white matter, grey matter and CSF, in the order of `REFERENCE_NAMES`."""
    return Tissue(*np.transpose(list(REFERENCE_TIMES.values())))


def fingerprint_section(generator: TrainedGenerator) -> Section:
    """The paper's Fig. 5: three fingerprints, generated on simulated."""
    tissue = reference_tissue()
    signals = np.asarray(simulate(generator.sequence, tissue, accuracy=1e-5, slice_profile=generator.slice_profile))
    made = generate(generator, tissue, allow_extrapolation=True)
    figure = fingerprint_figure(signals, REFERENCE_NAMES, overlay=made.fingerprints * made.norms[:, None])
    outside = [name for name, out in zip(REFERENCE_NAMES, generator.box.outside(tissue), strict=True) if out]
    note = f" Outside the trained range: {', '.join(outside)}." if outside else ""
    caption = f"White matter, grey matter and CSF (T1/T2) for M0 = 1; below, generated minus simulated.{note}"
    return Section("Fingerprints (the paper's Fig. 5)", figures=[Picture(figure, caption)])


def training_picture(rows, what: str) -> Picture:
    """The paper's Fig. 4b for the records of one run."""
    steps = [row["step"] for row in rows]
    names = [name for name in ("train", "validation", "test") if f"{name}_rmse" in rows[0]]
    errors = {name: np.array([row[f"{name}_rmse"] for row in rows]) for name in names}
    return Picture(training_figure(steps, errors), f"{what}: RMSE of all entries of the fingerprints of unit norm.")


def error_section(evaluation: Evaluation, heading: str) -> Section:
    """Errors of fingerprints: every method's distribution and numbers, and the generator's over T1 and T2."""
    count = np.count_nonzero(evaluation.evaluated)
    tissue, errors = evaluation.simulated.tissue, np.maximum(evaluation.all_errors, 1e-9)
    plane = tissue_plane_figure(tissue.t1, tissue.t2, errors, outside=evaluation.outside)
    shares = error_distribution_figure({name: np.maximum(e, 1e-9) for name, e in evaluation.errors.items()})
    marked = ""
    if n_outside := np.count_nonzero(evaluation.outside):
        marked = f" {n_outside} of them lie outside the trained range and are marked: they are extrapolated."
    return Section(
        heading,
        f"Relative L2 error of fingerprints of unit norm, at the {count} atoms {evaluation.evaluated_as}. Norms (M0) "
        f"are off by {evaluation.norm_error:.1e} on average.",
        figures=[
            Picture(shares, f"Share of the {count} atoms whose error exceeds a value."),
            Picture(plane, f"Error of all {evaluation.all_errors.size} atoms of the {evaluation.final}.{marked}"),
        ],
        tables=[error_table(evaluation)],
    )


def error_table(evaluation: Evaluation) -> Table:
    """Errors of every method's fingerprints."""
    rows = [
        [name, *(f"{value:.2e}" for value in summary(errors).values()), f"{evaluation.core_seconds[name]:.1f}"]
        for name, errors in evaluation.errors.items()
    ]
    caption = f"Relative errors at the {np.count_nonzero(evaluation.evaluated)} atoms {evaluation.evaluated_as}"
    return Table(("Method", "Mean", "99 % below", "Worst", "Training (core-s)"), rows, caption)


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
    reference, ours = evaluation.reference_maps[first], evaluation.maps[first][evaluation.final]
    mask = scan.brain.brain_mask
    pictures = [
        Picture(
            comparison_figure(simulated, generated, mask=mask, quantity=quantity, names=("simulated", "generated")),
            f"{quantity} by both dictionaries at SNR {first:g}, and their difference with ten times the contrast: "
            f"{np.count_nonzero((simulated != generated) & mask)} of {np.count_nonzero(mask)} voxels differ.",
        )
        for quantity, simulated, generated in (("T1", reference.t1, ours.maps.t1), ("T2", reference.t2, ours.maps.t2))
    ]
    tissues = [
        Table(TISSUE_COLUMNS, format_tissues(methods[evaluation.final].tissues), f"Tissue by tissue, SNR {snr:g}")
        for snr, methods in evaluation.maps.items()
    ]
    return Section(
        heading,
        f"The same noisy scan matched with both dictionaries of {evaluation.all_errors.size} atoms, all frames, "
        f"decided in float64; differences over the {np.count_nonzero(mask)} voxels of the brain. "
        f"Tissue by tissue: where one fills a voxel to 95 %, against the map by the simulated dictionary.",
        figures=pictures,
        tables=[map_table(evaluation), *tissues],
    )


def summary(errors: np.ndarray) -> dict[str, float]:
    """Mean, 99 % quantile and largest of some errors."""
    return {
        "mean": float(np.mean(errors)),
        "quantile_99": float(np.quantile(errors, 0.99)),
        "worst": float(np.max(errors)),
    }


def numbers(evaluation: Evaluation) -> dict:
    """An evaluation in plain numbers."""
    return {
        "atoms": evaluation.all_errors.size,
        "evaluated": f"{np.count_nonzero(evaluation.evaluated)} atoms {evaluation.evaluated_as}",
        "extrapolated": int(np.count_nonzero(evaluation.outside)),
        "norm_error": evaluation.norm_error,
        "errors": {
            name: summary(errors) | {"core_seconds": evaluation.core_seconds[name]}
            for name, errors in evaluation.errors.items()
        },
        "maps": {
            f"snr_{snr:g}": {
                name: {"rrmse_t1": errors.t1, "rrmse_t2": errors.t2, "changed": errors.changed}
                for name, errors in methods.items()
            }
            for snr, methods in evaluation.maps.items()
        },
    }


def print_evaluation(evaluation: Evaluation):
    """Prints the numbers of the report's tables."""
    print(error_table(evaluation).text())
    print(map_table(evaluation).text())
