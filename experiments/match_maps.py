"""Matches a scan with a dictionary: image series in, T1, T2 and M0 maps out.

Example::

    python -m experiments.match_maps --dictionary=atoms.npz --images=scan.nii.gz --mask=brain.nii.gz --output=maps

Images: ``.nii``, ``.nii.gz`` (x, y, z, frames), ``.npz`` (frames first) or ``.mat`` (frames last). Without
``--mask`` every voxel with any signal is matched. The maps are NIfTI files in seconds, named as BIDS names them, each
with a JSON sidecar; voxels that were not matched are 0.

With a dictionary of several B1 (``--b1`` of simulate_dictionary), ``--b1_map`` gives the B1 of each voxel; without it
B1 is estimated as T1 and T2 are. ``TB1map.nii.gz`` holds in percent what was used.
"""

import dataclasses
import sys

import numpy as np
from absl import flags

from experiments.flags.command_line import run
from ganmrf.dictionary.compress import compress
from ganmrf.dictionary.match import match
from ganmrf.dictionary.match_b1 import match_with_b1
from ganmrf.dictionary.zarr import open_dictionary
from ganmrf.files import make_folder
from ganmrf.io.maps import describe, file_stem, read_b1_map, write_maps
from ganmrf.io.series import read_mask, read_series

_DICTIONARY = flags.DEFINE_string("dictionary", None, "dictionary, .npz, .mat or .zarr", required=True)
_IMAGES = flags.DEFINE_string("images", None, "image series, .npz, .mat, .nii or .nii.gz", required=True)
_VARIABLE = flags.DEFINE_string("variable", None, "array in the .npz or .mat file; default: images, or the only one")
_FRAME_AXIS = flags.DEFINE_integer("frame_axis", None, "axis of the frames; default: first in .npz, last in .mat")
_MASK = flags.DEFINE_string("mask", None, "voxels to match, not 0 inside; default: every voxel with any signal")
_B1_MAP = flags.DEFINE_string("b1_map", None, "B1 map, actual over nominal flip angle; default: B1 is estimated")
_B1_SCALE = flags.DEFINE_float("b1_scale", 1.0, "what values of --b1_map are multiplied by: 0.01 for percent")
_RANK = flags.DEFINE_integer("rank", None, "compress the dictionary to this rank first; default: as it is")
_OUTPUT = flags.DEFINE_string("output", None, "folder for the maps, created where it is missing", required=True)
_PREFIX = flags.DEFINE_string("prefix", "", "start of the file names, such as sub-01")


@dataclasses.dataclass(frozen=True)
class Config:
    """What is matched with what; the fields are the flags."""

    dictionary: str
    images: str
    variable: str | None
    frame_axis: int | None
    mask: str | None
    b1_map: str | None
    b1_scale: float
    rank: int | None
    output: str
    prefix: str


def main():
    """Reads, matches, writes the maps, and prints where they are and what they hold."""
    config = Config(
        dictionary=_DICTIONARY.value,
        images=_IMAGES.value,
        variable=_VARIABLE.value,
        frame_axis=_FRAME_AXIS.value,
        mask=_MASK.value,
        b1_map=_B1_MAP.value,
        b1_scale=_B1_SCALE.value,
        rank=_RANK.value,
        output=_OUTPUT.value,
        prefix=_PREFIX.value,
    )
    if config.b1_scale != 1 and config.b1_map is None:
        raise ValueError("--b1_scale goes with --b1_map")
    file_stem(config.prefix)  # refused here, not after the work
    folder = make_folder(config.output)
    series = read_series(config.images, config.variable, frame_axis=config.frame_axis)
    shape = series.images.shape[1:]
    mask = read_mask(config.mask, shape, series.grid) if config.mask else None
    b1_map = read_b1_map(config.b1_map, shape, scale=config.b1_scale, affine=series.grid) if config.b1_map else None
    dictionary = open_dictionary(config.dictionary)
    n_frames = dictionary.sequence.n_frames
    if len(series.images) != n_frames:
        raise ValueError(f"{config.images} has {len(series.images)} frames, but {config.dictionary} has {n_frames}")
    if config.rank is not None:
        dictionary, energy = compress(dictionary, config.rank)
        print(f"rank {config.rank} keeps {100 * energy:.4g} % of the energy of the dictionary")
    settings = {"mask": mask, "progress": sys.stderr.isatty()}
    if b1_map is None:
        maps = match(dictionary, series.images, **settings)
    else:
        maps = match_with_b1(dictionary, series.images, b1_map, **settings)
    matched = maps.index >= 0
    if not matched.any():
        raise ValueError(f"{config.images}: no voxel with any signal{' inside the mask' if config.mask else ''}")
    sources = [path for path in (config.images, config.mask, config.b1_map, config.dictionary) if path]
    sidecar = {"Sources": sources, **describe(dictionary)}
    with_b1 = b1_map is not None or np.ndim(dictionary.tissue.b1) > 0
    paths = write_maps(folder, maps, prefix=config.prefix, affine=series.affine, sidecar=sidecar, with_b1=with_b1)
    t1, t2, quality = (np.median(values[matched]) for values in (maps.t1, maps.t2, maps.quality))
    print(f"matched {matched.sum()} of {matched.size} voxels with {len(dictionary.norms)} atoms")
    print(f"median T1 {t1:.4g} s, T2 {t2:.4g} s, quality {quality:.4f}")
    if with_b1:
        print(f"B1 {maps.b1[matched].min():.4g} to {maps.b1[matched].max():.4g}")
    print(f"maps in {folder}: {', '.join(path.name for path in paths.values())}")


if __name__ == "__main__":
    run(main)
