"""Maps a digital brain: dictionary, scan, noise, matching, errors, and a report to look at.

Example::

    ganmrf map_brain --output=runs/brain
    ganmrf map_brain --output=runs/refined --refine
    ganmrf map_brain --output=runs/balanced --sequence=bssfp
    ganmrf map_brain --output=runs/mt --tissue=semisolid --refine --size=96 --slice_model=none --pulse_duration_ms=2

A noisy scan of the digital brain is matched with the dictionary. ``--refine`` also fits T1 and T2 between the atoms,
with error bars, writes the maps of that to ``fitted``, and counts how often their 95 % intervals hold the truth;
``--b1_known`` gives both the brain's B1. With ``--sequence=bssfp``, whose signal is of off-resonance too, B0 is mapped
with T1 and T2: unless flags say otherwise, the brain is less than 30 Hz off resonance (``--b0_variation_hz``), and the
dictionary has the coarse grid at every Hz from -30 to 30, compressed to rank 100. With ``--tissue=semisolid`` or
``exchanging``, white and grey matter have a second pool of spins, and so have the atoms, of the coarse grid unless
flags say otherwise: its fraction is mapped with T1 and T2, and its errors are told beside their bounds.

The ``--slice_model`` is of the scan and of the dictionary. Of the full slice, the default, the scan of one pool is also
matched with dictionaries of the other models, whose bias the report and ``metrics.json`` tell
(``--nocompare_slices``). The output folder gets ``report.html``, the maps (NIfTI, seconds and Hz; ``maps.png``),
``metrics.json`` and ``config.json``.
"""

import dataclasses
import functools
import math
import pathlib
import time

import numpy as np

from experiments.evaluation.parameters import errors_of_parameters, further_parameters
from experiments.evaluation.slices import FULL, errors_by_model, other_models
from experiments.flags.command_line import command
from experiments.reports.brain import covered_names, maps_figure, write_brain_report
from ganmrf.dictionary.build import Dictionary, build_dictionary
from ganmrf.dictionary.compress import check_rank, compress
from ganmrf.dictionary.match import Maps, match
from ganmrf.dictionary.match_with_maps import match_with_maps
from ganmrf.dictionary.refine import Refined, refine
from ganmrf.files import make_folder, replacing, write_json
from ganmrf.imaging.phantom import COARSEST, PURE, Brain
from ganmrf.io.maps import describe, write_maps
from ganmrf.metrics import coverage, rrmse, tissue_table
from ganmrf.physics.tissue import parameters
from ganmrf.runs.simulation_config import SimulationConfig
from ganmrf.runs.slices import AS_PLAYED, slice_words
from ganmrf.runs.tissues import check_fit, pool_words
from ganmrf.runs.workdir import require_own
from ganmrf.scan_settings import FitConfig
from ganmrf.scanner import Scanner
from ganmrf.settings import configuration, group, setting, to_plain

# Where flags do not say: off-resonance of the brain; steps of the dictionary's axis, half of which turn CSF, whose
# coherences last for its T2, by 60 degrees; and the least rank of which `refine` measures the noise voxel by voxel:
# one noise of all voxels would hold the residuals of mixed ones.
_B0_HZ, _B0_STEP_HZ, _B0_RANK = 20.0, 1, 100
_WHOLLY = 0.999  # of a voxel: what the rest shifts T1 and T2 by is lost in error bars at an SNR of 20


@configuration
class Config:
    """The brain and its scan."""

    output: str = setting(meaning="folder for the report and the maps", kept=False)
    size: int = setting(256, "rows and columns of the image of 300 mm", at_least=COARSEST)
    snr: float = setting(
        20.0, "RMS signal in the brain over the standard deviation of the real noise; 0: none", at_least=0
    )
    seed: int = setting(0, "of the brain's variation and of the noise", at_least=0)
    variation: float = setting(
        0.05, "standard deviation of T1 and T2 within a tissue, as a fraction", at_least=0, below=0.5
    )
    b1_variation: float = setting(
        0.0, "B1+ runs from 1 + this at the centre to 1 - this at the edge", at_least=0, below=1
    )
    b0_variation_hz: float | None = setting(
        None,
        f"off-resonance in Hz, smooth, and this above the sinuses; default: {_B0_HZ:g} with --sequence=bssfp, else 0",
        at_least=0,
    )
    save_scan: bool = setting(
        False, "also write the noisy scan (scan.npz, 0.5 GB) and mask.npz, for reconstruct_maps", kept=False
    )
    rank: int | None = setting(
        None,
        f"match in a compressed basis of this rank; default: {_B0_RANK} with the default grid of --sequence=bssfp, "
        "else all frames",
        at_least=1,
    )
    refine: bool = setting(False, "also fit between the atoms, with error bars, and compare those with the truth")
    compare_slices: bool = setting(
        True,
        "of a full slice of one pool, also map with dictionaries of a partitioned and of a small-tip one",
        goes_with=("slice_model=full",),
    )
    b1_known: bool = setting(
        False, "match and fit with the brain's own B1, as from a map of it", goes_with=("b1_variation",)
    )
    simulation: SimulationConfig = group(SimulationConfig, defaults=AS_PLAYED)
    estimate: FitConfig = group(FitConfig)

    def __post_init__(self):
        check_fit(self.estimate, self.simulation.pools)


@dataclasses.dataclass(frozen=True)
class Results:
    """The scanned brain, the dictionary, maps with and without noise, errors and seconds.

    The ``refined`` maps are None where they are not wanted; those by models of the slice, ``by_model``, begin with
    ``maps`` and are none where one model is enough.
    """

    brain: Brain
    dictionary: Dictionary
    kept_energy: float | None
    maps: Maps
    noise_free: Maps
    refined: Refined | None
    by_model: dict[str, Maps]
    tissues: list
    metrics: dict
    seconds: dict


@command(Config)
def main(config: Config, given: frozenset[str]):
    """Runs the experiment and writes its files."""
    config = _with_pools(_with_b0(config, given), given)
    require_own(config.output, config)
    folder = pathlib.Path(config.output)
    results = map_brain(config, folder)
    write_json(folder / "config.json", to_plain(config))
    write_json(folder / "metrics.json", results.metrics | {"seconds": results.seconds})
    dictionary = results.dictionary
    fields = "t1", "t2", "off_resonance", *further_parameters(results.maps, results.refined, dictionary.tissue)
    what = {"fields": fields, "with_b1": np.ndim(dictionary.tissue.b1) > 0, "sidecar": describe(dictionary)}
    what["affine"] = results.brain.affine
    write_maps(folder, results.maps, **what)
    if results.refined is not None:
        write_maps(folder / "fitted", results.maps, refined=results.refined, **what)
    with replacing(folder / "maps.png") as path:
        maps_figure(results).savefig(path, dpi=160)
    write_brain_report(folder / "report.html", config, results)
    for row in results.tissues:
        if row.voxels:
            t1, t2 = (f"{100 * error:.2f} %" for error in (row.t1_rrmse, row.t2_rrmse))
            print(f"{row.name:12s} {row.voxels:6d} voxels, RRMSE T1 {t1}, T2 {t2}")
    for row in results.metrics["further_parameters"]:
        bound = "" if row["bound"] is None else f", bound {row['bound']:.3g}"
        print(
            f"{row['tissue']:12s} {row['voxels']:6d} voxels, {row['parameter']} {row['true']:.3g}, bias "
            f"{row['bias']:+.2g}, RMSE {row['rmse']:.2g}{bound}"
        )
    for model, tissues in results.metrics["slice_models"].items():
        for name, row in tissues.items():
            if row["voxels"]:
                t1, t2 = (f"{100 * row[bias]:+z.2f} %" for bias in ("t1_bias", "t2_bias"))
                print(f"{name:12s} by a dictionary of the slice as {model:11s} bias T1 {t1}, T2 {t2}")
    if "rms_error_off_resonance_hz" in results.metrics:
        print(f"RMS error of off-resonance {results.metrics['rms_error_off_resonance_hz']:.2f} Hz")
    for row in results.metrics.get("coverage_of_95_percent_intervals", []):
        held = ", ".join(f"{name} {100 * row[key]:.1f} %" for key, name in covered_names(row).items())
        filled = f"{100 * row['filled']:g} %"
        print(f"{row['tissue']:12s} {row['voxels']:6d} voxels filled to {filled}, 95 % intervals hold {held}")
    print(f"report: {folder / 'report.html'}")


def _with_b0(config, given):
    """The settings with an axis of off-resonance for sequences whose signals depend on it: as wide as the brain's."""
    simulation, b0 = config.simulation, config.b0_variation_hz
    balanced = simulation.kind.sequence == "bssfp"
    if b0 is None:
        b0 = _B0_HZ if balanced else 0.0
    changes, rank = {}, config.rank
    if balanced and b0 and simulation.off_resonance_hz is None and simulation.grid != "ma":
        widest = math.ceil(1.5 * b0)  # half of it by the smooth field
        changes["off_resonance_hz"] = f"{-widest}:{widest}:{_B0_STEP_HZ}"
        if not given & {"grid", "t1_ms"}:
            changes["grid"], rank = "coarse", rank or min(_B0_RANK, simulation.sequence().n_frames)
    simulation = dataclasses.replace(simulation, **changes)
    return dataclasses.replace(config, b0_variation_hz=b0, rank=rank, simulation=simulation)


def _with_pools(config, given):
    """The settings of tissue with a second pool: a coarse grid, and one model of the slice, unless flags say more."""
    if config.simulation.pools.tissue == "one_pool":
        return config
    if not given & {"grid", "t1_ms"}:
        config = dataclasses.replace(config, simulation=config.simulation.on_grid("coarse"))
    return config if "compare_slices" in given else dataclasses.replace(config, compare_slices=False)


def map_brain(config: Config, folder) -> Results:
    """Dictionary, brain, scan, noise, matching and errors.

    ``folder`` is made once nothing is left to refuse, and gets the scan and its mask if they are wanted.
    """
    seconds = {}

    def timed(name, function, *args, **kwargs):
        start = time.perf_counter()
        result = function(*args, **kwargs)
        seconds[name] = time.perf_counter() - start
        print(f"{name}: {seconds[name]:.1f} s", flush=True)
        return result

    sequence, tissue = config.simulation.sequence(), config.simulation.tissue()
    played = {"slice_profile": config.simulation.slice_profile()}
    others = other_models(config.simulation) if config.compare_slices else {}
    of_brain = {"variation": config.variation, "b1_variation": config.b1_variation}
    of_brain["kind"] = config.simulation.pools.tissue
    scanner = Scanner(size=config.size, **of_brain, b0_variation=config.b0_variation_hz)
    scanner.require_memory(sequence.n_frames)
    if config.rank is not None:
        check_rank(config.rank, tissue.size, sequence.n_frames)
    make_folder(folder)
    print(f"slice: {slice_words(played['slice_profile'])}", flush=True)
    if pools := pool_words(tissue, sequence):
        print(f"tissue of the dictionary: {pools}", flush=True)
    dictionary, kept = timed("dictionary", _dictionary, config.rank, sequence, tissue, **played)
    scan = timed("scan", scanner.image, sequence, **played, seed=config.seed, progress=True)
    brain = scan.brain
    b1 = {"b1_map": brain.tissue.b1} if config.b1_known else {}
    find = functools.partial(match_with_maps, **b1) if b1 else match
    noise_free = maps = timed("matching without noise", find, dictionary, scan.images, mask=brain.mask, progress=True)
    if config.snr:
        scan = scan.with_noise(config.snr, config.seed)
        maps = timed("matching", find, dictionary, scan.images, mask=brain.mask, progress=True)
    by_model = {FULL: maps} if others else {}
    for name, profile in others.items():
        atoms, _ = timed(f"dictionary, {name}", _dictionary, config.rank, sequence, tissue, slice_profile=profile)
        by_model[name] = timed(f"matching, {name}", find, atoms, scan.images, mask=brain.mask, progress=True)
    refined = None
    if config.refine:
        how = {"fit": config.estimate.fit, "force": config.estimate.force_fit, "progress": True} | b1
        refined = timed("refining", refine, dictionary, scan.images, maps, mask=brain.brain_mask, **how)
    if config.save_scan:
        for name, arrays in (("scan", {"images": scan.images}), ("mask", {"mask": brain.mask})):
            with replacing(folder / f"{name}.npz") as path:
                np.savez(path, **arrays)
    rows = tissue_table(*brain.truth(), maps.t1, maps.t2, brain.labels, dict(enumerate(brain.tissue_names)))
    metrics = {
        "tissues": _numbers(rows),
        "slice_models": {name: _numbers(of_model) for name, of_model in errors_by_model(by_model, brain).items()},
        "same_atom_as_without_noise": float(np.mean((maps.index == noise_free.index)[_with_truth(brain)])),
        "further_parameters": errors_of_parameters(further_parameters(maps, refined, tissue), refined or maps, brain),
    }
    metrics |= _errors(maps, refined, brain)
    return Results(brain, dictionary, kept, maps, noise_free, refined, by_model, rows, metrics, seconds)


def _with_truth(brain):
    """Voxels of the brain that one tissue fills to 95 %."""
    return np.isfinite(brain.truth()[0]) & brain.brain_mask


def _errors(maps, refined, brain):
    """Numbers for ``metrics.json``: errors over all voxels that have a truth, and coverages."""
    (t1, t2), inside = brain.truth(), _with_truth(brain)
    metrics = {
        "rrmse_t1": rrmse(maps.t1[inside], t1[inside]),
        "rrmse_t2": rrmse(maps.t2[inside], t2[inside]),
    }
    for name, found in (("", maps), ("refined_", refined)):
        if found is not None and found.off_resonance is not None:
            wrong = (found.off_resonance - brain.off_resonance)[inside]
            metrics[f"{name}rms_error_off_resonance_hz"] = float(np.sqrt(np.mean(wrong**2)))
    if refined is not None:
        metrics |= {
            "refined_rrmse_t1": rrmse(refined.t1[inside], t1[inside]),
            "refined_rrmse_t2": rrmse(refined.t2[inside], t2[inside]),
            "coverage_of_95_percent_intervals": coverages(refined, brain),
        }
    return metrics


def _dictionary(rank, sequence, tissue, slice_profile):
    """The dictionary and, of a rank, the energy that it keeps, else None."""
    dictionary = build_dictionary(sequence, tissue, slice_profile=slice_profile, progress=True)
    return (dictionary, None) if rank is None else compress(dictionary, rank)


def _numbers(rows):
    return {row.name: {k: None if v != v else v for k, v in row._asdict().items()} for row in rows}


def coverages(refined: Refined, brain: Brain) -> list[dict]:
    """How often 95 % intervals of refined maps hold the truth: a row for each tissue and least part of the voxel.

    What else is in a voxel shifts T1 and T2, and no error bar knows: voxels that one tissue fills wholly show whether
    the error bars are right, and the others what a mixture does.
    """
    truths = brain.truths() | {"off_resonance": brain.off_resonance}
    found = {
        parameter.name.lower(): (refined.parameters[name], refined.stds[name], truths[name])
        for name, parameter in parameters(brain.tissue).items()
        if name in refined.stds
    }
    filled, rows = brain.fractions.max(axis=0), []
    for least in (_WHOLLY, PURE):
        for label, tissue in enumerate(brain.tissue_names):
            here = (brain.labels == label) & (filled >= least) & brain.brain_mask & refined.converged
            if here.any():
                held = {name: coverage(*(each[here] for each in of_one)) for name, of_one in found.items()}
                rows.append({"tissue": tissue, "filled": least, "voxels": int(here.sum())} | held)
    return rows


if __name__ == "__main__":
    main.run()
