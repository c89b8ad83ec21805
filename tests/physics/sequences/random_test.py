"""Families of sequences: valid and within their ranges whatever the key, and closed forms of their shapes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganmrf.physics.sequences import random
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.sequences.published import mrf_fisp
from tests.quick import quickly

N_KEYS = 64


def _keys(n):
    """Keys whose random bits the compiler need not unroll."""
    return jax.random.split(jax.random.key(0, impl="unsafe_rbg"), n)


@functools.cache
def _sampled():
    return jax.tree.map(np.asarray, quickly(jax.vmap(random.sample))(_keys(N_KEYS)))


@functools.cache
def _five_lobes():
    """Parameters of many, and their sequences."""

    def draw(key):
        parameters = random.sample_five_lobes(key)
        return parameters, random.five_lobes(parameters)

    return jax.tree.map(np.asarray, quickly(jax.vmap(draw))(_keys(1000)))


def test_samples_are_valid_and_within_the_stated_ranges():
    sampled = _sampled()
    assert sampled.flip_angle.shape == sampled.repetition_time.shape == (N_KEYS, 1000)
    for flip_angle, *times in zip(*jax.tree.leaves(sampled), strict=True):
        Fisp(flip_angle, *times)  # it checks values that are not traced
    assert 0 <= sampled.flip_angle.min() < sampled.flip_angle.max() <= np.deg2rad(90) * (1 + 1e-6)
    assert 9.6e-3 < sampled.repetition_time.min() < sampled.repetition_time.max() < 19.2e-3
    np.testing.assert_allclose(sampled.echo_time, 1.908e-3, rtol=1e-6)
    assert 10e-3 * (1 - 1e-6) < sampled.inversion_time.min() < sampled.inversion_time.max() < 60e-3 * (1 + 1e-6)


@pytest.mark.parametrize("n_frames", [1, 39, 40, 500])
def test_any_number_of_frames(n_frames):
    sampled = jax.eval_shape(functools.partial(random.sample, n_frames=n_frames), _keys(1)[0])
    assert sampled.flip_angle.shape == sampled.repetition_time.shape == sampled.echo_time.shape == (n_frames,)
    assert sampled.inversion_time.shape == ()


def test_fewer_frames_than_lobes():
    sequence = quickly(random.five_lobes, static_argnums=1)(jnp.zeros(8), 3)
    np.testing.assert_allclose(np.rad2deg(sequence.flip_angle[1]), 45, rtol=1e-5)
    assert (sequence.flip_angle > np.deg2rad(5)).all()


def test_different_keys_give_different_sequences():
    sampled = _sampled()
    for values in (sampled.flip_angle[:, 500], sampled.repetition_time[:, 500], sampled.inversion_time):
        assert len(np.unique(values)) == N_KEYS


def test_repetition_times_are_constant_or_change_slowly():
    times = _sampled().repetition_time
    constant = np.ptp(times, axis=1) == 0
    assert 0 < constant.sum() < N_KEYS
    assert np.abs(np.diff(times)).max() < 2e-4  # s a frame: a sine of the largest swing and the shortest period


def test_the_published_schedule_is_far_from_every_sample():
    published = np.asarray(mrf_fisp().flip_angle)
    for flip_angles in (_sampled().flip_angle, _five_lobes()[1].flip_angle):
        distance = np.sqrt(np.mean((flip_angles - published) ** 2, axis=1))
        assert distance.min() > np.deg2rad(4)


def test_five_lobes_parameters_fill_their_ranges():
    parameters, sequences = _five_lobes()
    assert parameters.shape == (1000, 8)
    assert np.abs(parameters).max() <= 1
    assert np.linalg.norm(parameters[:, 6:], axis=1).max() <= 1 + 1e-6
    assert (parameters[:, :6].min(axis=0) < -0.97).all()  # 1000 uniform draws miss it once in 4e6
    assert (parameters[:, :6].max(axis=0) > 0.97).all()
    assert np.deg2rad(5) <= sequences.flip_angle.min() < sequences.flip_angle.max() <= np.deg2rad(70)
    assert 0.8 * 12.09e-3 < sequences.repetition_time.min() < sequences.repetition_time.max() < 1.3 * 14.71e-3


def test_five_lobes_and_their_derivatives_are_the_closed_form():
    parameters = jnp.array([-1.0, -0.5, 0.0, 0.5, 1.0, 0.2, 0.6, -0.8])
    direction = jnp.array([0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
    derivatives = quickly(lambda *points: jax.jvp(random.five_lobes, points[:1], points[1:]))
    sequence, tangent = jax.tree.map(np.asarray, derivatives(parameters, direction))

    half_sine = np.sin(np.pi * (np.arange(200) + 0.5) / 200)
    heights = np.array([20, 32.5, 45, 57.5, 70]) - 5
    np.testing.assert_allclose(np.rad2deg(sequence.flip_angle), 5 + np.outer(heights, half_sine).ravel(), rtol=1e-4)
    phase = 2 * np.pi * np.arange(1000) / 170
    scale = 1.05 + 0.25 * 0.2
    times = scale * (13.4e-3 + 1.3e-3 * (0.6 * np.cos(phase) - 0.8 * np.sin(phase)))
    np.testing.assert_allclose(sequence.repetition_time, times, rtol=1e-5)
    assert float(sequence.inversion_time) == pytest.approx(0.02)

    np.testing.assert_allclose(tangent.flip_angle[200:400], np.deg2rad(25) * half_sine, rtol=1e-3)
    assert not tangent.flip_angle[:200].any()
    np.testing.assert_allclose(tangent.repetition_time, scale * 1.3e-3 * np.sin(phase), atol=1e-8)


def test_lobes_are_half_sines_over_the_floor():
    floor, peak = 0.1, 0.9
    lobes = quickly(random.lobes, static_argnums=3)
    place = (np.arange(60) + 0.5) / 60
    flip_angle = lobes(jnp.array([peak, 0.5]), jnp.array([3.0, 1.0]), floor, 80, 1.0)
    np.testing.assert_allclose(flip_angle[:60], floor + (peak - floor) * np.sin(np.pi * place), atol=1e-6)
    assert float(flip_angle[60:].max()) == pytest.approx(0.5, rel=0.01)  # the middle lies between two frames
    sharp = lobes(jnp.array([peak, 0.5]), jnp.array([3.0, 1.0]), floor, 80, 2.0)
    np.testing.assert_allclose(sharp[:60], floor + (peak - floor) * np.sin(np.pi * place) ** 2, atol=1e-6)


def test_splines_are_a_partition_of_unity_and_keep_straight_lines():
    splines = quickly(random.splines, static_argnums=2)
    np.testing.assert_allclose(splines(jnp.full(9, 0.7), 7, 100), 0.7, rtol=1e-6)
    place = 4 * (np.arange(100) + 0.5) / 100  # in knots
    np.testing.assert_allclose(splines(jnp.arange(9.0), 7, 100), 1 + place, rtol=1e-5)
    hill = np.asarray(splines(jnp.zeros(9).at[3].set(1.0), 7, 100))
    assert hill.min() >= 0
    assert hill.max() == pytest.approx(2 / 3, rel=1e-3)  # of a cubic B-spline


def test_pieces_have_the_lengths_they_are_given():
    hold = quickly(random.piecewise_constant, static_argnums=2)
    values = hold(jnp.array([3.0, 5.0, 7.0, 9.0]), jnp.array([1.0, 0.0, 2.0, 2.0]), 50)
    np.testing.assert_array_equal(values, np.repeat([3.0, 7.0, 9.0], [10, 20, 20]))


def test_a_random_walk_fills_0_to_1_and_is_smoother_with_a_wider_window():
    walk = quickly(random.random_walk, static_argnums=2)
    rough, smooth = (np.asarray(walk(_keys(1)[0], window, 500)) for window in (3, 40))
    for each in (rough, smooth):
        assert each.min() == 0
        assert each.max() == 1
    assert np.abs(np.diff(smooth)).max() < 0.5 * np.abs(np.diff(rough)).max()
