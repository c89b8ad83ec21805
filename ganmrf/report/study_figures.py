"""Figures of the studies that compare fits of T1 and T2 with the truth."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, NullLocator

from ganmrf.report.drawing import COLOURS, legend_above, plain_axes, plain_logarithm


def errors_figure(
    values,
    label: str,
    errors: Mapping[str, Mapping[str, Mapping[str, list[float]]]],
    linear_within: float | None = None,
) -> Figure:
    """Errors of T1 and T2 against what was varied: a row of two panels for each case, a colour a curve.

    All panels of T1 have one scale, and all of T2. Earlier curves are wider, and later ones dashed, so that those that
    coincide are all seen.

    Args:
      values: of what was varied, (values,).
      label: its name, with the unit.
      errors: title of a case -> name of a curve -> ``T1`` and ``T2`` -> relative errors, (values,).
      linear_within: percent beyond which errors are on a logarithmic scale, for curves that differ a hundredfold; None
        for a linear scale throughout. ``values`` are then on a logarithmic scale, too.
    """
    figure, panels = plain_axes(0.8 + 2.2 * len(errors), len(errors), 2, sharex=True, sharey="col")
    for row, (title, curves) in enumerate(errors.items()):
        for axes, quantity in zip(panels[2 * row :], ("T1", "T2"), strict=False):
            widths = np.linspace(3.0, 1.2, len(curves))
            for place, ((name, by_quantity), colour) in enumerate(zip(curves.items(), COLOURS, strict=False)):
                found, width = [100 * each for each in by_quantity[quantity]], widths[place]
                style = {"linewidth": width, "markersize": 2.5 * width, "linestyle": "--" if place else "-"}
                axes.plot(values, found, "o", color=colour, label=name, **style)
            axes.axhline(0, color="0.6", linewidth=0.8, zorder=1)
            if linear_within is not None:
                axes.set_xscale("log")
                axes.set_yscale("symlog", linthresh=linear_within)
                axes.set_xticks(values, map("{:g}".format, values), minor=False)
                axes.xaxis.set_minor_locator(NullLocator())
                axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
            axes.set_title(title, fontsize=10, loc="left")
            axes.set_ylabel(f"Error of {quantity} (%)")
    for axes in panels[-2:]:
        axes.set_xlabel(label)
    legend_above(panels[0])
    return figure


def variance_figure(ratios: Mapping[str, Mapping[str, Mapping[str, float]]], label: str) -> Figure:
    """Variances of T1 and T2 as ratios, a panel each: a group of points for each tissue, a colour a kind of scan.

    The scale is logarithmic, as ratios are, and has no zero that bars could stand on.

    Args:
      ratios: kind of scan -> tissue -> ``T1`` and ``T2`` -> ratio.
      label: what they are ratios of.
    """
    figure, panels = plain_axes(3.4, 1, 2, sharey=True)
    tissues, width = list(next(iter(ratios.values()))), 0.8 / len(ratios)
    for axes, quantity in zip(panels, ("T1", "T2"), strict=True):
        for place, ((kind, by_tissue), colour) in enumerate(zip(ratios.items(), COLOURS, strict=False)):
            found = [by_tissue[tissue][quantity] for tissue in tissues]
            where = np.arange(len(tissues)) + (place - (len(ratios) - 1) / 2) * width
            axes.plot(where, found, "o", color=colour, markersize=6, label=kind)
        axes.axhline(1, color="0.6", linewidth=0.8, zorder=1)
        axes.set_yscale("log")
        plain_logarithm(axes.yaxis)
        axes.set_xticks(range(len(tissues)), tissues, rotation=20, ha="right", rotation_mode="anchor")
        axes.set_title(quantity, fontsize=10, loc="left")
    panels[0].set_ylabel(label)
    legend_above(panels[0])
    return figure


def bias_figure(errors: Mapping[str, Mapping[str, Mapping[str, Mapping[str, list[tuple[float, float]]]]]]) -> Figure:
    """Biases of T1 and T2, with the spread as bars: a row of two panels for each tissue, a colour a dictionary.

    Args:
      errors: tissue -> dictionary -> case -> ``T1`` and ``T2`` -> relative bias and spread, one or more pairs.
    """
    figure, panels = plain_axes(0.8 + 2.4 * len(errors), len(errors), 2, sharex=True, sharey="col")
    for row, (tissue, of_dictionaries) in enumerate(errors.items()):
        for axes, quantity in zip(panels[2 * row :], ("T1", "T2"), strict=False):
            width = 0.7 / len(of_dictionaries)
            for place, ((name, cases), colour) in enumerate(zip(of_dictionaries.items(), COLOURS, strict=False)):
                found = [np.array(each[quantity]) for each in cases.values()]
                aside = [(np.arange(len(each)) + 0.5) / len(each) + place for each in found]
                where = [number - 0.35 + width * each for number, each in enumerate(aside)]
                bias, spread = 100 * np.concatenate(found).T
                style = {"fmt": "o", "color": colour, "markersize": 3, "linewidth": 1}
                axes.errorbar(np.concatenate(where), bias, spread, label=name, **style)
            axes.axhline(0, color="0.6", linewidth=0.8, zorder=1)
            axes.set_xticks(range(len(cases)), cases, rotation=20, ha="right", rotation_mode="anchor")
            axes.set_title(tissue, fontsize=10, loc="left")
            axes.set_ylabel(f"Error of {quantity} (%)")
    legend_above(panels[0])
    return figure
