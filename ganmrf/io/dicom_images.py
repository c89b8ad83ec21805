"""What DICOM files say of their images, one a file or many, and the values of their pixels.

References: DICOM PS3.3, C.7.6.2 (place and spacing), C.7.6.16 (enhanced images), C.8.13.3.1 (complex components),
https://dicom.nema.org/medical/dicom/current.
"""

import contextlib
import logging
import pathlib
import warnings
from typing import NamedTuple

import numpy as np
import pydicom
from pydicom.pixels import get_decoder

_COMPONENTS = {
    **dict.fromkeys(("M", "MAGNITUDE", "M_FFE", "M_IR", "M_SE"), "magnitude"),
    **dict.fromkeys(("P", "PHASE", "PHASE MAP", "PHASE_MAP", "P_FFE", "P_IR", "P_SE"), "phase"),
    **dict.fromkeys(("R", "REAL", "R_FFE", "R_IR", "R_SE"), "real"),
    **dict.fromkeys(("I", "IMAGINARY", "I_FFE", "I_IR", "I_SE"), "imaginary"),
}
_OF_GE = 0x0043, "GEMS_PARM_01", 0x2F, ("magnitude", "phase", "real", "imaginary")
_OF_PHILIPS = 0x2005, "Philips MR Imaging DD 001", 0x0E  # "scale slope"


class DicomImage(NamedTuple):
    """What a file says of one image; lengths in mm, None where it does not say.

    Attributes:
      path: the file.
      index: the place of the image in it, from 0 on.
      uid: SOPInstanceUID of the file.
      series: its number, description and UID.
      component: ``magnitude``, ``phase``, ``real`` or ``imaginary``.
      shape: (rows, columns).
      bits: of a stored value.
      place: of the first pixel, (3,), along DICOM's axes: to the left, back and head; None without ``directions``, too.
      directions: (2, 3), in which columns, and rows, are counted.
      spacing: between rows, and between columns, (2,).
      thickness: distance of slices, or else the thickness of one.
      slope: what stored values are multiplied by.
      intercept: what is added then.
      scale: the scale slope of Philips; rescaled values over ``slope`` and ``scale`` are comparable between images.
      temporal: the number of the frame.
      instance: InstanceNumber, and ``index``.
      time: of acquisition, with its date, as text that sorts.
    """

    path: pathlib.Path
    index: int
    uid: str
    series: tuple[str, str, str]
    component: str | None
    shape: tuple[int, int]
    bits: int
    place: np.ndarray | None
    directions: np.ndarray | None
    spacing: np.ndarray | None
    thickness: float | None
    slope: float
    intercept: float
    scale: float | None
    temporal: int | None
    instance: tuple[int, int] | None
    time: str | None


def find_images(path) -> list[DicomImage]:
    """Every image of a file, or of all files of a folder and the folders in it; raises `ValueError` for none."""
    if not path.is_dir():
        found = _images(path)
    else:
        files = sorted(each for each in path.rglob("*") if each.is_file() and each.name.upper() != "DICOMDIR")
        found = [image for each in files if _is_dicom(each) for image in _images(each)]
    unique = {(image.uid, image.index): image for image in reversed(found)}
    if len(unique) < len(found):
        warnings.warn(f"{path}: {len(found) - len(unique)} images are there twice: read once", stacklevel=4)
    if not unique:
        raise ValueError(f"{path}: no DICOM file with grey images")
    return list(reversed(unique.values()))


def _is_dicom(path):
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"


def read_header(path, pixels: bool = False) -> pydicom.Dataset:
    """A file's content; with the values of its pixels, or without. Raises `ValueError` for a file that is damaged."""
    with _told_of(path, "not a whole DICOM file"), open(path, "rb") as file:
        meta = pydicom.filereader.read_file_meta_info(path) if _is_dicom(path) else {}
        if meta.get("TransferSyntaxUID") == pydicom.uid.DeflatedExplicitVRLittleEndian:  # pydicom inflates all of it
            raise ValueError("it is deflated as a whole: write it without")
        return pydicom.dcmread(file, stop_before_pixels=not pixels, force=not meta)


@contextlib.contextmanager
def _told_of(path, what):
    """Inside, whatever damage makes pydicom trip over is one line, and what does not matter here is not said."""
    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), pydicom.config.disable_value_validation():
            warnings.simplefilter("ignore")
            yield
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:
        raise ValueError(f"{path}: {what} ({' '.join(str(error).split())})") from error
    finally:
        logger.setLevel(level)


def _images(path):
    """What a file says of its images; none for reports, and for pictures in colour."""
    header = read_header(path)
    with _told_of(path, "not a DICOM image that can be read"):
        if "Rows" not in header:
            kind = header.get("file_meta", {}).get("MediaStorageSOPClassUID") or header.get("SOPClassUID")
            if not kind or "Image Storage" in kind.name:
                raise ValueError("it ends before it says what it is")
            return []
        if header.get("SamplesPerPixel", 1) != 1:
            return []
        if "MOSAIC" in header.get("ImageType", ()):
            raise ValueError("slices in a mosaic: export them one by one")
        frames, size = int(header.get("NumberOfFrames") or 1), path.stat().st_size
        if frames > size:
            raise ValueError(f"{frames} images in {size} bytes")
        return [_image(path, header, index) for index in range(frames)]


def _image(path, header, index):
    groups = [header]
    for name, at in (("SharedFunctionalGroupsSequence", 0), ("PerFrameFunctionalGroupsSequence", index)):
        if header.get(name):
            groups.insert(0, header[name][at])

    def value(keyword, group=None):
        for place in groups:
            inside = place.get(group)[0] if group and place.get(group) else place
            if inside.get(keyword) not in (None, ""):
                return inside.get(keyword)
        return None

    def numbers(keyword, group, count):
        found = value(keyword, group)
        return None if found is None else np.array(found, float).reshape(count)

    number, directions = value("InstanceNumber"), numbers("ImageOrientationPatient", "PlaneOrientationSequence", (2, 3))
    thickness, between = (value(name, "PixelMeasuresSequence") for name in ("SliceThickness", "SpacingBetweenSlices"))
    thickness = between or thickness
    slope, intercept = (value(f"Rescale{name}", "PixelValueTransformationSequence") for name in ("Slope", "Intercept"))
    time = value("AcquisitionTime") and f"{value('AcquisitionDate') or ''}{value('AcquisitionTime')}"
    temporal = value("TemporalPositionIdentifier") or value("TemporalPositionIndex", "FrameContentSequence")
    return DicomImage(
        path,
        index,
        str(header.get("SOPInstanceUID", path)),
        tuple(str(header.get(name, "")) for name in ("SeriesNumber", "SeriesDescription", "SeriesInstanceUID")),
        _component(header, value),
        (int(header.Rows), int(header.Columns)),
        int(header.BitsAllocated),
        None if directions is None else numbers("ImagePositionPatient", "PlanePositionSequence", 3),
        directions,
        numbers("PixelSpacing", "PixelMeasuresSequence", 2),
        None if thickness is None else float(thickness),
        float(slope or 1),
        float(intercept or 0),
        float(_private(header, *_OF_PHILIPS) or 0) or None,
        None if temporal is None else int(temporal),
        None if number is None else (int(number), index),
        str(value("FrameAcquisitionDateTime", "FrameContentSequence") or time or "") or None,
    )


def _component(header, value):
    """Which part of a complex image it is; None where the file does not say."""
    said = value("ComplexImageComponent", "MRImageFrameTypeSequence")
    if said in _COMPONENTS:
        return _COMPONENTS[said]
    kind = _private(header, *_OF_GE[:3])
    if kind is not None and int(kind) < len(_OF_GE[3]):
        return _OF_GE[3][int(kind)]
    found = {_COMPONENTS[word] for word in header.get("ImageType", ())[2:] if word in _COMPONENTS}
    return found.pop() if len(found) == 1 else None


def _private(header, group, creator, element):
    try:
        found = header.private_block(group, creator)[element].value
    except KeyError:
        return None
    return found[0] if isinstance(found, (list, pydicom.multival.MultiValue)) else found


def read_pixels(path) -> np.ndarray:
    """The stored values of a file's images; raises `ValueError` for pixels that are damaged or cannot be expanded."""
    header = read_header(path, pixels=True)
    syntax = header.get("file_meta", {}).get("TransferSyntaxUID") or pydicom.uid.ImplicitVRLittleEndian
    with _told_of(path, "not a whole DICOM image"):
        if syntax.is_compressed and not get_decoder(syntax).is_available:
            needed = "; or ".join(each.split(" - requires ")[-1] for each in get_decoder(syntax).missing_dependencies)
            raise ValueError(f"its pixels are compressed as {syntax.name}: pip install {needed}")
        return header.pixel_array
