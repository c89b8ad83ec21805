"""Pulseq files of other people, as ``doors/README.md`` and ``data/real/README.md`` describe them."""

import importlib.resources

import numpy as np
import pytest

from ganmrf.io.pulseq_read import read_pulseq, read_pulseq_trajectory
from ganmrf.io.schedule import read_schedule
from ganmrf.physics.constants import GYROMAGNETIC_RATIO
from tests.io.pulseq_files import SIX_DIGITS
from tests.shared import shared

DOORS, REAL = "doors/seq_{}.seq", "data/real/{}.seq"


def test_noise_before_the_first_pulse_and_rotations_of_others():
    plain = shared(DOORS.format("plain"))
    k, expected = read_pulseq_trajectory(plain), read_pulseq(plain)
    found = read_pulseq(shared(DOORS.format("noise_adc_first")))
    for name in ("flip_angle", "repetition_time", "echo_time", "inversion_time"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-6)
    np.testing.assert_allclose(read_pulseq_trajectory(shared(DOORS.format("noise_adc_first"))), k, atol=1e-4)
    with pytest.warns(UserWarning, match="has no signature"):
        turned = read_pulseq_trajectory(shared(DOORS.format("1.5.1_rotations")))
    for frame in range(4):  # a quarter more each frame
        z, along = k[frame] @ [1, 1j] * 1j**frame, turned[frame] @ [1, 1j]
        np.testing.assert_allclose(along, z, atol=1e-6 * np.abs(z).max())


def test_shapes_of_samples_of_version_1_3():
    path = shared(DOORS.format("1.3_arbitrary_gradient"))
    with pytest.warns(UserWarning, match="shapes 1, 2, 3 are not written as this version has them"):
        np.testing.assert_allclose(
            read_pulseq(path).flip_angle, np.deg2rad([7.2, 12.6]), rtol=0.02
        )  # sums of 100 samples


def test_preparations_and_slices_of_others():
    plain = read_pulseq_trajectory(shared(DOORS.format("plain")))
    path = shared(DOORS.format("t2prep"))
    with pytest.raises(ValueError, match=r"found pulses \(2 for preparation, 1 for refocusing\)"):
        read_pulseq(path)
    np.testing.assert_allclose(read_pulseq_trajectory(path), plain, atol=1e-4)
    path = shared(DOORS.format("two_slices"))
    with pytest.raises(ValueError, match="has 2 slices: choose --slice_index=0 to 1"):
        read_pulseq(path)
    assert read_pulseq(path, slice_index=0).n_frames == 4
    for slice_index in (0, 1):
        np.testing.assert_allclose(read_pulseq_trajectory(path, slice_index=slice_index), plain, atol=1e-4)


def test_jiangs_schedule_as_openmrf_plays_it():
    """Flip angles in six digits; repetition times on a raster of 10 us, whose rests are carried on or left out."""
    played = read_pulseq(shared(REAL.format("openmrf_test_mrf")))
    with importlib.resources.as_file(importlib.resources.files("ganmrf.data") / "mrf_fisp_jiang2015.csv") as path:
        schedule = read_schedule(path, echo_time=2.02e-3, inversion_time=18.02e-3)
    np.testing.assert_allclose(played.flip_angle, schedule.flip_angle, rtol=SIX_DIGITS, atol=2e-6)  # 1e-6 rad for 0
    np.testing.assert_allclose(played.repetition_time[:-1], schedule.repetition_time[:-1], atol=20e-6)
    np.testing.assert_allclose(played.echo_time, 2.02e-3, rtol=1e-6)
    np.testing.assert_allclose(played.inversion_time, 18.02e-3, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "options", "shape", "dwell_time"),
    [
        ("openmrf_test_mrf", {}, (1000, 3072, 2), 2e-6),
        ("openmrf_test_cmrf", {}, (768, 1600, 2), 1.9e-6),
        ("koma_v1.3_spiral", {}, (1, 28000, 2), 1.4e-6),
        ("koma_v1.5_spiral", {"slice_index": 3}, (1, 13000, 2), 1.6e-6),
    ],
)
def test_spirals_of_others_are_played_by_gradients_that_scanners_have(name, options, shape, dwell_time):
    """They begin at k = 0, with up to 25 mT/m and 130 T/m/s; a shape that is misread jumps."""
    k = read_pulseq_trajectory(shared(REAL.format(name)), **options)
    assert k.shape == shape
    k = k[:8].astype(float)
    np.testing.assert_allclose(k[:, 0], 0, atol=0.01)
    assert 15e-3 < np.linalg.norm(np.diff(k, axis=1), axis=-1).max() / dwell_time / GYROMAGNETIC_RATIO < 25e-3
    every = round(10e-6 / dwell_time)  # the raster of the gradients
    bends = np.linalg.norm(np.diff(k[:, ::every], 2, axis=1), axis=-1) / (every * dwell_time) ** 2
    assert 50 < bends.max() / GYROMAGNETIC_RATIO < 130


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("openmrf_test_cmrf", r"found pulses \(13 for saturation, 20 for preparation, .* 12 for other\)"),
        ("koma_v1.3_spiral", r"found pulses \(1 for preparation\), the first at 0.0040995 s"),
        ("koma_v1.5_spiral", "has 4 slices: choose --slice_index=0 to 3"),
        (
            "se_2D_gauss_spr",
            "a pulse of 90 degrees without a readout after it, at 0.008 s, but one of 180: a spin echo",
        ),
        ("se_2D_sinc_w_apod_spr", "one of 180: a spin echo"),
        ("se_2D_sinc_wo_apod_spr", "one of 180: a spin echo"),
    ],
)
def test_scans_of_others_that_are_not_mrf_fisp_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        read_pulseq(shared(REAL.format(name)))
