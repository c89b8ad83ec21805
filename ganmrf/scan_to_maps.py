"""From a scan to maps, stage by stage."""

import dataclasses
import functools
import pathlib
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from ganmrf.dictionary.build import Dictionary, build_dictionary
from ganmrf.dictionary.compress import compress, svd_basis
from ganmrf.dictionary.match import Maps, match
from ganmrf.dictionary.match_b1 import match_with_b1
from ganmrf.dictionary.refine import Refined, refine
from ganmrf.dictionary.zarr import open_dictionary
from ganmrf.imaging.coils import compress_coils
from ganmrf.imaging.pipeline import reconstruct
from ganmrf.imaging.sensitivities import calibrate
from ganmrf.io.maps import read_b1_map
from ganmrf.io.mrd import read_mrd
from ganmrf.io.series import read_mask, read_series
from ganmrf.parallel import require_memory
from ganmrf.runs.configs import SimulationConfig
from ganmrf.stages import Stages

RAW = (".h5", ".mrd")
_SIGNAL = 0.1  # of the 99 % quantile: what is weaker is air


@dataclasses.dataclass(frozen=True)
class ReconstructionConfig:
    """How a scan becomes maps; the fields are the flags."""

    input: str
    dictionary: str | None
    method: str
    rank: int
    virtual_coils: int
    iterations: int
    threshold: float
    trajectory: str | None
    trajectory_units: str | None
    frame_counter: str | None
    slice: int | None
    variable: str | None
    frame_axis: int | None
    mask: str | None
    b1_map: str | None
    b1_scale: float
    refine: bool

    @property
    def files(self) -> list[str]:
        """What is read, the input first."""
        return [path for path in (self.input, self.mask, self.b1_map, self.dictionary, self.trajectory) if path]

    def coils_kept(self, coils: int) -> int:
        """Number of virtual coils that so many coils are combined into."""
        return min(self.virtual_coils or coils, coils)

    @property
    def is_raw(self) -> bool:
        """Whether the input is raw data, by its suffix."""
        return pathlib.Path(self.input).suffix.lower() in RAW


class Results(NamedTuple):
    """What came out.

    Attributes:
      dictionary: what was matched with.
      coefficients: in the basis, (rank, y, x), or None where the images were matched as they are.
      reconstruction: arrays of the reconstruction by name: sensitivities, residuals; empty for image series.
      trajectory: (frames, samples, 2), 1/m, or None.
      maps: what matching found.
      refined: what refinement found, or None.
      affine: of the images, mm, or None.
      voxel_size: along the spatial axes, m, or None.
      seconds: of each stage.
    """

    dictionary: Dictionary
    coefficients: np.ndarray | None
    reconstruction: dict
    trajectory: np.ndarray | None
    maps: Maps
    refined: Refined | None
    affine: np.ndarray | None
    voxel_size: tuple[float, ...] | None
    seconds: dict[str, float]


def map_scan(folder, simulation: SimulationConfig, config: ReconstructionConfig, *, progress: bool) -> Results:
    """Reads a scan, reconstructs it, matches it and refines the maps; what was done before is read from ``folder``."""
    stages = Stages(folder / "stages", [*config.files, *([simulation.schedule] if simulation.schedule else [])])
    if config.is_raw:
        scan = _read_raw(config)
        affine, grid, n_frames, shape = scan.affine, scan.affine, len(scan.kspace), scan.matrix
        voxel_size = (scan.slice_thickness, *scan.voxel_size)
    else:
        scan = read_series(config.input, config.variable, frame_axis=config.frame_axis)
        affine, grid, voxel_size = scan.affine, scan.grid, scan.voxel_size
        n_frames, *shape = scan.images.shape
    mask = read_mask(config.mask, tuple(shape), grid) if config.mask else None
    b1_map = read_b1_map(config.b1_map, tuple(shape), scale=config.b1_scale, affine=grid) if config.b1_map else None
    sequence = scan.sequence if config.is_raw else None
    dictionary = _dictionary(simulation, config, sequence, n_frames)
    if b1_map is not None and np.ndim(dictionary.tissue.b1) == 0:
        raise ValueError(f"--b1_map={config.b1_map} wants atoms of several B1: give --b1 or another --dictionary")
    if config.is_raw:
        images, found = _reconstructed(stages, config, scan, dictionary, progress)
    else:
        images, found = scan.images, {}
        if dictionary.basis is not None:
            images = np.tensordot(dictionary.basis.conj().T, images, 1)
    mask = _with_signal(dictionary, images) if mask is None else mask
    maps = _matched(stages, dictionary, images, mask, b1_map, progress)
    if not (maps.index >= 0).any():
        raise ValueError(f"{config.input}: no voxel with any signal{' inside the mask' if config.mask else ''}")
    refined = None
    if config.refine:
        fit = functools.partial(refine, dictionary, images, maps, b1_map=b1_map, progress=progress)
        refined = Refined(**stages("refining", lambda: vars(fit())))
    return Results(
        dictionary=dictionary,
        coefficients=None if len(images) == n_frames else images,
        reconstruction=found,
        trajectory=scan.trajectory if config.is_raw else None,
        maps=maps,
        refined=refined,
        affine=affine,
        voxel_size=voxel_size,
        seconds=stages.seconds,
    )


def _read_raw(config):
    trajectory = config.trajectory
    if trajectory is not None and trajectory.lower().endswith(".seq"):
        if config.trajectory_units not in (None, "1/m"):
            raise ValueError(f"--trajectory_units of a .seq file must be 1/m; got {config.trajectory_units}")
        from ganmrf.io.pulseq_read import read_pulseq_trajectory  # here: as in `config`

        trajectory, units = read_pulseq_trajectory(trajectory), "1/m"
    else:
        units = config.trajectory_units
    raw = read_mrd(
        config.input,
        trajectory=trajectory,
        trajectory_units=units,
        frame_counter=config.frame_counter,
        slice_index=config.slice,
    )
    frames, coils, samples = raw.kspace.shape
    pixels, rank, kept = raw.matrix[0] * raw.matrix[1], config.rank, config.coils_kept(coils)
    # K-space as it is read, put in order, and of the virtual coils; points, weights and what is gridded of a sample.
    needed = 8 * frames * samples * (2 * coils + kept + 8) + 8 * pixels * (2 * rank**2 + 2 * rank * kept + 4 * kept)
    if config.method == "frames":
        needed += 8 * frames * pixels * 1.5
    require_memory(needed, f"{config.input}", "fewer --virtual_coils or a lower --rank need less")
    return raw


def _dictionary(simulation, config, sequence, n_frames):
    """The dictionary of ``--dictionary``, or of the flags, with the sequence of the file where none is named."""
    if config.dictionary is not None:
        dictionary, source = open_dictionary(config.dictionary), config.dictionary
    else:
        named = simulation.schedule, simulation.frames, simulation.echo_time_ms, simulation.inversion_time_ms
        of_flags = sequence is None or any(value is not None for value in named)
        source = f"the sequence of the {'flags' if of_flags else 'file'}"
        sequence = simulation.sequence() if of_flags else sequence
        dictionary = None
    frames = sequence.n_frames if dictionary is None else dictionary.sequence.n_frames
    if frames != n_frames:
        raise ValueError(f"{config.input} has {n_frames} frames, but {source} has {frames}")
    if dictionary is None:
        dictionary = build_dictionary(sequence, simulation.tissue(), slice_profile=simulation.slice_profile())
    if config.method == "frames" or dictionary.basis is not None:
        return dictionary
    return compress(dictionary, config.rank)[0]


def _reconstructed(stages, config, raw, dictionary, progress):
    """Images or coefficients, and what else is known of them by name."""
    basis = dictionary.basis
    if basis is None:
        basis = svd_basis(dictionary.fingerprints, config.rank)

    @functools.cache
    def virtual():
        return compress_coils(raw.kspace, config.coils_kept(raw.kspace.shape[1]))

    def sensitivities():
        kspace, energy = virtual()
        found = calibrate(kspace, raw.trajectory, basis, raw.matrix, raw.voxel_size)
        return {"sensitivities": found, "energy": energy}

    coils = stages("sensitivities", sensitivities)

    def images():
        found = reconstruct(
            virtual()[0],
            raw.trajectory,
            basis,
            raw.matrix,
            raw.voxel_size,
            method=config.method,
            sensitivities=coils["sensitivities"],
            iterations=config.iterations,
            threshold=config.threshold,
            progress=progress,
        )
        return {"images": found.images} | ({} if found.residuals is None else {"residuals": found.residuals})

    found = stages("reconstruction", images)
    return found.pop("images"), coils | found


def _with_signal(dictionary, images):
    """Voxels with a tenth of the strongest signal or more along the dictionary's first direction, holes filled."""
    if len(images) == dictionary.sequence.n_frames:  # aliases have little of it, and are as strong as signals elsewhere
        images = np.tensordot(svd_basis(dictionary.fingerprints, 1).conj().T, images, 1)
    strength = np.abs(images[0])
    return ndimage.binary_fill_holes(strength > _SIGNAL * np.quantile(strength, 0.99))


def _matched(stages, dictionary, images, mask, b1_map, progress):
    def maps():
        if b1_map is None:
            return vars(match(dictionary, images, mask=mask, progress=progress))
        return vars(match_with_b1(dictionary, images, b1_map, mask=mask, progress=progress))

    return Maps(**stages("matching", maps))
