"""Maps of volume fractions to NIfTI with sidecars, named as in BIDS."""

import pathlib
from collections.abc import Sequence

import numpy as np

import ganmrf
from ganmrf.dictionary.fractions import Fractions
from ganmrf.files import make_folder, write_json
from ganmrf.io.maps import file_stem, map_affine, write_image
from ganmrf.physics.tissue import parameters, variable_name


def write_fractions(
    folder,
    fractions: Fractions,
    names: Sequence[str],
    *,
    prefix: str = "",
    affine=None,
    voxel_size: tuple[float, float, float] = (1e-3, 1e-3, 1e-3),
    sidecar: dict | None = None,
) -> dict[str, pathlib.Path]:
    """Writes ``desc-NAME_fractionmap`` and its standard deviation, ``desc-NAMEstd_fractionmap``, of each component.

    ``M0map`` (magnitude), ``part-phase_M0map`` (rad) and ``residual`` are added. Each map is a float32 ``.nii.gz`` with
    axes (x, y, z) and a ``.json`` of the same name, which has the T1 and T2 of the component, s; voxels that were not
    fitted are 0. Every file is written whole or not at all.

    Args:
      folder: folder of the files; created where it is missing.
      fractions: the fractions, of one to three spatial axes, in the order (z, y, x).
      names: of the components, letters and digits alone, as `check_names` has it.
      prefix: BIDS entities before the names, such as ``sub-01``.
      affine: (4, 4), from voxel indices (x, y, z) to positions in mm; None for a grid along the axes with
        ``voxel_size`` and the origin in its first voxel.
      voxel_size: along (z, y, x), m.
      sidecar: entries to add to every sidecar.

    Returns:
      The paths of the images, by name (without the prefix).

    Raises:
      ValueError: names that `check_names` refuses, a folder that cannot be written, or more than three spatial axes.
    """
    check_names(names, len(fractions.fractions))
    if not 1 <= fractions.m0.ndim <= 3:
        raise ValueError(f"maps must have 1 to 3 spatial axes; got shape {fractions.m0.shape}")
    folder, stem = make_folder(folder), file_stem(prefix)
    code, affine = "aligned" if affine is None else "scanner", map_affine(affine, voxel_size)
    common = {"GeneratedBy": [{"Name": "ganmrf", "Version": ganmrf.__version__}]} | (sidecar or {})
    paths = {}
    for name, (values, entries) in _outputs(fractions, names).items():
        paths[name] = folder / f"{stem}{name}.nii.gz"
        write_image(paths[name], values, affine, code)
        write_json(folder / f"{stem}{name}.json", entries | common)
    return paths


def fraction_files(folder, names: Sequence[str], prefix: str = "") -> list[pathlib.Path]:
    """Every file that `write_fractions` writes."""
    maps = [f"desc-{name}{std}_fractionmap" for name in names for std in ("", "std")]
    maps += ["M0map", "part-phase_M0map", "residual"]
    stem = file_stem(prefix)
    return [pathlib.Path(folder) / f"{stem}{each}{suffix}" for each in maps for suffix in (".nii.gz", ".json")]


def check_names(names: Sequence[str], count: int):
    """Raises `ValueError` unless there are ``count`` names, all different, of ASCII letters and digits alone."""
    for name in names:
        if not (name.isascii() and name.isalnum()) or name.endswith("std"):
            raise ValueError(f"names must be of letters and digits alone, and not end in std; got {name!r}")
    if len(set(names)) != len(names):
        raise ValueError(f"names must differ; got {', '.join(names)}")
    if len(names) != count:
        raise ValueError(f"names must be {count}, one for each component; got {len(names)}")


def _outputs(fractions, names):
    """Name of each map -> its values, and the sidecar entries that belong to this map alone."""
    tissue = fractions.components
    m0 = "complex scale between the images and the mixed signal for M0 = 1"
    described = {}
    for row, name in enumerate(names):
        facts = {}
        for field, parameter in parameters(tissue).items():
            if (own := getattr(tissue, field)) is not None:
                facts[variable_name(field, parameter)] = float(f"{np.broadcast_to(own, tissue.shape)[row]:.6g}")
        text = f"part of M0 that the component {name} has"
        entries = {"Units": "1", "Component": facts, "EstimationAlgorithm": "non-negative least squares"}
        described[f"desc-{name}_fractionmap"] = fractions.fractions[row], {"Description": text} | entries
        text = f"standard deviation of {text}, by the Cramer-Rao bound"
        described[f"desc-{name}std_fractionmap"] = fractions.stds[row], {"Description": text} | entries
    described["M0map"] = np.abs(fractions.m0), {"Description": f"magnitude of the {m0}", "Units": "arbitrary"}
    described["part-phase_M0map"] = np.angle(fractions.m0), {"Description": f"phase of the {m0}", "Units": "rad"}
    text = "norm of what the fit leaves over that of the signal"
    described["residual"] = fractions.residual, {"Description": text, "Units": "1"}
    return described
