"""Figures of distributions of fingerprints at one tissue."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from ganmrf.report.drawing import COLOURS, legend_above, plain_axes

_QUANTILES = (0.05, 0.95)
_BINS = 50
_REFERENCE = "0.72"  # grey, of the simulated distribution


def distribution_figure(simulated, generated: Mapping[str, np.ndarray]) -> Figure:
    """Each generated distribution over the simulated one: bands against frame, and density along one direction.

    Left: the 5 to 95 % band and the mean, less the simulated mean, in per cent of the root mean square of the simulated
    mean over the frames. Right: the density of projections on the direction in which simulated fingerprints vary most,
    in per cent of the norm of the simulated mean.

    Args:
      simulated: fingerprints at one tissue, (samples, frames).
      generated: name -> fingerprints at that tissue, (samples, frames).
    """
    simulated = np.asarray(simulated, float)
    centre = simulated.mean(axis=0)
    norm = np.linalg.norm(centre)
    direction = np.linalg.svd(simulated - centre[None], full_matrices=False)[2][0]
    direction *= np.sign(direction @ centre) or 1
    true_band, true_position = _band(simulated, centre), 100 * (simulated - centre[None]) @ direction / norm
    span = 1.4 * np.abs(true_position).max()
    edges = np.linspace(-span, span, _BINS + 1)
    frames = np.arange(1, centre.size + 1)
    form = {"sharex": "col", "sharey": "col", "width_ratios": (2, 1)}
    figure, panels = plain_axes(0.9 + 1.15 * len(generated), len(generated), 2, **form)
    for i, (name, samples) in enumerate(generated.items()):
        (bands, density), colour = panels[2 * i : 2 * i + 2], COLOURS[i % len(COLOURS)]
        samples = np.asarray(samples, float)
        low, mean, high = _band(samples, centre)
        bands.fill_between(frames, true_band[0], true_band[2], color=_REFERENCE, linewidth=0, label="simulated, 5-95 %")
        bands.plot(frames, np.stack([low, high], axis=1), color=colour, linewidth=1)
        bands.plot(frames, mean, color=colour, linewidth=1, linestyle=(0, (4, 2)))
        bands.set_title(name, loc="left", fontsize=10, color=colour, pad=3)
        density.hist(true_position, edges, density=True, color=_REFERENCE)
        position = 100 * (samples - centre[None]) @ direction / norm
        density.hist(position, edges, density=True, histtype="step", color=colour, linewidth=1.3)
        density.set_yticks([])
    # A distribution that has collapsed to a point must not flatten the others.
    highest = 2 * np.histogram(true_position, edges, density=True)[0].max()
    density.set(xlabel="Along the direction of most variation (%)", ylim=(0, highest))
    widest = 1.5 * np.abs(true_band).max()
    bands.set(xlabel="Frame", xlim=(0, centre.size), ylim=(-widest, widest))
    figure.supylabel("Less the simulated mean (%)", fontsize=10)
    bands.plot([], [], color="0.3", linewidth=1, label="generated, 5 and 95 %")
    bands.plot([], [], color="0.3", linewidth=1, linestyle=(0, (4, 2)), label="generated, mean")
    legend_above(bands)
    return figure


def residual_figure(ratio, freedom: int) -> Figure:
    """Distribution of residuals over the noise, and the one that noise alone has.

    Args:
      ratio: root mean square of each voxel's residual over that of the noise, dimensionless, (voxels,).
      freedom: numbers of a voxel less the unknowns that were fitted.

    Raises:
      ValueError: no voxel, or another number of axes.
    """
    ratio = np.asarray(ratio, float)
    if ratio.ndim != 1 or not ratio.size:
        raise ValueError(f"ratio must be (voxels,), one at least; got {ratio.shape}")
    # Few voxels far beyond must not squeeze the others together; they are counted in the last bin.
    last = max(2.0, 1.1 * float(np.quantile(ratio, 0.98)))
    edges = np.linspace(0, last, _BINS + 1)
    figure, (axes,) = plain_axes(3.0)
    axes.hist(np.minimum(ratio, last), edges, density=True, color=COLOURS[0], alpha=0.5, label="this scan")
    fine = np.linspace(0, last, 400)
    noise = 2 * freedom * fine * stats.chi2.pdf(freedom * fine**2, freedom)
    axes.plot(fine, noise, color="0.25", linewidth=1.4, label="noise alone")
    axes.axvline(np.median(ratio), color=COLOURS[0], linewidth=1.4, linestyle=(0, (4, 2)), label="median")
    axes.set(xlabel="Residual of a voxel / noise", ylabel="Density", xlim=(0, last), yticks=[])
    legend_above(axes)
    return figure


def _band(samples, centre):
    """Lower quantile, mean and upper quantile of every frame, less ``centre``, in per cent of its RMS, (3, frames)."""
    low, high = np.quantile(samples, _QUANTILES, axis=0)
    return 100 * (np.stack([low, samples.mean(axis=0), high]) - centre[None]) / np.sqrt(np.mean(centre**2))
