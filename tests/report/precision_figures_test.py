"""Figures of precision show what they are given, with its units, and nothing of it twice or cut off."""

import numpy as np
import pytest

from ganmrf.report import precision_figures as figures
from tests.report.drawn import assert_laid_out, legend, numbers

# Plotted values are inputs in other units: one product or quotient of float64.
UNITS = 1e-12

TISSUES = ["white matter", "grey matter", "CSF"]
STDS = {
    "published": np.array([[2.0, 6.0], [3.0, 8.0], [4.0, 20.0]]),
    "designed": np.array([[1.0, 4.0], [2.0, 5.0], [5.0, 10.0]]),
}


def test_bars_have_their_values_and_the_ratio():
    figure = figures.precision_figure(STDS, TISSUES)
    for i, axes in enumerate(figure.axes):
        for bars, table in zip(axes.containers, STDS.values(), strict=True):
            np.testing.assert_array_equal([bar.get_height() for bar in bars], table[:, i])
        centres = [[bar.get_x() + bar.get_width() / 2 for bar in bars] for bars in axes.containers]
        np.testing.assert_allclose(np.mean(centres, axis=0), [0, 1, 2], atol=1e-12)  # sums of a few numbers near 1
    t1, t2 = figure.axes
    assert [note.get_text() for note in t1.texts] == ["2", "3", "4", "1", "2", "5"]
    for name, tick, ratio in zip(TISSUES, t2.get_xticklabels(), (1.5, 1.6, 2.0), strict=True):
        assert tick.get_text().startswith(name)
        assert numbers(tick.get_text()) == [ratio]
    assert numbers(t1.get_xticklabels()[2].get_text()) == [0.8]
    said = figure.get_supxlabel()
    assert said.index("published") < said.index("designed")  # which is divided by which
    for name, axes in zip(("T1", "T2"), figure.axes, strict=True):
        assert name in axes.get_ylabel()
        assert "(%)" in axes.get_ylabel()
        assert numbers(axes.get_ylabel()) == [100]  # times the noise
    assert legend(figure) == ["published", "designed"]
    assert_laid_out(figure)


@pytest.mark.parametrize(("n_tissues", "n_sequences"), [(1, 1), (1, 4), (6, 2), (9, 1), (9, 4)])
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
    assert all("B1" in axes.get_xlabel() for axes in figure.axes)
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
    assert numbers(t1.get_title()) == [50, 1.5]  # per cent that are better, and the median
    assert numbers(t2.get_title()) == [100, 4, 2, 4]  # and how many of all have no ratio
    assert bar.get_ylabel()
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
    assert numbers(figure.axes[0].get_title()) == [2, 2]
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
        assert numbers(axes.get_title())[:2] == [4, 6]  # intervals that hold 1, of all
        low, high = axes.get_ylim()
        assert low < found.min() < found.max() < high
    band, *sequences = legend(figure)
    assert numbers(band) == [10]  # per cent
    assert sequences == ["published", "designed"]
    assert [name in axes.get_ylabel() for name, axes in zip(("T1", "T2"), figure.axes, strict=True)] == [True, True]
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


@pytest.mark.parametrize("quantities", [("f",), ("T1", "T2", "f")])
def test_other_parameters_have_panels_of_their_own(quantities):
    tables = {name: table[:, [0] * len(quantities)] for name, table in STDS.items()}
    by_b1 = {"one": np.ones((len(quantities), len(TISSUES), 2))}
    for figure in (
        figures.precision_figure(tables, TISSUES, quantities=quantities),
        figures.robustness_figure([0.9, 1.1], by_b1, names=TISSUES, quantities=quantities),
        figures.monte_carlo_figure(tables, tables, TISSUES, draws=9, quantities=quantities),
    ):
        labels = [axes.get_ylabel() for axes in figure.axes]
        assert all(quantity in label for quantity, label in zip(quantities, labels, strict=True))
        assert_laid_out(figure)
