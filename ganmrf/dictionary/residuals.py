"""Whether the model fits: what it leaves of voxels' signals, compared with the noise that neighbouring voxels show."""

import dataclasses

import numpy as np
from scipy import stats

from ganmrf.dictionary.build import Dictionary
from ganmrf.dictionary.match import Maps, frames_first
from ganmrf.dictionary.refine import Refined
from ganmrf.dictionary.signal_sources import SignalSource
from ganmrf.parallel import meshes
from ganmrf.physics.simulate_many import simulate_many

_PAIRS = 2000  # of voxels: their median ratio is known to 2 %
# Voxels between the two of a pair: what interpolation spreads reaches the nearest neighbour, tissues are larger.
_APART = 2
_ROUNDING = 1e-3  # share of the signal: ten times the error of the simulation
# Times the noise: a third more energy than noise has. The right model, reconstructed by least squares, is within a few
# per cent of 1; a B1 that is off by a fifth, and puts T2 off by a third, can be at 1.25.
_FITS = 1.15


@dataclasses.dataclass(frozen=True)
class Fit:
    """Residuals of some voxels in units of the noise.

    Attributes:
      ratio: root mean square of each voxel's residual over that of the noise, (voxels,): 1 where the model fits.
      noise: standard deviation of the noise in the real, and in the imaginary, part of a frame or coefficient.
      freedom: numbers of a voxel less the unknowns that were fitted: the ratio scatters by ``1 / sqrt(2 freedom)``.
      share: norm of the residual over that of the signal, in the median voxel.
    """

    ratio: np.ndarray
    noise: float
    freedom: int
    share: float

    @property
    def fits(self) -> bool:
        """Whether what is left of the median voxel has hardly more energy than the noise, or is rounding.

        Without noise, what is left are the errors of the simulation.
        """
        return bool(np.median(self.ratio) < _FITS or self.share < _ROUNDING)


def residual_fit(
    dictionary: Dictionary,
    images,
    maps: Maps,
    refined: Refined,
    *,
    magnitude: bool = False,
    source: SignalSource | None = None,
) -> Fit | None:
    """Compares residuals with the noise, in up to 4000 voxels.

    The noise is measured from the differences between the residuals of voxels two apart: noise, and aliasing that looks
    like noise, differ there, while the error of a wrong model is about the same in one tissue.

    Args:
      dictionary: that was matched.
      images: as for `match`.
      maps: result of `match` or `match_with_maps` for these images.
      refined: result of `refine` for these maps: the steps between atoms would look like an error of the model.
      magnitude: as for `refine`.
      source: as for `refine`, that the maps were refined by.

    Returns:
      The fit; None where no voxels are two apart, or nothing differs between them.
    """
    images = frames_first(dictionary, images, 0)
    first, second = _pairs(maps.index >= 0)
    if not first.size:
        return None
    both = np.concatenate([first, second])
    data = images.reshape(len(images), -1)[:, both].T
    residuals = _residuals(dictionary, data, both, refined, magnitude, source)
    count = residuals.shape[1]
    unknowns = 1 + np.iscomplexobj(residuals) + len(refined.stds)
    freedom = (1 + np.iscomplexobj(residuals)) * count - unknowns
    if freedom < 1:
        return None
    here, there = np.split(residuals, 2)
    variance = np.median(np.linalg.norm(here - there, axis=1) ** 2) / (2 * stats.chi2.median(freedom))
    if not variance > 0:
        return None
    left = np.linalg.norm(residuals, axis=1)
    share = float(np.median(left / np.linalg.norm(data, axis=1)))
    return Fit(left / np.sqrt(freedom * variance), float(np.sqrt(variance)), int(freedom), share)


def _pairs(matched):
    """Flat positions of up to `_PAIRS` pairs of matched voxels, `_APART` along one of the last two axes."""
    places = np.arange(matched.size).reshape(matched.shape)
    found = []
    for axis in range(max(matched.ndim - 2, 0), matched.ndim):
        ends = [np.moveaxis(values, axis, 0) for values in (matched, places)]
        inside = ends[0][:-_APART] & ends[0][_APART:]
        found.append(np.stack([ends[1][:-_APART][inside], ends[1][_APART:][inside]]))
    found = np.concatenate(found, axis=1)
    chosen = np.random.default_rng(0).permutation(found.shape[1])[:_PAIRS]
    return found[:, np.sort(chosen)]


def _residuals(dictionary, data, voxels, refined, magnitude, source):
    """Data of voxels less the fitted signals, (voxels, columns), float64 or complex128."""
    data = data.astype(np.result_type(data, float))
    basis = dictionary.basis
    tissue = type(dictionary.tissue)(**{name: each.ravel()[voxels] for name, each in refined.parameters.items()})
    if source is not None:
        signals = source.signals(tissue, tuple(refined.stds), meshes()[0])[:, 0]  # by the program of the fit
    else:
        signals = simulate_many(dictionary.sequence, tissue, slice_profile=dictionary.slice_profile)
        signals = signals.astype(np.result_type(signals, float))
        signals = np.abs(signals) if magnitude else signals
        signals = signals if basis is None else signals @ basis
    if basis is not None and data.shape[1] == len(basis):
        data = data @ basis
    residuals = data - refined.m0.ravel()[voxels][:, None] * signals
    return residuals if np.iscomplexobj(data) or np.iscomplexobj(signals) else residuals.real
