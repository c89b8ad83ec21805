"""Figures of what can be estimated: bounds of parameters with ever more of them unknown."""

from collections.abc import Mapping

import numpy as np
from cmcrameri import cm
from matplotlib.figure import Figure

from ganmrf.report.drawing import COLOURS, legend_above, plain_axes, plain_logarithm

_ROW = 0.28  # inches of a set of unknown parameters


def bounds_figure(panels: Mapping[str, Mapping[str, Mapping[str, tuple[float, float | None]]]], label: str) -> Figure:
    """Bounds of parameters, a colour each, on a logarithmic scale: one row a set of unknowns, one panel a tissue.

    Beyond the line, at 100 %, a parameter is not known at all.

    Args:
      panels: title -> unknown parameters, in words -> name of a parameter -> its bound, percent, inf where nothing
        determines it, and the standard deviation of fits, percent, which is drawn as a cross, or None.
      label: of the axis.
    """
    heights = [len(rows) for rows in panels.values()]
    height = 1.0 + sum(0.4 + _ROW * rows for rows in heights)
    figure, axes = plain_axes(height, len(panels), sharex=True, gridspec_kw={"height_ratios": heights})
    names = dict.fromkeys(name for rows in panels.values() for found in rows.values() for name in found)
    colours = COLOURS if len(names) <= len(COLOURS) else cm.batlow(np.linspace(0, 0.9, len(names)))
    colours = dict(zip(names, colours, strict=False))
    for panel, (title, rows) in zip(axes, panels.items(), strict=True):
        for place, found in enumerate(rows.values()):
            for name, (bound, measured) in found.items():
                panel.plot(bound, place, "o", color=colours[name], markersize=6)
                if measured is not None:
                    panel.plot(measured, place, "x", color="0.1", markersize=6)
        panel.axvline(100, color="0.6", linewidth=0.8)
        panel.set_yticks(range(len(rows)), list(rows))
        panel.set(xscale="log", ylim=(len(rows) - 0.5, -0.5))
        panel.set_title(title, fontsize=10, loc="left")
    for name, colour in colours.items():
        axes[0].plot([], [], "o", color=colour, label=name)
    axes[0].plot([], [], "x", color="0.1", label="fits of noisy signals")
    axes[-1].set_xlabel(label)
    plain_logarithm(axes[-1].xaxis)
    legend_above(axes[0])
    return figure
