"""What fingerprints tell of tissue of two pools: Cramer-Rao bounds with ever more unknown, and fits of noisy signals.

Example::

    ganmrf studies.pool_precision --output=pool_precision.json --figure=pool_precision.png

Of white matter, as one pool that exchanges with a semisolid one and as two mobile ones, the bounds of all parameters
are computed for each set of unknown ones, everything else known. Where all of them are below ``--checked_percent``,
noisy signals are fitted, too.
"""

import dataclasses
from typing import NamedTuple

import jax
import numpy as np

from experiments.flags.command_line import command
from experiments.studies.errors import chosen
from experiments.studies.fits import fit
from experiments.studies.keeping import keep
from ganmrf.dictionary.cramer_rao import cramer_rao
from ganmrf.physics.n_states import n_states_of_boxes
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate_with_tangents
from ganmrf.physics.tissue import TISSUES, parameters
from ganmrf.report.bound_figures import bounds_figure
from ganmrf.report.html import Table
from ganmrf.runs.design_tissues import default_tissues, read_tissues, tissue_of
from ganmrf.settings import configuration, setting

_RELAXATION = "t1", "t2"
_UNKNOWN = {  # beside T1 and T2 of pool a
    "semisolid": (
        (),
        ("fraction",),
        ("fraction", "exchange_rate"),
        ("fraction", "t1_b"),
        ("fraction", "exchange_rate", "t1_b"),
        ("fraction", "b1"),
        ("fraction", "exchange_rate", "t1_b", "b1"),
        ("fraction", "exchange_rate", "t1_b", "lineshape"),
    ),
    "exchanging": (
        (),
        ("fraction",),
        ("fraction", "exchange_rate"),
        ("fraction", "t2_b"),
        ("fraction", "exchange_rate", "t2_b"),
        ("fraction", "exchange_rate", "b1"),
        ("fraction", "exchange_rate", "t1_b", "t2_b"),
        ("fraction", "exchange_rate", "t1_b", "t2_b", "b1"),
    ),
}


@configuration
class Config:
    """Sequence, noise and fits."""

    frames: int = setting(1000, "of the published schedule", at_least=10, at_most=1000)
    pulse_duration_ms: float = setting(2.0, "of the excitations, ms", above=0, at_most=100)
    pulse_shape: float = setting(1.5, "mean of their squared waveform over the squared mean", at_least=1)
    snr: float = setting(100.0, "M0 over the standard deviation of the noise in a frame", above=0)
    draws: int = setting(800, "noisy signals of a fit", at_least=2)
    seed: int = setting(0, "of the noise", at_least=0)
    checked_percent: float = setting(20.0, "largest bound, percent, of parameters that are fitted", above=0)
    output: str | None = setting(None, "JSON file for the bounds; default: none", suffixes=(".json",), kept=False)
    figure: str | None = setting(None, "PNG file for their figure; default: none", suffixes=(".png",), kept=False)


class _Case(NamedTuple):
    """White matter of a kind, its signal and derivatives by all parameters, (frames,)."""

    tissue: object
    n_states: int
    signal: jax.Array
    by: dict


@command(Config)
def main(config: Config):
    """Prints the table, and writes it and its figure."""
    with jax.enable_x64(True):
        rows = measure(config)
    for kind in _UNKNOWN:
        facts = {name: parameter.name for name, parameter in parameters(TISSUES[kind]).items()}
        shown = [name for name in facts if chosen(rows, tissue=kind, parameter=name)]
        cells = []
        for unknown in dict.fromkeys(row["unknown"] for row in chosen(rows, tissue=kind)):
            found = {row["parameter"]: row for row in chosen(rows, tissue=kind, unknown=unknown)}
            cells.append((unknown, *(_cell(found.get(name)) for name in shown)))
        caption = (
            f"relative standard deviations at M0 / noise {config.snr:g}, {config.frames} frames, white matter, {kind}; "
            f"in brackets those of {config.draws} fits"
        )
        print(Table(("Unknown", *(f"{facts[name]} (%)" for name in shown)), cells, caption).text())
    keep(config, rows, _figure)


def measure(config: Config) -> list[dict]:
    """Bounds, and standard deviations of fits or None, relative: a row for each tissue, unknowns and parameter."""
    power = {"pulse_duration": 1e-3 * config.pulse_duration_ms, "pulse_shape": config.pulse_shape}
    sequence, rows = dataclasses.replace(mrf_fisp(config.frames), **power), []
    sequence = jax.tree.map(lambda leaf: np.asarray(leaf, float), sequence)
    for kind, sets in _UNKNOWN.items():
        case = _case(sequence, kind)
        facts = parameters(case.tissue)
        for unknown in sets:
            names = (*_RELAXATION, *unknown)
            stds, _ = cramer_rao(case.signal, [case.by[name] for name in names], config.snr, 1.0)
            values = np.array([float(np.squeeze(getattr(case.tissue, name))) for name in names])
            bounds = np.asarray(stds) / values
            measured = [None] * len(names)
            if bounds.max() < 1e-2 * config.checked_percent:
                measured = _spread(sequence, case, names, config)
            label = ", ".join(facts[name].name for name in names)
            for name, bound, found in zip(names, bounds.tolist(), measured, strict=True):
                rows.append({"tissue": kind, "unknown": label, "parameter": name, "bound": bound, "measured": found})
    return rows


def _case(sequence, kind):
    tissue = tissue_of(TISSUES[kind], read_tissues(TISSUES[kind], default_tissues(TISSUES[kind]))).rows(np.array([0]))
    n_states = n_states_of_boxes(sequence, [tissue], accuracy=1e-5)[0]
    names = dict.fromkeys(_RELAXATION) | dict.fromkeys(name for unknown in _UNKNOWN[kind] for name in unknown)
    found = simulate_with_tangents(sequence, tissue, parameters=tuple(names), n_states=n_states)
    return _Case(tissue, n_states, found.signal[0], {name: by[0] for name, by in found.by.items()})


def _spread(sequence, case, names, config):
    """Relative standard deviations of parameters that are fitted to noisy signals, from the truth on.

    Those of parameters that signals follow the logarithm of are standard deviations of that, whose distribution is the
    more even one.
    """
    noise = np.random.default_rng(config.seed).standard_normal((config.draws, config.frames, 2)) @ [1, 1j] / config.snr
    start = jax.tree.map(lambda leaf: np.broadcast_to(leaf, config.draws), case.tissue)
    fitted = fit(sequence, np.asarray(case.signal) + noise, start, case.n_states, names=names)
    facts, spread = parameters(case.tissue), []
    for name in names:
        found = np.asarray(getattr(fitted, name)) / np.asarray(getattr(case.tissue, name))
        spread.append(float(np.std(np.log(found) if facts[name].logarithmic else found, ddof=1)))
    return spread


def _cell(row):
    if row is None:
        return ""
    return f"{100 * row['bound']:.3g}" + ("" if row["measured"] is None else f" ({100 * row['measured']:.3g})")


def _figure(rows, config):
    panels = {}
    for row in rows:
        name = parameters(TISSUES[row["tissue"]])[row["parameter"]].name
        panels.setdefault(f"white matter, {row['tissue']}", {}).setdefault(row["unknown"], {})[name] = (
            100 * row["bound"],
            None if row["measured"] is None else 100 * row["measured"],
        )
    return bounds_figure(panels, f"Standard deviation (%) at an M0 of {config.snr:g} times the noise")


if __name__ == "__main__":
    main.run()
