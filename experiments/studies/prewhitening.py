"""What prewhitening is worth where coils are unequal and their noise is correlated: errors of maps with and without.

Example::

    ganmrf studies.prewhitening --size=96 --frames=400 --interleaves=24 --field_of_view_mm=240

The digital brain is scanned by coils whose noise has standard deviations from 1 to ``--factor``, in equal steps of the
logarithm, and correlates between neighbours by ``--correlation``; its mean square is that of white noise at ``--snr``.
The scan has noise readouts. It is reconstructed with and without prewhitening, and from samples without noise.
"""

import numpy as np

from experiments.flags.command_line import command
from experiments.studies.keeping import keep
from ganmrf.dictionary.build import build_dictionary
from ganmrf.dictionary.compress import compress
from ganmrf.dictionary.match import match
from ganmrf.dictionary.refine import refine
from ganmrf.imaging.coils import virtual_coils
from ganmrf.imaging.pipeline import reconstruct
from ganmrf.metrics import tissue_table
from ganmrf.report.html import Table
from ganmrf.runs.simulation_config import FISP_ALONE, OF_OTHER_KINDS, SimulationConfig
from ganmrf.runs.spiral_config import SpiralConfig
from ganmrf.settings import configuration, group, setting

TISSUES = ("white matter", "grey matter")
_NOISE_SAMPLES = 4096  # of each coil: their covariance is known to 2 %
_KEYS = "t1_rrmse", "t2_rrmse"


@configuration
class Config:
    """Coils, noise and reconstruction."""

    coils: int = setting(8, "loops around the head", at_least=2)
    virtual_coils: int = setting(8, "what the coils are combined into", at_least=1)
    snr: float = setting(20.0, "of a frame, were it sampled fully, by coils of white and equal noise", above=0)
    factor: float = setting(5.0, "noise of the noisiest coil over that of the quietest", at_least=1)
    correlation: float = setting(0.6, "of the noise of neighbouring coils", at_least=0, below=1)
    rank: int = setting(6, "of the temporal basis", at_least=3)
    seed: int = setting(0, "of noise and brain", at_least=0)
    output: str | None = setting(None, "JSON file for the table; default: none", suffixes=(".json",), kept=False)
    simulation: SimulationConfig = group(SimulationConfig, without=("off_resonance_hz", *OF_OTHER_KINDS), **FISP_ALONE)
    sampling: SpiralConfig = group(SpiralConfig)

    def __post_init__(self):
        if self.virtual_coils > self.coils:
            raise ValueError(f"virtual_coils must be at most coils, {self.coils}; got {self.virtual_coils}")


@command(Config)
def main(config: Config):
    """Prints the table and writes it to ``--output``."""
    rows = measure(config)
    cells = [(row["scan"], *(f"{100 * row[tissue][key]:.2f}" for tissue in TISSUES for key in _KEYS)) for row in rows]
    columns = "Scan", *(f"{tissue} {name} (%)" for tissue in ("WM", "GM") for name in ("T1", "T2"))
    print(Table(columns, cells, "RRMSE of refined maps against the truth").text())
    keep(config, rows)


def measure(config: Config) -> list[dict]:
    """Errors of T1 and T2 by tissue without noise, with noise, and with noise and prewhitening."""
    simulation, sampling = config.simulation, config.sampling
    sequence, profile = simulation.sequence(), simulation.slice_profile()
    trajectory = sampling.trajectory(sequence.n_frames)
    scan = sampling.scanner(coils=config.coils).sample(sequence, trajectory, slice_profile=profile, seed=config.seed)
    clean = scan.raw.kspace
    white = scan.with_noise(config.snr, config.seed).raw.kspace - clean
    mixing = _mixing(config).astype(np.complex64)
    noisy = clean + np.matmul(mixing, white)
    drawn = np.random.default_rng(config.seed + 1).standard_normal((config.coils, _NOISE_SAMPLES, 2)) @ [1, 1j]
    noise = mixing @ drawn * (np.std(white) / np.sqrt(2))
    dictionary = build_dictionary(sequence, simulation.tissue(), slice_profile=profile)
    compressed, _ = compress(dictionary, config.rank)

    def errors(kspace, noise):
        virtual, _, _ = virtual_coils(kspace, config.virtual_coils, noise)
        place = trajectory, compressed.basis, scan.raw.matrix, scan.raw.voxel_size
        images = reconstruct(virtual, *place, progress=True).images
        found = refine(compressed, images, match(compressed, images, mask=scan.brain.brain_mask))
        labels = np.where(scan.brain.brain_mask, scan.brain.labels, -1)
        names = {label: name for label, name in enumerate(scan.brain.tissue_names) if name in TISSUES}
        rows = tissue_table(*scan.brain.truth(), found.t1, found.t2, labels, names)
        return {row.name: {key: float(getattr(row, key)) for key in _KEYS} for row in rows}

    return [
        {"scan": "without noise", **errors(clean, None)},
        {"scan": "noise", **errors(noisy, None)},
        {"scan": "noise, prewhitened", **errors(noisy, noise)},
    ]


def _mixing(config):
    """White noise of the coils to theirs, (coils, coils), with the same mean square."""
    steps = np.abs(np.subtract.outer(np.arange(config.coils), np.arange(config.coils)))
    deviation = config.factor ** np.linspace(0, 1, config.coils)
    covariance = config.correlation**steps * np.outer(deviation, deviation)
    return np.linalg.cholesky(covariance * config.coils / np.trace(covariance))


if __name__ == "__main__":
    main.run()
