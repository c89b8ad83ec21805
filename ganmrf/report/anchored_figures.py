"""Figures of generators for any sequence."""

from collections.abc import Mapping

import numpy as np
from cmcrameri import cm
from matplotlib.figure import Figure

from ganmrf.physics.types import Tissue
from ganmrf.report.figures import COLOURS, stacked_axes


def accuracy_figure(errors: Mapping[str, Mapping[int, np.ndarray]]) -> Figure:
    """Mean and 99 % quantile of the error against the number of anchors, one colour a generator.

    Args:
      errors: name of a generator -> number of anchors -> relative errors, (any,).
    """
    figure, (axes,) = stacked_axes(3.8)
    ticks = set()
    for (name, by_size), colour in zip(errors.items(), COLOURS, strict=False):
        sizes = sorted(by_size)
        ticks |= set(sizes)
        axes.plot(sizes, [np.mean(by_size[size]) for size in sizes], "o-", color=colour, markersize=4, label=name)
        axes.plot(sizes, [np.quantile(by_size[size], 0.99) for size in sizes], ":", color=colour, linewidth=1.4)
    axes.set(xscale="log", yscale="log", xlabel="Anchors", ylabel="Relative L2 error of a fingerprint")
    axes.set_xticks(sorted(ticks), [str(size) for size in sorted(ticks)])
    axes.set_xticks([], minor=True)
    axes.grid(axis="y", color="0.9")
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    return figure


def anchor_figure(anchors: Tissue) -> Figure:
    """The anchors over T1 and T2: the colour is their order, and where B1 is an axis the size of a mark their B1."""
    figure, (axes,) = stacked_axes(4.2)
    order = 1 + np.arange(anchors.size)
    b1 = np.broadcast_to(np.asarray(anchors.b1), anchors.shape)
    span = b1 - b1.min()
    sizes = 30 + 90 * span / max(span.max(), 1e-9)
    points = axes.scatter(
        1e3 * np.asarray(anchors.t1),
        1e3 * np.asarray(anchors.t2),
        sizes,
        order,
        cmap=cm.batlow,
        alpha=0.85,
        linewidths=0,
    )
    axes.set(xscale="log", yscale="log", xlabel="T1 (ms)", ylabel="T2 (ms)")
    if span.any():
        for value in (b1.min(), b1.max()):
            size = 30 + 90 * (value - b1.min()) / span.max()
            axes.scatter([], [], size, color="0.5", label=f"B1 {value:.2g}")
        figure.legend(loc="outside upper right", ncols=2, frameon=False)
    bar = figure.colorbar(points, ax=axes, pad=0.02)
    bar.set_label("Order of choice")
    bar.outline.set_visible(False)
    return figure


def rhythm_figure(rr_intervals) -> Figure:
    """Time from each beat to the next, as a rate too.

    Args:
      rr_intervals: s, (beats,).
    """
    rr_ms = 1e3 * np.asarray(rr_intervals, float)
    figure, (axes,) = stacked_axes(2.6)
    beats = 1 + np.arange(rr_ms.size)
    axes.vlines(beats, 0, rr_ms, color=COLOURS[0], linewidth=2)
    axes.plot(beats, rr_ms, "o", color=COLOURS[0], markersize=5)
    axes.set(xlabel="Beat", ylabel="R to R (ms)", ylim=(0, None))
    axes.set_title(f"{60e3 / rr_ms.mean():.0f} beats a minute", fontsize=10)
    return figure
