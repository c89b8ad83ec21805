"""What errors of generated fingerprints do to maps: the bias of tissue and M0 in standard deviations of the noise.

Whether a voxel is matched to another atom depends on how far apart the atoms are, and errors too small for that all
look alike. Bias has no such threshold. Below 1 it is smaller than the scatter of a single voxel.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.dictionary.build import Dictionary
from ganmrf.dictionary.cramer_rao import cramer_rao, induced_bias
from ganmrf.dictionary.parameter_maps import ParameterMaps
from ganmrf.dictionary.signal_sources import derivatives_by
from ganmrf.dictionary.voxel_model import fitted_parameters
from ganmrf.physics.lowering import signal_dtype
from ganmrf.physics.simulate_many import plan_n_states, simulate_all
from ganmrf.progress import Progress
from ganmrf.pytrees import require_positive

_BLOCK = 512  # atoms in memory at a time: 4 MB of 1000 frames in float64 for each of some twenty arrays
_ACCURACY = 1e-4  # of the derivatives, and of the bias with them


@dataclasses.dataclass(frozen=True, init=False)
class BiasToNoise(ParameterMaps):
    """Magnitude of the bias over the standard deviation by noise, for M0 = 1, dimensionless, each (atoms,), float64.

    NaN where the signal does not determine all of them. Each parameter is an attribute as well: ``bias.t1``.

    Attributes:
      parameters: of each parameter of tissue that `fitted_parameters` names: T1 and T2, say.
      m0: of abs(M0).
    """

    parameters: dict[str, np.ndarray]
    m0: np.ndarray

    @property
    def determined(self) -> dict[str, np.ndarray]:
        """Field, and ``m0`` -> values of the atoms whose signal determines all of them, (determined atoms,)."""
        return {name: each[np.isfinite(each)] for name, each in (self.parameters | {"m0": self.m0}).items()}


def bias_to_noise(
    simulated: Dictionary,
    generated: Sequence[Dictionary],
    noise: float,
    *,
    parameters: Sequence[str] | None = None,
    rows=None,
    progress: bool = False,
) -> list[BiasToNoise]:
    """The bias that errors of generated fingerprints induce, beside the Cramer-Rao bound, atom by atom.

    The error of an atom is the difference of generated and simulated signal for M0 = 1, norms times fingerprints. To
    first order it moves least-squares estimates of tissue and complex M0 by `induced_bias`; their standard deviations
    are those of `cramer_rao`. Both follow from one set of derivatives, which are simulated block by block.

    Args:
      simulated: the dictionary that is the truth, compressed or not.
      generated: dictionaries that share the cost of the derivatives: fingerprints and norms of the same atoms, in the
        form of ``simulated``. Fingerprints are read block by block, so that `RowsOnDemand` are never in memory as a
        whole; what else a dictionary holds is not looked at.
      noise: standard deviation of white noise in the real, and in the imaginary, part of each frame, for M0 = 1. In
        scans of the digital brain it is `ganmrf.imaging.phantom.noise_std`: the root mean square of the signals'
        magnitudes over voxels of the brain and frames, divided by the signal-to-noise ratio. In a voxel of any other
        M0, the ratio is abs(M0) times larger.
      parameters: fields of tissue that are estimated, (atoms,) each; the others are known. By default T1, T2 and what
        `refine` fits beside them: the fraction of pool b and off-resonance, where atoms have several.
      rows: indices of the atoms to look at, ascending; all by default.
      progress: whether to show a progress bar with an estimate of the time left.

    Returns:
      The bias of each of ``generated``.

    Raises:
      ValueError: fingerprints or norms of another shape than the simulated ones, a parameter that the atoms have not,
        or have one of for all, or a noise that is not positive.
    """
    names = _checked(simulated, generated, noise, parameters)
    chosen = np.arange(simulated.tissue.size) if rows is None else np.asarray(rows)
    atoms = jax.tree.map(np.asarray, simulated.tissue).rows(chosen)
    form = {"n_states": None, "accuracy": _ACCURACY, "slice_profile": simulated.slice_profile}
    states = plan_n_states(simulated.sequence, atoms, **form)
    found = np.empty((len(generated), len(names) + 1, atoms.size))
    with Progress(atoms.size, "comparing", unit="atom", shown=progress) as bar:
        by_states = np.argsort(-states, kind="stable")  # a block has few numbers of states
        for start in range(0, atoms.size, _BLOCK):
            rows = np.sort(by_states[start : start + _BLOCK])
            rows = np.resize(rows, min(_BLOCK, atoms.size))  # one shape for all blocks
            truth, *others = (
                np.asarray(each.norms, float)[chosen[rows], None] * np.asarray(each.fingerprints[chosen[rows]])
                for each in (simulated, *generated)
            )
            signals = _signals(simulated, names, atoms.rows(rows), states[rows])
            with jax.enable_x64(True):
                for ratios, ours in zip(found, others, strict=True):
                    ratios[:, rows] = _ratios(signals, ours - truth, noise)
            bar.update(min(_BLOCK, atoms.size - start))
    return [BiasToNoise(parameters=dict(zip(names, ratios, strict=False)), m0=ratios[-1]) for ratios in found]


def _checked(simulated, generated, noise, parameters):
    """The names of the parameters that are estimated; `ValueError` for what `bias_to_noise` refuses."""
    for name in ("fingerprints", "norms"):
        own = getattr(simulated, name).shape
        for given in (getattr(each, name).shape for each in generated):
            if given != own:
                raise ValueError(f"generated {name} have shape {given}, but simulated ones {own}")
    require_positive("noise", noise)
    names = fitted_parameters(simulated) if parameters is None else tuple(parameters)
    for name in names:
        if not np.ndim(getattr(simulated.tissue, name, None)):
            raise ValueError(f"parameters: the atoms have no {name} of their own each")
    return names


def _signals(simulated, names, atoms, states):
    """Signals and the derivatives of `derivatives_by`, float64 or complex128, (1 + names, atoms, columns)."""
    sequence, profile = simulated.sequence, simulated.slice_profile
    dtype = np.result_type(signal_dtype(sequence, atoms, profile), float)
    signals = np.empty((1 + len(names), atoms.size, sequence.n_frames), dtype)

    def store(places, results):
        for each, result in zip(signals, results, strict=True):
            each[places] = result

    simulate_all(store, derivatives_by(names), sequence, atoms, profile, states, False)
    return signals if simulated.basis is None else signals @ simulated.basis


@jax.jit
def _ratios(signals, error, noise):
    signal, *derivatives = signals
    shifts, of_m0 = induced_bias(signal, derivatives, error)
    stds, std_of_m0 = cramer_rao(signal, derivatives, 1.0, noise)
    return jnp.abs(jnp.stack([*shifts, of_m0.real])) / jnp.stack([*stds, std_of_m0])
