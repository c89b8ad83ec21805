"""From a generator's parameters to fingerprints: pure functions of noise and condition, in training and afterwards."""

import functools

import jax
import jax.numpy as jnp

from ganmrf.gan.data import Examples, Scaling
from ganmrf.gan.losses import energy_score, reconstruction_loss
from ganmrf.gan.mixture import MixtureOutputs
from ganmrf.gan.networks import Discriminator, Generator, Perceptron, with_unit_norms
from ganmrf.gan.recipes import Recipe


class FingerprintOutputs:
    """The network's outputs are a fingerprint, and z is one of its inputs, as in the paper.

    The counterpart, for a network whose outputs are a density over fingerprints, is `mixture.MixtureOutputs`.
    """

    @staticmethod
    def n_outputs(size: int) -> int:
        """Outputs of the network for fingerprints of this size."""
        return size

    @staticmethod
    def input_noise(noise: jax.Array) -> jax.Array:
        """The part of z that is an input of the network."""
        return noise

    @staticmethod
    def fingerprints(outputs: jax.Array, noise: jax.Array) -> jax.Array:
        """Fingerprints before `Scaling.output_scale`, (batch, size), from outputs (batch, n_outputs)."""
        del noise
        return outputs

    @staticmethod
    def mismatch(recipe: Recipe, scaling: Scaling, outputs_of, noise: jax.Array, real: jax.Array, fake: jax.Array):
        """Distance of generated from simulated fingerprints, without lambda: a scalar.

        Args:
          recipe: its ``reconstruction`` and ``reduction`` say which distance.
          scaling: of the training set.
          outputs_of: z (batch, noise) -> outputs of the network for the batch's conditions.
          noise: two draws of z, (2, batch, noise); ``fake`` is made from the second.
          real: simulated fingerprints, (batch, size), in the units of `Scaling`.
          fake: generated ones.
        """
        basis = None if scaling.basis is None else jnp.asarray(scaling.basis, jnp.float32)
        n_terms = 1 if recipe.reduction == "sum" else real.shape[1] if basis is None else len(basis)
        if recipe.reconstruction == "energy":
            return energy_score(real, fake, _scaled(scaling, outputs_of(noise[0])), n_terms)
        if recipe.reconstruction == "l1" and basis is not None:  # l2 is the same in the basis
            real, fake = real @ basis.T, fake @ basis.T
        return reconstruction_loss(real, fake, recipe.reconstruction, n_terms)


def outputs_kind(recipe: Recipe) -> type[FingerprintOutputs] | type[MixtureOutputs]:
    """What the outputs of a recipe's generator are."""
    return MixtureOutputs if recipe.reconstruction == "likelihood" else FingerprintOutputs


def make_networks(recipe: Recipe, n_outputs: int) -> tuple[Generator, Discriminator]:
    """Generator and discriminator of a recipe."""
    shape = recipe.width, recipe.depth, recipe.activation, recipe.residual, recipe.initialiser
    body = functools.partial(Perceptron, *shape)
    generator = Generator(body(), n_outputs, bounded=recipe.head == "tanh", skip=recipe.skip)
    return generator, Discriminator(body())


def emit(recipe: Recipe, params, scaling: Scaling, noise: jax.Array, condition: jax.Array) -> jax.Array:
    """Generated fingerprints (atoms, size), in the units of `Scaling`, from noise (atoms, noise) and condition."""
    outputs = network_outputs(recipe, params, scaling, noise, condition)
    return _scaled(scaling, outputs_kind(recipe).fingerprints(outputs, noise))


def seen(recipe: Recipe, scaling: Scaling, fingerprints: jax.Array) -> jax.Array:
    """Fingerprints (atoms, size) in the units of `Scaling`, as the discriminator sees them: whitened or as they are."""
    return fingerprints / scaling.output_scale[None] if recipe.whiten else fingerprints


def discriminate(recipe: Recipe, params, scaling: Scaling, fingerprints: jax.Array, condition: jax.Array) -> jax.Array:
    """The discriminator's outputs (atoms,), for fingerprints as it has them `seen`, and condition (atoms, features)."""
    _, discriminator = make_networks(recipe, fingerprints.shape[1])
    params = with_unit_norms(params) if recipe.spectral_norm else params
    return discriminator.apply(params, fingerprints, with_sequence(recipe, scaling, condition))


def network_outputs(
    recipe: Recipe, params, scaling: Scaling, noise: jax.Array, condition: jax.Array, method: str = "__call__"
) -> jax.Array:
    """What a method of `networks.Generator` returns, by default its outputs (atoms, outputs); arguments as `emit`."""
    generator, _ = make_networks(recipe, params["params"]["output"]["bias"].size)
    inputs = outputs_kind(recipe).input_noise(noise), with_sequence(recipe, scaling, condition)
    return generator.apply(params, *inputs, method=method)


def hidden_layers(recipe: Recipe, params, scaling: Scaling, noise: jax.Array, condition: jax.Array) -> jax.Array:
    """The generator's hidden layers side by side, the last one last, (atoms, depth * width)."""
    return network_outputs(recipe, params, scaling, noise, condition, method="hidden")


def unit_fingerprints(recipe: Recipe, params, scaling: Scaling, noise: jax.Array, condition: jax.Array) -> jax.Array:
    """Generated fingerprints of unit norm, as columns (atoms, columns) of `Scaling`, for the arguments of `emit`."""
    outputs = emit(recipe, params, scaling, noise, condition)
    outputs = outputs / jnp.linalg.norm(outputs, axis=1, keepdims=True)
    if scaling.basis is not None:
        outputs = outputs @ jnp.asarray(scaling.basis.T, outputs.dtype)
    return outputs


@functools.partial(jax.jit, static_argnums=0)
def generator_errors(recipe: Recipe, params, scaling: Scaling, examples: Examples) -> jax.Array:
    """Relative L2 error of every generated fingerprint, both of unit norm: (atoms,), float32.

    `metrics.fingerprint_errors` gives the same in float64; here the fingerprints never leave the device.
    """
    generated = unit_fingerprints(recipe, params, scaling, examples.noise, examples.condition)
    return jnp.linalg.norm(generated - examples.fingerprints, axis=1)


def with_sequence(recipe: Recipe, scaling: Scaling, condition: jax.Array) -> jax.Array:
    """The condition (atoms, features), followed by the sequence where a recipe has the sequence as an input."""
    if recipe.sequence_input != "full":
        return condition
    constant = jnp.broadcast_to(scaling.constant[None], (len(condition), scaling.constant.size))
    return jnp.concatenate([condition, constant], axis=1)


def _scaled(scaling, fingerprints):
    return fingerprints * jnp.broadcast_to(scaling.output_scale, fingerprints.shape[-1:])[None]
