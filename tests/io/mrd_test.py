"""Raw data in MRD: what others wrote is read in order and in place, or refused.

Files to be read are written by the ISMRMRD library or program, one acquisition at a time.
"""

import pathlib

import h5py
import ismrmrd
import numpy as np
import pytest
import scipy.io
from ismrmrd import xsd

from ganmrf.io.mrd import read_mrd

TESTDATA = pathlib.Path(__file__).parents[1] / "testdata"
FRAMES, READOUTS, COILS, SAMPLES = 4, 2, 3, 5
Y, X = 6, 8
FOV_Y, FOV_X, THICKNESS = 0.24, 0.4, 0.005
EPS = np.finfo(np.float32).eps


def header(trajectory="spiral", **changes):
    space = xsd.encodingSpaceType(
        matrixSize=xsd.matrixSizeType(x=X, y=Y, z=1),
        fieldOfView_mm=xsd.fieldOfViewMm(x=1e3 * FOV_X, y=1e3 * FOV_Y, z=1e3 * THICKNESS),
    )
    encoding = xsd.encodingType(
        encodedSpace=space,
        reconSpace=space,
        encodingLimits=xsd.encodingLimitsType(),
        trajectory=xsd.trajectoryType(trajectory),
    )
    return xsd.ismrmrdHeader(
        experimentalConditions=xsd.experimentalConditionsType(H1resonanceFrequency_Hz=123456789),
        encoding=[encoding],
        **changes,
    )


def readout(number, *, traj=True, samples=SAMPLES, coils=COILS, flags=(), idx=None, **head):
    """An acquisition whose samples say which it is: number + coil / 10 + i * sample."""
    data = (number + np.arange(coils)[:, None] / 10 + 1j * np.arange(samples)).astype(np.complex64)
    points = (np.stack([np.arange(samples), np.full(samples, number)], axis=1) / 100).astype(np.float32)
    acquisition = ismrmrd.Acquisition.from_array(data, points if traj else None, **head)
    for flag in flags:
        acquisition.set_flag(flag)
    for name, value in (idx or {}).items():
        if name.startswith("user_"):
            acquisition.idx.user[int(name[-1])] = value
        else:
            setattr(acquisition.idx, name, value)
    return acquisition


def save(path, acquisitions, head=None):
    path.unlink(missing_ok=True)
    with ismrmrd.Dataset(str(path)) as dataset:
        dataset.write_xml_header(xsd.ToXML(head or header()).encode())
        for acquisition in acquisitions:
            dataset.append_acquisition(acquisition)
    return path


def scan(counter="repetition"):
    """READOUTS readouts for each of FRAMES frames, number 2 frame + readout."""
    return [
        readout(READOUTS * frame + part, idx={counter: frame, "kspace_encode_step_1": part})
        for frame in range(FRAMES)
        for part in range(READOUTS)
    ]


def numbers(raw):
    """Which readouts a frame is made of, read from the samples."""
    return raw.kspace[:, 0].real.reshape(len(raw.kspace), -1, SAMPLES)[..., 0].astype(int).tolist()


IN_ORDER = [[0, 1], [2, 3], [4, 5], [6, 7]]


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


@pytest.mark.parametrize("counter", ["repetition", "contrast", "phase", "set", "user_0", "user_7"])
def test_frames_are_put_in_the_order_of_their_counter(tmp_path, counter):
    acquisitions = scan(counter)
    mixed = [acquisitions[i] for i in np.random.default_rng(0).permutation(len(acquisitions))]
    path = save(tmp_path / "raw.h5", mixed)
    assert numbers(read_mrd(path)) == numbers(read_mrd(path, frame_counter=counter)) == IN_ORDER
    raw = read_mrd(path)
    assert raw.kspace.shape == (FRAMES, COILS, READOUTS * SAMPLES)
    # The trajectory goes with the samples, and so does everything else of a readout.
    ky = raw.trajectory[..., 1].reshape(FRAMES, READOUTS, SAMPLES) * FOV_Y / Y * 100
    np.testing.assert_allclose(ky, np.broadcast_to(np.array(IN_ORDER)[..., None], ky.shape), rtol=1e-6)
    np.testing.assert_allclose(raw.kspace[2, 1], np.repeat([4.1, 5.1], SAMPLES) + 1j * np.tile(np.arange(SAMPLES), 2))


@pytest.mark.parametrize("counter", ["average", "segment", "kspace_encode_step_1"])
def test_other_counters_number_frames_where_nothing_else_does(tmp_path, counter):
    one_each = [readout(i, idx={counter: i}) for i in (2, 0, 3, 1)]
    assert numbers(read_mrd(save(tmp_path / "raw.h5", one_each))) == [[0], [1], [2], [3]]
    two_each = [readout(i, idx={"repetition": i // 2, counter: i % 2}) for i in range(4)]
    assert numbers(read_mrd(save(tmp_path / "raw.h5", two_each))) == [[0, 1], [2, 3]]
    assert numbers(read_mrd(tmp_path / "raw.h5", frame_counter=counter)) == [[0, 2], [1, 3]]


def test_acquisitions_without_any_counter_are_frames_in_the_order_of_the_scan(tmp_path):
    path = save(tmp_path / "raw.h5", [readout(i, scan_counter=i + 7) for i in (2, 0, 3, 1)])
    assert numbers(read_mrd(path)) == [[0], [1], [2], [3]]
    path = save(tmp_path / "raw.h5", [readout(i) for i in (2, 0, 1)])  # nobody counted
    assert numbers(read_mrd(path)) == [[2], [0], [1]]
    assert numbers(read_mrd(save(tmp_path / "raw.h5", scan()), frame_counter="acquisition")) == [[i] for i in range(8)]
    parts = [readout(i, scan_counter=i, idx={"repetition": i // 2}) for i in (3, 2, 0, 1)]
    assert numbers(read_mrd(save(tmp_path / "raw.h5", parts))) == [[0, 1], [2, 3]]


def test_a_choice_between_counters_is_asked_for(tmp_path):
    twofold = [readout(i, idx={"repetition": i // 2, "set": i % 2}) for i in range(4)]
    path = save(tmp_path / "raw.h5", twofold)
    with pytest.raises(ValueError, match=r"raw.h5: repetition, set may each number the frames: choose with frame_coun"):
        read_mrd(path)
    assert numbers(read_mrd(path, frame_counter="set")) == [[0, 2], [1, 3]]
    with pytest.raises(ValueError, match=r"frame_counter must be one of repetition, contrast, .*; got 'time'"):
        read_mrd(path, frame_counter="time")
    alike = [readout(i, idx={"repetition": i, "contrast": i}) for i in range(4)]
    assert numbers(read_mrd(save(path, alike))) == [[0], [1], [2], [3]]
    uneven = [readout(i, idx={"repetition": i // 2, "phase": i == 3}) for i in range(4)]
    assert numbers(read_mrd(save(path, uneven))) == [[0, 1], [2, 3]]


def test_missing_and_doubled_frames_are_named(tmp_path):
    whole, path = scan(), tmp_path / "raw.h5"
    for acquisitions, words in (
        (whole[:2] + whole[6:], r"repetition: missing of 0 to 3: 1, 2$"),
        ([*whole, whole[3]], r"repetition: doubled: 1 \(3 readouts where most frames have 2\)"),
        (whole[:-1], r"repetition: incomplete: 3 \(1 readouts where most frames have 2\)"),
        ([readout(i, idx={"repetition": i}) for i in (0, 99)], r"missing of 0 to 99: 1, 2, 3, 4, 5 and 93 more$"),
    ):
        with pytest.raises(ValueError, match=r"raw\.h5: .*" + words):
            read_mrd(save(path, acquisitions))
    head = header()
    head.encoding[0].encodingLimits.repetition = xsd.limitType(maximum=5)
    with pytest.raises(ValueError, match=r"repetition: missing of 0 to 5: 4, 5"):
        read_mrd(save(path, whole, head))


@pytest.mark.parametrize(
    "flag",
    [
        ismrmrd.ACQ_IS_NOISE_MEASUREMENT,
        ismrmrd.ACQ_IS_PARALLEL_CALIBRATION,
        ismrmrd.ACQ_IS_NAVIGATION_DATA,
        ismrmrd.ACQ_IS_PHASECORR_DATA,
        ismrmrd.ACQ_IS_DUMMYSCAN_DATA,
        ismrmrd.ACQ_IS_RTFEEDBACK_DATA,
    ],
)
def test_what_is_not_the_scan_is_left_out(tmp_path, flag):
    other = readout(99, flags=[flag], samples=3, coils=1, traj=False)
    path = save(tmp_path / "raw.h5", [other, *scan(), other])
    assert numbers(read_mrd(path)) == IN_ORDER
    with pytest.raises(ValueError, match=r"no acquisitions of a scan: the file has 1, all of them \w+"):
        read_mrd(save(path, [other]))


def test_image_data_with_other_flags_stays(tmp_path):
    both = (ismrmrd.ACQ_IS_PARALLEL_CALIBRATION, ismrmrd.ACQ_IS_PARALLEL_CALIBRATION_AND_IMAGING)
    flags = [(), both, both[1:], (ismrmrd.ACQ_USER8, ismrmrd.ACQ_LAST_IN_MEASUREMENT)]
    acquisitions = [readout(i, idx={"repetition": i}, flags=flags[i]) for i in range(4)]
    further = readout(99, samples=3, traj=False, encoding_space_ref=1)
    assert numbers(read_mrd(save(tmp_path / "raw.h5", [*acquisitions, further]))) == [[0], [1], [2], [3]]


def test_discarded_samples(tmp_path):
    acquisitions = [readout(i, idx={"repetition": i}, discard_pre=1, discard_post=2) for i in range(2)]
    raw = read_mrd(save(tmp_path / "raw.h5", acquisitions))
    np.testing.assert_array_equal(raw.kspace[1, 0], 1 + 1j * np.array([1, 2]))
    np.testing.assert_allclose(raw.trajectory[1, :, 0] * FOV_X / X, [0.01, 0.02], rtol=1e-6)


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
    with pytest.raises(ValueError, match=r"1 Cartesian readouts are flagged as reversed.*: give trajectory="):
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
    raw = read_mrd(path, trajectory=expected[0], trajectory_units="1/m")
    np.testing.assert_allclose(raw.trajectory, np.broadcast_to(expected[0], expected.shape), rtol=EPS)
    stored = read_mrd(path, trajectory_units="fov").trajectory
    np.testing.assert_allclose(stored * [X, Y], read_mrd(path).trajectory, rtol=4 * EPS)


def test_a_slice_is_chosen(tmp_path):
    acquisitions = [readout(i, idx={"repetition": i // 2, "slice": i % 2}) for i in range(4)]
    path = save(tmp_path / "raw.h5", acquisitions)
    assert numbers(read_mrd(path, slice_index=1)) == [[1], [3]]
    with pytest.raises(ValueError, match="slice has the values 0, 1, and one slice is read: choose it with slice_ind"):
        read_mrd(path)
    with pytest.raises(ValueError, match="no slice 2: slice has the values 0, 1"):
        read_mrd(path, slice_index=2)
    partitions = [readout(i, idx={"kspace_encode_step_2": i}) for i in range(3)]
    with pytest.raises(ValueError, match="kspace_encode_step_2 has the values 0, 1, 2: only 2-D scans are read"):
        read_mrd(save(path, partitions))


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
        ({"TR": [1], "TE": [2], "flipAngle_deg": [60]}, None),  # no Sequence has its echo after the end
    ):
        head = header(sequenceParameters=xsd.sequenceParametersType(**parameters))
        sequence = read_mrd(save(path, scan(), head)).sequence
        assert (sequence is None) == (expected is None)
        if expected:
            np.testing.assert_allclose(np.rad2deg(sequence.flip_angle), expected[0], rtol=1e-6)
            np.testing.assert_allclose(sequence.repetition_time * 1e3, np.array(expected[1]), rtol=1e-6)
            inversion = sequence.inversion_time
            assert inversion == (None if expected[2] is None else pytest.approx(expected[2] * 1e-3))


def one_line(error, path):
    return str(path) in str(error.value) and "\n" not in str(error.value)


def test_other_files_are_refused(tmp_path, capfd):
    path = save(tmp_path / "raw.h5", scan())
    whole = path.read_bytes()
    with pytest.raises(ValueError, match=r"cannot read .*none.h5: No such file"):
        read_mrd(tmp_path / "none.h5")
    for damaged in (b"", whole[:100], whole[: len(whole) // 2], whole[:-1], b"kx,ky\n0,1\n" * 200):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"not a whole HDF5 file \(.+\)") as error:
            read_mrd(path)
        assert one_line(error, path)
    with h5py.File(path, "w") as file:
        file["images"] = np.ones(3)
    with pytest.raises(ValueError, match=r"no MRD raw data in 'dataset': the file holds images$"):
        read_mrd(path)
    with h5py.File(path, "w") as file:
        file["dataset/xml"] = np.ones(3)
    with pytest.raises(ValueError, match=r"no MRD raw data in 'dataset': the file holds dataset/xml$"):
        read_mrd(path)
    save(path, scan())
    with h5py.File(path, "a") as file:
        file["other"] = file["dataset"]
        del file["dataset"]
    with pytest.raises(ValueError, match=r"no MRD raw data in 'dataset': the file holds other$"):
        read_mrd(path)
    save(path, scan())
    with h5py.File(path, "a") as file:
        del file["dataset/data"]
        file["dataset/data"] = np.ones(3)
    with pytest.raises(ValueError, match="the acquisitions of dataset/data are not laid out as MRD has them"):
        read_mrd(path)
    assert capfd.readouterr() == ("", "")


def move(file, name, link):
    file["moved"] = file[name]
    del file[name]
    file[name] = link


def claim(file, count):
    kind = file["dataset/data"].dtype
    del file["dataset/data"]
    file["dataset"].create_dataset("data", (count,), kind, chunks=(1000,))


@pytest.mark.parametrize(
    "change",
    [
        lambda file: move(file, "dataset", h5py.ExternalLink("other.h5", "/dataset")),
        lambda file: move(file, "dataset/data", h5py.ExternalLink("other.h5", "/dataset/data")),
        lambda file: move(file, "dataset/xml", h5py.SoftLink("/moved")),
        lambda file: move(file, "dataset", h5py.SoftLink("/dataset")),
        lambda file: claim(file, 10**9),
        lambda file: claim(file, 10**6),
    ],
)
def test_links_and_claims_without_data_are_refused(tmp_path, change):
    save(tmp_path / "other.h5", scan())
    path = save(tmp_path / "raw.h5", scan())
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(ValueError, match=r"raw\.h5: ") as error:
        read_mrd(path)
    assert one_line(error, path)


def test_heaps_with_zeros_in_them_are_refused(tmp_path):
    """HDF5 would never return from them."""
    path = save(tmp_path / "raw.h5", scan())
    content = path.read_bytes()
    heap = content.rindex(b"GCOL")
    path.write_bytes(content[: heap + 64] + bytes(2000) + content[heap + 2064 :])
    with pytest.raises(ValueError, match=r"raw\.h5: not a whole HDF5 file \(a heap is damaged\)"):
        read_mrd(path)


def test_compressed_acquisitions_are_read(tmp_path):
    path = save(tmp_path / "raw.h5", scan())
    with h5py.File(path, "a") as file:
        records = file["dataset/data"][()]
        del file["dataset/data"]
        file["dataset"].create_dataset("data", data=records, chunks=(3,), compression="gzip")
    assert numbers(read_mrd(path)) == IN_ORDER


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda _: b"<ismrmrdHeader", "xml: not an MRD header"),
        (lambda text: text.replace(b"<x>8</x>", b"<x>eight</x>"), "xml: not an MRD header .*eight"),
        (
            lambda text: text.replace(b"<x>8</x>", b"<x>0</x>"),
            "encodedSpace: matrixSize must be 1 to 65535",
        ),
        (lambda text: text.replace(b"<x>8</x>", b"<x>" + b"9" * 400 + b"</x>"), "encodedSpace: matrixSize"),
        (lambda text: text.replace(b"<x>400.0</x>", b"<x>INF</x>"), "encodedSpace: .*fieldOfView_mm"),
        (lambda text: text.replace(b"<z>5.0</z>", b"<z>0</z>"), "slice_thickness must be positive and finite; got 0"),
        (lambda _: b"<html></html>", "xml: "),
    ],
)
def test_wrong_headers_are_refused(tmp_path, change, words):
    path = save(tmp_path / "raw.h5", scan())
    with ismrmrd.Dataset(str(path)) as dataset:
        text = dataset.read_xml_header()
        dataset.write_xml_header(change(text))
        assert dataset.read_xml_header() != text
    with pytest.raises(ValueError, match=words) as error:
        read_mrd(path)
    assert one_line(error, path)


def test_a_header_of_a_later_version_is_read(tmp_path):
    path = save(tmp_path / "raw.h5", scan())
    with ismrmrd.Dataset(str(path)) as dataset:
        text = dataset.read_xml_header()
        dataset.write_xml_header(text.replace(b"<encoding>", b"<colour>red</colour><encoding>"))
    assert numbers(read_mrd(path)) == IN_ORDER


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
        ([volume], "trajectory_dimensions is 3, and kx and ky alone are read: give trajectory="),
        ([readout(0, traj=False)], r"no trajectory in the file \(spiral\): give trajectory="),
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
    with pytest.raises(
        ValueError, match=r"must be \(frames, samples, 2\) = \(4, 10, 2\) or \(samples, 2\); got \(2, 10"
    ):
        read_mrd(path, trajectory=np.zeros((2, 10, 2)))
    with pytest.raises(ValueError, match="the trajectory given must hold real numbers; got complex128"):
        read_mrd(path, trajectory=np.zeros((10, 2), complex))
    with pytest.raises(ValueError, match="trajectory: 1 of 80 values are NaN or infinite"):
        read_mrd(path, trajectory=np.where(np.arange(80) == 3, np.nan, 0).reshape(4, 10, 2))
    with pytest.raises(ValueError, match="trajectory_units must be one of voxel, fov, 1/m; got 'mm'"):
        read_mrd(path, trajectory_units="mm")
    with pytest.raises(ValueError, match=r"cannot read .*k.npz: No such file"):
        read_mrd(path, trajectory=tmp_path / "k.npz")
