"""The trunk: a network from tissue to joint features, trained across sequences on tissues simulated on the fly.

What the network learns is the same for all sequences; a new sequence enters by the signals of its anchors alone. The
word is that of DeepONet, whose output is an inner product of a trunk, here of tissue, and a branch, here those signals.

References:
  Lu et al. 2021, "Learning nonlinear operators via DeepONet", doi:10.1038/s42256-021-00302-5.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.anchors.anchor_set import AnchorSet
from ganmrf.gan.data import Data, Examples, Scaling, with_harmonics
from ganmrf.gan.emission import hidden_layers
from ganmrf.gan.least_squares import least_squares
from ganmrf.gan.recipes import Recipe
from ganmrf.physics.tissue import TissueModel
from ganmrf.pytrees import pytree

RECIPE = Recipe(
    width=256,
    depth=4,
    adversarial_weight=0.0,
    reconstruction_weight=1.0,
    reduction="sum",
    optimiser="soap",
    batch_size=512,
    steps=3000,
)

_RIDGE = 3e-7  # of the output layer: the hidden layers are float32, and 3e-7 is a few times their rounding
_STREAMS = {"training": 10, "refit": 11}  # keys folded from the seed


@pytree
@dataclasses.dataclass(frozen=True)
class Trunk:
    """A trained trunk.

    Attributes:
      params: of the network.
      kernel: hidden layers and 1 -> features, (depth * width + 1, features), float32.
      recipe: the shape of the network, and how it was trained.
    """

    params: Any
    kernel: jax.Array
    recipe: Recipe = dataclasses.field(metadata={"static": True})

    def __call__(self, coordinates: jax.Array) -> jax.Array:
        """(atoms, features), float32, from coordinates (atoms, axes)."""
        hidden = self.hidden(coordinates)
        return hidden @ self.kernel[:-1] + self.kernel[-1:]

    def hidden(self, coordinates: jax.Array) -> jax.Array:
        """The hidden layers side by side, (atoms, depth * width), float32, from coordinates (atoms, axes)."""
        return _hidden(self.recipe, self.params, coordinates.astype(jnp.float32))


@pytree
@dataclasses.dataclass(frozen=True)
class TrunkWeights:
    """Weights of anchors by a trunk, the same features for every number of anchors.

    Attributes:
      trunk: the network from tissue to features.
      matrices: number of anchors -> M with weights = features @ M, (features, number + sentinels), float64.
    """

    kind: ClassVar[str] = "trunk"
    any_tissue: ClassVar[bool] = True
    trunk: Trunk
    matrices: dict[int, np.ndarray]

    def features_for(self, n_anchors: int) -> Trunk:
        """The function of coordinates whose values ``matrices`` multiply."""
        del n_anchors
        return self.trunk


def trunk_data(anchor_set: AnchorSet, validation: np.ndarray) -> Data:
    """The scaling and the validation set of a trunk's training by `train.fit`.

    Args:
      anchor_set: the anchor set that the trunk is for.
      validation: features of its validation tissues, (tissues, features).
    """
    rms = np.sqrt(np.mean(validation**2, axis=0))
    nothing = np.zeros(0, np.float32)
    scaling = Scaling(nothing, nothing, nothing, nothing, rms.astype(np.float32), np.ones(()), None, "log")
    examples = _examples(anchor_set.box.coordinates(anchor_set.validation), validation)
    return Data({"validation": examples}, {}, scaling)


def draw_tissue(anchor_set: AnchorSet, seed: int, n_tissues: int) -> Callable[[int], Examples]:
    """``draw(step)``: fresh tissues and their features, a function of seed and step alone."""
    key = jax.random.fold_in(jax.random.key(seed), _STREAMS["training"])

    def draw(step):
        tissue = sample_tissue(anchor_set, jax.random.fold_in(key, step), n_tissues)
        return _examples(anchor_set.box.coordinates(tissue), anchor_set.features_of(tissue))

    return draw


def warm_params(anchor_set: AnchorSet, trunk: Trunk, output_scale: np.ndarray, seed: int, n_tissues: int):
    """Parameters of a network that begins with the hidden layers of another box, pulse or field.

    Functions of tissue that describe signals there describe them nearly here, too. The output layer, to the features of
    this anchor set, is solved for.

    Args:
      anchor_set: the anchor set that the network is to be trained for, with as many axes as the trunk's own.
      trunk: the trunk that it begins with.
      output_scale: of `trunk_data`, (features,).
      seed: of the tissues.
      n_tissues: how many tissues the output layer is solved for on.
    """
    kernel = np.asarray(finish_trunk(anchor_set, trunk.recipe, trunk.params, seed, n_tissues).kernel) / output_scale
    layer = {"kernel": jnp.asarray(kernel[:-1]), "bias": jnp.asarray(kernel[-1])}
    return {"params": trunk.params["params"] | {"output": layer}}


def finish_trunk(anchor_set: AnchorSet, recipe: Recipe, params, seed: int, n_tissues: int) -> Trunk:
    """The trained trunk, its output layer solved for by least squares in float64 on fresh tissues."""
    key = jax.random.fold_in(jax.random.key(seed), _STREAMS["refit"])
    tissue = sample_tissue(anchor_set, key, n_tissues)
    hidden = np.asarray(_hidden(recipe, params, anchor_set.box.coordinates(tissue)), float)
    hidden = np.concatenate([hidden, np.ones((len(hidden), 1))], axis=1)
    kernel = least_squares(hidden, anchor_set.features_of(tissue), _RIDGE)
    return Trunk(params, jnp.asarray(kernel, jnp.float32), recipe)


def sample_tissue(anchor_set: AnchorSet, key: jax.Array, number: int) -> TissueModel:
    """Random tissues of the box, (number,), two fifths of which have parameters moved to an end of their range."""
    return _sample(anchor_set.box, key, number)


@functools.partial(jax.jit, static_argnums=2)
def _sample(box, key, number):
    keys = jax.random.split(key, 3)
    shape = (number, len(box.names))
    cube, place, lot = map(jax.random.uniform, keys, (shape, shape, (number, 1)))
    return box.spread_to_faces(cube, place, lot)


@jax.jit
def _examples(coordinates, features):
    features = jnp.asarray(features, jnp.float32)
    unit = features / jnp.linalg.norm(features, axis=1, keepdims=True)
    return Examples(_condition(coordinates), features, unit, jnp.zeros((len(features), 0)))


def _condition(coordinates):
    return with_harmonics(2 * coordinates - 1)


@functools.partial(jax.jit, static_argnums=0)
def _hidden(recipe, params, coordinates):
    """The hidden layers side by side; `hidden_layers` without noise or sequence."""
    nothing = jnp.zeros((len(coordinates), 0))
    scaling = Scaling(*[nothing] * 7, "log")
    return hidden_layers(recipe, params, scaling, nothing, _condition(coordinates))
