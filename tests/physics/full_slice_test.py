"""A full slice is the sum over isochromats that every hard pulse turns: accuracy, sequences, limits, derivatives."""

import dataclasses

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganmrf.physics.bloch import slice_signal
from ganmrf.physics.rf_pulse import RfPulse, windowed_sinc
from ganmrf.physics.sequences.blocks import Blocks, Train
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate, simulate_reverse, simulate_with_tangents
from ganmrf.physics.simulate_many import simulate_few, simulate_many
from ganmrf.physics.slice_positions import n_positions
from ganmrf.physics.slice_profile import FullSlice, PartitionedSlice, small_tip
from ganmrf.physics.tissue import Tissue
from tests.quick import quickly
from tests.slices import KINDS, fisp_of, pulse_of, relative, sequences, tissue_of

pytestmark = pytest.mark.usefixtures("quick_compiler")
# Spoilers up to 16 turns a frame, over 20 frames and 3 slice thicknesses, are 960 turns: no echo of another order.
POSITIONS = 4096
HANN = windowed_sinc(4.0, "hann", n_samples=40)


@hypothesis.given(
    seed=st.integers(0, 10**6), kind=st.sampled_from(KINDS), turns=st.floats(1, 16), off_resonance=st.booleans()
)
@hypothesis.example(seed=11, kind="none", turns=4.0, off_resonance=False)  # signals do not end within the slice
# No phase to shrink examples, which would compile for minutes.
@hypothesis.settings(max_examples=6, phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate])
def test_default_accuracy_holds_against_many_positions(seed, kind, turns, off_resonance):
    rng = np.random.default_rng(seed)
    pulse, sequence, tissue = pulse_of(kind, rng), fisp_of(rng), tissue_of(rng, off_resonance=off_resonance)
    expected = 1j * slice_signal(sequence, tissue, pulse, turns, POSITIONS)
    found = simulate(sequence, tissue, slice_profile=FullSlice(pulse, turns))
    assert found.shape == (6, sequence.n_frames)
    # Real samples on resonance: positions on either side of the middle mirror each other.
    assert np.isrealobj(found) == (not off_resonance and kind != "complex")
    assert relative(np.asarray(found), expected).max() < 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_equal_positions_are_exact(kind):
    """Midpoints on both sides of the middle, in double precision."""
    rng = np.random.default_rng(6)
    sequence, tissue = fisp_of(rng), tissue_of(rng, 4, off_resonance=kind == "none")
    model = FullSlice(pulse_of(kind, rng), 4.3)
    expected = 1j * slice_signal(sequence, tissue, model.pulse, 4.3, 2 * n_positions(model, 7, 1))
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: leaf.astype(float), (sequence, tissue))
        found = simulate(*wide, n_states=7, slice_profile=model)
    np.testing.assert_allclose(found, expected, atol=1e-10 * np.abs(expected).max())


@pytest.mark.parametrize("off_resonance", [False, True], ids=["on", "off"])
@pytest.mark.parametrize("name", sequences(np.random.default_rng(0)))
def test_every_sequence_has_a_slice(name, off_resonance):
    rng = np.random.default_rng(3)
    sequence, tissue = sequences(rng)[name], tissue_of(rng, 4, off_resonance)
    pulse, turns = pulse_of("asymmetric", rng), 0.0 if name == "bssfp" else 4.5
    expected = 1j * slice_signal(sequence, tissue, pulse, turns, POSITIONS)
    found = simulate(sequence, tissue, slice_profile=FullSlice(pulse, turns))
    assert relative(np.asarray(found), expected).max() < 1e-4


def test_positions_chosen_by_t2_keep_the_accuracy():
    """Many voxels, of which those of short T2 have fewer positions than those of long T2."""
    rng = np.random.default_rng(0)
    t2 = np.exp(rng.uniform(np.log(0.005), np.log(0.3), 80))
    tissue, sequence, pulse = Tissue(np.maximum(t2, rng.uniform(0.3, 2.5, 80)), t2), mrf_fisp(80), HANN
    expected = (1j * slice_signal(sequence, tissue, pulse, 3.7, 1024)).real  # 80 frames of 11.1 turns are 888 turns
    for accuracy in (1e-4, 1e-3):
        keywords = {"accuracy": accuracy, "slice_profile": FullSlice(pulse, 3.7)}
        for simulated in (simulate, simulate_many, simulate_few):
            found = simulated(sequence, tissue, **keywords)
            assert relative(np.asarray(found), expected).max() < accuracy


@pytest.mark.parametrize(
    ("time_bandwidth", "turns", "extent"), [(1.5, 0.0, 0.3), (1.0, 0.0, 0.75), (4.0, 0.3, 0.3), (2.0, 0.3, 1.5)]
)
def test_a_slice_that_is_cut_off_keeps_the_accuracy_in_few_frames(time_bandwidth, turns, extent):
    pulse = windowed_sinc(time_bandwidth, "none", n_samples=40)
    sequence, tissue = Blocks((Train(np.full(3, 1.7), 0.01, 0.002),)), Tissue(1.0, 0.1)
    expected = 1j * slice_signal(sequence, tissue, pulse, turns, POSITIONS, extent)
    found = simulate(sequence, tissue, slice_profile=FullSlice(pulse, turns, extent))
    assert relative(np.asarray(found), expected).max() < 1e-4


def test_a_pulse_whose_parts_cancel_is_refused():
    """In the middle they leave 1/27 of what they turn, and 27 whole turns elsewhere."""
    waveform = np.hanning(182)[1:-1] * (np.cos(np.linspace(-9, 9, 180)) + 0.03)
    model = FullSlice(RfPulse.of_waveform(waveform, 8.0), 4.0)
    with pytest.raises(ValueError, match=r"RfPulse\.samples"):
        simulate(Blocks((Train(np.full(3, 0.5), 0.01, 0.002),)), Tissue(1.0, 0.1), slice_profile=model)


@pytest.mark.parametrize("model", [FullSlice(HANN, 1e12), FullSlice(HANN, 4.0, extent=1e12)], ids=["turns", "extent"])
def test_positions_beyond_the_memory_are_refused(model):
    with pytest.raises(ValueError, match="memory"):
        simulate(Blocks((Train(np.full(3, 0.5), 0.01, 0.002),)), Tissue(1.0, 0.1), slice_profile=model)


def test_a_hard_pulse_has_a_uniform_slice():
    rng = np.random.default_rng(1)
    sequence, tissue = fisp_of(rng), tissue_of(rng)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: leaf.astype(float), (sequence, tissue))
        uniform = 3 * np.asarray(simulate(*wide))  # as many slice thicknesses as there are
        found = simulate(*wide, slice_profile=FullSlice(RfPulse([1.0], 8.0), 4.0))
    assert relative(np.asarray(found), uniform).max() < 1e-4


def test_many_turns_are_a_partitioned_slice():
    rng = np.random.default_rng(2)
    sequence, tissue = fisp_of(rng), tissue_of(rng)
    partitioned = np.asarray(simulate(sequence, tissue, slice_profile=PartitionedSlice(HANN)))
    distance = [
        relative(np.asarray(simulate(sequence, tissue, slice_profile=FullSlice(HANN, turns))), partitioned).max()
        for turns in (1.0, 4.0, 40.0)
    ]
    # Neighbouring orders leak as the Fourier coefficients of the slice: nothing beyond the time-bandwidth product.
    assert distance[0] > 0.05
    assert distance[1] > 3e-3
    assert distance[2] < 3e-4


def test_small_flip_angles_need_no_model():
    """All models of a slice agree where a pulse turns by a hundredth of a radian and the spoiler is strong."""
    sequence = Blocks((Train(np.full(6, 1e-2), 0.012, 0.003),))
    models = small_tip(HANN, 24), FullSlice(HANN, 12.0), PartitionedSlice(HANN), PartitionedSlice(HANN, phases=False)
    signals = [np.asarray(simulate(sequence, Tissue(0.8, 0.08), slice_profile=model)) for model in models]
    for signal in signals[1:]:
        assert relative(signal, signals[0]) < 2e-4


@pytest.mark.parametrize("kind", ["hann", "complex"])
def test_transforms_and_batches_change_nothing(kind):
    rng = np.random.default_rng(4)
    sequence, tissue, model = fisp_of(rng), tissue_of(rng), FullSlice(pulse_of(kind, rng), 4.0)

    def signal(tissue):
        return simulate(sequence, tissue, n_states=11, slice_profile=model)

    plain = np.asarray(signal(tissue))
    by_voxel = np.stack([signal(jax.tree.map(lambda leaf, n=n: leaf[n], tissue)) for n in range(3)])
    backwards = signal(jax.tree.map(lambda leaf: leaf[::-1], tissue))[::-1]
    many = simulate_many(sequence, tissue, n_states=11, slice_profile=model)
    # Rounding of single precision, 6e-8 an operation and frame, in another order.
    for found in (jax.jit(signal)(tissue), jax.vmap(signal)(tissue), backwards, many):
        assert relative(np.asarray(found), plain).max() < 2e-6
    assert relative(by_voxel, plain[:3]).max() < 2e-6


@pytest.mark.parametrize("turns", [0.0, 4.0])
def test_grids_of_off_resonance_are_their_voxels(turns):
    """Voxels that differ in off-resonance alone, of which many are simulated together."""
    shifts = np.linspace(-100, 100, 24)
    times = np.array([[0.5, 0.05], [1.5, 0.1], [2.5, 0.3]])
    t1, t2 = (np.repeat(each, 24) for each in times.T)
    tissue, sequence = Tissue(t1, t2, 1.0, np.tile(shifts, 3)), fisp_of(np.random.default_rng(7))
    keywords = {"n_states": 11, "slice_profile": FullSlice(HANN, turns)}
    found = simulate_many(sequence, tissue, **keywords)
    # Rounding of single precision, also of phases of some rad.
    assert relative(found, np.asarray(simulate(sequence, tissue, **keywords))).max() < 1e-5


def test_derivatives_are_central_differences():
    """By every leaf of sequence, tissue and slice, in float64, at a flip angle of 0 too; reverse and forward mode."""
    with jax.enable_x64(True):
        phases = jnp.array([0.0, 1.0, 2.5, 0.3])
        train = Train(jnp.array([0.9, 0.0, 0.7, 1.4]), jnp.array([9e-3, 12e-3, 10e-3, 9e-3]), 2e-3, rf_phase=phases)
        tissue = Tissue(jnp.array([0.3, 0.8]), jnp.array([0.1, 0.06]), jnp.array([1.0, 0.9]), jnp.array([0.0, 20.0]))
        leaves, structure = jax.tree.flatten((Blocks((train,)), tissue, FullSlice(HANN, 2.5)))
        leaves = [jnp.asarray(leaf, float) for leaf in leaves]
        weights = np.random.default_rng(1).standard_normal((2, 2, 4))

        def total(leaves):
            sequence, tissue, model = jax.tree.unflatten(structure, leaves)
            signal = simulate(sequence, tissue, n_states=3, slice_profile=model)
            return jnp.sum(weights[0] * signal.real + weights[1] * signal.imag)

        reverse, loss = quickly(jax.grad(total))(leaves), quickly(total)
        direction = [np.random.default_rng(i).standard_normal(leaf.shape) for i, leaf in enumerate(leaves)]
        for leaf, value in enumerate(leaves):
            step = 1e-6 * float(jnp.abs(value).max() or 1.0)
            sides = [
                loss([x + sign * step * direction[n] * (n == leaf) for n, x in enumerate(leaves)]) for sign in (1, -1)
            ]
            expected = float(sides[0] - sides[1]) / (2 * step)
            assert np.vdot(reverse[leaf], direction[leaf]) == pytest.approx(expected, rel=1e-5, abs=1e-7)
        forward = jax.jvp(total, (leaves,), ([jnp.asarray(each) for each in direction],))[1]
        assert forward == pytest.approx(sum(np.vdot(g, d) for g, d in zip(reverse, direction, strict=True)), rel=1e-9)


def test_named_derivatives_are_those_of_simulate():
    rng = np.random.default_rng(5)
    with jax.enable_x64(True):
        sequence, tissue = jax.tree.map(lambda leaf: leaf.astype(float), (fisp_of(rng, 8), tissue_of(rng, 3)))
        keywords = {"n_states": 5, "slice_profile": FullSlice(HANN, 3.0)}
        found = simulate_with_tangents(sequence, tissue, with_b1=True, with_off_resonance=True, **keywords)
        plain = simulate(sequence, tissue, **keywords)
        np.testing.assert_allclose(found.signal, plain, atol=1e-12)
        np.testing.assert_allclose(simulate_reverse(sequence, tissue, **keywords), plain, atol=1e-12)
        for name in ("t1", "t2", "b1", "off_resonance"):
            value = getattr(tissue, name)
            step = 1e-6 * np.abs(np.asarray(value)).max()
            sides = [
                simulate(sequence, dataclasses.replace(tissue, **{name: value + sign * step}), **keywords)
                for sign in (1, -1)
            ]
            tangent = np.asarray(sides[0] - sides[1]) / (2 * step)
            np.testing.assert_allclose(getattr(found, f"d_{name}"), tangent, atol=1e-6 * np.abs(tangent).max())


def test_angles_beyond_a_turn_are_refused():
    sequence, model = Blocks((Train([0.1, -6.0], 0.01, 1e-3),)), FullSlice(HANN, 4.0)
    with pytest.raises(ValueError, match=r"flip angle.*B1.*360 degrees.*got 859"):
        simulate(sequence, Tissue(1.0, 0.1, [1.0, 2.5]), slice_profile=model)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: FullSlice(HANN, np.nan), r"FullSlice.turns must be finite; got nan"),
        (lambda: FullSlice(HANN, 4.0, extent=0.0), r"FullSlice.extent must be positive and finite; got 0"),
    ],
)
def test_bad_slices_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
