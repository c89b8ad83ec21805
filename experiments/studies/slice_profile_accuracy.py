"""How many nodes does a slice profile need? Error of fingerprints against 1024 positions, as a table.

Example::

    ganmrf studies.slice_profile_accuracy --time_bandwidth=8 --window=hann --nodes=8,12,16,24,32
"""

import jax
import numpy as np

from experiments.flags.command_line import command
from ganmrf.files import write_json
from ganmrf.metrics import fingerprint_errors
from ganmrf.physics.rf_pulse import WINDOWS
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate
from ganmrf.physics.slice_profile import MAX_TIME_BANDWIDTH, SliceProfile, sinc_profile, sinc_slice_profile
from ganmrf.physics.tissue import Tissue
from ganmrf.report.html import Table
from ganmrf.settings import configuration, setting, to_plain

# Tissues that span the paper's grid, s.
T1 = (2.95, 2.95, 1.0, 0.3, 0.1, 0.8, 2.0, 0.5)
T2 = (0.5, 0.1, 0.1, 0.15, 0.06, 0.04, 0.35, 0.01)
POSITIONS = 1024
# One number for all, so that the orders left out (1e-5 of the signal) are the same on both sides of a comparison.
N_STATES = 112


@configuration
class Config:
    """The pulse and the numbers of nodes."""

    time_bandwidth: float = setting(8.0, "pulse duration times bandwidth", above=0, at_most=MAX_TIME_BANDWIDTH)
    window: str = setting("hann", "of the pulse", choices=tuple(WINDOWS))
    nodes: tuple[int, ...] = setting((8, 12, 16, 24, 32), "numbers of nodes to evaluate", at_least=1, at_most=POSITIONS)
    output: str | None = setting(None, "JSON file for the table; default: none", suffixes=(".json",), kept=False)


@command(Config)
def main(config: Config):
    """Prints the table and writes it to ``--output``."""
    with jax.enable_x64(True):
        rows = measure(config)
    cells = [(f"{row['nodes']}", f"{row['gauss']:.1e}", f"{row['uniform']:.1e}") for row in rows]
    caption = (
        f"largest relative L2 error of {len(T1)} fingerprints against {POSITIONS} positions; {config.window} sinc, "
        f"time-bandwidth {config.time_bandwidth:g}"
    )
    print(Table(("nodes", "gauss", "uniform"), cells, caption).text())
    if config.output:
        write_json(config.output, {"config": to_plain(config), "errors": rows})


def measure(config: Config) -> list[dict]:
    """For each number of nodes, the largest error of the Gauss rule and of as many uniform positions."""
    pulse = {"time_bandwidth": config.time_bandwidth, "window": config.window}
    sequence, tissue = mrf_fisp(), Tissue(T1, T2)

    def fingerprints(profile):
        return simulate(sequence, tissue, n_states=N_STATES, slice_profile=profile)

    def uniform(n):
        position = (np.arange(n) + 0.5) / n
        return SliceProfile(sinc_profile(position, **pulse), np.full(n, 1 / n))

    reference = fingerprints(uniform(POSITIONS))

    def error(profile):
        return float(fingerprint_errors(fingerprints(profile), reference).max())

    gauss = {n: sinc_slice_profile(n, n_positions=POSITIONS, **pulse) for n in config.nodes}
    return [{"nodes": n, "gauss": error(gauss[n]), "uniform": error(uniform(n))} for n in config.nodes]


if __name__ == "__main__":
    main.run()
