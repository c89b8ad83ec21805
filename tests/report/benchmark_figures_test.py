"""The plot of a benchmark shows every curve against its own size."""

import io

import numpy as np

from ganmrf.report.figures import scaling_figure


def test_every_curve_has_its_panel_and_a_line_of_slope_one():
    curves = {
        "atoms": {
            "quick": {"size": [10, 100], "seconds": [1.0, 5.0]},
            "slow": {"size": [10, 100], "seconds": [2.0, 9.0]},
        },
        "frames": {"quick": {"size": [30, 300], "seconds": [0.1, 0.7]}},
    }
    figure = scaling_figure(curves)
    assert [axes.get_xlabel() for axes in figure.axes] == ["atoms", "frames"]
    for axes, lines in zip(figure.axes, curves.values(), strict=True):
        assert axes.get_xscale() == axes.get_yscale() == "log"
        *drawn, guide = axes.get_lines()
        for line, (name, values) in zip(drawn, lines.items(), strict=True):
            assert line.get_label() == name
            np.testing.assert_array_equal(line.get_xydata().T, [values["size"], values["seconds"]])
        slope = np.diff(np.log(guide.get_ydata())) / np.diff(np.log(guide.get_xdata()))
        np.testing.assert_allclose(slope, 1)
    figure.savefig(io.BytesIO())
