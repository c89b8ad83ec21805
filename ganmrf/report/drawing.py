"""Parts that all figures share: width, colours, axes, maps with their colour bars, masks and legends.

Relaxation times are drawn in the colour maps recommended for them, lipari (T1) and navia (T2), on ranges that all
figures share, so that two maps can be compared by eye. Voxels outside the mask or without a value are black.

References:
  Fuderer et al. 2025, "Color-map recommendation for MR relaxometry maps", doi:10.1002/mrm.30290.
"""

import numpy as np
from cmcrameri import cm
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

RELAXATION = {"T1": (cm.lipari, 3.0), "T2": (cm.navia, 0.15)}  # with the top of the colour bar, s; CSF saturates

WIDTH = 9.6  # inches, of every figure
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe and Ito
LETTER = 0.085  # inches, a generous mean width at 9 points

_MARK = 0.6  # inches, width of a line or a bar in a legend


def stacked_axes(height, rows=1, **subplots):
    """A figure of this height in inches and of the report's width, with panels one above the other."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots(rows, 1, squeeze=False, **subplots).ravel()
    for one in axes:
        plain(one)
    return figure, axes


def plain(axes):
    """Removes the frame but for the two axes, and draws a faint grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)


def plain_logarithm(axis):
    """Ordinary numbers as ticks of a logarithmic axis that holds its data: the fewer decades, the more ticks."""
    low, high = axis.get_view_interval()
    decades = np.log10(high / low)
    subs = (1, 1.5, 2, 3, 5, 7) if decades < 1 else (1, 2, 5) if decades < 2.5 else (1,)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FormatStrFormatter("%g"))
    axis.set_minor_formatter(NullFormatter())


def legend_above(figure, handles, texts):
    """The legend above all panels, in as many columns as fit."""
    columns = int(WIDTH / (LETTER * max(map(len, texts)) + _MARK))
    figure.legend(handles, texts, loc="outside upper center", ncols=max(columns, 1), frameon=False, fontsize=9)


def relaxation(quantity):
    """Colour map and top of the colour bar, s, of "T1" or "T2"."""
    if quantity not in RELAXATION:
        raise ValueError(f"quantity must be one of {', '.join(RELAXATION)}; got {quantity!r}")
    return RELAXATION[quantity]


def draw_map(axes, title, label, values, colours, low, high):
    """One map with its colour bar."""
    image = draw_image(axes, title, values, colours, low, high)
    colour_bar([image], [axes], label, location="bottom", pad=0.03, shrink=0.88, aspect=22)


def draw_image(axes, title, values, colours, low, high):
    """One map, black where it has no value."""
    axes.set(title=title, facecolor="black", xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    return axes.imshow(np.ma.masked_invalid(values), cmap=colours, vmin=low, vmax=high, interpolation="nearest")


def colour_bar(images, axes, label, **place):
    """The colour bar that images share, beside these axes; its arrows show that values lie beyond its ends."""
    low, high = images[0].get_clim()
    values = [image.get_array() for image in images]
    beyond = (any((one < low).any() for one in values), any((one > high).any() for one in values))
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[beyond]
    bar = axes[0].figure.colorbar(images[0], ax=axes, extend=extend, **place)
    bar.set_label(label)
    bar.outline.set_visible(False)


def checked_mask(mask):
    """The mask as booleans (y, x), with one voxel at least."""
    mask = np.asarray(mask, bool)
    if mask.ndim != 2 or not mask.any():
        raise ValueError(f"mask must be (y, x) with one voxel at least; got {mask.shape}, {mask.sum()} voxels")
    return mask


def shown(name, values, mask):
    """The values inside the mask, NaN elsewhere, cropped to the mask."""
    values = np.asarray(values)
    if values.shape != mask.shape:
        raise ValueError(f"{name} has shape {values.shape}, but mask has {mask.shape}")
    return np.where(mask, values, np.nan)[bounding_box(mask)]


def bounding_box(mask):
    """Rows and columns that hold the mask, with a margin of two voxels."""
    found = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return tuple(slice(max(where[0] - 2, 0), where[-1] + 3) for where in found)


def percentile(values, percent):
    """Percentile of the finite values; 1 where there is none above 0."""
    values = values[np.isfinite(values)]
    return float(np.percentile(values, percent)) or 1.0 if values.size else 1.0
