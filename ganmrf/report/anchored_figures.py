"""Figures of generators for any spoiled FISP."""

from collections.abc import Mapping

import numpy as np
from cmcrameri import cm
from matplotlib.figure import Figure

from ganmrf.physics.sequences.cardiac import CardiacFisp
from ganmrf.physics.tissue import FACTS, Tissue
from ganmrf.report.drawing import COLOURS, colour_bar, legend_above, plain_axes, times_axes
from ganmrf.report.sequence_figures import preparation_drawn


def accuracy_figure(errors: Mapping[str, Mapping[int, Mapping[str, float]]]) -> Figure:
    """Mean (solid) and 99 % quantile (dotted) of the error against the number of anchors, one colour a generator.

    Args:
      errors: name of a generator -> number of anchors -> ``mean`` and ``quantile_99`` of relative errors.
    """
    figure, (axes,) = plain_axes(3.8)
    ticks = set()
    for (name, by_size), colour in zip(errors.items(), COLOURS, strict=False):
        sizes = sorted(by_size)
        ticks |= set(sizes)
        axes.plot(sizes, [by_size[size]["mean"] for size in sizes], "o-", color=colour, markersize=4, label=name)
        axes.plot(sizes, [by_size[size]["quantile_99"] for size in sizes], ":", color=colour, linewidth=1.4)
    axes.set(xscale="log", yscale="log", xlabel="Anchors", ylabel="Relative L2 error of a fingerprint")
    axes.set_xticks(sorted(ticks), [str(size) for size in sorted(ticks)])
    axes.set_xticks([], minor=True)
    legend_above(axes)
    return figure


def anchor_figure(anchors: Tissue) -> Figure:
    """The anchors over T1 and T2: colour is the order in which they were chosen; size is B1, where B1 is an axis."""
    figure, (axes,) = plain_axes(4.2)
    b1 = np.broadcast_to(np.asarray(anchors.b1), anchors.shape)
    span = b1 - b1.min()
    sizes = 30 + 90 * span / max(span.max(), 1e-9)
    t1_ms, t2_ms = 1e3 * np.asarray(anchors.t1), 1e3 * np.asarray(anchors.t2)
    points = axes.scatter(t1_ms, t2_ms, sizes, 1 + np.arange(anchors.size), cmap=cm.batlow, alpha=0.85, linewidths=0)
    times_axes(axes)
    if span.any():
        for value, size in ((b1.min(), 30), (b1.max(), 120)):
            axes.scatter([], [], size, color="0.5", label=f"B1 {value:.2g}")
        figure.legend(loc="outside upper right", ncols=2, frameon=False)
    colour_bar([points], [axes], "Order of choice", pad=0.02)
    return figure


def rhythm_figure(sequence: CardiacFisp) -> Figure:
    """Time from each beat to the next, the part of it in which frames are acquired, and what prepares each beat."""
    rr_ms = 1e3 * np.asarray(sequence.rr_intervals, float)
    block = 1e3 * sequence.flip_angle.shape[-1] * float(sequence.repetition_time)
    figure, (axes,) = plain_axes(2.9)
    beats = 1 + np.arange(rr_ms.size)
    axes.vlines(beats, 0, rr_ms, color=COLOURS[0], linewidth=2, label="R to R")
    axes.plot(beats, rr_ms, "o", color=COLOURS[0], markersize=5)
    axes.vlines(beats, 0, block, color=COLOURS[5], linewidth=7, label="frames acquired")
    told, turned = set(), beats.size > 16
    for beat, preparation in zip(beats, sequence.preparations, strict=True):
        if preparation is not None:
            name, mark, colour = preparation_drawn(preparation)
            before, label = -1e3 * float(preparation.duration), "" if name in told else name
            axes.vlines(beat, before, 0, color=colour, linewidth=7, label=label)
            place = {"textcoords": "offset points", "ha": "center", "va": "top", "rotation": 90 * turned}
            axes.annotate(mark, (beat, before), (0, -3), color=colour, fontsize=8, **place)
            told.add(name)
    axes.axhline(0, color="0.6", linewidth=0.8)
    # Room for what is written below the longest preparation.
    axes.set(xlabel="Beat", ylabel="R to R (ms)", ylim=(-(0.5 if turned else 0.25) * rr_ms.max(), 1.1 * rr_ms.max()))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_title(f"{60e3 / rr_ms.mean():.0f} beats a minute", fontsize=10, loc="left")
    figure.legend(loc="outside upper right", ncols=5, frameon=False)
    return figure


def extrapolation_figure(distances, errors: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Error against the distance outside the tissue box, a panel for each bound of each axis, a colour a generator.

    Args:
      distances: relative to the bound that is passed, (distances,).
      errors: name of a generator -> bound of an axis, such as ``t1 above`` -> mean relative error, (distances,).
    """
    ends = list(dict.fromkeys(end for by_end in errors.values() for end in by_end))
    rows = -(-len(ends) // 2)
    figure, panels = plain_axes(0.7 + 2.1 * rows, rows, 2, sharex=True, sharey=True)
    for axes in panels[len(ends) :]:
        axes.set_axis_off()
    for axes, end in zip(panels, ends, strict=False):
        for (name, by_end), colour in zip(errors.items(), COLOURS, strict=False):
            if end in by_end:
                axes.plot(100 * np.asarray(distances), by_end[end], "o-", color=colour, markersize=4, label=name)
        parameter, side = end.split()
        axes.set_title(f"{FACTS[parameter].name} {side} its range", loc="left", fontsize=10)
        axes.set(yscale="log", xlabel="Beyond the end (% of it)")
        axes.label_outer()
    figure.supylabel("Mean relative L2 error", fontsize=10)
    legend_above(panels[0])
    return figure


def break_even_figure(panels: Mapping[str, Mapping[str, tuple[float, float]]]) -> Figure:
    """Core-seconds against the number of dictionaries, and where generating them begins to take fewer than simulating.

    A ring and a number mark how many dictionaries a generator has paid for its making after.

    Args:
      panels: name of a panel -> name of a line -> core-seconds before the first dictionary, and of each; the first line
        is the simulator's. Equal names are drawn alike. A further line with nothing before its first dictionary is
        dashed, in the colour of the line before it.
    """
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes_of_all = plain_axes(0.8 + 3.0 * rows, rows, columns, sharex=True, sharey=True)
    crossings = {title: _crossings(lines) for title, lines in panels.items()}
    most = max([1e3, *(10 * number for found in crossings.values() for number in found.values())])
    number, colours = np.geomspace(1, most, 200), _line_colours(panels)
    for axes, (title, lines) in zip(axes_of_all, panels.items(), strict=False):
        for name, (before, each) in lines.items():
            style = {"color": colours[name], "linestyle": "--" if not before and name in list(lines)[1:] else "-"}
            axes.plot(number, before + each * number, label=name, **style)
        simulate = next(iter(lines.values()))[1]
        for name, crossing in crossings[title].items():
            ring = {"markerfacecolor": "white", "markeredgecolor": colours[name], "markersize": 6, "zorder": 3}
            axes.plot(crossing, simulate * crossing, "o", **ring)
            box = {"boxstyle": "round,pad=0.1", "facecolor": "white", "linewidth": 0}
            place = {"textcoords": "offset points", "color": colours[name], "fontsize": 9, "bbox": box}
            axes.annotate(f"{np.ceil(crossing):.0f}", (crossing, simulate * crossing), (5, -13), **place)
        axes.set_title(title, loc="left", fontsize=10)
        axes.set(xscale="log", yscale="log", xlabel="Dictionaries", ylabel="Core-seconds")
        axes.label_outer()
    for axes in axes_of_all[len(panels) :]:
        axes.set_visible(False)
    legend_above(*axes_of_all[: len(panels)])
    return figure


def _line_colours(panels):
    """Name of a line -> colour, black for the first, and for a dashed one that of the line before it."""
    colours, last = {}, None
    for lines in panels.values():
        for name, (before, _) in lines.items():
            free = ("black", *COLOURS)[len(set(colours.values()))]
            last = colours.setdefault(name, free if before or not colours else last)
    return colours


def _crossings(lines):
    """Name of a line -> number of dictionaries, 1 or more, from which on it lies below the first; where it does."""
    (_, simulate), *_ = lines.values()
    numbers = {name: before / (simulate - each) for name, (before, each) in lines.items() if simulate > each}
    return {name: number for name, number in numbers.items() if number >= 1}
