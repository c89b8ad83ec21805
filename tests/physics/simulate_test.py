"""The fast scan against the definition, the isochromat sum and central differences."""

import dataclasses
import functools

import chex
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganmrf.physics.bloch import isochromat_signal
from ganmrf.physics.engines import one_kernel
from ganmrf.physics.engines.programs import compiled
from ganmrf.physics.engines.trains import fisp_signal
from ganmrf.physics.epg import exact_n_states
from ganmrf.physics.sequences.fisp import Fisp, simulate_voxel
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate
from ganmrf.physics.slice_profile import SliceProfile
from ganmrf.physics.tissue import Tissue
from tests.quick import quickly

# One length for whatever does not depend on it: each length is a program to compile.
SEQUENCE = mrf_fisp(40)


def random_case(seed, n_frames, voxels=6, inverted=True):
    """Schedule and tissue drawn over all that the simulator promises."""
    rng = np.random.default_rng(seed)

    def log_uniform(low, high, size=None):
        return np.exp(rng.uniform(np.log(low), np.log(high), size))

    flips = rng.uniform(0, np.pi, n_frames) if rng.random() < 0.5 else np.full(n_frames, rng.uniform(0, np.pi))
    repetition = np.clip(log_uniform(5e-3, 5) * rng.uniform(1, rng.choice([1, 1.2, 5]), n_frames), 5e-3, 5)
    echo = repetition.min() * rng.uniform(0, 1, n_frames)
    inversion = rng.uniform(0, 0.1) if inverted else None
    t1 = log_uniform(5e-3, 5, voxels)
    t2 = np.minimum(t1, log_uniform(1e-3, 3, voxels))
    return (flips, repetition, echo, inversion), (t1, t2, rng.uniform(0.3, 1.5, voxels))


def relative(signal, reference):
    """Largest difference over the largest signal."""
    return np.abs(signal - reference).max() / max(np.abs(reference).max(), 1e-30)


@hypothesis.given(seed=st.integers(0, 10**6), form=st.sampled_from([(1, True), (101, False), (1200, True)]))
@hypothesis.settings(max_examples=8)
def test_all_states_equal_the_isochromat_sum(seed, form):
    schedule, tissue = random_case(seed, form[0], inverted=form[1])
    with jax.enable_x64(True):
        sequence, voxels = Fisp(*schedule), Tissue(*tissue)
        reference = isochromat_signal(sequence, voxels)
        signal = simulate(sequence, voxels, n_states=exact_n_states(sequence.n_frames))
        assert signal.dtype == jnp.float64
        # 1200 frames of float64 rounding, 2e-16 each and growing no faster than their number.
        assert relative(-1j * np.asarray(signal), reference) <= 1e-12
    signal = simulate(Fisp(*schedule), Tissue(*tissue), n_states=exact_n_states(sequence.n_frames))
    assert signal.dtype == jnp.float32
    # 1200 frames of float32 rounding, 6e-8 each, mostly cancelling.
    assert relative(-1j * np.asarray(signal), reference) <= 5e-6


@pytest.mark.parametrize("n_frames", [1, 2, 3, 100, 101])  # a block of the scan has 100
def test_fast_form_is_the_definition(n_frames):
    sequence = mrf_fisp(n_frames) if n_frames != 101 else dataclasses.replace(mrf_fisp(101), inversion_time=None)
    tissue = Tissue(t1=[0.95, 1.5, 2.95] * 2, t2=[0.04, 0.06, 0.5] * 2, b1=[0.9, 1.0, 1.2, 1.0, 0.8, 1.1])
    signal = simulate(sequence, tissue)
    voxels = jax.vmap(lambda t1, t2, b1: simulate_voxel(sequence, t1, t2, b1))
    # Both float32, summed in different orders.
    np.testing.assert_allclose(-1j * np.asarray(signal), quickly(voxels)(tissue.t1, tissue.t2, tissue.b1), atol=1e-6)


@pytest.mark.parametrize(("n_states", "inverted"), [(9, True), (25, False), (66, True)])
def test_values_at_hand_and_traced_values_give_the_same(n_states, inverted):
    sequence = mrf_fisp(130) if inverted else dataclasses.replace(mrf_fisp(130), inversion_time=None)
    rng = np.random.default_rng(0)
    t1 = rng.uniform(0.3, 3, 64)
    tissue = Tissue(t1, 0.2 * t1, rng.uniform(0.5, 1.5, 64))
    traced = quickly(functools.partial(simulate, n_states=n_states))(sequence, tissue)
    # float32, vectorised differently; the kernel of a CPU goes through whole blocks of 8 states above order 0
    np.testing.assert_allclose(simulate(sequence, tissue, n_states=n_states), traced, atol=1e-6)


def test_each_lane_keeps_as_many_states_as_it_asks_for():
    t1 = np.linspace(0.3, 3, 32, dtype=np.float32)
    arguments = mrf_fisp(150), Tissue(t1, np.float32(0.3) * t1)
    signal = np.asarray(compiled(fisp_signal, n_states=41)(*arguments, None, np.repeat(np.float32([5, 17]), 16)))
    for lanes, n_states in [(slice(0, 16), 5), (slice(16, 32), 17)]:
        alone = quickly(functools.partial(fisp_signal, n_states=n_states))(*arguments)
        np.testing.assert_allclose(signal[:, lanes], np.asarray(alone)[:, lanes], atol=1e-6)


def test_a_backend_that_refuses_the_fast_form_gets_the_ordinary_one(monkeypatch):
    monkeypatch.setitem(one_kernel.OPTIONS, "xla_cpu_no_such_option", True)
    one_kernel.works.cache_clear()
    try:
        assert not one_kernel.works()
        signal = simulate(SEQUENCE, Tissue(t1=1.0, t2=0.1))
    finally:
        one_kernel.works.cache_clear()
    definition = quickly(simulate_voxel)(SEQUENCE, 1.0, 0.1)
    np.testing.assert_allclose(-1j * np.asarray(signal), definition, atol=1e-6)


def test_without_inversion_the_first_pulse_reads_equilibrium():
    sequence = dataclasses.replace(SEQUENCE, inversion_time=None)
    signal = simulate(sequence, Tissue(t1=1.0, t2=0.1))
    expected = np.sin(float(sequence.flip_angle[0])) * np.exp(-float(sequence.echo_time[0]) / 0.1)
    np.testing.assert_allclose(signal[0], expected, rtol=1e-6)  # float32


def test_tissue_of_any_shape():
    t1, t2 = np.array([[0.5], [1.0]]), np.array([0.02, 0.05, 0.1])
    signal = simulate(SEQUENCE, Tissue(t1=t1, t2=t2, b1=np.ones((4, 1, 1))))
    assert signal.shape == (4, 2, 3, 40)
    np.testing.assert_allclose(signal[3, 1, 2], simulate(SEQUENCE, Tissue(t1=1.0, t2=0.1)), atol=1e-6)


def test_many_voxels_are_each_simulated_as_alone():
    rng = np.random.default_rng(0)
    t1 = rng.uniform(0.2, 3, 1301)  # several chunks, the last one not full
    tissue = Tissue(t1=t1, t2=t1 * rng.uniform(0.05, 1, t1.size), b1=rng.uniform(0.7, 1.3, t1.size))
    signal = simulate(SEQUENCE, tissue, n_states=21)
    for voxel in (0, 640, 1300):
        alone = simulate(SEQUENCE, tissue.rows(voxel), n_states=21)
        np.testing.assert_allclose(signal[voxel], alone, atol=1e-6)  # float32, vectorised differently


def test_slice_profile_is_a_weighted_sum_of_flip_angle_scales():
    tissue = Tissue(t1=1.2, t2=0.08, b1=1.1)
    profile = SliceProfile(nodes=np.array([0.2, 0.9]), weights=np.array([0.3, 0.7]))
    parts = [simulate(SEQUENCE, dataclasses.replace(tissue, b1=1.1 * node)) for node in (0.2, 0.9)]
    expected = 0.3 * parts[0] + 0.7 * parts[1]
    np.testing.assert_allclose(simulate(SEQUENCE, tissue, slice_profile=profile), expected, atol=1e-6)  # float32


def test_more_states_change_nothing():
    tissue = Tissue(t1=2.0, t2=1.0)
    exact = simulate(SEQUENCE, tissue, n_states=21)
    chex.assert_trees_all_equal(exact, simulate(SEQUENCE, tissue, n_states=500))
    assert relative(np.asarray(simulate(SEQUENCE, tissue, n_states=5)), np.asarray(exact)) > 1e-3


def controls():
    """All that a signal depends on, with frames of flip angle 0 and a voxel with T2 = T1."""
    frames = np.arange(24)
    return {
        "flip_angle": np.where(frames % 5 == 0, 0.0, 0.2 + 0.05 * frames),
        "repetition_time": 0.012 + 0.001 * np.sin(frames),
        "echo_time": 0.002 + 0.0001 * np.cos(frames),
        "inversion_time": 0.018,
        "t1": np.array([0.9, 0.3]),
        "t2": np.array([0.05, 0.3]),
        "b1": np.array([0.8, 1.1]),
        "nodes": np.array([0.3, 1.0]),
    }


def signal_of(controls):
    names = ("flip_angle", "repetition_time", "echo_time", "inversion_time")
    sequence = Fisp(**{name: controls[name] for name in names})
    tissue = Tissue(t1=controls["t1"], t2=controls["t2"], b1=controls["b1"])
    profile = SliceProfile(controls["nodes"], np.array([0.4, 0.6]))
    return simulate(sequence, tissue, n_states=13, slice_profile=profile)


@functools.cache
def derivatives():
    """A weighted sum of the signals with its forward derivative, and its reverse derivative, each compiled once."""
    weights = np.random.default_rng(0).standard_normal((2, 24))

    def loss(values):
        return jnp.vdot(weights, signal_of(values))

    return quickly(lambda values, tangent: jax.jvp(loss, (values,), (tangent,))), quickly(jax.grad(loss))


@pytest.mark.parametrize("name", controls())
def test_gradients_are_central_differences(name):
    # T2 = T1 cannot be stepped across through a constructor: there the voxel moves along the line, T1 with T2.
    with jax.enable_x64(True):
        values = jax.tree.map(np.asarray, controls())
        direction = np.asarray(np.random.default_rng(1).standard_normal(values[name].shape))
        tangent = jax.tree.map(np.zeros_like, values) | {name: direction}
        if name in ("t1", "t2"):
            tangent |= {"t1": np.array([float(name == "t1"), 0.5]), "t2": np.array([float(name == "t2"), 0.5])}

        jvp, grad = derivatives()

        def along(step):
            return float(jvp(jax.tree.map(lambda v, t: v + step * t, values, tangent), tangent)[0])

        step = 1e-6  # truncation 1e-12 of the third derivative, rounding 1e-16 / step = 1e-10
        difference = (along(step) - along(-step)) / (2 * step)
        forward = float(jvp(values, tangent)[1])
        gradient = grad(values)
        chex.assert_tree_all_finite(gradient)
        backward = sum(np.vdot(g, t) for g, t in zip(*map(jax.tree.leaves, (gradient, tangent)), strict=True))
        np.testing.assert_allclose(forward, difference, rtol=1e-5)
        np.testing.assert_allclose(backward, forward, rtol=1e-10)  # the same derivative, summed in another order


def test_gradient_through_chunks_and_vmap():
    def total(t2, t1):
        return jnp.sum(simulate(SEQUENCE, Tissue(t1=t1, t2=t2), n_states=11) ** 2)

    t1, t2 = np.linspace(0.5, 2, 700, dtype=np.float32), np.full(700, 0.1, np.float32)  # more than one chunk
    chunks, single = quickly(jax.grad(total))(t2, t1), quickly(jax.vmap(jax.grad(total)))(t2, t1)
    np.testing.assert_allclose(chunks, single, rtol=1e-4)  # float32 sums


def test_values_at_hand_may_be_used_inside_a_jitted_function():
    tissue = Tissue(t1=np.linspace(1, 2, 100), t2=np.full(100, 0.05))
    jitted = jax.jit(lambda scale: scale * simulate(SEQUENCE, tissue))
    np.testing.assert_allclose(jitted(2.0), 2 * simulate(SEQUENCE, tissue), atol=1e-6)


def test_traced_values_keep_every_state():
    exact = simulate(SEQUENCE, Tissue(t1=2.0, t2=1.0), n_states=21)
    traced = quickly(lambda t1, t2: simulate(SEQUENCE, Tissue(t1=t1, t2=t2)))(2.0, 1.0)
    np.testing.assert_allclose(traced, exact, atol=1e-6)


def test_bad_numbers_of_states_are_refused():
    with pytest.raises(ValueError, match="n_states must be at least 1; got 0"):
        simulate(mrf_fisp(5), Tissue(t1=1.0, t2=0.1), n_states=0)
    with pytest.raises(ValueError, match="accuracy must be positive; got 0"):
        simulate(mrf_fisp(5), Tissue(t1=1.0, t2=0.1), accuracy=0)
