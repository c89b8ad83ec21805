"""Figures of the training of a generator and of the errors of its fingerprints."""

from collections.abc import Mapping

import numpy as np
from cmcrameri import cm
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from ganmrf.report.drawing import COLOURS, colour_bar, legend_above, plain_axes, plain_logarithm, times_axes
from ganmrf.report.figures import REFERENCE_TIMES


def sweep_figure(weights, errors: Mapping[str, np.ndarray], *, best: float) -> Figure:
    """RMSE against lambda, one curve a set, the best lambda marked; lambda = 0, which has no logarithm, at the left.

    Args:
      weights: lambda, ascending, 0 or more, (weights,).
      errors: name of a set -> RMSE, (weights,).
      best: the lambda of the least validation error, to mark.

    References:
      Yang et al. 2020, arXiv:2004.02270, Fig. 4a.
    """
    weights = np.asarray(weights, float)
    positive = weights[weights > 0]
    places = np.where(weights > 0, weights, positive.min() / 10)
    figure, (axes,) = plain_axes(3.6)
    for (name, values), colour, dashes in zip(errors.items(), COLOURS, ((), (4, 2), (1, 1)), strict=False):
        axes.plot(places, values, "o-", color=colour, dashes=dashes, linewidth=1.6, markersize=4, label=name)
    axes.axvline(
        places[np.argmin(np.abs(weights - best))],
        color="0.5",
        linewidth=1,
        linestyle=":",
        label="least validation error",
    )
    axes.set(xscale="log", yscale="log", xlabel="Weight of the reconstruction term, $\\lambda$", ylabel="RMSE")
    axes.set_xticks(places, [f"{weight:g}" for weight in weights])
    axes.set_xticks([], minor=True)
    plain_logarithm(axes.yaxis)
    legend_above(axes)
    return figure


def training_figure(steps, errors: Mapping[str, np.ndarray], what: str = "RMSE") -> Figure:
    """RMSE, or another error, against iteration on a logarithmic scale, one curve a set.

    Args:
      steps: (records,).
      errors: name of a set -> its errors, (records,).
      what: name of the error.

    References:
      Yang et al. 2020, arXiv:2004.02270, Fig. 4b.
    """
    figure, (axes,) = plain_axes(3.6)
    styles = zip(errors.items(), COLOURS, (3.0, 1.6, 1.2), ((), (4, 2), (1, 1)), strict=False)
    for (name, values), colour, width, dashes in styles:
        mark = "o" if len(steps) < 3 else None
        axes.plot(steps, values, color=colour, linewidth=width, dashes=dashes, marker=mark, label=name)
    axes.set(yscale="log", xlabel="Iteration", ylabel=what)
    axes.set_xlim(left=0)
    legend_above(axes)
    return figure


def long_training_figure(curves: Mapping[str, tuple]) -> Figure:
    """Error against iteration on logarithmic axes, where a power of the iteration is a straight line.

    Args:
      curves: name of a run -> its steps and its relative errors, (records,) each.
    """
    figure, (axes,) = plain_axes(3.6)
    for (name, (steps, errors)), colour, width in zip(curves.items(), COLOURS, (3.0, 1.6), strict=False):
        axes.plot(steps, errors, color=colour, linewidth=width, marker="o", markersize=3, label=name)
    axes.set(xscale="log", yscale="log", xlabel="Iteration", ylabel="Relative L2 error")
    legend_above(axes)
    return figure


def tissue_plane_figure(t1, t2, errors, *, outside, what: str = "Relative L2 error") -> Figure:
    """Error of every atom over T1 and T2; those outside the trained range are marked.

    Args:
      t1: s, (atoms,).
      t2: s, (atoms,).
      errors: dimensionless, (atoms,), positive.
      outside: which atoms lie outside the trained range, (atoms,), bool.
      what: name of the error.
    """
    t1_ms, t2_ms, errors, outside = 1e3 * np.asarray(t1), 1e3 * np.asarray(t2), np.asarray(errors), np.asarray(outside)
    figure, (axes,) = plain_axes(4.2)
    low, high = np.percentile(errors, [1, 99.9])
    size = np.clip(4e4 / errors.size, 0.5, 30)
    style = {"norm": LogNorm(low, max(high, 1.01 * low)), "cmap": cm.batlow, "rasterized": True, "linewidths": 0}
    points = axes.scatter(t1_ms, t2_ms, size, errors, marker="s", **style)
    if outside.any():
        axes.plot(t1_ms[outside], t2_ms[outside], ".", color="0.3", markersize=0.8, label="outside the trained range")
        figure.legend(loc="outside upper right", frameon=False, markerscale=8)
    times_axes(axes, REFERENCE_TIMES)
    colour_bar([points], [axes], what, pad=0.02)
    return figure


def error_distribution_figure(errors: Mapping[str, np.ndarray]) -> Figure:
    """Share of atoms whose error exceeds a value, one curve a method.

    Args:
      errors: name of a method -> relative errors, (atoms,), positive.
    """
    figure, (axes,) = plain_axes(3.8)
    for i, (name, values) in enumerate(errors.items()):
        values = np.sort(np.asarray(values))
        share = 1 - np.arange(values.size) / values.size
        dashes = () if i < len(COLOURS) else (4, 2)
        axes.plot(values, share, color=COLOURS[i % len(COLOURS)], dashes=dashes, linewidth=1.6, label=name)
    axes.set(xscale="log", yscale="log", xlabel="Relative L2 error of a fingerprint", ylabel="Share of atoms above")
    legend_above(axes)
    return figure
