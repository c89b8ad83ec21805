"""How fast a trained generator makes dictionaries, beside the simulator and a matrix product of the same run.

Example::

    ganmrf benchmarks.generation --generator=runs/regression/generator.npz

Run it on a quiet machine. Every round times each job once, in turn, and medians are printed. What the network is, not
how well it was trained, sets its speed.
"""

from experiments.benchmarks.timing import generation_cost
from experiments.flags.command_line import command
from ganmrf import tissue_grid
from ganmrf.anchors.generator_file import load_generator
from ganmrf.dictionary.grids import GRIDS_ON_RESONANCE
from ganmrf.files import write_json
from ganmrf.physics.rf_pulse import windowed_sinc
from ganmrf.physics.slice_profile import small_tip
from ganmrf.report.html import machine_facts
from ganmrf.settings import configuration, setting


@configuration
class Config:
    """The generator and the grids."""

    generator: str = setting(meaning="generator.npz of a training run", reads=True)
    rounds: int = setting(9, "how often each job is timed", at_least=1)
    grids: tuple[str, ...] = setting(
        ("paper", "fine"), "tissue grids of 5970, 297 and 106160 atoms", choices=GRIDS_ON_RESONANCE
    )
    output: str | None = setting(None, "JSON file for the table; default: none", suffixes=(".json",))


@command(Config)
def main(config: Config):
    """Prints the table."""
    generator = load_generator(config.generator)
    profiles = {"uniform slice": None, "small-tip slice": small_tip(windowed_sinc(8, "hann"))}
    costs = {}
    for grid in config.grids:
        cost = costs[grid] = generation_cost(generator, tissue_grid(grid), profiles, rounds=config.rounds)
        print(f"{cost.atoms} atoms of {generator.sequence.n_frames} frames:")
        print(f"  generated                  {1e3 * cost.generate:8.1f} ms, {1e-9 * cost.rate:.0f} GFLOP/s, ", end="")
        print(f"{100 * cost.rate / cost.product_rate:.0f} % of a matrix product's {1e-9 * cost.product_rate:.0f}")
        for name, seconds in cost.simulate.items():
            print(f"  simulated, {name:15s} {1e3 * seconds:8.1f} ms", flush=True)
    if config.output:
        table = {"machine": machine_facts()} | {grid: cost._asdict() for grid, cost in costs.items()}
        write_json(config.output, table)


if __name__ == "__main__":
    main.run()
