"""A generator of one sequence or of any in one ``.npz`` file of plain arrays."""

import json

import numpy as np

from ganmrf.anchors.generator import AnchoredGenerator
from ganmrf.anchors.norms import NormPolynomial
from ganmrf.anchors.radial import RadialFeatures, RadialWeights
from ganmrf.anchors.table import TableWeights
from ganmrf.anchors.trunk import Trunk, TrunkWeights
from ganmrf.files import read_arrays, replacing
from ganmrf.gan.data import Scaling
from ganmrf.gan.generate import TrainedGenerator
from ganmrf.gan.recipes import Recipe
from ganmrf.physics.rf_pulse import RfPulse
from ganmrf.physics.sequences.kinds import KINDS, PARTS
from ganmrf.physics.slice_profile import FullSlice, PartitionedSlice, SliceProfile
from ganmrf.physics.tissue import TISSUES
from ganmrf.physics.tissue_box import TissueBox
from ganmrf.pytrees import arrays_and_structure, tree_of

_SCHEMA_VERSIONS = {TrainedGenerator: 2, AnchoredGenerator: 4}
_OF_ONE_SEQUENCE = (TrainedGenerator, Scaling, Recipe, *KINDS.values(), *PARTS)
_OF_ANY_SEQUENCE = (AnchoredGenerator, NormPolynomial, TableWeights, Trunk, TrunkWeights, RadialFeatures, RadialWeights)
_SLICES = (SliceProfile, FullSlice, PartitionedSlice, RfPulse)
_CLASSES = (*_OF_ONE_SEQUENCE, *_OF_ANY_SEQUENCE, *_SLICES, *TISSUES.values(), TissueBox)


def save_generator(path, generator: TrainedGenerator | AnchoredGenerator):
    """Writes a generator, whole or not at all.

    The file holds each array under its path, such as ``scaling/basis``; ``structure``, everything else as JSON; and
    ``schema_version``.
    """
    arrays, structure = arrays_and_structure(generator)
    with replacing(path) as temporary:
        np.savez(
            temporary,
            allow_pickle=False,
            schema_version=_SCHEMA_VERSIONS[type(generator)],
            structure=json.dumps(structure),
            **arrays,
        )


def load_generator(path) -> TrainedGenerator:
    """Reads the generator of one sequence (`generate.generate`).

    Raises:
      ValueError: a file that is missing, damaged, of another schema, not a generator, or one of many sequences.
    """
    return _expect(load_any(path), TrainedGenerator, path, "one sequence", "any sequence of a kind (of train_anchored)")


def load_anchored(path) -> AnchoredGenerator:
    """Reads a generator for any sequence of a kind (`prepared.prepare`).

    Raises:
      ValueError: a file that is missing, damaged, of another schema, not a generator, or one of a single sequence.
    """
    return _expect(load_any(path), AnchoredGenerator, path, "any sequence of a kind", "one sequence alone (of train)")


def load_any(path) -> TrainedGenerator | AnchoredGenerator:
    """Reads what `save_generator` wrote.

    Raises:
      ValueError: a file that is missing, damaged, of another schema, or not a generator.
    """
    contents = read_arrays(path)
    for name, kinds in (("schema_version", "iu"), ("structure", "U")):
        if name not in contents or contents[name].ndim or contents[name].dtype.kind not in kinds:
            raise ValueError(f"{path}: not a generator of this version of ganmrf (no {name})")
    version, known = contents.pop("schema_version"), {cls.__name__: own for cls, own in _SCHEMA_VERSIONS.items()}
    try:
        structure = json.loads(str(contents.pop("structure")))
        expected = known.get(structure["class"], version)
        generator = tree_of(contents, structure, _CLASSES) if version == expected else None
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a whole generator ({error})") from error
    if version != expected:
        advice = ": make it again by the same command" if version < expected else ""
        raise ValueError(f"{path} has schema {version}; this version reads {expected}{advice}")
    if not isinstance(generator, TrainedGenerator | AnchoredGenerator):
        raise ValueError(f"{path}: not a generator")
    return generator


def _expect(generator, kind, path, wanted, found):
    if not isinstance(generator, kind):
        raise ValueError(f"{path} is a generator for {found}; this takes one for {wanted}")
    return generator
