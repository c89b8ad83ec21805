"""What `reproduce` makes in its folder: training runs, generators with anchors, and cases in which they may pay."""

import dataclasses
import pathlib
import time
from collections.abc import Collection, Mapping
from typing import NamedTuple

import jax
import numpy as np

from experiments.evaluation.break_even import Case, anchors_of, network_of
from experiments.evaluation.generator import RADIAL, Method, final_name, interpolations
from ganmrf.anchors.generator_file import load_anchored
from ganmrf.anchors.prepared import PreparedSequence, prepare
from ganmrf.dictionary.grids import GRIDS_ON_RESONANCE, grid_axes
from ganmrf.files import read_json
from ganmrf.gan.generate import trained_box
from ganmrf.gan.recipes import changes_of
from ganmrf.physics.sequences.blocks import PulseSequence
from ganmrf.runs.anchoring import AnchoredConfig
from ganmrf.runs.boxes import BoxConfig
from ganmrf.runs.simulation_config import SimulationConfig
from ganmrf.runs.training import Run
from ganmrf.runs.training_config import TrainingJob

PAPER = "paper's network"
_ANCHOR_SEQUENCES, _ANCHOR_CANDIDATES = 4, 512  # that the weights of anchors are learned from: some core-seconds
_B1, _B1_RANGE = "0.7:1.3:0.075", (0.7, 1.3)  # nine values, of a transmit field as a head has it at 3 T
_WITH_B1 = 8 / 3  # times the anchors of T1 and T2 alone, as `train_anchored` has them by default


class Anchored(NamedTuple):
    """A generator with anchors, prepared for the sequence, and core-seconds of making and preparing it."""

    prepared: PreparedSequence
    core_seconds: float

    @property
    def name(self) -> str:
        """What tables call the generator."""
        return f"{len(self.prepared.signals)} anchors"

    @property
    def method(self) -> Method:
        """As a way to generate dictionaries."""
        return Method(lambda simulated: self.prepared.stream(simulated.tissue), self.core_seconds, True)


def label(run: Run) -> str:
    """What tables call the generator of a run, before a refit."""
    return "regression with an adversary" if run.recipe.adversarial_weight else "regression"


def best_name(run: Run) -> str:
    """What tables call the generator of a run at the end of its recipe."""
    return final_name(label(run), run)


def training_jobs(job: TrainingJob, paper: TrainingJob, *, full: bool) -> dict[str, TrainingJob]:
    """All training runs but those of the sweep, by the names of their folders.

    ``full`` are two more: in a uniform slice; and with a B1 axis, from as many random tissues as the grid has atoms.
    """
    jobs = {"paper": paper, "paper_297": _on_297(paper)}
    jobs |= {"generator": job, "generator_297": _on_297(job), "other": _with_or_without_adversary(job)}
    if full:
        random = dataclasses.replace(_at_b1(job.simulation), random_atoms=job.simulation.tissue().size)
        further = {"generator_uniform": job.simulation.with_slice("none"), "generator_b1": random}
        jobs |= {name: dataclasses.replace(job, simulation=simulation) for name, simulation in further.items()}
    return jobs


def anchored_jobs(
    simulation: SimulationConfig, sequence: PulseSequence, n_anchors: int, *, full: bool
) -> dict[str, AnchoredConfig]:
    """Generators with anchors by the names of their folders, for sequences as long as this one; none of 0 anchors.

    A table serves the grid of the simulation alone. ``full`` are radial functions over a box with all grids of T1 and
    T2, in the slice and in a uniform one, and a table of the grid at nine B1.
    """
    tissue = simulation.tissue()
    if not n_anchors or simulation.b1 is not None or np.ptp(tissue.t1) == 0 or np.ptp(tissue.t2) == 0:
        return {}
    of_any = {"schedule": None, "echo_time_ms": None, "inversion_time_ms": None, "frames": sequence.n_frames}
    simulation = dataclasses.replace(simulation, **of_any)
    times = [(np.asarray(tissue.t1), np.asarray(tissue.t2))]
    own = BoxConfig(*_ranges(times))
    if not full:
        return {"anchored": _anchored_job(simulation, own, n_anchors, "table")}
    whole = BoxConfig(*_ranges(times + [tuple(grid_axes(grid).values()) for grid in GRIDS_ON_RESONANCE]))
    with_b1 = dataclasses.replace(own, b1_range=_B1_RANGE)
    return {
        "anchored": _anchored_job(simulation, whole, n_anchors, "radial"),
        "anchored_uniform": _anchored_job(simulation.with_slice("none"), whole, n_anchors, "radial"),
        "anchored_b1": _anchored_job(_at_b1(simulation), with_b1, round(_WITH_B1 * n_anchors), "table"),
    }


def anchored_in(folder: pathlib.Path, sequence: PulseSequence) -> Anchored:
    """The generator in a folder of `make_in_folder`, whatever its error: the report shows it."""
    start = time.process_time()
    prepared = prepare(load_anchored(folder / "generator.npz"), sequence, allow_error=np.inf)
    made = read_json(folder / "made.json")["core_seconds"]
    return Anchored(prepared, made + time.process_time() - start)


def break_even_cases(
    folder: pathlib.Path, runs: Mapping[str, Run], simulation: SimulationConfig, anchored: Collection[str]
) -> dict[str, Case]:
    """Dictionaries that generators of ``full`` may pay for, by what they are of; ``anchored`` are folders of some."""
    names = "generator_uniform", "generator", "generator_b1", "generator_297"
    uniform, own, b1, coarse = (runs[name] for name in names)
    sequence, n_learned = own.dictionary.sequence, coarse.dictionary.tissue.size
    with_b1, fine = _at_b1(simulation).tissue(), simulation.on_grid("fine").tissue()

    def case(run, tissue, anchors, judged=None, paper=None):
        """A case of a network's run; without ``judged``, errors are those of atoms that it learned in their midst."""
        atoms, learned = (jax.tree.map(np.asarray, each.ravel()) for each in (tissue, run.dictionary.tissue))
        if judged is None:
            judged = np.flatnonzero(~trained_box(run.dictionary).outside(tissue))
        of_one = {} if paper is None else {PAPER: network_of(paper)}
        of_one |= {best_name(run): network_of(run), **interpolations(run, (RADIAL,))}
        of_any = {"anchors": anchors_of(folder / anchors, sequence)} if anchors in anchored else {}
        learned = None if tissue is run.dictionary.tissue else learned
        return Case(sequence, atoms, run.dictionary.slice_profile, learned, judged, of_one, of_any)

    def on_own_grid(run, anchors, paper=None):
        return case(run, run.dictionary.tissue, anchors, run.data.rows.get("test"), paper)

    n_atoms = own.dictionary.tissue.size
    return {
        f"uniform slice, {n_atoms} atoms": on_own_grid(uniform, "anchored_uniform"),
        f"full slice, {n_atoms} atoms": on_own_grid(own, "anchored", runs["paper"]),
        f"full slice, nine B1, {with_b1.size} atoms": case(b1, with_b1, "anchored_b1"),
        f"full slice, {fine.size} atoms, from {n_learned}": case(coarse, fine, "anchored", paper=runs["paper_297"]),
    }


def _on_297(job):
    """A job on the coarse grid, all of whose atoms are learned from: the 106160 atoms are the test of the 297."""
    every_atom = job.changed(split=(1.0, 0.0, 0.0), split_kind="random")
    return dataclasses.replace(every_atom, simulation=job.simulation.on_grid("coarse"))


def _with_or_without_adversary(job):
    """A job with what the recipe ``gan`` changes, or the same without its discriminator if it has one."""
    if job.training.recipe.adversarial_weight:
        return job.changed(adversarial_weight=0.0)
    return job.changed(**changes_of("gan"))


def _ranges(times):
    """Least and largest T1, and T2, in ms, of some axes of both, s."""
    return (
        tuple(1e3 * float(end(np.concatenate(axis))) for end in (np.min, np.max)) for axis in zip(*times, strict=True)
    )


def _anchored_job(simulation, ranges, n_anchors, kind):
    candidates = max(_ANCHOR_CANDIDATES, 2 * n_anchors if ranges.b1_range else n_anchors)
    learned = {"sequences": _ANCHOR_SEQUENCES, "candidates": candidates}
    return AnchoredConfig(simulation=simulation, kind=kind, anchors=n_anchors, ranges=ranges, **learned)


def _at_b1(simulation):
    return dataclasses.replace(simulation, b1=_B1, random_atoms=None)
