"""Values and place of the voxels of a NIfTI file."""

import contextlib
import gzip
import logging
import math
import warnings

import nibabel
import numpy as np

from ganmrf.files import check_readable
from ganmrf.memory import TooLarge, check_claim

_MENDED = 30  # level from which on nibabel would say that it mends a header: a damaged one
_AFTER = 2**20  # bytes of padding that may follow the values of a compressed file
_TO_MM = {"meter": 1e3, "micron": 1e-3}  # units that a NIfTI header may name; mm for any other


def read_nifti(path):
    """The data with reversed axes, (..., z, y, x); the affine in mm; and whether the file says where its voxels are.

    Raises:
      ValueError: a file that cannot be read, is not whole, or whose header would have to be mended; `TooLarge`.
    """
    check_readable(path)
    zipped = path.name.lower().endswith(".gz")
    try:
        with (gzip.open if zipped else open)(path, "rb") as file, _strictly():
            two = nibabel.Nifti2Header.may_contain_header(file.read(nibabel.Nifti2Header.sizeof_hdr))
            file.seek(0)
            kind = nibabel.Nifti2Image if two else nibabel.Nifti1Image
            image = kind.from_file_map(kind.make_file_map({"image": file}), mmap=False)
            values = image.dataobj
            scaled = 8 * ((values.slope, values.inter) != (1, 0))  # to float64, beside the values of the file
            claimed = values.offset + math.prod(values.shape) * (values.dtype.itemsize + scaled)
            check_claim(path, claimed, path.stat().st_size)
            data = np.asarray(values)
            if zipped and len(file.read(_AFTER + 1)) > _AFTER:  # at the end of the file its checksum is compared
                raise ValueError("other data after the values")
            unit = image.header.get_xyzt_units()[0]
    except TooLarge:
        raise
    except Exception as error:  # a damaged file makes nibabel raise half a dozen types of error
        cause = " ".join(str(error).split())
        raise ValueError(f"{path}: not a whole NIfTI file ({cause})") from error
    if data.dtype.kind not in "biufc":
        raise ValueError(f"{path}: the values must be numbers; got dtype {data.dtype}")
    if not np.isfinite(image.affine).all() or np.linalg.matrix_rank(image.affine) < 4:
        raise ValueError(f"{path}: the affine must be finite and invertible; got {image.affine.tolist()}")
    scale = _TO_MM.get(unit, 1.0)
    # Without either code nibabel invents an affine.
    has_place = bool(image.header["sform_code"] or image.header["qform_code"])
    return data.T, np.diag([scale, scale, scale, 1.0]) @ image.affine, has_place


@contextlib.contextmanager
def _strictly():
    """Inside, what is wrong in a header is an error, not a line on stderr and a guess."""
    logger = nibabel.imageglobals.logger
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with nibabel.imageglobals.ErrorLevel(_MENDED), warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            yield
    finally:
        logger.setLevel(level)
