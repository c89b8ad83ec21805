"""A hidden parameter that fingerprints depend on: at given T1 and T2 they then have a distribution.

The parameter is the transmit field B1+, with two humps and independent of the tissue. A generator can follow the
distribution at given T1 and T2 by its noise z alone, unless B1 is named as an input.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.dictionary.build import Dictionary, build_dictionary
from ganmrf.gan.data import Data, Scaling, split_and_scale
from ganmrf.gan.emission import unit_fingerprints
from ganmrf.gan.recipes import Recipe
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.simulate_many import require_signal_memory
from ganmrf.physics.slice_profile import SliceProfile
from ganmrf.physics.tissue import Tissue

B1_HUMPS = (0.85, 1.15)  # means of two normal distributions of equal weight
B1_DEVIATION = 0.04  # standard deviation of each


def draw_b1(rng: np.random.Generator, size: int) -> np.ndarray:
    """Actual over nominal flip angle, drawn from the two humps, (size,), float32."""
    return (rng.choice(B1_HUMPS, size) + B1_DEVIATION * rng.standard_normal(size)).astype(np.float32)


def hidden_b1_dictionary(
    sequence: Fisp, slice_profile: SliceProfile | None, tissue: Tissue, n_draws: int, rng: np.random.Generator
) -> Dictionary:
    """Fingerprints of each tissue, (tissues,), whose own B1 is not read, at several B1 drawn by ``rng``.

    The atoms, (tissues * n_draws,), are all draws of the first tissue, then all draws of the next.
    """
    require_signal_memory(tissue.size * n_draws, sequence.n_frames)
    t1, t2 = (np.repeat(np.asarray(times), n_draws) for times in (tissue.t1, tissue.t2))
    return build_dictionary(sequence, Tissue(t1, t2, draw_b1(rng, t1.size)), slice_profile=slice_profile)


def prepare_hidden(dictionary: Dictionary, recipe: Recipe, *, name_b1: bool, seed: int = 0) -> Data:
    """`data.split_and_scale` with all atoms for training, and with B1 in the condition where it is named."""
    hidden = dataclasses.replace(dictionary, tissue=dataclasses.replace(dictionary.tissue, b1=1.0))
    data = split_and_scale(hidden, recipe, split=(1, 0, 0), seed=seed)
    if not name_b1:
        return data
    train = data.sets["train"]
    condition = _with_b1(train.condition, np.asarray(dictionary.tissue.b1)[data.rows["train"]])
    return dataclasses.replace(data, sets={"train": dataclasses.replace(train, condition=condition)})


def sample_fingerprints(
    recipe: Recipe, params, scaling: Scaling, tissue: Tissue, n_draws: int, rng: np.random.Generator, *, name_b1: bool
) -> np.ndarray:
    """Generated fingerprints of unit norm, (tissues, n_draws, frames), float32.

    ``rng`` draws z and, where it is named, B1 for each of them; the B1 of ``tissue``, (tissues,), is not read.
    """
    t1, t2 = (np.repeat(np.asarray(times), n_draws) for times in (tissue.t1, tissue.t2))
    condition = scaling.condition(t1, t2)
    if name_b1:
        condition = _with_b1(condition, draw_b1(rng, t1.size))
    noise = rng.standard_normal((t1.size, recipe.noise), np.float32)
    generated = jax.jit(functools.partial(unit_fingerprints, recipe))(params, scaling, noise, condition)
    return np.asarray(generated).reshape(tissue.size, n_draws, -1)


def _with_b1(condition, b1):
    standardised = (b1 - np.mean(B1_HUMPS)) / np.hypot(np.std(B1_HUMPS), B1_DEVIATION)
    return jnp.concatenate([condition, jnp.asarray(standardised, condition.dtype)[:, None]], axis=1)
