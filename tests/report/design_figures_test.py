"""Figures of a sequence design show what they are given, with its units, and nothing of it twice or cut off."""

import itertools
import types

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from ganmrf.physics.sequences.fisp import Sequence
from ganmrf.report import design_figures as figures
from ganmrf.report.figures import WIDTH

# Plotted values are inputs in other units: one product or quotient of float64.
UNITS = 1e-12
# A sequence holds float32.
SINGLE = 1e-6

LIMITS = types.SimpleNamespace(flip_angle=(np.deg2rad(5), np.deg2rad(60)), repetition_time=(0.01, 0.02))
TISSUES = ["white matter", "grey matter", "CSF"]
STDS = {
    "published": np.array([[2.0, 6.0], [3.0, 8.0], [4.0, 20.0]]),
    "designed": np.array([[1.0, 4.0], [2.0, 5.0], [5.0, 10.0]]),
}


def labels(figure):
    return [text for axes in figure.axes for text in (axes.get_xlabel(), axes.get_ylabel()) if text]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def sequence(n_frames, *, inversion_time=None):
    ramp = np.linspace(0, 1, n_frames)
    return Sequence(np.deg2rad(5 + 55 * ramp), 0.01 + 0.01 * ramp, 2e-3, inversion_time)


def assert_laid_out(figure):
    """Nothing leaves the figure, and no panel, title, legend, tick label or note lies on another one."""
    figure.draw_without_rendering()
    everything = figure.get_tightbbox()  # inches
    assert 0 <= everything.x0 < everything.x1 <= figure.get_figwidth() == WIDTH
    assert 0 <= everything.y0 < everything.y1 <= figure.get_figheight()
    boxes = [axes.get_window_extent() for axes in figure.axes]
    boxes += [axes.title.get_window_extent() for axes in figure.axes if axes.get_title()]
    boxes += [one.get_window_extent() for one in figure.legends]
    disjoint(boxes)
    for axes in figure.axes:
        disjoint([label.get_window_extent() for label in axes.get_xticklabels() if label.get_text()])
        disjoint([label.get_window_extent() for label in axes.get_yticklabels() if label.get_text()])
        disjoint([note.get_window_extent() for note in axes.texts])


def disjoint(boxes):
    for one, other in itertools.combinations(boxes, 2):
        width = min(one.x1, other.x1) - max(one.x0, other.x0)
        height = min(one.y1, other.y1) - max(one.y0, other.y0)
        assert min(width, height) < 0.5  # of a pixel: edges may be rounded to the same one


def test_two_sequences_are_in_degrees_and_milliseconds_on_shared_frames():
    figure = figures.design_figure(sequence(3, inversion_time=0.02), sequence(5), limits=LIMITS)
    top, bottom = figure.axes
    np.testing.assert_allclose(top.lines[0].get_xydata(), [[1, 5], [2, 32.5], [3, 60]], rtol=SINGLE)
    np.testing.assert_allclose(top.lines[1].get_ydata(), [5, 18.75, 32.5, 46.25, 60], rtol=SINGLE)
    np.testing.assert_allclose(bottom.lines[1].get_xydata()[[0, 4]], [[1, 10], [5, 20]], rtol=SINGLE)
    assert top.get_xlim() == (0, 5)
    # 20 ms of inversion and 10 + 15 + 20 ms; five frames of 15 ms on average.
    assert top.get_title().splitlines() == [
        "before: 3 frames, scan time 0.06 s, TI 20 ms",
        "after: 5 frames, scan time 0.07 s, no inversion",
    ]
    assert labels(figure) == ["Flip angle (deg)", "Frame", "TR (ms)"]
    assert top.lines[0].get_linewidth() < top.lines[1].get_linewidth()
    assert_laid_out(figure)


def test_limits_are_dashed_where_there_are_any():
    top, bottom = figures.design_figure(sequence(3), sequence(3), limits=LIMITS).axes
    for axes, expected in ((top, [5, 60]), (bottom, [10, 20])):
        dashed = [line for line in axes.lines if line.is_dashed()]
        np.testing.assert_allclose([line.get_ydata()[0] for line in dashed], expected, rtol=UNITS)
    without = figures.design_figure(sequence(3), sequence(3))
    assert not any(line.is_dashed() for axes in without.axes for line in axes.lines)
    assert legend(without) == ["before", "after"]


def test_equal_repetition_times_look_equal():
    rounded = Sequence(np.ones(4), 0.012 * (1 + 1e-7 * np.arange(4)), 2e-3)  # the last digits of float32
    low, high = figures.design_figure(rounded, rounded).axes[1].get_ylim()
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
    assert [text.get_text() for text in axes.get_yticklabels()] == [
        "Largest flip angle",
        "Smallest flip angle",
        "Shortest TR",
    ]
    assert [runs(row) for row in axes.collections] == [[(4, 4)], [(1, 2), (5, 5), (8, 8)], []]
    assert [text.get_text() for text in axes.texts] == ["12.5 %", "50.0 %", "0.0 %"]
    assert axes.get_title() == "62.5 % of 8 frames at a limit; at its limit: scan time"
    assert axes.yaxis_inverted()
    assert_laid_out(figure)


@hypothesis.given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_bars_cover_the_frames_at_a_limit_and_no_other(at_limit):
    (row,) = figures.activity_figure({"flip_angle max": at_limit}).axes[0].collections
    covered = [frame for first, last in runs(row) for frame in range(round(first), round(last) + 1)]
    assert covered == [frame + 1 for frame, there in enumerate(at_limit) if there]


def test_a_limit_that_the_figure_does_not_know_has_a_row_of_its_own_name():
    (axes,) = figures.activity_figure({"duty_cycle": [True, False], "flip_angle max": [True, False]}).axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["Largest flip angle", "duty_cycle"]


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
    assert axes.get_title() == "2 from 4 (start 1, best of 3)"
    assert labels(figure) == ["Updates", "Objective"]
    assert_laid_out(figure)


@pytest.mark.parametrize("low", [0.99, 0.5, 1e-4, 1e-8])
def test_a_logarithmic_axis_has_ordinary_numbers_whatever_its_range(low):
    figure = figures.descent_figure(np.geomspace(3, 3 * low, 5)[:, None], [3 * low])
    assert figure.axes[0].get_title().endswith("(1 start)")
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


def test_bars_have_their_values_and_the_ratio():
    figure = figures.precision_figure(STDS, TISSUES)
    for i, axes in enumerate(figure.axes):
        for bars, table in zip(axes.containers, STDS.values(), strict=True):
            np.testing.assert_array_equal([bar.get_height() for bar in bars], table[:, i])
        centres = [[bar.get_x() + bar.get_width() / 2 for bar in bars] for bars in axes.containers]
        np.testing.assert_allclose(np.mean(centres, axis=0), [0, 1, 2], atol=1e-12)  # sums of a few numbers near 1
    t1, t2 = figure.axes
    assert [note.get_text() for note in t1.texts] == ["2", "3", "4", "1", "2", "5"]
    assert [tick.get_text() for tick in t2.get_xticklabels()] == [
        f"{name}\n$\\div$ {ratio}" for name, ratio in zip(TISSUES, ("1.50", "1.60", "2.00"), strict=True)
    ]
    assert "0.80" in t1.get_xticklabels()[2].get_text()
    assert figure.get_supxlabel() == "$\\div$: standard deviation with published over that with designed"
    assert [label.splitlines() for label in labels(figure)] == [
        [f"Standard deviation of {name} (%)", "at an M0 of 100 times the noise"] for name in ("T1", "T2")
    ]
    assert legend(figure) == ["published", "designed"]
    assert_laid_out(figure)


@pytest.mark.parametrize("n_sequences", [1, 2, 4])
@pytest.mark.parametrize("n_tissues", [1, 6, 9])
def test_many_bars_and_long_names_do_not_overlap(n_sequences, n_tissues):
    tissues = [f"{'myocardium' if i % 2 else 'white matter'} {i}" for i in range(n_tissues)]
    values = np.full((n_tissues, 2), 12.34)
    tables = {f"designed for the worst case, start {i}": values for i in range(n_sequences)}
    figure = figures.precision_figure(tables, tissues)
    assert_laid_out(figure)
    assert bool(figure.get_supxlabel()) == (n_sequences > 1)
    for axes in figure.axes:
        assert max(note.get_window_extent().y1 for note in axes.texts) <= axes.get_window_extent().y1
    assert_laid_out(figures.monte_carlo_figure(tables, tables, tissues, draws=100))


def test_what_nothing_determines_has_no_bar():
    infinite = {"before": np.array([[np.inf, np.inf]]), "after": np.array([[np.inf, 2.0]])}
    t1, t2 = figures.precision_figure(infinite, ["CSF"]).axes
    assert [note.get_text() for note in t1.texts] == ["inf", "inf"]
    assert [bar.get_height() for bar in t2.patches] == [0, 2]
    assert "nan" in t1.get_xticklabels()[0].get_text()
    assert "inf" in t2.get_xticklabels()[0].get_text()


def test_a_panel_for_each_quantity():
    figure = figures.precision_figure({"one": np.ones((2, 3))}, TISSUES[:2], labels=("T1", "T2", "B1"))
    assert len(figure.axes) == 3
    assert "Standard deviation of B1 (%)" in labels(figure)[2]
    assert_laid_out(figure)


@pytest.mark.parametrize(
    ("precisions", "names", "message"),
    [
        ({}, TISSUES, "precisions must be of 1 to 4 sequences; got 0"),
        ({f"{i}": STDS["designed"] for i in range(5)}, TISSUES, "got 5"),
        ({"one": np.ones((0, 2))}, [], "precisions must hold one tissue at least; got none"),
        (STDS, TISSUES[:2], r"precisions\['published'\] must have shape \(2, 2\); got \(3, 2\)"),
        ({"one": -STDS["designed"]}, TISSUES, r"precisions\['one'\] must be positive; got -1 at index 0, 0"),
        ({"one": np.nan * STDS["designed"]}, TISSUES, "got nan"),
    ],
)
def test_precisions_that_do_not_fit_are_refused(precisions, names, message):
    with pytest.raises(ValueError, match=message):
        figures.precision_figure(precisions, names)


def test_robustness_has_a_colour_a_tissue_and_dashes_a_sequence():
    b1 = np.array([0.8, 1.0, 1.2])
    first = np.arange(1.0, 19).reshape(2, 3, 3)
    stds = {"published": first, "designed": first / 2}
    stds["designed"][1, 2, 0] = np.inf
    figure = figures.robustness_figure(b1, stds, names=TISSUES)
    for i, axes in enumerate(figure.axes):
        drawn = [line for line in axes.lines if line.get_marker() == "o"]
        np.testing.assert_array_equal([line.get_xdata() for line in drawn], np.tile(b1, (6, 1)))
        expected = np.concatenate([first[i], first[i] / 2])
        if i:
            expected[5, 0] = np.nan
        np.testing.assert_array_equal([line.get_ydata() for line in drawn], expected)
        assert [line.get_linestyle() for line in drawn] == ["-"] * 3 + ["--"] * 3
        assert [line.get_color() for line in drawn[:3]] == [line.get_color() for line in drawn[3:]]
        assert axes.get_yscale() == "log"
    assert legend(figure) == [*TISSUES, "published", "designed"]
    assert "B1 (actual / nominal flip angle)" in labels(figure)
    assert_laid_out(figure)


def test_ten_tissues_have_ten_colours():
    figure = figures.robustness_figure([1.0], {"one": np.ones((2, 10, 1))}, names=[f"tissue {i}" for i in range(10)])
    drawn = [line for line in figure.axes[1].lines if line.get_marker() == "o"]
    assert len({tuple(line.get_color()) for line in drawn}) == 10
    assert_laid_out(figure)


@pytest.mark.parametrize(
    ("b1", "shape", "message"),
    [
        ([1.0, 0.9], (2, 3, 2), r"b1 must rise from above 0, \(b1,\); got \[1\.  0\.9\]"),
        ([0.0, 0.9], (2, 3, 2), "b1 must rise"),
        ([0.9, np.nan], (2, 3, 2), "b1 must rise"),
        ([], (2, 3, 0), "b1 must rise"),
        ([0.9, 1.0], (3, 2), r"stds\['one'\] must have shape \(2, 3, 2\); got \(3, 2\)"),
    ],
)
def test_robustness_that_does_not_fit_is_refused(b1, shape, message):
    with pytest.raises(ValueError, match=message):
        figures.robustness_figure(b1, {"one": np.ones(shape)}, names=TISSUES)


def plane(ratio_t1, ratio_t2, marked=None):
    times = 0.5 * np.arange(1, len(ratio_t1) + 1)
    return figures.tissue_ratio_figure(times, times / 10, ratio_t1, ratio_t2, marked=marked or {})


def test_ratios_stand_where_the_tissues_lie_and_1_is_in_the_middle():
    figure = plane([2, 1, 0.5, 2], [4, 4, np.nan, np.inf], {"WM": (0.95, 0.04)})
    t1, t2, bar = figure.axes
    for axes in (t1, t2):
        assert axes.get_xscale() == axes.get_yscale() == "log"
        assert [note.get_text() for note in axes.texts] == ["WM"]
        np.testing.assert_allclose(axes.lines[-1].get_xydata(), [[950, 40]], rtol=UNITS)
    dots, others = t1.collections[0], t2.collections[0]
    np.testing.assert_allclose(dots.get_offsets(), [[500, 50], [1000, 100], [1500, 150], [2000, 200]], rtol=UNITS)
    np.testing.assert_allclose(others.get_offsets(), [[500, 50], [1000, 100]], rtol=UNITS)
    np.testing.assert_allclose(t2.lines[0].get_xdata(), [1500, 2000], rtol=UNITS)  # the crosses
    low, high = dots.get_clim()
    assert low == -high
    assert others.get_clim() == (low, high)
    red, middle, blue = (dots.to_rgba(dots.norm.inverse(x))[:3] for x in (0.1, 0.5, 0.9))
    assert red[0] > red[2]
    assert blue[2] > blue[0]
    assert min(middle) > 0.85  # near white
    # The shades of the same ratio are those of opposite signs, and 1 is the middle.
    np.testing.assert_allclose(2.0 ** np.asarray(dots.get_array()), [2, 1, 0.5, 2], rtol=UNITS)
    assert t1.get_title() == "T1: better in 50 %, median 1.5"
    assert t2.get_title() == "T2: better in 100 %, median 4\n2 of 4 without"
    assert bar.get_ylabel() == "Standard deviation before / after"
    assert_laid_out(figure)


@pytest.mark.parametrize("largest", [1.0, 1.15, 1.3, 2.0, 4.0, 1e4])
def test_ticks_of_ratios_are_symmetric_and_do_not_overlap(largest):
    figure = plane([largest, 1.0], [1.0, 1 / largest])
    assert_laid_out(figure)
    bar = figure.axes[2]
    low, high = bar.get_ylim()
    shown = [float(tick.get_text()) for tick in bar.get_yticklabels()]
    assert len(shown) % 2 == 1
    assert len(shown) >= 3
    # Written with three digits.
    np.testing.assert_allclose(np.multiply(shown, shown[::-1]), 1, rtol=2e-3)
    assert np.log2(1.1) <= high == -low <= np.log2(10)


def test_ratios_that_nobody_knows_are_drawn():
    figure = plane([np.nan, np.inf], [0.0, 1.0])
    assert figure.axes[0].get_title() == "T1: none\n2 of 2 without"
    assert_laid_out(figure)


def test_ratios_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"all must be \(tissues,\); got t1 \(2,\), .*, ratio_t2 \(1,\)"):
        plane([1, 1], [1])
    with pytest.raises(ValueError, match="ratio_t2 must be 0 or more; got -1 at index 0"):
        plane([1, 1], [-1, 1])
    with pytest.raises(ValueError, match=r"marked\['WM'\] must be positive and finite \(s\); got 0 at index 1"):
        plane([1], [1], {"WM": (1.0, 0.0)})
    with pytest.raises(ValueError, match="t1 must be positive"):
        figures.tissue_ratio_figure([0.0], [0.1], [1.0], [1.0], marked={})


def intervals(axes):
    """Ratio and both ends of the error bar of each point, (sequences, tissues, 3)."""
    found = []
    for points, _, (bars,) in axes.containers:
        ends = np.array([segment[:, 1] for segment in bars.get_segments()])
        found.append(np.column_stack([points.get_ydata(), ends]))
    return np.array(found)


def test_measured_spread_is_relative_to_the_predicted_one():
    measured = {name: table * np.array([[1.0], [1.05], [1.5]]) for name, table in STDS.items()}
    figure = figures.monte_carlo_figure(STDS, measured, TISSUES, draws=101)
    for axes in figure.axes:
        found = intervals(axes)
        np.testing.assert_allclose(found[..., 0], np.tile([1, 1.05, 1.5], (2, 1)), rtol=UNITS)
        # Printed tables of chi-squared with 100 degrees of freedom: 74.222 and 129.561 cut 2.5 % off either end.
        expected = np.sqrt(100 / np.array([129.561, 74.222]))
        np.testing.assert_allclose(found[..., 1:] / found[..., :1], np.tile(expected, (2, 3, 1)), rtol=1e-5)
        assert axes.get_title() == "4 of 6 intervals of 95 % hold 1"
        low, high = axes.get_ylim()
        assert low < found.min() < found.max() < high
    assert legend(figure) == ["within 10 %", "published", "designed"]
    assert labels(figure) == ["Spread of T1, measured / predicted", "Spread of T2, measured / predicted"]
    assert_laid_out(figure)


def test_intervals_hold_the_truth_95_times_in_100():
    draws, n_tissues = 20, 300
    sigma = np.ones((n_tissues, 2))
    noise = np.random.default_rng(0).normal(size=(draws, n_tissues, 2))
    figure = figures.monte_carlo_figure(
        {"one": sigma}, {"one": noise.std(axis=0, ddof=1)}, n_tissues * ["one"], draws=draws
    )
    _, low, high = np.concatenate([intervals(axes)[0] for axes in figure.axes]).T
    # The standard error of this share of 600 is 0.9 %: four of them.
    assert abs(np.mean((low <= 1) & (high >= 1)) - 0.95) < 0.036


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"measured": {"published": STDS["published"]}}, r"sequences \['published', 'designed'\], .*; got \['publis"),
        ({"draws": 1}, "draws must be 2 or more; got 1"),
        ({"predicted": STDS | {"designed": np.full((3, 2), np.inf)}}, r"predicted\['designed'\] must be .* finite"),
        ({"measured": STDS | {"designed": np.ones((2, 2))}}, r"measured\['designed'\] must have shape \(3, 2\)"),
    ],
)
def test_spreads_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        figures.monte_carlo_figure(**{"predicted": STDS, "measured": STDS, "names": TISSUES, "draws": 100} | arguments)
