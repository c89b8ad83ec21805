"""A figure of distributions has a row for each, and shows the simulated one as it is."""

import numpy as np

from ganmrf.report.distribution_figures import distribution_figure


def test_a_row_for_each_distribution():
    rng = np.random.default_rng(0)
    humps = rng.choice([-1, 1], (200, 1))
    simulated = np.cos(np.arange(30) / 5) + 0.1 * humps * np.sin(np.arange(30) / 5)
    collapsed = np.broadcast_to(simulated.mean(axis=0), simulated.shape)
    figure = distribution_figure(simulated, {"itself": simulated, "collapsed": collapsed})
    assert [axes.get_title(loc="left") for axes in figure.axes[::2]] == ["itself", "collapsed"]
    lower, upper, mean = (line.get_ydata() for line in figure.axes[2].lines[:3])
    np.testing.assert_allclose([lower, upper, mean], 0, atol=1e-9)  # all of it is at the mean
    lower, upper, _ = (line.get_ydata() for line in figure.axes[0].lines[:3])
    scale = 100 / np.sqrt(np.mean(simulated.mean(axis=0) ** 2))
    expected = 0.1 * np.abs(np.sin(np.arange(30) / 5)) * scale
    np.testing.assert_allclose((upper - lower) / 2, expected, atol=1e-9)
