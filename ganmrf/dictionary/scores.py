"""Scores of signals and atoms, ``|<d, x>|`` of unit vectors, in float64, and the best of them for each voxel."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Best:
    """The best atom so far of each voxel: row, inner product with the unit signal, and magnitude of this product."""

    index: np.ndarray
    inner: np.ndarray
    score: np.ndarray

    @classmethod
    def nothing(cls, number: int) -> "Best":
        """Of so many voxels, which any atom is better than."""
        return cls(np.zeros(number, int), np.zeros(number, complex), np.full(number, -1.0))

    def part(self, voxels: slice) -> "Best":
        """A view of some voxels: writing to the view writes to the whole."""
        return Best(self.index[voxels], self.inner[voxels], self.score[voxels])

    def improve(self, voxels: np.ndarray, signals: np.ndarray, atoms: np.ndarray, rows: np.ndarray):
        """Has voxels take the best of some atoms where it is better; all vectors are of unit norm, in float64.

        Args:
          voxels: which voxels the signals are of, (signals,).
          signals: (signals, columns).
          atoms: (atoms, columns).
          rows: of the atoms, (atoms,).
        """
        products = inner_products(signals, atoms)
        scores = np.abs(products)
        found = np.arange(len(scores)), np.argmax(scores, axis=1)
        better = scores[found] > self.score[voxels]
        improved = voxels[better]
        self.score[improved] = scores[found][better]
        self.index[improved] = rows[found[1]][better]
        self.inner[improved] = products[found][better]


def unit_signals(series: np.ndarray, voxels: np.ndarray, into: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Signals of unit norm, float64 or complex128, of some voxels of a series, (columns, all voxels), and their norms.

    They are projected on a basis that they go ``into``, or None. Where there is no signal they are 0.

    Raises:
      ValueError: a series that is not finite.
    """
    signals = np.ascontiguousarray(series[:, voxels].T)
    signals = signals.astype(np.result_type(signals, float))
    if into is not None:
        signals = signals @ into
    norm = np.linalg.norm(signals, axis=1)
    if unfit := np.sum(~np.isfinite(norm)):
        raise ValueError(f"images hold NaN or infinite values, in {unfit} voxels of a chunk")
    signals /= np.where(norm > 0, norm, 1)[:, None]  # in place: a copy would be the largest array of a search
    return signals, norm


def unit_atoms(atoms: np.ndarray) -> np.ndarray:
    """Atoms in float64, of unit norm: norms that are 1 in float32 alone differ enough to swap neighbours."""
    atoms = atoms.astype(np.result_type(atoms, float))
    return atoms / np.linalg.norm(atoms, axis=1, keepdims=True)


def inner_products(signals: np.ndarray, atoms: np.ndarray) -> np.ndarray:
    """Inner products of signals and atoms, (signals, atoms); half the work where the atoms are real."""
    if np.iscomplexobj(signals) and not np.iscomplexobj(atoms):
        products = np.empty((len(signals), len(atoms)), signals.dtype)
        products.real, products.imag = signals.real @ atoms.T, signals.imag @ atoms.T
        return products
    return signals @ atoms.conj().T


def real_features(signals: np.ndarray, complex_atoms: bool) -> np.ndarray:
    """Real rows whose products with real atoms are real and imaginary part of <d, x>: (2, signals, features).

    Where the atoms are complex, each one's real parts stand before its imaginary ones.
    """
    real, imaginary = signals.real, signals.imag
    if complex_atoms:
        return np.stack([np.concatenate([real, imaginary], 1), np.concatenate([imaginary, -real], 1)])
    return np.stack([real, imaginary])


def float32_rounding(n_features: int) -> float:
    """Largest rounding of a float32 inner product of unit vectors, whose entries and sums are rounded, too.

    The probabilistic bound of Higham and Mary 2019, doi:10.1137/18M1226312, with lambda = 4.
    """
    return (4 * np.sqrt(n_features) + 4) * np.finfo(np.float32).eps / 2
