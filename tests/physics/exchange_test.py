"""The closed form of two pools is the exponential of their matrix, with derivatives, also where it could be 0 / 0."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from ganmrf.physics.exchange import exchange_exponential, slowest_rate

# Rates of relaxation of both pools, of pool b's precession (rad/s), exchange rate, fraction of pool b, time.
CORNERS = {
    "no exchange": (1.0, 20.0, 0.0, 0.0, 0.2, 0.01),
    "no exchange, equal rates": (8.0, 8.0, 0.0, 0.0, 0.3, 0.02),
    "an empty pool": (1.0, 20.0, 0.0, 15.0, 0.0, 0.01),
    "an empty pool, equal eigenvalues": (20.0, 5.0, 0.0, 15.0, 0.0, 0.01),
    "all in pool b": (1.0, 20.0, 0.0, 15.0, 1.0, 0.01),
    "equal rates": (8.0, 8.0, 0.0, 15.0, 0.3, 0.02),
    "equal pools": (1.0, 60.0, 0.0, 3000.0, 0.5, 0.012),
    "fast": (1.0, 60.0, 0.0, 1e5, 0.15, 0.012),
    "long": (0.6, 3.0, 0.0, 3000.0, 0.15, 5.0),
    "no time": (1.0, 60.0, 0.0, 20.0, 0.15, 0.0),
    "where the series ends": (0.0, 200.0, 0.0, 0.0, 0.5, 0.01),
    "shift": (12.0, 60.0, 300.0, 20.0, 0.15, 0.012),
    "shift, no exchange": (12.0, 60.0, -300.0, 0.0, 0.15, 0.012),
    "shift, an empty pool": (12.0, 60.0, 300.0, 20.0, 0.0, 0.012),
    "shift, equal rates": (12.0, 12.0, 300.0, 20.0, 0.5, 0.012),
    "shift, coalescence": (12.0, 12.0, 50.0, 50.0, 0.5, 0.02),
    "shift, fast": (12.0, 60.0, 300.0, 3000.0, 0.2, 0.012),
    "shift, long": (12.0, 60.0, -300.0, 3000.0, 0.2, 1.0),
    "shift of 0": (12.0, 12.0, 0.0, 0.0, 0.5, 0.012),
}


def exponential(rate_a, rate_b, turn, exchange_rate, fraction, time):
    """(2, 2), by the definitions of a tissue's fields; complex with a precession of pool b, which may be None."""
    rate_b = rate_b if turn is None else rate_b - 1j * turn
    entries = exchange_exponential(rate_a, rate_b, exchange_rate * fraction, exchange_rate * (1 - fraction), time)
    return jnp.stack([jnp.stack(row) for row in entries])


compiled = jax.jit(exponential)
derivatives_of = jax.jit(jax.jacfwd(exponential, range(6)))


def reference(rate_a, rate_b, turn, exchange_rate, fraction, time):
    a_to_b, b_to_a = exchange_rate * fraction, exchange_rate * (1 - fraction)
    matrix = [[-rate_a - a_to_b, b_to_a], [a_to_b, -rate_b - b_to_a + 1j * (turn or 0.0)]]
    return scipy.linalg.expm(time * np.array(matrix))


def check(values):
    with jax.enable_x64(True):
        wide = compiled(*values)
        # Rounding of exponents up to 1e3, in the reference too.
        np.testing.assert_allclose(wide, reference(*values), rtol=0, atol=3e-13)
    rounded = [None if value is None else float(np.float32(value)) for value in values]
    narrow = compiled(*(None if value is None else np.float32(value) for value in rounded))
    assert narrow.dtype in (np.float32, np.complex64)
    atol = 2e-6 + rounding_of_phase(*rounded[:3], rounded[-1])
    np.testing.assert_allclose(narrow, reference(*rounded), rtol=0, atol=atol)


def rounding_of_phase(rate_a, rate_b, turn, time):
    """How far the rounding of its exponents in float32 can move an entry of the exponential.

    A decay's relative rounding is at most its share of 1/e, whatever its exponent; a phase of hundreds of radians keeps
    an absolute one. It is rounded six times, by half of eps each: in a product and a sum of the determinant, in the
    root, in its sum with the mean, in their quotient, and times the time. A matrix that is wrong by E changes its
    exponential by at most ``t |E| exp(-rate t)`` with the lesser of the rates of relaxation, because columns of
    ``A`` lose nothing else: exchange keeps the sum of both pools (logarithmic norm; Moler and Van Loan 2003).
    """
    return 6 * np.finfo(np.float32).eps / 2 * abs(turn or 0.0) * time * np.exp(-min(rate_a, rate_b) * time)


@pytest.mark.parametrize("corner", CORNERS)
def test_corners(corner):
    rate_a, rate_b, turn, *rest = CORNERS[corner]
    check((rate_a, rate_b, turn, *rest))
    if turn == 0:
        check((rate_a, rate_b, None, *rest))


@hypothesis.given(
    st.tuples(
        st.floats(0.2, 50),
        st.floats(0.2, 200),
        st.none() | st.floats(-500, 500),
        st.floats(0, 3000) | st.floats(0, 1e-3),
        st.floats(0, 1) | st.floats(0, 1e-6),
        st.floats(0, 0.1) | st.floats(0, 1),
    )
)
@hypothesis.example((0.91, 0.26, -316.0, 1448.0, 0.998, 0.68))  # a phase of 215 rad that hardly decays
@hypothesis.settings(max_examples=100)
def test_it_is_the_exponential(values):
    check(values)


@pytest.mark.parametrize("corner", CORNERS)
def test_derivatives(corner):
    """Finite, and central differences in double precision."""
    values = CORNERS[corner]
    for dtype in (np.float32, np.float64):
        with jax.enable_x64(dtype is np.float64):
            derivatives = np.stack(derivatives_of(*map(dtype, values)))
        assert np.isfinite(derivatives).all()
    for place, derivative in enumerate(derivatives):
        step = 1e-5 * max(abs(values[place]), 1e-2)
        sides = [reference(*(v + sign * step * (n == place) for n, v in enumerate(values))) for sign in (1, -1)]
        scale = max(np.abs(derivative).max(), 1e-3)
        np.testing.assert_allclose(derivative, (sides[0] - sides[1]) / (2 * step), rtol=0, atol=1e-6 * scale)


WEIGHTS = np.random.default_rng(0).standard_normal((2, 2, 2))


def loss(*values):
    """Real and imaginary parts of every entry, each with a weight of its own."""
    found = exponential(*values)
    return jnp.sum(WEIGHTS[0] * found.real + WEIGHTS[1] * found.imag)


gradient = jax.jit(jax.grad(loss, range(6)))


@pytest.mark.parametrize("corner", CORNERS)
def test_reverse_mode_is_forward_mode(corner):
    with jax.enable_x64(True):
        values = tuple(map(np.float64, CORNERS[corner]))
        forward = np.stack(derivatives_of(*values))
        expected = np.sum(WEIGHTS[0] * forward.real + WEIGHTS[1] * forward.imag, axis=(1, 2))
        np.testing.assert_allclose(gradient(*values), expected, rtol=1e-9, atol=1e-12)


@hypothesis.given(st.floats(0.2, 50), st.floats(0.2, 200), st.floats(0, 3000), st.floats(0, 1))
def test_the_slowest_rate_is_an_eigenvalue(rate_a, rate_b, exchange_rate, fraction):
    a_to_b, b_to_a = exchange_rate * fraction, exchange_rate * (1 - fraction)
    matrix = np.array([[-rate_a - a_to_b, b_to_a], [a_to_b, -rate_b - b_to_a]])
    expected = -np.linalg.eigvals(matrix).real.max()
    assert float(slowest_rate(rate_a, rate_b, a_to_b, b_to_a)) == pytest.approx(expected, rel=1e-9)
