"""Maps a digital brain: dictionary, scan, noise, matching, errors, and a report to look at.

Example::

    python -m experiments.map_brain --output=runs/brain

A noisy MRF-FISP scan of the digital brain is matched with the dictionary. The output folder gets ``report.html``, the
maps (NIfTI, seconds; ``maps.png``), ``metrics.json`` and ``config.json``.
"""

import dataclasses
import json
import sys
import time

import numpy as np
from absl import flags

from experiments.flags import sequence_flags
from experiments.flags.command_line import run
from experiments.reports.brain import maps_figure, write_brain_report
from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.compress import compress
from ganmrf.dictionary.match import match
from ganmrf.files import make_folder, replacing
from ganmrf.imaging.phantom import acquire, add_noise, digital_brain
from ganmrf.io.maps import describe, write_maps
from ganmrf.metrics import exact_share, rrmse, tissue_table
from ganmrf.runs.configs import SimulationConfig

flags.adopt_module_key_flags(sequence_flags)
_OUTPUT = flags.DEFINE_string("output", None, "folder for the report and the maps", required=True)
_SIZE = flags.DEFINE_integer("size", 256, "rows and columns of the image of 300 mm")
_SNR = flags.DEFINE_float("snr", 20.0, "RMS signal in the brain over the standard deviation of the real noise; 0: none")
_SEED = flags.DEFINE_integer("seed", 0, "of the brain's variation and of the noise")
_VARIATION = flags.DEFINE_float("variation", 0.05, "standard deviation of T1 and T2 within a tissue, as a fraction")
_B1_VARIATION = flags.DEFINE_float("b1_variation", 0.0, "B1+ runs from 1 + this at the centre to 1 - this at the edge")
_SAVE_SCAN = flags.DEFINE_bool("save_scan", False, "also write the noisy scan (scan.npz, 0.5 GB) and mask.npz")
_RANK = flags.DEFINE_integer("rank", None, "match in a compressed basis of this rank; default: all frames")


@dataclasses.dataclass(frozen=True)
class Config:
    """The whole experiment; the fields are the flags."""

    simulation: SimulationConfig
    size: int
    snr: float
    seed: int
    variation: float
    b1_variation: float
    rank: int | None


@dataclasses.dataclass(frozen=True)
class Results:
    """What came out: the scan's brain, the dictionary, maps with and without noise, errors and seconds."""

    brain: object
    dictionary: object
    kept_energy: float | None
    maps: object
    noise_free: object
    tissues: list
    metrics: dict
    seconds: dict


def main():
    """Runs the experiment and writes its files."""
    config = Config(
        simulation=sequence_flags.simulation_config(),
        size=_SIZE.value,
        snr=_SNR.value,
        seed=_SEED.value,
        variation=_VARIATION.value,
        b1_variation=_B1_VARIATION.value,
        rank=_RANK.value,
    )
    if not config.snr >= 0:
        raise ValueError(f"--snr must be 0 (no noise) or more; got {config.snr}")
    folder = make_folder(_OUTPUT.value)
    results = map_brain(config, folder if _SAVE_SCAN.value else None)
    metrics = results.metrics | {"seconds": results.seconds}
    for name, content in (("config", dataclasses.asdict(config)), ("metrics", metrics)):
        with replacing(folder / f"{name}.json") as path:
            path.write_text(json.dumps(content, indent=2) + "\n")
    dictionary = results.dictionary
    with_b1 = np.ndim(dictionary.tissue.b1) > 0
    write_maps(folder, results.maps, affine=results.brain.affine, sidecar=describe(dictionary), with_b1=with_b1)
    with replacing(folder / "maps.png") as path:
        maps_figure(results).savefig(path, dpi=160)
    write_brain_report(folder / "report.html", dataclasses.asdict(config), results)
    for row in results.tissues:
        if not row.voxels:
            continue
        t1, t2 = (f"{100 * error:.2f} %" for error in (row.t1_rrmse, row.t2_rrmse))
        print(f"{row.name:12s} {row.voxels:6d} voxels, RRMSE T1 {t1}, T2 {t2}")
    print(f"report: {folder / 'report.html'}")


def map_brain(config: Config, scan_folder=None) -> Results:
    """Dictionary, brain, scan, noise, matching and errors; writes the scan and its mask to a folder if one is given."""
    show = sys.stderr.isatty()
    seconds = {}

    def timed(name, function, *args, **kwargs):
        start = time.perf_counter()
        result = function(*args, **kwargs)
        seconds[name] = time.perf_counter() - start
        print(f"{name}: {seconds[name]:.1f} s", flush=True)
        return result

    sequence, profile = config.simulation.sequence(), config.simulation.slice_profile()
    tissue = config.simulation.tissue()
    fields = {"variation": config.variation, "b1_variation": config.b1_variation, "seed": config.seed}
    brain = digital_brain(size=config.size, **fields)
    if not (brain.brain_mask & (brain.labels >= 0)).any():
        raise ValueError(f"--size={config.size} is too coarse: no voxel of the brain is 95 % one tissue")
    dictionary = timed("dictionary", build_dictionary, sequence, tissue, slice_profile=profile, progress=show)
    kept = None
    if config.rank is not None:
        dictionary, kept = timed("compression", compress, dictionary, config.rank)
    images = timed("scan", acquire, brain, sequence, slice_profile=profile, progress=show)
    noise_free = maps = timed("matching without noise", match, dictionary, images, mask=brain.mask, progress=show)
    if config.snr:
        images = add_noise(images, config.snr, mask=brain.brain_mask, seed=config.seed)
        maps = timed("matching", match, dictionary, images, mask=brain.mask, progress=show)
    if scan_folder is not None:
        for name, arrays in (("scan", {"images": images}), ("mask", {"mask": brain.mask})):
            with replacing(scan_folder / f"{name}.npz") as path:
                np.savez(path, **arrays)
    tissues, metrics = errors(brain, maps, noise_free)
    return Results(brain, dictionary, kept, maps, noise_free, tissues, metrics, seconds)


def errors(brain, maps, noise_free):
    """Rows of the tissue table, and all errors as plain numbers; voxels that are at least 95 % one tissue count."""
    t1, t2 = brain.truth()
    names = dict(enumerate(brain.tissue_names))
    rows = tissue_table(t1, t2, maps.t1, maps.t2, brain.labels, names)
    inside = np.isfinite(t1) & brain.brain_mask
    metrics = {
        "rrmse_t1": rrmse(maps.t1[inside], t1[inside]),
        "rrmse_t2": rrmse(maps.t2[inside], t2[inside]),
        "same_atom_as_without_noise": exact_share(maps.index[inside], noise_free.index[inside]),
        "tissues": {row.name: {k: None if v != v else v for k, v in row._asdict().items()} for row in rows},
    }
    return rows, metrics


if __name__ == "__main__":
    run(main)
