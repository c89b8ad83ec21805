"""What a generator's errors look like: fingerprints of three tissues on simulated ones, and the bias of their fits."""

import dataclasses
from typing import NamedTuple

import jax
import numpy as np

from ganmrf.anchors.generator import AnchoredGenerator
from ganmrf.anchors.prepared import prepare
from ganmrf.anchors.sentinels import joined
from ganmrf.dictionary.build import Dictionary, build_dictionary
from ganmrf.dictionary.induced_bias import BiasToNoise, bias_to_noise
from ganmrf.physics.sequences.blocks import PulseSequence
from ganmrf.report.figures import REFERENCE_TIMES

M0_OVER_NOISE = 100.0  # a good voxel of a single scan; biases over noise grow in proportion

_PLACES = np.array([0.25, 0.5, 0.75])  # of the three tissues along each axis
_LIKE = 0.2  # relative, of T1 and T2: an atom of a table that is farther from a tissue of the brain is not named as it
_SPREAD = 32  # tissues that biases are computed for, spread over the box or a table: few, as derivatives are dear
_ACCURACY = 1e-5  # of the simulation: below the errors of every generator


class Example(NamedTuple):
    """Three tissues of a generator's box under a sequence that it has not learned from, and what its errors lead to.

    Attributes:
      names: of the tissues, with T1 and T2 in ms, (3,).
      simulated: their dictionary, and behind them that of tissues spread over the box.
      generated: of the same atoms, by anchors that the sequence's worst sentinels complete, whatever their error.
      bias: of T1, T2 and what is fitted beside them, over the standard deviation by noise, of the tissues spread over
        the box, at an M0 of `M0_OVER_NOISE` times the noise.
    """

    names: list[str]
    simulated: Dictionary
    generated: Dictionary
    bias: BiasToNoise


def example(generator: AnchoredGenerator, sequence: PulseSequence) -> Example:
    """Simulates and generates what an `Example` holds."""
    weights, names = _weights(generator)
    generated = prepare(generator, sequence, allow_error=np.inf).generate(weights)
    simulated = build_dictionary(sequence, generated.tissue, accuracy=_ACCURACY, slice_profile=generator.slice_profile)
    spread = np.arange(len(names), generated.tissue.size)
    (bias,) = bias_to_noise(simulated, [generated], 1 / M0_OVER_NOISE, rows=spread)
    return Example(names, simulated, generated, bias)


def _weights(generator):
    """Weights of the three tissues and of those behind them, and the names of the three.

    The three are the brain's where they all lie in the box, other axes than T1 and T2 at a quarter, half and three
    quarters of their ranges, as all axes are elsewhere. Of a table they are the atoms next to these.
    """
    box = generator.box
    tissue = jax.tree.map(np.asarray, box.spread(np.tile(_PLACES[:, None], len(box.names))))
    times = np.transpose(list(REFERENCE_TIMES.values()))
    brain = dataclasses.replace(tissue, t1=times[0], t2=times[1])
    in_box, labels = not box.outside(brain).any(), [""] * len(_PLACES)
    if in_box:
        tissue, labels = brain, [f"{name} " for name in REFERENCE_TIMES]
    if generator.model.any_tissue:
        others = jax.tree.map(np.asarray, box.spread(box.sobol(_SPREAD, 0)))
        weights = generator.weights(joined(tissue, others))
    else:
        atoms = generator.model.tissue
        apart = np.asarray(box.coordinates(atoms))[:, None] - np.asarray(box.coordinates(tissue))
        nearest = np.square(apart).sum(axis=-1).argmin(axis=0)
        others = np.arange(0, atoms.size, -(-atoms.size // _SPREAD))
        weights = generator.weights(atoms).rows(np.concatenate([nearest, others]))
    shown = weights.tissue.rows(slice(len(_PLACES)))
    found = np.stack([shown.t1, shown.t2], axis=1)
    like = (np.abs(found / np.stack([tissue.t1, tissue.t2], axis=1) - 1) <= _LIKE).all(axis=1)
    pairs = zip(labels, like, 1e3 * found, strict=True)
    return weights, [f"{label if named else ''}{t1:.0f}/{t2:.0f} ms" for label, named, (t1, t2) in pairs]
