"""Trajectories from files: the same points from any unit, axis order or order of interleaves, and from gradients."""

import contextlib

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.io

from ganmrf.imaging.trajectory import RASTER, design_spiral, rotated, rotation_angles
from ganmrf.io.girf import Girf, read_girf
from ganmrf.io.pulseq_read import read_pulseq_trajectory
from ganmrf.io.pulseq_settings import Readout
from ganmrf.io.pulseq_write import write_pulseq
from ganmrf.io.trajectories import GivenTrajectory, read_trajectory, stored_per_metre
from ganmrf.physics.sequences.published import mrf_fisp

MATRIX, FIELD_OF_VIEW, FRAMES = (48, 48), (0.24, 0.24), 6
SPIRAL = design_spiral(matrix=48, field_of_view=0.24, interleaves=8)
POINTS = rotated(SPIRAL.k, rotation_angles(FRAMES, "golden"))
SAMPLES, DWELL = len(SPIRAL.k), SPIRAL.dwell_time
SCAN = (FRAMES, SAMPLES, DWELL, MATRIX, FIELD_OF_VIEW)
# What each unit is of 1/m, from its definition, for voxels of 5 mm and a field of view of 0.24 m.
OF_ONE_PER_METRE = {
    "voxel": 5e-3,
    "k/kmax": 1e-2,
    "rad/voxel": 2 * np.pi * 5e-3,
    "fov": 0.24,
    "1/m": 1,
    "1/cm": 1e-2,
    "1/mm": 1e-3,
    "rad/m": 2 * np.pi,
}


@pytest.mark.parametrize("units", OF_ONE_PER_METRE)
def test_every_unit_is_found_and_said(units):
    stored = POINTS * OF_ONE_PER_METRE[units]
    found, said = stored_per_metre(stored, None, MATRIX, FIELD_OF_VIEW)
    np.testing.assert_allclose(found, POINTS, rtol=1e-5, atol=1e-4)
    assert said == ("k/kmax" if units == "1/cm" else units)  # for voxels of 5 mm both are the same number
    np.testing.assert_allclose(stored_per_metre(stored, units, MATRIX, FIELD_OF_VIEW)[0], POINTS, rtol=1e-5, atol=1e-4)


@hypothesis.given(
    size=st.floats(0.1, 0.5),
    matrix=st.integers(16, 400),
    reach=st.floats(0.1, 4),
    units=st.sampled_from(["voxel", "1/m"]),
)
def test_a_unit_that_is_found_is_near_the_edge_or_refused(size, matrix, reach, units):
    """Whatever is stored: the points that come out reach a third to 1.5 of the edge of k-space, or nothing comes."""
    edge = matrix / (2 * size)
    stored = POINTS / np.abs(POINTS).max() * reach * (0.5 if units == "voxel" else edge)
    with contextlib.suppress(ValueError):
        found, _ = stored_per_metre(stored, None, (matrix, matrix), (size, size))
        assert 1 / 3 * 0.999 <= np.abs(found).max() / edge <= 1.5 * 1.001


@pytest.mark.parametrize(
    ("scale", "words"),
    [
        (0.7, "several units fit .* 0.699 in voxel, 0.35 in k/kmax, .*: choose with --trajectory_units=voxel"),
        (1e-4, "no unit"),
        (1.2, "several units fit .* 1.2 in voxel, 0[.]\\d+ in k/kmax"),  # voxel alone would reach beyond the edge
    ],
)
def test_units_that_are_not_clear_are_refused(scale, words):
    with pytest.raises(ValueError, match=words):
        stored_per_metre(POINTS * 5e-3 * scale, None, MATRIX, FIELD_OF_VIEW)


def test_axes_may_stand_in_any_order():
    for values in (
        POINTS,
        POINTS.T,
        POINTS.swapaxes(0, 1),
        np.moveaxis(POINTS, 2, 0),
        np.concatenate([POINTS, np.zeros_like(POINTS[..., :1])], axis=2),
        POINTS[..., 0] + 1j * POINTS[..., 1],
    ):
        found, units = GivenTrajectory(values).per_metre(*SCAN)
        np.testing.assert_array_equal(found, POINTS)
        assert units == "1/m"
    for one in (POINTS[0], POINTS[0].T, POINTS[0] @ [1, 1j]):
        found, _ = GivenTrajectory(one, "1/m").per_metre(*SCAN)
        np.testing.assert_array_equal(found, np.broadcast_to(POINTS[0], POINTS.shape))


def test_fewer_interleaves_are_played_in_an_order(tmp_path):
    three, order = POINTS[:3], np.array([2, 0, 1, 1, 0, 2])
    np.savez(tmp_path / "k.npz", arms=three, order=order, other=np.ones(3))
    scipy.io.savemat(tmp_path / "k.mat", {"arms": three.T, "order": 1 + order})
    np.save(tmp_path / "k.npy", three)
    for path in (tmp_path / "k.npz", tmp_path / "k.mat"):
        found, _ = read_trajectory(path, "arms", order="order").per_metre(*SCAN)
        np.testing.assert_array_equal(found, three[order])
    found, _ = read_trajectory(tmp_path / "k.npy", order="cyclic").per_metre(*SCAN)
    np.testing.assert_array_equal(found, three[[0, 1, 2, 0, 1, 2]])
    with pytest.raises(ValueError, match="holds 1 to 2 of 4, counted from 0 or from 1"):
        GivenTrajectory(POINTS[:4], order=np.array([1, 2, 1, 2, 1, 2])).per_metre(*SCAN)
    for wrong in ([0, 1, 2, 3, 0, 1], [0, 1, 2, -1, 0, 1], [0.5, 1, 2, 0, 0, 1], [0, 1]):
        with pytest.raises(ValueError, match="order of interleaves"):
            GivenTrajectory(three, order=np.array(wrong)).per_metre(*SCAN)
    with pytest.raises(ValueError, match="3 interleaves and the scan 6 frames: give --interleave_order=cyclic"):
        GivenTrajectory(three).per_metre(*SCAN)


@pytest.mark.parametrize(("units", "scale"), [("mT/m", 1e3), ("T/m", 1), ("G/cm", 1e2), ("Hz/m", 42.577478518e6)])
def test_nominal_gradients_become_points(units, scale):
    """The spiral's own waveform gives its own samples, to the error of a waveform in steps of 10 us."""
    found, said = GivenTrajectory(SPIRAL.gradient * scale, raster_time=RASTER).per_metre(*SCAN)
    assert said == units
    assert np.abs(found[0] - SPIRAL.k).max() < 2e-3 * np.abs(SPIRAL.k).max()
    each = scale * rotated(SPIRAL.gradient, rotation_angles(FRAMES, "golden"))
    for values in (each, each.T, np.moveaxis(each, 0, 2), (each @ [1, 1j]).T):
        found, _ = GivenTrajectory(values, units, raster_time=RASTER).per_metre(*SCAN)
        assert np.abs(found - POINTS).max() < 2e-3 * np.abs(POINTS).max()


def test_a_delay_of_the_gradients_is_a_shift_of_the_samples():
    """exp(-2 pi i f tau) delays the axis by tau: after two raster times the moment of two raster times before."""
    frequency = np.linspace(-5e4, 5e4, 20001)
    delay = np.exp(-2j * np.pi * frequency * 2 * RASTER)
    girf = Girf(frequency, np.stack([delay, np.ones_like(delay)], axis=1))
    played = girf.play(SPIRAL.gradient, RASTER)
    np.testing.assert_allclose(played[2:, 0], SPIRAL.gradient[:-2, 0], atol=2e-4 * np.abs(SPIRAL.gradient).max())
    np.testing.assert_allclose(played[:, 1], SPIRAL.gradient[:, 1], atol=1e-12)


def test_a_cross_term_moves_one_axis_by_the_other(tmp_path):
    frequency = np.array([0, 5e4])
    mixing = np.array([[1, 0.1], [-0.05, 0.9]])
    np.savez(tmp_path / "girf.npz", frequency_hz=frequency, girf=np.stack([mixing, mixing]))
    plain = GivenTrajectory(SPIRAL.gradient, raster_time=RASTER).per_metre(*SCAN)[0]
    bent = GivenTrajectory(SPIRAL.gradient, raster_time=RASTER, girf=read_girf(tmp_path / "girf.npz"))
    np.testing.assert_allclose(bent.per_metre(*SCAN)[0], plain @ mixing.T, atol=1e-3)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"girf": np.ones((3, 2))}, "no array 'frequency_hz'"),
        ({"frequency_hz": [0, 1, 1], "girf": np.ones((3, 2))}, "must be finite and ascend"),
        ({"frequency_hz": [0, 1, 2], "girf": np.ones((2, 2))}, "girf must be .* of 3 frequencies"),
        ({"frequency_hz": [0, 1, 2], "girf": np.full((3, 2), np.nan)}, "NaN or infinite"),
    ],
)
def test_what_is_no_girf(tmp_path, arrays, words):
    np.savez(tmp_path / "girf.npz", **arrays)
    with pytest.raises(ValueError, match=words):
        read_girf(tmp_path / "girf.npz")


def test_frequencies_in_khz_are_noticed():
    girf = Girf(np.linspace(0, 50, 100), np.ones((100, 2)))
    with pytest.raises(ValueError, match="are the frequencies in Hz"):
        girf.play(SPIRAL.gradient, RASTER)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.full((4, 2), "x"), "must hold numbers"),
        (np.ones((4, 5, 6)), "an axis of kx and ky"),
        (np.ones((6, SAMPLES, 3)), "kz that is not 0"),
        (np.ones((6, 4, 2)), r"must be \(frames, samples, 2\) = \(6, .*got \(6, 4, 2\)"),
    ],
)
def test_what_is_no_trajectory(values, words):
    with pytest.raises(ValueError, match=words):
        GivenTrajectory(values).per_metre(*SCAN)


def test_the_gradients_of_a_pulseq_file_are_played_with_the_response(tmp_path):
    """A delay of x by one raster time, all the scan through: k along x is that of one raster time before."""
    sequence = mrf_fisp(3)
    readout = Readout(SPIRAL.gradient, np.zeros(3), SAMPLES, DWELL, field_of_view=0.24)
    write_pulseq(tmp_path / "scan.seq", sequence, readout)
    frequency = np.linspace(0, 5e4, 20001)
    delay = np.exp(-2j * np.pi * frequency * RASTER)
    girf = Girf(frequency, np.stack([delay, np.ones_like(delay)], axis=1))
    nominal = read_pulseq_trajectory(tmp_path / "scan.seq")
    played = read_pulseq_trajectory(tmp_path / "scan.seq", girf=girf)
    np.testing.assert_allclose(played[..., 1], nominal[..., 1], atol=1e-3)
    times = DWELL * (np.arange(SAMPLES) + 0.5)
    before = np.array([np.interp(times - RASTER, times, one) for one in nominal[..., 0]])
    late = times > times[0] + RASTER
    edge = np.abs(nominal).max()
    np.testing.assert_allclose(played[:, late, 0], before[:, late], atol=2e-3 * edge)
    assert np.abs(played[..., 0] - nominal[..., 0]).max() > 1e-2 * edge
