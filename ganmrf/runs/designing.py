"""A sequence designed in its folder, gone on with where it was cut off."""

import dataclasses
import operator
import time
import warnings
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.design.combined import CombinedSignals
from ganmrf.design.constraints import roughness
from ganmrf.design.cramer_rao_objective import CramerRaoObjective, require_finite
from ganmrf.design.limits import Limits
from ganmrf.design.optimise import init_state, make_optimiser, optimise
from ganmrf.design.separation import Separation
from ganmrf.design.signal_models import SignalModel, simulator_model
from ganmrf.design.verification import Verification, exact_bounds, verified
from ganmrf.files import read_arrays, write_arrays
from ganmrf.memory import require_memory
from ganmrf.physics.sequences.fisp import Fisp, require_fisp
from ganmrf.physics.tissue import TissueModel
from ganmrf.runs.design_config import DesignConfig
from ganmrf.runs.design_signals import SPREAD, STATED, signal_model
from ganmrf.runs.loop import TIMES, advance
from ganmrf.runs.workdir import Workdir, read_config, read_records

_CHUNK = 50  # updates between two checkpoints
# Of a tissue in a search from each start: states between blocks of frames, and all those of a block, in its gradient.
_FRAME_BYTES, _BLOCK_BYTES = 200, 6e4


class Design(NamedTuple):
    """What came out.

    Attributes:
      start: the sequence to improve on.
      sequence: the best one found.
      basins: the best sequence of every start.
      best: objective of each start, (starts,); by the simulator, whatever the search has taken signals from.
      values: objectives at every update, (updates, starts).
      seconds: of the search, compilation included.
      limits: what the sequences keep.
      core_seconds: of the search, and of what prepared it.
      n_anchors: how many anchors a search by anchors has simulated; None of a search by the simulator.
      verification: bounds of ``sequence`` by these anchors and by the simulator; None without anchors or bounds.
    """

    start: Fisp
    sequence: Fisp
    basins: list[Fisp]
    best: np.ndarray
    values: np.ndarray
    seconds: float
    limits: Limits
    core_seconds: float
    n_anchors: int | None = None
    verification: Verification | None = None


def design_in_folder(
    path, config: DesignConfig | None = None, given: frozenset[str] | None = None, *, progress: bool = True
) -> Design:
    """Looks for the sequence that serves the objective best, from where the search in a folder was cut off.

    Args:
      path: gets ``config.json``, ``start.npz``, ``metrics.jsonl`` and ``checkpoints``.
      config: what is wanted. None: as the folder says.
      given: names of the fields that the user gave; the others yield to those that the folder holds. None: all of them.
      progress: whether to show progress.

    Raises:
      ValueError: as `design`, or a folder in use or of other settings.
    """
    if config is None:
        config = read_config(path, DesignConfig())
    with Workdir(path, config, given) as workdir:
        return design(workdir, workdir.config, progress=progress)


def design(workdir: Workdir, config: DesignConfig, *, progress: bool = True) -> Design:
    """`design_in_folder`, in a folder that is open.

    A search by anchors is verified by the simulator: the best of its starts is the best by the simulator.

    Raises:
      ValueError: limits that cannot be met, an objective that is not finite at the start, what `signal_model` raises,
        or more starts than the memory holds.

    Warns:
      UserWarning: bounds of the design by anchors that differ from the simulator's by more than 5 %.
    """
    began, start = time.process_time(), kept_start(workdir, config)
    voxels = config.served
    _require_search_memory(config, voxels.size, start.n_frames)
    parametrisation = config.parametrisation(start)
    worth = _wanted(config, start)
    model = signal_model(start, parametrisation, config, worth.tissue)

    def objective(params):
        return worth(parametrisation.to_sequence(params), model)

    optimiser = make_optimiser(config.optimiser, config.learning_rate, config.steps)
    state, rows = advance(
        lambda state: optimise(objective, optimiser, state, config.steps, chunk=_CHUNK),
        init_state(objective, optimiser, _starts(parametrisation, config)),
        workdir,
        config.steps,
        label="designing",
        note=lambda row: f"objective {min(row['best']):.4f}",
        ended=lambda rows: bool(rows) and rows[-1]["converged"],
        recorded=("best", "values", "converged"),
        core_seconds=time.process_time() - began,
        progress=progress,
    )
    best = np.asarray(state.best_value)
    params, to_sequence = jax.device_get(state.best_params), jax.jit(parametrisation.to_sequence)
    basins = [to_sequence(jax.tree.map(operator.itemgetter(i), params)) for i in range(config.starts)]
    values = np.concatenate([np.reshape(row["values"], (-1, config.starts)) for row in rows])
    seconds, core_seconds = (rows[-1][name] for name in TIMES)
    designed, limits = basins[int(np.argmin(best))], parametrisation.limits
    found = Design(start, designed, basins, best, values, seconds, limits, core_seconds)
    return _verified(found, config, worth, model) if isinstance(model, CombinedSignals) else found


def _verified(found, config, worth, model):
    """A design by anchors, its starts compared by the simulator, and its bounds beside the simulator's."""
    profile = config.simulation.slice_profile()
    exact = simulator_model(slice_profile=profile, parameters=config.unknown)
    best = np.array([float(worth(each, exact)) for each in found.basins])
    found = found._replace(sequence=found.basins[int(np.argmin(best))], best=best, n_anchors=model.anchors.size)
    if config.objective == "separation":
        return found
    tissue = worth.tissue
    bounds = exact_bounds(found.sequence, tissue, config.unknown, profile)
    verification = verified(found.sequence, model, bounds, tissue)
    if verification.apart > STATED:
        warnings.warn(
            f"bounds of the design by anchors differ from the simulator's by more than {100 * STATED:.0f} %: "
            f"{verification.words(tissue)}; the search has followed errors of the anchors, and one by the simulator "
            "may end lower",
            stacklevel=3,
        )
    return found._replace(verification=verification)


def _require_search_memory(config, n_voxels, n_frames):
    needed = config.starts * n_voxels * (_FRAME_BYTES * n_frames + _BLOCK_BYTES)
    require_memory(needed, f"a search from {config.starts} starts", "fewer --starts or --frames need less")


def kept_start(workdir: Workdir, config: DesignConfig) -> Fisp:
    """The sequence that a search in a folder starts from: of its first call, whatever became of the schedule since.

    Raises:
      ValueError: a schedule, or a ``start.npz`` in the folder, that cannot be read.
    """
    path = workdir.path / "start.npz"
    if not path.exists() or not read_records(workdir.path):
        start = config.simulation.sequence()
        require_fisp(start, "schedule: a design")
        write_arrays(path, {name: value for name, value in vars(start).items() if value is not None})
        return start
    arrays = read_arrays(path)
    try:
        return Fisp(**arrays)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: not the start of a design ({error})") from error


def make_objective(config: DesignConfig, start: Fisp) -> Callable[[Fisp], jax.Array]:
    """What a sequence is worth to a search from ``start``: a function to a scalar, which is less for a better sequence.

    The value of the bound is 1 where the wanted gains are just reached; that of the separation is an inner product.

    Raises:
      ValueError: a start that does not determine the tissues, or what `signal_model` raises.
    """
    worth = _wanted(config, start)
    model = signal_model(start, config.parametrisation(start), config, worth.tissue)
    return lambda sequence: worth(sequence, model)


class _Worth(NamedTuple):
    """What a sequence is worth by a signal model, and the tissue that the signal model is for."""

    objective: Callable[[Fisp, SignalModel], jax.Array]
    tissue: TissueModel
    scale: float
    smoothness: float
    limits: Limits

    def __call__(self, sequence, model):
        return self.scale * self.objective(sequence, model) + self.smoothness * roughness(sequence, self.limits)


def _wanted(config, start):
    voxels = config.served
    exact = simulator_model(slice_profile=config.simulation.slice_profile(), parameters=config.unknown)
    if config.objective == "separation":
        worth, scale = Separation(voxels, reduce=config.reduce), 1.0
        voxels = worth.compared
    elif config.objective == "joint":
        worth = CramerRaoObjective(voxels, dict.fromkeys(config.unknown, 1.0), "rms")
        require_finite(worth, start, exact)
        scale = len(config.unknown) ** 0.5  # from the mean over parameters to their sum
    else:
        gains = config.gains()
        absolute = CramerRaoObjective(voxels, gains, config.reduce)
        reference = require_finite(absolute, start, exact).precision
        # The weights of the objective have a mean of 1: scaled back, 1 is where the wanted gains are reached.
        scale = np.mean([gain for gain in gains.values() if gain])
        worth = dataclasses.replace(absolute, reference=reference)
    return _Worth(worth, voxels, scale, config.smoothness, config.limits(start))


def _starts(parametrisation, config):
    """The parameters of the start, and of random ones around it."""
    first, rng = parametrisation.initial(), np.random.default_rng(config.seed)

    def stacked(leaf):
        leaf = np.asarray(leaf)
        others = leaf + SPREAD * rng.standard_normal((config.starts - 1, *leaf.shape))
        return jnp.asarray(np.concatenate([leaf[None], others]), jnp.float32)

    return jax.tree.map(stacked, first)
