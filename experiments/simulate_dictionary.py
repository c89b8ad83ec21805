"""Simulates a dictionary and saves it, with the sequence inside.

Example::

    python -m experiments.simulate_dictionary --output=paper.npz --slice_nodes=12

Without flags it is the paper's: 1000 frames of MRF-FISP, 5970 pairs of T1 and T2. A sequence of your own is a CSV file
with columns ``flip_angle_deg``, ``repetition_time_ms`` and ``echo_time_ms`` (or ``--echo_time_ms``).
"""

import contextlib
import pathlib
import sys
import time

import jax
from absl import flags

from experiments import sequence_flags
from experiments.command_line import run
from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.compress import compress
from ganmrf.dictionary.store import save_dictionary

flags.adopt_module_key_flags(sequence_flags)
_OUTPUT = flags.DEFINE_string("output", None, "file to write, .npz or .mat", required=True)
_ACCURACY = flags.DEFINE_float("accuracy", 1e-4, "largest relative error of a fingerprint by leaving out orders")
_STATES = flags.DEFINE_integer("states", None, "orders of the extended phase graph; default: as --accuracy needs")
_PRECISION = flags.DEFINE_enum("precision", "float32", ["float32", "float64"], "of the simulation and of the file")
_RANK = flags.DEFINE_integer("rank", None, "compress to this rank; default: all frames")


def main():
    """Simulates, compresses if asked to, and saves."""
    config = sequence_flags.simulation_config()
    output = pathlib.Path(_OUTPUT.value)
    if output.suffix not in (".npz", ".mat"):
        raise ValueError(f"--output must end in .npz or .mat; got {output}")
    if not output.parent.is_dir():
        raise ValueError(f"--output: the folder {output.parent} does not exist")
    with jax.enable_x64(True) if _PRECISION.value == "float64" else contextlib.nullcontext():
        sequence, tissue, slice_profile = config.sequence(), config.tissue(), config.slice_profile()
        start = time.perf_counter()
        dictionary = build_dictionary(
            sequence,
            tissue,
            n_states=_STATES.value,
            accuracy=_ACCURACY.value,
            slice_profile=slice_profile,
            progress=sys.stderr.isatty(),
        )
        print(f"{tissue.size} atoms of {sequence.n_frames} frames in {time.perf_counter() - start:.2f} s")
        if _RANK.value is not None:
            dictionary, kept = compress(dictionary, _RANK.value)
            print(f"rank {_RANK.value} keeps all but {1 - kept:.2e} of the energy")
        save_dictionary(output, dictionary)
    print(f"saved as {output} ({output.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    run(main)
