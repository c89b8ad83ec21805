"""Signals of many voxels: bucketed by the number of states that each needs, on every device and core."""

import operator

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.parallel import meshes, run_chunks
from ganmrf.physics.engines.real import compiled, kernel_lanes
from ganmrf.physics.epg import exact_n_states
from ganmrf.physics.n_states import n_states_of_boxes, orders_kept, sufficient_n_states
from ganmrf.physics.sequences.fisp import Sequence
from ganmrf.physics.simulate import simulate_in_chunks
from ganmrf.physics.slice_profile import SliceProfile
from ganmrf.physics.tissue import Tissue

# Atoms whose T2 differs by less than this factor share a number of orders. Finer buckets waste fewer orders, but
# choosing for each costs some simulations, and in the ordinary form every new number of orders a compilation.
_BUCKET_RATIO = 1.25


# Groups of voxels in a call, of each device, in the one-kernel form: enough to make a call worth it.
_GROUPS = 8


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
    orders = plan_n_states(sequence, voxels, n_states=n_states, accuracy=accuracy, slice_profile=slice_profile)
    signals = empty_signals(sequence, voxels)
    simulate_all(signals.__setitem__, simulate_in_chunks, sequence, voxels, slice_profile, orders, progress)
    return signals


def simulate_few(
    sequence: Sequence, tissue: Tissue, *, accuracy: float = 1e-5, slice_profile: SliceProfile | None = None
) -> np.ndarray:
    """As `simulate_many`, for some hundreds of voxels: more orders are kept than needed, for no time spent to choose.

    Args:
      sequence: the pulse sequence, not traced.
      tissue: voxels in one dimension, not traced.
      accuracy: what leaving out orders changes stays below it, relative L2.
      slice_profile: quadrature over the slice, or None.

    Returns:
      Real signals (voxels, frames) for M0 = 1; sign as `simulate`.
    """
    lanes = kernel_lanes(jnp.result_type(*jax.tree.leaves((sequence, tissue))))
    if lanes is None:  # each number of orders is a program to compile
        return simulate_many(sequence, tissue, n_states=exact_n_states(sequence.n_frames), slice_profile=slice_profile)
    sequence, tissue, slice_profile = jax.tree.map(np.asarray, (sequence, tissue, slice_profile))
    needed = sufficient_n_states(sequence, tissue.t2, accuracy)
    lanes //= 2  # the longest group is what all wait for
    order = np.argsort(-needed, kind="stable")
    signals = empty_signals(sequence, tissue)

    def simulate_group(rows, _):
        padded = tissue.rows(np.resize(rows, lanes))
        found = compiled(simulate_in_chunks, n_states=int(needed[rows[0]]))(sequence, padded, slice_profile)
        signals[rows] = np.asarray(found)[: rows.size]

    run_chunks(simulate_group, np.split(order, range(lanes, order.size, lanes)))  # the longest first
    return signals


def plan_n_states(sequence: Sequence, voxels: Tissue, *, n_states, accuracy, slice_profile) -> np.ndarray:
    """The number of orders to simulate each voxel with.

    Args:
      sequence: the pulse sequence, not traced.
      voxels: all that are to be simulated, in one dimension: the numbers are chosen for ranges of T2 among them.
      n_states: orders for every voxel; None chooses them.
      accuracy: largest relative L2 error by leaving out orders, when ``n_states`` is None.
      slice_profile: quadrature over the slice, or None.

    Returns:
      Orders (voxels,), int32.

    Raises:
      ValueError: ``n_states`` below 1, or ``accuracy`` not positive.
    """
    if not accuracy > 0:
        raise ValueError(f"accuracy must be positive; got {accuracy}")
    if n_states is not None:
        return np.full(voxels.size, orders_kept(sequence, voxels, slice_profile, n_states), np.int32)
    voxels = jax.tree.map(np.asarray, voxels)
    shortest = 1.5 * np.asarray(sequence.repetition_time).mean()  # for less T2 than this the fewest orders do anyway
    t2 = np.maximum(voxels.t2, shortest)
    buckets, bucket = np.unique(np.floor(np.log(t2.max() / t2) / np.log(_BUCKET_RATIO)), return_inverse=True)
    boxes = [voxels.rows(bucket == b) for b in range(len(buckets))]
    needed = n_states_of_boxes(sequence, boxes, accuracy=accuracy, slice_profile=slice_profile)
    return np.asarray(needed, np.int32)[bucket]


def batched_simulator(
    simulation, sequence: Sequence, voxels: Tissue, slice_profile: SliceProfile | None, orders: np.ndarray
):
    """A function ``simulate(rows, mesh, store)`` that runs ``simulation`` for some rows of ``voxels``.

    Args:
      simulation: a function of sequence, tissue, slice profile and `compiled`'s keywords, with one row of each result
        a voxel, such as `unit_fingerprints`.
      sequence: the pulse sequence, not traced.
      voxels: in one dimension.
      slice_profile: quadrature over the slice, or None.
      orders: orders of every voxel, as `plan_n_states` gives them.

    Returns:
      The function, safe to call from several threads. ``mesh`` is one of `meshes`; ``store(places, results)`` is called
      with NumPy arrays until all of ``rows`` were there: ``rows[places]``. The results of a voxel do not depend, bit
      for bit, on which other rows are asked for.
    """
    sequence, voxels, slice_profile = jax.tree.map(np.asarray, (sequence, voxels, slice_profile))
    lanes = kernel_lanes(jnp.result_type(*jax.tree.leaves((sequence, voxels))))

    def simulate(rows, mesh, store):
        for groups in batches(orders[rows], lanes, mesh.size):
            size = lanes or _share(len(groups[0]), mesh.size)
            n_states = [int(orders[rows[group[0]]]) for group in groups]
            idle = _GROUPS * mesh.size - len(groups) if lanes else 0  # one shape for all calls
            padded = np.array([*(np.resize(group, size) for group in groups), *[groups[0][:1].repeat(size)] * idle])
            run = compiled(simulation, n_states=n_states + [1] * idle if lanes else n_states[0], mesh=mesh)
            found = jax.tree.map(np.asarray, run(sequence, voxels.rows(rows[padded.ravel()]), slice_profile))
            for n, group in enumerate(groups):
                part = slice(n * size, n * size + len(group))
                store(group, jax.tree.map(operator.itemgetter(part), found))

    return simulate


def batches(orders: np.ndarray, lanes: int | None, n_devices: int) -> list[list[np.ndarray]]:
    """Divides rows into calls: groups of rows with the same orders, most orders first so that the last ones are short.

    Args:
      orders: of each row, (rows,).
      lanes: rows of a group, `kernel_lanes`.
      n_devices: devices that share a call.
    """
    alike = [np.flatnonzero(orders == n) for n in np.unique(orders)[::-1]]
    groups = [
        rows[start : start + size]
        for rows in alike
        for size in [lanes or _share(len(rows), n_devices)]
        for start in range(0, len(rows), size)
    ]
    together = _GROUPS * n_devices if lanes else 1
    return [groups[start : start + together] for start in range(0, len(groups), together)]


def empty_signals(sequence: Sequence, voxels: Tissue) -> np.ndarray:
    """An array for the signals of all voxels, (voxels, frames), in the dtype of the inputs, not filled."""
    dtype = jnp.result_type(*jax.tree.leaves((sequence, voxels)))
    return np.empty((voxels.size, sequence.n_frames), dtype)


def simulate_all(store, simulation, sequence, voxels, slice_profile, orders, progress):
    """Calls ``store(rows, what simulation gives)``, from several threads, for all rows of ``voxels``."""
    simulate = batched_simulator(simulation, sequence, voxels, slice_profile, orders)
    meshes_of_workers = meshes()
    lanes = kernel_lanes(jnp.result_type(*jax.tree.leaves((sequence, voxels))))
    pieces = [np.concatenate(groups) for groups in batches(orders, lanes, meshes_of_workers[0].size)]

    def run(rows, mesh):
        simulate(rows, mesh, lambda places, results: store(rows[places], results))

    sizes = [len(rows) for rows in pieces]
    run_chunks(run, pieces, places=meshes_of_workers, sizes=sizes, progress="simulating" if progress else None)


def _share(rows, n_devices):
    """Rows of a call in the ordinary form, with padding: a few shapes to compile, each a multiple of the devices."""
    size = 256 if jax.default_backend() == "cpu" else 1 << min(max(rows - 1, 255).bit_length(), 14)
    return -(-size // n_devices) * n_devices
