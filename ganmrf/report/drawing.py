"""Parts that all figures share: width, colours, axes, maps with their colour bars, masks and legends.

Relaxation times are drawn in the colour maps recommended for them, lipari (T1) and navia (T2), fractions and rates in
another perceptual one, batlow, and what has a sign in vik. T1, T2 and the fraction have ranges that all figures of maps
share, so that two maps can be compared by eye. Voxels outside the mask or without a value are black, and those whose
value the scan does not determine grey.

References:
  Fuderer et al. 2025, "Color-map recommendation for MR relaxometry maps", doi:10.1002/mrm.30290.
"""

import numpy as np
from cmcrameri import cm
from matplotlib.colors import ListedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullFormatter

from ganmrf.physics.tissue import FACTS, Parameter

TOPS = {"T1": 3.0, "T2": 0.15, "f": 0.3}  # of colour bars, SI: CSF saturates; white matter has f of 0.2
RELAXATION = "T1", "T2"
UNDETERMINED = "not determined by this sequence"

WIDTH = 9.6  # inches, of every figure
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe and Ito
LETTER = 0.085  # inches, a generous mean width at 9 points

_MARK = 0.6  # inches, width of a line or a bar in a legend
_WIDEST = 3.2  # inches, largest width of a map
_LOWEST = 1.2  # inches, smallest height of a map: the label of a colour bar at its side needs it
_TICKS = 3  # intervals at most: more numbers such as 0.0005 would overlap below a map
_GREY = "0.6"  # of what is not determined: no colour of lipari, navia, batlow or vik


def plain_axes(height, rows=1, columns=1, **subplots):
    """A figure of this height, inches, and of the report's width; and its panels, row by row, with a faint grid."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, **subplots).ravel()
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="0.9", linewidth=0.8)
        axes.set_axisbelow(True)
    return figure, panels


def map_panels(shape, rows, columns, *, besides, aside=0.0):
    """A figure with equal panels for maps of this shape, (rows, columns), in its middle where panels are few.

    ``besides`` is the height of titles and colour bars, ``aside`` the width of colour bars, inches. A panel is hidden
    until a map is drawn.
    """
    width = panel_width(rows, columns, aside)
    height = max(width * np.clip(shape[0] / shape[1], 0.3, 2), _LOWEST)
    figure = Figure(figsize=(WIDTH, rows * height + besides), layout="constrained")
    share = (columns * width + aside) / WIDTH
    figure.get_layout_engine().set(wspace=0.03, hspace=0.03, h_pad=0.06, rect=((1 - share) / 2, 0, share, 1))
    return figure, figure.subplots(rows, columns, squeeze=False, subplot_kw={"visible": False})


def panel_width(rows, columns, aside):
    """Width of each of `map_panels`, inches."""
    return min((WIDTH - aside) / columns, _WIDEST / np.sqrt(rows))


def plain_logarithm(axis):
    """Ordinary numbers as ticks of a logarithmic axis that holds its data: the fewer decades, the more ticks."""
    low, high = axis.get_view_interval()
    decades = np.log10(high / low)
    subs = (1, 1.5, 2, 3, 5, 7) if decades < 1 else (1, 2, 5) if decades < 2.5 else (1,)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FormatStrFormatter("%g"))
    axis.set_minor_formatter(NullFormatter())


def times_axes(axes, marked=None):
    """Logarithmic axes of T1 and T2 in ms around data, with rings around the ``marked`` tissues, name -> times in s."""
    for name, times in (marked or {}).items():
        x, y = 1e3 * np.asarray(times, float)
        axes.plot(x, y, "o", markerfacecolor="none", markeredgecolor="black", markersize=10, markeredgewidth=1.4)
        box = {"boxstyle": "round,pad=0.1", "facecolor": "white", "alpha": 0.75, "linewidth": 0}
        axes.annotate(name, (x, y), (-6, 8), textcoords="offset points", ha="right", fontsize=9, bbox=box)
    axes.set(xscale="log", yscale="log", xlabel="T1 (ms)", ylabel="T2 (ms)")
    axes.label_outer()
    for axis in (axes.xaxis, axes.yaxis):
        plain_logarithm(axis)


def legend_above(*panels):
    """The legend of these axes, each name once, above all panels, in as many columns as fit."""
    named = [dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True)) for axes in panels]
    handles = {text: handle for each in reversed(named) for text, handle in each.items()}
    texts = list(dict.fromkeys(text for each in named for text in each))
    columns = int(WIDTH / (LETTER * max(map(len, texts)) + _MARK))
    shown = {"ncols": max(columns, 1), "frameon": False, "fontsize": 9}
    panels[0].figure.legend([handles[text] for text in texts], texts, loc="outside upper center", **shown)


def look_of(name: str) -> tuple[Parameter, object]:
    """What is true of a parameter, by its name in figures, such as "T1" or "f", and its colour map."""
    found = {parameter.name: parameter for parameter in FACTS.values()}
    if name not in found:
        raise ValueError(f"quantity must be one of {', '.join(found)}; got {name!r}")
    if found[name].signed:
        return found[name], cm.vik
    return found[name], {"T1": cm.lipari, "T2": cm.navia}.get(name[:2], cm.batlow)


def from_zero(parameter: Parameter) -> bool:
    """Whether 0 is a value as any other, so that a relative error says nothing: of fractions and frequencies."""
    return not parameter.logarithmic and (parameter.signed or parameter.may_be_least)


def label_of(parameter: Parameter, what: str = "") -> str:
    """The label of an axis or a colour bar: the parameter, or ``what`` of it, and the unit of figures."""
    return f"{what or parameter.name} ({parameter.shown})" if parameter.shown else what or parameter.name


def draw_parameter(axes, name: str, values, undetermined=None):
    """One map of a parameter, SI, by its name, with its colours and range, in the unit of figures.

    Grey are voxels that are ``undetermined``, bool, of the shape of the values; None for none.
    """
    parameter, colours = look_of(name)
    if undetermined is not None:
        values = np.where(undetermined, np.nan, values)
    high = percentile(np.abs(values), 99) if parameter.signed else TOPS.get(name, percentile(values, 99.5))
    low = -high if parameter.signed else 0
    per = parameter.per_shown
    draw_map(axes, parameter.name, label_of(parameter), per * values, colours, per * low, per * high)
    if undetermined is not None and undetermined.any():
        axes.imshow(np.ma.masked_where(~undetermined, undetermined), cmap=ListedColormap([_GREY]), vmin=0, vmax=1)


def undetermined_legend(figure):
    """Says, below all panels, what grey voxels are."""
    handles = [Patch(facecolor=_GREY, label=UNDETERMINED)]
    figure.legend(handles=handles, loc="outside lower center", frameon=False, fontsize=9)


def draw_map(axes, title, label, values, colours, low, high, power=1):
    """One map with its colour bar; colours go by ``value**power``."""
    image = draw_image(axes, title, values, colours, low, high, size=10, power=power)
    ticks = MaxNLocator(_TICKS, steps=[1, 2, 5, 10])
    if power != 1:  # evenly spaced colours: the ticks of a linear scale would overlap at its end
        ticks = np.round(low + (high - low) * np.linspace(0, 1, 5) ** (1 / power), -1)
    colour_bar([image], [axes], label, location="bottom", pad=0.03, shrink=0.88, aspect=22, ticks=ticks)


def draw_image(axes, title, values, colours, low, high, size=9, power=1):
    """One map, black where it has no value, and its title, ``size`` in points; colours go by ``value**power``."""
    axes.set_title(title, fontsize=size)
    axes.set(visible=True, facecolor="black", xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    norm = PowerNorm(power, low, high)
    return axes.imshow(np.ma.masked_invalid(values), cmap=colours, norm=norm, interpolation="nearest")


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
    """The values inside the mask, NaN elsewhere, cropped to the mask with a margin of two voxels."""
    values = np.asarray(values)
    if values.shape != mask.shape:
        raise ValueError(f"{name} has shape {values.shape}, but mask has {mask.shape}")
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    box = tuple(slice(max(where[0] - 2, 0), where[-1] + 3) for where in (rows, columns))
    return np.where(mask, values, np.nan)[box]


def percentile(values, percent):
    """Percentile of the finite values; 1 where there is none above 0."""
    values = values[np.isfinite(values)]
    return float(np.percentile(values, percent)) or 1.0 if values.size else 1.0
