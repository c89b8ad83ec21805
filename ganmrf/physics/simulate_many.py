"""Signals of many voxels on every device and core: voxels that need the same number of states go together."""

import operator

import jax
import numpy as np

from ganmrf.memory import require_memory
from ganmrf.parallel import meshes, run_chunks
from ganmrf.physics.engines.trains import compiled, kernel_lanes
from ganmrf.physics.lowering import ISOCHROMAT, as_played, dephasing_times, exact_states, form_of, signal_dtype
from ganmrf.physics.n_states import n_states_of_boxes, resolve_n_states, simulate_by_n_states, sufficient_n_states
from ganmrf.physics.sequences.blocks import PulseSequence
from ganmrf.physics.simulate import simulate_in_chunks
from ganmrf.physics.slice_profile import SliceProfile
from ganmrf.physics.tissue import Tissue

# Voxels whose T2 differs by less than this factor share a number of states. A smaller factor wastes fewer states, but
# the choice for each bucket costs some simulations, and in the ordinary form each number of states is a program to
# compile.
_BUCKET_RATIO = 1.25
# Batches of a call, on each device, in the one-kernel form: enough that the time to start a call does not count.
_BATCHES_A_CALL = 8
_BYTES_A_VOXEL = 100  # of tissue, norms and numbers of states, and of the order in which voxels are simulated


def simulate_many(
    sequence: PulseSequence,
    tissue: Tissue,
    *,
    n_states: int | None = None,
    accuracy: float = 1e-4,
    slice_profile: SliceProfile | None = None,
    progress: bool = False,
) -> np.ndarray:
    """The signals of `simulate`, for large numbers of voxels: on every device and core, with results on the host.

    The arguments are those of `simulate`, not traced, and an ``n_states`` of None chooses one number for every range of
    T2. ``progress`` shows a progress bar with an estimate of the time left.

    Returns:
      Real signals (voxels, frames) for M0 = 1, the voxels raveled, with the sign of `simulate`.

    Raises:
      ValueError: as `simulate`, or more signals than the memory holds.
    """
    voxels = tissue.ravel()
    sequence = as_played(sequence, voxels.off_resonance)
    signals = empty_signals(sequence, voxels)
    planned = plan_n_states(sequence, voxels, n_states=n_states, accuracy=accuracy, slice_profile=slice_profile)
    simulate_all(signals.__setitem__, simulate_in_chunks, sequence, voxels, slice_profile, planned, progress)
    return signals


def simulate_few(
    sequence: PulseSequence, tissue: Tissue, *, accuracy: float = 1e-5, slice_profile: SliceProfile | None = None
) -> np.ndarray:
    """The signals of `simulate_many`, for some hundreds of voxels, where choosing states would take most of the time.

    More states are kept than needed (`sufficient_n_states`). The voxels of ``tissue`` are in one dimension.
    """
    lanes = kernel_lanes(signal_dtype(sequence, tissue))
    if lanes is None:  # each number of states is a program to compile
        return simulate_many(sequence, tissue, n_states=exact_states(sequence), slice_profile=slice_profile)
    sequence, tissue, slice_profile = jax.tree.map(np.asarray, (sequence, tissue, slice_profile))

    def simulate(voxels, n_states):
        return compiled(simulate_in_chunks, n_states=n_states)(sequence, tissue.rows(voxels), slice_profile)

    signals = empty_signals(sequence, tissue)
    needed = sufficient_n_states(sequence, tissue.t2, accuracy)
    simulate_by_n_states(simulate, needed, lanes // 2, signals)  # all workers wait for the longest batch: a short one
    return signals


def plan_n_states(sequence: PulseSequence, voxels: Tissue, *, n_states, accuracy, slice_profile) -> np.ndarray:
    """The number of states to simulate each voxel with, (voxels,), int32.

    The arguments and errors are those of `simulate_many`; ``voxels`` are all that will be simulated, in one dimension.
    """
    if not accuracy > 0:
        raise ValueError(f"accuracy must be positive; got {accuracy}")
    if n_states is not None:
        return np.full(voxels.size, resolve_n_states(sequence, voxels, slice_profile, n_states), np.int32)
    voxels = jax.tree.map(np.asarray, voxels)
    if form_of(sequence, voxels.off_resonance) == ISOCHROMAT:
        return np.ones(voxels.size, np.int32)
    shortest = 1.5 * dephasing_times(sequence).mean()  # any shorter T2 needs the fewest states anyway
    t2 = np.maximum(voxels.t2, shortest)
    buckets, bucket = np.unique(np.floor(np.log(t2.max() / t2) / np.log(_BUCKET_RATIO)), return_inverse=True)
    boxes = [voxels.rows(bucket == b) for b in range(len(buckets))]
    needed = n_states_of_boxes(sequence, boxes, accuracy=accuracy, slice_profile=slice_profile)
    return np.asarray(needed, np.int32)[bucket]


def batched_simulator(
    simulation, sequence: PulseSequence, voxels: Tissue, slice_profile: SliceProfile | None, n_states: np.ndarray
):
    """A function ``simulate(rows, mesh)`` that runs ``simulation`` for some of ``voxels``, batch by batch.

    ``simulation`` is a function of sequence, tissue, slice profile and the keywords of `compiled`, which returns arrays
    with one row for each voxel, such as `unit_fingerprints`. Nothing is traced; ``voxels`` are in one dimension, and
    ``n_states``, (voxels,), come from `plan_n_states`.

    Returns:
      The function, safe to call from several threads. ``rows`` are indices of voxels, and ``mesh`` is one of `meshes`.
      It yields places and NumPy arrays for the voxels ``rows[places]``, until every place was served. The results of a
      voxel do not depend, bit for bit, on the other ``rows``.
    """
    sequence = as_played(sequence, voxels.off_resonance)
    sequence, voxels, slice_profile = jax.tree.map(np.asarray, (sequence, voxels, slice_profile))
    lanes = kernel_lanes(signal_dtype(sequence, voxels))

    def simulate(rows, mesh):
        for call in calls(n_states[rows], lanes, mesh.size):
            size = lanes or _batch_size(len(call[0]), mesh.size)
            needed = [int(n_states[rows[batch[0]]]) for batch in call]
            idle = _BATCHES_A_CALL * mesh.size - len(call) if lanes else 0  # one shape for all calls
            padded = np.array([*(np.resize(batch, size) for batch in call), *[call[0][:1].repeat(size)] * idle])
            run = compiled(simulation, n_states=needed + [1] * idle if lanes else needed[0], mesh=mesh)
            found = jax.tree.map(np.asarray, run(sequence, voxels.rows(rows[padded.ravel()]), slice_profile))
            for n, batch in enumerate(call):
                part = slice(n * size, n * size + len(batch))
                yield batch, jax.tree.map(operator.itemgetter(part), found)

    return simulate


def calls(n_states: np.ndarray, lanes: int | None, n_devices: int) -> list[list[np.ndarray]]:
    """The batches, indices of voxels, of each call of a compiled program that ``n_devices`` share.

    The voxels of a batch need the same number of states. The most expensive batches come first.
    """
    alike = [np.flatnonzero(n_states == n) for n in np.unique(n_states)[::-1]]
    batches = [
        voxels[start : start + size]
        for voxels in alike
        for size in [lanes or _batch_size(len(voxels), n_devices)]
        for start in range(0, len(voxels), size)
    ]
    together = _BATCHES_A_CALL * n_devices if lanes else 1
    return [batches[start : start + together] for start in range(0, len(batches), together)]


def empty_signals(sequence: PulseSequence, voxels: Tissue) -> np.ndarray:
    """An array for the signals of all voxels, (voxels, frames), in the dtype of the inputs, not filled.

    Raises:
      ValueError: an array that the memory does not hold.
    """
    dtype = signal_dtype(sequence, voxels)
    require_signal_memory(voxels.size, sequence.n_frames, dtype)
    return np.empty((voxels.size, sequence.n_frames), dtype)


def bytes_of_signals(n_voxels: int, n_columns: int, dtype=np.float32) -> int:
    """Bytes of memory that the signals or fingerprints of so many voxels take, with all that belongs to them."""
    return n_voxels * (n_columns * np.dtype(dtype).itemsize + _BYTES_A_VOXEL)


def require_signal_memory(n_voxels: int, n_columns: int, dtype=np.float32):
    """Raises `ValueError` with both figures where the signals or fingerprints of all voxels would not fit in memory."""
    needed = bytes_of_signals(n_voxels, n_columns, dtype)
    advice = "a coarser grid and fewer frames need less; so do --rank, --compressed and .zarr where a command has them"
    require_memory(needed, f"an array of {n_voxels} signals of {n_columns} numbers", advice)


def simulate_all(store, simulation, sequence, voxels, slice_profile, n_states, progress):
    """Runs `batched_simulator` for all ``voxels``, on every device and core.

    ``store`` is called with indices of voxels and their results, from several threads.
    """
    simulate = batched_simulator(simulation, sequence, voxels, slice_profile, n_states)
    meshes_of_workers = meshes()
    lanes = kernel_lanes(signal_dtype(sequence, voxels))
    pieces = [np.concatenate(batches) for batches in calls(n_states, lanes, meshes_of_workers[0].size)]

    def run(rows, mesh):
        for places, results in simulate(rows, mesh):
            store(rows[places], results)

    sizes = [len(rows) for rows in pieces]
    run_chunks(run, pieces, places=meshes_of_workers, sizes=sizes, progress="simulating" if progress else None)


def _batch_size(n_voxels, n_devices):
    """Voxels of a batch in the ordinary form, with padding: a multiple of the devices, and one of few shapes.

    On a CPU 256, about a chunk of `lanes`; else the next power of 2 above the number of voxels, 256 to 16384.
    """
    size = 256 if jax.default_backend() == "cpu" else 1 << min(max(n_voxels - 1, 255).bit_length(), 14)
    return -(-size // n_devices) * n_devices
