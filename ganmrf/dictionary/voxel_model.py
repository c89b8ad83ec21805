"""The model of voxels that `refine` fits: signals of any parameters of tissue, and their derivatives."""

import dataclasses
import functools
import itertools
import warnings

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.dictionary.build import Dictionary
from ganmrf.dictionary.magnitude import without_phase
from ganmrf.physics.lowering import signal_dtype
from ganmrf.physics.simulate import simulate_in_chunks
from ganmrf.physics.simulate_many import batched_simulator, plan_n_states
from ganmrf.physics.tissue import ORDERED_TIMES, Parameter, Tissue, parameters

# Fitted where nothing else is asked for: relaxation times, and of the others those of which the atoms have several.
_TIMES, _WHERE_SEVERAL = ("t1", "t2"), ("fraction", "off_resonance")
_LONGEST_STEP = 0.3  # of logarithms: within 35 % of T1 and T2 the signal is linear enough for a step to help
_LONGEST_SHARE = 0.1  # of numbers without a unit, as the fraction of a pool and B1: likewise
# Smaller steps are not taken: of logarithms and of numbers without a unit far below any error bar, of Hz below any
# error bar and above the rounding of 500 Hz to float32.
_CONVERGED, _CONVERGED_HZ = 1e-5, 1e-4
_MARGIN = 2.0  # the fit may leave the dictionary's range of logarithmic parameters by this factor
_T2_RATIO = 1.25  # between neighbouring T2 for which a number of states is chosen: a few per cent of the time
_ACCURACY = 1e-4  # of signals, by truncating the states: the error shifts T1 and T2 by less than `_CONVERGED`


@dataclasses.dataclass(frozen=True)
class VoxelModel:
    """The signals that are fitted to some voxels, and where each voxel starts.

    Values are those of the fitted parameters, in SI units, (params, voxels); steps are of the logarithms of logarithmic
    ones (`Parameter`), and of all others as they are.

    Attributes:
      dictionary: the dictionary that was matched.
      fitted: names of what is fitted, in the order of the tissue's fields.
      known: name -> values of every other parameter that the tissue has, (voxels,).
      start: values of each voxel's atom.
      low: smallest values allowed, (params, 1).
      high: largest values allowed, (params, 1).
      least: those of ``low`` that tissue itself ends at, such as a fraction of 0; -inf for all others, (params, 1).
      most: those of ``high`` that tissue itself ends at, such as a fraction of 1; inf for all others, (params, 1).
      longest_step: (params, 1).
      settled: steps up to these are not taken, (params, 1).
      logarithmic: which steps are those of logarithms, (params,).
      of_pool_b: which parameters are those of a second pool, (params,).
      magnitude: whether the signals are magnitudes.
      dtype: of the signals of frames, before a basis makes float64 or complex128 of it.
      ladder: ascending T2, s, and the number of states that voxels of no longer one need, (2, steps).
    """

    dictionary: Dictionary
    fitted: tuple[str, ...]
    known: dict[str, np.ndarray]
    start: np.ndarray
    low: np.ndarray
    high: np.ndarray
    least: np.ndarray
    most: np.ndarray
    longest_step: np.ndarray
    settled: np.ndarray
    logarithmic: np.ndarray
    of_pool_b: np.ndarray
    magnitude: bool
    dtype: np.dtype
    ladder: np.ndarray

    @classmethod
    def of(cls, dictionary: Dictionary, index, fitted, known, magnitude: bool) -> "VoxelModel":
        """The model of voxels from the rows of their atoms, the names of what is fitted, and what else is known.

        ``known`` is name -> values, (voxels,); all other parameters are those of the atoms.
        """
        tissue, facts = dictionary.tissue, parameters(dictionary.tissue)
        fields = {name: each for name, each in vars(tissue).items() if each is not None}
        atoms = {name: np.broadcast_to(np.asarray(each, float), tissue.shape) for name, each in fields.items()}
        known = {
            name: known.get(name, atoms[name][index] if name in atoms else None)
            for name in facts
            if name not in fitted and (name in atoms or name in known)
        }
        ranges = np.array([_range(name, facts[name], atoms[name]) for name in fitted])
        low, high, least, most, longest_step, settled = np.moveaxis(ranges, 1, 0)[..., None]
        ends = {name: (least, most) for name, least, most in zip(fitted, low[:, 0], high[:, 0], strict=True)}
        ends |= {name: _ends(each if each.size else _usual(name, atoms)) for name, each in known.items()}
        t2, needed = _corners(type(tissue), ends)
        sequence, profile = dictionary.sequence, dictionary.slice_profile
        states = plan_n_states(sequence, needed, n_states=None, accuracy=_ACCURACY, slice_profile=profile)
        signals = signal_dtype(sequence, needed, profile)
        model = cls(
            dictionary=dictionary,
            fitted=fitted,
            known=known,
            start=np.empty((len(fitted), len(index))),
            low=low,
            high=high,
            least=least,
            most=most,
            longest_step=longest_step,
            settled=settled,
            logarithmic=np.array([facts[name].logarithmic for name in fitted]),
            of_pool_b=~np.isin(fitted, list(parameters(Tissue))),
            magnitude=magnitude,
            dtype=np.zeros(0, signals).real.dtype if magnitude else signals,
            ladder=np.stack([t2, states[:: len(states) // t2.size]]),
        )
        start = np.clip(np.stack([atoms[name][index] for name in fitted]), low, high)
        return dataclasses.replace(model, start=model._ordered(start, np.arange(len(index))))

    @property
    def n_columns(self) -> int:
        """Number of frames, or of coefficients."""
        return self.dictionary.fingerprints.shape[1]

    @property
    def longest_t2(self) -> np.ndarray:
        """The longest T2 of each voxel's pools where it starts, s, (voxels,)."""
        return _longest_t2(self._fields(self.start, slice(None)))

    def part(self, rows) -> "VoxelModel":
        """The model of some of the voxels."""
        known = {name: each[rows] for name, each in self.known.items()}
        return dataclasses.replace(self, start=self.start[:, rows], known=known)

    def signals(self, values, rows, mesh) -> np.ndarray:
        """Signals of the voxels ``rows`` for M0 = 1, at these values, and their derivatives by steps.

        Float64 or complex128, (rows, 1 + params, columns).
        """
        sequence, profile, basis = self.dictionary.sequence, self.dictionary.slice_profile, self.dictionary.basis
        kind, fields = type(self.dictionary.tissue), self._fields(values, rows)
        names = [name for name in parameters(kind) if name in fields]
        # Voxels may share an atom.
        distinct, copies = np.unique(np.stack([fields[name] for name in names]), axis=1, return_inverse=True)
        fields = dict(zip(names, distinct, strict=True))
        step = np.minimum(np.searchsorted(self.ladder[0], _longest_t2(fields)), self.ladder.shape[1] - 1)
        states = self.ladder[1, step].astype(np.int32)
        with warnings.catch_warnings():  # of pools that a step names the other way than by convention
            warnings.simplefilter("ignore")
            tissue = kind(**fields)
        simulate = batched_simulator(derivatives_by(self.fitted), sequence, tissue, profile, states)
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

    def moved(self, values, step, rows) -> tuple[np.ndarray, np.ndarray]:
        """Values after a step, within their ranges, T2 not above T1; and whether any moves enough to count, (rows,).

        A step beyond an end of tissue is cut short there as a whole, since what else moves goes with the part of it
        that led there.
        """
        room = np.where(step < 0, self.least, self.most) - values
        step = step * np.minimum(np.divide(room, step, out=np.full_like(room, np.inf), where=step != 0).min(axis=0), 1)
        target, logs = values + step, self.logarithmic
        target[logs] = values[logs] * np.exp(step[logs])
        target = self._ordered(np.clip(target, self.low, self.high), rows)
        for end in (self.least, self.most):
            target = np.where(np.abs(target - end) <= self.settled, end, target)
        change = target - values
        change[logs] = np.log(target[logs] / values[logs])
        return target, (np.abs(change) > self.settled).any(axis=0)

    def held(self, values, step) -> np.ndarray:
        """Which parameters are at an end of tissue, or those of pool b of their range, that the step would leave.

        (params, rows).
        """
        of_pool_b = self.of_pool_b[:, None]
        low, high = np.where(of_pool_b, self.low, self.least), np.where(of_pool_b, self.high, self.most)
        return ((values == low) & (step < 0)) | ((values == high) & (step > 0))

    def inside(self, values, rows) -> np.ndarray:
        """Where all values are away from the ends of their ranges that are none of tissue itself, (rows,)."""
        above, below = (values > self.low) | (values == self.least), (values < self.high) | (values == self.most)
        fields, found = self._fields(values, rows), (above & below).all(axis=0)
        for longer, shorter in _ordered_times(fields):
            if {longer, shorter} & {*self.fitted}:
                found &= fields[shorter] < fields[longer]
        return found

    def _fields(self, values, rows):
        """Name -> values of every parameter of these voxels, (rows,)."""
        fields = dict(zip(self.fitted, values, strict=True))
        return fields | {name: each[rows] for name, each in self.known.items()}

    def _ordered(self, values, rows):
        """Values of which no T2 is above the T1 of its pool: where both are fitted, T2 gives way."""
        fields = self._fields(values, rows)
        for longer, shorter in _ordered_times(fields):
            if shorter in self.fitted:
                values[self.fitted.index(shorter)] = np.minimum(fields[longer], fields[shorter])
            elif longer in self.fitted:
                values[self.fitted.index(longer)] = np.maximum(fields[longer], fields[shorter])
        return values


def _range(name: str, parameter: Parameter, atoms):
    """What `VoxelModel` has for a fitted parameter: low, high, least, most, longest_step and settled."""
    levels = np.unique(atoms)
    if parameter.logarithmic:
        levels = levels[levels > 0]
        if not levels.size:
            raise ValueError(f"--fit={name}: all atoms of the dictionary have 0, which has no logarithm: leave it out")
        high = max(min(levels[-1] * _MARGIN, parameter.scale[0]), levels[-1])  # no body has more
        return levels[0] / _MARGIN, high, -np.inf, np.inf, _LONGEST_STEP, _CONVERGED
    if levels.size == 1:
        raise ValueError(
            f"--fit={name}: all atoms of the dictionary have {levels[0]:.4g}; a grid of several says "
            "within what range to fit it"
        )
    half = np.diff(levels) / 2
    low, high = levels[0] - half[0], min(levels[-1] + half[-1], parameter.most)
    if not parameter.signed:
        low = max(low, parameter.least if parameter.may_be_least else levels[0] / _MARGIN)
    least = low if parameter.may_be_least and low == parameter.least else -np.inf
    most = high if high == parameter.most else np.inf
    # Off-resonance has ridges, on whose other side there is another minimum.
    steps = (half.max(), _CONVERGED_HZ) if parameter.unit else (_LONGEST_SHARE, _CONVERGED)
    return low, high, least, most, *steps


def _corners(kind, ends):
    """Ascending T2, and tissue at the ends of all other parameters at each of them in turn.

    ``ends`` are the smallest and the largest value of each parameter. The times of pool b are cut off where they would
    be longer than those which they have to be shorter than: the T2 stands for the longest of a voxel.
    """
    names = [shorter for _, shorter in _ordered_times(ends)]
    low, high = (max(ends[name][end] for name in names) for end in (0, 1))
    t2 = high / _T2_RATIO ** np.arange(np.log(high / low) / np.log(_T2_RATIO) + 1)[::-1]
    others = [name for name in parameters(kind) if name in ends and name != "t2"]
    longest, *values = np.transpose(list(itertools.product(t2, *({*ends[name]} for name in others))))
    fields = dict(zip(others, values, strict=True)) | {"t2": longest}
    for longer, shorter in _ordered_times(fields):
        fields[shorter] = np.minimum(fields[shorter], longest)
        fields[longer] = np.maximum(fields[longer], fields[shorter])
    return t2, kind(**fields)


def _longest_t2(fields):
    return np.max([fields[shorter] for _, shorter in _ordered_times(fields)], axis=0)


def _ordered_times(fields):
    """Pairs of fields of which the second does not exceed the first."""
    return [pair for pair in ORDERED_TIMES if pair[1] in fields]


def _usual(name, atoms):
    """Values of the atoms, which stand for those of voxels where there are none."""
    return atoms.get(name, np.zeros(1))


def _ends(values):
    return values.min(), values.max()


def fitted_parameters(dictionary: Dictionary, known=()) -> tuple[str, ...]:
    """Names of what is estimated from a signal beside M0, where nothing else is asked for.

    They are T1 and T2, and the fraction of pool b and off-resonance where the atoms have several, but for those which
    are ``known``.
    """
    fields = {name: each for name, each in vars(dictionary.tissue).items() if each is not None}
    several = [name for name in _WHERE_SEVERAL if name in fields and np.ptp(fields[name])]
    return tuple(name for name in fields if name in (*_TIMES, *several) and name not in known)


@functools.cache  # compiled programs are known by their function
def derivatives_by(names: tuple[str, ...]):
    """A function of `batched_simulator`: signals and their derivatives by parameters, of logarithmic ones by logarithm.

    Each is (voxels, frames), in the order of ``names``, fields of the tissue that are (voxels,). Differentiation is in
    forward mode: unlike in `simulate_with_tangents`, one compiled program serves every number of states.
    """

    def signal_and_derivatives(sequence, tissue, slice_profile, **form):
        def signal(values):
            tissue_there = dataclasses.replace(tissue, **dict(zip(names, values, strict=True)))
            return simulate_in_chunks(sequence, tissue_there, slice_profile, **form)

        facts, values = parameters(tissue), [getattr(tissue, name) for name in names]
        each = zip(names, values, strict=True)
        steps = jnp.stack([value if facts[name].logarithmic else jnp.ones_like(value) for name, value in each])
        directions = jnp.eye(len(names), dtype=steps.dtype)[:, :, None] * steps[None]
        along = jax.vmap(lambda direction: jax.jvp(signal, (values,), (list(direction),)), out_axes=(None, 0))
        signals, derivatives = along(directions)
        return signals, *derivatives

    return signal_and_derivatives
