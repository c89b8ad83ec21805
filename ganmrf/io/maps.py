"""Parameter maps to NIfTI with sidecars, named as in BIDS, or to array files."""

import pathlib
from collections.abc import Collection

import nibabel
import numpy as np

import ganmrf
from ganmrf.dictionary.build import Dictionary
from ganmrf.dictionary.match import Maps
from ganmrf.dictionary.refine import Refined
from ganmrf.dictionary.slice_fields import model_of
from ganmrf.files import make_folder, replacing, write_arrays, write_json
from ganmrf.physics.sequences.kinds import KINDS
from ganmrf.physics.slice_profile import FullSlice, SliceModel, SliceProfile
from ganmrf.physics.tissue import FACTS, kind_of_tissue, variable_name

_BIDS = "1.10.0"  # whose names and sidecars the maps have
_RANGES = {  # field of a sequence -> its entry in sidecars
    "flip_angle": "FlipAngleRangeDegrees",
    "refocusing_angle": "RefocusingAngleRangeDegrees",
    "repetition_time": "RepetitionTimeRange",
    "echo_time": "EchoTimeRange",
    "echo_spacing": "EchoSpacingRange",
    "rr_intervals": "RRIntervalRange",
    "pulse_duration": "PulseDurationRange",
    "pulse_shape": "PulseShapeRange",
    "saturation_angle": "SaturationAngleRangeDegrees",
}
_M0 = "complex scale between the images and the fingerprint for M0 = 1"
_MEANINGS = {  # of parameters of which there is more to say
    "b1": "transmit field B1+ that was fitted or matched with: actual flip angle in percent of the nominal one",
    "off_resonance": "off-resonance: frequency of the spins less that of the scanner, of the sign of B0's deviation",
}
_OF_BIDS = "T1map", "T2map"  # what BIDS has of the maps of parameters among anatomical images
_LONGEST_PREFIX = 200  # bytes, of the 255 that names of files may have: the rest of the longest, and room


def write_maps(
    folder,
    maps: Maps,
    *,
    prefix: str = "",
    affine=None,
    voxel_size: tuple[float, float, float] = (1e-3, 1e-3, 1e-3),
    sidecar: dict | None = None,
    with_b1: bool = False,
    refined: Refined | None = None,
    fields: Collection[str] | None = None,
    algorithm: str | None = None,
) -> dict[str, pathlib.Path]:
    """Writes ``T1map``, ``T2map`` (s), ``M0map`` (magnitude), ``part-phase_M0map`` (rad) and ``quality``.

    Other parameters that the maps have, named by their `Parameter`, are added in SI units: ``fieldmap``, off-resonance,
    ``fractionmap`` and so on.
    Each map is a float32 ``.nii.gz`` with axes (x, y, z) and a ``.json`` of the same name; voxels outside the mask
    (``maps.index`` < 0) are 0. Every file is written whole or not at all.

    Args:
      folder: folder of the files; created where it is missing.
      maps: the result of a match, fields of shape (x,), (y, x) or (z, y, x).
      prefix: BIDS entities before the names, such as ``sub-01``; the underscore after it may be left out.
      affine: (4, 4), from voxel indices (x, y, z) to positions in mm; None for a grid along the axes with
        ``voxel_size`` and the origin in its first voxel.
      voxel_size: along (z, y, x), m.
      sidecar: entries to add to every sidecar, such as those of `describe`.
      with_b1: adds ``TB1map`` in percent, as BIDS recommends: 100 where the flip angle is the nominal one.
      refined: result of `refine` for these maps. All maps but ``quality`` are then taken from it, and the standard
        deviations of what was fitted are added where they are known (`std_name`): ``desc-std_T1map`` and so on.
      fields: names of the parameters to write; None for all that the maps have. (B1 is written ``with_b1``.)
      algorithm: how the maps were found, in words, where no atoms were matched; ``quality`` then is that of the fit.

    Returns:
      The paths of the images, by name (without the prefix).

    Raises:
      ValueError: a folder that cannot be written, a prefix with a path in it, more than three spatial axes, refined
        maps of another shape, or an affine that is not (4, 4) and invertible.

    References:
      BIDS specification, appendix "Quantitative MRI", https://bids-specification.readthedocs.io.
    """
    folder = make_folder(folder)
    stem, code = file_stem(prefix), "aligned" if affine is None else "scanner"
    outputs, affine = map_outputs(maps, refined, with_b1, fields, algorithm), map_affine(affine, voxel_size)
    paths = {}
    for name, (values, entries) in outputs.items():
        paths[name] = folder / f"{stem}{name}.nii.gz"
        write_image(paths[name], values, affine, code)
        write_json(folder / f"{stem}{name}.json", entries | (sidecar or {}))
    return paths


def write_dataset(folder, name: str):
    """Makes a folder a derived BIDS dataset, of maps written to ``sub-01/anat`` with the prefix ``sub-01`` and so on.

    Writes ``dataset_description.json``, and ``.bidsignore`` with the maps that BIDS has no name for there.

    Raises:
      ValueError: a folder that cannot be written.
    """
    folder, version = make_folder(folder), {"Name": "ganmrf", "Version": ganmrf.__version__}
    content = {"Name": name, "BIDSVersion": _BIDS, "DatasetType": "derivative", "GeneratedBy": [version]}
    write_json(folder / "dataset_description.json", content)
    with replacing(folder / ".bidsignore") as temporary:
        unnamed = ["quality", "part-phase_M0map", *(facts.suffix for facts in FACTS.values())]  # some BIDS has in fmap
        unnamed = [each for each in unnamed if not each.endswith(_OF_BIDS)]
        temporary.write_text("".join(f"*_{each}.*\n" for each in unnamed), "utf-8")


def std_name(suffix: str) -> str:
    """The name of the standard deviation of a map: ``desc-std_T1map``, or of a map with a ``desc-X``, ``desc-Xstd``."""
    described, found, rest = suffix.rpartition("_")
    return f"{described}std_{rest}" if found else f"desc-std_{suffix}"


def map_files(folder, prefix: str = "") -> list[pathlib.Path]:
    """Every file that `write_maps` may write."""
    suffixes = [facts.suffix for facts in FACTS.values()]
    names = [*suffixes, *map(std_name, suffixes), "M0map", "part-phase_M0map", "quality"]
    return [pathlib.Path(folder) / f"{file_stem(prefix)}{n}{suffix}" for n in names for suffix in (".nii.gz", ".json")]


def file_stem(prefix: str) -> str:
    """The start of file names: BIDS entities and an underscore, or nothing.

    Raises:
      ValueError: a prefix with a path, or one too long for the name of a file.
    """
    if "/" in prefix or "\\" in prefix:
        raise ValueError(f"prefix must not hold a path; got {prefix!r}")
    if len(prefix.encode(errors="replace")) > _LONGEST_PREFIX:
        raise ValueError(f"prefix must have {_LONGEST_PREFIX} bytes at most; got {len(prefix)} characters")
    return f"{prefix.removesuffix('_')}_" if prefix else ""


def save_maps(path, maps: Maps, *, refined: Refined | None = None):
    """Writes maps to one ``.npz`` or ``.mat`` (v5) file, whole or not at all, with the axes of ``maps``.

    In the file: every parameter by its name and SI unit (`variable_name`), ``t1_s``, ``t2_s``, ``b1`` and so on; ``m0``
    (complex), ``quality`` and ``index``, the row in the dictionary from 0 on, -1 outside the mask. With ``refined``, as
    in `write_maps`, also the standard deviations of what was fitted, where known: ``t1_std_s`` and so on.

    Raises:
      ValueError: another suffix, a folder that cannot be written, or refined maps of another shape.
    """
    _check_refined(maps, refined)
    best = maps if refined is None else refined
    arrays = {variable_name(field, FACTS[field]): values for field, values in best.parameters.items()}
    arrays |= {"m0": best.m0, "quality": maps.quality, "index": maps.index}
    if refined is not None and refined.has_error_bars:
        arrays |= {variable_name(f"{field}_std", FACTS[field]): std for field, std in refined.stds.items()}
    write_arrays(path, arrays)


def write_image(path, values, affine, code: str = "scanner"):
    """Writes one real map, (x,), (y, x) or (z, y, x), as float32 NIfTI, whole or not at all.

    ``affine``, (4, 4), leads from voxel indices (x, y, z) to positions in mm; its NIfTI ``code`` is ``scanner``, or
    ``aligned`` where the place in the scanner is not known.
    """
    values = np.asarray(values, np.float32).T
    image = nibabel.Nifti1Image(values.reshape(values.shape + (1,) * (3 - values.ndim)), affine)
    image.set_sform(affine, code)
    image.set_qform(affine, code)
    image.header.set_xyzt_units("mm")
    with replacing(path) as temporary:
        nibabel.save(image, temporary)


def describe(dictionary: Dictionary) -> dict:
    """Tissue ranges, slice and sequence of a dictionary as JSON entries for a sidecar; ranges are [lowest, highest].

    Of the sequence, in s, Hz and degrees, there are the ranges that its kind has; of the slice the model that was
    simulated, null where it is uniform.
    """

    def bounds(values):
        return [float(f"{value:.6g}") for value in (np.min(values), np.max(values))]

    tissue, sequence = dictionary.tissue, dictionary.sequence
    kinds = [kind for kind, cls in KINDS.items() if type(sequence) is cls]
    played = {"Kind": kinds[0] if kinds else "blocks", "Frames": sequence.n_frames}
    for name, entry in _RANGES.items():
        if (values := getattr(sequence, name, None)) is not None:
            played[entry] = bounds(np.rad2deg(values) if entry.endswith("Degrees") else values)
    if hasattr(sequence, "inversion_time"):
        inversion = sequence.inversion_time
        played["InversionTime"] = None if inversion is None else bounds(inversion)[0]
    return {
        "Dictionary": {
            "Atoms": len(dictionary.fingerprints),
            "Rank": None if dictionary.basis is None else dictionary.basis.shape[1],
            "Tissue": kind_of_tissue(tissue),
            **{_entry(field): None if values is None else bounds(values) for field, values in vars(tissue).items()},
            "SliceProfile": dictionary.slice_profile is not None,
            "SliceModel": _describe_slice(dictionary.slice_profile),
        },
        "Sequence": played,
    }


def _entry(field):
    """``OffResonanceRange``."""
    return f"{''.join(part.capitalize() for part in field.split('_'))}Range"


def _describe_slice(profile: SliceModel | None):
    """The model of a slice, and its pulse and spoiler where it has them: turns are those across one thickness."""
    if profile is None:
        return None
    named = {"Name": model_of(profile)}
    if isinstance(profile, SliceProfile):
        return named | {"Nodes": np.size(profile.nodes)}
    named |= {"TimeBandwidthProduct": profile.pulse.time_bandwidth, "PulseSamples": profile.pulse.samples.size}
    if isinstance(profile, FullSlice):
        return named | {"SpoilerTurns": profile.turns}
    return named | {"Positions": profile.n_positions, "PulsePhases": profile.phases}


def _check_refined(maps, refined):
    if refined is not None and refined.shape != maps.shape:
        raise ValueError(f"refined maps have shape {refined.shape}, but the matched ones have {maps.shape}")


def map_affine(affine, voxel_size: tuple[float, float, float]) -> np.ndarray:
    """The affine of maps, mm: as it is, or None for a grid along the axes with ``voxel_size`` along (z, y, x), m.

    Raises:
      ValueError: an affine that is not (4, 4) and invertible.
    """
    affine = np.diag([*np.multiply(1e3, voxel_size)[::-1], 1.0]) if affine is None else np.asarray(affine, float)
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or np.linalg.matrix_rank(affine) < 4:
        raise ValueError(f"affine must be an invertible (4, 4) matrix; got {affine.tolist()}")
    return affine


def map_outputs(
    maps: Maps,
    refined: Refined | None,
    with_b1: bool,
    fields: Collection[str] | None = None,
    algorithm: str | None = None,
) -> dict[str, tuple[np.ndarray, dict]]:
    """Name of each map -> its values, 0 outside the mask, and the sidecar entries that belong to this map alone.

    Raises:
      ValueError: more than three spatial axes, or refined maps of another shape.
    """
    if not 1 <= len(maps.shape) <= 3:
        raise ValueError(f"maps must have 1 to 3 spatial axes; got shape {maps.shape}")
    _check_refined(maps, refined)
    matching = algorithm or "dictionary matching: the atom of largest normalised inner product"
    other = "the matched atom" if algorithm is None else "the fit"
    algorithm = matching if refined is None or algorithm else "dictionary matching, refined by Gauss-Newton"
    common = {
        "EstimationReference": "doi:10.1038/nature11971",
        "GeneratedBy": [{"Name": "ganmrf", "Version": ganmrf.__version__}],
        "SkullStripped": False,  # a mask may be anything
    }
    outputs = {}
    for name, (values, unit, text) in _described(maps, refined, with_b1, fields, other).items():
        used = matching if name == "quality" else algorithm
        entries = {"Description": text, "Units": unit, "EstimationAlgorithm": used, **common}
        outputs[name] = np.where(maps.index >= 0, values, 0), entries
    return outputs


def _described(maps, refined, with_b1, fields, other):
    """Name of each map -> its values, unit and description."""
    best, stds = maps if refined is None else refined, {}
    chosen = [each for each in best.parameters if each != "b1" and (fields is None or each in fields)]
    found = {FACTS[each].suffix: _of_parameter(each, best.parameters[each]) for each in chosen}
    if refined is not None and refined.has_error_bars:
        stds = {each: std for each, std in refined.stds.items() if each in chosen or (each == "b1" and with_b1)}
    times = {name: found.pop(name) for name in _OF_BIDS if name in found}
    return {
        **times,
        "M0map": (np.abs(best.m0), "arbitrary", f"magnitude of the {_M0}; its phase is in part-phase_M0map"),
        "part-phase_M0map": (np.angle(best.m0), "rad", f"phase of the {_M0}; its magnitude is in M0map"),
        "quality": (maps.quality, "1", f"normalised inner product with {other}, 0 to 1"),
        **found,
        **{std_name(FACTS[each].suffix): _of_std(each, std) for each, std in stds.items()},
        **({FACTS["b1"].suffix: _of_parameter("b1", best.b1)} if with_b1 else {}),
    }


def _of_parameter(field, values):
    if field == "b1":  # BIDS names this unit and recommends percent
        return 100 * values, "arbitrary", _MEANINGS[field]
    return values, FACTS[field].unit or "1", _MEANINGS.get(field, FACTS[field].meaning)


def _of_std(field, std):
    values, unit, _ = _of_parameter(field, std)
    return values, unit, f"standard deviation of {FACTS[field].suffix}, by the Cramer-Rao bound"
