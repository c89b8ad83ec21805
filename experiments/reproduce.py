"""Reproduces the GAN-MRF paper: simulates, sweeps lambda, trains, generates, matches a brain, and writes one report.

Example::

    python -m experiments.reproduce --workdir=runs/reproduce
    python -m experiments.reproduce --workdir=runs/paper --preset=paper --steps=200000

``report.html`` has the paper's Figs. 2 and 4 to 8 and its numbers beside ours; ``results.json`` has the numbers. Every
training run has a folder of its own below ``--workdir``; called again, it goes on where it was cut off.
``--acquisition=kspace`` scans the brain as the paper was scanned, with one of 48 spirals a frame and 20 coils.
"""

import dataclasses
import json
import sys
from typing import NamedTuple

from absl import flags

from experiments.benchmarks.timing import GenerationCost, generation_cost
from experiments.evaluation.generator import Evaluation, Scan, evaluate_generator, scan_brain
from experiments.flags import recipe_flags, sequence_flags
from experiments.flags.command_line import given_flags, numbers_in, run
from experiments.reports.generator import numbers, print_evaluation
from experiments.reports.reproduction import write_reproduction_report
from experiments.sweep_lambda import best_weight, sweep_jobs, sweep_rows
from ganmrf.files import replacing
from ganmrf.gan.recipes import recipe
from ganmrf.physics.slice_profile import sinc_slice_profile
from ganmrf.runs.configs import SpiralConfig, TrainingConfig, stored_configs
from ganmrf.runs.side_by_side import Job, train_side_by_side
from ganmrf.runs.training import Run, read_run, simulate_accurately
from ganmrf.runs.workdir import Workdir
from ganmrf.scanner import Scanner

flags.adopt_module_key_flags(sequence_flags)
flags.adopt_module_key_flags(recipe_flags)
_WORKDIR = flags.DEFINE_string("workdir", None, "folder of everything", required=True)
_LAMBDAS = flags.DEFINE_list("lambdas", ["0.01", "1", "100", "10000"], "weights to choose from; one: no choice")
_SWEEP_STEPS = flags.DEFINE_integer("sweep_steps", None, "steps of each; default: a fifth of --steps", lower_bound=1)
_PAPER_STEPS = flags.DEFINE_integer("paper_steps", 10_000, "steps of the paper's recipe beside ours; 0: none", 0)
_ACQUISITION = flags.DEFINE_enum("acquisition", "image", ["image", "kspace"], "perfect images, or gridded spirals")
_SIZE = flags.DEFINE_integer("size", None, "rows and columns of the brain's 300 mm; default: 256, k-space 128", 8)
_SNR = flags.DEFINE_list("snr", None, "of the scans; default: 20 and 1, which stands for aliasing; k-space 50")
_COILS = flags.DEFINE_integer("coils", 20, "loops around the head, of --acquisition=kspace", lower_bound=1)
_ROTATION = flags.DEFINE_enum("rotation", "uniform", ["uniform", "golden"], "of the spirals, of --acquisition=kspace")
_ROUNDS = flags.DEFINE_integer("rounds", 3, "how often generation and simulation are timed", lower_bound=1)


class Results(NamedTuple):
    """What came out.

    Attributes:
      chosen: the lambda that was picked.
      sweep: its `sweep.sweep_rows`, or None for a single lambda.
      run: of the generator.
      paper: the run of the paper's recipe beside it, or None.
      scan: the brain.
      acquired: how it was scanned, in words.
      evaluations: of the generator on its grid; of one trained on 297 atoms, on those and on 106160.
      cost: of generation, for the paper's grid and the fine one.
    """

    chosen: float
    sweep: list[dict] | None
    run: Run
    paper: Run | None
    scan: Scan
    acquired: str
    evaluations: dict[str, Evaluation]
    cost: list[GenerationCost]


def main():
    """Runs everything, and writes what came out."""
    simulation, training = sequence_flags.simulation_config(), recipe_flags.training_config()
    kspace = _ACQUISITION.value == "kspace"
    settings = {
        "simulation": dataclasses.asdict(simulation),
        **dataclasses.asdict(training),
        "lambdas": numbers_in(_LAMBDAS.value, "--lambdas"),
        "sweep_steps": _SWEEP_STEPS.value or max(training.recipe.steps // 5, 1),
        "paper_steps": 0 if training.preset == "paper" else _PAPER_STEPS.value,
        "acquisition": _ACQUISITION.value,
        "size": _SIZE.value or (128 if kspace else 256),
        "snr": numbers_in(_SNR.value or (["50"] if kspace else ["20", "1"]), "--snr", positive=True),
        "coils": _COILS.value,
        "rotation": _ROTATION.value,
        "rounds": _ROUNDS.value,
    }
    with Workdir(_WORKDIR.value, settings, given_flags()) as workdir:
        results = reproduce(workdir.path, workdir.config)
        content = {"lambda": results.chosen, "sweep": results.sweep, "records": results.run.rows}
        content |= {name: numbers(evaluation) for name, evaluation in results.evaluations.items()}
        content["generation"] = [cost._asdict() for cost in results.cost]
        with replacing(workdir.path / "results.json") as path:
            path.write_text(json.dumps(content, indent=2) + "\n")
        write_reproduction_report(workdir.path / "report.html", workdir.config, results)
        print(f"report: {workdir.path / 'report.html'}")


def reproduce(folder, settings: dict) -> Results:
    """The whole chain, in ``folder``; ``settings`` as `main` makes them."""
    simulation, training = stored_configs(settings)
    show = sys.stderr.isatty()
    job = Job(simulation, training)
    weights = settings["lambdas"]
    swept = sweep_jobs(folder / "sweep", *_shortened(job, settings["sweep_steps"]), weights) if len(weights) > 1 else {}
    first = {folder / "paper": job._replace(training=_papers(training, settings["paper_steps"]))}
    first = first if settings["paper_steps"] else {}
    print(f"training {len(swept) + len(first)} runs: lambda, and the paper's recipe", flush=True)
    train_side_by_side(first | swept)
    sweep = sweep_rows(swept) if swept else None
    chosen = best_weight(sweep) if swept else weights[0]
    print(f"lambda {chosen:g}; training the generators", flush=True)
    job = job.changed(reconstruction_weight=chosen)
    coarse = {"grid": "coarse", "t1_ms": None, "t2_ms": None}
    main_jobs = {
        "generator": job,
        # All of the 297 atoms train it: the 106160 are its test.
        "generator_297": Job(
            dataclasses.replace(simulation, **coarse), dataclasses.replace(job.training, split="1,0,0")
        ),
    }
    if training.recipe.adversarial_weight:
        main_jobs["regression"] = job.changed(adversarial_weight=0.0)
    train_side_by_side({folder / name: each for name, each in main_jobs.items()})
    runs = {name: read_run(folder / name) for name in main_jobs}
    generator, of_297, regression = runs["generator"], runs["generator_297"], runs.get("regression")

    print("timing generation", flush=True)
    final, rounds = generator.generator(), settings["rounds"]
    fine = simulate_accurately(dataclasses.replace(simulation, grid="fine", t1_ms=None, t2_ms=None))
    cost = [
        generation_cost(final, generator.dictionary.tissue, {1: None, 12: sinc_slice_profile(12)}, rounds=rounds),
        generation_cost(final, fine.tissue, {1: None}, rounds=rounds),
    ]

    print("scanning the brain, matching it, and comparing the maps", flush=True)
    seed = training.seed
    trajectory, acquired = None, "imaged perfectly, with noise"
    if settings["acquisition"] == "kspace":
        turned = "7.5 degrees" if settings["rotation"] == "uniform" else "the golden angle"
        acquired = f"48-fold undersampled by {settings['coils']} coils, spirals turned by {turned}, each frame gridded"
        sampling = SpiralConfig(settings["size"], rotation=settings["rotation"])
        trajectory = sampling.trajectory(generator.dictionary.sequence.n_frames)
    scanner, noise = Scanner(settings["size"], coils=settings["coils"]), {"snrs": settings["snr"], "seed": seed}
    scan = scan_brain(generator.dictionary, scanner, **noise, trajectory=trajectory, progress=show)
    evaluations = {
        "own": evaluate_generator(generator, regression, scan, progress=show),
        "coarse": evaluate_generator(of_297, None, scan, progress=show),
        "fine": evaluate_generator(of_297, None, scan, simulated=fine, map_baselines=False, progress=show),
    }
    for evaluation in evaluations.values():
        print_evaluation(evaluation)
    paper = read_run(folder / "paper") if first else None
    return Results(chosen, sweep, generator, paper, scan, acquired, evaluations, cost)


def _shortened(job: Job, steps: int) -> Job:
    job = job.changed(steps=steps)
    return job._replace(training=dataclasses.replace(job.training, every=max(steps // 20, 1)))


def _papers(training: TrainingConfig, steps: int) -> TrainingConfig:
    return dataclasses.replace(
        training, preset="paper", recipe=recipe("paper", steps=max(steps, 1)), every=max(steps // 40, 1)
    )


if __name__ == "__main__":
    run(main)
