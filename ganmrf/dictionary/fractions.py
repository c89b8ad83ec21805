"""Volume fractions: voxels as sums of components that do not exchange, each an atom with a weight of 0 or more.

The model of a voxel's signal is ``exp(i phase) sum_n c_n s_n`` with the signals s_n of the components for M0 = 1, real
weights ``c_n >= 0`` and one phase for all components, since they share coil and receiver: M0 is ``exp(i phase) sum_n
c_n``, and the fractions are ``c_n / sum_n c_n``. For a given phase the weights are non-negative least squares of the
signal turned back by it. The phase begins as that of the inner product with the component that matches best, which is
exact without noise where all signals are real; then phase and weights are fitted in turn.
"""

import dataclasses

import numpy as np

from ganmrf.dictionary.build import Dictionary, build_dictionary
from ganmrf.dictionary.compress import project
from ganmrf.dictionary.match import frames_first, of_shape
from ganmrf.dictionary.nonnegative import nonnegative_least_squares
from ganmrf.dictionary.voxel_signals import VoxelSignals, as_real, phase_of_best, wide
from ganmrf.parallel import one_blas_thread, run_chunks
from ganmrf.physics.tissue import TissueModel, parameters
from ganmrf.progress import watched
from ganmrf.pytrees import require_positive

_VOXELS = 1024  # a chunk: work for several cores
_TURNS, _STILL = 50, 1e-6  # most fits of the phase, and the step, rad, that ends them: weights move by its square
_B1_STEP = 0.02  # half of it moves a myelin water fraction by 0.005, as `studies.volume_fractions` finds
_ALIKE = 0.01  # sine of the angle between a component and the sum of others most like it: noise grows by its inverse


@dataclasses.dataclass(frozen=True)
class Fractions:
    """Fractions of components, fields of the images' spatial shape; 0 outside the mask and without signal.

    Attributes:
      components: the tissue of each component, (components,).
      fractions: part of M0 that each component has, 0 to 1, sum 1, (components, ...spatial), float64.
      stds: standard deviations of the fractions by the Cramer-Rao bound, (components, ...spatial), float64: those of
        weights that may be negative, so that where a fraction is 0 it tells up to what it may be.
      m0: complex amplitude, as in `match.Maps`, complex128.
      residual: norm of what the fit leaves over that of the signal, float64.
      noise: standard deviation of the noise, given or measured, from which ``stds`` follow, float64.
    """

    components: TissueModel
    fractions: np.ndarray
    stds: np.ndarray
    m0: np.ndarray
    residual: np.ndarray
    noise: np.ndarray

    @property
    def fitted(self) -> np.ndarray:
        """Where fractions were fitted, bool, of the spatial shape."""
        return self.m0 != 0


_MAPS = tuple(field.name for field in dataclasses.fields(Fractions) if field.name != "components")


class Collinear(ValueError):
    """Components that no signal tells apart: row ``first``, nearly a sum of others, and ``second``, most like it."""

    def __init__(self, message: str, first: int, second: int):
        super().__init__(message)
        self.first, self.second = first, second


def fractions_of(
    components: Dictionary,
    images,
    *,
    mask=None,
    axis: int = 0,
    b1_map=None,
    noise=None,
    progress: bool = False,
) -> Fractions:
    """Fractions of a few known components in every voxel, by non-negative least squares.

    A component whose T1 or T2 is not that of the tissue makes the fractions wrong, at a residual that need not show it:
    an intra- and extra-cellular T2 of 70 ms taken for 80 ms reads a myelin water fraction of 0.15 as 0.19.

    Args:
      components: their dictionary, of one B1 and one off-resonance, such as `build_dictionary` of three tissues; in a
        basis (`compress`) the fit is one of coefficients.
      images: real or complex series, or coefficients, as for `match`. Magnitudes do not add, and cannot be fitted.
      mask: voxels to fit, boolean, of the spatial shape; all by default.
      axis: of the frames in ``images``.
      b1_map: actual over nominal flip angle of each voxel, of the spatial shape: the components are simulated again for
        it, in steps of 0.02. None takes their own for all voxels. Values outside the mask and where there is no signal
        are not read.
      noise: standard deviation of white noise in the real, and in the imaginary, part of each frame or coefficient, one
        number or of the spatial shape. None measures it from the residuals, errors of the model included: voxel by
        voxel, or as one number where voxels have fewer than 100 columns.
      progress: whether to show a progress bar with an estimate of the time left.

    Raises:
      ValueError: images with neither the frames nor the rank of the components, not finite inside the mask, or without
        any signal; an array of another shape; a B1 or noise that is not positive, or no noise where it cannot be
        measured; components of several B1 or off-resonances, or that cannot be told apart.

    References:
      Lawson and Hanson 1995, doi:10.1137/1.9781611971217 (non-negative least squares).
    """
    require_one_field(components)
    if b1_map is not None:
        how = {"noise": noise, "progress": progress}
        return _at_each_b1(components, frames_first(components, images, axis), mask, b1_map, **how)
    require_apart(components)
    signals = wide(components.fingerprints[:]) * np.asarray(components.norms, float)[:, None]
    voxels = VoxelSignals.of(components, images, mask, axis)
    axes = np.linalg.qr(signals.T)[0].conj()  # coefficients in these hold all that components can explain
    inside, count = signals @ axes, voxels.voxels.size
    weights, phase, energy, left = np.zeros((len(signals), count)), *np.zeros((3, count))

    def fit_chunk(rows, _):
        data = voxels.rows(rows)
        coefficients = data @ axes
        weights[:, rows], phase[rows], least = _weights_and_phase(inside, coefficients)
        energy[rows] = np.linalg.norm(data, axis=1) ** 2
        outside = energy[rows] - np.linalg.norm(coefficients, axis=1) ** 2
        left[rows] = np.maximum(outside, 0) + least

    chunks = voxels.chunks(_VOXELS)
    with one_blas_thread():
        run_chunks(fit_chunk, chunks, sizes=[len(rows) for rows in chunks], progress="fitting" if progress else None)
    voxels.require_any(energy)
    of_phase = voxels.complex or np.iscomplexobj(signals)
    freedom = (1 + of_phase) * signals.shape[1] - (weights > 0).sum(axis=0) - of_phase
    noise, total = voxels.noise(noise, left, freedom), weights.sum(axis=0)
    fractions = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
    stds = np.zeros_like(fractions)
    for rows in chunks:
        stds[:, rows] = noise[rows] * _bounds(inside, fractions[:, rows], total[rows])
    residual = np.sqrt(np.divide(left, energy, out=np.zeros_like(left), where=energy > 0))
    found = fractions, stds, total * np.exp(1j * phase), residual, np.where(total > 0, noise, 0)
    return Fractions(components.tissue.ravel(), *map(voxels.in_place, found))


def _at_each_b1(components, images, mask, b1_map, progress, **how):
    """`fractions_of` the voxels of each B1, put together; images have their frames first."""
    mask = images.any(axis=0) & (True if mask is None else of_shape("mask", mask, images.shape[1:], bool))
    b1 = of_shape("b1_map", b1_map, mask.shape, float)
    require_positive("b1_map", b1[mask], "positive and finite in every voxel to fit")
    steps = np.maximum(np.round(np.where(mask, b1, 1) / _B1_STEP), 1)
    values, tissue = np.unique(steps[mask]), components.tissue.ravel()
    found = []
    for value in watched(values, "values of B1", shown=progress):
        there = simulated_like(components, dataclasses.replace(tissue, b1=value * _B1_STEP))
        found.append(fractions_of(there, images, mask=mask & (steps == value), **how))
    if not found:
        raise ValueError("images have no signal in any voxel to fit")
    maps = {name: sum(getattr(each, name) for each in found) for name in _MAPS}  # each is 0 in the voxels of others
    return Fractions(tissue, **maps)


def simulated_like(components: Dictionary, tissue: TissueModel) -> Dictionary:
    """The dictionary of another tissue, of the same sequence and slice, and in the same basis."""
    found = build_dictionary(components.sequence, tissue, slice_profile=components.slice_profile)
    if components.basis is None:
        return found
    fingerprints, norms, _ = project(found.fingerprints, found.norms, components.basis)
    return dataclasses.replace(found, fingerprints=fingerprints, norms=norms, basis=components.basis)


def _weights_and_phase(atoms, data):
    """Weights (components, voxels), phases (voxels,) and squared residuals of data (voxels, columns)."""
    both = np.iscomplexobj(atoms)
    columns, weights = as_real(atoms, both), np.zeros((len(data), len(atoms) + 1))
    phase = phase_of_best(atoms / np.linalg.norm(atoms, axis=1, keepdims=True), data)
    for _ in range(_TURNS):
        turned = data * np.exp(-1j * phase)[:, None]
        weights[:] = 0
        np.put_along_axis(weights, *nonnegative_least_squares(columns, as_real(turned, both)), 1)
        step = np.angle(np.linalg.vecdot(weights[:, :-1] @ atoms, turned))
        phase += step
        if np.abs(step).max(initial=0) <= _STILL:
            break
    return weights[:, :-1].T, phase, np.linalg.norm(turned - weights[:, :-1] @ atoms, axis=1) ** 2


def _bounds(signals, fractions, total):
    """Standard deviations of fractions, (components, voxels), for noise 1: weights and phase are unknown."""
    gram = (signals.conj() @ signals.T).real
    mixed = fractions.T @ signals
    along = (mixed.conj() @ (-1j * signals).T).real  # of a change of phase, 1j times the mixture, with each signal
    energy = np.linalg.norm(mixed, axis=1)[:, None, None] ** 2
    shared = np.divide(
        along[:, :, None] * along[:, None], energy, out=np.zeros((len(mixed), *gram.shape)), where=energy > 0
    )
    change = np.eye(len(signals)) - fractions.T[:, :, None]  # of fractions by weights, times their sum
    variance = np.einsum("vij,vjk,vik->iv", change, np.linalg.inv(gram - shared), change, optimize=True)
    return np.sqrt(np.maximum(variance, 0)) / np.where(total > 0, total, np.inf)


def require_one_field(dictionary: Dictionary):
    """Raises `ValueError` for atoms of several B1 or off-resonances: the components of a voxel feel the same."""
    for field, flag in (("b1", "--b1"), ("off_resonance", "--off_resonance_hz")):
        values = getattr(dictionary.tissue, field)
        if values is not None and np.ptp(values) > 0:
            low, high = (f"{value:.4g}" for value in (np.min(values), np.max(values)))
            raise ValueError(
                f"components of a voxel have one {field}, but the dictionary has {low} to {high}: simulate one for one "
                f"number ({flag})"
            )


def require_apart(components: Dictionary):
    """Raises `Collinear` where the unit signal of a component is within 0.01 of a sum of others."""
    atoms = wide(components.fingerprints[:])
    for first, atom in enumerate(atoms):
        others = np.delete(atoms, first, axis=0)
        rest = np.linalg.norm(atom - np.linalg.lstsq(others.T, atom, rcond=None)[0] @ others)
        if rest >= _ALIKE:
            continue
        likeness = np.abs(others.conj() @ atom)
        second = int(likeness.argmax())
        pair, correlation = (first, second + (second >= first)), likeness[second]
        one, other = (f"component {row} ({component_name(components.tissue, row)})" for row in pair)
        words = f"{one} cannot be told from the others: its correlation with {other} is {correlation:.6f}, and it is"
        raise Collinear(f"{words} within {rest:.1g} of a sum of all of them; leave one out", *pair)


def component_name(tissue: TissueModel, row: int) -> str:
    """What sets a component apart from the others, as figures have it: ``T1 400 ms, T2 20 ms``."""
    facts = {name: fact for name, fact in parameters(tissue).items() if np.ndim(getattr(tissue, name))}
    values = ((fact, fact.per_shown * float(getattr(tissue, name)[row])) for name, fact in facts.items())
    return ", ".join(f"{fact.name} {value:.4g} {fact.shown}".rstrip() for fact, value in values)
