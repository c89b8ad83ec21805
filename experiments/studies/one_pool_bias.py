"""What T1 and T2 one pool of spins reads where there are two: the bias of dictionaries without a second pool.

Example::

    ganmrf studies.one_pool_bias --output=one_pool_bias.json --figure=one_pool_bias.png

Signals of white and grey matter, as the digital brain has them, whose pool exchanges with a semisolid or with a mobile
one, are fitted by T1, T2 and M0 of one pool, between all grids and without noise: what a perfect dictionary of one pool
would find. The residual is what such a fit leaves of the signal: where it is below the noise, nothing shows that the
model is wrong.
"""

import itertools

import jax
import numpy as np

from experiments.flags.command_line import command
from experiments.studies.errors import chosen, errors_of
from experiments.studies.fits import fit
from experiments.studies.keeping import keep
from experiments.studies.slice_models import read_published
from ganmrf.imaging.brain_tissues import BRAIN_TISSUES, brain_values
from ganmrf.physics.n_states import n_states_of_boxes
from ganmrf.physics.sequences.sequence_power import Power, with_power
from ganmrf.physics.simulate import simulate
from ganmrf.physics.tissue import TISSUES, Tissue
from ganmrf.report.html import Table
from ganmrf.report.study_figures import errors_figure
from ganmrf.runs.tissues import POOLS
from ganmrf.settings import configuration, setting

_WORDS = {"semisolid": "semisolid", "exchanging": "mobile"}  # of the second pool
_SCHEDULES = "jiang2015", "cao2019"  # of 1000 and of 500 frames
_COLUMNS = ("true_t1", 0), ("t1", 0), ("true_t2", 1), ("t2", 1)  # of the table, and digits of ms
# T1 and T2, as shares of those of the first pool, from which a fit begins: it ends in the best of them.
_STARTS = (1.0, 1.0), (0.5, 0.7), (0.8, 1.3)


@configuration
class Config:
    """Tissue, schedules and pulses."""

    tissue: tuple[str, ...] = setting(("semisolid", "exchanging"), "kinds of tissue", choices=POOLS)
    fraction: tuple[float, ...] = setting(
        (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3), "of the second pool, beside that of the tissue", at_least=0, below=1
    )
    schedule: tuple[str, ...] = setting(_SCHEDULES, "published schedules", choices=_SCHEDULES)
    frames: int = setting(1000, "of the schedules at most, which have 1000 and 500", at_least=10, at_most=1000)
    pulse_duration_ms: float = setting(2.0, "duration of the excitations in ms", above=0)
    pulse_shape: float = setting(1.5, "mean of the squared waveform over the squared mean", at_least=1)
    output: str | None = setting(None, "JSON file for the errors; default: none", suffixes=(".json",), kept=False)
    figure: str | None = setting(None, "PNG file for their figure; default: none", suffixes=(".png",), kept=False)


@command(Config)
def main(config: Config):
    """Prints the table, and writes it and its figure."""
    with jax.enable_x64(True):
        rows = measure(config)
    columns = "Second pool, tissue, schedule", "Fraction", "T1 (ms)", "read as", "T2 (ms)", "read as", "Residual (%)"
    cells = []
    for row in (row for row in rows if row["of_tissue"]):
        times = (f"{1e3 * row[name]:.{digits}f}" for name, digits in _COLUMNS)
        label = f"{_WORDS[row['kind']]}, {row['tissue']}, {row['schedule']}"
        cells.append((label, f"{row['fraction']:.3g}", *times, f"{100 * row['residual']:.2g}"))
    print(Table(columns, cells, "T1 and T2 of the larger pool, and what one pool reads, without noise").text())
    keep(config, rows, _figure)


def measure(config: Config) -> list[dict]:
    """T1, T2 and the residual of fits of one pool, a row for each kind of tissue, tissue, schedule and fraction.

    Times are in s, errors and residuals relative; ``of_tissue`` are rows with the fraction that the tissue has.
    """
    rows = []
    for kind, name, schedule in itertools.product(config.tissue, BRAIN_TISSUES[:2], config.schedule):
        sequence = read_published(schedule, config.frames)
        values = brain_values(kind)[name]
        fractions = np.array([*config.fraction, values["fraction"]])
        truth = TISSUES[kind](**values | {"fraction": fractions})
        played = with_power(sequence, Power(1e-3 * config.pulse_duration_ms, config.pulse_shape))
        found, residual = _read(sequence, np.asarray(simulate(played, truth)), values["t1"], values["t2"])
        for i, fraction in enumerate(fractions):
            row = {"kind": kind, "tissue": name, "schedule": schedule, "fraction": float(fraction)}
            row |= {"of_tissue": i == len(config.fraction), "residual": float(residual[i])}
            for time in ("t1", "t2"):
                value = float(getattr(found, time)[i])
                row |= {f"true_{time}": values[time], time: value, f"{time}_error": value / values[time] - 1}
            rows.append(row)
    return rows


def _read(sequence, signals, t1, t2):
    """The one pool that fits each signal best, and what it leaves of it, relative to the signal."""
    best, least = None, np.full(len(signals), np.inf)
    for of_t1, of_t2 in _STARTS:
        start = Tissue(np.full(len(signals), of_t1 * t1), np.full(len(signals), of_t2 * t2))
        n_states = n_states_of_boxes(sequence, [start], accuracy=1e-4)[0]
        found = fit(sequence, signals, start, n_states)
        value = np.asarray(simulate(sequence, found, n_states=n_states))
        m0 = np.sum(value * signals, axis=1) / np.sum(value**2, axis=1)
        residual = np.linalg.norm(signals - m0[:, None] * value, axis=1) / np.linalg.norm(signals, axis=1)
        times = np.stack([found.t1, found.t2])
        best = times if best is None else np.where(residual < least, times, best)
        least = np.minimum(least, residual)
    return Tissue(*best), least


def _figure(rows, config):
    panels = {}
    for kind, tissue in dict.fromkeys((row["kind"], row["tissue"]) for row in rows):
        curves = panels.setdefault(f"{tissue}, {_WORDS[kind]} second pool", {})
        for schedule in config.schedule:
            curves[schedule] = errors_of(chosen(rows, kind=kind, tissue=tissue, schedule=schedule, of_tissue=False))
    return errors_figure(config.fraction, "Fraction of the second pool", panels)


if __name__ == "__main__":
    main.run()
