"""A scan in pieces has the signals of the whole, whatever is played, in whatever tissue, and wherever it is cut."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganmrf.physics.continuation import advance, advance_each, stacked, start
from ganmrf.physics.rf_pulse import windowed_sinc
from ganmrf.physics.sequences.blocks import Blocks, Delay, HalfTurns, Inversion, T2Preparation, Train, simulate_voxel
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate
from ganmrf.physics.slice_profile import FullSlice, small_tip
from ganmrf.physics.tissue import SemisolidPool, Tissue
from tests.physics.pools.cases import PULSES, sequences, tissues

pytestmark = pytest.mark.usefixtures("quick_compiler")

PULSE = windowed_sinc(4, "hann", n_samples=40)


def one_pool(rng, off_resonance: bool = False):
    t1, t2, b1 = (rng.uniform(*ends, 3) for ends in ((0.3, 2), (0.03, 0.2), (0.7, 1.3)))
    return Tissue(t1, t2, b1, rng.uniform(-50, 50, 3) if off_resonance else None)


def frames_of(train: Train, part: slice) -> Train:
    """Some frames of a train."""
    values = {field.name: getattr(train, field.name) for field in dataclasses.fields(train)}
    for name, value in values.items():
        if isinstance(value, HalfTurns):
            values[name] = np.pi * np.asarray(value.counts[part])
        elif np.ndim(value):
            values[name] = value[part]
    return Train(**values)


def cut(sequence, rng) -> list:
    """The blocks of a sequence, every train in two."""
    pieces = []
    for block in sequence.as_blocks().blocks:
        where = rng.integers(1, block.n_frames) if isinstance(block, Train) and block.n_frames > 1 else 0
        pieces += [frames_of(block, slice(where)), frames_of(block, slice(where, None))] if where else [block]
    return pieces


def short(rng) -> Blocks:
    """Any phases, frames of no turn to two, and a delay without crusher; trains are alike, and compile as one."""
    trains = [
        Train(angles, 0.012, 2e-3, rf_phase=phases, turns=(1, 2, 0, 1), **PULSES)
        for angles, phases in zip(rng.uniform(0.3, 1.3, (2, 4)), rng.uniform(0, 6, (2, 4)), strict=True)
    ]
    return Blocks((Inversion(0.02, 0.9, 0.7), trains[0], Delay(0.03), trains[1]))


def in_pieces(state, pieces):
    signals = []
    for piece in pieces:
        found, state = advance(state, piece)
        signals.append(found)
    return jnp.concatenate(signals, -1)


def relative_to_largest(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


def test_pieces_are_the_definition():
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        tissue, sequence = one_pool(rng, off_resonance=True), sequences(rng)["blocks"]
        rows = [tissue.rows(n) for n in range(tissue.size)]
        expected = [simulate_voxel(sequence, t.t1, t.t2, t.b1, t.off_resonance) for t in rows]
        found = in_pieces(start(tissue, n_states=33, phased=True), cut(sequence, rng))
        assert relative_to_largest(found, np.stack(expected)) < 1e-12


@pytest.mark.parametrize(
    ("kind", "sequence", "in_slice"),
    [
        ("one pool", "fisp", False),
        ("one pool", "bssfp", False),
        ("exchanging, off resonance", "short", False),
        ("one pool", "fisp", True),
        ("semisolid, off resonance", "short", True),
    ],
)
def test_pieces_are_the_whole(kind, sequence, in_slice):
    rng = np.random.default_rng(1)
    with jax.enable_x64(True):
        tissue = one_pool(rng) if kind == "one pool" else tissues(rng)[kind]
        turns = 0 if sequence == "bssfp" else 2 if in_slice and sequence == "short" else 1
        is_short, sequence = sequence == "short", short(rng) if sequence == "short" else sequences(rng)[sequence]
        # More than can come back in the whole would be other positions in a slice.
        form = {"n_states": 5, "slice_profile": FullSlice(PULSE, turns=2)} if in_slice else {"n_states": 9}
        # Traced, as what is made for its speed compiles slowly.
        expected = jax.jit(lambda tissue: simulate(sequence, tissue, **form))(tissue)
        state = start(tissue, **form, turns=turns, phased=jnp.iscomplexobj(expected))
        found = in_pieces(state, sequence.blocks if is_short else cut(sequence, rng))
        assert found.dtype == expected.dtype
        assert relative_to_largest(found, expected) < 1e-12


def candidates(flips):
    return [
        (T2Preparation(time), Inversion(0.02, efficiency), Train(np.full(5, flip), 0.012, 2e-3))
        for flip, time, efficiency in zip(flips, (0.0, 0.04, 0.08), (1.0, 0.0, 0.9), strict=True)
    ]


@pytest.mark.parametrize("slice_profile", [None, FullSlice(PULSE, turns=2)])
def test_each_continuation_is_that_one_alone(slice_profile):
    tissue = one_pool(np.random.default_rng(2))
    state = start(tissue, n_states=9, slice_profile=slice_profile)
    _, state = advance(state, Train(np.full(4, 0.5), 0.012, 2e-3))
    pieces = candidates((0.2, 0.6, 1.0))
    found = advance_each(state, stacked(pieces))
    assert found.shape == (3, 3, 5)
    for signals, piece in zip(found, pieces, strict=True):
        # Rounding of float32 where sums are made in another order.
        assert relative_to_largest(signals, advance(state, piece)[0]) < 1e-5


def test_derivatives_go_on_from_piece_to_piece():
    with jax.enable_x64(True):
        sequence = mrf_fisp(9)
        pieces = cut(sequence, np.random.default_rng(3))

        def energy(t2, in_two):
            tissue = Tissue(jnp.full(2, 1.0), t2)
            signals = in_pieces(start(tissue, n_states=9), pieces) if in_two else simulate(sequence, tissue, n_states=9)
            return jnp.sum(np.arange(9.0)[None] * signals**2)

        t2 = jnp.array([0.05, 0.1])
        in_two, whole = (jax.grad(energy)(t2, each) for each in (True, False))
        np.testing.assert_allclose(in_two, whole, rtol=1e-10)


def test_turns_of_a_spoiler_are_the_unit_of_orders():
    sequence = mrf_fisp(8)
    (inversion, train), tissue = sequence.as_blocks().blocks, Tissue(1.0, 0.1)
    fourfold = dataclasses.replace(train, turns=4)
    found = in_pieces(start(tissue, n_states=9, turns=4), [inversion, fourfold, Delay(0.1)])
    np.testing.assert_allclose(found, simulate(sequence, tissue, n_states=9), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "n_states must be given"),
        ({"n_states": 0}, "n_states must be a whole number, 1 or more; got 0"),
        ({"n_states": 9, "turns": -1}, "turns must be a whole number, 0 or more; got -1"),
        ({"n_states": 9, "slice_profile": small_tip(PULSE, 3)}, "must be a FullSlice or None; got SliceProfile"),
    ],
)
def test_scans_that_cannot_be_started(arguments, message):
    with pytest.raises(ValueError, match=message):
        start(Tissue(1.0, 0.1), **arguments)


def test_pieces_that_do_not_go_on():
    tissue, train = Tissue(1.0, 0.1), Train([0.5], 0.01, 2e-3)
    state = start(tissue, n_states=9, turns=2)
    with pytest.raises(ValueError, match="turns of frames must be 0 or a multiple of the 2"):
        advance(state, train)
    with pytest.raises(ValueError, match="turns of frames must be 0; got 1"):
        advance(start(tissue, turns=0), train)
    with pytest.raises(ValueError, match=r"half turns; start\(phased=True\) allows any"):
        advance(start(tissue, n_states=9), Train([0.5], 0.01, 2e-3, rf_phase=1.0))
    sliced = start(tissue, n_states=2, slice_profile=FullSlice(PULSE, turns=1))
    with pytest.raises(ValueError, match="turns of frames must be at most the 1"):
        advance(sliced, dataclasses.replace(train, turns=2))
    semisolid = SemisolidPool(1.0, 0.1, 0.1, 10.0, 0.3, 1e-5)
    with pytest.raises(ValueError, match="pulse_duration"):
        advance(start(semisolid, n_states=9), train)
    sliced = start(Tissue(1.0, 0.1, 1.5), n_states=2, slice_profile=FullSlice(PULSE, turns=1))
    with pytest.raises(ValueError, match="360 degrees at most in a slice"):
        advance(sliced, Train([5.0], 0.01, 2e-3))
    with pytest.raises(ValueError, match="same blocks and frames; number 1"):
        stacked([train, Train([0.5, 0.5], 0.01, 2e-3)])
    with pytest.raises(ValueError, match="one continuation at least"):
        stacked([])
