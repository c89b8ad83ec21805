"""After how many dictionaries a generator pays: core-seconds of making it and of each dictionary, beside simulation."""

import math
import time
from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np

from experiments.benchmarks.timing import medians
from experiments.evaluation.generator import Method
from ganmrf.anchors.generator_file import load_anchored
from ganmrf.anchors.prepared import prepare
from ganmrf.dictionary.build import Dictionary, build_dictionary
from ganmrf.files import read_json
from ganmrf.gan.generate import generate
from ganmrf.metrics import fingerprint_errors
from ganmrf.physics.sequences.blocks import PulseSequence
from ganmrf.physics.slice_profile import SliceModel
from ganmrf.physics.tissue import Tissue
from ganmrf.runs.training import Run

_JUDGED = 1024  # atoms whose errors are computed, evenly spread over those that may be
_ACCURACY = 1e-5  # of the simulation that errors are told against: below those of the generators
_BLOCK = 8192  # atoms whose fingerprints are in memory at a time
_SIMULATED, _LEARNED = "simulated", "learned from"


class Case(NamedTuple):
    """A dictionary that is wanted many times.

    Attributes:
      sequence: its sequence.
      tissue: its atoms, (atoms,).
      slice_profile: its slice, None for a uniform one.
      learned: tissue of the dictionary that the generators of one sequence learn from, which is simulated first;
        None: it is that of ``tissue``.
      judged: indices of atoms whose errors tell how good a generated dictionary is.
      of_one_sequence: generators that must be made anew for another sequence, by name.
      of_any_sequence: generators of all sequences, by name; what they learn from is in their ``core_seconds``.
    """

    sequence: PulseSequence
    tissue: Tissue
    slice_profile: SliceModel | None
    learned: Tissue | None
    judged: np.ndarray
    of_one_sequence: Mapping[str, Method]
    of_any_sequence: Mapping[str, Method]


class GeneratorCost(NamedTuple):
    """What a generator costs, and how good it is.

    Attributes:
      making: core-seconds before its first dictionary, the simulation of what it learns from among them.
      each: core-seconds of a dictionary, from the sequence to the fingerprints.
      any_sequence: whether it serves every sequence; else it serves one.
      error: mean relative error of its fingerprints.
    """

    making: float
    each: float
    any_sequence: bool
    error: float

    def pays_after(self, simulate: float) -> int | None:
        """The least number of dictionaries, of one sequence if it serves one, that it pays after; None for none.

        The argument is what simulating a dictionary takes, core-seconds.
        """
        saved = simulate - self.each
        return max(math.ceil(self.making / saved), 1) if saved > 0 else None

    def pays_for_new_sequences(self, simulate: float) -> int | None:
        """The same where every dictionary is of another sequence."""
        if self.any_sequence:
            return self.pays_after(simulate)
        return 1 if self.making + self.each < simulate else None


class CaseCosts(NamedTuple):
    """Number of atoms of a case, core-seconds of simulating its dictionary, and costs of its generators by name."""

    atoms: int
    simulate: float
    generators: dict[str, GeneratorCost]

    def plain(self) -> dict:
        """As numbers for a JSON file."""
        return {
            "atoms": self.atoms,
            "simulate_core_seconds": self.simulate,
            "generators": {
                name: cost._asdict()
                | {
                    "pays_after": cost.pays_after(self.simulate),
                    "pays_after_if_all_sequences_differ": cost.pays_for_new_sequences(self.simulate),
                }
                for name, cost in self.generators.items()
            },
        }


def case_costs(case: Case, rounds: int) -> CaseCosts:
    """Times the generators of a case beside the simulator at its default accuracy, and computes their errors."""
    blank = _blank(case)
    methods = {**case.of_one_sequence, **case.of_any_sequence}

    def simulate(tissue):
        return lambda: build_dictionary(case.sequence, tissue, slice_profile=case.slice_profile)

    jobs = {_SIMULATED: simulate(case.tissue)}
    if case.learned is not None and case.of_one_sequence:
        jobs[_LEARNED] = simulate(case.learned)
    jobs |= {name: lambda method=method: _read(method.generate(blank)) for name, method in methods.items()}
    seconds = medians(jobs, rounds, time.process_time)
    learned = seconds.get(_LEARNED, seconds[_SIMULATED])
    errors = _errors(case, methods, blank)
    costs = {
        name: GeneratorCost(
            making=method.core_seconds + (learned if name in case.of_one_sequence else 0.0),
            each=seconds[name],
            any_sequence=name in case.of_any_sequence,
            error=errors[name],
        )
        for name, method in methods.items()
    }
    return CaseCosts(case.tissue.size, seconds[_SIMULATED], costs)


def network_of(run: Run) -> Method:
    """The generator of a run, which emits whole dictionaries, in memory."""
    generator = run.generator()
    return Method(
        lambda simulated: generate(generator, simulated.tissue, allow_extrapolation=True),
        run.rows[-1]["core_seconds"],
        has_norms=True,
    )


def anchors_of(folder, sequence: PulseSequence) -> Method:
    """The anchored generator in a folder of `make_in_folder`, whose anchors are simulated for every dictionary."""
    generator = load_anchored(folder / "generator.npz")
    return Method(
        lambda simulated: prepare(generator, sequence, allow_error=np.inf).generate(simulated.tissue),
        read_json(folder / "made.json")["core_seconds"],
        has_norms=True,
    )


def _blank(case):
    """The dictionary of a case, without its fingerprints and norms: generators read its tissue and shape alone."""
    shape = case.tissue.size, case.sequence.n_frames
    nothing = np.broadcast_to(np.float32(0), shape), np.broadcast_to(np.float32(0), shape[:1])
    return Dictionary(case.tissue, *nothing, case.sequence, case.slice_profile)


def _read(dictionary):
    """Makes all rows, of those on demand a block in memory at a time."""
    for start in range(0, len(dictionary.fingerprints), _BLOCK):
        np.asarray(dictionary.fingerprints[start : start + _BLOCK])


def _errors(case, methods, blank):
    """Name of a method -> mean relative error of the fingerprints at some of the atoms that are judged."""
    rows = case.judged[:: max(len(case.judged) // _JUDGED, 1)]
    atoms = jax.tree.map(np.asarray, case.tissue).rows(rows)
    truth = build_dictionary(case.sequence, atoms, slice_profile=case.slice_profile, accuracy=_ACCURACY).fingerprints
    return {
        name: float(fingerprint_errors(np.asarray(method.generate(blank).fingerprints[rows]), truth).mean())
        for name, method in methods.items()
    }
