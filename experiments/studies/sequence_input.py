"""One network for a family of sequences: what the paper's direct conditioning reaches on sequences never seen.

Example::

    python -m experiments.studies.sequence_input --workdir=runs/direct --seeds=0,1,2

The family has eight parameters (`ganmrf.physics.sequences.random.five_lobes`). A residual network takes them beside T1 and T2,
as regression or as the paper's conditional GAN with an l1 term and R1; the regression is trained once for as many
steps, once for as long, and once in the GAN's own norm. Another one takes all flip angles and repetition times in
place of the parameters. Every variant is trained with every seed, side by side; simulating what it is trained on counts
in its core-seconds. ``direct.json`` and ``report.html`` hold the results. Called again with the same ``--workdir`` it
goes on where it was cut off.
"""

import json

from absl import flags

from experiments.flags.command_line import given_flags, numbers_in, run
from experiments.studies.sequence_input_report import result_rows, result_table, write_direct_report
from experiments.studies.sequence_input_runs import (
    GAN,
    LONGER,
    REGRESSION,
    VARIANTS,
    steps_of_equal_time,
    train_and_judge,
)
from ganmrf.files import replacing
from ganmrf.runs.side_by_side import run_side_by_side
from ganmrf.runs.workdir import Workdir

_WORKDIR = flags.DEFINE_string("workdir", None, "folder of all runs", required=True)
_SEEDS = flags.DEFINE_list("seeds", ["0"], "seeds that every variant is trained with")
_VARIANTS = flags.DEFINE_multi_enum("variant", list(VARIANTS), list(VARIANTS), "what to train; may be repeated")
_WEIGHT = flags.DEFINE_float("reconstruction_weight", 100.0, "lambda, the weight of the GAN's l1 term", lower_bound=0.0)
_NUMBERS = {
    "frames": (1000, "length of the sequences"),
    "steps": (5000, "updates of each player; regression as long as the GAN has more"),
    "every": (200, "steps between two draws of sequences and tissues, and two records"),
    "sequences": (512, "sequences of every draw, of 64 tissues each"),
    "width": (256, "units of a hidden layer"),
    "depth": (5, "hidden layers"),
    "rank": (160, "coefficients that the network emits"),
    "batch_size": (512, "atoms a step"),
    "refit_draws": (4, "draws that the output layer is solved for on"),
    "judged": (128, "sequences never seen to judge by"),
}
_FLAGS = {
    name: flags.DEFINE_integer(name, default, meaning, lower_bound=1) for name, (default, meaning) in _NUMBERS.items()
}


def main():
    """Trains and judges all variants, and writes what came out."""
    settings = {name: flag.value for name, flag in _FLAGS.items()} | {"reconstruction_weight": _WEIGHT.value}
    settings |= {"variant": _VARIANTS.value, "seeds": [int(seed) for seed in numbers_in(_SEEDS.value, "--seeds")]}
    given = given_flags()
    with Workdir(_WORKDIR.value, settings, given) as workdir:
        settings = workdir.config
        variants, seeds = settings["variant"], settings["seeds"]
        if LONGER in variants and not {REGRESSION, GAN} <= set(variants):
            raise ValueError(f"--variant={LONGER} needs the variants {REGRESSION} and {GAN} too")
        jobs = [_job(workdir, settings, name, seed) for seed in seeds for name in variants if name != LONGER]
        found = run_side_by_side(_judge, jobs)
        if LONGER in variants:
            steps = {seed: steps_of_equal_time(*(found[name, seed] for name in (REGRESSION, GAN))) for seed in seeds}
            jobs = [_job(workdir, settings | {"steps": steps[seed]}, LONGER, seed) for seed in seeds]
            found |= run_side_by_side(_judge, jobs)
        rows = result_rows(found, variants, seeds)
        with replacing(workdir.path / "direct.json") as path:
            path.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
        table = result_table(rows, settings)
        write_direct_report(workdir.path / "report.html", rows, table, settings)
    for name, *cells in (table.columns, *table.rows):
        print(f"{name:34s}" + "".join(f"{cell:>15s}" for cell in cells))
    print(f"report: {workdir.path / 'report.html'}")


def _job(workdir, settings, variant, seed):
    folder = workdir.path / variant.replace(" ", "_").replace(",", "") / f"seed_{seed}"
    return folder, settings, variant, seed


def _judge(job):
    _, _, variant, seed = job
    return (variant, seed), train_and_judge(*job)


if __name__ == "__main__":
    run(main)
