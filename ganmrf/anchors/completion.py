"""What the tissues that are checked say of a sequence: how many anchors, and which sentinels become anchors, too.

In all functions ``signals`` are those of the anchors, (anchors, frames), and ``truth`` those of held-out tissues and
sentinels, (tissues + sentinels, frames): over n, and where signals are combined (`echoes`). ``added`` are rows of the
sentinels.
"""

import jax
import numpy as np

from ganmrf.anchors.certificate import direction_errors
from ganmrf.anchors.echoes import echo_times, until_echo, without_echo
from ganmrf.anchors.generator import AnchoredGenerator
from ganmrf.anchors.sentinels import joined
from ganmrf.gan.real_columns import weighted
from ganmrf.parallel import one_blas_thread
from ganmrf.physics.sequences.blocks import PulseSequence
from ganmrf.physics.simulate_many import simulate_few
from ganmrf.physics.slice_profile import SliceModel

ROUNDS = 4  # of completion: with the next figure 12 of 40 or more sentinels at most, so that most of them only check
_A_ROUND = 3  # sentinels that become anchors at a time
_RIDGE = 0.5  # over k_b(b) = 1: errors that no weights explain would be spread over other tissues by a smaller one
_DEARER = 1.1  # how much larger completion may make the mean error, to make the largest smaller


@one_blas_thread()  # matrices are too small for threads
def anchors_and_truth(
    generator: AnchoredGenerator,
    sequence: PulseSequence,
    slice_profile: SliceModel | None,
    sizes: list[int],
    wanted: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Simulates as few anchors as reach the wanted error, or as many as the last of ``sizes``: ``signals``, ``truth``.

    Raises:
      ValueError: signals that are not finite, or nothing.
    """
    anchors, held_out, sentinels = (
        jax.tree.map(np.asarray, each) for each in (generator.anchors, generator.held_out, generator.sentinels)
    )
    signals = truth = None
    for size in sizes:  # ascending
        known = 0 if signals is None else len(signals)
        new, norms = slice(known, size), generator.anchor_norms[known:size, None]
        if truth is None:
            found = _simulated(sequence, slice_profile, joined(anchors.rows(new), held_out, sentinels))
            signals, truth = found[:size] / norms, found[size:] / generator.checked_norms[:, None]
        else:
            signals = np.concatenate([signals, _simulated(sequence, slice_profile, anchors.rows(new)) / norms])
        if size < sizes[-1] and _errors(generator, sequence, signals, truth, np.empty(0, int)).max() <= wanted:
            break
    return signals, truth


def sentinels_to_add(
    generator: AnchoredGenerator,
    sequence: PulseSequence,
    signals: np.ndarray,
    truth: np.ndarray,
    wanted: float,
    rounds: int,
) -> np.ndarray:
    """Sentinels to add, (added,), until the wanted error is reached, or a round lowers the largest error no more.

    A trunk leaves errors that are no combination of its features. To follow them would make other tissues worse, which
    the held-out tissues show.
    """
    added, others = np.empty(0, int), slice(generator.held_out.size)
    errors = _errors(generator, sequence, signals, truth, added)
    most = _DEARER * errors[others].mean()
    for _ in range(rounds):
        if errors.max() <= wanted:
            break
        tried = _with_worst(generator, signals, truth, added)
        then = _errors(generator, sequence, signals, truth, tried)
        if not then.max() < errors.max() or then[others].mean() > most:
            break
        added, errors = tried, then
    return added


def _with_worst(generator, signals, truth, added):
    """``added``, and some sentinels more: each is the one with the largest error where those before it are anchors."""
    size, own = len(signals), slice(generator.held_out.size, None)
    values, truth = generator.checked_weights[size][own], truth[own]
    left, norms = truth - weighted(values[:, :size], signals), np.linalg.norm(truth, axis=1)
    for _ in range(min(_A_ROUND, len(truth) - len(added))):
        kernels = values[:, size + added]
        errors = np.linalg.norm(left - weighted(kernels, _extra(kernels[added], left[added])), axis=1) / norms
        errors[added] = -1
        added = np.append(added, np.argmax(errors))
    return added


def _extra(kernels, left):
    """The g_b of some sentinels, (sentinels, frames), from k_b of all of them and what the anchors leave of them."""
    wide = left.astype(np.result_type(left, float))
    return np.linalg.solve(kernels + _RIDGE * np.eye(len(kernels)), wide).astype(left.dtype)


def combined(
    generator: AnchoredGenerator, signals: np.ndarray, truth: np.ndarray, added: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """``signals`` and behind them g_b, (anchors + added, frames); and those that are made of them, like ``truth``."""
    size, rows = len(signals), generator.held_out.size + added
    values = generator.checked_weights[size][:, columns(size, added)]
    if added.size:
        left = truth[rows] - weighted(values[rows, :size], signals)
        signals = np.concatenate([signals, _extra(values[rows, size:], left)])
    return signals, weighted(values, signals)


def _errors(generator, sequence, signals, truth, added):
    """Errors of unit fingerprints of all checked tissues."""
    made = combined(generator, signals, truth, added)[1]
    return direction_errors(*at_echoes(generator, sequence, made, truth))


def at_echoes(generator: AnchoredGenerator, sequence: PulseSequence, *signals: np.ndarray) -> tuple[np.ndarray, ...]:
    """Signals of the checked tissues at the echoes, but for a factor of each tissue."""
    after = np.asarray(echo_times(sequence, generator.anchors))
    if np.ptp(after) == 0:
        return signals
    factors = until_echo(np, after - after.min(), joined(generator.held_out, generator.sentinels))
    return tuple(each * factors for each in signals)


def columns(size: int, added: np.ndarray) -> np.ndarray | slice:
    """Columns of `Weights.values`: those of the anchors, and of the sentinels that were added; a view where none is."""
    return np.concatenate([np.arange(size), size + added]) if added.size else slice(size)


def _simulated(sequence, slice_profile, tissue):
    signals = simulate_few(without_echo(sequence, tissue), tissue, slice_profile=slice_profile)
    if not np.isfinite(signals).all():
        raise ValueError("the anchors' signals are not finite: the sequence is invalid")
    if not signals.any(axis=1).all():
        raise ValueError("an anchor has no signal: the sequence is invalid")
    return signals
