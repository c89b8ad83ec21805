"""Figures of the precision of sequences: bounds, noisy voxels, other B1 and other tissues.

Standard deviations are relative, for noise as large as M0, as `design.bounds` returns them: at an M0 of 100 times the
noise, which the figures are labelled for, the same numbers are in per cent. The first of several sequences, in grey, is
the one that the others are compared with.
"""

import textwrap
from collections.abc import Mapping

import numpy as np
from cmcrameri import cm
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter
from scipy.stats import chi2

from ganmrf.pytrees import require, require_positive
from ganmrf.report.drawing import (
    COLOURS,
    LETTER,
    WIDTH,
    colour_bar,
    legend_above,
    percentile,
    plain_axes,
    plain_logarithm,
    times_axes,
)

QUANTITIES = ("T1", "T2")

_SEQUENCES = (("0.55", "-"), (COLOURS[0], "--"), (COLOURS[1], ":"), (COLOURS[2], "-."))  # colour and dashes of each
_BARS = 12  # bars that fit into half the width of a figure
_AXIS = 0.9  # inches, width of the numbers and the label of a y axis
_NUMBER = 0.3  # inches, width of three digits and a point
_RATIOS = (1.02, 1.05, 1.1, 1.2, 1.5, 2, 3, 5, 10)  # ticks of the colour bar, and the largest end of its range
_BAND = 0.1  # shaded, to either side of the bound


def precision_figure(precisions: Mapping[str, np.ndarray], names, *, quantities=QUANTITIES) -> Figure:
    """Standard deviations of T1 and T2 in each tissue as bars, one colour a sequence, and the gains below them.

    Args:
      precisions: name of a sequence -> relative standard deviations for noise as large as M0, positive, inf where
        the signals do not determine a parameter, (tissues, quantities); 1 to 4 sequences.
      names: of the tissues.
      quantities: names of the parameters, such as ``("T1", "T2", "f")``.

    Raises:
      ValueError: too many sequences or none, no tissue, shapes that do not fit, or a value that is not positive.
    """
    tables = _tables("precisions", precisions, (len(names), len(quantities)))
    first, *others = tables
    figure, panels, width = _tissue_panels(names, len(tables), len(quantities))
    width *= 0.84 / len(tables)
    upright = width < _NUMBER
    for i, (axes, label) in enumerate(zip(panels, quantities, strict=True)):
        finite = [table[:, i][np.isfinite(table[:, i])] for table in tables.values()]
        highest = max((column.max() for column in finite if column.size), default=1.0)
        for j, (name, table) in enumerate(tables.items()):
            places = np.arange(len(names)) + 0.84 * ((j + 0.5) / len(tables) - 0.5)
            heights = np.where(np.isfinite(table[:, i]), table[:, i], 0)
            axes.bar(places, heights, 0.8 / len(tables), color=_SEQUENCES[j][0], label=name)
            for x, height, value in zip(places, heights, table[:, i], strict=True):
                style = {"rotation": 90 if upright else 0, "ha": "center", "va": "bottom", "fontsize": 8}
                axes.annotate(f"{value:.3g}", (x, height), (0, 2), textcoords="offset points", **style)
        axes.set_ylim(0, (1.3 if upright else 1.12) * highest)
        axes.set_ylabel(f"Standard deviation of {label} (%)\nat an M0 of 100 times the noise", fontsize=9)
        axes.grid(visible=False, axis="x")
        with np.errstate(invalid="ignore"):  # NaN where neither determines it
            gains = [tables[first][:, i] / tables[name][:, i] for name in others]
        for tissue, tick in enumerate(ticks := [text.get_text() for text in axes.get_xticklabels()]):
            ticks[tissue] = "\n".join([tick, *(f"$\\div$ {gain[tissue]:.2f}" for gain in gains)])
        axes.set_xticklabels(ticks)
    if others:
        those = f"that with {others[0]}" if len(others) == 1 else "those with the others, in their order"
        figure.supxlabel(f"$\\div$: standard deviation with {first} over {those}", fontsize=9)
    legend_above(panels[0])
    return figure


def robustness_figure(b1, stds: Mapping[str, np.ndarray], *, names, quantities=QUANTITIES) -> Figure:
    """Standard deviation of T1 and of T2 against B1, one colour a tissue, one kind of line a sequence.

    Args:
      b1: actual over nominal flip angle, ascending, (b1,).
      stds: name of a sequence -> relative standard deviations of T1 and of T2 for noise as large as M0, positive, inf
        where nothing determines them, (quantities, tissues, b1); 1 to 4 sequences.
      names: of the tissues.
      quantities: names of the parameters, as of `precision_figure`.

    Raises:
      ValueError: B1 that does not rise from above 0, too many sequences or none, shapes that do not fit, or a standard
        deviation that is not positive.
    """
    b1 = np.asarray(b1, float)
    if b1.ndim != 1 or not b1.size or not np.isfinite(b1).all() or not (np.diff(b1, prepend=0.0) > 0).all():
        raise ValueError(f"b1 must rise from above 0, (b1,); got {np.array2string(b1, precision=3, threshold=8)}")
    tables = _tables("stds", stds, (len(quantities), len(names), b1.size))
    figure, panels = plain_axes(4.0, 1, len(quantities))
    colours = COLOURS if len(names) <= len(COLOURS) else cm.batlow(np.linspace(0, 0.9, len(names)))
    for i, (axes, quantity) in enumerate(zip(panels, quantities, strict=True)):
        for table, (_, dashes) in zip(tables.values(), _SEQUENCES, strict=False):
            for values, colour in zip(np.where(np.isfinite(table[i]), table[i], np.nan), colours, strict=False):
                axes.plot(b1, values, dashes, marker="o", markersize=3, color=colour, linewidth=1.6)
        axes.axvline(1, color="0.6", linewidth=0.8, zorder=0)
        axes.set(yscale="log", xlabel="B1 (actual / nominal flip angle)")
        axes.set_ylabel(f"Standard deviation of {quantity} (%)\nat an M0 of 100 times the noise", fontsize=9)
        plain_logarithm(axes.yaxis)
    for name, colour in zip(names, colours, strict=False):
        panels[0].plot([], [], color=colour, label=name)
    for name, (_, dashes) in zip(tables, _SEQUENCES, strict=False):
        panels[0].plot([], [], dashes, color="0.2", label=name)
    legend_above(panels[0])
    return figure


def tissue_ratio_figure(t1, t2, ratio_t1, ratio_t2, *, marked: Mapping[str, tuple[float, float]]) -> Figure:
    """Gains of precision of T1 and T2 over the plane of T1 and T2: blue is better, red is worse than before.

    Args:
      t1: s, (tissues,).
      t2: s, (tissues,).
      ratio_t1: standard deviation of T1 before over after, (tissues,); crosses stand where it is 0, infinite or NaN.
      ratio_t2: the same of T2.
      marked: name -> T1 and T2, s, of tissues that get a ring, such as those that were designed for.

    Raises:
      ValueError: shapes that differ, times that are not positive, or a negative ratio.
    """
    arrays = {"t1": t1, "t2": t2, "ratio_t1": ratio_t1, "ratio_t2": ratio_t2}
    arrays = {name: np.asarray(value, float) for name, value in arrays.items()}
    if {value.shape for value in arrays.values()} != {(arrays["t1"].size,)}:
        shapes = ", ".join(f"{name} {value.shape}" for name, value in arrays.items())
        raise ValueError(f"tissue_ratio_figure: all must be (tissues,); got {shapes}")
    t1, t2, *ratios = arrays.values()
    for name, time in (("t1", t1), ("t2", t2), *((f"marked[{name!r}]", time) for name, time in marked.items())):
        require_positive(name, time, "positive and finite (s)")
    for name, ratio in zip(("ratio_t1", "ratio_t2"), ratios, strict=True):
        require(name, ratio, lambda x: ~(x < 0), "0 or more")
    known = [np.isfinite(ratio) & (ratio > 0) for ratio in ratios]
    octaves = [np.log2(ratio[here]) for ratio, here in zip(ratios, known, strict=True)]
    # A few extreme ratios must not take the colour from the rest.
    span = np.clip(percentile(np.abs(np.concatenate(octaves)), 98), np.log2(1.1), np.log2(_RATIOS[-1]))
    figure, panels = plain_axes(4.3, 1, 2, sharex=True, sharey=True)
    style = {"cmap": cm.vik_r, "vmin": -span, "vmax": span, "linewidths": 0.3, "edgecolors": "0.6"}
    size = np.clip(1.2e4 / max(t1.size, 1), 6, 60)
    images = []
    for axes, quantity, ratio, here, values in zip(panels, QUANTITIES, ratios, known, octaves, strict=True):
        images.append(axes.scatter(1e3 * t1[here], 1e3 * t2[here], size, values, **style))
        axes.plot(1e3 * t1[~here], 1e3 * t2[~here], "x", color="0.3", markersize=5)
        times_axes(axes, marked)
        title = f"{quantity}: none"
        if values.size:
            title = f"{quantity}: better in {100 * np.mean(values > 0):.3g} %, median {np.median(ratio[here]):.3g}"
        lacking = np.count_nonzero(~here)
        axes.set_title(title + (f"\n{lacking} of {here.size} without" if lacking else ""), fontsize=10)
    steps = np.log2([ratio for ratio in _RATIOS if 0.15 * span <= np.log2(ratio) <= span * (1 + 1e-9)])
    ticks = FixedLocator([*-steps[::-1], 0, *steps])
    style = {"ticks": ticks, "format": FuncFormatter(lambda octave, _: f"{2**octave:.3g}"), "pad": 0.01, "aspect": 25}
    colour_bar(images, panels.tolist(), "Standard deviation before / after", **style)
    return figure


def monte_carlo_figure(
    predicted: Mapping[str, np.ndarray],
    measured: Mapping[str, np.ndarray],
    names,
    *,
    draws: int,
    quantities=QUANTITIES,
) -> Figure:
    """Measured spread of T1 and T2 over the predicted one, with the 95 % interval of its estimate.

    The interval is that of a standard deviation s of normal variates: (draws - 1) s^2 / sigma^2 is chi-squared.

    Args:
      predicted: name of a sequence -> standard deviations of T1 and T2, (tissues, quantities); 1 to 4 sequences.
      measured: the same, with divisor ``draws - 1``, in the same unit, of the same sequences.
      names: of the tissues.
      draws: number of noisy fits behind each measured value, 2 or more.
      quantities: names of the parameters, as of `precision_figure`.

    Raises:
      ValueError: different sequences, too many or none, shapes that do not fit, values that are not positive and
        finite, or fewer than 2 draws.
    """
    shape = (len(names), len(quantities))
    if list(predicted) != list(measured):
        raise ValueError(f"measured must be of the sequences {list(predicted)}, as predicted is; got {list(measured)}")
    if draws < 2:
        raise ValueError(f"draws must be 2 or more; got {draws}")
    predicted = _tables("predicted", predicted, shape, finite=True)
    measured = _tables("measured", measured, shape, finite=True)
    low, high = np.sqrt((draws - 1) / chi2.ppf([0.975, 0.025], draws - 1))
    figure, panels, _ = _tissue_panels(names, len(predicted), len(quantities))
    for i, (axes, quantity) in enumerate(zip(panels, quantities, strict=True)):
        axes.axhspan(1 - _BAND, 1 + _BAND, color="0.92", zorder=0, label=f"within {100 * _BAND:.0f} %")
        axes.axhline(1, color="0.4", linewidth=1)
        holding, farthest = 0, 2 * _BAND
        for j, (name, bound) in enumerate(predicted.items()):
            ratio = measured[name][:, i] / bound[:, i]
            places = np.arange(len(names)) + 0.6 * ((j + 0.5) / len(predicted) - 0.5)
            errors = ratio * np.array([[1 - low], [high - 1]])
            style = {"fmt": "o", "color": _SEQUENCES[j][0], "markersize": 5, "capsize": 3, "linewidth": 1.4}
            axes.errorbar(places, ratio, errors, label=name, **style)
            holding += np.count_nonzero((low * ratio <= 1) & (high * ratio >= 1))
            farthest = max(farthest, 1.1 * (high * ratio - 1).max(), 1.1 * (1 - low * ratio).max())
        axes.set_ylim(1 - farthest, 1 + farthest)
        axes.set_ylabel(f"Spread of {quantity}, measured / predicted")
        axes.set_title(f"{holding} of {len(predicted) * len(names)} intervals of 95 % hold 1", fontsize=10)
        axes.grid(visible=False, axis="x")
    legend_above(panels[0])
    return figure


def _tables(name, tables, shape, *, finite=False):
    """The arrays of 1 to 4 sequences, each of this shape and positive."""
    if not 1 <= len(tables) <= len(_SEQUENCES):
        raise ValueError(f"{name} must be of 1 to {len(_SEQUENCES)} sequences; got {len(tables)}")
    if 0 in shape:
        raise ValueError(f"{name} must hold one tissue at least; got none")
    tables = {sequence: np.asarray(values, float) for sequence, values in tables.items()}
    for sequence, values in tables.items():
        if values.shape != shape:
            raise ValueError(f"{name}[{sequence!r}] must have shape {shape}; got {values.shape}")
        if finite:
            require_positive(f"{name}[{sequence!r}]", values)
        else:
            require(f"{name}[{sequence!r}]", values, lambda x: x > 0, "positive")
    return tables


def _tissue_panels(names, n_sequences, n_quantities):
    """Panels with tissues along x, stacked where they would be narrow; and the width of a tissue, inches."""
    longest = LETTER * max(len(word) for name in names for word in f"{name}".split())
    side = WIDTH / n_quantities - _AXIS
    narrow = len(names) * n_sequences * n_quantities > 2 * _BARS or side / len(names) < longest
    rows, columns = (n_quantities, 1) if narrow else (1, n_quantities)
    figure, panels = plain_axes(0.9 + 2.7 * rows, rows, columns)
    width = (WIDTH / columns - _AXIS) / len(names)
    wrapped = [textwrap.fill(f"{name}", max(int(width / LETTER), 1)) for name in names]
    for axes in panels:
        axes.set_xticks(range(len(names)), wrapped, fontsize=9)
        axes.set_xlim(-0.6, len(names) - 0.4)
    return figure, panels, width
