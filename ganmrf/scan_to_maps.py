"""One call from a scan file, raw data or an image series, to T1, T2 and M0 maps with error bars, stage by stage."""

import contextlib
import dataclasses
import functools
import hashlib
import pathlib
import tempfile
from typing import NamedTuple

import jax
import numpy as np
from scipy import ndimage

from ganmrf.dictionary.build import Dictionary, build_dictionary
from ganmrf.dictionary.compress import check_rank, compress, svd_basis
from ganmrf.dictionary.grids import tissue_grid
from ganmrf.dictionary.match import Maps, match
from ganmrf.dictionary.match_b1 import match_with_b1
from ganmrf.dictionary.refine import Refined, refine
from ganmrf.dictionary.zarr import open_dictionary
from ganmrf.imaging.coils import compress_coils
from ganmrf.imaging.pipeline import METHODS, reconstruct
from ganmrf.imaging.sensitivities import calibrate
from ganmrf.io.maps import read_b1_map
from ganmrf.io.mrd import RawData, read_mrd
from ganmrf.io.mrd_frames import COUNTERS
from ganmrf.io.series import read_mask, read_series
from ganmrf.io.trajectories import UNITS
from ganmrf.memory import require_memory
from ganmrf.physics.sequences.fisp import Sequence
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.slice_profile import SliceProfile
from ganmrf.physics.tissue import Tissue
from ganmrf.settings import configuration, setting
from ganmrf.stages import Stages

_OF_RAW = "virtual_coils", "iterations", "threshold", "trajectory", "trajectory_units", "frame_counter", "slice"
_OF_SERIES = "variable", "frame_axis"
_ITERATIVE = ("method=sense|low_rank",)
_OF_SIMULATION = (
    "schedule",
    "frames",
    "echo_time_ms",
    "inversion_time_ms",
    "grid",
    "t1_ms",
    "t2_ms",
    "b1",
    "slice_nodes",
)


@configuration
class ReconstructionConfig:
    """How a scan becomes maps, and the files that belong to it beside the scan itself.

    Raises:
      ValueError: a field that breaks its rule.
    """

    dictionary: str | None = setting(
        None, "dictionary to match with, .npz, .mat or .zarr; none: simulated", reads=True, instead_of=_OF_SIMULATION
    )
    method: str = setting(
        "sense", "of reconstruction; of an image series, frames matches it uncompressed", choices=METHODS
    )
    rank: int = setting(6, "of the temporal basis; a dictionary with a basis has its own", at_least=2)
    virtual_coils: int = setting(10, "what coils are combined into; 0: as they are", at_least=0)
    iterations: int = setting(6, "of conjugate gradients: fewer leave noise out", at_least=1, goes_with=_ITERATIVE)
    threshold: float = setting(
        5e-4, "of the low-rank prior, a share of the largest singular value", at_least=0, goes_with=("method=low_rank",)
    )
    trajectory: str | None = setting(None, "of the raw data, .npz, .mat or .seq; none: the file's", reads=True)
    trajectory_units: str | None = setting(None, "of the trajectory; none: as it seems", choices=UNITS)
    frame_counter: str | None = setting(None, "MRD counter of the frames; none: as it seems", choices=COUNTERS)
    slice: int | None = setting(None, "slice of the raw data, where there are several", at_least=0)
    variable: str | None = setting(None, "array of the series in .npz or .mat; none: images")
    frame_axis: int | None = setting(None, "of the frames; none: first in .npz, last in .mat")
    mask: str | None = setting(None, "voxels to match, not 0 inside; none: those above signal_threshold", reads=True)
    signal_threshold: float = setting(
        0.1, "share of the 99 % quantile of the signal below which a voxel is air; 0: match any signal", at_least=0
    )
    b1_map: str | None = setting(
        None, "B1 map, actual over nominal flip angle; the atoms must have several B1", reads=True
    )
    b1_scale: float = setting(1.0, "what values of the B1 map are multiplied by: 0.01 for percent", above=0)
    refine: bool = setting(True, "fit T1 and T2 between the atoms, with error bars")

    def __post_init__(self):
        if self.b1_scale != 1 and self.b1_map is None:
            raise ValueError(f"b1_scale goes with a b1_map; got {self.b1_scale:g} without one")

    def check_reads(self, scan_path):
        """Raises `ValueError` for a field that says something of another kind of scan, and would not be read."""
        raw = is_raw(scan_path)
        unread = _OF_SERIES if raw else (*_OF_RAW, "rank") if self.method == "frames" else _OF_RAW
        for field in dataclasses.fields(self):
            if field.name in unread and getattr(self, field.name) != field.default:
                kind = "raw data" if raw else f"an image series with method={self.method}"
                raise ValueError(f"{field.name} would change nothing of {scan_path}, {kind}")

    @property
    def files(self) -> list[str]:
        """The files that are read beside the scan."""
        return [path for path in (self.mask, self.b1_map, self.dictionary, self.trajectory) if path]

    def coils_kept(self, coils: int) -> int:
        """Number of virtual coils that so many coils are combined into."""
        return min(self.virtual_coils or coils, coils)


class Results(NamedTuple):
    """Maps of a scan, and what they were made with.

    Attributes:
      dictionary: the dictionary of the match.
      coefficients: in the dictionary's basis, (rank, y, x); None where frames were matched.
      reconstruction: arrays of the reconstruction by name: sensitivities, residuals; empty for image series.
      trajectory: (frames, samples, 2), 1/m; None for image series.
      maps: what matching found.
      refined: what refinement found; None without refinement.
      affine: from voxel indices (x, y, z) to positions, mm, (4, 4); None where the file does not say.
      voxel_size: along the three spatial axes, m; None where the file does not say.
      seconds: wall time of each stage, by name.
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


def map_scan(
    scan_path,
    folder=None,
    *,
    sequence: Sequence | None = None,
    tissue: Tissue | None = None,
    slice_profile: SliceProfile | None = None,
    dictionary: Dictionary | None = None,
    config: ReconstructionConfig | None = None,
    progress: bool = False,
) -> Results:
    """Reads a scan, reconstructs it, matches every voxel with signal and refines the maps between the atoms.

    Args:
      scan_path: raw data, ``.h5`` or ``.mrd`` (`read_mrd`), or an image series (`read_series`).
      folder: where finished stages are kept, so that a call that was cut off goes on with the first missing one; None
        keeps none.
      sequence: what was played; None for the sequence of the file, or else the paper's (`mrf_fisp`).
      tissue: the atoms; None for `tissue_grid` ``"paper"``.
      slice_profile: of the excitation; None for a uniform slice.
      dictionary: in place of sequence, tissue and slice profile, which are then not used.
      config: how; None for the defaults of `ReconstructionConfig`.
      progress: whether to show how far each stage is.

    Raises:
      ValueError: a file that cannot be read or does not fit the others, too little memory, a folder with stages of
        another call, two dictionaries, or no voxel with any signal.
    """
    config = config or ReconstructionConfig()
    config.check_reads(scan_path)
    if dictionary is not None and config.dictionary is not None:
        raise ValueError(
            f"a dictionary was given, and so was config.dictionary={config.dictionary}: one is matched with"
        )
    call = {"sequence": sequence, "tissue": tissue, "slice_profile": slice_profile, "dictionary": dictionary}
    settings = dataclasses.asdict(config) | {f"argument {name}": _digest(value) for name, value in call.items()}
    with tempfile.TemporaryDirectory() if folder is None else contextlib.nullcontext(folder) as place:
        stages = Stages(place, [scan_path, *config.files], settings, announce=folder is not None)
        scan = _read(pathlib.Path(scan_path), config)
        dictionary = _dictionary(scan, config, **call)
        if scan.b1_map is not None and np.ndim(dictionary.tissue.b1) == 0:
            raise ValueError(f"b1_map={config.b1_map} wants atoms of several B1, in the tissue or in the dictionary")
        images, found = _images(stages, scan, config, dictionary, progress)
        maps = _matched(stages, scan, config, dictionary, images, progress)
        refined = None
        if config.refine:
            fit = functools.partial(refine, dictionary, images, maps, b1_map=scan.b1_map, progress=progress)
            refined = Refined(**stages("refining", lambda: vars(fit())))
    return Results(
        dictionary=dictionary,
        coefficients=None if len(images) == scan.n_frames else images,
        reconstruction=found,
        trajectory=None if scan.raw is None else scan.raw.trajectory,
        maps=maps,
        refined=refined,
        affine=scan.affine,
        voxel_size=scan.voxel_size,
        seconds=stages.seconds,
    )


def is_raw(scan_path) -> bool:
    """Whether a scan is raw data, by its suffix."""
    return pathlib.Path(scan_path).suffix.lower() in (".h5", ".mrd")


class _Scan(NamedTuple):
    """A scan and what belongs to its voxels: ``raw`` or ``images`` (frames, ...), the other one is None."""

    path: pathlib.Path
    raw: RawData | None
    images: np.ndarray | None
    n_frames: int
    affine: np.ndarray | None
    voxel_size: tuple[float, ...] | None
    mask: np.ndarray | None
    b1_map: np.ndarray | None


def _read(path, config) -> _Scan:
    raw = images = None
    if is_raw(path):
        raw = _read_raw(path, config)
        affine, grid, n_frames, shape = raw.affine, raw.affine, len(raw.kspace), raw.matrix
        voxel_size = (raw.slice_thickness, *raw.voxel_size)
    else:
        series = read_series(path, config.variable, frame_axis=config.frame_axis)
        affine, grid, voxel_size, images = series.affine, series.grid, series.voxel_size, series.images
        n_frames, *shape = images.shape
    mask = read_mask(config.mask, tuple(shape), grid) if config.mask else None
    b1_map = read_b1_map(config.b1_map, tuple(shape), scale=config.b1_scale, affine=grid) if config.b1_map else None
    return _Scan(path, raw, images, n_frames, affine, voxel_size, mask, b1_map)


def _read_raw(path, config) -> RawData:
    trajectory, units = config.trajectory, config.trajectory_units
    if trajectory is not None and trajectory.lower().endswith(".seq"):
        if units not in (None, "1/m"):
            raise ValueError(f"trajectory_units of a .seq file must be 1/m; got {units}")
        from ganmrf.io.pulseq_read import read_pulseq_trajectory  # here: it imports for a second, and most need none

        trajectory, units = read_pulseq_trajectory(trajectory), "1/m"
    of_file = {"frame_counter": config.frame_counter, "slice_index": config.slice}
    raw = read_mrd(path, trajectory=trajectory, trajectory_units=units, **of_file)
    frames, coils, samples = raw.kspace.shape
    pixels, rank, kept = raw.matrix[0] * raw.matrix[1], config.rank, config.coils_kept(coils)
    # K-space as it is read, put in order, and of the virtual coils; points, weights and what is gridded of a sample.
    needed = 8 * frames * samples * (2 * coils + kept + 8) + 8 * pixels * (2 * rank**2 + 2 * rank * kept + 4 * kept)
    if config.method == "frames":
        needed += 8 * frames * pixels * 1.5
    require_memory(needed, f"{path}", "fewer virtual_coils or a lower rank need less")
    return raw


def _dictionary(scan, config, *, sequence, tissue, slice_profile, dictionary) -> Dictionary:
    """The dictionary that was given, opened or has to be simulated; in a basis where coefficients are matched."""
    source = "the given sequence"
    if config.dictionary is not None:
        dictionary, source = open_dictionary(config.dictionary), config.dictionary
    elif dictionary is not None:
        source = "the given dictionary"
    elif sequence is None:
        sequence = None if scan.raw is None else scan.raw.sequence
        source = "the paper's sequence" if sequence is None else "the sequence of the file"
        sequence = mrf_fisp() if sequence is None else sequence
    frames = sequence.n_frames if dictionary is None else dictionary.sequence.n_frames
    if frames != scan.n_frames:
        raise ValueError(f"{scan.path} has {scan.n_frames} frames, but {source} has {frames}")
    if dictionary is not None and dictionary.basis is not None and config.rank != ReconstructionConfig.rank:
        raise ValueError(f"rank={config.rank} would change nothing: {source} has a basis of its own")
    if dictionary is None:
        tissue = tissue_grid("paper") if tissue is None else tissue
        if config.method != "frames":
            check_rank(config.rank, tissue.size, frames)
        dictionary = build_dictionary(sequence, tissue, slice_profile=slice_profile)
    if config.method == "frames" or dictionary.basis is not None:
        return dictionary
    return compress(dictionary, config.rank)[0]


def _images(stages, scan, config, dictionary, progress) -> tuple[np.ndarray, dict]:
    """Frames or coefficients, and what else is known of the reconstruction, arrays by name."""
    raw, basis = scan.raw, dictionary.basis
    if raw is None:
        frames = basis is None or config.method == "frames"
        return scan.images if frames else np.tensordot(basis.conj().T, scan.images, 1), {}
    if basis is None:
        basis = svd_basis(dictionary.fingerprints, config.rank)
    place = raw.trajectory, basis, raw.matrix, raw.voxel_size

    @functools.cache
    def virtual():
        return compress_coils(raw.kspace, config.coils_kept(raw.kspace.shape[1]))

    def sensitivities():
        kspace, energy = virtual()
        return {"sensitivities": calibrate(kspace, *place), "energy": energy}

    coils = stages("sensitivities", sensitivities)

    def images():
        found = reconstruct(
            virtual()[0],
            *place,
            method=config.method,
            sensitivities=coils["sensitivities"],
            iterations=config.iterations,
            threshold=config.threshold,
            progress=progress,
        )
        return {"images": found.images} | ({} if found.residuals is None else {"residuals": found.residuals})

    found = stages("reconstruction", images)
    return found.pop("images"), coils | found


def _matched(stages, scan, config, dictionary, images, progress) -> Maps:
    mask = scan.mask
    if mask is None and config.signal_threshold:
        mask = _with_signal(dictionary, images, config.signal_threshold)

    found = functools.partial(match, dictionary, images, mask=mask, progress=progress)
    if scan.b1_map is not None:
        found = functools.partial(match_with_b1, dictionary, images, scan.b1_map, mask=mask, progress=progress)
    maps = Maps(**stages("matching", lambda: vars(found())))
    if not (maps.index >= 0).any():
        raise ValueError(f"{scan.path}: no voxel with any signal{' inside the mask' if config.mask else ''}")
    return maps


def _with_signal(dictionary, images, threshold):
    """Voxels above a share of the strong signals along the dictionary's first direction, holes filled.

    Aliases are as strong as signals in a frame, and have little of that direction.
    """
    if len(images) == dictionary.sequence.n_frames:
        first = svd_basis(dictionary.fingerprints, 1) if dictionary.basis is None else dictionary.basis[:, :1]
        images = np.tensordot(first.conj().T, images, 1)
    strength = np.abs(images[0])
    return ndimage.binary_fill_holes(strength > threshold * np.quantile(strength, 0.99))


def _digest(value):
    """A short name for arrays, to know them again in another process; of a dictionary, without its fingerprints."""
    if isinstance(value, Dictionary):
        value = dataclasses.replace(value, fingerprints=None, norms=np.asarray(value.norms))
    if value is None:
        return None
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(value)]
    parts = [part for leaf in leaves for part in (f"{leaf.dtype}{leaf.shape}".encode(), leaf.tobytes())]
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]
