"""A dictionary: unit fingerprints of many tissues, and how it is simulated."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.physics.lowering import as_played
from ganmrf.physics.sequences.blocks import PulseSequence
from ganmrf.physics.simulate import simulate_in_chunks
from ganmrf.physics.simulate_many import empty_signals, plan_n_states, simulate_all
from ganmrf.physics.slice_profile import SliceModel
from ganmrf.physics.tissue import TissueModel
from ganmrf.pytrees import pytree


@pytree
@dataclasses.dataclass(frozen=True)
class Dictionary:
    """Fingerprints of many tissues, of unit norm, with the sequence and slice profile of their simulation.

    Attributes:
      tissue: the atoms' parameters; t1 and t2 (atoms,), s; the others (atoms,) or one number.
      fingerprints: (atoms, frames), or (atoms, rank) when ``basis`` is given; every row has unit norm.
      norms: norm of each fingerprint for M0 = 1, before it was normalised, (atoms,).
      sequence: the sequence that was simulated.
      slice_profile: the slice profile that was simulated, or None for a uniform slice.
      basis: None, or orthonormal columns (frames, rank), float64 or complex128: a signal's coefficients are ``signal @
        basis``.
      errors: None for simulated fingerprints; of generated ones an upper estimate of the norm of the difference of each
        row from that of the simulated atom, of unit norm, and in the basis, too, if there is one, (atoms,).
    """

    tissue: TissueModel
    fingerprints: np.ndarray | jax.Array
    norms: np.ndarray | jax.Array
    sequence: PulseSequence
    slice_profile: SliceModel | None = None
    basis: np.ndarray | None = None
    errors: np.ndarray | jax.Array | None = None

    def rows(self, index) -> "Dictionary":
        """The dictionary of some of the atoms, by a slice or an array of rows or booleans."""
        parts = {name: getattr(self, name) for name in ("fingerprints", "norms", "errors")}
        parts = {name: each[index] for name, each in parts.items() if each is not None}
        return dataclasses.replace(self, tissue=self.tissue.rows(index), **parts)


def build_dictionary(
    sequence: PulseSequence,
    tissue: TissueModel,
    *,
    n_states: int | None = None,
    accuracy: float = 1e-4,
    slice_profile: SliceModel | None = None,
    progress: bool = False,
) -> Dictionary:
    """Simulates a dictionary on every device, in chunks that fit the cache.

    The arguments are those of `simulate`, not traced, and an ``n_states`` of None chooses one number for every range of
    T2. ``progress`` shows a progress bar with an estimate of the time left.

    Returns:
      The dictionary of all voxels of ``tissue``, raveled: fingerprints (atoms, frames) in the dtype of the inputs, or
      complex, as `simulate` has them.

    Raises:
      ValueError: an atom without signal, which nothing can match, more atoms than the memory holds, or as `simulate`.
    """
    atoms = tissue.ravel()
    played = as_played(sequence, atoms)
    fingerprints = empty_signals(played, atoms, slice_profile)
    states = plan_n_states(played, atoms, n_states=n_states, accuracy=accuracy, slice_profile=slice_profile)
    norms = simulate_into(fingerprints, played, atoms, slice_profile, states, progress)
    require_signal(atoms, norms)
    return Dictionary(atoms, fingerprints, norms, sequence, slice_profile)


def simulate_into(fingerprints: np.ndarray, sequence, atoms, slice_profile, n_states, progress) -> np.ndarray:
    """Fills an array, (atoms, frames), with `unit_fingerprints`; returns their norms.

    The other arguments are those of `simulate_all`.
    """
    norms = np.empty(atoms.size, fingerprints.real.dtype)

    def store(rows, unit):
        fingerprints[rows], norms[rows] = unit

    simulate_all(store, unit_fingerprints, sequence, atoms, slice_profile, n_states, progress)
    return norms


def unit_fingerprints(sequence, tissue, slice_profile, **form):
    """Fingerprints (atoms, frames) of unit norm, and their norms (atoms,): 0 where there is no signal."""
    signals = simulate_in_chunks(sequence, tissue, slice_profile, **form)
    norms = jnp.linalg.norm(signals, axis=1)
    return signals / jnp.where(norms > 0, norms, 1)[:, None], norms


def require_signal(atoms: TissueModel, norms: np.ndarray, rows: np.ndarray | None = None):
    """Raises `ValueError` naming an atom without signal, if there is one; ``norms`` are of all atoms or of ``rows``."""
    if not norms.all():
        atom = int(np.argmin(norms)) if rows is None else rows[np.argmin(norms)]
        raise ValueError(f"atom {atom} (T1 {atoms.t1[atom]:.4g} s, T2 {atoms.t2[atom]:.4g} s) has no signal")
