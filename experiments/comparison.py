"""Generated dictionaries beside simulated ones: errors of their fingerprints, and of the maps they give."""

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import numpy as np

from ganmrf.dictionary.build import Dictionary
from ganmrf.dictionary.match import Maps, match
from ganmrf.gan.baselines import linear_interpolation, radial_basis_functions
from ganmrf.gan.generate import generate
from ganmrf.imaging.phantom import Brain, acquire, add_noise, digital_brain
from ganmrf.physics.types import Tissue
from ganmrf.report.metrics import TissueRow, exact_share, fingerprint_errors, rrmse, tissue_table


class Scan(NamedTuple):
    """A digital brain and its noisy series, signal-to-noise ratio -> images (frames, y, x)."""

    brain: Brain
    images: dict[float, np.ndarray]


class Method(NamedTuple):
    """A way to make fingerprints: a function from tissue to them, its training in core-seconds, 0 for none."""

    make: Callable[[Tissue], np.ndarray]
    core_seconds: float


class MapErrors(NamedTuple):
    """Maps by a generated dictionary against those by the simulated one, over the voxels of the brain.

    Attributes:
      t1: relative root-mean-square difference of T1.
      t2: that of T2.
      changed: share of voxels that were matched to another atom.
      tissues: differences tissue by tissue, where one fills a voxel to 95 %.
      maps: what the generated dictionary gave.
    """

    t1: float
    t2: float
    changed: float
    tissues: list[TissueRow]
    maps: Maps


def scan_brain(dictionary: Dictionary, *, size: int, snrs, seed: int, progress: bool) -> Scan:
    """Scans the digital brain with a dictionary's sequence; every signal-to-noise ratio gets noise of its own seed."""
    brain = digital_brain(size=size, seed=seed)
    clean = acquire(brain, dictionary.sequence, slice_profile=dictionary.slice_profile, progress=progress)
    noisy = {snr: add_noise(clean, snr, mask=brain.brain_mask, seed=seed + i) for i, snr in enumerate(snrs)}
    return Scan(brain, noisy)


def methods(run, regression=None) -> dict[str, Method]:
    """The generator of a `training.Run` and what it must be judged beside, all from the same training set.

    Args:
      run: the generator's run.
      regression: the run of the same recipe without a discriminator, or None.
    """
    found = {}
    for name, each in (("generator", run), ("regression only", regression)):
        if each is None:
            continue
        seconds = each.rows[-1]["core_seconds"]
        for refit in (False, True) if each.training.recipe.head == "svd" else (False,):
            label = f"{name}, output layer solved for" if refit else name
            found[label] = Method(_generates(each.generator(refit=refit)), seconds)
    rows = run.data.rows["train"]
    tissue = jax.tree.map(lambda leaf: leaf[rows] if leaf.ndim else leaf, run.dictionary.tissue)
    fingerprints = np.asarray(run.dictionary.fingerprints)[rows]
    for name, fit in (
        ("radial basis functions", radial_basis_functions),
        ("linear interpolation", linear_interpolation),
    ):
        start = time.process_time()
        interpolate = fit(tissue, fingerprints)
        found[name] = Method(interpolate, time.process_time() - start)
    return found


def _generates(generator):
    return lambda tissue: generate(generator, tissue, allow_extrapolation=True).fingerprints


def errors_of(found: Mapping[str, Method], simulated: Dictionary, rows=None) -> dict[str, np.ndarray]:
    """Relative L2 error of every fingerprint, method by method, at some ``rows`` of a dictionary; all by default."""
    rows = slice(None) if rows is None else rows
    tissue = Tissue(np.asarray(simulated.tissue.t1)[rows], np.asarray(simulated.tissue.t2)[rows], simulated.tissue.b1)
    reference = np.asarray(simulated.fingerprints)[rows]
    return {name: fingerprint_errors(method.make(tissue), reference) for name, method in found.items()}


def match_all(dictionary: Dictionary, scan: Scan, *, progress: bool) -> dict[float, Maps]:
    """Maps of the brain from every series of a scan."""
    return {
        snr: match(dictionary, images, mask=scan.brain.brain_mask, progress=progress)
        for snr, images in scan.images.items()
    }


def map_errors(maps: Maps, simulated: Maps, brain: Brain) -> MapErrors:
    """How maps differ from those by the simulated dictionary, of the same atoms."""
    inside = brain.brain_mask
    names = {label: name for label, name in enumerate(brain.tissue_names) if name not in ("skull", "scalp")}
    labels = np.where(inside, brain.labels, -1)
    return MapErrors(
        rrmse(maps.t1[inside], simulated.t1[inside]),
        rrmse(maps.t2[inside], simulated.t2[inside]),
        1 - exact_share(maps.index[inside], simulated.index[inside]),
        tissue_table(simulated.t1, simulated.t2, maps.t1, maps.t2, labels, names),
        maps,
    )
