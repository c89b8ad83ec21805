"""The game is played by its rules: in turns, the same however it is cut into chunks, and stopped where it diverges."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganmrf.gan.data import batch, shares, split_and_scale
from ganmrf.gan.emission import emit, generator_errors, make_networks
from ganmrf.gan.losses import adversarial_loss, discriminator_loss
from ganmrf.gan.recipes import changes_of, recipe
from ganmrf.gan.train import DivergedError, adversarial_share, fit, init_state, make_train_step
from ganmrf.metrics import fingerprint_errors
from tests.quick import quickly

pytestmark = pytest.mark.usefixtures("quick_compiler")

SMALL = {"width": 8, "depth": 1, "rank": 6, "batch_size": 16, "steps": 5, "optimiser": "adam", "learning_rate": 1e-2}
SMALL["adversarial_weight"] = 1.0
CHUNK = 3  # chunks of 3 and 2 steps


def leaves_equal(one, other):
    return all((np.asarray(a) == np.asarray(b)).all() for a, b in zip(*map(jax.tree.leaves, (one, other)), strict=True))


def begun(dictionary, **changes):
    """A recipe, three sets of equal size, for all of which one program then serves, and fresh networks."""
    chosen = recipe(**SMALL | changes)
    data = split_and_scale(dictionary, chosen, split=(1 / 3, 1 / 3, 1 / 3))
    return chosen, data, init_state(chosen, data)


def trained(dictionary, chunk=CHUNK, **changes):
    chosen, data, state = begun(dictionary, **changes)
    states, rows = zip(*fit(chosen, data, state, chunk=chunk), strict=True)
    return states[-1], rows, data


def test_one_step_is_one_turn_of_each_network(dictionary):
    """Plain gradient descent by hand: the discriminator against the old generator, then the generator against it."""
    rate = 0.1
    chosen, data, state = begun(dictionary, r1_weight=0.0, learning_rate=rate, noise=2)
    condition, real, noise = batch(jax.random.key(0), jnp.asarray(0), data.sets["train"], 32, 2)
    _, discriminator = make_networks(chosen, real.shape[1])

    def made(params, z):
        return emit(chosen, params, data.scaling, z, condition)

    def loss_of_discriminator(params):
        fake = made(state.generator.params, noise[0])
        return discriminator_loss(
            discriminator.apply(params, real, condition), discriminator.apply(params, fake, condition)
        )

    # Adam's first step moves every parameter by the learning rate against the sign of its gradient.
    def signed(params, loss):
        gradient = quickly(jax.grad(loss))(params)
        return jax.tree.map(lambda p, g: np.asarray(p) - rate * np.sign(g), params, gradient), gradient

    discriminates, slope = signed(state.discriminator.params, loss_of_discriminator)

    def loss_of_generator(params):
        fake = made(params, noise[1])
        distance = jnp.mean(jnp.linalg.norm(fake - real, axis=1))
        return adversarial_loss(discriminator.apply(discriminates, fake, condition)) + 7.0 * distance

    generator, other_slope = signed(state.generator.params, loss_of_generator)
    step = quickly(make_train_step(chosen, data.scaling, 7.0))
    found, metrics = step(state, (condition, real, noise))
    turns = (discriminates, found.discriminator.params, slope), (generator, found.generator.params, other_slope)
    for turn in turns:
        for expected, after, gradient in zip(*map(jax.tree.leaves, turn), strict=True):
            sure = np.abs(gradient) > 1e-4 * np.abs(gradient).max()  # of the others rounding may turn the sign
            np.testing.assert_allclose(np.where(sure, after, 0), np.where(sure, expected, 0), atol=1e-2 * rate)
    np.testing.assert_allclose(
        metrics["discriminator_loss"], loss_of_discriminator(state.discriminator.params), rtol=1e-5
    )
    assert int(found.step) == 1


@pytest.mark.parametrize("whiten", [False, True])
def test_the_adversarys_share_is_a_ratio_of_pulls_at_the_generated_fingerprints(dictionary, whiten):
    chosen, data, state = begun(dictionary, noise=2, whiten=whiten)
    condition, real, noise = examples = batch(jax.random.key(0), jnp.asarray(0), data.sets["train"], 32, 2)

    @quickly
    def shares(state):
        doubled, judge = dataclasses.replace(chosen, adversarial_weight=2.0), state.discriminator
        constant = dataclasses.replace(judge, params=jax.tree.map(jnp.zeros_like, judge.params))
        without = dataclasses.replace(state, discriminator=constant)
        cases = (chosen, state, 100.0), (doubled, state, 100.0), (chosen, state, 200.0), (chosen, without, 100.0)
        return [adversarial_share(*case[:2], data.scaling, examples, case[2]) for case in cases]

    @quickly
    def pull(params):
        fake = emit(chosen, params, data.scaling, noise[1], condition)
        scale = data.scaling.output_scale[None] if whiten else 1.0
        _, discriminator = make_networks(chosen, real.shape[1])
        deceived = jax.grad(
            lambda x: adversarial_loss(discriminator.apply(state.discriminator.params, x / scale, condition))
        )
        return jnp.sqrt(jnp.sum(deceived(fake) ** 2))

    share, doubled, halved, constant = shares(state)
    # A distance has a slope of 1; the mean over a batch of n has one of 1 / n for each of them, 1 / sqrt(n) for all.
    np.testing.assert_allclose(share, pull(state.params) / (100 / 32**0.5), rtol=1e-4)
    np.testing.assert_allclose((doubled, halved), (2 * share, share / 2), rtol=1e-5)
    assert constant == 0


@pytest.mark.parametrize(
    ("changes", "judged"),
    [
        ({}, {"discriminator_accuracy", "adversarial_share"}),
        ({"reconstruction_weight": 0.0}, {"discriminator_accuracy"}),  # nothing to compare with
    ],
)
def test_records_say_whether_the_discriminator_plays(dictionary, changes, judged):
    _, rows, _ = trained(dictionary, **changes)
    for row in rows:
        assert judged == {name for name in row if name in ("discriminator_accuracy", "adversarial_share")}
        assert 0 <= row.get("discriminator_accuracy", 0) <= 1
        assert row.get("adversarial_share", 1) > 0


@pytest.mark.parametrize("preset", ["hinge", "wasserstein"])
def test_other_losses_play_by_the_same_rules(dictionary, preset):
    """In chunks as in one go, recorded, and better with time."""
    changes = {**SMALL, **changes_of(preset), "learning_rate_schedule": "constant", "steps": 300}
    pieces, rows, _ = trained(dictionary, chunk=150, **changes)
    whole, *_ = trained(dictionary, chunk=300, **changes)
    assert leaves_equal(whole, pieces)
    judged = {"discriminator_loss", "generator_loss", "discriminator_accuracy", "adversarial_share"}
    judged |= {"slope_loss"} if preset == "wasserstein" else set()
    assert all(judged <= row.keys() and 0 <= row["discriminator_accuracy"] <= 1 for row in rows)
    assert rows[-1]["test_error"] < rows[0]["test_error"]


def test_chunks_do_not_change_the_run(dictionary):
    pieces, rows, _ = trained(dictionary)
    whole, more, _ = trained(dictionary, chunk=5)
    assert leaves_equal(whole, pieces)
    assert [row["step"] for row in rows] == [3, 5]
    assert rows[-1]["test_error"] == more[-1]["test_error"]


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(dictionary):
    whole, *_ = trained(dictionary)
    chosen, data, state = begun(dictionary)
    kept = jax.tree.map(np.asarray, next(fit(chosen, data, state, chunk=CHUNK))[0])  # as a checkpoint would
    [(state, _)] = fit(chosen, data, jax.tree.map(jnp.asarray, kept), chunk=CHUNK)
    assert leaves_equal(whole, state)


@pytest.mark.parametrize(
    "changes",
    [
        {"noise": 2},
        {"encoding": "log"},
        {"activation": "relu"},
        {"skip": False, "depth": 2},
        {"residual": True, "depth": 2},
        {"head": "tanh", "refit": False},
        {"rank": 5},
        {"whiten": True},
        {"adversarial_weight": 0.5},
        {"r1_weight": 0.1},
        {"adversarial_loss": "hinge"},
        {"adversarial_loss": "wasserstein"},
        {"spectral_norm": True},
        {"slope_weight": 10.0},
        {"reconstruction": "l1"},
        {"reduction": "mean"},
        {"optimiser": "soap"},
        {"discriminator_optimiser": "soap"},
        {"learning_rate": 1e-3},
        {"learning_rate_schedule": "constant"},
        {"sequence_input": "full"},
        {"input_range": "unit"},
        {"initialiser": "glorot_uniform"},
        {"fingerprint_scaling": "each", "head": "tanh", "refit": False},
        {"width": 7},
        {"depth": 2},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_every_field_of_the_recipe_has_an_effect(dictionary, two_steps, changes):
    others = dict(list(changes.items())[1:])
    one, other = two_steps(dictionary, **others), two_steps(dictionary, **changes)
    assert one.shape != other.shape or np.abs(one - other).max() > 1e-6


@pytest.fixture(scope="module")
def two_steps():
    """A function from changes of the recipe to the generated fingerprints of two atoms after two updates."""
    made = {}

    def generated(dictionary, **changes):
        if (name := repr(changes)) not in made:
            chosen = recipe(**SMALL | changes)
            data = split_and_scale(dictionary, chosen, split=(1, 0, 0))

            @quickly
            def run(atoms):
                step = make_train_step(chosen, data.scaling, 1.0)
                examples = batch(jax.random.key(0), 0, atoms, 16, chosen.noise), shares(jax.random.key(0), 0, 16)
                state = jax.lax.scan(lambda state, _: step(state, *examples), init_state(chosen, data), length=2)[0]
                return emit(chosen, state.params, data.scaling, atoms.noise[:2], atoms.condition[:2])

            basis = np.eye(60) if data.scaling.basis is None else data.scaling.basis
            made[name] = np.asarray(run(data.sets["train"]), float) @ basis.T
        return made[name]

    return generated


def test_lambda_and_batch_size_have_an_effect_and_one_program_serves_every_lambda(dictionary, caplog):
    plain, smaller = (trained(dictionary, chunk=5, **changes)[0] for changes in ({}, {"batch_size": 15}))
    with jax.log_compiles():
        other, *_ = trained(dictionary, chunk=5, reconstruction_weight=1.0)
    assert not [record for record in caplog.records if "ompiling" in record.getMessage()]
    assert not leaves_equal(plain.params, other.params)
    assert not leaves_equal(plain.params, smaller.params)


def test_training_learns_by_regression_alone(dictionary):
    changes = {"steps": 300, "learning_rate_schedule": "constant", "adversarial_weight": 0.0}
    state, rows, _ = trained(dictionary, chunk=30, **changes)
    errors = [row["test_error"] for row in rows]
    assert errors[-1] < 0.3 * errors[0]
    assert state.discriminator is None
    assert not {"discriminator_accuracy", "adversarial_share"} & rows[-1].keys()


def test_reported_errors_are_those_of_the_fingerprints(dictionary):
    state, rows, data = trained(dictionary)
    chosen, examples = recipe(**SMALL), data.sets["test"]
    errors = generator_errors(chosen, state.params, data.scaling, examples)
    outputs = np.asarray(emit(chosen, state.params, data.scaling, examples.noise, examples.condition), float)
    generated = outputs / np.linalg.norm(outputs, axis=1, keepdims=True) @ data.scaling.basis.T
    expected = fingerprint_errors(generated, dictionary.fingerprints[data.rows["test"]])
    np.testing.assert_allclose(errors, expected, rtol=1e-4)
    np.testing.assert_allclose(rows[-1]["test_error"], expected.mean(), rtol=1e-4)
    np.testing.assert_allclose(rows[-1]["test_rmse"], np.sqrt(np.mean(expected**2) / 60), rtol=1e-4)


def test_a_run_that_diverges_stops_at_once(dictionary):
    chosen, data, state = begun(dictionary, learning_rate=1e18)
    with pytest.raises(DivergedError, match=r"training diverged before step 3: .* not finite"):
        list(fit(chosen, data, state, chunk=CHUNK))
