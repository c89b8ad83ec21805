"""MRD files as other programs and other people write them, where these are at hand."""

import shutil
import subprocess

import ismrmrd
import numpy as np
import pytest
from ismrmrd import xsd

from ganmrf.io.mrd import read_mrd
from tests.shared import shared

SHEPP_LOGAN = "ismrmrd_generate_cartesian_shepp_logan"


def same_scan(raw):
    expected = read_mrd(shared("doors/mrd_ok.h5"))
    np.testing.assert_array_equal(raw.kspace, expected.kspace)
    np.testing.assert_allclose(raw.trajectory, expected.trajectory, rtol=1e-6)  # of float32 in other units
    return (raw.matrix, raw.field_of_view) == (expected.matrix, expected.field_of_view) == ((48, 48), (0.24, 0.24))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("no_patientPosition", "measurementInformation/patientPosition missing"),
        ("no_encodingLimits", "encoding/encodingLimits missing"),
        ("h1_decimal", r"H1resonanceFrequency_Hz '123250000\.5'"),
        ("noise_first_unflagged", "the first 3 readouts have another size than the 12 that follow"),
    ],
)
def test_the_scan_is_read_with_one_warning(name, told):
    with pytest.warns(UserWarning, match=told) as warned:
        assert same_scan(read_mrd(shared(f"doors/mrd_{name}.h5")))
    assert len(warned) == 1


def test_noise_in_front_of_the_scan():
    assert read_mrd(shared("doors/mrd_noise_first_unflagged.h5"), skip_readouts=3).noise.shape == (2, 3 * 660)


def test_a_group_is_chosen():
    path = shared("doors/mrd_group_dataset_1.h5")
    assert same_scan(read_mrd(path, dataset="dataset_1"))
    with pytest.raises(ValueError, match=r"the file holds dataset_1: choose --dataset=dataset_1$"):
        read_mrd(path)


def test_a_stream_of_siemens_to_ismrmrd():
    path = shared("doors/siemens_1.3_stream.ismrmrd")
    with pytest.raises(ValueError, match=r"no trajectory in the file .spiral.: give --trajectory=FILE$"):
        read_mrd(path)
    raw = read_mrd(path, trajectory=np.ones((660, 2)), trajectory_units="1/m")
    with pytest.importorskip("ismrmrd.serialization").ProtocolDeserializer(str(path)) as source:
        (acquisition,) = [each for each in source.deserialize() if isinstance(each, ismrmrd.Acquisition)]
    np.testing.assert_array_equal(raw.kspace, acquisition.data[None])


def test_a_spiral_scan_of_jemris():
    path = shared("data/real/example_data_simu_signals_spiralout_clean_slc30.h5")
    with pytest.raises(ValueError, match=r"kspace_encode_step_1: missing of 0 to 78: .*--frame_counter=acquisition"):
        read_mrd(path)
    raw = read_mrd(path, frame_counter="acquisition")
    assert (raw.kspace.shape, raw.matrix, raw.trajectory_units) == ((15, 1, 4940), (220, 220), "fov")


@pytest.mark.parametrize("arguments", [("-C",), ("-d", "visit", "-k"), ("-O", "1", "-r", "3")])
def test_the_phantom_of_ismrmrd_tools_is_read_exactly(tmp_path, arguments):
    if not shutil.which(SHEPP_LOGAN):
        pytest.skip(f"needs {SHEPP_LOGAN}, of ismrmrd-tools")
    path, dataset = tmp_path / "raw.h5", "visit" if "visit" in arguments else "dataset"
    subprocess.run([SHEPP_LOGAN, "-m", "16", "-c", "2", *arguments, "-o", path], check=True, capture_output=True)
    units = "voxel" if "-k" in arguments else None
    raw = read_mrd(path, dataset=dataset, trajectory_units=units)
    with ismrmrd.Dataset(str(path), dataset, mode="r") as source:
        size = xsd.CreateFromDocument(source.read_xml_header()).encoding[0].reconSpace.matrixSize
        acquisitions = [source.read_acquisition(i) for i in range(source.number_of_acquisitions())]
    noise = [each for each in acquisitions if each.is_flag_set(ismrmrd.ACQ_IS_NOISE_MEASUREMENT)]
    lines = [each for each in acquisitions if not each.is_flag_set(ismrmrd.ACQ_IS_NOISE_MEASUREMENT)]
    lines.sort(key=lambda each: (each.idx.repetition, each.idx.kspace_encode_step_1))
    kspace = np.stack([each.data for each in lines]).reshape(-1, 16, *lines[0].data.shape)
    np.testing.assert_array_equal(raw.kspace, kspace.swapaxes(1, 2).reshape(raw.kspace.shape))
    assert (raw.matrix, len(noise)) == ((size.y, size.x), int("-C" in arguments))
    if noise:
        np.testing.assert_array_equal(raw.noise, noise[0].data)
    if units:
        k = np.concatenate([each.traj for each in lines]).reshape(raw.trajectory.shape)
        np.testing.assert_allclose(raw.trajectory * np.divide(raw.field_of_view, raw.matrix), k, rtol=1e-6)
