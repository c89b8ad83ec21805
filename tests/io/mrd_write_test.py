"""What is written to MRD comes back, and the ISMRMRD library reads it, one acquisition or image at a time."""

import dataclasses

import h5py
import ismrmrd
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ismrmrd import xsd

from ganmrf.io.mrd import RawData, read_mrd, write_mrd, write_mrd_images
from ganmrf.physics.sequences.bssfp import Bssfp
from ganmrf.physics.sequences.fisp import Fisp

FRAMES, COILS, SAMPLES = 4, 3, 10
Y, X = 6, 8
FOV_Y, FOV_X, THICKNESS = 0.24, 0.4, 0.005
EPS = np.finfo(np.float32).eps


def raw_data(frames=FRAMES, coils=COILS, samples=SAMPLES, seed=0, **changes):
    rng = np.random.default_rng(seed)
    kspace = rng.standard_normal((frames, coils, samples, 2)).astype(np.float32).view(np.complex64)[..., 0]
    points = rng.uniform(-0.5, 0.5, (frames, samples, 2)) / [FOV_X / X, FOV_Y / Y]
    values = {
        "kspace": kspace,
        "trajectory": points,
        "matrix": (Y, X),
        "field_of_view": (FOV_Y, FOV_X),
        "slice_thickness": THICKNESS,
        **changes,
    }
    return RawData(**values)


def affine():
    """An oblique slice, mm."""
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))[0]
    whole = np.eye(4)
    whole[:3, :3] = turn * [1e3 * FOV_X / X, 1e3 * FOV_Y / Y, 1e3 * THICKNESS]
    whole[:3, 3] = 12, -34, 56
    return whole


@pytest.mark.parametrize("with_trajectory", [True, False])
def test_the_library_reads_what_is_written(tmp_path, with_trajectory):
    sequence = Fisp(np.deg2rad([10.0, 20, 30, 40]), [0.012, 0.013, 0.014, 0.015], 0.002, 0.02)
    raw = raw_data(dwell_time=4e-6, affine=affine(), sequence=sequence)
    if not with_trajectory:
        raw = dataclasses.replace(raw, trajectory=None)
    write_mrd(tmp_path / "raw.h5", raw)
    with ismrmrd.Dataset(str(tmp_path / "raw.h5"), mode="r") as dataset:
        head = xsd.CreateFromDocument(dataset.read_xml_header())
        acquisitions = [dataset.read_acquisition(i) for i in range(dataset.number_of_acquisitions())]
    assert len(acquisitions) == FRAMES
    for frame, acquisition in enumerate(acquisitions):
        np.testing.assert_array_equal(acquisition.data, raw.kspace[frame])
        if with_trajectory:
            voxels = raw.trajectory[frame] * [FOV_X / X, FOV_Y / Y]
            np.testing.assert_allclose(acquisition.traj, voxels, rtol=EPS)
        assert acquisition.traj.shape == (SAMPLES, 2 if with_trajectory else 0)
        assert (acquisition.idx.repetition, acquisition.idx.kspace_encode_step_1) == (frame, 0)
        assert acquisition.scan_counter == frame
        assert acquisition.sample_time_us == 4
        assert acquisition.is_flag_set(ismrmrd.ACQ_FIRST_IN_REPETITION)
        assert acquisition.is_flag_set(ismrmrd.ACQ_LAST_IN_REPETITION)
        assert acquisition.is_flag_set(ismrmrd.ACQ_LAST_IN_MEASUREMENT) == (frame == FRAMES - 1)
    (encoding,) = head.encoding
    for space in (encoding.encodedSpace, encoding.reconSpace):
        assert (space.matrixSize.x, space.matrixSize.y, space.matrixSize.z) == (X, Y, 1)
        size = space.fieldOfView_mm
        np.testing.assert_allclose((size.x, size.y, size.z), (1e3 * FOV_X, 1e3 * FOV_Y, 1e3 * THICKNESS))
    assert encoding.encodingLimits.repetition.maximum == FRAMES - 1
    assert head.acquisitionSystemInformation.receiverChannels == COILS
    np.testing.assert_allclose(head.sequenceParameters.flipAngle_deg, [10, 20, 30, 40], rtol=EPS)
    np.testing.assert_allclose(head.sequenceParameters.TR, [12, 13, 14, 15], rtol=EPS)
    np.testing.assert_allclose(head.sequenceParameters.TI, [20], rtol=EPS)


@given(
    frames=st.integers(1, 5),
    coils=st.integers(1, 3),
    samples=st.integers(1, 12),
    inversion_time=st.sampled_from([None, 0.0, 0.0184]),
    seed=st.integers(0, 99),
)
def test_round_trip(tmp_path_factory, frames, coils, samples, inversion_time, seed):
    rng = np.random.default_rng(seed)
    sequence = Fisp(rng.uniform(0, 1, frames), rng.uniform(0.01, 0.02, frames), 0.003, inversion_time)
    raw = raw_data(frames, coils, samples, seed, sequence=sequence, dwell_time=2.5e-6, affine=affine())
    path = tmp_path_factory.mktemp("mrd") / "raw.h5"
    write_mrd(path, raw)
    back = read_mrd(path, frame_counter="repetition")
    np.testing.assert_array_equal(back.kspace, raw.kspace)
    np.testing.assert_allclose(back.trajectory, raw.trajectory, rtol=EPS)  # to cycles per voxel and back
    np.testing.assert_allclose(back.affine, raw.affine, atol=1e-4)  # mm; float32 of positions and directions
    assert (back.matrix, back.dwell_time) == (raw.matrix, pytest.approx(raw.dwell_time))
    np.testing.assert_allclose((*back.field_of_view, back.slice_thickness), (FOV_Y, FOV_X, THICKNESS))
    np.testing.assert_allclose(back.sequence.flip_angle, sequence.flip_angle, rtol=EPS)
    np.testing.assert_allclose(back.sequence.repetition_time, sequence.repetition_time, rtol=EPS)
    np.testing.assert_allclose(back.sequence.echo_time, sequence.echo_time, rtol=EPS)
    assert (back.sequence.inversion_time is None) == (inversion_time is None)


def test_raw_data_fit_together():
    raw = raw_data()
    for change, words in (
        ({"kspace": raw.kspace[0]}, r"kspace must be \(frames, coils, samples\), not empty; got shape \(3, 10\)"),
        ({"trajectory": raw.trajectory[:2]}, r"trajectory must be .* = \(4, 10, 2\); got \(2, 10, 2\)"),
        ({"matrix": (8,)}, r"matrix must be \(y, x\); got \(8,\)"),
        ({"field_of_view": (0.3, -0.3)}, r"field_of_view must be positive and finite; got \(0.3, -0.3\)"),
        ({"sequence": Fisp([0.1], 0.01, 0.001)}, "sequence has 1 frames, but kspace has 4"),
    ):
        with pytest.raises(ValueError, match=words):
            dataclasses.replace(raw, **change)


def test_what_mrd_cannot_hold_is_not_written(tmp_path):
    raw, path = raw_data(), tmp_path / "raw.h5"
    for bad, words in (
        (raw_data(1, 1, 2**16), "65536 samples of a frame, but MRD counts up to 65535"),
        (dataclasses.replace(raw, trajectory=4 * raw.trajectory), r"reaches [\d.]+ cycles per voxel; the most is 1"),
        (dataclasses.replace(raw, affine=np.eye(4)), r"affine must be \(4, 4\) with voxels of \[50.0, 40.0, 5.0\]"),
    ):
        with pytest.raises(ValueError, match=words):
            write_mrd(path, bad)
    with pytest.raises(ValueError, match=r"cannot write .*: No such file or directory"):
        write_mrd(tmp_path / "none" / "raw.h5", raw)
    assert list(tmp_path.iterdir()) == []


def test_a_header_does_not_say_another_kind_of_sequence(tmp_path):
    write_mrd(tmp_path / "raw.h5", raw_data(sequence=Bssfp(np.full(FRAMES, 0.5), 0.01)))
    assert read_mrd(tmp_path / "raw.h5").sequence is None  # nor FISP with its times and flip angles


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "raw.h5"
    write_mrd(path, raw_data())
    before = path.read_bytes()

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(h5py.Group, "create_dataset", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_mrd(path, raw_data())
    with pytest.raises(KeyboardInterrupt):
        write_mrd_images(path, {"T1map": np.ones((Y, X))}, field_of_view=(FOV_Y, FOV_X), slice_thickness=THICKNESS)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_library_reads_images(tmp_path):
    rng = np.random.default_rng(0)
    t1 = rng.random((Y, X)).astype(np.float32)
    m0 = (rng.random((Y, X)) + 1j * rng.random((Y, X))).astype(np.complex64)
    space = {"field_of_view": (FOV_Y, FOV_X), "slice_thickness": THICKNESS}
    write_mrd_images(tmp_path / "maps.h5", {"T1map": t1, "M0map": m0}, affine=affine(), **space)
    with ismrmrd.Dataset(str(tmp_path / "maps.h5"), mode="r") as dataset:
        assert xsd.CreateFromDocument(dataset.read_xml_header()).encoding[0].reconSpace.matrixSize.x == X
        for name, expected, unit in (("T1map", t1, "s"), ("M0map", m0, None)):
            assert dataset.number_of_images(name) == 1
            image = dataset.read_image(name, 0)
            assert image.data.dtype == expected.dtype
            np.testing.assert_array_equal(image.data[0, 0], expected)
            np.testing.assert_allclose(image.field_of_view[:], (1e3 * FOV_X, 1e3 * FOV_Y, 1e3 * THICKNESS))
            lps = np.diag([-1, -1, 1, 1]) @ affine()
            np.testing.assert_allclose(image.position[:], (lps @ [X // 2, Y // 2, 0, 1])[:3], rtol=1e-5)  # float32
            np.testing.assert_allclose(image.read_dir[:], lps[:3, 0] / (1e3 * FOV_X / X), rtol=1e-5)
            assert (image.meta["DataRole"], image.meta.get("Unit")) == ("Quantitative", unit)
    for maps in ({}, {"a": t1[0]}, {"a": t1, "b": t1[:, :2]}):
        with pytest.raises(ValueError, match=r"maps must be \(y, x\), all alike, one at least; got"):
            write_mrd_images(tmp_path / "maps.h5", maps, **space)
