"""Errors of the maps that ways to reconstruct a scan of the digital brain give, whose T1 and T2 are known."""

import functools
import sys
import time

import numpy as np

from experiments.acquisition import Scanner
from experiments.config import SimulationConfig, SpiralConfig
from experiments.stages import Stages
from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.compress import compress
from ganmrf.dictionary.match import match
from ganmrf.dictionary.refine import refine
from ganmrf.imaging.coils import compress_coils
from ganmrf.imaging.phantom import digital_brain
from ganmrf.imaging.pipeline import reconstruct
from ganmrf.imaging.sensitivities import calibrate
from ganmrf.report.metrics import tissue_table

TISSUES = ("white matter", "grey matter")


def compare(folder, settings: dict) -> tuple[list[dict], dict]:
    """Errors of every scan and method, a row each; maps of the first seed by rotation and method, with their truth.

    Maps that ``folder`` holds already are not made again.
    """
    simulation = SimulationConfig(**settings["simulation"])
    sequence, profile = simulation.sequence(), simulation.slice_profile()
    dictionary = build_dictionary(sequence, simulation.tissue(), slice_profile=profile)
    compressed, _ = compress(dictionary, settings["rank"])
    rows, shown = [], {}
    for rotation in settings["rotations"]:
        sampling = SpiralConfig(**settings["sampling"] | {"rotation": rotation})
        scanner = Scanner(sampling, coils=settings["coils"], snr=settings["snr"])
        trajectory = sampling.trajectory(sequence.n_frames)
        for seed in settings["seeds"]:
            print(f"{rotation}, seed {seed}", flush=True)
            stages = Stages(folder / f"{rotation}_{seed}")
            scan = functools.cache(
                functools.partial(_scanned, scanner, sequence, trajectory, profile, compressed.basis, settings, seed)
            )
            brain = digital_brain(size=sampling.size, field_of_view=sampling.field_of_view, seed=seed)
            for method in settings["methods"]:
                used = dictionary if method == "frames" else compressed
                found = stages(method, functools.partial(_maps, method, used, compressed, brain, scan, settings))
                rows += _errors(rotation, seed, method, brain, found)
                if seed == settings["seeds"][0]:
                    shown[rotation, method] = found | dict(zip(("true_t1", "true_t2"), brain.truth(), strict=True))
    return rows, shown


def _scanned(scanner, sequence, trajectory, profile, basis, settings, seed):
    """K-space of the virtual coils, their sensitivities, and the trajectory."""
    _, _, raw = scanner.scan(sequence, trajectory, slice_profile=profile, seed=seed, progress=sys.stderr.isatty())
    kspace, _ = compress_coils(raw.kspace, min(settings["virtual_coils"], settings["coils"]))
    return kspace, calibrate(kspace, trajectory, basis, raw.matrix, raw.voxel_size), raw


def _maps(method, used, compressed, brain, scan, settings):
    kspace, sensitivities, raw = scan()
    start = time.perf_counter()
    images = reconstruct(
        kspace,
        raw.trajectory,
        compressed.basis,
        raw.matrix,
        raw.voxel_size,
        method=method,
        sensitivities=sensitivities,
        iterations=settings["iterations"],
        threshold=settings["threshold"],
        progress=sys.stderr.isatty(),
    ).images
    reconstructed = time.perf_counter() - start
    maps = match(used, images, mask=brain.brain_mask)
    refined = refine(used, images, maps)
    times = {"t1": refined.t1, "t2": refined.t2, "matched_t1": maps.t1, "matched_t2": maps.t2}
    return times | {"reconstruction_seconds": reconstructed}


def _errors(rotation, seed, method, brain, found):
    t1, t2 = brain.truth()
    labels = np.where(brain.brain_mask, brain.labels, -1)
    names = dict(enumerate(brain.tissue_names))
    for kind, prefix in (("matched", "matched_"), ("refined", "")):
        for row in tissue_table(t1, t2, found[f"{prefix}t1"], found[f"{prefix}t2"], labels, names):
            if row.name in TISSUES:
                yield {
                    "rotation": rotation,
                    "seed": seed,
                    "method": method,
                    "maps": kind,
                    "tissue": row.name,
                    "rrmse_t1": row.t1_rrmse,
                    "rrmse_t2": row.t2_rrmse,
                    "seconds": float(found["reconstruction_seconds"]),
                }
