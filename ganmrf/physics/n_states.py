"""How many orders of the extended phase graph a simulation needs, found by simulating."""

import itertools

import jax
import numpy as np

from ganmrf.physics.fisp_scan import compiled, fisp_signal
from ganmrf.physics.slice_profile import SliceProfile, gauss_quadrature
from ganmrf.physics.types import Sequence, Tissue
from ganmrf.physics.workers import run_chunks

# Numbers worth compiling for: four an octave.
_LADDER = sorted(mantissa * 2**octave for mantissa in (8, 10, 12, 14) for octave in range(12))
# Candidates tried, as shares of the order above which nothing can come back with more than the accuracy.
_SHARES = (0.25, 0.35, 0.45, 0.6, 0.8, 1.0)
# Corners of a box stand for all tissues in it, so they must do better than is asked.
_SAFETY = 0.7
_LANES = 32


def exact_n_states(n_frames: int) -> int:
    """Orders that matter in ``n_frames`` frames: those that have time to come back to order 0."""
    return n_frames // 2 + 1


def choose_n_states(
    sequence: Sequence, tissue: Tissue, *, accuracy: float = 1e-4, slice_profile: SliceProfile | None = None
) -> int:
    """The number of orders to keep so that every voxel's signal has at most ``accuracy`` relative L2 error.

    Few voxels get the exact number: finding a smaller one would cost as much as it saves. For many, the corners of
    the box that holds them (longest T1 and T2, over the range of B1) are simulated with all orders and with several
    candidates, and the smallest candidate that keeps 0.7 of ``accuracy`` on every corner is taken; when none does, all
    orders are kept.

    Args:
      sequence: the pulse sequence, not traced.
      tissue: voxels of any shape, not traced.
      accuracy: largest relative L2 error of a signal, above 0.
      slice_profile: quadrature over the slice, or None.

    Returns:
      The number of orders, at most frames // 2 + 1.

    Raises:
      ValueError: ``accuracy`` not positive.
    """
    if not accuracy > 0:
        raise ValueError(f"accuracy must be positive; got {accuracy}")
    if tissue.size * (1 if slice_profile is None else np.size(slice_profile.nodes)) <= 2 * _LANES:
        return exact_n_states(sequence.n_frames)
    return n_states_of_boxes(sequence, [tissue], accuracy=accuracy, slice_profile=slice_profile)[0]


def n_states_of_boxes(sequence: Sequence, boxes, *, accuracy: float, slice_profile: SliceProfile | None = None):
    """As `choose_n_states`, for several groups of tissue at once, however small: one number each, in order."""
    exact = exact_n_states(sequence.n_frames)
    profile = slice_profile and gauss_quadrature(slice_profile.nodes, slice_profile.weights, 3)
    corners = [_corners(box) for box in boxes]
    candidates = [_candidates(sequence, corner, accuracy, exact) for corner in corners]
    lanes = [
        (*corner, n)
        for corner_list, tried in zip(corners, candidates, strict=True)
        for corner, n in itertools.product(corner_list, [exact, *tried])
    ]
    signals = iter(_signals(sequence, np.array(lanes), profile, exact))
    return [
        _smallest([[next(signals) for _ in [exact, *tried]] for _ in corner_list], tried, exact, accuracy)
        for corner_list, tried in zip(corners, candidates, strict=True)
    ]


def _corners(box):
    """(t1, t2, b1) of the tissues that need most orders: longest T1 and T2, lowest, middle and highest B1."""
    t1, t2, b1 = (np.asarray(leaf) for leaf in (box.t1, box.t2, box.b1))
    return [(t1.max(), t2.max(), b) for b in sorted({b1.min(), (b1.min() + b1.max()) / 2, b1.max()})]


def _candidates(sequence, corners, accuracy, exact):
    """Numbers to try. A state of order k took k frames to go up and takes k to come down, losing T2 weight in each."""
    bound = 0.5 * np.log(1 / min(accuracy, 0.5)) * corners[0][1] / np.asarray(sequence.repetition_time).mean()
    wanted = [share * bound + 4 for share in _SHARES]
    return sorted({step for want in wanted for step in _LADDER[np.searchsorted(_LADDER, want) :][:1] if step < exact})


def _signals(sequence, lanes, profile, exact):
    """Signals (lanes, frames) of rows (t1, t2, b1, orders kept)."""
    run = compiled(_probe, n_states=exact)
    padded = np.pad(lanes, ((0, -len(lanes) % _LANES), (0, 0)), mode="edge")
    signals = np.empty((len(padded), sequence.n_frames))

    def chunk(start, device):
        rows = padded[start : start + _LANES]
        t1, t2, b1, keep = jax.device_put(tuple(rows.T.astype(sequence.flip_angle.dtype)), device)
        signals[start : start + _LANES] = run(*jax.device_put((sequence, t1, t2, b1, profile), device), keep=keep).T

    run_chunks(chunk, range(0, len(padded), _LANES))
    return signals[: len(lanes)]


def _probe(sequence, t1, t2, b1, profile, *, keep, n_states, one_kernel):
    return fisp_signal(sequence, t1, t2, b1, profile, n_states=n_states, one_kernel=one_kernel, keep=keep)


def _smallest(groups, tried, exact, accuracy):
    """Smallest number tried from which on every error is small enough; a group is [exact signal, one a candidate]."""
    good = np.full(len(tried), True)
    for reference, *signals in groups:
        allowed = _SAFETY * accuracy * np.linalg.norm(reference)
        good &= np.array([np.linalg.norm(signal - reference) <= allowed for signal in signals], bool)
    first_of_run = np.flatnonzero(np.logical_and.accumulate(good[::-1])[::-1])
    return tried[first_of_run[0]] if first_of_run.size else exact
