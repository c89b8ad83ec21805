"""Matches a scan with a dictionary: image series in, T1, T2 and M0 maps out.

Example::

    python -m experiments.match_maps --dictionary=atoms.npz --images=scan.nii.gz --mask=brain.nii.gz --output=maps

Images: ``.nii``, ``.nii.gz`` (x, y, z, frames), ``.npz`` (frames first) or ``.mat`` (v5 to v7, frames last). Without
``--mask`` every voxel with any signal is matched. The maps are NIfTI files in seconds, named as BIDS names them, each
with a JSON sidecar; voxels that were not matched are 0.
"""

import dataclasses
import sys

import numpy as np
from absl import flags

from experiments.command_line import run
from ganmrf.dictionary.compress import compress
from ganmrf.dictionary.match import match
from ganmrf.dictionary.store import load_dictionary
from ganmrf.io.maps import describe, make_folder, write_maps
from ganmrf.io.series import read_mask, read_series

_DICTIONARY = flags.DEFINE_string("dictionary", None, "dictionary, .npz or .mat", required=True)
_IMAGES = flags.DEFINE_string("images", None, "image series, .npz, .mat, .nii or .nii.gz", required=True)
_VARIABLE = flags.DEFINE_string("variable", None, "array in the .npz or .mat file; default: images, or the only one")
_FRAME_AXIS = flags.DEFINE_integer("frame_axis", None, "axis of the frames; default: first in .npz, last in .mat")
_MASK = flags.DEFINE_string("mask", None, "voxels to match, not 0 inside; default: every voxel with any signal")
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
        rank=_RANK.value,
        output=_OUTPUT.value,
        prefix=_PREFIX.value,
    )
    folder = make_folder(config.output)
    series = read_series(config.images, config.variable, frame_axis=config.frame_axis)
    mask = read_mask(config.mask, series.images.shape[1:]) if config.mask else None
    dictionary = load_dictionary(config.dictionary)
    n_frames = dictionary.sequence.n_frames
    if len(series.images) != n_frames:
        raise ValueError(f"{config.images} has {len(series.images)} frames, but {config.dictionary} has {n_frames}")
    if config.rank is not None:
        dictionary, energy = compress(dictionary, config.rank)
        print(f"rank {config.rank} keeps {100 * energy:.4g} % of the energy of the dictionary")
    maps = match(dictionary, series.images, mask=mask, progress=sys.stderr.isatty())
    matched = maps.index >= 0
    if not matched.any():
        raise ValueError(f"{config.images}: no voxel with any signal{' inside the mask' if config.mask else ''}")
    sources = [path for path in (config.images, config.mask, config.dictionary) if path]
    sidecar = {"Sources": sources, **describe(dictionary)}
    paths = write_maps(folder, maps, prefix=config.prefix, affine=series.affine, sidecar=sidecar)
    t1, t2, quality = (np.median(values[matched]) for values in (maps.t1, maps.t2, maps.quality))
    print(f"matched {matched.sum()} of {matched.size} voxels with {len(dictionary.norms)} atoms")
    print(f"median T1 {t1:.4g} s, T2 {t2:.4g} s, quality {quality:.4f}")
    print(f"maps in {folder}: {', '.join(path.name for path in paths.values())}")


if __name__ == "__main__":
    run(main)
