"""Errors of a generator's fingerprints, and of the maps they give, beside the simulator and the baselines."""

import dataclasses
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from ganmrf.dictionary.build import Dictionary
from ganmrf.dictionary.compress import svd_basis
from ganmrf.dictionary.match import Maps, match
from ganmrf.gan.baselines import linear_interpolation, radial_basis_functions
from ganmrf.gan.generate import generate, stream
from ganmrf.imaging.coils import compress_coils
from ganmrf.imaging.phantom import BRAIN_TISSUES, Brain
from ganmrf.imaging.pipeline import reconstruct
from ganmrf.metrics import TissueRow, fingerprint_errors, rrmse, tissue_table
from ganmrf.physics.tissue import Tissue
from ganmrf.runs.training import Run
from ganmrf.scanner import Scanner

REFIT = ", output layer solved for"
_CALIBRATION_RANK, _VIRTUAL_COILS = 2, 10
_BLOCK = 8192  # atoms whose fingerprints are in memory at a time: 33 MB of 1000 frames


class Scan(NamedTuple):
    """A digital brain and its noisy signals: signal-to-noise ratio -> (frames, voxels of the brain)."""

    brain: Brain
    signals: dict[float, np.ndarray]

    def match(self, dictionary: Dictionary, snr: float, *, progress: bool = False) -> Maps:
        """Maps of the brain, (y, x), by a dictionary; 0 (index -1) outside the brain."""
        found, mask = match(dictionary, self.signals[snr], progress=progress), self.brain.brain_mask

        def placed(name, values):
            whole = np.full(mask.shape, -1 if name == "index" else 0, values.dtype)
            whole[mask] = values
            return whole

        return Maps(**{name: placed(name, values) for name, values in vars(found).items()})


class Method(NamedTuple):
    """A way from tissue to unit fingerprints, (atoms, frames), and core-seconds of its training or fitting."""

    make: Callable[[Tissue], np.ndarray]
    core_seconds: float


class MapErrors(NamedTuple):
    """Maps by a generated dictionary against those by the simulated one, over the voxels of the brain.

    Attributes:
      t1: relative root-mean-square difference of T1.
      t2: that of T2.
      changed: share of voxels that were matched to another atom.
      tissues: differences tissue by tissue, over voxels that one tissue fills to 95 %.
      maps: by the generated dictionary.
    """

    t1: float
    t2: float
    changed: float
    tissues: list[TissueRow]
    maps: Maps


class Evaluation(NamedTuple):
    """Errors of all methods on one grid.

    Attributes:
      simulated: the dictionary that is the reference.
      evaluated: which atoms the methods are compared on, bool, (atoms,).
      evaluated_as: a phrase that says which atoms these are.
      outside: atoms outside the generator's trained range, bool, (atoms,).
      errors: method -> relative error of every evaluated fingerprint.
      core_seconds: method -> core-seconds of its training.
      all_errors: relative error of every atom by the generator, (atoms,).
      norm_error: mean relative error of its norms over the evaluated atoms.
      reference_maps: signal-to-noise ratio -> maps by the simulated dictionary.
      maps: signal-to-noise ratio -> method -> errors.
      final: the method that is the generator at the end of its recipe, with or without a refit of the output layer.
    """

    simulated: Dictionary
    evaluated: np.ndarray
    evaluated_as: str
    outside: np.ndarray
    errors: dict[str, np.ndarray]
    core_seconds: dict[str, float]
    all_errors: np.ndarray
    norm_error: float
    reference_maps: dict[float, Maps]
    maps: dict[float, dict[str, MapErrors]]
    final: str


def scan_brain(
    dictionary: Dictionary, scanner: Scanner, *, snrs, seed: int, trajectory=None, progress: bool = False
) -> Scan:
    """Scans the digital brain with a dictionary's sequence, once for every signal-to-noise ratio.

    The ratios are of perfect images or, with a ``trajectory``, (frames, samples, 2), 1/m, of the coils' samples, from
    which each frame is gridded. The ``seed`` is of the brain's variation and of the noise.
    """
    played = {"slice_profile": dictionary.slice_profile, "seed": seed, "progress": progress}
    if trajectory is None:
        return Scan(*scanner.noisy_signals(dictionary.sequence, snrs, **played))
    basis = svd_basis(dictionary.fingerprints, _CALIBRATION_RANK)
    scan, signals = scanner.sample(dictionary.sequence, trajectory, **played), {}
    for snr in snrs:
        raw = scan.with_noise(snr, seed).raw
        kspace, _ = compress_coils(raw.kspace, min(_VIRTUAL_COILS, scanner.coils))
        arrays = trajectory, basis, raw.matrix, raw.voxel_size
        images = reconstruct(kspace, *arrays, method="frames", progress=progress).images
        signals[snr] = images[:, scan.brain.brain_mask]
    return Scan(scan.brain, signals)


def evaluate_generator(
    run: Run,
    regression: Run | None,
    scan: Scan,
    *,
    simulated: Dictionary | None = None,
    map_baselines: bool = True,
) -> Evaluation:
    """Compares a generator with the simulator, and with interpolations fitted to the same training set.

    Args:
      run: of the generator.
      regression: the run of the same recipe without a discriminator, or None.
      scan: of the sequence of ``run``.
      simulated: None for the dictionary of ``run``: its test set counts or, where it has none, all its atoms; or a
        dictionary of another grid, whose atoms within the trained range count.
      map_baselines: whether the baselines' maps are evaluated too, at the first signal-to-noise ratio.
    """
    generator = run.generator()
    own, simulated = simulated is None, run.dictionary if simulated is None else simulated
    outside = generator.box.outside(simulated.tissue)
    if own and "test" in run.data.rows:
        evaluated, evaluated_as = np.isin(np.arange(outside.size), run.data.rows["test"]), "of the test set"
    elif own:
        evaluated, evaluated_as = np.ones(outside.size, bool), "that it was trained on"
    else:
        evaluated, evaluated_as = ~outside, "within the trained range"
    found, final = _networks(run, regression) | _interpolations(run), "generator" + REFIT * run.recipe.refit
    generated = stream(generator, simulated.tissue)
    reference = {snr: scan.match(simulated, snr) for snr in scan.signals}

    def maps_by(fingerprints, norms, snr):
        dictionary = dataclasses.replace(simulated, fingerprints=fingerprints, norms=norms)
        return map_errors(scan.match(dictionary, snr, progress=True), reference[snr], scan.brain)

    def errors_of(method):
        return _errors(lambda rows: method.make(simulated.tissue.rows(rows)), simulated, evaluated)

    maps = {snr: {final: maps_by(generated.fingerprints, generated.norms, snr)} for snr in scan.signals}
    if map_baselines:
        first = next(iter(maps))
        for name, method in found.items():
            if name != final:
                maps[first][name] = maps_by(method.make(simulated.tissue), simulated.norms, first)
    norms = np.asarray(simulated.norms, float)[evaluated]
    return Evaluation(
        simulated=simulated,
        evaluated=evaluated,
        evaluated_as=evaluated_as,
        outside=outside,
        errors={name: errors_of(method) for name, method in found.items()},
        core_seconds={name: method.core_seconds for name, method in found.items()},
        all_errors=_errors(generated.fingerprints.__getitem__, simulated, np.ones(outside.size, bool)),
        norm_error=float(np.mean(np.abs(generated.norms[evaluated] / norms - 1))),
        reference_maps=reference,
        maps=maps,
        final=final,
    )


def _errors(made, simulated, counted):
    """Relative errors of the counted rows, a block in memory at a time; ``made`` gives the rows of an index."""
    errors = []
    for start in range(0, counted.size, _BLOCK):
        kept = np.flatnonzero(counted[start : start + _BLOCK])
        if kept.size:
            truth = np.asarray(simulated.fingerprints[start : start + _BLOCK])[kept]
            errors.append(fingerprint_errors(made(start + kept), truth))
    return np.concatenate(errors)


def errors_by_method(run: Run, *, baselines: bool) -> dict[str, tuple[np.ndarray, float]]:
    """Errors of the test set's fingerprints, before and after the refit of the output layer.

    Name of a method -> relative errors, (atoms,), and core-seconds; ``baselines`` adds the interpolations.
    """
    tissue, fingerprints = _rows_of(run, "test")
    found = _networks(run, None) | (_interpolations(run) if baselines else {})
    return {
        name: (fingerprint_errors(method.make(tissue), fingerprints), method.core_seconds)
        for name, method in found.items()
    }


def map_errors(maps: Maps, simulated: Maps, brain: Brain) -> MapErrors:
    """Maps by a generated dictionary against those by the simulated one."""
    inside = brain.brain_mask
    names = {label: name for label, name in enumerate(brain.tissue_names) if name in BRAIN_TISSUES}
    labels = np.where(inside, brain.labels, -1)
    return MapErrors(
        rrmse(maps.t1[inside], simulated.t1[inside]),
        rrmse(maps.t2[inside], simulated.t2[inside]),
        float(1 - np.mean(maps.index[inside] == simulated.index[inside])),
        tissue_table(simulated.t1, simulated.t2, maps.t1, maps.t2, labels, names),
        maps,
    )


def _networks(run, regression):
    return {
        name + REFIT * refit: Method(_generates(each.generator(refit=refit)), each.rows[-1]["core_seconds"])
        for name, each in (("generator", run), ("regression only", regression))
        if each is not None
        for refit in ((False, True) if each.recipe.head == "svd" else (False,))
    }


def _interpolations(run):
    found, (tissue, fingerprints) = {}, _rows_of(run, "train")
    fits = {"radial basis functions": radial_basis_functions, "linear interpolation": linear_interpolation}
    for name, fit in fits.items():
        start = time.process_time()
        interpolate = fit(tissue, fingerprints)
        found[name] = Method(interpolate, time.process_time() - start)
    return found


def _generates(generator):
    return lambda tissue: generate(generator, tissue, allow_extrapolation=True).fingerprints


def _rows_of(run, part):
    """Tissue and fingerprints of one set of a run."""
    rows = run.data.rows[part]
    return jax.tree.map(np.asarray, run.dictionary.tissue).rows(rows), np.asarray(run.dictionary.fingerprints)[rows]
