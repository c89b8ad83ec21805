"""Parameter maps to NIfTI with sidecars, named as in BIDS, or to array files; maps of B1 and B0 from files."""

import pathlib

import nibabel
import numpy as np

import ganmrf
from ganmrf.dictionary.build import Dictionary
from ganmrf.dictionary.match import Maps
from ganmrf.dictionary.refine import Refined
from ganmrf.dictionary.slice_fields import model_of
from ganmrf.files import make_folder, read_json, replacing, write_arrays, write_json
from ganmrf.io.series import read_on_grid
from ganmrf.physics.sequences.kinds import KINDS
from ganmrf.physics.slice_profile import FullSlice, SliceModel, SliceProfile

_BIDS = "1.10.0"  # whose names and sidecars the maps have
_PERCENT = 10.0  # times the nominal flip angle: no transmit field has this, and percent have more
# Hz: fat is off by 1 kHz at 7 T, and slice-selective pulses hardly excite what is off by more than 2 kHz.
_FAR_OFF = 2e3
# Of BIDS for maps of B0, and what makes Hz of them: turns per radian, and protons' Hz per tesla (CODATA 2018).
_TO_HZ = {"Hz": 1.0, "rad/s": 1 / (2 * np.pi), "T": 42.577478518e6}
_RANGES = {  # field of a sequence -> its entry in sidecars
    "flip_angle": "FlipAngleRangeDegrees",
    "refocusing_angle": "RefocusingAngleRangeDegrees",
    "repetition_time": "RepetitionTimeRange",
    "echo_time": "EchoTimeRange",
    "echo_spacing": "EchoSpacingRange",
    "rr_intervals": "RRIntervalRange",
}
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
) -> dict[str, pathlib.Path]:
    """Writes ``T1map``, ``T2map`` (s), ``M0map`` (magnitude), ``part-phase_M0map`` (rad) and ``quality``.

    ``fieldmap``, off-resonance in Hz, is added where the maps have one.
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
        deviations ``desc-std_T1map``, ``desc-std_T2map`` (s) and ``desc-std_fieldmap`` (Hz) are added, where known.

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
    outputs, affine = map_outputs(maps, refined, with_b1), map_affine(affine, voxel_size)
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
        unnamed = "quality", "part-phase_M0map", "TB1map", "fieldmap"  # in BIDS the last two lie in fmap
        temporary.write_text("".join(f"*_{each}.*\n" for each in unnamed), "utf-8")


def map_files(folder, prefix: str = "") -> list[pathlib.Path]:
    """Every file that `write_maps` may write."""
    names = ["T1map", "T2map", "M0map", "part-phase_M0map", "quality", "TB1map", "fieldmap"]
    names += [f"desc-std_{name}" for name in ("T1map", "T2map", "fieldmap")]
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

    In the file: ``t1_s``, ``t2_s``, ``m0`` (complex), ``b1``, ``quality`` and ``index``, the row in the dictionary from
    0 on, -1 outside the mask; ``off_resonance_hz`` where the maps have one. With ``refined``, as in `write_maps`, also
    ``t1_std_s``, ``t2_std_s`` and ``off_resonance_std_hz``, where known.

    Raises:
      ValueError: another suffix, a folder that cannot be written, or refined maps of another shape.
    """
    _check_refined(maps, refined)
    best = maps if refined is None else refined
    arrays = {"t1_s": best.t1, "t2_s": best.t2, "m0": best.m0, "b1": best.b1}
    arrays |= {"off_resonance_hz": best.off_resonance, "quality": maps.quality, "index": maps.index}
    if refined is not None and refined.has_error_bars:
        arrays |= {"t1_std_s": refined.t1_std, "t2_std_s": refined.t2_std}
        arrays |= {"off_resonance_std_hz": refined.off_resonance_std}
    write_arrays(path, {name: values for name, values in arrays.items() if values is not None})


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
    off_resonance, kinds = tissue.off_resonance, [kind for kind, cls in KINDS.items() if type(sequence) is cls]
    played = {"Kind": kinds[0] if kinds else "blocks", "Frames": sequence.n_frames}
    for name, entry in _RANGES.items():
        if hasattr(sequence, name):
            values = getattr(sequence, name)
            played[entry] = bounds(np.rad2deg(values) if entry.endswith("Degrees") else values)
    if hasattr(sequence, "inversion_time"):
        inversion = sequence.inversion_time
        played["InversionTime"] = None if inversion is None else bounds(inversion)[0]
    return {
        "Dictionary": {
            "Atoms": len(dictionary.fingerprints),
            "Rank": None if dictionary.basis is None else dictionary.basis.shape[1],
            "T1Range": bounds(tissue.t1),
            "T2Range": bounds(tissue.t2),
            "B1Range": bounds(tissue.b1),
            "OffResonanceRange": None if off_resonance is None else bounds(off_resonance),
            "SliceProfile": dictionary.slice_profile is not None,
            "SliceModel": _describe_slice(dictionary.slice_profile),
        },
        "Sequence": played,
    }


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


def _check_refined(maps, refined):
    if refined is not None and refined.t1.shape != maps.t1.shape:
        raise ValueError(f"refined maps have shape {refined.t1.shape}, but the matched ones have {maps.t1.shape}")


def map_affine(affine, voxel_size: tuple[float, float, float]) -> np.ndarray:
    """The affine of maps, mm: as it is, or None for a grid along the axes with ``voxel_size`` along (z, y, x), m.

    Raises:
      ValueError: an affine that is not (4, 4) and invertible.
    """
    affine = np.diag([*np.multiply(1e3, voxel_size)[::-1], 1.0]) if affine is None else np.asarray(affine, float)
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or np.linalg.matrix_rank(affine) < 4:
        raise ValueError(f"affine must be an invertible (4, 4) matrix; got {affine.tolist()}")
    return affine


def map_outputs(maps: Maps, refined: Refined | None, with_b1: bool) -> dict[str, tuple[np.ndarray, dict]]:
    """Name of each map -> its values, 0 outside the mask, and the sidecar entries that belong to this map alone.

    Raises:
      ValueError: more than three spatial axes, or refined maps of another shape.
    """
    if not 1 <= maps.t1.ndim <= 3:
        raise ValueError(f"maps must have 1 to 3 spatial axes; got shape {maps.t1.shape}")
    _check_refined(maps, refined)
    matching = "dictionary matching: the atom of largest normalised inner product"
    algorithm = matching if refined is None else "dictionary matching, refined by Gauss-Newton"
    best = maps if refined is None else refined
    common = {
        "EstimationReference": "doi:10.1038/nature11971",
        "GeneratedBy": [{"Name": "ganmrf", "Version": ganmrf.__version__}],
        "SkullStripped": False,  # a mask may be anything
    }
    m0 = "complex scale between the images and the fingerprint for M0 = 1"
    described = {
        "T1map": (best.t1, "s", "longitudinal relaxation time"),
        "T2map": (best.t2, "s", "transverse relaxation time"),
        "M0map": (np.abs(best.m0), "arbitrary", f"magnitude of the {m0}; its phase is in part-phase_M0map"),
        "part-phase_M0map": (np.angle(best.m0), "rad", f"phase of the {m0}; its magnitude is in M0map"),
        "quality": (maps.quality, "1", "normalised inner product with the matched atom, 0 to 1"),
    }
    if best.off_resonance is not None:
        text = "off-resonance: frequency of the spins less that of the scanner, of the same sign as B0's deviation"
        described["fieldmap"] = (best.off_resonance, "Hz", text)
    if refined is not None and refined.has_error_bars:
        stds = ("T1map", refined.t1_std), ("T2map", refined.t2_std), ("fieldmap", refined.off_resonance_std)
        for name, values in (each for each in stds if each[1] is not None):
            text = f"standard deviation of {name}, by the Cramer-Rao bound"
            described[f"desc-std_{name}"] = (values, described[name][1], text)
    if with_b1:
        b1 = "transmit field B1+ that was matched with: actual flip angle in percent of the nominal one"
        described["TB1map"] = (100 * best.b1, "arbitrary", b1)  # BIDS names this unit and recommends percent

    outputs = {}
    for name, (values, unit, text) in described.items():
        used = matching if name == "quality" else algorithm
        entries = {"Description": text, "Units": unit, "EstimationAlgorithm": used, **common}
        outputs[name] = np.where(maps.index >= 0, values, 0), entries
    return outputs
