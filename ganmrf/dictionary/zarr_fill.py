"""Simulates a dictionary straight to disk, chunk by chunk, in any number of processes; a killed run is continued.

The number of states of each atom and, in a compressed dictionary, the basis are computed once, from the whole grid, and
kept in the folder before the first chunk. A chunk therefore has the same bits whichever process simulates it.
"""

import dataclasses
import pathlib
import shutil
import time

import jax
import numpy as np

from ganmrf.dictionary.build import Dictionary, require_signal, unit_fingerprints
from ganmrf.dictionary.compress import BASIS_ATOMS, project, spread_basis
from ganmrf.dictionary.npz import AXES, fields_of
from ganmrf.dictionary.sequence_fields import sequence_of
from ganmrf.dictionary.slice_fields import MODEL
from ganmrf.dictionary.slice_fields import NAMES as NAMES_OF_SLICES
from ganmrf.dictionary.tissue_fields import KIND
from ganmrf.dictionary.zarr import ChunkedStore
from ganmrf.parallel import meshes, one_blas_thread, run_chunks
from ganmrf.physics.lowering import as_played, signal_dtype
from ganmrf.physics.sequences.blocks import PulseSequence
from ganmrf.physics.sequences.kinds import kind_of
from ganmrf.physics.simulate_many import batched_simulator, plan_n_states
from ganmrf.physics.slice_profile import SliceModel
from ganmrf.physics.tissue import TissueModel, parameters
from ganmrf.pytrees import arrays_and_structure

_CHUNK_BYTES = 2**25  # 32 MiB: large enough for fast files, small enough for many workers
_MOST_ATOMS = 2**14  # in a chunk, so that short rows too make enough chunks for all workers
_POLL_S = 0.5  # between two looks for what another process writes


def begin_store(
    path,
    sequence: PulseSequence,
    tissue: TissueModel,
    *,
    n_states: int | None = None,
    accuracy: float = 1e-4,
    slice_profile: SliceModel | None = None,
    rank: int | None = None,
    chunk_atoms: int | None = None,
) -> ChunkedStore:
    """Makes the folder of a dictionary, for `fill_store` to fill, or opens one that was begun with the same arguments.

    In a job of several processes (`jax.distributed`) every process calls this function with the same arguments and a
    path on a common disk: process 0 makes the folder, and the others wait for it.

    ``path`` is the folder, ``.zarr``; the arguments that `build_dictionary` has, too, mean the same here. Each chunk is
    compressed to a ``rank``, unless that is None, in the basis of 4096 atoms spread over the grid. A chunk has
    ``chunk_atoms`` atoms; None takes 32 MiB and at most 16384 atoms.

    Raises:
      ValueError: a folder that holds another dictionary, or no dictionary; too little space on the disk; a rank or
        number of atoms out of range; or as `simulate`.
    """
    path = pathlib.Path(path)
    atoms = tissue.ravel()
    dtype = np.dtype(signal_dtype(sequence, atoms, slice_profile))
    precision = np.finfo(dtype).dtype
    columns = sequence.n_frames if rank is None else rank
    largest_rank = min(atoms.size, BASIS_ATOMS, sequence.n_frames)
    if rank is not None and not 1 <= rank <= largest_rank:
        raise ValueError(f"rank must be 1 to {largest_rank}; got {rank}")
    if chunk_atoms is None:
        chunk_atoms = min(max(_CHUNK_BYTES // (columns * dtype.itemsize) // 128 * 128, 128), _MOST_ATOMS)
    if chunk_atoms < 1:
        raise ValueError(f"chunk_atoms must be at least 1; got {chunk_atoms}")
    settings = {
        "n_states": n_states,
        "accuracy": accuracy,
        "rank": rank,
        "chunk_atoms": chunk_atoms,
        "precision": precision.name,
    }
    # With norm, left_out, number of states, and every parameter of the tissue.
    bytes_per_atom = columns * dtype.itemsize + (3 + len(parameters(atoms))) * precision.itemsize
    given = Dictionary(atoms, None, None, sequence, slice_profile)
    leader = jax.process_index() == 0
    if leader and not path.exists():
        _require_space(path, atoms.size * bytes_per_atom)
        _create(path, settings, given, columns, dtype)
    while not path.exists():
        time.sleep(_POLL_S)
    store = ChunkedStore.open(path)
    _require_same(store, settings, given)
    if leader:
        _require_space(path, len(store.missing()) * chunk_atoms * bytes_per_atom)
    return store


def fill_store(store: ChunkedStore, *, progress: bool = False) -> int:
    """Simulates missing and damaged chunks of a dictionary, on every device of this process.

    In a job of several processes chunk ``i`` falls to process ``i % processes``. A process does not wait for the chunks
    of others; `wait_until_whole` does.

    Returns:
      The number of chunks that this process wrote.

    Raises:
      ValueError: an atom without signal.
    """
    mine = range(jax.process_index(), store.n_chunks, jax.process_count())
    store.remove_damaged(mine)
    missing = [chunk for chunk in store.missing() if chunk in mine]
    sizes = [store.rows(chunk).stop - store.rows(chunk).start for chunk in missing]
    with (
        jax.enable_x64(np.finfo(store.dtype).dtype == np.float64),
        one_blas_thread(),  # every core has a worker already, and other numbers of threads round otherwise
    ):
        dictionary = store.dictionary()
        atoms, states, n_frames = dictionary.tissue, store.fields["n_states"], dictionary.sequence.n_frames
        simulate = batched_simulator(unit_fingerprints, dictionary.sequence, atoms, dictionary.slice_profile, states)

        def simulate_chunk(chunk, mesh):
            rows = np.arange(store.rows(chunk).start, store.rows(chunk).stop)
            unit, norms = np.empty((len(rows), n_frames), store.dtype), np.empty(len(rows), np.finfo(store.dtype).dtype)
            for places, results in simulate(rows, mesh):
                unit[places], norms[places] = results
            require_signal(atoms, norms, rows)
            basis = dictionary.basis
            store.write(chunk, (unit, norms) if basis is None else project(unit, norms, basis))

        label = "simulating" if progress else None
        run_chunks(simulate_chunk, missing, places=meshes(), sizes=sizes, progress=label)
    store.keep_checksums()  # by the last process of several, if not by this one
    return len(missing)


def wait_until_whole(store: ChunkedStore):
    """Returns when no chunk is missing."""
    while store.missing():
        time.sleep(_POLL_S)


def _create(path, settings, given, columns, dtype):
    """Decides the number of states of each atom and, for a rank, the basis, and makes the folder without chunks."""
    atoms, profile, rank = given.tissue, given.slice_profile, settings["rank"]
    sequence = as_played(given.sequence, atoms)
    accuracy = {name: settings[name] for name in ("n_states", "accuracy")}
    fields = fields_of(given) | {"n_states": plan_n_states(sequence, atoms, slice_profile=profile, **accuracy)}
    if rank is not None:
        flat = jax.tree.map(np.asarray, atoms)
        fields["basis"] = spread_basis(sequence, flat, profile, fields["n_states"], rank)
    ChunkedStore.create(path, settings, fields, columns=columns, chunk=settings["chunk_atoms"], dtype=dtype)


def _require_space(path, needed):
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise ValueError(f"{path} needs {needed / 1e9:.3g} GB more, but its disk has {free / 1e9:.3g} GB left")


def _require_same(store, settings, given):
    """Raises `ValueError` naming the settings and arrays that differ from those which ``store`` was begun with."""
    begun = store.settings
    different = [f"{name} ({begun.get(name)}, not {new})" for name, new in settings.items() if begun.get(name) != new]
    both = store.fields, fields_of(given)
    for name in sorted((AXES.keys() | {MODEL, KIND} | NAMES_OF_SLICES) - {"basis"}):
        old, new = (fields.get(name, np.empty(0)) for fields in both)  # no array is empty
        if old.dtype != new.dtype or not np.array_equal(old, new):
            different.append(name)
    old, new = (sequence_of(store.path, fields) for fields in both)
    if type(old) is not type(new):
        different.append(f"kind ({kind_of(old)}, not {kind_of(new)})")
    else:
        names = [field.name for field in dataclasses.fields(old)]
        different += [name for name in names if not _same(getattr(old, name), getattr(new, name))]
    if different:
        raise ValueError(f"{store.path} holds another dictionary; these differ: {', '.join(different)}")


def _same(old, new):
    """Whether two trees hold the same values, to the bit."""
    (arrays, structure), (others, other) = map(arrays_and_structure, (old, new))
    return structure == other and all(np.array_equal(array, others[name]) for name, array in arrays.items())
