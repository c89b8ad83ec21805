"""Image series and masks from NumPy, MATLAB, NIfTI and DICOM files."""

import dataclasses
import pathlib
import warnings

import nibabel
import numpy as np

from ganmrf.files import read_arrays, read_npy
from ganmrf.io.masks import inside
from ganmrf.io.nifti import read_nifti

_OFF_GRID = 0.1  # voxels: far above the rounding of a header, far below an error in the grid
_LARGEST = 1e15  # value of images: the squares of it and of its inverse, over frames, are numbers in float32
_DICOM = ".dcm", ".dicom", ".ima"  # suffixes; DICOM files may have none, and any


@dataclasses.dataclass(frozen=True)
class Series:
    """A series of images, one a frame.

    Attributes:
      images: (frames, ...spatial), one to three spatial axes, float32, float64, complex64 or complex128, finite.
      affine: (4, 4), from voxel indices in the reverse order of the spatial axes, (x, y, z), to positions in mm, as in
        NIfTI; None where the file does not say.
      has_place: whether the file says where the voxels are; if not, ``affine`` has their size alone.
      finite: bool, (...spatial): whether the file has numbers for the voxel in every frame; where it does not, the
        images are 0. None: everywhere.
    """

    images: np.ndarray
    affine: np.ndarray | None = None
    has_place: bool = False
    finite: np.ndarray | None = None

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

    def only_finite(self, mask: np.ndarray, path) -> np.ndarray:
        """A mask, (...spatial), without the voxels that ``finite`` leaves out; one warning says how many those were.

        The mask is that of ``path``, which the warning names.
        """
        if self.finite is None or not (lost := np.count_nonzero(mask & ~self.finite)):
            return mask
        warnings.warn(
            f"{path}: {lost} of {np.count_nonzero(mask)} voxels inside are NaN or infinite in a frame: left out",
            stacklevel=2,
        )
        return mask & self.finite


def read_series(path, variable: str | None = None, *, frame_axis: int | None = None) -> Series:
    """Reads an image series, real or complex.

    ``.nii`` and ``.nii.gz`` hold (x, y, z, frames), or (x, y, frames), with axes of length 1 anywhere after z, and come
    back as (frames, z, y, x) or (frames, y, x) with their affine. ``.npz``, ``.npy`` and ``.mat`` (v5 to v7.3) hold one
    array; its spatial axes stay in the order of the file, so that MATLAB's (rows, columns, frames) becomes (frames,
    rows, columns). Of DICOM, a folder or a file, `ganmrf.io.dicom.read_dicom` tells. Integers become floating-point
    numbers, complex images without an imaginary part real ones; a voxel that is NaN or infinite in a frame becomes 0 in
    all of them (`Series.finite`).

    Args:
      path: the file, or the folder of DICOM files.
      variable: the array in a ``.npz`` or ``.mat`` file, where ``structure.field`` is a field of a structure. None
        takes ``images``, also in a structure, or else the only numeric array with two axes or more. Of DICOM, the
        numbers or UIDs of the series, with commas between them.
      frame_axis: the axis of the frames in that array; None is the first, in ``.mat`` the last.

    Raises:
      ValueError: another suffix, a file that is missing, truncated or of another kind, an array that is missing, not
        numeric or of another number of axes, several arrays and none chosen, no voxel that is finite in every frame, or
        values beyond 1e15, or all below 1e-15 and not all 0.

    Warns where another axis of the array is as long as that of the frames, and ``frame_axis`` is None.
    """
    path = pathlib.Path(path)
    affine, has_place, unsure = None, False, False
    if frame_axis is not None and (is_dicom(path) or is_nifti(path)):
        raise ValueError(f"{path}: a frame axis (--frame_axis) can be chosen in .npz, .npy and .mat files only")
    if is_dicom(path):
        images, affine, has_place = _read_dicom(path, variable)
        if len(images) == 1 and path.is_file():
            raise ValueError(f"{path}: holds one image: give the folder of its series")
    elif is_nifti(path):
        if variable is not None:
            raise ValueError(f"{path}: a variable (--variable) can be chosen in .npz, .mat and DICOM files only")
        data, affine, has_place = read_nifti(path)
        images = _frames_first(path, data)
    else:
        images = read_array(path, variable, "images", min_ndim=2, flag="--variable")
        if frame_axis is None:
            frame_axis = -1 if path.suffix.lower() == ".mat" else 0
            unsure = images.shape.count(images.shape[frame_axis]) > 1
        if not -images.ndim <= frame_axis < images.ndim:
            raise ValueError(f"{path}: --frame_axis must be an axis of shape {images.shape}; got {frame_axis}")
        images = np.moveaxis(images, frame_axis, 0)
    if not 2 <= images.ndim <= 4 or images.size == 0:
        raise ValueError(f"{path}: a series must have frames and 1 to 3 spatial axes; got shape {images.shape}")
    if unsure:
        words = f"axis {frame_axis} of the array, as long as another one, is taken for that of the frames"
        warnings.warn(f"{path}: {words}: --frame_axis says which it is", stacklevel=2)
    with np.errstate(all="ignore"):  # of values that are not finite
        images = np.ascontiguousarray(images, np.result_type(images.dtype, np.float32))
    images, finite = _without_gaps(path, images)
    if np.iscomplexobj(images) and not images.imag.any():
        images = np.ascontiguousarray(images.real)
    parts = images.view(images.real.dtype)
    largest = max(-parts.min(), parts.max())
    if largest and not 1 / _LARGEST <= largest <= _LARGEST:
        raise ValueError(f"{path}: the largest value must be {1 / _LARGEST:g} to {_LARGEST:g}, or 0; got {largest:g}")
    return Series(images, affine, has_place, finite)


def _frames_first(path, data):
    """The values of a NIfTI file, (..., z, y, x), as (frames, z, y, x), or (frames, y, x) where it has three axes."""
    shape = data.shape
    while len(shape) > 3 and shape[0] == 1:
        shape = shape[1:]
    more = [n for n in shape[:-3] if n > 1]
    if len(shape) < 3 or len(more) > 1:
        raise ValueError(f"{path}: a series must be (x, y, z, frames) or (x, y, frames); got shape {data.shape[::-1]}")
    return data.reshape(*more, *shape[-3:])


def _without_gaps(path, images):
    """The images with 0 in voxels that are not finite in every frame; and which are, None where all of them."""
    finite = np.ones(images.shape[1:], bool)
    for frame in images:
        finite &= np.isfinite(frame)
    if finite.all():
        return images, None
    if not finite.any():
        raise ValueError(f"{path}: all {finite.size} voxels are NaN or infinite in a frame")
    return np.where(finite, images, 0), finite


def read_mask(path, shape: tuple[int, ...], affine=None) -> np.ndarray:
    """Reads a mask, labels, or a probability; `ganmrf.io.masks.inside` has the rule.

    The file is ``.nii`` or ``.nii.gz`` with (x, y, z), DICOM, ``.npy``, or ``.npz`` or ``.mat`` with an array ``mask``
    or one numeric array only, in the order of the series' spatial axes.

    ``shape`` is the spatial shape of the series; axes of length 1 may be absent from the file (MATLAB drops them). The
    voxels of a NIfTI or DICOM file must be those of ``affine``, (4, 4), that of the series (`Series.grid`), in any
    order of the axes, unless it is None.

    Returns:
      Bool, of ``shape``.

    Raises:
      ValueError: as `read_series`; a mask of another shape, on another grid of voxels, or that `inside` refuses.
    """
    path = pathlib.Path(path)
    mask = read_on_grid(path, "mask", "the mask", shape, affine)
    try:
        return inside(mask).reshape(shape)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_on_grid(path, usual: str, what: str, shape: tuple[int, ...], affine) -> np.ndarray:
    """Reads an array with the voxels of a series: same shape, except for axes of length 1, and same place.

    A NIfTI or DICOM file with the same voxels in another order, its axes exchanged or reversed, is put in order.

    Raises `ValueError` for another shape, or a file with a corner more than 0.1 voxel from that by ``affine``.
    """
    place, has_place = None, False
    if is_dicom(path):
        values, place, has_place = _read_dicom(path, None)
        values = values[0] if len(values) == 1 else values
    elif is_nifti(path):
        values, place, has_place = read_nifti(path)
    else:
        values = read_array(path, None, usual, min_ndim=1)
    on_grid = affine is not None and has_place
    if on_grid:
        values, place = _in_order(values, place, affine)
    if [n for n in values.shape if n > 1] != [n for n in shape if n > 1]:
        raise ValueError(f"{path}: {what} has shape {values.shape}, but the images have {tuple(shape)}")
    if on_grid:
        axes = [[0, n - 1] for n in (*shape[::-1], 1, 1)[:3]]
        corners = np.array([*map(np.ravel, np.meshgrid(*axes)), np.ones(8)])
        apart = (place - affine) @ corners
        if np.abs(np.linalg.solve(affine, apart)).max() > _OFF_GRID:
            distance = np.linalg.norm(apart[:3], axis=0).max()
            far = f"{what} lies up to {distance:.3g} mm from the images: it is of another grid"
            raise ValueError(f"{path}: {far}. Resample it; if its place alone is wrong, save it as .npy")
    return values


def _in_order(values, place, affine):
    """Values, (..., z, y, x), and their affine, with the axes that are closest to those of another affine."""
    values = values.T.reshape(values.shape[::-1] + (1,) * (3 - values.ndim))
    order = nibabel.io_orientation(np.linalg.solve(affine, place))
    place = place @ nibabel.orientations.inv_ornt_aff(order, values.shape[:3])
    return nibabel.apply_orientation(values, order).T, place


def is_nifti(path) -> bool:
    """Whether a file is NIfTI by its suffix; raises `ValueError` for a suffix that this module does not read."""
    if path.name.lower().endswith((".nii", ".nii.gz")):
        return True
    if path.suffix.lower() not in (".npz", ".npy", ".mat"):
        raise ValueError(f"{path}: suffix {path.suffix!r} is not one of .nii, .nii.gz, .npz, .npy, .mat, .dcm")
    return False


def is_dicom(path) -> bool:
    """Whether a path is a folder or a file of DICOM: by its suffix, or by what a file of another suffix begins with."""
    path = pathlib.Path(path)
    if path.is_dir() or path.suffix.lower() in _DICOM:
        return True
    if path.suffix.lower() in (".nii", ".gz", ".npz", ".npy", ".mat") or not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"


def _read_dicom(path, variable):
    from ganmrf.io.dicom import read_dicom  # here: it imports for a second, and most need none

    return read_dicom(path, variable)


def read_array(path, variable, usual, *, min_ndim, flag=None):
    """The array called ``variable``; without a variable the one called ``usual``, or the only one that it can be.

    In a structure either may be ``structure.field``, and ``usual`` the name of the field alone. ``flag`` is what names
    the array on the command line.
    """
    if path.suffix.lower() == ".npy":
        if variable is not None:
            raise ValueError(f"{path}: a .npy file holds one array without a name; got {variable!r}")
        arrays, name = {path.name: read_npy(path)}, path.name
    else:
        name = usual if variable is None else variable
        arrays = read_arrays(path, [name])
    if name not in arrays:
        arrays = read_arrays(path)
        if variable is not None:
            raise ValueError(f"{path}: no array {variable!r}; it holds {', '.join(arrays) or 'none'}")
        name = _only(path, arrays, usual, min_ndim, flag)
    array = arrays[name]
    if array.dtype.kind not in "biufc" or array.ndim < min_ndim:
        raise ValueError(
            f"{path}: {name} must be numeric with {min_ndim} axes or more; got {array.dtype}, shape {array.shape}"
        )
    return array


def _only(path, arrays, usual, min_ndim, flag):
    """Name of the array that can only be meant: in a structure, or numeric with enough axes."""
    # In MATLAB a single number has two axes, too, and so has a vector, which is meant where there is nothing else.
    found = [n for n, a in arrays.items() if a.dtype.kind in "biufc" and a.ndim >= min_ndim and a.size > 1]
    fields = [name for name in found if name.split(".")[-1] == usual]
    matrices = [name for name in found if sum(n > 1 for n in arrays[name].shape) >= min_ndim]
    for some in (fields, matrices, found):
        if len(some) == 1:
            return some[0]
    by = f", by {flag}," if flag else ""
    raise ValueError(f"{path}: name{by} the array that holds the {usual}: it has {', '.join(found) or 'none'}")
