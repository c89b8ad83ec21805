"""The constructor of `Fisp`: values that no scanner plays are refused, one number stands for all frames."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.pytrees import unusual_values

BAD_SEQUENCES = [
    ({"flip_angle": 0.5}, r"^Fisp\.flip_angle must be \(frames,\) with one frame at least; got \(\)$"),
    ({"flip_angle": []}, r"^Fisp\.flip_angle must be \(frames,\) with one frame at least; got \(0,\)$"),
    ({"flip_angle": [[0.5]]}, r"^Fisp\.flip_angle must be \(frames,\) with one frame at least; got \(1, 1\)$"),
    ({"flip_angle": [0.5, np.nan]}, r"^Fisp\.flip_angle must be within \+-2 pi rad .*; got nan at index 1$"),
    ({"flip_angle": [0.5, -70]}, r"^Fisp\.flip_angle must be within \+-2 pi rad .*; got -70 at index 1$"),
    ({"flip_angle": ["x", "y"]}, r"^flip_angle must be a number or an array of numbers"),
    ({"repetition_time": 0.0}, r"^Fisp\.repetition_time must be positive and finite; got 0 at index 0$"),
    (
        {"repetition_time": [0.01, np.inf]},
        r"^Fisp\.repetition_time must be positive and finite; got inf at index 1$",
    ),
    ({"repetition_time": [0.01] * 3}, r"^Fisp\.repetition_time has shape \(3,\), but flip_angle has 2 frames$"),
    ({"echo_time": [0.001]}, r"^Fisp\.echo_time has shape \(1,\), but flip_angle has 2 frames$"),
    ({"echo_time": -0.001}, r"^Fisp\.echo_time must be 0 or more, and finite; got -0\.001 at index 0$"),
    ({"echo_time": np.nan}, r"^Fisp\.echo_time must be 0 or more, and finite; got nan at index 0$"),
    (
        {"echo_time": [0.002, 0.02]},
        r"^Fisp\.echo_time must be no longer than the repetition time of frame 2, 0\.01 s; got 0\.02 s$",
    ),
    (
        {"inversion_time": -1.0},
        r"^Fisp\.inversion_time must be 0 or more, and finite \(None for no inversion\); got -1$",
    ),
    ({"inversion_time": np.inf}, r"^Fisp\.inversion_time must be 0 or more.*; got inf$"),
    ({"inversion_time": [0.02, 0.02]}, r"^Fisp\.inversion_time must be one number; got shape \(2,\)$"),
]


@pytest.mark.parametrize(("change", "message"), BAD_SEQUENCES)
def test_bad_sequence_is_refused(change, message):
    good = {"flip_angle": [0.5, 0.6], "repetition_time": 0.01, "echo_time": 0.002, "inversion_time": 0.02}
    with pytest.raises(ValueError, match=message):
        Fisp(**good | change)
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(Fisp(**good), **change)


@pytest.mark.parametrize("flip_angle", [2 * np.pi, -2 * np.pi, 0.0])
def test_a_full_turn_is_the_limit_and_allowed(flip_angle):
    sequence = Fisp([flip_angle], 0.01, 0.01, 0.0)
    assert sequence.flip_angle == jnp.float32(flip_angle)


def test_one_number_stands_for_all_frames():
    sequence = Fisp([0.1, 0.2, 0.3], 0.01, [0.001, 0.002, 0.003])
    assert sequence.n_frames == 3
    np.testing.assert_array_equal(sequence.repetition_time, np.full(3, 0.01, np.float32))
    np.testing.assert_array_equal(sequence.echo_time, np.array([0.001, 0.002, 0.003], np.float32))
    assert sequence.inversion_time is None


def test_fields_are_the_leaves_by_name():
    leaves = jax.tree_util.tree_leaves_with_path(Fisp([0.1], 0.01, 0.001, 0.02))
    names = [jax.tree_util.keystr(path) for path, _ in leaves]
    assert names == [".flip_angle", ".repetition_time", ".echo_time", ".inversion_time"]
    assert len(jax.tree.leaves(Fisp([0.1], 0.01, 0.001))) == 3  # no inversion: None is structure, not a leaf


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"repetition_time": 12.0}, r"repetition_time must be in s, .* in ms\?"),
        ({"inversion_time": 18.0}, r"inversion_time must be in s, .* in ms\?"),
        ({"flip_angle": np.array([5.0, 70.0])}, r"flip_angle must be .*degrees.*; got 70 at index 1"),
    ],
)
def test_everyday_units_are_refused(values, words):
    played = {"flip_angle": np.array([0.1, 0.2]), "repetition_time": 0.012, "echo_time": 0.002, "inversion_time": 0.02}
    with pytest.raises(ValueError, match=words):
        Fisp(**played | values)
    if "flip_angle" not in values:
        with unusual_values():
            Fisp(**played | values)
