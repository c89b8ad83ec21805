"""Noise readouts, flagged or in front of the scan, become the noise of raw data; they are no part of the scan."""

import ismrmrd
import numpy as np
import pytest
from ismrmrd import xsd

from ganmrf.imaging.coils import prewhiten
from ganmrf.io.mrd import RawData, read_mrd, write_mrd
from tests.io.acquisitions import COILS, EPS, IN_ORDER, header, numbers, one_line, readout, save, scan

FLAG = [ismrmrd.ACQ_IS_NOISE_MEASUREMENT]


def noise_readouts(count=2, samples=7, coils=COILS, seed=0, flags=(), **head):
    """Acquisitions of noise, and their samples, one after the other."""
    values = np.random.default_rng(seed).standard_normal((count, coils, samples, 2)).astype(np.float32)
    values = values.view(np.complex64)[..., 0]
    acquisitions = [ismrmrd.Acquisition.from_array(each, **head) for each in values]
    for acquisition in acquisitions:
        for flag in flags:
            acquisition.set_flag(flag)
    return acquisitions, np.concatenate(values, axis=1)


def test_flagged_readouts_are_the_noise(tmp_path):
    (first, last), noise = noise_readouts(flags=FLAG)
    raw = read_mrd(save(tmp_path / "raw.h5", [first, *scan(), last]))
    assert numbers(raw) == IN_ORDER
    np.testing.assert_array_equal(raw.noise, noise)
    assert read_mrd(save(tmp_path / "raw.h5", scan())).noise is None


@pytest.mark.parametrize("size", [{"samples": 7}, {"samples": 5}])  # the latter without the trajectory that a scan has
def test_readouts_of_another_size_in_front_are_found(tmp_path, size):
    front, noise = noise_readouts(3, **size)
    path = save(tmp_path / "raw.h5", [*front, *scan()])
    with pytest.warns(
        UserWarning, match=r"raw\.h5: the first 3 readouts have another size than the 8 that follow .*=0"
    ):
        raw = read_mrd(path)
    assert numbers(raw) == IN_ORDER
    np.testing.assert_array_equal(raw.noise, noise)
    chosen = read_mrd(path, skip_readouts=3)
    np.testing.assert_array_equal(chosen.noise, noise)
    np.testing.assert_array_equal(chosen.kspace, raw.kspace)
    with pytest.raises(
        ValueError, match=r"must be the same .*: where the last 8 are the scan, .*--skip_readouts=3"
    ) as error:
        read_mrd(path, skip_readouts=0)
    assert one_line(error, path)


def test_readouts_to_leave_out_are_counted_in_the_file(tmp_path):
    flagged, noise = noise_readouts(flags=FLAG)
    path = save(tmp_path / "raw.h5", [flagged[0], readout(98), readout(99), flagged[1], *scan()])
    raw = read_mrd(path, skip_readouts=4)
    assert numbers(raw) == IN_ORDER
    np.testing.assert_array_equal(raw.noise, noise)
    for wrong in (-1, 12):
        with pytest.raises(ValueError, match=rf"--skip_readouts must be 0 to 11, .*; got {wrong}"):
            read_mrd(path, skip_readouts=wrong)


def test_other_sizes_that_are_not_in_front_or_not_fewer_are_refused(tmp_path):
    front, _ = noise_readouts(3)
    whole = scan()
    for acquisitions, start in (([*whole, *front], 8), ([*front, *whole[:3]], 3), ([whole[0], *front, *whole[1:]], 4)):
        with pytest.raises(ValueError, match=f"must be the same .* --skip_readouts={start}$"):
            read_mrd(save(tmp_path / "raw.h5", acquisitions))


def test_noise_has_the_variance_of_the_scan(tmp_path):
    """Half as long dwell times let twice the noise in; a filter that passes 0.8 of a band lets 1 / 0.8 less in."""
    flagged, noise = noise_readouts(flags=FLAG, sample_time_us=8)
    whole = [readout(i, idx={"repetition": i}, sample_time_us=4) for i in range(8)]
    path = tmp_path / "raw.h5"
    np.testing.assert_allclose(read_mrd(save(path, [*flagged, *whole])).noise, noise * np.sqrt(2), rtol=2 * EPS)
    system = xsd.acquisitionSystemInformationType(relativeReceiverNoiseBandwidth=0.8)
    head = header(acquisitionSystemInformation=system)
    expected = noise * np.sqrt(2 / 0.8)
    np.testing.assert_allclose(read_mrd(save(path, [*flagged, *whole], head)).noise, expected, rtol=2 * EPS)
    np.testing.assert_array_equal(read_mrd(save(path, [*flagged, *scan()])).noise, noise)  # a dwell time is not known


def test_what_cannot_be_noise_of_the_scan_is_not_taken_for_it(tmp_path):
    few, _ = noise_readouts(1, coils=1, flags=FLAG)
    lost, _ = noise_readouts(1, flags=FLAG)
    lost[0].data[0, 0] = np.nan
    wrongly, _ = noise_readouts(1, samples=200, flags=FLAG)
    wrongly[0].data[:, 100] = 100
    path = tmp_path / "raw.h5"
    for readouts in (few, lost, wrongly):
        with pytest.warns(UserWarning, match="1 of 1 noise readouts are of no use for prewhitening: .* coils"):
            raw = read_mrd(save(path, [*readouts, *scan()]))
        assert (raw.noise, numbers(raw)) == (None, IN_ORDER)
    echo, noise = noise_readouts(2, samples=200)
    echo[0].data[:, 100] = 100  # the centre of k-space
    with pytest.warns(UserWarning, match="1 of 2 noise readouts"), pytest.warns(UserWarning, match="the first 2"):
        raw = read_mrd(save(path, [*echo, *scan()]))
    np.testing.assert_array_equal(raw.noise, noise[:, 200:])


@pytest.mark.parametrize("samples", [4, 70000])  # more than a readout of MRD can have
def test_written_noise_is_read_again(tmp_path, samples):
    rng = np.random.default_rng(0)
    kspace, noise = (
        rng.standard_normal(shape).astype(np.float32).view(np.complex64) for shape in ((2, 3, 8), (3, 2 * samples))
    )
    raw = RawData(kspace, None, (6, 8), (0.24, 0.4), 0.005, dwell_time=4e-6, noise=noise)
    write_mrd(tmp_path / "raw.h5", raw)
    back = read_mrd(tmp_path / "raw.h5", trajectory=np.ones((4, 2)), trajectory_units="1/m")
    np.testing.assert_array_equal(back.noise, noise)
    np.testing.assert_array_equal(back.kspace, kspace)
    for wrong, words in (
        (noise[:2], r"noise must be \(coils, samples\) of 3 coils; got shape \(2, "),
        (noise[0], "noise m"),
    ):
        with pytest.raises(ValueError, match=words):
            RawData(kspace, None, (6, 8), (0.24, 0.4), 0.005, noise=wrong)
    with pytest.raises(ValueError, match=r"noise: 3 of \d+ values are NaN or infinite"):
        RawData(kspace, None, (6, 8), (0.24, 0.4), 0.005, noise=np.where(np.arange(samples) == 1, np.nan, noise))


def test_noise_of_a_file_whitens_its_scan(tmp_path):
    """A scan of noise alone: its covariance after prewhitening is the identity."""
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((COILS, COILS)) + 1j * rng.standard_normal((COILS, COILS))

    def of_receivers(readouts, sample_time_us):
        for i, each in enumerate(readouts):
            each.data[:] = mixing @ each.data
            each.idx.repetition, each.sample_time_us = i, sample_time_us
        return readouts

    flagged, _ = noise_readouts(1, 4000, flags=FLAG)
    whole, _ = noise_readouts(20, 200, seed=1)
    for each in whole:
        each.data[:] *= 2  # four times the bandwidth of the noise readout
    path = save(tmp_path / "raw.h5", [*of_receivers(flagged, 8), *of_receivers(whole, 2)])
    raw = read_mrd(path, trajectory=np.ones((200, 2)), trajectory_units="1/m")
    white = np.concatenate(list(prewhiten(raw.kspace, raw.noise)), axis=1)
    # Both covariances are of 4000 samples: their entries are off by 1 / sqrt(4000) each.
    np.testing.assert_allclose(np.cov(white), np.eye(COILS), atol=6 * np.sqrt(2 / 4000))


def test_readouts_of_another_encoding_in_front_are_no_noise(tmp_path):
    further, _ = noise_readouts(2, encoding_space_ref=1)
    raw = read_mrd(save(tmp_path / "raw.h5", [*further, *scan()]))
    assert (raw.noise, numbers(raw)) == (None, IN_ORDER)
