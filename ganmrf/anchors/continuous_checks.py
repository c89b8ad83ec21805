"""What is to be known of continuous maps beside their error bars: ends of ranges, the fit, the generator's errors."""

import dataclasses
import functools

import numpy as np

from ganmrf.anchors.collapsed import GeneratedSignals
from ganmrf.anchors.prepared import PreparedSequence
from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.induced_bias import BiasToNoise, bias_to_noise
from ganmrf.dictionary.match import frames_first
from ganmrf.dictionary.refine import Refined
from ganmrf.parallel import meshes
from ganmrf.physics.tissue import FACTS

_TISSUES = 32  # of the maps that biases are computed for: few, as derivatives by the simulator are dear
_ACCURACY = 1e-5  # of their simulation: below the errors of every generator
_AT_END = 1e-6  # of a range: the rounding of logarithms, and far below any error bar


def fit_quality(prepared: PreparedSequence, images, maps: Refined, *, mask, axis: int = 0) -> np.ndarray:
    """Normalised inner product of each voxel's signal and its fit, 0 to 1, of the spatial shape; 0 outside the mask.

    Args:
      prepared: the sequence that the maps were made with.
      images: as for `continuous_maps`, and so ``axis``.
      maps: result of `continuous_maps` for these images.
      mask: voxels that were fitted, boolean, of the spatial shape.
      axis: of the frames in ``images``.
    """
    source, (mesh, *_) = GeneratedSignals.of(prepared), meshes()
    dictionary = prepared.generate(prepared.generator.box.corner(), compressed=True)
    data = frames_first(dictionary, images, axis)[:, mask].T
    made = source.signals(_tissue(prepared, maps, mask), tuple(maps.stds), mesh)[:, 0]  # by the program of the fit
    coefficients = data @ prepared.basis if data.shape[1] == len(prepared.basis) else data
    found = np.zeros(maps.shape)
    product = np.abs(np.einsum("vr,vr->v", made.conj(), coefficients))
    found[mask] = product / (np.linalg.norm(made, axis=1) * np.linalg.norm(data, axis=1))
    return np.minimum(found, 1)


def at_ends(prepared: PreparedSequence, maps: Refined, *, mask) -> dict[str, np.ndarray]:
    """Where each fitted parameter is at an end of the generator's range, name -> bool, of the spatial shape.

    Tissue beyond the range may fit better there. The least value that a parameter can have at all, such as a fraction
    of 0, is no such end, and a periodic axis has none.
    """
    box, found = prepared.generator.box, {}
    for name in maps.stds:
        axis, values = box.names.index(name), maps.parameters[name]
        low, high = box.low[axis], box.high[axis]
        near = _AT_END * (high - low)
        at_low = (values <= low + near) & (low > FACTS[name].least)
        at_high = (values >= high - near) & (high < FACTS[name].most)
        found[name] = np.asarray(mask) & (name not in box.periodic) & (at_low | at_high)
    return found


def generator_bias(prepared: PreparedSequence, maps: Refined, *, progress: bool = False) -> BiasToNoise:
    """The bias that errors of the generator induce in maps, over their error bars, in up to 32 of the voxels.

    The voxels, with known error bars, are spread over the values of T1. Each is simulated, with its derivatives by what
    was fitted, and `bias_to_noise` compares it with what is generated, at the noise and the M0 of the voxel.

    Args:
      prepared: the sequence that the maps were made with.
      maps: result of `continuous_maps`.
      progress: whether to show a progress bar with an estimate of the time left.

    Returns:
      Of each fitted parameter and of abs(M0), (voxels,); no voxel where none has error bars.
    """
    known = functools.reduce(np.logical_and, (np.isfinite(std) & (std > 0) for std in maps.stds.values()))
    voxels = np.flatnonzero(known)
    voxels = voxels[np.argsort(maps.t1.ravel()[voxels], kind="stable")]
    voxels = voxels[np.linspace(0, voxels.size - 1, min(voxels.size, _TISSUES)).astype(int)]
    names = tuple(maps.stds)
    if not voxels.size:
        return BiasToNoise(parameters={name: np.empty(0) for name in names}, m0=np.empty(0))
    tissue = _tissue(prepared, maps, np.unravel_index(voxels, maps.shape))
    simulated = build_dictionary(prepared.sequence, tissue, accuracy=_ACCURACY, slice_profile=prepared.slice_profile)
    (bias,) = bias_to_noise(simulated, [prepared.generate(tissue)], 1.0, parameters=names, progress=progress)
    louder = np.abs(maps.m0.ravel()[voxels]) / maps.noise.ravel()[voxels]
    return BiasToNoise(parameters={name: louder * each for name, each in bias.parameters.items()}, m0=louder * bias.m0)


def _tissue(prepared, maps, places):
    """The tissue of some voxels, each field (voxels,), float32; periodic parameters inside the box."""
    box = prepared.generator.box
    fields = {name: values[places] for name, values in maps.parameters.items()}
    for name in box.periodic:
        low, high = (ends[box.names.index(name)] for ends in (box.low, box.high))
        fields[name] = low + (fields[name] - low) % (high - low)
    return dataclasses.replace(box.corner(), **{name: values.astype(np.float32) for name, values in fields.items()})
