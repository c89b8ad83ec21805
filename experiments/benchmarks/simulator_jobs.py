"""What `benchmark_simulator` times, and what each result is held against."""

import dataclasses
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.peers import peers
from experiments.benchmarks.timing import timed
from ganmrf import Fisp, Tissue, build_dictionary, mrf_fisp, simulate, tissue_grid
from ganmrf.design.cramer_rao_objective import CramerRaoObjective
from ganmrf.design.signal_models import simulator_model
from ganmrf.imaging.phantom import BRAIN_TISSUES, TISSUES
from ganmrf.metrics import fingerprint_errors
from ganmrf.parallel import bound_to
from ganmrf.physics.bloch import isochromat_signal, slice_signal
from ganmrf.physics.epg import exact_n_states
from ganmrf.physics.lowering import as_played
from ganmrf.physics.n_states import choose_n_states
from ganmrf.physics.rf_pulse import windowed_sinc
from ganmrf.physics.sequences.blocks import Inversion, T2Preparation
from ganmrf.physics.sequences.bssfp import Bssfp
from ganmrf.physics.sequences.cardiac import CardiacFisp
from ganmrf.physics.sequences.fisp import simulate_voxel
from ganmrf.physics.sequences.spoiled_gradient_echo import SpoiledGradientEcho
from ganmrf.physics.simulate import simulate_reverse, simulate_with_tangents
from ganmrf.physics.simulate_many import simulate_many
from ganmrf.physics.slice_profile import FullSlice, PartitionedSlice, small_tip
from ganmrf.physics.tissue import ExchangingPools, SemisolidPool
from ganmrf.runs.worker import Worker

_CHECKED = 32  # atoms held against the isochromats: the first of every job
_CHECKED_POOLS = 4  # of several pools, whose isochromats take some seconds an atom


class Job(NamedTuple):
    """One row of the table: ``run()`` gives what ``error`` compares, where there is something to compare with."""

    name: str
    atoms: int
    run: Callable[[], object]
    error: Callable[[object], float] | None = None


def simulator_jobs(sequence: Fisp, grid: Tissue, n_states: int, peer_atoms: int) -> Iterator[Job]:
    """Forward simulation, derivatives, and every peer that is installed; the first job is the naive form."""
    spread = np.linspace(0, grid.size - 1, _CHECKED).astype(int)
    grid = grid.rows(np.concatenate([spread, np.setdiff1d(np.arange(grid.size), spread)]))
    few, some, many = (grid.rows(slice(n)) for n in (64, 128, 2048))
    b1 = jnp.asarray(np.random.default_rng(0).uniform(0.7, 1.3, many.size), many.t1.dtype)
    varied = dataclasses.replace(many, b1=b1)
    error, error_varied = (_error_of_signals(sequence, tissue.rows(slice(_CHECKED))) for tissue in (grid, varied))
    fixed, exact = partial(simulate, n_states=n_states), exact_n_states(sequence.n_frames)
    naive = jax.vmap(partial(simulate_voxel, n_states=n_states), in_axes=(None, 0, 0))
    signals = partial(_first_signals, sequence, grid)

    yield Job(f"naive form, {n_states} orders", few.size, _job(jax.jit(naive), sequence, few.t1, few.t2), error)
    yield Job(f"ordinary form, {n_states} orders", some.size, _job(jax.jit(fixed), sequence, some), error)
    yield Job(f"{n_states} orders", many.size, _job(fixed, sequence, many), error)
    yield Job(f"{n_states} orders, B1 per atom", many.size, _job(fixed, sequence, varied), error_varied)
    yield Job(f"{n_states} orders, float64", many.size, _float64_job(fixed, sequence, many), error)
    yield Job(f"all {exact} orders", some.size, _job(partial(simulate, n_states=exact), sequence, some), error)
    for accuracy in (1e-3, 1e-4, 1e-5):
        yield Job(f"dictionary, orders for {accuracy:.0e}", grid.size, partial(signals, accuracy=accuracy), error)
    yield from _slice_jobs(sequence, signals, grid.size, n_states)
    yield from _other_sequences(sequence, many, n_states)
    yield from _pool_jobs(sequence, varied, n_states)
    yield from _derivative_jobs(sequence, some, n_states)
    for name, peer in peers(sequence, n_states).items():
        atoms = grid.size if name == "blochsim" else peer_atoms
        yield Job(f"{name}, {n_states} orders", atoms, partial(peer, grid.rows(slice(atoms))), error)


def _slice_jobs(sequence, dictionary, n_atoms, n_states):
    """Models of the slice of a Hann sinc of time-bandwidth 8, spoiled by 4 turns: white matter, and the dictionary."""
    rng = np.random.default_rng(0)
    t1, t2 = rng.uniform([[0.7], [0.075]], [[0.9], [0.085]], (2, 1024)).astype(np.float32)
    white, own_b1 = Tissue(t1, t2), Tissue(t1, t2, rng.uniform(0.8, 1.2, 1024).astype(np.float32))
    pulse = windowed_sinc(8, "hann")
    full, states = FullSlice(pulse, 4), {"n_states": n_states}
    truth = slice_signal(sequence, white.rows(slice(4)), pulse, 4, 1024)  # isochromats, 1e-6 for this T2

    def positions(accuracy):
        return {"n_states": choose_n_states(sequence, white, accuracy=accuracy, slice_profile=full)}

    def error(signals):
        return float(fingerprint_errors(np.abs(signals[:4]), np.abs(truth)).max())

    for name, profile, voxels, settings in (
        (f"12 nodes, small tip, {n_states} orders", small_tip(pulse, 12), white, states),
        (f"32 positions, partitioned, {n_states} orders", PartitionedSlice(pulse, 32), white, states),
        (f"32 positions, no phases, {n_states} orders", PartitionedSlice(pulse, 32, phases=False), white, states),
        ("full slice, positions for 1e-03", full, white, positions(1e-3)),
        ("full slice, positions for 1e-04", full, white, positions(1e-4)),
        ("full slice, positions for 1e-03, B1 per atom", full, own_b1, positions(1e-3)),
    ):
        run = partial(simulate_many, sequence, voxels, slice_profile=profile, **settings)
        yield Job(f"white matter, {name}", voxels.size, run, error if profile is full and voxels is white else None)
    for name, profile, accuracy in (
        ("12 nodes", small_tip(pulse, 12), 1e-4),
        ("full", full, 1e-3),
        ("full", full, 1e-4),
    ):
        run = partial(dictionary, slice_profile=profile, accuracy=accuracy)
        yield Job(f"dictionary, {name} slice, for {accuracy:.0e}", n_atoms, run)


def _other_sequences(sequence, tissue, n_states):
    """Sequences of other kinds with the flip angles of ``sequence``, and off-resonance, with the same orders."""
    angles, times = np.asarray(sequence.flip_angle), np.asarray(sequence.repetition_time)
    beats = angles.size // 50
    preparations = (Inversion(0.021), None, T2Preparation(0.03, 0.012), T2Preparation(0.05, 0.012))
    prepared = [preparations[beat % len(preparations)] for beat in range(beats)]
    shifts = np.random.default_rng(0).uniform(-50, 50, tissue.size).astype(np.float32)
    shifted = dataclasses.replace(tissue, off_resonance=shifts)
    some = jax.tree.map(np.asarray, tissue.rows(slice(80)))
    in_turn = np.tile(np.linspace(-50, 50, 101, dtype=np.float32), some.size)
    grid = Tissue(np.repeat(some.t1, 101), np.repeat(some.t2, 101), off_resonance=in_turn)
    cardiac = CardiacFisp(angles[: 50 * beats].reshape(beats, 50), 5e-3, 1.5e-3, prepared, np.full(beats, 0.9))
    balanced = Bssfp(angles, times)
    for name, played, voxels in (
        ("FISP, as those below", sequence, tissue),
        ("cardiac, with preparations", cardiac, tissue),
        ("RF spoiling", SpoiledGradientEcho(angles, times, 2e-3), tissue),
        ("off-resonance per atom", sequence, shifted),
        ("bSSFP", balanced, tissue),
        ("bSSFP, off-resonance per atom", balanced, shifted),
        ("bSSFP, grid of off-resonances", balanced, grid),
    ):
        run = partial(simulate_many, as_played(played, voxels), voxels, n_states=n_states)
        yield Job(name, voxels.size, run, _error_of_signals(played, voxels.rows(slice(_CHECKED))))


def _pool_jobs(sequence, tissue, n_states):
    """Several pools of spins, with a B1 of each atom, and one pool as they are simulated, with the same orders."""
    rng, size = np.random.default_rng(2), tissue.size
    ranges = {"fraction": (0, 0.3), "exchange_rate": (5, 50), "t1_b": (0.3, 0.4)}
    pools = {name: rng.uniform(*ends, size).astype(np.float32) for name, ends in ranges.items()}
    of_a = {name: getattr(tissue, name) for name in ("t1", "t2", "b1")}
    of_a["t2"] = jnp.minimum(of_a["t2"], 0.2)  # of brain; CSF, which needs the most states, has no second pool
    powered = dataclasses.replace(sequence, pulse_duration=2e-3, pulse_shape=1.5)
    exchanging = ExchangingPools(**of_a, **pools, t2_b=rng.uniform(0.01, 0.02, size).astype(np.float32))
    for name, played, voxels in (
        ("one pool, B1 per atom", sequence, Tissue(**of_a)),
        ("one pool, as several", sequence.as_blocks(), Tissue(**of_a)),
        ("semisolid pool", powered, SemisolidPool(**of_a, **pools, lineshape=15e-6)),
        ("two mobile pools", sequence, exchanging),
        ("two mobile pools, shifted", sequence, dataclasses.replace(exchanging, shift=np.float32(100))),
    ):
        run = partial(simulate_many, as_played(played, voxels), voxels, n_states=n_states)
        yield Job(name, size, run, _error_of_signals(played, voxels.rows(slice(_CHECKED_POOLS))))


def _derivative_jobs(sequence, tissue, n_states):
    """Gradients with respect to flip angles and repetition times, and derivatives with respect to T1 and T2."""
    weights = jnp.asarray(np.random.default_rng(0).standard_normal((tissue.size, sequence.n_frames)), tissue.t1.dtype)

    shifts = np.random.default_rng(1).uniform(-50, 50, tissue.size).astype(tissue.t1.dtype)
    shifted = dataclasses.replace(tissue, off_resonance=shifts)

    def gradient(simulation, tissue=tissue):
        def weighted(sequence):
            return jnp.vdot(weights, simulation(sequence, tissue, n_states=n_states).real)

        return _gradient_job(jax.grad, weighted, sequence)

    @jax.jit
    def forward_mode(t1, t2):
        def signal(t1, t2):
            return simulate(sequence, dataclasses.replace(tissue, t1=t1, t2=t2), n_states=n_states)

        one, none = jnp.ones_like(t1), jnp.zeros_like(t1)
        signals, d_t1 = jax.jvp(signal, (t1, t2), (one, none))
        return signals, d_t1, jax.jvp(signal, (t1, t2), (none, one))[1]

    @jax.jit
    def tangents(sequence, tissue):
        derivatives = simulate_with_tangents(sequence, tissue, n_states=n_states)
        return derivatives.signal, derivatives.d_t1, derivatives.d_t2

    plain, forward = gradient(simulate), _job(forward_mode, tissue.t1, tissue.t2)
    yield Job("gradient, plain reverse mode", tissue.size, plain)
    yield Job("gradient, simulate_reverse", tissue.size, gradient(simulate_reverse), _difference_from(plain()))
    off_resonance = gradient(simulate, shifted)
    of_shifted = _difference_from(off_resonance())
    yield Job(
        "ordinary form, off resonance",
        tissue.size,
        _job(jax.jit(partial(simulate, n_states=n_states)), sequence, shifted),
    )
    yield Job("gradient, off resonance, plain reverse mode", tissue.size, off_resonance)
    yield Job("gradient, off resonance", tissue.size, gradient(simulate_reverse, shifted), of_shifted)
    yield Job("T1, T2 derivatives, plain forward mode", tissue.size, forward)
    own = _job(tangents, sequence, tissue)
    yield Job("T1, T2 derivatives, with_tangents", tissue.size, own, _difference_from(forward()))
    # What sequence design minimises, for white matter, grey matter and CSF.
    goal = CramerRaoObjective(Tissue(*np.transpose([TISSUES[name][:2] for name in BRAIN_TISSUES])))
    bound = partial(goal, signal_model=simulator_model(n_states=n_states))
    designed = _gradient_job(jax.value_and_grad, bound, mrf_fisp(400))
    yield Job("gradient of the bound, 400 frames", goal.tissue.size, designed)


def _gradient_job(transform, value, sequence):
    """`jax.grad` or `jax.value_and_grad` of a function of the sequence, by flip angles and repetition times."""

    def of_controls(flip_angle, repetition_time):
        return value(dataclasses.replace(sequence, flip_angle=flip_angle, repetition_time=repetition_time))

    return _job(jax.jit(transform(of_controls, (0, 1))), sequence.flip_angle, sequence.repetition_time)


def seconds_on(some_cores, n_devices: int, rounds: int) -> float:
    """Median time of simulating the fine grid in a new process that has these cores, and CPU devices in JAX, alone."""
    with bound_to(some_cores), Worker() as worker:
        return worker.call(partial(_build_fine_grid, n_devices), rounds)


def _build_fine_grid(n_devices, rounds):
    jax.config.update("jax_num_cpu_devices", n_devices)
    job = partial(build_dictionary, mrf_fisp(), tissue_grid("fine"))
    return statistics.median(timed({"fine": job}, rounds)["fine"])


def _first_signals(sequence, grid, **settings):
    """Simulates a dictionary; its first signals."""
    dictionary = build_dictionary(sequence, grid, **settings)
    return dictionary.fingerprints[:_CHECKED] * dictionary.norms[:_CHECKED, None]


def _job(function, *arguments):
    return lambda: jax.block_until_ready(function(*arguments))


def _float64_job(function, *arguments):
    wide = jax.tree.map(lambda leaf: np.asarray(leaf, float), arguments)

    def job():
        with jax.enable_x64(True):
            return jax.block_until_ready(function(*jax.tree.map(jnp.asarray, wide)))

    return job


def _error_of_signals(sequence, tissue):
    """Largest relative L2 error of signals whose first ones are those of ``tissue``."""
    truth = np.abs(isochromat_signal(sequence, tissue))
    return lambda signals: float(fingerprint_errors(np.abs(np.asarray(signals)[: len(truth)]), truth).max())


def _difference_from(reference):
    """Largest relative L2 difference of arrays from those of ``reference``."""

    def error(arrays):
        pairs = zip(arrays, reference, strict=True)
        return max(float(np.linalg.norm(one - other) / np.linalg.norm(other)) for one, other in pairs)

    return error
