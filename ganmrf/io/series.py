"""Image series and masks from NumPy, MATLAB and NIfTI files."""

import contextlib
import dataclasses
import gzip
import logging
import math
import pathlib
import warnings

import nibabel
import numpy as np

from ganmrf.files import check_readable, read_arrays
from ganmrf.memory import TooLarge, check_claim

_OFF_GRID = 0.1  # voxels: far above the rounding of a header, far below an error in the grid
_LARGEST = 1e15  # value of images: the squares of it and of its inverse, over frames, are numbers in float32
_MENDED = 30  # level from which on nibabel would say that it mends a header: a damaged one
_AFTER = 2**20  # bytes of padding that may follow the values of a compressed file
_TO_MM = {"meter": 1e3, "micron": 1e-3}  # units that a NIfTI header may name; mm for any other


@dataclasses.dataclass(frozen=True)
class Series:
    """A series of images, one a frame.

    Attributes:
      images: (frames, ...spatial), one to three spatial axes, float32, float64, complex64 or complex128, finite.
      affine: (4, 4), from voxel indices in the reverse order of the spatial axes, (x, y, z), to positions in mm, as in
        NIfTI; None where the file does not say.
      has_place: whether the file says where the voxels are; if not, ``affine`` has their size alone.
    """

    images: np.ndarray
    affine: np.ndarray | None = None
    has_place: bool = False

    @property
    def grid(self) -> np.ndarray | None:
        """The affine that masks and B1 maps must agree with; None where the place of the voxels is not known."""
        return self.affine if self.has_place else None

    @property
    def voxel_size(self) -> tuple[float, ...] | None:
        """Size of a voxel along the three spatial axes, m; None where the file does not say."""
        if self.affine is None:
            return None
        return tuple(1e-3 * float(size) for size in nibabel.affines.voxel_sizes(self.affine)[::-1])


def read_series(path, variable: str | None = None, *, frame_axis: int | None = None) -> Series:
    """Reads an image series, real or complex.

    ``.nii`` and ``.nii.gz`` hold (x, y, z, frames) and come back as (frames, z, y, x) with their affine. ``.npz`` and
    ``.mat`` (v5 to v7.3) hold one array; its spatial axes stay in the order of the file, so that MATLAB's (rows,
    columns, frames) becomes (frames, rows, columns). Integers become floating-point numbers.

    Args:
      path: the file.
      variable: the array in a ``.npz`` or ``.mat`` file. None takes ``images``, or else the only numeric array with
        two axes or more.
      frame_axis: the axis of the frames in that array; None is the first in ``.npz`` and the last in ``.mat``.

    Raises:
      ValueError: another suffix, a file that is missing, truncated or of another kind, an array that is missing, not
        numeric or of another number of axes, several arrays and none chosen, or values that are not finite, beyond
        1e15, or all below 1e-15 and not all 0.
    """
    path = pathlib.Path(path)
    affine, has_place = None, False
    if is_nifti(path):
        if variable is not None or frame_axis is not None:
            raise ValueError(f"{path}: a variable or a frame axis can be chosen in .npz and .mat files only")
        images, affine, has_place = _read_nifti(path)
        if images.ndim != 4:
            raise ValueError(f"{path}: a series must be (x, y, z, frames); got shape {images.shape[::-1]}")
    else:
        images = read_array(path, variable, "images", min_ndim=2)
        if frame_axis is None:
            frame_axis = -1 if path.suffix.lower() == ".mat" else 0
        if not -images.ndim <= frame_axis < images.ndim:
            raise ValueError(f"{path}: frame_axis must be an axis of shape {images.shape}; got {frame_axis}")
        images = np.moveaxis(images, frame_axis, 0)
    if not 2 <= images.ndim <= 4 or images.size == 0:
        raise ValueError(f"{path}: a series must have frames and 1 to 3 spatial axes; got shape {images.shape}")
    with np.errstate(all="ignore"):  # of values that are not finite
        images = np.ascontiguousarray(images, np.result_type(images.dtype, np.float32))
    parts = images.view(images.real.dtype)
    largest = max(-parts.min(), parts.max())
    if not np.isfinite(largest):
        wrong = images.size - np.count_nonzero(np.isfinite(images))
        raise ValueError(f"{path}: {wrong} of {images.size} values are NaN or infinite")
    if largest and not 1 / _LARGEST <= largest <= _LARGEST:
        raise ValueError(f"{path}: the largest value must be {1 / _LARGEST:g} to {_LARGEST:g}, or 0; got {largest:g}")
    return Series(images, affine, has_place)


def read_mask(path, shape: tuple[int, ...], affine=None) -> np.ndarray:
    """Reads a mask: voxels that are not 0 are inside.

    The file is ``.nii`` or ``.nii.gz`` with (x, y, z), or ``.npz`` or ``.mat`` with an array ``mask`` or one numeric
    array only, in the order of the series' spatial axes.

    ``shape`` is the spatial shape of the series; axes of length 1 may be absent from the file (MATLAB drops them). The
    affine of a NIfTI file must agree with ``affine``, (4, 4), that of the series (`Series.grid`), unless it is None.

    Returns:
      Bool, of ``shape``.

    Raises:
      ValueError: as `read_series`; a mask of another shape, on another grid of voxels, with NaN, or with nothing
        inside.
    """
    path = pathlib.Path(path)
    mask = read_on_grid(path, "mask", "the mask", shape, affine)
    if np.isnan(mask).any():
        raise ValueError(f"{path}: {np.count_nonzero(np.isnan(mask))} of {mask.size} values are NaN")
    if not mask.any():
        raise ValueError(f"{path}: the mask is 0 everywhere: no voxel is inside")
    return (mask != 0).reshape(shape)


def read_on_grid(path, usual: str, what: str, shape: tuple[int, ...], affine) -> np.ndarray:
    """Reads an array with the voxels of a series: same shape, except for axes of length 1, and same place.

    Raises `ValueError` for another shape, or a NIfTI file with a corner more than 0.1 voxel from that by ``affine``.
    """
    place, has_place = None, False
    if is_nifti(path):
        values, place, has_place = _read_nifti(path)
    else:
        values = read_array(path, None, usual, min_ndim=1)
    if [n for n in values.shape if n > 1] != [n for n in shape if n > 1]:
        raise ValueError(f"{path}: {what} has shape {values.shape}, but the images have {tuple(shape)}")
    if affine is not None and has_place:
        axes = [[0, n - 1] for n in (*shape[::-1], 1, 1)[:3]]
        corners = np.array([*map(np.ravel, np.meshgrid(*axes)), np.ones(8)])
        apart = (place - affine) @ corners
        if np.abs(np.linalg.solve(affine, apart)).max() > _OFF_GRID:
            distance = np.linalg.norm(apart[:3], axis=0).max()
            raise ValueError(f"{path}: {what} lies up to {distance:.3g} mm from the images: it is of another grid")
    return values


def is_nifti(path) -> bool:
    """Whether a file is NIfTI by its suffix; raises `ValueError` for a suffix that this module does not read."""
    if path.name.lower().endswith((".nii", ".nii.gz")):
        return True
    if path.suffix.lower() not in (".npz", ".mat"):
        raise ValueError(f"{path}: suffix {path.suffix!r} is not one of .npz, .mat, .nii, .nii.gz")
    return False


def read_array(path, variable, usual, *, min_ndim):
    """The array called ``variable``; without a variable the one called ``usual``, or the only numeric one."""
    name = usual if variable is None else variable
    arrays = read_arrays(path, [name])
    if name not in arrays:
        arrays = read_arrays(path)
        if variable is not None:
            raise ValueError(f"{path}: no array {variable!r}; it holds {', '.join(arrays) or 'none'}")
        # In MATLAB a single number has two axes, too.
        found = [n for n, a in arrays.items() if a.dtype.kind in "biufc" and a.ndim >= min_ndim and a.size > 1]
        if len(found) != 1:
            raise ValueError(f"{path}: name the array that holds the {usual}: it has {', '.join(found) or 'none'}")
        (name,) = found
    array = arrays[name]
    if array.dtype.kind not in "biufc" or array.ndim < min_ndim:
        raise ValueError(
            f"{path}: {name} must be numeric with {min_ndim} axes or more; got {array.dtype}, shape {array.shape}"
        )
    return array


def _read_nifti(path):
    """The data with reversed axes, (..., z, y, x); the affine in mm; and whether the file says where its voxels are."""
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
