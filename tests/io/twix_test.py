"""Siemens raw data: real files, and small ones of both layouts that are made here."""

import struct
import sys

import numpy as np
import pytest

from ganmrf.io.pulseq_scan import read_scan
from ganmrf.io.trajectories import GivenTrajectory
from ganmrf.io.twix import read_twix
from tests.shared import shared

twixtools = pytest.importorskip("twixtools")
from twixtools import geometry, hdr_def, mdh_def  # noqa: E402

REAL = ["gauss", "sinc_w_apod", "sinc_wo_apod"]
PROTOCOL = {
    "tProtocolName": '"mrf"',
    "tSequenceFileName": '"%CustomerSeq%\\spiral"',
    "sRXSPEC.alDwellTime[0]": 2500,
    "sKSpace.lBaseResolution": 16,
    "sSliceArray.asSlice[0].dReadoutFOV": 320.0,
    "sSliceArray.asSlice[0].dPhaseFOV": 240.0,
    "sSliceArray.asSlice[0].dThickness": 5.0,
}
COILS, SAMPLES = 2, 6
QUATERNION = np.array([0.8, 0.2, -0.4, 0.4])  # of unit length, oblique
POSITION = [12.0, -7.0, 30.0]


def values(readout, coils=COILS, samples=SAMPLES):
    """Samples that say which coil and readout they are of."""
    return (readout + 100 * np.arange(coils)[:, None] + 1j * np.arange(samples)).astype(np.complex64)


def header(kind, samples, counter=0, flags=(), **counters):
    made = kind(ScanCounter=counter)
    made.UsedChannels, made.SamplesInScan = samples.shape
    for flag in flags:
        mdh_def.add_flag(made, flag)
    for name, value in counters.items():
        setattr(made.Counter, name, value)
    made.SliceData.SlicePos.Sag, made.SliceData.SlicePos.Cor, made.SliceData.SlicePos.Tra = POSITION
    made.SliceData.Quaternion[:] = QUATERNION
    return made


def measurement(readouts, protocol=PROTOCOL, *, newer=True, ended=True):
    text = "".join(f"{name}\t = \t{value}\n" for name, value in protocol.items())
    parts = [struct.pack("<I", 4 + len(text)), text.encode()]
    end = [(np.zeros((1, 0), np.complex64), {"flags": ("ACQEND",)})] if ended else []
    for number, (samples, facts) in enumerate([*readouts, *end]):
        if newer:
            parts += [bytes(header(mdh_def.Scan_header, samples, number, **facts))]
            parts += [bytes(mdh_def.Channel_header()) + row.tobytes() for row in samples]
        else:
            head = bytes(header(mdh_def.VB17_header, samples, number, **facts))
            parts += [head + row.tobytes() for row in samples]
    return b"".join(parts)


def twix(path, *measurements, newer=True):
    if not newer:
        path.write_bytes(measurements[0])
        return path
    raid = np.zeros(1, hdr_def.MultiRaidFileHeader)
    raid["hdr"]["count_"], place = len(measurements), raid.nbytes
    for entry, content in zip(raid[0]["entry"], measurements, strict=False):
        entry["off_"], entry["len_"] = place, len(content)
        place += len(content)
    path.write_bytes(raid.tobytes() + b"".join(measurements))
    return path


def frames(count=3):
    """Of two readouts, the second one first."""
    return [(values(2 * n + line), {"Rep": n, "Lin": line}) for n in range(count) for line in (1, 0)]


def points(samples=2 * SAMPLES):
    return np.stack([np.linspace(-25, 25, samples), np.linspace(-25, 25, samples)], axis=1)


GIVEN = {"trajectory": points(), "trajectory_units": "1/m"}


@pytest.mark.parametrize("newer", [True, False])
def test_frames_and_sizes(tmp_path, newer):
    path = twix(tmp_path / "scan.dat", measurement(frames(), newer=newer), newer=newer)
    raw = read_twix(path, **GIVEN)
    expected = [np.concatenate([values(2 * n), values(2 * n + 1)], axis=1) for n in range(3)]
    np.testing.assert_array_equal(raw.kspace, expected)
    assert raw.matrix == (12, 16)  # square voxels
    assert raw.field_of_view == pytest.approx((0.24, 0.32))
    assert raw.slice_thickness == pytest.approx(5e-3)
    assert raw.dwell_time == pytest.approx(2.5e-6)
    assert raw.noise is None
    overruled = read_twix(path, **GIVEN, matrix=8, field_of_view=(0.1, 0.2))
    assert overruled.matrix == (8, 8)
    assert overruled.field_of_view == pytest.approx((0.1, 0.2))


def test_a_frame_may_be_one_readout_in_the_order_of_the_scan(tmp_path):
    path = twix(tmp_path / "scan.dat", measurement(frames()))
    given = {"trajectory": points(SAMPLES), "trajectory_units": "1/m", "frame_counter": "acquisition"}
    np.testing.assert_array_equal(read_twix(path, **given).kspace[:, 0, 0].real, [1, 0, 3, 2, 5, 4])
    np.testing.assert_array_equal(read_twix(path, **given, skip_readouts=2).kspace[:, 0, 0].real, [3, 2, 5, 4])


def test_one_of_several_slices_is_read(tmp_path):
    scan = [(values(n), {"Rep": n // 2, "Sli": n % 2}) for n in range(6)]
    path = twix(tmp_path / "scan.dat", measurement(scan))
    given = {"trajectory": points(SAMPLES), "trajectory_units": "1/m"}
    np.testing.assert_array_equal(read_twix(path, slice_index=1, **given).kspace[:, 0, 0].real, [1, 3, 5])
    with pytest.raises(ValueError, match="--slice"):
        read_twix(path, **given)


def test_noise_of_an_earlier_measurement(tmp_path):
    """Its variance is that of the scan's dwell time: 7.68 ms for 768 samples is 10 us, of which 0.793 pass."""
    noise = np.random.default_rng(0).standard_normal((COILS, 1536)).astype(np.float32).view(np.complex64)
    first = measurement([(values(9), {}), (noise, {"flags": ("NOISEADJSCAN",)})])
    path = twix(tmp_path / "scan.dat", first, measurement(frames()))
    raw = read_twix(path, **GIVEN)
    assert raw.kspace.shape == (3, COILS, 2 * SAMPLES)
    np.testing.assert_allclose(raw.noise, noise * np.sqrt(10 / 2.5 / 0.793), rtol=1e-6)


def test_other_readouts_are_left_out(tmp_path):
    other = [(values(9, samples=4), {"flags": (flag,)}) for flag in ("PHASCOR", "RTFEEDBACK", "PATREFSCAN")]
    path = twix(tmp_path / "scan.dat", measurement([*other, *frames(), *other]))
    assert len(read_twix(path, **GIVEN).kspace) == 3


def test_voxels_lie_where_the_slice_was(tmp_path):
    raw = read_twix(twix(tmp_path / "scan.dat", measurement(frames())), **GIVEN)
    to_ras = np.array([-1, -1, 1])  # Siemens positions are along left, posterior and head
    np.testing.assert_allclose((raw.affine @ [8, 6, 0, 1])[:3], to_ras * POSITION, atol=1e-4)
    phase, read, normal = geometry.quat_to_rotmat(*QUATERNION).T
    for axis, (direction, size) in enumerate([(read, 20), (phase, 20), (normal, 5)]):
        np.testing.assert_allclose(raw.affine[:3, axis], size * to_ras * direction, atol=1e-4)


def test_the_dwell_time_of_a_pulseq_sequence_is_not_known(tmp_path):
    protocol = PROTOCOL | {"tSequenceFileName": '"%CustomerSeq%\\pulseq_v151"'}
    assert read_twix(twix(tmp_path / "scan.dat", measurement(frames(), protocol)), **GIVEN).dwell_time is None


@pytest.mark.parametrize("name", ["sKSpace.lBaseResolution", "sSliceArray.asSlice[0].dPhaseFOV"])
@pytest.mark.parametrize("value", [None, "nan", 0, 1e300])
def test_sizes_that_are_missing_are_asked_for(tmp_path, name, value):
    protocol = {key: held for key, held in (PROTOCOL | {name: value}).items() if held is not None}
    path = twix(tmp_path / "scan.dat", measurement(frames(), protocol))
    with pytest.raises(ValueError, match=r"--matrix=.*--field_of_view_mm="):
        read_twix(path, **GIVEN)
    with pytest.warns(UserWarning, match="slice thickness"):
        assert read_twix(path, **GIVEN, matrix=16, field_of_view=0.32).matrix == (16, 16)


def test_a_trajectory_is_asked_for(tmp_path):
    with pytest.raises(ValueError, match="--trajectory"):
        read_twix(twix(tmp_path / "scan.dat", measurement(frames())))


def test_files_that_are_not_whole_are_refused_in_one_line(tmp_path):
    whole = twix(tmp_path / "scan.dat", measurement(frames())).read_bytes()
    path = tmp_path / "part.dat"
    for length in [*range(0, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"part\.dat: [^\n]+$"):
            read_twix(path, **GIVEN)


def what_is_said(path):
    try:
        read_twix(path, **GIVEN)
    except (ValueError, UserWarning) as error:
        return str(error)
    return None


@pytest.mark.parametrize("newer", [True, False])
def test_damaged_files_are_refused_in_one_line(tmp_path, newer):
    whole = np.frombuffer(
        twix(tmp_path / "a.dat", measurement(frames(), newer=newer), newer=newer).read_bytes(), np.uint8
    )
    start = 10240 - 504 if newer else 0
    path = tmp_path / "damaged.dat"
    rng = np.random.default_rng(1)
    for _ in range(60):
        damaged = whole.copy()
        damaged[rng.integers(start, whole.size, 20)] = rng.integers(0, 256, 20)
        path.write_bytes(damaged.tobytes())
        if (said := what_is_said(path)) is not None:
            assert said.startswith(f"{path}: ")
            assert "\n" not in said


@pytest.mark.parametrize("flag", ["SYNCDATA", "ONLINE"])
def test_a_readout_that_claims_nothing_or_too_much_is_refused(tmp_path, flag):
    content = bytearray(measurement([(values(0), {"flags": (flag,)}), *frames()]))
    place = struct.unpack_from("<I", content)[0]
    if flag == "SYNCDATA":
        struct.pack_into("<I", content, place, 0)  # its length: a reader that goes on by it would never end
    else:
        struct.pack_into("<2H", content, place + 48, 65535, 65535)  # samples and channels
    with pytest.raises(ValueError, match=r"scan\.dat: not a whole TWIX file: readout 0"):
        read_twix(twix(tmp_path / "scan.dat", bytes(content)), **GIVEN)


def test_a_measurement_without_an_end_mark_is_read_with_a_warning(tmp_path):
    path = twix(tmp_path / "scan.dat", measurement(frames(), ended=False))
    with pytest.warns(UserWarning, match=r"scan\.dat: the measurement has no end mark"):
        assert len(read_twix(path, **GIVEN).kspace) == 3


def test_without_twixtools_the_extra_is_named(tmp_path, monkeypatch):
    path = twix(tmp_path / "scan.dat", measurement(frames()))
    monkeypatch.setitem(sys.modules, "twixtools", None)
    with pytest.raises(ValueError, match=r"scan\.dat: .*pip install 'ganmrf\[twix\]'"):
        read_twix(path, **GIVEN)


@pytest.mark.parametrize("name", REAL)
def test_a_real_scan_is_read_in_the_order_that_its_sequence_plays(name):
    path, played = shared(f"data/real/twix_{name}.dat"), read_scan(shared(f"data/real/se_2D_{name}_spr.seq"))
    excitations, refocusing = (np.array([pulse.time for pulse in played.pulses[n::2]]) for n in (0, 1))
    into = np.arange(played.readouts[0].n_samples) + 0.5
    times = np.array([readout.start + readout.dwell_time * into for readout in played.readouts])
    # Refocusing turns round what was dephased since the excitation.
    turned = 2 * played.moments(refocusing) - played.moments(excitations)
    k = (played.moments(times.ravel()).reshape(*times.shape, 3) - turned[:, None])[..., :2]
    raw = read_twix(path, trajectory=GivenTrajectory(k, "1/m"))
    assert raw.kspace.shape == (len(played.readouts), 32, len(into)) == (64, 32, 64)
    assert (raw.matrix, raw.slice_thickness, raw.noise) == ((64, 64), pytest.approx(0.03), None)
    assert raw.field_of_view == pytest.approx((0.128, 0.128))
    assert raw.dwell_time is None  # the protocol's is 10 us, the sequence's 100 us
    energy = np.sum(np.abs(raw.kspace) ** 2, axis=1)
    at_peak = raw.trajectory[np.unravel_index(energy.argmax(), energy.shape)]
    assert np.abs(at_peak).max() < 2 / 0.128  # two samples
    # From line to line the energy falls as k grows: in any other order, far lines would have that of the centre.
    by_distance = energy.sum(axis=1)[np.argsort(np.abs(raw.trajectory[:, 0, 1]))]
    assert by_distance[:16].min() > by_distance[-16:].max()
    voxel = np.linalg.inv(raw.affine) @ [6.6586, -45.3995, 0, 1]
    np.testing.assert_allclose(voxel[:3], [32, 32, 0], atol=1e-3)
