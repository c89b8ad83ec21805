"""The files of maps of a scan, in every format that a command was asked for."""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from experiments.reports.scan import mapped
from ganmrf.files import check_output
from ganmrf.io.maps import map_files, save_maps, write_maps
from ganmrf.io.series import is_dicom
from ganmrf.runs.workdir import Workdir
from ganmrf.scan_to_maps import Results

_FILES = "maps.npz", "maps.mat", "maps.h5", "results.json", "report.html"  # beside those of `map_files`, and DICOM


@contextlib.contextmanager
def folder_of_maps(config, given: frozenset[str]) -> Iterator[tuple[Any, pathlib.Path]]:
    """The configuration and the folder of a command that maps scans, in its `Workdir`.

    Raises:
      ValueError: as `Workdir`, or a file that the command may write, beside DICOM, and cannot.
    """
    with Workdir(config.output, config, given) as workdir:
        for path in (*map_files(workdir.path, config.prefix), *(workdir.path / name for name in _FILES)):
            check_output(path)
        yield workdir.config, workdir.path


def write_map_files(folder: pathlib.Path, config, results: Results, sidecar: dict, algorithm: str | None = None):
    """NIfTI, and of ``config.also`` .npz, .mat and DICOM; ``algorithm`` is as for `write_maps`.

    Of the command's ``config`` the input, the prefix and ``reconstruction`` are read. B1 has a file where it was mapped
    or matched with.
    """
    place = {"affine": results.affine}
    if results.affine is None and results.voxel_size is not None:
        place = {"voxel_size": results.voxel_size}
    place["with_b1"] = config.reconstruction.b1_map is not None or np.ndim(results.dictionary.tissue.b1) > 0
    place |= {"fields": mapped(results), "refined": results.refined}
    write_maps(folder, results.maps, prefix=config.prefix, sidecar=sidecar, algorithm=algorithm, **place)
    for suffix in {"npz", "mat"} & set(config.also):
        save_maps(folder / f"maps.{suffix}", results.maps, refined=results.refined)
    if "dicom" in config.also:
        from ganmrf.io.dicom_maps import write_dicom_maps  # here: it imports for a second, and most need none

        source = {"source": config.input, "series": config.reconstruction.variable} if is_dicom(config.input) else {}
        write_dicom_maps(folder / "dicom", results.maps, **place, **source)
