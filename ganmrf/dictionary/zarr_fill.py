"""Simulates a dictionary straight to disk, chunk by chunk, by any number of processes, and goes on where one stopped.

What decides an atom's bits is settled once, from the whole grid, and kept in the store before its first chunk: the
number of orders of each atom and, in a compressed dictionary, the basis. So a chunk is the same whoever simulates it.
"""

import pathlib
import shutil
import time

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.dictionary.build import Dictionary, require_signal, unit_fingerprints
from ganmrf.dictionary.compress import project, svd_basis
from ganmrf.dictionary.npz import fields_of
from ganmrf.dictionary.zarr import ChunkedStore
from ganmrf.parallel import meshes, one_blas_thread, run_chunks
from ganmrf.physics.sequences.fisp import Sequence
from ganmrf.physics.simulate_many import batched_simulator, plan_n_states
from ganmrf.physics.slice_profile import SliceProfile
from ganmrf.physics.tissue import Tissue

_CHUNK_BYTES = 2**25
_MOST_ATOMS = 2**14  # a chunk, so that there are enough of them for all workers when rows are short
_BASIS_ATOMS = 4096  # from which the basis is made
_BASIS_PART = 512  # of them that a worker simulates at a time
_POLL_S = 0.5


def begin_store(
    path,
    sequence: Sequence,
    tissue: Tissue,
    *,
    n_states: int | None = None,
    accuracy: float = 1e-4,
    slice_profile: SliceProfile | None = None,
    rank: int | None = None,
    chunk_atoms: int | None = None,
) -> ChunkedStore:
    """Makes the folder of a dictionary, for `fill_store` to simulate; one that was begun with the same is gone on with.

    In a job of several processes (`jax.distributed`) all call this with the same arguments, each with the same folder
    in sight: process 0 makes it, and the others wait for it.

    Args:
      path: the folder, ``.zarr``.
      sequence: the pulse sequence.
      tissue: the atoms, any shape; they are raveled.
      n_states: orders of the extended phase graph; None chooses them for every range of T2.
      accuracy: largest relative L2 error of a fingerprint by leaving out orders, when ``n_states`` is None.
      slice_profile: quadrature over the slice, or None.
      rank: None, or the rank to compress to, chunk by chunk, in the basis of some thousand atoms spread over all.
      chunk_atoms: atoms of a chunk; None for 32 MiB of them, at most 16384.

    Returns:
      The store.

    Raises:
      ValueError: a folder that holds another dictionary, or something else; too little room on its disk; a rank or
        number of atoms out of range; or as `simulate`.
    """
    path = pathlib.Path(path)
    atoms = tissue.ravel()
    dtype = jnp.result_type(*jax.tree.leaves((sequence, atoms)))
    columns = sequence.n_frames if rank is None else rank
    most = min(atoms.size, _BASIS_ATOMS, sequence.n_frames)
    if rank is not None and not 1 <= rank <= most:
        raise ValueError(f"rank must be 1 to {most}; got {rank}")
    if chunk_atoms is None:
        chunk_atoms = min(max(_CHUNK_BYTES // (columns * dtype.itemsize) // 128 * 128, 128), _MOST_ATOMS)
    if chunk_atoms < 1:
        raise ValueError(f"chunk_atoms must be at least 1; got {chunk_atoms}")
    settings = {
        "n_states": n_states,
        "accuracy": accuracy,
        "rank": rank,
        "chunk_atoms": chunk_atoms,
        "precision": dtype.name,
    }
    bytes_per_atom = (columns + 6) * dtype.itemsize  # with norm, left_out, T1, T2, B1 and number of orders
    given = fields_of(Dictionary(atoms, None, None, sequence, slice_profile))
    leader = jax.process_index() == 0

    if leader and not path.exists():
        _require_room(path, atoms.size * bytes_per_atom)
        orders = plan_n_states(sequence, atoms, n_states=n_states, accuracy=accuracy, slice_profile=slice_profile)
        decided = {"n_states": orders}
        if rank is not None:
            simulate = batched_simulator(unit_fingerprints, sequence, atoms, slice_profile, orders)
            decided["basis"] = _basis(simulate, atoms.size, sequence.n_frames, dtype, rank)
        ChunkedStore.create(path, settings, given | decided, columns=columns, chunk=chunk_atoms, dtype=dtype)
    while not path.exists():
        time.sleep(_POLL_S)
    store = ChunkedStore.open(path)
    _require_same(store, settings, given)
    if leader:
        _require_room(path, len(store.missing()) * chunk_atoms * bytes_per_atom)
    return store


def fill_store(store: ChunkedStore, *, progress: bool = False) -> int:
    """Simulates the chunks that a store lacks, on every device of this process; damaged ones are simulated again.

    In a job of several processes chunk ``i`` falls to process ``i % processes``, and none waits for another one's
    chunks (`wait_until_whole` does).

    Args:
      store: what `begin_store` gave; sequence, tissue and precision are those of the store.
      progress: whether to show a progress bar with an estimate of the time left.

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
        jax.enable_x64(store.dtype == np.float64),
        one_blas_thread(),  # a worker is a core, and more threads would round otherwise
    ):
        dictionary = store.dictionary()
        atoms, orders, n_frames = dictionary.tissue, store.fields["n_states"], dictionary.sequence.n_frames
        simulate = batched_simulator(unit_fingerprints, dictionary.sequence, atoms, dictionary.slice_profile, orders)

        def simulate_chunk(chunk, mesh):
            rows = store.rows(chunk)
            unit, norms = _simulated(simulate, np.arange(rows.start, rows.stop), mesh, n_frames, store.dtype)
            require_signal(atoms, norms, rows.start)
            basis = dictionary.basis
            store.write(chunk, (unit, norms) if basis is None else project(unit, norms, basis))

        label = "simulating" if progress else None
        run_chunks(simulate_chunk, missing, places=meshes(), sizes=sizes, progress=label)
    return len(missing)


def wait_until_whole(store: ChunkedStore):
    """Returns when no chunk is missing."""
    while store.missing():
        time.sleep(_POLL_S)


def _basis(simulate, n_atoms, n_frames, dtype, rank):
    """The leading directions of some atoms, spread over the grid whatever its axes: steps by the golden ratio."""
    steps = np.arange(min(n_atoms, _BASIS_ATOMS)) * (np.sqrt(5) - 1) / 2
    rows = np.unique((steps % 1 * n_atoms).astype(int)) if n_atoms > _BASIS_ATOMS else np.arange(n_atoms)
    parts = np.array_split(rows, -(-len(rows) // _BASIS_PART))
    unit = [None] * len(parts)

    def simulate_part(part, mesh):
        unit[part] = _simulated(simulate, parts[part], mesh, n_frames, dtype)[0]

    run_chunks(simulate_part, range(len(parts)), places=meshes())
    with one_blas_thread():
        return svd_basis(np.concatenate(unit), rank)


def _simulated(simulate, rows, mesh, n_frames, dtype):
    """Unit fingerprints of ``rows`` and their norms."""
    unit, norms = np.empty((len(rows), n_frames), dtype), np.empty(len(rows), dtype)

    def store(places, results):
        unit[places], norms[places] = results

    simulate(rows, mesh, store)
    return unit, norms


def _require_room(path, needed):
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise ValueError(f"{path} needs {needed / 1e9:.3g} GB more, but its disk has {free / 1e9:.3g} GB left")


def _require_same(store, settings, given):
    """Raises `ValueError` naming what differs, unless ``store`` was begun with the same settings and arrays."""
    different = [
        f"{name} ({store.settings.get(name)}, not {value})"
        for name, value in settings.items()
        if store.settings.get(name) != value
    ]
    stored = {name: array for name, array in store.fields.items() if name not in ("basis", "n_states")}
    different += [
        name
        for name in sorted(stored.keys() | given.keys())
        if name not in stored
        or name not in given
        or stored[name].dtype != given[name].dtype
        or not np.array_equal(stored[name], given[name])
    ]
    if different:
        raise ValueError(f"{store.path} holds another dictionary; these differ: {', '.join(different)}")
