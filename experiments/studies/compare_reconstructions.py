"""Compares ways to reconstruct an undersampled scan of the digital brain, whose T1 and T2 are known.

Example::

    python -m experiments.studies.compare_reconstructions --workdir=runs/reconstructions

For every rotation of the spiral and every seed of noise and brain, the scan is reconstructed by every method, matched,
refined, and held against the truth. ``report.html`` shows the table and the maps of the first seed (``T1_uniform.png``
and others); ``reconstructions.json`` has the numbers. Called again with the same ``--workdir``, it goes on where it was
cut off.
"""

import dataclasses
import functools
import json
import sys
import time

import numpy as np
from absl import flags

from experiments.flags import sequence_flags, spiral_flags
from experiments.flags.command_line import given_flags, numbers_in, run
from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.compress import compress
from ganmrf.dictionary.match import match
from ganmrf.dictionary.refine import refine
from ganmrf.files import replacing
from ganmrf.imaging.coils import compress_coils
from ganmrf.imaging.phantom import digital_brain
from ganmrf.imaging.pipeline import METHODS, reconstruct
from ganmrf.imaging.sensitivities import calibrate
from ganmrf.metrics import tissue_table
from ganmrf.report.html import Picture, Section, Table, write_report
from ganmrf.report.reconstruction_figures import reconstructions_figure
from ganmrf.runs.configs import SimulationConfig, SpiralConfig
from ganmrf.runs.workdir import Workdir
from ganmrf.scanner import Scanner
from ganmrf.stages import Stages

flags.adopt_module_key_flags(sequence_flags)
flags.adopt_module_key_flags(spiral_flags)
_WORKDIR = flags.DEFINE_string("workdir", None, "folder of all scans", required=True)
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "of noise and brain")
_ROTATIONS = flags.DEFINE_list("rotations", ["uniform", "golden"], "of the spiral, in place of --rotation")
_METHODS = flags.DEFINE_list("methods", list(METHODS), "of reconstruction")
_COILS = flags.DEFINE_integer("coils", 20, "loops around the head", lower_bound=1)
_VIRTUAL_COILS = flags.DEFINE_integer("virtual_coils", 10, "what they are combined into", lower_bound=1)
_SNR = flags.DEFINE_float("snr", 50.0, "of a frame, were it sampled fully: RMS signal over real noise; 0: no noise")
_RANK = flags.DEFINE_integer("rank", 6, "of the temporal basis", lower_bound=3)
_ITERATIONS = flags.DEFINE_integer("iterations", 6, "of conjugate gradients", lower_bound=1)
_THRESHOLD = flags.DEFINE_float("threshold", 5e-4, "of the locally low-rank prior", lower_bound=0)


def main():
    """Scans, reconstructs, and writes what came out."""
    for name, chosen, allowed in (
        ("rotations", _ROTATIONS.value, ("uniform", "golden")),
        ("methods", _METHODS.value, METHODS),
    ):
        if wrong := [value for value in chosen if value not in allowed]:
            raise ValueError(f"--{name} must be of {', '.join(allowed)}; got {', '.join(wrong)}")
    settings = {
        "simulation": dataclasses.asdict(sequence_flags.simulation_config()),
        "sampling": dataclasses.asdict(spiral_flags.spiral_config()),
        "seeds": [int(seed) for seed in numbers_in(_SEEDS.value, "--seeds")],
        "rotations": _ROTATIONS.value,
        "methods": _METHODS.value,
        "coils": _COILS.value,
        "virtual_coils": _VIRTUAL_COILS.value,
        "snr": _SNR.value,
        "rank": _RANK.value,
        "iterations": _ITERATIONS.value,
        "threshold": _THRESHOLD.value,
    }
    with Workdir(_WORKDIR.value, settings, given_flags()) as workdir:
        rows, shown = compare(workdir.path, workdir.config)
        with replacing(workdir.path / "reconstructions.json") as path:
            path.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
        table = _table(rows, workdir.config)
        _write_report(workdir.path / "report.html", workdir.config, table, shown)
    for cells in (table.columns, *table.rows):
        print("".join(f"{cell:>22s}" for cell in cells))
    print(f"report: {workdir.path / 'report.html'}")


def _table(rows, settings):
    """Means over the seeds, and the largest, in %."""

    def cells(rotation, method):
        for tissue in TISSUES:
            for quantity in ("rrmse_t1", "rrmse_t2"):
                of = [
                    100 * row[quantity]
                    for row in rows
                    if (row["rotation"], row["method"], row["maps"], row["tissue"])
                    == (rotation, method, "refined", tissue)
                ]
                yield f"{np.mean(of):.2f} ({np.max(of):.2f})"
        seconds = [row["seconds"] for row in rows if (row["rotation"], row["method"]) == (rotation, method)]
        yield f"{np.median(seconds):.1f}"

    columns = ("Method, rotation", "WM T1 (%)", "WM T2 (%)", "GM T1 (%)", "GM T2 (%)", "Reconstruction (s)")
    made = [
        (f"{method}, {rotation}", *cells(rotation, method))
        for rotation in settings["rotations"]
        for method in settings["methods"]
    ]
    caption = f"RRMSE against the truth, mean (largest) of {len(settings['seeds'])} seeds"
    return Table(columns, made, caption)


def _write_report(path, settings, table, shown):
    sampling = settings["sampling"]
    size = sampling["size"]
    sections = [Section("Errors", tables=[table])]
    for rotation in settings["rotations"]:
        of = {method: found for (turn, method), found in shown.items() if turn == rotation}
        mask = next(iter(of.values()))["t1"] > 0
        pictures = []
        for quantity, name in (("T1", "t1"), ("T2", "t2")):
            maps, truth = {method: found[name] for method, found in of.items()}, next(iter(of.values()))[f"true_{name}"]
            figure = reconstructions_figure(maps, truth, mask=mask, quantity=quantity)
            with replacing(path.parent / f"{quantity}_{rotation}.png") as picture:
                figure.savefig(picture, dpi=120)
            caption = (
                f"{quantity} of seed {settings['seeds'][0]}: truth, maps, and their relative errors; where no tissue "
                "fills a voxel to 95 % there is no truth."
            )
            pictures.append(Picture(figure, caption))
        step = f"{360 / sampling['interleaves']:g} degrees" if rotation == "uniform" else "the golden angle"
        sections.append(Section(f"Spirals turned by {step}", figures=pictures))
    sections.append(Section("Methods", facts={method: METHODS[method] for method in settings["methods"]}))
    sampling = {name: value for name, value in sampling.items() if name != "rotation"}  # --rotations takes its place
    write_report(
        path,
        title="Reconstructions of an undersampled scan",
        summary=(
            f"A digital brain of {size} x {size} voxels was scanned with one of {sampling['interleaves']} spirals a "
            f"frame by {settings['coils']} coils at SNR {settings['snr']:g}, reconstructed, matched and refined."
        ),
        sections=sections,
        settings=settings | {"sampling": sampling},
    )


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
        scanner = Scanner(
            sampling.size,
            sampling.field_of_view,
            coils=settings["coils"],
            dwell_time=1e-6 * sampling.dwell_time_us,
        )
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
    played = {"slice_profile": profile, "seed": seed, "progress": sys.stderr.isatty()}
    raw = scanner.sample(sequence, trajectory, **played).with_noise(settings["snr"], seed).raw
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


if __name__ == "__main__":
    run(main)
