"""The networks are the paper's, and a sequence that never changes may be folded into the first layer."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganmrf.gan.data import batch, split_and_scale
from ganmrf.gan.emission import make_networks
from ganmrf.gan.networks import fold_constant, with_unit_norms
from ganmrf.gan.recipes import recipe
from ganmrf.gan.train import init_state, make_train_step
from tests.quick import quickly

pytestmark = pytest.mark.usefixtures("quick_compiler")


def shapes(params):
    return {
        jax.tree_util.keystr(key, simple=True, separator="/").removeprefix("params/"): leaf.shape
        for key, leaf in jax.tree.leaves_with_path(params)
    }


def test_the_papers_networks_layer_by_layer(dictionary):
    paper = recipe("paper", sequence_input="full")
    data = split_and_scale(dictionary, paper)
    state = jax.eval_shape(lambda: init_state(paper, data))
    inputs = 2 + 2 * 60  # T1, T2, and flip angle and repetition time of each of 60 frames
    hidden = {"kernel": (128, 128), "bias": (128,)}

    def layers(first, outputs):
        expected = {"hidden_0": {"kernel": (first, 128), "bias": (128,)}, "hidden_1": hidden, "hidden_2": hidden}
        expected = {f"body/{name}/{part}": shape for name, layer in expected.items() for part, shape in layer.items()}
        return expected | {"output/kernel": (128, outputs), "output/bias": (outputs,)}

    assert shapes(state.generator.params) == layers(1 + inputs, 60)  # z before them
    assert shapes(state.discriminator.params) == layers(60 + inputs, 1)


def test_bounded_outputs_and_skips():
    key, noise, condition = jax.random.key(0), np.ones((5, 3), np.float32), np.full((5, 2), 100, np.float32)
    generator, _ = make_networks(recipe("paper", noise=3, width=8), 7)
    params = quickly(generator.init)(key, noise, condition)
    outputs = quickly(generator.apply)(params, noise, condition)
    assert outputs.shape == (5, 7)
    assert np.abs(outputs).max() <= 1
    generator, _ = make_networks(recipe(width=8, depth=4, noise=3), 7)
    params = quickly(generator.init)(key, noise, condition)
    assert params["params"]["output"]["kernel"].shape == (32, 7)
    hidden = quickly(functools.partial(generator.apply, method="hidden"))(params, noise, condition)
    output = jax.tree.map(np.asarray, params["params"]["output"])
    expected = np.asarray(hidden) @ output["kernel"] + output["bias"]
    np.testing.assert_allclose(quickly(generator.apply)(params, noise, condition), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("initialiser", "variances", "bias"),  # of kernels of 3 to 400, 800 to 300 and 400 to 1 units, and of the biases
    [
        ("lecun_normal", (1 / 3, 1 / 800, 1 / 400), 0),
        ("glorot_uniform", (2 / 403, 2 / 1100, 2 / 401), 0),
        ("uniform", (1 / 9, 1 / 2400, 1 / 1200), 1 / 3),  # within 1 / sqrt(fan_in)
    ],
)
def test_initial_weights(initialiser, variances, bias):
    generator, discriminator = make_networks(recipe(width=400, depth=2, noise=1, initialiser=initialiser), 300)
    inputs = jnp.ones((1, 1)), jnp.ones((1, 2))
    start = quickly(lambda key: [each.init(key, *inputs) for each in (generator, discriminator)])
    of_generator, of_discriminator = start(jax.random.key(0))
    first, last = of_generator["params"]["body"]["hidden_0"], of_generator["params"]["output"]
    kernels = first["kernel"], last["kernel"], of_discriminator["params"]["output"]["kernel"]
    for kernel, variance in zip(kernels, variances, strict=True):
        # Of n draws from a normal distribution, the widest here, the variance is known to 4 sqrt(2 / n).
        np.testing.assert_allclose(kernel.var(), variance, rtol=4 * (2 / kernel.size) ** 0.5)
    assert first["bias"].max() <= bias**0.5
    assert first["bias"].max() >= 0.9 * bias**0.5
    np.testing.assert_allclose(first["bias"].var(), bias / 3, rtol=0.3)


def test_folding_the_sequence_changes_nothing(dictionary):
    """Both forms start as the same function and stay so, up to Adam's epsilon, over 30 steps of both networks."""
    runs = []
    for form in ("full", "folded"):
        chosen = recipe("paper", sequence_input=form, learning_rate=1e-3, batch_size=8, width=8, depth=1)
        data = split_and_scale(dictionary, chosen)
        start = quickly(lambda chosen=chosen, data=data: init_state(chosen, data))()
        with jax.enable_x64(True):
            wide = jax.tree.map(lambda x: np.asarray(x, float) if x.dtype == jnp.float32 else x, start)
            train = jax.tree.map(lambda x: jnp.asarray(np.asarray(x, float)), data.sets["train"])
            end = many_steps(chosen, data, wide, train, 30)
            runs.append((wide, end, jnp.asarray(data.scaling.constant, float)))
    (_, full, constant), (start, folded, _) = runs
    with jax.enable_x64(True):
        for network in ("generator", "discriminator"):
            refolded, found, begun = (
                fold_constant(getattr(full, network).params, constant),
                getattr(folded, network).params,
                getattr(start, network).params,
            )
            for a, b, c in zip(*map(jax.tree.leaves, (refolded, found, begun)), strict=True):
                # A gradient of 1e-5, a small one here, is a thousand times Adam's epsilon.
                np.testing.assert_allclose(a, b, atol=1e-3 * np.abs(np.asarray(b) - np.asarray(c)).max())


def many_steps(chosen, data, state, train, n_steps):
    step = make_train_step(chosen, data.scaling, 100.0)

    def body(state, n):
        return step(state, batch(jax.random.key(1), n, train, chosen.batch_size, chosen.noise))[0], None

    return quickly(lambda state: jax.lax.scan(body, state, jnp.arange(n_steps))[0])(state)


def test_kernels_over_their_largest_singular_value():
    rng = np.random.default_rng(0)
    known = np.linalg.qr(rng.standard_normal((7, 3)))[0] * np.array([5.0, 1.0, 0.5])
    params = {"known": known, "random": rng.standard_normal((128, 128)), "column": rng.standard_normal((128, 1))}
    params = jax.tree.map(np.float32, params | {"bias": np.ones(128)})
    unit = quickly(with_unit_norms)(params)
    np.testing.assert_array_equal(unit["bias"], params["bias"])
    np.testing.assert_allclose(unit["known"], known / 5, atol=1e-6)
    np.testing.assert_allclose(unit["column"], params["column"] / np.linalg.norm(params["column"]), rtol=1e-5)
    # The power iteration ends before singular values that are near each other are told apart.
    assert 1 <= np.linalg.norm(unit["random"], 2) < 1.03
    scaled = quickly(with_unit_norms)(jax.tree.map(lambda leaf: 3 * leaf, params))
    np.testing.assert_allclose(scaled["random"], unit["random"], rtol=1e-5, atol=1e-7)


def test_the_gradient_through_a_unit_norm_is_that_of_the_largest_singular_value():
    kernel = np.random.default_rng(1).standard_normal((6, 2)) * np.array([3.0, 0.3])

    def size(kernel):
        return jnp.sum(jnp.sin(with_unit_norms({"kernel": kernel})["kernel"]))

    with jax.enable_x64(True):
        exact = jax.grad(lambda k: jnp.sum(jnp.sin(k / jnp.linalg.norm(k, 2))))(jnp.asarray(kernel))
        np.testing.assert_allclose(jax.grad(size)(jnp.asarray(kernel)), exact, rtol=1e-6, atol=1e-9)
