"""What each part of a recipe contributes: the recipe, and one run for every part taken out or put in.

Example::

    ganmrf ablate --workdir=runs/ablation --seeds=0,1,2

Every variant is trained with every seed, which also draws the split; errors are those of the test set, before and after
the output layer is solved for. Variants with a discriminator show whether it plays: its loss, which is 2 ln 2 = 1.386
where it guesses, the share of fingerprints that it judges rightly, and how hard it pulls at the generated fingerprints,
over how hard the simulated ones do. A variant that is the same as an earlier one is left out. ``ablation.json`` and
``report.html`` hold the table. One ablation alone is one command of `train`, such as ``--encoding=log``.
"""

import re

import numpy as np

from experiments.evaluation.generator import REFIT, errors_by_method
from experiments.flags.command_line import command
from ganmrf.files import write_json
from ganmrf.gan.recipes import changes_of
from ganmrf.progress import watched
from ganmrf.report.html import Section, Table, write_report
from ganmrf.runs.side_by_side import train_side_by_side
from ganmrf.runs.simulation_config import FISP_ALONE, OF_OTHER_KINDS
from ganmrf.runs.training import read_run, simulate_accurately
from ganmrf.runs.training_config import TrainingJob
from ganmrf.runs.workdir import Workdir
from ganmrf.settings import configuration, group, setting

# What differs from the recipe that the flags give.
_ADVERSARY = {"adversarial_weight": 1.0, "r1_weight": 0.0, "whiten": False, "reconstruction_weight": 100.0}
VARIANTS = {
    "regression": {"adversarial_weight": 0.0},
    "as it is": {},
    "gan": changes_of("gan"),
    "the paper's losses": {**_ADVERSARY, "reconstruction": "l1", "reduction": "mean"},
    "adversary, r1 1": {**_ADVERSARY, "r1_weight": 1.0},
    "adversary, r1 0.001": {**_ADVERSARY, "r1_weight": 1e-3},
    "adversary, r1 0": _ADVERSARY,
    "adversary, r1 1, whitened": {**_ADVERSARY, "r1_weight": 1.0, "whiten": True, "head": "svd"},
    "adversary, r1 0.001, whitened": {**_ADVERSARY, "r1_weight": 1e-3, "whiten": True, "head": "svd"},
    "adversary, r1 0, lambda 1": {**_ADVERSARY, "reconstruction_weight": 1.0},
    "with z": {"noise": 8},
    "linear T1, T2": {"encoding": "linear"},
    "log T1, T2": {"encoding": "log"},
    "last layer alone": {"skip": False},
    "tanh head": {"head": "tanh", "refit": False},
    "l1": {"reconstruction": "l1"},
    "sum over the frames": {"reduction": "sum"},
    "Adam": {"optimiser": "adam"},
    "inputs from 0 to 1": {"input_range": "unit"},
    "each fingerprint over its largest value": {"head": "tanh", "refit": False, "fingerprint_scaling": "each"},
    "weights as in TensorFlow": {"initialiser": "glorot_uniform"},
    "weights as in PyTorch": {"initialiser": "uniform"},
}

_JUDGED = {"discriminator_loss": ".3f", "discriminator_accuracy": ".2f", "adversarial_share": ".1e"}
_COLUMNS = ("Variant", "Error", "Error, refitted", "Worst atom, refitted")
_COLUMNS += ("Discriminator's loss", "its accuracy", "its share", "Training (core-s)")


@configuration
class Config:
    """The ablation."""

    workdir: str = setting(meaning="folder of all runs", kept=False)
    seeds: tuple[int, ...] = setting((0, 1, 2), "seeds that every variant is trained with", at_least=0)
    variant: tuple[str, ...] = setting(tuple(VARIANTS), "what to train", choices=tuple(VARIANTS), apart=True)
    job: TrainingJob = group(TrainingJob, without=("seed", "off_resonance_hz", *OF_OTHER_KINDS), **FISP_ALONE)


@command(Config)
def main(config: Config, given: frozenset[str]):
    """Trains all variants, and writes the table."""
    with Workdir(config.workdir, config, given) as workdir:
        config = workdir.config
        if not config.job.training.split[2] > 0:
            shares = ",".join(map(str, config.job.training.split))
            raise ValueError(f"split must have a test set to evaluate on; got {shares}")
        variants = {}
        for name in config.variant:
            if (job := config.job.changed(**VARIANTS[name])) not in variants.values():  # else it is one of those
                variants[name] = job
        runs = {
            name: _by_seed(workdir.path / re.sub("[^a-zA-Z0-9.]+", "_", name), job, config.seeds)
            for name, job in variants.items()
        }
        dictionary = simulate_accurately(config.job.simulation)
        jobs = {folder: job for of_variant in runs.values() for folder, job in of_variant.items()}
        train_side_by_side(jobs, dictionaries={config.job.simulation: dictionary})
        rows = _rows(runs, dictionary)
        write_json(workdir.path / "ablation.json", rows)
        table, seeds = Table(_COLUMNS, list(map(_cells, rows))), ", ".join(map(str, config.seeds))
        write_report(
            workdir.path / "report.html",
            title="What each part of the recipe contributes",
            summary=f"Mean relative L2 error of unit fingerprints on the test set over seeds {seeds}, and in brackets "
            "the least and the largest mean of a seed. Refitted: with the output layer solved for by least squares, "
            "which hides what training left undone. A discriminator's share is the gradient of the adversarial term "
            "with respect to generated fingerprints, over that of the reconstruction term, at the end.",
            sections=[Section("Ablation", tables=[table])],
            settings=config,
        )
    print(table.text())
    print(f"report: {workdir.path / 'report.html'}")


def _by_seed(folder, job, seeds):
    return {folder / f"seed_{seed}": job.changed(seed=seed) for seed in seeds}


def _rows(folders, dictionary):
    """One row for each variant, with errors before and after the refit, and one for each baseline.

    The ``dictionary`` is what all runs learned from.
    """
    rows, baselines = [], []
    for name, of_variant in watched(list(folders.items()), "evaluating"):
        runs = [read_run(folder, dictionary) for folder in of_variant]
        by_seed = [errors_by_method(run, baselines=not rows) for run in runs]
        found = {method: _over_seeds([each[method] for each in by_seed]) for method in by_seed[0]}
        row = {"variant": name} | found.pop("generator") | {"refitted": found.pop(f"generator{REFIT}", None)}
        last = [run.rows[-1] for run in runs]
        rows.append(row | {key: float(np.mean([each[key] for each in last])) for key in _JUDGED if key in last[0]})
        baselines += [{"variant": method} | errors for method, errors in found.items()]
    return rows + baselines


def _over_seeds(found):
    """Errors of a method, from the errors of all atoms and the core-seconds of every seed."""
    means = [float(errors.mean()) for errors, _ in found]
    return {
        "mean": float(np.mean(means)),
        "least_seed": min(means),
        "worst_seed": max(means),
        "worst_atom": float(max(errors.max() for errors, _ in found)),
        "core_seconds": float(np.mean([seconds for _, seconds in found])),
    }


def _cells(row):
    def error(found):
        return f"{found['mean']:.2e} ({found['least_seed']:.2e} to {found['worst_seed']:.2e})"

    refitted = row.get("refitted")
    return [
        row["variant"],
        error(row),
        *((error(refitted), f"{refitted['worst_atom']:.1e}") if refitted else ("-", "-")),
        *(f"{row[key]:{form}}" if key in row else "-" for key, form in _JUDGED.items()),
        f"{row['core_seconds']:.1f}",
    ]


if __name__ == "__main__":
    main.run()
