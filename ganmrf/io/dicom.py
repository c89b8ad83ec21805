"""Image series of DICOM files: one image a file or many, sorted by place and time, in the units of the scanner.

References: DICOM PS3.3, C.7.6.2 (place and spacing), C.7.6.16 (enhanced images), C.11.1 (rescaling),
https://dicom.nema.org/medical/dicom/current; T. L. Chenevert et al., Transl. Oncol. 7, 65 (2014),
doi:10.1593/tlo.13811 (scale slope).
"""

import pathlib
import warnings

import numpy as np
import pydicom

from ganmrf.io.dicom_images import find_images, read_header, read_pixels
from ganmrf.memory import check_claim

_SAME_SLICE = 0.01  # mm along the normal: above the rounding of positions, below any distance of slices
_OFF_GRID = 0.1  # voxels between a slice and where equal distances would put it
_PARALLEL = 1e-4  # difference of direction cosines: over 500 voxels a twentieth of one
_TO_RAD = 1.0, 1e-3, np.pi / 4096, np.pi / 180  # of rad, mrad, Siemens' -4096 to 4094, degrees
_FULL = 0.9, 1.001  # of pi: the largest phase in a series, where noise has every phase
_TIMES = {"temporal": "TemporalPositionIdentifier", "instance": "InstanceNumber", "time": "AcquisitionTime"}


def read_dicom(path, series: str | None = None) -> tuple[np.ndarray, np.ndarray | None, bool]:
    """Reads the images of one series: of a file, or of all files of a folder and the folders in it.

    Slices are sorted along their normal; frames by TemporalPositionIdentifier, else InstanceNumber, else
    AcquisitionTime. Rescale slope and intercept are applied; where they differ in a series by Philips, its scale
    slope, too. Real and imaginary, or else magnitude and phase, become complex images where both are there, in one
    series or in two.

    Args:
      path: the file or folder.
      series: numbers or UIDs of the series to read, with commas between them, where the folder has others.

    Returns:
      Images, (frames, slices, rows, columns), float32 or complex64, float64 or complex128 of more than 24 bits; the
      affine from (column, row, slice) to RAS positions in mm, as in NIfTI, or with the size of the voxels alone, or
      None; and whether it has their place.

    Raises:
      ValueError: no images, a damaged file, several series and none chosen, a slice without one of the frames or none
        where it should be, phases of an unknown unit, or pixels compressed in a way that pydicom needs another package
        for; `TooLarge` as `check_claim`.
    """
    path = pathlib.Path(path)
    found = _chosen(path, find_images(path), series)
    parts = {name: _sorted(path, [each for each in found if each.component == name]) for name in _used(path, found)}
    first = next(iter(parts.values()))
    if any(not _same_grid(first, other) for other in parts.values()):
        raise ValueError(
            f"{path}: images of {' and '.join(parts)} are not of the same frames and slices: {_ask(found)}"
        )
    if len(parts) == 1 and len(first) > 1 and not parts.keys().isdisjoint(("phase", "imaginary")):
        raise ValueError(f"{path}: images of {', '.join(parts)} alone, without the rest of complex ones: {_ask(found)}")
    values = {part: _values(path, grid) for part, grid in parts.items()}
    if len(values) == 1:
        (images,) = values.values()
    else:
        one, other = values.values()
        if "phase" in values:
            other = _radians(path, other)
            one, other = one * np.cos(other), one * np.sin(other)
        images = np.empty(one.shape, np.result_type(one, np.complex64))
        images.real, images.imag = one, other
    return images, *_affine(path, first)


def first_header(path, series: str | None = None) -> pydicom.Dataset:
    """The header of one image of what `read_dicom` reads; raises `ValueError` as it does."""
    path = pathlib.Path(path)
    return read_header(_chosen(path, find_images(path), series)[0].path)


def _chosen(path, images, series):
    """The images of the series that were named; all where there is one, or one for each part of complex images."""
    names = {image.series for image in images}
    if series is not None:
        wanted = [each.strip() for each in series.split(",")]
        names = {name for name in names if name[0] in wanted or name[2] in wanted}
        if missing := [each for each in wanted if not any(each in (name[0], name[2]) for name in names)]:
            raise ValueError(f"{path}: no series {', '.join(missing)}: {_ask(images)}")
        images = [image for image in images if image.series in names]
    kinds = {(image.series, image.component) for image in images}
    if len(names) > 1 and (len(kinds) > len({part for _, part in kinds}) or None in {part for _, part in kinds}):
        raise ValueError(f"{path}: {len(names)} series: {_ask(images)}")
    return images


def _ask(images):
    """What series there are, and how to choose."""
    counts = {}
    for image in images:
        counts[image.series] = counts.get(image.series, 0) + 1
    unique = len({number for number, _, _ in counts}) == len(counts)
    by, place = ("numbers", 0) if unique else ("UIDs", 2)
    listed = ", ".join(f"{series[place]} ({series[1]}, {n} images)" for series, n in sorted(counts.items()))
    return f"choose by --variable, the {by} of series with commas between them: {listed}"


def _used(path, images):
    """The parts that make the images: two of complex ones, or one alone."""
    there = {image.component for image in images}
    for parts in (("real", "imaginary"), ("magnitude", "phase")):
        if there.issuperset(parts):
            return parts
    if len(there) > 1:
        named = ", ".join(sorted(str(part or "no named part") for part in there))
        raise ValueError(f"{path}: images of {named}: two parts are needed for complex ones: {_ask(images)}")
    return tuple(there)


def _sorted(path, images):
    """Images by frame, and by slice along the normal; refuses what is not of one shape and orientation."""
    first = images[0]
    if any(image.shape != first.shape for image in images):
        shapes = sorted({f"{rows} x {columns}" for rows, columns in (image.shape for image in images)})
        raise ValueError(f"{path}: images of several sizes, {', '.join(shapes)}: {_ask(images)}")
    known = [image.place is not None for image in images]
    slices = [images]
    if len({None if image.spacing is None else tuple(np.round(image.spacing, 4)) for image in images}) > 1:
        raise ValueError(f"{path}: images of several distances between pixels: {_ask(images)}")
    if all(known):
        turned = max(np.abs(image.directions - first.directions).max() for image in images)
        if turned > _PARALLEL or np.abs(first.directions @ first.directions.T - np.eye(2)).max() > 10 * _PARALLEL:
            raise ValueError(f"{path}: images of several orientations, or of one that is none: {_ask(images)}")
        normal = np.cross(*first.directions)
        images = sorted(images, key=lambda image: image.place @ normal)
        heights = np.array([image.place @ normal for image in images])
        starts = np.flatnonzero(np.diff(heights) > _SAME_SLICE) + 1
        slices = [images[start:end] for start, end in zip([0, *starts], [*starts, len(images)], strict=True)]
        moved = max(np.abs(image.place - each[0].place).max() for each in slices for image in each)
        if moved > _OFF_GRID * _finest(first):
            raise ValueError(f"{path}: images of one slice are up to {moved:.3g} mm from each other: {_ask(images)}")
    elif any(known):
        raise ValueError(f"{path}: {known.count(False)} of {len(known)} images do not say where they are")
    counts = [len(each) for each in slices]
    if min(counts) != max(counts):
        raise ValueError(f"{path}: slices of {min(counts)} and of {max(counts)} frames: images are missing")
    return list(zip(*_in_time(path, slices), strict=True))


def _finest(image):
    """The shorter distance between pixels, mm; 1 where the file does not say."""
    return 1.0 if image.spacing is None else float(image.spacing.min())


def _in_time(path, slices):
    """The images of each slice in the order of their frames."""
    if len(slices[0]) == 1:
        return slices
    orders = {}
    for name in _TIMES:
        keys = [[getattr(image, name) for image in each] for each in slices]
        if all(None not in each and len(set(each)) == len(each) for each in keys):
            orders[name] = [sorted(range(len(each)), key=each.__getitem__) for each in keys]
    if not orders:
        raise ValueError(f"{path}: {len(slices[0])} images of one slice with the same {', '.join(_TIMES.values())}")
    name, order = next(iter(orders.items()))
    if name == "temporal" and orders.get("instance", order) != order:
        words = f"frames are in the order of {_TIMES[name]}, which is not that of {_TIMES['instance']}"
        warnings.warn(f"{path}: {words}", stacklevel=5)
    return [[each[n] for n in places] for each, places in zip(slices, order, strict=True)]


def _same_grid(one, other):
    """Whether frames and slices of two parts agree."""
    if (len(one), len(one[0]), one[0][0].shape) != (len(other), len(other[0]), other[0][0].shape):
        return False
    pairs = [(a.place, b.place) for a, b in zip(one[0], other[0], strict=True)]
    return all((a is None) == (b is None) and (a is None or np.abs(a - b).max() < _SAME_SLICE) for a, b in pairs)


def _values(path, grid):
    """Rescaled values, (frames, slices, rows, columns)."""
    images = [image for frame in grid for image in frame]
    files = {image.path for image in images}
    dtype = np.float64 if max(image.bits for image in images) > 24 else np.float32
    shape = (len(grid), len(grid[0]), *images[0].shape)
    check_claim(path, int(np.prod(shape)) * np.dtype(dtype).itemsize, sum(each.stat().st_size for each in files))
    values = np.empty((len(images), *shape[2:]), dtype)
    places = {}
    for n, image in enumerate(images):
        places.setdefault(image.path, []).append(n)
    scales = [image.slope * (image.scale or 0) for image in images]
    rescaled = all(scales) and len(set(scales)) > 1 and images[0].component != "phase"
    for each, wanted in places.items():
        pixels = read_pixels(each).reshape(-1, *shape[2:])
        for n in wanted:
            values[n] = images[n].slope * pixels[images[n].index].astype(dtype) + images[n].intercept
            if rescaled:
                values[n] /= scales[n]
    return values.reshape(shape)


def _radians(path, phase):
    """Phases in rad: the unit is the one in which they fill the circle, as the phase of noise does."""
    lowest, highest = float(phase.min()), float(phase.max())
    for unit in _TO_RAD:
        if all(_FULL[0] * np.pi <= end * unit <= _FULL[1] * np.pi for end in (-lowest, highest)):
            return unit * phase
    raise ValueError(
        f"{path}: phases of {lowest:g} to {highest:g} fill no circle in rad, mrad, degrees or -4096 to 4095: choose "
        "the magnitudes alone, by --variable"
    )


def _affine(path, grid):
    """Affine to RAS positions, and whether it has the place; only the size of the voxels, or None."""
    slices = grid[0]
    first, n = slices[0], len(slices) - 1
    if first.spacing is None or not (first.spacing > 0).all():
        return None, False
    between_rows, between_columns = first.spacing
    thickness = first.thickness or 1.0
    if first.place is None:
        return np.diag([between_columns, between_rows, thickness, 1.0]), False
    right, down = first.directions
    step = (slices[-1].place - first.place) / n if n else thickness * np.cross(right, down)
    for count, image in enumerate(slices):
        off = np.abs(image.place - first.place - count * step).max()
        if off > _OFF_GRID * min(np.linalg.norm(step), _finest(first)):
            raise ValueError(f"{path}: slice {count + 1} of {n + 1} is {off:.3g} mm from its place: is one missing?")
    affine = np.eye(4)
    affine[:3] = np.stack([between_columns * right, between_rows * down, step, first.place], 1)
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine, True  # DICOM's axes lead to the left and back
