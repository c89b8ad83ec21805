"""What the adversary is for: generators of fingerprints whose B1 is hidden, judged by the distribution they give.

Example::

    python -m experiments.studies.hidden_b1 --workdir=runs/nuisance --seeds=0,1,2

B1+ is two-humped and unknown to the generator, which is told T1 and T2 and is given noise z. Every variant is trained
with every seed, side by side, and its samples at tissues that were held out are compared with simulated ones. The last
row of the table, a second simulated set, is what the best generator could reach. ``nuisance.json`` and ``report.html``
hold the results. Called again with the same ``--workdir`` it goes on where it was cut off.
"""

import dataclasses
import functools
import json

from absl import flags

from experiments.flags import sequence_flags
from experiments.flags.command_line import given_flags, numbers_in, run
from experiments.studies.hidden_b1_report import result_rows, result_table, write_nuisance_report
from experiments.studies.hidden_b1_runs import VARIANTS, train_and_judge
from ganmrf.files import replacing
from ganmrf.runs.side_by_side import run_side_by_side
from ganmrf.runs.workdir import Workdir

flags.adopt_module_key_flags(sequence_flags)
_WORKDIR = flags.DEFINE_string("workdir", None, "folder of all runs", required=True)
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "seeds that every variant is trained with")
_VARIANTS = flags.DEFINE_multi_enum("variant", list(VARIANTS), list(VARIANTS), "what to train; may be repeated")
_NUMBERS = {
    "steps": (2500, "updates of each player"),
    "width": (128, "units of a hidden layer"),
    "depth": (3, "hidden layers"),
    "batch_size": (256, "atoms a step"),
    "draws": (4, "B1 values of every tissue that is trained on"),
    "conditions": (64, "tissues that are held out to judge by"),
    "samples": (256, "fingerprints of each of them"),
}
_FLAGS = {
    name: flags.DEFINE_integer(name, default, meaning, lower_bound=1) for name, (default, meaning) in _NUMBERS.items()
}


def main():
    """Trains and judges all variants, and writes what came out."""
    settings = {"simulation": dataclasses.asdict(sequence_flags.simulation_config())}
    settings |= {name: flag.value for name, flag in _FLAGS.items()}
    settings |= {"variant": _VARIANTS.value, "seeds": [int(seed) for seed in numbers_in(_SEEDS.value, "--seeds")]}
    given = given_flags()
    with Workdir(_WORKDIR.value, settings, given) as workdir:
        settings = workdir.config
        variants, seeds = settings["variant"], settings["seeds"]
        folders = {(name, seed): workdir.path / _folder(name) / f"seed_{seed}" for name in variants for seed in seeds}
        found = run_side_by_side(functools.partial(_judge, settings), list(folders.items()))
        rows = result_rows(found, variants, seeds)
        with replacing(workdir.path / "nuisance.json") as path:
            path.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
        table = result_table(rows, settings)
        write_nuisance_report(
            workdir.path / "report.html", settings, rows, table, {name: folders[name, seeds[0]] for name in variants}
        )
    for name, *cells in (table.columns, *table.rows):
        print(f"{name:26s}" + "".join(f"{cell:>34s}" for cell in cells))
    print(f"report: {workdir.path / 'report.html'}")


def _judge(settings, item):
    (variant, seed), folder = item
    return (variant, seed), train_and_judge(folder, settings, variant, seed)


def _folder(variant):
    return variant.replace(" ", "_").replace(",", "")


if __name__ == "__main__":
    run(main)
