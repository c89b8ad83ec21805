"""Slice profiles are Fourier transforms of their pulses, and their rules integrate as Gauss quadrature does."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganmrf.physics.rf_pulse import gaussian, windowed_sinc
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate
from ganmrf.physics.slice_profile import (
    FullSlice,
    PartitionedSlice,
    SliceProfile,
    gauss_quadrature,
    sinc_profile,
    sinc_slice_profile,
    small_tip,
    small_tip_profile,
)
from ganmrf.physics.tissue import Tissue

WINDOWS = {
    "hann": lambda t: 0.5 + 0.5 * np.cos(2 * np.pi * t),
    "hamming": lambda t: 0.54 + 0.46 * np.cos(2 * np.pi * t),
    "none": np.ones_like,
}


@pytest.mark.parametrize("window", WINDOWS)
@hypothesis.given(time_bandwidth=st.floats(0.5, 16), position=st.floats(-2, 2))
def test_profile_is_the_fourier_transform_of_the_pulse(window, time_bandwidth, position):
    """Gauss-Legendre over time resolves the at most 32 periods in the pulse to rounding with 200 points."""
    t, dt = np.polynomial.legendre.leggauss(200)
    t, dt = t / 2, dt / 2
    pulse = np.sinc(time_bandwidth * t) * WINDOWS[window](t)
    expected = np.sum(dt * pulse * np.cos(2 * np.pi * time_bandwidth * position * t)) / np.sum(dt * pulse)
    actual = sinc_profile(position, time_bandwidth=time_bandwidth, window=window)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("window", WINDOWS)
def test_profile_is_a_slice(window):
    position = np.linspace(-1, 1, 401).reshape(1, 401)
    profile = sinc_profile(position, window=window)
    assert profile.shape == position.shape
    assert profile[0, 200] == 1
    # Even up to the rounding of the positions.
    np.testing.assert_allclose(profile, profile[:, ::-1], rtol=0, atol=1e-12)
    # Half of the angle at the nominal edge; the ripple beyond it is largest, 10 %, without a window (Gibbs).
    assert np.interp(0.5, position[0], profile[0]) == pytest.approx(0.5, abs=0.05)
    assert np.abs(profile[np.abs(position) > 0.8]).max() < 0.1


def test_window_tames_the_ripple():
    inside = np.linspace(0, 0.25, 50)
    ripple = {window: np.ptp(sinc_profile(inside, window=window)) for window in WINDOWS}
    assert ripple["hann"] < ripple["none"] / 5
    assert ripple["hamming"] < ripple["none"] / 5


def test_higher_time_bandwidth_is_a_sharper_edge():
    edge = np.array([0.4, 0.6])
    drops = [np.ptp(sinc_profile(edge, time_bandwidth=time_bandwidth)) for time_bandwidth in (4, 8, 16)]
    assert drops == sorted(drops)
    assert drops[2] > 0.95


@hypothesis.given(
    values=st.lists(st.floats(-0.2, 1.2), min_size=1, max_size=40),
    seed=st.integers(0, 2**32 - 1),
    n_nodes=st.integers(1, 12),
)
def test_gauss_rule_integrates_its_polynomials_exactly(values, seed, n_nodes):
    """Moments up to degree 2 n - 1 are those of the samples; Chebyshev polynomials keep them of order 1."""
    values, weights = np.array(values), np.random.default_rng(seed).dirichlet(np.ones(len(values))) + 1e-6
    weights /= weights.sum()
    rule = gauss_quadrature(values, weights, n_nodes)
    assert rule.nodes.size <= n_nodes
    assert (rule.weights > 0).all()
    degrees = np.arange(2 * n_nodes)[:, None]

    def moments(nodes, weights):
        # The interval [-0.2, 1.2] onto [-1, 1], with room for rounding at its ends.
        return np.cos(degrees * np.arccos((nodes[None, :] - 0.5) / 0.7000001)) @ weights

    # Rounding of the nodes, 1e-16, times the slope of the polynomials at the ends of the interval, 23**2.
    np.testing.assert_allclose(moments(rule.nodes, rule.weights), moments(values, weights), rtol=0, atol=1e-11)


def test_gauss_rule_of_a_uniform_distribution_is_gauss_legendre():
    # The midpoint sum of 20000 positions approaches the integral as 1 / (24 * 20000**2) = 1e-10 times a curvature.
    n = 20000
    rule = gauss_quadrature((np.arange(n) + 0.5) / n, np.full(n, 1 / n), 5)
    nodes, weights = np.polynomial.legendre.leggauss(5)
    np.testing.assert_allclose(rule.nodes, (nodes + 1) / 2, atol=1e-8)
    np.testing.assert_allclose(rule.weights, weights / 2, atol=1e-8)


def test_as_many_nodes_as_values_returns_the_values():
    rule = gauss_quadrature([0.9, 0.1, 0.9, 0.4], [0.25, 0.25, 0.25, 0.25], 3)
    np.testing.assert_array_equal(rule.nodes, [0.1, 0.4, 0.9])
    np.testing.assert_array_equal(rule.weights, [0.25, 0.25, 0.5])
    again = gauss_quadrature(rule.nodes, rule.weights, 7)
    np.testing.assert_array_equal(again.nodes, rule.nodes)
    np.testing.assert_array_equal(again.weights, rule.weights)


def test_a_rule_of_a_rule_is_the_rule_of_the_slice():
    """12 nodes hold all moments up to degree 23, so the 3-node rule made from them is that of all positions."""
    coarse = sinc_slice_profile(12)
    coarse = gauss_quadrature(coarse.nodes, coarse.weights, 3)
    direct = sinc_slice_profile(3)
    # Rounding, magnified by the recurrence from one rule to the other.
    np.testing.assert_allclose(coarse.nodes, direct.nodes, atol=1e-12)
    np.testing.assert_allclose(coarse.weights, direct.weights, atol=1e-12)


def test_rounded_copies_of_a_value_make_no_spurious_nodes():
    values = np.concatenate([1 + 1e-16 * np.arange(50), 0.5 + 1e-15 * np.arange(50)])
    rule = gauss_quadrature(values, np.full(100, 0.01), 2)
    np.testing.assert_allclose(rule.nodes, [0.5, 1], rtol=1e-12)
    np.testing.assert_allclose(rule.weights, [0.5, 0.5], rtol=1e-12)


def test_single_precision_weights_are_accepted():
    weights = np.full(1000, 1e-3, np.float32)
    rule = gauss_quadrature(np.linspace(0, 1, 1000, dtype=np.float32), weights, 4)
    assert rule.nodes.dtype == rule.weights.dtype == np.float64
    # The sum that was given, in double precision.
    assert rule.weights.sum() == pytest.approx(np.sum(weights, dtype=float), abs=1e-14)


def test_the_outside_counts_as_much_as_the_slice():
    rule = sinc_slice_profile(8)
    assert 0.49 < rule.nodes @ rule.weights < 0.51


def test_more_positions_refine_the_mean():
    coarse, fine, finest = (sinc_slice_profile(4, n_positions=n) for n in (8, 64, 4096))
    mean = [rule.nodes @ rule.weights for rule in (coarse, fine, finest)]
    assert abs(mean[1] - mean[2]) < abs(mean[0] - mean[2])


def test_sixteen_nodes_stand_for_the_slice():
    """The bar for a Hann sinc of time-bandwidth 8, in double precision, on tissues from both ends of the grid."""
    with jax.enable_x64(True):
        sequence, tissue = mrf_fisp(), Tissue([2.95, 1.0, 0.1], [0.5, 0.1, 0.06])

        def signal(profile):
            return np.asarray(simulate(sequence, tissue, n_states=40, slice_profile=profile))

        position = (np.arange(256) + 0.5) / 256
        uniform = SliceProfile(sinc_profile(position), np.full(256, 1 / 256))
        reference, actual = signal(uniform), signal(sinc_slice_profile(16, n_positions=256))
    error = np.linalg.norm(actual - reference, axis=-1) / np.linalg.norm(reference, axis=-1)
    assert error.max() < 1e-3


BAD_PROFILES = [
    ([], [], r"nodes and weights must both be \(nodes,\), not empty; got \(0,\) and \(0,\)"),
    (1.0, 1.0, r"must both be \(nodes,\), not empty; got \(\) and \(\)"),
    ([[1.0]], [[1.0]], r"must both be \(nodes,\), not empty; got \(1, 1\)"),
    ([1.0, 0.5], [1.0], r"must both be \(nodes,\), not empty; got \(2,\) and \(1,\)"),
    ([1.0, np.nan], [0.5, 0.5], r"SliceProfile\.nodes must be finite; got nan at index 1"),
    ([1.0, 0.5], [1.0, 0.0], r"SliceProfile\.weights must be positive and finite; got 0 at index 1"),
    ([1.0, 0.5], [1.5, -0.5], r"SliceProfile\.weights must be positive and finite; got -0\.5 at index 1"),
]


@pytest.mark.parametrize(("nodes", "weights", "message"), BAD_PROFILES)
def test_bad_profiles_are_refused(nodes, weights, message):
    with pytest.raises(ValueError, match=message):
        SliceProfile(np.array(nodes), np.array(weights))
    with pytest.raises(ValueError, match=message):
        gauss_quadrature(nodes, weights, 2)


BAD_RULES = [
    ({"n_nodes": 0}, r"^n_nodes must be 1 or more; got 0$"),
    ({"time_bandwidth": 0.0}, r"^time_bandwidth must be positive and finite; got 0$"),
    ({"time_bandwidth": np.inf}, r"^time_bandwidth must be positive and finite; got inf$"),
    ({"window": "blackman"}, r"^window must be one of hann, hamming, none; got 'blackman'$"),
    ({"n_positions": 0}, r"^n_positions must be 1 or more; got 0$"),
]


@pytest.mark.parametrize(("change", "message"), BAD_RULES)
def test_bad_arguments_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        sinc_slice_profile(**change)


PULSE = gaussian(4.0)
BAD_SLICES = [
    (lambda: FullSlice(PULSE, np.nan), r"^FullSlice\.turns must be finite; got nan$"),
    (lambda: FullSlice(PULSE, np.inf), r"^FullSlice\.turns must be finite; got inf$"),
    (lambda: FullSlice(PULSE, 4, extent=0), r"^FullSlice\.extent must be positive and finite; got 0$"),
    (lambda: PartitionedSlice(PULSE, 0), r"^PartitionedSlice\.n_positions must be a whole number, 1 or more; got 0$"),
    (lambda: PartitionedSlice(PULSE, 2.5), r"^PartitionedSlice\.n_positions must be a whole number, 1 or more"),
    (lambda: PartitionedSlice(PULSE, extent=-1), r"^PartitionedSlice\.extent must be positive and finite; got -1$"),
    (lambda: small_tip(PULSE, 0), r"^n_nodes must be 1 or more; got 0$"),
    (lambda: small_tip(PULSE, extent=np.nan), r"^extent must be positive and finite; got nan$"),
]


@pytest.mark.parametrize(("make", "message"), BAD_SLICES)
def test_bad_slices_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("pulse", [windowed_sinc(8, "hann"), gaussian(4.0)])
def test_small_tip_rule_integrates_the_pulses_profile_over_position(pulse):
    """Moments against an integral in thicknesses by another rule, of ten times as many positions."""
    position, step = np.linspace(-1.5, 1.5, 20_001, retstep=True)
    profile = small_tip_profile(pulse, position)
    rule = small_tip(pulse)
    assert rule.weights.sum() == pytest.approx(3, rel=1e-12)
    for power in (1, 2, 5):
        # A signal is an integral over position, not a mean: a thin slice has little of it.
        expected = np.trapezoid(profile**power, dx=step)
        assert rule.weights @ rule.nodes**power == pytest.approx(expected, abs=1e-6)


def test_profile_passes_through_transforms_without_checks():
    profile = sinc_slice_profile(4)
    total = jax.jit(lambda profile: jnp.sum(profile.weights * profile.nodes))(profile)
    # Single precision: four products of order 1.
    assert float(total) == pytest.approx(profile.nodes @ profile.weights, rel=1e-6)
    gradient = jax.grad(lambda profile: jnp.sum(profile.weights * profile.nodes**2))(jax.tree.map(jnp.asarray, profile))
    np.testing.assert_allclose(gradient.nodes, 2 * profile.weights * profile.nodes, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(gradient.weights, profile.nodes**2, rtol=1e-6, atol=1e-7)
