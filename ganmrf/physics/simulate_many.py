"""Signals of many voxels on every device and core: voxels that need the same number of states go together."""

import itertools
from typing import NamedTuple

import jax
import numpy as np

from ganmrf.memory import require_memory
from ganmrf.parallel import meshes, run_chunks
from ganmrf.physics.engines.programs import ISOCHROMAT_LANES, compiled, kernel_lanes
from ganmrf.physics.lowering import (
    ISOCHROMAT,
    SLICE,
    as_played,
    dephasing_times,
    exact_states,
    form_of,
    lower_slice,
    require_pulse_durations,
    signal_dtype,
)
from ganmrf.physics.n_states import n_states_of_boxes, resolve_n_states, simulate_by_n_states, sufficient_n_states
from ganmrf.physics.pools import slowest_t2
from ganmrf.physics.sequences.blocks import PulseSequence
from ganmrf.physics.simulate import simulate_in_chunks
from ganmrf.physics.slice_profile import SliceModel
from ganmrf.physics.tissue import Tissue

# Voxels whose T2 differs by less than this factor share a number of states. A smaller factor wastes fewer states, but
# the choice for each bucket costs some simulations, and in the ordinary form each number of states is a program to
# compile.
_BUCKET_RATIO = 1.25
# Batches of a call, on each device, in the one-kernel form: enough that the time to start a call does not count. Those
# of a grid of off-resonances take least time.
_BATCHES_A_CALL, _BATCHES_OF_A_GRID = 8, 16
_FEWEST_SHIFTS = 12  # off-resonances of a grid that make a batch: fewer would leave lanes empty
# Voxels of a batch in a full slice where there are some hundreds: batches of the usual number would be half empty, or
# as dear as their most expensive voxel.
_FEW_LANES = 32
_WORTH_B1 = 3  # so many times as long a batch of voxels takes that each have a B1 of their own, in a full slice
_BYTES_A_VOXEL = 100  # of tissue, norms and numbers of states, and of the order in which voxels are simulated


def simulate_many(
    sequence: PulseSequence,
    tissue: Tissue,
    *,
    n_states: int | None = None,
    accuracy: float = 1e-4,
    slice_profile: SliceModel | None = None,
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
    sequence = as_played(sequence, voxels)
    signals = empty_signals(sequence, voxels, slice_profile)
    planned = plan_n_states(sequence, voxels, n_states=n_states, accuracy=accuracy, slice_profile=slice_profile)
    simulate_all(signals.__setitem__, simulate_in_chunks, sequence, voxels, slice_profile, planned, progress)
    return signals


def simulate_few(
    sequence: PulseSequence, tissue: Tissue, *, accuracy: float = 1e-5, slice_profile: SliceModel | None = None
) -> np.ndarray:
    """The signals of `simulate_many`, for some hundreds of voxels, where choosing states would take most of the time.

    More states are kept than needed (`sufficient_n_states`). The voxels of ``tissue`` are in one dimension.
    """
    require_pulse_durations(sequence, tissue)
    lanes = kernel_lanes(sequence, tissue, slice_profile)
    in_slice = form_of(sequence, tissue, slice_profile) == SLICE
    if lanes is None:  # each number of states is a program to compile
        n_states = None if in_slice else exact_states(sequence)
        return simulate_many(sequence, tissue, n_states=n_states, accuracy=accuracy, slice_profile=slice_profile)
    tissue = jax.tree.map(np.asarray, tissue)
    signals = empty_signals(sequence, tissue, slice_profile)
    needed = sufficient_n_states(sequence, slowest_t2(tissue), accuracy, slice_profile)
    if in_slice:  # a batch has the positions of its most expensive voxel, and takes as long with one as with all lanes
        needed = _most_of_batches(needed, np.broadcast_to(tissue.b1, tissue.shape), _FEW_LANES)
        form = {"progress": False, "lanes": _FEW_LANES}
        simulate_all(signals.__setitem__, simulate_in_chunks, sequence, tissue, slice_profile, needed, **form)
        return signals
    slice_profile = lower_slice(slice_profile, sequence, tissue)
    sequence, slice_profile = jax.tree.map(np.asarray, (sequence, slice_profile))

    def simulate(voxels, n_states):
        return compiled(simulate_in_chunks, n_states=n_states)(sequence, tissue.rows(voxels), slice_profile)

    simulate_by_n_states(simulate, needed, lanes // 2, signals)  # all workers wait for the longest batch: a short one
    return signals


def _most_of_batches(n_states, b1, lanes):
    """For each voxel the largest number of states in its batch of ``lanes``: alike in states, and of one B1 if few."""
    values, run = np.unique(b1, return_inverse=True)
    if 2 * len(values) * lanes > _WORTH_B1 * n_states.size:  # what fills batches of one B1 would cost what it saves
        run = np.zeros(n_states.size, int)
    order = np.lexsort((-n_states, run))
    place = np.arange(n_states.size) - np.searchsorted(run[order], run[order])
    first = np.arange(n_states.size) - place % lanes
    most = np.empty_like(n_states)
    most[order] = n_states[order[first]]
    return most


def plan_n_states(sequence: PulseSequence, voxels: Tissue, *, n_states, accuracy, slice_profile) -> np.ndarray:
    """The number of states to simulate each voxel with, (voxels,), int32.

    The arguments and errors are those of `simulate_many`; ``voxels`` are all that will be simulated, in one dimension.
    """
    if not accuracy > 0:
        raise ValueError(f"accuracy must be positive; got {accuracy}")
    if n_states is not None:
        return np.full(voxels.size, resolve_n_states(sequence, voxels, slice_profile, n_states), np.int32)
    voxels = jax.tree.map(np.asarray, voxels)
    if form_of(sequence, voxels, slice_profile) == ISOCHROMAT:
        return np.ones(voxels.size, np.int32)
    shortest = (
        1.5 * dephasing_times(sequence.as_blocks(), slice_profile).mean()
    )  # any shorter T2 needs the fewest states anyway
    t2 = np.maximum(slowest_t2(voxels), shortest)
    buckets, bucket = np.unique(np.floor(np.log(t2.max() / t2) / np.log(_BUCKET_RATIO)), return_inverse=True)
    boxes = [voxels.rows(bucket == b) for b in range(len(buckets))]
    needed = n_states_of_boxes(sequence, boxes, accuracy=accuracy, slice_profile=slice_profile)
    return np.asarray(needed, np.int32)[bucket]


def batched_simulator(
    simulation, sequence: PulseSequence, voxels: Tissue, slice_profile: SliceModel | None, n_states: np.ndarray
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
    return _simulator(simulation, _Batching.of(sequence, voxels, slice_profile, n_states))


def _simulator(simulation, batching):
    """`batched_simulator` of voxels whose batches are known."""
    sequence, voxels, lanes, n_shifts = batching.sequence, batching.voxels, batching.lanes, batching.n_shifts

    def simulate(rows, mesh):
        for call in batching.calls(rows, mesh.size):
            size = lanes or _batch_size(len(call[0]), mesh.size)
            needed = [int(batching.n_states[rows[batch[0]]]) for batch in call]
            form = {"padded": lanes is not None, "common_b1": batching.common_b1}
            form["lanes"] = lanes if batching.full_slice else None
            lowered = lower_slice(batching.slice_profile, sequence, voxels, needed[0], **form)
            idle = _together(lanes, n_shifts, mesh.size) - len(call)  # one shape for all calls
            simulated, parts = zip(*(_simulated(rows[batch], size, n_shifts) for batch in call), strict=True)
            simulated = np.concatenate([*simulated, simulated[0][:1].repeat(size * idle)])
            # Positions of a full slice say how many they are; of an idle batch none is simulated.
            needed = [1] * len(call) + [0] * idle if batching.full_slice else needed + [1] * idle
            run = compiled(simulation, n_states=needed if lanes else needed[0], mesh=mesh, n_shifts=n_shifts and lanes)
            found = jax.tree.map(np.asarray, run(sequence, voxels.rows(simulated), lowered))
            for n, (batch, part) in enumerate(zip(call, parts, strict=True)):
                whole = slice(n * size, (n + 1) * size)
                yield batch, jax.tree.map(lambda leaf, whole=whole, part=part: leaf[whole][part], found)

    return simulate


class _Batching(NamedTuple):
    """How voxels go together in batches, and batches in calls of a compiled program."""

    sequence: PulseSequence  # as it is played; of it and of the voxels all values are NumPy's
    voxels: Tissue
    slice_profile: SliceModel | None
    n_states: np.ndarray  # of each voxel
    lanes: int | None  # of `_lanes`, as the next one
    n_shifts: int | None
    full_slice: bool
    group: np.ndarray  # of `_groups`, as the next one
    common_b1: bool

    @classmethod
    def of(cls, sequence, voxels, slice_profile, n_states, few_lanes: int | None = None) -> "_Batching":
        """The batching of `batched_simulator`'s arguments; ``few_lanes`` are those of a batch in a full slice."""
        sequence, voxels = jax.tree.map(np.asarray, (as_played(sequence, voxels), voxels))
        full_slice = form_of(sequence, voxels, slice_profile) == SLICE
        lanes, n_shifts = _lanes(sequence, voxels, slice_profile)
        lanes = few_lanes if few_lanes and lanes and full_slice else lanes
        grouped = _groups(voxels, n_states, lanes, full_slice)
        return cls(sequence, voxels, slice_profile, n_states, lanes, n_shifts, full_slice, *grouped)

    def calls(self, rows, n_devices: int) -> list[list[np.ndarray]]:
        """The batches, indices of ``rows``, of each call of a compiled program that ``n_devices`` share.

        The voxels of a batch are of one group, and the most expensive batches come first. With ``n_shifts`` they have
        one T1, T2 and B1, and the batches of a call the same part of the shifts. In a full slice all batches of a call
        are of one group.
        """
        lanes, n_shifts, group = self.lanes, self.n_shifts, self.group[rows]
        together = _together(lanes, n_shifts, n_devices)
        if n_shifts:
            part, run = rows % n_shifts // lanes, rows // n_shifts
            order = np.lexsort((rows, part))
            of_parts = np.split(order, np.flatnonzero(np.diff(part[order])) + 1)
            in_parts = [np.split(each, np.flatnonzero(np.diff(run[each])) + 1) for each in of_parts]
        else:
            in_groups = [np.flatnonzero(group == n) for n in np.unique(group)[::-1]]
            sizes = [lanes or _batch_size(len(voxels), n_devices) for voxels in in_groups]
            batches = [
                np.split(each, range(size, len(each), size)) for each, size in zip(in_groups, sizes, strict=True)
            ]
            in_parts = batches if self.full_slice else [list(itertools.chain(*batches))]
        return [batches[start : start + together] for batches in in_parts for start in range(0, len(batches), together)]


def _lanes(sequence, voxels, slice_profile):
    """Voxels of a batch in the one-kernel form, or None, and how many off-resonances a grid has in turn, or None.

    Where a grid has the same off-resonances at each T1, T2 and B1, one after the other, a batch of isochromats is some
    of them at one T1, T2 and B1, and all batches of a call share what depends on off-resonance alone.
    """
    lanes, shifts = kernel_lanes(sequence, voxels, slice_profile), voxels.off_resonance
    if lanes is None or not np.ndim(shifts) or form_of(sequence, voxels, slice_profile) != ISOCHROMAT:
        return lanes, None
    others = [each for name, each in vars(voxels).items() if name != "off_resonance" and np.ndim(each)]
    n_shifts = int(np.argmax([*np.any([values[1:] != values[:-1] for values in others], axis=0), True])) + 1
    if voxels.size % n_shifts or n_shifts < _FEWEST_SHIFTS:
        return lanes, None
    in_turn = [(shifts, shifts[:n_shifts]), *((values, values[::n_shifts, None]) for values in others)]
    if not all((values.reshape(-1, n_shifts) == expected).all() for values, expected in in_turn):
        return lanes, None
    parts = -(-n_shifts // ISOCHROMAT_LANES)
    return -(-n_shifts // parts // 8) * 8, n_shifts  # whole vector registers


def _groups(voxels, n_states, lanes, full_slice):
    """Numbers of the groups that share a batch, ascending with their states; and whether B1 is common to each of them.

    In a full slice voxels of one B1 have the pulse's rotations in common, which otherwise take two thirds of the time.
    """
    if not full_slice or lanes is None or not voxels.b1.ndim:
        return n_states, False
    pairs, group = np.unique(np.stack([n_states, voxels.b1], axis=1).astype(float), axis=0, return_inverse=True)
    # Each group leaves half a batch empty on average, which must not cost more than it saves.
    common = voxels.size > lanes // _WORTH_B1 * len(pairs)
    return (group.ravel(), True) if common else (n_states, False)


def _simulated(rows, size, n_shifts):
    """The voxels, ``size`` of them, that are simulated for a batch of ``rows``, and where these are among them."""
    if n_shifts is None:
        return np.resize(rows, size), slice(len(rows))
    of_run, run = rows[0] % n_shifts // size * size, rows[0] // n_shifts * n_shifts
    part = rows - run - of_run
    part = slice(len(part)) if np.array_equal(part, np.arange(len(part))) else part
    return run + np.minimum(of_run + np.arange(size), n_shifts - 1), part


def _together(lanes, n_shifts, n_devices):
    """Batches of a call."""
    return (_BATCHES_OF_A_GRID if n_shifts else _BATCHES_A_CALL) * n_devices if lanes else 1


def empty_signals(sequence: PulseSequence, voxels: Tissue, slice_profile: SliceModel | None = None) -> np.ndarray:
    """An array for the signals of all voxels, (voxels, frames), in the dtype of the inputs, not filled.

    Raises:
      ValueError: an array that the memory does not hold.
    """
    dtype = signal_dtype(sequence, voxels, slice_profile)
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


def simulate_all(store, simulation, sequence, voxels, slice_profile, n_states, progress, lanes=None):
    """Runs `batched_simulator` for all ``voxels``, on every device and core.

    ``store`` is called with indices of voxels and their results, from several threads. In a full slice a batch has
    ``lanes`` voxels, or the usual number.
    """
    batching, meshes_of_workers = _Batching.of(sequence, voxels, slice_profile, n_states, lanes), meshes()
    simulate, in_calls = (
        _simulator(simulation, batching),
        batching.calls(np.arange(voxels.size), meshes_of_workers[0].size),
    )
    pieces = [np.concatenate(batches) for batches in in_calls]

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
