"""A partitioned slice is the limit of many turns of the spoiler: a phase graph at every position."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganmrf.physics.bloch import slice_signal
from ganmrf.physics.rf_pulse import RfPulse, rotation, windowed_sinc
from ganmrf.physics.sequences.blocks import Blocks, Inversion, Train
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate, simulate_reverse, simulate_with_tangents
from ganmrf.physics.simulate_many import simulate_many
from ganmrf.physics.slice_profile import PartitionedSlice
from ganmrf.physics.tissue import Tissue
from tests.quick import quickly
from tests.slices import KINDS, fisp_of, pulse_of, relative, sequences, tissue_of

pytestmark = pytest.mark.usefixtures("quick_compiler")
HANN = windowed_sinc(8.0, "hann", n_samples=40)


def wide(*trees):
    """In double precision."""
    return jax.tree.map(lambda leaf: leaf.astype(float), trees)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_positions_are_exact(kind):
    """Midpoints on both sides of the middle, and isochromats over a whole turn at each."""
    rng = np.random.default_rng(0)
    sequence, tissue, pulse = fisp_of(rng), tissue_of(rng, off_resonance=kind == "none"), pulse_of(kind, rng)
    expected = 1j * slice_signal(sequence, tissue, pulse, np.inf, 2 * 8)
    model = PartitionedSlice(pulse, 8)
    with jax.enable_x64(True):
        found = np.asarray(simulate(*wide(sequence, tissue), slice_profile=model))
    assert np.isrealobj(found) == (kind not in ("none", "complex"))
    np.testing.assert_allclose(found, expected, atol=1e-10 * np.abs(expected).max())
    # Rounding of single precision, also of phases.
    assert relative(np.asarray(simulate(sequence, tissue, slice_profile=model)), expected).max() < 1e-5


@pytest.mark.parametrize("name", sequences(np.random.default_rng(0)))
def test_every_sequence_has_a_partitioned_slice(name):
    rng = np.random.default_rng(3)
    sequence, tissue, pulse = sequences(rng)[name], tissue_of(rng, 4), pulse_of("asymmetric", rng)
    expected = 1j * slice_signal(sequence, tissue, pulse, np.inf, 2 * 4)
    found = np.asarray(simulate(sequence, tissue, slice_profile=PartitionedSlice(pulse, 4)))
    assert relative(found, expected).max() < 1e-5


def test_32_midpoints_are_enough_for_a_time_bandwidth_of_8():
    """Against the limit of 192 midpoints, on the published schedule, for white and grey matter."""
    sequence, tissue = mrf_fisp(100), Tissue([0.832, 1.331], [0.0792, 0.11])
    expected = (1j * slice_signal(sequence, tissue, HANN, np.inf, 2 * 192)).real
    found = [
        relative(np.asarray(simulate(sequence, tissue, slice_profile=PartitionedSlice(HANN, n))), expected).max()
        for n in (16, 32)
    ]
    assert found[1] < 2e-4 < found[0]


def test_without_phases_positions_differ_by_their_flip_angle_alone():
    """Where the flip angle is the same in all frames, that of a position is the flip angle of a uniform slice."""
    position = 1.5 * (np.arange(16) + 0.5) / 16
    angle, frames = 1.2, 30
    flip, pre, _ = rotation(HANN, angle, position)
    signed = np.where(np.abs(pre) < np.pi / 2, flip, -flip)  # half a turn before and after turns the other way round

    def sequence(angle):
        return Blocks((Inversion(0.02), Train(np.full(frames, angle), 0.012, 0.003)))

    with jax.enable_x64(True):
        tissue = Tissue(0.8, 0.08)
        expected = sum(np.asarray(simulate(sequence(each), tissue)) for each in signed) * 3 / 16
        found = np.asarray(simulate(sequence(angle), tissue, slice_profile=PartitionedSlice(HANN, 16, phases=False)))
        phases = simulate(sequence(angle), tissue, slice_profile=PartitionedSlice(HANN, 16))
    assert found.dtype == float
    assert relative(found, expected) < 1e-7
    assert 1e-4 < relative(found, np.asarray(phases)) < 3e-2


def test_states_chosen_by_t2_keep_the_accuracy():
    rng = np.random.default_rng(0)
    t2 = np.exp(rng.uniform(np.log(0.005), np.log(0.3), 80))
    tissue, sequence = Tissue(np.maximum(t2, rng.uniform(0.3, 2.5, 80)), t2), mrf_fisp(80)
    for model in (PartitionedSlice(HANN, 4), PartitionedSlice(HANN, 4, phases=False)):
        exact = np.asarray(simulate(sequence, tissue, n_states=41, slice_profile=model))
        for found in (
            simulate(sequence, tissue, slice_profile=model),
            simulate_many(sequence, tissue, slice_profile=model),
        ):
            assert relative(np.asarray(found), exact).max() < 1e-4


def test_a_hard_pulse_has_a_uniform_slice():
    rng = np.random.default_rng(1)
    sequence, tissue = fisp_of(rng), tissue_of(rng)
    uniform = 3 * np.asarray(simulate(sequence, tissue))  # as many slice thicknesses as there are
    found = simulate(sequence, tissue, slice_profile=PartitionedSlice(RfPulse([1.0], 8.0), 2))
    assert relative(np.asarray(found), uniform).max() < 1e-5


def test_transforms_change_nothing():
    rng = np.random.default_rng(4)
    sequence, tissue, model = fisp_of(rng), tissue_of(rng, 4), PartitionedSlice(HANN, 4)

    def signal(tissue):
        return simulate(sequence, tissue, n_states=11, slice_profile=model)

    plain = np.asarray(signal(tissue))
    for found in (jax.jit(signal)(tissue), jax.vmap(signal)(tissue)):
        assert relative(np.asarray(found), plain).max() < 2e-6


@pytest.mark.parametrize("phases", [True, False])
def test_derivatives_are_central_differences(phases):
    """By every leaf of sequence and tissue in float64, at a flip angle of 0 too; reverse and forward mode."""
    with jax.enable_x64(True):
        train = Train(jnp.array([0.9, 0.0, 0.7, 1.4]), jnp.array([9e-3, 12e-3, 10e-3, 9e-3]), 2e-3)
        tissue = Tissue(jnp.array([0.3, 0.8]), jnp.array([0.1, 0.06]), jnp.array([1.0, 0.9]))
        leaves, structure = jax.tree.flatten((Blocks((train,)), tissue))
        keywords = {"n_states": 3, "slice_profile": PartitionedSlice(HANN, 3, phases=phases)}
        weights = np.random.default_rng(1).standard_normal((2, 4))

        def total(signals):
            return lambda leaves: jnp.sum(weights * signals(*jax.tree.unflatten(structure, leaves), **keywords))

        plain, named = (quickly(jax.grad(total(signals)))(leaves) for signals in (simulate, simulate_reverse))
        loss = quickly(total(simulate))
        direction = [np.random.default_rng(i).standard_normal(leaf.shape) for i, leaf in enumerate(leaves)]
        for leaf, value in enumerate(leaves):
            step = 1e-6 * float(jnp.abs(value).max())
            sides = [
                loss([x + sign * step * direction[n] * (n == leaf) for n, x in enumerate(leaves)]) for sign in (1, -1)
            ]
            expected = float(sides[0] - sides[1]) / (2 * step)
            for gradient in (plain, named):
                assert np.vdot(gradient[leaf], direction[leaf]) == pytest.approx(expected, rel=1e-5, abs=1e-7)
        sequence, tissue = jax.tree.unflatten(structure, leaves)
        tangents = simulate_with_tangents(sequence, tissue, with_b1=True, **keywords)
        for name in ("t1", "t2", "b1"):
            found = np.sum(weights * getattr(tangents, f"d_{name}"), -1)
            np.testing.assert_allclose(found, getattr(jax.tree.unflatten(structure, plain)[1], name), rtol=1e-9)


def test_angles_beyond_a_turn_are_refused():
    sequence, tissue = Blocks((Train([0.1, -6.0], 0.01, 1e-3),)), Tissue(1.0, 0.1, [1.0, 2.5])
    with pytest.raises(ValueError, match=r"flip angle.*B1.*360 degrees.*got 859"):
        simulate(sequence, tissue, slice_profile=PartitionedSlice(HANN, 2))
