"""DICOM files as scanners write them: a file an image, or all images in one."""

import numpy as np
import pydicom
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

_AXES = np.linalg.qr([[0, -2.0, 0.6], [1.5, 0, 0], [0.3, 0, 2.8]])[0]  # oblique, at right angles
AFFINE = np.eye(4)
AFFINE[:3] = np.column_stack([_AXES * np.linalg.det(_AXES) * [1.5, 2.0, 3.0], [10, -20, 30]])  # mm, right-handed
SLOPE, INTERCEPT = 0.5, -100.0


def stored(shape, seed=0):
    """Values as they are in files, (frames, slices, rows, columns)."""
    return np.random.default_rng(seed).integers(0, 4096, shape).astype(np.uint16)


def place(affine, index):
    """What DICOM says of a slice: its position, directions of its columns and rows, and their distances."""
    to_dicom = np.diag([-1.0, -1.0, 1.0])
    size = np.linalg.norm(affine[:3, :3], axis=0)
    directions = to_dicom @ (affine[:3, :2] / size[:2])
    spacing = [float(size[1]), float(size[0])]
    return (to_dicom @ (affine[:3, 3] + index * affine[:3, 2])).tolist(), directions.T.ravel().tolist(), spacing


def header(uid=MRImageStorage, **elements):
    """A file without images; ``elements`` by keyword."""
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = uid, generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SeriesNumber = "1.2.3", "1.2.3.4", 4
    dataset.Modality, dataset.SeriesDescription, dataset.FrameOfReferenceUID = "MR", "MRF", "1.2.3.5"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    update(dataset, elements)
    return dataset


def update(dataset, elements):
    """Sets elements by keyword; those that are None are removed."""
    for keyword, value in elements.items():
        if value is None:
            dataset.pop(keyword, None)
        else:
            setattr(dataset, keyword, value)


def save(dataset, path, pixels):
    """Writes a file with these values."""
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.PixelData = pixels.tobytes()
    dataset.save_as(path, enforce_file_format=True)


def write_classic(folder, values, change=None, affine=AFFINE, name="IM", **elements):
    """A file an image, named at random; ``change(dataset, frame, slice)`` may alter it before it is written."""
    folder.mkdir(exist_ok=True, parents=True)
    names = np.random.default_rng(1).permutation(values.shape[0] * values.shape[1])
    for frame, volume in enumerate(values):
        for index, pixels in enumerate(volume):
            number = frame * len(volume) + index
            dataset = header(InstanceNumber=number + 1, SliceThickness=3)
            dataset.RescaleSlope, dataset.RescaleIntercept = SLOPE, INTERCEPT
            where = place(affine, index)
            dataset.ImagePositionPatient, dataset.ImageOrientationPatient, dataset.PixelSpacing = where
            update(dataset, elements)
            if change is not None:
                change(dataset, frame, index)
            save(dataset, folder / f"{name}{names[number]:04d}", pixels)


def write_enhanced(path, values, affine=AFFINE, **elements):
    """All images in one file, slices first, each with its place and frame in its functional groups."""
    dataset = header(EnhancedMRImageStorage, InstanceNumber=1, **elements)
    dataset.NumberOfFrames = values.shape[0] * values.shape[1]
    shared, groups = pydicom.Dataset(), []
    scaling, measures = pydicom.Dataset(), pydicom.Dataset()
    scaling.RescaleSlope, scaling.RescaleIntercept = SLOPE, INTERCEPT
    measures.PixelSpacing, measures.SliceThickness = place(affine, 0)[2], 3
    shared.PixelValueTransformationSequence, shared.PixelMeasuresSequence = [scaling], [measures]
    dataset.SharedFunctionalGroupsSequence = [shared]
    for index in range(values.shape[1]):
        for frame in range(values.shape[0]):
            position, orientation, content, group = (pydicom.Dataset() for _ in range(4))
            position.ImagePositionPatient, orientation.ImageOrientationPatient, _ = place(affine, index)
            content.TemporalPositionIndex = frame + 1
            group.PlanePositionSequence, group.PlaneOrientationSequence = [position], [orientation]
            group.FrameContentSequence = [content]
            groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = groups
    save(dataset, path, values.swapaxes(0, 1))
