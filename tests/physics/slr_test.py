"""Pulses by the Shinnar-Le Roux algorithm keep the ripples that they are asked for, as wide as Pauly has it."""

import numpy as np
import pytest

from ganmrf.physics.rf_pulse import rotation, spinors, windowed_sinc
from ganmrf.physics.slr import slr, transition_width

Z = np.linspace(0, 3, 2401)


def excited(pulse, flip_angle):
    """|Mxy| at the positions `Z`, as a share of that of the flip angle."""
    a, b = spinors(pulse, flip_angle, Z)
    return 2 * np.abs(a * b) / np.sin(flip_angle)


def edges(profile, pass_ripple, stop_ripple):
    """Where the profile leaves the pass band, and from where on it stays in the stop band, in thicknesses."""
    return Z[np.argmax(np.abs(profile - 1) > pass_ripple)], Z[len(Z) - np.argmax(profile[::-1] > stop_ripple)]


@pytest.mark.parametrize("degrees", [5, 45, 90, 120, 160])
@pytest.mark.parametrize(("pass_ripple", "stop_ripple"), [(0.01, 0.01), (0.03, 0.002)])
def test_ripples_are_those_that_were_asked_for(degrees, pass_ripple, stop_ripple):
    flip_angle = np.deg2rad(degrees)
    profile = excited(slr(8, flip_angle, pass_ripple, stop_ripple), flip_angle)
    start, end = edges(profile, 1.03 * pass_ripple, 1.03 * stop_ripple)  # rounding of the filter's design
    least = transition_width(8, flip_angle, pass_ripple, stop_ripple)
    # Around the edge of the slice, and as wide as the relation or up to a third more.
    assert 0.5 - 0.67 * least <= start < 0.5 < end <= 0.5 + 0.67 * least
    assert profile[0] == pytest.approx(1, abs=1e-12)


def test_transition_is_that_of_pauly_1991():
    """The relation of an excitation of 90 degrees: ripples of B by table II, D_infinity by equation 20."""
    b1, b2 = np.log10(np.sqrt(0.01 / 2) / 2), np.log10(0.01 / np.sqrt(2))  # half, as the middle may be in a ripple
    d_infinity = (5.309e-3 * b1**2 + 7.114e-2 * b1 - 4.761e-1) * b2 - 2.66e-3 * b1**2 - 5.941e-1 * b1 - 4.278e-1
    for time_bandwidth in (4.0, 8.0, 16.0):
        assert transition_width(time_bandwidth) == pytest.approx(d_infinity / time_bandwidth, rel=1e-9)
    # Its own limits: a small flip angle has the ripples of B.
    inside, outside = np.log10(0.005), np.log10(0.01)
    small = (5.309e-3 * inside**2 + 7.114e-2 * inside - 0.4761) * outside
    small += -2.66e-3 * inside**2 - 0.5941 * inside - 0.4278
    assert transition_width(1.0, 1e-3) == pytest.approx(small, rel=1e-4)


def test_slice_at_90_degrees_is_flatter_than_that_of_a_sinc():
    inside, outside = Z < 0.38, (Z > 0.65) & (Z < 1.5)
    designed, sinc = excited(slr(8), np.pi / 2), excited(windowed_sinc(8, "hann"), np.pi / 2)
    assert np.ptp(designed[inside]) < 0.2 * np.ptp(sinc[inside])
    assert designed[outside].max() < 0.5 * sinc[outside].max()


@pytest.mark.parametrize("n_samples", [64, 181, 400])
def test_pulse_is_symmetric_and_real_and_does_not_depend_on_its_samples(n_samples):
    pulse = slr(6, n_samples=n_samples)
    np.testing.assert_allclose(pulse.samples, pulse.samples[::-1], rtol=0, atol=1e-12)
    flip, pre, post = rotation(pulse, np.pi / 2, np.array([0.2, 0.45]))
    np.testing.assert_allclose(np.exp(1j * (pre - post)), 1, rtol=0, atol=1e-9)
    # Both filters are within 1 % in the slice, of |Mxy| = sin(flip), flat there.
    np.testing.assert_allclose(np.sin(flip[0]), 1, atol=0.011)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"time_bandwidth": 0}, "time_bandwidth must be positive and finite; got 0"),
        ({"time_bandwidth": 2, "stop_ripple": 1e-4}, r"time_bandwidth must be above \d.*; got 2"),
        ({"flip_angle": np.pi}, r"flip_angle must be above 0 and below pi rad; got 3\.14"),
        ({"flip_angle": np.nan}, "flip_angle must be"),
        ({"pass_ripple": 0}, "pass_ripple must be above 0 and below 1; got 0"),
        ({"stop_ripple": 1}, "stop_ripple must be above 0 and below 1; got 1"),
        ({"n_samples": 9}, r"n_samples must be above 9\.\d+ for this pulse; got 9"),
        ({"n_samples": 90.5}, "n_samples must be a whole number"),
    ],
)
def test_what_no_pulse_can_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        slr(**{"time_bandwidth": 8} | arguments)
