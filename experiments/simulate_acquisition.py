"""Scans the digital brain as a scanner would: spirals, receive coils, noise; writes an MRD file.

Example::

    ganmrf simulate_acquisition --output=scan.h5 --truth=truth
    ganmrf reconstruct_maps --input=scan.h5 --output=runs/scan
    ganmrf simulate_acquisition --output=balanced.h5 --sequence=bssfp --b0_variation_hz=20
    ganmrf simulate_acquisition --output=mt.h5 --tissue=semisolid --truth=truth

One spiral a frame, turned from frame to frame, as in the GAN-MRF paper: 48-fold undersampled, 256 x 256 over 300 mm, 20
coils. The file holds the trajectory and, of FISP, the sequence; ``--truth`` is a folder for the true T1 and T2 of
voxels that one tissue fills to 95 % (0 in the others), the brain's mask, B1, and B0 in Hz, as NIfTI; and of a
``--tissue`` with a second pool its parameters.
"""

import pathlib

import numpy as np

from experiments.flags.command_line import command
from ganmrf.files import make_folder
from ganmrf.imaging.trajectory import rotated
from ganmrf.io.maps import write_image
from ganmrf.io.mrd import write_mrd
from ganmrf.io.series import read_array
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.tissue import parameters
from ganmrf.runs.simulation_config import TISSUE_FIELDS, SimulationConfig
from ganmrf.runs.slices import AS_PLAYED, slice_words
from ganmrf.runs.spiral_config import SpiralConfig
from ganmrf.settings import configuration, group, setting

_OF_DESIGN = "centre_density", "max_gradient_mt_per_m", "max_slew_rate_t_per_m_s"  # of a spiral


@configuration
class Config:
    """The scan and its files."""

    output: str = setting(meaning="MRD file to write, .h5 or .mrd", suffixes=(".h5", ".mrd"))
    truth: str | None = setting(None, "folder for the true maps; default: none")
    coils: int = setting(20, "loops around the head", at_least=1, at_most=2**16 - 1)  # as MRD counts
    snr: float = setting(50.0, "of a frame, were it sampled fully: RMS signal over real noise; 0: no noise", at_least=0)
    seed: int = setting(0, "of the brain's variation and of the noise", at_least=0)
    variation: float = setting(
        0.05, "standard deviation of T1 and T2 within a tissue, as a fraction", at_least=0, below=0.5
    )
    b1_variation: float = setting(
        0.0, "B1+ runs from 1 + this at the centre to 1 - this at the edge", at_least=0, below=1
    )
    b0_variation_hz: float = setting(
        0.0, "off-resonance of the brain, smooth, and this above the sinuses, Hz: of signal and readout", at_least=0
    )
    off_resonance_hz: float = setting(0.0, "above the sinuses, falling off over 20 mm, Hz: of the readout alone")
    trajectory: str | None = setting(
        None, "measured trajectory, 1/m, .npz or .mat; default: as designed", reads=True, instead_of=_OF_DESIGN
    )
    simulation: SimulationConfig = group(
        SimulationConfig, without=tuple(name for name in TISSUE_FIELDS if name != "tissue"), defaults=AS_PLAYED
    )
    sampling: SpiralConfig = group(SpiralConfig)


@command(Config)
def main(config: Config):
    """Scans, and writes what came out."""
    sequence, profile = config.simulation.sequence(), config.simulation.slice_profile()
    scanner = config.sampling.scanner(
        coils=config.coils,
        variation=config.variation,
        b1_variation=config.b1_variation,
        b0_variation=config.b0_variation_hz,
        off_resonance=config.off_resonance_hz,
        kind=config.simulation.pools.tissue,
    )
    trajectory = _trajectory(config, sequence.n_frames)
    scanner.require_memory(*trajectory.shape[:2])
    truth = None if config.truth is None else make_folder(config.truth)
    print(f"slice: {slice_words(profile)}", flush=True)
    scan = scanner.sample(sequence, trajectory, slice_profile=profile, seed=config.seed, progress=True)
    raw = scan.with_noise(config.snr, config.seed).raw
    write_mrd(config.output, raw)
    if truth is not None:
        brain = scan.brain
        truths, b1 = brain.truths(), np.broadcast_to(brain.tissue.b1, brain.brain_mask.shape)
        facts = parameters(brain.tissue)
        maps = {facts[name].suffix: each for name, each in truths.items() if name not in ("b1", "off_resonance")}
        maps |= {"mask": brain.brain_mask, "B1map": b1, "fieldmap": brain.off_resonance}
        for name, values in maps.items():
            write_image(truth / f"{name}.nii.gz", np.nan_to_num(values), brain.affine)
    frames, coils, samples = raw.kspace.shape
    size = raw.kspace.nbytes / 1e6
    print(f"{config.output}: {frames} frames, {coils} coils, {samples} samples of a frame, {size:.1f} MB")
    if not isinstance(sequence, Fisp):
        print("MRD headers hold FISP alone: reconstruct_maps takes the sequence from its flags or a --dictionary")


def _trajectory(config, n_frames):
    path, sampling = config.trajectory, config.sampling
    if path is None:
        return sampling.trajectory(n_frames)
    measured = read_array(pathlib.Path(path), None, "trajectory", min_ndim=2)
    if measured.ndim not in (2, 3) or measured.shape[-1] != 2 or (measured.ndim == 3 and len(measured) != n_frames):
        raise ValueError(f"{path}: trajectory must be (samples, 2), or ({n_frames}, samples, 2); got {measured.shape}")
    if not np.isfinite(measured).all():
        raise ValueError(f"{path}: trajectory holds values that are not finite")
    return rotated(measured, sampling.angles(n_frames)) if measured.ndim == 2 else measured.astype(np.float32)


if __name__ == "__main__":
    main.run()
