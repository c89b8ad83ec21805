"""How many states of the extended phase graph a simulation needs, found by simulating."""

import dataclasses
import itertools

import jax
import numpy as np

from ganmrf.parallel import run_chunks
from ganmrf.physics.engines import one_kernel
from ganmrf.physics.engines.programs import compiled
from ganmrf.physics.engines.trains import train_signal
from ganmrf.physics.lowering import (
    ISOCHROMAT,
    SLICE,
    as_played,
    dephasing_times,
    exact_states,
    form_of,
    is_real,
    lower_slice,
)
from ganmrf.physics.pools import slowest_t2
from ganmrf.physics.sequences.blocks import PulseSequence
from ganmrf.physics.slice_profile import FullSlice, PartitionedSlice, SliceModel, SliceProfile, gauss_quadrature
from ganmrf.physics.tissue import ExchangingPools, Tissue, TissueModel
from ganmrf.pytrees import is_traced

# Numbers of states worth compiling for, at most four an octave; above order 0 whole blocks of 8, which the one-kernel
# form keeps anyway.
_LADDER = sorted({8 * round(mantissa * 2**octave) + 1 for mantissa in (1, 1.25, 1.5, 1.75) for octave in range(12)})
# Numbers that stand for positions in a full slice: any will do.
_FINE_LADDER = sorted({round(2 ** (step / 8)) for step in range(97)})
# Numbers of states to try, as fractions of an estimate: with constant TR, states above ``likely`` refocus to less than
# the accuracy. The smallest are for coherence pathways that preparations cut short, and cost next to nothing.
_FRACTIONS = (0.06, 0.12, 0.25, 0.35, 0.45, 0.55, 0.65, 0.8, 1.0)
# Corners of a box of tissues stand for all tissues in it, so their errors must stay below this share of the accuracy.
_SAFETY = 0.7
_SLICE_SAFETY = 0.85  # in a full slice, where errors rise with T1 and T2, so that a corner has the largest
_FINE_FRACTIONS = (*np.arange(0.05, 0.61, 0.05), 0.7, 0.85, 1.0)  # in a full slice, where each costs time alone
# Lanes of a simulation: two boxes of one B1 nearly fill it, with 2 corners and about 8 numbers of states a box.
_LANES = 32
# Simulations in a full slice that go together, one program for all; positions of a thinned partitioned slice.
_SLICE_ROWS, _THIN_POSITIONS = 16, 6
# Voxels, times slice positions, for which choosing would take longer than it saves.
_FEW = 64


def choose_n_states(
    sequence: PulseSequence, tissue: Tissue, *, accuracy: float = 1e-4, slice_profile: SliceModel | None = None
) -> int:
    """The number of states to keep so that every voxel's signal has at most ``accuracy`` relative L2 error.

    Few voxels get the exact number: finding a smaller one would cost as much as it saves. For many voxels, the corners
    of the box that holds their tissue (longest T2, over the ranges of T1, B1 and off-resonance) are simulated with
    several numbers of states and with a number that provably stands for all states. The smallest number that keeps 0.7
    of ``accuracy`` on every corner is chosen; where none does, all states are kept. In a `FullSlice` it is 0.85 of
    ``accuracy``, and few voxels get a number that provably stands for all.

    The arguments are those of `simulate`, not traced. The number is at most `exact_states`.

    Raises:
      ValueError: ``accuracy`` not positive.
    """
    if not accuracy > 0:
        raise ValueError(f"accuracy must be positive; got {accuracy}")
    form = form_of(sequence, tissue, slice_profile)
    few = tissue.size * _n_nodes(slice_profile) <= _FEW
    if few and form == SLICE:
        return int(sufficient_n_states(sequence, np.max(slowest_t2(tissue)), accuracy, slice_profile))
    if few or form == ISOCHROMAT:
        return exact_states(sequence)
    return n_states_of_boxes(sequence, [tissue], accuracy=accuracy, slice_profile=slice_profile)[0]


def sufficient_n_states(
    sequence: PulseSequence, t2, accuracy: float, slice_profile: SliceModel | None = None
) -> np.ndarray:
    """For each T2, s, a number of states that stands for all states, found without simulating: more than are needed.

    Of several pools T2 is the longest time constant of transverse magnetisation (`ganmrf.physics.pools.slowest_t2`).

    The relative L2 error of a signal by leaving out states stays well below ``accuracy``.
    """
    times = np.cumsum(dephasing_times(sequence, slice_profile))
    frames = np.searchsorted(times, np.asarray(t2, float) * np.log(2e3 / accuracy)) + 1
    return np.minimum((frames + 1) // 2, exact_states(sequence, slice_profile))


def resolve_n_states(sequence, tissue, slice_profile, n_states: int | None, accuracy: float = 1e-4) -> int:
    """The number of states to simulate with, from the arguments of `simulate`: at most frames // 2 + 1.

    An ``n_states`` of None becomes that of `choose_n_states`, or the exact number where values are traced.

    Raises:
      ValueError: ``n_states`` below 1, or ``accuracy`` not positive.
    """
    if n_states is not None and n_states < 1:
        raise ValueError(f"n_states must be at least 1; got {n_states}")
    exact = exact_states(sequence, slice_profile)
    if n_states is None and not is_traced(sequence, tissue, slice_profile):
        n_states = choose_n_states(sequence, tissue, accuracy=accuracy, slice_profile=slice_profile)
    return min(n_states or exact, exact)


def n_states_of_boxes(sequence: PulseSequence, boxes, *, accuracy: float, slice_profile: SliceModel | None = None):
    """As `choose_n_states`, for several groups of tissue at once, however small: one number for each group.

    The sequence turns the magnetisation before its last frame.
    """
    boxes = jax.tree.map(np.asarray, boxes)  # NumPy reads values even where a caller's function is being traced
    sequence = as_played(sequence, boxes[0])
    blocks = sequence.as_blocks()  # once, for all that is asked about them
    exact, times = exact_states(blocks, slice_profile), dephasing_times(blocks, slice_profile)
    longest = np.array([slowest_t2(box).max() for box in boxes])
    references = _references(sufficient_n_states(blocks, longest, accuracy, slice_profile), exact)
    full = slice_profile if isinstance(slice_profile, FullSlice) else None
    probes = [_Probe.of(times, box, accuracy, n, exact, full) for box, n in zip(boxes, references, strict=True)]
    signals = (_slice_signals if full else _signals)(sequence, probes, slice_profile)
    return [probe.smallest(part, accuracy, exact) for probe, part in zip(probes, signals, strict=True)]


def simulate_by_n_states(simulate, n_states: np.ndarray, lanes: int, signals: np.ndarray):
    """Simulates voxels in batches that need about the same number of states, on every device and core.

    The most expensive batches come first, so that no worker idles long at the end. ``simulate`` is a function of a
    batch's voxels, (lanes,) indices, and of the largest number of states among them. It returns signals (lanes, frames)
    and must be safe to call from several threads. A batch of fewer voxels is filled with copies of its last voxel. The
    results fill ``signals``, (voxels, frames).
    """
    order = np.argsort(-n_states, kind="stable")

    def run(voxels, _):
        padded = np.pad(voxels, (0, lanes - len(voxels)), mode="edge")
        signals[voxels] = np.asarray(simulate(padded, int(n_states[voxels[0]])))[: len(voxels)]

    run_chunks(run, np.split(order, range(lanes, len(order), lanes)))


@dataclasses.dataclass(frozen=True)
class _Probe:
    """The simulations that choose the number of states for one box of tissues."""

    corners: TissueModel  # tissues in the box that need most states, (corners,)
    tried: list  # numbers of states to try on the corners, ascending; the last one stands for all states
    bound: float  # largest difference between the last one and all states, at any frame
    safety: float  # share of the accuracy that errors on the corners may reach

    @classmethod
    def of(cls, times, box, accuracy, reference, exact, full_slice):
        longest = slowest_t2(box)
        t2 = longest.max()
        corners = _corners(box, int(np.argmax(np.broadcast_to(longest, box.shape))))
        likely = 0.5 * np.log(1 / min(accuracy, 0.5)) * t2 / times.mean()
        ladder, fractions, least = (_FINE_LADDER, _FINE_FRACTIONS, 0) if full_slice else (_LADDER, _FRACTIONS, 4)
        wanted = [fraction * likely + least for fraction in fractions]
        tried = sorted({step for want in wanted for step in ladder[np.searchsorted(ladder, want) :][:1]})
        thicknesses = 2 * full_slice.extent if full_slice else 1.0  # signals are integrals over them
        bound = 0.0 if reference == exact else thicknesses * _bound(times, t2, reference)
        safety = _SLICE_SAFETY if full_slice else _SAFETY
        return cls(corners, [*[n for n in tried if n < reference], int(reference)], bound, safety)

    def simulations(self):
        """The tissue and the number of states of every signal to simulate: each corner with each number to try."""
        number = len(self.tried)
        tissue = jax.tree.map(lambda leaf: np.repeat(leaf, number), self.corners)
        return tissue, np.tile(self.tried, self.corners.size)

    def smallest(self, signals, accuracy, exact):
        """The smallest tried number from which on the errors of ``signals`` are small enough, or ``exact``."""
        good = np.full(len(self.tried), True)
        for tried in signals.reshape(self.corners.size, len(self.tried), -1):
            reference = tried[-1]
            allowed = self.safety * accuracy * np.linalg.norm(reference) - self.bound * np.sqrt(reference.size)
            good &= np.array([np.linalg.norm(signal - reference) <= allowed for signal in tried], bool)
        enough = np.flatnonzero(np.logical_and.accumulate(good[::-1])[::-1])
        return self.tried[enough[0]] if enough.size else exact


def _corners(box, slowest):
    """Tissues of a box, (corners,), of the longest time constant of transverse magnetisation, which is row ``slowest``.

    T1, B1, off-resonance, and what else is in ``varied``, are at the ends of their ranges and between them; all else is
    as in that row. Of two mobile pools either may be the slow one of another row: both have that time constant and the
    same T1, and, lest exchange make it shorter where they differ in frequency, do not exchange.
    """
    own = jax.tree.map(lambda leaf: np.broadcast_to(leaf, box.shape).ravel()[slowest], box)
    t1, t2, varied, alike = box.t1, own.t2, ("b1", "off_resonance", "fraction", "exchange_rate", "t1_b"), {}
    if isinstance(box, ExchangingPools):
        t1, t2, varied = np.append(box.t1, box.t1_b), slowest_t2(own), ("b1", "off_resonance", "shift")
        alike = {"t2": t2, "t2_b": t2, "exchange_rate": 0.0, "fraction": 0.5}
    longest = max(t1.max(), t2)
    ranges = {"t1": {np.sqrt(max(t1.min(), t2) * longest), longest}}
    ranges |= {
        name: {np.min(values), (np.min(values) + np.max(values)) / 2, np.max(values)}
        for name in varied
        if (values := getattr(box, name, None)) is not None
    }
    corners = dict(zip(ranges, np.array(list(itertools.product(*ranges.values()))).T, strict=True))
    if isinstance(box, ExchangingPools):
        corners["t1_b"] = corners["t1"]
    own = _replaced(own, **alike)
    own = jax.tree.map(lambda leaf: np.broadcast_to(leaf, corners["t1"].shape), own)
    return _replaced(own, **corners)


def _replaced(tissue, **fields):
    """A tissue with other arrays of NumPy, which its constructor would make tracers of where a caller is traced."""
    own = [value for value in (vars(tissue) | fields).values() if value is not None]
    return jax.tree.unflatten(jax.tree.structure(tissue), own)


def _references(needed, exact):
    """Numbers of states rounded up to one of two values, each a program to compile."""
    top = min(-(-needed.max() // 32) * 32, exact)
    return np.where(needed <= top // 3, top // 3, top)


def _bound(times, t2, n_states):
    """Largest change of a signal, M0 = 1, by leaving out the orders from ``n_states`` on.

    The magnetisation left out has been transverse for at least ``n_states`` turns on its way up and as many on its way
    down, whose ``times`` are those of `dephasing_times`; preparations and gaps between them only shorten it. As a
    function of the transverse decay, the change is bounded by 2 (two signals, neither above M0) and vanishes at least
    as fast as those turns decay; the maximum principle carries this bound from no decay to any decay.
    """
    return 2 * np.exp(-times[: 2 * n_states].sum() / t2)


def _n_nodes(slice_profile):
    """Signals of a uniform slice that one signal takes."""
    if isinstance(slice_profile, PartitionedSlice):
        return slice_profile.n_positions
    return np.size(slice_profile.nodes) if isinstance(slice_profile, SliceProfile) else 1


def _thinned(slice_profile):
    """A slice of few nodes, which needs as many states as the whole."""
    if isinstance(slice_profile, PartitionedSlice):
        return dataclasses.replace(slice_profile, n_positions=min(slice_profile.n_positions, _THIN_POSITIONS))
    return slice_profile and gauss_quadrature(slice_profile.nodes, slice_profile.weights, 3)


def _asked(sequence, probes, slice_profile):
    """The tissue and the numbers of states that all probes ask for, and an array for the signals."""
    tissues, n_states = zip(*(probe.simulations() for probe in probes), strict=True)
    dtype = np.result_type(*(leaf.dtype for leaf in jax.tree.leaves(sequence)))
    tissue = jax.tree.map(lambda *leaves: np.concatenate(leaves).astype(dtype), *tissues)
    real = is_real(sequence, tissue, slice_profile)
    return tissue, np.concatenate(n_states), np.empty((tissue.size, sequence.n_frames), float if real else complex)


def _of_probes(signals, probes):
    return np.split(signals, np.cumsum([probe.corners.size * len(probe.tried) for probe in probes])[:-1])


def _slice_signals(sequence, probes, slice_profile):
    """The signals of `_signals` in a full slice, whose positions the numbers of states stand for."""
    tissue, n_states, signals = _asked(sequence, probes, slice_profile)
    run = compiled(train_signal, n_states=1)

    def simulate(rows, _):
        voxels = tissue.rows(np.resize(rows, _SLICE_ROWS))
        voxels = _replaced(voxels, b1=voxels.b1[0])
        positions = lower_slice(slice_profile, sequence, voxels, int(n_states[rows[0]]), padded=True)
        signals[rows] = np.asarray(run(sequence, voxels, positions)).T[: len(rows)]

    keys = np.stack([n_states, tissue.b1], axis=1).astype(float)  # voxels of one B1 share rotations
    _, group = np.unique(keys, axis=0, return_inverse=True)
    alike = [np.flatnonzero(group.ravel() == n) for n in range(group.max(), -1, -1)]
    run_chunks(
        simulate, [part for rows in alike for part in np.split(rows, range(_SLICE_ROWS, len(rows), _SLICE_ROWS))]
    )
    return _of_probes(signals, probes)


def _signals(sequence, probes, slice_profile):
    """The signals, (simulations, frames), that each probe asks for."""
    tissue, numbers, signals = _asked(sequence, probes, slice_profile)
    thin, lane_states = _thinned(slice_profile), numbers.astype(tissue.t1.dtype)
    programs = np.unique([probe.tried[-1] for probe in probes])

    def simulate(rows, n_states):
        if not one_kernel.works():  # each number of states is a program to compile
            n_states = int(programs[np.searchsorted(programs, n_states)])
        voxels = tissue.rows(rows)
        run = compiled(train_signal, n_states=n_states)
        return np.asarray(run(sequence, voxels, lower_slice(thin, sequence, voxels), lane_states[rows])).T

    simulate_by_n_states(simulate, numbers, _LANES, signals)
    return _of_probes(signals, probes)
