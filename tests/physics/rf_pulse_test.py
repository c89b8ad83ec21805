"""A pulse with its slice gradient is the rotation that its hard pulses and turns multiply to, at every position."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ganmrf.physics.rf_pulse import WINDOWS, RfPulse, gaussian, rotation, spinors, windowed_sinc
from ganmrf.physics.slice_profile import sinc_profile, small_tip_profile


def random_pulse(seed, n_samples=23):
    """Complex samples of no symmetry, whose sum is 1."""
    rng = np.random.default_rng(seed)
    return RfPulse.of_waveform(rng.normal(size=n_samples) + 1j * rng.normal(size=n_samples) + 1.5, rng.uniform(1, 9))


def secant(time_bandwidth, n_samples=400):
    """A hyperbolic secant: an adiabatic inversion, which sweeps its frequency."""
    time = np.linspace(-1, 1, n_samples)
    return RfPulse.of_waveform((1 / np.cosh(5.3 * time)) ** (1 + 4.9j), time_bandwidth)


def played(pulse, angle, position):
    """The rotation as matrices (3, 3), hard pulse by hard pulse; none of it by spinors."""
    turn = 2 * np.pi * pulse.time_bandwidth * position
    half_step = about_z(turn / (2 * len(pulse.samples)))
    total = about_z(-turn / 2)
    for sample in pulse.samples * angle:
        total = half_step @ Rotation.from_rotvec([sample.real, sample.imag, 0]).as_matrix() @ half_step @ total
    return about_z(-turn / 2) @ total


def about_z(turn):
    cosine, sine = np.cos(turn), np.sin(turn)
    return np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])


@hypothesis.settings(max_examples=20)
@hypothesis.given(seed=st.integers(0, 1000), angle=st.floats(-6, 6), position=st.floats(-2, 2))
def test_rotation_is_the_product_of_matrices(seed, angle, position):
    pulse = random_pulse(seed)
    flip, pre, post = rotation(pulse, angle, position)
    assert 0 <= flip <= np.pi
    found = about_z(post) @ Rotation.from_rotvec([flip, 0, 0]).as_matrix() @ about_z(pre)
    np.testing.assert_allclose(found, played(pulse, angle, position), rtol=0, atol=1e-12)


def test_spinors_are_unitary_and_broadcast():
    a, b = spinors(random_pulse(1), np.linspace(-5, 5, 7)[:, None], np.linspace(-3, 3, 11))
    assert a.shape == b.shape == (7, 11)
    np.testing.assert_allclose(np.abs(a) ** 2 + np.abs(b) ** 2, 1, rtol=0, atol=1e-13)


@pytest.mark.parametrize("pulse", [windowed_sinc(8, "hann"), windowed_sinc(3, "none"), gaussian(2.5)])
def test_middle_of_the_slice_is_turned_by_the_flip_angle(pulse):
    angle = np.deg2rad([0, 10, 90, 179])
    flip, pre, post = rotation(pulse, angle, 0.0)
    np.testing.assert_allclose(flip, angle, rtol=0, atol=1e-12)
    np.testing.assert_allclose(np.exp(1j * (pre + post)), 1, rtol=0, atol=1e-12)
    # Beyond half a turn it is one the other way round: the axis is opposite.
    flip, pre, post = rotation(pulse, 1.25 * np.pi, 0.0)
    np.testing.assert_allclose(flip, 0.75 * np.pi)
    np.testing.assert_allclose(np.exp(1j * np.array([pre, post])), -1, rtol=0, atol=1e-9)


@hypothesis.settings(max_examples=20)
@hypothesis.given(seed=st.integers(0, 1000), angle=st.floats(0.1, 6), position=st.floats(0.01, 2))
def test_symmetries(seed, angle, position):
    """Real samples: -z is the mirror image of +z. Real and the same backwards: pre and post are equal."""
    samples = np.random.default_rng(seed).normal(size=12) + 1
    pulse = RfPulse.of_waveform(samples, 6.0)
    (a, b), (c, d) = (spinors(pulse, angle, sign * position) for sign in (1, -1))
    np.testing.assert_allclose([c, d], [np.conj(a), -np.conj(b)], rtol=0, atol=1e-12)
    _, pre, post = rotation(RfPulse.of_waveform(samples + samples[::-1], 6.0), angle, position)
    np.testing.assert_allclose(np.exp(1j * (post - pre)), 1, rtol=0, atol=1e-6)


def test_asymmetric_pulse_has_other_phases_before_than_after():
    """Backwards in time, before and after change places."""
    samples = np.sinc(np.linspace(-3, 1, 60)) * np.hanning(62)[1:-1]
    flip, pre, post = rotation(RfPulse.of_waveform(samples, 5.0), 1.2, 0.3)
    assert abs(pre - post) > 0.1
    backwards = rotation(RfPulse.of_waveform(samples[::-1], 5.0), 1.2, 0.3)
    np.testing.assert_allclose(backwards, (flip, post, pre), rtol=0, atol=1e-12)


def test_adiabatic_pulse_inverts_from_a_threshold_on_whatever_b1_is():
    """Its frequencies, +-4.9 x 5.3 / 2 pi in half a duration, are those of 2 thicknesses to either side."""
    pulse, position = secant(4.0), np.linspace(-0.7, 0.7, 15)
    threshold = next(angle for angle in np.arange(0.1, 12, 0.1) if rotation(pulse, angle, position)[0].min() > 3.0)
    b1 = np.array([1.0, 1.2, 1.5, 2.0])[:, None]
    assert np.cos(rotation(pulse, threshold * b1, position)[0]).max() < -0.98
    # Half of B1 inverts less, and far from the frequencies of its sweep nothing turns.
    assert np.cos(rotation(pulse, 0.5 * threshold, 0.0)[0]) > -0.9
    assert rotation(pulse, threshold, 5.0)[0] < 0.05


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("time_bandwidth", [2.0, 8.0])
def test_small_flip_angles_have_the_closed_profile_of_the_sinc(window, time_bandwidth):
    position = np.linspace(-1.5, 1.5, 61)
    pulse = windowed_sinc(time_bandwidth, window, n_samples=2000)
    expected = sinc_profile(position, time_bandwidth=time_bandwidth, window=window)
    # The midpoint rule of 2000 steps, at most 12 turns of 8e-4 of pi each.
    np.testing.assert_allclose(small_tip_profile(pulse, position), expected, rtol=0, atol=3e-5)
    flip, _, _ = rotation(pulse, 1e-4, position)
    np.testing.assert_allclose(1e4 * flip, np.abs(expected), rtol=0, atol=3e-5)


@pytest.mark.parametrize("time_bandwidth", [3.0, 6.0])
def test_gaussian_slice_is_one_thickness_wide_at_half_its_height(time_bandwidth):
    position = np.linspace(-1.5, 1.5, 61)
    profile = small_tip_profile(gaussian(time_bandwidth), position)
    # What is cut off at either end: 3e-4 of the peak, and far less.
    np.testing.assert_allclose(profile, np.exp(-4 * np.log(2) * position**2), rtol=0, atol=5e-4)
    assert small_tip_profile(gaussian(time_bandwidth), 0.5) == pytest.approx(0.5, abs=3e-4)


def test_traced_rotation_is_the_same_and_differentiable():
    pulse, at, step = random_pulse(3), np.array([1.3, 0.2]), 1e-6

    def turned(at):
        return jnp.stack(rotation(pulse, at[0], at[1]))

    with jax.enable_x64(True):
        np.testing.assert_allclose(jax.jit(turned)(at), rotation(pulse, *at), rtol=0, atol=1e-12)
        derivatives = jax.jit(jax.jacfwd(turned))(at)
    for by, moved in zip(derivatives.T, step * np.eye(2), strict=True):
        ahead, behind = (np.array(rotation(pulse, *(at + sign * moved))) for sign in (1, -1))
        np.testing.assert_allclose(by, (ahead - behind) / (2 * step), rtol=0, atol=1e-7)


def test_equal_pulses_are_equal_and_part_of_the_structure_of_a_tree():
    """Functions under `jit` are compiled once for each pulse."""
    assert windowed_sinc(4, "hann") == windowed_sinc(4, "hann") != windowed_sinc(4, "hamming")
    assert windowed_sinc(4, np.ones(180)) == windowed_sinc(4, "none")
    assert jax.tree.structure(gaussian(4)) == jax.tree.structure(gaussian(4)) != jax.tree.structure(gaussian(5))
    assert not jax.tree.leaves(gaussian(4))


def test_waveform_of_any_unit_is_scaled():
    waveform = 250.0 * np.hanning(30) * np.exp(0.4j)
    np.testing.assert_allclose(RfPulse.of_waveform(waveform, 2.0).samples.sum(), 1, rtol=1e-12)
    np.testing.assert_allclose(
        RfPulse.of_waveform(waveform, 2.0).samples, RfPulse.of_waveform(np.hanning(30), 2.0).samples, rtol=0, atol=1e-15
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RfPulse.of_waveform([1.0, -1.0], 4), "waveform must have an area.* got 0"),
        (lambda: RfPulse.of_waveform([0.0, 0.0], 4), "waveform must have an area"),
        (lambda: RfPulse.of_waveform([1.0, np.nan], 4), r"waveform must be finite; got nan at index 1"),
        (lambda: RfPulse([0.5, np.inf], 4), r"RfPulse\.samples must be finite; got inf at index 1"),
        (lambda: RfPulse([0.5, 0.4], 4), r"RfPulse\.samples must sum to 1.* got 0\.9"),
        (lambda: RfPulse([[1.0]], 4), r"RfPulse\.samples must be \(samples,\).* got shape \(1, 1\)"),
        (lambda: RfPulse([], 4), r"RfPulse\.samples must be \(samples,\), not empty"),
        (lambda: RfPulse(["1"], 4), r"RfPulse\.samples must be .* numbers"),
        (lambda: RfPulse([1.0], 0), r"RfPulse\.time_bandwidth must be positive .*: no gradient, no slice; got 0"),
        (lambda: RfPulse([1.0], np.inf), r"RfPulse\.time_bandwidth must be positive and finite"),
        (lambda: windowed_sinc(8, "hanning"), "window must be one of hann, hamming, none; got 'hanning'"),
        (lambda: windowed_sinc(8, np.ones(4)), r"window must have 180 values, one for each sample; got shape \(4,\)"),
        (lambda: windowed_sinc(0, "hann"), "time_bandwidth must be positive and finite; got 0"),
        (lambda: windowed_sinc(8, "hann", 0), "n_samples must be a whole number, 1 or more; got 0"),
        (lambda: windowed_sinc(8, "hann", 1.5), "n_samples must be a whole number, 1 or more; got 1.5"),
        (lambda: gaussian(-1), "time_bandwidth must be positive and finite; got -1"),
        (lambda: gaussian(4, 0), "n_samples must be a whole number, 1 or more; got 0"),
    ],
)
def test_what_is_no_pulse_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
