"""Spirals keep the limits of the gradients and the spacing of Nyquist; weights undo the density of the samples."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from ganmrf.imaging.nufft import image_to_kspace, kspace_to_image
from ganmrf.imaging.trajectory import density_compensation, design_spiral, distinct, rotated, rotation_angles
from ganmrf.io.pulseq_read import read_pulseq_trajectory
from ganmrf.io.pulseq_settings import Readout
from ganmrf.io.pulseq_write import write_pulseq
from ganmrf.physics.constants import GYROMAGNETIC_RATIO
from ganmrf.physics.sequences.fisp import Fisp

RASTER = 1e-5  # s
SMALL = {"matrix": 48, "field_of_view": 0.24, "interleaves": 16}

spirals = st.fixed_dictionaries(
    {
        "matrix": st.integers(8, 64),
        "field_of_view": st.floats(0.1, 0.4),
        "interleaves": st.integers(4, 48),
        "centre_density": st.floats(0.4, 4),
        "max_gradient": st.floats(5e-3, 0.08),
        "max_slew_rate": st.floats(20, 200),
        "dwell_time": st.sampled_from([1e-6, 2e-6, 4e-6, 1e-5]),
    }
)


def played(gradient, step=RASTER / 20):
    """Times, s, and gradient and k of what is linear between the middles of raster times, and 0 at both ends."""
    times = step * np.arange(round(len(gradient) * RASTER / step) + 1)
    knots = np.concatenate([[0], RASTER * (np.arange(len(gradient)) + 0.5), [RASTER * len(gradient)]])
    values = np.stack([np.interp(times, knots, np.pad(axis, 1)) for axis in gradient.T], axis=1)
    areas = GYROMAGNETIC_RATIO * step * (values[1:] + values[:-1]) / 2  # exact: every knot is one of the times
    return times, values, np.concatenate([np.zeros((1, 2)), np.cumsum(areas, axis=0)])


@hypothesis.given(spirals)
def test_no_direction_exceeds_the_limits_and_the_moment_returns_to_0(options):
    spiral = design_spiral(**options)
    times, gradient, k = played(spiral.gradient)
    slew_rate = np.linalg.norm(np.diff(gradient, axis=0), axis=1) / times[1]
    rounding = 1 + 1e-9
    assert np.linalg.norm(gradient, axis=1).max() <= options["max_gradient"] * rounding
    assert slew_rate.max() <= options["max_slew_rate"] * rounding
    assert spiral.largest_gradient == pytest.approx(np.linalg.norm(gradient, axis=1).max())
    assert spiral.largest_slew_rate == pytest.approx(slew_rate.max())
    assert not spiral.gradient[[0, -1]].any()
    assert np.abs(k[-1]).max() < 1e-6  # cycles/m, rounding


@hypothesis.given(spirals)
def test_samples_lie_where_the_waveform_takes_them_until_it_reaches_the_edge(options):
    spiral = design_spiral(**options)
    times, _, k = played(spiral.gradient)
    # Every sample is at one of the fine times, multiples of 0.5 us.
    at = np.searchsorted(times, options["dwell_time"] * (np.arange(len(spiral.k)) + 0.5) - 1e-9)
    np.testing.assert_allclose(spiral.k, k[at], atol=1e-6)  # cycles/m, rounding
    radius, edge = np.linalg.norm(spiral.k, axis=1), options["matrix"] / 2 / options["field_of_view"]
    nyquist = 1 / options["field_of_view"]
    assert radius.max() <= edge
    # The next sample would be beyond; it is not even a Nyquist distance away.
    along = np.linalg.norm(np.diff(spiral.k, axis=0), axis=1)
    assert along.max() <= nyquist * (1 + 1e-4)  # the design is continuous, and its samples are steps
    assert edge - radius[-1] < min(nyquist, 1.5 * along.max())


@hypothesis.given(st.integers(32, 96), st.floats(0.15, 0.4), st.integers(4, 32), st.floats(0.5, 3))
def test_interleaves_meet_nyquist_at_the_edge_and_lie_closer_at_the_centre(matrix, fov, interleaves, density):
    spiral = design_spiral(
        matrix=matrix,
        field_of_view=fov,
        interleaves=interleaves,
        centre_density=density,
        max_gradient=0.02,
        max_slew_rate=50,
        dwell_time=1e-6,
    )
    radius = np.linalg.norm(spiral.k, axis=1)
    begun = radius > 0.05 / fov
    radius, angle = radius[begun], np.unwrap(np.arctan2(*spiral.k[begun].T[::-1]))
    assert (np.diff(angle) > 0).all()  # counter-clockwise

    def spacing(start):
        """Of neighbouring interleaves: from a radius to that of the same direction in the next one, 1 / fov."""
        return fov * (np.interp(np.interp(start, radius, angle) + 2 * np.pi / interleaves, angle, radius) - start)

    edge = matrix / 2 / fov
    # Within one spacing the density changes by that share of the whole change, 1 / (edge fov) of it or less.
    change = max(density, 1 / density) / (matrix / 2) + 0.01
    assert spacing(edge - 1 / fov) == pytest.approx(1, rel=change)
    assert spacing(0.1 / fov) == pytest.approx(1 / density, rel=change)
    assert spacing(edge / 2) == pytest.approx(2 / (1 + density), rel=change)


def test_faster_gradients_and_more_interleaves_make_it_shorter():
    def duration(**options):
        return len(design_spiral(**SMALL | {"dwell_time": 2e-6} | options).gradient)

    usual = duration()
    assert duration(max_slew_rate=300) < usual < duration(max_slew_rate=75)
    assert duration(max_gradient=0.01) > usual
    assert duration(interleaves=32) < usual
    assert duration(dwell_time=1e-5) > usual  # samples must not lie farther apart than 1 / FOV
    assert duration(centre_density=3) > usual


def test_rotations_repeat_after_a_turn_or_never():
    uniform = rotation_angles(1000)
    np.testing.assert_allclose(np.rad2deg(uniform[:49]), [*(7.5 * np.arange(48)), 0], atol=1e-12)
    np.testing.assert_array_equal(uniform[48:], uniform[:-48])  # exactly: equal readouts are found by their bits
    np.testing.assert_allclose(rotation_angles(5, interleaves=3), np.deg2rad([0, 120, 240, 0, 120]))
    golden = rotation_angles(1000, "golden")
    ratio = (1 + np.sqrt(5)) / 2
    steps = np.diff(golden) % (2 * np.pi)
    np.testing.assert_allclose(steps, 2 * np.pi / ratio**2)  # 137.5 degrees: a turn's smaller golden section
    assert golden.min() >= 0
    assert golden.max() < 2 * np.pi
    gaps = np.diff(np.sort(golden), append=2 * np.pi)
    assert gaps.max() / gaps.min() < ratio**2 + 1e-6  # three gaps at most, in golden ratios
    with pytest.raises(ValueError, match="rotation must be uniform or golden; got 'random'"):
        rotation_angles(3, "random")


def test_rotation_is_counter_clockwise_from_x_to_y():
    k = np.array([[1.0, 0.0], [0.0, 2.0]])
    turned = rotated(k, np.deg2rad([0, 90, 180]))
    expected = [k, [[0, 1], [-2, 0]], -k]
    np.testing.assert_allclose(turned, expected, atol=1e-7)  # float32
    assert turned.dtype == np.float32
    assert turned.flags.c_contiguous


def test_distinct_finds_equal_readouts_and_no_others():
    spiral = design_spiral(**SMALL)
    trajectory = rotated(spiral.k, rotation_angles(40, interleaves=16))
    readouts, which = distinct(trajectory)
    assert len(readouts) == 16
    np.testing.assert_array_equal(readouts[which], trajectory)
    assert (which[:24] == which[16:]).all()
    assert len(set(which[:16])) == 16
    assert len(distinct(rotated(spiral.k, rotation_angles(40, "golden")))[0]) == 40


def test_a_scanner_plays_the_trajectory(tmp_path):
    spiral = design_spiral(**SMALL, dwell_time=5e-6)
    angles = rotation_angles(3, "golden")
    write_pulseq(
        tmp_path / "scan.seq",
        Fisp(flip_angle=np.full(3, 0.3), repetition_time=0.02, echo_time=0.003),
        Readout(spiral.gradient, angles, n_samples=len(spiral.k), dwell_time=spiral.dwell_time),
    )
    read = read_pulseq_trajectory(tmp_path / "scan.seq")
    # A file holds six digits of each amplitude and of the shapes, whose roundings add up: 1e-5 of the edge.
    np.testing.assert_allclose(read, rotated(spiral.k, angles), atol=1e-5 * np.abs(spiral.k).max() + 1e-3)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("matrix", 1),
        ("matrix", 20.5),
        ("interleaves", 0),
        ("interleaves", 1.5),
        ("field_of_view", 0.0),
        ("centre_density", -1.0),
        ("max_gradient", np.inf),
        ("max_slew_rate", np.nan),
        ("dwell_time", 0.0),
    ],
)
def test_bad_arguments_are_named(keyword, value):
    with pytest.raises(ValueError, match=rf"^{keyword} must be .*; got {value:.6g}$"):
        design_spiral(**SMALL | {keyword: value})


def test_limits_too_low_are_told():
    with pytest.raises(ValueError, match=r"^no spiral reaches the edge within 0.2 s; it is at .* of 100 cycles/m"):
        design_spiral(**SMALL, max_gradient=1e-6)


def test_cartesian_samples_weigh_the_same():
    ky, kx = np.meshgrid(np.arange(-16, 16) / 0.32, np.arange(-12, 12) / 0.18, indexing="ij")
    weights = density_compensation(np.stack([kx, ky], axis=-1), (32, 24), (0.01, 0.0075))
    assert weights.shape == (32, 24)
    assert weights.dtype == np.float32
    # The edge of k-space, which has neighbours on one side only, reaches a few samples in.
    np.testing.assert_allclose(weights[8:-8, 8:-8], 1 / (32 * 24), rtol=0.02)


@pytest.mark.parametrize(("shape", "voxel_size"), [((48, 48), (5e-3, 5e-3)), ((60, 45), (4e-3, 5e-3))])
def test_weighted_samples_of_all_interleaves_transform_back_to_the_image(shape, voxel_size):
    spiral = design_spiral(matrix=48, field_of_view=0.24, interleaves=16)
    trajectory = rotated(spiral.k, rotation_angles(32, interleaves=16))  # each twice
    weights = density_compensation(trajectory, shape, voxel_size)
    np.testing.assert_array_equal(weights[:16], weights[16:])
    y, x = (size * (np.arange(count) - count // 2) for count, size in zip(shape, voxel_size, strict=True))
    # Two Gaussian blobs, complex: of their k-space, exp(-2 (pi 0.008 m k)^2), 3e-6 is left at the edge, 100 cycles/m.
    blobs = [
        height * np.exp(-((x - right) ** 2 + (y[:, None] - down) ** 2) / (2 * 0.008**2))
        for height, right, down in ((1, 0.03, -0.02), (0.7j, -0.04, 0.03))
    ]
    image = np.sum(blobs, axis=0)
    points = trajectory.reshape(-1, 2)
    back = kspace_to_image(weights.ravel() * image_to_kspace(image, points, voxel_size), points, shape, voxel_size)
    assert np.linalg.norm(back - image) / np.linalg.norm(image) < 0.01
