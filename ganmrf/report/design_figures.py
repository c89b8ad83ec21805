"""Figures of a sequence design: start and design, the limits that it reaches, and the search."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from ganmrf.design.limits import Limits
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.pytrees import require, require_positive
from ganmrf.report.drawing import COLOURS, legend_above, plain_axes, plain_logarithm
from ganmrf.report.sequence_figures import schedule_panels, timing

_BOUNDS = {  # labels of the limits that `design.limits.activity` names
    "flip_angle max": "Largest flip angle",
    "flip_angle min": "Smallest flip angle",
    "max_flip_change": "Largest change of flip angle",
    "repetition_time max": "Longest TR",
    "repetition_time min": "Shortest TR",
    "inversion_time max": "longest TI",
    "inversion_time min": "shortest TI",
    "scan_time": "scan time",
    "rf_power": "RF power",
}


def design_figure(before: Fisp, after: Fisp, *, limits: Limits) -> Figure:
    """Flip angle and repetition time of two sequences against frame, stacked.

    Args:
      before: the sequence that the design is compared with.
      after: the design; it may have another number of frames.
      limits: their ranges of flip angle and repetition time are drawn dashed.
    """
    sequences = {"before": (before, "0.55", 1.0), "after": (after, COLOURS[0], 2.0)}
    figure, (top, _) = schedule_panels(5.2, sequences, limits)
    top.set_title(f"before: {timing(before)}\nafter: {timing(after)}", fontsize=10)
    legend_above(top)
    return figure


def activity_figure(activity: Mapping[str, np.ndarray]) -> Figure:
    """The frames at each limit, one row a limit, with their share at the right.

    Args:
      activity: of `design.limits.activity`: name of a limit -> whether each frame is at the limit, bool, (frames,); or
        one bool for a limit of the whole sequence, which the title names where it is reached.

    Raises:
      ValueError: no limit of frames, or limits of different numbers of frames.
    """
    activity = {name: np.asarray(value, bool) for name, value in activity.items()}
    ordered = sorted(activity, key=lambda name: [*_BOUNDS, name].index(name))
    rows = [name for name in ordered if activity[name].ndim]
    if len({activity[name].shape for name in rows}) != 1 or not activity[rows[0]].size or activity[rows[0]].ndim != 1:
        shapes = ", ".join(f"{name} {value.shape}" for name, value in activity.items())
        raise ValueError(f"activity must hold limits of one number of frames, (frames,) each; got {shapes or 'none'}")
    n_frames = activity[rows[0]].size
    figure, (axes,) = plain_axes(1.1 + 0.36 * len(rows))
    for row, name in enumerate(rows):
        edges = np.flatnonzero(np.diff(activity[name].astype(int), prepend=0, append=0)).reshape(-1, 2)
        runs = [(first + 0.5, last - first) for first, last in edges]
        axes.broken_barh(runs, (row - 0.35, 0.7), color=COLOURS[row % len(COLOURS)], linewidth=0)
        share = f"{100 * activity[name].mean():.1f} %"
        axes.annotate(share, (1.01, row), xycoords=("axes fraction", "data"), va="center", annotation_clip=False)
    axes.set(xlabel="Frame", xlim=(0.5, n_frames + 0.5), ylim=(len(rows) - 0.5, -0.5))
    axes.set_yticks(range(len(rows)), [_BOUNDS.get(name, name) for name in rows])
    axes.grid(visible=False, axis="y")
    at_any = np.any([activity[name] for name in rows], axis=0).mean()
    reached = [_BOUNDS.get(name, name) for name in ordered if not activity[name].ndim and activity[name]]
    title = f"{100 * at_any:.1f} % of {n_frames} frames at a limit"
    axes.set_title(title + (f"; at its limit: {', '.join(reached)}" if reached else ""), fontsize=10)
    return figure


def descent_figure(values, best) -> Figure:
    """The objective of every start against the number of updates, on a logarithmic scale; the best start is bold.

    Args:
      values: objective before each update, (updates, starts), positive; infinite values and NaN are not drawn.
      best: lowest objective of each start, (starts,), positive and finite.

    Raises:
      ValueError: shapes that do not fit, or values that have no logarithm.
    """
    values, best = np.asarray(values, float), np.asarray(best, float)
    if values.ndim != 2 or not values.size or best.shape != values.shape[1:]:
        raise ValueError(f"values must be (updates, starts) and best (starts,); got {values.shape}, {best.shape}")
    require("values", values, lambda x: ~(x <= 0), "positive")
    require_positive("best", best)
    values, chosen = np.where(np.isfinite(values), values, np.nan), int(np.argmin(best))
    figure, (axes,) = plain_axes(3.4)
    updates = np.arange(len(values))
    for start in np.argsort(np.arange(best.size) == chosen, stable=True):  # the chosen one is drawn last
        colour, width = (COLOURS[0], 2.2) if start == chosen else ("0.65", 0.9)
        mark = "o" if len(values) < 3 else None
        axes.plot(updates, values[:, start], color=colour, linewidth=width, marker=mark, label=f"start {start}")
    axes.axhline(best[chosen], color=COLOURS[0], linewidth=1, linestyle=":")
    axes.set(xlabel="Updates", ylabel="Objective", xlim=(0, max(len(values) - 1, 1)), yscale="log")
    axes.xaxis.get_major_locator().set_params(integer=True)
    plain_logarithm(axes.yaxis)
    many = f"start {chosen}, best of {best.size}" if best.size > 1 else "1 start"
    axes.set_title(f"{best[chosen]:.4g} from {values[0, chosen]:.4g} ({many})", fontsize=10)
    return figure
