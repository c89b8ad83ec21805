"""Compares ways to reconstruct an undersampled scan of the digital brain, whose T1 and T2 are known.

Example::

    ganmrf studies.compare_reconstructions --workdir=runs/reconstructions

For every rotation of the spiral and every seed of noise and brain, the scan is reconstructed by every method, matched,
refined, and held against the truth. ``report.html`` shows the table and the maps of the first seed (``T1_uniform.png``
and others); ``reconstructions.json`` has the numbers. Called again with the same ``--workdir``, it goes on where it was
cut off.
"""

import dataclasses
import functools
import itertools
import time

import numpy as np

from experiments.flags.command_line import command
from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.compress import check_rank, compress
from ganmrf.dictionary.match import match
from ganmrf.dictionary.refine import refine
from ganmrf.files import replacing, write_json
from ganmrf.imaging.coils import compress_coils
from ganmrf.imaging.phantom import digital_brain
from ganmrf.imaging.pipeline import METHODS, reconstruct
from ganmrf.imaging.sensitivities import calibrate
from ganmrf.metrics import tissue_table
from ganmrf.report.html import Picture, Section, Table, write_report
from ganmrf.report.reconstruction_figures import reconstructions_figure
from ganmrf.runs.simulation_config import FISP_ALONE, OF_OTHER_KINDS, SimulationConfig
from ganmrf.runs.spiral_config import SpiralConfig
from ganmrf.runs.workdir import Workdir
from ganmrf.settings import configuration, group, setting
from ganmrf.stages import Stages

TISSUES = ("white matter", "grey matter")
_ROTATIONS = ("uniform", "golden")


@configuration
class Config:
    """The comparison."""

    workdir: str = setting(meaning="folder of all scans", kept=False)
    seeds: tuple[int, ...] = setting((0, 1, 2), "of noise and brain", at_least=0)
    rotations: tuple[str, ...] = setting(_ROTATIONS, "of the spiral from frame to frame", choices=_ROTATIONS)
    methods: tuple[str, ...] = setting(tuple(METHODS), "of reconstruction", choices=tuple(METHODS))
    coils: int = setting(20, "loops around the head", at_least=1)
    virtual_coils: int = setting(10, "what the coils are combined into", at_least=1)
    snr: float = setting(50.0, "of a frame, were it sampled fully: RMS signal over real noise; 0: no noise", at_least=0)
    rank: int = setting(6, "of the temporal basis", at_least=3)
    iterations: int = setting(6, "of conjugate gradients", at_least=1, goes_with=("methods=sense|low_rank",))
    threshold: float = setting(5e-4, "of the locally low-rank prior", at_least=0, goes_with=("methods=low_rank",))
    simulation: SimulationConfig = group(SimulationConfig, without=("off_resonance_hz", *OF_OTHER_KINDS), **FISP_ALONE)
    sampling: SpiralConfig = group(SpiralConfig, without=("rotation",))


@command(Config)
def main(config: Config, given: frozenset[str]):
    """Scans, reconstructs, and writes what came out."""
    with Workdir(config.workdir, config, given) as workdir:
        config = workdir.config
        rows, shown = compare(workdir.path, config)
        write_json(workdir.path / "reconstructions.json", rows)
        table = _table(rows, config)
        _write_report(workdir.path / "report.html", config, table, shown)
    print(table.text())
    print(f"report: {workdir.path / 'report.html'}")


def _table(rows, config):
    """Means over the seeds, and the largest, in %."""

    def cells(rotation, method):
        own = [row for row in rows if (row["rotation"], row["method"]) == (rotation, method)]
        for tissue in TISSUES:
            for quantity in ("rrmse_t1", "rrmse_t2"):
                of = [100 * row[quantity] for row in own if (row["maps"], row["tissue"]) == ("refined", tissue)]
                yield f"{np.mean(of):.2f} ({np.max(of):.2f})"
        yield f"{np.median([row['seconds'] for row in own]):.1f}"

    columns = ("Method, rotation", "WM T1 (%)", "WM T2 (%)", "GM T1 (%)", "GM T2 (%)", "Reconstruction (s)")
    pairs = itertools.product(config.rotations, config.methods)
    made = [(f"{method}, {rotation}", *cells(rotation, method)) for rotation, method in pairs]
    return Table(columns, made, f"RRMSE against the truth, mean (largest) of {len(config.seeds)} seeds")


def _write_report(path, config, table, shown):
    sampling = config.sampling
    sections = [Section("Errors", tables=[table])]
    for rotation in config.rotations:
        of = {method: found for (turn, method), found in shown.items() if turn == rotation}
        first, pictures = next(iter(of.values())), []
        for quantity, name in (("T1", "t1"), ("T2", "t2")):
            maps = {method: found[name] for method, found in of.items()}
            figure = reconstructions_figure(maps, first[f"true_{name}"], mask=first["t1"] > 0, quantity=quantity)
            with replacing(path.parent / f"{quantity}_{rotation}.png") as picture:
                figure.savefig(picture, dpi=120)
            caption = (
                f"{quantity} of seed {config.seeds[0]}: truth, maps, and their relative errors; where no tissue "
                "fills a voxel to 95 % there is no truth."
            )
            pictures.append(Picture(figure, caption))
        step = f"{360 / sampling.interleaves:g} degrees" if rotation == "uniform" else "the golden angle"
        sections.append(Section(f"Spirals turned by {step}", figures=pictures))
    sections.append(Section("Methods", facts={method: METHODS[method] for method in config.methods}))
    write_report(
        path,
        title="Reconstructions of an undersampled scan",
        summary=(
            f"A digital brain of {sampling.size} x {sampling.size} voxels was scanned with one of "
            f"{sampling.interleaves} spirals a frame by {config.coils} coils at SNR {config.snr:g}, reconstructed, "
            "matched and refined."
        ),
        sections=sections,
        settings=vars(config) | {"sampling": vars(sampling) | {"rotation": None}},  # see --rotations
    )


def compare(folder, config: Config) -> tuple[list[dict], dict]:
    """Errors of every scan and method, a row each; maps of the first seed by rotation and method, with their truth.

    Maps that ``folder`` holds already are not made again.
    """
    simulation = config.simulation
    sequence, profile = simulation.sequence(), simulation.slice_profile()
    scanner = config.sampling.scanner(coils=config.coils)
    scanner.require_memory(sequence.n_frames, len(config.sampling.spiral().k))
    tissue = simulation.tissue()
    check_rank(config.rank, tissue.size, sequence.n_frames)
    dictionary = build_dictionary(sequence, tissue, slice_profile=profile)
    compressed, _ = compress(dictionary, config.rank)
    rows, shown = [], {}
    for rotation in config.rotations:
        sampling = dataclasses.replace(config.sampling, rotation=rotation)
        scanner, trajectory = sampling.scanner(coils=config.coils), sampling.trajectory(sequence.n_frames)
        for seed in config.seeds:
            print(f"{rotation}, seed {seed}", flush=True)
            stages = Stages(folder / f"{rotation}_{seed}")
            arguments = scanner, sequence, trajectory, profile, compressed.basis, config, seed
            scan = functools.cache(functools.partial(_scanned, *arguments))
            brain = digital_brain(size=sampling.size, field_of_view=sampling.field_of_view, seed=seed)
            for method in config.methods:
                used = dictionary if method == "frames" else compressed
                found = stages(method, functools.partial(_maps, method, used, compressed, brain, scan, config))
                rows += _errors(rotation, seed, method, brain, found)
                if seed == config.seeds[0]:
                    shown[rotation, method] = found | dict(zip(("true_t1", "true_t2"), brain.truth(), strict=True))
    return rows, shown


def _scanned(scanner, sequence, trajectory, profile, basis, config, seed):
    """K-space of the virtual coils, their sensitivities, and the trajectory."""
    played = {"slice_profile": profile, "seed": seed, "progress": True}
    raw = scanner.sample(sequence, trajectory, **played).with_noise(config.snr, seed).raw
    kspace, _ = compress_coils(raw.kspace, min(config.virtual_coils, config.coils))
    return kspace, calibrate(kspace, trajectory, basis, raw.matrix, raw.voxel_size), raw


def _maps(method, used, compressed, brain, scan, config):
    kspace, sensitivities, raw = scan()
    start = time.perf_counter()
    arrays = kspace, raw.trajectory, compressed.basis, raw.matrix, raw.voxel_size
    form = {"sensitivities": sensitivities, "iterations": config.iterations, "threshold": config.threshold}
    images = reconstruct(*arrays, method=method, **form, progress=True).images
    reconstructed = time.perf_counter() - start
    maps = match(used, images, mask=brain.brain_mask)
    refined = refine(used, images, maps)
    times = {"t1": refined.t1, "t2": refined.t2, "matched_t1": maps.t1, "matched_t2": maps.t2}
    return times | {"reconstruction_seconds": reconstructed}


def _errors(rotation, seed, method, brain, found):
    t1, t2 = brain.truth()
    labels = np.where(brain.brain_mask, brain.labels, -1)
    names = {label: name for label, name in enumerate(brain.tissue_names) if name in TISSUES}
    scan = {"rotation": rotation, "seed": seed, "method": method, "seconds": float(found["reconstruction_seconds"])}
    for kind, prefix in (("matched", "matched_"), ("refined", "")):
        for row in tissue_table(t1, t2, found[f"{prefix}t1"], found[f"{prefix}t2"], labels, names):
            errors = {"rrmse_t1": row.t1_rrmse, "rrmse_t2": row.t2_rrmse}
            yield scan | {"maps": kind, "tissue": row.name} | errors


if __name__ == "__main__":
    main.run()
