"""The game is played by its rules: in turns, the same however it is cut into chunks, and stopped where it diverges."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ganmrf.gan.data import batch, split_and_scale
from ganmrf.gan.losses import adversarial_loss, discriminator_loss
from ganmrf.gan.recipes import recipe
from ganmrf.gan.train import (
    DivergedError,
    _run_steps,
    emit,
    fit,
    init_state,
    make_networks,
    make_train_step,
    relative_errors,
)
from ganmrf.metrics import fingerprint_errors

SMALL = {"width": 16, "depth": 2, "rank": 12, "batch_size": 32, "steps": 20, "optimiser": "adam"}


def leaves_equal(one, other):
    return all((np.asarray(a) == np.asarray(b)).all() for a, b in zip(*map(jax.tree.leaves, (one, other)), strict=True))


def trained(dictionary, chunk=20, seed=0, **changes):
    chosen = recipe(**SMALL | changes)
    data = split_and_scale(dictionary, chosen)
    states, rows = zip(*fit(chosen, data, init_state(chosen, data, seed), seed=seed, chunk=chunk), strict=True)
    return states[-1], rows, data


def test_one_step_is_one_turn_of_each_player(dictionary):
    """Plain gradient descent by hand: the discriminator against the old generator, then the generator against it."""
    rate = 0.1
    chosen = recipe(**SMALL | {"r1_weight": 0.0, "learning_rate": rate, "noise": 2})
    data = split_and_scale(dictionary, chosen)
    state = init_state(chosen, data)
    condition, real, noise = batch(jax.random.key(0), jnp.asarray(0), data.sets["train"], 32, 2)
    _, discriminator = make_networks(chosen, real.shape[1])

    def made(params, z):
        return emit(chosen, params, data.scaling, z, condition)

    def discriminator_turn(params):
        fake = made(state.generator.params, noise[0])
        return discriminator_loss(
            discriminator.apply(params, real, condition), discriminator.apply(params, fake, condition)
        )

    # Adam's first step moves every parameter by the learning rate against the sign of its gradient.
    def signed(params, loss):
        gradient = jax.jit(jax.grad(loss))(params)
        return jax.tree.map(lambda p, g: p - rate * jnp.sign(g), params, gradient), gradient

    opponent, slope = signed(state.discriminator.params, discriminator_turn)

    def generator_turn(params):
        fake = made(params, noise[1])
        distance = jnp.mean(jnp.linalg.norm(fake - real, axis=1))
        return adversarial_loss(discriminator.apply(opponent, fake, condition)) + 7.0 * distance

    generator, other_slope = signed(state.generator.params, generator_turn)
    found, metrics = jax.jit(make_train_step(chosen, data.scaling, 7.0))(state, (condition, real, noise))
    turns = (opponent, found.discriminator.params, slope), (generator, found.generator.params, other_slope)
    for turn in turns:
        for expected, after, gradient in zip(*map(jax.tree.leaves, turn), strict=True):
            sure = np.abs(gradient) > 1e-4 * np.abs(gradient).max()  # of the others rounding may turn the sign
            np.testing.assert_allclose(np.where(sure, after, 0), np.where(sure, expected, 0), atol=1e-2 * rate)
    np.testing.assert_allclose(metrics["discriminator"], discriminator_turn(state.discriminator.params), rtol=1e-5)
    assert int(found.step) == 1


def test_chunks_do_not_change_the_run(dictionary):
    whole, rows, _ = trained(dictionary, chunk=20)
    pieces, more, _ = trained(dictionary, chunk=7)
    assert leaves_equal(whole, pieces)
    assert [row["step"] for row in more] == [7, 14, 20]
    assert rows[-1]["test_error"] == more[-1]["test_error"]


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(dictionary):
    whole, *_ = trained(dictionary, chunk=5)
    chosen = recipe(**SMALL)
    data = split_and_scale(dictionary, chosen)
    states = (state for state, _ in fit(chosen, data, init_state(chosen, data), chunk=5))
    kept = jax.tree.map(np.asarray, [next(states), next(states)][-1])  # as a checkpoint would
    *_, (state, _) = fit(chosen, data, jax.tree.map(jnp.asarray, kept), chunk=5)
    assert leaves_equal(whole, state)


@pytest.mark.parametrize(
    "changes",
    [
        {"noise": 2},
        {"encoding": "log"},
        {"activation": "relu"},
        {"skip": False},
        {"head": "tanh", "refit": False},
        {"rank": 11},
        {"adversarial_weight": 0.5},
        {"r1_weight": 0.1},
        {"reconstruction_weight": 1.0},
        {"reconstruction": "l1"},
        {"reduction": "mean"},
        {"optimiser": "soap"},
        {"discriminator_optimiser": "soap"},
        {"learning_rate": 1e-3},
        {"learning_rate_schedule": "constant"},
        {"batch_size": 31},
        {"averaging": 0.9},
        {"sequence_input": "full"},
        {"width": 15},
        {"depth": 1},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_every_field_of_the_recipe_has_an_effect(dictionary, plain, changes):
    *_, rows, _ = trained(dictionary, **changes)
    assert rows[-1]["validation_error"] != plain


@pytest.fixture(scope="module")
def plain(dictionary):
    *_, rows, _ = trained(dictionary)
    return rows[-1]["validation_error"]


def test_training_learns_and_the_average_lags(dictionary):
    changes = {"steps": 300, "learning_rate_schedule": "constant", "averaging": 0.99, "adversarial_weight": 0.0}
    state, rows, _ = trained(dictionary, chunk=30, **changes)
    errors = [row["test_error"] for row in rows]
    assert errors[-1] < 0.3 * errors[0]
    assert state.discriminator is None
    assert state.params is state.average
    assert optax.tree.norm(jax.tree.map(jnp.subtract, state.average, state.generator.params)) > 0


def test_reported_errors_are_those_of_the_fingerprints(dictionary):
    state, rows, data = trained(dictionary)
    chosen, examples = recipe(**SMALL), data.sets["test"]
    errors = relative_errors(chosen, state.params, data.scaling, examples)
    outputs = np.asarray(emit(chosen, state.params, data.scaling, examples.noise, examples.condition), float)
    generated = outputs / np.linalg.norm(outputs, axis=1, keepdims=True) @ data.scaling.basis.T
    expected = fingerprint_errors(generated, dictionary.fingerprints[data.rows["test"]])
    np.testing.assert_allclose(errors, expected, rtol=1e-4)
    np.testing.assert_allclose(rows[-1]["test_error"], expected.mean(), rtol=1e-4)
    np.testing.assert_allclose(rows[-1]["test_rmse"], np.sqrt(np.mean(expected**2) / 60), rtol=1e-4)


def test_a_run_that_diverges_stops_at_once(dictionary):
    chosen = recipe(**SMALL, learning_rate=1e30)
    data = split_and_scale(dictionary, chosen)
    with pytest.raises(DivergedError, match=r"training diverged before step 5: .* not finite"):
        list(fit(chosen, data, init_state(chosen, data), chunk=5))


def test_one_program_serves_every_lambda(dictionary):
    trained(dictionary, reconstruction_weight=1.0)
    compiled = _run_steps._cache_size()
    trained(dictionary, reconstruction_weight=50.0)
    assert _run_steps._cache_size() == compiled
