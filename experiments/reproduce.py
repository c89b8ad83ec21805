"""Reproduces the GAN-MRF paper: simulates, sweeps lambda, trains, generates, matches a brain, and writes one report.

Example::

    ganmrf reproduce --workdir=runs/reproduce
    ganmrf reproduce --workdir=runs/paper --preset=paper --steps=200000

``report.html`` has the paper's Figs. 2 and 4 to 8 and its numbers beside ours; ``results.json`` has the numbers. Every
training run has a folder of its own below ``--workdir``; called again, it goes on where it was cut off.
``--acquisition=kspace`` scans the brain as the paper was scanned, with one of 48 spirals a frame and 20 coils.
"""

import dataclasses
from typing import NamedTuple

from experiments.benchmarks.timing import GenerationCost, generation_cost
from experiments.evaluation.generator import Evaluation, Scan, evaluate_generator, scan_brain
from experiments.flags.command_line import command
from experiments.reports.generator import numbers, print_evaluation
from experiments.reports.reproduction import write_reproduction_report
from experiments.sweep_lambda import best_weight, sweep_jobs, sweep_rows, sweep_section
from ganmrf.files import remove_folder, write_json
from ganmrf.gan.recipes import recipe
from ganmrf.imaging.phantom import COARSEST
from ganmrf.parallel import forget_compiled_programs, return_freed_memory
from ganmrf.physics.slice_profile import sinc_slice_profile
from ganmrf.runs.configs import SpiralConfig, TrainingJob
from ganmrf.runs.side_by_side import train_side_by_side
from ganmrf.runs.training import Run, read_run, simulate_accurately
from ganmrf.runs.workdir import Workdir
from ganmrf.settings import configuration, group, setting

_OF_KSPACE = ("acquisition=kspace",)


@configuration
class Config:
    """The reproduction.

    Attributes:
      sweep_steps: once made, a number, as ``size`` and ``snr`` are.
    """

    workdir: str = setting(meaning="folder of everything", kept=False)
    lambdas: tuple[float, ...] = setting(
        (0.01, 1.0, 100.0, 10000.0), "weights to choose from; one: no choice", at_least=0
    )
    sweep_steps: int | None = setting(None, "steps of each weight; default: a fifth of --steps", at_least=1)
    paper_steps: int = setting(10_000, "steps of the paper's recipe beside ours; 0: none", at_least=0)
    acquisition: str = setting("image", "perfect images, or gridded spirals", choices=("image", "kspace"))
    size: int | None = setting(
        None, "rows and columns of the brain's 300 mm; default: 256, of --acquisition=kspace 128", at_least=COARSEST
    )
    snr: tuple[float, ...] | None = setting(
        None, "of the scans; default: 20, and 1, which stands for aliasing; of --acquisition=kspace 50", above=0
    )
    coils: int = setting(20, "loops around the head", at_least=1, goes_with=_OF_KSPACE)
    rotation: str = setting("uniform", "of the spirals", choices=("uniform", "golden"), goes_with=_OF_KSPACE)
    rounds: int = setting(3, "how often generation and simulation are timed", at_least=1)
    job: TrainingJob = group(TrainingJob, without=("reconstruction_weight",))

    def __post_init__(self):
        kspace, training = self.acquisition == "kspace", self.job.training
        defaults = {
            "sweep_steps": max(training.recipe.steps // 5, 1),
            "size": 128 if kspace else 256,
            "snr": (50.0,) if kspace else (20.0, 1.0),
        }
        for name, value in defaults.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        if training.preset == "paper":
            object.__setattr__(self, "paper_steps", 0)


class Results(NamedTuple):
    """What came out.

    Attributes:
      chosen: the lambda that was picked.
      sweep: its `sweep_rows`, or None for a single lambda.
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


@command(Config)
def main(config: Config, given: frozenset[str]):
    """Runs everything, and writes what came out."""
    return_freed_memory()
    with Workdir(config.workdir, config, given) as workdir:
        results = reproduce(workdir.path, workdir.config)
        content = {"lambda": results.chosen, "sweep": results.sweep, "records": results.run.rows}
        content |= {name: numbers(evaluation) for name, evaluation in results.evaluations.items()}
        content["generation"] = [cost._asdict() for cost in results.cost]
        write_json(workdir.path / "results.json", content)
        sweep = sweep_section(results.sweep) if results.sweep else None
        write_reproduction_report(workdir.path / "report.html", workdir.config, results, sweep)
        print(f"report: {workdir.path / 'report.html'}")


def reproduce(folder, config: Config) -> Results:
    """The whole chain, in a folder."""
    sequence = config.job.simulation.sequence()
    scanner, trajectory, acquired = _scanner(sequence, config)
    samples = 0 if trajectory is None else trajectory.shape[1]
    scanner.require_memory(sequence.n_frames, samples, whole=samples > 0)
    chosen, sweep = _choose_weight(folder, config)
    print(f"lambda {chosen:g}; training the generators", flush=True)
    runs = _train(folder, config.job.changed(reconstruction_weight=chosen))
    generator, of_297 = runs["generator"], runs["generator_297"]

    print("timing generation", flush=True)
    fine_grid, final = config.job.simulation.on_grid("fine"), generator.generator()
    profiles = {1: None, 12: sinc_slice_profile(12)}
    cost = [
        generation_cost(final, generator.dictionary.tissue, profiles, rounds=config.rounds),
        generation_cost(final, fine_grid.tissue().ravel(), {1: None}, rounds=config.rounds),
    ]

    print("scanning the brain, matching it, and comparing the maps", flush=True)
    forget_compiled_programs()
    noise = {"snrs": config.snr, "seed": config.job.training.seed}
    scan = scan_brain(generator.dictionary, scanner, **noise, trajectory=trajectory, progress=True)
    evaluations = {
        "own": evaluate_generator(generator, runs.get("regression"), scan),
        "coarse": evaluate_generator(of_297, None, scan),
    }
    forget_compiled_programs()
    store = folder / "fine.zarr"  # on disk: it is read block by block
    fine = simulate_accurately(fine_grid, store)
    evaluations["fine"] = evaluate_generator(of_297, None, scan, simulated=fine, map_baselines=False)
    remove_folder(store)
    forget_compiled_programs()
    for evaluation in evaluations.values():
        print_evaluation(evaluation)
    paper = read_run(folder / "paper") if config.paper_steps else None
    return Results(chosen, sweep, generator, paper, scan, acquired, evaluations, cost)


def _choose_weight(folder, config):
    """Lambda, and the rows of its sweep or None; the paper's recipe is trained beside the sweep."""
    weights, jobs = config.lambdas, {}
    if config.paper_steps:
        of_paper = {"preset": "paper", "recipe": recipe("paper", steps=config.paper_steps)}
        jobs[folder / "paper"] = config.job.changed(**of_paper, every=max(config.paper_steps // 40, 1))
    swept = {}
    if len(weights) > 1:
        swept = sweep_jobs(folder / "sweep", config.job.changed(steps=config.sweep_steps, every=None), weights)
    print(f"training {len(swept) + len(jobs)} runs: lambda, and the paper's recipe", flush=True)
    train_side_by_side(jobs | swept)
    if not swept:
        return weights[0], None
    rows = sweep_rows(swept)
    return best_weight(rows), rows


def _train(folder, job) -> dict[str, Run]:
    """The generators: on the grid, on 297 atoms and, where there is a discriminator, without it."""
    of_297 = job.changed(split=(1.0, 0.0, 0.0))  # the 106160 atoms are the test of the 297
    jobs = {"generator": job, "generator_297": dataclasses.replace(of_297, simulation=job.simulation.on_grid("coarse"))}
    if job.training.recipe.adversarial_weight:
        jobs["regression"] = job.changed(adversarial_weight=0.0)
    train_side_by_side({folder / name: each for name, each in jobs.items()})
    return {name: read_run(folder / name) for name in jobs}


def _scanner(sequence, config):
    """The scanner, where it samples k-space or None, and how it scans, in words."""
    sampling = SpiralConfig(config.size, rotation=config.rotation)
    trajectory, acquired = None, "imaged perfectly, with noise"
    if config.acquisition == "kspace":
        turned = "7.5 degrees" if config.rotation == "uniform" else "the golden angle"
        acquired = f"48-fold undersampled by {config.coils} coils, spirals turned by {turned}, each frame gridded"
        trajectory = sampling.trajectory(sequence.n_frames)
    return sampling.scanner(coils=config.coils), trajectory, acquired


if __name__ == "__main__":
    main.run()
