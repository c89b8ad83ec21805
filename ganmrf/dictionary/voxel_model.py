"""The model of voxels that `refine` fits: signals of any parameters of tissue, and their derivatives."""

import dataclasses
import warnings

import numpy as np

from ganmrf.dictionary.build import Dictionary
from ganmrf.dictionary.magnitude import without_phase
from ganmrf.dictionary.signal_sources import SignalSource, SimulatedSignals, longest_t2, ordered_times
from ganmrf.physics.tissue import Parameter, Tissue, parameters

# Fitted where nothing else is asked for: relaxation times, and of the others those of which the atoms have several.
_TIMES, _WHERE_SEVERAL = ("t1", "t2"), ("fraction", "off_resonance")
_LONGEST_STEP = 0.3  # of logarithms: within 35 % of T1 and T2 the signal is linear enough for a step to help
_LONGEST_SHARE = 0.1  # of numbers without a unit, as the fraction of a pool and B1: likewise
# Smaller steps are not taken: of logarithms and of numbers without a unit far below any error bar, of Hz below any
# error bar and above the rounding of 500 Hz to float32.
_CONVERGED, _CONVERGED_HZ = 1e-5, 1e-4
# Of a frequency's range, where a source of signals says it: coarse atoms start a fit within a tenth of the range.
_SHARE_OF_RANGE = 0.05
# Of what is left of a column: it stands for a hundredth of the error bars. Errors of other sources than the simulator
# are larger, and where valleys are long a third of the steps is saved.
_LITTLE = 1e-4
_ROUNDED = 1e-6  # relative; a value rounded to float32 is off by less, and still counts as inside
_MARGIN = 2.0  # the fit may leave the dictionary's range of logarithmic parameters by this factor


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
      little: share of a column's residual by which a step has to lower the residual to be taken; 0 asks for none.
      logarithmic: which steps are those of logarithms, (params,).
      of_pool_b: which parameters are those of a second pool, (params,).
      magnitude: whether the signals are magnitudes.
      source: of the signals.
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
    little: float
    logarithmic: np.ndarray
    of_pool_b: np.ndarray
    magnitude: bool
    source: SignalSource

    @classmethod
    def of(
        cls, dictionary: Dictionary, index, fitted, known, magnitude: bool, source: SignalSource | None = None
    ) -> "VoxelModel":
        """The model of voxels from the rows of their atoms, the names of what is fitted, and what else is known.

        ``known`` is name -> values, (voxels,); all other parameters are those of the atoms. ``source`` is the simulator
        by default.

        Raises:
          ValueError: a parameter without a range, or a source that does not know it or what is known.
        """
        tissue, facts = dictionary.tissue, parameters(dictionary.tissue)
        fields = {name: each for name, each in vars(tissue).items() if each is not None}
        atoms = {name: np.broadcast_to(np.asarray(each, float), tissue.shape) for name, each in fields.items()}
        known = {
            name: known.get(name, atoms[name][index] if name in atoms else None)
            for name in facts
            if name not in fitted and (name in atoms or name in known)
        }
        if source is not None:
            _require_inside(source, dictionary, fitted, known)
        given = {} if source is None else source.ranges
        ranges = np.array([_range(name, facts[name], atoms[name], given.get(name)) for name in fitted])
        low, high, least, most, longest_step, settled = np.moveaxis(ranges, 1, 0)[..., None]
        if source is None:
            ends = {name: (least, most) for name, least, most in zip(fitted, low[:, 0], high[:, 0], strict=True)}
            ends |= {name: _ends(each if each.size else _usual(name, atoms)) for name, each in known.items()}
            source = SimulatedSignals.of(dictionary, ends)
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
            little=_LITTLE if given else 0.0,
            logarithmic=np.array([facts[name].logarithmic for name in fitted]),
            of_pool_b=~np.isin(fitted, list(parameters(Tissue))),
            magnitude=magnitude,
            source=source,
        )
        return model.started_at(index, slice(None))

    @property
    def n_columns(self) -> int:
        """Number of frames, or of coefficients."""
        return self.dictionary.fingerprints.shape[1]

    @property
    def is_complex(self) -> bool:
        """Whether the signals are complex."""
        return not self.magnitude and np.issubdtype(self.source.dtype, np.complexfloating)

    @property
    def longest_t2(self) -> np.ndarray:
        """The longest T2 of each voxel's pools where it starts, s, (voxels,)."""
        return longest_t2(self._fields(self.start, slice(None)))

    def part(self, rows) -> "VoxelModel":
        """The model of some of the voxels."""
        known = {name: each[rows] for name, each in self.known.items()}
        return dataclasses.replace(self, start=self.start[:, rows], known=known)

    def started_at(self, index, rows) -> "VoxelModel":
        """The model of the voxels ``rows``, where each starts at another atom, ``index``, in what is fitted."""
        part, atoms = self.part(rows), self.dictionary.tissue
        values = [np.broadcast_to(getattr(atoms, name), atoms.shape)[index].astype(float) for name in self.fitted]
        start = np.clip(np.stack(values), self.low, self.high)
        return dataclasses.replace(part, start=part._ordered(start, slice(None)))

    def signals(self, values, rows, mesh) -> np.ndarray:
        """Signals of the voxels ``rows`` for M0 = 1, at these values, and their derivatives by steps.

        Float64 or complex128, (rows, 1 + params, columns).
        """
        kind, fields = type(self.dictionary.tissue), self._fields(values, rows)
        names = [name for name in parameters(kind) if name in fields]
        # Voxels may share an atom.
        distinct, copies = np.unique(np.stack([fields[name] for name in names]), axis=1, return_inverse=True)
        with warnings.catch_warnings():  # of pools that a step names the other way than by convention
            warnings.simplefilter("ignore")
            tissue = kind(**dict(zip(names, distinct, strict=True)))
        signals = self.source.signals(tissue, self.fitted, mesh)
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
        """Which parameters are at an end of tissue that the step would leave, (params, rows).

        Those of pool b, and all where the source of signals ends, are also held at ends of their range.
        """
        to_ends = self.of_pool_b[:, None] | bool(self.source.ranges)
        low, high = np.where(to_ends, self.low, self.least), np.where(to_ends, self.high, self.most)
        return ((values == low) & (step < 0)) | ((values == high) & (step > 0))

    def inside(self, values, rows) -> np.ndarray:
        """Where all values are away from the ends of their ranges that are none of tissue itself, (rows,)."""
        above, below = (values > self.low) | (values == self.least), (values < self.high) | (values == self.most)
        fields, found = self._fields(values, rows), (above & below).all(axis=0)
        for longer, shorter in ordered_times(fields):
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
        for longer, shorter in ordered_times(fields):
            if shorter in self.fitted:
                values[self.fitted.index(shorter)] = np.minimum(fields[longer], fields[shorter])
            elif longer in self.fitted:
                values[self.fitted.index(longer)] = np.maximum(fields[longer], fields[shorter])
        return values


def _require_inside(source, dictionary, fitted, known):
    """Raises `ValueError` for what a source of signals does not know; ``known`` is name -> values of the voxels."""
    if not np.array_equal(source.basis, dictionary.basis):
        raise ValueError(
            "the source of signals has another basis than the dictionary: one prepared sequence makes both"
        )
    for name in fitted:
        low, high = source.ranges.get(name, (0.0, 0.0))
        if low == high:
            raise ValueError(f"--fit={name}: the generator has no axis for {name}: give it as known, or leave it out")
    for name, values in known.items():
        if name not in source.ranges:
            raise ValueError(f"known {name}: the generator has no axis for {name}, and no value other than none")
        low, high = source.ranges[name]
        margin = _ROUNDED * max(abs(low), abs(high))
        if outside := np.count_nonzero((values < low - margin) | (values > high + margin)):
            raise ValueError(
                f"known {name} is outside the generator's {low:.4g} to {high:.4g} in {outside} of {values.size} "
                f"voxels, from {values.min():.4g} to {values.max():.4g}: nothing is extrapolated"
            )


def _range(name: str, parameter: Parameter, atoms, given: tuple[float, float] | None):
    """What `VoxelModel` has for a fitted parameter: low, high, least, most, longest_step and settled.

    ``given`` is the range that a source of signals has; None takes that of the atoms, and more.
    """
    if given is not None:
        return _given_range(parameter, *given)
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
    least, most = _ends_of_tissue(parameter, low, high)
    # Off-resonance has ridges, on whose other side there is another minimum.
    steps = (half.max(), _CONVERGED_HZ) if parameter.unit else (_LONGEST_SHARE, _CONVERGED)
    return low, high, least, most, *steps


def _given_range(parameter, low, high):
    """`_range` where a source has signals from ``low`` to ``high``."""
    if parameter.logarithmic:
        # Below its offset nothing changes, and 0 has no logarithm.
        return low or parameter.offset, high, -np.inf, np.inf, _LONGEST_STEP, _CONVERGED
    steps = (_SHARE_OF_RANGE * (high - low), _CONVERGED_HZ) if parameter.unit else (_LONGEST_SHARE, _CONVERGED)
    return low, high, *_ends_of_tissue(parameter, low, high), *steps


def _ends_of_tissue(parameter, low, high):
    """``least`` and ``most`` of `VoxelModel`."""
    least = low if parameter.may_be_least and low == parameter.least else -np.inf
    return least, high if high == parameter.most else np.inf


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
