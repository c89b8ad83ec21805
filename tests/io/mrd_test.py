"""Raw data in MRD: samples, places and sequences that others wrote are read, or refused."""

import pathlib

import h5py
import ismrmrd
import numpy as np
import pytest
import scipy.io
from ismrmrd import xsd

from ganmrf.io.mrd import read_mrd
from tests.io.acquisitions import (
    EPS,
    FOV_X,
    FOV_Y,
    FRAMES,
    READOUTS,
    SAMPLES,
    THICKNESS,
    X,
    Y,
    header,
    one_line,
    readout,
    save,
    scan,
)

TESTDATA = pathlib.Path(__file__).parents[1] / "testdata"


def test_the_phantom_is_where_ismrmrd_puts_it():
    """Placed by the trajectory and inverted by a plain sum, k-space is the image that ISMRMRD's own program made."""
    raw = read_mrd(TESTDATA / "shepp_logan.h5")
    assert raw.kspace.shape == (2, 2, 32 * 64)
    assert (raw.matrix, raw.affine, raw.sequence) == ((32, 32), None, None)
    np.testing.assert_allclose((*raw.field_of_view, raw.slice_thickness, raw.dwell_time), (0.3, 0.3, 6e-3, 5e-6))
    kx, ky = np.moveaxis(raw.trajectory[1].astype(float), -1, 0)
    r = (np.arange(32) - 16) * 0.3 / 32
    to_rows, to_columns = (np.exp(2j * np.pi * r[:, None] * k) for k in (ky, kx))
    coils = np.einsum("cs,ys,xs->cyx", raw.kspace[1], to_rows, to_columns, optimize=True)
    image = np.sqrt(np.sum(np.abs(coils) ** 2, axis=0))
    with np.load(TESTDATA / "shepp_logan_image.npz") as archive:
        expected = archive["image"]
    # They scale it otherwise. Both are of float32 samples and the trajectory is of float32.
    image *= np.linalg.norm(expected) / np.linalg.norm(image)
    np.testing.assert_allclose(image, expected, atol=1e-5 * expected.max())


def test_discarded_samples(tmp_path):
    acquisitions = [readout(i, idx={"repetition": i}, discard_pre=1, discard_post=2) for i in range(2)]
    raw = read_mrd(save(tmp_path / "raw.h5", acquisitions))
    np.testing.assert_array_equal(raw.kspace[1, 0], 1 + 1j * np.array([1, 2]))
    np.testing.assert_allclose(raw.trajectory[1, :, 0] * FOV_X / X, [0.1, 0.2], rtol=1e-6)


def test_cartesian_readouts_lie_where_the_header_says(tmp_path):
    """Twice oversampled, an asymmetric echo, lines out of order, in two frames."""
    head = header("cartesian")
    encoding = head.encoding[0]
    encoding.encodedSpace = xsd.encodingSpaceType(
        matrixSize=xsd.matrixSizeType(x=2 * X, y=Y, z=1),
        fieldOfView_mm=xsd.fieldOfViewMm(x=2e3 * FOV_X, y=1e3 * FOV_Y, z=1e3 * THICKNESS),
    )
    encoding.encodingLimits.kspace_encoding_step_1 = xsd.limitType(maximum=Y - 1, center=2)
    lines = [
        readout(line, traj=False, center_sample=3, discard_pre=1, idx={"repetition": i, "kspace_encode_step_1": line})
        for i in range(2)
        for line in (4, 0, 2)
    ]
    raw = read_mrd(save(tmp_path / "raw.h5", lines, head))
    column, line = np.meshgrid([-2, -1, 0, 1], [-2, 0, 2])
    expected = np.stack([column / (2 * FOV_X), line / FOV_Y], axis=-1).reshape(-1, 2)
    np.testing.assert_allclose(raw.trajectory, np.stack([expected, expected]), rtol=EPS)
    assert raw.kspace[0, 0].real.astype(int).tolist() == [0] * 4 + [2] * 4 + [4] * 4
    assert raw.matrix == (Y, X)
    encoding.encodingLimits.kspace_encoding_step_1 = None
    assert read_mrd(save(tmp_path / "raw.h5", lines[:3], head)).trajectory[0, 0, 1] == pytest.approx(-3 / FOV_Y)
    backwards = readout(1, traj=False, flags=[ismrmrd.ACQ_IS_REVERSE])
    with pytest.raises(ValueError, match=r"1 Cartesian readouts are flagged as reversed.*: give --trajectory=FILE$"):
        read_mrd(save(tmp_path / "raw.h5", [backwards], head))


def test_trajectories_in_all_units_from_all_places(tmp_path):
    path = save(tmp_path / "raw.h5", scan())
    expected = np.random.default_rng(0).uniform(-0.5, 0.5, (FRAMES, READOUTS * SAMPLES, 2)) / [FOV_X / X, FOV_Y / Y]
    voxel, fov = expected * [FOV_X / X, FOV_Y / Y], expected * [FOV_X, FOV_Y]
    np.savez(tmp_path / "k.npz", trajectory=voxel, other=np.ones((2, 2)))
    scipy.io.savemat(tmp_path / "k.mat", {"k": fov})
    for given_one, units in (
        (voxel, None),
        (fov, None),
        (expected, "1/m"),
        (voxel, "voxel"),
        (fov, "fov"),
        (tmp_path / "k.npz", None),
        (str(tmp_path / "k.mat"), "fov"),
    ):
        raw = read_mrd(path, trajectory=given_one, trajectory_units=units)
        np.testing.assert_allclose(raw.trajectory, expected, rtol=4 * EPS)
        assert raw.trajectory_units == units or units is None
    raw = read_mrd(path, trajectory=expected[0], trajectory_units="1/m")
    np.testing.assert_allclose(raw.trajectory, np.broadcast_to(expected[0], expected.shape), rtol=EPS)
    stored = read_mrd(path, trajectory_units="fov").trajectory
    np.testing.assert_allclose(stored * [X, Y], read_mrd(path).trajectory, rtol=4 * EPS)


def test_every_voxel_is_where_the_scanner_had_it(tmp_path):
    """From the centre along read_dir and phase_dir in LPS, by hand; the affine gives RAS."""
    read, phase = np.array([0.6, 0.8, 0]), np.array([0, 0, -1.0])
    place = {"position": (10, 20, 30), "read_dir": tuple(read), "phase_dir": tuple(phase)}
    path = save(tmp_path / "raw.h5", [readout(0, **place, slice_dir=tuple(np.cross(read, phase)))])
    column, row = 1, 5
    x, y, z = [10, 20, 30] + (column - X // 2) * read * 1e3 * FOV_X / X + (row - Y // 2) * phase * 1e3 * FOV_Y / Y
    np.testing.assert_allclose(read_mrd(path).affine @ [column, row, 0, 1], [-x, -y, z, 1], rtol=1e-6)  # float32
    assert read_mrd(save(path, [readout(0)])).affine is None
    with pytest.raises(ValueError, match="read_dir, phase_dir and slice_dir must be orthogonal unit vectors"):
        read_mrd(save(path, [readout(0, **place, slice_dir=(0.6, 0.8, 0))]))


def test_the_sequence_of_the_header(tmp_path):
    path = tmp_path / "raw.h5"
    for parameters, expected in (
        ({"TR": [12], "TE": [2], "TI": [], "flipAngle_deg": [60]}, ([60] * 4, [12] * 4, None)),
        (
            {"TR": [12, 13, 14, 15], "TE": [2], "TI": [20], "flipAngle_deg": [1, 2, 3, 4]},
            ([1, 2, 3, 4], range(12, 16), 20),
        ),
        ({"TR": [12, 13], "TE": [2], "flipAngle_deg": [60]}, None),
        ({"TR": [], "TE": [2], "flipAngle_deg": [60]}, None),
        ({"TR": [1], "TE": [2], "flipAngle_deg": [60]}, None),  # no Fisp has its echo after the end
    ):
        head = header(sequenceParameters=xsd.sequenceParametersType(**parameters))
        sequence = read_mrd(save(path, scan(), head)).sequence
        assert (sequence is None) == (expected is None)
        if expected:
            np.testing.assert_allclose(np.rad2deg(sequence.flip_angle), expected[0], rtol=1e-6)
            np.testing.assert_allclose(sequence.repetition_time * 1e3, np.array(expected[1]), rtol=1e-6)
            inversion = sequence.inversion_time
            assert inversion == (None if expected[2] is None else pytest.approx(expected[2] * 1e-3))


def test_wrong_acquisitions_are_refused(tmp_path):
    path = tmp_path / "raw.h5"
    infinite = scan()
    infinite[4].data[1, :2] = np.nan, complex(0, np.inf)
    lost = scan()
    lost[0].traj[0] = np.nan
    volume = ismrmrd.Acquisition.from_array(np.ones((1, 4), np.complex64), np.ones((4, 3), np.float32))
    for acquisitions, words in (
        ([*scan()[:7], readout(7, coils=2, idx={"repetition": 3})], "active_channels must be the same .*; got 2, 3"),
        (
            [*scan()[:7], readout(7, samples=4, idx={"repetition": 3})],
            "number_of_samples must be the same .*; got 4, 5",
        ),
        (infinite, "kspace: 2 of 120 values are NaN or infinite, first in frame 2"),
        (lost, "trajectory: 2 of 80 values are NaN or infinite"),
        ([volume], "trajectory_dimensions is 3, and kx and ky alone are read: give --trajectory=FILE"),
        ([readout(0, traj=False)], r"no trajectory in the file \(spiral\): give --trajectory=FILE"),
        ([readout(0, encoding_space_ref=1)], "encoding_space_ref is 1, but the header has 1 encodings"),
        ([readout(0, discard_pre=3, discard_post=2)], "leave none of the 5 samples"),
        ([readout(0, read_dir=(np.nan, 0, 0))], "read_dir, phase_dir and slice_dir"),
        ([readout(0, read_dir=(1, 0, 0), phase_dir=(0, 1, 0), slice_dir=(0, 0, 9))], "orthogonal unit vectors"),
        ([readout(0, read_dir=(1, 0, 0), position=(np.inf, 0, 0))], "position must be finite"),
    ):
        with pytest.raises(ValueError, match=words) as error:
            read_mrd(save(path, acquisitions))
        assert one_line(error, path)
    save(path, scan())
    with h5py.File(path, "a") as file:
        records = file["dataset/data"][()]
        records["data"][1] = records["data"][1][:-2]
        file["dataset/data"][...] = records
    with pytest.raises(ValueError, match=r"acquisition 1 of the scan has 28 numbers of data .* gives 30 and 10"):
        read_mrd(path)
    with h5py.File(path, "a") as file:
        file["dataset/data"].resize(0, axis=0)
    with pytest.raises(ValueError, match=r"no acquisitions of a scan: the file has 0$"):
        read_mrd(path)


def test_wrong_trajectories_are_refused(tmp_path):
    path = save(tmp_path / "raw.h5", scan())
    with pytest.raises(ValueError, match=r"2 interleaves and the scan 4 frames: give --interleave_order"):
        read_mrd(path, trajectory=np.ones((2, 10, 2)))
    with pytest.raises(ValueError, match="1 of 80 values that are NaN or infinite"):
        read_mrd(path, trajectory=np.where(np.arange(80) == 3, np.nan, 0).reshape(4, 10, 2))
    with pytest.raises(ValueError, match=r"--trajectory_units must be one of voxel, .*; got 'mm'"):
        read_mrd(path, trajectory_units="mm")
    with pytest.raises(ValueError, match=r"cannot read .*k.npz: No such file"):
        read_mrd(path, trajectory=tmp_path / "k.npz")
