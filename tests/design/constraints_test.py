"""The maps onto sequences within limits, against closed forms, brute force and the conditions of an optimum."""

import dataclasses
import functools
import math

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis.extra import numpy as hnp

from ganmrf.design.constraints import limit_change, limit_power, meet_sum, nearest_within, pairwise_sum, roughness
from ganmrf.design.limits import Limits, violations
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.sequences.published import mrf_fisp
from tests.quick import quickly

pytestmark = pytest.mark.usefixtures("quick_compiler")

LIMITS = Limits(
    flip_angle=(0.05, 1.2),
    repetition_time=(11e-3, 14e-3),
    echo_time=2e-3,
    inversion_time=(10e-3, 40e-3),
    scan_time=0.50,
    scan_time_fixed=True,
    max_flip_change=0.2,
    rf_power=15.0,
)
# Every length is compiled anew.
angles = st.sampled_from([1, 24]).flatmap(
    lambda size: hnp.arrays(np.float64, size, elements=st.floats(0, 2, allow_subnormal=False))
)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def projected(sequence, limits=LIMITS):
    return quickly(lambda sequence: nearest_within(sequence, limits))(sequence)


@functools.cache
def projected_in_float32():
    return projected(random_sequence())


def random_sequence(n_frames=40, seed=0):
    rng = np.random.default_rng(seed)
    return Fisp(rng.uniform(0, 1.5, n_frames), rng.uniform(8e-3, 18e-3, n_frames), 2e-3, 0.02)


@hypothesis.given(values=angles, change=st.floats(0.01, 3))
def test_limit_change_is_the_highest_below_with_changes_that_are_allowed(values, change):
    frames = np.arange(len(values))
    expected = np.min(values[None] + change * np.abs(frames[:, None] - frames[None]), axis=1)
    found = np.asarray(limit_change(jnp.asarray(values), change, 2.0))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)  # float64 sums of a few terms
    assert (found <= values).all()
    assert found.min() == values.min()


@hypothesis.given(values=angles, low=st.floats(0, 0.5), fraction=st.floats(0.001, 1.5))
def test_limit_power_spends_the_budget_or_leaves_the_angles_alone(values, low, fraction):
    values = np.maximum(values, low)
    least, energy = len(values) * low**2, np.sum(values**2)
    hypothesis.assume(energy > least + 1e-3)
    budget = least + fraction * (energy - least)
    found = np.asarray(quickly(limit_power)(jnp.asarray(values), low, budget))
    if fraction >= 1:
        np.testing.assert_array_equal(found, values)
    else:
        np.testing.assert_allclose(np.sum(found**2), budget, rtol=1e-12)  # float64, no cancellation
        above = values > low + 1e-3
        factors = ((found - low) / (values - low + ~above))[above]
        np.testing.assert_allclose(factors, factors[0] if factors.size else 1, rtol=1e-9)  # of angles 1e-3 above


def test_sums_are_as_exact_as_their_terms():
    values = np.random.default_rng(0).uniform(10e-3, 15e-3, 3001).astype(np.float32)
    # Each of 12 halvings rounds once, by 2^-24, and mostly they cancel.
    np.testing.assert_allclose(quickly(pairwise_sum)(jnp.asarray(values)), math.fsum(values), rtol=2e-7)
    assert pairwise_sum(jnp.array([3.0])) == 3


def test_meet_sum_has_the_derivatives_of_the_implicit_function():
    offsets = jnp.array([-0.4, 0.1, 0.9, 2.0])

    def met(offsets, most):
        return meet_sum(
            lambda shift: jax.nn.sigmoid(offsets + shift),
            (-jnp.max(offsets) - 30, -jnp.min(offsets) + 30),
            (0.0, 1.0),
            most,
            most,
            fixed=True,
        )

    values = np.asarray(quickly(met)(offsets, 1.5))
    np.testing.assert_allclose(values.sum(), 1.5, rtol=1e-12)
    slopes = values * (1 - values)
    by_offsets, by_sum = quickly(jax.jacrev(met, argnums=(0, 1)))(offsets, 1.5)
    np.testing.assert_allclose(by_offsets, np.diag(slopes) - np.outer(slopes, slopes) / slopes.sum(), atol=1e-10)
    np.testing.assert_allclose(by_sum, slopes / slopes.sum(), rtol=1e-10)


def test_projected_repetition_times_are_the_nearest():
    """The conditions of the optimum: one shift for all inside the range, and those at its ends would go beyond."""
    sequence = random_sequence()
    found = projected(sequence)
    before, after = np.asarray(sequence.repetition_time), np.asarray(found.repetition_time)
    low, high = after <= 11e-3 * (1 + 1e-6), after >= 14e-3 * (1 - 1e-6)
    between = ~low & ~high
    assert between.any()
    shift = (after - before)[between]
    np.testing.assert_allclose(shift, shift[0], atol=1e-12)
    assert (before[low] + shift[0] <= 11e-3 * (1 + 1e-6)).all()
    assert (before[high] + shift[0] >= 14e-3 * (1 - 1e-6)).all()
    np.testing.assert_allclose(after.sum() + found.inversion_time, LIMITS.scan_time, rtol=1e-12)


def test_what_is_within_the_limits_stays():
    once = projected(random_sequence())
    twice = projected(once)
    for before, after in zip(jax.tree.leaves(once), jax.tree.leaves(twice), strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-9)
    wide = Limits((0, 2.0), (1e-3, 1.0), 1.908e-3 / 2, (0, 1.0))
    published, found = mrf_fisp(100), projected(mrf_fisp(100), wide)
    for name in ("flip_angle", "repetition_time", "inversion_time"):
        np.testing.assert_array_equal(getattr(found, name), getattr(published, name))


@pytest.mark.parametrize(
    "change",
    [
        {"flip_angle": (0.05, 0.4)},
        {"flip_angle": (0.2, 1.2)},
        {"repetition_time": (12e-3, 14e-3)},
        {"repetition_time": (11e-3, 12.5e-3)},
        {"echo_time": 3e-3},
        {"inversion_time": (30e-3, 40e-3)},
        {"inversion_time": 15e-3},
        {"scan_time": 0.52},
        {"scan_time_fixed": False, "scan_time": 0.6},
        {"max_flip_change": 0.02},
        {"max_flip_change": None},
        {"rf_power": 5.0},
        {"rf_power": None},
    ],
)
def test_each_limit_changes_the_projection_and_holds_in_float32(change):
    with jax.enable_x64(False):
        limits = dataclasses.replace(LIMITS, **change)
        before, after = projected_in_float32(), projected(random_sequence(), limits)
        assert not any(violations(after, limits).values())
        assert any((a != b).any() for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True))


def test_the_power_budget_of_the_smallest_angles_lengthens_the_scan():
    limits = Limits((0.5, 0.6), (5e-3, 50e-3), 2e-3, rf_power=10.0)
    found = projected(Fisp(np.full(20, 0.6), 6e-3, 2e-3), limits)
    assert not any(violations(found, limits).values())
    np.testing.assert_allclose(found.repetition_time, 0.5**2 / 10, rtol=3e-6)  # 1e-6 inside each limit
    np.testing.assert_allclose(found.flip_angle, 0.5, rtol=3e-6)


def test_projection_refuses_what_cannot_be_met():
    with pytest.raises(ValueError, match="too short for 50 frames"):
        nearest_within(random_sequence(50), LIMITS)
    with pytest.raises(ValueError, match="in both or neither"):
        nearest_within(dataclasses.replace(random_sequence(), inversion_time=None), LIMITS)


def test_roughness_counts_turns_and_not_slopes():
    limits = Limits((0, 1.0), (10e-3, 20e-3), 2e-3)
    line = Fisp(np.linspace(0, 1, 11), np.linspace(10e-3, 20e-3, 11), 2e-3)
    np.testing.assert_allclose(roughness(line, limits), 0, atol=1e-28)
    jump = dataclasses.replace(line, flip_angle=jnp.arange(11) % 2.0)
    np.testing.assert_allclose(roughness(jump, limits), 1, rtol=1e-12)
    both = dataclasses.replace(jump, repetition_time=10e-3 + 10e-3 * (jnp.arange(11) % 2))
    np.testing.assert_allclose(roughness(both, limits), 2, rtol=1e-12)
    assert roughness(Fisp([0.1, 0.9], 12e-3, 2e-3), limits) == 0
