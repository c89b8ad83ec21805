"""Simulates a dictionary and saves it, with the sequence inside.

Example::

    python -m experiments.simulate_dictionary --output=paper.npz --slice_nodes=12

Without flags it is the paper's: 1000 frames of MRF-FISP, 5970 pairs of T1 and T2. A sequence of your own is a CSV file
with columns ``flip_angle_deg``, ``repetition_time_ms`` and ``echo_time_ms`` (or ``--echo_time_ms``).

A ``.zarr`` folder is written while it is simulated, and need not fit in memory; the same command goes on with one that
was killed. Several processes share the work when each is given the same flags, ``--coordinator=host0:1234``,
``--processes=2`` and its own ``--process_id``.
"""

import contextlib
import pathlib
import sys
import time

import jax
from absl import flags

from experiments.flags import process_flags, sequence_flags
from experiments.flags.command_line import run
from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.compress import compress
from ganmrf.dictionary.npz import save_dictionary
from ganmrf.dictionary.zarr_fill import begin_store, fill_store, wait_until_whole

flags.adopt_module_key_flags(sequence_flags)
flags.adopt_module_key_flags(process_flags)
_OUTPUT = flags.DEFINE_string("output", None, "file to write, .npz or .mat, or .zarr folder", required=True)
_ACCURACY = flags.DEFINE_float("accuracy", 1e-4, "largest relative error of a fingerprint by leaving out orders")
_STATES = flags.DEFINE_integer("states", None, "orders of the extended phase graph; default: as --accuracy needs")
_PRECISION = flags.DEFINE_enum("precision", "float32", ["float32", "float64"], "of the simulation and of the file")
_RANK = flags.DEFINE_integer("rank", None, "compress to this rank; default: all frames")
_CHUNK_ATOMS = flags.DEFINE_integer("chunk_atoms", None, "atoms of a chunk of a .zarr folder; default: by their size")


def main():
    """Simulates, compresses if asked to, and saves."""
    config = sequence_flags.simulation_config()
    output = pathlib.Path(_OUTPUT.value)
    if output.suffix not in (".npz", ".mat", ".zarr"):
        raise ValueError(f"--output must end in .npz, .mat or .zarr; got {output}")
    if not output.parent.is_dir():
        raise ValueError(f"--output: the folder {output.parent} does not exist")
    for name in ("coordinator", "processes", "process_id", "chunk_atoms"):
        if output.suffix != ".zarr" and flags.FLAGS[name].value is not None:
            raise ValueError(f"--{name} goes with --output=NAME.zarr")
    process_flags.join_processes()
    with jax.enable_x64(True) if _PRECISION.value == "float64" else contextlib.nullcontext():
        states = {"n_states": _STATES.value, "accuracy": _ACCURACY.value, "slice_profile": config.slice_profile()}
        make = _stream if output.suffix == ".zarr" else _build
        make(output, config.sequence(), config.tissue(), states, sys.stderr.isatty())


def _build(output, sequence, tissue, states, show):
    start = time.perf_counter()
    dictionary = build_dictionary(sequence, tissue, progress=show, **states)
    print(f"{tissue.size} atoms of {sequence.n_frames} frames in {time.perf_counter() - start:.2f} s")
    if _RANK.value is not None:
        dictionary, kept = compress(dictionary, _RANK.value)
        print(f"rank {_RANK.value} keeps all but {1 - kept:.2e} of the energy")
    save_dictionary(output, dictionary)
    print(f"saved as {output} ({output.stat().st_size / 1e6:.1f} MB)")


def _stream(output, sequence, tissue, states, show):
    start = time.perf_counter()
    store = begin_store(output, sequence, tissue, rank=_RANK.value, chunk_atoms=_CHUNK_ATOMS.value, **states)
    process_flags.leave_processes()
    if found := store.n_chunks - len(store.missing()):
        print(f"{found} of {store.n_chunks} chunks are there already", flush=True)
    written = fill_store(store, progress=show)
    print(f"{written} chunks of {store.chunk_atoms} atoms in {time.perf_counter() - start:.2f} s, with the writing")
    if jax.process_index() > 0:
        return
    if missing := len(store.missing()):
        print(f"waiting for {missing} chunks of other processes (or: stop this one and run it alone)", flush=True)
    wait_until_whole(store)
    if _RANK.value is not None:
        left_out = store.read("left_out", slice(None)).astype(float)
        print(f"rank {_RANK.value} keeps all but {left_out.mean():.2e} of the energy, {left_out.max():.2e} at worst")
    print(f"{output} is whole: {tissue.size} atoms of {sequence.n_frames} frames")


if __name__ == "__main__":
    run(main)
