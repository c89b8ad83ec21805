"""A dictionary: fingerprints of many tissues, simulated in bulk."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.physics.fisp import simulate_in_chunks
from ganmrf.physics.fisp_scan import compiled
from ganmrf.physics.n_states import exact_n_states, n_states_of_boxes
from ganmrf.physics.slice_profile import SliceProfile
from ganmrf.physics.types import Sequence, Tissue, pytree
from ganmrf.physics.workers import run_chunks, workers

# Atoms whose T2 differs by less than this factor share a number of orders. Finer buckets waste fewer orders, but every
# new number of orders costs a compilation.
_BUCKET_RATIO = 1.5


@pytree
@dataclasses.dataclass(frozen=True)
class Dictionary:
    """Fingerprints of many tissues, of unit norm, with what they were simulated from.

    Attributes:
      tissue: the atoms' parameters; t1 and t2 (atoms,), s; b1 (atoms,) or one number.
      fingerprints: (atoms, frames), or (atoms, rank) when ``basis`` is given; every row has unit norm.
      norms: norm of each row before it was normalised, (atoms,), for M0 = 1.
      sequence: the sequence that was simulated.
      slice_profile: the slice profile that was simulated, or None for a uniform slice.
      basis: None, or orthonormal columns (frames, rank), float64: a signal's coordinates are ``signal @ basis``.
    """

    tissue: Tissue
    fingerprints: np.ndarray | jax.Array
    norms: np.ndarray | jax.Array
    sequence: Sequence
    slice_profile: SliceProfile | None = None
    basis: np.ndarray | None = None


def build_dictionary(
    sequence: Sequence,
    tissue: Tissue,
    *,
    n_states: int | None = None,
    accuracy: float = 1e-4,
    slice_profile: SliceProfile | None = None,
    progress: bool = False,
) -> Dictionary:
    """Simulates a dictionary, on every device present, in chunks that fit the cache.

    Args:
      sequence: the pulse sequence.
      tissue: the atoms, any shape; they are raveled.
      n_states: orders of the extended phase graph; None chooses them for every range of T2 (`choose_n_states`).
      accuracy: largest relative L2 error of a fingerprint by leaving out orders, when ``n_states`` is None.
      slice_profile: quadrature over the slice, or None.
      progress: whether to show a progress bar with an estimate of the time left.

    Returns:
      The dictionary, fingerprints (atoms, frames) in the dtype of the inputs (float32 unless they are float64).

    Raises:
      ValueError: an atom without signal (it has no direction to match), or as `simulate`.
    """
    atoms = tissue.ravel()
    fingerprints = _empty(sequence, atoms)
    norms = np.empty(atoms.size, fingerprints.dtype)

    def store(rows, unit):
        fingerprints[rows], norms[rows] = unit

    settings = {"n_states": n_states, "accuracy": accuracy, "slice_profile": slice_profile, "progress": progress}
    _simulate_into(store, _unit_fingerprints, sequence, atoms, **settings)
    if not norms.all():
        atom = int(np.argmin(norms))
        raise ValueError(f"atom {atom} (T1 {atoms.t1[atom]:.4g} s, T2 {atoms.t2[atom]:.4g} s) has no signal")
    return Dictionary(atoms, fingerprints, norms, sequence, slice_profile)


def simulate_many(
    sequence: Sequence,
    tissue: Tissue,
    *,
    n_states: int | None = None,
    accuracy: float = 1e-4,
    slice_profile: SliceProfile | None = None,
    progress: bool = False,
) -> np.ndarray:
    """As `simulate`, for large numbers of voxels: bucketed by T2, on every device and core, results on the host.

    Args:
      sequence: the pulse sequence, not traced.
      tissue: voxels of any shape, not traced.
      n_states: orders kept; None chooses them for every range of T2.
      accuracy: largest relative L2 error by leaving out orders, when ``n_states`` is None.
      slice_profile: quadrature over the slice, or None.
      progress: whether to show a progress bar with an estimate of the time left.

    Returns:
      Real signals (voxels, frames) for M0 = 1, the voxels raveled; sign as `simulate`.

    Raises:
      ValueError: ``n_states`` below 1, or ``accuracy`` not positive.
    """
    voxels = tissue.ravel()
    signals = _empty(sequence, voxels)
    settings = {"n_states": n_states, "accuracy": accuracy, "slice_profile": slice_profile, "progress": progress}
    _simulate_into(signals.__setitem__, simulate_in_chunks, sequence, voxels, **settings)
    return signals


def _empty(sequence, voxels):
    dtype = jnp.result_type(*jax.tree.leaves((sequence, voxels)))
    return np.empty((voxels.size, sequence.n_frames), dtype)


def _simulate_into(store, simulation, sequence, voxels, *, n_states, accuracy, slice_profile, progress):
    """Calls ``store(rows, what simulation gives)``, from several threads, for all rows of the flat ``voxels``."""
    if n_states is not None and n_states < 1:
        raise ValueError(f"n_states must be at least 1; got {n_states}")
    if not accuracy > 0:
        raise ValueError(f"accuracy must be positive; got {accuracy}")
    voxels = jax.tree.map(np.asarray, voxels)
    if n_states is None:
        buckets = _buckets(sequence, voxels, accuracy, slice_profile)
    else:
        buckets = [(np.arange(voxels.size), min(n_states, exact_n_states(sequence.n_frames)))]
    chunks = [
        (rows[start : start + size], size, n)
        for rows, n in buckets
        for size in [_chunk_size(len(rows), n)]
        for start in range(0, len(rows), size)
    ]

    placed = {device: jax.device_put((sequence, slice_profile), device) for device in set(workers())}

    def simulate_rows(chunk, device):
        rows, size, n = chunk
        padded = np.pad(rows, (0, size - len(rows)), mode="edge")
        sequence, slice_profile = placed[device]
        results = compiled(simulation, n_states=n)(
            sequence, jax.device_put(_rows_of(voxels, padded), device), slice_profile
        )
        store(rows, jax.tree.map(lambda leaf: np.asarray(leaf)[: len(rows)], results))

    sizes = [len(rows) for rows, *_ in chunks]
    run_chunks(simulate_rows, chunks, sizes=sizes, progress="simulating" if progress else None)


def _unit_fingerprints(sequence, tissue, slice_profile, **form):
    signals = simulate_in_chunks(sequence, tissue, slice_profile, **form)
    norms = jnp.linalg.norm(signals, axis=1)
    return signals / jnp.where(norms > 0, norms, 1)[:, None], norms


def _rows_of(voxels, rows):
    return jax.tree.map(lambda leaf: leaf[rows] if leaf.ndim else leaf, voxels)


def _chunk_size(rows, n_states):
    """Atoms a call: many enough to be worth one. A few calls share their rows evenly, more of them one full shape."""
    full = 16384 if jax.default_backend() != "cpu" else min(max(24576 // n_states // 64 * 64, 128), 512)
    calls = -(-rows // full)
    return full if calls > 4 else -(-rows // (64 * calls)) * 64


def _buckets(sequence, voxels, accuracy, slice_profile):
    """Rows that share a number of orders, with that number, longest first so that the last chunks are short ones."""
    shortest = 1.5 * np.asarray(sequence.repetition_time).mean()  # for less T2 than this the fewest orders do anyway
    t2 = np.maximum(voxels.t2, shortest)
    bucket = np.floor(np.log(t2.max() / t2) / np.log(_BUCKET_RATIO))
    groups = [np.flatnonzero(bucket == b) for b in np.unique(bucket)]
    boxes = [_rows_of(voxels, rows) for rows in groups]
    needed = np.array(n_states_of_boxes(sequence, boxes, accuracy=accuracy, slice_profile=slice_profile))
    return [
        (np.concatenate([rows for rows, n in zip(groups, needed, strict=True) if n == same]), int(same))
        for same in np.unique(needed)[::-1]
    ]
