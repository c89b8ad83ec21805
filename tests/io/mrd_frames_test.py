"""Acquisitions in MRD become frames: by their counters, without what is not the scan."""

import ismrmrd
import numpy as np
import pytest
from ismrmrd import xsd

from ganmrf.io.mrd import read_mrd
from tests.io.acquisitions import (
    COILS,
    FOV_Y,
    FRAMES,
    IN_ORDER,
    READOUTS,
    SAMPLES,
    Y,
    header,
    numbers,
    readout,
    save,
    scan,
)


@pytest.mark.parametrize("counter", ["repetition", "contrast", "phase", "set", "user_0", "user_7"])
def test_frames_are_put_in_the_order_of_their_counter(tmp_path, counter):
    acquisitions = scan(counter)
    mixed = [acquisitions[i] for i in np.random.default_rng(0).permutation(len(acquisitions))]
    path = save(tmp_path / "raw.h5", mixed)
    assert numbers(read_mrd(path)) == numbers(read_mrd(path, frame_counter=counter)) == IN_ORDER
    raw = read_mrd(path)
    assert raw.kspace.shape == (FRAMES, COILS, READOUTS * SAMPLES)
    # The trajectory goes with the samples, and so does everything else of a readout.
    ky = raw.trajectory[..., 1].reshape(FRAMES, READOUTS, SAMPLES) * FOV_Y / Y * 14
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
    with pytest.raises(ValueError, match=r"raw.h5: repetition, set may each number .*: choose --frame_counter=rep"):
        read_mrd(path)
    assert numbers(read_mrd(path, frame_counter="set")) == [[0, 2], [1, 3]]
    with pytest.raises(ValueError, match=r"--frame_counter must be one of repetition, contrast, .*; got 'time'"):
        read_mrd(path, frame_counter="time")
    alike = [readout(i, idx={"repetition": i, "contrast": i}) for i in range(4)]
    assert numbers(read_mrd(save(path, alike))) == [[0], [1], [2], [3]]
    uneven = [readout(i, idx={"repetition": i // 2, "phase": i == 3}) for i in range(4)]
    assert numbers(read_mrd(save(path, uneven))) == [[0, 1], [2, 3]]


def test_missing_and_doubled_frames_are_named(tmp_path):
    whole, path = scan(), tmp_path / "raw.h5"
    for acquisitions, words in (
        (whole[:2] + whole[6:], r"repetition: missing of 0 to 3: 1, 2 \(--frame_counter=acquisition "),
        (
            [*whole, whole[3]],
            r"repetition: doubled: 1 \(3 readouts where most frames have 2; --frame_counter=acquisition ",
        ),
        (whole[:-1], r"repetition: incomplete: 3 \(1 readouts where most frames have 2; --frame_counter=acquisition "),
        ([readout(i, idx={"repetition": i}) for i in (0, 99)], r"missing of 0 to 99: 1, 2, 3, 4, 5 and 93 more "),
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
    other = readout(99, flags=[flag], samples=3, traj=False)
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


def test_a_slice_is_chosen(tmp_path):
    acquisitions = [readout(i, idx={"repetition": i // 2, "slice": i % 2}) for i in range(4)]
    path = save(tmp_path / "raw.h5", acquisitions)
    assert numbers(read_mrd(path, slice_index=1)) == [[1], [3]]
    with pytest.raises(ValueError, match="slice has the values 0, 1, and one slice is read: choose --slice=0"):
        read_mrd(path)
    with pytest.raises(ValueError, match="no slice 2: slice has the values 0, 1: choose --slice=0"):
        read_mrd(path, slice_index=2)
    partitions = [readout(i, idx={"kspace_encode_step_2": i}) for i in range(3)]
    with pytest.raises(ValueError, match="kspace_encode_step_2 has the values 0, 1, 2: only 2-D scans are read"):
        read_mrd(save(path, partitions))
