"""Figures of volume fractions: maps of components, and what methods find beside the truth."""

from collections.abc import Mapping, Sequence

import numpy as np
from cmcrameri import cm
from matplotlib.figure import Figure

from ganmrf.report.drawing import (
    COLOURS,
    checked_mask,
    draw_map,
    legend_above,
    map_panels,
    percentile,
    plain_axes,
    shown,
)

_COLUMNS = 4  # maps side by side at most
_APART = 0.8  # of the distance between two components: width that the methods of one share


def fraction_maps_figure(maps, names: Sequence[str], *, label: str, mask) -> Figure:
    """A map of each component, cropped to the mask, each in colours from 0 to what 99 % of its voxels need.

    Args:
      maps: (components, y, x), dimensionless.
      names: of the components.
      label: what is shown, for the colour bars.
      mask: voxels to show, bool, (y, x).

    Raises:
      ValueError: shapes that differ, or an empty mask.
    """
    mask = checked_mask(mask)
    maps = [shown("maps", values, mask) for values in maps]
    rows, columns = -(-len(maps) // _COLUMNS), min(len(maps), _COLUMNS)
    figure, panels = map_panels(maps[0].shape, rows, columns, besides=0.95 * rows)
    for axes, name, values in zip(panels.ravel(), names, maps, strict=False):
        draw_map(axes, name, label, values, cm.batlow, 0, percentile(values, 99))
    return figure


def fraction_errors_figure(
    components: Sequence[str], mixtures: Mapping[str, tuple[Sequence[float], Mapping[str, tuple]]]
) -> Figure:
    """Errors of the fractions that methods find, mean and spread, a panel for each mixture.

    Args:
      components: their names.
      mixtures: title -> true fractions (components,), and name of a method -> means and standard deviations.
    """
    rows, places = -(-len(mixtures) // 2), np.arange(len(components))
    figure, panels = plain_axes(0.8 + 3 * rows, rows, 2, sharey=True)
    for axes, (title, (truth, methods)) in zip(panels, mixtures.items(), strict=False):
        axes.axhline(0, color="0.6", linewidth=0.8, zorder=1)
        offsets = _APART * ((np.arange(len(methods)) + 0.5) / len(methods) - 0.5)
        for (name, (means, spreads)), offset, colour in zip(methods.items(), offsets, COLOURS, strict=False):
            errors = np.subtract(means, truth)
            axes.errorbar(places + offset, errors, spreads, fmt="o", markersize=4, capsize=3, color=colour, label=name)
        axes.set_title(title, fontsize=10, loc="left")
        axes.set_xticks(
            places, [f"{name}: {value:g}" for name, value in zip(components, truth, strict=True)], fontsize=8
        )
        axes.set_ylabel("Fraction found less the true one")
    for axes in panels[len(mixtures) :]:
        axes.set_visible(False)
    legend_above(panels[0])
    return figure
