"""What a spin echo's image of a slice should be, and how far the measured one is from it."""

import dataclasses

import numpy as np
import scipy.optimize

from experiments.studies.measured_profiles_scan import SpinEcho
from ganmrf.physics.rf_pulse import spinors
from ganmrf.physics.slice_profile import small_tip_profile

_FINER = 8  # positions for each column
_CENTRES = -0.2, 0.2  # slice thicknesses that are fitted: 1 ppm off resonance is a tenth
_FLIP_ANGLES = 0.2, 1.6  # of what the file says, that are fitted


@dataclasses.dataclass(frozen=True)
class Fit:
    """A measured profile and the expected one that is nearest to it.

    Attributes:
      position: of the columns, from the middle of the slice, m, (columns,).
      measured: as shares of the largest expected value, complex where phases count, (columns,).
      expected: likewise.
      flip_angle: rad.
      centre: of the slice, m.
    """

    position: np.ndarray
    measured: np.ndarray
    expected: np.ndarray
    flip_angle: float
    centre: float

    @property
    def difference(self) -> np.ndarray:
        """Magnitude of measured less expected, (columns,)."""
        return np.abs(self.measured - self.expected)


def fit(scans: list[SpinEcho], model: str, fits_flip_angle: bool, degree: int, within: float) -> list[Fit]:
    """Profiles of scans against those of a model of their excitations, centre and scale fitted, by least squares.

    The sensitivity of each coil in each row, times the density there, is a polynomial along x whose coefficients are
    fitted as well, the same for all scans; coils and rows are combined by it, in the least-squares sense. A polynomial
    of degree 0 is one complex number for all of x, and has no phase of a coil: there magnitudes are compared.

    Args:
      scans: of one object and one receiver, with rows in which the object is wider than the slice.
      model: ``bloch``, or ``small_tip``: the sine of the flip angle that the small-tip profile scales.
      fits_flip_angle: whether the flip angles are fitted, or those of the files.
      degree: of the polynomials.
      within: slice thicknesses from the middle of the columns that are compared.

    Raises:
      ValueError: scans whose images have different sizes.
    """
    if len({(scan.images.shape, *scan.x) for scan in scans}) > 1:
        raise ValueError(f"images must be alike; got {[scan.images.shape for scan in scans]}")
    columns = np.abs(scans[0].x) <= within * scans[0].thickness
    lines = np.array([scan.images[:, :, columns].reshape(-1, np.count_nonzero(columns)) for scan in scans])

    def at(parameters):
        centres, ratios = np.reshape([*parameters, *np.ones(2 * len(scans) - len(parameters))], (2, -1))
        found = [(scan.thickness * c, scan.flip_angle * r) for scan, c, r in zip(scans, centres, ratios, strict=True)]
        expected = np.array(
            [
                expected_profile(scan, model, flip_angle, scan.x[columns] - centre)
                for scan, (centre, flip_angle) in zip(scans, found, strict=True)
            ]
        )
        measured = _combined(lines, expected, scans[0].x[columns], degree)
        if degree == 0:
            measured, expected = np.abs(measured), np.abs(expected)
        peaks = np.abs(expected).max(axis=1)
        return [
            Fit(scan.x[columns] - centre, m / peak, e / peak, flip_angle, centre)
            for scan, m, e, peak, (centre, flip_angle) in zip(scans, measured, expected, peaks, found, strict=True)
        ]

    def residual(parameters):
        differences = np.concatenate([each.measured - each.expected for each in at(parameters)])
        return np.concatenate([differences.real, differences.imag])

    start = np.repeat([0.0, 1.0], len(scans))[: len(scans) * (1 + fits_flip_angle)]
    low, high = (np.repeat(ends, len(scans))[: start.size] for ends in zip(_CENTRES, _FLIP_ANGLES, strict=True))
    return at(scipy.optimize.least_squares(residual, start, bounds=(low, high), diff_step=1e-3).x)


def expected_profile(scan: SpinEcho, model: str, flip_angle: float, position) -> np.ndarray:
    """The image of a slice at distances from its middle, m: of unit magnetisation, with the resolution of the scan.

    The refocusing pulse turns all of x alike, so that it conjugates what the excitation leaves.
    """
    step = (scan.x[1] - scan.x[0]) / _FINER
    fine = step * (np.arange(_FINER * scan.x.size) - _FINER * scan.x.size / 2 + 0.5)
    if model == "small_tip":
        transverse = -1j * np.sin(flip_angle * small_tip_profile(scan.pulse, fine / scan.thickness))
    else:
        a, b = spinors(scan.pulse, flip_angle, fine / scan.thickness)
        transverse = 2 * np.conj(a) * b
    samples = np.exp(2j * np.pi * np.outer(scan.k, fine)) @ np.conj(transverse) * step
    spacing = np.abs(np.diff(scan.k)).mean()
    return np.exp(-2j * np.pi * np.outer(position, scan.k)) @ samples * spacing


def _combined(lines, expected, x, degree):
    """Profiles, (scans, columns), of the lines of all coils and rows, (scans, lines, columns)."""
    powers = (x[:, None] / np.abs(x).max()) ** np.arange(degree + 1)
    design = (powers * expected[:, :, None]).reshape(-1, degree + 1)
    coefficients = np.linalg.lstsq(design, lines.swapaxes(1, 2).reshape(len(design), -1), rcond=None)[0]
    sensitivities = (powers @ coefficients).T
    return np.sum(np.conj(sensitivities) * lines, axis=1) / np.sum(np.abs(sensitivities) ** 2, axis=0)
