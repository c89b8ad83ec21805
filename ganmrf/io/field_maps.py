"""Maps of B1 and B0 from files."""

import pathlib

import numpy as np

from ganmrf.files import read_json
from ganmrf.io.series import read_on_grid

_PERCENT = 10.0  # times the nominal flip angle: no transmit field has this, and percent have more
# Hz: fat is off by 1 kHz at 7 T, and slice-selective pulses hardly excite what is off by more than 2 kHz.
_FAR_OFF = 2e3
# Of BIDS for maps of B0, and what makes Hz of them: turns per radian, and protons' Hz per tesla (CODATA 2018).
_TO_HZ = {"Hz": 1.0, "rad/s": 1 / (2 * np.pi), "T": 42.577478518e6}


def read_b1_map(path, shape: tuple[int, ...], *, scale: float = 1.0, affine=None) -> np.ndarray:
    """Reads a map of B1+, actual over nominal flip angle, as `read_mask` reads masks; the array is called ``b1``.

    Returns:
      float64, of ``shape``: the values of the file times ``scale``, which is 0.01 where they are percent; also those
      that are not finite.

    Raises:
      ValueError: as `read_series`; a map of another shape or on another grid of voxels, complex values, values that are
        percent by their size, or a scale that is not positive and finite.
    """
    if not 0 < scale < np.inf:
        raise ValueError(f"scale of a B1 map must be positive and finite; got {scale:g}")
    b1, usual = _read_field(path, "B1", shape, scale, affine)
    if usual > _PERCENT:
        raise ValueError(
            f"{path}: half of the values of the B1 map exceed {usual:.4g}, as percent do: give --b1_scale=0.01"
        )
    return b1


def read_b0_map(path, shape: tuple[int, ...], *, scale: float | None = None, affine=None) -> np.ndarray:
    """Reads a map of B0 as the off-resonance of `Tissue`, as `read_mask` reads masks; the array is called ``b0``.

    Returns:
      Hz, float64, of ``shape``: the values of the file times ``scale``; also those that are not finite. None for the
      scale takes the ``Units`` of a NIfTI file's BIDS sidecar, where there is one: Hz, rad/s or T, of protons; else
      values are in Hz. A negative scale turns the sign of scanners whose phases run the other way.

    Raises:
      ValueError: as `read_series`; a map of another shape or on another grid of voxels, complex values, other units,
        values that are not Hz by their size, or a scale that is 0 or not finite.

    References:
      BIDS specification, "Direct field mapping", https://bids-specification.readthedocs.io.
    """
    if scale is not None and not (np.isfinite(scale) and scale):
        raise ValueError(f"scale of a B0 map must be finite, and not 0; got {scale:g}")
    b0, usual = _read_field(path, "B0", shape, _hz_of(path) if scale is None else scale, affine)
    if usual > _FAR_OFF:
        raise ValueError(
            f"{path}: half of the values of the B0 map are {usual:.4g} Hz or more off, which no pulse excites: give "
            "--b0_scale, 0.1592 for rad/s"
        )
    return b0


def _hz_of(path):
    """What makes Hz of the values of a file, by its sidecar."""
    path = pathlib.Path(path)
    stem, found, _ = path.name.rpartition(".nii")
    sidecar = path.with_name(f"{stem}.json")
    if not (found and sidecar.exists()):
        return 1.0
    said = read_json(sidecar)
    unit = said.get("Units", "Hz") if isinstance(said, dict) else "Hz"
    if unit not in _TO_HZ:
        raise ValueError(f"{sidecar}: Units must be one of {', '.join(_TO_HZ)}; got {unit!r}: give --b0_scale")
    return _TO_HZ[unit]


def _read_field(path, name, shape, scale, affine):
    """The values of a map times ``scale``, float64, of ``shape``, and the median magnitude of those that are not 0."""
    path = pathlib.Path(path)
    values = read_on_grid(path, name.lower(), f"the {name} map", shape, affine)
    if np.iscomplexobj(values):
        raise ValueError(f"{path}: a {name} map must be real; got {values.dtype}")
    with np.errstate(all="ignore"):  # of values that are not finite
        values = scale * values.reshape(shape).astype(float)
        sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    return values, np.median(sizes) if sizes.size else 0.0
