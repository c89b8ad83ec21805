"""Figures of benchmarks."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from ganmrf.report.figures import COLOURS, WIDTH


def scaling_figure(curves: Mapping[str, Mapping[str, Mapping[str, list]]]) -> Figure:
    """Time against size on logarithmic axes, a panel for each size that was varied, a dotted line of slope 1 in each.

    Args:
      curves: what was varied, such as ``atoms`` -> name of a curve -> ``{"size": [...], "seconds": [...]}``, ascending.
    """
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    panels = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
    for axes, (varied, lines) in zip(panels, curves.items(), strict=True):
        for (name, line), colour in zip(lines.items(), COLOURS, strict=False):
            axes.plot(line["size"], line["seconds"], "o-", color=colour, linewidth=1.6, markersize=4, label=name)
        size, seconds = (np.asarray(next(iter(lines.values()))[part], float) for part in ("size", "seconds"))
        axes.plot(size, seconds[-1] * size / size[-1], ":", color="0.5", linewidth=1, label="proportional")
        axes.set(xscale="log", yscale="log", xlabel=varied)
        axes.grid(which="major", color="0.9")
        axes.legend(frameon=False, fontsize="small")
    panels[0].set_ylabel("Time (s)")
    return figure
