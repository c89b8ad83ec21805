"""Any sequence gives the mean over isochromats: engines and definition against the Bloch equation; gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganmrf.physics.bloch import isochromat_signal
from ganmrf.physics.sequences.blocks import (
    Blocks,
    Delay,
    Inversion,
    Saturation,
    T2Preparation,
    Train,
    simulate_voxel,
)
from ganmrf.physics.sequences.bssfp import Bssfp
from ganmrf.physics.sequences.cardiac import CardiacFisp
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.sequences.multi_spin_echo import MultiSpinEcho
from ganmrf.physics.sequences.preparations import Played, hard_saturation, mlev4_t2_preparation
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.sequences.spoiled_gradient_echo import SpoiledGradientEcho
from ganmrf.physics.simulate import simulate
from ganmrf.physics.simulate_many import simulate_many
from ganmrf.physics.tissue import Tissue

pytestmark = pytest.mark.usefixtures("quick_compiler")
FRAMES = 14
RNG = np.random.default_rng(3)
T1, T2, B1 = RNG.uniform(0.3, 2, 5), RNG.uniform(0.02, 0.28, 5), RNG.uniform(0.5, 1.5, 5)
OFF_RESONANCE = RNG.uniform(-250, 250, 5)
ALTERNATING = np.pi * (np.arange(FRAMES) % 2)


def train(frames=FRAMES, **facts):
    """Random angles and times, echoes anywhere in their frames."""
    times = RNG.uniform(8e-3, 20e-3, frames)
    return Train(RNG.uniform(0.1, 1.4, frames), times, RNG.uniform(0, 1, frames) * times, **facts)


def played(pulses=5):
    """A preparation of random pulses."""
    angles, phases, times = RNG.uniform([[-3], [0], [0]], [[3], [6], [0.02]], (3, pulses))
    return Played(angles, phases, times, 0.01)


def sequences():
    """One of each kind, and what their parts can be combined to."""
    angles, times = RNG.uniform(0.1, 1.2, FRAMES), RNG.uniform(8e-3, 16e-3, FRAMES)
    preparations = (Inversion(0.02, 0.93), None, T2Preparation(0.03, 0.01), Saturation(0.08, 0.8))
    played_ones = (played(), None, mlev4_t2_preparation(0.03, 0.01), hard_saturation(0.08))
    cardiac = {"flip_angle": angles[:12].reshape(4, 3), "repetition_time": 8e-3, "echo_time": 2e-3}
    cardiac |= {"rr_intervals": np.array([0.5, 0.4, 0.6, 0.5])}
    mixed = RNG.integers(0, 2, FRAMES)
    return {
        "fisp": Fisp(angles, times, 3e-3, 0.02),
        "cardiac": CardiacFisp(**cardiac, preparations=preparations),
        "cardiac, played": CardiacFisp(**cardiac, preparations=played_ones),
        "bssfp": Bssfp(angles, times, inversion_time=0.02),
        "bssfp of other phases": Bssfp(angles, times, 2e-3, rf_phase=RNG.uniform(0, 6, FRAMES), half_start=False),
        "spoiled gradient echo": SpoiledGradientEcho(angles, times, 3e-3, 0.01),
        "spin echoes": MultiSpinEcho(RNG.uniform(1, 3.1, 6), 0.012, 1.4),
        "alternating phase": Blocks((Delay(0.1), train(rf_phase=ALTERNATING, receiver_phase=0.0))),
        "gaps": Blocks((train(6), Delay(0.05), train(5, turns=0), Delay(0.2, crushed=True), train(4))),
        "hybrid": Blocks(
            (train(turns=mixed, rf_phase=RNG.uniform(0, 6, FRAMES)), Delay(0.03), train(5, recorded=False), train(4))
        ),
        "hybrid of half turns": Blocks(
            (Saturation(0.2), train(turns=mixed, rf_phase=ALTERNATING), T2Preparation(0.04), train(5))
        ),
        "played": Blocks((played(), train(4), Delay(0.05), played(), train(4), hard_saturation(0.02), train(4))),
        "four turns": Blocks((train(turns=4),)),
        "turns of all numbers": Blocks((train(turns=np.arange(FRAMES) % 4), Delay(0.03), train(5, turns=2), train(4))),
    }


@pytest.mark.parametrize("off_resonance", [None, OFF_RESONANCE], ids=["on", "off"])
@pytest.mark.parametrize("name", sequences())
def test_every_sequence_is_the_mean_over_isochromats(name, off_resonance):
    sequence, tissue = sequences()[name], Tissue(T1, T2, B1, off_resonance)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: leaf.astype(float), (sequence, tissue))
        expected = 1j * isochromat_signal(*wide)
        found = np.asarray(simulate(*wide))
        assert found.shape == (5, sequence.n_frames)
        np.testing.assert_allclose(found, expected, atol=1e-12 * np.abs(expected).max())
        voxel = [float(leaf[0]) for leaf in jax.tree.leaves(wide[1])]
        defined = simulate_voxel(wide[0], *voxel)
        np.testing.assert_allclose(defined, expected[0], atol=1e-12 * np.abs(expected).max())
    narrow = np.asarray(simulate(sequence, tissue))
    # Single precision rounds phases of some rad by 2e-7 a frame, and those of 250 Hz by 1e-6.
    error = np.linalg.norm(narrow - expected, axis=1) / np.linalg.norm(expected, axis=1)
    assert error.max() < (2e-6 if off_resonance is None else 1e-5)
    # What has no imaginary part is real, traced or not.
    traced = jax.eval_shape(simulate, sequence, tissue)
    real = np.abs(expected.imag).max() < 1e-12 * np.abs(expected).max()
    assert np.isrealobj(narrow) == np.isrealobj(found) == (traced.dtype == np.float32) == real


@pytest.mark.parametrize("turned", [8, 16])  # states are updated in blocks of eight
@pytest.mark.parametrize("still", [2, 3, 5])
def test_no_state_outlives_frames_without_turns(turned, still):
    turns = [1] * turned + [0] * still + [1] * 20
    angles = np.random.default_rng(0).uniform(0.2, 2.5, len(turns))
    with jax.enable_x64(True):
        sequence, tissue = Blocks((Train(angles, 0.01, 0.005, turns=turns),)), Tissue(2.0, 1.0)
        expected = 1j * isochromat_signal(sequence, tissue)
        np.testing.assert_allclose(simulate(sequence, tissue), expected, atol=1e-12)


@pytest.mark.parametrize("off_resonance", [None, 3.0])
def test_a_single_frame(off_resonance):
    tissue, decay = Tissue(1.0, 0.1, 1.0, off_resonance), np.exp(-0.004 / 0.1)
    expected = np.sin(0.3) * decay * np.exp(2j * np.pi * (off_resonance or 0.0) * 0.004)
    inverted = CardiacFisp([[0.3]], 0.01, 0.004, (Inversion(0.0, 0.0),), [1.0])
    balanced = Bssfp([0.3], 0.01, 0.004, half_start=False)
    for sequence in (Fisp([0.3], 0.01, 0.004), balanced, SpoiledGradientEcho([0.3], 0.01, 0.004), inverted):
        np.testing.assert_allclose(simulate(sequence, tissue), [expected], rtol=1e-6)  # float32


def test_many_voxels_keep_the_accuracy():
    """Long T2 among short ones: states and batches are chosen voxel by voxel."""
    rng = np.random.default_rng(0)
    t2 = np.exp(rng.uniform(np.log(0.005), np.log(0.3), 300))
    tissue = Tissue(np.maximum(rng.uniform(0.3, 2.5, 300), t2), t2)
    angles = rng.uniform(0, 1, 120)
    for sequence in (SpoiledGradientEcho(angles, 12e-3, 3e-3, 0.02), Bssfp(angles, 12e-3), mrf_fisp(120).as_blocks()):
        found = simulate_many(sequence, tissue)
        exact = np.asarray(simulate(sequence, tissue, n_states=61))
        assert (np.linalg.norm(found - exact, axis=1) < 1e-4 * np.linalg.norm(exact, axis=1)).all()


def short_sequences():
    """Three frames of each kind, the first without flip, and every kind of block; phases that are leaves."""
    angles = jnp.array([0.0, 0.7, 1.1])
    phased = Train(angles, 0.01, 2e-3, rf_phase=jnp.array([0.0, 1.0, 2.5]))
    inversion, pulses = Inversion(0.02, 1.0), Played(angles, jnp.array([0.0, 1.5, 4.0]), jnp.array([0.0, 0.01, 5e-3]))
    ideal = inversion, phased, Delay(0.03), phased, T2Preparation(0.05, 0.01), phased, Saturation(0.1, 0.9), phased
    return {
        "fisp": Fisp(angles, 0.01, 2e-3, 0.02),
        "cardiac": CardiacFisp(jnp.stack([angles, angles]), 0.01, 2e-3, (inversion, pulses), jnp.array([0.2, 0.2])),
        "bssfp": Bssfp(angles, 0.01, inversion_time=0.02, rf_phase=jnp.array([0.0, 3.0, 0.5])),
        "spoiled gradient echo": SpoiledGradientEcho(angles, 0.01, 2e-3, 0.02),
        "spin echoes": MultiSpinEcho(angles, 0.01, 1.4),
        "blocks": Blocks(ideal),
        "played": Blocks((pulses, phased, pulses, phased)),
    }


@pytest.mark.parametrize("name", short_sequences())
def test_gradients_of_every_leaf(name):
    """Central differences in float64, at points where formulas could divide 0 by 0: no flip, no shift, T1 = T2."""
    with jax.enable_x64(True):
        sequence = short_sequences()[name]
        tissue = Tissue(jnp.array([0.1, 0.8]), jnp.array([0.1, 0.06]), jnp.array([1.0, 0.9]), jnp.array([0.0, 20.0]))
        leaves, structure = jax.tree.flatten((sequence, tissue))
        weights = np.random.default_rng(1).standard_normal((2, 2, sequence.n_frames))

        @jax.jit
        def loss(leaves):
            signal = simulate(*jax.tree.unflatten(structure, leaves))
            return jnp.sum(weights[0] * signal.real + weights[1] * signal.imag)

        reverse = jax.grad(loss)(leaves)
        direction = [np.random.default_rng(i).standard_normal(leaf.shape) for i, leaf in enumerate(leaves)]
        for leaf in range(len(leaves)):
            step = 1e-6 * float(jnp.abs(leaves[leaf]).max() or 1.0)
            sides = [
                loss([x + sign * step * direction[n] * (n == leaf) for n, x in enumerate(leaves)]) for sign in (1, -1)
            ]
            expected = (sides[0] - sides[1]) / (2 * step)
            assert np.vdot(reverse[leaf], direction[leaf]) == pytest.approx(float(expected), rel=1e-5, abs=1e-7)
        forward = jax.jvp(loss, (leaves,), ([jnp.asarray(each) for each in direction],))[1]
        assert forward == pytest.approx(sum(np.vdot(g, d) for g, d in zip(reverse, direction, strict=True)), rel=1e-9)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Train([0.1, 0.2], [0.01, 0.01, 0.01], 1e-3), r"Train.flip_angle must be \(frames,\) of 3 frames"),
        (lambda: Train([0.1, 0.2], 0.01, 1e-3, rf_phase=[0.0, 1.0, 2.0]), "of 3 frames"),
        (lambda: Train([0.1], 0.01, 0.02), "no longer than the repetition time, 0.01 s; got 0.02 s"),
        (
            lambda: Train([0.1] * 2, [0.03, 0.01], 0.02),
            "no longer than the repetition time of frame 2, 0.01 s; got 0.02",
        ),
        (lambda: Train([0.1], 12.0, 1e-3), r"must be in s, .*ms"),
        (lambda: Train([0.1], 0.01, 1e-3, turns=-1), "Train.turns must be a whole number"),
        (lambda: Inversion(0.02, 1.2), "Inversion.efficiency must be 0 to 1; got 1.2"),
        (lambda: Saturation(0.02, -0.1), "Saturation.efficiency must be 0 to 1; got -0.1"),
        (lambda: T2Preparation(-0.01), "T2Preparation.time must be 0 or more"),
        (lambda: Delay([0.1, 0.2]), "Delay.time must be one number"),
        (lambda: Blocks((Delay(0.1),)), "no frame is recorded"),
        (lambda: Blocks((0.1,)), "a block must be of"),
        (lambda: Blocks(Train([0.1], 0.01, 1e-3)), "Blocks.blocks must be a tuple of blocks; got Train"),
        (lambda: Bssfp([0.1], 5.0), r"Bssfp.repetition_time must be in s, 1 at most \(is it in ms"),
        (lambda: CardiacFisp(np.full((2, 40), 0.2), 5e-3, 1e-3, (None, None), [0.15, 0.5]), "beat 1 lasts 0.15 s"),
        (lambda: CardiacFisp(np.full((2, 4), 0.2), 5e-3, 1e-3, (None,), [0.15, 0.5]), "2 beats of flip angles.*1 prep"),
        (lambda: Tissue(1.0, 0.1, 1.0, np.nan), "Tissue.off_resonance must be finite"),
    ],
)
def test_what_no_scanner_plays_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_ideal_spin_echoes_decay_with_t2():
    echoes = simulate(MultiSpinEcho(np.full(12, np.pi), 0.01), Tissue(0.9, 0.08))
    np.testing.assert_allclose(np.abs(echoes), np.exp(-np.arange(1, 13) * 0.01 / 0.08), rtol=1e-5)


def test_balanced_steady_state_on_resonance():
    """The closed form of bSSFP at TE = TR / 2 with alternating phase, after many frames."""
    alpha, repetition, t1, t2 = 0.8, 5e-3, 0.6, 0.09
    e1, e2 = np.exp(-repetition / t1), np.exp(-repetition / t2)
    expected = np.sin(alpha) * (1 - e1) * np.sqrt(e2) / (1 - (e1 - e2) * np.cos(alpha) - e1 * e2)
    signal = simulate(Bssfp(np.full(1500, alpha), repetition), Tissue(t1, t2))
    assert float(jnp.abs(signal[-1])) == pytest.approx(expected, rel=1e-4)
