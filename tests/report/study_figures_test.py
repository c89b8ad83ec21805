"""Figures of studies show relative errors in percent, a row of panels a case."""

import numpy as np

from ganmrf.report.study_figures import errors_figure


def test_errors_of_both_times_in_percent():
    curves = {"known": {"T1": [0.01, 0.02], "T2": [0.03, 0.04]}, "neglected": {"T1": [0.1, 0.2], "T2": [0.3, 0.4]}}
    panels = errors_figure([5, 10], "Off-resonance (Hz)", {"blood": curves, "heart": curves}).axes
    assert [axes.get_title("left") for axes in panels] == ["blood", "blood", "heart", "heart"]
    np.testing.assert_allclose(panels[3].lines[1].get_xydata(), [[5, 30], [10, 40]])
    assert panels[2].get_xlabel() == "Off-resonance (Hz)"
