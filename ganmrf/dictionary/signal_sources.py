"""Where the signals of a fit, and their derivatives, come from: the simulator, or another model of the same scan."""

import dataclasses
import functools
import itertools
from collections.abc import Mapping
from typing import ClassVar, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.dictionary.build import Dictionary
from ganmrf.physics.lowering import signal_dtype
from ganmrf.physics.simulate import simulate_in_chunks
from ganmrf.physics.simulate_many import batched_simulator, plan_n_states
from ganmrf.physics.tissue import ORDERED_TIMES, TissueModel, parameters

_T2_RATIO = 1.25  # between neighbouring T2 for which a number of states is chosen: a few per cent of the time
_ACCURACY = 1e-4  # of signals, by truncating the states: the error shifts T1 and T2 by less than any step that is taken


class SignalSource(Protocol):
    """What gives a fit the signals of tissue.

    Attributes:
      ranges: name -> ends of the range, SI, outside which there are no signals; both are equal for a parameter that has
        one value. Empty where signals of all tissues are known; else it names all parameters of the tissue.
      basis: that signals are coefficients in, that of the dictionary; None for frames.
      dtype: of the signals, before they are float64 or complex128.
    """

    ranges: Mapping[str, tuple[float, float]]
    basis: np.ndarray | None
    dtype: np.dtype

    def signals(self, tissue: TissueModel, by: tuple[str, ...], mesh: jax.sharding.Mesh) -> np.ndarray:
        """Signals for M0 = 1 and their derivatives, float64 or complex128, (voxels, 1 + params, columns).

        Args:
          tissue: every field (voxels,), or None.
          by: fields to differentiate by, by the logarithms of those that are logarithmic (`Parameter`).
          mesh: of devices, one of `parallel.meshes`; several threads call at once.
        """


@dataclasses.dataclass(frozen=True)
class SimulatedSignals:
    """The simulator as a `SignalSource`.

    Attributes:
      dictionary: says sequence and slice, and the basis, if any, of the signals.
      ladder: ascending T2, s, and the number of states that voxels of no longer one need, (2, steps).
      dtype: of the signals of frames.
    """

    dictionary: Dictionary
    ladder: np.ndarray
    dtype: np.dtype
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {}

    @property
    def basis(self) -> np.ndarray | None:
        """That of the dictionary."""
        return self.dictionary.basis

    @classmethod
    def of(cls, dictionary: Dictionary, ends: Mapping[str, tuple[float, float]]) -> "SimulatedSignals":
        """The source for tissue between the smallest and the largest value of each parameter, ``ends``."""
        sequence, profile = dictionary.sequence, dictionary.slice_profile
        t2, corners = _corners(type(dictionary.tissue), ends)
        states = plan_n_states(sequence, corners, n_states=None, accuracy=_ACCURACY, slice_profile=profile)
        ladder = np.stack([t2, states[:: len(states) // t2.size]])
        return cls(dictionary, ladder, signal_dtype(sequence, corners, profile))

    def signals(self, tissue: TissueModel, by: tuple[str, ...], mesh: jax.sharding.Mesh) -> np.ndarray:
        """As `SignalSource.signals` has it, to 1e-4 of a signal."""
        sequence, profile, basis = self.dictionary.sequence, self.dictionary.slice_profile, self.basis
        fields = {name: np.asarray(each) for name, each in vars(tissue).items() if each is not None}
        step = np.minimum(np.searchsorted(self.ladder[0], longest_t2(fields)), self.ladder.shape[1] - 1)
        states = self.ladder[1, step].astype(np.int32)
        simulate = batched_simulator(derivatives_by(by), sequence, tissue, profile, states)
        n_columns, signals = sequence.n_frames if basis is None else basis.shape[1], None
        for places, results in simulate(np.arange(step.size), mesh):
            for n, each in enumerate(results):
                each = each.astype(np.result_type(each, float)) if basis is None else each @ basis
                if signals is None:
                    signals = np.empty((step.size, 1 + len(by), n_columns), each.dtype)
                signals[places, n] = each
        return signals


def longest_t2(fields: Mapping[str, np.ndarray]) -> np.ndarray:
    """The longest T2 of each voxel's pools, s, from the values of its parameters by name."""
    return np.max([fields[shorter] for _, shorter in ordered_times(fields)], axis=0)


def ordered_times(fields) -> list[tuple[str, str]]:
    """Pairs of fields, among these, of which the second does not exceed the first."""
    return [pair for pair in ORDERED_TIMES if pair[1] in fields]


def with_derivatives(signals_of, tissue: TissueModel, names: tuple[str, ...]) -> tuple[jax.Array, jax.Array]:
    """Signals of tissue, and their derivatives by parameters, of logarithmic ones by logarithm, in forward mode.

    Args:
      signals_of: tissue -> signals, (voxels, columns), of each voxel by itself.
      tissue: the voxels.
      names: fields of the tissue that are (voxels,).

    Returns:
      Signals (voxels, columns), and derivatives (params, voxels, columns).
    """
    facts, values = parameters(tissue), [getattr(tissue, name) for name in names]
    each = zip(names, values, strict=True)
    steps = jnp.stack([value if facts[name].logarithmic else jnp.ones_like(value) for name, value in each])
    directions = jnp.eye(len(names), dtype=steps.dtype)[:, :, None] * steps[None]

    def signal(values):
        return signals_of(dataclasses.replace(tissue, **dict(zip(names, values, strict=True))))

    along = jax.vmap(lambda direction: jax.jvp(signal, (values,), (list(direction),)), out_axes=(None, 0))
    return along(directions)


@functools.cache  # compiled programs are known by their function
def derivatives_by(names: tuple[str, ...]):
    """A function of `batched_simulator`: signals and their derivatives by parameters, of logarithmic ones by logarithm.

    Each is (voxels, frames), in the order of ``names``, fields of the tissue that are (voxels,). Differentiation is in
    forward mode: unlike in `simulate_with_tangents`, one compiled program serves every number of states.
    """

    def signal_and_derivatives(sequence, tissue, slice_profile, **form):
        signals, derivatives = with_derivatives(
            lambda there: simulate_in_chunks(sequence, there, slice_profile, **form), tissue, names
        )
        return signals, *derivatives

    return signal_and_derivatives


def _corners(kind, ends):
    """Ascending T2, and tissue at the ends of all other parameters at each of them in turn.

    ``ends`` are the smallest and the largest value of each parameter. The times of pool b are cut off where they would
    be longer than those which they have to be shorter than: the T2 stands for the longest of a voxel.
    """
    names = [shorter for _, shorter in ordered_times(ends)]
    low, high = (max(ends[name][end] for name in names) for end in (0, 1))
    t2 = high / _T2_RATIO ** np.arange(np.log(high / low) / np.log(_T2_RATIO) + 1)[::-1]
    others = [name for name in parameters(kind) if name in ends and name != "t2"]
    longest, *values = np.transpose(list(itertools.product(t2, *({*ends[name]} for name in others))))
    fields = dict(zip(others, values, strict=True)) | {"t2": longest}
    for longer, shorter in ordered_times(fields):
        fields[shorter] = np.minimum(fields[shorter], longest)
        fields[longer] = np.maximum(fields[longer], fields[shorter])
    return t2, kind(**fields)
