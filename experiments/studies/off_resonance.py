"""What off-resonance does to FISP: bias of T1 and T2 with a TR that varies and with a constant one, and its cure by B0.

Example::

    ganmrf studies.off_resonance --output=off_resonance.json --figure=off_resonance.png

Signals of white matter, grey matter and CSF off resonance are fitted by T1 and T2 on resonance, and with an
off-resonance that a B0 map has told, exactly or wrong by ``--b0_error_hz``.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from experiments.flags.command_line import command
from experiments.studies.fits import fit
from experiments.studies.keeping import keep
from ganmrf.imaging.phantom import BRAIN_TISSUES, TISSUES
from ganmrf.physics.n_states import choose_n_states
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.simulate import simulate
from ganmrf.physics.tissue import Tissue
from ganmrf.report.html import Table
from ganmrf.report.study_figures import errors_figure
from ganmrf.settings import configuration, setting


@configuration
class Config:
    """Frames and off-resonances."""

    frames: int = setting(1000, "of the published schedule", at_least=10, at_most=1000)
    off_resonance_hz: tuple[float, ...] = setting((5.0, 10.0, 20.0, 30.0, 40.0, 50.0), "off-resonances, Hz")
    b0_error_hz: float = setting(2.0, "error of the B0 map, Hz")
    output: str | None = setting(None, "JSON file for the errors; default: none", suffixes=(".json",), kept=False)
    figure: str | None = setting(None, "PNG file for their figure; default: none", suffixes=(".png",), kept=False)


@command(Config)
def main(config: Config):
    """Prints the table, and writes it and its figure."""
    with jax.enable_x64(True):
        rows = measure(config)
    columns = "Repetition time, fitted as", "Off (Hz)", *(f"{name}: T1, T2 (%)" for name in BRAIN_TISSUES)
    columns += ("change of signals (%)",)
    cells = []
    for case, off in dict.fromkeys((row["case"], row["off_resonance_hz"]) for row in rows):
        found = [row for row in rows if (row["case"], row["off_resonance_hz"]) == (case, off)]
        errors = (f"{100 * row['t1_error']:z.2f}, {100 * row['t2_error']:z.2f}" for row in found)
        changes = " / ".join(f"{100 * row['change']:.1f}" for row in found)
        cells.append((case, f"{off:g}", *errors, changes))
    caption = "bias by off-resonance; change of unit signals against those fitted, but for a complex factor"
    print(Table(columns, cells, caption).text())
    keep(config, rows, _figure)


def measure(config: Config) -> list[dict]:
    """Relative errors of T1 and T2, a row for each repetition time and fit, off-resonance and tissue."""
    names, offs = (each.ravel() for each in np.meshgrid(BRAIN_TISSUES, config.off_resonance_hz, indexing="ij"))
    t1, t2, _ = np.array([TISSUES[name] for name in names]).T
    truth, paper = Tissue(t1, t2, 1.0, offs), mrf_fisp(config.frames)
    constant = dataclasses.replace(paper, repetition_time=paper.repetition_time.mean())
    n_states, rows = choose_n_states(paper, dataclasses.replace(truth, off_resonance=None)), []
    for case, sequence, taken in (
        ("paper's, on resonance", paper, 0 * offs),
        ("constant, on resonance", constant, 0 * offs),
        ("paper's, B0 known", paper, offs),
        (f"paper's, B0 {config.b0_error_hz:g} Hz wrong", paper, offs + config.b0_error_hz),
    ):
        start = dataclasses.replace(truth, off_resonance=taken)
        signals, fitted = (simulate(sequence, tissue, n_states=n_states) for tissue in (truth, start))
        found = fit(sequence, signals, start, n_states)
        errors = np.asarray(found.t1) / t1 - 1, np.asarray(found.t2) / t2 - 1, _change(signals, fitted)
        for name, off, *values in zip(names, offs, *errors, strict=True):
            facts = zip(("t1_error", "t2_error", "change"), map(float, values), strict=True)
            rows.append({"case": case, "tissue": str(name), "off_resonance_hz": float(off), **dict(facts)})
    return rows


def _change(signals, others):
    """Relative distance between signals, times the complex factor that makes it least."""
    overlap = jnp.abs(jnp.sum(jnp.conj(signals) * others, -1))
    overlap /= jnp.linalg.norm(signals, axis=-1) * jnp.linalg.norm(others, axis=-1)
    return np.sqrt(np.maximum(1 - np.asarray(overlap) ** 2, 0))


def _figure(rows, config):
    panels = {}
    for tissue in BRAIN_TISSUES:
        for case in dict.fromkeys(row["case"] for row in rows):
            found = [row for row in rows if (row["case"], row["tissue"]) == (case, tissue)]
            curve = {name: [row[f"{name.lower()}_error"] for row in found] for name in ("T1", "T2")}
            panels.setdefault(tissue, {})[case] = curve
    return errors_figure(config.off_resonance_hz, "Off-resonance (Hz)", panels)


if __name__ == "__main__":
    main.run()
