"""Signals of the voxels of a mask, chunk by chunk, for fits that are linear in the amplitudes of atoms."""

import dataclasses

import numpy as np

from ganmrf.dictionary.build import Dictionary
from ganmrf.dictionary.match import frames_first, of_shape
from ganmrf.pytrees import require_positive

FEW_COLUMNS = 100  # with fewer columns the noise of one voxel is known to no better than 7 %


@dataclasses.dataclass(frozen=True)
class VoxelSignals:
    """Images as signals of the voxels to fit.

    Attributes:
      series: frames, or coefficients in the basis of a dictionary, (frames or rank, all voxels).
      basis: that frames are put in, (frames, rank); None where they stay, or coefficients were given.
      shape: spatial shape of the images.
      voxels: flat positions of the voxels to fit.
    """

    series: np.ndarray
    basis: np.ndarray | None
    shape: tuple[int, ...]
    voxels: np.ndarray

    @classmethod
    def of(cls, dictionary: Dictionary, images, mask, axis: int) -> "VoxelSignals":
        """The signals of images, as for `match`; raises `ValueError` for images or a mask of another shape."""
        images = frames_first(dictionary, images, axis)
        mask = np.ones(images.shape[1:], bool) if mask is None else of_shape("mask", mask, images.shape[1:], bool)
        basis = dictionary.basis if len(images) == dictionary.sequence.n_frames else None
        return cls(images.reshape(len(images), -1), basis, images.shape[1:], np.flatnonzero(mask))

    @property
    def complex(self) -> bool:
        """Whether the signals are complex."""
        return np.iscomplexobj(self.series) or np.iscomplexobj(self.basis)

    def rows(self, rows: np.ndarray) -> np.ndarray:
        """Signals of some of the voxels, (rows, columns of the dictionary), float64 or complex128.

        Raises `ValueError` for values that are not finite.
        """
        signals = wide(self.series[:, self.voxels[rows]].T)
        if unfit := np.count_nonzero(~np.isfinite(signals).all(axis=1)):
            raise ValueError(f"images hold NaN or infinite values, in {unfit} voxels of a chunk")
        return signals if self.basis is None else signals @ self.basis

    def chunks(self, size: int) -> list[np.ndarray]:
        """Numbers of the voxels in chunks of ``size``."""
        return np.split(np.arange(self.voxels.size), range(size, self.voxels.size, size))

    def require_any(self, energy: np.ndarray):
        """Raises `ValueError` where the energies of all voxels are 0."""
        if not energy.any():
            raise ValueError(f"images have no signal in any of the {energy.size} voxels to fit")

    def noise(self, given, left: np.ndarray, freedom: np.ndarray) -> np.ndarray:
        """Standard deviation of the noise of each voxel: as it was given, or from what a fit left.

        Args:
          given: one number or of the spatial shape; None measures it: voxel by voxel, or, where fewer than 100 numbers
            tell it, as one root mean square over all voxels.
          left: squared norms of the residuals, (voxels,).
          freedom: numbers less unknowns, (voxels,).

        Raises:
          ValueError: a noise that is not positive or of another shape, or none where nothing tells it.
        """
        if given is not None:
            given = np.broadcast_to(given, self.shape) if np.ndim(given) == 0 else given
            given = of_shape("noise", given, self.shape, float).ravel()[self.voxels]
            require_positive("noise", given, "positive and finite in every fitted voxel")
            return given
        if freedom.min() >= FEW_COLUMNS:
            return np.sqrt(left / freedom)
        if freedom.mean() < 1:
            raise ValueError("noise must be given: voxels have too few numbers to measure it")
        return np.full(left.shape, np.sqrt(left.sum() / freedom.sum()))

    def in_place(self, values: np.ndarray) -> np.ndarray:
        """Values of the voxels, (..., voxels), in images, (..., *shape), of 0 elsewhere."""
        whole = np.zeros((*values.shape[:-1], np.prod(self.shape, dtype=int)), values.dtype)
        whole[..., self.voxels] = values
        return whole.reshape(*values.shape[:-1], *self.shape)


def phase_of_best(atoms: np.ndarray, signals: np.ndarray) -> np.ndarray:
    """Phase of each signal's inner product with the atom, of unit norm, that it is most like: (signals,), rad."""
    inner = signals @ atoms.conj().T
    return np.angle(np.take_along_axis(inner, np.abs(inner).argmax(axis=1)[:, None], 1)[:, 0])


def as_real(values: np.ndarray, both: bool) -> np.ndarray:
    """Real columns, (rows, columns or twice as many): real parts, and behind them imaginary ones if ``both`` count."""
    return np.concatenate([values.real, values.imag], axis=1) if both else np.ascontiguousarray(values.real)


def wide(values) -> np.ndarray:
    """An array in float64 or complex128."""
    values = np.asarray(values)
    return values.astype(np.result_type(values, float))
