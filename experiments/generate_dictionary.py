"""Generates a dictionary with a trained generator, and saves it with the sequence inside.

Example::

    python -m experiments.generate_dictionary --generator=runs/best/generator.npz --grid=fine --output=fine.npz
    python -m experiments.generate_dictionary --generator=runs/anchored/generator.npz --schedule=my.csv --output=my.npz

``--grid`` or ``--t1_ms``, ``--t2_ms`` and ``--b1`` choose the atoms. A generator that `train` made is of one sequence,
the one that it was trained on. One that `train_anchored` made takes any, that of ``--schedule`` or the paper's: its
anchors are simulated, ``--anchors`` of them or as many as ``--accuracy`` needs, and the error at held-out tissues is
told. Large dictionaries are written piece by piece, and never are in memory whole.
"""

import pathlib
import sys
import time

import numpy as np
import tqdm
from absl import flags

from experiments.flags import sequence_flags
from experiments.flags.command_line import run
from ganmrf.anchors.generator import AnchoredGenerator
from ganmrf.anchors.generator_file import load_any
from ganmrf.anchors.prepared import prepare
from ganmrf.dictionary.npz import save_dictionary, save_dictionary_in_blocks
from ganmrf.gan.generate import generate

flags.adopt_module_key_flags(sequence_flags)
_GENERATOR = flags.DEFINE_string("generator", None, "generator.npz of train or of train_anchored", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "file to write, .npz or .mat", required=True)
_COMPRESSED = flags.DEFINE_bool("compressed", False, "emit coefficients in the generator's basis, not all frames")
_EXTRAPOLATE = flags.DEFINE_bool("allow_extrapolation", False, "also generate atoms outside the trained range")
_SEED = flags.DEFINE_integer("seed", 0, "of z, for a generator of one sequence")
_ANCHORS = flags.DEFINE_integer("anchors", None, "anchors, for a generator of any sequence; default: all it has")
_ACCURACY = flags.DEFINE_float("accuracy", None, "in place of --anchors: error that 99 % of held-out tissues must keep")

_BLOCK = 32768  # atoms in memory


def main():
    """Generates and saves."""
    output = pathlib.Path(_OUTPUT.value)
    if output.suffix not in (".npz", ".mat"):
        raise ValueError(f"--output must end in .npz or .mat; got {output}")
    config, generator = sequence_flags.simulation_config(), load_any(_GENERATOR.value)
    tissue, start = config.tissue(), time.perf_counter()
    kind = _of_any_sequence if isinstance(generator, AnchoredGenerator) else _of_one_sequence
    sequence, make = kind(generator, config, tissue)
    if output.suffix == ".mat":
        save_dictionary(output, make(slice(None)))
    else:
        hidden = not sys.stderr.isatty()
        with tqdm.tqdm(total=tissue.size, desc="generating", unit="atom", unit_scale=True, disable=hidden) as bar:
            save_dictionary_in_blocks(output, _blocks(make, tissue.size, bar), tissue.size)
    seconds = time.perf_counter() - start
    print(f"{tissue.size} atoms of {sequence.n_frames} frames in {seconds:.2f} s, with the writing")
    print(f"saved as {output} ({output.stat().st_size / 1e6:.1f} MB)")


def _check_range(generator, tissue):
    if _EXTRAPOLATE.value:
        print(f"{generator.outside(tissue).sum()} of {tissue.size} atoms are extrapolated")
    else:
        generator.require_inside(tissue)


def _of_one_sequence(generator, config, tissue):
    """The sequence, and a function from a slice of atoms to their dictionary."""
    for name in ("anchors", "accuracy"):
        if flags.FLAGS[name].value is not None:
            raise ValueError(f"--{name}: {_GENERATOR.value} is a generator for one sequence alone, without anchors")
    sequence_flags.check_same_simulation(config, generator.sequence, generator.slice_profile, _GENERATOR.value)
    _check_range(generator, tissue)

    def make(rows):
        seed = np.random.SeedSequence([_SEED.value, rows.start or 0])
        atoms = tissue.rows(rows)
        return generate(generator, atoms, allow_extrapolation=True, compressed=_COMPRESSED.value, seed=seed)

    return generator.sequence, make


def _of_any_sequence(generator, config, tissue):
    """Likewise."""
    sequence = config.sequence()
    sequence_flags.check_same_simulation(config, sequence, generator.slice_profile, _GENERATOR.value)
    _check_range(generator, tissue)
    prepared = prepare(generator, sequence, _ANCHORS.value, accuracy=_ACCURACY.value)
    print(f"{prepared.n_anchors} anchors; {prepared.summary()}")
    if generator.kind == "table":  # its weights are those of all its atoms
        weights = generator.weights(tissue, prepared.n_anchors)
        return sequence, lambda rows: prepared.generate(weights.rows(rows), compressed=_COMPRESSED.value)
    return sequence, lambda rows: prepared.generate(
        tissue.rows(rows), compressed=_COMPRESSED.value, allow_extrapolation=True
    )


def _blocks(make, n_atoms, bar):
    for start in range(0, n_atoms, _BLOCK):
        block = make(slice(start, start + _BLOCK))
        yield block
        bar.update(block.norms.size)


if __name__ == "__main__":
    run(main)
