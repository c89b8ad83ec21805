"""Figures of studies show relative errors in percent, a row of panels a case."""

import numpy as np

from ganmrf.report.study_figures import errors_figure


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
