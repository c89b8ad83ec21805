"""Groups of atoms that are alike, of which most can be left out of a search because of one atom of each.

Let the angle between a signal x and an atom d be that whose cosine is the score ``|<d, x>| / (|d| |x|)``. Angles obey
the triangle inequality: no atom of a group is nearer to x than its representative is, less the largest angle in the
group, its radius. Where the best atom known so far is nearer, all of the group is left out, and nothing is lost.
"""

from typing import NamedTuple

import numpy as np

_MOST = 64  # atoms of a group: with more or fewer there is more to score, representatives and what is not left out
_STRANGE = 1e-3  # norm that a basis leaves out of atoms with which no group is left out


class Groups(NamedTuple):
    """Groups of the atoms of a block.

    Attributes:
      rows: of the block's atoms that each group has, ascending, (groups, atoms); some may stand more than once.
      representatives: one atom of each group, of unit norm, in one column each, float32, real above imaginary parts.
      radius: largest angle between an atom of each group and the representative, rad, (groups,).
      exact: whether representatives are atoms: where atoms may be off by an angle, theirs is part of the radius.
      strange: groups with an atom of which the basis leaves much out, (groups,).
      left_out: largest norm that the basis leaves out of an atom of any other group.
      rounding: of a float32 score.
    """

    rows: np.ndarray
    representatives: np.ndarray
    radius: np.ndarray
    strange: np.ndarray
    left_out: float
    rounding: float
    exact: bool = True

    @classmethod
    def of(cls, atoms, left_out, rounding: float, angles=None) -> "Groups":
        """Groups of atoms, (atoms, columns), real or complex, and the norm that these columns leave out of each.

        The ``angles``, rad, (atoms,), are what each atom may be off by; None where they are exact.
        """
        rows = np.sort(_halved(_real(atoms)), axis=1)
        wide = atoms[rows].astype(np.result_type(atoms, float))
        wide /= np.linalg.norm(wide, axis=2, keepdims=True)
        central = np.einsum("gac,gc->ga", wide, wide.mean(axis=1).conj()).real.argmax(axis=1)
        chosen = np.take_along_axis(wide, central[:, None, None], axis=1)[:, 0]
        along = np.einsum("gac,gc->ga", wide, chosen.conj())
        apart = np.linalg.norm(wide - along[..., None] * chosen[:, None], axis=2)
        radius = np.arctan2(apart.max(axis=1), np.abs(along).min(axis=1))
        if angles is not None:
            radius = np.minimum(radius + angles[rows].max(axis=1), np.pi / 2)  # no atom is farther from a signal
        missing = left_out[rows].max(axis=1)
        strange = missing > _STRANGE
        columns = np.ascontiguousarray(_real(chosen).T, np.float32)
        missing = float(missing[~strange].max(initial=0))
        return cls(rows, columns, radius, strange, missing, rounding, exact=angles is None)

    def shortlist(self, features, size, missed, best) -> tuple[np.ndarray, np.ndarray]:
        """Voxels, and groups that may hold the best atom of each of them.

        Args:
          features: of the signals, of unit norm, float32, (2, voxels, columns): what gives real and imaginary part of
            their products with the representatives.
          size: norm of the signals in these columns, (voxels,), 0 without any signal.
          missed: norm of what is not in these columns, (voxels,).
          best: score of the best atom so far, (voxels,).
        """
        real, imaginary = features @ self.representatives
        scores = np.sqrt(real**2 + imaginary**2)
        slack = self.rounding + self.left_out * missed
        nearest = best - slack
        if self.exact:  # a representative is an atom, but for what its basis leaves out
            reached = scores[:, ~self.strange].max(axis=1, initial=0) * np.sqrt(1 - self.left_out**2) - slack
            nearest = np.maximum(nearest, reached - slack)
        with np.errstate(divide="ignore", invalid="ignore"):
            angle = np.where(size > 0, np.arccos(np.clip(nearest / size, 0, 1)), 0)
        # The cosine of the sum of the angle and of each radius, in float32, whose rounding is that of scores.
        along, across = (size * part(angle) for part in (np.cos, np.sin))
        least = np.outer(along.astype(np.float32), np.cos(self.radius).astype(np.float32))
        least -= np.outer(across.astype(np.float32), np.sin(self.radius).astype(np.float32))
        kept = scores + np.float32(2 * self.rounding) >= least
        return np.nonzero((kept | self.strange) & (size > 0)[:, None])


def _real(rows):
    """Complex columns as real ones, twice as many; real ones as they are."""
    return np.concatenate([rows.real, rows.imag], axis=-1) if np.iscomplexobj(rows) else rows


def _halved(atoms):
    """Rows of groups of no more than `_MOST` atoms: all atoms halved again and again across their longest extent."""
    halvings = max(int(np.ceil(np.log2(len(atoms) / _MOST))), 0)
    size = -(-len(atoms) >> halvings) if halvings else len(atoms)
    rows = np.minimum(np.arange(size << halvings), len(atoms) - 1)[None]
    for _ in range(halvings):
        there = atoms[rows]
        one = _farthest(there, there.mean(axis=1))
        other = _farthest(there, one)
        order = np.argsort(np.einsum("gac,gc->ga", there, other - one), axis=1, kind="stable")
        rows = np.take_along_axis(rows, order, axis=1).reshape(2 * len(rows), -1)
    return rows


def _farthest(atoms, point):
    """The atom of each group, (groups, atoms, columns), that is farthest from a point, (groups, columns)."""
    squares = np.einsum("gac,gac->ga", atoms, atoms) - 2 * np.einsum("gac,gc->ga", atoms, point)
    return np.take_along_axis(atoms, squares.argmax(axis=1)[:, None, None], axis=1)[:, 0]
