"""A generator for any sequence, made in its folder, and gone on with where it was cut off."""

import dataclasses
import functools
import json
import pathlib
import sys
import time
from typing import NamedTuple

import numpy as np
import tqdm

from ganmrf.anchors.anchor_set import AnchorSet, build_anchor_set, with_spread_anchors
from ganmrf.anchors.generator import AnchoredGenerator, radial_generator, table_generator, trunk_generator
from ganmrf.anchors.generator_file import save_generator
from ganmrf.anchors.tissue_box import TissueBox
from ganmrf.anchors.trunk import RECIPE, draw_tissue, finish_trunk, trunk_data
from ganmrf.files import read_arrays, replacing
from ganmrf.gan.checkpoint import Checkpoints
from ganmrf.gan.recipes import Recipe
from ganmrf.gan.train import fit, init_state
from ganmrf.runs.configs import SimulationConfig
from ganmrf.runs.training import advance, resumed
from ganmrf.runs.workdir import Workdir

RADIAL = ("radial", "radial_spread")
KINDS = ("trunk", "table", *RADIAL)
_TABLE_BLOCK = 4096  # atoms of a table that are simulated, and kept, at a time
_DRAWS = 6  # of fresh tissues in the training of a trunk, a checkpoint after each


@dataclasses.dataclass(frozen=True)
class AnchoredConfig:
    """What an anchored generator is made with; the fields are the flags of `train_anchored`."""

    kind: str
    t1_range_ms: str
    t2_range_ms: str
    b1_range: str | None
    anchors: int
    sequences: int
    candidates: int
    tissues: int
    refit_tissues: int
    width: int
    depth: int
    batch_size: int
    steps: int
    seed: int

    def box(self) -> TissueBox:
        """The tissues that the flags name."""
        ranges = {"t1": (self.t1_range_ms, 1e-3), "t2": (self.t2_range_ms, 1e-3)}
        if self.b1_range is not None:
            ranges["b1"] = (self.b1_range, 1.0)
        ends = []
        for name, (text, unit) in ranges.items():
            flag = f"--{name}_range" + ("_ms" if unit < 1 else "")
            try:
                low, high = (unit * float(number) for number in text.split(","))
            except ValueError:
                raise ValueError(f"{flag} must be two numbers such as 10,3000; got {text!r}") from None
            if not 0 < low < high < np.inf:
                raise ValueError(f"{flag} must be two positive numbers, the lower one first; got {text!r}")
            ends.append((low, high))
        return TissueBox(tuple(ranges), *np.transpose(ends))

    def recipe(self) -> Recipe:
        """How the trunk is trained."""
        names = ("width", "depth", "batch_size", "steps")
        return dataclasses.replace(RECIPE, **{name: getattr(self, name) for name in names})


class Made(NamedTuple):
    """A generator, what it was made from, the records of a trunk's training, and the core-seconds of all of it."""

    config: AnchoredConfig
    anchor_set: AnchorSet
    generator: AnchoredGenerator
    rows: list[dict]
    core_seconds: float


def make_in_folder(path, simulation: SimulationConfig, config: AnchoredConfig, given: frozenset[str]) -> Made:
    """Makes a generator in a folder, from where it was cut off if it was.

    Args:
      path: gets ``config.json``, ``generator.npz``, and what the kind needs: ``metrics.jsonl`` and ``checkpoints`` of a
        trunk, ``table`` of a table.
      simulation: slice profile, length of the sequences, and the grid of a table.
      config: everything else.
      given: names of the settings that the user gave; the others yield to those that the folder holds.

    Returns:
      What was made.

    Raises:
      ValueError: settings that do not go together, a folder in use or of other settings, or a training that diverges.
    """
    if simulation.schedule is not None:
        raise ValueError("--schedule: the generator is for any sequence, and is trained on random ones")
    settings = {"simulation": dataclasses.asdict(simulation), **dataclasses.asdict(config)}
    with Workdir(path, settings, given) as workdir:
        stored = dict(workdir.config)
        simulation = SimulationConfig(**stored.pop("simulation"))
        config = AnchoredConfig(**stored)
        start = time.process_time()
        anchor_set = anchored_as(_anchor_set(simulation, config), config.kind)
        laid = time.process_time()
        make, rows, learning = _learn(workdir, anchor_set, simulation, config)
        learned = time.process_time()
        generator = make()
        save_generator(workdir.path / "generator.npz", generator)
        seconds = laid - start + learning + time.process_time() - learned
        with replacing(workdir.path / "made.json") as temporary:
            temporary.write_text(json.dumps({"core_seconds": round(seconds, 2)}) + "\n", encoding="utf-8")
    return Made(config, anchor_set, generator, rows, seconds)


def anchored_as(anchor_set: AnchorSet, kind: str) -> AnchorSet:
    """The anchor set with the anchors of a kind: spread evenly for ``radial_spread``, else its own."""
    return with_spread_anchors(anchor_set) if kind == "radial_spread" else anchor_set


def _anchor_set(simulation, config) -> AnchorSet:
    return build_anchor_set(
        config.box(),
        simulation.slice_profile(),
        n_anchors=config.anchors,
        n_sequences=config.sequences,
        n_frames=simulation.frames or 1000,
        n_candidates=config.candidates,
        seed=config.seed,
    )


def _learn(workdir, anchor_set, simulation, config):
    """What makes the generator, the records of a trunk's training, and the core-seconds of learning, of all calls."""
    if config.kind == "table":
        tissue, values, seconds = _table(workdir.path, anchor_set, simulation)
        return functools.partial(table_generator, anchor_set, tissue, values), [], seconds
    if config.kind in RADIAL:
        return functools.partial(radial_generator, anchor_set), [], 0.0
    recipe, params, rows = _train_trunk(workdir, anchor_set, config)
    return functools.partial(_finished, anchor_set, recipe, params, config), rows, rows[-1]["core_seconds"]


def _table(path: pathlib.Path, anchor_set, simulation):
    """The grid, its features, and the core-seconds that they took; blocks that are there already are read."""
    tissue = simulation.tissue().ravel()
    anchor_set.box.require_inside(tissue)
    folder = path / "table"
    folder.mkdir(exist_ok=True)
    blocks, seconds = [], 0.0
    starts = range(0, tissue.size, _TABLE_BLOCK)
    for start in tqdm.tqdm(starts, "simulating the table", disable=not sys.stderr.isatty()):
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


def _train_trunk(workdir, anchor_set, config):
    recipe = config.recipe()
    data = trunk_data(anchor_set, anchor_set.features_of(anchor_set.validation))
    draw = draw_tissue(anchor_set, config.seed, config.tissues)
    with Checkpoints(workdir.path / "checkpoints") as checkpoints:
        state, rows = resumed(checkpoints, init_state(recipe, data, config.seed), workdir)
        chunk = max(recipe.steps // _DRAWS, 1)
        trainer = functools.partial(fit, recipe, data, seed=config.seed, chunk=chunk, draw=draw)
        state = advance(trainer, state, rows, checkpoints, workdir, recipe.steps, progress=True)
    return recipe, state.params, rows


def _finished(anchor_set, recipe, params, config):
    return trunk_generator(anchor_set, finish_trunk(anchor_set, recipe, params, config.seed, config.refit_tissues))
