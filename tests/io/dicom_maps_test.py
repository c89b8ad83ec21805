"""Maps as DICOM have the values and places of the NIfTI maps, say their units, and join the study they come from."""

import dataclasses
import re
import shutil
import subprocess

import nibabel
import numpy as np
import pydicom
import pytest

from ganmrf.io.dicom_maps import write_dicom_maps
from ganmrf.io.field_maps import read_b1_map
from ganmrf.io.maps import write_maps
from ganmrf.io.series import read_series
from tests.io.dicom_files import AFFINE, stored, write_classic
from tests.io.maps_test import maps, refined

SHAPE = 2, 3, 4
UNITS = {  # and what the NIfTI map is multiplied by
    "T1map": ("ms", 1e3),
    "T2map": ("ms", 1e3),
    "M0map": ("1", 1),
    "part-phase_M0map": ("rad", 1),
    "quality": ("1", 1),
    "desc-std_T1map": ("ms", 1e3),
    "desc-std_T2map": ("ms", 1e3),
    "TB1map": ("%", 1),
}
AFFINES = {
    "oblique": AFFINE,
    "mirrored": AFFINE @ np.diag([1.0, 1, -1, 1]),
    "of float32": np.float64(np.float32(AFFINE)),
    "axes exchanged": np.array([[0, -2.0, 0, 10], [1.5, 0, 0, -20], [0, 0, 3.0, 30], [0, 0, 0, 1]]),
}


def headers(folder):
    return [pydicom.dcmread(path) for path in sorted(folder.iterdir())]


def assert_same_places(values, affine, expected, expected_affine, **tolerance):
    """Every voxel, (z, y, x), is within 1e-4 mm of one of the expected, whose value it has."""
    for z, y, x in np.ndindex(values.shape):
        there = np.linalg.solve(expected_affine, affine @ [x, y, z, 1])[:3]
        nearest = np.rint(there).astype(int)
        off = expected_affine[:3, :3] @ (there - nearest)
        assert np.linalg.norm(off) < 1e-4
        np.testing.assert_allclose(values[z, y, x], expected[tuple(nearest[::-1])], **tolerance)


def everything(folder, affine=AFFINE):
    """All maps there are, as DICOM and as NIfTI."""
    options = {"refined": refined(SHAPE), "affine": affine, "with_b1": True}
    return write_dicom_maps(folder / "dicom", maps(SHAPE), **options), write_maps(folder, maps(SHAPE), **options)


@pytest.mark.parametrize("affine", AFFINES)
def test_the_maps_of_nifti_are_read_back(tmp_path, affine):
    """With our reader: the same places; values within the steps of 16 bits."""
    dicom, nifti = everything(tmp_path, AFFINES[affine])
    assert dicom.keys() == nifti.keys() == UNITS.keys()
    for name, folder in dicom.items():
        series, image = read_series(folder), nibabel.load(nifti[name])
        expected = UNITS[name][1] * image.get_fdata().T
        steps = 4e-5 if name == "part-phase_M0map" else 2e-5
        assert_same_places(series.images[0], series.affine, expected, image.affine, atol=steps * np.abs(expected).max())
        assert not series.images[0][expected == 0].any()  # outside the mask
    b1 = read_b1_map(dicom["TB1map"], SHAPE, scale=0.01, affine=AFFINES[affine])
    np.testing.assert_allclose(b1, 0.01 * nibabel.load(nifti["TB1map"]).get_fdata().T, atol=2e-5)


def test_maps_of_b0_have_both_signs(tmp_path):
    matched, fitted = maps(SHAPE), refined(SHAPE)
    b0 = np.linspace(-40, 20, matched.t1.size).reshape(SHAPE)
    std = np.full(SHAPE, 3.0)
    std[0, 0, 1] = np.inf  # as large as the map's largest magnitude is shown
    best = dataclasses.replace(fitted, off_resonance=b0, off_resonance_std=std)
    paths = write_dicom_maps(tmp_path, dataclasses.replace(matched, off_resonance=b0), refined=best)
    inside = matched.index >= 0
    values, stds = (read_series(paths[name]).images[0] for name in ("fieldmap", "desc-std_fieldmap"))
    np.testing.assert_allclose(values, np.where(inside, b0, 0), atol=2 * 2e-5 * 40)  # of a signed number of 16 bits
    largest = np.abs(b0[inside]).max()
    np.testing.assert_allclose(stds, np.where(inside, np.minimum(std, largest), 0), atol=2e-5 * largest)


def test_dcm2niix_reads_the_maps(tmp_path):
    if shutil.which("dcm2niix") is None:
        pytest.skip("needs dcm2niix")
    dicom, nifti = everything(tmp_path)
    for name, folder in dicom.items():
        command = ["dcm2niix", "-o", str(tmp_path), "-f", f"{name}-out", "-b", "n", str(folder)]
        subprocess.run(command, check=True, capture_output=True)
        (path,) = tmp_path.glob(f"{name}-out*.nii")
        image, expected = nibabel.load(path), nibabel.load(nifti[name])
        values = UNITS[name][1] * expected.get_fdata().T
        tolerance = 4e-5 * np.abs(values).max()
        assert_same_places(image.get_fdata().T, image.affine, values, expected.affine, atol=tolerance)


def test_the_standard_is_kept(tmp_path):
    """By dciodvfy, of dicom3tools; what it warns of are rescale slopes, which the standard has for enhanced images."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("needs dciodvfy")
    for folder in everything(tmp_path)[0].values():
        said = subprocess.run(["dciodvfy", sorted(folder.iterdir())[0]], capture_output=True, text=True, check=False)
        assert "Error" not in said.stderr


def test_units_types_and_uids(tmp_path):
    dicom, _ = everything(tmp_path)
    images = {name: headers(folder) for name, folder in dicom.items()}
    every = [image for several in images.values() for image in several]
    assert len({image.SOPInstanceUID for image in every}) == len(every) == SHAPE[0] * len(UNITS)
    for name, count in {"SeriesInstanceUID": len(UNITS), "SeriesNumber": len(UNITS), "StudyInstanceUID": 1}.items():
        assert len({image[name].value for image in every}) == count
    assert len({image.FrameOfReferenceUID for image in every}) == 1
    types = {"T1map": "T1 MAP", "T2map": "T2 MAP", "M0map": "DENSITY MAP", "part-phase_M0map": "PHASE MAP"}
    for name, several in images.items():
        for image in several:
            assert list(image.ImageType) == ["DERIVED", "PRIMARY", types.get(name, "OTHER")]
            (mapping,) = image.RealWorldValueMappingSequence
            (unit,) = mapping.MeasurementUnitsCodeSequence
            assert (unit.CodeValue, unit.CodingSchemeDesignator) == (UNITS[name][0], "UCUM")
            assert mapping.RealWorldValueSlope == image.RescaleSlope
            assert mapping.RealWorldValueIntercept == image.RescaleIntercept == 0
            limits = mapping.RealWorldValueFirstValueMapped, mapping.RealWorldValueLastValueMapped
            assert limits[0] <= image.pixel_array.min() <= image.pixel_array.max() <= limits[1]
            assert image.RescaleType == UNITS[name][0]


def test_the_study_of_the_source_is_joined(tmp_path):
    about = {
        "PatientName": "Müller^Jörg",
        "PatientID": "0815",
        "PatientBirthDate": "19700101",
        "SpecificCharacterSet": "ISO_IR 100",
        "AccessionNumber": "7",
        "StudyDate": "20260102",
        "PatientAge": "twelve",  # what the standard would not have stays as it is
    }
    with pydicom.config.disable_value_validation():
        write_classic(tmp_path / "scan", stored((3, *SHAPE)), **about)
        write_classic(tmp_path / "scan" / "b", stored((3, *SHAPE)), SeriesNumber=9, SeriesInstanceUID="1.2.9")
    series = read_series(tmp_path / "scan", "4")
    found = write_dicom_maps(tmp_path / "maps", maps(SHAPE), affine=series.affine, source=tmp_path / "scan", series="4")
    with pydicom.config.disable_value_validation():
        for number, folder in enumerate(found.values(), 1):
            for image in headers(folder):
                for name in about.keys() - {"SpecificCharacterSet"}:
                    assert image[name].value == about[name]
                assert (image.StudyInstanceUID, image.FrameOfReferenceUID) == ("1.2.3", "1.2.3.5")
                assert image.SeriesInstanceUID not in ("1.2.3.4", "1.2.9")
                assert image.SeriesNumber == 400 + number
    both = read_series(found["T1map"])
    assert_same_places(both.images[0], both.affine, both.images[0], series.affine)


def test_error_bars_without_a_bound_are_as_large_as_their_map(tmp_path):
    better = refined(SHAPE)
    wide = dataclasses.replace(better, t1_std=np.where(better.t1_std == better.t1_std.min(), np.inf, better.t1_std))
    assert maps(SHAPE).index.ravel()[0] < 0  # the smallest is outside the mask: the next one is taken
    wide.t1_std[0, 0, 1] = np.inf
    found = write_dicom_maps(tmp_path, maps(SHAPE), refined=wide)
    bars, t1 = (read_series(found[name]).images[0] for name in ("desc-std_T1map", "T1map"))
    assert bars.max() == pytest.approx(t1.max(), rel=1e-4)
    assert np.sort(bars.ravel())[-2] < 1e-2 * t1.max()


@pytest.mark.parametrize("shape", [(4,), (3, 4)])
def test_maps_of_fewer_axes(tmp_path, shape):
    found = write_dicom_maps(tmp_path, maps(shape), voxel_size=(5e-3, 2e-3, 1e-3))
    series = read_series(found["T1map"])
    expected = np.where(maps(shape).index >= 0, 1e3 * maps(shape).t1, 0)
    np.testing.assert_allclose(series.images.ravel(), expected.ravel(), atol=2e-5 * expected.max())
    np.testing.assert_allclose(series.voxel_size, (5e-3, 2e-3, 1e-3))


def test_what_is_there_is_replaced_or_kept(tmp_path):
    write_dicom_maps(tmp_path, maps((4, 3, 4)))
    found = write_dicom_maps(tmp_path, maps(SHAPE))
    assert len(headers(found["T1map"])) == SHAPE[0]
    (found["T2map"] / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=re.escape("T2map: other files are in it, such as notes.txt")):
        write_dicom_maps(tmp_path, maps(SHAPE))
    assert (found["T2map"] / "notes.txt").read_text() == "mine"


def test_bad_input_is_named(tmp_path):
    sheared = AFFINE @ (np.eye(4) + 0.01 * np.eye(4, k=1))
    with pytest.raises(ValueError, match="axes of DICOM images are at right angles"):
        write_dicom_maps(tmp_path, maps(SHAPE), affine=sheared)
    with pytest.raises(ValueError, match="none: No such file"):
        write_dicom_maps(tmp_path, maps(SHAPE), source=tmp_path / "none")
    assert not list(tmp_path.iterdir())
