"""What the adversary is for: generators of fingerprints whose B1 is hidden, evaluated by the distribution they give.

Example::

    ganmrf studies.hidden_b1 --workdir=runs/hidden_b1 --seeds=0,1,2

B1+ is two-humped and unknown to the generator, which is told T1 and T2 and is given noise z. Every variant is trained
with every seed, side by side, and its samples at tissues that were held out are compared with simulated ones. The last
row of the table, a second simulated set, is what the best generator could reach. ``hidden_b1.json`` and ``report.html``
hold the results. Called again with the same ``--workdir`` it goes on where it was cut off.
"""

from experiments.flags.command_line import command
from experiments.studies.hidden_b1_report import result_rows, result_table, write_hidden_b1_report
from experiments.studies.hidden_b1_runs import VARIANTS, train_and_evaluate
from experiments.studies.variants import run_folder, run_variants
from ganmrf.files import write_json
from ganmrf.runs.simulation_config import FISP_ALONE, OF_OTHER_KINDS, SimulationConfig
from ganmrf.runs.workdir import Workdir
from ganmrf.settings import configuration, group, setting, to_plain


@configuration
class Config:
    """The study."""

    workdir: str = setting(meaning="folder of all runs", kept=False)
    seeds: tuple[int, ...] = setting((0, 1, 2), "seeds that every variant is trained with", at_least=0)
    variant: tuple[str, ...] = setting(tuple(VARIANTS), "what to train", choices=tuple(VARIANTS), apart=True)
    steps: int = setting(2500, "updates of the generator, and as many of the discriminator", at_least=1)
    width: int = setting(128, "units of a hidden layer", at_least=1)
    depth: int = setting(3, "hidden layers", at_least=1)
    batch_size: int = setting(256, "atoms a step", at_least=1)
    draws: int = setting(4, "B1 values of every tissue that is trained on", at_least=1)
    conditions: int = setting(64, "tissues that are held out to evaluate on", at_least=1)
    samples: int = setting(256, "fingerprints of each of them", at_least=1)
    simulation: SimulationConfig = group(
        SimulationConfig, without=("b1", "off_resonance_hz", *OF_OTHER_KINDS), **FISP_ALONE
    )


@command(Config)
def main(config: Config, given: frozenset[str]):
    """Trains and evaluates all variants, and writes what came out."""
    with Workdir(config.workdir, config, given) as workdir:
        config, settings = workdir.config, to_plain(workdir.config)
        variants, seeds = config.variant, config.seeds
        runs = {(name, seed): settings for name in variants for seed in seeds}
        rows = result_rows(run_variants(train_and_evaluate, workdir.path, runs), variants, seeds)
        write_json(workdir.path / "hidden_b1.json", rows)
        table = result_table(rows, settings)
        shown = {name: run_folder(workdir.path, name, seeds[0]) for name in variants}
        write_hidden_b1_report(workdir.path / "report.html", settings, rows, table, shown)
    print(table.text())
    print(f"report: {workdir.path / 'report.html'}")


if __name__ == "__main__":
    main.run()
