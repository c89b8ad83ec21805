"""Scans the digital brain as a scanner would: spirals, receive coils, noise; writes an MRD file.

Example::

    python -m experiments.simulate_acquisition --output=scan.h5 --truth=truth
    python -m experiments.reconstruct_maps --input=scan.h5 --output=runs/scan

One spiral a frame, turned from frame to frame, as in the GAN-MRF paper: 48-fold undersampled, 256 x 256 over 300 mm, 20
coils. The file holds the trajectory and the sequence; ``--truth`` is a folder for the true T1 and T2 of voxels that one
tissue fills to 95 % (0 in the others), the brain's mask, and B1, as NIfTI.
"""

import pathlib
import sys

import numpy as np
from absl import flags

from experiments.flags import sequence_flags, spiral_flags
from experiments.flags.command_line import run
from ganmrf.files import make_folder
from ganmrf.imaging.trajectory import rotated
from ganmrf.io.maps import write_image
from ganmrf.io.mrd import write_mrd
from ganmrf.io.series import read_array
from ganmrf.scanner import Scanner

flags.adopt_module_key_flags(sequence_flags)
flags.adopt_module_key_flags(spiral_flags)
_OUTPUT = flags.DEFINE_string("output", None, "MRD file to write, .h5 or .mrd", required=True)
_TRUTH = flags.DEFINE_string("truth", None, "folder for the true maps; default: none")
_COILS = flags.DEFINE_integer("coils", 20, "loops around the head", lower_bound=1)
_SNR = flags.DEFINE_float("snr", 50.0, "of a frame, were it sampled fully: RMS signal over real noise; 0: no noise")
_SEED = flags.DEFINE_integer("seed", 0, "of the brain's variation and of the noise", lower_bound=0)
_VARIATION = flags.DEFINE_float("variation", 0.05, "standard deviation of T1 and T2 within a tissue, as a fraction")
_B1_VARIATION = flags.DEFINE_float("b1_variation", 0.0, "B1+ runs from 1 + this at the centre to 1 - this at the edge")
_OFF_RESONANCE_HZ = flags.DEFINE_float("off_resonance_hz", 0.0, "above the sinuses, falling off over 20 mm")
_TRAJECTORY = flags.DEFINE_string("trajectory", None, "measured trajectory, 1/m, .npz or .mat; default: as designed")


def main():
    """Scans, and writes what came out."""
    output = pathlib.Path(_OUTPUT.value)
    if output.suffix.lower() not in (".h5", ".mrd"):
        raise ValueError(f"--output must end in .h5 or .mrd; got {output}")
    make_folder(output.parent)
    simulation, sampling = sequence_flags.simulation_config(), spiral_flags.spiral_config()
    sequence, profile = simulation.sequence(), simulation.slice_profile()
    scanner = Scanner(
        sampling.size,
        sampling.field_of_view,
        coils=_COILS.value,
        variation=_VARIATION.value,
        b1_variation=_B1_VARIATION.value,
        off_resonance=_OFF_RESONANCE_HZ.value,
        dwell_time=1e-6 * sampling.dwell_time_us,
    )
    trajectory = _trajectory(sampling, sequence.n_frames)
    played = {"slice_profile": profile, "seed": _SEED.value, "progress": sys.stderr.isatty()}
    scan = scanner.sample(sequence, trajectory, **played).with_noise(_SNR.value, _SEED.value)
    brain, raw = scan.brain, scan.raw
    write_mrd(output, raw)
    if _TRUTH.value:
        _write_truth(_TRUTH.value, brain)
    frames, coils, samples = raw.kspace.shape
    print(f"{output}: {frames} frames, {coils} coils, {samples} samples of a frame, {raw.kspace.nbytes / 1e6:.0f} MB")


def _trajectory(sampling, n_frames):
    if _TRAJECTORY.value is None:
        return sampling.trajectory(n_frames)
    measured = read_array(pathlib.Path(_TRAJECTORY.value), None, "trajectory", min_ndim=2)
    if measured.ndim not in (2, 3) or measured.shape[-1] != 2 or (measured.ndim == 3 and len(measured) != n_frames):
        raise ValueError(
            f"{_TRAJECTORY.value}: trajectory must be (samples, 2), or ({n_frames}, samples, 2); got {measured.shape}"
        )
    if not np.isfinite(measured).all():
        raise ValueError(f"{_TRAJECTORY.value}: trajectory holds values that are not finite")
    return rotated(measured, sampling.angles(n_frames)) if measured.ndim == 2 else measured.astype(np.float32)


def _write_truth(folder, brain):
    folder = make_folder(folder)
    t1, t2 = brain.truth()
    b1 = np.broadcast_to(np.asarray(brain.tissue.b1), t1.shape)
    for name, values in (("T1map", t1), ("T2map", t2), ("mask", brain.brain_mask), ("B1map", b1)):
        write_image(folder / f"{name}.nii.gz", np.nan_to_num(values), brain.affine)


if __name__ == "__main__":
    run(main)
