"""Scans of one voxel that are adapted piece by piece, and designs of the same pieces that are made beforehand."""

import dataclasses
import itertools
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ganmrf.design.adaptive import Belief, Carried, expected_variances, no_data, observed, posterior
from ganmrf.physics.continuation import ScanState, advance, advance_each, stacked, start
from ganmrf.physics.sequences.blocks import Blocks, Inversion, T2Preparation, Train
from ganmrf.progress import watched

REPETITION_TIME, ECHO_TIME = 12e-3, 2e-3  # s, about those of published MRF-FISP
_BASE_DEG, _PEAKS_DEG = 5.0, (8.0, 15.0, 25.0, 40.0, 60.0)  # of flip angles
_INVERSIONS, _T2_PREPARATIONS = (0.01, 0.1, 0.3, 0.8, 1.5), (0.03, 0.06, 0.12, 0.24)  # s


class Continuations(NamedTuple):
    """What the next piece of a scan may be.

    Attributes:
      pieces: by `stacked`: a T2 preparation, an inversion, and a train, of which the first two may be of no effect.
      durations: s, (continuations,).
      words: (continuations,).
    """

    pieces: object
    durations: jax.Array
    words: tuple[str, ...]


class Scanner(NamedTuple):
    """What scans of a study share.

    Attributes:
      continuations: that each piece is chosen from.
      carried: the tissues that choices are made by.
      form: of `start`.
      m0_over_noise: M0 over the standard deviation of the real, and of the imaginary, part of each frame.
      n_pieces: of a scan.
    """

    continuations: Continuations
    carried: Carried
    form: dict
    m0_over_noise: float
    n_pieces: int


def hundred_continuations(n_frames: int) -> Continuations:
    """Ten preparations times ten trains: all begin with a crusher, and all have the same structure."""
    lobe = np.sin(np.pi * (np.arange(n_frames) + 0.5) / n_frames)
    trains = [
        (f"{name} of {peak:g} degrees", _BASE_DEG + (peak - _BASE_DEG) * shape)
        for peak in _PEAKS_DEG
        for name, shape in (("lobe", lobe), ("plateau", np.minimum(1, 4 * lobe)))
    ]
    preparations = [("nothing", 0.0, 0.0, 0.0)]
    preparations += [(f"inversion {1e3 * each:g} ms", 0.0, each, 1.0) for each in _INVERSIONS]
    preparations += [(f"T2 {1e3 * each:g} ms", each, 0.0, 0.0) for each in _T2_PREPARATIONS]
    pieces, durations, words = [], [], []
    for (prepared, t2_time, inversion_time, efficiency), (name, degrees) in itertools.product(preparations, trains):
        train = Train(np.deg2rad(degrees), REPETITION_TIME, ECHO_TIME)
        pieces.append((T2Preparation(t2_time), Inversion(inversion_time, efficiency), train))
        durations.append(t2_time + inversion_time + n_frames * REPETITION_TIME)
        words.append(f"{prepared}, {name}")
    return Continuations(stacked(pieces), jnp.asarray(durations), tuple(words))


def piece_of(continuations: Continuations, index: int):
    """One of the continuations."""
    return jax.tree.map(lambda leaf: leaf[index], continuations.pieces)


def sequence_of(continuations: Continuations, indices) -> Blocks:
    """A whole scan of pieces, by their numbers."""
    return Blocks(tuple(block for index in indices for block in piece_of(continuations, index).blocks))


def duration_of(continuations: Continuations, indices) -> float:
    """Of such a scan, s."""
    return float(np.sum(np.asarray(continuations.durations)[np.asarray(indices)]))


@jax.jit
def _best(belief, carried, signals, weights, m0_over_noise, durations, elapsed):
    """The continuation after which the variance of T1 and T2, summed, times the time so far is least, and all costs."""
    variances = expected_variances(belief, carried, signals, weights, m0_over_noise)
    costs = variances.sum(-1) * (elapsed + durations)
    return jnp.argmin(costs), costs


def choose(scanner: Scanner, state: ScanState, belief: Belief, weights, m0_over_noise, elapsed: float) -> int:
    """The number of the best continuation of a running scan."""
    own = scanner.continuations
    signals = advance_each(state, own.pieces)
    return int(_best(belief, scanner.carried, signals, weights, m0_over_noise, own.durations, elapsed)[0])


def adapted(scanner: Scanner, tissue, rng) -> tuple[list[int], np.ndarray, list[float]]:
    """One adapted scan of one voxel of a tissue.

    Returns:
      Numbers of the pieces, noisy data of M0 = 1, (frames,), and the seconds of each choice.
    """
    own, noise = scanner.continuations, 1 / scanner.m0_over_noise
    state, truth = start(scanner.carried.tissue, **scanner.form), start(tissue, **scanner.form)
    belief, elapsed, chosen, data, seconds = no_data(scanner.carried), 0.0, [], [], []
    weights, m0_over_noise = beforehand(scanner)
    for _ in range(scanner.n_pieces):
        clock = time.perf_counter()
        if chosen:
            weights, m0 = posterior(belief, noise)
            m0_over_noise = m0 / noise
        chosen.append(choose(scanner, state, belief, weights, m0_over_noise, elapsed))
        seconds.append(time.perf_counter() - clock)
        piece = piece_of(own, chosen[-1])
        elapsed += float(own.durations[chosen[-1]])
        signals, truth = advance(truth, piece)
        seen = np.asarray(signals) + noise * (rng.normal(size=(*signals.shape, 2)) @ np.array([1, 1j]))
        data.append(seen[0])
        signals, state = advance(state, piece)
        belief = observed(belief, scanner.carried, signals, jnp.asarray(seen, belief.overlap.dtype))
    return chosen, np.concatenate(data), seconds


def beforehand(scanner: Scanner) -> tuple[jax.Array, jax.Array]:
    """Weights of the atoms, and M0 over the noise, before any data."""
    size = scanner.carried.atoms.size
    return jnp.full(size, 1 / size), jnp.full(size, scanner.m0_over_noise)


def designed(scanner: Scanner, passes: int, label: str) -> list[int]:
    """Numbers of the pieces of a scan that is best for all atoms on average, before any data.

    Pieces are chosen one after the other, and then again one by one, ``passes`` times, all others being as they are.
    The ``label`` is that of the progress bar.
    """
    weights, m0_over_noise = beforehand(scanner)
    own, carried = scanner.continuations, scanner.carried
    state, belief, chosen = start(carried.tissue, **scanner.form), no_data(carried), []
    places = [*range(scanner.n_pieces)] * (1 + passes)
    for turn, place in watched(list(enumerate(places)), label):
        if turn < scanner.n_pieces:
            elapsed = duration_of(own, chosen) if chosen else 0.0
            chosen.append(choose(scanner, state, belief, weights, m0_over_noise, elapsed))
            signals, state = advance(state, piece_of(own, chosen[-1]))
            belief = observed(belief, carried, signals, jnp.zeros((1, signals.shape[-1]), belief.overlap.dtype))
        else:
            tried = np.tile(chosen, (len(own.words), 1))
            tried[:, place] = np.arange(len(own.words))
            products = _products_of(start(carried.tissue, **scanner.form), carried, own.pieces, jnp.asarray(tried))
            chosen[place] = int(_least(products, carried, weights, m0_over_noise, own.durations[tried].sum(1)))
    return chosen


@jax.jit
def _products_of(state, carried, pieces, tried):
    """What whole scans, by the numbers of their pieces, tell of the atoms: (scans, atoms, rows, rows)."""

    def scan(indices):
        def piece(carry, index):
            state, belief = carry
            signals, state = advance(state, jax.tree.map(lambda leaf: leaf[index], pieces))
            nothing = jnp.zeros((1, signals.shape[-1]), belief.overlap.dtype)
            return (state, observed(belief, carried, signals, nothing)), None

        return lax.scan(piece, (state, no_data(carried)), indices)[0][1].products

    return lax.map(scan, tried)


@jax.jit
def _least(products, carried, weights, m0_over_noise, durations):
    nothing = jnp.zeros((1, carried.tissue.size, 1), carried.combinations.dtype)

    def cost(products):
        belief = no_data(carried)._replace(products=products)
        considered = carried.atoms.size
        return expected_variances(belief, carried, nothing, weights, m0_over_noise, considered=considered).sum()

    return jnp.argmin(lax.map(cost, products) * durations)


def for_one(scanner: Scanner, carried: Carried) -> Scanner:
    """The same scanner, that knows the tissue: ``carried`` has it as its only atom."""
    spread = scanner.carried.spread
    return scanner._replace(carried=dataclasses.replace(carried, spread=spread))
