"""How fast and how exact the simulator is, beside a naive form, a matrix product, and every peer that is installed.

Example::

    python -m experiments.benchmarks.simulator --output=benchmark

Run it on a quiet machine, and bound to one core (``taskset -c 0 python -m ...``) for figures of one core; on several it
also compares one core with two. Every round runs each job once, in turn; the table gives medians. Rates are atoms over
the processor time of the whole process. They are given relative to the naive form too (`simulate_voxel` under
`jax.vmap`: complex numbers and 3 x 3 matrices), and per GFLOP/s of a float32 matrix product on one core, so that
machines can be compared. The error of signals is their largest relative L2 difference from a sum over isochromats,
which shares no code with the simulator; that of gradients is relative to plain automatic differentiation. Everything is
compiled before the first round.

``--output`` names a folder for the table as JSON, and for a plot of time against atoms, frames and orders.
"""

import functools
import json
import statistics
import time

import jax
import numpy as np
import threadpoolctl
from absl import flags

from experiments.benchmarks.simulator_jobs import seconds_on, simulator_jobs
from experiments.benchmarks.timing import timed
from experiments.flags.command_line import run
from ganmrf import build_dictionary, mrf_fisp, tissue_grid
from ganmrf.dictionary.grids import grid_of
from ganmrf.files import make_folder, replacing
from ganmrf.parallel import cores
from ganmrf.physics.simulate_many import simulate_many
from ganmrf.report.figures import scaling_figure
from ganmrf.report.html import machine_facts

_ROUNDS = flags.DEFINE_integer("rounds", 5, "how often each job is timed", lower_bound=1)
_STATES = flags.DEFINE_integer("states", 80, "orders, where their number is fixed", lower_bound=2)
_PEER_ATOMS = flags.DEFINE_integer("peer_atoms", 64, "atoms for the slow peers", lower_bound=1)
_LARGEST = flags.DEFINE_integer("largest", 100_000, "most atoms of the plot", lower_bound=1000)
_OUTPUT = flags.DEFINE_string("output", None, "folder for the table and the plot; none by default")
_PRODUCT = 2048  # rows and columns of the matrix product
_PIECE = 100_000  # atoms simulated at once for the plot: a piece is forgotten before the next


def main():
    """Prints the table, and writes it and the plot."""
    folder = make_folder(_OUTPUT.value) if _OUTPUT.value else None
    sequence = mrf_fisp()
    with threadpoolctl.threadpool_limits(1, "blas"):
        rows, gflops = table(list(simulator_jobs(sequence, tissue_grid(), _STATES.value, _PEER_ATOMS.value)))
    print(f"a float32 product of {_PRODUCT} x {_PRODUCT} matrices on one core: {gflops:.0f} GFLOP/s")
    print(f"{'':40s}  atoms  time (s)    core-s  per core-s  x naive  per GFLOP/s    error")
    for row in rows:
        error = "" if row["error"] is None else f"{row['error']:.1e}"
        print(
            f"{row['job']:40s}{row['atoms']:7d}{row['seconds']:10.4f}{row['core_seconds']:10.4f}{row['rate']:12.0f}"
            f"{row['times_naive']:9.1f}{row['per_gflops']:13.1f}{error:>9s}"
        )
    devices = several_devices() if jax.default_backend() == "cpu" and len(cores()) > 1 else {}
    for name, seconds in devices.items():
        print(
            f"fine grid, {name}: {seconds:.3f} s, {next(iter(devices.values())) / seconds:.2f} times as fast as on one"
        )
    if folder:
        curves = scaling(sequence)
        with replacing(folder / "benchmark.json") as path:
            contents = {
                "machine": machine_facts(),
                "gflops": gflops,
                "rows": rows,
                "devices": devices,
                "scaling": curves,
            }
            path.write_text(json.dumps(contents, indent=2) + "\n")
        with replacing(folder / "scaling.png") as path:
            scaling_figure(curves).savefig(path, dpi=150)
        print(f"table and plot in {folder}")


def table(jobs):
    """Rows of the table, and the rate of the matrix product, GFLOP/s."""
    matrix = np.random.default_rng(0).standard_normal((_PRODUCT, _PRODUCT), np.float32)
    runs = {"product": lambda: matrix @ matrix} | {job.name: job.run for job in jobs}
    seconds = timed(runs, _ROUNDS.value, clock=lambda: np.array([time.perf_counter(), time.process_time()]))
    medians = {name: np.median(values, axis=0).tolist() for name, values in seconds.items()}
    gflops = 2e-9 * _PRODUCT**3 / medians["product"][1]
    naive = jobs[0].atoms / medians[jobs[0].name][1]
    rows = []
    for job in jobs:
        wall, core = medians[job.name]
        rate = job.atoms / core
        rows.append(
            {
                "job": job.name,
                "atoms": job.atoms,
                "seconds": wall,
                "core_seconds": core,
                "rate": rate,
                "times_naive": rate / naive,
                "per_gflops": rate / gflops,
                "error": job.error and job.error(job.run()),
            }
        )
    return rows, gflops


def several_devices():
    """Seconds for the fine grid by what it was simulated on: one core, two, and two as a device of JAX each."""
    kinds = {"one core": (1, 1), "two cores": (2, 1), "two cores, a device each": (2, 2)}
    return {name: seconds_on(set(cores()[:n]), devices, _ROUNDS.value) for name, (n, devices) in kinds.items()}


def scaling(sequence):
    """Median seconds against the number of atoms, frames and orders, one at a time."""
    grid, atoms = tissue_grid(), tissue_grid().rows(slice(512))
    sizes = [100 * 10**power for power in range(10) if 100 * 10**power <= _LARGEST.value]
    lines = {
        "atoms": ("1000 frames, orders for 1e-4", {n: functools.partial(in_pieces, sequence, n) for n in sizes}),
        "frames": (
            f"{grid.size} atoms, orders for 1e-4",
            {n: functools.partial(build_dictionary, mrf_fisp(n), grid) for n in (30, 100, 300, 1000)},
        ),
        "orders": (
            "512 atoms, 1000 frames",
            {n: functools.partial(simulate_many, sequence, atoms, n_states=n) for n in (9, 25, 81, 201, 497)},
        ),
    }
    curves = {}
    for varied, (name, jobs) in lines.items():
        seconds = timed(jobs, 3)
        curves[varied] = {name: {"size": list(jobs), "seconds": [statistics.median(seconds[n]) for n in jobs]}}
    return curves


def in_pieces(sequence, size):
    """Simulates ``size`` atoms of a grid as wide as the paper's."""
    side = int(np.ceil(np.sqrt(1.2 * size)))
    grid = grid_of(np.geomspace(0.01, 3, side), np.geomspace(0.002, 0.5, side))
    for start in range(0, min(size, grid.size), _PIECE):
        build_dictionary(sequence, grid.rows(slice(start, min(start + _PIECE, size))))


if __name__ == "__main__":
    run(main)
