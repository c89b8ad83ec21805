"""A sequence designed in its folder, gone on with where it was cut off."""

import dataclasses
import sys
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from ganmrf.anchors.generator_file import load_anchored
from ganmrf.design.bounds import Precision, precision_of
from ganmrf.design.constraints import roughness
from ganmrf.design.cramer_rao_objective import CramerRaoObjective, at_each_b1, require_finite
from ganmrf.design.limits import Limits
from ganmrf.design.optimise import DesignState, init_state, make_optimiser, optimise
from ganmrf.design.parametrisations import Frames, Lobes, Parametrisation, Spline
from ganmrf.design.separation import Separation
from ganmrf.design.signal_models import SignalModel, generator_model, simulator_model
from ganmrf.gan.checkpoint import Checkpoints
from ganmrf.physics.n_states import sufficient_n_states
from ganmrf.physics.sequences.fisp import Sequence
from ganmrf.physics.tissue import Tissue
from ganmrf.runs.workdir import Workdir

_CHUNK = 50  # updates between two checkpoints
_ACCURACY = 1e-3  # of signals while a design is under way; its result is judged with all orders that matter
_SHARPNESS = 60.0  # of the worst of T1, T2 and the tissues: 3 % above the exact one for six of them
_SPREAD = 1.5  # standard deviation of what is added to the parameters of further starts


@dataclasses.dataclass(frozen=True)
class DesignConfig:
    """What is wanted, and how it is looked for; the fields are the flags.

    Attributes:
      tissues: name -> T1 and T2, ms.
      design_b1: B1 values that the design must serve.
      objective: ``bound`` or ``separation``.
      reduce: as `CramerRaoObjective` has it.
      gain_t1: wanted, of the standard deviation of T1 over the start's.
      gain_t2: wanted, of T2.
      shape: of the flip angles and repetition times: ``spline``, ``frames`` or ``lobes``.
      knot_spacing: frames between two knots.
      smoothness: weight of the `roughness` that is added to the objective.
      optimise: fields that are free.
      starts: number of starts; the first is the given sequence.
      seed: of the others.
      optimiser: ``adam`` or ``lbfgs``.
      learning_rate: of Adam.
      steps: updates, at most.
      generator: file of an anchored generator to take signals from, or None for the simulator.
    """

    tissues: dict
    design_b1: list
    objective: str
    reduce: str
    gain_t1: float
    gain_t2: float
    shape: str
    knot_spacing: float
    smoothness: float
    optimise: list
    starts: int
    seed: int
    optimiser: str
    learning_rate: float
    steps: int
    generator: str | None

    @property
    def tissue(self) -> Tissue:
        """The tissues, B1 = 1, (tissues,)."""
        t1, t2 = 1e-3 * np.transpose(list(self.tissues.values()))
        return Tissue(t1, t2)


class Design(NamedTuple):
    """What came out.

    Attributes:
      start: the sequence to improve on.
      sequence: the best one found.
      basins: the best sequence of every start.
      best: objective of each start, (starts,).
      values: objectives at every update, (updates, starts).
      seconds: of the search, compilation included.
    """

    start: Sequence
    sequence: Sequence
    basins: list[Sequence]
    best: np.ndarray
    values: np.ndarray
    seconds: float


def design(workdir: Workdir, start: Sequence, limits: Limits, config: DesignConfig, slice_profile=None) -> Design:
    """Looks for the sequence within the limits that serves the goal best.

    Raises:
      ValueError: limits that cannot be met, a goal that is not finite at the start, or a generator that does not cover
        the tissues.
    """
    shape = {
        "spline": Spline(config.knot_spacing),
        "frames": Frames(),
        "lobes": Lobes(knot_spacing=config.knot_spacing),
    }
    parametrisation = Parametrisation(start, limits, shape[config.shape], config.optimise)
    goal, engine = _goal(start, config, slice_profile)

    # A goal's weights have a mean of 1: scaled back, the bound's is 1 where the wanted gains are just reached.
    gains = [gain for gain in (config.gain_t1, config.gain_t2) if gain]
    scale = 1.0 if config.objective == "separation" else np.mean(gains)

    def objective(params):
        sequence = parametrisation.to_sequence(params)
        return scale * goal(sequence, engine) + config.smoothness * roughness(sequence, limits)

    optimiser = make_optimiser(config.optimiser, config.learning_rate, config.steps)
    state = init_state(objective, optimiser, _starts(parametrisation, config))
    with Checkpoints(workdir.path / "checkpoints") as checkpoints:
        state, rows = _search(objective, optimiser, state, config.steps, checkpoints, workdir)
    best = np.asarray(state.best_value)
    basins = [parametrisation.to_sequence(_of_start(state.best_params, i)) for i in range(config.starts)]
    values = np.concatenate([np.reshape(row["values"], (-1, config.starts)) for row in rows])
    return Design(start, basins[int(np.argmin(best))], basins, best, values, rows[-1]["seconds"])


def exact_precision(sequence: Sequence, tissue: Tissue, slice_profile=None) -> Precision:
    """The bound with all orders that matter."""
    return precision_of(simulator_model(slice_profile=slice_profile)(sequence, tissue), tissue)


def _goal(start, config, slice_profile):
    voxels, _ = at_each_b1(config.tissue, config.design_b1)
    if config.objective == "separation":
        if config.reduce == "rms":
            raise ValueError("--reduce=rms goes with --objective=bound; that of separation is worst or mean")
        goal = Separation(voxels, reduce=config.reduce)
        return goal, _signal_model(start, config, goal.compared, slice_profile)
    engine = _signal_model(start, config, voxels, slice_profile)
    wanted = {"weight_t1": config.gain_t1, "weight_t2": config.gain_t2}
    plain = CramerRaoObjective(voxels, **wanted, reduce=config.reduce, sharpness=_SHARPNESS)
    reference = require_finite(plain, start, simulator_model(slice_profile=slice_profile)).precision
    return dataclasses.replace(plain, reference=reference), engine


def _signal_model(start, config, tissue, slice_profile) -> SignalModel:
    n_states = int(np.max(sufficient_n_states(start, tissue.ravel().t2, _ACCURACY)))
    if config.generator is None:
        return simulator_model(n_states=n_states, slice_profile=slice_profile)
    return generator_model(load_anchored(config.generator), tissue, n_states=n_states)


def _starts(parametrisation, config):
    """The parameters of the start, and of random ones around it."""
    first, rng = parametrisation.initial(), np.random.default_rng(config.seed)

    def stacked(leaf):
        leaf = np.asarray(leaf)
        others = leaf + _SPREAD * rng.standard_normal((config.starts - 1, *leaf.shape))
        return jnp.asarray(np.concatenate([leaf[None], others]), jnp.float32)

    return jax.tree.map(stacked, first)


def _of_start(tree, start):
    return jax.tree.map(lambda leaf: leaf[start], tree)


def _search(objective, optimiser, state: DesignState, steps, checkpoints, workdir):
    """The last state and the records of all chunks, those of earlier runs included."""
    if (restored := checkpoints.restore(state)) is not None:
        print(f"{workdir.path}: going on from step {restored[0]}", flush=True)
        state = restored[1]
    rows = workdir.rows(int(state.step))
    if rows and rows[-1]["converged"]:
        return state, rows
    before, clock = rows[-1]["seconds"] if rows else 0.0, time.perf_counter()
    with tqdm.tqdm(total=steps, initial=int(state.step), desc="designing", disable=not sys.stderr.isatty()) as bar:
        for found, row in optimise(objective, optimiser, state, steps, chunk=_CHUNK):
            state = found
            record = {name: np.asarray(value).tolist() for name, value in row.items()}
            record["seconds"] = round(before + time.perf_counter() - clock, 3)
            workdir.record(record)
            checkpoints.save(record["step"], state)
            rows.append(record)
            bar.update(record["step"] - bar.n)
            bar.set_postfix_str(f"objective {min(record['best']):.4f}")
    return state, rows
