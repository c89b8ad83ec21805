"""Non-negative least squares of many signals: the optimum that SciPy finds one by one, and its conditions."""

import numpy as np
import scipy.optimize

from ganmrf.dictionary.nonnegative import nonnegative_least_squares


def fitted(atoms, signals):
    """Weights of all atoms, (signals, atoms)."""
    whole = np.zeros((len(signals), len(atoms) + 1))
    np.put_along_axis(whole, *nonnegative_least_squares(atoms, signals), 1)
    return whole[:, :-1]


def test_weights_are_those_of_scipy():
    rng = np.random.default_rng(0)
    atoms, signals = rng.random((7, 20)) * rng.uniform(0.1, 10, (7, 1)), rng.standard_normal((300, 20))
    expected = [scipy.optimize.nnls(atoms.T, signal)[0] for signal in signals]
    np.testing.assert_allclose(fitted(atoms, signals), expected, atol=1e-9)  # rounding, times a condition of 1e3


def test_many_alike_atoms_leave_the_residual_of_scipy():
    rng = np.random.default_rng(1)
    decay = np.exp(-np.arange(12) / np.geomspace(0.5, 30, 60)[:, None])  # neighbours correlate by 0.99 and more
    signals = rng.random((50, 3)) @ decay[[5, 30, 50]] + 0.01 * rng.standard_normal((50, 12))
    left = np.linalg.norm(signals - fitted(decay, signals) @ decay, axis=1)
    expected = [scipy.optimize.nnls(decay.T, signal)[1] for signal in signals]
    np.testing.assert_allclose(left**2, np.square(expected), atol=1e-8 * np.square(signals).sum(axis=1).max())


def test_what_no_atom_explains_gets_nothing():
    atoms = np.eye(3)[:2]
    signals = np.array([[0.0, 0, 0], [-1, -2, 5], [1, -2, 5], [0, 3, 0]])
    np.testing.assert_array_equal(fitted(atoms, signals), [[0, 0], [0, 0], [1, 0], [0, 3]])


def test_an_atom_twice_changes_nothing():
    atoms = np.array([[1.0, 0], [1, 0], [0, 1]])
    weights = fitted(atoms, np.array([[2.0, 3], [1, -1]]))
    np.testing.assert_allclose(weights @ atoms, [[2, 3], [1, 0]], atol=1e-15)
