"""Objectives are reductions of the precision, with exact gradients; bad ones, and starts without any, are refused."""

import dataclasses
import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from ganmrf.design.bounds import precision_of, scan_time
from ganmrf.design.cramer_rao_objective import CramerRaoObjective, at_each_b1, require_finite
from ganmrf.design.signal_models import simulator_model
from ganmrf.physics.sequences.fisp import Sequence
from ganmrf.physics.simulate import SignalTangents, simulate_with_tangents
from ganmrf.physics.tissue import Tissue

FRAMES = 14
# These programs run for microseconds: the compiler is what takes time.
quickly = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def tissues():
    return Tissue(np.array([0.832, 1.331, 2.569]), np.array([0.0792, 0.11, 0.329]))


def case():
    rng = np.random.default_rng(0)
    return Sequence(rng.uniform(0.2, 1.2, FRAMES), rng.uniform(0.02, 0.2, FRAMES), 2e-3, 0.02), tissues()


def recorded(tangents):
    """A signal model that simulates nothing: it returns these tangents, those by B1 where they are asked for."""

    def model(sequence, tissue, *, with_b1=False):
        assert tissue.shape == tangents.signal.shape[:-1]
        assert sequence.n_frames == tangents.signal.shape[-1]
        return tangents if with_b1 else dataclasses.replace(tangents, d_b1=None)

    return model


@pytest.fixture(scope="module")
def model():
    """That of `case`."""
    with jax.enable_x64(True):
        return recorded(simulate_with_tangents(*case(), with_b1=True))


def test_objectives_are_reductions_of_weighted_precision(model):
    sequence, tissue = case()
    found = precision_of(model(sequence, tissue), tissue)
    # T1 counts three times as much as T2, the first tissue is left out, and the others count 1 to 2.
    weights = np.outer([3, 1], [1, 2]) / np.mean([3, 1, 6, 2])
    stds = np.stack([np.asarray(found.t1), np.asarray(found.t2)])[:, 1:]
    form = {"weight_t1": 3.0, "tissue_weights": np.array([0.0, 1.0, 2.0])}
    values = {
        kind: CramerRaoObjective(tissue, **form, reduce=kind)(sequence, model) for kind in ("worst", "mean", "rms")
    }
    assert float(values["mean"]) == pytest.approx(np.mean(weights * stds), rel=1e-12)
    assert float(values["rms"]) == pytest.approx(np.sqrt(np.mean(weights * stds**2)), rel=1e-12)
    assert float(values["worst"]) == pytest.approx(np.sum((weights * stds) ** 20) ** (1 / 20), rel=1e-12)
    outcome = CramerRaoObjective(tissue, **form, reduce="worst").evaluate(sequence, model)
    assert float(outcome.worst) == pytest.approx(np.max(weights * stds), rel=1e-12)
    assert float(outcome.mean) == float(values["mean"])
    assert float(outcome.scan_time) == float(scan_time(sequence))
    np.testing.assert_array_equal(outcome.precision.t1, found.t1)
    m0 = CramerRaoObjective(tissue, weight_t1=0, weight_t2=0, weight_m0=2.0)(sequence, model)
    assert float(m0) == pytest.approx(np.mean(np.asarray(found.m0)), rel=1e-12)


# Weights a million times smaller than others are 0: their products must not leave the range of float64.
WEIGHTS = st.lists(st.just(0.0) | st.floats(1e-6, 10), min_size=3, max_size=3).filter(lambda found: max(found) > 1e-3)
TIMES = st.tuples(st.just(0.0) | st.floats(1e-6, 5), st.floats(0.1, 5))


@pytest.fixture(scope="module")
def worst_by(model):
    """Sharpness -> compiled function: weights of the tissues, of T1 and of T2 -> outcome."""
    sequence, tissue = case()

    @functools.cache
    def compiled(sharpness):
        def outcome(tissue_weights, weight_t1, weight_t2):
            form = {"weight_t1": weight_t1, "weight_t2": weight_t2, "tissue_weights": tissue_weights}
            return CramerRaoObjective(tissue, **form, reduce="worst", sharpness=sharpness).evaluate(sequence, model)

        return quickly(outcome)

    return compiled


@hypothesis.given(WEIGHTS, TIMES, st.sampled_from([1.0, 2.5, 60.0]), st.floats(1e-3, 1e3))
def test_the_worst_is_no_better_than_the_mean_and_smooth_within_its_bounds(
    worst_by, tissue_weights, of_times, sharpness, scale
):
    outcome = worst_by(sharpness)(np.array(tissue_weights), *of_times)
    rounding = 1 + 1e-12
    assert outcome.mean <= outcome.worst * rounding
    assert outcome.worst <= outcome.value * rounding
    assert outcome.value <= 6 ** (1 / sharpness) * outcome.worst * rounding
    scaled = worst_by(sharpness)(scale * np.array(tissue_weights), *of_times)
    assert float(scaled.value) == pytest.approx(float(outcome.value), rel=1e-12)


def test_time_noise_b1_and_a_basis_have_their_effect(model):
    sequence, tissue = case()
    plain = float(CramerRaoObjective(tissue)(sequence, model))
    per_time = CramerRaoObjective(tissue, per_scan_time=True).evaluate(sequence, model)
    assert float(per_time.value) == pytest.approx(plain * np.sqrt(scan_time(sequence)), rel=1e-12)
    assert float(CramerRaoObjective(tissue, noise=0.01)(sequence, model)) == pytest.approx(0.01 * plain, rel=1e-12)
    assert CramerRaoObjective(tissue, with_b1=True)(sequence, model) > plain
    alone = CramerRaoObjective(tissue, weight_t1=0, weight_t2=0, weight_b1=1, with_b1=True).evaluate(sequence, model)
    assert float(alone.value) == pytest.approx(np.mean(np.asarray(alone.precision.b1)), rel=1e-12)
    basis = np.linalg.qr(np.random.default_rng(1).standard_normal((FRAMES, 8)))[0]
    assert CramerRaoObjective(tissue, basis=basis)(sequence, model) > plain


@pytest.mark.parametrize("rank", [None, 8])
def test_aliases_scatter_estimates_as_drawn_ones_do(model, rank):
    """White noise, and every tissue's signal times its own random factor in each frame, fitted by least squares."""
    sequence, tissue = case()
    tangents = model(sequence, tissue)
    shares, power, noise = np.array([0.5, 0.3, 0.2]), 0.03, 0.01
    rng = np.random.default_rng(2)
    basis = np.eye(FRAMES) if rank is None else np.linalg.qr(rng.standard_normal((FRAMES, rank)))[0]
    factors = np.sqrt(power * shares) * rng.standard_normal((20000, FRAMES, 3))
    errors = noise * rng.standard_normal((20000, FRAMES)) + np.einsum("dnu,un->dn", factors, tangents.signal)
    objective = CramerRaoObjective(
        tissue, tissue_weights=shares, noise=noise, alias_power=power, basis=None if rank is None else basis
    )
    found = objective.evaluate(sequence, recorded(tangents)).precision
    for voxel in range(3):
        rows = np.stack([tangents.d_t1[voxel], tangents.d_t2[voxel], tangents.signal[voxel]]) @ basis
        t1, t2, m0 = np.std(errors @ basis @ np.linalg.pinv(rows), axis=0)
        drawn = t1 / tissue.t1[voxel], t2 / tissue.t2[voxel], m0
        expected = found.t1[voxel], found.t2[voxel], found.m0[voxel]
        np.testing.assert_allclose(drawn, expected, rtol=0.03)  # 20000 draws know a spread to 0.5 %, six times that
    without = dataclasses.replace(objective, alias_power=0.0)(sequence, recorded(tangents))
    assert float(without) == pytest.approx(
        float(dataclasses.replace(objective, alias_power=None)(sequence, recorded(tangents))), rel=1e-9
    )
    assert objective(sequence, recorded(tangents)) > 1.5 * without


def objectives(tissue):
    basis = np.linalg.qr(np.random.default_rng(3).standard_normal((FRAMES, 8)))[0]
    return [
        CramerRaoObjective(tissue),
        CramerRaoObjective(tissue, reduce="worst", weight_m0=0.5, per_scan_time=True),
        CramerRaoObjective(tissue, reduce="rms", with_b1=True, weight_b1=2.0, tissue_weights=np.array([1.0, 0.0, 3.0])),
        CramerRaoObjective(tissue, alias_power=0.01, noise=0.05, basis=basis, with_b1=True),
    ]


def test_gradients_are_those_of_central_differences():
    sequence, tissue = case()
    simulate = simulator_model()

    @quickly
    @jax.value_and_grad
    def total(sequence, weights):
        once = recorded(simulate(sequence, tissue, with_b1=True))
        return sum(
            weight * objective(sequence, once) for weight, objective in zip(weights, objectives(tissue), strict=True)
        )

    rng = np.random.default_rng(4)
    direction = jax.tree.map(lambda leaf: 0.02 * leaf * rng.standard_normal(leaf.shape), sequence)
    h = 1e-4
    moved = [jax.tree.map(lambda leaf, d, s=s: leaf + s * h * d, sequence, direction) for s in (1, 0, -1)]
    for weights in np.eye(4):
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


def test_every_tissue_at_every_b1():
    tissue = Tissue(np.array([1.0, 2.0]), 0.1, np.array([1.0, 0.5]))
    pairs, weights = at_each_b1(tissue, [0.8, 1.0, 1.2], tissue_weights=np.array([1, 3]), b1_weights=[1, 2, 1])
    np.testing.assert_allclose(pairs.b1, [0.8, 1.0, 1.2, 0.4, 0.5, 0.6])
    np.testing.assert_allclose(pairs.t1, [1, 1, 1, 2, 2, 2])
    np.testing.assert_array_equal(weights, [1, 2, 1, 3, 6, 3])
    assert CramerRaoObjective(pairs, tissue_weights=weights).tissue.size == 6
    assert at_each_b1(tissue, 1.1)[0].shape == (2,)
    with pytest.raises(ValueError, match=r"Tissue.b1 must be positive and finite"):
        at_each_b1(tissue, [0.8, -1.0])


def test_a_start_that_determines_nothing_is_refused(model):
    sequence, tissue = case()
    outcome = require_finite(CramerRaoObjective(tissue), sequence, model)
    assert np.isfinite(outcome.value)
    tangents = model(sequence, tissue)
    alike = SignalTangents(tangents.signal, tangents.d_t1, tangents.d_t2.at[1].set(tangents.d_t1[1]))
    with pytest.raises(
        ValueError, match=r"of 14 frames does not determine 1 of 3 tissues, the first with T1 = 1.331 s, T2 = 0.11 s"
    ):
        require_finite(CramerRaoObjective(tissue), sequence, recorded(alike))
    left_out = np.array([1.0, 0.0, 1.0])
    for kind in ("worst", "mean", "rms"):
        objective = CramerRaoObjective(tissue, tissue_weights=left_out, reduce=kind)
        assert np.isfinite(require_finite(objective, sequence, recorded(alike)).value)
        assert np.isinf(CramerRaoObjective(tissue, reduce=kind)(sequence, recorded(alike)))
    nothing = SignalTangents(*[jnp.zeros_like(tangents.signal)] * 3)
    with pytest.raises(ValueError, match="does not determine 3 of 3 tissues"):
        require_finite(CramerRaoObjective(tissue), sequence, recorded(nothing))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"weight_t1": -1.0}, "CramerRaoObjective.weight_t1 must be 0 or more, and finite; got -1"),
        ({"weight_m0": np.nan}, "CramerRaoObjective.weight_m0 must be 0 or more, and finite; got nan"),
        (
            {"tissue_weights": np.array([1, -2, 0])},
            "CramerRaoObjective.tissue_weights must be 0 or more, and finite; got -2 at index",
        ),
        ({"tissue_weights": np.zeros(3)}, "no weight is above 0 among tissue_weights"),
        ({"tissue_weights": np.ones(2)}, r"tissue_weights has shape \(2,\), but tissue has \(3,\)"),
        ({"tissue_weights": np.ones((2, 3))}, r"tissue_weights has shape \(2, 3\), but tissue has \(3,\)"),
        ({"weight_t1": 0, "weight_t2": 0}, "no weight is above 0 among weight_t1, weight_t2, weight_m0, weight_b1"),
        ({"weight_b1": 1.0}, "weight_b1 must be 0 where B1 is known; with_b1=True"),
        ({"reduce": "best"}, "CramerRaoObjective.reduce must be one of worst, mean, rms; got 'best'"),
        ({"sharpness": 0.5}, "CramerRaoObjective.sharpness must be 1 or more, and finite; got 0.5"),
        ({"noise": 0.0}, "CramerRaoObjective.noise must be positive and finite; got 0"),
        ({"alias_power": -0.1}, "CramerRaoObjective.alias_power must be 0 or more, and finite .*; got -0.1"),
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
    other = recorded(dataclasses.replace(tangents, d_t1=2 * tangents.d_t1, d_t2=3 * tangents.d_t2))
    found = CramerRaoObjective(tissue, weight_t1=1.0, weight_t2=3.0, reduce="mean", reference=reference).evaluate(
        sequence, other
    )
    gains = [found.precision.t1 / reference.t1, 3 * found.precision.t2 / reference.t2]
    assert float(found.value) == pytest.approx(np.mean(gains) / 2, rel=1e-12)
    np.testing.assert_allclose(gains, [[1 / 2] * 3, [1] * 3], rtol=1e-9)  # rounding
