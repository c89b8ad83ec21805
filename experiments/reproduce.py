"""Reproduces the GAN-MRF paper with the paper's network, then shows what does better, and writes one report.

Example::

    ganmrf reproduce --workdir=runs/reproduce
    ganmrf reproduce --workdir=runs/reproduce --paper_steps=200000

``report.html`` has two parts. The first is the paper's network: its Figs. 2 and 4 to 8 and its numbers beside ours.
That network is trained as ``--preset=paper`` says, whatever the flags of the recipe, which are for the second part:
better generators beside interpolation. ``results.json`` has the numbers. Every training run has a folder
of its own below ``--workdir``; called again, it goes on where it was cut off, and with more ``--paper_steps`` the
paper's network goes on from where it was. ``--acquisition=kspace`` scans the brain as the paper was scanned, with one
of 48 spirals a frame and 20 coils.
"""

import dataclasses
import time
from typing import NamedTuple

import numpy as np

from experiments.benchmarks.timing import GenerationCost, generation_cost
from experiments.evaluation.generator import (
    Evaluation,
    Method,
    Scan,
    evaluate_methods,
    final_name,
    interpolations,
    networks,
    reference_for,
    scan_brain,
)
from experiments.evaluation.long_run import LongRun, check_long_run, check_settings_of, read_long_run
from experiments.flags.command_line import command
from experiments.reports.generator import numbers, print_evaluation
from experiments.reports.reproduction import write_reproduction_report
from experiments.sweep_lambda import sweep_jobs, sweep_rows
from ganmrf.anchors.generator_file import load_anchored
from ganmrf.anchors.prepared import prepare
from ganmrf.dictionary.grids import values_in_ranges
from ganmrf.files import read_json, remove_folder, write_json
from ganmrf.gan.recipes import changes_of, recipe
from ganmrf.imaging.phantom import COARSEST
from ganmrf.parallel import forget_compiled_programs, return_freed_memory
from ganmrf.physics.sequences.fisp import require_fisp
from ganmrf.runs.anchoring import AnchoredConfig
from ganmrf.runs.configs import FISP_ALONE, OF_OTHER_KINDS, SpiralConfig, TrainingJob
from ganmrf.runs.side_by_side import train_side_by_side
from ganmrf.runs.slices import AS_PLAYED, slice_words
from ganmrf.runs.training import Run, read_run, simulate_accurately
from ganmrf.runs.workdir import Workdir
from ganmrf.settings import configuration, group, setting

PAPER = "paper's network"
_OF_KSPACE = ("acquisition=kspace",)
_PAPER_EVERY = 1000  # steps between two records of the paper's network, whatever their number, so that it can go on
_ANCHOR_SEQUENCES, _ANCHOR_CANDIDATES = 4, 512  # that the weights of anchors are learned from: some core-seconds


@configuration
class Config:
    """The reproduction.

    Attributes:
      size: once made, a number, as ``snr`` is.
    """

    workdir: str = setting(meaning="folder of everything", kept=False)
    paper_steps: int = setting(20_000, "steps of the paper's network; more go on from where it was", at_least=1)
    lambdas: tuple[float, ...] = setting(
        (0.01, 1.0, 100.0, 10000.0), "weights that the paper's network is tried with; one: none is tried", at_least=0
    )
    sweep_steps: int = setting(2000, "steps of the paper's network with each of --lambdas", at_least=1)
    long_run: str | None = setting(
        None, "folder of a longer run of the paper's network, whose curve is shown; default: the one that is shipped"
    )
    anchors: int = setting(96, "anchors of the anchored generator; 0: none", at_least=0)
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
    job: TrainingJob = group(
        TrainingJob,
        defaults=AS_PLAYED,
        without=("off_resonance_hz", *OF_OTHER_KINDS),
        choices=FISP_ALONE,
    )

    def __post_init__(self):
        if (b1 := self.job.simulation.b1) is not None and values_in_ranges(b1, "b1").size > 1:
            raise ValueError(f"b1 must be one value: the brain of the paper has one; got {b1}")
        kspace = self.acquisition == "kspace"
        for name, value in {"size": 128 if kspace else 256, "snr": (50.0,) if kspace else (20.0, 1.0)}.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)

    @property
    def paper(self) -> TrainingJob:
        """What the paper's network learns, and how."""
        of_paper = {"preset": "paper", "recipe": recipe("paper", steps=self.paper_steps), "every": _PAPER_EVERY}
        return self.job.changed(**of_paper)


class Results(NamedTuple):
    """What came out.

    Attributes:
      sweep: `sweep_rows` of the paper's network, or None for a single lambda.
      runs: the training runs, by the names of their folders.
      scan: the brain.
      acquired: how it was scanned, in words.
      paper: evaluations of the paper's network: on its grid; trained on 297 atoms, on those and on 106160.
      better: evaluations of better generators and of interpolation, on the grid, and on 106160 atoms from 297.
      cost: of generation by the paper's network and by the better one.
      long_run: a longer run of the paper's network, or None.
    """

    sweep: list[dict] | None
    runs: dict[str, Run]
    scan: Scan
    acquired: str
    paper: dict[str, Evaluation]
    better: dict[str, Evaluation]
    cost: dict[str, GenerationCost]
    long_run: LongRun | None


@command(Config)
def main(config: Config, given: frozenset[str]):
    """Runs everything, and writes what came out."""
    return_freed_memory()
    with Workdir(config.workdir, config, given, extendable=frozenset({"paper_steps"})) as workdir:
        results = reproduce(workdir.path, workdir.config)
        content = {"sweep": results.sweep, "records": {name: run.rows for name, run in results.runs.items()}}
        for part in ("paper", "better"):
            evaluations = getattr(results, part)
            content[part] = {name: numbers(evaluation, results.scan) for name, evaluation in evaluations.items()}
        content["generation"] = {name: cost._asdict() for name, cost in results.cost.items()}
        write_json(workdir.path / "results.json", content)
        write_reproduction_report(workdir.path / "report.html", workdir.config, results)
        print(f"report: {workdir.path / 'report.html'}")


def reproduce(folder, config: Config) -> Results:
    """The whole chain, in a folder."""
    simulation, seed = config.job.simulation, config.job.training.seed
    sequence = simulation.sequence()
    require_fisp(sequence, "schedule: the reproduction")
    scanner, trajectory, acquired = _scanner(sequence, config)
    samples = 0 if trajectory is None else trajectory.shape[1]
    scanner.require_memory(sequence.n_frames, samples, whole=samples > 0)
    swept, jobs = _jobs(folder, config)
    if config.long_run is not None:
        check_long_run(config.long_run, config.paper)
    for name, job in jobs.items():
        if (folder / name / "config.json").exists():
            check_settings_of(folder / name, job)
    of_anchors = {}
    tissue = simulation.tissue()
    if config.anchors and simulation.b1 is None and np.ptp(tissue.t1) > 0 and np.ptp(tissue.t2) > 0:
        of_anchors[folder / "anchored"] = _of_anchors(config, sequence)
    print(f"slice: {slice_words(simulation.slice_profile())}")
    print(f"training {len(jobs) + len(swept) + len(of_anchors)} generators", flush=True)
    dictionaries = {each: simulate_accurately(each) for each in {job.simulation for job in jobs.values()}}
    train_side_by_side({folder / name: job for name, job in jobs.items()} | swept, of_anchors, dictionaries)
    runs = {name: read_run(folder / name, dictionaries[job.simulation]) for name, job in jobs.items()}
    anchored = dict(_anchored(made, sequence) for made in of_anchors)

    print("timing generation", flush=True)
    own = runs["paper"].dictionary
    cost = {
        name: generation_cost(runs[name].generator(), own.tissue, profiles, rounds=config.rounds)
        for name, profiles in (
            ("paper", {}),
            ("generator", {slice_words(each): each for each in (None, own.slice_profile)}),
        )
    }

    print("scanning the brain, matching it, and comparing the maps", flush=True)
    forget_compiled_programs()
    scan = scan_brain(own, scanner, snrs=config.snr, seed=seed, trajectory=trajectory, progress=True)
    labels = {_label(runs[name]): runs[name] for name in ("generator", "other")}
    shown = final_name(_label(runs["generator"]), runs["generator"])
    others = networks(labels) | anchored | interpolations(runs["generator"])
    methods = networks({PAPER: runs["paper"]}) | others
    own_grid = evaluate_methods(methods, reference_for(runs["paper"], scan), scan, shown=(PAPER, shown), mapped=False)
    of_297 = networks({PAPER: runs["paper_297"]})
    coarse = evaluate_methods(of_297, reference_for(runs["paper_297"], scan), scan, shown=(PAPER,))

    forget_compiled_programs()
    store = folder / "fine.zarr"  # on disk: it is read block by block
    simulated = simulate_accurately(simulation.on_grid("fine"), store)
    reference = reference_for(runs["paper_297"], scan, simulated, snrs=config.snr[:1])  # each match takes a while
    learned = runs["generator_297"]
    others_297 = networks({_label(learned): learned}) | interpolations(learned)
    fine = evaluate_methods(of_297 | others_297, reference, scan, shown=(PAPER, shown), mapped=False)
    paper = {"own": own_grid.of({PAPER}, PAPER), "coarse": coarse, "fine": fine.of({PAPER}, PAPER)}
    better = {"own": own_grid.of(others, shown), "fine": fine.of(others_297, shown)}
    remove_folder(store)
    forget_compiled_programs()
    for evaluation in (*paper.values(), *better.values()):
        print_evaluation(evaluation)
    sweep = sweep_rows(swept) if swept else None
    return Results(sweep, runs, scan, acquired, paper, better, cost, read_long_run(config.long_run, config.paper))


def _jobs(folder, config):
    """The sweep of lambda, folder -> job, and all other training runs, name -> job."""
    paper, job = config.paper, config.job
    swept = {}
    if len(config.lambdas) > 1:
        swept = sweep_jobs(folder / "sweep", paper.changed(steps=config.sweep_steps), config.lambdas)

    def on_297(each):  # the 106160 atoms are the test of the 297
        every_atom = each.changed(split=(1.0, 0.0, 0.0), split_kind="random")
        return dataclasses.replace(every_atom, simulation=each.simulation.on_grid("coarse"))

    jobs = {"paper": paper, "paper_297": on_297(paper)}
    jobs |= {"generator": job, "generator_297": on_297(job), "other": _with_or_without_adversary(job)}
    return swept, jobs


def _with_or_without_adversary(job):
    """A job with what the recipe ``gan`` changes, or the same without its discriminator if it has one."""
    if job.training.recipe.adversarial_weight:
        return job.changed(adversarial_weight=0.0)
    return job.changed(**changes_of("gan"))


def _label(run):
    return "regression with an adversary" if run.recipe.adversarial_weight else "regression"


def _of_anchors(config, sequence):
    """Settings of the anchored generator of the grid, for sequences as long as this one."""
    simulation = dataclasses.replace(
        config.job.simulation, schedule=None, echo_time_ms=None, inversion_time_ms=None, frames=sequence.n_frames
    )
    tissue = simulation.tissue()
    t1, t2 = (tuple(1e3 * float(end(times)) for end in (np.min, np.max)) for times in (tissue.t1, tissue.t2))
    learned = {"sequences": _ANCHOR_SEQUENCES, "candidates": max(_ANCHOR_CANDIDATES, config.anchors)}
    return AnchoredConfig(
        simulation=simulation, kind="table", anchors=config.anchors, t1_range_ms=t1, t2_range_ms=t2, **learned
    )


def _anchored(folder, sequence):
    """Name and method of the anchored generator in a folder, whose weights were learned from other sequences."""
    start = time.process_time()
    prepared = prepare(load_anchored(folder / "generator.npz"), sequence)
    seconds = read_json(folder / "made.json")["core_seconds"] + time.process_time() - start
    return f"{len(prepared.signals)} anchors", Method(
        lambda simulated: prepared.stream(simulated.tissue), seconds, True
    )


def _scanner(sequence, config):
    """The scanner, where it samples k-space or None, and how it scans, in words."""
    sampling = SpiralConfig(config.size, rotation=config.rotation)
    trajectory, acquired = None, "phantom, perfect images, white noise"
    if config.acquisition == "kspace":
        turned = "7.5 degrees" if config.rotation == "uniform" else "the golden angle"
        acquired = f"phantom, R = 48, {config.coils} coils, spirals turned by {turned}, each frame gridded"
        trajectory = sampling.trajectory(sequence.n_frames)
    return sampling.scanner(coils=config.coils), trajectory, acquired


if __name__ == "__main__":
    main.run()
