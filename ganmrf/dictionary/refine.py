"""Maps between the atoms of a dictionary, with error bars: least squares with the simulator as the model, per voxel.

The model of a voxel is ``m0 s(T1, T2, off-resonance)``, linear in the complex amplitude m0: for any tissue the best m0
is an inner product (variable projection), and Gauss-Newton steps remain for log T1, log T2 and, in dictionaries of
several, off-resonance. A step needs inner products alone: of the signal s, its derivatives, and the voxel's data.
"""

import dataclasses
import warnings

import jax
import numpy as np

from ganmrf.dictionary.build import Dictionary
from ganmrf.dictionary.cramer_rao import cramer_rao
from ganmrf.dictionary.match import Maps, frames_first, of_shape
from ganmrf.dictionary.parameter_maps import ParameterMaps
from ganmrf.dictionary.voxel_model import VoxelModel
from ganmrf.parallel import meshes, one_blas_thread, run_chunks
from ganmrf.pytrees import require, require_positive

_VOXELS = 1024  # a chunk: one compiled program, and work for several cores
_STEPS = 20, 40  # most steps that are tried in a voxel, without and with off-resonance, whose valleys are long
_FEW_COLUMNS = 100  # with fewer columns the noise of one voxel is known to no better than 7 %
# Squared sines of the angles between derivatives, and between these and the signal: smaller ones may be rounding of
# float32 signals, and the direction that they stand for is left as it is.
_ROUNDING = (64 * np.finfo(np.float32).eps) ** 2


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
      converged: whether the last step was below 1e-5 of T1 and T2 and below 1e-4 Hz, and all are away from the ends of
        their ranges.
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
    noise=None,
    magnitude: bool = False,
    progress: bool = False,
) -> Refined:
    """Least-squares T1, T2 and M0 of every matched voxel, with error bars; the search starts from the matched atom.

    Where the dictionary has several off-resonances, and no map of B0 is given, off-resonance is fitted too.

    Gauss-Newton steps with exact derivatives, at most 0.3 in log T1 and log T2, and half the largest distance between
    two off-resonances of the dictionary; a step that does not lower the residual is halved and tried again, so that no
    voxel ends with a larger residual than its atom at the voxel's B1 and B0. At most 20 steps are tried, 40 with
    off-resonance. T1 and T2 stay between half the smallest and twice the largest of the dictionary, and T2 does not
    exceed T1; off-resonance may leave the dictionary's by half its last step. A voxel that ends at an end of a range
    has infinite error bars, and where that is one of off-resonance, T1 and T2 can be far off, and a warning says how
    many voxels they are. What a signal does not depend on, such as
    the off-resonance of a `Fisp` of constant repetition time, stays that of the atom. Under a `Bssfp` of one repetition
    time TR, tissues whose off-resonance differs by 1/TR have the same signals but for their sign (and for a half pulse
    in front): a fit stays with that of them which was matched. Signals are simulated in float32 (in float64 under
    `jax.enable_x64`); everything else is float64.

    Args:
      dictionary: the dictionary that was matched; with a basis (`compress`) the fit is one of coefficients.
      images: as for `match`.
      maps: result of `match` or `match_with_maps` for these images.
      mask: voxels to refine, boolean, of the spatial shape; all matched voxels by default.
      axis: of the frames in ``images``.
      b1_map: actual over nominal flip angle of each voxel, of the spatial shape; the matched atom's by default.
      b0_map: off-resonance of each voxel, Hz, of the spatial shape; by default it is fitted where the dictionary has
        several, and else the matched atom's.
      noise: standard deviation of white noise in the real, and in the imaginary, part of each frame (coefficients of an
        orthonormal basis have the same), one number or of the spatial shape. None measures the noise from the
        residuals, so that errors of the model count as noise: voxel by voxel; with fewer than 100 frames or
        coefficients, too few for one voxel, as one root mean square over all refined voxels.
      magnitude: whether the images are magnitudes, and the dictionary is one of magnitudes (`magnitude_dictionary`).
        Their noise is not Gaussian, so the error bars are NaN.
      progress: whether to show a progress bar with an estimate of the time left.

    Raises:
      ValueError: images with neither the dictionary's frames nor its rank, or not finite in a refined voxel; maps of
        another dictionary; an array of another shape; a B1 or noise that is not positive, a B0 that is not finite; or
        no noise given where a voxel has no more numbers than unknowns.

    References:
      Golub and Pereyra 1973, doi:10.1137/0710036, and Kaufman 1975, doi:10.1007/BF01932995 (variable projection).
    """
    images = frames_first(dictionary, images, axis)
    series, shape = images.reshape(len(images), -1), images.shape[1:]
    voxels = _voxels(dictionary, maps, mask, shape)
    b1 = _positive("b1_map", maps.b1 if b1_map is None else b1_map, shape, voxels)
    b0 = None
    if b0_map is not None:
        b0 = of_shape("b0_map", b0_map, shape, float).ravel()[voxels]
        require("b0_map", b0, np.isfinite, "finite in every refined voxel")
    model = VoxelModel.of(dictionary, maps.index.ravel()[voxels], b1, b0, magnitude)
    freedom = model.n_columns - 1 - len(model.start)
    if np.iscomplexobj(series) or np.issubdtype(model.dtype, np.complexfloating):
        freedom = 2 * model.n_columns - 2 - len(model.start)
    if noise is not None:
        noise = _positive("noise", np.broadcast_to(noise, shape) if np.ndim(noise) == 0 else noise, shape, voxels)
    elif freedom < 1:
        raise ValueError(f"noise must be given: {model.n_columns} numbers a voxel are too few to measure it")
    found = _fit(model, series, voxels, "refining" if progress else None)
    _warn_of_ends(model, found)
    if noise is None:
        variance = found["residual"] / freedom
        few = model.n_columns < _FEW_COLUMNS and variance.size
        noise = np.sqrt(np.full(variance.shape, variance.mean()) if few else variance)
    for name in ("m0_std", *(f"{name}_std" for name in model.fitted)):
        std = found[name]
        found[name] = np.full_like(std, np.nan) if magnitude else np.multiply(std, noise, std, where=np.isfinite(std))
    found.update(b1=b1, noise=noise)
    if model.off_resonance is not None:
        found.update(off_resonance=model.off_resonance)
    del found["residual"]

    def in_place(values):
        whole = np.zeros(shape, values.dtype)
        whole.reshape(-1)[voxels] = values
        return whole

    return Refined(**{name: in_place(values) for name, values in found.items()})


def _fit(model, series, voxels, label):
    """Results of `_gauss_newton` for all voxels, arrays (voxels,) by name."""
    basis = model.dictionary.basis if len(series) == model.dictionary.sequence.n_frames else None
    found = {"m0": np.zeros(voxels.size, complex), "converged": np.zeros(voxels.size, bool)}
    names = ("residual", "m0_std", *model.fitted, *(f"{name}_std" for name in model.fitted))
    found.update({name: np.zeros(voxels.size) for name in names})
    size = min(_VOXELS, voxels.size)

    def fit_chunk(rows, mesh):
        data = series[:, voxels[rows]].T
        data = data.astype(np.result_type(data, float))
        if unfit := np.sum(~np.isfinite(data).all(axis=1)):
            raise ValueError(f"images hold NaN or infinite values, in {unfit} voxels of a chunk")
        if basis is not None:
            data = data @ basis
        rows, data = np.resize(rows, size), np.resize(data, (size, data.shape[1]))  # one shape for all chunks
        for name, values in _gauss_newton(model, data, rows, mesh).items():
            found[name][rows] = values

    order = np.argsort(-model.start[1], kind="stable")  # slowest simulations first, voxels of one atom together
    chunks = np.split(order, range(size, order.size, size)) if order.size else []
    with one_blas_thread():
        run_chunks(fit_chunk, chunks, places=meshes(), sizes=[len(rows) for rows in chunks], progress=label)
    return found


def _gauss_newton(model, data, rows, mesh):
    """Fits the voxels ``rows`` of the model to their data (voxels, columns); standard deviations are for noise 1."""
    values = model.start[:, rows]
    signals = model.signals(values, rows, mesh)
    m0, residual, step = _least_squares(signals, data, model.longest_step)
    share = np.ones(rows.size)
    for tries_left in reversed(range(_STEPS["off_resonance" in model.fitted] + 1)):
        target, moves = model.moved(values, share * step)
        if not (tries_left and moves.any()):
            break
        tried = np.flatnonzero(moves)
        new_signals = model.signals(target[:, tried], rows[tried], mesh)
        new = _least_squares(new_signals, data[tried], model.longest_step)
        better = new[1] < residual[tried]
        share[tried] = np.where(better, 1, share[tried] / 2)
        kept = tried[better]
        values[:, kept], signals[kept] = target[:, kept], new_signals[better]
        m0[kept], residual[kept], step[:, kept] = (each[..., better] for each in new)
    inside = ((values > model.low) & (values < model.high)).all(axis=0) & (values[1] < values[0])
    signal, *derivatives = np.moveaxis(signals, 1, 0)
    derivatives[:2] = (each / time[:, None] for each, time in zip(derivatives[:2], values[:2], strict=True))
    with jax.enable_x64(True):
        stds, of_m0 = (np.where(inside, each, np.inf) for each in cramer_rao(signal, tuple(derivatives), m0, 1.0))
    found = {"m0": m0, "residual": residual, "converged": inside & ~moves, "m0_std": of_m0}
    found |= dict(zip(model.fitted, values, strict=True))
    return found | {f"{name}_std": std for name, std in zip(model.fitted, stds, strict=True)}


def _least_squares(signals, data, longest_step):
    """(m0, squared norm of the residual, step (params, voxels)) of voxels, given `VoxelModel.signals`."""
    gram = signals.conj() @ np.swapaxes(signals, 1, 2)
    inner = (signals.conj() @ data[:, :, None])[..., 0]
    energy = gram[:, 0, 0].real
    m0 = inner[:, 0] / energy
    residual = np.linalg.norm(data - m0[:, None] * signals[:, 0], axis=1) ** 2
    rest = gram[:, 1:, 1:] - gram[:, 1:, :1] * gram[:, :1, 1:] / energy[:, None, None]
    gradient = (m0.conj()[:, None] * (inner[:, 1:] - gram[:, 1:, 0] * m0[:, None])).real
    # In units in which every derivative of the voxel's signal has norm 1.
    size = np.abs(m0)[:, None] * np.sqrt(np.einsum("vnn->vn", gram[:, 1:, 1:]).real)
    size = np.where(size > 0, size, 1)
    information = np.abs(m0)[:, None, None] ** 2 * rest.real / (size[:, :, None] * size[:, None, :])
    inverse = np.linalg.pinv(information, rcond=_ROUNDING, hermitian=True)
    step = (inverse @ (gradient / size)[:, :, None])[..., 0].T / size.T
    return m0, residual, step / np.maximum(np.abs(step / longest_step).max(axis=0), 1)


def _warn_of_ends(model, found):
    """Warns of voxels whose off-resonance was fitted and is at an end of its range."""
    if "off_resonance" not in model.fitted:
        return
    hz, low, high = found["off_resonance"], model.low[2, 0], model.high[2, 0]
    if ends := np.count_nonzero((hz <= low) | (hz >= high)):
        warnings.warn(
            f"{ends} of {hz.size} refined voxels end at an end of the range of off-resonance, {low:.4g} to {high:.4g} "
            "Hz: their T1 and T2 are not to be trusted; a dictionary of more off-resonances may hold theirs",
            stacklevel=3,
        )


def _voxels(dictionary, maps, mask, shape):
    """Flat positions of the voxels to refine."""
    has_atom = of_shape("maps.index", maps.index, shape, int) >= 0
    voxels = np.flatnonzero(has_atom & (True if mask is None else of_shape("mask", mask, shape, bool)))
    index, n_atoms = maps.index.ravel()[voxels], len(dictionary.norms)
    if (index >= n_atoms).any():
        raise ValueError(f"maps.index holds {index.max()}, but the dictionary has {n_atoms} atoms: not matched with it")
    for name, unit in (("t1", "s"), ("t2", "s"), ("off_resonance", "Hz")):
        if (own := getattr(dictionary.tissue, name)) is None:
            continue
        if (matched := getattr(maps, name)) is None:
            raise ValueError(f"maps.{name} is None, but the atoms of the dictionary have one: not matched with it")
        atoms, matched = np.broadcast_to(own, n_atoms)[index], matched.ravel()[voxels]
        if (wrong := atoms != matched).any():
            held, atom, expected = (values[np.argmax(wrong)] for values in (matched, index, atoms))
            raise ValueError(
                f"maps.{name} holds {held:.4g} {unit} where atom {atom} of the dictionary has {expected:.4g} {unit}: "
                "not matched with it"
            )
    return voxels


def _positive(name, values, shape, voxels):
    """A map at the refined voxels, float64."""
    values = of_shape(name, values, shape, float).ravel()[voxels]
    require_positive(name, values, "positive and finite in every refined voxel")
    return values
