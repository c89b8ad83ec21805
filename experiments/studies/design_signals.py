"""What a design for many tissues in a full slice costs by the simulator and by anchors of its own, and what both reach.

Example::

    ganmrf studies.design_signals --output=design_signals.json

The same search, of as many updates from the same starts, takes its signals and their derivatives from the simulator or
from some dozens of anchors that are chosen for its tissues (``--own_anchors`` of `design_sequence`). Times are those of
the whole design: choosing anchors, compiling, searching, and verifying by the simulator. What both reach is told by the
simulator. Few tissues pay less: ``--population=8`` shows where the lines cross.
"""

import pathlib
import tempfile
import time

import numpy as np

from experiments.flags.command_line import command
from experiments.studies.keeping import keep
from ganmrf.design.verification import exact_bounds
from ganmrf.report.html import Table
from ganmrf.runs.designing import DesignConfig, design_in_folder
from ganmrf.runs.simulation_config import SimulationConfig
from ganmrf.runs.tissues import TissueConfig
from ganmrf.runs.workdir import read_records
from ganmrf.settings import configuration, setting

# Between which the population is spread: brain tissue, in the form of --tissues.
_BETWEEN = {
    "one_pool": ("short:700/60", "long:1500/130"),
    "semisolid": ("short:1600/60/0.25/14/340/15.1", "long:2200/110/0.05/14/340/15.1"),
    "exchanging": ("short:900/60/0.2/10/400/15", "long:1400/110/0.05/10/400/15"),
}
_SIGNALS = "simulator", "own anchors"


@configuration
class Config:
    """Tissue, and the size of the search."""

    tissue: tuple[str, ...] = setting(("one_pool", "semisolid"), "kinds of tissue", choices=tuple(_BETWEEN))
    population: int = setting(78, "tissues, beside the two that they lie between", at_least=1)
    frames: int = setting(80, "of the paper's schedule, which the search starts from", at_least=10, at_most=1000)
    steps: int = setting(100, "updates of each search, at most", at_least=1)
    starts: int = setting(1, "of each search", at_least=1)
    output: str | None = setting(None, "JSON file for the rows; default: none", suffixes=(".json",), kept=False)


@command(Config)
def main(config: Config):
    """Prints the table, and writes its rows."""
    rows = [measure(config, tissue, signals) for tissue in config.tissue for signals in _SIGNALS]
    columns = (
        "Tissue",
        "signals",
        "simulated",
        "design (s)",
        "core-s",
        "an update (s)",
        "bound: start",
        "design",
        "apart (%)",
    )
    cells = [
        (
            row["tissue"],
            row["signals"],
            str(row["simulated"]),
            f"{row['seconds']:.0f}",
            f"{row['core_seconds']:.0f}",
            "" if row["update_seconds"] is None else f"{row['update_seconds']:.3g}",
            f"{row['start']:.4g}",
            f"{row['design']:.4g}",
            "" if row["apart"] is None else f"{100 * row['apart']:.2g}",
        )
        for row in rows
    ]
    caption = (
        f"{config.steps} updates from {config.starts} start, {config.frames} frames, the full slice, "
        f"{config.population + 2} tissues; bounds are those of the objective, by the simulator, at M0 = noise"
    )
    print(Table(columns, cells, caption).text())
    keep(config, rows)


def measure(config: Config, tissue: str, signals: str) -> dict:
    """A row: what one design takes and reaches.

    Times are in s. ``update_seconds`` are those of an update once the program is compiled, None where the search ended
    before its hundredth; ``start`` and ``design`` are the root of the sum over parameters of the squared relative
    bounds, rms over the tissues.
    """
    simulation = SimulationConfig(frames=config.frames, pools=TissueConfig(tissue=tissue)).with_slice("full")
    asked = DesignConfig(
        simulation,
        tissues=_BETWEEN[tissue],
        population=config.population,
        objective="joint",
        starts=config.starts,
        steps=config.steps,
        own_anchors=signals != "simulator",
    )
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter(), time.process_time()
        found = design_in_folder(folder, asked)
        seconds, core_seconds = time.perf_counter() - start[0], time.process_time() - start[1]
        records = read_records(pathlib.Path(folder))
    form = asked.served, asked.unknown, simulation.slice_profile()
    before, after = (_joint(exact_bounds(sequence, *form)) for sequence in (found.start, found.sequence))
    return {
        "tissue": tissue,
        "signals": signals,
        "simulated": found.n_anchors or asked.served.size,
        "seconds": seconds,
        "core_seconds": core_seconds,
        "update_seconds": _between(records),
        "start": before,
        "design": after,
        "apart": None if found.verification is None else found.verification.apart,
    }


def _between(records):
    """Seconds of an update in the second record, where the first is of as many: its program is compiled by then."""
    if len(records) < 2 or records[1]["step"] != 2 * records[0]["step"]:
        return None
    return (records[1]["seconds"] - records[0]["seconds"]) / records[0]["step"]


def _joint(bounds):
    return float(np.sqrt(np.mean(sum(np.square(std) for std in bounds.stds.values()))))


if __name__ == "__main__":
    main.run()
