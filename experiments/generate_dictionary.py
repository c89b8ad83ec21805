"""Generates a dictionary with a trained generator, and saves it with the sequence inside.

Example::

    ganmrf generate_dictionary --generator=runs/regression/generator.npz --grid=fine --output=fine.npz
    ganmrf generate_dictionary --generator=runs/anchored/generator.npz --schedule=my.csv --output=my.npz

``--grid`` or ``--t1_ms``, ``--t2_ms`` and ``--b1`` choose the atoms. A generator that `train` made is of one sequence,
the one that it was trained on. One that `train_anchored` made takes any, that of ``--schedule`` or the paper's: its
anchors are simulated, ``--anchors`` of them or as many as ``--accuracy`` needs, and the error is told: a sequence whose
largest error is above ``--allow_error`` is refused. The slice is that of the generator, or the one that a .seq schedule
plays or ``--slice_model`` and ``--rf_pulse`` name, whose largest error then must be 1e-3, as that of a sequence of
another kind must. Large dictionaries are written piece by piece, and never are in memory whole.
"""

import pathlib
import time

import numpy as np

from experiments.flags.command_line import command
from experiments.flags.config import check_same_simulation
from ganmrf.anchors.generator import AnchoredGenerator
from ganmrf.anchors.generator_file import load_any
from ganmrf.dictionary.npz import check_size, save_dictionary, save_dictionary_in_blocks
from ganmrf.gan.generate import generate
from ganmrf.progress import Progress
from ganmrf.runs.preparation_config import PreparationConfig
from ganmrf.runs.simulation_config import SimulationConfig
from ganmrf.runs.slices import slice_words
from ganmrf.settings import configuration, group, setting

_BLOCK = 32768  # atoms in memory: 131 MB of 1000 frames


@configuration
class Config:
    """The generator and the dictionary's file."""

    generator: str = setting(meaning="generator.npz of train or of train_anchored", reads=True)
    output: str = setting(meaning="file to write, .npz or .mat", suffixes=(".npz", ".mat"))
    compressed: bool = setting(False, "emit coefficients in the generator's basis, not all frames")
    allow_extrapolation: bool = setting(False, "also generate atoms outside the trained range")
    seed: int = setting(0, "of z, for a generator of one sequence", at_least=0)
    preparation: PreparationConfig = group(PreparationConfig)
    simulation: SimulationConfig = group(SimulationConfig)


@command(Config)
def main(config: Config, given: frozenset[str]):
    """Generates and saves."""
    output, generator = pathlib.Path(config.output), load_any(config.generator)
    tissue, start = config.simulation.tissue(), time.perf_counter()
    is_table = isinstance(generator, AnchoredGenerator) and not generator.model.any_tissue
    if config.allow_extrapolation and is_table:
        raise ValueError(f"allow_extrapolation: {config.generator} is a table, which has its own atoms alone")
    if config.allow_extrapolation:
        extrapolated = generator.box.outside(tissue).sum()
        print(f"{extrapolated} of {tissue.size} atoms are extrapolated: no error that is told below is one of theirs")
    elif not is_table:  # a table says itself which atoms it has
        generator.require_inside(tissue, "--allow_extrapolation generates them all the same")
    kind = _of_any_sequence if isinstance(generator, AnchoredGenerator) else _of_one_sequence
    sequence, make = kind(generator, config, given, tissue)
    if output.suffix.lower() == ".mat":
        save_dictionary(output, make(slice(None)))
    else:
        with Progress(tissue.size, "generating", unit="atom") as bar:
            save_dictionary_in_blocks(output, _blocks(make, tissue.size, bar), tissue.size)
    seconds = time.perf_counter() - start
    print(f"{tissue.size} atoms of {sequence.n_frames} frames in {seconds:.2f} s, with the writing")
    print(f"saved as {output} ({output.stat().st_size / 1e6:.1f} MB)")


def _of_one_sequence(generator, config, given, tissue):
    """The sequence, and a function from a slice of atoms to their dictionary."""
    for name, value in vars(config.preparation).items():
        if value is not None:
            raise ValueError(f"{name}: {config.generator} is a generator for one sequence alone, without anchors")
    check_same_simulation(config.simulation, given, generator.sequence, generator.slice_profile, config.generator)
    basis = generator.scaling.basis if config.compressed else None
    check_size(config.output, tissue.size, generator.sequence.n_frames if basis is None else basis.shape[1])
    keywords = {"compressed": config.compressed, "allow_extrapolation": True}

    def make(rows):
        seed = np.random.SeedSequence([config.seed, rows.start or 0])
        return generate(generator, tissue.rows(rows), **keywords, seed=seed)

    return generator.sequence, make


def _of_any_sequence(generator, config, given, tissue):
    """The sequence, and a function from a slice of atoms to their dictionary."""
    sequence = config.simulation.sequence(generator.slice_profile)
    profile = config.simulation.slice_or(generator.slice_profile)
    if "seed" in given:
        raise ValueError(f"seed: {config.generator} is a generator of anchors, which draws nothing")
    check_size(config.output, tissue.size, 1 if config.compressed else sequence.n_frames)
    prepared = config.preparation.prepare(generator, sequence, slice_profile=profile)
    if config.compressed:
        check_size(config.output, tissue.size, prepared.basis.shape[1])
    print(f"{prepared.summary()}\nAssumed is {slice_words(prepared.slice_profile)}")
    if not generator.model.any_tissue:  # a table's weights are those of all its atoms
        tissue = generator.weights(tissue, prepared.n_anchors)
    keywords = {"compressed": config.compressed, "allow_extrapolation": True}
    return sequence, lambda rows: prepared.generate(tissue.rows(rows), **keywords)


def _blocks(make, n_atoms, bar):
    for start in range(0, n_atoms, _BLOCK):
        block = make(slice(start, start + _BLOCK))
        yield block
        bar.update(block.norms.size)


if __name__ == "__main__":
    main.run()
