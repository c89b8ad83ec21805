"""How fast a trained generator makes dictionaries, beside the simulator and a matrix product of the same run.

Example::

    python -m experiments.benchmarks.generation --generator=runs/best/generator.npz

Run it on a quiet machine. Every round times each job once, in turn, and medians are printed. What the network is, not
how well it was trained, sets its speed.
"""

import json

from absl import flags

from experiments.benchmarks.timing import generation_cost
from experiments.flags.command_line import run
from ganmrf import tissue_grid
from ganmrf.anchors.generator_file import load_generator
from ganmrf.files import replacing
from ganmrf.physics.slice_profile import sinc_slice_profile
from ganmrf.report.html import machine_facts

_GENERATOR = flags.DEFINE_string("generator", None, "generator.npz of a training run", required=True)
_ROUNDS = flags.DEFINE_integer("rounds", 9, "how often each job is timed", lower_bound=1)
_GRIDS = flags.DEFINE_list("grids", ["paper", "fine"], "tissue grids: paper (5970 atoms), coarse (297), fine (106160)")
_OUTPUT = flags.DEFINE_string("output", None, "JSON file for the table; none by default")


def main():
    """Prints the table."""
    generator = load_generator(_GENERATOR.value)
    profiles = {1: None, 12: sinc_slice_profile(12)}
    costs = {}
    for grid in _GRIDS.value:
        cost = costs[grid] = generation_cost(generator, tissue_grid(grid), profiles, rounds=_ROUNDS.value)
        print(f"{cost.atoms} atoms of {generator.sequence.n_frames} frames:")
        print(f"  generated      {1e3 * cost.generate:8.1f} ms, {1e-9 * cost.rate:.0f} GFLOP/s, ", end="")
        print(f"{100 * cost.rate / cost.product_rate:.0f} % of a matrix product's {1e-9 * cost.product_rate:.0f}")
        for nodes, seconds in cost.simulate.items():
            print(f"  simulated, {nodes:2d} {1e3 * seconds:9.1f} ms (slice positions: {nodes})", flush=True)
    if _OUTPUT.value:
        table = {"machine": machine_facts()} | {grid: cost._asdict() for grid, cost in costs.items()}
        with replacing(_OUTPUT.value) as path:
            path.write_text(json.dumps(table, indent=2) + "\n")


if __name__ == "__main__":
    run(main)
