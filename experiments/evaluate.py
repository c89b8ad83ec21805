"""Evaluates a trained generator: its fingerprints and its maps, beside regression alone and interpolation.

Example::

    python -m experiments.evaluate --workdir=runs/best
    python -m experiments.evaluate --workdir=runs/coarse --on=fine --allow_extrapolation

The newest checkpoint of the run in ``--workdir`` is evaluated on its test set, or another grid. Regression alone, with
the same recipe, is trained in ``--workdir``/regression the first time. ``--output`` gets ``evaluation.json`` and
``report.html``.
"""

import dataclasses
import json
import pathlib
import sys

from absl import flags

from experiments.evaluation.generator import evaluate_generator, scan_brain
from experiments.flags.command_line import numbers_in, run
from experiments.reports.generator import (
    error_section,
    fingerprint_section,
    map_section,
    numbers,
    print_evaluation,
    training_picture,
)
from ganmrf.files import make_folder, replacing
from ganmrf.report.html import Section, write_report
from ganmrf.runs.side_by_side import Job, train_side_by_side
from ganmrf.runs.training import read_run, simulate_accurately
from ganmrf.scanner import Scanner

_WORKDIR = flags.DEFINE_string("workdir", None, "folder of the training run", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "folder for the report; default: --workdir")
_ON = flags.DEFINE_string("on", None, "grid to evaluate on: paper, coarse or fine; default: the run's own test set")
_EXTRAPOLATE = flags.DEFINE_bool("allow_extrapolation", False, "--on may reach beyond the trained range")
_SIZE = flags.DEFINE_integer("size", 256, "rows and columns of the brain's image of 300 mm", lower_bound=8)
_SNR = flags.DEFINE_list("snr", ["20", "1"], "signal-to-noise ratios of the scans; a low one stands for aliasing")
_SEED = flags.DEFINE_integer("seed", 0, "of the brain and its noise", lower_bound=0)


def main():
    """Evaluates, and writes what came out."""
    snrs = numbers_in(_SNR.value, "--snr", positive=True)
    workdir = pathlib.Path(_WORKDIR.value)
    trained, show = read_run(workdir), sys.stderr.isatty()
    folder = make_folder(_OUTPUT.value or workdir)
    simulated = None
    if _ON.value is not None:
        grid = {"grid": _ON.value, "t1_ms": None, "t2_ms": None}
        simulated = simulate_accurately(dataclasses.replace(trained.simulation, **grid))
        if not _EXTRAPOLATE.value:
            trained.generator().require_inside(simulated.tissue)
    regression = None
    if trained.training.recipe.adversarial_weight:
        job = Job(trained.simulation, trained.training).changed(adversarial_weight=0.0)
        train_side_by_side({workdir / "regression": job})
        regression = read_run(workdir / "regression")
    scan = scan_brain(trained.dictionary, Scanner(_SIZE.value), snrs=snrs, seed=_SEED.value, progress=show)
    evaluation = evaluate_generator(trained, regression, scan, simulated=simulated, progress=show)
    print_evaluation(evaluation)
    step, recipe = trained.rows[-1]["step"], trained.training.recipe
    with replacing(folder / "evaluation.json") as path:
        content = {"workdir": str(workdir), "step": step} | numbers(evaluation)
        path.write_text(json.dumps(content, indent=2) + "\n")
    ours = evaluation.maps[snrs[0]][evaluation.final]
    write_report(
        folder / "report.html",
        title="A generator of MRF dictionaries, evaluated",
        summary=(
            f"The generator in {workdir} after {step} of {recipe.steps} steps. Its mean relative error at the atoms "
            f"{evaluation.evaluated_as} is {evaluation.errors[evaluation.final].mean():.1e}. Maps of a brain by its "
            f"dictionary differ from those by the simulated one by {100 * ours.t1:.3f} % (T1) and "
            f"{100 * ours.t2:.3f} % (T2, RRMSE) at SNR {snrs[0]:g}; {100 * ours.changed:.2f} % of the voxels changed "
            "atom."
        ),
        sections=[
            Section("Training", figures=[training_picture(trained.rows, "The run")]),
            fingerprint_section(trained.generator()),
            error_section(evaluation, "Errors of fingerprints"),
            map_section(evaluation, scan, "Maps"),
        ],
        settings={"workdir": workdir, "on": _ON.value, "size": _SIZE.value, "snr": snrs, "seed": _SEED.value}
        | {"simulation": trained.simulation, "training": trained.training},
    )
    print(f"report: {folder / 'report.html'}")


if __name__ == "__main__":
    run(main)
