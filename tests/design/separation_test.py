"""Inner products of neighbouring fingerprints, and what they say of sequences."""

import dataclasses

import jax
import numpy as np
import pytest

from ganmrf.design.separation import Separation
from ganmrf.design.signal_models import simulator_model
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate
from ganmrf.physics.tissue import Tissue


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
    products = Separation(tissue, distance).products(sequence, simulator_model())
    np.testing.assert_allclose(products, expected, rtol=1e-12)  # float64 rounding
    for kind, reduced in (("mean", np.mean(expected)), ("worst", np.max(expected))):
        found = Separation(tissue, distance, reduce=kind)(sequence, simulator_model())
        assert float(found) == pytest.approx(reduced, rel=1e-12)


def test_tissues_farther_apart_are_less_alike():
    sequence, tissue = case()
    near, far = (Separation(tissue, distance)(sequence, simulator_model()) for distance in (0.1, 0.2))
    # Unlikeness goes with the square of the distance; the next order is as large as the distance.
    assert float((1 - far) / (1 - near)) == pytest.approx(4, rel=0.2)


def test_gradient_is_that_of_central_differences():
    sequence, tissue = case()
    separation = Separation(tissue, 0.2)
    value = jax.jit(lambda sequence: separation(sequence, simulator_model()))
    gradient = jax.grad(value)(sequence)
    direction, h = np.random.default_rng(0).standard_normal(40), 1e-4
    sides = [value(dataclasses.replace(sequence, flip_angle=sequence.flip_angle + s * h * direction)) for s in (1, -1)]
    along = float(gradient.flip_angle @ direction)
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
