"""Figures of slice profiles."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from ganmrf.report.drawing import COLOURS, legend_above, plain_axes


def profiles_figure(profiles: Mapping[str, Mapping[str, tuple]], aim: float) -> Figure:
    """Measured profiles of pulses beside those that models expect, and by how much they differ.

    A column for each pulse. Above, magnitudes: points are measured, lines expected, a colour a model. What is fitted
    with a model makes measured profiles differ a little. Below, the magnitude of the complex difference, and a dotted
    line at the ``aim``.

    Args:
      profiles: title of a pulse -> name of a model -> position, m, (columns,), and the measured and expected transverse
        magnetisation as shares of the peak, real or complex, (columns,).
      aim: percent.
    """
    figure, panels = plain_axes(5.2, 2, len(profiles), sharex=True, sharey="row")
    for column, (title, by_model) in enumerate(profiles.items()):
        above, below = panels[column], panels[len(profiles) + column]
        for (name, (position, measured, expected)), colour in zip(by_model.items(), COLOURS, strict=False):
            at = 1e3 * np.asarray(position)
            above.plot(at, np.abs(measured), "o", color=colour, markersize=3, alpha=0.6)
            above.plot(at, np.abs(expected), color=colour, linewidth=1.2, label=name)
            below.plot(at, 100 * np.abs(np.subtract(measured, expected)), color=colour, linewidth=1.2)
        below.axhline(aim, color="0.4", linestyle=":", linewidth=1.0)
        above.set_title(title, fontsize=10, loc="left")
        below.set_xlabel("Distance from the middle (mm)")
    panels[0].plot([], [], "o", color="0.4", markersize=3, label="measured")
    panels[0].plot([], [], ":", color="0.4", label=f"aim: {aim:g} %")
    panels[0].set_ylabel("Transverse magnetisation\n(share of the peak)")
    panels[len(profiles)].set_ylabel("Difference\n(% of the peak)")
    panels[len(profiles)].set_ylim(bottom=0)
    legend_above(panels[0])
    return figure
