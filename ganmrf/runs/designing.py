"""A sequence designed in its folder, gone on with where it was cut off."""

import dataclasses
import operator
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.anchors.generator_file import load_anchored
from ganmrf.design.bounds import scan_time
from ganmrf.design.constraints import roughness
from ganmrf.design.cramer_rao_objective import CramerRaoObjective, require_finite
from ganmrf.design.limits import Limits
from ganmrf.design.optimise import init_state, make_optimiser, optimise
from ganmrf.design.parametrisations import FIELDS, Frames, Lobes, Parametrisation, Spline
from ganmrf.design.separation import Separation
from ganmrf.design.signal_models import SignalModel, generator_model, simulator_model
from ganmrf.dictionary.grids import at_each_b1
from ganmrf.dictionary.slice_fields import same_slice
from ganmrf.files import read_arrays, write_arrays
from ganmrf.imaging.phantom import BRAIN_TISSUES, TISSUES
from ganmrf.memory import require_memory
from ganmrf.physics.n_states import n_states_of_boxes, sufficient_n_states
from ganmrf.physics.sequences.fisp import Fisp, require_fisp
from ganmrf.physics.slice_profile import FullSlice
from ganmrf.physics.tissue import Tissue
from ganmrf.runs.configs import FISP_ALONE, OF_OTHER_KINDS, TISSUE_FIELDS, SimulationConfig
from ganmrf.runs.loop import advance
from ganmrf.runs.slices import slice_words
from ganmrf.runs.workdir import Workdir, read_config, read_records
from ganmrf.settings import configuration, group, naming_fields, setting

_INVERSION_MS = (18.0, 40.0)  # unless the user says otherwise: from the start's own to twice as long
_CHUNK = 50  # updates between two checkpoints
_ACCURACY = 1e-3  # of signals while a design is under way; its result is evaluated with all states that matter
# In a full slice each position takes time: this is the error of the longest T2, of CSF, and others have a tenth of it.
_SLICE_ACCURACY = 1e-2
# Of a tissue in a search from each start: states between blocks of frames, and all those of a block, in its gradient.
_FRAME_BYTES, _BLOCK_BYTES = 200, 6e4
_SPREAD = 1.5  # standard deviation of what is added to the parameters of further starts

# Of `Limits` -> of the configuration.
_LIMIT_FIELDS = {
    "flip_angle": "flip_angle_deg",
    "repetition_time": "repetition_time_ms",
    "inversion_time": "inversion_range_ms",
    "scan_time": "scan_time_s",
    "max_flip_change": "max_flip_change_deg",
    "rf_power": "rf_power",
}
_OF_BOUND = ("objective=bound",)


@configuration
class DesignConfig:
    """What precision is wanted, within which limits, and how it is looked for.

    Attributes:
      simulation: the sequence that the search starts from, and the slice profile; the grid is not read.

    Raises:
      ValueError: a field that breaks its rule.
    """

    simulation: SimulationConfig = group(
        SimulationConfig, without=(*TISSUE_FIELDS, *OF_OTHER_KINDS), choices=FISP_ALONE
    )
    tissues: tuple[str, ...] = setting(
        tuple("{}:{:g}/{:g}".format(name, *(1e3 * time for time in TISSUES[name][:2])) for name in BRAIN_TISSUES),
        "tissues to serve, name:T1/T2 in ms",
    )
    design_b1: tuple[float, ...] = setting((1.0,), "B1 values that the design must serve", above=0)
    flip_angle_deg: tuple[float, ...] = setting(
        (0.0, 85.0), "smallest and largest flip angle, degrees", at_least=0, at_most=360, repeats=True
    )
    repetition_time_ms: tuple[float, ...] = setting(
        (11.5, 16.0), "shortest and longest repetition time, ms", above=0, repeats=True
    )
    inversion_range_ms: tuple[float, ...] | None = setting(
        None, "shortest and longest inversion time, ms; default: 18,40", at_least=0, repeats=True
    )
    scan_time_s: float | None = setting(None, "scan time with the inversion time, s; default: the start's", above=0)
    scan_time_fixed: bool = setting(True, "the scan time must be that, not at most that")
    max_flip_change_deg: float | None = setting(None, "change from frame to frame, degrees; default: any", above=0)
    rf_power: float | None = setting(
        None, "sum of squared flip angles over the scan time, rad^2/s; default: any", above=0
    )
    objective: str = setting("bound", "Cramer-Rao bound, or inner products", choices=("bound", "separation"))
    reduce: str = setting("worst", "over T1, T2 and the tissues", choices=("worst", "mean", "rms"))
    gain_t1: float = setting(
        1.0, "wanted gain of the standard deviation of T1 over the start's", at_least=0, goes_with=_OF_BOUND
    )
    gain_t2: float = setting(2.0, "wanted gain of that of T2", at_least=0, goes_with=_OF_BOUND)
    shape: str = setting("spline", "of flip angles and repetition times", choices=("spline", "frames", "lobes"))
    knot_spacing: float = setting(
        10.0, "frames between two knots of splines", at_least=1, goes_with=("shape=spline|lobes",)
    )
    smoothness: float = setting(0.0, "weight of the mean squared second difference in the objective", at_least=0)
    optimise: tuple[str, ...] = setting(FIELDS, "fields that are free", choices=FIELDS)
    starts: int = setting(3, "number of starts: the given sequence, and random ones around it", at_least=1)
    seed: int = setting(0, "of the random starts and of the noise", at_least=0)
    optimiser: str = setting("adam", "of the search", choices=("adam", "lbfgs"))
    learning_rate: float = setting(0.1, "of Adam; it falls to 0", above=0, at_most=100, goes_with=("optimiser=adam",))
    steps: int = setting(800, "updates, at most", at_least=1)
    generator: str | None = setting(
        None, "anchored generator to take signals from in place of the simulator", reads=True
    )

    def __post_init__(self):
        _ = self.named_tissues
        for name in ("flip_angle_deg", "repetition_time_ms", "inversion_range_ms"):
            if len(values := getattr(self, name) or (0,)) > 2:
                raise ValueError(f"{name} must be one number or two; got {','.join(map(str, values))}")
            if values[0] > values[-1] or (name == "flip_angle_deg" and not values[-1]):
                raise ValueError(f"{name} must rise to more than 0; got {','.join(map(str, values))}")
        if self.objective == "separation" and self.reduce == "rms":
            raise ValueError("reduce=rms goes with --objective=bound; that of separation is worst or mean")
        if not (self.gain_t1 or self.gain_t2):
            raise ValueError("gain_t1 and --gain_t2 are both 0: nothing is wanted")

    @property
    def named_tissues(self) -> dict[str, tuple[float, float]]:
        """Name -> T1 and T2, ms."""
        try:
            pairs = [text.rsplit(":", 1) for text in self.tissues]
            found = {name: tuple(map(float, times.split("/"))) for name, times in pairs}
            valid = all(found) and len(found) == len(pairs)
            valid &= all(np.inf > t1 >= t2 > 0 for t1, t2 in found.values())
        except ValueError:
            valid = False
        if not valid:
            rule = "name:T1/T2 in ms, T1 >= T2 > 0, separated by commas"
            raise ValueError(f"tissues must be {rule}; got {','.join(self.tissues)}")
        return found

    @property
    def tissue(self) -> Tissue:
        """The tissues, B1 = 1, (tissues,)."""
        t1, t2 = 1e-3 * np.transpose(list(self.named_tissues.values()))
        return Tissue(t1, t2)

    def limits(self, start: Fisp) -> Limits:
        """The limits of a search from ``start``; without a scan time, that of the start."""
        if start.inversion_time is None and self.inversion_range_ms is not None:
            raise ValueError("inversion_range_ms goes with a start that has an inversion; that of --schedule has none")
        inversion = self.inversion_range_ms or _INVERSION_MS
        change = self.max_flip_change_deg
        with naming_fields(**_LIMIT_FIELDS):
            return Limits(
                flip_angle=tuple(np.deg2rad([self.flip_angle_deg[0], self.flip_angle_deg[-1]]).tolist()),
                repetition_time=(1e-3 * self.repetition_time_ms[0], 1e-3 * self.repetition_time_ms[-1]),
                echo_time=float(start.echo_time[0]),
                inversion_time=None if start.inversion_time is None else (1e-3 * inversion[0], 1e-3 * inversion[-1]),
                scan_time=float(scan_time(start)) if self.scan_time_s is None else self.scan_time_s,
                scan_time_fixed=self.scan_time_fixed,
                max_flip_change=None if change is None else float(np.deg2rad(change)),
                rf_power=self.rf_power,
            )

    def parametrisation(self, start: Fisp) -> Parametrisation:
        """The sequences that a search from ``start`` chooses from."""
        shapes = {
            "spline": Spline(self.knot_spacing),
            "frames": Frames(),
            "lobes": Lobes(knot_spacing=self.knot_spacing),
        }
        with naming_fields(**_LIMIT_FIELDS):
            return Parametrisation(start, self.limits(start), shapes[self.shape], self.optimise)


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
    n_voxels = config.starts * len(config.tissues) * len(config.design_b1)
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
    if config.objective == "separation":
        worth, scale = Separation(voxels, reduce=config.reduce), 1.0
        voxels = worth.compared
    else:
        absolute = CramerRaoObjective(voxels, {"t1": config.gain_t1, "t2": config.gain_t2}, config.reduce)
        reference = require_finite(absolute, start, simulator_model(slice_profile=slice_profile)).precision
        # The weights of the objective have a mean of 1: scaled back, 1 is where the wanted gains are reached.
        scale = np.mean([gain for gain in (config.gain_t1, config.gain_t2) if gain])
        worth = dataclasses.replace(absolute, reference=reference)
    model = _signal_model(start, config, voxels, slice_profile)

    def objective(sequence):
        return scale * worth(sequence, model) + config.smoothness * roughness(sequence, limits)

    return objective


def _signal_model(start, config, tissue, slice_profile) -> SignalModel:
    n_states = int(np.max(sufficient_n_states(start, tissue.ravel().t2, _ACCURACY, slice_profile)))
    if isinstance(slice_profile, FullSlice):
        needed = n_states_of_boxes(start, [tissue.ravel()], accuracy=_SLICE_ACCURACY, slice_profile=slice_profile)[0]
        n_states = min(n_states, needed)
    if config.generator is None:
        return simulator_model(n_states=n_states, slice_profile=slice_profile)
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
