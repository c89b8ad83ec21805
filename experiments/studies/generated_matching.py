r"""Maps by generated dictionaries beside those by simulated ones, with exact decisions, and in two stages.

Example::

    ganmrf studies.generated_matching --generator=runs/anchored/generator.npz --output=generated_matching.json
    ganmrf studies.generated_matching --generator=runs/semisolid/generator.npz --values=t1:12,t2:12,fraction:6 \
        --large=t1:30,t2:30,fraction:15,exchange_rate:10,b1:9

A generator of ``train_anchored`` and the simulator make the same dictionary, a grid over the generator's box, in its
slice. The digital brain, or random tissues of the box, are matched with both, with noise: the table tells how far T1,
T2 and the fraction are apart, and how many voxels have the same atom, by generated fingerprints and with exact
decisions, for which some atoms are simulated. A second, ``large`` grid is matched in two stages and, for comparison, as
a whole. Seconds are those of all cores together.
"""

import functools
import time

import numpy as np

from experiments.flags.command_line import command
from experiments.flags.generators import anchored_for
from experiments.studies.keeping import keep
from ganmrf.anchors.prepared import PreparedSequence, prepare
from ganmrf.dictionary.build import Dictionary, build_dictionary
from ganmrf.dictionary.compress import project
from ganmrf.dictionary.exact import ExactAtoms
from ganmrf.dictionary.grid_rows import GridRows
from ganmrf.dictionary.match import Maps, match
from ganmrf.dictionary.two_stages import CELLS, streamed, two_stages
from ganmrf.imaging.phantom import COARSEST, add_noise_in
from ganmrf.memory import require_memory
from ganmrf.metrics import rrmse
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.sequences.sequence_power import Power, with_power
from ganmrf.physics.simulate_many import bytes_of_signals, simulate_many
from ganmrf.physics.tissue import TISSUES, parameters
from ganmrf.physics.tissue_box import TissueBox
from ganmrf.report.html import Table
from ganmrf.runs.tissues import SATURATED
from ganmrf.scanner import Scanner
from ganmrf.settings import configuration, setting

_ATOMS, _LARGE = 4000, 100_000  # about, of the two grids where flags do not say: a minute or two in a full slice
_JUDGED = "t1", "t2", "fraction"
_SUBJECTS = "brain", "random"


@configuration
class Config:
    """The generator, the grids and the scan.

    Raises:
      ValueError: a number of values that cannot be read.
    """

    generator: str = setting(meaning="generator.npz of train_anchored, of any tissue in its box", reads=True)
    frames: int = setting(500, "of the published schedule", at_least=10, at_most=1000)
    values: tuple[str, ...] = setting(
        (), f"values along axes of the grid that is simulated, too, such as t1:20,b1:5; default: about {_ATOMS} atoms"
    )
    large: tuple[str, ...] = setting(
        (), f"values along axes of the grid of two stages; default: about {_LARGE} combinations"
    )
    cells: int = setting(CELLS, "most cells of the large grid", at_least=1)
    reach: tuple[float, ...] = setting(
        (1.0, 0.6), "shares of the estimated radii of cells that are searched", above=0, at_most=1
    )
    complete: bool = setting(False, "also match in two stages with radii of cells that are measured")
    subject: str = setting("brain", "what is scanned: the digital brain or random tissues", choices=_SUBJECTS)
    size: int = setting(48, "rows and columns of the brain", at_least=COARSEST, goes_with=("subject=brain",))
    voxels: int = setting(1000, "random tissues", at_least=1, goes_with=("subject=random",))
    snr: tuple[float, ...] = setting((20.0, 100.0), "RMS signal over the standard deviation of the noise", above=0)
    accuracy: float = setting(1e-4, "of simulated fingerprints", above=0, below=0.1)
    pulse_duration_ms: float = setting(2.0, "duration of the excitations in ms, for semisolid pools", above=0)
    pulse_shape: float = setting(1.5, "mean of the squared waveform over the squared mean", at_least=1)
    seed: int = setting(0, "of the subject and its noise", at_least=0)
    output: str | None = setting(None, "JSON file for all rows; default: none", suffixes=(".json",), kept=False)

    def __post_init__(self):
        for name in ("values", "large"):
            _numbers(name, getattr(self, name))


@command(Config)
def main(config: Config):
    """Prints the tables, and writes their rows."""
    rows, stages = measure(config)
    names = [name for name in _JUDGED if f"{name}_rrmse" in rows[0]]
    columns = "Dictionary, SNR", *(f"{name} RRMSE (%)" for name in names), "same atoms (%)", "simulated", "core-s"
    cells = []
    for row in rows:
        errors = (f"{100 * row[f'{name}_rrmse']:.2g}" for name in names)
        simulated = f"{row['simulated']} of {row['atoms']}"
        label = f"{row['form']}{', exact' if row['exact'] else ''}, {row['snr']:g}"
        cells.append((label, *errors, f"{100 * row['same']:.2f}", simulated, f"{row['core_seconds']:.2f}"))
    print(Table(columns, cells, f"Generated against simulated, {rows[0]['voxels']} voxels").text())
    columns = "Search, SNR", "before a scan (core-s)", "of a scan (core-s)", "atoms generated", "same atoms (%)"
    cells = []
    for row in stages:
        seconds = f"{row['first_core_seconds']:.2f}", f"{row['core_seconds']:.2f}"
        cells.append((f"{row['search']}, {row['snr']:g}", *seconds, row["generated"], f"{100 * row['same']:.2f}"))
    cells = [[str(cell) for cell in line] for line in cells]
    print(Table(columns, cells, f"{stages[0]['atoms']} generated atoms").text())
    keep(config, [*rows, *stages])


def measure(config: Config) -> tuple[list[dict], list[dict]]:
    """Rows of generated against simulated dictionaries, and rows of two stages against a search of all atoms.

    Raises:
      ValueError: a generator that is none of anchors, for tissue of one grid alone or of another kind of sequence than
        FISP, or numbers of values of what is no axis of it.
    """
    generator, sequence = _generator(config)
    grids = [_grid(name, getattr(config, name), generator.box, most) for name, most in _GRIDS.items()]
    prepared = prepare(generator, sequence, allow_error=np.inf)
    print(prepared.summary())
    clean = _subject(config, generator, sequence)
    every = np.ones(clean.shape[1], bool)
    noisy = {snr: add_noise_in(clean, snr, mask=every, seed=config.seed + n) for n, snr in enumerate(config.snr)}
    return _against_simulated(config, prepared, grids[0], noisy), _in_stages(config, prepared, grids[1], noisy)


_GRIDS = {"values": _ATOMS, "large": _LARGE}


def _generator(config):
    """The generator, and the sequence that is played."""
    generator = anchored_for(config.generator, families=("fisp",))
    sequence = mrf_fisp(config.frames)
    if generator.box.kind in SATURATED:
        sequence = with_power(sequence, Power(1e-3 * config.pulse_duration_ms, config.pulse_shape))
    return generator, sequence


def _numbers(flag, given):
    """Axis -> number of values, as a flag says; raises `ValueError` for what cannot be read."""
    found = {}
    for text in given:
        name, _, number = text.partition(":")
        if not number.isdecimal() or int(number) < 2:
            raise ValueError(f"{flag} must be axes and numbers of values, 2 or more, such as t1:20; got {text!r}")
        if name in found:
            raise ValueError(f"{flag} names {name} twice: {','.join(given)}")
        found[name] = int(number)
    return found


def _grid(flag: str, given, box: TissueBox, most: int) -> GridRows:
    """A grid over a box, evenly spaced along each axis on the axis's own scale."""
    numbers = _numbers(flag, given)
    if unknown := [name for name in numbers if name not in box.names]:
        raise ValueError(f"{flag}: the generator has no axis {unknown[0]}, but {', '.join(box.names)}")
    usual, axes = max(round(most ** (1 / len(box.names))), 2), {}
    for name, low, high in zip(box.names, box.low, box.high, strict=True):
        facts, number = parameters(TISSUES[box.kind])[name], numbers.get(name, usual)
        values = np.linspace(low, high, number)
        if facts.logarithmic:
            values = np.geomspace(low + facts.offset, high + facts.offset, number) - facts.offset
        axes[name] = np.clip(values, low, high)
    atoms = np.prod([each.size for each in axes.values()], dtype=float)
    require_memory(bytes_of_signals(atoms, len(axes)), f"{flag}: a grid of {atoms:.6g} atoms", "fewer values need less")
    return GridRows.of(box.kind, **axes, **dict(box.fixed))


def _subject(config, generator, sequence) -> np.ndarray:
    """Signals without noise of the brain's voxels, or of random tissues, (frames, voxels)."""
    box = generator.box
    if config.subject == "random":
        tissue = box.spread(np.random.default_rng(config.seed).random((config.voxels, len(box.names))))
        return simulate_many(sequence, tissue, slice_profile=generator.slice_profile).T
    scanner = Scanner(config.size, kind=box.kind, b1_variation=0.15 if "b1" in box.names else 0.0)
    scan = scanner.image(sequence, slice_profile=generator.slice_profile, seed=config.seed)
    return scan.images[:, scan.brain.brain_mask]


def _timed(work):
    """What some work gives, and core-seconds."""
    began = time.process_time()
    return work(), time.process_time() - began


def _against_simulated(config, prepared: PreparedSequence, grid: GridRows, noisy) -> list[dict]:
    tissue = grid.tissue(np.arange(grid.size))
    how = {"accuracy": config.accuracy, "slice_profile": prepared.slice_profile, "progress": True}
    simulated, of_simulation = _timed(functools.partial(build_dictionary, prepared.sequence, tissue, **how))
    print(f"{grid.size} atoms are simulated in {of_simulation:.1f} core-s")
    in_basis = project(simulated.fingerprints, simulated.norms, prepared.basis)[:2]
    compressed = Dictionary(simulated.tissue, *in_basis, simulated.sequence, simulated.slice_profile, prepared.basis)
    rows = []
    for form, truth in (("all frames", simulated), ("compressed", compressed)):
        made, seconds = _timed(functools.partial(prepared.generate, tissue, compressed=truth.basis is not None))
        print(f"{form}: generated in {seconds:.2f} core-s")
        for snr, images in noisy.items():
            expected = match(truth, images)
            for exact in (None, ExactAtoms(made, accuracy=config.accuracy)):
                found, seconds = _timed(functools.partial(match, made, images, exact=exact))
                facts = {"form": form, "snr": snr, "exact": exact is not None, "atoms": grid.size}
                facts |= {"simulated": 0 if exact is None else exact.count, "core_seconds": seconds}
                rows.append(facts | _apart(found, expected))
    return rows


def _apart(found: Maps, expected: Maps) -> dict:
    """How far two maps are apart, and the share of voxels with the same atom."""
    errors = {}
    for name in _JUDGED:
        mine, other = getattr(found, name), getattr(expected, name)
        if mine is not None and other.any():
            errors[f"{name}_rrmse"] = rrmse(mine, other)
    return errors | {"same": float(np.mean(found.index == expected.index)), "voxels": found.index.size}


def _in_stages(config, prepared: PreparedSequence, grid: GridRows, noisy) -> list[dict]:
    whole, rows = streamed(grid, prepared), []
    ways = {f"two stages, reach {reach:g}": {"reach": reach} for reach in config.reach}
    ways |= {"two stages, measured": {"complete": True}} if config.complete else {}
    stages = {}
    for name, way in ways.items():
        how = {"n_cells": config.cells, "progress": True} | way
        stages[name] = _timed(functools.partial(two_stages, grid, prepared, **how))
    cells = next(iter(stages.values()))[0].cells
    print(f"{cells.size} cells of {' x '.join(f'{stride} {name}' for name, stride in cells.strides.items())} values")
    for snr, images in noisy.items():
        expected, seconds = _timed(functools.partial(match, whole, images, progress=True))
        facts = {"snr": snr, "atoms": grid.size}
        of_all = {"search": "all atoms", "first_core_seconds": 0.0, "core_seconds": seconds, "generated": grid.size}
        rows.append(facts | of_all | _apart(expected, expected))
        for name, (stage, first) in stages.items():
            (found, generated), seconds = _timed(functools.partial(stage.match, images, progress=True))
            of_stage = {"search": name, "first_core_seconds": first, "core_seconds": seconds, "generated": generated}
            rows.append(facts | of_stage | _apart(found, expected))
    return rows


if __name__ == "__main__":
    main.run()
