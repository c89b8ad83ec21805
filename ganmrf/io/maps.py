"""Parameter maps to NIfTI with JSON sidecars, named as BIDS names quantitative maps; B1 maps from files."""

import json
import pathlib
import tempfile

import nibabel
import numpy as np

import ganmrf
from ganmrf.atomic import replacing
from ganmrf.dictionary.build import Dictionary
from ganmrf.dictionary.match import Maps
from ganmrf.io.series import is_nifti, read_array, read_nifti


def write_maps(
    folder,
    maps: Maps,
    *,
    prefix: str = "",
    affine=None,
    voxel_size: tuple[float, float, float] = (1e-3, 1e-3, 1e-3),
    sidecar: dict | None = None,
    with_b1: bool = False,
) -> dict[str, pathlib.Path]:
    """Writes ``T1map``, ``T2map`` (s), ``M0map`` (magnitude), ``part-phase_M0map`` (rad) and ``quality``.

    ``TB1map``, if asked for, is in percent, as BIDS recommends: 100 where the flip angle is the nominal one.
    Each is a float32 ``.nii.gz`` with axes (x, y, z) and a ``.json`` of the same name; voxels outside the mask
    (``maps.index`` < 0) are 0. Every file is written whole or not at all.

    Args:
      folder: where the files go; created where it is missing.
      maps: the result of a match, fields of shape (x,), (y, x) or (z, y, x).
      prefix: BIDS entities before the names, such as ``sub-01``; the underscore after it may be left out.
      affine: (4, 4), from voxel indices (x, y, z) to positions in mm; None for a grid along the axes with
        ``voxel_size`` and the origin in its first voxel.
      voxel_size: size of a voxel along (z, y, x), m, where ``affine`` is None.
      sidecar: entries to add to every sidecar, such as `describe` gives.
      with_b1: whether to write ``TB1map``.

    Returns:
      The paths of the images, by name (without the prefix).

    Raises:
      ValueError: a folder that cannot be written, a prefix with a path in it, more than three spatial axes, or an
        affine that is not (4, 4) and invertible.

    References:
      BIDS specification, appendix "Quantitative MRI", https://bids-specification.readthedocs.io.
    """
    folder = make_folder(folder)
    if "/" in prefix or "\\" in prefix:
        raise ValueError(f"prefix must not hold a path; got {prefix!r}")
    if not 1 <= maps.t1.ndim <= 3:
        raise ValueError(f"maps must have 1 to 3 spatial axes; got shape {maps.t1.shape}")
    known = affine is not None
    affine = np.asarray(affine, float) if known else np.diag([*np.multiply(1e3, voxel_size)[::-1], 1.0])
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or np.linalg.matrix_rank(affine) < 4:
        raise ValueError(f"affine must be an invertible (4, 4) matrix; got {affine.tolist()}")
    stem = f"{prefix.removesuffix('_')}_" if prefix else ""
    paths = {}
    for name, (values, entries) in _outputs(maps, with_b1).items():
        paths[name] = folder / f"{stem}{name}.nii.gz"
        _write_image(paths[name], np.where(maps.index >= 0, values, 0), affine, "scanner" if known else "aligned")
        text = json.dumps({**entries, **(sidecar or {})}, indent=2)
        with replacing(folder / f"{stem}{name}.json") as path:
            path.write_text(text + "\n")
    return paths


def describe(dictionary: Dictionary) -> dict:
    """What a dictionary was simulated from, in a few JSON entries for a sidecar; ranges are [lowest, highest]."""

    def bounds(values):
        return [float(f"{value:.6g}") for value in (np.min(values), np.max(values))]

    tissue, sequence = dictionary.tissue, dictionary.sequence
    inversion = sequence.inversion_time
    return {
        "Dictionary": {
            "Atoms": len(dictionary.fingerprints),
            "Rank": None if dictionary.basis is None else dictionary.basis.shape[1],
            "T1Range": bounds(tissue.t1),
            "T2Range": bounds(tissue.t2),
            "B1Range": bounds(tissue.b1),
            "SliceProfile": dictionary.slice_profile is not None,
        },
        "Sequence": {
            "Frames": sequence.n_frames,
            "FlipAngleRangeDegrees": bounds(np.rad2deg(sequence.flip_angle)),
            "RepetitionTimeRange": bounds(sequence.repetition_time),
            "EchoTimeRange": bounds(sequence.echo_time),
            "InversionTime": None if inversion is None else bounds(inversion)[0],
        },
    }


def make_folder(folder) -> pathlib.Path:
    """Creates a folder where it is missing and proves that it can be written: before the work, not after it.

    Raises:
      ValueError: it cannot.
    """
    folder = pathlib.Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(f"cannot write to {folder}: {error.strerror}") from error
    return folder


def read_b1_map(path, shape: tuple[int, ...], *, scale: float = 1.0) -> np.ndarray:
    """Reads a map of B1+, actual over nominal flip angle.

    The file is ``.nii`` or ``.nii.gz`` with (x, y, z), or ``.npz`` or ``.mat`` with an array ``b1`` or one numeric
    array only, in the order of the series' spatial axes.

    Args:
      path: the file.
      shape: the spatial shape of the series; axes of length 1 may be absent from the file (MATLAB drops them).
      scale: what its values are multiplied by: 0.01 where they are percent.

    Returns:
      float64, of that shape; values that are not finite stay so.

    Raises:
      ValueError: as `read_series`; a map of another shape, complex values, or a scale that is not positive and finite.
    """
    path = pathlib.Path(path)
    if not 0 < scale < np.inf:
        raise ValueError(f"scale of a B1 map must be positive and finite; got {scale:g}")
    b1 = read_nifti(path)[0] if is_nifti(path) else read_array(path, None, "b1", min_ndim=1)
    if [n for n in b1.shape if n > 1] != [n for n in shape if n > 1]:
        raise ValueError(f"{path}: the B1 map has shape {b1.shape}, but the images have {tuple(shape)}")
    if np.iscomplexobj(b1):
        raise ValueError(f"{path}: a B1 map must be real; got {b1.dtype}")
    return scale * b1.reshape(shape).astype(float)


def _outputs(maps, with_b1):
    """Name: values and the sidecar entries of that map alone."""
    common = {
        "EstimationAlgorithm": "dictionary matching: the atom of largest normalised inner product",
        "EstimationReference": "doi:10.1038/nature11971",
        "GeneratedBy": [{"Name": "ganmrf", "Version": ganmrf.__version__}],
    }
    m0 = "complex scale between the images and the fingerprint for M0 = 1"
    described = {
        "T1map": (maps.t1, "s", "longitudinal relaxation time"),
        "T2map": (maps.t2, "s", "transverse relaxation time"),
        "M0map": (np.abs(maps.m0), "arbitrary", f"magnitude of the {m0}; its phase is in part-phase_M0map"),
        "part-phase_M0map": (np.angle(maps.m0), "rad", f"phase of the {m0}; its magnitude is in M0map"),
        "quality": (maps.quality, "1", "normalised inner product with the matched atom, 0 to 1"),
    }
    if with_b1:
        b1 = "transmit field B1+ of the matched atom: actual flip angle in percent of the nominal one"
        described["TB1map"] = (100 * maps.b1, "arbitrary", b1)  # BIDS names this unit and recommends percent
    return {
        name: (values, {"Description": text, "Units": unit, **common})
        for name, (values, unit, text) in described.items()
    }


def _write_image(path, values, affine, code):
    values = np.asarray(values, np.float32).T
    image = nibabel.Nifti1Image(values.reshape(values.shape + (1,) * (3 - values.ndim)), affine)
    image.set_sform(affine, code)
    image.set_qform(affine, code)
    image.header.set_xyzt_units("mm")
    with replacing(path) as temporary:
        nibabel.save(image, temporary)
