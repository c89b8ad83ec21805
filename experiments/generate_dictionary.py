"""Generates a dictionary with a trained generator, and saves it with the sequence inside.

Example::

    python -m experiments.generate_dictionary --generator=runs/best/generator.npz --grid=fine --output=fine.npz

The sequence is the one that the generator was trained on; ``--grid`` or ``--t1_ms`` and ``--t2_ms`` choose the atoms.
Large dictionaries are written piece by piece, and never are in memory whole.
"""

import pathlib
import sys
import time

import numpy as np
import tqdm
from absl import flags

from experiments import sequence_flags
from experiments.command_line import run
from ganmrf.dictionary.store import save_dictionary, save_dictionary_in_blocks
from ganmrf.gan.generate import generate, load_generator
from ganmrf.physics.types import Tissue

flags.adopt_module_key_flags(sequence_flags)
_GENERATOR = flags.DEFINE_string("generator", None, "generator.npz of a training run", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "file to write, .npz or .mat", required=True)
_COMPRESSED = flags.DEFINE_bool("compressed", False, "emit coefficients in the generator's basis, not all frames")
_EXTRAPOLATE = flags.DEFINE_bool("allow_extrapolation", False, "also generate atoms outside the trained range")
_SEED = flags.DEFINE_integer("seed", 0, "of z")

_BLOCK = 32768  # atoms in memory


def main():
    """Generates and saves."""
    output = pathlib.Path(_OUTPUT.value)
    if output.suffix not in (".npz", ".mat"):
        raise ValueError(f"--output must end in .npz or .mat; got {output}")
    config = sequence_flags.simulation_config()
    generator = load_generator(_GENERATOR.value)
    sequence_flags.check_same_simulation(config, generator.sequence, generator.slice_profile, _GENERATOR.value)
    tissue = config.tissue()
    if _EXTRAPOLATE.value:
        print(f"{generator.outside(tissue).sum()} of {tissue.size} atoms are extrapolated")
    else:
        generator.require_inside(tissue)
    start = time.perf_counter()
    if output.suffix == ".mat":
        save_dictionary(output, _block(generator, tissue))
    else:
        hidden = not sys.stderr.isatty()
        with tqdm.tqdm(total=tissue.size, desc="generating", unit="atom", unit_scale=True, disable=hidden) as bar:
            save_dictionary_in_blocks(output, _blocks(generator, tissue, bar), tissue.size)
    seconds = time.perf_counter() - start
    print(f"{tissue.size} atoms of {generator.sequence.n_frames} frames in {seconds:.2f} s, with the writing")
    print(f"saved as {output} ({output.stat().st_size / 1e6:.1f} MB)")


def _blocks(generator, tissue, bar):
    for start in range(0, tissue.size, _BLOCK):
        rows = slice(start, start + _BLOCK)
        block = _block(generator, Tissue(tissue.t1[rows], tissue.t2[rows], tissue.b1), start)
        yield block
        bar.update(block.norms.size)


def _block(generator, tissue: Tissue, start=0):
    settings = {"compressed": _COMPRESSED.value, "seed": np.random.SeedSequence([_SEED.value, start])}
    return generate(generator, tissue, allow_extrapolation=True, **settings)


if __name__ == "__main__":
    run(main)
