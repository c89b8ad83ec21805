"""DICOM series are in order, in place and in the units of the scanner; what cannot be is refused in one line."""

import pathlib
import shutil
import subprocess

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from ganmrf.io.field_maps import read_b1_map
from ganmrf.io.series import read_mask, read_on_grid, read_series
from tests.io.dicom_files import AFFINE, INTERCEPT, SLOPE, header, place, save, stored, write_classic, write_enhanced

SHAPE = FRAMES, Z, Y, X = 5, 3, 4, 6
VALUES = stored(SHAPE)
EXPECTED = SLOPE * VALUES.astype(float) + INTERCEPT


def write(path, kind, values=VALUES, **elements):
    if kind == "classic":
        write_classic(path, values, **elements)
    else:
        path.mkdir(exist_ok=True)
        write_enhanced(path / "all.dcm", values, **elements)


@pytest.mark.parametrize("kind", ["classic", "enhanced"])
def test_a_folder_is_a_series(tmp_path, kind):
    write(tmp_path / "scan", kind)
    (tmp_path / "scan" / "notes.txt").write_text("not an image")
    save(header(SamplesPerPixel=3, SeriesNumber=99), tmp_path / "scan" / "report.dcm", np.zeros((3, 8, 8), np.uint16))
    series = read_series(tmp_path / "scan")
    assert series.images.dtype == np.float32
    np.testing.assert_array_equal(series.images, EXPECTED)
    np.testing.assert_allclose(series.grid, AFFINE, atol=1e-9)
    np.testing.assert_allclose(series.voxel_size, (3e-3, 2e-3, 1.5e-3), rtol=1e-6)


def test_an_enhanced_file_is_a_series(tmp_path):
    write(tmp_path, "enhanced")
    for name in ("all.dcm", "all.IMA", "all", "all.123"):
        np.testing.assert_array_equal(read_series((tmp_path / "all.dcm").rename(tmp_path / name)).images, EXPECTED)
        (tmp_path / name).rename(tmp_path / "all.dcm")


@pytest.mark.parametrize("turned", [False, True])
def test_every_voxel_is_where_dcm2niix_has_it(tmp_path, turned):
    """Another program's reading of the same files: its voxels, in whatever order, have our values at our places."""
    if shutil.which("dcm2niix") is None:
        pytest.skip("needs dcm2niix")
    affine = AFFINE @ np.diag([-1.0, 1, 1, 1]) if turned else AFFINE  # the slices counted down
    write_classic(tmp_path / "scan", VALUES, affine=affine, Manufacturer="SIEMENS")
    command = ["dcm2niix", "-o", str(tmp_path), "-f", "out", "-b", "n", str(tmp_path / "scan")]
    subprocess.run(command, check=True, capture_output=True)
    image, series = nibabel.load(tmp_path / "out.nii"), read_series(tmp_path / "scan")
    theirs, place_there = image.get_fdata(), image.affine
    for voxel in np.ndindex(X, Y, Z):
        there = np.linalg.solve(place_there, series.affine @ [*voxel, 1])[:3]
        np.testing.assert_allclose(there, np.rint(there), atol=1e-3)  # dcm2niix keeps places in float32
        ours = series.images[(slice(None), *voxel[::-1])]
        np.testing.assert_allclose(ours, theirs[tuple(np.rint(there).astype(int))])


def test_frames_are_in_the_order_of_time(tmp_path):
    """Of the temporal position, else the instance number, else the time: the first that tells all frames apart."""

    def temporal(image, frame, _):
        image.TemporalPositionIdentifier = frame + 1
        image.InstanceNumber = 1

    def time(image, frame, _):
        image.InstanceNumber, image.AcquisitionTime = None, f"1200{frame:02d}.5"

    def both(image, frame, index):
        image.TemporalPositionIdentifier = frame + 1
        image.InstanceNumber = (FRAMES - frame) * Z + index

    def past_midnight(image, frame, _):
        image.InstanceNumber = None
        image.AcquisitionDate, image.AcquisitionTime = [("20240131", "235958"), ("20240201", f"00{frame:02d}00")][
            frame > 0
        ]

    for name, change in (("temporal", temporal), ("time", time), ("midnight", past_midnight)):
        write_classic(tmp_path / name, VALUES, change)
        np.testing.assert_array_equal(read_series(tmp_path / name).images, EXPECTED)
    write_classic(tmp_path / "both", VALUES, both)
    with pytest.warns(UserWarning, match="order of TemporalPositionIdentifier, which is not that of InstanceNumber"):
        np.testing.assert_array_equal(read_series(tmp_path / "both").images, EXPECTED)
    write_classic(tmp_path / "none", VALUES, InstanceNumber=1)
    with pytest.raises(ValueError, match=r"5 images of one slice with the same TemporalPosition.*, InstanceNumber"):
        read_series(tmp_path / "none")


ANGLE = np.random.default_rng(2).uniform(-np.pi, np.pi, SHAPE)
ANGLE[0, 0, 0, :2] = -np.pi, np.pi * (1 - 1e-9)
PHASES = {  # units that fill the circle: what is stored, rescale slope and intercept
    "Siemens": (np.floor((ANGLE + np.pi) / (2 * np.pi) * 4096).astype(np.uint16), 2, -4096),
    "mrad": (np.rint((ANGLE + np.pi) / (2 * np.pi) * 4095).astype(np.uint16), 2 * 3141.59 / 4095, -3141.59),
    "rad": (np.rint((ANGLE + np.pi) / (2 * np.pi) * 4095).astype(np.uint16), 2 * 3.14159 / 4095, -3.14159),
    "degrees": (np.rint((ANGLE + np.pi) / (2 * np.pi) * 4095).astype(np.uint16), 360 / 4095, -180),
}


@pytest.mark.parametrize("unit", PHASES)
@pytest.mark.parametrize("of_one_series", [True, False])
def test_magnitude_and_phase_are_complex(tmp_path, unit, of_one_series):
    pixels, slope, intercept = PHASES[unit]
    uid = {} if of_one_series else {"SeriesInstanceUID": "1.2.3.9", "SeriesNumber": 5}
    write_classic(tmp_path, VALUES)
    of_phase = {"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"], "RescaleSlope": slope, "RescaleIntercept": intercept}
    write_classic(tmp_path, pixels, name="PH", **of_phase, **uid)
    images = read_series(tmp_path).images
    assert images.dtype == np.complex64
    np.testing.assert_allclose(images, EXPECTED * np.exp(1j * ANGLE), atol=2e-3 * EXPECTED.max())  # 12 bits of phase


def test_real_and_imaginary_are_complex(tmp_path):
    other = stored(SHAPE, seed=1)
    expected = EXPECTED + 1j * (SLOPE * other.astype(float) + INTERCEPT)
    for kind, part in (("type", ("R", "I")), ("enhanced", ("REAL", "IMAGINARY")), ("private", (2, 3))):
        folder = tmp_path / kind
        folder.mkdir()
        for values, name in zip((VALUES, other), part, strict=True):
            if kind == "type":
                write_classic(folder, values, name=name, ImageType=["ORIGINAL", "PRIMARY", name])
            elif kind == "enhanced":
                write_enhanced(folder / name, values, ComplexImageComponent=name)
            else:

                def change(image, *_, value=name):
                    image.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
                    image.private_block(0x43, "GEMS_PARM_01", create=True).add_new(0x2F, "SS", value)

                write_classic(folder, values, change, name=str(name))
        np.testing.assert_array_equal(read_series(folder).images, expected)


def test_frames_scaled_each_by_itself_are_comparable(tmp_path):
    """Philips: the floating-point value is (rescaled value) / (rescale slope * scale slope)."""

    def change(image, frame, _):
        image.RescaleSlope = 1 + frame
        image.private_block(0x2005, "Philips MR Imaging DD 001", create=True).add_new(0x0E, "FL", 0.25 * 2**frame)

    write_classic(tmp_path, VALUES, change, RescaleIntercept=0)
    scale = 0.25 * 2 ** np.arange(FRAMES).reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(read_series(tmp_path).images, VALUES / scale, rtol=1e-6)


def test_one_of_several_series_is_chosen(tmp_path):
    other = stored((2, *SHAPE[1:]), seed=1)
    write_classic(tmp_path / "a", VALUES)
    write_classic(tmp_path / "b", other, SeriesNumber=7, SeriesInstanceUID="1.2.3.7", SeriesDescription="localizer")
    with pytest.raises(ValueError, match=r"2 series: choose by --variable.*: 4 \(MRF, 15 images\), 7 \(localizer, 6"):
        read_series(tmp_path)
    for chosen in ("4", "1.2.3.4"):
        np.testing.assert_array_equal(read_series(tmp_path, chosen).images, EXPECTED)
    assert len(read_series(tmp_path, "7").images) == 2
    with pytest.raises(ValueError, match=r"no series 8: choose by --variable.*: 4 \(MRF, 15 images\), 7"):
        read_series(tmp_path, "4,8")
    write_classic(tmp_path / "c", other, SeriesInstanceUID="1.2.3.8")
    with pytest.raises(ValueError, match=r"3 series: .*the UIDs of .*: 1\.2\.3\.4 \(MRF, 15 .*, 1\.2\.3\.8 "):
        read_series(tmp_path)
    assert len(read_series(tmp_path, "1.2.3.8").images) == 2


def test_images_that_are_there_twice_are_read_once(tmp_path):
    write_classic(tmp_path / "a", VALUES)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    with pytest.warns(UserWarning, match="15 images are there twice"):
        np.testing.assert_array_equal(read_series(tmp_path).images, EXPECTED)


def turn(image, frame, _):
    if frame == 1:
        image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]


def move(image, _, index):
    if index == 2:
        image.ImagePositionPatient = place(AFFINE, 3)[0]


def lose(image, frame, _):
    if frame == 1:
        del image.ImagePositionPatient


def shift(image, frame, _):
    if frame == 1:
        image.ImagePositionPatient = (np.add(image.ImagePositionPatient, image.ImageOrientationPatient[:3])).tolist()


def stretch(image, frame, _):
    if frame == 1:
        image.PixelSpacing = [3, 3]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"change": turn}, "images of several orientations"),
        ({"change": shift}, "images of one slice are up to .* mm from each other"),
        ({"change": stretch}, "images of several distances between pixels"),
        ({"change": move}, r"slice 2 of 3 is .* mm from its place: is one missing\?"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "P"]}, "images of phase alone"),
        ({"ImageType": ["DERIVED", "PRIMARY", "M", "MOSAIC"]}, "slices in a mosaic: export them one by one"),
        ({"change": lose}, "3 of 15 images do not say where they are"),
        ({"PixelSpacing": [1, 2, 3]}, "not a DICOM image that can be read"),
    ],
)
def test_what_is_no_series_is_refused_in_one_line(tmp_path, options, words):
    write_classic(tmp_path, VALUES, **options)
    with pytest.raises(ValueError, match=words) as error:
        read_series(tmp_path)
    assert str(error.value).startswith(str(tmp_path))
    assert "\n" not in str(error.value)


def test_missing_and_damaged_files_are_named(tmp_path):
    folder = tmp_path / "scan"
    write_classic(folder, VALUES)
    file = sorted(folder.iterdir())[3]
    whole = file.read_bytes()
    for damaged in (whole[:140], whole[:200], whole[:500], whole[:-10], whole[:132] + b"\xff" * 400):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"IM0003: not a (whole )?DICOM") as error:
            read_series(folder)
        assert "\n" not in str(error.value)
    file.unlink()
    with pytest.raises(ValueError, match="scan: slices of 4 and of 5 frames: images are missing"):
        read_series(folder)
    with pytest.raises(ValueError, match="holds one image: give the folder of its series"):
        read_series(sorted(folder.iterdir())[0])
    (tmp_path / "text.dcm").write_text("frame,signal\n1,2\n" * 40)
    (tmp_path / "empty").mkdir()
    for name in ("text.dcm", "empty", "no.dcm"):
        with pytest.raises(ValueError, match=rf"{name}"):
            read_series(tmp_path / name)
    with pytest.raises(ValueError, match=r"\(--frame_axis\) can be chosen in"):
        read_series(folder, frame_axis=0)


def test_phases_of_an_unknown_unit_are_refused(tmp_path):
    write_classic(tmp_path, VALUES)
    write_classic(tmp_path, VALUES, name="PH", ImageType=["ORIGINAL", "PRIMARY", "P"], RescaleIntercept=0)
    with pytest.raises(ValueError, match=r"phases of .* to .* fill no circle in rad"):
        read_series(tmp_path)


def test_a_compression_that_needs_another_package_names_it():
    """As much as pydicom brings is read; files are pydicom's own."""
    names = ("MR_small_jpeg_ls_lossless.dcm", "MR_small_RLE.dcm", "MR_small.dcm", "image_dfl.dcm")
    lossless, rle, plain, deflated = (pathlib.Path(get_testdata_file(name, download=False)) for name in names)
    for path, words in ((lossless, r"compressed as JPEG-LS Lossless.*pip install .*pyjpegls"), (deflated, "deflated")):
        with pytest.raises(ValueError, match=words):
            read_mask(path, (1, 64, 64))
    expected, other = (read_on_grid(path, "mask", "the mask", (1, 64, 64), None) for path in (plain, rle))
    np.testing.assert_array_equal(expected, other)


def test_masks_and_b1_maps(tmp_path):
    """In the order of a series that counts its slices and columns from the other end."""
    write_classic(tmp_path / "mask", VALUES[:1] // 2048, RescaleSlope=1, RescaleIntercept=0)
    write_classic(tmp_path / "b1", 1 + VALUES[:1], RescaleSlope=0.01, RescaleIntercept=0)
    turned = AFFINE.copy()
    for axis, n in ((0, X), (2, Z)):
        turned[:3, 3] += (n - 1) * turned[:3, axis]
        turned[:3, axis] *= -1
    expected = VALUES[0, ::-1, :, ::-1]
    np.testing.assert_array_equal(read_mask(tmp_path / "mask", (Z, Y, X), turned), expected >= 2048)
    b1 = read_b1_map(tmp_path / "b1", (Z, Y, X), scale=0.1, affine=turned)
    np.testing.assert_allclose(b1, 1e-3 * (1.0 + expected), rtol=1e-6)
    write_classic(tmp_path / "mask", VALUES[1:2], name="more", InstanceNumber=9)
    with pytest.raises(ValueError, match=r"mask: the mask has shape \(2, 3, 4, 6\)"):
        read_mask(tmp_path / "mask", (Z, Y, X), turned)


def test_images_without_a_place(tmp_path):
    nowhere = dict.fromkeys(("ImagePositionPatient", "ImageOrientationPatient"))
    write_classic(tmp_path / "a", VALUES[:, :1], **nowhere)
    series = read_series(tmp_path / "a")
    np.testing.assert_array_equal(series.images, EXPECTED[:, :1])
    assert series.grid is None
    np.testing.assert_allclose(series.voxel_size, (3e-3, 2e-3, 1.5e-3))
    write_classic(tmp_path / "b", VALUES[:, :1], **nowhere, PixelSpacing=None)
    assert read_series(tmp_path / "b").affine is None


def test_a_file_that_claims_more_than_it_holds_is_refused(tmp_path):
    write_enhanced(tmp_path / "all.dcm", VALUES, affine=AFFINE)
    with pydicom.dcmread(tmp_path / "all.dcm") as dataset:
        dataset.Rows = dataset.Columns = 2**15
        dataset.save_as(tmp_path / "all.dcm")
        dataset.NumberOfFrames = 10**9
        dataset.save_as(tmp_path / "more.dcm")
    with pytest.raises(ValueError, match=r"all\.dcm: .* MB of a file cannot hold arrays of \d+"):
        read_series(tmp_path / "all.dcm")
    with pytest.raises(ValueError, match=r"more\.dcm: .*1000000000 images in \d+ bytes"):
        read_series(tmp_path / "more.dcm")


def test_uids_are_not_taken_for_those_of_other_files(tmp_path):
    """Two files with one SOPInstanceUID are the same image: a series copied in part is still whole."""
    write_classic(tmp_path, VALUES)
    first = sorted(tmp_path.iterdir())[0]
    dataset = pydicom.dcmread(first)
    dataset.SOPInstanceUID = generate_uid()
    dataset.save_as(tmp_path / "again")
    with pytest.raises(ValueError, match="frames: images are missing"):
        read_series(tmp_path)
