"""Errors, gradients and costs of generators for any sequence, on sequences that they were not trained with."""

import importlib.resources
import pathlib
import statistics
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.timing import timed
from experiments.evaluation.generator import MapErrors, map_errors, scan_brain
from ganmrf.anchors.generator import AnchoredGenerator, Weights
from ganmrf.anchors.generator_file import load_anchored
from ganmrf.anchors.joint_features import sample_sequences
from ganmrf.anchors.prepared import anchored_fingerprints, prepare
from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.grids import at_each_b1
from ganmrf.files import read_json
from ganmrf.io.schedule import read_schedule
from ganmrf.metrics import fingerprint_errors
from ganmrf.physics.sequences.fisp import Sequence
from ganmrf.physics.sequences.published import ECHO_TIME_S, mrf_fisp
from ganmrf.physics.simulate import simulate_reverse
from ganmrf.physics.tissue import Tissue
from ganmrf.scanner import Scanner

PUBLISHED = ("published, 1000 frames", "published, 500 frames")
BEYOND = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8)  # distances outside the box, relative to the bound that is passed

_ACCURACY = 1e-5  # of reference simulations: below the errors of every generator
_STREAM = 1000  # folded into the seed of the sequences: a stream that `train_anchored` does not use
_N_B1 = 9  # values of B1 for each T1 and T2
_EXTRAPOLATED = 256  # tissues at each distance outside the box


class Subject(NamedTuple):
    """A generator to evaluate, named as the folder with its file, core-seconds of making it, and atoms to generate.

    The tissue of the atoms, (atoms,), has nine values of B1 where B1 is an axis.
    """

    name: str
    generator: AnchoredGenerator
    core_seconds: float
    tissue: Tissue


class Cost(NamedTuple):
    """Cost of one dictionary, (s, core-seconds) each: medians over interleaved rounds."""

    simulate: tuple[float, float]
    generate: tuple[float, float]
    compressed: tuple[float, float]


class GradientErrors(NamedTuple):
    """Relative L2 errors of a loss's derivatives by flip angles and times, and seconds of value and gradient."""

    flip_angle: float
    repetition_time: float
    atoms: int
    seconds: float
    simulator_seconds: float


def read_subject(path, tissue: Tissue) -> Subject:
    """Reads a generator, and ``made.json``, the record of how it was made, beside its file.

    The ``tissue`` is of the atoms; a table, which has weights for its own tissues alone, keeps its own.

    Raises:
      ValueError: no record, or tissue outside the generator's box.
    """
    path = pathlib.Path(path)
    generator = load_anchored(path)
    core_seconds = read_json(path.with_name("made.json"))["core_seconds"]
    if not generator.model.any_tissue:
        tissue = generator.model.tissue
    elif "b1" in generator.box.names and tissue.b1.ndim == 0:
        axis = generator.box.names.index("b1")
        tissue = at_each_b1(tissue, np.linspace(generator.box.low[axis], generator.box.high[axis], _N_B1))
    tissue = jax.tree.map(np.asarray, tissue.ravel())
    generator.require_inside(tissue)
    return Subject(path.parent.name, generator, core_seconds, tissue)


def unseen_sequences(seed: int, number: int, n_frames: int) -> dict[str, list[Sequence]]:
    """Name of a group -> sequences: the two published ones, random ones of all families, and random heart rhythms."""
    drawn = sample_sequences(jax.random.fold_in(jax.random.key(seed), _STREAM), number, n_frames)
    cardiac = [sequence for sequence in drawn if np.ptp(sequence.repetition_time) > 0.1]
    others = [sequence for sequence in drawn if np.ptp(sequence.repetition_time) <= 0.1]
    schedule = importlib.resources.files("ganmrf") / "data" / "mrf_fisp_cao2019.csv"
    short = read_schedule(schedule, echo_time=ECHO_TIME_S, inversion_time=20e-3)
    return {PUBLISHED[0]: [mrf_fisp()], PUBLISHED[1]: [short], "random": others, "heart rhythms": cardiac}


def errors_by_size(subject: Subject, sequences: list[Sequence], n_tissues: int, seed: int) -> dict[int, np.ndarray]:
    """Number of anchors -> relative errors of unit fingerprints, (sequences * tissues,).

    The tissues are random: of the box, or of a table's atoms.
    """
    generator, rng = subject.generator, np.random.default_rng(seed)
    if not generator.model.any_tissue:
        rows = rng.integers(subject.tissue.size, size=n_tissues)
        tissue = subject.tissue.rows(rows)
        weights = {size: generator.weights(subject.tissue, size).rows(rows) for size in generator.sizes}
    else:
        tissue = generator.box.spread(rng.random((n_tissues, len(generator.box.names))))
        weights = {size: generator.weights(tissue, size) for size in generator.sizes}
    errors = {size: [] for size in generator.sizes}
    for sequence in sequences:
        truth = build_dictionary(sequence, tissue, accuracy=_ACCURACY, slice_profile=generator.slice_profile)
        for size, of_size in weights.items():
            made = prepare(generator, sequence, size).generate(of_size)
            errors[size].append(fingerprint_errors(made.fingerprints, truth.fingerprints))
    return {size: np.concatenate(each) for size, each in errors.items()}


def extrapolation(generator: AnchoredGenerator, sequences: list[Sequence], seed: int) -> dict[str, list[float]]:
    """Bound of an axis, such as ``t1 above`` -> mean error at each distance `BEYOND` it, other axes inside the box."""
    box, rng, found = generator.box, np.random.default_rng(seed), {}
    prepared = [prepare(generator, sequence) for sequence in sequences]
    for axis, name in enumerate(box.names):
        for side in ("below", "above"):
            errors = found[f"{name} {side}"] = []
            for distance in BEYOND:
                value = box.low[axis] / (1 + distance) if side == "below" else box.high[axis] * (1 + distance)
                tissue = _at(box.spread(rng.random((_EXTRAPOLATED, len(box.names)))), name, value)
                weights = generator.weights(tissue, allow_extrapolation=True)
                errors.append(float(np.mean([_errors(each, weights).mean() for each in prepared])))
    return found


def gradient_errors(generator: AnchoredGenerator, weights: Weights, sequence: Sequence) -> GradientErrors:
    """Errors of the derivatives, by the sequence, of the mean inner product of neighbouring atoms.

    The atoms are those with B1 nearest to 1; with a slice profile of n nodes every n-th of them, so that the simulator
    has the same work.
    """
    weights = _central(weights)
    if generator.slice_profile is not None:
        weights = weights.rows(slice(None, None, np.size(generator.slice_profile.nodes)))

    def coherence(fingerprints):
        return jnp.mean(jnp.sum(fingerprints[1:] * fingerprints[:-1], axis=1))

    @jax.jit
    @jax.value_and_grad
    def generated(sequence):
        return coherence(anchored_fingerprints(generator, sequence, weights)[0])

    @jax.jit
    @jax.value_and_grad
    def simulated(sequence):
        signals = simulate_reverse(sequence, weights.tissue, slice_profile=generator.slice_profile)
        return coherence(signals / jnp.linalg.norm(signals, axis=1, keepdims=True))

    jax.block_until_ready((generated(sequence), simulated(sequence)))  # compiles both
    (ours, seconds), (truth, simulator_seconds) = (_timed_gradient(f, sequence) for f in (generated, simulated))
    differences = [
        float(jnp.linalg.norm(getattr(ours, name) - getattr(truth, name)) / jnp.linalg.norm(getattr(truth, name)))
        for name in ("flip_angle", "repetition_time")
    ]
    return GradientErrors(*differences, weights.tissue.size, seconds, simulator_seconds)


def brain_map_errors(
    generator: AnchoredGenerator, weights: Weights, sequence: Sequence, *, size: int, snr: float, seed: int
) -> MapErrors:
    """Errors of maps of the digital brain by the generated dictionary against those by the simulated one, at B1 = 1."""
    weights = _central(weights)
    simulated = build_dictionary(sequence, weights.tissue, slice_profile=generator.slice_profile)
    generated = prepare(generator, sequence).generate(weights)
    scan = scan_brain(simulated, Scanner(size), snrs=[snr], seed=seed)
    truth, ours = (scan.match(each, snr) for each in (simulated, generated))
    return map_errors(ours, truth, scan.brain)


def dictionary_cost(generator: AnchoredGenerator, weights: Weights, sequence: Sequence, rounds: int) -> Cost:
    """Cost of a dictionary of all atoms: simulated, or generated for a new sequence with given weights."""
    n_anchors = weights.values.shape[1]
    jobs = {
        "simulate": lambda: build_dictionary(sequence, weights.tissue, slice_profile=generator.slice_profile),
        "generate": lambda: prepare(generator, sequence, n_anchors).generate(weights),
        "compressed": lambda: prepare(generator, sequence, n_anchors).generate(weights, compressed=True),
    }
    wall = timed(jobs, rounds)
    cores = timed(jobs, rounds, time.process_time)
    return Cost(**{name: tuple(statistics.median(of[name]) for of in (wall, cores)) for name in jobs})


def _central(weights):
    """Weights of the atoms whose B1 is nearest to 1."""
    distance = np.abs(np.broadcast_to(weights.tissue.b1, weights.tissue.shape) - 1)
    return weights.rows(np.flatnonzero(distance <= distance.min() + 1e-6))


def _timed_gradient(value_and_gradient, sequence):
    start = time.perf_counter()
    _, gradient = jax.block_until_ready(value_and_gradient(sequence))
    return gradient, time.perf_counter() - start


def _errors(prepared, weights):
    profile = prepared.generator.slice_profile
    truth = build_dictionary(prepared.sequence, weights.tissue, accuracy=_ACCURACY, slice_profile=profile)
    return fingerprint_errors(prepared.generate(weights).fingerprints, truth.fingerprints)


def _at(tissue, name, value):
    """Tissue with one parameter replaced; where T2 would exceed T1 the other one moves with it."""
    moved = {"t1": tissue.t1, "t2": tissue.t2, "b1": tissue.b1, name: jnp.full(tissue.shape, value)}
    if name == "t2":
        moved["t1"] = jnp.maximum(moved["t1"], moved["t2"])
    return Tissue(**moved | {"t2": jnp.minimum(moved["t1"], moved["t2"])})
