"""Simulates a dictionary and saves it, with the sequence inside.

Example::

    ganmrf simulate_dictionary --output=paper.npz

Without flags it is the paper's: 1000 frames of MRF-FISP, 5970 pairs of T1 and T2, and the slice that a pulse excites
and a spoiler dephases (``--slice_model``). A sequence of your own is a CSV file with columns ``flip_angle_deg``,
``repetition_time_ms`` and ``echo_time_ms`` (or ``--echo_time_ms``), or a Pulseq ``.seq``, with its own slice.

A ``.zarr`` folder is written while it is simulated, and need not fit in memory; the same command goes on with one that
was killed. Several processes share the work when each is given the same flags, ``--coordinator=host0:1234``,
``--processes=2`` and its own ``--process_id``.
"""

import contextlib
import pathlib
import time

import jax

from experiments.flags.command_line import command
from experiments.flags.processes import ProcessConfig, leave_processes
from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.compress import build_compressed
from ganmrf.dictionary.npz import check_size, save_dictionary
from ganmrf.dictionary.zarr_fill import begin_store, fill_store, wait_until_whole
from ganmrf.physics.lowering import signal_dtype
from ganmrf.report.sequence_figures import timing
from ganmrf.runs.simulation_config import SimulationConfig
from ganmrf.runs.slices import AS_PLAYED, slice_words
from ganmrf.runs.tissues import pool_words
from ganmrf.settings import configuration, group, setting


@configuration
class Config:
    """The dictionary and its file."""

    output: str = setting(meaning="file to write, .npz or .mat, or .zarr folder", suffixes=(".npz", ".mat", ".zarr"))
    accuracy: float = setting(
        1e-4, "largest relative error of a fingerprint by leaving out EPG states", above=0, below=1
    )
    states: int | None = setting(
        None, "states of the extended phase graph; default: as --accuracy needs", at_least=1, instead_of=("accuracy",)
    )
    precision: str = setting("float32", "of the simulation and of the file", choices=("float32", "float64"))
    rank: int | None = setting(None, "compress to this rank; default: all frames", at_least=1)
    chunk_atoms: int | None = setting(None, "atoms of a chunk of a .zarr folder; default: by their size", at_least=1)
    simulation: SimulationConfig = group(SimulationConfig, defaults=AS_PLAYED)
    processes: ProcessConfig = group(ProcessConfig)

    def __post_init__(self):
        if not self.path.parent.is_dir():
            raise ValueError(f"output: the folder {self.path.parent} does not exist")
        of_stores = {"chunk_atoms": self.chunk_atoms} | vars(self.processes)
        del of_stores["coordinator_timeout_s"]
        for name, value in of_stores.items():
            if value is not None and not self.stored:
                raise ValueError(f"{name} goes with --output=NAME.zarr")

    @property
    def path(self) -> pathlib.Path:
        """The file or folder to write."""
        return pathlib.Path(self.output)

    @property
    def stored(self) -> bool:
        """Whether it is a folder, written chunk by chunk."""
        return self.path.suffix.lower() == ".zarr"


@command(Config)
def main(config: Config):
    """Simulates, compresses if asked to, and saves."""
    config.processes.join()
    with jax.enable_x64(True) if config.precision == "float64" else contextlib.nullcontext():
        simulation, profile = config.simulation, config.simulation.slice_profile()
        states = {"n_states": config.states, "accuracy": config.accuracy, "slice_profile": profile}
        sequence = simulation.sequence()
        tissue = simulation.tissue()
        print(f"sequence: {timing(sequence, echo=True)}\nslice: {slice_words(profile)}", flush=True)
        if pools := pool_words(tissue, sequence):
            print(f"tissue: {pools}", flush=True)
        make = _stream if config.stored else _build
        make(config, sequence, tissue, states)


def _build(config, sequence, tissue, states):
    check_size(
        config.path,
        tissue.size,
        config.rank or sequence.n_frames,
        signal_dtype(sequence, tissue, states["slice_profile"]),
    )
    start = time.perf_counter()
    if config.rank is None:
        dictionary = build_dictionary(sequence, tissue, progress=True, **states)
    else:
        dictionary, kept = build_compressed(sequence, tissue, config.rank, progress=True, **states)
    print(f"{tissue.size} atoms of {sequence.n_frames} frames in {time.perf_counter() - start:.2f} s")
    if config.rank is not None:
        print(f"rank {config.rank} keeps all but {1 - kept:.2e} of the energy")
    save_dictionary(config.path, dictionary)
    print(f"saved as {config.path} ({config.path.stat().st_size / 1e6:.1f} MB)")


def _stream(config, sequence, tissue, states):
    start = time.perf_counter()
    store = begin_store(config.path, sequence, tissue, rank=config.rank, chunk_atoms=config.chunk_atoms, **states)
    leave_processes()
    if found := store.n_chunks - len(store.missing()):
        print(f"{found} of {store.n_chunks} chunks are there already", flush=True)
    written = fill_store(store, progress=True)
    print(f"{written} chunks of {store.chunk_atoms} atoms in {time.perf_counter() - start:.2f} s, with the writing")
    if jax.process_index() > 0:
        return
    if missing := len(store.missing()):
        print(f"waiting for {missing} chunks of other processes (or: stop this one and run it alone)", flush=True)
    wait_until_whole(store)
    if config.rank is not None:
        left_out = store.read("left_out", slice(None)).astype(float)
        print(f"rank {config.rank} keeps all but {left_out.mean():.2e} of the energy, {left_out.max():.2e} at worst")
    print(f"{config.path} is whole: {tissue.size} atoms of {sequence.n_frames} frames")


if __name__ == "__main__":
    main.run()
