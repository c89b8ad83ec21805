"""Signals with their derivatives by tissue, and the adjoint of both, against forward mode of `simulate`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import SignalTangents, simulate, simulate_with_tangents
from ganmrf.physics.slice_profile import SliceProfile
from ganmrf.physics.tissue import Tissue
from tests.quick import quickly


def random_case():
    """Sequence of an odd number of frames in several blocks, tissue with T2 = T1 in one voxel, slice profile."""
    rng = np.random.default_rng(0)
    flips, repetition_time = rng.uniform(0, 1.5, 67), rng.uniform(0.01, 0.2, 67)
    sequence = Fisp(flips, repetition_time, repetition_time * rng.random(67), 0.02)
    tissue = Tissue(np.array([0.4, 2.0]), np.array([0.4, 0.05]), np.array([0.8, 1.2]))
    return sequence, tissue, SliceProfile(np.array([0.3, 1.0]), np.array([0.4, 0.6]))


def by_forward_mode(sequence, tissue, *, n_states, slice_profile, with_b1):
    """What `simulate_with_tangents` returns, by `jax.jvp` of `simulate`: every voxel three times, once a direction."""
    assert with_b1

    def signal(t1, t2, b1):
        return simulate(sequence, Tissue(t1, t2, b1), n_states=n_states, slice_profile=slice_profile)

    values = [jnp.broadcast_to(value, (3, *tissue.shape)) for value in (tissue.t1, tissue.t2, tissue.b1)]
    directions = [jnp.zeros_like(value).at[n].set(1) for n, value in enumerate(values)]
    signals, tangents = jax.jvp(signal, tuple(values), tuple(directions))
    return SignalTangents(signals[0], dict(zip(("t1", "t2", "b1"), tangents, strict=True)))


def total(case, weights, simulator, with_b1=True):
    """A sum in which each number of the outputs has its own weight and is squared, and the outputs."""
    sequence, tissue, profile = case
    outputs = simulator(sequence, tissue, n_states=12, slice_profile=profile, with_b1=with_b1)
    squares = jax.tree.map(lambda leaf, weight: jnp.vdot(weight, leaf**2), outputs, weights)
    return sum(jax.tree.leaves(squares)), outputs


@functools.cache
def gradients_and_outputs(with_b1=True):
    """Gradients of `total` and the outputs, by the hand-written adjoint."""
    return quickly(jax.grad(lambda *inputs: total(*inputs, simulate_with_tangents, with_b1), has_aux=True))


def random_weights():
    signal, *by = np.random.default_rng(1).standard_normal((4, 2, 67))
    return SignalTangents(signal, dict(zip(("t1", "t2", "b1"), by, strict=True)))


def assert_same(trees, references, tolerance=1e-12):
    """Every leaf within ``tolerance`` of its reference, by norm."""
    leaves, expected = jax.tree.leaves(trees), jax.tree.leaves(references)
    assert len(leaves) == len(expected)
    for leaf, reference in zip(leaves, expected, strict=True):
        assert leaf.shape == reference.shape
        assert np.linalg.norm(leaf - reference) <= tolerance * np.linalg.norm(reference)


def test_outputs_and_their_gradients_are_those_of_forward_mode():
    with jax.enable_x64(True):
        case, weights = random_case(), random_weights()
        gradients, outputs = gradients_and_outputs()(case, weights)

        @quickly
        def slope_and_outputs(direction):
            by_case = functools.partial(total, weights=weights, simulator=by_forward_mode)
            return jax.jvp(by_case, (case,), (direction,), has_aux=True)[1:]

        leaves, tree = jax.tree.flatten(case)
        for n, gradient in enumerate(jax.tree.leaves(gradients)):  # every leaf along a random direction of its own
            way = np.random.default_rng(n).standard_normal(np.shape(leaves[n]))
            directions = [way if m == n else np.zeros(np.shape(leaf)) for m, leaf in enumerate(leaves)]
            slope, expected = slope_and_outputs(jax.tree.unflatten(tree, directions))
            # Float64 rounding over the frames; measured 1e-14.
            assert abs(jnp.vdot(gradient, way) - slope) <= 1e-12 * np.linalg.norm(gradient) * np.linalg.norm(way)
        assert_same(outputs, expected)


def test_the_derivative_by_b1_can_be_left_out():
    with jax.enable_x64(True):
        case, weights = random_case(), random_weights()
        without = SignalTangents(weights.signal, {"t1": weights.d_t1, "t2": weights.d_t2})
        gradients, outputs = gradients_and_outputs(with_b1=False)(case, without)
        unused = SignalTangents(weights.signal, without.by | {"b1": jnp.zeros_like(weights.d_b1)})
        expected, all_outputs = gradients_and_outputs()(case, unused)
        assert outputs.d_b1 is None
        assert_same((gradients, outputs.by), (expected, {name: all_outputs.by[name] for name in ("t1", "t2")}))


def test_fields_have_the_shape_of_the_voxels_and_frames():
    tissue = Tissue(t1=np.array([[0.5], [1.0]]), t2=np.array([0.02, 0.05, 0.1]), b1=np.ones((4, 1, 1)))
    outputs = jax.eval_shape(lambda: simulate_with_tangents(mrf_fisp(6), tissue, with_b1=True))
    assert [leaf.shape for leaf in jax.tree.leaves(outputs)] == [(4, 2, 3, 6)] * 4


def test_bad_numbers_of_states_are_refused():
    with pytest.raises(ValueError, match="n_states must be at least 1; got 0"):
        simulate_with_tangents(mrf_fisp(4), Tissue(t1=1.0, t2=0.1), n_states=0)
