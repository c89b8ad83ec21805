"""Pattern matching: for every voxel the atom whose fingerprint is most like its signal.

The score of an atom d for a signal x is ``|<d, x>| / (|d| |x|)``. All scores are computed in float32, a
block at a time, and only the best of each small group of atoms is kept; every group in which the winner could hide is
then scored again in float64, over all frames. The result is that of a search in float64.

The first scores are taken in an orthonormal basis B of a few dozen directions that hold nearly all of every atom. What
they leave out is bounded: ``|<d, x> - <B'd, B'x>| <= |d - BB'd| |x - BB'x|``, by Cauchy and Schwarz.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import threadpoolctl

from ganmrf.dictionary.build import Dictionary
from ganmrf.dictionary.compress import svd_basis
from ganmrf.physics.workers import run_chunks, workers

_GROUP = 16  # atoms whose best float32 score is kept
_VOXELS = 2048  # voxels a chunk
_BASIS_ATOMS = 4096  # from which the basis of the first scores is made
_BASIS_RANK = 64
_LEFT_OUT = 1e-5  # of a typical atom; about the rounding of a score of all frames
_WIDE = 64 * _GROUP  # atoms taken to float64 at a time
_TILE = {"voxels": 128, "atoms": 512}  # scores of a tile stay in the second-level cache


@dataclasses.dataclass(frozen=True)
class Maps:
    """What matching found, each field of the images' spatial shape; 0 (index -1) outside the mask and without signal.

    Attributes:
      t1: longitudinal relaxation time, s, in the dtype of the dictionary.
      t2: transverse relaxation time, s, likewise.
      m0: complex amplitude: the image is ``m0`` times the fingerprint for M0 = 1; complex128. Fingerprints of
        `simulate` are real, so the constant phase -90 degrees of their magnetisation is part of ``m0``.
      index: row of the dictionary, int64.
      quality: normalised inner product of signal and fingerprint, 0..1, float64; 1 for a signal of the dictionary.
    """

    t1: np.ndarray
    t2: np.ndarray
    m0: np.ndarray
    index: np.ndarray
    quality: np.ndarray


def match(dictionary: Dictionary, images, *, mask=None, axis: int = 0, progress: bool = False) -> Maps:
    """Matches every voxel's signal with a dictionary; the decision is that of a search in float64.

    Args:
      dictionary: the dictionary, full or in a compressed basis (`compress`), real or complex.
      images: real or complex series, frames along ``axis``: (frames, ..., y, x) by default.
      mask: voxels to match, boolean, of the spatial shape; all by default.
      axis: where the frames are; -1 for signals as `simulate` returns them.
      progress: whether to show a progress bar with an estimate of the time left.

    Returns:
      The maps.

    Raises:
      ValueError: images whose frames are not the dictionary's or that are not finite inside the mask, or a mask of
        another shape.

    References:
      Ma et al. 2013, doi:10.1038/nature11971. McGivney et al. 2014, doi:10.1109/TMI.2014.2337321 (compressed basis).
    """
    images = np.asarray(images)
    n_frames = dictionary.sequence.n_frames
    if images.ndim == 0 or images.shape[axis] != n_frames:
        found = images.shape[axis] if images.ndim else 0
        raise ValueError(
            f"images have {found} frames along axis {axis} (shape {images.shape}), but the dictionary has {n_frames}"
        )
    images = np.moveaxis(images, axis, 0)
    shape = images.shape[1:]
    mask = np.ones(shape, bool) if mask is None else np.asarray(mask, bool)
    if mask.shape != shape:
        raise ValueError(f"mask has shape {mask.shape}, but the images have {shape}")
    index, inner, quality = _search(dictionary, images.reshape(n_frames, -1), np.flatnonzero(mask), progress)
    found = index >= 0
    tissue = jax.tree.map(np.asarray, dictionary.tissue)
    norms = np.asarray(dictionary.norms, float)

    def in_place(values, missing=0):
        whole = np.full(shape, missing, values.dtype)
        whole[mask] = np.where(found, values, missing)
        return whole

    return Maps(
        t1=in_place(tissue.t1[index]),
        t2=in_place(tissue.t2[index]),
        m0=in_place(inner / norms[index]),
        index=in_place(index, -1),
        quality=in_place(quality),
    )


def _search(dictionary, series, voxels, progress):
    """(index, inner product, quality) of the best atom of each voxel; index -1 where there is no signal."""
    atoms = np.asarray(dictionary.fingerprints)
    complex_atoms = np.iscomplexobj(atoms)
    basis, left_out = _first_basis(atoms)
    first = atoms if basis is None else _coordinates(atoms, basis)
    tiles = _tiles(np.concatenate([first.real, first.imag], axis=1) if complex_atoms else first)
    # Rounding of a float32 inner product of unit vectors: the probabilistic bound of Higham and Mary 2019,
    # doi:10.1137/18M1226312, with lambda = 4; that of the vectors' own entries, and that of `_decide`'s sums.
    rounding = (4 * np.sqrt(tiles.shape[1]) + 4) * np.finfo(np.float32).eps / 2
    placed = {device: jax.device_put(tiles, device) for device in set(workers())}
    index = np.full(voxels.size, -1)
    inner = np.zeros(voxels.size, complex)
    quality = np.zeros(voxels.size)

    def search_chunk(rows, device):
        signals = np.ascontiguousarray(series[:, voxels[rows]].T)
        signals = signals.astype(np.result_type(signals, float))
        if dictionary.basis is not None:
            signals = signals @ dictionary.basis
        norm = np.linalg.norm(signals, axis=1)
        if not np.isfinite(norm).all():
            raise ValueError(f"images hold NaN or infinite values, in {np.sum(~np.isfinite(norm))} voxels of a chunk")
        unit = signals / np.where(norm > 0, norm, 1)[:, None]
        inside = unit if basis is None else unit @ basis
        missed = np.sqrt(np.maximum(1 - np.linalg.norm(inside, axis=1) ** 2, 0))
        features = np.zeros((2, _VOXELS, tiles.shape[1]), np.float32)
        features[:, : len(rows)] = _features(inside, complex_atoms)
        best = np.asarray(_group_best(features, placed[device]))[: len(rows), : -(-len(atoms) // _GROUP)]
        slack = rounding + left_out * missed[:, None]
        index[rows], inner[rows] = _decide(atoms, unit, np.sqrt(best), slack.astype(np.float32))
        index[rows[norm == 0]] = -1
        quality[rows] = np.abs(inner[rows])
        inner[rows] *= norm

    chunks = np.split(np.arange(voxels.size), range(_VOXELS, voxels.size, _VOXELS))
    with threadpoolctl.threadpool_limits(1, "blas"):  # a worker is a core: BLAS threads would only wait for each other
        run_chunks(search_chunk, chunks, sizes=[len(c) for c in chunks], progress="matching" if progress else None)
    return index, inner, quality


def _first_basis(atoms):
    """A basis for the first scores, and the most that it leaves out of an atom of each group; None, 0: all frames."""
    some = atoms[:: -(-len(atoms) // _BASIS_ATOMS)]
    if min(some.shape) < 3 * _BASIS_RANK:
        return None, np.zeros((1, 1))
    basis = svd_basis(some, _BASIS_RANK)
    left_out = [
        np.maximum.reduceat(np.linalg.norm(rows - rows @ basis @ basis.conj().T, axis=1), range(0, len(rows), _GROUP))
        for rows in _wide_blocks(atoms)
    ]
    left_out = np.concatenate(left_out)[None]
    # Where much is left out of many atoms, many would be scored again.
    return (basis, left_out) if np.median(left_out) < _LEFT_OUT else (None, np.zeros((1, 1)))


def _coordinates(atoms, basis):
    return np.concatenate([rows @ basis for rows in _wide_blocks(atoms)])


def _wide_blocks(atoms):
    """Blocks of atoms, whole groups, in float64 or complex128."""
    for start in range(0, len(atoms), _WIDE):
        yield atoms[start : start + _WIDE].astype(np.result_type(atoms, float))


def _tiles(atoms):
    """float32 atoms as columns, padded with zeros: (tiles, features, atoms of a tile)."""
    padded = np.zeros((-(-len(atoms) // _TILE["atoms"]) * _TILE["atoms"], atoms.shape[1]), np.float32)
    padded[: len(atoms)] = atoms
    return np.ascontiguousarray(np.moveaxis(padded.reshape(-1, _TILE["atoms"], atoms.shape[1]), 1, 2))


def _features(signals, complex_atoms):
    """Real rows whose products with real atoms are the real and imaginary parts of <d, x>: (2, voxels, features)."""
    real, imaginary = signals.real, signals.imag
    if complex_atoms:
        return np.stack([np.concatenate([real, imaginary], 1), np.concatenate([imaginary, -real], 1)])
    return np.stack([real, imaginary])


@jax.jit
def _group_best(features, tiles):
    """Largest squared score of each group of atoms, float32: (voxels, groups)."""

    def block(rows):
        def tile(atoms):
            products = jnp.matmul(rows, atoms, precision="highest")  # GPUs would round the factors to TF32
            real, imaginary = jnp.split(products, 2)
            return jnp.max((real**2 + imaginary**2).reshape(_TILE["voxels"], -1, _GROUP), axis=-1)

        return jnp.moveaxis(jax.lax.map(tile, tiles), 0, 1).reshape(_TILE["voxels"], -1)

    blocks = jnp.moveaxis(features.reshape(2, -1, _TILE["voxels"], features.shape[-1]), 0, 1)
    best = jax.lax.map(block, blocks.reshape(-1, 2 * _TILE["voxels"], features.shape[-1]))
    return best.reshape(features.shape[1], -1)


def _decide(atoms, signals, score, slack):
    """The best atom of each voxel among the groups that may hold it, in float64: (index, inner product).

    Atoms of unit norm in float32 are not quite so in float64, enough to swap neighbours: it is divided out.
    """
    voxel, group = np.nonzero(score + slack >= (score - slack).max(axis=1, keepdims=True))
    order = np.argsort(group, kind="stable")
    voxel, group = voxel[order], group[order]
    index = np.zeros(len(signals), int)
    inner = np.zeros(len(signals), complex)
    highest = np.full(len(signals), -1.0)
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    for start, members in zip(starts, np.split(voxel, starts[1:]), strict=True):
        first = group[start] * _GROUP
        atoms64 = atoms[first : first + _GROUP].astype(np.result_type(atoms, float))
        atoms64 /= np.linalg.norm(atoms64, axis=1, keepdims=True)
        products = signals[members] @ atoms64.conj().T
        scores = np.abs(products)
        winner = np.argmax(scores, axis=1)
        rows = np.arange(len(members))
        better = scores[rows, winner] > highest[members]
        improved = members[better]
        highest[improved] = scores[rows, winner][better]
        index[improved] = first + winner[better]
        inner[improved] = products[rows, winner][better]
    return index, inner
