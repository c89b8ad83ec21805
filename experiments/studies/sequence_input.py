"""One network for a family of sequences: what the paper's direct conditioning reaches on sequences never seen.

Example::

    ganmrf studies.sequence_input --workdir=runs/sequence_input --seeds=0,1,2

The family has eight parameters (`ganmrf.physics.sequences.random.five_lobes`). A residual network takes the parameters
beside T1 and T2, as regression or as the paper's conditional GAN with an l1 term and gradient penalty; the regression
is trained once for as many steps, once for as long, and once in the GAN's own norm. Another network takes all flip
angles and repetition times in place of the parameters. Every variant is trained with every seed, side by side;
simulating its examples counts in its core-seconds. ``sequence_input.json`` and ``report.html`` hold the results. Called
again with the same ``--workdir`` the command goes on where it was cut off.
"""

from experiments.flags.command_line import command
from experiments.studies.sequence_input_report import result_rows, result_table, write_sequence_input_report
from experiments.studies.sequence_input_runs import (
    GAN,
    LONGER,
    REGRESSION,
    VARIANTS,
    steps_of_equal_time,
    train_and_evaluate,
)
from experiments.studies.variants import run_variants
from ganmrf.files import write_json
from ganmrf.runs.workdir import Workdir
from ganmrf.settings import configuration, setting, to_plain


@configuration
class Config:
    """The study."""

    workdir: str = setting(meaning="folder of all runs", kept=False)
    seeds: tuple[int, ...] = setting((0,), "seeds that every variant is trained with", at_least=0)
    variant: tuple[str, ...] = setting(tuple(VARIANTS), "what to train", choices=tuple(VARIANTS), apart=True)
    reconstruction_weight: float = setting(100.0, "lambda, the weight of the GAN's l1 term", at_least=0)
    frames: int = setting(1000, "length of the sequences", at_least=1)
    steps: int = setting(
        5000, "updates of the generator, and of the discriminator; regression as long as the GAN has more", at_least=1
    )
    every: int = setting(200, "steps between two draws of sequences and tissues, and two records", at_least=1)
    sequences: int = setting(512, "sequences of every draw, of 64 tissues each", at_least=1)
    width: int = setting(256, "units of a hidden layer", at_least=1)
    depth: int = setting(5, "hidden layers", at_least=1)
    rank: int = setting(160, "coefficients that the network emits", at_least=1)
    batch_size: int = setting(512, "atoms a step", at_least=1)
    refit_draws: int = setting(4, "draws that the output layer is solved for on", at_least=1)
    judged: int = setting(128, "sequences never seen to evaluate on", at_least=1)

    def __post_init__(self):
        if LONGER in self.variant and not {REGRESSION, GAN} <= set(self.variant):
            raise ValueError(f"variant={LONGER} needs the variants {REGRESSION} and {GAN} too")


@command(Config)
def main(config: Config, given: frozenset[str]):
    """Trains and evaluates all variants, and writes what came out."""
    with Workdir(config.workdir, config, given) as workdir:
        config, settings = workdir.config, to_plain(workdir.config)
        variants, seeds = config.variant, config.seeds
        runs = {(name, seed): settings for seed in seeds for name in variants if name != LONGER}
        found = run_variants(train_and_evaluate, workdir.path, runs)
        if LONGER in variants:
            steps = {seed: steps_of_equal_time(found[REGRESSION, seed], found[GAN, seed]) for seed in seeds}
            runs = {(LONGER, seed): settings | {"steps": steps[seed]} for seed in seeds}
            found |= run_variants(train_and_evaluate, workdir.path, runs)
        rows = result_rows(found, variants, seeds)
        write_json(workdir.path / "sequence_input.json", rows)
        table = result_table(rows, settings)
        write_sequence_input_report(workdir.path / "report.html", rows, table, settings)
    print(table.text())
    print(f"report: {workdir.path / 'report.html'}")


if __name__ == "__main__":
    main.run()
