"""Errors of generated fingerprints, and of the maps they give, beside the simulator's and beside the truth."""

import dataclasses
import time
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import jax
import numpy as np

from ganmrf.dictionary.build import Dictionary
from ganmrf.dictionary.compress import svd_basis
from ganmrf.dictionary.induced_bias import BiasToNoise, bias_to_noise
from ganmrf.dictionary.match import Maps, match
from ganmrf.dictionary.rows import RowsOnDemand
from ganmrf.gan.baselines import (
    linear_interpolation,
    radial_basis_functions,
    rsvd_polynomials,
    spline_interpolation,
)
from ganmrf.gan.data import axes_of
from ganmrf.gan.generate import stream, trained_box
from ganmrf.imaging.coils import compress_coils
from ganmrf.imaging.phantom import BRAIN_TISSUES, Brain, noise_std
from ganmrf.imaging.pipeline import reconstruct
from ganmrf.metrics import TissueRow, fingerprint_errors, rrmse, tissue_table
from ganmrf.runs.training import Run
from ganmrf.scanner import Scanner

REFIT = ", output layer solved for"
RADIAL = "radial basis functions"  # of the interpolations, the one that takes more axes than T1 and T2
_CALIBRATION_RANK, _VIRTUAL_COILS = 2, 10
_INTERPOLATIONS = {
    RADIAL: radial_basis_functions,
    "splines": spline_interpolation,
    "randomised SVD and polynomials": rsvd_polynomials,
    "linear interpolation": linear_interpolation,
}
_BIASED = 1024  # atoms of a grid whose bias is computed, evenly spread: derivatives cost five simulations
_BLOCK = 8192  # atoms whose fingerprints are in memory at a time: 33 MB of 1000 frames


class Scan(NamedTuple):
    """A digital brain and its noisy signals.

    Attributes:
      brain: the brain.
      signals: signal-to-noise ratio -> (frames, voxels of the brain).
      noise: signal-to-noise ratio -> standard deviation of the noise, as `ganmrf.imaging.phantom.noise_std` has it.
    """

    brain: Brain
    signals: dict[float, np.ndarray]
    noise: dict[float, float]

    def match(self, dictionary: Dictionary, snr: float, *, progress: bool = False) -> Maps:
        """Maps of the brain, (y, x), by a dictionary; 0 (index -1) outside the brain."""
        found, mask = match(dictionary, self.signals[snr], progress=progress), self.brain.brain_mask

        def placed(name, values):
            whole = np.full(mask.shape, -1 if name == "index" else 0, values.dtype)
            whole[mask] = values
            return whole

        return Maps(**{name: placed(name, each) for name, each in found.arrays().items()})


class Method(NamedTuple):
    """A way to generate a dictionary.

    Attributes:
      generate: from a simulated dictionary to the generated one of the same atoms, whose fingerprints may be
        `RowsOnDemand`; a method without norms of its own leaves the simulated ones.
      core_seconds: of its training or fitting.
      has_norms: whether it has norms of its own.
    """

    generate: Callable[[Dictionary], Dictionary]
    core_seconds: float
    has_norms: bool = False


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


class Reference(NamedTuple):
    """What generated dictionaries of one grid are compared with.

    Attributes:
      simulated: the simulated dictionary.
      evaluated: which atoms count, bool, (atoms,).
      evaluated_as: a phrase that says which atoms these are.
      outside: atoms outside the trained range, bool, (atoms,).
      maps: signal-to-noise ratio -> maps by the simulated dictionary.
    """

    simulated: Dictionary
    evaluated: np.ndarray
    evaluated_as: str
    outside: np.ndarray
    maps: dict[float, Maps]


class Evaluation(NamedTuple):
    """Errors of all methods on one grid.

    Attributes:
      reference: what they are compared with.
      errors: method -> relative error of every fingerprint, (atoms,).
      norm_errors: method with norms of its own -> relative error of every norm, (atoms,).
      biases: method -> bias over noise at the atoms ``biased``, for M0 = 1 and the first signal-to-noise ratio.
      biased: indices of these atoms: evenly spread ones and, but for a large grid, those that voxels match.
      core_seconds: method -> core-seconds of its training.
      maps: signal-to-noise ratio -> method -> errors.
      shown: the method whose maps and errors the figures show.
    """

    reference: Reference
    errors: dict[str, np.ndarray]
    norm_errors: dict[str, np.ndarray]
    biases: dict[str, BiasToNoise]
    biased: np.ndarray
    core_seconds: dict[str, float]
    maps: dict[float, dict[str, MapErrors]]
    shown: str

    def counted(self, method: str) -> np.ndarray:
        """Errors of a method at the atoms that count."""
        return self.errors[method][self.reference.evaluated]

    def counted_biases(self, method: str) -> dict[str, np.ndarray]:
        """Bias over noise of T1, T2 and M0 by a method, at those evenly spread atoms ``biased`` that count."""
        counted = self.reference.evaluated[self.biased] & (self.biased % _step(len(self.reference.evaluated)) == 0)
        bias = self.biases[method]
        return {name: values[counted] for name, values in (bias.parameters | {"m0": bias.m0}).items()}

    def of(self, methods, shown: str) -> "Evaluation":
        """The evaluation of some of the methods, of which one is shown."""
        of_methods = ("errors", "norm_errors", "biases", "core_seconds")
        kept = {field: {k: v for k, v in getattr(self, field).items() if k in methods} for field in of_methods}
        maps = {snr: {k: v for k, v in found.items() if k in methods} for snr, found in self.maps.items()}
        return self._replace(**kept, maps=maps, shown=shown)


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
    scan, signals, noise = scanner.sample(dictionary.sequence, trajectory, **played), {}, {}
    for snr in snrs:
        raw = scan.with_noise(snr, seed).raw
        kspace, _ = compress_coils(raw.kspace, min(_VIRTUAL_COILS, scanner.coils))
        arrays = trajectory, basis, raw.matrix, raw.voxel_size
        images = reconstruct(kspace, *arrays, method="frames", progress=progress).images
        signals[snr] = images[:, scan.brain.brain_mask]
        noise[snr] = noise_std((image[scan.brain.brain_mask] for image in scan.images), snr)
    return Scan(scan.brain, signals, noise)


def reference_for(run: Run, scan: Scan, simulated: Dictionary | None = None, *, snrs=None) -> Reference:
    """What a trained generator is compared with.

    Args:
      run: of the generator.
      scan: of the sequence of ``run``.
      simulated: None for the dictionary of ``run``: its test set counts or, where it has none, all its atoms; or a
        dictionary of another grid, whose atoms within the trained range count.
      snrs: signal-to-noise ratios at which maps are compared; all of the scan by default.
    """
    own, simulated = simulated is None, run.dictionary if simulated is None else simulated
    outside = trained_box(run.dictionary).outside(simulated.tissue)
    if own and "test" in run.data.rows:
        evaluated, phrase = np.isin(np.arange(outside.size), run.data.rows["test"]), "of the test set"
    elif own:
        evaluated, phrase = np.ones(outside.size, bool), "that it was trained on"
    else:
        evaluated, phrase = ~outside, "within the trained range"
    maps = {snr: scan.match(simulated, snr) for snr in (scan.signals if snrs is None else snrs)}
    return Reference(simulated, evaluated, phrase, outside, maps)


def evaluate_methods(
    methods: Mapping[str, Method], reference: Reference, scan: Scan, *, shown: tuple[str, ...], mapped: bool = True
) -> Evaluation:
    """Compares generated dictionaries with the simulated one.

    Args:
      methods: by name.
      reference: the simulated one.
      scan: the brain that is matched with all of them.
      shown: the methods that are matched at every signal-to-noise ratio of ``reference``; the figures show the first.
      mapped: whether the other methods are matched too, at the first ratio.
    """
    errors, norm_errors, maps, generated = {}, {}, {snr: {} for snr in reference.maps}, {}
    first, simulated = next(iter(maps)), reference.simulated
    for name, method in methods.items():
        generated[name] = made = method.generate(simulated)
        errors[name] = _errors(made.fingerprints, simulated.fingerprints)
        if method.has_norms:
            norm_errors[name] = np.abs(np.asarray(made.norms, float) / simulated.norms - 1)
        for snr in maps if name in shown else [first] * mapped:
            maps[snr][name] = map_errors(scan.match(made, snr, progress=True), reference.maps[snr], scan.brain)
    biased = np.arange(0, len(reference.evaluated), _step(len(reference.evaluated)))
    if len(reference.evaluated) <= _BLOCK:  # atoms of the voxels too, for their map
        biased = np.union1d(biased, reference.maps[first].index[scan.brain.brain_mask])
    biases = bias_to_noise(simulated, list(generated.values()), scan.noise[first], rows=biased, progress=True)
    return Evaluation(
        reference=reference,
        errors=errors,
        norm_errors=norm_errors,
        biases=dict(zip(generated, biases, strict=True)),
        biased=biased,
        core_seconds={name: method.core_seconds for name, method in methods.items()},
        maps=maps,
        shown=shown[0],
    )


def networks(runs: Mapping[str, Run]) -> dict[str, Method]:
    """The generators of some runs by name; where the output layer can be solved for, without that and with it."""
    found = {}
    for name, run in runs.items():
        for refit in (False, True) if run.recipe.head == "svd" else (False,):
            found[name + REFIT * refit] = _network(run, refit)
    return found


def interpolations(run: Run, names: Collection[str] = _INTERPOLATIONS) -> dict[str, Method]:
    """Interpolations fitted to the training set of a run, of those that take its tissue; none do off resonance."""
    if run.dictionary.tissue.off_resonance is not None:
        return {}
    found, (tissue, fingerprints) = {}, _rows_of(run, "train")
    several = len(axes_of(run.dictionary.tissue)) > 2
    for name in (RADIAL,) if several else names:
        start = time.process_time()
        interpolate = _INTERPOLATIONS[name](tissue, fingerprints)
        found[name] = Method(_on_grid(interpolate), time.process_time() - start)
    return found


def final_name(name: str, run: Run) -> str:
    """The name in `networks` of a run's generator at the end of its recipe, with or without a refit."""
    return name + REFIT * run.recipe.refit


def errors_by_method(run: Run, *, baselines: bool) -> dict[str, tuple[np.ndarray, float]]:
    """Errors of the test set's fingerprints, before and after the refit of the output layer.

    Name of a method -> relative errors, (atoms,), and core-seconds; ``baselines`` adds the interpolations.
    """
    methods = networks({"generator": run}) | (interpolations(run) if baselines else {})
    rows = run.data.rows["test"]
    dictionary = run.dictionary
    simulated = dataclasses.replace(
        dictionary,
        tissue=jax.tree.map(np.asarray, dictionary.tissue).rows(rows),
        fingerprints=np.asarray(dictionary.fingerprints)[rows],
        norms=np.asarray(dictionary.norms)[rows],
    )
    return {
        name: (_errors(method.generate(simulated).fingerprints, simulated.fingerprints), method.core_seconds)
        for name, method in methods.items()
    }


def map_errors(maps: Maps, simulated: Maps, brain: Brain) -> MapErrors:
    """Maps by a generated dictionary against those by the simulated one."""
    inside = brain.brain_mask
    return MapErrors(
        rrmse(maps.t1[inside], simulated.t1[inside]),
        rrmse(maps.t2[inside], simulated.t2[inside]),
        float(1 - np.mean(maps.index[inside] == simulated.index[inside])),
        _by_tissue(maps, simulated.t1, simulated.t2, brain),
        maps,
    )


def errors_against_truth(maps: Maps, brain: Brain) -> list[TissueRow]:
    """Maps against the T1 and T2 that the brain was made of, tissue by tissue, as in `MapErrors`."""
    return _by_tissue(maps, *brain.truth(), brain)


def _step(n_atoms):
    """Distance of the evenly spread atoms whose bias is computed."""
    return max(n_atoms // _BIASED, 1)


def _by_tissue(maps, t1, t2, brain):
    names = {label: name for label, name in enumerate(brain.tissue_names) if name in BRAIN_TISSUES}
    labels = np.where(brain.brain_mask, brain.labels, -1)
    return tissue_table(t1, t2, maps.t1, maps.t2, labels, names)


def _errors(generated, simulated):
    """Relative error of every fingerprint, a block in memory at a time."""
    blocks = (slice(start, start + _BLOCK) for start in range(0, len(simulated), _BLOCK))
    return np.concatenate([fingerprint_errors(generated[rows], np.asarray(simulated[rows])) for rows in blocks])


def _network(run, refit):
    generator = run.generator(refit=refit)
    return Method(lambda simulated: stream(generator, simulated.tissue), run.rows[-1]["core_seconds"], has_norms=True)


def _on_grid(interpolate):
    """From a simulated dictionary to the interpolated one, in memory where it is one block."""

    def generate(simulated):
        atoms = jax.tree.map(np.asarray, simulated.tissue.ravel())
        rows = RowsOnDemand(
            lambda rows: interpolate(atoms.rows(rows)), simulated.fingerprints.shape, np.dtype(np.float32)
        )
        return dataclasses.replace(simulated, fingerprints=rows[:] if len(rows) <= _BLOCK else rows)

    return generate


def _rows_of(run, part):
    """Tissue and fingerprints of one set of a run."""
    rows = run.data.rows[part]
    return jax.tree.map(np.asarray, run.dictionary.tissue).rows(rows), np.asarray(run.dictionary.fingerprints)[rows]
