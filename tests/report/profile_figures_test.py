"""Figures of slice profiles: magnitudes in mm, and differences in percent of the peak."""

import numpy as np

from ganmrf.report.profile_figures import profiles_figure


def test_profiles_and_their_differences():
    position = np.array([-1e-3, 0.0, 1e-3])
    models = {"Bloch": (position, [0.5j, 1.0, 0.5], [0.5j, 0.98, 0.5]), "small tip": (position, [0, 1, 0], [0, 1, 0])}
    above, other, below, _ = profiles_figure({"sinc": models, "gauss": models}, aim=2.0).axes
    assert [each.get_title("left") for each in (above, other)] == ["sinc", "gauss"]
    measured, expected = above.lines[:2]
    np.testing.assert_allclose(measured.get_xydata(), [[-1, 0.5], [0, 1], [1, 0.5]])
    np.testing.assert_allclose(expected.get_ydata(), [0.5, 0.98, 0.5])
    np.testing.assert_allclose(below.lines[0].get_ydata(), [0, 2, 0], atol=1e-12)
    assert "(mm)" in below.get_xlabel()
    assert "%" in below.get_ylabel()
