"""Evaluates a trained generator: its fingerprints and its maps, beside interpolation and, if wanted, regression alone.

Example::

    ganmrf evaluate --workdir=runs/regression
    ganmrf evaluate --workdir=runs/coarse --on=fine --allow_extrapolation
    ganmrf evaluate --workdir=runs/gan --regression

The newest checkpoint of the run in ``--workdir`` is evaluated on its test set, or another grid. ``--regression`` trains
the same recipe without its discriminator, in as many steps, in ``--workdir``/regression the first time, and shows what
the discriminator contributed. Where off-resonance is an axis, the error half-way between its values is told, too.
``--output`` gets ``evaluation.json`` and ``report.html``.
"""

import pathlib

from experiments.evaluation.generator import (
    evaluate_methods,
    final_name,
    interpolations,
    networks,
    reference_for,
    scan_brain,
)
from experiments.flags.command_line import command
from experiments.reports import generator as report
from ganmrf.anchors.generator_file import load_generator
from ganmrf.dictionary.grids import GRIDS_ON_RESONANCE
from ganmrf.files import make_folder, write_json
from ganmrf.imaging.phantom import COARSEST
from ganmrf.report.html import Section, write_report
from ganmrf.runs.side_by_side import train_side_by_side
from ganmrf.runs.training import errors_between_off_resonances, read_run, simulate_accurately
from ganmrf.runs.training_config import TrainingJob
from ganmrf.runs.workdir import read_config
from ganmrf.scanner import Scanner
from ganmrf.settings import configuration, setting


@configuration
class Config:
    """What is evaluated, and on what."""

    workdir: str = setting(meaning="folder of the training run")
    output: str | None = setting(None, "folder for the report; default: --workdir")
    on: str | None = setting(None, "grid to evaluate on; default: the run's own test set", choices=GRIDS_ON_RESONANCE)
    allow_extrapolation: bool = setting(False, "--on may reach beyond the trained range", goes_with=("on",))
    regression: bool = setting(False, "train the same recipe without its discriminator, and show it beside")
    size: int = setting(256, "rows and columns of the brain's image of 300 mm", at_least=COARSEST)
    snr: tuple[float, ...] = setting(
        (20.0, 1.0), "signal-to-noise ratios of the scans; a low one stands for aliasing", above=0
    )
    seed: int = setting(0, "of the brain and its noise", at_least=0)


@command(Config)
def main(config: Config):
    """Evaluates, and writes what came out."""
    workdir = pathlib.Path(config.workdir)
    job = read_config(workdir, TrainingJob())
    simulation, scanner = job.simulation, Scanner(config.size, kind=job.simulation.pools.tissue)
    if config.regression and not job.training.recipe.adversarial_weight:
        raise ValueError(f"regression: the run in {workdir} has no discriminator, and is regression alone")
    scanner.require_memory(simulation.sequence().n_frames, whole=False)
    if config.on is not None and not config.allow_extrapolation:
        finished = workdir / "generator.npz"  # read in no time, where the training has ended
        generator = load_generator(finished) if finished.exists() else read_run(workdir).generator()
        advice = "--allow_extrapolation evaluates them all the same"
        generator.require_inside(simulation.on_grid(config.on).tissue(), advice)
    run = read_run(workdir)
    if config.regression and (step := run.rows[-1]["step"]) < run.recipe.steps:
        raise ValueError(f"regression: {workdir} is at step {step} of {run.recipe.steps}: finish its training first")
    folder = workdir if config.output is None else make_folder(config.output)
    simulated = None if config.on is None else simulate_accurately(simulation.on_grid(config.on))
    runs = {"generator": run}
    if config.regression:
        train_side_by_side({workdir / "regression": run.job.changed(adversarial_weight=0.0)})
        runs["regression only"] = read_run(workdir / "regression", run.dictionary)
    scan = scan_brain(run.dictionary, scanner, snrs=config.snr, seed=config.seed, progress=True)
    methods = networks(runs) | interpolations(run)
    reference, shown = reference_for(run, scan, simulated), final_name("generator", run)
    evaluation = evaluate_methods(methods, reference, scan, shown=(shown,))
    report.print_evaluation(evaluation)
    step, snr = run.rows[-1]["step"], config.snr[0]
    found = {"workdir": str(workdir), "step": step} | report.numbers(evaluation, scan)
    between, note = errors_between_off_resonances(run), ""
    if between is not None:
        found["error_between_off_resonances"] = float(between.mean())
        note = f" Half-way between the off-resonances of its training the mean error is {between.mean():.1e}."
        print(note.strip())
    write_json(folder / "evaluation.json", found)
    ours = evaluation.maps[snr][shown]
    write_report(
        folder / "report.html",
        title="A generator of MRF dictionaries, evaluated",
        summary=(
            f"The generator in {workdir} after {step} of {run.recipe.steps} steps. Its mean relative error at the "
            f"atoms {reference.evaluated_as} is {evaluation.counted(shown).mean():.1e}.{note} Maps of a brain by "
            f"its dictionary differ from those by the simulated one by {100 * ours.t1:.3f} % (T1) and "
            f"{100 * ours.t2:.3f} % (T2, RRMSE) at SNR {snr:g}; {100 * ours.changed:.2f} % of the voxels changed atom."
        ),
        sections=[
            Section("Training", figures=[report.training_picture(run.rows, "The run")]),
            report.fingerprint_section(run.generator()),
            report.error_section(evaluation, "Errors of fingerprints"),
            report.map_section(evaluation, scan, "Maps"),
        ],
        settings=vars(config) | {"job": run.job},
    )
    print(f"report: {folder / 'report.html'}")


if __name__ == "__main__":
    main.run()
