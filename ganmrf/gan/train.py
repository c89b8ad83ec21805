"""The game of generator and discriminator: one update of both, and a loop over many that is compiled whole.

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

from ganmrf.gan.data import Data, Scaling, batch, shares
from ganmrf.gan.emission import (
    discriminate,
    emit,
    generator_errors,
    make_networks,
    network_outputs,
    outputs_kind,
    seen,
)
from ganmrf.gan.losses import ADVERSARIAL_LOSSES, discriminator_accuracy, gradient_penalty, slope_penalty
from ganmrf.gan.memory import require_training_memory
from ganmrf.gan.networks import fold_constant, fold_rates
from ganmrf.gan.recipes import Recipe
from ganmrf.gan.soap import soap
from ganmrf.pytrees import pytree


@pytree
@dataclasses.dataclass(frozen=True)
class NetworkState:
    """Parameters of a network, and the state of their optimiser."""

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
    """

    step: jax.Array
    generator: NetworkState
    discriminator: NetworkState | None

    @property
    def params(self):
        """The generator's parameters."""
        return self.generator.params


class DivergedError(ValueError):
    """A loss or parameter that is not finite any more."""


def init_state(recipe: Recipe, data: Data, seed: int = 0) -> TrainState:
    """A fresh generator and discriminator; the same seed gives the same ones, with the sequence folded in or not.

    Raises:
      ValueError: a training that the memory does not hold.
    """
    sets = data.sets.values()
    n_frames, n_outputs = next((each.fingerprints.shape[1], each.target.shape[1]) for each in sets)
    n_features = next(each.condition.shape[1] for each in sets)
    require_training_memory(recipe, sum(len(each.target) for each in sets), n_frames, n_outputs, n_features)
    return _fresh_state(
        _compiled_for(recipe), next(iter(data.sets.values())), data.scaling.constant, jax.random.key(seed)
    )


@functools.partial(jax.jit, static_argnums=0)
def _fresh_state(recipe, examples, constant, key):
    # The keys of the batches are folded from the number of their step: no training has 2**31 of them.
    keys = jax.random.split(jax.random.fold_in(key, 2**31))
    condition = jnp.concatenate([examples.condition[:1], constant[None]], axis=1)
    outputs = outputs_kind(recipe)
    generator, discriminator = make_networks(recipe, outputs.n_outputs(examples.target.shape[1]))
    params = [generator.init(keys[0], outputs.input_noise(examples.noise[:1]), condition)]
    if recipe.adversarial_weight:
        params.append(discriminator.init(keys[1], examples.target[:1], condition))
    if recipe.sequence_input == "folded":
        params = [fold_constant(each, constant) for each in params]
    optimisers = make_optimisers(recipe, constant)
    networks = [NetworkState(each, optimiser.init(each)) for each, optimiser in zip(params, optimisers, strict=False)]
    return TrainState(jnp.zeros((), jnp.int32), networks[0], networks[1] if recipe.adversarial_weight else None)


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


def make_train_step(recipe: Recipe, scaling: Scaling, reconstruction_weight):
    """One update of the discriminator against the generator, then one of the generator against that discriminator.

    Args:
      recipe: its ``reconstruction_weight`` is not read.
      scaling: that of the training set.
      reconstruction_weight: lambda; it may be traced, so that one compiled step serves every lambda.

    Returns:
      ``step(state, batch, shares=None) -> state, metrics``, for a batch of `data.batch`, and with a ``slope_weight``
      the `data.shares` of its step; metrics are scalars by name: ``reconstruction_loss``, and with a discriminator
      ``generator_loss``, ``discriminator_loss``, ``discriminator_accuracy``, ``r1_loss``, the gradient penalty, and
      with a ``slope_weight`` ``slope_loss``.
    """
    of_generator, of_discriminator = make_optimisers(recipe, scaling.constant)

    def loss_of_discriminator(params, fake, real, condition, shares):
        judge = functools.partial(discriminate, recipe, params, scaling, condition=condition)
        outputs = judge(real), judge(fake)
        adversarial, penalty = ADVERSARIAL_LOSSES[recipe.adversarial_loss].discriminator(*outputs), jnp.zeros(())
        if recipe.r1_weight:
            penalty = gradient_penalty(judge, real)
        loss = recipe.adversarial_weight * adversarial + recipe.r1_weight * penalty
        metrics = {"discriminator_loss": adversarial, "r1_loss": penalty}
        if recipe.slope_weight:
            metrics["slope_loss"] = slope_penalty(judge, real, fake, shares)
            loss = loss + recipe.slope_weight * metrics["slope_loss"]
        return loss, metrics | {"discriminator_accuracy": _accuracy(recipe, *outputs)}

    def loss_of_generator(params, discriminator, noise, real, condition):
        fake = emit(recipe, params, scaling, noise[1], condition)
        reconstruction = _reconstruction(recipe, params, scaling, condition, real, noise, fake)
        loss, metrics = reconstruction_weight * reconstruction, {"reconstruction_loss": reconstruction}
        if discriminator is not None:
            adversarial = _adversarial(recipe, discriminator.params, scaling, condition, fake)
            loss, metrics = loss + recipe.adversarial_weight * adversarial, metrics | {"generator_loss": adversarial}
        return loss, metrics

    def step(state, batch, shares=None):
        condition, real, noise = batch
        discriminator, metrics = state.discriminator, {}
        if discriminator is not None:
            fake = emit(recipe, state.generator.params, scaling, noise[0], condition)
            discriminator, metrics = _update(
                of_discriminator,
                discriminator,
                lambda params: loss_of_discriminator(
                    params, seen(recipe, scaling, fake), seen(recipe, scaling, real), condition, shares
                ),
            )
        generator, more = _update(
            of_generator,
            state.generator,
            lambda params: loss_of_generator(params, discriminator, noise, real, condition),
        )
        return TrainState(state.step + 1, generator, discriminator), metrics | more

    return step


def adversarial_share(recipe: Recipe, state: TrainState, scaling: Scaling, batch, reconstruction_weight) -> jax.Array:
    """How hard the discriminator pulls at the generated fingerprints, over how hard the simulated ones do: a scalar.

    It is the norm of the adversarial term's gradient with respect to all generated fingerprints of a batch, over that
    of the reconstruction term's gradient, both with their weights. Arguments as of `make_train_step` and of its step.
    """
    condition, real, noise = batch
    params, judge = state.generator.params, state.discriminator.params
    fake = emit(recipe, params, scaling, noise[1], condition)
    adversarial = jax.grad(functools.partial(_adversarial, recipe, judge, scaling, condition))(fake)
    reconstruction = jax.grad(functools.partial(_reconstruction, recipe, params, scaling, condition, real, noise))(fake)
    weighted = recipe.adversarial_weight * adversarial, reconstruction_weight * reconstruction
    return jnp.divide(*map(jnp.linalg.norm, weighted))


def _adversarial(recipe, params, scaling, condition, fake):
    loss = ADVERSARIAL_LOSSES[recipe.adversarial_loss].generator
    return loss(discriminate(recipe, params, scaling, seen(recipe, scaling, fake), condition))


def _accuracy(recipe, real, generated):
    """The discriminator's accuracy; scores of the Wasserstein loss count from their mean: it sees differences alone."""
    middle = (jnp.mean(real) + jnp.mean(generated)) / 2 if recipe.adversarial_loss == "wasserstein" else 0.0
    return discriminator_accuracy(real - middle, generated - middle)


def _reconstruction(recipe, params, scaling, condition, real, noise, fake):
    outputs_of = functools.partial(network_outputs, recipe, params, scaling, condition=condition)
    return outputs_kind(recipe).mismatch(recipe, scaling, outputs_of, noise, real, fake)


def _update(optimiser, network, loss):
    gradient, metrics = jax.grad(loss, has_aux=True)(network.params)
    updates, state = optimiser.update(gradient, network.optimiser, network.params)
    return NetworkState(optax.apply_updates(network.params, updates), state), metrics


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
      (state, metrics): after every chunk, with numbers by name: ``step``, the means over the chunk of the metrics of
      `make_train_step`, with a discriminator and a lambda above 0 the `adversarial_share` of the next batch, and for
      every set the mean relative L2 error of its fingerprints and the RMSE of their entries. The state is given away
      when the next chunk is asked for.

    Raises:
      DivergedError: a loss or a parameter is not finite.
    """
    shared = _compiled_for(recipe)
    key = jax.random.key(seed)
    step = int(state.step)
    while step < recipe.steps:
        n_steps = min(chunk - step % chunk, recipe.steps - step)
        weight = jnp.float32(recipe.reconstruction_weight)
        examples = data.sets["train"] if draw is None else draw(step)
        state, means = _run_steps(shared, n_steps, state, examples, data.scaling, key, weight)
        step += n_steps
        if state.discriminator is not None and recipe.reconstruction_weight:
            means["adversarial_share"] = _share(shared, state, examples, data.scaling, key, weight)
        metrics = {"step": step} | {name: float(value) for name, value in means.items()}
        for name, examples in data.sets.items():
            errors = np.asarray(generator_errors(shared, state.params, data.scaling, examples), float)
            rmse = np.sqrt(np.mean(errors**2) / examples.fingerprints.shape[1])
            metrics |= {f"{name}_error": float(errors.mean()), f"{name}_rmse": float(rmse)}
        wrong = [name for name, value in metrics.items() if not np.isfinite(value)]
        if wrong:
            raise DivergedError(f"training diverged before step {step}: {', '.join(wrong)} not finite")
        yield state, metrics


def _compiled_for(recipe):
    """A recipe that stands for all that the same programs serve, as recipes are part of what is compiled.

    Lambda is passed beside it, so that a sweep over lambda compiles one program and not one for each lambda. The number
    of steps counts where the learning rate falls with it.
    """
    steps = recipe.steps if recipe.learning_rate_schedule == "cosine" else 1
    return dataclasses.replace(recipe, reconstruction_weight=1.0, steps=steps)


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def _run_steps(recipe, n_steps, state, examples, scaling, key, reconstruction_weight):
    step = make_train_step(recipe, scaling, reconstruction_weight)

    def body(state, _):
        mixed = shares(key, state.step, recipe.batch_size) if recipe.slope_weight else None
        return step(state, batch(key, state.step, examples, recipe.batch_size, recipe.noise), mixed)

    state, metrics = jax.lax.scan(body, state, length=n_steps)
    return state, jax.tree.map(jnp.mean, metrics)


@functools.partial(jax.jit, static_argnums=0)
def _share(recipe, state, examples, scaling, key, reconstruction_weight):
    drawn = batch(key, state.step, examples, recipe.batch_size, recipe.noise)
    return adversarial_share(recipe, state, scaling, drawn, reconstruction_weight)
