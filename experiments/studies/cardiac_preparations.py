"""What ideal preparations cost in cardiac MRF: errors of T1 and T2 where a dictionary leaves out how pulses play them.

Example::

    ganmrf studies.cardiac_preparations --output=preparations.json --figure=preparations.png

The published sequence, of `--beats` heartbeats, is simulated with preparations that are played pulse by pulse, at
values of B1 and off-resonance, and T1 and T2 are fitted by the same sequence with ideal preparations. Everything else
is known, B1 and off-resonance of the frames too. There are two ways to play: *hard* pulses of 180 degrees and of
90 - 180 - 90 degrees; and *composite* ones, MLEV-4 after 90 degrees, with a hyperbolic secant for the
inversion.
"""

import itertools

import jax
import numpy as np

from experiments.flags.command_line import command
from experiments.studies.errors import chosen, errors_of, range_cells
from experiments.studies.fits import fit
from experiments.studies.keeping import keep
from ganmrf.physics.n_states import choose_n_states
from ganmrf.physics.sequences.cardiac import published_cardiac
from ganmrf.physics.sequences.preparations import (
    hard_inversion,
    hard_t2_preparation,
    hyperbolic_secant,
    mlev4_t2_preparation,
)
from ganmrf.physics.simulate import simulate
from ganmrf.physics.tissue import Tissue
from ganmrf.report.html import Table
from ganmrf.report.study_figures import errors_figure
from ganmrf.settings import configuration, setting

TISSUES = {"myocardium": (1.471, 0.047), "blood": (1.932, 0.275)}  # s, at 3 T: Stanisz 2005, doi:10.1002/mrm.20605
_INVERSION_TIME, _SECANT, _T2_TIMES = 21e-3, 10e-3, (30e-3, 50e-3, 100e-3)  # s, of `published_cardiac`; of the pulse


@configuration
class Config:
    """Rhythms and fields."""

    rates: tuple[float, ...] = setting((40, 60, 80, 100, 120, 140), "heart rates, beats a minute", at_least=20)
    b1: tuple[float, ...] = setting((0.7, 0.85, 1.0, 1.15, 1.3), "values of B1", above=0)
    # 90 Hz are no whole half turns between the pulses of any of the T2 preparations, which would refocus as 0 Hz do.
    off_resonance_hz: tuple[float, ...] = setting((0.0, 90.0), "off-resonances, Hz")
    beats: int = setting(15, "heartbeats of the scan", at_least=5)
    output: str | None = setting(None, "JSON file for the errors; default: none", suffixes=(".json",), kept=False)
    figure: str | None = setting(None, "PNG file for their figure; default: none", suffixes=(".png",), kept=False)


@command(Config)
def main(config: Config):
    """Prints the table, and writes it and its figure."""
    with jax.enable_x64(True):
        rows = measure(config)
    columns = "Preparations, tissue, off-resonance", "error of", *(f"B1 {b1:g} (%)" for b1 in config.b1)
    cells = []
    keys = dict.fromkeys((row["preparations"], row["tissue"], row["off_resonance_hz"]) for row in rows)
    for played, tissue, off in keys:
        facts = {"preparations": played, "tissue": tissue, "off_resonance_hz": off}
        cells += range_cells(rows, f"{played}, {tissue}, {off:g} Hz", "b1", config.b1, **facts)
    span = f"{min(config.rates):g} to {max(config.rates):g} beats a minute: the least and the largest error"
    print(Table(columns, cells, span).text())
    keep(config, rows, _figure)


def ways() -> dict[str, tuple]:
    """The ways to play the preparations of `published_cardiac`."""
    # The magnetisation is inverted in the middle of the secant.
    secant = hyperbolic_secant(_INVERSION_TIME - _SECANT / 2, _SECANT)
    return {
        "hard": (hard_inversion(_INVERSION_TIME), None, *map(hard_t2_preparation, _T2_TIMES)),
        "composite": (secant, None, *map(mlev4_t2_preparation, _T2_TIMES)),
    }


def measure(config: Config) -> list[dict]:
    """Relative errors of T1 and T2, a row for each way to play, tissue, heart rate, off-resonance and B1."""
    names, offs, b1s = (each.ravel() for each in np.meshgrid(list(TISSUES), config.off_resonance_hz, config.b1))
    t1, t2 = np.array([TISSUES[name] for name in names]).T
    truth, rows = Tissue(t1, t2, b1s.astype(float), offs.astype(float)), []
    # One number of states for all, of the rhythm with the shortest pauses: each number is another program.
    n_states = choose_n_states(published_cardiac(np.full(config.beats, 60 / max(config.rates))), truth)
    for rate, (way, preparations) in itertools.product(config.rates, ways().items()):
        intervals = np.full(config.beats, 60 / rate)
        played = published_cardiac(intervals, preparations=preparations)
        signals = simulate(played, truth, n_states=n_states)
        found = fit(published_cardiac(intervals), signals, truth, n_states)
        errors = np.asarray(found.t1) / t1 - 1, np.asarray(found.t2) / t2 - 1
        for name, off, b1, *error in zip(names, offs, b1s, *errors, strict=True):
            row = {"preparations": way, "tissue": str(name), "rate": rate, "off_resonance_hz": float(off)}
            rows.append(row | {"b1": float(b1), "t1_error": float(error[0]), "t2_error": float(error[1])})
    return rows


def _figure(rows, config):
    panels, off = {}, config.off_resonance_hz[0]
    for way, tissue in dict.fromkeys((row["preparations"], row["tissue"]) for row in rows):
        curves = panels.setdefault(f"{way} pulses, {tissue}, {off:g} Hz", {})
        for b1 in config.b1:
            found = chosen(rows, preparations=way, tissue=tissue, b1=b1, off_resonance_hz=off)
            curves[f"B1 {b1:g}"] = errors_of(found)
    return errors_figure(config.rates, "Beats a minute", panels)


if __name__ == "__main__":
    main.run()
