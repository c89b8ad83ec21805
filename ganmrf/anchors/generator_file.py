"""A generator in one ``.npz`` file of plain arrays, whichever its kind."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.anchors.anchor_set import NormPolynomial
from ganmrf.anchors.generator import AnchoredGenerator, TableFeatures
from ganmrf.anchors.radial import RadialFeatures
from ganmrf.anchors.tissue_box import TissueBox
from ganmrf.anchors.trunk import TrunkFeatures
from ganmrf.files import read_arrays, replacing
from ganmrf.gan.data import Scaling
from ganmrf.gan.generate import TrainedGenerator
from ganmrf.gan.recipes import Recipe
from ganmrf.physics.sequences.fisp import Sequence
from ganmrf.physics.slice_profile import SliceProfile
from ganmrf.physics.tissue import Tissue

SCHEMA_VERSION = 1


def save_generator(path, generator: TrainedGenerator | AnchoredGenerator):
    """Writes a generator as plain arrays, with what is not an array as JSON, whole or not at all."""
    keyed, _ = jax.tree.flatten_with_path(generator)
    arrays = {jax.tree_util.keystr(key, simple=True, separator="/"): np.asarray(leaf) for key, leaf in keyed}
    if isinstance(generator, TrainedGenerator):
        texts = {"recipe": dataclasses.asdict(generator.recipe)}
    else:
        texts = {"kind": generator.kind, "names": generator.box.names}
        if generator.kind == "trunk":
            texts["recipe"] = dataclasses.asdict(generator.features.recipe)
        if generator.kind == "radial":
            texts["kernels"] = {size: features.kernel for size, features in generator.features.items()}
    texts = {name: json.dumps(value) for name, value in texts.items()}
    with replacing(path) as temporary:
        np.savez(temporary, allow_pickle=False, schema_version=SCHEMA_VERSION, **texts, **arrays)


def load_generator(path) -> TrainedGenerator:
    """Reads the generator of one sequence (`generate.generate`).

    Raises:
      ValueError: a file that is missing, damaged, of a newer schema, not a generator, or one for any sequence.
    """
    return _expect(load_any(path), TrainedGenerator, path, "one sequence", "any sequence (of train_anchored)")


def load_anchored(path) -> AnchoredGenerator:
    """Reads a generator for any sequence (`AnchoredGenerator.split_and_scale`).

    Raises:
      ValueError: a file that is missing, damaged, of a newer schema, not a generator, or one of a single sequence.
    """
    return _expect(load_any(path), AnchoredGenerator, path, "any sequence", "one sequence alone (of train)")


def load_any(path) -> TrainedGenerator | AnchoredGenerator:
    """Reads what `save_generator` wrote.

    Raises:
      ValueError: a file that is missing, damaged, of a newer schema, or not a generator.
    """
    contents = read_arrays(path)
    try:
        version = int(contents.pop("schema_version"))
        names = [name for name in ("recipe", "kind", "names", "kernels") if name in contents]
        texts = {name: json.loads(str(contents.pop(name))) for name in names}
        if not texts:
            raise ValueError("no recipe and no kind")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not a generator of this version of ganmrf ({error})") from error
    if version != SCHEMA_VERSION:
        raise ValueError(f"{path} has schema {version}; this version reads {SCHEMA_VERSION}")
    tree = {}
    for key, value in contents.items():
        *folders, name = key.split("/")
        functools.reduce(lambda node, folder: node.setdefault(folder, {}), folders, tree)[name] = value
    try:
        profile = tree.get("slice_profile")
        tree["slice_profile"] = None if profile is None else SliceProfile(**profile)
        return (_anchored if "kind" in texts else _trained)(tree, texts)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not a whole generator ({error})") from error


def _trained(tree, texts):
    recipe = Recipe(**texts["recipe"])
    return TrainedGenerator(
        params=jax.tree.map(jnp.asarray, tree["params"]),
        scaling=Scaling(**{"basis": None} | tree["scaling"], encoding=recipe.encoding),
        sequence=Sequence(**tree["sequence"]),
        recipe=recipe,
        **{name: tree[name] for name in ("norm_weights", "low", "high", "b1", "slice_profile")},
    )


def _anchored(tree, texts):
    features = tree["features"]
    if texts["kind"] == "trunk":
        params = jax.tree.map(jnp.asarray, features["params"])
        features = TrunkFeatures(params, jnp.asarray(features["kernel"]), Recipe(**texts["recipe"]))
    elif texts["kind"] == "table":
        features = TableFeatures(Tissue(**features["tissue"]), features["values"])
    else:
        features = {int(size): RadialFeatures(**each, kernel=texts["kernels"][size]) for size, each in features.items()}
    return AnchoredGenerator(
        box=TissueBox(texts["names"], **tree["box"]),
        anchors=Tissue(**tree["anchors"]),
        anchor_norms=tree["anchor_norms"],
        norm=NormPolynomial(**tree["norm"]),
        slice_profile=tree["slice_profile"],
        features=features,
        matrices=_by_size(tree["matrices"]),
        held_out=Tissue(**tree["held_out"]),
        held_out_weights=_by_size(tree["held_out_weights"]),
        kind=texts["kind"],
    )


def _by_size(tree):
    return {int(size): value for size, value in tree.items()}


def _expect(generator, kind, path, wanted, found):
    if not isinstance(generator, kind):
        raise ValueError(f"{path} is a generator for {found}; this takes one for {wanted}")
    return generator
