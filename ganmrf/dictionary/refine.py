"""Maps between the atoms of a dictionary, with error bars: least squares with the simulator as the model, per voxel.

The model of a voxel is ``m0 s(tissue)``, linear in the complex amplitude m0. Any parameters of the tissue are fitted,
T1 and T2 among them by default; the others are known, or those of the voxel's atom. Another source of signals than the
simulator can be the model, such as a generator.
"""

import dataclasses
import warnings
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from ganmrf.dictionary.build import Dictionary
from ganmrf.dictionary.gauss_newton import fit_voxels
from ganmrf.dictionary.match import Maps, frames_first, of_shape
from ganmrf.dictionary.parameter_maps import ParameterMaps
from ganmrf.dictionary.several_starts import fit_from_several
from ganmrf.dictionary.signal_sources import SignalSource
from ganmrf.dictionary.voxel_model import VoxelModel, fitted_parameters
from ganmrf.dictionary.voxel_signals import FEW_COLUMNS
from ganmrf.physics.tissue import Tissue, parameters
from ganmrf.pytrees import require, require_positive

_JUDGED = 128  # voxels that tell whether a scan determines what is to be fitted: their median is known to a tenth


@dataclasses.dataclass(frozen=True, init=False)
class Refined(ParameterMaps):
    """Refined maps and their error bars, each of the images' spatial shape; 0 or False where nothing was refined.

    Each parameter and each standard deviation is an attribute as well: ``refined.t1``, ``refined.t1_std``; None for a
    parameter that the atoms do not have, and for the standard deviation of one that was not fitted.

    Attributes:
      parameters: fitted or simulated, by name: every field of the dictionary's tissue that is not None, in SI units,
        float64.
      stds: standard deviation of each fitted parameter, by name, in SI units (`cramer_rao`); inf where the signal does
        not determine it, and, as all others, where a parameter is at an end of its range: a bound is no estimate, and
        the rest of the fit makes up for it. NaN for magnitude images.
      m0: complex amplitude, as in `match.Maps`, complex128.
      m0_std: standard deviation of ``abs(m0)``.
      noise: standard deviation of the noise, given to `refine` or measured by it, from which the error bars follow.
      converged: whether the last step was below 1e-5 of times, fractions and the like and below 1e-4 Hz, and all are
        away from the ends of their ranges.
    """

    parameters: dict[str, np.ndarray]
    stds: dict[str, np.ndarray]
    m0: np.ndarray
    m0_std: np.ndarray
    noise: np.ndarray
    converged: np.ndarray

    @property
    def has_error_bars(self) -> bool:
        """Whether standard deviations are known: not for magnitude images."""
        return not any(np.isnan(std).any() for std in self.stds.values())


def refine(
    dictionary: Dictionary,
    images,
    maps: Maps,
    *,
    mask=None,
    axis: int = 0,
    b1_map=None,
    b0_map=None,
    fit: Collection[str] | None = None,
    known: Mapping[str, Any] | None = None,
    noise=None,
    magnitude: bool = False,
    force: bool = False,
    source: SignalSource | None = None,
    starts=None,
    progress: bool = False,
) -> Refined:
    """Least-squares parameters of tissue and M0 of every matched voxel, with error bars, from the matched atom on.

    Gauss-Newton steps with exact derivatives: in logarithms of times, rates and line shapes, at most 0.3 of each; in
    fractions and B1 at most 0.1, and in frequencies half the largest distance between two of the dictionary. A step
    that does not lower the residual is halved and tried again, so that no voxel ends with a larger residual than its
    atom with what is known of the voxel. At most 20 steps are tried, 40 where more than two parameters are fitted.
    Logarithmic parameters stay between half the smallest and twice the largest of the dictionary, others may leave its
    range by half its last step, and T2 does not exceed T1. A voxel that ends at an end of a range has infinite error
    bars, and where that is a frequency, a fraction or B1, the others can be far off, and a warning says how many voxels
    they are. A fraction of 0 is no such end, but a value as any other: the other parameters are then the best without
    pool b, and what pool b alone has stays that of the atom, with infinite error bars.

    What a signal does not depend on, such as the off-resonance of a `Fisp` of constant repetition time, stays that of
    the atom. Under a `Bssfp` of one repetition time TR, tissues whose off-resonance differs by 1/TR have the same
    signals but for their sign (and for a half pulse in front): a fit stays with that of them which was matched. Signals
    are simulated in float32 (in float64 under `jax.enable_x64`); everything else is float64.

    Args:
      dictionary: the dictionary that was matched; with a basis (`compress`) the fit is one of coefficients.
      images: as for `match`.
      maps: result of `match` or `match_with_maps` for these images.
      mask: voxels to refine, boolean, of the spatial shape; all matched voxels by default.
      axis: of the frames in ``images``.
      b1_map: actual over nominal flip angle of each voxel, of the spatial shape; the matched atom's by default.
      b0_map: off-resonance of each voxel, Hz, of the spatial shape; by default it is fitted where the dictionary has
        several, and else the matched atom's.
      fit: names of the parameters to fit, fields of the dictionary's tissue. None fits T1, T2 and, where the dictionary
        has several, the fraction of pool b and off-resonance, but for what is known.
      known: name -> number, or map of the spatial shape, SI, of parameters that are not fitted, as ``b1_map`` and
        ``b0_map`` give them. All others are those of the matched atom.
      noise: standard deviation of white noise in the real, and in the imaginary, part of each frame (coefficients of an
        orthonormal basis have the same), one number or of the spatial shape. None measures the noise from the
        residuals, so that errors of the model count as noise: voxel by voxel; with fewer than 100 frames or
        coefficients, too few for one voxel, as one root mean square over all refined voxels.
      magnitude: whether the images are magnitudes, and the dictionary is one of magnitudes (`magnitude_dictionary`).
        Their noise is not Gaussian, so the error bars are NaN.
      force: whether to fit what the signals do not determine, too. Without it, parameters that ``fit`` names, and those
        of a tissue with several pools, are refused where a standard deviation is larger than its value in the median of
        some voxels.
      source: of signals and derivatives in place of the simulator, in the columns of the dictionary, such as
        `ganmrf.anchors.collapsed.GeneratedSignals`. Its ranges are those of the fit, and nothing beyond them is fitted
        or known. Not for magnitude images.
      starts: rows of further atoms to begin at, (starts, *spatial shape), -1 for none. A voxel is fitted from such an
        atom, too, where it could lead to a smaller residual (`fit_from_several`), and the smallest residual wins.
      progress: whether to show a progress bar with an estimate of the time left.

    Raises:
      ValueError: images with neither the dictionary's frames nor its rank, or not finite in a refined voxel; maps of
        another dictionary; an array of another shape; a known value that no tissue has; a noise that is not positive;
        no noise given where a voxel has no more numbers than unknowns; a parameter that the tissue has not, that is
        both known and to be fitted, or of which the dictionary has a single fraction, B1 or frequency, which says no
        range; parameters that the signals do not determine; a source that does not know the parameter or the known
        value of a voxel, or with magnitude images; or starts that are no rows of the dictionary.

    References:
      Golub and Pereyra 1973, doi:10.1137/0710036, and Kaufman 1975, doi:10.1007/BF01932995 (variable projection).
    """
    images = frames_first(dictionary, images, axis)
    series, shape = images.reshape(len(images), -1), images.shape[1:]
    voxels = _voxels(dictionary, maps, mask, shape)
    known = _known(dictionary, {} if known is None else known, {"b1": b1_map, "off_resonance": b0_map}, shape, voxels)
    if source is not None and magnitude:
        raise ValueError("magnitude images have no other source of signals than the simulator")
    index, others = maps.index.ravel()[voxels], _starts(dictionary, starts, shape, voxels)
    model = VoxelModel.of(dictionary, index, _fitted(dictionary, fit, known), known, magnitude, source)
    is_complex = np.iscomplexobj(series) or model.is_complex
    freedom = (1 + is_complex) * (model.n_columns - 1) - len(model.fitted)
    if noise is not None:
        noise = _positive("noise", np.broadcast_to(noise, shape) if np.ndim(noise) == 0 else noise, shape, voxels)
    elif freedom < 1:
        raise ValueError(f"noise must be given: {model.n_columns} numbers a voxel are too few to measure it")
    if not force and not (fit is None and isinstance(dictionary.tissue, Tissue)):
        _require_determined(model, series, voxels, noise, freedom)
    found = fit_from_several(model, series, voxels, [index, *others], "refining" if progress else None)
    _warn_of_ends(model, found)
    residual = found.pop("residual")
    noise = _noise(model, residual, freedom) if noise is None else noise
    for name in ("m0_std", *(f"{name}_std" for name in model.fitted)):
        std = found[name]
        found[name] = np.full_like(std, np.nan) if magnitude else np.multiply(std, noise, std, where=np.isfinite(std))
    found |= model.known | {"noise": noise}

    def in_place(values):
        whole = np.zeros(shape, values.dtype)
        whole.reshape(-1)[voxels] = values
        return whole

    return Refined(**{name: in_place(values) for name, values in found.items()})


def _fitted(dictionary, fit, known):
    """Names of what is fitted, in the order of the tissue's fields."""
    if fit is None:
        fit = fitted_parameters(dictionary, known)
    facts = parameters(dictionary.tissue)
    for name in (fit := (fit,) if isinstance(fit, str) else fit):
        if name not in facts:
            raise ValueError(f"--fit={name} is none of {', '.join(facts)}, which this tissue has")
        if name in known:
            raise ValueError(f"--fit={name} is known: fit it, or give it, not both")
        if getattr(dictionary.tissue, name) is None:
            raise ValueError(f"--fit={name}: the atoms of the dictionary have none")
    if not fit:
        raise ValueError("--fit names nothing, and all of T1 and T2 is known: there is nothing to fit")
    return tuple(name for name in facts if name in fit)


def _known(dictionary, known, given_maps, shape, voxels):
    """Name -> values of what is known of the voxels to refine, (voxels,), float64."""
    labels = {"b1": "b1_map", "off_resonance": "b0_map"}
    given = {name: (labels[name], each) for name, each in given_maps.items() if each is not None}
    facts = parameters(dictionary.tissue)
    for name, each in known.items():
        if name in given:
            raise ValueError(f"{given[name][0]} and known both give {name}")
        if name not in facts:
            raise ValueError(f"known={name} is none of {', '.join(facts)}, which this tissue has")
        given[name] = f"known {name}", each if np.ndim(each) else np.full(shape, each)
    found = {}
    for name, (label, each) in given.items():
        found[name] = of_shape(label, each, shape, float).ravel()[voxels]
        require(label, found[name], facts[name].allows, f"{facts[name].rule} in every refined voxel")
    return found


def _noise(model, residual, freedom):
    """Standard deviation of the noise in each voxel, from what is left of it."""
    variance = residual / freedom
    few = model.n_columns < FEW_COLUMNS and variance.size
    return np.sqrt(np.full(variance.shape, variance.mean()) if few else variance)


def _require_determined(model, series, voxels, noise, freedom):
    """Raises `ValueError` where the median voxel has a parameter whose standard deviation is larger than it is.

    Some voxels are fitted to know it. An empty pool has no relative error, and a frequency none either.
    """
    facts = parameters(model.dictionary.tissue)
    rows = np.unique(np.linspace(0, voxels.size - 1, min(voxels.size, _JUDGED)).astype(int))
    found = fit_voxels(model.part(rows), series, voxels[rows])
    of_noise = _noise(model, found["residual"], freedom) if noise is None else noise[rows]
    bounds = {}
    for name in model.fitted:
        there = found[name] > 0
        if there.any() and not facts[name].signed:
            bounds[name] = np.median((found[f"{name}_std"] * of_noise)[there] / found[name][there])
    if any(bound > 1 for bound in bounds.values()):
        listed = ", ".join(f"{name} {100 * bound:.3g} %" for name, bound in bounds.items())
        raise ValueError(
            f"this scan does not determine --fit={','.join(model.fitted)}: standard deviations of the median voxel are "
            f"{listed}; name fewer, or take them as they are with --force_fit"
        )


def _warn_of_ends(model, found):
    """Warns of voxels of which a frequency or a share was fitted and is at an end of its range."""
    facts = parameters(model.dictionary.tissue)
    for n, name in enumerate(model.fitted):
        low, high, values = model.low[n, 0], model.high[n, 0], found[name]
        at_end = ((values <= low) & (low > model.least[n, 0])) | ((values >= high) & (high < model.most[n, 0]))
        if not facts[name].logarithmic and (ends := np.count_nonzero(at_end)):
            values_of_range = f"{low:.4g} to {high:.4g} {facts[name].unit}".strip()
            warnings.warn(
                f"{ends} of {values.size} refined voxels end at an end of the range of {facts[name].meaning}, "
                f"{values_of_range}: what else was fitted there is not to be trusted; a wider grid may hold theirs",
                stacklevel=3,
            )


def _starts(dictionary, starts, shape, voxels):
    """Rows of the atoms that the refined voxels begin at beside their own, (starts, voxels)."""
    if starts is None:
        return np.empty((0, voxels.size), int)
    n_atoms, starts = len(dictionary.norms), np.asarray(starts, int)
    starts = of_shape("starts", starts, (len(starts), *shape), int).reshape(len(starts), np.prod(shape, dtype=int))[
        :, voxels
    ]
    if ((starts < -1) | (starts >= n_atoms)).any():
        raise ValueError(f"starts must be rows of the {n_atoms} atoms, or -1; got {starts.min()} to {starts.max()}")
    return starts


def _voxels(dictionary, maps, mask, shape):
    """Flat positions of the voxels to refine."""
    has_atom = of_shape("maps.index", maps.index, shape, int) >= 0
    voxels = np.flatnonzero(has_atom & (True if mask is None else of_shape("mask", mask, shape, bool)))
    index, n_atoms = maps.index.ravel()[voxels], len(dictionary.norms)
    if (index >= n_atoms).any():
        raise ValueError(f"maps.index holds {index.max()}, but the dictionary has {n_atoms} atoms: not matched with it")
    for name, parameter in parameters(dictionary.tissue).items():
        if (own := getattr(dictionary.tissue, name)) is None:
            continue
        if (matched := getattr(maps, name)) is None:
            raise ValueError(f"maps.{name} is None, but the atoms of the dictionary have one: not matched with it")
        atoms, matched = np.broadcast_to(own, n_atoms)[index], matched.ravel()[voxels]
        if (wrong := atoms != matched).any():
            held, atom, expected = (values[np.argmax(wrong)] for values in (matched, index, atoms))
            unit = f" {parameter.unit}".rstrip()
            raise ValueError(
                f"maps.{name} holds {held:.4g}{unit} where atom {atom} of the dictionary has {expected:.4g}{unit}: "
                "not matched with it"
            )
    return voxels


def _positive(name, values, shape, voxels):
    """A map at the refined voxels, float64."""
    values = of_shape(name, values, shape, float).ravel()[voxels]
    require_positive(name, values, "positive and finite in every refined voxel")
    return values
