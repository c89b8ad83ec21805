"""Two pools that do not exchange, that are one, or that exchange fast are what single pools are; and states suffice."""

import dataclasses

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest

from ganmrf.physics.sequences.blocks import Blocks, T2Preparation, Train
from ganmrf.physics.sequences.bssfp import Bssfp
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.simulate import simulate
from ganmrf.physics.simulate_many import simulate_many
from ganmrf.physics.tissue import ExchangingPools, SemisolidPool, Tissue
from tests.physics.pools.cases import PULSES, VOXELS, pools_of, relative, sequences

pytestmark = pytest.mark.usefixtures("quick_compiler")
ROUNDING = 1e-13  # in double precision, of signals of order 1


@pytest.fixture(autouse=True)
def _double_precision():
    with jax.enable_x64(True):
        yield


def case(seed, kind, **facts):
    """A sequence, and tissue of a kind with random fractions and rates instead of corners."""
    rng = np.random.default_rng(seed)
    tissue = pools_of(kind, rng, **facts)
    changed = {"fraction": rng.uniform(0, 0.5, VOXELS), "exchange_rate": rng.uniform(0, 100, VOXELS)}
    return sequences(rng)["fisp"], dataclasses.replace(tissue, **changed)


def pool_a(tissue):
    """Pool a alone."""
    return Tissue(tissue.t1, tissue.t2, tissue.b1, tissue.off_resonance)


SEEDS = hypothesis.given(seed=st.integers(0, 10**6))
FEW = hypothesis.settings(max_examples=5)


@SEEDS
@FEW
def test_without_exchange_signals_add_up(seed):
    sequence, tissue = case(seed, ExchangingPools, shifted=True, off_resonance=True)
    tissue = dataclasses.replace(tissue, exchange_rate=np.zeros(VOXELS))
    pool_b = Tissue(tissue.t1_b, tissue.t2_b, tissue.b1, tissue.off_resonance + tissue.shift)
    a, b = (np.asarray(simulate(sequence, pool)) for pool in (pool_a(tissue), pool_b))
    fraction = np.asarray(tissue.fraction)[:, None]
    np.testing.assert_allclose(simulate(sequence, tissue), (1 - fraction) * a + fraction * b, rtol=0, atol=ROUNDING)


@SEEDS
@FEW
def test_without_exchange_a_semisolid_pool_is_not_there(seed):
    sequence, tissue = case(seed, SemisolidPool)
    tissue = dataclasses.replace(tissue, exchange_rate=np.zeros(VOXELS))
    expected = (1 - np.asarray(tissue.fraction)[:, None]) * np.asarray(simulate(sequence, pool_a(tissue)))
    np.testing.assert_allclose(simulate(sequence, tissue), expected, rtol=0, atol=ROUNDING)


@SEEDS
@FEW
@pytest.mark.parametrize("kind", [ExchangingPools, SemisolidPool])
def test_an_empty_pool_changes_nothing(kind, seed):
    sequence, tissue = case(seed, kind)
    tissue = dataclasses.replace(tissue, fraction=np.zeros(VOXELS))
    expected = simulate(sequence, pool_a(tissue))
    np.testing.assert_allclose(simulate(sequence, tissue), expected, rtol=0, atol=ROUNDING)


@SEEDS
@FEW
def test_pools_that_are_alike_are_one(seed):
    sequence, tissue = case(seed, ExchangingPools)
    tissue = dataclasses.replace(tissue, t1_b=tissue.t1, t2_b=tissue.t2)
    expected = simulate(sequence, pool_a(tissue))
    np.testing.assert_allclose(simulate(sequence, tissue), expected, rtol=0, atol=ROUNDING)


@SEEDS
@FEW
def test_the_names_of_pools_do_not_count(seed):
    sequence, tissue = case(seed, ExchangingPools, shifted=True, off_resonance=True)
    with pytest.warns(UserWarning, match="by convention"):
        swapped = ExchangingPools(
            tissue.t1_b,
            tissue.t2_b,
            1 - tissue.fraction,
            tissue.exchange_rate,
            tissue.t1,
            tissue.t2,
            tissue.b1,
            -tissue.shift,
            tissue.off_resonance + tissue.shift,
        )
    np.testing.assert_allclose(simulate(sequence, swapped), simulate(sequence, tissue), rtol=0, atol=ROUNDING)


def test_fast_exchange_averages_rates_and_frequencies():
    """What is left is of first order in rates over the exchange rate: ten times as fast, a tenth."""
    sequence, tissue = case(0, ExchangingPools, shifted=True, off_resonance=True)
    fraction = tissue.fraction
    t1, t2 = (1 / ((1 - fraction) / a + fraction / b) for a, b in ((tissue.t1, tissue.t1_b), (tissue.t2, tissue.t2_b)))
    averaged = np.asarray(simulate(sequence, Tissue(t1, t2, tissue.b1, tissue.off_resonance + fraction * tissue.shift)))
    errors = []
    for rate in (1e5, 1e6):
        fast = dataclasses.replace(tissue, exchange_rate=np.full(VOXELS, rate))
        errors.append(relative(np.asarray(simulate(sequence, fast)), averaged))
    assert errors[0].max() < 1e-2
    np.testing.assert_allclose(errors[1], errors[0] / 10, rtol=0.02)


def test_an_ideal_t2_preparation_keeps_transverse_magnetisation_of_mobile_pools_and_a_semisolid_pool():
    """z of pools without exchange: each decays with its T2, or recovers; the chemical shift is refocused."""
    time, angle = 0.06, np.pi / 2
    train = Train([angle], 0.01, 0.0, **PULSES)
    sequence = Blocks((T2Preparation(time), train))
    mobile = ExchangingPools(1.1, 0.08, 0.25, 0.0, 0.4, 0.02, 1.0, 30.0)
    expected = 0.75 * np.exp(-time / 0.08) + 0.25 * np.exp(-time / 0.02)
    np.testing.assert_allclose(simulate(sequence, mobile), [expected], rtol=1e-12)
    semisolid = SemisolidPool(1.1, 0.08, 0.25, 0.0, 0.4, 1.5e-5)
    np.testing.assert_allclose(simulate(sequence, semisolid), [0.75 * np.exp(-time / 0.08)], rtol=1e-12)


def test_balanced_steady_state_with_magnetisation_transfer():
    """The closed form of Gloor et al. 2008, doi:10.1002/mrm.21705, which for pools of one T1 is exact."""
    repetition, angle, duration, t1, t2, fraction, rate, line = 4e-3, 0.6, 1e-3, 0.9, 0.08, 0.12, 30.0, 1.5e-5
    sequence = Bssfp(np.full(4000, angle), repetition, pulse_duration=duration)
    signal = simulate(sequence, SemisolidPool(t1, t2, fraction, rate, t1, line))
    e1, e2, exchanged = (np.exp(-repetition * each) for each in (1 / t1, 1 / t2, rate))
    left, ratio = np.exp(-np.pi * line * angle**2 / duration), fraction / (1 - fraction)
    a = 1 + ratio - left * e1 * (ratio + exchanged)
    b = 1 + exchanged * (ratio - left * e1 * (ratio + 1))
    c = ratio * (1 - e1) * (1 - exchanged)
    after_pulse = np.sin(angle) * ((1 - e1) * b + c) / (a - b * e1 * e2 - (b * e1 - a * e2) * np.cos(angle))
    expected = (1 - fraction) * after_pulse * np.sqrt(e2)  # at the echo, half a repetition time later
    # 4000 frames are 18 T1, of which 1e-8 of the transient is left.
    assert float(np.abs(signal[-1])) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("kind", [ExchangingPools, SemisolidPool])
def test_states_that_are_chosen_keep_the_accuracy(kind):
    """Any tissue beside any other, either pool the slow one: states and batches are chosen voxel by voxel."""
    rng, voxels, frames = np.random.default_rng(14), 128, 200

    def spread(low, high):
        return np.exp(rng.uniform(np.log(low), np.log(high), voxels))

    angles = np.abs(np.sin(np.arange(frames) / 20)) * 1.4
    sequence = Fisp(angles, rng.uniform(8e-3, 16e-3, frames), 3e-3, 0.02, **PULSES)
    t2, t2_b = spread(1e-3, 2), spread(1e-3, 2)
    t1, t1_b = (np.maximum(spread(0.05, 5), each) for each in (t2, t2_b))
    pools = 0.5 * rng.uniform(0, 1, voxels) ** 4, spread(1e-3, 1e5), t1_b
    last = t2_b if kind is ExchangingPools else rng.uniform(0, 5e-5, voxels)
    with jax.enable_x64(False):
        tissue = kind(*(np.float32(each) for each in (t1, t2, *pools, last, rng.uniform(0.3, 2, voxels))))
        sequence = jax.tree.map(lambda leaf: leaf.astype(np.float32), sequence)
        exact = np.asarray(simulate(sequence, tissue, n_states=frames // 2 + 1))
        for accuracy in (1e-3, 1e-4):
            for simulated in (simulate, simulate_many):
                assert relative(np.asarray(simulated(sequence, tissue, accuracy=accuracy)), exact).max() < accuracy
