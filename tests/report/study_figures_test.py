"""Figures of studies show relative errors in percent, a row of panels a case."""

import numpy as np

from ganmrf.report.study_figures import bias_figure, errors_figure, variance_figure

KINDS = {"published": 1.0, "adapted": 0.5}


def test_errors_of_both_times_in_percent():
    curves = {"known": {"T1": [0.01, 0.02], "T2": [0.03, 0.04]}, "neglected": {"T1": [0.1, 0.2], "T2": [0.3, 0.4]}}
    panels = errors_figure([5, 10], "Off-resonance (Hz)", {"blood": curves, "heart": curves}).axes
    assert [axes.get_title("left") for axes in panels] == ["blood", "blood", "heart", "heart"]
    np.testing.assert_allclose(panels[3].lines[1].get_xydata(), [[5, 30], [10, 40]])
    assert panels[2].get_xlabel() == "Off-resonance (Hz)"


def test_panels_of_one_time_have_one_scale():
    small, large = ({"known": {"T1": [x, -x], "T2": [2 * x, 0]}} for x in (1e-4, 0.1))
    panels = errors_figure([5, 10], "Off-resonance (Hz)", {"blood": small, "heart": large}).axes
    for one, other in ((0, 2), (1, 3)):
        assert panels[one].get_ylim() == panels[other].get_ylim()


def test_errors_that_differ_a_hundredfold_are_on_logarithmic_scales():
    curves = {"none": {"T1": [0.5, 0.4], "T2": [1.6, -0.3]}, "full": {"T1": [1e-4, -1e-4], "T2": [0, 2e-4]}}
    panels = errors_figure([1, 16], "Turns", {"blood": curves}, linear_within=0.5).axes
    for axes in panels:
        assert axes.get_yscale() == "symlog"
        assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "16"]


def test_variances_are_ratios_of_each_tissue():
    ratios = {kind: {"blood": {"T1": x, "T2": 2 * x}, "heart": {"T1": 3 * x, "T2": x}} for kind, x in KINDS.items()}
    one, other = variance_figure(ratios, "over published").axes
    assert [list(points.get_ydata()) for points in one.lines[:2]] == [[1.0, 3.0], [0.5, 1.5]]
    assert [list(points.get_ydata()) for points in other.lines[:2]] == [[2.0, 1.0], [1.0, 0.5]]
    assert not one.patches  # a bar on a logarithmic scale would stand on nothing
    assert [label.get_text() for label in one.get_xticklabels()] == ["blood", "heart"]
    assert one.get_ylabel() == "over published"


def test_biases_and_spreads_of_every_rhythm_in_percent():
    cases = {
        "regular": {"T1": [(0.01, 0.02)], "T2": [(0.03, 0.01)]},
        "late": {"T1": [(0.1, 0), (0.2, 0)], "T2": [(0, 0)]},
    }
    panels = bias_figure({"blood": {"nominal": cases}, "heart": {"nominal": cases}}).axes
    assert [axes.get_title("left") for axes in panels] == ["blood", "blood", "heart", "heart"]
    (points, _, (bars,)) = panels[0].containers[0]
    np.testing.assert_allclose(points.get_ydata(), [1, 10, 20])
    np.testing.assert_allclose(bars.get_segments()[0][:, 1], [-1, 3])
    assert 0.5 < points.get_xdata()[1] < points.get_xdata()[2] < 1.5  # about the place of their case
