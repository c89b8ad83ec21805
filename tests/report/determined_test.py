"""Values whose standard deviation says nothing more than was known count as not determined."""

import numpy as np

from ganmrf.dictionary.refine import Refined
from ganmrf.physics.tissue import SemisolidPool
from ganmrf.report.determined import undetermined

ATOMS = SemisolidPool(
    np.linspace(0.5, 2, 7), 0.05, np.linspace(0, 0.3, 7), 14.0, 0.34, 1.5e-5, off_resonance=np.linspace(-20, 20, 7)
)


def refined(values, stds):
    one = np.ones(3)
    return Refined(parameters=values, stds=stds, m0=one, m0_std=one, noise=one, converged=one > 0)


def test_times_and_rates_are_known_relative_to_themselves():
    values = {"t1": np.array([0.5, 1.0, 2.0]), "exchange_rate": np.array([10.0, 10.0, 0.0])}
    stds = {"t1": np.array([0.4, 1.1, np.inf]), "exchange_rate": np.array([9.0, 11.0, 1.0])}
    found = undetermined(refined(values, stds), ATOMS, 1.0)
    np.testing.assert_array_equal(found["t1"], [False, True, True])
    np.testing.assert_array_equal(found["exchange_rate"], [False, True, True])
    strict = undetermined(refined(values, stds), ATOMS, 0.5)
    np.testing.assert_array_equal(strict["t1"], [True, True, True])


def test_an_empty_pool_can_be_known():
    """A fraction of 0 with a small error bar says more than the dictionary's range did: 0.3 wide, of 0.087."""
    values = {"fraction": np.array([0.0, 0.2, 0.01]), "off_resonance": np.array([0.0, 1.0, 19.0])}
    stds = {"fraction": np.array([0.01, 0.1, 0.05])}
    found = undetermined(refined(values, stds), ATOMS, 1.0)
    np.testing.assert_array_equal(found["fraction"], [False, True, False])
    of_b0 = undetermined(refined(values, {"off_resonance": np.array([11.0, 12.0, 11.5])}), ATOMS, 1.0)
    np.testing.assert_array_equal(of_b0["off_resonance"], [False, True, False])  # 40 Hz / sqrt(12) is 11.5 Hz


def test_magnitudes_have_no_error_bars_and_nothing_counts():
    values = {"t1": np.ones(3)}
    assert undetermined(refined(values, {"t1": np.full(3, np.nan)}), ATOMS, 1.0) == {}
