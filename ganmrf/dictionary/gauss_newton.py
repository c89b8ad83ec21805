"""Least squares of many voxels at once: Gauss-Newton steps, and the error bars where they end.

The best complex amplitude for any tissue is an inner product (variable projection), and steps remain for tissue. A step
needs inner products alone: of the signal, its derivatives, and the voxel's data.
"""

import jax
import numpy as np

from ganmrf.dictionary.cramer_rao import cramer_rao
from ganmrf.dictionary.voxel_model import VoxelModel
from ganmrf.parallel import meshes, one_blas_thread, run_chunks

_VOXELS = 1024  # a chunk: one compiled program, and work for several cores
_STEPS = 20, 40  # most steps that are tried in a voxel, for two parameters and for more, whose valleys are long
# Squared sines of the angles between derivatives, and between these and the signal, and squared shares of the signal
# that the longest step changes: smaller ones may be rounding of float32 signals, and the direction that they stand for
# is left as it is.
_ROUNDING = (64 * np.finfo(np.float32).eps) ** 2


def fit_voxels(model: VoxelModel, series, voxels, label: str | None = None) -> dict[str, np.ndarray]:
    """Fits every voxel of a model.

    Args:
      model: of as many voxels as ``voxels``.
      series: real or complex, (frames or coefficients, all voxels).
      voxels: columns of ``series``.
      label: of a progress bar; None for none.

    Returns:
      Arrays (voxels,) by name: each fitted parameter, its standard deviation, such as ``t1_std``, ``m0``, ``m0_std``,
      ``residual``, the squared norm of what is left, and ``converged``. Standard deviations are for noise 1, inf where
      there is none: that of a parameter that changes nothing, such as the exchange rate with a pool b that is empty, or
      of all where the signal does not determine the others, or where a value is at an end of its range.

    Raises:
      ValueError: voxels that are not finite.
    """
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

    order = np.argsort(-model.longest_t2, kind="stable")  # slowest simulations first, voxels of one atom together
    chunks = np.split(order, range(size, order.size, size)) if order.size else []
    with one_blas_thread():
        run_chunks(fit_chunk, chunks, places=meshes(), sizes=[len(rows) for rows in chunks], progress=label)
    return found


def _gauss_newton(model, data, rows, mesh):
    """Fits the voxels ``rows`` of the model to their data (voxels, columns); standard deviations are for noise 1."""
    values = model.start[:, rows]
    signals = model.signals(values, rows, mesh)
    m0, residual, step = _least_squares(model, values, signals, data)
    share = np.ones(rows.size)
    for tries_left in reversed(range(_STEPS[len(values) > 2] + 1)):
        target, moves = model.moved(values, share * step, rows)
        if not (tries_left and moves.any()):
            break
        tried = np.flatnonzero(moves)
        new_signals = model.signals(target[:, tried], rows[tried], mesh)
        new = _least_squares(model, target[:, tried], new_signals, data[tried])
        better = new[1] < residual[tried]
        share[tried] = np.where(better, 1, share[tried] / 2)
        kept = tried[better]
        values[:, kept], signals[kept] = target[:, kept], new_signals[better]
        m0[kept], residual[kept], step[:, kept] = (each[..., better] for each in new)
    idle = _idle(model, np.linalg.norm(signals, axis=2).T ** 2)
    if (again := idle.any(axis=0)).any():  # where it went on the way there tells nothing
        values = np.where(idle, model.start[:, rows], values)
        signals[again] = model.signals(values[:, again], rows[again], mesh)
    inside = model.inside(values, rows)
    stds, of_m0 = (np.where(inside, each, np.inf) for each in _bounds(model, values, signals, m0))
    found = {"m0": m0, "residual": residual, "converged": inside & ~moves, "m0_std": of_m0}
    found |= dict(zip(model.fitted, values, strict=True))
    return found | {f"{name}_std": std for name, std in zip(model.fitted, stds, strict=True)}


def _least_squares(model, values, signals, data):
    """(m0, squared norm of the residual, step (params, voxels)) of voxels, given `VoxelModel.signals` at ``values``."""
    gram = signals.conj() @ np.swapaxes(signals, 1, 2)
    inner = (signals.conj() @ data[:, :, None])[..., 0]
    energy = gram[:, 0, 0].real
    m0 = inner[:, 0] / energy
    residual = np.linalg.norm(data - m0[:, None] * signals[:, 0], axis=1) ** 2
    rest = gram[:, 1:, 1:] - gram[:, 1:, :1] * gram[:, :1, 1:] / energy[:, None, None]
    gradient = (m0.conj()[:, None] * (inner[:, 1:] - gram[:, 1:, 0] * m0[:, None])).real
    # In units in which every derivative of the voxel's signal has norm 1.
    energies = np.einsum("vnn->vn", gram).real
    size = np.abs(m0)[:, None] * np.sqrt(energies[:, 1:])
    size = np.where(size > 0, size, 1)
    information = np.abs(m0)[:, None, None] ** 2 * rest.real / (size[:, :, None] * size[:, None, :])
    step = _step(model, values, information, gradient / size, size, ~_idle(model, energies.T).T)
    if model.little:
        gain = np.einsum("vp,pv->v", gradient, step)
        step = np.where(gain <= model.little * residual / data.shape[1], 0, step)
    return m0, residual, step / np.maximum(np.abs(step / model.longest_step).max(axis=0), 1)


def _step(model, values, information, gradient, size, free):
    """The step that information and gradient want, within what tissue allows and pool b tells, (params, voxels).

    Both are in units of ``size``, (voxels, params); only what is ``free`` moves. A parameter that would leave an end
    (`VoxelModel.held`) stays there, and one of pool b that would go too far takes the longest step: its share of the
    signal vanishes with the pool. The others take the best step beside that.
    """
    given = np.zeros_like(gradient)
    while True:
        step = (found := _solved(information, gradient, free, given)).T / size.T
        held = model.held(values, step).T & free
        too_far = (model.of_pool_b[:, None] & (np.abs(step) > model.longest_step)).T & free
        if not (held | too_far).any():
            return step
        given = np.where(too_far, np.sign(found) * model.longest_step.T * size, given)
        given, free = np.where(held, 0, given), free & ~held & ~too_far


def _solved(information, gradient, free, given):
    """What the ``free`` parameters of each voxel want where the others are ``given``, and these, (voxels, params)."""
    if not free.all():
        gradient = np.where(free, gradient - (information @ given[:, :, None])[..., 0], 0)
        information = information * free[:, :, None] * free[:, None, :]
    inverse = np.linalg.pinv(information, rcond=_ROUNDING, hermitian=True)
    return np.where(free, (inverse @ gradient[:, :, None])[..., 0], given)


def _idle(model, energies):
    """Which parameters change a voxel's signal by no more than rounding, (params, voxels).

    ``energies`` are those of the signal and of its derivatives by steps, (1 + params, voxels).
    """
    return energies[1:] * model.longest_step**2 <= _ROUNDING * energies[0]


def _bounds(model, values, signals, m0):
    """Standard deviations of parameters, (params, voxels), and of abs(M0), for noise 1."""
    energies = np.linalg.norm(signals, axis=2).T ** 2
    idle = _idle(model, energies)
    signal, *derivatives = np.moveaxis(signals, 1, 0)
    derivatives = [
        each / value[:, None] if logarithmic else each
        for each, value, logarithmic in zip(derivatives, values, model.logarithmic, strict=True)
    ]
    with jax.enable_x64(True):
        stds, of_m0 = map(np.asarray, cramer_rao(signal, tuple(derivatives), m0, 1.0))
        if not idle.any():
            return stds, of_m0
        # What changes nothing gets a column of its own, so that it has no part in the bounds of the others.
        apart = np.eye(len(values))[:, None, :] * np.where(idle, np.sqrt(energies[0]), 0)[:, :, None]
        derivatives = [
            np.concatenate([np.where(none[:, None], 0, each), own], axis=1)
            for each, none, own in zip(derivatives, idle, apart, strict=True)
        ]
        without, of_m0_without = cramer_rao(
            np.concatenate([signal, np.zeros_like(apart[0])], axis=1), tuple(derivatives), m0, 1.0
        )
    any_idle = idle.any(axis=0)
    stds = np.where(idle, np.inf, np.where(any_idle, without, stds))
    return stds, np.where(any_idle, of_m0_without, of_m0)
