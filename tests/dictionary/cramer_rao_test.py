"""The bound and the bias against the whole Fisher information, and what must be true of any bound."""

import hypothesis
import jax
import numpy as np
import pytest
from hypothesis import strategies as st

from ganmrf.dictionary.cramer_rao import cramer_rao, induced_bias
from tests.quick import quickly

M0 = 0.7 - 0.4j


def case(n_params, kind=float, seed=0, columns=12):
    """A signal and derivatives that are much alike, as those of relaxation are: their matrix has a condition of 50."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((2, n_params + 1, columns))
    rows = rows[0] if kind is float else rows[0] + 1j * rows[1]
    return rows[0], rows[0] + 0.1 * rows[1:]


def jacobian(signal, derivatives, m0):
    """Of real and imaginary data by the parameters and Re M0 and Im M0, (params + 2, 2 columns)."""
    columns = np.stack([*(m0 * np.asarray(derivatives)), signal, 1j * signal])
    return np.concatenate([columns.real, columns.imag], axis=1)


def stds_of(covariance, m0):
    """Standard deviations of the parameters and of abs(M0)."""
    along = np.array([np.real(m0), np.imag(m0)]) / abs(m0)
    variances = np.diag(covariance)[:-2]
    return np.sqrt([*variances, along @ covariance[-2:, -2:] @ along])


def found_by(function, *arguments):
    with jax.enable_x64(True):
        stds, of_m0 = function(*arguments)
        return np.append(stds, of_m0)


@pytest.mark.parametrize("kind", [float, complex])
@pytest.mark.parametrize("n_params", [1, 2, 3, 4])
def test_bound_is_the_inverse_of_the_whole_fisher_information(n_params, kind):
    signal, derivatives = case(n_params, kind)
    rows = jacobian(signal, derivatives, M0)
    expected = stds_of(0.01**2 * np.linalg.inv(rows @ rows.T), M0)
    # float64, and the reference squares a condition of at most 1e3
    np.testing.assert_allclose(found_by(cramer_rao, signal, derivatives, M0, 0.01), expected, rtol=1e-9)
    if n_params == 2:  # as a tuple, too
        np.testing.assert_allclose(found_by(cramer_rao, signal, tuple(derivatives), M0, 0.01), expected, rtol=1e-9)


@hypothesis.given(st.integers(0, 1000), st.floats(1e-3, 1e3), st.floats(-3, 3), st.sampled_from([2, 5]))
def test_more_signal_or_more_of_the_same_is_better_by_as_much(seed, scale, phase, times):
    signal, derivatives = case(2, complex, seed)
    bound = found_by(cramer_rao, signal, derivatives, M0, 0.01)
    stronger = found_by(cramer_rao, signal, derivatives, M0 * scale * np.exp(1j * phase), 0.01)
    np.testing.assert_allclose(stronger, bound / [scale, scale, 1], rtol=1e-12)  # abs(M0) is as uncertain as ever
    again = found_by(cramer_rao, np.tile(signal, times), np.tile(derivatives, times), M0, 0.01)
    np.testing.assert_allclose(again, bound / np.sqrt(times), rtol=1e-9)  # rounding times the condition


@hypothesis.given(st.integers(0, 1000))
def test_one_more_unknown_never_helps(seed):
    signal, derivatives = case(3, float, seed)
    two, three = (found_by(cramer_rao, signal, derivatives[:n], M0, 1.0) for n in (2, 3))
    assert (three[[0, 1, 3]] >= two * (1 - 1e-9)).all()  # rounding times the condition


def test_the_order_of_parameters_does_not_matter():
    signal, derivatives = case(3)
    bound = found_by(cramer_rao, signal, derivatives, M0, 1.0)
    turned = found_by(cramer_rao, signal, derivatives[[2, 0, 1]], M0, 1.0)
    np.testing.assert_allclose(turned, bound[[2, 0, 1, 3]], rtol=1e-10)  # rounding times the condition


def test_float32_loses_no_more_digits_than_derivatives_are_alike():
    rng = np.random.default_rng(3)
    signal, one, other = rng.standard_normal((3, 400)).astype(np.float32)
    derivatives = np.stack([one, one + np.float32(1e-3) * other])
    exact = found_by(cramer_rao, signal.astype(float), derivatives.astype(float), 1.0, 1.0)
    stds, of_m0 = cramer_rao(signal, derivatives, 1.0, 1.0)
    # Rounding of 1e-7 over an angle of 1e-3; a determinant of float32 inner products would be pure rounding.
    np.testing.assert_allclose(np.append(stds, of_m0), exact, rtol=1e-3)


def test_what_signals_do_not_determine_has_no_bound():
    signal, (one, other) = case(2)
    signal, one, other = (rows.astype(np.float32) for rows in (signal, one, other))
    bounds = jax.jit(lambda s, d: cramer_rao(s, d, 1.0, 0.1))
    sums = jax.jit(jax.grad(lambda s, d: sum(bound.sum() for bound in bounds(s, d)), argnums=(0, 1)))
    for last in (0 * signal, 2 * signal, 3 * one - signal, one + other):
        derivatives = np.stack([one, other, last])
        assert all(np.isinf(bound).all() for bound in bounds(signal, derivatives))
        assert all(np.isfinite(gradient).all() for gradient in sums(signal, derivatives))
    assert all(np.isinf(bound).all() for bound in bounds(0 * signal, derivatives))
    assert np.isinf(cramer_rao(signal[:3], np.stack([one, other, signal])[:, :3], 1.0, 0.1)[0]).all()  # 3 columns


def test_voxels_are_apart_from_each_other():
    voxels = [case(2, float, seed) for seed in range(3)]
    signals = np.stack([signal for signal, _ in voxels])
    derivatives = np.stack([derivatives for _, derivatives in voxels], axis=1)
    m0, noise = np.array([1.0, 2.0, 0.5]), np.array([0.1, 0.2, 0.3])
    with jax.enable_x64(True):
        stds, of_m0 = cramer_rao(signals, derivatives, m0, noise)
    assert stds.shape == (2, 3)
    for n, voxel in enumerate(voxels):
        expected = found_by(cramer_rao, *voxel, m0[n], noise[n])
        np.testing.assert_allclose([*stds[:, n], of_m0[n]], expected, rtol=1e-12)


quick_bias = quickly(induced_bias)


def shifts_by(signal, derivatives, error):
    """Shifts of the parameters, and of the real and the imaginary part of M0 = 1."""
    with jax.enable_x64(True):
        shifts, of_m0 = map(np.asarray, quick_bias(signal, derivatives, error))
    return np.array([*shifts, of_m0.real, of_m0.imag])


@pytest.mark.parametrize("kind", [float, complex])
@pytest.mark.parametrize("n_params", [1, 3])
def test_an_error_that_parameters_explain_is_found_as_their_shift(n_params, kind):
    signal, derivatives = case(n_params, kind)
    shifts = np.random.default_rng(1).standard_normal(n_params + 1)
    m0 = shifts[-1] if kind is float else shifts[-1] + 0.3j
    explained = np.tensordot(shifts[:-1], derivatives, 1) + m0 * signal
    rows = jacobian(signal, derivatives, 1.0)
    rest = np.random.default_rng(2).standard_normal(rows.shape[1])
    rest -= rows.T @ np.linalg.solve(rows @ rows.T, rows @ rest)
    unexplained = rest[: signal.size] if kind is float else rest[: signal.size] + 1j * rest[signal.size :]
    expected = [*shifts[:-1], np.real(m0), np.imag(m0)]
    for error in (explained, explained + unexplained):
        # float64; the reference `rest` squares a condition of at most 1e3
        np.testing.assert_allclose(shifts_by(signal, derivatives, error), expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(shifts_by(signal, derivatives, unexplained), 0, atol=1e-9)


def test_bias_of_noise_scatters_as_the_bound_says():
    """The shift is linear in the error: its covariance under white noise is the inverse Fisher information."""
    signal, derivatives = case(2, complex)
    unit = np.concatenate([np.eye(signal.size), 1j * np.eye(signal.size)])
    batched = [np.broadcast_to(rows, unit.shape) for rows in (signal, *derivatives)]
    shifts = shifts_by(batched[0], tuple(batched[1:]), unit)
    expected = found_by(cramer_rao, signal, derivatives, 1.0, 1.0)
    np.testing.assert_allclose(np.linalg.norm(shifts[:-1], axis=1), expected, rtol=1e-9)


def test_dependent_derivatives_have_no_bias():
    signal, (one, other) = (np.float32(rows) for rows in case(2))
    shifts, of_m0 = quick_bias(signal, np.stack([one, 2 * one - signal]), other)
    assert np.isnan([*shifts, of_m0]).all()
