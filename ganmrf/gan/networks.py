"""Generator and discriminator, and the folding of a constant input into their first layer."""

import jax
import jax.numpy as jnp
from flax import linen as nn

_ACTIVATIONS = {"relu": nn.relu, "silu": nn.silu}
_INITIALISERS = {  # of kernels
    "lecun_normal": nn.initializers.lecun_normal(),
    "glorot_uniform": nn.initializers.glorot_uniform(),
    "uniform": nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform"),  # within 1 / sqrt(fan_in)
}
_POWERS = 16  # of a kernel, for its largest singular value: to within 3 % for random kernels of 128 x 128


class Perceptron(nn.Module):
    """Hidden layers of one width; see `Generator` and `Discriminator`.

    Attributes:
      width: units of a hidden layer.
      depth: hidden layers.
      activation: ``relu`` or ``silu``.
      residual: whether every hidden layer but the first is added to the one before it.
      initialiser: of the weights of all layers, also of those that follow the hidden ones, see `Recipe`.
    """

    width: int
    depth: int
    activation: str
    residual: bool = False
    initialiser: str = "lecun_normal"

    @nn.compact
    def __call__(self, *inputs: jax.Array) -> jax.Array:
        """All hidden layers side by side, the last one last, (batch, depth * width), from inputs (batch, features)."""
        layers = [jnp.concatenate(inputs, axis=-1)]
        for i in range(self.depth):
            dense = _dense(self.width, layers[-1].shape[-1], self.initialiser, name=f"hidden_{i}")
            layer = _ACTIVATIONS[self.activation](dense(layers[-1]))
            layers.append(layers[-1] + layer if self.residual and i else layer)
        return jnp.concatenate(layers[1:], axis=-1)


class Generator(nn.Module):
    """Noise and tissue (and sequence) -> fingerprint. Paper: 3 hidden layers of 128 ReLU, tanh over the frames.

    Attributes:
      body: its hidden layers.
      n_outputs: frames, or coefficients.
      bounded: whether a tanh bounds the outputs to -1..1.
      skip: whether the output layer sees every hidden layer; else only the last.
    """

    body: Perceptron
    n_outputs: int
    bounded: bool
    skip: bool

    def setup(self):
        n_inputs = self.body.width * (self.body.depth if self.skip else 1)
        self.output = _dense(self.n_outputs, n_inputs, self.body.initialiser)

    def __call__(self, noise: jax.Array, condition: jax.Array) -> jax.Array:
        """Outputs (batch, n_outputs), from noise (batch, noise) and condition (batch, features)."""
        hidden = self.hidden(noise, condition)
        outputs = self.output(hidden if self.skip else hidden[:, -self.body.width :])
        return jnp.tanh(outputs) if self.bounded else outputs

    def hidden(self, noise: jax.Array, condition: jax.Array) -> jax.Array:
        """All hidden layers side by side, (batch, depth * width)."""
        return self.body(noise, condition)


class Discriminator(nn.Module):
    """Fingerprint with its tissue (and sequence) -> logit of its being simulated. Paper: 3 hidden layers of 128 ReLU.

    Attributes:
      body: its hidden layers.
    """

    body: Perceptron

    def setup(self):
        self.output = _dense(1, self.body.width, self.body.initialiser)

    def __call__(self, fingerprint: jax.Array, condition: jax.Array) -> jax.Array:
        """(batch,), from fingerprint (batch, outputs) and condition (batch, features)."""
        return self.output(self.body(fingerprint, condition)[:, -self.body.width :])[:, 0]


def with_unit_norms(params):
    """The same network with every kernel divided by its largest singular value, so that its slope is about 1 at most.

    The value is found by a power iteration from the same vector each time, so that no state is kept from step to step;
    singular vectors count as constants in gradients, as in the reference, whose Algorithm 1 has one step of it.

    Args:
      params: of a `Generator` or `Discriminator`.

    References:
      Miyato et al. 2018, arXiv:1802.05957.
    """
    return jax.tree.map(lambda leaf: leaf / _largest_singular_value(leaf) if leaf.ndim == 2 else leaf, params)


def _largest_singular_value(kernel):
    def unit(vector):
        return vector / jnp.sqrt(jnp.sum(vector**2) + jnp.finfo(vector.dtype).tiny)

    fixed = jax.lax.stop_gradient(kernel)
    start = unit(jax.random.normal(jax.random.key(0), kernel.shape[1:], kernel.dtype))
    right = jax.lax.fori_loop(0, _POWERS, lambda _, vector: unit(fixed.T @ unit(fixed @ vector)), start)
    left = unit(fixed @ right)
    return jnp.maximum(left @ kernel @ right, jnp.finfo(kernel.dtype).tiny)


def fold_constant(params, constant: jax.Array):
    """The same network without its last inputs, which always are ``constant``: the bias of the first layer holds them.

    A constant input s with kernel W adds ``s @ W`` to the bias b of the first layer. Adam divides a gradient by its
    size, and so moves every row of W like b, with the sign of the row's entry of s. Training W and b therefore moves
    the sum ``b + s @ W`` in the same way as training the sum alone at ``1 + sum(abs(s))`` times the learning rate
    (`fold_rates`): the same run, up to rounding and Adam's epsilon.

    Args:
      params: of a `Generator` or `Discriminator`, from its ``init``.
      constant: the last inputs, (features,).
    """
    first = params["params"]["body"]["hidden_0"]
    kernel, rows = jnp.split(first["kernel"], [len(first["kernel"]) - constant.size])
    return _with_first(params, {"kernel": kernel, "bias": first["bias"] + constant @ rows})


def fold_rates(params, constant: jax.Array):
    """Factors of the learning rate for parameters from `fold_constant`, a tree like ``params``."""
    ones = jax.tree.map(lambda _: 1.0, params)
    return _with_first(ones, {"kernel": 1.0, "bias": 1.0 + jnp.sum(jnp.abs(constant))})


def _dense(n_outputs, n_inputs, initialiser, name=None):
    """A layer with a bias, which starts at 0, or is drawn as PyTorch draws it where the kernel is."""
    bias = nn.initializers.zeros_init()
    if initialiser == "uniform":

        def bias(key, shape, dtype):
            return jax.random.uniform(key, shape, dtype, -(n_inputs**-0.5), n_inputs**-0.5)

    return nn.Dense(n_outputs, kernel_init=_INITIALISERS[initialiser], bias_init=bias, name=name)


def _with_first(params, first):
    body = params["params"]["body"] | {"hidden_0": first}
    return {"params": params["params"] | {"body": body}}
