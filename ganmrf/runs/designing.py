"""A sequence designed in its folder, gone on with where it was cut off."""

import dataclasses
import operator
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.anchors.generator_file import load_anchored
from ganmrf.design.constraints import roughness
from ganmrf.design.cramer_rao_objective import CramerRaoObjective, require_finite
from ganmrf.design.limits import Limits
from ganmrf.design.optimise import init_state, make_optimiser, optimise
from ganmrf.design.separation import Separation
from ganmrf.design.signal_models import SignalModel, generator_model, simulator_model
from ganmrf.dictionary.grids import at_each_b1
from ganmrf.dictionary.slice_fields import same_slice
from ganmrf.files import read_arrays, write_arrays
from ganmrf.memory import require_memory
from ganmrf.physics.n_states import n_states_of_boxes, sufficient_n_states
from ganmrf.physics.pools import slowest_t2
from ganmrf.physics.sequences.fisp import Fisp, require_fisp
from ganmrf.physics.slice_profile import FullSlice
from ganmrf.runs.design_config import DesignConfig
from ganmrf.runs.loop import advance
from ganmrf.runs.slices import slice_words
from ganmrf.runs.workdir import Workdir, read_config, read_records

_CHUNK = 50  # updates between two checkpoints
_ACCURACY = 1e-3  # of signals while a design is under way; its result is evaluated with all states that matter
# In a full slice each position takes time: this is the error of the longest T2, of CSF, and others have a tenth of it.
_SLICE_ACCURACY = 1e-2
# Of a tissue in a search from each start: states between blocks of frames, and all those of a block, in its gradient.
_FRAME_BYTES, _BLOCK_BYTES = 200, 6e4
_SPREAD = 1.5  # standard deviation of what is added to the parameters of further starts


class Design(NamedTuple):
    """What came out.

    Attributes:
      start: the sequence to improve on.
      sequence: the best one found.
      basins: the best sequence of every start.
      best: objective of each start, (starts,).
      values: objectives at every update, (updates, starts).
      seconds: of the search, compilation included.
      limits: what the sequences keep.
    """

    start: Fisp
    sequence: Fisp
    basins: list[Fisp]
    best: np.ndarray
    values: np.ndarray
    seconds: float
    limits: Limits


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

    Raises:
      ValueError: limits that cannot be met, an objective that is not finite at the start, a generator that does not
        cover the tissues, or more starts than the memory holds.
    """
    start = kept_start(workdir, config)
    n_voxels = config.starts * len(config.named_tissues) * len(config.design_b1)
    needed = n_voxels * (_FRAME_BYTES * start.n_frames + _BLOCK_BYTES)
    require_memory(needed, f"a search from {config.starts} starts", "fewer --starts or --frames need less")
    parametrisation = config.parametrisation(start)
    of_sequence = make_objective(config, start)

    def objective(params):
        return of_sequence(parametrisation.to_sequence(params))

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
        progress=progress,
    )
    best = np.asarray(state.best_value)
    params, to_sequence = jax.device_get(state.best_params), jax.jit(parametrisation.to_sequence)
    basins = [to_sequence(jax.tree.map(operator.itemgetter(i), params)) for i in range(config.starts)]
    values = np.concatenate([np.reshape(row["values"], (-1, config.starts)) for row in rows])
    designed, seconds = basins[int(np.argmin(best))], rows[-1]["seconds"]
    return Design(start, designed, basins, best, values, seconds, parametrisation.limits)


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
      ValueError: a start that does not determine the tissues, or a generator that does not cover them
        or is for another slice.
    """
    slice_profile, limits = config.simulation.slice_profile(), config.limits(start)
    voxels = at_each_b1(config.tissue, config.design_b1, b1_slowest=False)
    exact = simulator_model(slice_profile=slice_profile, parameters=config.unknown)
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
    model = _signal_model(start, config, voxels, slice_profile)

    def objective(sequence):
        return scale * worth(sequence, model) + config.smoothness * roughness(sequence, limits)

    return objective


def _signal_model(start, config, tissue, slice_profile) -> SignalModel:
    n_states = int(np.max(sufficient_n_states(start, slowest_t2(tissue.ravel()), _ACCURACY, slice_profile)))
    if isinstance(slice_profile, FullSlice):
        needed = n_states_of_boxes(start, [tissue.ravel()], accuracy=_SLICE_ACCURACY, slice_profile=slice_profile)[0]
        n_states = min(n_states, needed)
    if config.generator is None:
        return simulator_model(n_states=n_states, slice_profile=slice_profile, parameters=config.unknown)
    generator = load_anchored(config.generator)
    if not same_slice(generator.slice_profile, slice_profile):
        own, asked = map(slice_words, (generator.slice_profile, slice_profile))
        raise ValueError(f"generator: {config.generator} is for {own}, the design for {asked}: name its --slice_model")
    return generator_model(generator, tissue, n_states=n_states)


def _starts(parametrisation, config):
    """The parameters of the start, and of random ones around it."""
    first, rng = parametrisation.initial(), np.random.default_rng(config.seed)

    def stacked(leaf):
        leaf = np.asarray(leaf)
        others = leaf + _SPREAD * rng.standard_normal((config.starts - 1, *leaf.shape))
        return jnp.asarray(np.concatenate([leaf[None], others]), jnp.float32)

    return jax.tree.map(stacked, first)
