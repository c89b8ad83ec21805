"""The search for the best atom of every voxel, which `match` makes, and for atoms whose errors could change it.

Blocks of atoms are read one after the other, so that the dictionary need not fit in memory. Scores of a block are
computed in float32: those of all atoms, of which the best score of each small group is kept, or, where many voxels are
matched with many atoms, those of one atom of each of some hundred groups of atoms that are alike (`alike`). Every group
that may hold the winner is then scored again in float64, over all frames, and the best atom so far is kept. The result
is that of a search in float64.

The float32 scores are computed in an orthonormal basis B of a few dozen directions that hold nearly all energy of every
atom. The error of such a score is bounded, by Cauchy and Schwarz:
``|<d, x> - <B'd, B'x>| <= |d - BB'd| |x - BB'x|``.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.dictionary.alike import Groups
from ganmrf.dictionary.compress import svd_basis, wide_blocks
from ganmrf.dictionary.scores import Best, float32_rounding, inner_products, real_features, unit_atoms, unit_signals
from ganmrf.parallel import one_blas_thread, run_chunks, workers
from ganmrf.progress import Progress

_GROUP = 16  # atoms of which the best float32 score is kept
_VOXELS = 2048  # voxels a chunk, a power of two: one compiled program for most, and work for several cores
_BLOCK_ATOMS = 2**16  # most atoms in memory at a time
_BLOCK_BYTES = 2**26  # most memory of a block; four times as much saves a tenth of the time of long blocks alone
_BASIS_ATOMS = 4096  # atoms from which the basis of the float32 scores is computed
_BASIS_RUN = 64  # consecutive atoms among these, so that few chunks are read from a disk
_BASIS_RANKS = (64, 128, 192)  # the smallest rank that leaves out no more than _LEFT_OUT is taken
_LEFT_OUT = 1e-5  # norm left out of a typical atom; about the rounding of a score over all frames
_WIDE = 64 * _GROUP  # atoms converted to float64 at a time
_TILE = {"voxels": 128, "atoms": 512}  # scores of a tile stay in the second-level cache
# To put atoms in groups takes as long as to score them for some hundred voxels.
_MANY_VOXELS, _MANY_ATOMS = 1024, 8192
_WORTH = 1 / 8  # share of groups that may be left; scores in float64, group by group, take longer than all of a block


def search(dictionary, series, voxels, progress):
    """(index, inner product, quality) of the best atom of each voxel; index -1 where there is no signal.

    ``series`` are signals or coefficients, (columns, all voxels), of which ``voxels`` are searched for.
    """
    best = Best.nothing(voxels.size)

    def decide(block, signals, rows, device):
        part = best.part(rows)
        for members, atoms in _by_group(*block.shortlist(signals, device, part.score)):
            part.improve(members, signals[members], unit_atoms(block.atoms[atoms]), block.first + atoms)

    norm = _visit(dictionary, series, voxels, decide, "matching" if progress else None)
    index = np.where(norm > 0, best.index, -1)
    return index, best.inner * norm, np.abs(best.inner)


def possible(dictionary, series, voxels, scores, angles, progress) -> tuple[np.ndarray, np.ndarray]:
    """Which atoms, (atoms,), could have a score that is no less than the one that is known for some voxel.

    An atom is known but for an angle: at angles of a and b from a signal and from the known vector, its score is at
    most the cosine of a - b, and 1 where b is larger.

    Args:
      dictionary: as of `search`.
      series: as of `search`.
      voxels: as of `search`, all with a signal.
      scores: that each voxel's best atom is known to have, (voxels,).
      angles: a function from a slice of the atoms to the angle that each may be off by, rad, (atoms,).
      progress: whether to show a progress bar.

    Returns:
      The atoms, bool, and how many of them there are for each voxel, (voxels,).
    """
    found, number = np.zeros(len(dictionary.fingerprints), bool), np.zeros(voxels.size, int)

    def mark(block, signals, rows, device):
        known, count = scores[rows], number[rows]
        for members, atoms in _by_group(*block.shortlist(signals, device, known)):
            products = np.abs(inner_products(signals[members], unit_atoms(block.atoms[atoms])))
            reached = _most(products, block.angles[atoms]) >= known[members][:, None]
            found[block.first + atoms[reached.any(axis=0)]] = True
            count[members] += reached.sum(axis=1)

    _visit(dictionary, series, voxels, mark, "bounding" if progress else None, angles)
    return found, number


def _visit(dictionary, series, voxels, visit, label, angles=None):
    """Calls ``visit(block, unit signals, voxels, device)`` for every block of atoms and chunk of voxels.

    Returns:
      The norm of each voxel's signal, (voxels,).
    """
    atoms = dictionary.fingerprints
    basis, norm = _score_basis(atoms), np.zeros(voxels.size)
    chunks = [slice(start, min(start + _VOXELS, voxels.size)) for start in range(0, voxels.size, _VOXELS)]
    into = dictionary.basis if len(series) == dictionary.sequence.n_frames else None

    def visit_chunk(block, rows, device):
        signals, norm[rows] = unit_signals(series, voxels[rows], into)
        visit(block, signals, rows, device)
        with bar.get_lock():
            bar.update(len(signals) * len(block.atoms) / len(atoms))

    size = _block_size(atoms)
    with Progress(voxels.size, label, unit="voxel", shown=label is not None) as bar:
        for first in range(0, len(atoms), size):
            rows, grouped = slice(first, first + size), voxels.size >= _MANY_VOXELS
            off = None if angles is None else angles(rows)
            block = _Block(np.asarray(atoms[rows]), first, size, basis, grouped, off)
            with one_blas_thread():
                run_chunks(functools.partial(visit_chunk, block), chunks)
            del block  # before the next one is read
    return norm


class _Block:
    """Atoms from row ``first`` of the dictionary on, laid out on every device for the float32 scores.

    Their ``angles`` are None where they are exact, or else what each may be off by.
    """

    def __init__(self, atoms, first, size, basis, grouped, angles=None):
        """Pads the atoms to ``size`` rows: blocks of one size share one compiled program."""
        self.atoms, self.first, self.basis, self.angles = atoms, first, basis, angles
        self.complex = np.iscomplexobj(atoms)
        columns, self.left_out = (atoms, None) if basis is None else _coefficients(atoms, basis)
        # Where the basis leaves much out of many atoms, too many groups would have to be scored again.
        if basis is None or np.median(self.left_out) > _LEFT_OUT:
            self.basis, columns, self.left_out = None, atoms, np.zeros(len(atoms))
        tiles = _tiles(np.concatenate([columns.real, columns.imag], axis=1) if self.complex else columns, size)
        self.rounding = float32_rounding(tiles.shape[1])
        self.placed = {device: jax.device_put(tiles, device) for device in set(workers())}
        grouped, starts = grouped and len(atoms) >= _MANY_ATOMS, range(0, len(atoms), _GROUP)
        self.groups = Groups.of(columns, self.left_out, self.rounding, angles) if grouped else None
        self.left_out = np.maximum.reduceat(self.left_out, starts)
        self.widest = None if angles is None else np.maximum.reduceat(angles, starts)

    def shortlist(self, unit, device, known):
        """Voxels among unit signals, a group that may hold the best atom of each, and the rows of every group.

        The scores that are ``known``, (voxels,), are of each voxel's best atom so far. Where atoms are not exact, their
        own scores tell nothing of the best.
        """
        inside = unit if self.basis is None else unit @ self.basis
        size = np.linalg.norm(inside, axis=1)
        missed = np.sqrt(np.maximum(1 - size**2, 0))
        if self.groups is not None:
            features = real_features(inside, self.complex).astype(np.float32)
            voxel, group = self.groups.shortlist(features, size, missed, known)
            if len(voxel) <= _WORTH * len(unit) * len(self.groups.rows):
                return voxel, group, self.groups.rows.__getitem__
        score, slack = self._first_scores(inside, missed, device)
        # Rounded down, so that pruning by it never drops the best atom.
        least = np.nextafter(known.astype(np.float32), np.float32(-2))
        if self.angles is None:
            most, least = score + slack, np.maximum((score - slack).max(axis=1), least)
        else:
            most = _most(score + slack, self.widest.astype(np.float32)) + 4 * np.finfo(np.float32).eps
        voxel, group = np.nonzero(most >= least[:, None])
        return voxel, group, lambda n: np.arange(n * _GROUP, min((n + 1) * _GROUP, len(self.atoms)))

    def _first_scores(self, inside, missed, device):
        """Largest score of each small group for each signal, and its largest error: (voxels, groups) each."""
        tiles = self.placed[device]
        size = max(1 << (len(inside) - 1).bit_length(), _TILE["voxels"])  # few voxels in short time, with few programs
        features = np.zeros((2, size, tiles.shape[1]), np.float32)
        features[:, : len(inside)] = real_features(inside, self.complex)
        squares = np.asarray(_group_best(features, tiles))[: len(inside), : -(-len(self.atoms) // _GROUP)]
        slack = self.rounding + self.left_out * missed[:, None]
        return np.sqrt(squares), slack.astype(np.float32)


def _block_size(atoms):
    """Rows of a block: whole tiles, so many that all blocks are about equal."""
    most = min(_BLOCK_ATOMS, max(_BLOCK_BYTES // (atoms.shape[1] * atoms.dtype.itemsize), 1))
    blocks = -(-len(atoms) // most)
    return -(-len(atoms) // (blocks * _TILE["atoms"])) * _TILE["atoms"]


def _score_basis(atoms):
    """A basis for the float32 scores, from runs of atoms spread over the dictionary; None for few atoms or columns."""
    ranks = [rank for rank in _BASIS_RANKS if 3 * rank <= min(len(atoms), atoms.shape[1])]
    if not ranks:
        return None
    starts = np.linspace(0, len(atoms) - _BASIS_RUN, _BASIS_ATOMS // _BASIS_RUN).astype(int)
    some = slice(None) if len(atoms) <= _BASIS_ATOMS else (starts[:, None] + np.arange(_BASIS_RUN)).ravel()
    some = np.asarray(atoms[some])
    basis = svd_basis(some, ranks[-1])
    bases = [basis[:, :rank] for rank in ranks]
    return next((basis for basis in bases if np.median(_coefficients(some, basis)[1]) <= _LEFT_OUT), None)


def _coefficients(atoms, basis):
    """Coefficients of atoms in a basis, and the norm that it leaves out of each, (atoms,)."""
    coefficients, left_out = [], []
    for rows in wide_blocks(atoms, _WIDE):
        coefficients.append(rows @ basis)
        left_out.append(np.linalg.norm(rows - coefficients[-1] @ basis.conj().T, axis=1))
    return np.concatenate(coefficients), np.concatenate(left_out)


def _tiles(atoms, size):
    """float32 atoms as columns, padded to ``size`` with zeros: (tiles, features, atoms of a tile)."""
    padded = np.zeros((size, atoms.shape[1]), np.float32)
    padded[: len(atoms)] = atoms
    return np.ascontiguousarray(np.moveaxis(padded.reshape(-1, _TILE["atoms"], atoms.shape[1]), 1, 2))


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


def _by_group(voxel, group, rows_of):
    """Yields the voxels that each group may hold the best atom of, and the rows of the group."""
    order = np.argsort(group, kind="stable")
    voxel, group = voxel[order], group[order]
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    for start, members in zip(starts, np.split(voxel, starts)[1:], strict=True):
        yield members, rows_of(group[start])


def _most(scores, angles):
    """Largest scores of what is off by ``angles``, (columns,), from vectors of these scores, (rows, columns)."""
    scores = np.minimum(scores, 1)
    along, across = np.cos(angles), np.sin(angles)
    apart = np.sqrt((1 - scores) * (1 + scores))  # exact where scores are near 1
    return np.where(scores >= along, 1, scores * along + apart * across)
