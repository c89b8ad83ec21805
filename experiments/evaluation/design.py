"""Checks of a designed sequence: noisy voxels, maps of the digital brain, other B1 and other tissues."""

from typing import NamedTuple

import numpy as np

from ganmrf.design.bounds import precision
from ganmrf.design.verification import exact_bounds
from ganmrf.dictionary.build import Dictionary, build_dictionary
from ganmrf.dictionary.grids import at_each_b1, pool_grid, tissue_grid
from ganmrf.dictionary.match import match
from ganmrf.dictionary.refine import refine
from ganmrf.memory import require_memory
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.simulate_many import simulate_many
from ganmrf.physics.tissue import Tissue, TissueModel
from ganmrf.runs.designing import Design, DesignConfig
from ganmrf.scanner import Scanner

_BYTES = 64  # of a noisy voxel and frame: noise drawn in float64, complex noise, images without it and with it
# s: axes of atoms of two pools, in steps of a tenth, from which a fit finds the way.
_T1, _T2 = np.geomspace(0.5, 4.0, 22), np.geomspace(0.02, 0.3, 28)


class MonteCarlo(NamedTuple):
    """Relative standard deviations, (tissues, parameters) each: the Cramer-Rao bound, and that of estimates."""

    predicted: np.ndarray
    measured: np.ndarray


def require_check_memory(n_frames: int, n_tissues: int, draws: int, size: int):
    """Raises `ValueError` with both figures where the voxels of `monte_carlo` or `noise_in_maps` would not fit."""
    needed = _BYTES * n_frames * max(draws * n_tissues, size**2)
    what = f"a check of the design by {draws} voxels of each tissue and a brain of {size} x {size}"
    require_memory(needed, what, "fewer --draws, a smaller --brain_size or fewer --frames need less")


def atoms(sequence: Fisp, slice_profile, kind: str = "one_pool") -> Dictionary:
    """The dictionary from whose atoms the checks refine: on the paper's grid, or for tissue of another kind."""
    grid = tissue_grid("paper") if kind == "one_pool" else pool_grid(kind, t1=_T1, t2=_T2)
    return build_dictionary(sequence, grid, slice_profile=slice_profile)


def monte_carlo(
    sequence: Fisp,
    dictionary: Dictionary,
    tissue: TissueModel,
    *,
    names: tuple[str, ...] = ("t1", "t2"),
    snr: float,
    draws: int,
    seed: int,
) -> MonteCarlo:
    """Spread of parameters in noisy voxels of each tissue, (tissues,), matched and refined, beside the bound.

    ``names`` are those of the parameters that are estimated; the others are known. ``dictionary`` is the `atoms` of the
    sequence; ``snr`` is M0 divided by the standard deviation of the real, and of the imaginary, part of a frame's
    noise; ``draws`` is the number of voxels of each tissue.
    """
    profile = dictionary.slice_profile
    clean = simulate_many(sequence, tissue, accuracy=1e-5, slice_profile=profile)
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((draws, *clean.shape, 2)) @ [1, 1j] / snr
    images = np.moveaxis(clean + noise, -1, 0)  # (frames, draws, tissues)
    values = {name: value for name, value in vars(tissue).items() if value is not None}
    known = {name: np.broadcast_to(value, (draws, tissue.size)) for name, value in values.items() if name not in names}
    form = {"fit": names, "known": known, "noise": 1 / snr, "force": True}
    found = refine(dictionary, images, match(dictionary, images), **form)
    bound = precision(sequence, tissue, parameters=names, slice_profile=profile)
    predicted = np.stack([bound.stds[name] for name in names], axis=1) / snr
    measured = np.stack([found.parameters[name].std(axis=0) / values[name] for name in names], axis=1)
    return MonteCarlo(predicted, measured)


def noise_in_maps(
    sequence: Fisp, dictionary: Dictionary, *, size: int, snr: float, seed: int
) -> dict[str, tuple[float, float]]:
    """Root mean square of the changes by noise in maps of the digital brain, relative: tissue's name -> (T1, T2).

    Images, of ``size`` rows and columns, are perfect but for white noise; maps with and without noise are matched and
    refined. ``dictionary`` and ``snr`` are those of `monte_carlo`; ``seed`` is that of the brain and the noise.
    """
    scan = Scanner(size).image(sequence, slice_profile=dictionary.slice_profile, seed=seed)
    brain, images = scan.brain, scan.images
    rng = np.random.default_rng(seed)
    noise = (rng.standard_normal((*images.shape, 2)) @ [1, 1j] / snr).astype(np.complex64)
    clean, noisy = (
        refine(dictionary, series, match(dictionary, series, mask=brain.brain_mask), noise=1 / snr)
        for series in (images, images + noise)
    )
    errors = {}
    for label, name in enumerate(brain.tissue_names):
        here = (brain.labels == label) & brain.brain_mask
        if here.any():
            errors[name] = tuple(
                float(np.sqrt(np.mean((getattr(noisy, field)[here] / getattr(clean, field)[here] - 1) ** 2)))
                for field in ("t1", "t2")
            )
    return errors


def over_b1(sequence: Fisp, tissue: TissueModel, b1: np.ndarray, slice_profile, names=("t1", "t2")) -> np.ndarray:
    """Bounds of parameters at each known B1, (names, tissues, values)."""
    voxels = at_each_b1(tissue, b1, b1_slowest=False)
    found = precision(sequence, voxels, parameters=tuple(names), slice_profile=slice_profile)
    return np.reshape([found.stds[name] for name in names], (len(names), tissue.size, b1.size))


def gains_of_served(found: Design, config: DesignConfig) -> np.ndarray:
    """Factors by which a design is more precise than its start, (parameters, voxels), of all that it must serve."""
    form = config.served, config.unknown, config.simulation.slice_profile()
    before, after = (exact_bounds(sequence, *form) for sequence in (found.start, found.sequence))
    return np.stack([np.asarray(before.stds[name] / after.stds[name]) for name in config.unknown])


def over_tissues(before: Fisp, after: Fisp, slice_profile) -> tuple[Tissue, np.ndarray, np.ndarray]:
    """Tissues of the coarse grid, and the factors by which T1 and T2 are more precise after the design than before."""
    grid = tissue_grid("coarse")
    old, new = (precision(sequence, grid, slice_profile=slice_profile) for sequence in (before, after))
    return grid, np.asarray(old.t1 / new.t1), np.asarray(old.t2 / new.t2)
