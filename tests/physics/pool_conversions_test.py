"""What papers say of exchange comes back from fraction and exchange rate by its definition."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from ganmrf.physics.pool_conversions import (
    fraction_of,
    from_rate_out_of_a,
    from_rate_out_of_b,
    from_rates,
    from_residence_time,
    from_unit_pools,
)
from ganmrf.physics.tissue import SemisolidPool

ROUNDING = 1e-5  # single precision, where 1 - fraction is as small as 1 / 20
FRACTIONS, RATES = st.floats(0.01, 0.95), st.floats(1e-3, 3e3)


def rates(fraction, exchange_rate):
    """k_ab and k_ba, by the definition of a tissue's fields."""
    return fraction * exchange_rate, (1 - fraction) * exchange_rate


@hypothesis.given(RATES | st.just(0.0), RATES)
def test_rates_come_back(a_to_b, b_to_a):
    found = rates(*from_rates(a_to_b, b_to_a))
    np.testing.assert_allclose(found, [a_to_b, b_to_a], rtol=ROUNDING, atol=1e-7 * (a_to_b + b_to_a))


@hypothesis.given(FRACTIONS, RATES)
def test_a_rate_or_a_residence_time_comes_back(fraction, rate):
    for convert, place in ((from_rate_out_of_a, 0), (from_rate_out_of_b, 1)):
        kept, exchange_rate = convert(fraction, rate)
        assert kept == np.float32(fraction)
        assert rates(kept, exchange_rate)[place] == pytest.approx(rate, rel=ROUNDING)
    assert 1 / rates(*from_residence_time(fraction, 1 / rate))[1] == pytest.approx(1 / rate, rel=ROUNDING)


@hypothesis.given(st.floats(0, 20))
def test_a_ratio_comes_back(ratio):
    fraction = float(fraction_of(ratio))
    assert fraction / (1 - fraction) == pytest.approx(ratio, rel=1e-5, abs=1e-6)


@hypothesis.given(RATES, st.floats(0.01, 0.5), st.floats(0.5, 2))
def test_the_exchange_of_unit_pools_comes_back(exchange, m0_b, m0_a):
    fraction, exchange_rate = from_unit_pools(exchange, m0_b, m0_a)
    assert fraction / (1 - fraction) == pytest.approx(m0_b / m0_a, rel=ROUNDING)
    found = rates(fraction, exchange_rate)
    np.testing.assert_allclose(found, [exchange * m0_b, exchange * m0_a], rtol=ROUNDING)


def test_one_tissue_of_all_parametrisations():
    """Pools of 1 and 0.25 that exchange 4 per s out of the larger one: k_ab = 4, k_ba = 16, R = 16, 1/16 s in b."""
    ways = [
        from_rates(4.0, 16.0),
        from_rate_out_of_a(fraction_of(0.25), 4.0),
        from_rate_out_of_b(fraction_of(0.25), 16.0),
        from_residence_time(0.2, 1 / 16),
        from_unit_pools(16.0, 0.25),
        from_unit_pools(20.0, 0.2, 0.8),
    ]
    np.testing.assert_allclose(ways, [[0.2, 20.0]] * len(ways), rtol=1e-6)


def test_the_result_stands_for_two_fields_of_a_tissue():
    tissue = SemisolidPool(1.5, 0.08, *from_residence_time([0.1, 0.2], 0.05), 0.3, 1.5e-5)
    np.testing.assert_allclose(tissue.fraction, [0.1, 0.2])
    np.testing.assert_allclose(tissue.exchange_rate, [20 / 0.9, 20 / 0.8], rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: fraction_of(-0.1), "ratio must be 0 or more, and finite; got -0.1"),
        (lambda: from_rates(-1.0, 2.0), "a_to_b must be 0 or more, and finite; got -1"),
        (lambda: from_rates(0.0, 0.0), r"a_to_b \+ b_to_a must be positive and finite; got 0"),
        (lambda: from_rate_out_of_a([0.1, 0.0], 2.0), "fraction must be above 0, and 1 at most; got 0 at index 1"),
        (lambda: from_rate_out_of_b(1.0, 2.0), "fraction must be 0 or more, and below 1; got 1"),
        (lambda: from_residence_time(0.1, 0.0), "time must be positive and finite; got 0"),
        (lambda: from_unit_pools(16.0, 0.2, 0.0), "m0_a must be positive and finite; got 0"),
        (lambda: from_unit_pools(np.nan, 0.2), "exchange must be 0 or more, and finite; got nan"),
    ],
)
def test_what_no_pools_have_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
