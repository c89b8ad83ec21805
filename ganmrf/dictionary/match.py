"""Pattern matching: for every voxel the atom whose fingerprint is most like its signal.

The score of an atom d for a signal x is ``|<d, x>| / (|d| |x|)``.
"""

import dataclasses

import numpy as np

from ganmrf.dictionary.build import Dictionary
from ganmrf.dictionary.exact import ExactAtoms
from ganmrf.dictionary.parameter_maps import ParameterMaps
from ganmrf.dictionary.search import search


@dataclasses.dataclass(frozen=True, init=False)
class Maps(ParameterMaps):
    """Results of matching, each map of the images' spatial shape; 0 (index -1) outside the mask and without signal.

    Each parameter is an attribute as well: ``maps.t1``, None for one that the atoms do not have.

    Attributes:
      parameters: of the matched atom, by name: every field of the dictionary's tissue that is not None, in SI units and
        in the dtype of the dictionary. The sign of an off-resonance is arbitrary where magnitudes were matched with
        atoms of both (`magnitude_dictionary`).
      m0: complex amplitude: the image is ``m0`` times the fingerprint for M0 = 1; complex128. Fingerprints of
        `simulate` are 1j times the magnetisation, whose constant phase of -90 degrees is thus part of ``m0``.
      index: row of the dictionary, int64.
      quality: normalised inner product of signal and fingerprint, 0 to 1, float64; 1 for a signal of the dictionary.
    """

    parameters: dict[str, np.ndarray]
    m0: np.ndarray
    index: np.ndarray
    quality: np.ndarray


def match(
    dictionary: Dictionary,
    images,
    *,
    mask=None,
    axis: int = 0,
    progress: bool = False,
    exact: ExactAtoms | None = None,
) -> Maps:
    """Matches every voxel's signal with a dictionary; the matched atom is that of a search in float64.

    Args:
      dictionary: the dictionary, full or in a compressed basis (`compress`), real or complex; in memory or on disk
        (`open_dictionary`), where a block of it is read at a time.
      images: real or complex series, frames along ``axis``: (frames, ..., y, x) by default; or coefficients in the
        dictionary's basis, (rank, ..., y, x). The length of the axis tells which; frames if both are equal.
      mask: voxels to match, boolean, of the spatial shape; all by default.
      axis: axis of the frames in ``images``; -1 for signals as `simulate` returns them.
      progress: whether to show a progress bar with an estimate of the time left.
      exact: of a generated dictionary, for the maps of the simulated one: `ExactAtoms` of the dictionary. Atoms whose
        errors could change a decision are simulated. None takes fingerprints as they are.

    Raises:
      ValueError: images with neither the dictionary's frames nor its rank, or not finite inside the mask, or a mask of
        another shape.

    References:
      Ma et al. 2013, doi:10.1038/nature11971. McGivney et al. 2014, doi:10.1109/TMI.2014.2337321 (compressed basis).
    """
    return match_rows(dictionary, None, images, mask=mask, axis=axis, progress=progress, exact=exact)


def match_rows(dictionary: Dictionary, rows, images, *, mask=None, axis: int = 0, progress=False, exact=None) -> Maps:
    """`match` with a dictionary of some atoms of another one, those in ``rows``, that ``exact`` is of; None for all."""
    images = frames_first(dictionary, images, axis)
    shape = images.shape[1:]
    mask = np.ones(shape, bool) if mask is None else of_shape("mask", mask, shape, bool)
    series, voxels = images.reshape(len(images), -1), np.flatnonzero(mask)
    if exact is None:
        index, inner, quality = search(dictionary, series, voxels, progress)
        chosen, place = np.unique(index, return_inverse=True)
        norm = np.asarray(dictionary.norms[chosen], float)[place]
    else:
        index, inner, quality, norm = exact.search(dictionary, rows, series, voxels, progress)
    n_atoms = len(dictionary.fingerprints)
    fields = {name: np.asarray(each) for name, each in vars(dictionary.tissue).items() if each is not None}
    fields = {name: np.broadcast_to(each, n_atoms)[index] for name, each in fields.items()}
    return in_maps(mask, fields, index, inner, quality, norm)


def in_maps(mask: np.ndarray, fields: dict[str, np.ndarray], index, inner, quality, norm) -> Maps:
    """Maps of what was found in the voxels of a mask, (voxels,) each.

    Args:
      mask: the voxels, of the spatial shape.
      fields: parameters of the matched atom, by name.
      index: its row, -1 where there is no signal.
      inner: its inner product with the signal.
      quality: that of the maps.
      norm: its norm for M0 = 1.
    """
    found = index >= 0

    def in_place(values, missing=0):
        whole = np.full(mask.shape, missing, values.dtype)
        whole[mask] = np.where(found, values, missing)
        return whole

    return Maps(
        parameters={name: in_place(each) for name, each in fields.items()},
        m0=in_place(inner / norm),
        index=in_place(index, -1),
        quality=in_place(quality),
    )


def frames_first(dictionary: Dictionary, images, axis: int) -> np.ndarray:
    """Images with their frames, or their coefficients in the dictionary's basis, along the first axis.

    Raises:
      ValueError: images that are no numbers, or no ``axis`` of either length.
    """
    images = np.asarray(images)
    if images.dtype.kind not in "biufc":
        raise ValueError(f"images must be real or complex numbers; got {images.dtype}")
    n_frames, basis = dictionary.sequence.n_frames, dictionary.basis
    found = images.shape[axis] if -images.ndim <= axis < images.ndim else 0
    if found not in (n_frames, n_frames if basis is None else basis.shape[1]):
        rank = "" if basis is None else f" and a basis of rank {basis.shape[1]}"
        raise ValueError(
            f"images have {found} frames along axis {axis} (shape {images.shape}), but the dictionary has "
            f"{n_frames}{rank}"
        )
    return np.moveaxis(images, axis, 0)


def of_shape(name: str, values, shape: tuple[int, ...], dtype) -> np.ndarray:
    """The array of ``values``; raises `ValueError` unless it has the images' spatial shape."""
    values = np.asarray(values, dtype)
    if values.shape != shape:
        raise ValueError(f"{name} has shape {values.shape}, but the images have {shape}")
    return values
