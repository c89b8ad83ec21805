"""Spin echoes whose excitation selects along the read axis: what was played, and the images of all coils."""

import dataclasses
import pathlib

import numpy as np

from ganmrf.io.pulseq_scan import read_scan
from ganmrf.io.pulseq_slice import rf_pulse_of, slice_pulse, thickness_of
from ganmrf.io.trajectories import GivenTrajectory
from ganmrf.io.twix import read_twix
from ganmrf.physics.rf_pulse import RfPulse

_ACROSS = 1e-3  # cosine of an angle: gradients that are perpendicular


@dataclasses.dataclass(frozen=True)
class SpinEcho:
    """A 2-D spin echo.

    Attributes:
      pulse: the excitation, along x.
      flip_angle: its flip angle in the file, rad.
      thickness: of its slice, m.
      k: along x, of the samples of a readout, 1/m, (samples,), with k = 0 where the gradients along x have refocused
        what the excitation's left.
      x: positions of the columns, m, (columns,).
      y: positions of the rows, m, (rows,).
      images: (rows, coils, columns), complex.
    """

    pulse: RfPulse
    flip_angle: float
    thickness: float
    k: np.ndarray
    x: np.ndarray
    y: np.ndarray
    images: np.ndarray

    def rows(self, across: float) -> "SpinEcho":
        """The rows of a band through the middle, m wide."""
        inside = np.abs(self.y) <= across / 2
        return dataclasses.replace(self, y=self.y[inside], images=self.images[inside])


def read_scans(folder) -> dict[str, SpinEcho]:
    """The spin echoes of a folder, ``se_2D_NAME_spr.seq`` with ``twix_NAME.dat``, by their names.

    Raises:
      ValueError: a folder without such files, or files that cannot be read or are another scan's.
    """
    folder = pathlib.Path(folder)
    names = [path.stem.removeprefix("twix_") for path in sorted(folder.glob("twix_*.dat"))]
    if not names:
        raise ValueError(f"{folder}: no twix_NAME.dat beside se_2D_NAME_spr.seq")
    return {name: read_spin_echo(folder / f"se_2D_{name}_spr.seq", folder / f"twix_{name}.dat") for name in names}


def read_spin_echo(played, measured) -> SpinEcho:
    """A spin echo from its Pulseq file and its raw data in TWIX; what it has for x and y are its read and phase axes.

    Raises:
      ValueError: files that cannot be read, or a scan that is no spin echo of a slice along x in each readout.
    """
    scan = read_scan(played)
    pairs = list(zip(scan.pulses[::2], scan.pulses[1::2], scan.readouts, strict=False))
    if not pairs or 2 * len(scan.readouts) != len(scan.pulses):
        found = f"{len(scan.pulses)} RF pulses and {len(scan.readouts)} readouts"
        raise ValueError(
            f"{played}: a spin echo has an excitation and a refocusing pulse for each readout; got {found}"
        )
    excitation, refocusing, _ = pairs[0]
    selected = slice_pulse(scan, excitation)
    along = refocusing.gradient / max(np.linalg.norm(refocusing.gradient), 1)
    if abs(selected.axis[0]) < 1 - _ACROSS or abs(along @ selected.axis) > _ACROSS:
        raise ValueError(
            f"{played}: the excitation must select along x, and the refocusing pulse across it; their gradients are "
            f"along {np.round(selected.axis, 3)} and {np.round(along, 3)}"
        )
    k = np.array([_refocused(scan, *pair) for pair in pairs])
    raw = read_twix(measured, trajectory=GivenTrajectory(k, "1/m"), frame_counter="acquisition")
    thickness = thickness_of(scan, selected)
    rows, columns = ((np.arange(n) - n // 2) * size for n, size in zip(raw.matrix, raw.voxel_size, strict=True))
    kx, ky = k[0, :, 0], k[:, 0, 1]
    images = np.einsum("yk,kcs,sx->ycx", _transform(rows, ky), raw.kspace, _transform(columns, kx).T, optimize=True)
    pulse = rf_pulse_of(selected, thickness)
    return SpinEcho(pulse, abs(excitation.flip), thickness, kx, columns, rows, images)


def _refocused(scan, excitation, refocusing, readout):
    """Kx and ky of the samples: the gradients after the refocusing pulse less those before, (samples, 2)."""
    samples = readout.start + readout.dwell_time * (np.arange(readout.n_samples) + 0.5)
    start, middle, *after = scan.moments(np.array([excitation.time, refocusing.time, *samples]))[:, :2]
    return np.array(after) - middle - (middle - start)


def _transform(positions, k):
    """From samples of k-space to positions, (positions, samples)."""
    return np.exp(-2j * np.pi * np.outer(positions, k))
