"""Figures of generators for any sequence."""

from collections.abc import Mapping

import numpy as np
from cmcrameri import cm
from matplotlib.figure import Figure

from ganmrf.physics.tissue import Tissue
from ganmrf.report.drawing import COLOURS, WIDTH, colour_bar, plain_logarithm, stacked_axes


def accuracy_figure(errors: Mapping[str, Mapping[int, Mapping[str, float]]]) -> Figure:
    """Mean (solid) and 99 % quantile (dotted) of the error against the number of anchors, one colour a generator.

    Args:
      errors: name of a generator -> number of anchors -> ``mean`` and ``quantile_99`` of relative errors.
    """
    figure, (axes,) = stacked_axes(3.8)
    ticks = set()
    for (name, by_size), colour in zip(errors.items(), COLOURS, strict=False):
        sizes = sorted(by_size)
        ticks |= set(sizes)
        axes.plot(sizes, [by_size[size]["mean"] for size in sizes], "o-", color=colour, markersize=4, label=name)
        axes.plot(sizes, [by_size[size]["quantile_99"] for size in sizes], ":", color=colour, linewidth=1.4)
    axes.set(xscale="log", yscale="log", xlabel="Anchors", ylabel="Relative L2 error of a fingerprint")
    axes.set_xticks(sorted(ticks), [str(size) for size in sorted(ticks)])
    axes.set_xticks([], minor=True)
    axes.grid(axis="y", color="0.9")
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    return figure


def anchor_figure(anchors: Tissue) -> Figure:
    """The anchors over T1 and T2: colour is the order in which they were chosen; size is B1, where B1 is an axis."""
    figure, (axes,) = stacked_axes(4.2)
    order = 1 + np.arange(anchors.size)
    b1 = np.broadcast_to(np.asarray(anchors.b1), anchors.shape)
    span = b1 - b1.min()
    sizes = 30 + 90 * span / max(span.max(), 1e-9)
    t1_ms, t2_ms = 1e3 * np.asarray(anchors.t1), 1e3 * np.asarray(anchors.t2)
    points = axes.scatter(t1_ms, t2_ms, sizes, order, cmap=cm.batlow, alpha=0.85, linewidths=0)
    axes.set(xscale="log", yscale="log", xlabel="T1 (ms)", ylabel="T2 (ms)")
    for axis in (axes.xaxis, axes.yaxis):
        plain_logarithm(axis)
    if span.any():
        for value in (b1.min(), b1.max()):
            size = 30 + 90 * (value - b1.min()) / span.max()
            axes.scatter([], [], size, color="0.5", label=f"B1 {value:.2g}")
        figure.legend(loc="outside upper right", ncols=2, frameon=False)
    colour_bar([points], [axes], "Order of choice", pad=0.02)
    return figure


def rhythm_figure(rr_intervals, block: float) -> Figure:
    """Time from each beat to the next, and the part of that time in which frames are acquired.

    Args:
      rr_intervals: s, (beats,).
      block: length of the block of frames of a beat, s.
    """
    rr_ms = 1e3 * np.asarray(rr_intervals, float)
    figure, (axes,) = stacked_axes(2.6)
    beats = 1 + np.arange(rr_ms.size)
    axes.vlines(beats, 0, rr_ms, color=COLOURS[0], linewidth=2, label="R to R")
    axes.plot(beats, rr_ms, "o", color=COLOURS[0], markersize=5)
    axes.vlines(beats, 0, 1e3 * block, color=COLOURS[1], linewidth=7, label="frames acquired")
    axes.set(xlabel="Beat", ylabel="R to R (ms)", ylim=(0, None))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_title(f"{60e3 / rr_ms.mean():.0f} beats a minute", fontsize=10)
    figure.legend(loc="outside upper right", ncols=2, frameon=False)
    return figure


def extrapolation_figure(distances, errors: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Error against the distance outside the tissue box, a panel for each bound of each axis, a colour a generator.

    Args:
      distances: relative to the bound that is passed, (distances,).
      errors: name of a generator -> bound of an axis, such as ``t1 above`` -> mean relative error, (distances,).
    """
    ends = list(dict.fromkeys(end for by_end in errors.values() for end in by_end))
    rows = -(-len(ends) // 2)
    figure = Figure(figsize=(WIDTH, 0.7 + 2.1 * rows), layout="constrained")
    panels = figure.subplots(rows, 2, sharex=True, sharey=True, squeeze=False)
    for axes, end in zip(panels.flat, ends, strict=True):
        for (name, by_end), colour in zip(errors.items(), COLOURS, strict=False):
            if end in by_end:
                axes.plot(100 * np.asarray(distances), by_end[end], "o-", color=colour, markersize=4, label=name)
        parameter, side = end.split()
        axes.set_title(f"{parameter.upper()} {side} its range", loc="left", fontsize=10)
        axes.set(yscale="log")
        axes.grid(axis="y", color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[-1]:
        axes.set_xlabel("Beyond the end (% of it)")
    figure.supylabel("Mean relative L2 error", fontsize=10)
    figure.legend(*panels.flat[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    return figure


def break_even_figure(costs: Mapping[str, tuple[float, float, float]]) -> Figure:
    """Core-seconds against the number of dictionaries, simulated and generated, one panel a generator.

    Args:
      costs: name -> core-seconds of making the generator, of generating a dictionary, and of simulating it.
    """
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    panels = figure.subplots(1, len(costs), sharey=True, squeeze=False)[0]
    number = np.logspace(0, 5, 200)
    for axes, (name, (making, generate, simulate)) in zip(panels, costs.items(), strict=True):
        axes.plot(number, simulate * number, color=COLOURS[1], label="simulated")
        axes.plot(number, making + generate * number, color=COLOURS[0], label="generator made, then generated")
        if simulate > generate:
            crossing = making / (simulate - generate)
            axes.plot(crossing, simulate * crossing, "o", color="black", markersize=5)
            axes.annotate(f"{crossing:.0f}", (crossing, simulate * crossing), (6, -10), textcoords="offset points")
        axes.set_title(name, loc="left", fontsize=10)
        axes.set(xscale="log", yscale="log", xlabel="Dictionaries")
        axes.grid(color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("Core-seconds")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    return figure
