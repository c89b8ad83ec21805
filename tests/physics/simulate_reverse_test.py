"""The hand-written adjoint against plain autodiff of `simulate` and central differences."""

import dataclasses
import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganmrf.physics.n_states import choose_n_states
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate, simulate_reverse
from ganmrf.physics.slice_profile import SliceProfile
from ganmrf.physics.tissue import Tissue
from tests.quick import quickly


def random_case(seed, n_frames, *, plain=False):
    """Sequence, 2 x 3 voxels and slice profile of a wide range of values; ``plain`` leaves out all that is optional."""
    rng = np.random.default_rng(seed)

    def log_uniform(low, high, size):
        return np.exp(rng.uniform(np.log(low), np.log(high), size))

    flips = np.where(np.arange(n_frames) % 5 == 4, 0, rng.uniform(0, np.pi, n_frames))
    repetition_time = log_uniform(5e-3, 0.5, n_frames)
    inversion_time = None if plain else np.float64(rng.uniform(0, 0.1))
    sequence = Fisp(flips, repetition_time, repetition_time * rng.random(n_frames), inversion_time)
    t1 = log_uniform(0.05, 3, (2, 1))
    t2 = t1.min() * rng.uniform(0.05, 1, 3)
    if plain:
        return sequence, Tissue(t1, t2), None
    profile = SliceProfile(np.array([0.3, 1.0]), np.array([0.4, 0.6]))
    return sequence, Tissue(t1, t2, rng.uniform(0.5, 1.3, (2, 3))), profile


def objective(simulator, n_states):
    """A sum over signals, each squared and with a weight by voxel and frame, of (sequence, tissue, slice profile)."""

    def total(sequence, tissue, profile):
        signals = simulator(sequence, tissue, n_states=n_states, slice_profile=profile)
        weights = jnp.cos(1.0 + jnp.arange(6 * sequence.n_frames, dtype=signals.dtype))
        return jnp.sum(weights.reshape(1, 2, 3, -1) * signals.reshape(-1, 2, 3, sequence.n_frames) ** 2)

    return total


@functools.cache
def value_and_gradients(simulator, n_states):
    return quickly(jax.value_and_grad(objective(simulator, n_states), (0, 1, 2)))


def assert_same(trees, references, tolerance=1e-12):
    """Every leaf within ``tolerance`` of its reference, by norm; gradients that vanish are held to 1e-6 of that."""
    leaves, expected = jax.tree.leaves(trees), jax.tree.leaves(references)
    assert len(leaves) == len(expected)
    for leaf, reference in zip(leaves, expected, strict=True):
        assert leaf.shape == reference.shape
        leaf, reference = np.asarray(leaf, float), np.asarray(reference)
        assert np.linalg.norm(leaf - reference) <= tolerance * max(np.linalg.norm(reference), 1e-6)


@hypothesis.given(seed=st.integers(0, 10**6))
@hypothesis.settings(max_examples=20)
def test_values_and_gradients_are_those_of_simulate(seed):
    with jax.enable_x64(True):
        case = random_case(seed, 67)  # an odd number, in several blocks
        # Float64 rounding over the frames; measured 1e-14.
        assert_same(*(value_and_gradients(f, 12)(*case) for f in (simulate_reverse, simulate)))


def test_one_frame_without_inversion_reads_equilibrium():
    sequence, tissue = Fisp(np.array([0.7]), 0.01, 0.003), Tissue(t1=1.0, t2=0.05)
    gradient = quickly(jax.value_and_grad(lambda *case: simulate_reverse(*case)[0], (0, 1)))
    signal, (by_sequence, by_tissue) = gradient(sequence, tissue)
    decay = np.exp(-0.003 / 0.05)
    np.testing.assert_allclose(signal, np.sin(0.7) * decay, rtol=1e-6)  # float32, here and below
    np.testing.assert_allclose(by_sequence.flip_angle, [np.cos(0.7) * decay], rtol=1e-6)
    np.testing.assert_allclose(by_sequence.echo_time, [-np.sin(0.7) * decay / 0.05], rtol=1e-6)
    np.testing.assert_allclose(by_tissue.t2, np.sin(0.7) * decay * 0.003 / 0.05**2, rtol=1e-6)
    np.testing.assert_allclose(by_tissue.b1, 0.7 * np.cos(0.7) * decay, rtol=1e-6)
    assert by_sequence.repetition_time[0] == by_tissue.t1 == 0


def test_gradient_is_the_central_difference():
    with jax.enable_x64(True):
        leaves, tree = jax.tree.flatten(random_case(1, 67))
        rng = np.random.default_rng(2)
        direction = [leaf * rng.standard_normal(np.shape(leaf)) for leaf in leaves]

        def at(step):
            moved = jax.tree.unflatten(tree, [leaf + step * way for leaf, way in zip(leaves, direction, strict=True)])
            return value_and_gradients(simulate_reverse, 12)(*moved)

        step = 1e-6  # truncation 1e-12 of the third derivative, rounding 1e-16 / step = 1e-10
        difference = (at(step)[0] - at(-step)[0]) / (2 * step)
        along = sum(np.vdot(g, way) for g, way in zip(jax.tree.leaves(at(0)[1]), direction, strict=True))
        np.testing.assert_allclose(along, difference, rtol=1e-6)


def test_chunks_of_voxels_in_float32():
    copies = 75  # 450 voxels of two nodes: several chunks, the last one not full
    sequence, tissue, profile = random_case(0, 67)
    copied = dataclasses.replace(tissue, b1=np.tile(tissue.b1, (copies, 1, 1)))
    found = value_and_gradients(simulate_reverse, 12)(sequence, copied, profile)

    def expected(leaf, found):
        """Every copy of B1 has the gradient of the one voxel; everything else is a sum over all copies."""
        return copies * leaf if leaf.shape == found.shape else np.broadcast_to(leaf, found.shape)

    with jax.enable_x64(True):
        once = jax.tree.map(np.asarray, value_and_gradients(simulate_reverse, 12)(*random_case(0, 67)))
    assert_same(found, jax.tree.map(expected, once, found), tolerance=1e-5)  # float32 rounding, 6e-8 a frame


def test_the_number_of_states_is_chosen_where_values_can_be_read():
    with jax.enable_x64(True):
        sequence, tissue = mrf_fisp(40), Tissue(t1=np.linspace(0.5, 1, 100), t2=0.02)
        n_states = choose_n_states(sequence, tissue)
        chosen, traced = simulate_reverse(sequence, tissue), quickly(simulate_reverse)(sequence, tissue)
        np.testing.assert_array_equal(chosen, simulate_reverse(sequence, tissue, n_states=n_states))
        every_state = quickly(functools.partial(simulate_reverse, n_states=21))(sequence, tissue)
        np.testing.assert_array_equal(traced, every_state)
        assert np.abs(chosen - traced).max() > 1e-9


def test_jacobian_by_rows():
    with jax.enable_x64(True):
        sequence, tissue, _ = random_case(4, 6, plain=True)

        def signal(simulator):
            return lambda sequence: simulator(sequence, tissue, n_states=4)

        rows, columns = jax.jacrev(signal(simulate_reverse)), jax.jacfwd(signal(simulate))
        assert_same(quickly(rows)(sequence), quickly(columns)(sequence))


def test_forward_mode_is_refused():
    with pytest.raises(TypeError, match="custom_vjp"):
        jax.jvp(lambda t1: simulate_reverse(mrf_fisp(4), Tissue(t1, 0.1)), (1.0,), (1.0,))


def test_bad_numbers_of_states_are_refused():
    with pytest.raises(ValueError, match="n_states must be at least 1; got 0"):
        simulate_reverse(mrf_fisp(4), Tissue(t1=1.0, t2=0.1), n_states=0)
