"""The search finds minima known in closed form, and goes on after a cut as if there had been none."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize

from ganmrf.design.optimise import OPTIMISERS, init_state, make_optimiser, make_step, optimise
from ganmrf.dictionary.cramer_rao import cramer_rao

pytestmark = pytest.mark.usefixtures("quick_compiler")

STEPS = 300
NEVER = -1.0  # a tolerance that no chunk falls short of
rng = np.random.default_rng(0)
BASIS = np.linalg.qr(rng.normal(size=(6, 6)))[0]
MATRIX = BASIS @ np.diag(np.geomspace(1, 30, 6)) @ BASIS.T
MINIMUM = rng.normal(size=6)
STARTS = {"angles": rng.normal(size=(3, 6))}
by_optimiser = pytest.mark.parametrize("name", OPTIMISERS)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def quadratic(params):
    """1 at `MINIMUM` and more elsewhere; curvatures from 1 to 30."""
    off = params["angles"] - MINIMUM
    return 1 + 0.5 * off @ MATRIX @ off


def bound(params):
    """Standard deviation of T2 = 1 from a sample at time 0 and one at a time to be chosen, M0 unknown too."""
    time = jnp.stack([jnp.zeros_like(params), jnp.exp(params)])
    signal = jnp.exp(-time)
    (std,), _ = cramer_rao(signal, [time * signal], 1.0, 1.0)
    return std


def starts():
    """A copy: a search takes the memory of its state."""
    return jax.tree.map(jnp.asarray, STARTS)


def search(objective, name, start, steps=STEPS, rate=0.3, **options):
    """The state and all values after the last update; without a tolerance it takes all of them."""
    optimiser = make_optimiser(name, rate, steps)
    options = {"tolerance": NEVER} | options
    # Of the states the last alone is still there.
    *_, last = found = list(optimise(objective, optimiser, init_state(objective, optimiser, start), steps, **options))
    return jax.device_get(last[0]), np.concatenate([row["values"] for _, row in found])


@functools.cache
def searched(name):
    """The search of an optimiser on the quadratic; compiled once."""
    return search(quadratic, name, starts(), chunk=100)


def assert_same_bits(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


@by_optimiser
def test_the_minimum_of_a_quadratic_is_found(name):
    state, values = searched(name)
    assert (state.best_value < values[0]).all()
    # What is left of a swing of Adam where its rate has fallen to 0.
    np.testing.assert_allclose(state.best_value, 1, rtol=1e-5)
    off = state.best_params["angles"] - MINIMUM
    assert (np.sum(off**2, axis=1) < 2 * 1e-5).all()  # the least curvature is 1


def test_the_best_time_to_sample_a_decay_is_found():
    # The variance of T2 goes with (exp(2 t) + 1) / t^2, whose derivative is 0 where t = 1 + exp(-2 t).
    best = scipy.optimize.brentq(lambda t: t - 1 - np.exp(-2 * t), 1, 2)
    expected = np.sqrt(np.exp(2 * best) + 1) / best
    start = np.log([0.2, 0.7, 3.0])
    updates = {}
    for name in OPTIMISERS:
        state, values = search(bound, name, jnp.asarray(start), steps=100, chunk=100)
        assert (values[0] > 1.05 * expected).all()
        np.testing.assert_allclose(state.best_value, expected, rtol=1e-6)
        # Flat at the minimum: 1e-6 of the bound is the root of that in the time.
        np.testing.assert_allclose(np.exp(state.best_params), best, rtol=2e-3)
        updates[name] = np.argmax(values < expected * (1 + 1e-6), axis=0)
    assert (updates["lbfgs"] < updates["adam"]).all()


def test_lbfgs_needs_fewer_updates_where_curvatures_differ():
    updates = {name: np.argmax(searched(name)[1] < 1 + 1e-5, axis=0) for name in OPTIMISERS}
    assert (updates["lbfgs"] > 0).all()
    assert (updates["lbfgs"] < updates["adam"]).all()


@by_optimiser
def test_a_start_among_many_is_as_alone(name):
    together, values = searched(name)
    alone, own = search(quadratic, name, jax.tree.map(lambda leaf: leaf[1:2], starts()), chunk=100)
    # Sums in another order: rounding of float64, which line searches carry on from update to update.
    np.testing.assert_allclose(own[:20, 0], values[:20, 1], rtol=1e-9)
    np.testing.assert_allclose(alone.best_value[0], together.best_value[1], rtol=1e-9)


@pytest.mark.parametrize(("name", "rate"), [("adam", 0.3), ("adam", 3.0), ("lbfgs", 0.3)])
def test_the_best_is_the_lowest_that_was_seen(name, rate):
    """At the large rate Adam leaps past the minimum, and worse follows better."""
    state, values = search(quadratic, name, starts(), 30, rate, chunk=30) if rate == 3.0 else searched(name)
    np.testing.assert_array_equal(state.best_value, values.min(axis=0))
    # The same function compiled by itself: rounding of what is 1 and more.
    np.testing.assert_allclose(jax.vmap(quadratic)(state.best_params), values.min(axis=0), rtol=1e-12)
    if rate == 3.0:
        assert (np.diff(values, axis=0) > 0).any(axis=0).all()
        assert (values[-1] > values.min(axis=0)).any()


@pytest.mark.parametrize(
    ("name", "whole_chunk", "cuts"), [("adam", 24, [(1, 1), (8, 16), (23, 23)]), ("lbfgs", 8, [(8, 8)])]
)
def test_it_goes_on_after_a_cut_to_the_bit(name, whole_chunk, cuts):
    steps = 24
    optimiser = make_optimiser(name, 0.3, steps)

    def run(state, until, chunk):
        rows = []
        for found, row in optimise(quadratic, optimiser, state, steps, chunk=chunk, tolerance=NEVER):
            state = found
            rows.append(row["values"])
            if row["step"] >= until:
                break
        return jax.device_get(state), rows  # as a checkpoint has it, whose memory nobody takes

    whole, values = run(init_state(quadratic, optimiser, starts()), steps, whole_chunk)
    for chunk, cut in cuts:
        kept, before = run(init_state(quadratic, optimiser, starts()), cut, chunk)
        assert int(kept.step) == cut
        ended, after = run(jax.tree.map(jnp.asarray, kept), steps, whole_chunk)
        assert_same_bits(ended, whole)
        assert_same_bits(np.concatenate(before + after), np.concatenate(values))


def test_the_same_again_is_the_same_to_the_bit():
    assert_same_bits(search(quadratic, "adam", starts(), chunk=100), searched("adam"))


def test_it_ends_when_no_start_gets_lower():
    optimiser = make_optimiser("adam", 0.3, 1000)
    near = {"angles": MINIMUM[None]}
    mixed = jax.tree.map(lambda a, b: jnp.concatenate([jnp.asarray(a), b[:1]]), near, starts())

    def rows(start):
        state = init_state(quadratic, optimiser, start)
        return [row for _, row in optimise(quadratic, optimiser, state, 1000, chunk=20)]

    (only,) = rows(jax.tree.map(jnp.asarray, near))
    assert only["converged"]
    assert only["step"] == 20
    many = rows(mixed)  # the one at its minimum does not end it for the other
    assert not many[0]["converged"]
    assert [row["converged"] for row in many[-2:]] == [False, True]
    assert many[-1]["step"] < 1000
    np.testing.assert_allclose(many[-1]["best"], 1, rtol=1e-4)  # the tolerance


def test_tolerance_decides_how_long():
    _, short = search(quadratic, "adam", starts(), tolerance=0.5, chunk=20)
    _, longer = search(quadratic, "adam", starts(), tolerance=1e-4, chunk=20)
    assert len(short) < len(longer) < STEPS


def test_adams_rate_falls_to_0():
    optimiser = make_optimiser("adam", 0.2, 10)
    params = jnp.zeros(1)
    state, moves = optimiser.init(params), []
    for _ in range(11):
        updates, state = optimiser.update(jnp.ones(1), state, params)
        moves.append(-float(updates[0]))
    # A gradient that never changes moves by the rate itself.
    np.testing.assert_allclose(moves, 0.1 * (1 + np.cos(np.pi * np.arange(11) / 10)), atol=1e-7)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_start_that_is_not_finite_is_refused(value):
    optimiser = make_optimiser("adam", 0.1, 10)
    with pytest.raises(ValueError, match=f"the objective is {value:g} at start 1: no derivative leads on from it"):
        init_state(lambda x: jnp.where(x > 3, value, x**2), optimiser, jnp.array([1.0, 5.0, 2.0]))


@by_optimiser
def test_nan_on_the_way_is_never_best(name):
    """One start falls off a cliff before its minimum; the other finds its own all the same."""

    def cliff(x):
        return 2 + jnp.where(x < -6, (x + 10) ** 2, jnp.where(x > 1, jnp.nan, (x - 2) ** 2))

    state, values = search(cliff, name, jnp.array([-3.0, -12.0]), 60, 0.5, chunk=60)
    assert name == "lbfgs" or np.isnan(values[-1, 0])  # a line search may stop short of the cliff
    assert float(state.best_params[0]) <= 1
    assert 3 <= float(state.best_value[0]) < 27
    np.testing.assert_allclose(state.best_params[1], -10, atol=1e-2)


def test_a_first_chunk_of_one_update_has_not_converged():
    """Its one value is that of the start."""
    optimiser = make_optimiser("adam", 0.3, 3)
    rows = [row for _, row in optimise(quadratic, optimiser, init_state(quadratic, optimiser, starts()), 3, chunk=1)]
    assert [(row["step"], row["converged"]) for row in rows] == [(1, False), (2, False), (3, False)]


def test_a_step_is_pure_and_counts():
    optimiser = make_optimiser("adam", 0.1, 10)
    state = init_state(quadratic, optimiser, starts())
    step = jax.jit(make_step(quadratic, optimiser))
    (once, values), (again, _) = step(state), step(state)
    assert_same_bits(once, again)
    assert (int(state.step), int(once.step)) == (0, 1)
    np.testing.assert_allclose(values, jax.vmap(quadratic)(starts()), rtol=1e-12)  # before the update
    # Adam's first update is its rate, whatever the gradient.
    moved = optax.tree.sub(state.params, once.params)
    np.testing.assert_allclose(np.abs(moved["angles"]), 0.1, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sgd", 0.1, 10), "optimiser must be one of adam, lbfgs; got 'sgd'"),
        (("adam", 0.0, 10), "learning_rate and steps must be positive; got 0 and 10"),
        (("adam", np.nan, 10), "learning_rate and steps must be positive; got nan and 10"),
        (("lbfgs", 0.1, 0), "learning_rate and steps must be positive; got 0.1 and 0"),
    ],
)
def test_bad_optimisers_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_optimiser(*arguments)
