"""What is lost when a scan keeps magnitudes alone: bias and spread of T1 and T2 by signal-to-noise ratio, as a table.

Example::

    ganmrf studies.magnitude_series --snr=10,20,50 --output=magnitude.json

Signals of white matter, grey matter and CSF get complex noise, and are matched and refined three ways: as complex
signals; as magnitudes, with magnitudes of the dictionary; and as magnitudes taken for signed signals, which is what a
program does that does not know. The signal-to-noise ratio is that of ``ganmrf.imaging.phantom.noise_std``, of each
tissue by itself.
"""

import numpy as np

from experiments.flags.command_line import command
from experiments.studies.keeping import keep
from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.magnitude import magnitude_dictionary
from ganmrf.dictionary.match import match
from ganmrf.dictionary.refine import refine
from ganmrf.imaging.phantom import BRAIN_TISSUES, TISSUES, noise_std
from ganmrf.metrics import bias
from ganmrf.physics.simulate import simulate
from ganmrf.physics.tissue import Tissue
from ganmrf.report.html import Table
from ganmrf.runs.simulation_config import FISP_ALONE, OF_OTHER_KINDS, SimulationConfig
from ganmrf.settings import configuration, group, setting

_KEYS = "t1_bias", "t1_spread", "t2_bias", "t2_spread"


@configuration
class Config:
    """Noise, and how often it is drawn."""

    snr: tuple[float, ...] = setting((10.0, 20.0, 50.0), "signal-to-noise ratios", above=0)
    draws: int = setting(400, "noisy signals of each tissue", at_least=2)
    seed: int = setting(0, "of the noise", at_least=0)
    output: str | None = setting(None, "JSON file for the table; default: none", suffixes=(".json",), kept=False)
    simulation: SimulationConfig = group(SimulationConfig, without=("off_resonance_hz", *OF_OTHER_KINDS), **FISP_ALONE)


@command(Config)
def main(config: Config):
    """Prints the table and writes it to ``--output``."""
    rows = measure(config)
    columns = (
        "SNR, tissue, taken for",
        *(f"{what} of {name} (%)" for name in ("T1", "T2") for what in ("bias", "spread")),
    )
    cells = [
        (f"{row['snr']:g}, {row['tissue']}, {row['taken_for']}", *(f"{100 * row[key]:.2f}" for key in _KEYS))
        for row in rows
    ]
    print(Table(columns, cells, f"{config.draws} signals each, refined; relative to the truth").text())
    keep(config, rows)


def measure(config: Config) -> list[dict]:
    """For each ratio, tissue and way of matching: mean and standard deviation of T1 and T2, relative to the truth."""
    sequence, profile = config.simulation.sequence(), config.simulation.slice_profile()
    signed = build_dictionary(sequence, config.simulation.tissue(), slice_profile=profile)
    magnitudes, rows = magnitude_dictionary(signed), []
    rng = np.random.default_rng(config.seed)
    for snr in config.snr:
        for name in BRAIN_TISSUES:
            t1, t2, _ = TISSUES[name]
            clean = np.asarray(simulate(sequence, Tissue(t1, t2), slice_profile=profile))[:, None]
            noise = rng.standard_normal((len(clean), config.draws, 2)) @ [1, 1j]
            noisy = clean + noise_std(clean, snr) * noise
            for taken_for, dictionary, images in (
                ("complex", signed, noisy),
                ("magnitudes", magnitudes, np.abs(noisy)),
                ("signed", signed, np.abs(noisy)),
            ):
                found = refine(dictionary, images, match(dictionary, images), magnitude=taken_for == "magnitudes")
                row = {"snr": snr, "tissue": name, "taken_for": taken_for}
                for key, values, truth in (("t1", found.t1, t1), ("t2", found.t2, t2)):
                    row[f"{key}_bias"] = bias(values, np.full(values.shape, truth))
                    row[f"{key}_spread"] = float(values.std() / truth)
                rows.append(row)
    return rows


if __name__ == "__main__":
    main.run()
