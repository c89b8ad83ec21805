"""Reproduces the GAN-MRF paper with the paper's network, then shows what does better, and writes one report.

Example::

    ganmrf reproduce --workdir=runs/reproduce
    ganmrf reproduce --workdir=runs/reproduce --paper_steps=200000

``report.html`` has two parts. The first is the paper's network: its Figs. 2 and 4 to 8 and its numbers beside ours.
That network is trained as ``--preset=paper`` says, whatever the flags of the recipe, which are for the second part:
better generators beside interpolation. ``results.json`` has the numbers. Every training run has a folder
of its own below ``--workdir``; called again, it goes on where it was cut off, and with more ``--paper_steps`` the
paper's network goes on from where it was. ``--acquisition=kspace`` scans the brain as the paper was scanned, with one
of 48 spirals a frame and 20 coils. ``--physics=full`` matches the brain with the better generators at all sizes of the
dictionary, too, and measures after how many dictionaries each generator pays: in a uniform slice, in the full one, with
B1 as a third axis, and where 106160 atoms are wanted of a generator that learned from 297.
"""

from typing import NamedTuple

from experiments.benchmarks.timing import GenerationCost, generation_cost
from experiments.evaluation.break_even import CaseCosts, case_costs
from experiments.evaluation.generator import (
    Evaluation,
    Scan,
    evaluate_methods,
    interpolations,
    networks,
    reference_for,
    scan_brain,
)
from experiments.evaluation.long_run import LongRun, check_long_run, check_settings_of, read_long_run
from experiments.evaluation.reproduction_runs import (
    PAPER,
    Anchored,
    anchored_in,
    anchored_jobs,
    best_name,
    break_even_cases,
    label,
    training_jobs,
)
from experiments.flags.command_line import command
from experiments.reports.break_even import break_even_table
from experiments.reports.generator import numbers, print_evaluation
from experiments.reports.reproduction import write_reproduction_report
from experiments.sweep_lambda import sweep_jobs, sweep_rows
from ganmrf.dictionary.grids import values_in_ranges
from ganmrf.files import remove_folder, write_json
from ganmrf.gan.recipes import recipe
from ganmrf.imaging.phantom import COARSEST
from ganmrf.parallel import forget_compiled_programs, return_freed_memory
from ganmrf.physics.sequences.fisp import require_fisp
from ganmrf.physics.slice_profile import FullSlice
from ganmrf.progress import watched
from ganmrf.runs.side_by_side import train_side_by_side
from ganmrf.runs.simulation_config import FISP_ALONE, OF_OTHER_KINDS
from ganmrf.runs.slices import AS_PLAYED, slice_words
from ganmrf.runs.spiral_config import SpiralConfig
from ganmrf.runs.training import Run, read_run, simulate_accurately
from ganmrf.runs.training_config import TrainingJob
from ganmrf.runs.workdir import Workdir
from ganmrf.settings import configuration, group, setting

_OF_KSPACE = ("acquisition=kspace",)
_PAPER_EVERY = 1000  # steps between two records of the paper's network, whatever their number, so that it can go on


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
    physics: str = setting(
        "plain",
        "plain: dictionaries of T1 and T2 in the slice of --slice_model, full by default; full: in the full slice, "
        "better generators beside the paper's network in every figure, and after how many dictionaries each pays: in a "
        "uniform slice, in the full one, with B1 as a third axis, and learned from 297 atoms",
        choices=("plain", "full"),
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
        **FISP_ALONE,
    )

    def __post_init__(self):
        if (b1 := self.job.simulation.b1) is not None and values_in_ranges(b1, "b1").size > 1:
            raise ValueError(f"b1 must be one value: the brain of the paper has one; got {b1}")
        kspace = self.acquisition == "kspace"
        for name, value in {"size": 128 if kspace else 256, "snr": (50.0,) if kspace else (20.0, 1.0)}.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        if self.full and self.job.simulation.b1 is not None:
            raise ValueError(f"b1 goes with --physics=plain: full has B1 of its own; got {self.job.simulation.b1}")

    @property
    def full(self) -> bool:
        """Whether the physics is the full one."""
        return self.physics == "full"

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
      anchored: generators with anchors of the sequence, in the slice, by their names.
      scan: the brain.
      acquired: how it was scanned, in words.
      paper: evaluations of the paper's network: on its grid; trained on 297 atoms, on those and on 106160.
      better: evaluations of better generators and of interpolation, on the grid, and on 106160 atoms from 297; with the
        full physics those of 297 atoms, too.
      cost: of generation by the paper's network and by the better one.
      break_even: of the full physics, by what dictionaries are of; else empty.
      long_run: a longer run of the paper's network, or None.
    """

    sweep: list[dict] | None
    runs: dict[str, Run]
    anchored: dict[str, Anchored]
    scan: Scan
    acquired: str
    paper: dict[str, Evaluation]
    better: dict[str, Evaluation]
    cost: dict[str, GenerationCost]
    break_even: dict[str, CaseCosts]
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
        if results.break_even:
            content["break_even"] = {name: each.plain() for name, each in results.break_even.items()}
        write_json(workdir.path / "results.json", content)
        write_reproduction_report(workdir.path / "report.html", workdir.config, results)
        print(f"report: {workdir.path / 'report.html'}")


def reproduce(folder, config: Config) -> Results:
    """The whole chain, in a folder."""
    simulation = config.job.simulation
    sequence, profile = simulation.sequence(), simulation.slice_profile()
    require_fisp(sequence, "schedule: the reproduction")
    if config.full and not isinstance(profile, FullSlice):
        raise ValueError(f"physics=full goes with --slice_model=full and a pulse; got {slice_words(profile)}")
    scanner, trajectory, acquired = _scanner(sequence, config)
    samples = 0 if trajectory is None else trajectory.shape[1]
    scanner.require_memory(sequence.n_frames, samples, whole=samples > 0)
    swept = {}
    if len(config.lambdas) > 1:
        swept = sweep_jobs(folder / "sweep", config.paper.changed(steps=config.sweep_steps), config.lambdas)
    jobs = training_jobs(config.job, config.paper, full=config.full)
    if config.long_run is not None:
        check_long_run(config.long_run, config.paper)
    for name, job in jobs.items():
        if (folder / name / "config.json").exists():
            check_settings_of(folder / name, job)
    of_anchors = anchored_jobs(simulation, sequence, config.anchors, full=config.full)
    runs = _trained(folder, profile, swept, jobs, of_anchors)
    anchored = {}
    if "anchored" in of_anchors:
        in_slice = anchored_in(folder / "anchored", sequence)
        anchored[in_slice.name] = in_slice

    print("timing generation", flush=True)
    cost, break_even = _generation_costs(runs, config.rounds), {}
    if config.full:
        cases = break_even_cases(folder, runs, simulation, of_anchors)
        break_even = {name: case_costs(case, config.rounds) for name, case in watched(cases.items(), "timing")}

    print("scanning the brain, matching it, and comparing the maps", flush=True)
    forget_compiled_programs()
    own, seed = runs["paper"].dictionary, config.job.training.seed
    scan = scan_brain(own, scanner, snrs=config.snr, seed=seed, trajectory=trajectory, progress=True)
    paper, better = _evaluated(folder, config, runs, anchored, scan)
    for evaluation in (*paper.values(), *better.values()):
        print_evaluation(evaluation)
    for name, costs in break_even.items():
        print(break_even_table(name, costs).text())
    sweep, long_run = sweep_rows(swept) if swept else None, read_long_run(config.long_run, config.paper)
    return Results(sweep, runs, anchored, scan, acquired, paper, better, cost, break_even, long_run)


def _trained(folder, profile, swept, jobs, of_anchors):
    """Makes all generators, and returns the runs of ``jobs`` by name."""
    print(f"slice: {slice_words(profile)}")
    print(f"training {len(jobs) + len(swept) + len(of_anchors)} generators", flush=True)
    dictionaries = {each: simulate_accurately(each) for each in {job.simulation for job in jobs.values()}}
    in_folders, anchored = ({folder / name: each for name, each in made.items()} for made in (jobs, of_anchors))
    train_side_by_side(in_folders | swept, anchored, dictionaries)
    return {name: read_run(folder / name, dictionaries[job.simulation]) for name, job in jobs.items()}


def _generation_costs(runs, rounds):
    own = runs["paper"].dictionary
    slices = {"paper": (), "generator": (None, own.slice_profile)}
    return {
        name: generation_cost(
            runs[name].generator(), own.tissue, {slice_words(each): each for each in profiles}, rounds=rounds
        )
        for name, profiles in slices.items()
    }


def _evaluated(folder, config, runs, anchored, scan):
    """Evaluations of the paper's network and of better generators, as `Results` has them."""
    of_anchors = {name: each.method for name, each in anchored.items()}
    everywhere = of_anchors if config.full else {}  # radial functions of a box, and not the table of one grid
    best, shown = best_name(runs["generator"]), (PAPER, best_name(runs["generator"]), *everywhere)
    others = networks({label(runs[name]): runs[name] for name in ("generator", "other")})
    others |= of_anchors | interpolations(runs["generator"])
    methods, reference = networks({PAPER: runs["paper"]}) | others, reference_for(runs["paper"], scan)
    own = evaluate_methods(methods, reference, scan, shown=shown, mapped=False)

    of_297, learned = networks({PAPER: runs["paper_297"]}), runs["generator_297"]
    others_297 = networks({label(learned): learned}) | everywhere | interpolations(learned)
    methods, reference = of_297 | (others_297 if config.full else {}), reference_for(runs["paper_297"], scan)
    coarse = evaluate_methods(methods, reference, scan, shown=shown, mapped=False)

    forget_compiled_programs()
    store = folder / "fine.zarr"  # on disk: it is read block by block
    simulated = simulate_accurately(config.job.simulation.on_grid("fine"), store)
    reference = reference_for(runs["paper_297"], scan, simulated, snrs=config.snr[:1])  # each match takes a while
    fine = evaluate_methods(of_297 | others_297, reference, scan, shown=shown, mapped=False)
    remove_folder(store)
    forget_compiled_programs()
    paper = {name: each.of({PAPER}, PAPER) for name, each in {"own": own, "coarse": coarse, "fine": fine}.items()}
    better = {"own": own.of(others, best), "fine": fine.of(others_297, best)}
    return paper, better | ({"coarse": coarse.of(others_297, best)} if config.full else {})


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
