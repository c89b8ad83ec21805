"""Compares ways to reconstruct an undersampled scan of the digital brain, whose T1 and T2 are known.

Example::

    python -m experiments.compare_reconstructions --workdir=runs/reconstructions

For every rotation of the spiral and every seed of noise and brain, the scan is reconstructed by every method, matched,
refined, and held against the truth. ``report.html`` shows the table and the maps of the first seed (``T1_uniform.png``
and others); ``reconstructions.json`` has the numbers. Called again with the same ``--workdir``, it goes on where it was
cut off.
"""

import dataclasses
import json

import numpy as np
from absl import flags

from experiments import sequence_flags, spiral_flags
from experiments.command_line import given_flags, numbers_in, run
from experiments.comparison import TISSUES, compare
from experiments.config import flag_facts
from experiments.workdir import Workdir
from ganmrf.atomic import replacing
from ganmrf.imaging.pipeline import METHODS
from ganmrf.report.html import Picture, Section, Table, machine_facts, write_report
from ganmrf.report.reconstruction_figures import reconstructions_figure

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
    facts = flag_facts(settings)
    del facts["--rotation"]  # --rotations takes its place
    methods = {method: METHODS[method] for method in settings["methods"]}
    sections += [Section("Methods", facts=methods), Section("Settings and machine", facts=facts | machine_facts())]
    write_report(
        path,
        title="Reconstructions of an undersampled scan",
        summary=(
            f"A digital brain of {size} x {size} voxels was scanned with one of {sampling['interleaves']} spirals a "
            f"frame by {settings['coils']} coils at SNR {settings['snr']:g}, reconstructed, matched and refined."
        ),
        sections=sections,
    )


if __name__ == "__main__":
    run(main)
