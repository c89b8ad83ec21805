"""Figures of a sequence design show what they are given, with its units, and nothing of it twice or cut off."""

import types

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.report import design_figures as figures
from tests.report.drawn import assert_laid_out, numbers

# Plotted values are inputs in other units: one product or quotient of float64.
UNITS = 1e-12
# A sequence holds float32.
SINGLE = 1e-6

LIMITS = types.SimpleNamespace(flip_angle=(np.deg2rad(5), np.deg2rad(60)), repetition_time=(0.01, 0.02))


def sequence(n_frames, *, inversion_time=None):
    ramp = np.linspace(0, 1, n_frames)
    return Fisp(np.deg2rad(5 + 55 * ramp), 0.01 + 0.01 * ramp, 2e-3, inversion_time)


def test_two_sequences_are_in_degrees_and_milliseconds_on_shared_frames():
    figure = figures.design_figure(sequence(3, inversion_time=0.02), sequence(5), limits=LIMITS)
    top, bottom = figure.axes
    np.testing.assert_allclose(top.lines[0].get_xydata(), [[1, 5], [2, 32.5], [3, 60]], rtol=SINGLE)
    np.testing.assert_allclose(top.lines[1].get_ydata(), [5, 18.75, 32.5, 46.25, 60], rtol=SINGLE)
    np.testing.assert_allclose(bottom.lines[1].get_xydata()[[0, 4]], [[1, 10], [5, 20]], rtol=SINGLE)
    assert top.get_xlim() == (0, 5)
    # 20 ms of inversion and 10 + 15 + 20 ms; five frames of 15 ms on average.
    assert [numbers(line) for line in top.get_title().splitlines()] == [[3, 0.06, 20], [5, 0.07]]
    assert "(deg)" in top.get_ylabel()
    assert "(ms)" in bottom.get_ylabel()
    assert top.lines[0].get_linewidth() < top.lines[1].get_linewidth()
    assert_laid_out(figure)


def test_limits_are_dashed():
    top, bottom = figures.design_figure(sequence(3), sequence(3), limits=LIMITS).axes
    for axes, expected in ((top, [5, 60]), (bottom, [10, 20])):
        dashed = [line for line in axes.lines if line.is_dashed()]
        np.testing.assert_allclose([line.get_ydata()[0] for line in dashed], expected, rtol=UNITS)


def test_equal_repetition_times_look_equal():
    rounded = Fisp(np.ones(4), 0.012 * (1 + 1e-7 * np.arange(4)), 2e-3)  # the last digits of float32
    equal = types.SimpleNamespace(flip_angle=(0.5, 1.5), repetition_time=(0.012, 0.012))
    low, high = figures.design_figure(rounded, rounded, limits=equal).axes[1].get_ylim()
    assert low < 11.9 < 12.1 < high


def runs(collection):
    """First and last frame of the bars of a row."""
    return [(path.vertices[:, 0].min() + 0.5, path.vertices[:, 0].max() - 0.5) for path in collection.get_paths()]


def test_frames_at_a_limit_are_bars_with_their_share():
    activity = {
        "flip_angle min": np.array([True, True, False, False, True, False, False, True]),
        "flip_angle max": np.arange(8) == 3,
        "repetition_time min": np.zeros(8, bool),
        "scan_time": np.asarray(True),
        "rf_power": np.asarray(False),
    }
    figure = figures.activity_figure(activity)
    (axes,) = figure.axes
    assert len(axes.get_yticklabels()) == 3
    assert [runs(row) for row in axes.collections] == [[(4, 4)], [(1, 2), (5, 5), (8, 8)], []]
    assert [numbers(text.get_text()) for text in axes.texts] == [[12.5], [50], [0]]
    assert numbers(axes.get_title()) == [62.5, 8]
    assert "scan time" in axes.get_title()
    assert "power" not in axes.get_title()
    assert axes.yaxis_inverted()
    assert_laid_out(figure)


@hypothesis.given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_bars_cover_the_frames_at_a_limit_and_no_other(at_limit):
    (row,) = figures.activity_figure({"flip_angle max": at_limit}).axes[0].collections
    covered = [frame for first, last in runs(row) for frame in range(round(first), round(last) + 1)]
    assert covered == [frame + 1 for frame, there in enumerate(at_limit) if there]


def test_a_limit_that_the_figure_does_not_know_has_a_row_of_its_own_name():
    (axes,) = figures.activity_figure({"duty_cycle": [True, False], "flip_angle max": [True, False]}).axes
    assert [text.get_text() for text in axes.get_yticklabels()].index("duty_cycle") == 1


@pytest.mark.parametrize(
    ("activity", "message"),
    [
        ({}, "got none"),
        ({"scan_time": True}, r"got scan_time \(\)"),
        ({"flip_angle max": []}, r"got flip_angle max \(0,\)"),
        ({"flip_angle max": [True], "flip_angle min": [True, False]}, r"flip_angle max \(1,\), flip_angle min \(2,\)"),
    ],
)
def test_activity_without_common_frames_is_refused(activity, message):
    with pytest.raises(ValueError, match=r"activity must hold limits of one number of frames, .*" + message):
        figures.activity_figure(activity)


def test_the_best_start_is_bold_and_on_top():
    values = np.array([[5.0, 4.0, 6.0], [3.0, 2.0, np.inf], [2.5, 2.2, np.nan]])
    figure = figures.descent_figure(values, [2.5, 2.0, 6.0])
    (axes,) = figure.axes
    *drawn, best_value = axes.lines
    assert [line.get_label() for line in drawn] == ["start 0", "start 2", "start 1"]
    np.testing.assert_array_equal(drawn[-1].get_xydata(), [[0, 4], [1, 2], [2, 2.2]])
    np.testing.assert_array_equal(drawn[1].get_ydata(), [6, np.nan, np.nan])
    assert drawn[-1].get_linewidth() > max(line.get_linewidth() for line in drawn[:-1])
    assert set(best_value.get_ydata()) == {2}
    assert axes.get_yscale() == "log"
    assert numbers(axes.get_title()) == [2, 4, 1, 3]  # objective, that of the start, and which of how many starts
    assert_laid_out(figure)


@pytest.mark.parametrize("low", [0.99, 0.5, 1e-4, 1e-8])
def test_a_logarithmic_axis_has_ordinary_numbers_whatever_its_range(low):
    figure = figures.descent_figure(np.geomspace(3, 3 * low, 5)[:, None], [3 * low])
    assert_laid_out(figure)
    bottom, top = figure.axes[0].get_ylim()
    shown = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert sum(bottom <= float(text) <= top for text in shown if text) >= 2


@pytest.mark.parametrize(
    ("values", "best", "message"),
    [
        (np.ones(3), np.ones(3), r"got \(3,\), \(3,\)"),
        (np.ones((0, 3)), np.ones(3), r"got \(0, 3\), \(3,\)"),
        (np.ones((3, 2)), np.ones(3), r"got \(3, 2\), \(3,\)"),
        ([[1.0, 0.0]], [1.0, 1.0], "values must be positive; got 0 at index 0, 1"),
        ([[1.0, 2.0]], [1.0, np.inf], "best must be positive and finite; got inf at index 1"),
    ],
)
def test_objectives_that_do_not_fit_are_refused(values, best, message):
    with pytest.raises(ValueError, match=message):
        figures.descent_figure(values, best)
