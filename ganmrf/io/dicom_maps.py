"""Parameter maps as DICOM: MR images of 16 bits, rescaled to units that say so, a series for each map."""

import copy
import datetime
import math
import re
from collections.abc import Collection

import numpy as np
import pydicom
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

import ganmrf
from ganmrf.dictionary.match import Maps
from ganmrf.dictionary.refine import Refined
from ganmrf.files import make_folder, making_folder, remove_folder
from ganmrf.io.dicom import first_header
from ganmrf.io.maps import map_affine, map_outputs, std_name
from ganmrf.physics.tissue import FACTS

_SHEARED = 1e-4  # cosine between axes above which DICOM, whose axes are at right angles, would misplace voxels
_SHOWN = 0.99  # quantile of the values inside that is shown brightest
_LARGEST = 2**31  # which a number of a series must stay below
_SERIES = 100  # numbers of series that a source's number leaves to its maps
_UNITS = {  # of a sidecar: what values are multiplied by, and the unit of DICOM in UCUM
    "s": (1e3, "ms", "millisecond"),
    "rad": (1.0, "rad", "radian"),
    "Hz": (1.0, "Hz", "hertz"),
    "1/s": (1.0, "/s", "per second"),
    "1": (1.0, "1", "no units"),
    "arbitrary": (1.0, "1", "no units"),
    "%": (1.0, "%", "percent"),
}
_TYPES = {"T1map": "T1 MAP", "T2map": "T2 MAP", "M0map": "DENSITY MAP", "part-phase_M0map": "PHASE MAP"}
_OF_SOURCE = (  # what is said of the patient, the study and the scanner
    *("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "PatientAge", "PatientSize"),
    *("PatientWeight", "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "StudyDescription", "AccessionNumber"),
    *("ReferringPhysicianName", "FrameOfReferenceUID", "PositionReferenceIndicator", "PatientPosition"),
    *("BodyPartExamined", "Laterality", "MRAcquisitionType", "MagneticFieldStrength", "ImagingFrequency"),
    *("InstitutionName", "ProtocolName"),
)
_EMPTY = (  # what must be there, and may be empty
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyID", "AccessionNumber", "Laterality"),
    *("ReferringPhysicianName", "PositionReferenceIndicator", "PatientPosition", "ScanOptions", "MRAcquisitionType"),
    *("EchoTime", "EchoTrainLength", "RepetitionTime"),
)


def write_dicom_maps(
    folder,
    maps: Maps,
    *,
    refined: Refined | None = None,
    affine=None,
    voxel_size: tuple[float, float, float] = (1e-3, 1e-3, 1e-3),
    with_b1: bool = False,
    source=None,
    series: str | None = None,
    fields: Collection[str] | None = None,
) -> dict:
    """Writes the maps of `write_maps`, each as a folder of MR images, ``T1map/0001.dcm`` and on, one a slice.

    Times and their error bars are in ms, B1 in percent. Values are whole numbers of 16 bits times a round step, with
    the unit in the rescale type and the real-world value mapping: within 2e-5 of the largest value of the map, those of
    both signs within 4e-5. An error bar is no larger than the largest magnitude of its map, also where it is infinite.
    A map that is there already is replaced, whole or not at all.

    Args:
      folder: folder of the folders; created where it is missing.
      maps: the result of a match, fields of shape (x,), (y, x) or (z, y, x).
      refined: as in `write_maps`.
      affine: as in `write_maps`.
      voxel_size: as in `write_maps`.
      with_b1: as in `write_maps`.
      source: the DICOM images that the maps come from, a file or folder: the maps join their patient, study and frame
        of reference. None makes a study of their own, of nobody.
      series: which of its series (`read_dicom`).
      fields: as in `write_maps`.

    Returns:
      The folder of each map, by name.

    Raises:
      ValueError: as `write_maps`; a source that cannot be read; an affine whose axes are not at right angles; or a
        folder in the place of a map with other files in it.

    References:
      DICOM PS3.3, A.4 (MR images), C.7.6.16.2.11 (real-world values), https://dicom.nema.org/medical/dicom/current.
    """
    folder, affine = make_folder(folder), map_affine(affine, voxel_size)
    outputs = map_outputs(maps, refined, with_b1, fields)
    whose = {std_name(facts.suffix): facts.suffix for facts in FACTS.values()}
    common = _common(None if source is None else first_header(source, series))
    corners = _place(common, affine, maps.shape[0] if len(maps.shape) == 3 else 1)
    found = {}
    for number, (name, (values, entries)) in enumerate(outputs.items(), 1):
        if name in whose:
            values = np.minimum(values, np.abs(outputs[whose[name]][0]).max())
        unit = "%" if name == "TB1map" else entries["Units"]
        found[name] = folder / name
        others = [each.name for each in found[name].glob("*") if not re.fullmatch(r"\d{4,}\.dcm", each.name)]
        if others:
            raise ValueError(f"cannot write {found[name]}: other files are in it, such as {others[0]}")
        volume = values.reshape((1,) * (3 - values.ndim) + values.shape)
        images = _images(common, corners, name, number, volume, unit, entries)
        if found[name].exists():
            remove_folder(found[name])
        with making_folder(found[name]) as temporary:
            for image in images:
                image.save_as(temporary / f"{image.InstanceNumber:04d}.dcm", enforce_file_format=True)
    return found


def _common(source):
    """What all images of all maps say, but for their place."""
    image, now = pydicom.Dataset(), datetime.datetime.now()
    for keyword in _EMPTY:
        setattr(image, keyword, None)
    day, time = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    image.StudyInstanceUID, image.FrameOfReferenceUID = generate_uid(), generate_uid()
    image.StudyDate, image.StudyTime = day, time
    with pydicom.config.disable_value_validation():  # the scanner's values stay as they are
        for keyword in _OF_SOURCE if source is not None else ():
            if source.get(keyword) not in (None, ""):
                image[keyword] = source[keyword]
    image.SpecificCharacterSet, image.SOPClassUID, image.Modality = "ISO_IR 192", MRImageStorage, "MR"
    image.InstanceCreationDate = image.SeriesDate = image.ContentDate = day
    image.InstanceCreationTime = image.SeriesTime = image.ContentTime = time
    image.Manufacturer = image.ManufacturerModelName = "ganmrf"
    image.SoftwareVersions = ganmrf.__version__
    image.ScanningSequence, image.SequenceVariant = "RM", "NONE"
    number = 0 if source is None else int(source.get("SeriesNumber") or 0)
    image.SeriesNumber = _SERIES * min(number, _LARGEST // _SERIES - 1)
    return image


def _place(image, affine, depth):
    """Writes the axes of the slices into the header of an image, and returns where their first voxels are, mm."""
    size = np.linalg.norm(affine[:3, :3], axis=0)
    axes = affine[:3, :3] / size
    if np.abs(axes.T @ axes - np.eye(3)).max() > _SHEARED:
        raise ValueError(f"the axes of DICOM images are at right angles; got affine {affine.tolist()}")
    to_dicom = np.diag([-1.0, -1.0, 1.0])  # its axes lead to the left and back
    image.ImageOrientationPatient = [*map(_decimal, (to_dicom @ axes[:, :2]).T.ravel())]
    image.PixelSpacing, image.SliceThickness = [*map(_decimal, size[1::-1])], _decimal(size[2])
    image.SpacingBetweenSlices = image.SliceThickness
    return [to_dicom @ (affine[:3, 3] + index * affine[:3, 2]) for index in range(depth)]


def _decimal(value):
    """A number in the 16 characters that DICOM has for it."""
    return pydicom.valuerep.DSfloat(float(value), auto_format=True)


def _images(common, corners, name, number, values, unit, entries):
    """The images of one map, (z, y, x)."""
    factor, code, meaning = _UNITS[unit]
    values = np.nan_to_num(factor * values.astype(float))
    stored = np.iinfo(np.int16 if values.min() < 0 else np.uint16)
    step, inside = _step(np.abs(values).max() / stored.max), values[values != 0]
    shown = [float(end) for end in np.quantile(inside, [1 - _SHOWN, _SHOWN])] if inside.size else [0.0, 1.0]
    shown[0] = min(shown[0], 0.0)
    uid = generate_uid()
    for index, (corner, pixels) in enumerate(zip(corners, np.rint(values / step).astype(stored.dtype), strict=True)):
        image = copy.deepcopy(common)  # setting a value of a dataset changes its elements, whoever has them
        image.SOPInstanceUID, image.SeriesInstanceUID = generate_uid(), uid
        image.SeriesNumber, image.InstanceNumber = common.SeriesNumber + number, index + 1
        image.SeriesDescription = name if code == "1" else f"{name} [{code}]"
        image.DerivationDescription = entries["Description"]
        image.ImageType = ["DERIVED", "PRIMARY", _TYPES.get(name, "OTHER")]
        image.ImagePositionPatient = [*map(_decimal, corner)]
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.Rows, image.Columns = pixels.shape
        image.BitsAllocated, image.BitsStored, image.HighBit = stored.bits, stored.bits, stored.bits - 1
        image.PixelRepresentation = int(stored.min < 0)
        image.RescaleSlope, image.RescaleIntercept, image.RescaleType = _decimal(step), 0, code
        image.VOILUTFunction = "LINEAR_EXACT"  # the default has no window below 1
        image.WindowCenter, image.WindowWidth = _decimal(sum(shown) / 2), _decimal(shown[1] - shown[0])
        image.RealWorldValueMappingSequence = [_real_world(name, step, stored, code, meaning)]
        image.PixelData = pixels.tobytes()
        image.file_meta = pydicom.dataset.FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        yield image


def _real_world(name, step, stored, code, meaning):
    """What stored values mean, as an item of a sequence."""
    unit, item = pydicom.Dataset(), pydicom.Dataset()
    unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = code, "UCUM", meaning
    item.MeasurementUnitsCodeSequence = [unit]
    item.LUTLabel, item.LUTExplanation = name[:16], name
    kind = "SS" if stored.min < 0 else "US"
    item.add_new("RealWorldValueFirstValueMapped", kind, int(stored.min))
    item.add_new("RealWorldValueLastValueMapped", kind, int(stored.max))
    item.RealWorldValueIntercept, item.RealWorldValueSlope = 0.0, step
    return item


def _step(least):
    """The smallest of 1, 2 and 5 times a power of 10 that is no less: exact in DICOM's 16 characters."""
    if least == 0:
        return 1.0
    power = math.floor(math.log10(least))
    return next(step for digit in (1, 2, 5, 10, 20) if (step := float(f"{digit}e{power}")) >= least)
