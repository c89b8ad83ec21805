"""The game: two players, one update function, and the loop that is compiled whole.

Reference: Yang et al. 2020, arXiv:2004.02270, Eqs. 5 to 7.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ganmrf.gan.data import Data, Examples, Scaling, batch
from ganmrf.gan.losses import adversarial_loss, discriminator_loss, energy_score, r1_penalty, reconstruction_loss
from ganmrf.gan.mixture import draw_mixture, log_density, n_parameters
from ganmrf.gan.networks import Discriminator, Generator, Perceptron, fold_constant, fold_rates
from ganmrf.gan.recipes import Recipe
from ganmrf.gan.soap import soap
from ganmrf.pytrees import pytree


@pytree
@dataclasses.dataclass(frozen=True)
class Player:
    """A network's parameters, and the state of their optimiser."""

    params: Any
    optimiser: Any


@pytree
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Everything that a step changes.

    Attributes:
      step: number of updates so far, int32.
      generator: the generator.
      discriminator: the discriminator; None for regression alone.
      average: exponential average of the generator's parameters; None without averaging.
    """

    step: jax.Array
    generator: Player
    discriminator: Player | None
    average: Any

    @property
    def params(self):
        """The generator's parameters that are to be used."""
        return self.generator.params if self.average is None else self.average


class DivergedError(ValueError):
    """A loss or parameter that is not finite any more."""


def make_networks(recipe: Recipe, n_outputs: int) -> tuple[Generator, Discriminator]:
    """Both networks of a recipe."""
    body = functools.partial(Perceptron, recipe.width, recipe.depth, recipe.activation, recipe.residual)
    generator = Generator(body(), n_outputs, bounded=recipe.head == "tanh", skip=recipe.skip)
    return generator, Discriminator(body())


def init_state(recipe: Recipe, data: Data, seed: int = 0) -> TrainState:
    """Fresh players; the same seed gives the same ones, folded or not."""
    examples, constant = next(iter(data.sets.values())), jnp.asarray(data.scaling.constant)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), 2**31))
    condition = jnp.concatenate([examples.condition[:1], constant[None]], axis=1)
    n_coefficients = examples.target.shape[1]
    n_outputs = n_parameters(n_coefficients) if recipe.reconstruction == "likelihood" else n_coefficients
    generator, discriminator = make_networks(recipe, n_outputs)
    params = [generator.init(keys[0], _input_noise(recipe, examples.noise[:1]), condition)]
    if recipe.adversarial_weight:
        params.append(discriminator.init(keys[1], examples.target[:1], condition))
    if recipe.sequence_input == "folded":
        params = [fold_constant(each, constant) for each in params]
    optimisers = make_optimisers(recipe, constant)
    players = [Player(each, optimiser.init(each)) for each, optimiser in zip(params, optimisers, strict=False)]
    average = jax.tree.map(jnp.copy, params[0]) if recipe.averaging else None
    return TrainState(jnp.zeros((), jnp.int32), players[0], players[1] if recipe.adversarial_weight else None, average)


def make_optimisers(recipe: Recipe, constant: jax.Array) -> list[optax.GradientTransformation]:
    """Generator's and discriminator's optimiser; a folded sequence gives its layer's bias a rate of its own."""
    rate = recipe.learning_rate
    if recipe.learning_rate_schedule == "cosine":
        rate = optax.cosine_decay_schedule(rate, recipe.steps)
    kinds = {"adam": optax.adam, "soap": soap}
    optimisers = [kinds[name](rate) for name in (recipe.optimiser, recipe.discriminator_optimiser)]
    if recipe.sequence_input != "folded":
        return optimisers
    scale = optax.stateless(lambda updates, _: jax.tree.map(jnp.multiply, updates, fold_rates(updates, constant)))
    return [optax.chain(optimiser, scale) for optimiser in optimisers]


def emit(recipe: Recipe, params, scaling: Scaling, noise: jax.Array, condition: jax.Array) -> jax.Array:
    """What the generator gives for noise (atoms, noise) and condition (atoms, features), as the players see it."""
    outputs = _apply(recipe, params, scaling, noise, condition)
    if recipe.reconstruction == "likelihood":
        outputs = draw_mixture(outputs, noise)
    return outputs * jnp.broadcast_to(scaling.gain, outputs.shape[-1:])[None]


def hidden_layers(recipe: Recipe, params, scaling: Scaling, noise: jax.Array, condition: jax.Array) -> jax.Array:
    """The generator's hidden layers side by side, the last one last, (atoms, depth * width)."""
    return _apply(recipe, params, scaling, noise, condition, method="hidden")


def _apply(recipe, params, scaling, noise, condition, method="__call__"):
    generator, _ = make_networks(recipe, params["params"]["output"]["bias"].size)
    inputs = _input_noise(recipe, noise), with_sequence(recipe, scaling, condition)
    return generator.apply(params, *inputs, method=method)


def _input_noise(recipe, noise):
    """The part of z that the network sees: none where it emits a density, from which z draws."""
    return noise[:, :0] if recipe.reconstruction == "likelihood" else noise


def make_train_step(recipe: Recipe, scaling: Scaling, reconstruction_weight):
    """The alternating update of both players.

    Args:
      recipe: its ``reconstruction_weight`` is not read.
      scaling: that of the training set.
      reconstruction_weight: lambda; it may be traced, so that one compiled step serves them all.

    Returns:
      ``step(state, batch) -> state, metrics``, for a batch of `data.batch`; metrics are scalars by name.
    """
    optimisers = make_optimisers(recipe, scaling.constant)
    basis = None if scaling.basis is None else jnp.asarray(scaling.basis, jnp.float32)

    def update(optimiser, player, loss):
        gradient, metrics = jax.grad(loss, has_aux=True)(player.params)
        updates, state = optimiser.update(gradient, player.optimiser, player.params)
        return Player(optax.apply_updates(player.params, updates), state), metrics

    def mismatch(params, fake, noise, real, condition):
        if recipe.reconstruction == "likelihood":
            density = _apply(recipe, params, scaling, noise[1], condition)
            return -jnp.mean(log_density(density, real / scaling.gain[None]))
        n_terms = 1 if recipe.reduction == "sum" else real.shape[1] if basis is None else len(basis)
        if recipe.reconstruction == "energy":
            return energy_score(real, fake, emit(recipe, params, scaling, noise[0], condition), n_terms)
        if recipe.reconstruction == "l1" and basis is not None:  # l2 is the same in the basis
            real, fake = real @ basis.T, fake @ basis.T
        return reconstruction_loss(real, fake, recipe.reconstruction, n_terms)

    def shown(fingerprints):
        return fingerprints / scaling.gain[None] if recipe.whiten else fingerprints

    def judge(params, fingerprints, condition):
        _, discriminator = make_networks(recipe, fingerprints.shape[1])
        return discriminator.apply(params, fingerprints, with_sequence(recipe, scaling, condition))

    def discriminator_turn(params, fake, real, condition):
        adversarial = discriminator_loss(judge(params, real, condition), judge(params, fake, condition))
        penalty = r1_penalty(lambda x: judge(params, x, condition), real) if recipe.r1_weight else jnp.zeros(())
        loss = recipe.adversarial_weight * adversarial + recipe.r1_weight * penalty
        return loss, {"discriminator": adversarial, "r1": penalty}

    def generator_turn(params, opponent, noise, real, condition):
        fake = emit(recipe, params, scaling, noise[1], condition)
        reconstruction = mismatch(params, fake, noise, real, condition)
        loss, metrics = reconstruction_weight * reconstruction, {"reconstruction": reconstruction}
        if opponent is not None:
            adversarial = adversarial_loss(judge(opponent.params, shown(fake), condition))
            loss, metrics = loss + recipe.adversarial_weight * adversarial, metrics | {"generator": adversarial}
        return loss, metrics

    def step(state, batch):
        condition, real, noise = batch
        opponent, metrics = state.discriminator, {}
        if opponent is not None:
            fake = emit(recipe, state.generator.params, scaling, noise[0], condition)
            opponent, metrics = update(
                optimisers[1], opponent, lambda params: discriminator_turn(params, shown(fake), shown(real), condition)
            )
        generator, of_generator = update(
            optimisers[0], state.generator, lambda params: generator_turn(params, opponent, noise, real, condition)
        )
        average = state.average
        if average is not None:
            average = optax.incremental_update(generator.params, average, 1 - recipe.averaging)
        return TrainState(state.step + 1, generator, opponent, average), metrics | of_generator

    return step


def fit(
    recipe: Recipe, data: Data, state: TrainState, *, seed: int = 0, chunk: int = 500, draw: Callable | None = None
) -> Iterator:
    """Trains up to ``recipe.steps``, each chunk of steps one compiled call.

    Args:
      recipe: how.
      data: of `split_and_scale`, with the same recipe.
      state: fresh from `init_state`, or restored. Its arrays are given away.
      seed: of the batches and of z.
      chunk: steps between two yields; the last one may be shorter.
      draw: None, or step -> the `Examples` of the chunk that begins there, in place of the training set.

    Yields:
      (state, metrics): after every chunk, with numbers by name: ``step``, the mean of each loss over the chunk, and
      for every set the mean relative L2 error of its fingerprints and the RMSE of their entries. The state is given
      away when the next chunk is asked for.

    Raises:
      DivergedError: a loss or a parameter is not finite.
    """
    shared = dataclasses.replace(recipe, reconstruction_weight=1.0)
    key = jax.random.key(seed)
    step = int(state.step)
    while step < recipe.steps:
        n_steps = min(chunk - step % chunk, recipe.steps - step)
        weight = jnp.float32(recipe.reconstruction_weight)
        examples = data.sets["train"] if draw is None else draw(step)
        state, losses = _run_steps(shared, n_steps, state, examples, data.scaling, key, weight)
        step += n_steps
        metrics = {"step": step} | {f"{name}_loss": float(value) for name, value in losses.items()}
        for name, examples in data.sets.items():
            errors = np.asarray(relative_errors(recipe, state.params, data.scaling, examples), float)
            rmse = np.sqrt(np.mean(errors**2) / examples.fingerprints.shape[1])
            metrics |= {f"{name}_error": float(errors.mean()), f"{name}_rmse": float(rmse)}
        wrong = [name for name, value in metrics.items() if not np.isfinite(value)]
        if wrong:
            raise DivergedError(f"training diverged before step {step}: {', '.join(wrong)} not finite")
        yield state, metrics


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def _run_steps(recipe, n_steps, state, examples, scaling, key, reconstruction_weight):
    step = make_train_step(recipe, scaling, reconstruction_weight)

    def body(state, _):
        return step(state, batch(key, state.step, examples, recipe.batch_size, recipe.noise))

    state, losses = jax.lax.scan(body, state, length=n_steps)
    return state, jax.tree.map(jnp.mean, losses)


@functools.partial(jax.jit, static_argnums=0)
def relative_errors(recipe: Recipe, params, scaling: Scaling, examples: Examples) -> jax.Array:
    """Relative L2 error of every generated fingerprint, both of unit norm: (atoms,)."""
    generated = unit_fingerprints(recipe, params, scaling, examples.noise, examples.condition)
    return jnp.linalg.norm(generated - examples.fingerprints, axis=1)


def unit_fingerprints(recipe: Recipe, params, scaling: Scaling, noise: jax.Array, condition: jax.Array) -> jax.Array:
    """Generated fingerprints of unit norm, (atoms, frames), for the arguments of `emit`."""
    outputs = emit(recipe, params, scaling, noise, condition)
    outputs = outputs / jnp.linalg.norm(outputs, axis=1, keepdims=True)
    if scaling.basis is not None:
        outputs = outputs @ jnp.asarray(scaling.basis.T, outputs.dtype)
    return outputs


def with_sequence(recipe: Recipe, scaling: Scaling, condition: jax.Array) -> jax.Array:
    """The condition with the sequence behind it, for networks that see it as such."""
    if recipe.sequence_input != "full":
        return condition
    constant = jnp.broadcast_to(scaling.constant[None], (len(condition), scaling.constant.size))
    return jnp.concatenate([condition, constant], axis=1)
