"""Generators without training: quintic radial basis functions about a lattice of tissues."""

import dataclasses

import numpy as np

from ganmrf.anchors.generator import AnchoredGenerator
from ganmrf.anchors.norms import fit_norms
from ganmrf.anchors.radial import RadialFeatures, RadialWeights, weight_matrix
from ganmrf.physics.simulate import simulate
from ganmrf.physics.tissue_box import TissueBox


def lattice_generator(box: TissueBox, sequence, per_axis: int, slice_profile=None) -> AnchoredGenerator:
    """For one sequence, and others like it: lengths are those of the signals under the sequence itself."""
    axes = [np.linspace(0, 1, per_axis)] * len(box.names)
    anchors = box.spread(np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, len(axes)).astype(np.float32))
    places = np.asarray(box.coordinates(anchors), float)
    signals = np.asarray(simulate(sequence, anchors, slice_profile=slice_profile), float)
    norm, size = fit_norms(places, np.linalg.norm(signals, axis=1)), anchors.size
    features = RadialFeatures(places, np.ones(places.shape[1]), "quintic")
    model = RadialWeights({size: features}, {size: weight_matrix(features)})
    norms, none = np.asarray(norm(box.coordinates(anchors))), anchors.rows(slice(0))
    checked = {"checked_norms": norms, "checked_weights": {size: np.eye(size)}, "error_shapes": {size: norm}}
    return AnchoredGenerator(box, anchors, norms, norm, slice_profile, model, anchors, none, **checked)


def of_family(generator: AnchoredGenerator, family: str) -> AnchoredGenerator:
    """The generator as one that has learned from sequences of another kind."""
    return dataclasses.replace(generator, family=family)
