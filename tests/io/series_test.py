"""Series and masks keep every voxel where the file has it; damaged or ambiguous files are refused in one line."""

import gzip
import itertools
import re
import struct

import nibabel
import numpy as np
import pytest
import scipy.io

from ganmrf.dictionary.magnitude import is_magnitude
from ganmrf.io.series import read_mask, read_series
from tests.shared import shared

FRAMES, Z, Y, X = 5, 2, 3, 4
AFFINE = np.array([[0, -2.0, 0, 10], [1.5, 0, 0, -20], [0, 0, 3.0, 30], [0, 0, 0, 1]])  # x and y swapped, mm


def images(dtype=np.complex64):
    rng = np.random.default_rng(0)
    values = 100 * rng.standard_normal((FRAMES, Z, Y, X, 2))
    values = values[..., 0] + 1j * values[..., 1] if np.issubdtype(dtype, np.complexfloating) else values[..., 0]
    return values.astype(dtype)


def save_nifti(path, values, affine=AFFINE, unit="mm"):
    image = nibabel.Nifti1Image(values, affine)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, path)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
@pytest.mark.parametrize("name", ["scan.npz", "scan.mat", "scan.nii", "scan.nii.gz", "SCAN.NII.GZ"])
def test_images_come_back_frames_first(tmp_path, name, dtype):
    expected = images(dtype)
    path = tmp_path / name
    if path.suffix == ".npz":
        np.savez(path, images=expected)
    elif path.suffix == ".mat":
        scipy.io.savemat(path, {"images": np.moveaxis(expected, 0, -1)})
    else:
        save_nifti(path, expected.T)
    series = read_series(path)
    assert series.images.dtype == dtype
    assert series.images.flags.c_contiguous
    np.testing.assert_array_equal(series.images, expected)


def test_affine_and_voxel_size_of_nifti(tmp_path):
    """The affine is in mm whatever the unit of the header; a file without geometry has none."""
    metres = np.diag([1e-3, 1e-3, 1e-3, 1]) @ AFFINE
    for unit, affine in (("mm", AFFINE), ("meter", metres)):
        save_nifti(tmp_path / "scan.nii", images(np.float32).T, affine, unit)
        series = read_series(tmp_path / "scan.nii")
        # NIfTI stores the affine in float32.
        np.testing.assert_allclose(series.affine, AFFINE, rtol=1e-6)
        np.testing.assert_allclose(series.voxel_size, (3e-3, 2e-3, 1.5e-3), rtol=1e-6)
    np.savez(tmp_path / "scan.npz", images=images())
    assert read_series(tmp_path / "scan.npz").affine is None
    assert read_series(tmp_path / "scan.npz").voxel_size is None


@pytest.mark.parametrize(("stored", "read"), [(np.int16, np.float32), (np.uint8, np.float32), (np.int32, np.float64)])
def test_integers_become_floating_point(tmp_path, stored, read):
    expected = np.arange(FRAMES * Z * Y * X).reshape(FRAMES, Z, Y, X).astype(stored)
    save_nifti(tmp_path / "scan.nii", expected.T)
    series = read_series(tmp_path / "scan.nii")
    assert series.images.dtype == read
    np.testing.assert_array_equal(series.images, expected)


def test_scaled_and_big_endian_nifti(tmp_path):
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    header.set_slope_inter(0.5, 3)
    image = nibabel.Nifti1Image(images(np.float64).T, AFFINE, header)
    nibabel.save(image, tmp_path / "scan.nii")
    series = read_series(tmp_path / "scan.nii")
    assert series.images.dtype.isnative
    # Stored in steps of at most the range over 2**16.
    np.testing.assert_allclose(series.images, images(np.float64), atol=np.ptp(images(np.float64)) / 2**16)


def test_frame_axis(tmp_path):
    expected = images()
    np.savez(tmp_path / "scan.npz", images=np.moveaxis(expected, 0, 2))
    np.testing.assert_array_equal(read_series(tmp_path / "scan.npz", frame_axis=2).images, expected)
    scipy.io.savemat(tmp_path / "scan.mat", {"images": expected})
    np.testing.assert_array_equal(read_series(tmp_path / "scan.mat", frame_axis=0).images, expected)
    np.savez(tmp_path / "scan.npz", images=np.ones((3, 4, 5)))
    with pytest.raises(ValueError, match=r"scan.npz: --frame_axis must be an axis of shape \(3, 4, 5\); got 3"):
        read_series(tmp_path / "scan.npz", frame_axis=3)
    np.save(tmp_path / "scan.npy", np.arange(48).reshape(4, 3, 4))
    with pytest.warns(UserWarning, match=r"axis 0 of the array, as long as another one, .* --frame_axis says"):
        unsure = read_series(tmp_path / "scan.npy").images
    np.testing.assert_array_equal(read_series(tmp_path / "scan.npy", frame_axis=0).images, unsure)


@pytest.mark.parametrize("suffix", [".npz", ".mat"])
def test_choice_of_the_array(tmp_path, suffix):
    path, first, second = tmp_path / f"scan{suffix}", np.ones((3, 4)), np.zeros((3, 4))

    def save(**arrays):
        np.savez(path, **arrays) if suffix == ".npz" else scipy.io.savemat(path, arrays)

    save(data=first, n=3.0, note="in vivo")  # numbers and text are no candidates
    assert read_series(path).images.all()
    save(data=first, images=second)  # the usual name wins
    assert not read_series(path).images.any()
    assert read_series(path, "data").images.all()
    save(data=first, other=second)
    with pytest.raises(ValueError, match="name, by --variable, the array that holds the images: it has data, other"):
        read_series(path)
    with pytest.raises(ValueError, match=r"no array 'dta'; it holds .*data, other"):
        read_series(path, "dta")
    save(n=3.0)
    with pytest.raises(ValueError, match="name, by --variable, the array that holds the images: it has none"):
        read_series(path)
    save(images="text")
    with pytest.raises(ValueError, match=r"images must be numeric with 2 axes or more; got|images: it has none"):
        read_series(path)


@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
def test_voxels_that_are_not_finite_in_a_frame_are_told(tmp_path, dtype):
    """NaN outside the mask is how many programs say that a voxel is outside; inside, a warning counts the voxels."""
    wrong = images(dtype)
    wrong[0, 0, 0, :2] = np.nan, np.inf
    wrong[-1, 1, 2, 3] = -np.inf
    np.savez(tmp_path / "scan.npz", wrong)
    series = read_series(tmp_path / "scan.npz")
    expected = np.ones((Z, Y, X), bool)
    expected[0, 0, :2] = expected[1, 2, 3] = False
    np.testing.assert_array_equal(series.finite, expected)
    np.testing.assert_array_equal(series.images, np.where(expected, images(dtype), 0))
    assert series.images.dtype == dtype
    outside = series.only_finite(expected, "mask.npz")
    np.testing.assert_array_equal(outside, expected)
    with pytest.warns(UserWarning, match=r"mask\.npz: 3 of 24 voxels inside are NaN or infinite"):
        np.testing.assert_array_equal(series.only_finite(np.ones((Z, Y, X), bool), "mask.npz"), expected)
    np.savez(tmp_path / "scan.npz", wrong * np.nan)
    with pytest.raises(ValueError, match=r"scan\.npz: all 24 voxels are NaN or infinite in a frame"):
        read_series(tmp_path / "scan.npz")
    np.savez(tmp_path / "scan.npz", images(dtype))
    whole = read_series(tmp_path / "scan.npz")
    assert whole.finite is None
    assert whole.only_finite(np.ones((Z, Y, X), bool), "mask.npz").all()


def test_complex_images_without_an_imaginary_part_are_real(tmp_path):
    """As some programs store magnitudes, which are matched in another way than complex images."""
    np.savez(tmp_path / "scan.npz", np.abs(images()).astype(np.complex64))
    series = read_series(tmp_path / "scan.npz")
    assert series.images.dtype == np.float32
    np.testing.assert_array_equal(series.images, np.abs(images()))


@pytest.mark.parametrize("scale", [1e-20, 1e20])
def test_values_whose_squares_are_no_numbers_are_refused(tmp_path, scale):
    np.savez(tmp_path / "scan.npz", scale * images())
    with pytest.raises(ValueError, match=r"scan\.npz: the largest value"):
        read_series(tmp_path / "scan.npz")


@pytest.mark.parametrize("shape", [(X, Y, FRAMES), (X, Y, FRAMES, 1), (X, Y, FRAMES, 1, 1)])
def test_nifti_of_one_slice_without_its_axis(tmp_path, shape):
    expected = images(np.float32)[:, 0]
    save_nifti(tmp_path / "scan.nii", expected.T.reshape(shape))
    series = read_series(tmp_path / "scan.nii")
    np.testing.assert_array_equal(series.images, expected)
    inside = np.ones((X, Y, 1), np.uint8)
    save_nifti(tmp_path / "mask.nii", inside)
    assert read_mask(tmp_path / "mask.nii", (Y, X), series.grid).all()


@pytest.mark.parametrize("shape", [(X, Y, Z, 1, FRAMES), (X, Y, Z, FRAMES, 1), (X, Y, Z, 1, 1, FRAMES)])
def test_nifti_of_more_axes_of_length_one(tmp_path, shape):
    expected = images(np.complex64)
    save_nifti(tmp_path / "scan.nii", expected.T.reshape(shape))
    np.testing.assert_array_equal(read_series(tmp_path / "scan.nii").images, expected)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1, 4, 5), (2, 3, 4, 5, 6)])
def test_nifti_of_other_axes(tmp_path, shape):
    save_nifti(tmp_path / "scan.nii", np.ones(shape, np.float32))
    words = re.escape(f"scan.nii: a series must be (x, y, z, frames) or (x, y, frames); got shape {shape}")
    with pytest.raises(ValueError, match=words):
        read_series(tmp_path / "scan.nii")


def test_npy(tmp_path):
    np.save(tmp_path / "scan.npy", np.moveaxis(images(), 0, -1))
    np.testing.assert_array_equal(read_series(tmp_path / "scan.npy", frame_axis=-1).images, images())
    with pytest.raises(ValueError, match=r"scan\.npy: a \.npy file holds one array without a name; got 'images'"):
        read_series(tmp_path / "scan.npy", "images")
    np.save(tmp_path / "mask.npy", np.eye(3, 4))
    assert read_mask(tmp_path / "mask.npy", (3, 4)).sum() == 3


def test_images_in_a_structure_are_found(tmp_path):
    """By their name, or as the only array that is no vector; or as they are named."""
    path, expected = tmp_path / "scan.mat", np.moveaxis(images(), 0, -1)
    times = np.ones((1, FRAMES))
    for content in (
        {"rec": {"images": expected, "TR": times, "maps": np.ones((3, 4))}},
        {"rec": {"series": expected, "TR": times}},
        {"rec": {"series": expected, "TR": times}, "n": 3.0, "note": "in vivo"},
    ):
        scipy.io.savemat(path, content)
        np.testing.assert_array_equal(read_series(path).images, images())
    scipy.io.savemat(path, {"rec": {"first": {"a": expected}, "b": 2 * expected}})
    np.testing.assert_array_equal(read_series(path, "rec.first.a").images, images())
    with pytest.raises(ValueError, match=r"name, by --variable, .*: it has rec\.first\.a, rec\.b"):
        read_series(path)
    with pytest.raises(ValueError, match=r"no array 'rec\.c'; it holds rec\.first\.a, rec\.b"):
        read_series(path, "rec.c")


def test_the_series_of_others():
    """One scan, as magnitude and complex NIfTI, and in a MATLAB structure; and its mask, resampled and scaled."""
    names = "complex.nii.gz", "magnitude.nii.gz", "in_struct_v5.mat"
    complex_, magnitude, structure = (read_series(shared(f"doors/series_{name}")) for name in names)
    assert [is_magnitude(series.images) for series in (complex_, magnitude, structure)] == [False, True, False]
    np.testing.assert_allclose(np.abs(complex_.images), magnitude.images, atol=1e-6)
    np.testing.assert_allclose(structure.images, complex_.images[:, 0], atol=1e-6)
    mask = read_mask(shared("doors/mask_int16_scaled.nii.gz"), magnitude.images.shape[1:])
    assert mask.sum() == 161


def test_series_of_other_axes_and_options(tmp_path):
    np.savez(tmp_path / "scan.npz", np.ones((2, 2, 2, 2, 2)))
    with pytest.raises(ValueError, match="frames and 1 to 3 spatial axes"):
        read_series(tmp_path / "scan.npz")
    save_nifti(tmp_path / "scan.nii", images(np.float32).T)
    for option, value in (("variable", "images"), ("frame_axis", 0)):
        with pytest.raises(ValueError, match=rf"scan\.nii: .*\(--{option}\) can be chosen in .* only"):
            read_series(tmp_path / "scan.nii", **{option: value})
    colours = np.zeros((2, 2, 2), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(colours, np.eye(4)), tmp_path / "colour.nii")
    with pytest.raises(ValueError, match=r"colour.nii: the values must be numbers"):
        read_series(tmp_path / "colour.nii")


@pytest.mark.parametrize("name", ["scan.npz", "scan.mat", "scan.nii", "scan.nii.gz"])
def test_damaged_files_are_refused_in_one_line(tmp_path, name, capfd):
    path = tmp_path / name
    if path.suffix == ".npz":
        np.savez(path, images())
    elif path.suffix == ".mat":
        scipy.io.savemat(path, {"images": images()})
    else:
        save_nifti(path, images().T)
    whole = path.read_bytes()
    for damaged in (
        b"",
        whole[:100],
        whole[: len(whole) // 2],
        whole[: len(whole) * 9 // 10],
        b"frame,signal\n1,2\n" * 40,
    ):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="not a whole") as error:
            read_series(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")  # the readers add no lines of their own
    with pytest.raises(ValueError, match=r"cannot read .*no_such.*: No such file"):
        read_series(path.with_name(f"no_such_{name}"))


def test_a_compressed_file_is_read_to_its_checksum(tmp_path):
    path = tmp_path / "scan.nii.gz"
    save_nifti(tmp_path / "scan.nii", images(np.float32).T)
    plain = (tmp_path / "scan.nii").read_bytes()
    stored = bytearray(gzip.compress(plain, 0))
    stored[-100] ^= 1  # of a value: the file is as long as before, and can be uncompressed
    padded = gzip.compress(plain + bytes(500))
    for content, good in ((padded, True), (bytes(stored), False), (gzip.compress(plain + bytes(2**21)), False)):
        path.write_bytes(content)
        if good:
            np.testing.assert_array_equal(read_series(path).images, images(np.float32))
        else:
            with pytest.raises(ValueError, match=r"scan\.nii\.gz: not a whole"):
                read_series(path)


@pytest.mark.parametrize(
    ("place", "values"),
    [("<i 0", [12345]), ("<h 70", [999]), ("<h 254", [183]), ("<f 292", [np.nan]), ("<12f 280", [0] * 12)],
    ids=["size of the header", "type of the values", "code of the affine", "NaN in the affine", "affine of zeros"],
)
def test_a_header_is_not_mended(tmp_path, place, values, capfd):
    """A guess at what a damaged header meant would be a wrong place, or wrong values, in silence."""
    path, (form, at) = tmp_path / "scan.nii", place.split()
    for read, data in (
        (read_series, images(np.float32)),
        (lambda path: read_mask(path, (Z, Y, X), AFFINE), np.ones((Z, Y, X), np.uint8)),
    ):
        save_nifti(path, data.T)
        content = bytearray(path.read_bytes())
        struct.pack_into(form, content, int(at), *values)
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"scan\.nii: ") as error:
            read(path)
        assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_other_suffixes_are_named(tmp_path):
    for read in (read_series, lambda path: read_mask(path, (2, 3))):
        with pytest.raises(ValueError, match=r"suffix '.png' is not one of .nii, .nii.gz, .npz, .npy, .mat, .dcm"):
            read(tmp_path / "scan.png")


@pytest.mark.parametrize("name", ["mask.npz", "mask.mat", "mask.nii.gz"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_mask(tmp_path, name, dtype):
    expected = np.random.default_rng(0).random((Z, Y, X)) > 0.5
    path = tmp_path / name
    if path.suffix == ".npz":
        np.savez(path, expected.astype(dtype))
    elif path.suffix == ".mat":
        scipy.io.savemat(path, {"mask": 3 * expected.astype(dtype)})  # a label other than 1 is inside as well
    else:
        save_nifti(path, expected.astype(dtype).T)
    mask = read_mask(path, (Z, Y, X))
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, expected)


def test_mask_without_axes_of_length_one(tmp_path):
    """MATLAB drops trailing axes of length 1, and adds one to a vector."""
    expected = np.array([[True, False, True], [False, False, True]])
    scipy.io.savemat(tmp_path / "mask.mat", {"mask": expected})
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.mat", (2, 3, 1)), expected[:, :, None])
    scipy.io.savemat(tmp_path / "mask.mat", {"mask": expected[:1]})
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.mat", (3,)), expected[0])


def test_wrong_masks(tmp_path):
    path = tmp_path / "mask.npz"
    for mask, words in (
        (np.ones((3, 2)), r"mask.npz: the mask has shape \(3, 2\), but the images have \(2, 3\)"),
        (np.zeros((2, 3)), "mask.npz: the mask is 0 everywhere"),
    ):
        np.savez(path, mask)
        with pytest.raises(ValueError, match=words):
            read_mask(path, (2, 3))


@pytest.mark.parametrize("shape", [(Z, Y, X), (1, Y, X), (Y, X)])
def test_a_mask_on_another_grid_is_refused(tmp_path, shape):
    """A tenth of a voxel anywhere in the volume is the limit; the line says how far it is, in mm."""
    path, inside = tmp_path / "mask.nii", np.ones(shape, np.uint8).T
    turned = AFFINE.copy()
    turned[:3, :2] = AFFINE[:3, :2] @ np.array([[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]])
    shift = np.zeros((4, 4))
    for off, far in ((0.005, None), (0.14, None), (0.16, "0.16")):  # voxels along x, the second axis, are 1.5 mm
        shift[1, 3] = off
        save_nifti(path, inside, AFFINE + shift)
        if far is None:
            assert read_mask(path, shape, AFFINE).all()
        else:
            with pytest.raises(ValueError, match=rf"mask.nii: the mask lies up to {far} mm from the images"):
                read_mask(path, shape, AFFINE)
    save_nifti(path, inside, turned)  # about the first voxel, which stays where it is
    corners = [[x, y, 0, 1] for x in (0, X - 1) for y in (0, Y - 1)]
    distance = max(np.linalg.norm((turned - AFFINE) @ corner) for corner in corners)
    with pytest.raises(ValueError, match=f"up to {distance:.3g} mm") as error:
        read_mask(path, shape, AFFINE)
    assert "\n" not in str(error.value)
    assert read_mask(path, shape).all()


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
def test_a_mask_whose_axes_are_in_another_order_is_put_in_order(tmp_path, axes):
    """Every voxel keeps its place in the scanner, whichever way it is counted from whichever corner."""
    expected = np.random.default_rng(0).random((Z, Y, X)) > 0.5
    for reversed_ in itertools.product((False, True), repeat=3):
        values, affine = expected.T.astype(np.uint8), AFFINE
        for axis in np.flatnonzero(reversed_):
            turn = np.eye(4)
            turn[axis, axis], turn[axis, 3] = -1, values.shape[axis] - 1
            values, affine = np.flip(values, axis), affine @ turn
        order = [*axes, 3]
        save_nifti(tmp_path / "mask.nii", values.transpose(axes), affine[:, order])
        np.testing.assert_array_equal(read_mask(tmp_path / "mask.nii", (Z, Y, X), AFFINE), expected)
    moved = affine.copy()
    moved[2, 3] += 2.5
    save_nifti(tmp_path / "mask.nii", values.transpose(axes), moved[:, order])
    with pytest.raises(ValueError, match=r"mask\.nii: the mask lies up to 2\.5 mm from the images"):
        read_mask(tmp_path / "mask.nii", (Z, Y, X), AFFINE)


def test_a_mask_without_a_place_is_compared_by_shape_alone(tmp_path):
    image = nibabel.Nifti1Image(np.ones((X, Y, Z), np.uint8), None)  # neither code is set
    nibabel.save(image, tmp_path / "mask.nii")
    np.savez(tmp_path / "mask.npz", mask=np.ones((Z, Y, X)))
    for name in ("mask.nii", "mask.npz"):
        assert read_mask(tmp_path / name, (Z, Y, X), AFFINE).all()
    save_nifti(tmp_path / "placed.nii", images(np.float32).T)
    nibabel.save(nibabel.Nifti1Image(images(np.float32).T, None), tmp_path / "lost.nii")
    np.testing.assert_allclose(read_series(tmp_path / "placed.nii").grid, AFFINE, rtol=1e-6)  # float32
    series = read_series(tmp_path / "lost.nii")
    assert series.grid is None
    assert series.voxel_size == (1e-3, 1e-3, 1e-3)
