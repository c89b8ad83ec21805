"""A scan and what belongs to its voxels, from files; and what was found or assumed on the way, in words."""

import dataclasses
import pathlib
import warnings

import numpy as np

from ganmrf.dictionary.magnitude import is_magnitude
from ganmrf.imaging.coils import prewhiten
from ganmrf.io.field_maps import read_b0_map, read_b1_map
from ganmrf.io.girf import read_girf
from ganmrf.io.mrd import RawData, read_mrd
from ganmrf.io.pulseq_read import read_pulseq_trajectory
from ganmrf.io.pulseq_sequence import read_pulseq_sequence
from ganmrf.io.series import read_array, read_mask, read_series
from ganmrf.io.trajectories import GivenTrajectory, read_trajectory
from ganmrf.memory import require_memory
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.scan_settings import RawConfig, ReconstructionConfig, is_pulseq, is_raw
from ganmrf.settings import naming_fields

_IN_WORDS = {"voxel": "cycles per voxel", "fov": "cycles per field of view"}  # units whose names alone say too little
_USUAL_REACH = 0.5, 1.1  # of the edge of k-space: less blurs an image to half of its resolution, more lies outside
_FEWEST_FRAMES = 3  # from which their ratios are two numbers, as T1 and T2 are


@dataclasses.dataclass(frozen=True)
class Scan:
    """Raw data or an image series, and what belongs to its voxels.

    Attributes:
      path: the file, or folder.
      raw: raw data; None for an image series.
      images: (frames, ...spatial); None for raw data.
      magnitude: whether the images are magnitudes.
      sequence: that the files say was played; None where none does.
      sequence_from: the file, or its header, that says so.
      sequence_refused: why the sequence of the trajectory's ``.seq`` file cannot be simulated; None where it can.
      shape: of the maps.
      affine: from voxel indices (x, y, z) to positions, mm, (4, 4); None where the file does not say.
      voxel_size: along the three spatial axes, m; None where the file does not say.
      mask: bool, of ``shape``; None without.
      b1_map: of ``shape``; None without.
      b0_map: of ``shape``, Hz; None without.
      noise: of the coils, to prewhiten them with, (coils, samples); None leaves them.
      weights: density weights of raw data, (frames, samples); None for those to compute.
      sensitivities: of the coils, (coils, y, x), complex64; None for those from the scan.
      notes: what was found or assumed, a sentence each.
    """

    path: pathlib.Path
    raw: RawData | None
    images: np.ndarray | None
    magnitude: bool
    sequence: Fisp | None
    sequence_from: str | None
    shape: tuple[int, ...]
    affine: np.ndarray | None
    voxel_size: tuple[float, ...] | None
    mask: np.ndarray | None
    b1_map: np.ndarray | None
    b0_map: np.ndarray | None
    sequence_refused: str | None = None
    noise: np.ndarray | None = None
    weights: np.ndarray | None = None
    sensitivities: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return len(self.images if self.raw is None else self.raw.kspace)


def read_scan(path, config: ReconstructionConfig) -> Scan:
    """Reads a scan, and the mask, maps of B1 and B0, trajectory, weights and sensitivities that ``config`` names.

    Raises:
      ValueError: a file that cannot be read, or that does not fit the others.
    """
    path = pathlib.Path(path)
    read = _read_raw if is_raw(path) else _read_images
    found, grid, only_finite, notes = read(path, config)
    frames, shape = len(found["images"] if found["raw"] is None else found["raw"].kspace), found["shape"]
    if frames < _FEWEST_FRAMES:
        raise ValueError(f"{path} has {frames} frames: fewer than {_FEWEST_FRAMES} do not tell T1, T2 and M0 apart")
    mask = b1_map = b0_map = None
    if config.mask:
        mask = only_finite(read_mask(config.mask, shape, grid), config.mask)
        notes.append(f"{np.count_nonzero(mask)} of {mask.size} voxels are inside the mask {config.mask}")
    if config.b1_map:
        b1_map = read_b1_map(config.b1_map, shape, scale=config.b1_scale, affine=grid)
    if config.b0_map:
        b0_map = read_b0_map(config.b0_map, shape, scale=config.b0_scale, affine=grid)
    return Scan(path, **found, mask=mask, b1_map=b1_map, b0_map=b0_map, notes=tuple(notes))


def _read_images(path, config):
    series = read_series(path, config.variable, frame_axis=config.frame_axis)
    images, magnitude, notes = series.images, config.magnitude == "yes", []
    if padding := _without_padding(images):
        notes.append(f"{padding} voxels have the same negative value in every frame: they hold no signal, 0 is taken")
    if config.magnitude == "auto" and (magnitude := is_magnitude(images)):
        notes.append(
            "the series is real and nowhere negative: it was matched as one of magnitudes (--magnitude=no: as signed)"
        )
    if series.finite is not None:
        lost = series.finite.size - np.count_nonzero(series.finite)
        notes.append(f"{lost} of {series.finite.size} voxels are NaN or infinite in a frame: they are outside")
    found = {
        "raw": None,
        "images": np.abs(images) if magnitude else images,
        "magnitude": magnitude,
        "sequence": None,
        "sequence_from": None,
        "shape": images.shape[1:],
        "affine": series.affine,
        "voxel_size": series.voxel_size,
    }
    return found, series.grid, series.only_finite, notes


def _without_padding(images):
    """Puts 0 in voxels with one negative value in all frames, which no signal has; and how many they are."""
    if np.iscomplexobj(images):
        return 0
    padding = (images[0] < 0) & (images == images[0]).all(axis=0)
    images[:, padding] = 0
    return np.count_nonzero(padding)


def _read_raw(path, config):
    given, notes = config.raw, []
    raw = _raw_data(path, given)
    if not raw.kspace.any():
        raise ValueError(f"{path}: k-space is 0 everywhere: no signal was received")
    frames, coils, samples = raw.kspace.shape
    pixels, rank, kept = raw.matrix[0] * raw.matrix[1], config.rank, config.coils_kept(coils)
    # K-space as it is read, put in order, and of the virtual coils; points, weights and what is gridded of a sample.
    needed = 8 * frames * samples * (2 * coils + kept + 8) + 8 * pixels * (2 * rank**2 + 2 * rank * kept + 4 * kept)
    if config.method == "frames":
        needed += 8 * frames * pixels * 1.5
    require_memory(needed, f"{path}", "fewer virtual_coils or a lower rank need less")
    notes.append(
        f"k-space positions are in {_IN_WORDS.get(raw.trajectory_units, raw.trajectory_units)}: the trajectory reaches "
        f"{100 * _reach(raw):.0f} % of the way from the centre of k-space to its edge"
    )
    if not _USUAL_REACH[0] <= _reach(raw) <= _USUAL_REACH[1]:
        warnings.warn(
            f"{path}: the trajectory reaches {_reach(raw):.3g} of the edge of k-space: are its units right "
            "(--trajectory_units), the image (--matrix, --field_of_view_mm) and the raster time of gradients?",
            stacklevel=2,
        )
    noise = _usable_noise(raw, notes) if config.prewhiten else None
    sequence, sequence_from, refused = raw.sequence, f"the header of {path}", None
    if sequence is None and given.trajectory and is_pulseq(given.trajectory):
        sequence_from = given.trajectory
        try:
            with naming_fields(slice_index="slice"):
                sequence = read_pulseq_sequence(given.trajectory, slice_index=given.slice).sequence
        except ValueError as error:  # of no use where another sequence or a dictionary is given
            refused = str(error)
    found = {
        "raw": raw,
        "images": None,
        "magnitude": False,
        "sequence": sequence,
        "sequence_from": sequence_from,
        "sequence_refused": refused,
        "shape": raw.matrix,
        "affine": raw.affine,
        "voxel_size": (raw.slice_thickness, *raw.voxel_size),
        "noise": noise,
        "weights": _weights(given, frames, samples) if given.weights else None,
        "sensitivities": _sensitivities(given.sensitivities, coils, raw.matrix) if given.sensitivities else None,
    }
    return found, raw.affine, lambda mask, _: mask, notes


def _usable_noise(raw, notes):
    """The noise that the coils can be prewhitened with, or None; ``notes`` gets a sentence where there is any."""
    if raw.noise is None:
        return None
    try:
        prewhiten(raw.kspace[:1], raw.noise)
    except ValueError as error:
        notes.append(f"the coils' noise is left as it is, since its readouts do not tell it: {error}")
        return None
    notes.append(f"{raw.noise.shape[1]} samples of noise made the coils' noise white and equal (--noprewhiten: not)")
    return raw.noise


def _raw_data(path, given: RawConfig) -> RawData:
    pair = {1: lambda one: (one[0], one[0]), 2: tuple, 0: lambda _: None}
    size = pair[len(given.field_of_view_mm)](given.field_of_view_mm)
    facts = {
        "trajectory": _trajectory(given),
        "trajectory_units": given.trajectory_units,
        "frame_counter": given.frame_counter,
        "slice_index": given.slice,
        "skip_readouts": given.skip_readouts,
        "matrix": pair[len(given.matrix)](given.matrix),
        "field_of_view": None if size is None else tuple(1e-3 * length for length in size),
    }
    if path.suffix.lower() != ".dat":
        return read_mrd(path, **facts, dataset=given.dataset, header=given.header)
    for name in ("dataset", "header"):
        if getattr(given, name) is not None:
            raise ValueError(f"{name} would change nothing of {path}: it goes with MRD")
    from ganmrf.io.twix import read_twix  # here: its library is an extra

    return read_twix(path, **facts)


def _trajectory(given: RawConfig) -> GivenTrajectory | None:
    """The trajectory that the settings name in place of the raw data's own."""
    girf = read_girf(given.girf) if given.girf else None
    if given.trajectory and is_pulseq(given.trajectory):
        with naming_fields(slice_index="slice"):
            return GivenTrajectory(read_pulseq_trajectory(given.trajectory, slice_index=given.slice, girf=girf), "1/m")
    named = {"variable": given.trajectory_variable, "order": given.interleave_order, "units": given.trajectory_units}
    if given.gradients:
        raster_time = 1e-6 * given.gradient_raster_us
        return read_trajectory(given.gradients, **named, usual="gradients", raster_time=raster_time, girf=girf)
    return read_trajectory(given.trajectory, **named) if given.trajectory else None


def _reach(raw):
    """Largest k along an axis, relative to the edge of the image's k-space."""
    return float((2 * np.abs(raw.trajectory).reshape(-1, 2).max(axis=0) * raw.voxel_size[::-1]).max())


def _weights(given, frames, samples):
    """Density weights, (frames, samples), float32: of each frame, of all frames, or of interleaves in their order."""
    path = pathlib.Path(given.weights)
    values = read_array(path, None, "weights", min_ndim=1, flag=None)
    if values.dtype.kind not in "iuf" or not np.isfinite(values).all() or (values < 0).any() or not values.any():
        raise ValueError(f"{path}: density weights must be finite, 0 or more, and not all 0")
    values = np.atleast_2d(np.squeeze(values).astype(np.float32))
    values = values.T if values.shape[1] != samples == values.shape[0] else values
    if values.shape not in ((1, samples), (frames, samples)):
        raise ValueError(
            f"{path}: density weights must be (frames, samples) = {(frames, samples)} or (samples,); got {values.shape}"
        )
    return np.broadcast_to(values, (frames, samples))


def _sensitivities(path, coils, shape):
    """Sensitivities of the coils, (coils, y, x), complex64, of any scale."""
    path = pathlib.Path(path)
    values = read_array(path, None, "sensitivities", min_ndim=2, flag=None)
    if path.suffix.lower() == ".mat":
        values = np.moveaxis(values, -1, 0) if values.ndim == 3 else values[None]
    if values.shape != (coils, *shape):
        raise ValueError(
            f"{path}: sensitivities must be (coils, y, x) = {(coils, *shape)}, in .mat coils last; got {values.shape}"
        )
    if not np.isfinite(values).all() or not values.any():
        raise ValueError(f"{path}: sensitivities must be finite, and not all 0")
    return (values / np.abs(values).max()).astype(np.complex64)
