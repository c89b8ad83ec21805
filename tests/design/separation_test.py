"""Inner products of neighbouring fingerprints, by definition and by their gradient."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganmrf.design.separation import Separation
from ganmrf.design.signal_models import simulator_model
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate
from ganmrf.physics.tissue import Tissue
from tests.quick import quickly

pytestmark = pytest.mark.usefixtures("quick_compiler")


def case():
    return mrf_fisp(40), Tissue(np.array([0.832, 1.331]), np.array([0.0792, 0.11]), 0.9)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def by_definition(distance):
    sequence, tissue = case()

    def unit(t1, t2):
        signals = np.asarray(simulate(sequence, Tissue(t1 * tissue.t1, t2 * tissue.t2, 0.9)))
        return signals / np.linalg.norm(signals, axis=1, keepdims=True)

    low, high = 1 - distance, 1 + distance
    moved = (low, 1), (high, 1), (1, low), (1, high)
    return np.stack([np.abs(np.sum(unit(1, 1) * unit(*each), axis=1)) for each in moved])


@pytest.mark.parametrize("distance", [0.05, 0.3])
def test_products_are_those_of_unit_fingerprints(distance):
    (sequence, tissue), expected = case(), by_definition(distance)

    @quickly
    def found(sequence):
        kinds = (Separation(tissue, distance, reduce=kind) for kind in ("mean", "worst"))
        signals = simulator_model()(sequence, Separation(tissue, distance).compared)

        def once(*_):
            return signals  # simulated once for all three

        return Separation(tissue, distance).products(sequence, once), *(each(sequence, once) for each in kinds)

    products, mean, worst = found(sequence)
    np.testing.assert_allclose(products, expected, rtol=1e-12)  # float64 rounding
    assert float(mean) == pytest.approx(np.mean(expected), rel=1e-12)
    assert float(worst) == pytest.approx(np.max(expected), rel=1e-12)


def test_tissues_farther_apart_are_less_alike():
    sequence, tissue = case()
    unlikeness = quickly(lambda distance: 1 - Separation(tissue, distance)(sequence, simulator_model()))
    near, far = unlikeness(0.1), unlikeness(0.2)
    # Unlikeness goes with the square of the distance; the next order is as large as the distance.
    assert float(far / near) == pytest.approx(4, rel=0.2)


def test_gradient_is_that_of_central_differences():
    sequence, tissue = case()
    separation = Separation(tissue, 0.2)
    both = quickly(jax.value_and_grad(lambda sequence: separation(sequence, simulator_model())))
    direction, h = np.random.default_rng(0).standard_normal(40), 1e-4
    sides = [
        both(dataclasses.replace(sequence, flip_angle=sequence.flip_angle + s * h * direction))[0] for s in (1, -1)
    ]
    along = float(both(jax.tree.map(jnp.asarray, sequence))[1].flip_angle @ direction)
    assert along == pytest.approx(float(sides[0] - sides[1]) / (2 * h), rel=1e-5)  # 1e-8 left out, 1e-12 rounding


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((Tissue(np.zeros(0), np.zeros(0)),), "Separation.tissue holds no voxels"),
        ((case()[1], 0.0), "distance must be between 0 and 1; got 0"),
        ((case()[1], 1.0), "distance must be between 0 and 1; got 1"),
        ((case()[1], 0.1, "rms"), "reduce must be one of worst, mean; got 'rms'"),
        ((Tissue(0.5, 0.48),), "distance must leave T2 below T1; got 0.1 for T1 = 0.5 s, T2 = 0.48 s"),
    ],
)
def test_bad_separations_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Separation(*arguments)
