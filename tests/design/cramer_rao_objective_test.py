"""Objectives are reductions of the precision, with exact gradients; bad ones, and starts without any, are refused."""

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from ganmrf.design.bounds import precision_of
from ganmrf.design.cramer_rao_objective import CramerRaoObjective, require_finite
from ganmrf.design.signal_models import simulator_model
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.simulate import SignalTangents, simulate_with_tangents
from ganmrf.physics.tissue import Tissue
from tests.quick import quickly

pytestmark = pytest.mark.usefixtures("quick_compiler")

FRAMES = 14


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def tissues():
    return Tissue(np.array([0.832, 1.331, 2.569]), np.array([0.0792, 0.11, 0.329]))


def case():
    rng = np.random.default_rng(0)
    return Fisp(rng.uniform(0.2, 1.2, FRAMES), rng.uniform(0.02, 0.2, FRAMES), 2e-3, 0.02), tissues()


def recorded(tangents):
    """A signal model that simulates nothing: it returns these tangents."""

    def model(sequence, tissue):
        assert tissue.shape == tangents.signal.shape[:-1]
        assert sequence.n_frames == tangents.signal.shape[-1]
        return tangents

    return model


@pytest.fixture(scope="module")
def model():
    """That of `case`."""
    with jax.enable_x64(True):
        return recorded(simulate_with_tangents(*case()))


def test_objectives_are_reductions_of_weighted_precision(model):
    sequence, tissue = case()
    found = precision_of(model(sequence, tissue), tissue)
    # T1 counts three times as much as T2.
    weights = np.array([[3], [1]]) / 2
    stds = np.stack([np.asarray(found.t1), np.asarray(found.t2)])
    values = {
        kind: CramerRaoObjective(tissue, weights={"t1": 3.0, "t2": 1.0}, reduce=kind)(sequence, model)
        for kind in ("worst", "mean", "rms")
    }
    assert float(values["mean"]) == pytest.approx(np.mean(weights * stds), rel=1e-12)
    assert float(values["rms"]) == pytest.approx(np.sqrt(np.mean(weights * stds**2)), rel=1e-12)
    assert float(values["worst"]) == pytest.approx(np.sum((weights * stds) ** 60) ** (1 / 60), rel=1e-12)
    outcome = CramerRaoObjective(tissue, {"t1": 3.0, "t2": 1.0}).evaluate(sequence, model)
    np.testing.assert_array_equal(outcome.precision.t1, found.t1)
    alone = CramerRaoObjective(tissue, {"t1": 0, "t2": 2.0})(sequence, model)
    assert float(alone) == pytest.approx(np.mean(stds[1]), rel=1e-12)


# Weights a million times smaller than others are 0: their products must not leave the range of float64.
TIMES = st.tuples(st.just(0.0) | st.floats(1e-6, 5), st.floats(0.1, 5))


@pytest.fixture(scope="module")
def worst_by(model):
    """Compiled function: weights of T1 and of T2 -> smooth maximum, maximum and mean."""
    sequence, tissue = case()

    def reductions(weight_t1, weight_t2):
        value, found = CramerRaoObjective(tissue, {"t1": weight_t1, "t2": weight_t2}, reduce="worst").evaluate(
            sequence, model
        )
        weights = jnp.stack([weight_t1, weight_t2])
        weighted = weights[:, None] / jnp.mean(weights, where=weights > 0) * jnp.stack([found.t1, found.t2])
        return value, jnp.max(weighted), jnp.mean(weighted, where=weights[:, None] > 0)

    return quickly(reductions)


@hypothesis.given(TIMES, st.floats(1e-3, 1e3))
def test_the_worst_is_no_better_than_the_mean_and_smooth_within_its_bounds(worst_by, weights, scale):
    value, worst, mean = worst_by(*map(jnp.asarray, weights))
    rounding = 1 + 1e-12
    assert mean <= worst * rounding
    assert worst <= value * rounding
    assert value <= 6 ** (1 / 60) * worst * rounding
    scaled, *_ = worst_by(*(jnp.asarray(scale * weight) for weight in weights))
    assert float(scaled) == pytest.approx(float(value), rel=1e-12)


def objectives(tissue):
    return [
        CramerRaoObjective(tissue),
        CramerRaoObjective(tissue, {"t1": 1.0, "t2": 0.5}, reduce="worst"),
        CramerRaoObjective(tissue, {"t2": 1.0}, reduce="rms"),
    ]


def test_gradients_are_those_of_central_differences():
    sequence, tissue = case()
    simulate = simulator_model()

    @quickly
    @jax.value_and_grad
    def total(sequence, weights):
        once = recorded(simulate(sequence, tissue))
        return sum(
            weight * objective(sequence, once) for weight, objective in zip(weights, objectives(tissue), strict=True)
        )

    rng = np.random.default_rng(4)
    direction = jax.tree.map(lambda leaf: 0.02 * leaf * rng.standard_normal(leaf.shape), sequence)
    h = 1e-4
    moved = [jax.tree.map(lambda leaf, d, s=s: leaf + s * h * d, sequence, direction) for s in (1, 0, -1)]
    for weights in np.eye(3):
        (high, _), (_, gradient), (low, _) = (total(each, weights) for each in moved)
        along = sum(jax.tree.leaves(jax.tree.map(jnp.vdot, gradient, direction)))
        assert float(along) == pytest.approx(float(high - low) / (2 * h), rel=1e-5)  # 1e-8 left out, 1e-11 rounding


def test_an_objective_can_be_an_argument_and_has_starts_side_by_side():
    sequence, tissue = case()
    starts = jax.tree.map(lambda leaf: jnp.stack([leaf, 0.9 * leaf]), sequence)

    def value(objective, sequence):
        return objective(sequence, simulator_model())

    objective, alone = CramerRaoObjective(tissue), quickly(value)
    values = quickly(jax.vmap(value, in_axes=(None, 0)))(objective, starts)
    for n in range(2):
        one = alone(objective, jax.tree.map(lambda leaf, n=n: leaf[n], starts))
        assert float(values[n]) == pytest.approx(float(one), rel=1e-9)  # rounding


def test_a_start_that_determines_nothing_is_refused(model):
    sequence, tissue = case()
    outcome = require_finite(CramerRaoObjective(tissue), sequence, model)
    assert np.isfinite(outcome.value)
    tangents = model(sequence, tissue)
    alike = SignalTangents(tangents.signal, tangents.by | {"t2": tangents.d_t2.at[1].set(tangents.d_t1[1])})
    with pytest.raises(
        ValueError, match=r"of 14 frames does not determine 1 of 3 tissues, the first with T1 = 1.331 s, T2 = 0.11 s"
    ):
        require_finite(CramerRaoObjective(tissue), sequence, recorded(alike))
    for kind in ("worst", "mean", "rms"):
        assert np.isinf(CramerRaoObjective(tissue, reduce=kind)(sequence, recorded(alike)))
    nothing = jax.tree.map(jnp.zeros_like, tangents)
    with pytest.raises(ValueError, match="does not determine 3 of 3 tissues"):
        require_finite(CramerRaoObjective(tissue), sequence, recorded(nothing))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"weights": {"t1": -1.0}}, r"CramerRaoObjective.weights\['t1'\] must be 0 or more, and finite; got -1"),
        ({"weights": {"t2": np.nan}}, r"CramerRaoObjective.weights\['t2'\] must be 0 or more, and finite; got nan"),
        ({"weights": {"t1": 0, "t2": 0}}, "no weight is above 0 among t1, t2"),
        ({"reduce": "best"}, "CramerRaoObjective.reduce must be one of worst, mean, rms; got 'best'"),
    ],
)
def test_bad_objectives_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        CramerRaoObjective(tissues(), **fields)


def test_no_tissue_is_refused():
    with pytest.raises(ValueError, match=r"CramerRaoObjective.tissue holds no voxels"):
        CramerRaoObjective(Tissue(np.zeros(0), np.zeros(0)))


def test_relative_to_a_reference_weights_are_wanted_gains(model):
    sequence, tissue = case()
    reference = CramerRaoObjective(tissue).evaluate(sequence, model).precision
    same = CramerRaoObjective(tissue, reference=reference).evaluate(sequence, model)
    assert float(same.value) == pytest.approx(1, rel=1e-12)  # float64 rounding
    # Other signals in as many frames: T1 twice, T2 three times as well known as their derivatives say.
    tangents = model(sequence, tissue)
    other = recorded(SignalTangents(tangents.signal, {"t1": 2 * tangents.d_t1, "t2": 3 * tangents.d_t2}))
    found = CramerRaoObjective(tissue, {"t1": 1.0, "t2": 3.0}, "mean", reference).evaluate(sequence, other)
    gains = [found.precision.t1 / reference.t1, 3 * found.precision.t2 / reference.t2]
    assert float(found.value) == pytest.approx(np.mean(gains) / 2, rel=1e-12)
    np.testing.assert_allclose(gains, [[1 / 2] * 3, [1] * 3], rtol=1e-9)  # rounding
