"""The model of voxels that `refine` fits: signals of T1, T2 and off-resonance, and their derivatives."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.dictionary.build import Dictionary
from ganmrf.dictionary.magnitude import without_phase
from ganmrf.physics.lowering import signal_dtype
from ganmrf.physics.simulate import simulate_in_chunks
from ganmrf.physics.simulate_many import batched_simulator, plan_n_states
from ganmrf.physics.tissue import Tissue

_LONGEST_STEP = 0.3  # of log T1 and log T2: within 35 % the signal is linear enough for a step to help
_CONVERGED = 1e-5  # a smaller step of log T1 and log T2 is not taken: far below any error bar
_CONVERGED_HZ = 1e-4  # nor one of off-resonance: below any error bar, above the rounding of 500 Hz to float32
_FITTED = "t1", "t2", "off_resonance"  # of a tissue
_MARGIN = 2.0  # the fit may leave the dictionary's range of T1 and T2 by this factor
_T2_RATIO = 1.25  # between neighbouring T2 for which a number of states is chosen: a few per cent of the time
_ACCURACY = 1e-4  # of signals, by truncating the states: the error shifts T1 and T2 by less than `_CONVERGED`


@dataclasses.dataclass(frozen=True)
class VoxelModel:
    """The signals that are fitted to some voxels, and where each voxel starts.

    Values are those of T1 and T2, s, and where it is fitted off-resonance, Hz, (params, voxels); steps are of log T1,
    log T2 and off-resonance.

    Attributes:
      dictionary: the dictionary that was matched.
      start: values of each voxel's atom.
      b1: actual over nominal flip angle of each voxel, (voxels,).
      off_resonance: of each voxel, Hz, (voxels,), where it is not fitted; None on resonance, too.
      low: smallest values allowed, (params, 1).
      high: largest values allowed, (params, 1).
      longest_step: (params, 1).
      magnitude: whether the signals are magnitudes.
      dtype: of the signals of frames, before a basis makes float64 or complex128 of it.
      ladder: ascending T2, s, and the number of states that a T2 up to this value needs, (2, steps).
    """

    dictionary: Dictionary
    start: np.ndarray
    b1: np.ndarray
    off_resonance: np.ndarray | None
    low: np.ndarray
    high: np.ndarray
    longest_step: np.ndarray
    magnitude: bool
    dtype: np.dtype
    ladder: np.ndarray

    @classmethod
    def of(cls, dictionary: Dictionary, index, b1, b0, magnitude: bool) -> "VoxelModel":
        """The model of voxels from the rows of their atoms, their B1, and their off-resonance where it is known."""
        own, names = dictionary.tissue.off_resonance, fitted_parameters(dictionary)
        if b0 is not None:
            names = names[:2]
        elif own is not None and len(names) == 2:
            b0 = np.broadcast_to(np.asarray(own, float), dictionary.tissue.shape)[index]
        atoms = np.stack([np.asarray(getattr(dictionary.tissue, name), float) for name in names])
        low, high = atoms.min(axis=1, keepdims=True), atoms.max(axis=1, keepdims=True)
        low[:2], high[:2] = low[:2] / _MARGIN, high[:2] * _MARGIN
        longest_step = np.full_like(low, _LONGEST_STEP)
        if len(names) == 3:
            values = np.unique(atoms[2])
            half = np.diff(values) / 2
            low[2], high[2], longest_step[2] = values[0] - half[0], values[-1] + half[-1], half.max()
        t2 = high[1] / _T2_RATIO ** np.arange(np.log(high[1, 0] / low[1, 0]) / np.log(_T2_RATIO) + 1)[::-1]
        ends = [low[0, 0], high[0, 0]], _ends(b1, 1.0), _ends(np.append(low[2:], high[2:]) if b0 is None else b0, 0.0)
        longest, t1, b1s, hz = np.transpose(list(itertools.product(t2, *ends)))
        tissue = Tissue(np.maximum(t1, longest), longest, b1s, None if b0 is None and own is None else hz)
        sequence, profile = dictionary.sequence, dictionary.slice_profile
        states = plan_n_states(sequence, tissue, n_states=None, accuracy=_ACCURACY, slice_profile=profile)
        signals = signal_dtype(sequence, tissue, profile)
        return cls(
            dictionary=dictionary,
            start=atoms[:, index],
            b1=b1,
            off_resonance=b0,
            low=low,
            high=high,
            longest_step=longest_step,
            magnitude=magnitude,
            dtype=np.zeros(0, signals).real.dtype if magnitude else signals,
            ladder=np.stack([t2, states[:: len(states) // t2.size]]),
        )

    @property
    def fitted(self) -> tuple[str, ...]:
        """Names of what is fitted."""
        return _FITTED[: len(self.start)]

    @property
    def n_columns(self) -> int:
        """Number of frames, or of coefficients."""
        return self.dictionary.fingerprints.shape[1]

    def signals(self, values, rows, mesh) -> np.ndarray:
        """Signals of the voxels ``rows`` for M0 = 1, at these values, and their derivatives by steps.

        Float64 or complex128, (rows, 1 + params, columns).
        """
        sequence, profile, basis = self.dictionary.sequence, self.dictionary.slice_profile, self.dictionary.basis
        known = [each[rows] for each in (self.b1, self.off_resonance) if each is not None]
        # Voxels may share an atom.
        distinct, copies = np.unique(np.stack([*values[:2], *known, *values[2:]]), axis=1, return_inverse=True)
        step = np.minimum(np.searchsorted(self.ladder[0], distinct[1]), self.ladder.shape[1] - 1)
        states = self.ladder[1, step].astype(np.int32)
        simulate = batched_simulator(derivatives_by(self.fitted), sequence, Tissue(*distinct), profile, states)
        signals = None
        for places, results in simulate(np.arange(step.size), mesh):
            for n, each in enumerate(results):
                each = each.astype(np.result_type(each, float)) if basis is None else each @ basis
                if signals is None:
                    signals = np.empty((step.size, 1 + len(values), self.n_columns), each.dtype)
                signals[places, n] = each
        if self.magnitude:
            signals = without_phase(signals)
        return signals[copies.ravel()]

    def moved(self, values, step) -> tuple[np.ndarray, np.ndarray]:
        """Values after a step, within their ranges, T2 not above T1; and whether any moves enough to count, (rows,)."""
        target = np.clip(np.concatenate([values[:2] * np.exp(step[:2]), values[2:] + step[2:]]), self.low, self.high)
        target[1] = np.minimum(target[0], target[1])
        moves = (np.abs(np.log(target[:2] / values[:2])) > _CONVERGED).any(axis=0)
        return target, moves | (np.abs(target[2:] - values[2:]) > _CONVERGED_HZ).any(axis=0)


def _ends(values, otherwise):
    """The smallest and the largest of some values, or what stands for them where there is none."""
    return (values.min(), values.max()) if values.size else (otherwise,)


def fitted_parameters(dictionary: Dictionary) -> tuple[str, ...]:
    """Names of what is estimated from a signal beside M0: T1, T2, and off-resonance where the atoms have several."""
    own = dictionary.tissue.off_resonance
    return _FITTED[: 2 if own is None or np.ptp(own) == 0 else 3]


@functools.cache  # compiled programs are known by their function
def derivatives_by(names: tuple[str, ...]):
    """A function of `batched_simulator`: signals and their derivatives by log T1, log T2 and off-resonance, Hz.

    Each is (voxels, frames), in the order of ``names``, the first ones of ``t1``, ``t2``, ``off_resonance``.
    Differentiation is in forward mode: unlike in `simulate_with_tangents`, one compiled program serves every number of
    states.
    """

    def signal_and_derivatives(sequence, tissue, slice_profile, **form):
        def signal(values):
            tissue_there = dataclasses.replace(tissue, **dict(zip(names, values, strict=True)))
            return simulate_in_chunks(sequence, tissue_there, slice_profile, **form)

        values = [getattr(tissue, name) for name in names]
        steps = jnp.stack([*values[:2], *map(jnp.ones_like, values[2:])])
        directions = jnp.eye(len(names), dtype=steps.dtype)[:, :, None] * steps[None]
        along = jax.vmap(lambda direction: jax.jvp(signal, (values,), (list(direction),)), out_axes=(None, 0))
        signals, derivatives = along(directions)
        return signals, *derivatives

    return signal_and_derivatives
