"""Exact decisions of a generated dictionary: atoms whose errors could change a voxel's match are simulated.

Let d be a generated fingerprint, t the simulated one, both of unit norm, and ``|d - t| <= e``. The angle between two
vectors is that whose cosine is the magnitude of their inner product, after both are made of unit norm. Between d and t
it is at most ``b = 2 arcsin(e / 2)``, since ``|<d, t>| >= Re <d, t> = 1 - |d - t|**2 / 2``. Angles obey the triangle
inequality: where d is at an angle a from a signal x, the score of t is at most::

    cos(a - b) = cos(a) cos(b) + sin(a) sin(b)        (1 where b > a),

about ``e`` times what x has across d more than that of d. No smaller bound holds without more knowledge: there is such
a t. In a basis, x, d and t are coefficients, and ``e`` is the error of these.

Where the generated winner of a voxel has more for sure, ``cos(a + b)``, than any other atom could have, nothing is
simulated. For all other voxels the generated winners are, so that their scores are known, and then all atoms that could
still have more. The best of those simulated is the best of the simulated dictionary.
"""

import functools

import jax
import numpy as np

from ganmrf.dictionary.build import Dictionary, require_signal, unit_fingerprints
from ganmrf.dictionary.compress import project
from ganmrf.dictionary.search import possible, search
from ganmrf.parallel import meshes, one_blas_thread, run_chunks
from ganmrf.physics.lowering import as_played, signal_dtype
from ganmrf.physics.simulate_many import batched_simulator, plan_n_states

_BATCH_BYTES = 2**27  # of the frames of atoms that are simulated at a time
_PIECES = 4  # for each worker: the last to end then keeps others waiting for a fraction of the time


class ExactAtoms:
    """Atoms of a generated dictionary, simulated where a decision needs them: for `match` and `match_with_maps`.

    With them each voxel gets the atom that it gets from the simulated dictionary, `build_dictionary` of the same tissue
    at the same ``accuracy``: what is simulated has the same bits, and a decision differs only where two scores agree to
    the rounding of float64. M0 and quality, too, are those of the simulated atom where a decision needed it.

    All this holds as far as the dictionary's ``errors`` are upper bounds. Where they are estimates that some atoms
    exceed, the simulated winner may be passed over, if it is such an atom, and the errors of all that was simulated
    cannot tell. The accuracy is added to the errors, as these are against true signals.

    Attributes:
      accuracy: relative error of simulated signals, as of `build_dictionary`.
      count: how many atoms were simulated so far, by all matches; an atom that several needed counts for each.
    """

    def __init__(self, dictionary: Dictionary, *, accuracy: float = 1e-4, magnitude: bool = False):
        """Simulates nothing yet.

        Args:
          dictionary: the generated dictionary, of which parts may be matched.
          accuracy: in (0, 1).
          magnitude: whether the dictionary is one of magnitudes (`magnitude_dictionary`).

        Raises:
          ValueError: a dictionary that does not say its errors, or an accuracy that is not positive.
        """
        if dictionary.errors is None:
            raise ValueError(
                "the dictionary does not say the errors of its fingerprints: a simulated one is exact without more, "
                "and a generated one has to be of a generator that knows them"
            )
        if not accuracy > 0:
            raise ValueError(f"accuracy must be positive; got {accuracy}")
        self.accuracy, self.count = accuracy, 0
        self._dictionary, self._magnitude = dictionary, magnitude
        self._atoms = jax.tree.map(np.asarray, dictionary.tissue.ravel())

    def search(self, dictionary: Dictionary, rows, series, voxels, progress: bool):
        """What `search` finds, and norms, were the dictionary simulated.

        Args:
          dictionary: the atoms ``rows`` of the whole one, or the whole one.
          rows: of the whole dictionary, (atoms,); None for all.
          series: as of `search`.
          voxels: as of `search`.
          progress: whether to show progress bars.

        Returns:
          Index in the dictionary, -1 where there is no signal, inner product, quality, and norm of the atom for M0 = 1,
          1 where there is none, (voxels,) each.
        """
        self._require_part(dictionary, rows)
        best = dict(zip(("index", "inner", "quality"), search(dictionary, series, voxels, progress), strict=True))
        best["norm"], angles = np.ones(voxels.size), functools.partial(self._angles, dictionary.errors)
        lit = np.flatnonzero(best["index"] >= 0)
        chosen, place = np.unique(best["index"][lit], return_inverse=True)
        best["norm"][lit] = np.asarray(dictionary.norms[chosen], float)[place]
        least = np.cos(np.minimum(np.arccos(np.minimum(best["quality"][lit], 1)) + angles(chosen)[place], np.pi / 2))
        open_ = lit[possible(dictionary, series, voxels[lit], least, angles, progress)[1] > 1]
        likely = np.unique(best["index"][open_])
        best["quality"][open_] = -1.0  # of generated fingerprints
        take = functools.partial(self._take, best, open_, rows, series, voxels[open_])
        take(likely)
        doubtful, _ = possible(dictionary, series, voxels[open_], best["quality"][open_], angles, progress)
        doubtful[likely] = False
        take(np.flatnonzero(doubtful), progress)
        return best["index"], best["inner"], best["quality"], best["norm"]

    def _require_part(self, dictionary, rows):
        """Raises `ValueError` unless a dictionary has the atoms ``rows``, and the sequence, of the whole one."""
        own = self._atoms if rows is None else self._atoms.rows(rows)
        atoms = jax.tree.map(np.asarray, dictionary.tissue.ravel())
        same = jax.tree.structure(own) == jax.tree.structure(atoms) and all(
            np.array_equal(*pair) for pair in zip(jax.tree.leaves(own), jax.tree.leaves(atoms), strict=True)
        )
        if not same or dictionary.sequence.n_frames != self._dictionary.sequence.n_frames:
            raise ValueError("exact is of another dictionary than the one that is matched: make it of this one")

    def _angles(self, errors, rows):
        """The angle, rad, that each of some atoms may be off by."""
        chord = np.asarray(errors[rows], float) + self.accuracy
        return np.minimum(2 * np.arcsin(np.minimum(chord / 2, 1)), np.pi / 2)

    def _take(self, best, open_, rows, series, voxels, chosen, progress=False):
        """Simulates the ``chosen`` atoms, and has voxels take those that are better than their best so far."""
        most = max(_BATCH_BYTES // (self._dictionary.sequence.n_frames * self._dtype.itemsize), 1)
        for part in np.split(chosen, range(most, len(chosen), most)) if chosen.size else ():
            simulated = self._simulated(part if rows is None else rows[part], progress)
            index, inner, quality = search(simulated, series, voxels, False)
            better = quality > best["quality"][open_]
            better |= (quality == best["quality"][open_]) & (part[index] < best["index"][open_])
            found = {"index": part[index], "inner": inner, "quality": quality, "norm": simulated.norms[index]}
            for name, values in found.items():
                best[name][open_[better]] = values[better]

    @property
    def _dtype(self):
        return np.dtype(signal_dtype(self._dictionary.sequence, self._atoms, self._dictionary.slice_profile))

    @functools.cached_property
    def _simulator(self):
        """Simulates some rows as a simulation of all atoms would, and the number of states of each atom."""
        sequence, profile = as_played(self._dictionary.sequence, self._atoms), self._dictionary.slice_profile
        how = {"n_states": None, "accuracy": self.accuracy, "slice_profile": profile}
        n_states = plan_n_states(sequence, self._atoms, **how)
        return batched_simulator(unit_fingerprints, sequence, self._atoms, profile, n_states), n_states

    def _simulated(self, rows, progress) -> Dictionary:
        """The simulated dictionary of some atoms."""
        simulate, n_states = self._simulator
        unit = np.empty((len(rows), self._dictionary.sequence.n_frames), self._dtype)
        norms = np.empty(len(rows), unit.real.dtype)

        def run(places, mesh):
            for batch, (fingerprints, of_batch) in simulate(rows[places], mesh):
                unit[places[batch]], norms[places[batch]] = fingerprints, of_batch

        # Those that go together in batches stay together.
        b1 = np.broadcast_to(self._atoms.b1, self._atoms.shape)[rows]
        order, places = np.lexsort((b1, -n_states[rows])), meshes()
        pieces = [piece for piece in np.array_split(order, _PIECES * len(places)) if piece.size]
        label = "simulating" if progress else None
        run_chunks(run, pieces, places=places, sizes=list(map(len, pieces)), progress=label)
        require_signal(self._atoms, norms, rows)
        self.count += len(rows)
        if self._magnitude:
            unit = np.abs(unit)
        basis = self._dictionary.basis
        if basis is not None:
            with one_blas_thread():
                unit, norms, _ = project(unit, norms, basis)
        profile = self._dictionary.slice_profile
        return Dictionary(self._atoms.rows(rows), unit, norms, self._dictionary.sequence, profile, basis)
