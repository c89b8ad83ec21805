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
    LETTER,
    checked_mask,
    colour_bar,
    draw_image,
    draw_map,
    map_panels,
    panel_width,
    percentile,
    plain_axes,
    plain_logarithm,
    relaxation,
    shown,
)

_READOUTS = 48  # frames shown: a whole turn of the paper's spirals
_COILS, _COILS_A_ROW = 24, 8  # coils shown: three rows of them are legible
_COEFFICIENTS = 8  # coefficients shown: later ones hold little but noise
_METHODS = 6  # maps that fit beside the truth
_ERROR_LIMIT = 20  # %, at both ends of the colour bar of errors
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


def uncertainty_figure(t1, t1_std, t2, t2_std, *, mask, off_resonance_std=None) -> Figure:
    """Relative standard deviation of T1 and T2, up to its 95 % quantile or 100 %; black where there is none.

    That of B0, where it is given, is in Hz, up to its 95 % quantile.

    Args:
      t1: s, (y, x).
      t1_std: standard deviation of ``t1``, s, (y, x); infinite or NaN where it is not known.
      t2: s, (y, x).
      t2_std: standard deviation of ``t2``, s, (y, x).
      mask: voxels to show, bool, (y, x).
      off_resonance_std: standard deviation of off-resonance, Hz, (y, x), likewise; None without.

    Raises:
      ValueError: shapes that differ, a negative standard deviation in the mask, or an empty mask.
    """
    mask = checked_mask(mask)
    columns = 2 + (off_resonance_std is not None)
    figure, (panels,) = map_panels(shown("t1", t1, mask).shape, 1, columns, besides=0.95)
    if off_resonance_std is not None:
        std = shown("off_resonance_std", off_resonance_std, mask)
        require("off_resonance_std", std, lambda x: ~(x < 0), "0 or more")
        std = np.where(np.isfinite(std), std, np.nan)
        words = f"median {np.nanmedian(std):.3g} Hz" if np.isfinite(std).any() else "none"
        label = "Standard deviation of B0 (Hz)"
        draw_map(panels[2], f"B0, {words}", label, std, cm.imola, 0, percentile(std, 95))
    for axes, quantity, value, std in zip(panels, ("T1", "T2"), (t1, t2), (t1_std, t2_std), strict=False):
        name = quantity.lower()
        value, std = shown(name, value, mask), shown(f"{name}_std", std, mask)
        require(f"{name}_std", std, lambda x: ~(x < 0), "0 or more")
        known = np.isfinite(value) & np.isfinite(std) & (value > 0)
        percent = np.divide(100 * std, value, out=np.full(value.shape, np.nan), where=known)
        lacking = mask.sum() - known.sum()
        middle = np.median(percent[known]) if known.any() else np.nan
        words = f"median {middle:.3g} %" if middle <= _UNKNOWN else f"median over {_UNKNOWN} %"
        title = f"{quantity}, {words if known.any() else 'none'}"
        title += f"\n{lacking} of {mask.sum()} voxels without" if lacking else ""
        label = f"Standard deviation of {quantity} (%)"
        draw_map(axes, title, label, percent, cm.imola, 0, min(percentile(percent, 95), _UNKNOWN))
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
      maps: name of a reconstruction -> its map, s, (y, x); 1 to 6 of them, NaN where there is no match.
      truth: s, (y, x); NaN where it is unknown.
      mask: voxels to show, bool, (y, x); errors are of those with a truth and a match.
      quantity: "T1" or "T2".

    Raises:
      ValueError: an unknown quantity, no map or too many, shapes that differ, an empty mask, or no known truth in it.
    """
    colours, limit = relaxation(quantity)
    if not 1 <= len(maps) <= _METHODS:
        raise ValueError(f"maps must be 1 to {_METHODS}; got {len(maps)}")
    mask = checked_mask(mask)
    truth = shown("truth", truth, mask)
    known = np.isfinite(truth) & (truth > 0)
    if not known.any():
        raise ValueError("truth must be finite and positive in one voxel of the mask at least; got none")
    letters = int(panel_width(2, 1 + len(maps), _BAR) / LETTER)
    names = [textwrap.fill(f"{name}", letters) for name in ("truth", *maps)]
    lines = max(name.count("\n") for name in names) + 2
    figure, (above, below) = map_panels(truth.shape, 2, 1 + len(maps), besides=0.4 + 0.16 * lines, aside=_BAR)
    values = [truth, *(shown(f"maps[{name!r}]", one, mask) for name, one in maps.items())]
    images = [
        draw_image(axes, name, 1e3 * one, colours, 0, 1e3 * limit)
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
    colour_bar(images, above.tolist(), f"{quantity} (ms)", pad=0.01, aspect=15)
    colour_bar(errors, below.tolist(), "Relative error (%)", pad=0.01, aspect=15)
    return figure
