"""Absorption lines have their integral, the rate of saturation that they stand for, and the bridge on resonance."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.interpolate
import scipy.linalg
import scipy.special

from ganmrf.physics.lineshape import gaussian, lorentzian, super_lorentzian

LINES = [super_lorentzian, lorentzian, gaussian]
MAGIC = 1 / np.sqrt(3)


def over_angles(function):
    """Integral over the cosine of the angle, whose middle is singular."""
    parts = [
        scipy.integrate.quad(function, *ends, epsabs=0, epsrel=1e-12, limit=400)[0] for ends in ((0, MAGIC), (MAGIC, 1))
    ]
    return sum(parts)


def dipoles(t2_b, offset):
    """The super-Lorentzian as Morrison and Henkelman have it, without a bridge."""

    def gaussian_of_angle(u):
        width = abs(3 * u**2 - 1) / t2_b
        return np.sqrt(2 / np.pi) / width * np.exp(-2 * (2 * np.pi * offset / width) ** 2)

    return over_angles(gaussian_of_angle)


@hypothesis.given(st.floats(1e-6, 5e-5), st.floats(1500, 3e4), st.sampled_from([1, -1]))
def test_the_super_lorentzian_is_its_integral_beyond_the_bridge(t2_b, offset, side):
    expected = dipoles(t2_b, offset)
    with jax.enable_x64(True):
        found = super_lorentzian(t2_b, side * offset)
        assert found.dtype == np.float64
        # Lines that are a millionth as high as on resonance absorb nothing.
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-6 * t2_b)
    np.testing.assert_allclose(super_lorentzian(t2_b, side * offset), expected, rtol=5e-6, atol=1e-6 * t2_b)


@pytest.mark.parametrize("line", [lorentzian, gaussian])
def test_the_integral_over_angular_frequency_is_1(line):
    t2_b, angle = 1e-5, np.pi * ((np.arange(2000) + 0.5) / 2000 - 0.5)
    frequency = np.tan(angle) / (2 * np.pi * t2_b)
    steps = np.pi / 2000 / np.cos(angle) ** 2 / t2_b  # of angular frequency
    with jax.enable_x64(True):
        assert float(jnp.sum(line(t2_b, frequency) * steps)) == pytest.approx(1, rel=1e-9)


def test_the_super_lorentzian_has_an_integral_of_1_but_for_its_bridge():
    """Beyond an offset it is that of Gaussians, as their error functions have it; the bridge takes the peak off."""
    t2_b, edge = 12e-6, 1500.0
    below, frequency = np.linspace(0, edge, 101), np.linspace(edge, 1e5, 40001)
    with jax.enable_x64(True):
        beyond = scipy.integrate.simpson(super_lorentzian(t2_b, frequency), x=frequency)
        bridged = scipy.integrate.simpson(super_lorentzian(t2_b, below), x=below)
    expected = over_angles(lambda u: scipy.special.erfc(np.sqrt(8) * np.pi * edge * t2_b / abs(3 * u**2 - 1)))
    assert 2 * beyond == pytest.approx(expected / (2 * np.pi), rel=1e-9)
    assert 0.9 < 2 * np.pi * 2 * (beyond + bridged) < 1


@pytest.mark.parametrize("offset", [0.0, 4000.0])
def test_a_lorentzian_line_saturates_as_the_bloch_equation_does(offset):
    """Weak RF on spins of T2b alone: z decays at the rate pi omega_1^2 G."""
    t2_b, amplitude, time = 2e-5, 2 * np.pi * 50.0, 0.5
    turn = 2 * np.pi * offset
    bloch = np.array([[-1 / t2_b, -turn, 0], [turn, -1 / t2_b, -amplitude], [0, amplitude, 0]])
    z = scipy.linalg.expm(time * bloch)[2, 2]
    # To second order in omega_1 T2b, 6e-3.
    assert np.exp(-np.pi * amplitude**2 * float(lorentzian(t2_b, offset)) * time) == pytest.approx(z, rel=1e-4)


def test_on_resonance_the_bridge_is_the_one_in_use():
    """A spline through samples between 1.5 and 2 kHz on both sides; 1.51e-5 s for 12 us in Malik et al. 2018."""
    frequency = np.arange(1500.0, 2001.0, 5.0)
    line = [dipoles(12e-6, each) for each in frequency]
    spline = scipy.interpolate.CubicSpline(np.concatenate([-frequency[::-1], frequency]), [*line[::-1], *line])
    inside = np.linspace(-1500, 1500, 7)
    np.testing.assert_allclose(super_lorentzian(12e-6, inside), spline(inside), rtol=2e-3)
    assert float(super_lorentzian(12e-6)) == pytest.approx(1.51e-5, rel=0.02)


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("offset", [0.0, 700.0, 1500.0, 2000.0, -8000.0])
def test_derivatives_are_central_differences(line, offset):
    t2_b = 1.2e-5
    with jax.enable_x64(True):
        by_t2, by_offset = jax.grad(line, (0, 1))(t2_b, offset)
        step = 1e-4 * t2_b
        assert by_t2 == pytest.approx(
            float(line(t2_b + step, offset) - line(t2_b - step, offset)) / (2 * step), rel=1e-6
        )
        difference = float(line(t2_b, offset + 0.5) - line(t2_b, offset - 0.5))
        assert by_offset == pytest.approx(difference, rel=1e-3, abs=1e-13)  # the bridge's curvature ends at 1.5 kHz


@pytest.mark.parametrize("line", LINES)
def test_values_and_derivatives_are_finite_in_single_precision(line):
    t2_b, offset = np.geomspace(1e-7, 1e-3, 9)[:, None], np.array([[0.0, 1.0, 1500.0, 1e4, 1e6]])
    values, tangents = jax.jvp(line, (t2_b, offset), (1e-6 * np.ones_like(t2_b), np.ones_like(offset)))
    assert values.shape == (9, 5)
    assert np.isfinite(values).all()
    assert np.isfinite(tangents).all()
    assert (values >= 0).all()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((0.0,), "t2_b must be positive and finite; got 0"),
        (([1e-5, -1e-5],), "t2_b must be positive and finite; got -1e-05 at index 1"),
        ((1e-5, np.nan), "offset must be finite; got nan"),
        ((None,), "t2_b must be a number"),
    ],
)
@pytest.mark.parametrize("line", LINES)
def test_what_is_no_line_is_refused(line, values, words):
    with pytest.raises(ValueError, match=words):
        line(*values)
