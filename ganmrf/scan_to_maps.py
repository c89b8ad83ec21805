"""One call from a scan file, raw data or an image series, to T1, T2 and M0 maps with error bars, stage by stage."""

import contextlib
import dataclasses
import functools
import hashlib
import tempfile
from typing import NamedTuple

import jax
import numpy as np
from scipy import ndimage

from ganmrf.dictionary.build import Dictionary, build_dictionary
from ganmrf.dictionary.compress import check_rank, compress, svd_basis
from ganmrf.dictionary.exact import ExactAtoms
from ganmrf.dictionary.grids import tissue_grid
from ganmrf.dictionary.magnitude import magnitude_dictionary
from ganmrf.dictionary.match import Maps, match
from ganmrf.dictionary.match_with_maps import match_with_maps
from ganmrf.dictionary.refine import Refined, refine
from ganmrf.dictionary.residuals import Fit, residual_fit
from ganmrf.dictionary.zarr import open_dictionary
from ganmrf.imaging.coils import virtual_coils
from ganmrf.imaging.pipeline import reconstruct
from ganmrf.imaging.sensitivities import calibrate
from ganmrf.physics.sequences.blocks import PulseSequence
from ganmrf.physics.sequences.bssfp import Bssfp
from ganmrf.physics.sequences.kinds import kind_of
from ganmrf.physics.sequences.multi_spin_echo import MultiSpinEcho
from ganmrf.physics.sequences.published import mrf_fisp
from ganmrf.physics.sequences.sequence_power import Power, with_power
from ganmrf.physics.sequences.spoiled_gradient_echo import SpoiledGradientEcho
from ganmrf.physics.slice_profile import SliceModel
from ganmrf.physics.tissue import TissueModel
from ganmrf.scan_reading import read_scan
from ganmrf.scan_settings import ReconstructionConfig
from ganmrf.settings import flat
from ganmrf.stages import Stages

_NOT_FISP = Bssfp | SpoiledGradientEcho | MultiSpinEcho  # the frames of other kinds can be FISP's
_COARSE = 0.1  # half a step of the grid, relative: more than the error of a good scan


class Results(NamedTuple):
    """Maps of a scan, and what they were made with.

    Attributes:
      dictionary: the dictionary of the match.
      coefficients: in the dictionary's basis, (rank, y, x); None where frames were matched.
      reconstruction: arrays of the reconstruction by name: sensitivities, residuals; empty for image series.
      trajectory: (frames, samples, 2), 1/m; None for image series.
      maps: what matching found.
      refined: what refinement found; None without refinement.
      fit: residuals of refined signals compared with the noise; None without, or where no neighbours tell the noise.
      affine: from voxel indices (x, y, z) to positions, mm, (4, 4); None where the file does not say.
      voxel_size: along the three spatial axes, m; None where the file does not say.
      magnitude: whether magnitudes were matched.
      notes: what was found or assumed, a sentence each.
      seconds: wall time of each stage, by name.
    """

    dictionary: Dictionary
    coefficients: np.ndarray | None
    reconstruction: dict
    trajectory: np.ndarray | None
    maps: Maps
    refined: Refined | None
    fit: Fit | None
    affine: np.ndarray | None
    voxel_size: tuple[float, ...] | None
    magnitude: bool
    notes: tuple[str, ...]
    seconds: dict[str, float]


def map_scan(
    scan_path,
    folder=None,
    *,
    sequence: PulseSequence | None = None,
    tissue: TissueModel | None = None,
    slice_profile: SliceModel = None,
    power: Power | None = None,
    dictionary: Dictionary | None = None,
    config: ReconstructionConfig | None = None,
    progress: bool = False,
) -> Results:
    """Reads a scan, reconstructs it, matches every voxel with signal and refines the maps between the atoms.

    Args:
      scan_path: raw data (`is_raw`: `read_mrd`, `read_twix`), or an image series (`read_series`).
      folder: where finished stages are kept, so that a call that was cut off goes on with the first missing one; None
        keeps none.
      sequence: what was played; None for the sequence of the scan or of its ``.seq`` trajectory, or else the paper's
        (`mrf_fisp`).
      tissue: the atoms, of any kind of tissue; None for `tissue_grid` ``"paper"``.
      slice_profile: model of the slice; None for a uniform one.
      power: duration and shape of the pulses, which a semisolid pool needs where the sequence does not say them.
      dictionary: in place of sequence, tissue, slice profile and power, which are then not used.
      config: how; None for the defaults of `ReconstructionConfig`.
      progress: whether to show how far each stage is.

    Raises:
      ValueError: a file that cannot be read or does not fit the others, such as a dictionary of another kind of
        sequence than the scan's, exact decisions by one that does not say its errors, too little memory, a folder with
        stages of another call, two dictionaries, or no voxel with any signal.
    """
    config = config or ReconstructionConfig()
    config.check_reads(scan_path)
    if dictionary is not None and config.dictionary is not None:
        raise ValueError(
            f"a dictionary was given, and so was config.dictionary={config.dictionary}: one is matched with"
        )
    if config.exact and dictionary is None and config.dictionary is None:
        raise ValueError("exact would change nothing: it goes with a generated dictionary, and none was given")
    call = {"sequence": sequence, "tissue": tissue, "slice_profile": slice_profile, "dictionary": dictionary}
    call["power"] = power
    settings = {name: list(each) if isinstance(each, tuple) else each for name, each in _of_stages(config).items()}
    settings |= {f"argument {name}": _digest(value) for name, value in call.items()}
    with tempfile.TemporaryDirectory() if folder is None else contextlib.nullcontext(folder) as place:
        stages = Stages(place, [scan_path, *config.files], settings, announce=folder is not None)
        scan = read_scan(scan_path, config)
        dictionary, notes = _dictionary(scan, config, **call)
        if scan.b1_map is not None and np.ndim(dictionary.tissue.b1) == 0:
            raise ValueError(f"b1_map={config.b1_map} wants atoms of several B1, in the tissue or in the dictionary")
        if scan.b0_map is not None and np.ndim(dictionary.tissue.off_resonance) == 0:
            raise ValueError(
                f"b0_map={config.b0_map} wants atoms of several off-resonances: --off_resonance_hz, or a dictionary "
                "that has them"
            )
        exact = ExactAtoms(dictionary, magnitude=scan.magnitude) if config.exact else None
        images, found = _images(stages, scan, config, dictionary, progress)
        maps, simulated = _matched(stages, scan, config, dictionary, images, exact, progress)
        refined = fit = None
        if config.refine:
            how = {"b1_map": scan.b1_map, "b0_map": scan.b0_map, "magnitude": scan.magnitude, "progress": progress}
            how |= {"fit": config.estimate.fit, "force": config.estimate.force_fit}
            refined = Refined(**stages("refining", lambda: refine(dictionary, images, maps, **how).arrays()))
            fit = _fit(stages, scan, dictionary, images, maps, refined)
    if simulated is not None:
        total = len(dictionary.fingerprints)
        notes.append(f"{simulated} of the {total} generated atoms were simulated, so that each match is exact")
    notes = [*scan.notes, *notes, *_doubts(dictionary, maps, refined, fit)]
    return Results(
        dictionary=dictionary,
        coefficients=None if len(images) == scan.n_frames else images,
        reconstruction=found,
        trajectory=None if scan.raw is None else scan.raw.trajectory,
        maps=maps,
        refined=refined,
        fit=fit,
        affine=scan.affine,
        voxel_size=scan.voxel_size,
        magnitude=scan.magnitude,
        notes=tuple(notes),
        seconds=stages.seconds,
    )


def _of_stages(config):
    """The settings that stages depend on; without what folders that were begun before there was a field do not have."""
    left_out = {"force_fit", "undetermined", *(["fit"] if config.estimate.fit is None else [])}
    left_out |= set() if config.exact else {"exact"}
    return {name: each for name, each in flat(config).items() if name not in left_out}


def _dictionary(scan, config, *, sequence, tissue, slice_profile, power, dictionary) -> tuple[Dictionary, list[str]]:
    """The dictionary that was given, opened or has to be simulated, as it is matched with; and what was assumed.

    It is in a basis where coefficients are matched, and of magnitudes where the images are.
    """
    source, notes = "the given sequence", []
    if config.dictionary is not None:
        dictionary, source = open_dictionary(config.dictionary), config.dictionary
    elif dictionary is not None:
        source = "the given dictionary"
    elif sequence is None and scan.sequence_refused is not None:
        raise ValueError(f"{scan.sequence_refused}: give a --dictionary, or --schedule")
    elif sequence is None and scan.sequence is None:
        sequence, source = mrf_fisp(), "the paper's sequence"
        notes.append("no file says the sequence: the paper's was taken (--schedule names another)")
    elif sequence is None:
        sequence, source = scan.sequence, "the sequence of the file"
        notes.append(f"the sequence is that of {scan.sequence_from}")
    elif scan.sequence is not None:
        notes.append(f"the sequence is the given one, not that of {scan.sequence_from}")
    frames = sequence.n_frames if dictionary is None else dictionary.sequence.n_frames
    if frames != scan.n_frames:
        remedy = "" if dictionary is not None else " (--schedule names what was played, --frames its first frames)"
        raise ValueError(f"{scan.path} has {scan.n_frames} frames, but {source} has {frames}{remedy}")
    if dictionary is not None and scan.sequence is not None:
        _require_kind(scan, dictionary.sequence, source)
    if dictionary is not None and dictionary.basis is not None and config.rank != ReconstructionConfig.rank:
        raise ValueError(f"rank={config.rank} would change nothing: {source} has a basis of its own")
    if dictionary is None:
        tissue = tissue_grid("paper") if tissue is None else tissue
        if config.method != "frames" and not scan.magnitude:
            check_rank(config.rank, tissue.size, frames)
        sequence = sequence if power is None else with_power(sequence, power)
        dictionary = build_dictionary(sequence, tissue, slice_profile=slice_profile)
    if scan.magnitude:  # a basis of signed signals is none of magnitudes
        if config.rank != ReconstructionConfig.rank:
            raise ValueError(f"rank={config.rank} would change nothing: magnitudes are matched with all frames")
        dictionary = magnitude_dictionary(dictionary)
    elif config.method != "frames" and dictionary.basis is None:
        dictionary = compress(dictionary, config.rank)[0]
    return dictionary, notes


def _require_kind(scan, sequence, source):
    """Raises `ValueError` where files of a scan say that FISP was played, but ``source`` has pulses of another kind.

    A header with one flip angle for all frames does not say it: it may leave out what was played.
    """
    if isinstance(sequence, _NOT_FISP) and np.ptp(scan.sequence.flip_angle):
        raise ValueError(
            f"{source} is a dictionary of {kind_of(sequence)}, but {scan.sequence_from} says that fisp was played: "
            "give a --dictionary of fisp, or a --header or --trajectory that does not say it"
        )


def _images(stages, scan, config, dictionary, progress) -> tuple[np.ndarray, dict]:
    """Frames or coefficients, and what else is known of the reconstruction, arrays by name."""
    raw, basis = scan.raw, dictionary.basis
    if raw is None:
        frames = basis is None or config.method == "frames"
        return scan.images if frames else np.tensordot(basis.T, scan.images, 1), {}
    if basis is None:
        basis = svd_basis(dictionary.fingerprints, config.rank)
    place = raw.trajectory, basis.conj(), raw.matrix, raw.voxel_size  # there a series is ``basis @ coefficients``

    @functools.cache
    def virtual():
        return virtual_coils(raw.kspace, config.coils_kept(raw.kspace.shape[1]), scan.noise, scan.sensitivities)

    def sensitivities():
        kspace, energy, given = virtual()
        return {"sensitivities": calibrate(kspace, *place) if given is None else given, "energy": energy}

    coils = stages("sensitivities", sensitivities)

    def images():
        found = reconstruct(
            virtual()[0],
            *place,
            method=config.method,
            sensitivities=coils["sensitivities"],
            weights=scan.weights,
            iterations=config.iterations,
            threshold=config.threshold,
            progress=progress,
        )
        return {"images": found.images} | ({} if found.residuals is None else {"residuals": found.residuals})

    found = stages("reconstruction", images)
    return found.pop("images"), coils | found


def _matched(stages, scan, config, dictionary, images, exact, progress) -> tuple[Maps, int | None]:
    """The maps, and how many atoms were simulated for exact decisions; None where they were not asked for."""
    mask = scan.mask
    if mask is None and config.signal_threshold:
        mask = with_signal(dictionary, images, config.signal_threshold)
    how = {"mask": mask, "progress": progress, "exact": exact}

    def matched():
        if scan.b1_map is not None or scan.b0_map is not None:
            found = match_with_maps(dictionary, images, b1_map=scan.b1_map, b0_map=scan.b0_map, **how)
        else:
            found = match(dictionary, images, **how)
        return found.arrays() | ({} if exact is None else {"simulated": np.asarray(exact.count)})

    found = stages("matching", matched)
    simulated = None if exact is None else int(found.pop("simulated"))
    maps = Maps(**found)
    if not (maps.index >= 0).any():
        raise ValueError(f"{scan.path}: no voxel with any signal{' inside the mask' if config.mask else ''}")
    return maps, simulated


def _fit(stages, scan, dictionary, images, maps, refined) -> Fit | None:
    def compared():
        found = residual_fit(dictionary, images, maps, refined, magnitude=scan.magnitude)
        return {} if found is None else vars(found)

    found = stages("residuals", compared)
    if not found:
        return None
    numbers = float(found["noise"]), int(found["freedom"]), float(found["share"])
    return Fit(found["ratio"], *numbers)


def _doubts(dictionary, maps, refined, fit):
    """Sentences on what a user should not believe of the maps."""
    if fit is not None and not fit.fits:
        yield (
            f"the model does not fit: residuals are {np.median(fit.ratio):.3g} times the noise in the median voxel; is "
            "the sequence the one that was played, and are slice profile, B1 and the reconstruction right?"
        )
    for name in ("t1", "t2") if refined is None else ():
        values = np.unique(np.asarray(getattr(dictionary.tissue, name), float))
        found = getattr(maps, name)[maps.index >= 0]
        if values.size < 2:
            continue
        place = np.clip(np.searchsorted(values, found * (1 - 1e-6)), 0, values.size - 1)
        gaps = np.diff(values)
        off = np.maximum(np.append(gaps, 0)[place], np.insert(gaps, 0, 0)[place]) / (2 * values[place])
        if (coarse := off > _COARSE).any():
            yield (
                f"the grid is coarse for {name.upper()}: in {np.count_nonzero(coarse)} of {found.size} voxels its "
                f"steps alone put it off by up to {100 * off.max():.0f} % (refinement removes that, and so does a "
                "finer grid)"
            )


def with_signal(dictionary: Dictionary, images, threshold: float, directions: int = 1) -> np.ndarray:
    """Voxels above a share of the strong signals along the dictionary's first directions, holes filled.

    Aliases are as strong as signals in a frame, and have little of these directions.
    """
    if len(images) == dictionary.sequence.n_frames:
        basis = svd_basis(dictionary.fingerprints, directions) if dictionary.basis is None else dictionary.basis
        images = np.tensordot(basis[:, :directions].T, images, 1)
    strength = np.linalg.norm(images[:directions], axis=0)
    return ndimage.binary_fill_holes(strength > threshold * np.quantile(strength, 0.99))


def _digest(value):
    """A short name for arrays, to know them again in another process; of a dictionary, without its fingerprints."""
    if isinstance(value, Dictionary):
        value = dataclasses.replace(value, fingerprints=None, norms=np.asarray(value.norms))
    if value is None:
        return None
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(value)]
    parts = [part for leaf in leaves for part in (f"{leaf.dtype}{leaf.shape}".encode(), leaf.tobytes())]
    structure = str(jax.tree.structure(value)).encode()
    return hashlib.sha256(b"".join([structure, *parts])).hexdigest()[:16]
