"""What each part of a recipe contributes: the recipe, and one run for every part taken out or put in.

Example::

    python -m experiments.ablate --workdir=runs/ablation --seeds=0,1,2

Every variant is trained with every seed, which also draws the split; errors are those of the test set, before and after
the output layer is solved for. ``ablation.json`` and ``report.html`` hold the table. One ablation alone is one command
of `train`, such as ``--r1_weight=0``.
"""

import dataclasses
import json
import sys

import numpy as np
import tqdm
from absl import flags

from experiments.evaluation.generator import errors_by_method
from experiments.flags import recipe_flags, sequence_flags
from experiments.flags.command_line import given_flags, numbers_in, run
from ganmrf.files import replacing
from ganmrf.report.html import Section, Table, write_report
from ganmrf.runs.configs import stored_configs
from ganmrf.runs.side_by_side import Job, train_side_by_side
from ganmrf.runs.training import read_run
from ganmrf.runs.workdir import Workdir

flags.adopt_module_key_flags(sequence_flags)
flags.adopt_module_key_flags(recipe_flags)
_WORKDIR = flags.DEFINE_string("workdir", None, "folder of all runs", required=True)
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "seeds that every variant is trained with")

# What differs from the recipe that the flags give.
VARIANTS = {
    "as it is": {},
    "no adversary": {"adversarial_weight": 0.0},
    "no R1": {"r1_weight": 0.0},
    "with z": {"noise": 8},
    "linear T1, T2": {"encoding": "linear"},
    "log T1, T2": {"encoding": "log"},
    "last layer alone": {"skip": False},
    "tanh head": {"head": "tanh", "refit": False},
    "l1": {"reconstruction": "l1"},
    "Adam": {"optimiser": "adam"},
}

_VARIANTS = flags.DEFINE_multi_enum("variant", list(VARIANTS), list(VARIANTS), "what to train; may be repeated")


def main():
    """Trains all variants, and writes the table."""
    simulation, training = sequence_flags.simulation_config(), recipe_flags.training_config()
    settings = {"simulation": dataclasses.asdict(simulation), **dataclasses.asdict(training)}
    settings["variant"] = _VARIANTS.value
    settings["seeds"] = [int(seed) for seed in numbers_in(_SEEDS.value, "--seeds")]
    with Workdir(_WORKDIR.value, settings, given_flags()) as workdir:
        simulation, training = stored_configs(workdir.config)
        if not training.shares[2] > 0:
            raise ValueError(f"--split={training.split} has no test set to evaluate on")
        seeds = workdir.config["seeds"]
        jobs = {
            workdir.path / name.replace(" ", "_").replace(",", "") / f"seed_{seed}": Job(
                simulation, dataclasses.replace(training, seed=seed)
            ).changed(**VARIANTS[name])
            for name in workdir.config["variant"]
            for seed in seeds
        }
        train_side_by_side(jobs)
        rows = _rows(jobs, workdir.config["variant"], seeds)
        with replacing(workdir.path / "ablation.json") as path:
            path.write_text(json.dumps(rows, indent=2) + "\n")
        columns = ("Variant", "Mean", "Worst seed's mean", "Worst atom", "Training (core-s)")
        cells = [[row["variant"], *(f"{row[key]:.2e}" for key in _KEYS), f"{row['core_seconds']:.1f}"] for row in rows]
        write_report(
            workdir.path / "report.html",
            title="What each part of the recipe contributes",
            summary=f"Relative L2 error of unit fingerprints on the test set; seeds {', '.join(map(str, seeds))}.",
            sections=[Section("Ablation", tables=[Table(columns, cells)])],
            settings=workdir.config,
        )
    print(f"{columns[0]:46s}" + "".join(f"{name:>20s}" for name in columns[1:]))
    for name, *numbers in cells:
        print(f"{name:46s}" + "".join(f"{number:>20s}" for number in numbers))
    print(f"report: {workdir.path / 'report.html'}")


_KEYS = ("mean", "worst_seed", "worst_atom")


def _rows(jobs, variants, seeds):
    """One row for each variant, before and after the refit, and for each baseline."""
    folders = iter(tqdm.tqdm(jobs, desc="judging", disable=not sys.stderr.isatty()))
    rows = []
    for name in variants:
        runs = [read_run(next(folders)) for _ in seeds]
        by_seed = [errors_by_method(run, baselines=name == variants[0]) for run in runs]
        for method in by_seed[0]:
            errors = [each[method][0] for each in by_seed]
            means = [float(values.mean()) for values in errors]
            label = method.replace("generator", name)
            rows.append(
                {
                    "variant": label,
                    "mean": float(np.mean(means)),
                    "worst_seed": max(means),
                    "worst_atom": float(max(values.max() for values in errors)),
                    "core_seconds": float(np.mean([each[method][1] for each in by_seed])),
                }
            )
    return rows


if __name__ == "__main__":
    run(main)
