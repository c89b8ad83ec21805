"""A generator for any sequence of a kind, made in its folder, and gone on with where it was cut off."""

import dataclasses
import functools
import pathlib
import time
from typing import NamedTuple

import numpy as np

from ganmrf.anchors.anchor_set import (
    FEATURES_PER_ANCHOR,
    IN_SLICE,
    LADDER,
    AnchorSet,
    build_anchor_set,
    with_spread_anchors,
)
from ganmrf.anchors.families import FAMILIES
from ganmrf.anchors.generator import AnchoredGenerator, radial_generator, table_generator, trunk_generator
from ganmrf.anchors.generator_file import load_anchored, save_generator
from ganmrf.anchors.joint_features import require_joint_memory, signals_are_complex
from ganmrf.anchors.trunk import RECIPE, draw_tissue, finish_trunk, trunk_data, warm_params
from ganmrf.dictionary.slice_fields import fields_of_slice
from ganmrf.files import read_arrays, read_json, replacing, write_json
from ganmrf.gan.memory import require_training_memory
from ganmrf.gan.recipes import Recipe
from ganmrf.gan.train import fit, init_state
from ganmrf.parallel import one_blas_thread
from ganmrf.physics.simulate_many import require_signal_memory
from ganmrf.physics.tissue import TISSUES, parameters
from ganmrf.physics.tissue_box import TissueBox
from ganmrf.progress import watched
from ganmrf.runs.boxes import BoxConfig
from ganmrf.runs.loop import advance
from ganmrf.runs.simulation_config import OF_OTHER_SEQUENCES, TISSUE_FIELDS, SimulationConfig
from ganmrf.runs.slices import OF_PULSE, PowerConfig
from ganmrf.runs.training import losses
from ganmrf.runs.workdir import Workdir, check_unchanged, read_config
from ganmrf.settings import configuration, group, setting

_OF_GRID = frozenset(TISSUE_FIELDS) - {"tissue", "fix"}
_OF_ONE_SEQUENCE = "schedule", "schedule_slice", "echo_time_ms", "inversion_time_ms"  # random ones have their own
RADIAL = ("radial", "radial_spread")
KINDS = ("trunk", "table", *RADIAL)
_TABLE_BLOCK = 4096  # atoms of a table that are simulated, and kept, at a time
# Of two axes, of three, and of more or with a frequency.
_ANCHORS, _WIDTH, _DEPTH, _STEPS = (
    (96, 256, 512),
    (128, RECIPE.width, 320),
    (3, RECIPE.depth, 5),
    (*2 * [RECIPE.steps], 6000),
)
_OF_TRUNK = ("kind=trunk",)
_WARM, _WARM_RATE = 10, 1e-3  # of a trunk that begins with another one: steps are a tenth, at a third of the rate
_TISSUES = 8192, 2048
_DRAWS = 6  # of fresh tissues in the training of a trunk, a checkpoint after each


@configuration
class AnchoredConfig:
    """Anchors, and weights over a box of tissue.

    Attributes:
      simulation: kind and length of the sequences, slice profile, and the grid of a table.
      anchors: once made, a number, as ``width``, ``depth``, ``steps`` and ``slice_sequences`` are: more with more axes.

    Raises:
      ValueError: a field that breaks its rule.
    """

    simulation: SimulationConfig = group(
        SimulationConfig,
        without=(*_OF_ONE_SEQUENCE, *OF_OTHER_SEQUENCES, *vars(PowerConfig())),
        choices={"sequence": tuple(FAMILIES)},
        meanings={
            "sequence": "kind of the random sequences: inversion-prepared FISP, FISP in heartbeats after preparations, "
            "or balanced SSFP",
            "frames": "frames of each random sequence, of heart rhythms 15 beats for 1000; default: 1000",
        },
    )
    kind: str = setting("trunk", "where weights come from", choices=KINDS)
    ranges: BoxConfig = group(BoxConfig)
    anchors: int | None = setting(
        None,
        f"most anchors; default: {_ANCHORS[0]} of two axes, {_ANCHORS[1]} of three, {_ANCHORS[2]} of more or with a "
        "frequency",
        at_least=LADDER[0],
        at_most=LADDER[-1],
    )
    sequences: int = setting(16, "random sequences to learn from", at_least=1)
    candidates: int = setting(4096, "tissues that anchors are chosen from", at_least=1)
    start: str | None = setting(
        None,
        "generator.npz of another box or field, whose hidden layers a trunk begins with; it must have the same axes of "
        "the same kind of tissue, and the same --width and --depth",
        reads=True,
        goes_with=_OF_TRUNK,
    )
    tissues: int | None = setting(
        None,
        f"fresh tissues of each sixth of a trunk's training; default: {_TISSUES[0]}, or {_TISSUES[1]} with --start",
        at_least=1,
        goes_with=_OF_TRUNK,
    )
    refit_tissues: int = setting(
        16384, "tissues that a trunk's output layer is solved for on", at_least=1, goes_with=_OF_TRUNK
    )
    width: int | None = setting(
        None,
        f"units of a hidden layer of the trunk; default: {_WIDTH[0]}, {_WIDTH[1]} or {_WIDTH[2]}, by axes as --anchors",
        at_least=1,
        goes_with=_OF_TRUNK,
    )
    depth: int | None = setting(
        None, f"hidden layers; default: {_DEPTH[0]}, {_DEPTH[1]} or {_DEPTH[2]}", at_least=1, goes_with=_OF_TRUNK
    )
    batch_size: int = setting(RECIPE.batch_size, "tissues a step", at_least=1, goes_with=_OF_TRUNK)
    steps: int | None = setting(
        None,
        f"updates; default: {_STEPS[0]}, or {_STEPS[2]} of more than three axes, and a {_WARM}th of it with --start",
        at_least=1,
        goes_with=_OF_TRUNK,
    )
    repetition_time_ms: float | None = setting(
        None,
        "one repetition time of all sequences, in ms, so that signals are periodic in off-resonance: a range of 1/TR "
        "is a circle; default: random ones",
        above=0,
        goes_with=("sequence=bssfp",),
    )
    slice_sequences: int | None = setting(
        None,
        "of --sequences, those that are simulated in the slice, the others in a uniform one, a hundred times as fast; "
        "default: 2, or none for a trunk",
        at_least=0,
        goes_with=OF_PULSE,
    )
    seed: int = setting(0, "of sequences, tissues and the network", at_least=0)

    def __post_init__(self):
        box = self.box()
        many = len(box.names) > 3 or any(parameters(TISSUES[box.kind])[name].signed for name in box.names)
        defaults = {"anchors": _ANCHORS, "width": _WIDTH, "depth": _DEPTH, "steps": _STEPS}
        if self.start is not None:
            defaults["steps"] = tuple(steps // _WARM for steps in _STEPS)
        defaults["tissues"] = 3 * (_TISSUES[self.start is not None],)
        defaults["slice_sequences"] = 3 * (0 if self.kind == "trunk" else min(IN_SLICE, self.sequences),)
        for name, by_axes in defaults.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, by_axes[2 if many else len(box.names) - 2])
        if self.anchors > self.candidates:
            raise ValueError(f"candidates must be at least the {self.anchors} anchors; got {self.candidates}")
        if self.slice_sequences > self.sequences:
            raise ValueError(
                f"slice_sequences must be at most --sequences, {self.sequences}; got {self.slice_sequences}"
            )
        if self.simulation.frames == 1:
            raise ValueError("frames must be at least 2: fingerprints of one frame, of unit norm, are all the same")

    def box(self) -> TissueBox:
        """The tissues that the fields name."""
        period = None if self.repetition_time_ms is None else 1e3 / self.repetition_time_ms
        return self.ranges.box(self.simulation.pools, period)

    def recipe(self) -> Recipe:
        """How the trunk is trained."""
        changes = {name: getattr(self, name) for name in ("width", "depth", "batch_size", "steps")}
        if self.start is not None:
            changes["learning_rate"] = _WARM_RATE
        return dataclasses.replace(RECIPE, **changes)


class Made(NamedTuple):
    """A generator, what it was made from, the records of a trunk's training, and the core-seconds of all of it.

    Core-seconds of another generator that the trunk began with are among them, where its folder tells them.
    """

    config: AnchoredConfig
    anchor_set: AnchorSet
    generator: AnchoredGenerator
    rows: list[dict]
    core_seconds: float


@one_blas_thread()
def make_in_folder(
    path, config: AnchoredConfig | None = None, given: frozenset[str] | None = None, *, progress: bool = True
) -> Made:
    """Makes a generator in a folder, from where it was cut off if it was.

    Args:
      path: gets ``config.json``, ``generator.npz``, ``made.json``, and what the kind needs: ``metrics.jsonl`` and
        ``checkpoints`` of a trunk, ``table`` of a table.
      config: what is made. None: as the folder says.
      given: names of the fields that the user gave; the others yield to those that the folder holds. None: all of them.
      progress: whether to show progress.

    Raises:
      ValueError: settings that do not go together, a folder in use or of other settings, or a training that diverges.
    """
    if config is None:
        config = read_config(path, AnchoredConfig())
    if config.simulation.schedule is not None:
        raise ValueError("schedule: the generator is for any sequence of its kind, and learns from random ones")
    with Workdir(path, config, given) as workdir:
        config = workdir.config
        if config.kind != "table" and (unread := sorted((given or frozenset()).intersection(_OF_GRID))):
            raise ValueError(f"{unread[0]} would change nothing: a grid goes with kind=table; got kind={config.kind}")
        profile = config.simulation.slice_profile()
        if config.start is not None:
            _trunk_to_start_with(config)
        _require_memory(config, profile)
        check_unchanged(workdir.path, fields_of_slice(profile), note=True)
        start = time.process_time()
        anchor_set = build_anchor_set(
            config.box(),
            profile,
            family=config.simulation.kind.sequence,
            n_anchors=config.anchors,
            n_sequences=config.sequences,
            n_frames=config.simulation.frames or 1000,
            n_candidates=config.candidates,
            n_in_slice=config.slice_sequences,
            repetition_time=None if config.repetition_time_ms is None else 1e-3 * config.repetition_time_ms,
            seed=config.seed,
            progress=progress,
        )
        anchor_set = anchored_as(anchor_set, config.kind)
        chosen = time.process_time()
        make, rows, learning = _learn(workdir, anchor_set, config, progress)
        learned = time.process_time()
        generator = make()
        save_generator(workdir.path / "generator.npz", generator)
        seconds = chosen - start + learning + time.process_time() - learned + _seconds_of_start(config)
        write_json(workdir.path / "made.json", {"core_seconds": round(seconds, 2)})
    return Made(config, anchor_set, generator, rows, seconds)


def _require_memory(config, slice_profile):
    """Asks before the anchors are chosen about the memory that learning takes, too."""
    n_frames, n_features = config.simulation.frames or 1000, int(FEATURES_PER_ANCHOR * config.anchors)
    n_tissues = config.candidates
    if config.kind == "table":
        n_tissues = max(n_tissues, _TABLE_BLOCK)
        require_signal_memory(config.simulation.tissue().size, 3 * n_features)  # blocks, all in one array, and a copy
    if config.kind == "trunk":
        n_tissues = max(n_tissues, config.tissues, config.refit_tissues)
    is_complex = signals_are_complex(config.box(), slice_profile)
    require_joint_memory(n_tissues, config.sequences, n_frames, n_features, is_complex=is_complex)
    if config.kind == "trunk":
        require_training_memory(config.recipe(), n_tissues, n_features, n_features)


def anchored_as(anchor_set: AnchorSet, kind: str) -> AnchorSet:
    """The anchor set with the anchors of a kind: spread evenly for ``radial_spread``, else its own."""
    return with_spread_anchors(anchor_set) if kind == "radial_spread" else anchor_set


def _learn(workdir, anchor_set, config, progress):
    """What makes the generator, the records of a trunk's training, and the core-seconds of learning, of all calls."""
    if config.kind == "table":
        tissue, values, seconds = _table(workdir.path, anchor_set, config.simulation, progress)
        return functools.partial(table_generator, anchor_set, tissue, values), [], seconds
    if config.kind in RADIAL:
        return functools.partial(radial_generator, anchor_set), [], 0.0
    recipe, seed = config.recipe(), config.seed
    data = trunk_data(anchor_set, anchor_set.features_of(anchor_set.validation))
    draw = draw_tissue(anchor_set, seed, config.tissues)
    chunks = functools.partial(fit, recipe, data, seed=seed, chunk=max(recipe.steps // _DRAWS, 1), draw=draw)
    state = init_state(recipe, data, seed)
    if config.start is not None:
        of_other = _trunk_to_start_with(config)
        params = warm_params(anchor_set, of_other, data.scaling.output_scale, seed, config.tissues)
        state = dataclasses.replace(state, generator=dataclasses.replace(state.generator, params=params))
    state, rows = advance(chunks, state, workdir, recipe.steps, note=losses, progress=progress)

    def make():
        return trunk_generator(anchor_set, finish_trunk(anchor_set, recipe, state.params, seed, config.refit_tissues))

    return make, rows, rows[-1]["core_seconds"]


def _trunk_to_start_with(config):
    """The trunk of ``start``; `ValueError` for one that is none, or has another shape than the one to make."""
    other, box = load_anchored(config.start), config.box()
    if other.model.kind != "trunk":
        raise ValueError(f"start must be a generator of kind trunk; {config.start} is of kind {other.model.kind}")
    for what, theirs, ours in (
        ("the kind of tissue", other.box.kind, box.kind),
        ("the axes", ",".join(other.box.names), ",".join(box.names)),
        ("--width", other.model.trunk.recipe.width, config.width),
        ("--depth", other.model.trunk.recipe.depth, config.depth),
    ):
        if theirs != ours:
            raise ValueError(
                f"start: {what} of {config.start} must be {ours}, as of the generator to make; got {theirs}"
            )
    return other.model.trunk


def _seconds_of_start(config):
    """Core-seconds of the generator that the trunk began with; 0 without one, or where nothing tells them."""
    record = None if config.start is None else pathlib.Path(config.start).with_name("made.json")
    return read_json(record)["core_seconds"] if record and record.exists() else 0.0


def _table(path, anchor_set, simulation, progress):
    """The grid, its features, and the core-seconds that they took; blocks that are there already are read."""
    tissue = simulation.tissue().ravel()
    anchor_set.box.require_inside(tissue)
    folder = path / "table"
    folder.mkdir(exist_ok=True)
    blocks, seconds = [], 0.0
    starts = range(0, tissue.size, _TABLE_BLOCK)
    for start in watched(starts, "simulating the table", shown=progress):
        file = folder / f"{start}.npz"
        if not file.exists():
            clock = time.process_time()
            features = anchor_set.features_of(tissue.rows(slice(start, start + _TABLE_BLOCK))).astype(np.float32)
            with replacing(file) as temporary:
                np.savez(temporary, allow_pickle=False, features=features, core_seconds=time.process_time() - clock)
        block = read_arrays(file)
        blocks.append(block["features"])
        seconds += float(block["core_seconds"])
    return tissue, np.concatenate(blocks), seconds
