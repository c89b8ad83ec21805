"""Figures of a reconstruction from k-space: trajectory, coils, coefficients, residuals, and errors of the maps."""

import textwrap
from collections.abc import Mapping

import numpy as np
from cmcrameri import cm
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from ganmrf.metrics import rrmse
from ganmrf.pytrees import require, require_positive
from ganmrf.report.drawing import (
    COLOURS,
    FACTS,
    LETTER,
    TOPS,
    checked_mask,
    colour_bar,
    draw_image,
    draw_map,
    from_zero,
    label_of,
    look_of,
    map_panels,
    panel_width,
    percentile,
    plain_axes,
    plain_logarithm,
    shown,
)

_READOUTS = 48  # frames shown: a whole turn of the paper's spirals
_COILS, _COILS_A_ROW = 24, 8  # coils shown: three rows of them are legible
_COEFFICIENTS = 8  # coefficients shown: later ones hold little but noise
_METHODS = 6  # maps that fit beside the truth
_ERROR_LIMIT = 20  # %, at both ends of the colour bar of errors
_PARAMETERS_A_ROW = 4
_UNKNOWN = 100  # %, of a standard deviation: a value that uncertain is not known, and larger ones say no more
_BAR = 0.8  # inches, width of a colour bar at the side


def trajectory_figure(trajectory) -> Figure:
    """Trajectory of the first frame and of the next frames behind it, and the first frame's distance from 0.

    Args:
      trajectory: kx and ky, cycles/m, (frames, samples, 2).

    Raises:
      ValueError: complex values, another shape, or no sample.
    """
    k = np.asarray(trajectory)
    if k.ndim != 3 or k.shape[-1] != 2 or 0 in k.shape or np.iscomplexobj(k):
        raise ValueError(f"trajectory must be real, (frames, samples, 2), none of them 0; got {k.dtype} {k.shape}")
    n_frames, n_samples, _ = k.shape
    figure, (left, right) = plain_axes(4.7, 1, 2)
    first, *others = k[:_READOUTS].astype(float)
    left.add_collection(LineCollection(others, colors="0.6", linewidths=0.5, alpha=0.5))
    left.plot(*first.T, color=COLOURS[0], linewidth=1.8)
    left.set(aspect="equal", xlabel="$k_x$ (1/m)", ylabel="$k_y$ (1/m)")
    many = f"first {1 + len(others)} of {n_frames} frames" if n_frames > 1 else "1 frame"
    left.set_title(f"K-space, {many}", fontsize=10)
    radius = np.linalg.norm(first, axis=1)
    right.plot(np.arange(1, n_samples + 1), radius, color=COLOURS[0], linewidth=1.4)
    right.set(xlabel="Sample", ylabel="|k| (1/m)", ylim=(0, None))
    right.set_title(f"First frame: {n_samples} samples, |k| up to {radius.max():.3g} 1/m", fontsize=10)
    return figure


def sensitivities_figure(sensitivities) -> Figure:
    """Magnitude of each coil, and its phase below it.

    Args:
      sensitivities: complex, any unit, (coils, y, x); the first 24 are shown.

    Raises:
      ValueError: another number of axes, or no coil.
    """
    sensitivities = np.asarray(sensitivities)
    if sensitivities.ndim != 3 or 0 in sensitivities.shape:
        raise ValueError(f"sensitivities must be (coils, y, x), one coil at least; got {sensitivities.shape}")
    n_coils, few = len(sensitivities), sensitivities[:_COILS]
    columns = min(len(few), _COILS_A_ROW)
    rows = -(-len(few) // columns)
    figure, panels = map_panels(few.shape[1:], 2 * rows, columns, besides=0.3 + 0.25 * rows, aside=_BAR)
    magnitude = np.abs(few)
    # The strong field at a loop, outside the body, must not darken the rest.
    top = percentile(magnitude[magnitude > 0], 97)
    magnitudes, phases = [], []
    for coil, one in enumerate(few):
        row, column = 2 * (coil // columns), coil % columns
        magnitudes.append(draw_image(panels[row, column], f"Coil {coil + 1}", magnitude[coil], "gray", 0, top))
        phase = np.where(one == 0, np.nan, np.rad2deg(np.angle(one)))
        phases.append(draw_image(panels[row + 1, column], "", phase, cm.romaO, -180, 180))
    colour_bar(magnitudes, panels[0].tolist(), "|S| (a.u.)", pad=0.01, aspect=15)
    colour_bar(phases, panels[1].tolist(), "Phase (deg)", pad=0.01, aspect=15, ticks=(-180, -90, 0, 90, 180))
    if n_coils > len(few):
        figure.suptitle(f"{len(few)} coils of {n_coils}; {n_coils - len(few)} more not shown", fontsize=10)
    return figure


def coefficients_figure(coefficients, *, mask) -> Figure:
    """Magnitude of each coefficient image, on a scale of its own, with its share of the energy of all coefficients.

    Args:
      coefficients: in a temporal basis, complex, any unit, (rank, y, x); the first 8 are shown.
      mask: voxels that are shown, and that energy and scale are taken over, bool, (y, x).

    Raises:
      ValueError: another number of axes, no coefficient, shapes that differ, or an empty mask.
    """
    coefficients, mask = np.abs(coefficients), checked_mask(mask)
    if coefficients.ndim != 3 or not len(coefficients):
        raise ValueError(f"coefficients must be (rank, y, x), one at least; got {coefficients.shape}")
    values = [shown("each of coefficients", one, mask) for one in coefficients]
    energies = np.nansum(np.square(values, dtype=np.float64), axis=(1, 2))
    shares = 100 * energies / (energies.sum() or 1)
    few = values[:_COEFFICIENTS]
    rows = 1 if len(few) <= 4 else 2
    figure, panels = map_panels(few[0].shape, rows, -(-len(few) // rows), besides=0.75 + 0.3 * rows)
    images = []
    for i, (axes, one) in enumerate(zip(panels.flat, few, strict=False)):
        title = f"{i + 1}: {shares[i]:.3g} % of the energy"
        images.append(draw_image(axes, title, one / percentile(one, 99.5), "gray", 0, 1))
    label = "Magnitude / its 99.5 % quantile"
    colour_bar(images, panels.ravel().tolist(), label, location="bottom", pad=0.03, shrink=0.5, aspect=30)
    if len(values) > len(few):
        figure.suptitle(f"{len(few)} coefficients of {len(values)}", fontsize=10)
    return figure


def uncertainty_figure(values: Mapping[str, np.ndarray], stds: Mapping[str, np.ndarray], *, mask) -> Figure:
    """Standard deviation of each parameter, up to its 95 % quantile; black where there is none.

    Those of times, rates and other parameters that are never 0 are relative, shown up to 100 %; those of fractions and
    frequencies are absolute.

    Args:
      values: field of tissue, such as ``t1`` -> its map, SI, (y, x).
      stds: the same fields -> their standard deviations, SI, (y, x); infinite or NaN where not known.
      mask: voxels to show, bool, (y, x).

    Raises:
      ValueError: shapes that differ, a negative standard deviation in the mask, or an empty mask.
    """
    mask = checked_mask(mask)
    columns = len(stds)
    rows = 1 if columns <= _PARAMETERS_A_ROW else 2
    figure, panels = map_panels(shown("mask", mask, mask).shape, rows, -(-columns // rows), besides=1.15 * rows)
    for axes, (name, std) in zip(panels.flat, stds.items(), strict=False):
        parameter, value = FACTS[name], shown(name, values[name], mask)
        std = shown(f"{name}_std", std, mask)
        require(f"{name}_std", std, lambda x: ~(x < 0), "0 or more")
        quantity, known = parameter.name, np.isfinite(value) & np.isfinite(std)
        if relative := not from_zero(parameter):
            known &= value > 0
            drawn = np.divide(100 * std, value, out=np.full(value.shape, np.nan), where=known)
        else:
            drawn = np.where(known, parameter.per_shown * std, np.nan)
        lacking = mask.sum() - known.sum()
        middle = np.median(drawn[known]) if known.any() else np.nan
        unit = "%" if relative else parameter.shown
        words = f"median {middle:.3g} {unit}".strip()
        words = f"median over {_UNKNOWN} %" if relative and middle > _UNKNOWN else words
        title = f"{quantity}, {words if known.any() else 'none'}"
        title += f"\n{lacking} of {mask.sum()} voxels without" if lacking and relative else ""
        label = f"Standard deviation of {quantity}" + (f" ({unit})" if unit else "")
        high = percentile(drawn, 95)
        draw_map(axes, title, label, drawn, cm.imola, 0, min(high, _UNKNOWN) if relative else high)
    return figure


def convergence_figure(residuals) -> Figure:
    """Norm of the residual after each iteration, on a logarithmic scale.

    Args:
      residuals: relative to the first one, dimensionless, (iterations,).

    Raises:
      ValueError: no residual, another number of axes, or a residual that is not positive and finite.
    """
    residuals = np.asarray(residuals, float)
    if residuals.ndim != 1 or not residuals.size:
        raise ValueError(f"residuals must be (iterations,), one at least; got {residuals.shape}")
    require_positive("residuals", residuals)
    figure, (axes,) = plain_axes(3.2)
    axes.plot(np.arange(1, residuals.size + 1), residuals, "o-", color=COLOURS[0], markersize=4)
    axes.set(yscale="log", xlabel="Iteration", ylabel="Relative residual", xlim=(0, residuals.size + 1))
    axes.xaxis.get_major_locator().set_params(integer=True)
    plain_logarithm(axes.yaxis)
    axes.set_title(f"{residuals[-1]:.2g} after iteration {residuals.size}", fontsize=10)
    return figure


def reconstructions_figure(maps: Mapping[str, np.ndarray], truth, *, mask, quantity: str = "T1") -> Figure:
    """The true map and the map of each reconstruction; below each map its relative error, with the RRMSE.

    Args:
      maps: name of a reconstruction -> its map, SI, (y, x); 1 to 6 of them, NaN where there is no match.
      truth: SI, (y, x); NaN where it is unknown.
      mask: voxels to show, bool, (y, x); errors are of those with a truth and a match.
      quantity: name of a parameter, such as "T1" or "f".

    Raises:
      ValueError: an unknown quantity, no map or too many, shapes that differ, an empty mask, or no known truth in it.
    """
    parameter, colours = look_of(quantity)
    if not 1 <= len(maps) <= _METHODS:
        raise ValueError(f"maps must be 1 to {_METHODS}; got {len(maps)}")
    mask = checked_mask(mask)
    truth = shown("truth", truth, mask)
    known = np.isfinite(truth) & (truth > 0)
    if not known.any():
        raise ValueError("truth must be finite and positive in one voxel of the mask at least; got none")
    per, limit = parameter.per_shown, TOPS.get(quantity, percentile(truth, 100))
    letters = int(panel_width(2, 1 + len(maps), _BAR) / LETTER)
    names = [textwrap.fill(f"{name}", letters) for name in ("truth", *maps)]
    lines = max(name.count("\n") for name in names) + 2
    figure, (above, below) = map_panels(truth.shape, 2, 1 + len(maps), besides=0.4 + 0.16 * lines, aside=_BAR)
    values = [truth, *(shown(f"maps[{name!r}]", one, mask) for name, one in maps.items())]
    images = [
        draw_image(axes, name, per * one, colours, 0, per * limit)
        for axes, name, one in zip(above, names, values, strict=True)
    ]
    errors = []
    for axes, one in zip(below[1:], values[1:], strict=True):
        compared = known & np.isfinite(one)
        percent = 100 * (np.divide(one, truth, out=np.full(truth.shape, np.nan), where=compared) - 1)
        title = f"RRMSE {100 * rrmse(one[compared], truth[compared]):.2f} %" if compared.any() else "no match"
        lacking = known.sum() - compared.sum()
        title += f"\n{lacking} unmatched" if lacking else ""
        errors.append(draw_image(axes, title, percent, cm.vik, -_ERROR_LIMIT, _ERROR_LIMIT))
    below[0].set_axis_off()
    below[0].set_visible(True)
    note = f"{known.sum()} voxels\nwith a known\ntruth"
    below[0].text(0.5, 0.5, note, ha="center", va="center", fontsize=9, transform=below[0].transAxes)
    colour_bar(images, above.tolist(), label_of(parameter), pad=0.01, aspect=15)
    colour_bar(errors, below.tolist(), "Relative error (%)", pad=0.01, aspect=15)
    return figure
