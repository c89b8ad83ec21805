"""What each part of a recipe contributes: the recipe, and one run for every part taken out or put in.

Example::

    ganmrf ablate --workdir=runs/ablation --seeds=0,1,2

Every variant is trained with every seed, which also draws the split; errors are those of the test set, before and after
the output layer is solved for. ``ablation.json`` and ``report.html`` hold the table. One ablation alone is one command
of `train`, such as ``--r1_weight=0``.
"""

import re

import numpy as np

from experiments.evaluation.generator import errors_by_method
from experiments.flags.command_line import command
from ganmrf.files import write_json
from ganmrf.progress import watched
from ganmrf.report.html import Section, Table, write_report
from ganmrf.runs.configs import TrainingJob
from ganmrf.runs.side_by_side import train_side_by_side
from ganmrf.runs.training import read_run
from ganmrf.runs.workdir import Workdir
from ganmrf.settings import configuration, group, setting

# What differs from the recipe that the flags give.
VARIANTS = {
    "as it is": {},
    "no adversary": {"adversarial_weight": 0.0},
    "no gradient penalty": {"r1_weight": 0.0},
    "with z": {"noise": 8},
    "linear T1, T2": {"encoding": "linear"},
    "log T1, T2": {"encoding": "log"},
    "last layer alone": {"skip": False},
    "tanh head": {"head": "tanh", "refit": False},
    "l1": {"reconstruction": "l1"},
    "Adam": {"optimiser": "adam"},
}

_KEYS = ("mean", "worst_seed", "worst_atom")


@configuration
class Config:
    """The ablation."""

    workdir: str = setting(meaning="folder of all runs", kept=False)
    seeds: tuple[int, ...] = setting((0, 1, 2), "seeds that every variant is trained with", at_least=0)
    variant: tuple[str, ...] = setting(tuple(VARIANTS), "what to train", choices=tuple(VARIANTS), apart=True)
    job: TrainingJob = group(TrainingJob, without=("seed",))


@command(Config)
def main(config: Config, given: frozenset[str]):
    """Trains all variants, and writes the table."""
    with Workdir(config.workdir, config, given) as workdir:
        config = workdir.config
        if not config.job.training.split[2] > 0:
            shares = ",".join(map(str, config.job.training.split))
            raise ValueError(f"split must have a test set to evaluate on; got {shares}")
        jobs = {
            workdir.path / re.sub("[ ,]+", "_", name) / f"seed_{seed}": config.job.changed(seed=seed, **VARIANTS[name])
            for name in config.variant
            for seed in config.seeds
        }
        train_side_by_side(jobs)
        rows = _rows(jobs, config)
        write_json(workdir.path / "ablation.json", rows)
        columns = ("Variant", "Mean", "Worst seed's mean", "Worst atom", "Training (core-s)")
        cells = [[row["variant"], *(f"{row[key]:.2e}" for key in _KEYS), f"{row['core_seconds']:.1f}"] for row in rows]
        table, seeds = Table(columns, cells), ", ".join(map(str, config.seeds))
        write_report(
            workdir.path / "report.html",
            title="What each part of the recipe contributes",
            summary=f"Relative L2 error of unit fingerprints on the test set; seeds {seeds}.",
            sections=[Section("Ablation", tables=[table])],
            settings=config,
        )
    print(table.text())
    print(f"report: {workdir.path / 'report.html'}")


def _rows(jobs, config):
    """One row for each variant, before and after the refit, and for each baseline."""
    folders = watched(list(jobs), "evaluating")
    rows = []
    for name in config.variant:
        runs = [read_run(next(folders)) for _ in config.seeds]
        by_seed = [errors_by_method(run, baselines=name == config.variant[0]) for run in runs]
        for method in by_seed[0]:
            errors = [each[method][0] for each in by_seed]
            means = [float(values.mean()) for values in errors]
            rows.append(
                {
                    "variant": method.replace("generator", name),
                    "mean": float(np.mean(means)),
                    "worst_seed": max(means),
                    "worst_atom": float(max(values.max() for values in errors)),
                    "core_seconds": float(np.mean([each[method][1] for each in by_seed])),
                }
            )
    return rows


if __name__ == "__main__":
    main.run()
