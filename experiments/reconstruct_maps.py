"""From a scan to T1, T2 and M0 maps with error bars, and a report: raw data or an image series in.

Example::

    python -m experiments.reconstruct_maps --input=scan.h5 --output=runs/scan
    python -m experiments.reconstruct_maps --input=images.nii.gz --schedule=mrf.seq --mask=brain.nii.gz --output=maps

Raw data is ISMRMRD/MRD (``.h5``, ``.mrd``), with its trajectory or one of ``--trajectory`` (``.npz``, ``.mat``, or the
``.seq`` that was played), and its sequence or one of the flags. Coils are combined into ``--virtual_coils``, their
sensitivities estimated from the scan, and ``--method`` reconstructs: ``sense``, least squares for the coefficients of a
temporal basis; ``low_rank``, the same with a locally low-rank prior; ``gridding``, those coefficients by gridding; or
``frames``, each frame gridded by itself as in the GAN-MRF paper. An image series is ``.nii``, ``.nii.gz``, ``.npz`` or
``.mat``. Every voxel with signal, or of ``--mask``, is matched, and the maps are refined between the atoms with the
Cramer-Rao bound as error bar. Every stage is kept in the output folder: called again, the command goes on where it was
cut off.
"""

import dataclasses
import json
import pathlib
import shutil
import sys

import numpy as np
from absl import flags

from experiments.flags import sequence_flags
from experiments.flags.command_line import given_flags, run
from experiments.reports.scan import write_reconstruction_report
from ganmrf.files import replacing
from ganmrf.imaging.pipeline import METHODS
from ganmrf.io.maps import describe, file_stem, save_maps, write_maps
from ganmrf.io.mrd import write_mrd_images
from ganmrf.runs.configs import SimulationConfig
from ganmrf.runs.workdir import Workdir
from ganmrf.scan_to_maps import ReconstructionConfig, is_raw, map_scan

flags.adopt_module_key_flags(sequence_flags)
_FORMATS = ("nifti", "npz", "mat", "mrd")
_OUTPUT = flags.DEFINE_string("output", None, "folder of the maps, the report and the stages", required=True)
_ALSO = flags.DEFINE_list(
    "also", [], f"further formats of the maps beside NIfTI: {', '.join(_FORMATS[1:])}; mrd of raw data"
)
_PREFIX = flags.DEFINE_string("prefix", "", "start of the NIfTI file names, such as sub-01")
_FLAGS = {
    "input": flags.DEFINE_string("input", None, "raw data, .h5 or .mrd, or image series", required=True),
    "dictionary": flags.DEFINE_string("dictionary", None, "to match with; default: simulated from the flags"),
    "method": flags.DEFINE_enum("method", "sense", list(METHODS), "of reconstruction"),
    "rank": flags.DEFINE_integer("rank", 6, "of the temporal basis; --dictionary with a basis has its own", 2),
    "virtual_coils": flags.DEFINE_integer("virtual_coils", 10, "what coils are combined into; 0: as they are", 0),
    "iterations": flags.DEFINE_integer("iterations", 6, "of conjugate gradients: fewer leave noise out", 1),
    "threshold": flags.DEFINE_float("threshold", 5e-4, "of the low-rank prior, of the largest singular value", 0),
    "trajectory": flags.DEFINE_string("trajectory", None, "of the raw data, .npz, .mat or .seq; default: the file's"),
    "trajectory_units": flags.DEFINE_enum("trajectory_units", None, ["voxel", "fov", "1/m"], "default: as it seems"),
    "frame_counter": flags.DEFINE_string("frame_counter", None, "MRD counter of the frames; default: as it seems"),
    "slice": flags.DEFINE_integer("slice", None, "slice of the raw data, where there are several"),
    "variable": flags.DEFINE_string("variable", None, "array of the series in .npz or .mat; default: images"),
    "frame_axis": flags.DEFINE_integer("frame_axis", None, "of the frames; default: first in .npz, last in .mat"),
    "mask": flags.DEFINE_string("mask", None, "voxels to match; default: those with a tenth of the strongest signal"),
    "b1_map": flags.DEFINE_string("b1_map", None, "B1 map, actual over nominal flip angle; goes with --b1"),
    "b1_scale": flags.DEFINE_float("b1_scale", 1.0, "what values of --b1_map are multiplied by: 0.01 for percent"),
    "refine": flags.DEFINE_bool("refine", True, "fit T1 and T2 between the atoms, with error bars"),
}


def main():
    """Maps the scan, and writes what came out."""
    if wrong := [name for name in _ALSO.value if name not in _FORMATS]:
        raise ValueError(f"--also must be of {', '.join(_FORMATS[1:])}; got {', '.join(wrong)}")
    file_stem(_PREFIX.value)  # refused here, not after the work
    settings = {"simulation": dataclasses.asdict(sequence_flags.simulation_config())}
    settings |= {name: flag.value for name, flag in _FLAGS.items()}
    with Workdir(_OUTPUT.value, settings, given_flags()) as workdir:
        settings = dict(workdir.config)
        simulation = SimulationConfig(**settings.pop("simulation"))
        scan_path = settings.pop("input")
        config = ReconstructionConfig(**settings)
        named = simulation.schedule, simulation.frames, simulation.echo_time_ms, simulation.inversion_time_ms
        try:
            if "mrd" in _ALSO.value and not is_raw(scan_path):
                raise ValueError(f"--also=mrd goes with raw data, .h5 or .mrd; got --input={scan_path}")
            results = map_scan(
                scan_path,
                workdir.path / "stages",
                sequence=None if all(value is None for value in named) else simulation.sequence(),
                tissue=simulation.tissue(),
                slice_profile=simulation.slice_profile(),
                config=config,
                progress=sys.stderr.isatty(),
            )
        except ValueError:
            if not workdir.begun:  # bad input: the same folder may be used again once it is mended
                shutil.rmtree(workdir.path / "stages", ignore_errors=True)
                workdir.abandon()
            raise
        _write(workdir.path, scan_path, config, results)
        write_reconstruction_report(workdir.path / "report.html", workdir.config, results)
    matched = results.maps.index >= 0
    best = results.refined or results.maps
    t1, t2 = (np.median(values[matched]) for values in (best.t1, best.t2))
    print(f"{matched.sum()} voxels, median T1 {t1:.4g} s, T2 {t2:.4g} s, quality {_median_quality(results):.4f}")
    print(f"report: {workdir.path / 'report.html'}")


def _write(folder: pathlib.Path, scan_path, config, results):
    """The maps in every format, and what there is to say in numbers."""
    best = results.refined or results.maps
    sidecar = {
        "Sources": [scan_path, *config.files],
        "Reconstruction": METHODS[config.method] if is_raw(scan_path) else None,
    }
    place = {"affine": results.affine}
    if results.affine is None and results.voxel_size is not None:
        place = {"voxel_size": results.voxel_size}
    with_b1 = config.b1_map is not None or np.ndim(results.dictionary.tissue.b1) > 0
    write_maps(
        folder,
        results.maps,
        prefix=_PREFIX.value,
        sidecar=sidecar | describe(results.dictionary),
        with_b1=with_b1,
        refined=results.refined,
        **place,
    )
    for suffix in ("npz", "mat"):
        if suffix in _ALSO.value:
            save_maps(folder / f"maps.{suffix}", results.maps, refined=results.refined)
    if "mrd" in _ALSO.value:
        depth, *voxel = results.voxel_size
        write_mrd_images(
            folder / "maps.h5",
            {"T1map": best.t1, "T2map": best.t2, "M0map": best.m0},
            field_of_view=tuple(size * count for size, count in zip(voxel, best.t1.shape, strict=True)),
            slice_thickness=depth,
            affine=results.affine,
        )
    content = {
        "voxels": int((results.maps.index >= 0).sum()),
        "atoms": len(results.dictionary.norms),
        "median_quality": _median_quality(results),
        "seconds": results.seconds,
    }
    with replacing(folder / "results.json") as path:
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _median_quality(results):
    return float(np.median(results.maps.quality[results.maps.index >= 0]))


if __name__ == "__main__":
    run(main)
