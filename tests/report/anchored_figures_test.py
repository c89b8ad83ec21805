"""Figures of generators for any spoiled FISP show what they are given, with its units."""

import numpy as np

from ganmrf.physics.sequences.cardiac import published_cardiac
from ganmrf.physics.tissue import Tissue
from ganmrf.report.anchored_figures import (
    accuracy_figure,
    anchor_figure,
    break_even_figure,
    extrapolation_figure,
    rhythm_figure,
)
from tests.report.drawn import numbers


def test_errors_against_anchors():
    by_size = {16: {"mean": 1e-2, "quantile_99": 4e-2}, 32: {"mean": 1e-3, "quantile_99": 5e-3}}
    (axes,) = accuracy_figure({"table": by_size, "radial": {16: by_size[32]}}).axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["16", "32"]
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [1e-2, 1e-3])
    np.testing.assert_array_equal(axes.lines[1].get_ydata(), [4e-2, 5e-3])


def test_anchors_have_the_size_of_their_b1():
    tissue = Tissue(np.array([0.5, 1.0, 2.0]), np.full(3, 0.05), np.array([0.7, 1.0, 1.3]))
    axes, bar = anchor_figure(tissue).axes
    np.testing.assert_allclose(axes.collections[0].get_sizes(), [30, 75, 120], rtol=1e-5)
    np.testing.assert_allclose(axes.collections[0].get_offsets()[:, 0], [500, 1000, 2000], rtol=1e-5)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("T1 (ms)", "T2 (ms)")
    np.testing.assert_array_equal(axes.collections[0].get_array(), [1, 2, 3])  # the order of the anchors
    assert bar.get_ylabel()


def test_a_panel_for_each_end_of_an_axis():
    outside = {"trunk": {f"{name} {side}": [1e-5, 1e-3] for name in ("t1", "t2") for side in ("below", "above")}}
    panels = extrapolation_figure([0.0, 0.5], outside).axes
    ends = [(name, side) for name in ("T1", "T2") for side in ("below", "above")]
    for (name, side), axes in zip(ends, panels, strict=True):
        assert name in axes.get_title("left")
        assert side in axes.get_title("left")
    np.testing.assert_allclose(panels[0].lines[0].get_xdata(), [0, 50])


def test_break_even_is_marked_where_there_is_one():
    simulated, dear = {"simulated": (0.0, 0.5)}, {"generated": (100.0, 0.25)}
    panels = {"pays": simulated | dear, "never": {"simulated": (0.0, 0.1), "generated": (100.0, 0.3)}}
    anew = {"at once": {"simulated": (0.0, 0.3), "generated": (0.05, 0.1), "made anew": (0.0, 0.15)}}
    pays, never, at_once, empty = break_even_figure(panels | anew).axes
    marks = [line for line in pays.lines if line.get_marker() == "o"]
    np.testing.assert_allclose([marks[0].get_xdata()[0], marks[0].get_ydata()[0]], [400, 200])
    assert [text.get_text() for text in pays.texts] == ["400"]
    for axes in (never, at_once):  # cheaper from the first dictionary on crosses nowhere either
        assert all(line.get_marker() != "o" for line in axes.lines)
    assert [line.get_linestyle() for line in at_once.lines] == ["-", "-", "--"]
    assert not empty.get_visible()
    assert pays.lines[1].get_color() == never.lines[1].get_color() == at_once.lines[1].get_color()
    assert at_once.lines[2].get_color() == at_once.lines[1].get_color() != at_once.lines[0].get_color()


def test_a_rhythm_shows_its_rate_and_what_prepares_the_beats():
    (axes,) = rhythm_figure(published_cardiac([0.75, 1.25, 1.0])).axes
    assert numbers(axes.get_title("left")) == [60]  # beats a minute
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [750, 1250, 1000])
    assert [numbers(text.get_text())[-1] for text in axes.texts] == [21, 30]  # nothing before the second beat
    assert [text.xy[0] for text in axes.texts] == [1, 3]
