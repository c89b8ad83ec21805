"""How fast and how exact the simulator is, beside a naive form, a matrix product, and every peer that is installed.

Example::

    ganmrf benchmarks.simulator --output=benchmark

Run it on a quiet machine, and bound to one core (``taskset -c 0 ganmrf ...``) for figures of one core; on several it
also compares one core with two. Every round runs each job once, in turn; the table gives medians. Rates are atoms over
the processor time of the whole process. They are given relative to the naive form too (`simulate_voxel` under
`jax.vmap`: complex numbers and 3 x 3 matrices), and per GFLOP/s of a float32 matrix product on one core, so that
machines can be compared. The error of signals is their largest relative L2 difference from a sum over isochromats,
which shares no code with the simulator; that of gradients is relative to plain automatic differentiation. Everything is
compiled before the first round.

``--output`` names a folder for the table as JSON, and for a plot of time against atoms, frames and orders.
"""

import functools
import statistics
import time

import jax
import numpy as np
import threadpoolctl

from experiments.benchmarks.simulator_jobs import seconds_on, simulator_jobs
from experiments.benchmarks.timing import PRODUCT_SIZE, timed
from experiments.flags.command_line import command
from ganmrf import build_dictionary, mrf_fisp, tissue_grid
from ganmrf.dictionary.grids import grid_of
from ganmrf.files import make_folder, replacing, write_json
from ganmrf.parallel import cores
from ganmrf.physics.simulate_many import simulate_many
from ganmrf.report.figures import scaling_figure
from ganmrf.report.html import Table, machine_facts
from ganmrf.settings import configuration, setting

_PIECE = 100_000  # atoms simulated at once for the plot: a piece is forgotten before the next


@configuration
class Config:
    """The jobs."""

    rounds: int = setting(5, "how often each job is timed", at_least=1)
    states: int = setting(80, "EPG states, where their number is fixed", at_least=2)
    peer_atoms: int = setting(64, "atoms for the slow peers", at_least=1)
    largest: int = setting(100_000, "most atoms of the plot", at_least=1000)
    output: str | None = setting(None, "folder for the table and the plot; default: none")


@command(Config)
def main(config: Config):
    """Prints the table, and writes it and the plot."""
    if config.output:
        wide_grid(config.largest)  # asks for its memory
    folder = make_folder(config.output) if config.output else None
    sequence = mrf_fisp()
    with threadpoolctl.threadpool_limits(1, "blas"):
        jobs = list(simulator_jobs(sequence, tissue_grid(), config.states, config.peer_atoms))
        rows, gflops = table(jobs, config.rounds)
    print(f"a float32 product of {PRODUCT_SIZE} x {PRODUCT_SIZE} matrices on one core: {gflops:.0f} GFLOP/s")
    columns = ("job", "atoms", "time (s)", "core-s", "per core-s", "x naive", "per GFLOP/s", "error")
    forms = ("", "", ".4f", ".4f", ".0f", ".1f", ".1f", ".1e")  # of the values of a row, in order
    cells = [
        ["" if value is None else f"{value:{form}}" for value, form in zip(row.values(), forms, strict=True)]
        for row in rows
    ]
    print(Table(columns, cells).text())
    devices = several_devices(config.rounds) if jax.default_backend() == "cpu" and len(cores()) > 1 else {}
    for name, seconds in devices.items():
        print(f"fine grid, {name}: {seconds:.3f} s, {devices['one core'] / seconds:.2f} times as fast as on one")
    if folder:
        curves = scaling(sequence, config.largest)
        facts = {"machine": machine_facts(), "gflops": gflops, "rows": rows, "devices": devices, "scaling": curves}
        write_json(folder / "benchmark.json", facts)
        with replacing(folder / "scaling.png") as path:
            scaling_figure(curves).savefig(path, dpi=150)
        print(f"table and plot in {folder}")


def table(jobs, rounds):
    """Rows of the table, and the rate of the matrix product, GFLOP/s."""
    matrix = np.random.default_rng(0).standard_normal((PRODUCT_SIZE, PRODUCT_SIZE), np.float32)
    runs = {"product": lambda: matrix @ matrix} | {job.name: job.run for job in jobs}
    seconds = timed(runs, rounds, clock=lambda: np.array([time.perf_counter(), time.process_time()]))
    medians = {name: np.median(values, axis=0).tolist() for name, values in seconds.items()}
    gflops = 2e-9 * PRODUCT_SIZE**3 / medians["product"][1]
    naive = jobs[0].atoms / medians[jobs[0].name][1]
    rows = []
    for job in jobs:
        wall, core = medians[job.name]
        rate = job.atoms / core
        row = {"job": job.name, "atoms": job.atoms, "seconds": wall, "core_seconds": core, "rate": rate}
        row |= {"times_naive": rate / naive, "per_gflops": rate / gflops}
        rows.append(row | {"error": job.error and job.error(job.run())})
    return rows, gflops


def several_devices(rounds):
    """Seconds for the fine grid by what it was simulated on: one core, two, and two as a device of JAX each."""
    kinds = {"one core": (1, 1), "two cores": (2, 1), "two cores, a device each": (2, 2)}
    return {name: seconds_on(set(cores()[:n]), devices, rounds) for name, (n, devices) in kinds.items()}


def scaling(sequence, largest):
    """Median seconds against the number of atoms, frames and orders, one at a time."""
    grid, atoms = tissue_grid(), tissue_grid().rows(slice(512))
    sizes = [100 * 10**power for power in range(10) if 100 * 10**power <= largest]
    by_atoms = {n: functools.partial(in_pieces, sequence, n) for n in sizes}
    by_frames = {n: functools.partial(build_dictionary, mrf_fisp(n), grid) for n in (30, 100, 300, 1000)}
    by_orders = {n: functools.partial(simulate_many, sequence, atoms, n_states=n) for n in (9, 25, 81, 201, 497)}
    lines = {
        "atoms": ("1000 frames, orders for 1e-4", by_atoms),
        "frames": (f"{grid.size} atoms, orders for 1e-4", by_frames),
        "orders": ("512 atoms, 1000 frames", by_orders),
    }
    curves = {}
    for varied, (name, jobs) in lines.items():
        seconds = timed(jobs, 3)
        curves[varied] = {name: {"size": list(jobs), "seconds": [statistics.median(seconds[n]) for n in jobs]}}
    return curves


def wide_grid(size):
    """A grid of ``size`` atoms or more, as wide as the paper's."""
    side = int(np.ceil(np.sqrt(1.2 * size)))
    return grid_of(np.geomspace(0.01, 3, side), np.geomspace(0.002, 0.5, side))


def in_pieces(sequence, size):
    """Simulates ``size`` atoms of a `wide_grid`."""
    grid = wide_grid(size)
    for start in range(0, min(size, grid.size), _PIECE):
        build_dictionary(sequence, grid.rows(slice(start, min(start + _PIECE, size))))


if __name__ == "__main__":
    main.run()
