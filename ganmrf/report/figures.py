"""Figures of fingerprints and maps: pure functions from arrays in SI units to figures in ms, us and degrees."""

from collections.abc import Mapping

import numpy as np
from cmcrameri import cm
from matplotlib.figure import Figure

from ganmrf.report.drawing import (
    COLOURS,
    FACTS,
    RELAXATION,
    TOPS,
    checked_mask,
    draw_map,
    draw_parameter,
    label_of,
    legend_above,
    look_of,
    map_panels,
    percentile,
    plain_axes,
    plain_logarithm,
    shown,
    undetermined_legend,
)

_LEAST_SHOWN = 0.02  # of the largest magnitude: the phase of less is noise of rounding, or of the pauses
_IN_A_ROW = 5  # maps: more are too small in one row
MAGNIFICATION = 10  # of difference maps, as the GAN-MRF paper shows them

# T1 and T2 (s) whose fingerprints Yang et al. 2020, arXiv:2004.02270, show in Fig. 5.
REFERENCE_TIMES = {"WM": (0.95, 0.04), "GM": (1.5, 0.06), "CSF": (2.95, 0.5)}


def fingerprint_figure(signals, names, *, overlay=None) -> Figure:
    """Simulated fingerprints against frame; generated ones as ``overlay``, dashed, and the difference below.

    Complex fingerprints have a panel of their magnitude, which relaxation times shape, and one of their phase, which
    shows off-resonance; it is left out where the magnitude is below a fiftieth of the largest.

    Args:
      signals: real or complex, (curves, frames), in any one unit.
      names: one for each curve, such as "WM 950/40 ms", (curves,).
      overlay: None, or likewise, (curves, frames), in the same unit.

    Raises:
      ValueError: shapes that do not fit.
    """
    signals = _curves("signals", signals)
    if len(names) != len(signals):
        raise ValueError(f"fingerprint_figure: {len(signals)} curves, but {len(names)} names")
    style, dashed = {"linewidth": 1.2}, {"linewidth": 1.2, "linestyle": (0, (4, 2))}
    if overlay is not None:
        style = {"linewidth": 3, "alpha": 0.4}
        overlay = _curves("overlay", overlay)
        if overlay.shape != signals.shape:
            raise ValueError(f"fingerprint_figure: overlay has shape {overlay.shape}, but signals has {signals.shape}")
    of_complex, compared = np.iscomplexobj(signals), overlay is not None
    rows = 1 + of_complex + compared
    figure, panels = plain_axes(2 + 1.6 * rows, rows, sharex=True, height_ratios=(2.2, 1, 1)[:rows])
    axes, frames = panels[0], np.arange(1, signals.shape[1] + 1)
    shown = np.abs if of_complex else np.asarray
    for i, (signal, name) in enumerate(zip(signals, names, strict=True)):
        colour = COLOURS[i % len(COLOURS)]
        axes.plot(frames, shown(signal), color=colour, label=name, **style)
        if of_complex:
            phase = np.where(np.abs(signal) > _LEAST_SHOWN * np.abs(signals).max(), np.angle(signal, deg=True), np.nan)
            panels[1].plot(frames, phase, ".", color=colour, markersize=2)
        if compared:
            axes.plot(frames, shown(overlay[i]), color=colour, **dashed)
            panels[-1].plot(frames, shown(overlay[i] - signal), color=colour, linewidth=0.9)
    axes.set(ylabel="Magnitude" if of_complex else "Signal", xlim=(0, signals.shape[1]))
    axes.axhline(0, color="0.6", linewidth=0.8)
    if of_complex:
        panels[1].set(ylabel="Phase (deg)", ylim=(-190, 190), yticks=(-180, -90, 0, 90, 180))
    if compared:
        axes.plot([], [], color="0.3", label="simulated", **style)
        axes.plot([], [], color="0.3", label="generated", **dashed)
        panels[-1].axhline(0, color="0.6", linewidth=0.8)
        panels[-1].set_ylabel("|Generated\n$-$ simulated|" if of_complex else "Generated\n$-$ simulated")
        panels[-1].ticklabel_format(axis="y", scilimits=(-2, 3), useMathText=True)
    panels[-1].set_xlabel("Frame")
    legend_above(axes)
    return figure


def map_figure(values: Mapping[str, np.ndarray], m0, *, mask, quality=None, undetermined=None) -> Figure:
    """Maps of parameters, of M0 and of match quality, cropped to the mask; row 0 is at the top.

    Args:
      values: field of tissue, such as ``t1`` -> its map, SI, (y, x). Colours of what has a sign, such as off-resonance,
        are even about 0, and reach what 99 % of the voxels need.
      m0: real or complex, any unit, (y, x); its magnitude is shown.
      mask: voxels to show, bool, (y, x).
      quality: None, or the inner product of signal and matched atom, both of unit norm, 0 to 1, (y, x).
      undetermined: None, or field -> voxels whose value the scan does not determine, bool, (y, x), which are grey.

    Raises:
      ValueError: shapes that differ, an empty mask, or a field that no tissue has.
    """
    mask, undetermined = checked_mask(mask), undetermined or {}
    m0 = np.abs(shown("m0", m0, mask))
    names = sorted(values, key=lambda name: name == "off_resonance")  # stable: after M0, as below
    n_panels = len(names) + 1 + (quality is not None)
    rows = 1 if n_panels <= _IN_A_ROW else 2
    grey = {name: shown(name, undetermined[name], mask) == 1 for name in names if name in undetermined}
    any_grey = any(each.any() for each in grey.values())
    besides = 0.95 * rows + 0.3 * any_grey
    figure, panels = map_panels(m0.shape, rows, -(-n_panels // rows), besides=besides)
    panels = iter(panels.flat)
    for name in names:
        if name == "off_resonance":
            _draw_m0(next(panels), m0)
        draw_parameter(next(panels), FACTS[name].name, shown(name, values[name], mask), grey.get(name))
    if "off_resonance" not in names:
        _draw_m0(next(panels), m0)
    if quality is not None:
        quality = shown("quality", quality, mask)
        low = min(np.floor(20 * percentile(quality, 1)) / 20, 0.95)
        draw_map(next(panels), "Match quality", "Inner product", quality, cm.davos, low, 1)
    if any_grey:
        undetermined_legend(figure)
    return figure


def _draw_m0(axes, m0):
    # One bright voxel must not darken the whole map.
    top = percentile(m0, 99.5)
    power = int(np.floor(np.log10(top)))
    power = 0 if -2 <= power <= 3 else power  # scanners have signals of 1e-5: such ticks would overlap
    unit = f"$10^{{{power}}}$ a.u." if power else "a.u."
    draw_map(axes, "|M0|", f"|M0| ({unit})", m0 / 10.0**power, "gray", 0, top / 10.0**power)


def comparison_figure(truth, estimate, *, mask, quantity: str, names=("truth", "estimate")) -> Figure:
    """Truth, estimate, their difference with ten times the contrast, and their relative difference.

    The colours of both maps reach the largest true value, CSF's; those of T2 go by the square root of the value, so
    that white and grey matter are told apart too. The relative difference has the colours that 99 % of its voxels need.

    Args:
      truth: SI, (y, x).
      estimate: SI, (y, x).
      mask: voxels to show, bool, (y, x).
      quantity: name of a parameter, such as "T1" or "f".
      names: of ``truth`` and ``estimate``, in the titles.

    Raises:
      ValueError: an unknown quantity, shapes that differ, or an empty mask.
    """
    parameter, colours = look_of(quantity)
    mask, per = checked_mask(mask), parameter.per_shown
    truth, estimate = shown("truth", truth, mask), shown("estimate", estimate, mask)
    figure, (panels,) = map_panels(truth.shape, 1, 4, besides=0.95)
    top = TOPS.get(quantity, percentile(truth, 100))
    largest, power = per * max(percentile(truth, 100), top), 0.5 if quantity == "T2" else 1
    for axes, name, values in zip(panels, names, (truth, estimate), strict=False):
        draw_map(axes, f"{quantity}, {name}", label_of(parameter), per * values, colours, 0, largest, power=power)
    span, title = per * top / MAGNIFICATION, f"Difference, contrast $\\times$ {MAGNIFICATION}"
    what = f"{names[1].capitalize()} $-$ {names[0]}"
    draw_map(panels[2], title, label_of(parameter, what), per * (estimate - truth), cm.vik, -span, span)
    relative = 100 * (estimate - truth) / np.where(truth == 0, np.nan, truth)
    span = percentile(np.abs(relative), 99)
    draw_map(panels[3], "Relative difference", f"{what} (%)", relative, cm.vik, -span, span)
    return figure


def off_resonance_figure(truth, estimate, *, mask, names=("truth", "estimate")) -> Figure:
    """Off-resonance: truth, estimate on the same colours, and their difference, whose colours 99 % of its voxels need.

    Args:
      truth: Hz, (y, x).
      estimate: Hz, (y, x).
      mask: voxels to show, bool, (y, x).
      names: of ``truth`` and ``estimate``, in the titles.

    Raises:
      ValueError: shapes that differ, or an empty mask.
    """
    mask = checked_mask(mask)
    truth, estimate = shown("truth", truth, mask), shown("estimate", estimate, mask)
    figure, (panels,) = map_panels(truth.shape, 1, 3, besides=0.95)
    span = percentile(np.abs(truth), 100)
    for axes, name, values in zip(panels, names, (truth, estimate), strict=False):
        draw_map(axes, f"Off-resonance, {name}", "Off-resonance (Hz)", values, cm.vik, -span, span)
    span = percentile(np.abs(estimate - truth), 99)
    draw_map(
        panels[2], "Difference", f"{names[1].capitalize()} $-$ {names[0]} (Hz)", estimate - truth, cm.vik, -span, span
    )
    return figure


def bias_figure(t1, t2, *, mask) -> Figure:
    """Bias of T1 and of T2 in every voxel, in standard deviations of the noise, on one scale that 99 % of them need.

    Args:
      t1: magnitude of the bias of T1 over its standard deviation, dimensionless, (y, x).
      t2: that of T2, (y, x).
      mask: voxels to show, bool, (y, x).

    Raises:
      ValueError: shapes that differ, or an empty mask.
    """
    mask = checked_mask(mask)
    maps = {name: shown(name, values, mask) for name, values in (("T1", t1), ("T2", t2))}
    figure, (panels,) = map_panels(maps["T1"].shape, 1, 2, besides=0.95)
    largest = max(percentile(values, 99) for values in maps.values())
    for axes, (name, values) in zip(panels, maps.items(), strict=False):
        draw_map(axes, name, f"|bias| of {name} / noise", values, cm.batlow, 0, largest)
    return figure


def agreement_figure(truth_t1, estimate_t1, truth_t2, estimate_t2, *, labels, names: Mapping[int, str]) -> Figure:
    """Estimate against truth for T1 and T2, coloured by tissue, with the identity line; relative errors below.

    Args:
      truth_t1: s, any shape.
      estimate_t1: s, the same shape; voxels where any map is not finite and positive are left out.
      truth_t2: s, the same shape.
      estimate_t2: s, the same shape.
      labels: tissue of each voxel, integers, the same shape; labels not in ``names`` are left out.
      names: name of each label, such as ``{1: "white matter"}``.

    Raises:
      ValueError: shapes that differ, or no voxel to show.
    """
    labels = np.asarray(labels)
    maps = [np.asarray(value, np.float64) for value in (truth_t1, estimate_t1, truth_t2, estimate_t2)]
    if any(value.shape != labels.shape for value in maps):
        shapes = ", ".join(str(value.shape) for value in maps)
        raise ValueError(f"agreement_figure: maps of shapes {shapes} do not fit labels of shape {labels.shape}")
    usable = np.isin(labels, list(names)) & np.all([np.isfinite(value) & (value > 0) for value in maps], axis=0)
    if not usable.any():
        raise ValueError(f"agreement_figure: no voxel with a label of {list(names)} has finite positive T1 and T2")
    figure, panels = plain_axes(7.2, 2, 2, sharex="col", height_ratios=(2, 1))
    for i, quantity in enumerate(RELAXATION):
        truth, estimate = (1e3 * value[usable] for value in maps[2 * i : 2 * i + 2])
        _agreement(*panels[i::2], quantity, truth, estimate, labels[usable], names)
    legend_above(panels[0])
    return figure


def profile_figure(nodes, weights) -> Figure:
    """Quadrature over a slice profile: weight against actual over nominal flip angle, as stems.

    Args:
      nodes: actual over nominal flip angle, dimensionless, (nodes,).
      weights: share of the slice at each node, dimensionless, (nodes,).

    Raises:
      ValueError: shapes that differ.
    """
    nodes, weights = np.asarray(nodes), np.asarray(weights)
    if nodes.shape != weights.shape or nodes.ndim != 1:
        raise ValueError(f"profile_figure: nodes and weights must both be (nodes,); got {nodes.shape}, {weights.shape}")
    figure, (axes,) = plain_axes(3.2)
    axes.axvline(1, color="0.6", linewidth=1, linestyle="--")
    axes.annotate("nominal", (1, 1), (4, -4), xycoords=("data", "axes fraction"), textcoords="offset points", va="top")
    axes.vlines(nodes, 0, weights, color=COLOURS[0], linewidth=1.5)
    axes.plot(nodes, weights, "o", color=COLOURS[0], markersize=5)
    axes.set(xlabel="Actual / nominal flip angle", ylabel="Share of the slice")
    axes.set(xlim=(min(0, nodes.min()), None), ylim=(min(0, weights.min()), None))
    axes.set_title(f"{nodes.size} nodes, mean flip angle {weights @ nodes / weights.sum():.3f} of nominal")
    return figure


def _agreement(above, below, quantity, truth, estimate, labels, names):
    """One column of `agreement_figure`; truth and estimate in ms, (voxels,)."""
    error = 100 * (estimate / truth - 1)
    low, high = min(truth.min(), estimate.min()) / 1.15, max(truth.max(), estimate.max()) * 1.15
    above.plot([low, high], [low, high], color="0.5", linewidth=1, zorder=1)
    below.axhline(0, color="0.5", linewidth=1, zorder=1)
    for i, (label, name) in enumerate(names.items()):
        here, colour = labels == label, COLOURS[i % len(COLOURS)]
        dots = {"s": 6, "alpha": 0.3, "color": colour, "linewidths": 0}
        above.scatter(truth[here], estimate[here], **dots)
        below.scatter(truth[here], error[here], **dots)
        above.plot([], [], "o", color=colour, label=name)
    above.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high))
    above.set(title=quantity, ylabel=f"Estimated {quantity} (ms)")
    for axis in (above.xaxis, above.yaxis):
        plain_logarithm(axis)
    # A few outliers must not flatten the rest: the figure counts them instead.
    span = 1.3 * max(percentile(np.abs(error), 99), 0.1)
    below.set(ylim=(-span, span), xlabel=f"True {quantity} (ms)", ylabel="Relative error (%)")
    if beyond := np.count_nonzero(np.abs(error) > span):
        note = f"{beyond} of {error.size} voxels beyond"
        below.annotate(note, (1, 1), xycoords="axes fraction", ha="right", va="bottom", color="0.35", fontsize=8)


def _curves(name, values):
    values = np.asarray(values)
    if values.ndim != 2:
        raise ValueError(f"{name} must be (curves, frames); got {values.dtype} {values.shape}")
    return values


def scaling_figure(curves: Mapping[str, Mapping[str, Mapping[str, list]]]) -> Figure:
    """Time against size on logarithmic axes, a panel for each quantity that was varied; dotted: proportional time.

    Args:
      curves: what was varied, such as ``atoms`` -> name of a curve -> ``{"size": [...], "seconds": [...]}``, ascending.
    """
    figure, panels = plain_axes(3.6, 1, len(curves), sharey=True)
    for axes, (varied, lines) in zip(panels, curves.items(), strict=True):
        for (name, line), colour in zip(lines.items(), COLOURS, strict=False):
            axes.plot(line["size"], line["seconds"], "o-", color=colour, linewidth=1.6, markersize=4, label=name)
        size, seconds = (np.asarray(next(iter(lines.values()))[part], float) for part in ("size", "seconds"))
        axes.plot(size, seconds[-1] * size / size[-1], ":", color="0.5", linewidth=1, label="proportional")
        axes.set(xscale="log", yscale="log", xlabel=varied)
        axes.legend(frameon=False, fontsize="small")
    panels[0].set_ylabel("Time (s)")
    return figure
