"""Maps between the atoms of a dictionary, with error bars: least squares with the simulator as the model, per voxel.

The model of a voxel is ``m0 s(T1, T2)``, linear in the complex amplitude m0: for any T1 and T2 the best m0 is an inner
product (variable projection), and Gauss-Newton steps remain for log T1 and log T2. A step needs inner products alone:
of the signal s, its derivatives by the two logarithms, and the voxel's data.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.dictionary.build import Dictionary
from ganmrf.dictionary.cramer_rao import cramer_rao
from ganmrf.dictionary.magnitude import without_phase
from ganmrf.dictionary.match import Maps, frames_first, of_shape
from ganmrf.parallel import meshes, one_blas_thread, run_chunks
from ganmrf.physics.lowering import signal_dtype
from ganmrf.physics.simulate import simulate_in_chunks
from ganmrf.physics.simulate_many import batched_simulator, plan_n_states
from ganmrf.physics.tissue import Tissue
from ganmrf.pytrees import require_positive

_VOXELS = 1024  # a chunk: one compiled program, and work for several cores
_LONGEST_STEP = 0.3  # of log T1 and log T2: within 35 % the signal is linear enough for a step to help
_CONVERGED = 1e-5  # a smaller step of log T1 and log T2 is not taken: far below any error bar
_MARGIN = 2.0  # the fit may leave the dictionary's range of T1 and T2 by this factor
_STEPS = 20  # most steps that are tried in a voxel
_FEW_COLUMNS = 100  # with fewer columns the noise of one voxel is known to no better than 7 %
_T2_RATIO = 1.25  # between neighbouring T2 for which a number of states is chosen: a few per cent of the time
_ACCURACY = 1e-4  # of signals, by truncating the states: the error shifts T1 and T2 by less than `_CONVERGED`


@dataclasses.dataclass(frozen=True)
class Refined:
    """Refined maps and their error bars, each field of the images' spatial shape; 0 or False where nothing was refined.

    Attributes:
      t1: longitudinal relaxation time, s, float64.
      t2: transverse relaxation time, s, float64.
      m0: complex amplitude, as in `match.Maps`, complex128.
      b1: actual over nominal flip angle that was simulated, float64.
      t1_std: standard deviation of ``t1``, s (`cramer_rao`); inf where the signal does not determine it, NaN for
        magnitude images.
      t2_std: standard deviation of ``t2``, s.
      m0_std: standard deviation of ``abs(m0)``.
      noise: standard deviation of the noise, given to `refine` or measured by it, from which the error bars follow.
      converged: whether the last step was below 1e-5 of T1 and T2, and both are away from the ends of their ranges.
    """

    t1: np.ndarray
    t2: np.ndarray
    m0: np.ndarray
    b1: np.ndarray
    t1_std: np.ndarray
    t2_std: np.ndarray
    m0_std: np.ndarray
    noise: np.ndarray
    converged: np.ndarray

    @property
    def has_error_bars(self) -> bool:
        """Whether standard deviations are known: not for magnitude images."""
        return not np.isnan(self.t1_std).any()


def refine(
    dictionary: Dictionary,
    images,
    maps: Maps,
    *,
    mask=None,
    axis: int = 0,
    b1_map=None,
    noise=None,
    magnitude: bool = False,
    progress: bool = False,
) -> Refined:
    """Least-squares T1, T2 and M0 of every matched voxel, with error bars; the search starts from the matched atom.

    Gauss-Newton steps with exact derivatives, at most 0.3 in log T1 and log T2; a step that does not lower the residual
    is halved and tried again, so that no voxel ends with a larger residual than its atom at the voxel's B1. At most 20
    steps are tried. T1 and T2 stay between half the smallest and twice the largest of the dictionary, and T2 does not
    exceed T1. Signals are simulated in float32 (in float64 under `jax.enable_x64`); everything else is float64.

    Args:
      dictionary: the dictionary that was matched; with a basis (`compress`) the fit is one of coefficients.
      images: as for `match`.
      maps: result of `match` or `match_with_b1` for these images.
      mask: voxels to refine, boolean, of the spatial shape; all matched voxels by default.
      axis: of the frames in ``images``.
      b1_map: actual over nominal flip angle of each voxel, of the spatial shape; the matched atom's by default.
      noise: standard deviation of white noise in the real, and in the imaginary, part of each frame (coefficients of an
        orthonormal basis have the same), one number or of the spatial shape. None measures the noise from the
        residuals, so that errors of the model count as noise: voxel by voxel; with fewer than 100 frames or
        coefficients, too few for one voxel, as one root mean square over all refined voxels.
      magnitude: whether the images are magnitudes, and the dictionary is one of magnitudes (`magnitude_dictionary`).
        Their noise is not Gaussian, so the error bars are NaN.
      progress: whether to show a progress bar with an estimate of the time left.

    Raises:
      ValueError: atoms with off-resonance; images with neither the dictionary's frames nor its rank, or not finite in a
        refined voxel; maps of another dictionary; an array of another shape; a B1 or noise that is not positive; or no
        noise given where a voxel has no more numbers than unknowns.

    References:
      Golub and Pereyra 1973, doi:10.1137/0710036, and Kaufman 1975, doi:10.1007/BF01932995 (variable projection).
    """
    if dictionary.tissue.off_resonance is not None:
        raise ValueError("refinement does not fit off-resonance: match with these atoms alone")
    images = frames_first(dictionary, images, axis)
    series, shape = images.reshape(len(images), -1), images.shape[1:]
    voxels = _voxels(dictionary, maps, mask, shape)
    b1 = _positive("b1_map", maps.b1 if b1_map is None else b1_map, shape, voxels)
    model = _Model.of(dictionary, maps.index.ravel()[voxels], b1, magnitude)
    freedom = model.n_columns - 3
    if np.iscomplexobj(series) or np.iscomplexobj(dictionary.fingerprints):
        freedom = 2 * model.n_columns - 4
    if noise is not None:
        noise = _positive("noise", np.broadcast_to(noise, shape) if np.ndim(noise) == 0 else noise, shape, voxels)
    elif freedom < 1:
        raise ValueError(f"noise must be given: {model.n_columns} numbers a voxel are too few to measure it")
    found = _fit(model, series, voxels, "refining" if progress else None)
    if noise is None:
        variance = found["residual"] / freedom
        few = model.n_columns < _FEW_COLUMNS and variance.size
        noise = np.sqrt(np.full(variance.shape, variance.mean()) if few else variance)
    for name in ("t1_std", "t2_std", "m0_std"):
        np.multiply(found[name], np.nan if magnitude else noise, out=found[name], where=np.isfinite(found[name]))
    found.update(b1=b1, noise=noise)

    def in_place(values):
        whole = np.zeros(shape, values.dtype)
        whole.reshape(-1)[voxels] = values
        return whole

    return Refined(**{field.name: in_place(found[field.name]) for field in dataclasses.fields(Refined)})


@dataclasses.dataclass(frozen=True)
class _Model:
    """The signals that are fitted to the voxels, and where each voxel starts."""

    dictionary: Dictionary
    start: np.ndarray  # T1 and T2 of each voxel's atom, s, (2, voxels)
    b1: np.ndarray  # of each voxel
    low: np.ndarray  # smallest T1 and T2 allowed, s, (2, 1)
    high: np.ndarray  # largest T1 and T2 allowed, s, (2, 1)
    magnitude: bool  # whether the signals are magnitudes
    ladder: np.ndarray  # ascending T2, s, and the number of states that a T2 up to this value needs, (2, steps)

    @classmethod
    def of(cls, dictionary, index, b1, magnitude):
        times = np.stack([dictionary.tissue.t1, dictionary.tissue.t2]).astype(float)
        low, high = times.min(axis=1, keepdims=True) / _MARGIN, times.max(axis=1, keepdims=True) * _MARGIN
        t2 = high[1] / _T2_RATIO ** np.arange(np.log(high[1, 0] / low[1, 0]) / np.log(_T2_RATIO) + 1)[::-1]
        b1s = (b1.min(), b1.max()) if b1.size else (1.0, 1.0)
        corners = [(max(t1, t), t, b) for t in t2 for t1 in (low[0, 0], high[0, 0]) for b in b1s]
        profile = dictionary.slice_profile
        tissue = Tissue(*np.transpose(corners))
        states = plan_n_states(dictionary.sequence, tissue, n_states=None, accuracy=_ACCURACY, slice_profile=profile)
        return cls(dictionary, times[:, index], b1, low, high, magnitude, np.stack([t2, states[::4]]))

    @property
    def n_columns(self):
        return self.dictionary.fingerprints.shape[1]

    def signals(self, times, b1, mesh):
        """Signals for M0 = 1 and derivatives by log T1 and log T2, float64 or complex128, (voxels, 3, columns)."""
        sequence, profile, basis = self.dictionary.sequence, self.dictionary.slice_profile, self.dictionary.basis
        distinct, copies = np.unique(np.stack([*times, b1]), axis=1, return_inverse=True)  # voxels may share an atom
        step = np.minimum(np.searchsorted(self.ladder[0], distinct[1]), self.ladder.shape[1] - 1)
        states = self.ladder[1, step].astype(np.int32)
        simulate = batched_simulator(signal_and_derivatives, sequence, Tissue(*distinct), profile, states)
        wide = np.result_type(signal_dtype(sequence, self.dictionary.tissue), float if basis is None else basis.dtype)
        signals = np.empty((step.size, 3, self.n_columns), np.result_type(wide, float))
        for places, results in simulate(np.arange(step.size), mesh):
            for n, rows in enumerate(results):
                signals[places, n] = rows if basis is None else rows.astype(wide) @ basis
        if self.magnitude:
            signals = without_phase(signals)
        return signals[copies.ravel()]

    def bounded(self, times):
        """Times within their ranges, T2 not above T1."""
        t1, t2 = np.clip(times, self.low, self.high)
        return np.stack([t1, np.minimum(t1, t2)])


def signal_and_derivatives(sequence, tissue, slice_profile, **form):
    """Signals and their derivatives by log T1 and log T2, (voxels, frames) each, by forward-mode differentiation.

    Unlike in `simulate_with_tangents`, one compiled program serves every number of states.
    """

    def signal(t1, t2):
        return simulate_in_chunks(sequence, dataclasses.replace(tissue, t1=t1, t2=t2), slice_profile, **form)

    def along(t1, t2):
        return jax.jvp(signal, (tissue.t1, tissue.t2), (t1, t2))

    zeros = jnp.zeros_like(tissue.t1)
    directions = jnp.stack([tissue.t1, zeros]), jnp.stack([zeros, tissue.t2])
    signals, derivatives = jax.vmap(along, out_axes=(None, 0))(*directions)
    return signals, derivatives[0], derivatives[1]


def _fit(model, series, voxels, label):
    """Results of `_gauss_newton` for all voxels, arrays (voxels,) by name."""
    basis = model.dictionary.basis if len(series) == model.dictionary.sequence.n_frames else None
    found = {"m0": np.zeros(voxels.size, complex), "converged": np.zeros(voxels.size, bool)}
    found.update({name: np.zeros(voxels.size) for name in ("t1", "t2", "residual", "t1_std", "t2_std", "m0_std")})
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
    times, b1 = model.start[:, rows], model.b1[rows]
    signals = model.signals(times, b1, mesh)
    m0, residual, step = _least_squares(signals, data)
    share = np.ones(rows.size)
    for tries_left in reversed(range(_STEPS + 1)):
        target = model.bounded(times * np.exp(share * step))
        moves = (np.abs(np.log(target / times)) > _CONVERGED).any(axis=0)
        if not (tries_left and moves.any()):
            break
        tried = np.flatnonzero(moves)
        new_signals = model.signals(target[:, tried], b1[tried], mesh)
        new = _least_squares(new_signals, data[tried])
        better = new[1] < residual[tried]
        share[tried] = np.where(better, 1, share[tried] / 2)
        kept = tried[better]
        times[:, kept], signals[kept] = target[:, kept], new_signals[better]
        m0[kept], residual[kept], step[:, kept] = (values[..., better] for values in new)
    inside = ((times > model.low) & (times < model.high)).all(axis=0) & (times[1] < times[0])
    s, d1, d2 = np.moveaxis(signals, 1, 0)
    with jax.enable_x64(True):
        stds, of_m0 = cramer_rao(s, (d1 / times[0][:, None], d2 / times[1][:, None]), m0, 1.0)
    stds = dict(zip(("t1_std", "t2_std", "m0_std"), [*np.asarray(stds), np.asarray(of_m0)], strict=True))
    return {"t1": times[0], "t2": times[1], "m0": m0, "residual": residual, "converged": inside & ~moves, **stds}


def _least_squares(signals, data):
    """(m0, squared norm of the residual, step of log T1 and log T2 (2, voxels)) of voxels, given `_Model.signals`."""
    gram = signals.conj() @ np.swapaxes(signals, 1, 2)
    inner = (signals.conj() @ data[:, :, None])[..., 0]
    energy = gram[:, 0, 0].real
    m0 = inner[:, 0] / energy
    residual = np.linalg.norm(data - m0[:, None] * signals[:, 0], axis=1) ** 2

    def information(m, n):
        return np.abs(m0) ** 2 * (gram[:, m, n] - gram[:, m, 0] * gram[:, 0, n] / energy).real

    i11, i12, i22 = information(1, 1), information(1, 2), information(2, 2)
    g1, g2 = ((m0.conj() * (inner[:, n] - gram[:, n, 0] * m0)).real for n in (1, 2))
    determinant = i11 * i22 - i12**2
    step = np.stack([i22 * g1 - i12 * g2, i11 * g2 - i12 * g1]) / np.where(determinant > 0, determinant, np.inf)
    return m0, residual, step / np.maximum(np.abs(step).max(axis=0) / _LONGEST_STEP, 1)


def _voxels(dictionary, maps, mask, shape):
    """Flat positions of the voxels to refine."""
    has_atom = of_shape("maps.index", maps.index, shape, int) >= 0
    voxels = np.flatnonzero(has_atom & (True if mask is None else of_shape("mask", mask, shape, bool)))
    index, n_atoms = maps.index.ravel()[voxels], len(dictionary.norms)
    if (index >= n_atoms).any():
        raise ValueError(f"maps.index holds {index.max()}, but the dictionary has {n_atoms} atoms: not matched with it")
    for name in ("t1", "t2"):
        atoms, matched = np.asarray(getattr(dictionary.tissue, name))[index], getattr(maps, name).ravel()[voxels]
        if (wrong := atoms != matched).any():
            held, atom, expected = (values[np.argmax(wrong)] for values in (matched, index, atoms))
            raise ValueError(
                f"maps.{name} holds {held:.4g} s where atom {atom} of the dictionary has {expected:.4g} s: not matched "
                "with it"
            )
    return voxels


def _positive(name, values, shape, voxels):
    """A map at the refined voxels, float64."""
    values = of_shape(name, values, shape, float).ravel()[voxels]
    require_positive(name, values, "positive and finite in every refined voxel")
    return values
