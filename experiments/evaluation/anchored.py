"""Errors, gradients and costs of generators for many sequences, on sequences that they were not trained with."""

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
from ganmrf.anchors.prepared import anchored_fingerprints, prepare
from ganmrf.anchors.sentinels import joined
from ganmrf.design.bounds import precision_of
from ganmrf.design.signal_models import generator_model, simulator_model
from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.grids import at_each_b1
from ganmrf.files import read_json
from ganmrf.metrics import fingerprint_errors
from ganmrf.physics.n_states import choose_n_states
from ganmrf.physics.sequences.blocks import PulseSequence
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.simulate import simulate_reverse
from ganmrf.physics.simulate_many import simulate_few
from ganmrf.physics.slice_profile import FullSlice, PartitionedSlice
from ganmrf.physics.tissue import ORDERED_TIMES, TISSUES, Tissue, TissueModel, parameters
from ganmrf.scanner import Scanner

BEYOND = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8)  # distances outside the box, relative to the bound that is passed

_ACCURACY = 1e-5  # of reference simulations: below the errors of every generator
_N_SPREAD = 8192  # atoms that are spread over a box of more axes than a grid can fill
_N_B1 = 9  # values of B1 for each T1 and T2
_TANGENTS = 256  # tissues that derivatives are compared for, before those with short times are left out
_LEAST_T1_S, _LEAST_T2_S, _TIMES = 0.2, 0.02, ("t1", "t2")  # below, bounds are of no use: signals tell little of T1, T2
_EXTRAPOLATED = 256  # tissues at each distance outside the box
_STREAM = 2000  # joined to the seed of the tissues that certificates are compared on
_AS_IT_IS = {"allow_error": np.inf, "rounds": 0}  # of `prepare`: the generator's own anchors, whatever their error


class Subject(NamedTuple):
    """A generator to evaluate, named as the folder with its file, core-seconds of making it, and atoms to generate.

    The tissue of the atoms, (atoms,), has nine values of B1 where B1 is a third axis, and is spread over a box of more.
    """

    name: str
    generator: AnchoredGenerator
    core_seconds: float
    tissue: TissueModel


class Cost(NamedTuple):
    """Cost of one dictionary, (s, core-seconds) each: medians over interleaved rounds."""

    simulate: tuple[float, float]
    generate: tuple[float, float]
    compressed: tuple[float, float]


class Certified(NamedTuple):
    """What a sequence's certificate says, and what is true: mean, 99 % quantile and largest of errors of fingerprints.

    True means and quantiles are those of tissues that are drawn as held-out ones are, all else is of all tissues, those
    on faces of the box among them. The ``above`` is the share of tissues whose error is above the largest that is
    printed, ``above_own`` that of those whose error is above the bound that goes with their own atom; ``added`` are the
    sentinels that became anchors.
    """

    printed: tuple[float, float, float]
    true: tuple[float, float, float]
    above: float
    above_own: float
    added: int


class TangentErrors(NamedTuple):
    """Relative errors, mean and largest over tissues: of derivatives by T1 and T2, and of Cramer-Rao bounds of both."""

    d_t1: tuple[float, float]
    d_t2: tuple[float, float]
    bound_t1: tuple[float, float]
    bound_t2: tuple[float, float]


class GradientErrors(NamedTuple):
    """Relative L2 errors of a loss's derivatives by flip angles and times, and seconds of value and gradient."""

    flip_angle: float
    repetition_time: float
    atoms: int
    seconds: float
    simulator_seconds: float


def read_subject(path, tissue: Tissue) -> Subject:
    """Reads a generator, and ``made.json``, the record of how it was made, beside its file.

    The ``tissue`` is of the atoms; a table, which has weights for its own tissues alone, keeps its own, and of a box
    with more than T1, T2 and B1 the atoms are spread over the box.

    Raises:
      ValueError: no record, or tissue outside the generator's box.
    """
    path = pathlib.Path(path)
    generator = load_anchored(path)
    core_seconds = read_json(path.with_name("made.json"))["core_seconds"]
    if not generator.model.any_tissue:
        tissue = generator.model.tissue
    elif not {*generator.box.names} <= {"t1", "t2", "b1"}:
        # At few B1, as on a grid: in a slice the simulator is several times as fast with them.
        cube = generator.box.sobol(_N_SPREAD, 0)
        if "b1" in generator.box.names:
            axis = generator.box.names.index("b1")
            cube[:, axis] = np.floor(cube[:, axis] * _N_B1) / (_N_B1 - 1)
        tissue = generator.box.spread(cube)
    elif "b1" in generator.box.names and tissue.b1.ndim == 0:
        axis = generator.box.names.index("b1")
        tissue = at_each_b1(tissue, np.linspace(generator.box.low[axis], generator.box.high[axis], _N_B1))
    tissue = jax.tree.map(np.asarray, tissue.ravel())
    generator.require_inside(tissue)
    return Subject(path.parent.name, generator, core_seconds, tissue)


def is_plain(generator: AnchoredGenerator) -> bool:
    """Whether a generator is of T1, T2 and B1 under FISP, which derivatives, maps and baselines are for."""
    return generator.family == "fisp" and {*generator.box.names} <= {"t1", "t2", "b1"}


def certified(
    subject: Subject, sequences: list[PulseSequence], n_tissues: int, seed: int
) -> dict[str, list[Certified]]:
    """The certificate of every sequence, beside errors of other tissues: by the ``anchors`` alone, and ``completed``.

    The tissues are random, of a table's atoms or of the box, and beside the latter half as many on its faces.
    """
    generator, found = subject.generator, {"anchors": [], "completed": []}
    if not generator.model.any_tissue:
        weights = generator.weights(subject.tissue)
        weights = weights.rows(np.random.default_rng(seed).integers(subject.tissue.size, size=n_tissues))
    else:
        weights = generator.weights(_drawn(generator.box, n_tissues, seed))
    for sequence in sequences:
        truth = _simulated(generator, sequence, weights.tissue)
        completed = prepare(generator, sequence, allow_error=np.inf)
        alone = completed.by_anchors(rounds=0)
        for what, prepared in (("anchors", alone), ("completed", completed)):
            made, printed = prepared.generate(weights), prepared.certificate
            errors = fingerprint_errors(made.fingerprints, truth)
            usual = errors[:n_tissues]
            found[what].append(
                Certified(
                    printed=(printed.mean, printed.quantile_99, printed.largest),
                    true=(float(usual.mean()), float(np.quantile(usual, 0.99)), float(errors.max())),
                    above=float(np.mean(errors > printed.largest)),
                    above_own=float(np.mean(errors > made.errors)),
                    added=len(prepared.added),
                )
            )
    return found


def tangent_errors(generator: AnchoredGenerator, sequence: Fisp, seed: int) -> TangentErrors:
    """Errors of derivatives and bounds by `generator_model`, without sentinels, for T1 above 200 and T2 above 20 ms."""
    cube = np.random.default_rng(seed).random((_TANGENTS, len(generator.box.names)))
    tissue = jax.tree.map(np.asarray, generator.box.spread(cube))
    tissue = tissue.rows(np.flatnonzero((tissue.t1 > _LEAST_T1_S) & (tissue.t2 > _LEAST_T2_S)))
    form = {"n_states": _states_when_traced(generator, sequence)}
    models = generator_model(generator, tissue, **form), simulator_model(slice_profile=generator.slice_profile, **form)
    ours, truth = (jax.jit(model)(sequence, tissue) for model in models)
    bounds = [precision_of(each, tissue) for each in (ours, truth)]
    errors = [fingerprint_errors(getattr(ours, name), getattr(truth, name)) for name in ("d_t1", "d_t2")]
    errors += [np.abs(np.divide(*(np.asarray(getattr(each, name), float) for each in bounds)) - 1) for name in _TIMES]
    return TangentErrors(*((float(each.mean()), float(each.max())) for each in errors))


def random_weights(subject: Subject, n_tissues: int, seed: int) -> dict[int, Weights]:
    """Number of anchors -> weights of the same random tissues: of the box, or of a table's atoms."""
    generator, rng = subject.generator, np.random.default_rng(seed)
    if generator.model.any_tissue:
        tissue = generator.box.spread(rng.random((n_tissues, len(generator.box.names))))
        return {size: generator.weights(tissue, size) for size in generator.sizes}
    rows = rng.integers(subject.tissue.size, size=n_tissues)
    return {size: generator.weights(subject.tissue, size).rows(rows) for size in generator.sizes}


def errors_by_size(generator: AnchoredGenerator, sequences: list[PulseSequence], weights: dict[int, Weights]) -> dict:
    """Number of anchors -> relative errors of unit fingerprints, (sequences * tissues,)."""
    tissue, errors = next(iter(weights.values())).tissue, {size: [] for size in weights}
    for sequence in sequences:
        truth, prepared = _simulated(generator, sequence, tissue), prepare(generator, sequence, **_AS_IT_IS)
        for size, of_size in weights.items():
            made = prepared.by_anchors(size, rounds=0).generate(of_size)
            errors[size].append(fingerprint_errors(made.fingerprints, truth))
    return {size: np.concatenate(each) for size, each in errors.items()}


def extrapolation(generator: AnchoredGenerator, sequences: list[PulseSequence], seed: int) -> dict[str, list[float]]:
    """Bound of an axis, such as ``t1 above`` -> mean error at each distance `BEYOND` it, other axes inside the box."""
    box, rng, found = generator.box, np.random.default_rng(seed), {}
    prepared = [prepare(generator, sequence, **_AS_IT_IS) for sequence in sequences]
    for axis, name in enumerate(box.names):
        for side in _sides(box, axis):
            errors = found[f"{name} {side}"] = []
            for distance in BEYOND:
                value = box.low[axis] / (1 + distance) if side == "below" else box.high[axis] * (1 + distance)
                tissue = _at(box.spread(rng.random((_EXTRAPOLATED, len(box.names)))), name, value)
                weights = generator.weights(tissue, allow_extrapolation=True)
                errors.append(float(np.mean([_errors(each, weights).mean() for each in prepared])))
    return found


def gradient_errors(generator: AnchoredGenerator, weights: Weights, sequence: Fisp) -> GradientErrors:
    """Errors of the derivatives, by the sequence, of the mean inner product of neighbouring atoms.

    The atoms are those with B1 nearest to 1; in a slice that takes the time of n uniform ones every n-th of them, so
    that the simulator has about the same work.
    """
    weights, profile = _central(weights), generator.slice_profile
    weights = weights.rows(slice(None, None, _uniform_slices(profile)))
    form = {"n_states": _states_when_traced(generator, sequence)}

    def coherence(fingerprints):
        return jnp.mean(jnp.sum(fingerprints[1:] * fingerprints[:-1], axis=1))

    @jax.jit
    @jax.value_and_grad
    def generated(sequence):
        return coherence(anchored_fingerprints(generator, sequence, weights, **form)[0])

    @jax.jit
    @jax.value_and_grad
    def simulated(sequence):
        signals = simulate_reverse(sequence, weights.tissue, slice_profile=profile, **form)
        return coherence(signals / jnp.linalg.norm(signals, axis=1, keepdims=True))

    jax.block_until_ready((generated(sequence), simulated(sequence)))  # compiles both
    (ours, seconds), (truth, simulator_seconds) = (_timed_gradient(f, sequence) for f in (generated, simulated))
    differences = [
        float(jnp.linalg.norm(getattr(ours, name) - getattr(truth, name)) / jnp.linalg.norm(getattr(truth, name)))
        for name in ("flip_angle", "repetition_time")
    ]
    return GradientErrors(*differences, weights.tissue.size, seconds, simulator_seconds)


def brain_map_errors(
    generator: AnchoredGenerator, weights: Weights, sequence: Fisp, *, size: int, snr: float, seed: int
) -> MapErrors:
    """Errors of maps of the digital brain by the generated dictionary against those by the simulated one, at B1 = 1."""
    weights = _central(weights)
    simulated = build_dictionary(sequence, weights.tissue, slice_profile=generator.slice_profile)
    generated = prepare(generator, sequence, allow_error=np.inf).generate(weights)
    scan = scan_brain(simulated, Scanner(size), snrs=[snr], seed=seed)
    truth, ours = (scan.match(each, snr) for each in (simulated, generated))
    return map_errors(ours, truth, scan.brain)


def dictionary_cost(generator: AnchoredGenerator, weights: Weights, sequence: PulseSequence, rounds: int) -> Cost:
    """Cost of a dictionary of all atoms: simulated, or generated for a new sequence with given weights."""
    n_anchors, any_error = weights.values.shape[1] - generator.sentinels.size, {"allow_error": np.inf}
    jobs = {
        "simulate": lambda: build_dictionary(sequence, weights.tissue, slice_profile=generator.slice_profile),
        "generate": lambda: prepare(generator, sequence, n_anchors, **any_error).generate(weights),
        "compressed": lambda: prepare(generator, sequence, n_anchors, **any_error).generate(weights, compressed=True),
    }
    wall = timed(jobs, rounds)
    cores = timed(jobs, rounds, time.process_time)
    return Cost(**{name: tuple(statistics.median(of[name]) for of in (wall, cores)) for name in jobs})


def _drawn(box, number, seed):
    """Random tissues of a box, and half as many on its faces, of a stream that no generator learns or checks by."""
    cube, place = np.random.default_rng([seed, _STREAM]).random((2, number, len(box.names)))
    some = slice(None, None, 2)
    return joined(box.spread(cube), box.spread_to_faces(cube[some], place[some], np.zeros((1, 1))))


def _central(weights):
    """Weights of the atoms whose B1 is nearest to 1."""
    distance = np.abs(np.broadcast_to(weights.tissue.b1, weights.tissue.shape) - 1)
    return weights.rows(np.flatnonzero(distance <= distance.min() + 1e-6))


def _states_when_traced(generator, sequence):
    """All states; in a full slice, where these are thousands of positions, as many as the anchors need."""
    if isinstance(generator.slice_profile, FullSlice):
        return choose_n_states(sequence, generator.anchors, slice_profile=generator.slice_profile)
    return None


def _uniform_slices(profile):
    """Uniform slices that take as long to differentiate as one of this model: nodes, or positions for each state."""
    if profile is None:
        return 1
    if isinstance(profile, FullSlice):  # by plain reverse mode, which takes ten times the time a position
        return max(round(10 * profile.extent * abs(profile.turns)), 1)
    return profile.n_positions if isinstance(profile, PartitionedSlice) else np.size(profile.nodes)


def _timed_gradient(value_and_gradient, sequence):
    start = time.perf_counter()
    _, gradient = jax.block_until_ready(value_and_gradient(sequence))
    return gradient, time.perf_counter() - start


def _errors(prepared, weights):
    truth = _simulated(prepared.generator, prepared.sequence, weights.tissue)
    return fingerprint_errors(prepared.generate(weights).fingerprints, truth)


def _simulated(generator, sequence, tissue):
    """Unit fingerprints of some hundreds of tissues."""
    signals = simulate_few(sequence, tissue, accuracy=_ACCURACY, slice_profile=generator.slice_profile)
    return signals / np.linalg.norm(signals, axis=1, keepdims=True)


def _sides(box, axis):
    """The ends of an axis that it can be left at: not those that no tissue goes beyond, nor those of a circle."""
    name, facts = box.names[axis], parameters(TISSUES[box.kind])[box.names[axis]]
    if name in box.periodic:
        return ()
    farthest = 1 + max(BEYOND)
    below = "below" if box.low[axis] > 0 or facts.signed else None
    above = "above" if box.high[axis] * farthest <= facts.most else None
    return tuple(side for side in (below, above) if side)


def _at(tissue, name, value):
    """Tissue with one parameter replaced; where T2 would exceed T1 of its pool the other one moves with it."""
    moved = {field: each for field, each in vars(tissue).items() if each is not None}
    moved[name] = jnp.full(tissue.shape, value)
    for longer, shorter in ORDERED_TIMES:
        if shorter in moved:
            ends = (jnp.minimum(moved[longer], moved[shorter]), jnp.maximum(moved[longer], moved[shorter]))
            moved |= {longer: ends[1]} if name == shorter else {shorter: ends[0]}
    return type(tissue)(**moved)
