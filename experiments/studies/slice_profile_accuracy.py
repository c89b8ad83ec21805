"""How many nodes does a slice profile need? Error of fingerprints against 1024 positions, as a table.

Example::

    python -m experiments.studies.slice_profile_accuracy --time_bandwidth=8 --window=hann --nodes=8,12,16,24,32
"""

import dataclasses
import json

import jax
import numpy as np
from absl import flags

from experiments.flags.command_line import run
from ganmrf.files import replacing
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate
from ganmrf.physics.slice_profile import SliceProfile, sinc_profile, sinc_slice_profile
from ganmrf.physics.tissue import Tissue

TIME_BANDWIDTH = flags.DEFINE_float("time_bandwidth", 8.0, "pulse duration times bandwidth")
WINDOW = flags.DEFINE_string("window", "hann", "hann, hamming or none")
NODES = flags.DEFINE_list("nodes", ["8", "12", "16", "24", "32"], "numbers of nodes to judge")
OUTPUT = flags.DEFINE_string("output", None, "JSON file for the table; none by default")

# Tissues that span the paper's grid, s.
T1 = (2.95, 2.95, 1.0, 0.3, 0.1, 0.8, 2.0, 0.5)
T2 = (0.5, 0.1, 0.1, 0.15, 0.06, 0.04, 0.35, 0.01)
POSITIONS = 1024
# One number for all, so that the orders left out (1e-5 of the signal) are the same on both sides of a comparison.
N_STATES = 112


@dataclasses.dataclass(frozen=True)
class Config:
    """What is judged: the pulse and the numbers of nodes."""

    time_bandwidth: float
    window: str
    nodes: tuple[int, ...]


def main():
    """Prints the table and writes it to ``--output``."""
    jax.config.update("jax_enable_x64", True)
    config = Config(TIME_BANDWIDTH.value, WINDOW.value, _counts(NODES.value))
    rows = measure(config)
    print(f"largest relative L2 error of {len(T1)} fingerprints against {POSITIONS} positions")
    print(f"{config.window} sinc, time-bandwidth {config.time_bandwidth:g}\n")
    print(f"{'nodes':>5}  {'gauss':>8}  {'uniform':>8}")
    for row in rows:
        print(f"{row['nodes']:5d}  {row['gauss']:8.1e}  {row['uniform']:8.1e}")
    if OUTPUT.value:
        with replacing(OUTPUT.value) as path:
            path.write_text(json.dumps({"config": dataclasses.asdict(config), "errors": rows}, indent=2) + "\n")


def measure(config: Config) -> list[dict]:
    """For each number of nodes, the largest error of the Gauss rule and of as many uniform positions."""
    pulse = {"time_bandwidth": config.time_bandwidth, "window": config.window}
    sequence, tissue = mrf_fisp(), Tissue(T1, T2)

    def fingerprints(profile):
        return np.asarray(simulate(sequence, tissue, n_states=N_STATES, slice_profile=profile))

    def uniform(n):
        position = (np.arange(n) + 0.5) / n
        return SliceProfile(sinc_profile(position, **pulse), np.full(n, 1 / n))

    reference = fingerprints(uniform(POSITIONS))

    def error(profile):
        difference = fingerprints(profile) - reference
        return float((np.linalg.norm(difference, axis=-1) / np.linalg.norm(reference, axis=-1)).max())

    gauss = {n: sinc_slice_profile(n, n_positions=POSITIONS, **pulse) for n in config.nodes}
    return [{"nodes": n, "gauss": error(gauss[n]), "uniform": error(uniform(n))} for n in config.nodes]


def _counts(entries):
    wrong = [entry for entry in entries if not entry.strip().isdecimal() or int(entry) < 1]
    if wrong or not entries:
        raise ValueError(f"--nodes must hold whole numbers of 1 or more; got {', '.join(wrong)!r}")
    return tuple(int(entry) for entry in entries)


if __name__ == "__main__":
    run(main)
