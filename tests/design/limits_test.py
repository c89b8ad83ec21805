"""Limits: what they refuse, when no sequence fits them, and where a sequence stands in them."""

import dataclasses

import numpy as np
import pytest

from ganmrf.design.limits import Limits, activity, check_feasible, violations
from ganmrf.physics.sequences.fisp import Fisp

pytestmark = pytest.mark.usefixtures("quick_compiler")

LIMITS = Limits(flip_angle=(0.1, 1.2), repetition_time=(10e-3, 15e-3), echo_time=2e-3, inversion_time=(10e-3, 40e-3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"flip_angle": (1.2, 0.1)}, r"flip_angle must rise from 0 .* got 1\.2 to 0\.1"),
        ({"flip_angle": (-0.1, 1.0)}, "flip_angle must rise from 0 or more"),
        ({"flip_angle": (5, 70)}, r"2 pi rad at most; got 5 to 70"),
        ({"flip_angle": 1.0}, r"flip_angle must be \(smallest, largest\); got 1\.0"),
        ({"flip_angle": (np.nan, 1.0)}, "flip_angle must rise"),
        ({"repetition_time": (0.0, 15e-3)}, "repetition_time must rise from above 0"),
        ({"repetition_time": (10e-3, np.inf)}, "finite time; got 0.01 to inf s"),
        ({"echo_time": 11e-3}, r"echo_time = 0\.011 s, repetition_time from 0\.01 s"),
        ({"inversion_time": (40e-3, 10e-3)}, r"inversion_time must rise from 0 or more; got 0\.04 to 0\.01 s"),
        ({"inversion_time": -1e-3}, "inversion_time must rise"),
        ({"scan_time": 0.0}, "scan_time must be positive and finite, or None for no limit; got 0"),
        ({"max_flip_change": 0.0}, "max_flip_change must be positive"),
        ({"rf_power": np.nan}, "rf_power must be positive"),
        ({"scan_time_fixed": True}, "scan_time_fixed needs a scan_time"),
    ],
)
def test_limits_that_no_sequence_can_have_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(LIMITS, **change)


@pytest.mark.parametrize(
    ("change", "message", "cure"),
    [
        ({"scan_time": 1.0}, r"scan_time: 1 s is too short for 100 frames.* at least 1\.01 s", {"scan_time": 1.01}),
        (
            {"scan_time": 1.6, "scan_time_fixed": True},
            r"1\.6 s cannot be filled by 100 frames.* at most 1\.54 s",
            {"scan_time": 1.54},
        ),
        (
            {"rf_power": 0.5},
            r"rf_power: 0\.5 .* 100 frames.* at least 0\.649351 rad\^2/s in 1\.54 s",
            {"rf_power": 1 / 1.54},
        ),
        (
            {"rf_power": 0.7, "scan_time": 1.25},  # affordable in 1.54 s, not in 1.25 s
            r"at least 0\.8 rad\^2/s",
            {"rf_power": 0.8},
        ),
    ],
)
def test_conflicts_name_the_least_change_that_ends_them(change, message, cure):
    limits = dataclasses.replace(LIMITS, **change)
    with pytest.raises(ValueError, match=message):
        check_feasible(limits, 100)
    check_feasible(dataclasses.replace(limits, **cure), 100)


def test_an_upper_bound_of_the_scan_time_need_not_be_filled():
    check_feasible(dataclasses.replace(LIMITS, scan_time=99.0), 100)
    with pytest.raises(ValueError, match="n_frames must be 1 or more; got 0"):
        check_feasible(LIMITS, 0)


def test_violations_are_the_distances_beyond_each_limit():
    limits = dataclasses.replace(LIMITS, scan_time=0.04, max_flip_change=0.5, rf_power=20.0)
    sequence = Fisp([0.0, 1.3, 1.0], [9e-3, 18e-3, 12e-3], 2.5e-3, 0.05)
    found = violations(sequence, limits)
    expected = {
        "flip_angle": 0.1,  # both by the first and the second frame
        "repetition_time": 3e-3,
        "echo_time": 0.5e-3,
        "inversion_time": 0.01,
        "scan_time": 0.089 - 0.04,
        "max_flip_change": 0.8,
        "rf_power": 2.69 / 0.089 - 20,
    }
    assert found.keys() == expected.keys()
    for name, amount in expected.items():
        np.testing.assert_allclose(found[name], amount, rtol=1e-4, err_msg=name)  # float32 values, subtracted


def test_nothing_is_violated_at_the_limits_themselves():
    limits = dataclasses.replace(
        LIMITS, scan_time=0.065, scan_time_fixed=True, max_flip_change=1.1, rf_power=1.46 / 0.065
    )
    sequence = Fisp([0.1, 1.2, 0.1], [10e-3, 15e-3, 10e-3], 2e-3, 30e-3)
    assert set(violations(sequence, limits).values()) == {0.0}
    longer = dataclasses.replace(limits, scan_time=0.066)
    assert violations(sequence, longer)["scan_time"] == pytest.approx(1e-3, rel=1e-3)
    assert violations(sequence, dataclasses.replace(longer, scan_time_fixed=False))["scan_time"] == 0


def test_limits_that_are_not_set_are_not_reported():
    sequence = Fisp([0.5], 12e-3, 2e-3)
    limits = dataclasses.replace(LIMITS, inversion_time=None)
    assert violations(sequence, limits).keys() == {"flip_angle", "repetition_time", "echo_time"}
    assert activity(sequence, limits).keys() == {
        f"{field} {end}" for field in ("flip_angle", "repetition_time") for end in ("min", "max")
    }


def test_activity_says_which_frames_are_at_which_limit():
    limits = dataclasses.replace(LIMITS, scan_time=0.08, max_flip_change=0.5, rf_power=1000.0)
    sequence = Fisp([0.1, 0.6, 0.7, 1.2, 1.2], [15e-3, 12e-3, 10e-3, 10e-3, 10e-3], 2e-3, 23e-3)
    found = activity(sequence, limits)
    expected = {
        "flip_angle min": [1, 0, 0, 0, 0],
        "flip_angle max": [0, 0, 0, 1, 1],
        "repetition_time min": [0, 0, 1, 1, 1],
        "repetition_time max": [1, 0, 0, 0, 0],
        "inversion_time min": False,
        "inversion_time max": False,
        "max_flip_change": [0, 1, 0, 1, 0],
        "scan_time": True,
        "rf_power": False,
    }
    assert found.keys() == expected.keys()
    for name, frames in expected.items():
        np.testing.assert_array_equal(found[name], np.array(frames, bool), err_msg=name)
    near = Fisp([0.1 + 0.009 * 1.1, 0.1 + 0.011 * 1.1], [12e-3, 12e-3], 2e-3, 23e-3)
    assert activity(near, limits)["flip_angle min"].tolist() == [True, False]


@pytest.mark.parametrize("report", [violations, activity])
def test_an_inversion_must_be_in_both_or_neither(report):
    with pytest.raises(ValueError, match="inversion_time must be None in both or neither; Limits has one"):
        report(Fisp([0.5], 12e-3, 2e-3), LIMITS)
    with pytest.raises(ValueError, match="sequence has one, Limits has None"):
        report(Fisp([0.5], 12e-3, 2e-3, 0.02), dataclasses.replace(LIMITS, inversion_time=None))
