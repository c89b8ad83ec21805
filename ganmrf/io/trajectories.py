"""Trajectories as files hold them: arrays by name, in any unit, of k or of gradients, in any order of interleaves."""

import dataclasses
import pathlib

import numpy as np

from ganmrf.io.girf import Girf
from ganmrf.io.series import read_array
from ganmrf.physics.constants import GYROMAGNETIC_RATIO

UNITS = ("voxel", "k/kmax", "rad/voxel", "fov", "1/m", "1/cm", "1/mm", "rad/m")  # of k
GRADIENT_UNITS = ("mT/m", "T/m", "G/cm", "Hz/m")
CYCLIC = "cyclic"  # interleave after interleave, and again from the first
# Largest |k| along an axis, relative to the edge of the encoded k-space, that a scan may have: less would waste most of
# the matrix, more reaches past the corners.
_REACH = 1 / 3, 1.5
_SAME = 0.01  # relative: units that differ by less are one, as far as an image shows
# A unit is clear where every other one is three times as far from the edge of k-space, on a logarithmic scale, and off
# by a tenth at least: a design may end some per cent before the edge, and voxels of 1.1 mm make 1/mm look like voxel.
_CLEARER, _APART = 3.0, 0.1
_BEYOND = 1.05  # relative to the edge: k that reaches further is that of another matrix, and makes no unit clear


@dataclasses.dataclass(frozen=True)
class GivenTrajectory:
    """A trajectory that does not come from the raw data's own file.

    Attributes:
      values: kx and ky of each sample, or gradients along x and y: (frames or interleaves, samples, 2), or (samples, 2)
        where all frames have the same. A third component must be 0, complex values are x + i y, and the axes may stand
        in another order, as MATLAB's (2, samples, frames).
      units: one of `UNITS`, or of `GRADIENT_UNITS` for gradients; None for the one that reaches the edge of k-space.
      order: which interleave each frame plays: `CYCLIC`, or indices (frames,) from 0 or 1 on; None for one a frame.
      raster_time: of gradients, s: ``values`` are those in the middle of each raster time, from the start of the
        readout on. None for values of k.
      girf: response of the gradients, to which gradients are played.

    Raises:
      ValueError: values that are not finite numbers, or a field that does not go with the others.
    """

    values: np.ndarray
    units: str | None = None
    order: np.ndarray | str | None = None
    raster_time: float | None = None
    girf: Girf | None = None

    def __post_init__(self):
        values = np.asarray(self.values)
        if values.dtype.kind not in "iufc" or not 1 <= values.ndim <= 3 or not values.size:
            raise ValueError(
                f"the trajectory given must hold numbers with 1 to 3 axes; got {values.dtype}, shape {values.shape}"
            )
        if unfit := np.count_nonzero(~np.isfinite(values)):
            raise ValueError(f"the trajectory given has {unfit} of {values.size} values that are NaN or infinite")
        object.__setattr__(self, "values", values)
        allowed = UNITS if self.raster_time is None else GRADIENT_UNITS
        if self.units not in (None, *allowed):
            raise ValueError(f"--trajectory_units must be one of {', '.join(allowed)}; got {self.units}")

    def per_metre(self, frames: int, samples: int, dwell_time, matrix, field_of_view) -> tuple[np.ndarray, str]:
        """The points of a scan, (frames, samples, 2), 1/m, float32, and the units that were found or given.

        ``matrix`` and ``field_of_view``, m, are along (x, y), of the encoded space; ``dwell_time``, s, places samples
        in the middle of their dwell times along gradients.

        Raises:
          ValueError: another number of frames or samples, or units that are not clear.
        """
        if self.raster_time is None:
            points, scales = _axes_in_order(self.values, samples), _scales(matrix, field_of_view)
        else:
            points, scales = self._played(frames, samples, dwell_time), _GRADIENT_SCALES
        return in_units(self._of_frames(points, frames, samples), self.units, scales, matrix, field_of_view)

    def _played(self, frames, samples, dwell_time):
        """Moments of the gradients at the samples, in the gradients' unit times s."""
        if not dwell_time:
            raise ValueError("gradients were given, but the raw data does not say its dwell time: give k instead")
        gradients = _axes_in_order(self.values, None)
        (count, times, _), least = gradients.shape, dwell_time * (samples - 0.5) / self.raster_time
        if times == frames != count or times < least <= count:
            gradients = gradients.swapaxes(0, 1)
        played = gradients if self.girf is None else self.girf.play(gradients, self.raster_time)
        knots = self.raster_time * np.arange(played.shape[1] + 1)
        at = dwell_time * (np.arange(samples) + 0.5)
        if at[-1] > knots[-1]:
            raise ValueError(
                f"gradients last {1e3 * knots[-1]:.4g} ms, but {samples} samples of {1e6 * dwell_time:.4g} us take "
                f"{1e3 * dwell_time * samples:.4g} ms: is --gradient_raster_us right?"
            )
        moments = np.concatenate([np.zeros((len(played), 1, 2)), self.raster_time * np.cumsum(played, axis=1)], axis=1)
        return np.stack([[np.interp(at, knots, axis) for axis in one.T] for one in moments]).swapaxes(1, 2)

    def _of_frames(self, points, frames, samples):
        if points.shape[1] != samples:
            raise ValueError(
                f"the trajectory given must be (frames, samples, 2) = {(frames, samples, 2)}, or of fewer interleaves; "
                f"got {self.values.shape}"
            )
        interleaves, order = len(points), self.order
        if order is None:
            if interleaves not in (1, frames):
                raise ValueError(
                    f"the trajectory given has {interleaves} interleaves and the scan {frames} frames: give "
                    f"--interleave_order={CYCLIC}, or the array that holds the interleave of each frame"
                )
            return np.broadcast_to(points, (frames, *points.shape[1:]))
        if isinstance(order, str):
            return points[np.arange(frames) % interleaves]
        order = np.ravel(order)
        if order.shape != (frames,) or (order % 1 != 0).any():
            raise ValueError(f"the order of interleaves must be {frames} whole numbers; got shape {order.shape}")
        first = int(order.max() == interleaves)  # MATLAB counts from 1
        if order.min() > 0 and not first:
            raise ValueError(
                f"the order of interleaves holds {order.min():g} to {order.max():g} of {interleaves}, counted from "
                "0 or from 1? Leave interleaves that are not played out of the trajectory"
            )
        if order.min() < first or order.max() - first >= interleaves:
            raise ValueError(
                f"the order of interleaves holds {order.min():g} to {order.max():g}, but there are {interleaves}"
            )
        return points[order.astype(int) - first]


def read_trajectory(
    path, variable: str | None = None, *, order: str | None = None, usual: str = "trajectory", **facts
) -> GivenTrajectory:
    """Reads a trajectory from a ``.npz``, ``.npy`` or ``.mat`` file.

    Args:
      path: the file.
      variable: the array in it; None for the one called ``usual``, or the only numeric one.
      order: of interleaves: `CYCLIC`, or the array in the file that holds the interleave of each frame.
      usual: the name to look for.
      **facts: other fields of `GivenTrajectory`.

    Raises:
      ValueError: a file that cannot be read, or no such array.
    """
    path = pathlib.Path(path)
    values = read_array(path, variable, usual, min_ndim=1)
    if order not in (None, CYCLIC):
        order = read_array(path, order, "order", min_ndim=1)
    try:
        return GivenTrajectory(values, order=order, **facts)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def stored_per_metre(points, units: str | None, matrix, field_of_view) -> tuple[np.ndarray, str]:
    """Points of k as raw data stores them, (..., 2), to 1/m, float32, and their units; as `in_units`."""
    return in_units(points, units, _scales(matrix, field_of_view), matrix, field_of_view)


def in_units(points, units: str | None, scales: dict, matrix, field_of_view) -> tuple[np.ndarray, str]:
    """Points, (..., 2), times the scale of their units, 1/m along (x, y): float32; and the units.

    With units of None, those are taken that let the largest |k| along an axis reach between a third and 1.5 of the edge
    of the encoded k-space (``matrix`` and ``field_of_view``, m, along (x, y)), and nearest to it.

    Raises:
      ValueError: values that are not finite, or units of None, where none fits or two do.
    """
    if unfit := np.count_nonzero(~np.isfinite(points)):
        raise ValueError(f"trajectory: {unfit} of {np.size(points)} values are NaN or infinite")
    if units is None:
        edge = np.divide(matrix, field_of_view) / 2
        largest = np.abs(points).reshape(-1, 2).max(axis=0)
        reach = {name: float((largest * scale / edge).max()) for name, scale in scales.items()}
        units = _clearest(reach)
    return (points * scales[units]).astype(np.float32), units


def _clearest(reach):
    """The unit that fits, of units and how far they let k reach, relative to the edge of k-space."""
    fitting = {name: value for name, value in reach.items() if _REACH[0] <= value <= _REACH[1]}
    if not fitting:
        held = ", ".join(f"{value:.3g} in {name}" for name, value in reach.items())
        raise ValueError(
            f"the trajectory reaches the edge of k-space in no unit; relative to the edge it reaches {held}: give "
            "--trajectory_units, or the right --matrix and --field_of_view_mm"
        )
    best = min(fitting, key=lambda name: (round(abs(np.log(fitting[name])) / _SAME), list(reach).index(name)))
    off = abs(np.log(fitting[best]))
    near = np.inf if fitting[best] > _BEYOND else max(_CLEARER * off, _APART)
    rivals = [
        name
        for name, value in fitting.items()
        if abs(np.log(value / fitting[best])) > _SAME and abs(np.log(value)) < near
    ]
    if rivals:
        held = ", ".join(f"{fitting[name]:.3g} in {name}" for name in (best, *rivals))
        raise ValueError(
            f"several units fit the trajectory, which reaches, relative to the edge of k-space, {held}: choose with "
            f"--trajectory_units={best}"
        )
    return best


def _scales(matrix, field_of_view):
    """From each of `UNITS` to 1/m, along (x, y)."""
    size, one = np.asarray(field_of_view, float), np.ones(2)
    voxel = size / matrix
    return {
        "voxel": 1 / voxel,
        "k/kmax": 1 / (2 * voxel),
        "rad/voxel": 1 / (2 * np.pi * voxel),
        "fov": 1 / size,
        "1/m": one,
        "1/cm": 1e2 * one,
        "1/mm": 1e3 * one,
        "rad/m": one / (2 * np.pi),
    }


_GRADIENT_SCALES = dict(
    zip(GRADIENT_UNITS, np.multiply(GYROMAGNETIC_RATIO, [1e-3, 1, 1e-2, 1 / GYROMAGNETIC_RATIO]), strict=True)
)


def _axes_in_order(values, samples):
    """Values of `GivenTrajectory` as (interleaves, samples, 2), float64."""
    values = np.asarray(values)
    if np.iscomplexobj(values):
        values = np.stack([values.real, values.imag], axis=-1)
    values = values.astype(float)
    axes = range(-1, min(values.ndim, 2))
    places = [axis for count in (2, 3) for axis in axes if values.shape[axis] == count]
    if not places or values.ndim not in (2, 3):
        raise ValueError(f"the trajectory given must have an axis of kx and ky; got shape {values.shape}")
    reversed_axes = places[0] == 0 and values.ndim == 3
    values = values.transpose() if reversed_axes else np.moveaxis(values, places[0], -1)
    if values.ndim == 2:
        values = values[None]
    elif samples == values.shape[0] != values.shape[1]:
        values = values.swapaxes(0, 1)
    if values[..., 2:].any():
        raise ValueError("the trajectory given has a kz that is not 0: only 2-D scans are read")
    return values[..., :2]
