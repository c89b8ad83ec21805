"""A sequence prepared for an anchored generator: its anchors simulated once, and dictionaries from their signals."""

import dataclasses
import operator

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.anchors.certificate import Certificate, certify
from ganmrf.anchors.completion import ROUNDS, anchors_and_truth, at_echoes, columns, combined, sentinels_to_add
from ganmrf.anchors.echoes import echo_times, until_echo, without_echo
from ganmrf.anchors.generator import AnchoredGenerator, Weights
from ganmrf.anchors.judgement import GOOD_ERROR, judge, require_period
from ganmrf.anchors.sentinels import joined
from ganmrf.dictionary.build import Dictionary
from ganmrf.dictionary.rows import RowsOnDemand
from ganmrf.gan.real_columns import real_columns, weighted
from ganmrf.parallel import one_blas_thread, run_chunks
from ganmrf.physics.sequences.blocks import PulseSequence
from ganmrf.physics.simulate import simulate_reverse
from ganmrf.physics.simulate_many import require_signal_memory
from ganmrf.physics.slice_profile import SliceModel
from ganmrf.physics.tissue import TissueModel

_CHUNK = 2048  # atoms generated at a time
_LEFT_OUT = 1e-5  # share of the anchors' signals that may lie outside the basis of compressed dictionaries
_ROUNDING = 1e-6  # relative to the largest singular value: directions with a smaller one are noise of float32
_FARTHEST = 2.0  # distance of two unit fingerprints
# The largest of 128 ratios is exceeded by 1 of 129 tissues on average, and by more where sentinels were added, which
# changes the shape of errors; half as much again is exceeded by next to none.
_ABOVE = 1.5


@dataclasses.dataclass(frozen=True)
class PreparedSequence:
    """A generator, and the signals of its anchors under one sequence.

    Attributes:
      generator: the generator.
      sequence: the sequence.
      slice_profile: model of the slice that the anchors were simulated in.
      added: which of the generator's sentinels became anchors of this sequence, (added,).
      signals: of the anchors where they are combined (`echoes`), over n(a), and behind them g_b of the sentinels that
        were added (`sentinels`), (anchors + added, frames), float32 or complex64.
      coefficients: of ``signals`` along principal directions, largest first, (anchors + added, directions), likewise.
      basis: principal directions of the anchors' signals at the echoes, (frames, rank), float64 or complex128:
        compressed dictionaries hold coefficients in it.
      certificate: errors against simulation.
      error_scale: of `AnchoredGenerator.error_shapes`, for this sequence: none of the checked tissues has more.
      truth: simulated signals of held-out tissues and sentinels, where they are combined, over n(x), (tissues, frames).
    """

    generator: AnchoredGenerator
    sequence: PulseSequence
    slice_profile: SliceModel | None
    added: np.ndarray
    signals: np.ndarray
    coefficients: np.ndarray
    basis: np.ndarray
    certificate: Certificate
    error_scale: float
    truth: np.ndarray

    @property
    def n_anchors(self) -> int:
        """Number of anchors, without sentinels that became some."""
        return len(self.signals) - len(self.added)

    def summary(self) -> str:
        """Numbers of anchors, and the certificate, as a sentence."""
        more = f" and {len(self.added)} sentinels" if len(self.added) else ""
        return f"{self.n_anchors} anchors{more}; {self.certificate.summary()}"

    def by_anchors(self, n_anchors: int | None = None, *, rounds: int = ROUNDS) -> "PreparedSequence":
        """The sequence by so many of its anchors; nothing is simulated anew, and no error refused.

        Args:
          n_anchors: one of the generator's ``sizes``, no larger than that of this sequence, which is the default.
          rounds: as of `prepare`.

        Raises:
          ValueError: another number of anchors.
        """
        n_anchors = self.n_anchors if n_anchors is None else operator.index(n_anchors)
        if self.generator.require_size(n_anchors) > self.n_anchors:
            raise ValueError(f"n_anchors must be at most {self.n_anchors}, as this sequence has; got {n_anchors}")
        signals = self.signals[:n_anchors], self.truth
        return _prepared(self.generator, self.sequence, self.slice_profile, *signals, GOOD_ERROR, rounds)

    def generate(
        self,
        tissue: TissueModel | Weights,
        *,
        compressed: bool = False,
        allow_extrapolation: bool = False,
    ) -> Dictionary:
        """Generates a dictionary in memory.

        Args:
          tissue: the atoms; or their weights, by `AnchoredGenerator.weights`, which are the same for all sequences.
          compressed: whether to generate coefficients in ``basis`` in place of all frames.
          allow_extrapolation: whether atoms may lie outside the box.

        Raises:
          ValueError: as `AnchoredGenerator.weights`, weights for another number of anchors, or atoms beyond the
            memory.
        """
        weights = self._weights(tissue, allow_extrapolation)
        n_atoms = len(weights.values)
        n_columns = self.basis.shape[1] if compressed else self.sequence.n_frames
        require_signal_memory(n_atoms, n_columns, self.signals.dtype)
        rows_out, norms = np.empty((n_atoms, n_columns), self.signals.dtype), np.empty(n_atoms, np.float32)

        def chunk(rows, _):
            norms[rows] = self._emit(weights, rows, compressed, rows_out[rows])

        with one_blas_thread():
            run_chunks(chunk, [slice(start, start + _CHUNK) for start in range(0, n_atoms, _CHUNK)])
        made = weights.tissue, rows_out, norms, self.sequence, self.slice_profile
        return Dictionary(*made, self.basis if compressed else None, errors=self.errors_of(weights.tissue))

    def stream(self, tissue: TissueModel | Weights) -> Dictionary:
        """A dictionary whose rows are generated when they are asked for, so that `match` never holds the whole of it.

        Args:
          tissue: the atoms, any number of them; or their weights. The weights of a table are computed all at once.

        Raises:
          ValueError: as `generate`.
        """
        if isinstance(tissue, Weights) or not self.generator.model.any_tissue:
            source = self._weights(tissue)
            atoms = source.tissue
        else:
            source = atoms = jax.tree.map(np.asarray, tissue.ravel())
            self.generator.require_inside(atoms)

        def on_demand(field, dtype, *width):
            made = (lambda rows: getattr(self.generate(source.rows(rows)), field)), (atoms.size, *width)
            return RowsOnDemand(*made, np.dtype(dtype))

        fingerprints = on_demand("fingerprints", self.signals.dtype, self.sequence.n_frames)
        parts = fingerprints, on_demand("norms", np.float32)
        return Dictionary(atoms, *parts, self.sequence, self.slice_profile, errors=self.errors_of(atoms))

    def errors_of(self, tissue: TissueModel | Weights) -> np.ndarray:
        """An upper estimate of the L2 error of each generated unit fingerprint at full length, (atoms,), float32.

        Fewer than 1 % of tissues have more: it is a smooth function of tissue, as errors are on average over sequences,
        times a number by which it is above the errors of all tissues that were simulated with this sequence. Of atoms
        outside the box nothing is known, and it is 2, the largest distance of two unit fingerprints.
        """
        atoms = jax.tree.map(np.asarray, (tissue.tissue if isinstance(tissue, Weights) else tissue).ravel())
        shape = self.generator.error_shapes[self.n_anchors]
        errors = np.empty(atoms.size, np.float32)
        for start in range(0, atoms.size, _CHUNK):
            rows = np.resize(np.arange(start, min(start + _CHUNK, atoms.size)), _CHUNK)  # one compiled program
            found = shape(self.generator.box.coordinates(atoms.rows(rows)))
            errors[start : start + _CHUNK] = self.error_scale * np.asarray(found)[: atoms.size - start]
        errors[self.generator.box.outside(atoms)] = _FARTHEST
        return np.minimum(errors, _FARTHEST)

    def _weights(self, tissue, allow_extrapolation=False):
        if isinstance(tissue, TissueModel):
            return self.generator.weights(tissue, self.n_anchors, allow_extrapolation=allow_extrapolation)
        if (found := tissue.values.shape[1] - self.generator.sentinels.size) != self.n_anchors:
            raise ValueError(f"the weights are for {found} anchors, not for {self.n_anchors}")
        return tissue

    def _emit(self, weights, rows, compressed, out):
        """Unit rows of some atoms into ``out``; returns their norms for M0 = 1."""
        values = weights.values[rows][:, columns(self.n_anchors, self.added)]
        tissue, echo_time = (
            jax.tree.map(np.asarray, weights.tissue.rows(rows)),
            np.asarray(echo_times(self.sequence, self.generator.anchors)),
        )
        if np.ptp(echo_time) > 0 or (tissue.off_resonance is not None and echo_time[0]):  # no factor of norms alone
            made = weighted(values, self.signals) * until_echo(np, echo_time, tissue)
            made = made @ self.basis.astype(made.dtype) if compressed else made
            norms = np.linalg.norm(made, axis=1)
            np.divide(made, norms[:, None], out=out)
            return norms * weights.norms[rows]
        inside = weighted(values, self.coefficients[:, : self.basis.shape[1] if compressed else None])
        norms = np.sqrt(np.einsum("ij,ij->i", *2 * [real_columns(inside)]))
        if compressed:
            np.divide(inside, norms[:, None], out=out)
        else:
            np.matmul(values / norms[:, None], real_columns(self.signals), out=real_columns(out))
        return norms * weights.norms[rows] * np.exp(echo_time[0] * (-1 / tissue.t2))


def prepare(
    generator: AnchoredGenerator,
    sequence: PulseSequence,
    n_anchors: int | None = None,
    *,
    accuracy: float | None = None,
    allow_error: float | None = None,
    slice_profile: SliceModel | str | None = "own",
    rounds: int = ROUNDS,
) -> PreparedSequence:
    """Simulates a generator's anchors under a sequence, and the tissues that show the error.

    The error that is judged is the largest of the fingerprints at full length: a dictionary is used for all its atoms,
    and T1 and T2 come from fingerprints alone. Where it is above ``accuracy``, or 1e-3, the sentinels that are worst
    for this sequence become its anchors, three in a round.

    Args:
      generator: the generator.
      sequence: a sequence of any length, not traced; of the kind of ``generator.family``, or of another one, whose
        largest error then must be 1e-3 unless ``accuracy`` or ``allow_error`` say what it may be.
      n_anchors: how many anchors, one of ``generator.sizes``; the largest by default.
      accuracy: in place of ``n_anchors``, the largest error: as few anchors are used as keep it.
      allow_error: largest error that is put up with, without a word; a sequence with more is refused. By default it is
        ``accuracy``, or, without that, 1e-2, with a warning above 1e-3.
      slice_profile: model of the slice, or None for a uniform one, in which the anchors are simulated; ``own`` for that
        of the generator. In another one the largest error must be 1e-3, as under a sequence of another kind.
      rounds: most rounds in which sentinels become anchors; 0 for the generator's own anchors alone.

    Raises:
      ValueError: a sequence of one frame, or whose period in off-resonance is not that of the box; another number of
        anchors; an accuracy or ``allow_error`` that is not positive; a largest error above ``allow_error``; or anchors
        whose signal is not finite or nothing.
    """
    if accuracy is not None and n_anchors is not None:
        raise ValueError("n_anchors and accuracy do not go together")
    for name, value in (("accuracy", accuracy), ("allow_error", allow_error)):
        if value is not None and not value > 0:
            raise ValueError(f"{name} must be positive; got {value}")
    if sequence.n_frames < 2:
        raise ValueError("a sequence must have 2 frames at least: fingerprints of one, of unit norm, are all the same")
    sizes = generator.sizes if accuracy is not None else [generator.require_size(n_anchors)]
    wanted = GOOD_ERROR if accuracy is None else accuracy
    require_period(generator.box, sequence)
    own = isinstance(slice_profile, str)
    slice_profile = generator.slice_profile if own else slice_profile
    signals, truth = anchors_and_truth(generator, sequence, slice_profile, sizes, wanted)
    prepared = _prepared(generator, sequence, slice_profile, signals, truth, wanted, rounds)
    judge(prepared, accuracy, allow_error)
    return prepared


def anchored_fingerprints(
    generator: AnchoredGenerator, sequence: PulseSequence, tissue: TissueModel | Weights, *, n_states: int | None = None
) -> tuple[jax.Array, jax.Array]:
    """Fingerprints by all anchors as a pure function of the sequence, for `jax.grad` and `jax.vjp`, and of the tissue.

    Sentinels are never among these anchors: which of them would be is no smooth function of the sequence. `prepare`
    with ``rounds=0`` tells the error.

    Args:
      generator: the generator.
      sequence: the sequence; derivatives by all of it go through the anchors, by `simulate_reverse`.
      tissue: the atoms, in one dimension; or their weights, where no derivative by tissue is asked for.
      n_states: as for `simulate`: where the sequence is traced, None takes all of them, which in a full slice are
        thousands of positions.

    Returns:
      Fingerprints of unit norm (atoms, frames), and their norms (atoms,) for M0 = 1.
    """
    n_anchors = generator.sizes[-1]
    anchors = generator.anchors.rows(slice(n_anchors))
    if isinstance(tissue, Weights):
        tissue, values, norms = tissue.tissue, jnp.asarray(tissue.values[:, :n_anchors]), jnp.asarray(tissue.norms)
    else:
        values, norms = generator.weights_at(tissue, n_anchors)
    form = {"n_states": n_states, "slice_profile": generator.slice_profile}
    signals = simulate_reverse(without_echo(sequence, anchors), anchors, **form)
    made = values @ (signals / generator.anchor_norms[:n_anchors, None])
    made *= until_echo(jnp, echo_times(sequence, anchors), tissue)
    made_norms = jnp.linalg.norm(made, axis=1)
    return made / made_norms[:, None], made_norms * norms


@one_blas_thread()  # matrices are too small for threads
def _prepared(generator, sequence, slice_profile, signals, truth, wanted, rounds):
    added = sentinels_to_add(generator, sequence, signals, truth, wanted, rounds)
    exact, tissue = signals, jax.tree.map(np.asarray, generator.anchors.rows(slice(len(signals))))
    if added.size:
        exact = np.concatenate([exact, truth[generator.held_out.size + added]])
        tissue = joined(tissue, jax.tree.map(np.asarray, generator.sentinels).rows(added))
    signals, made = combined(generator, signals, truth, added)
    directions, sizes = _directions(exact)
    basis, echo_time = directions, np.asarray(echo_times(sequence, tissue))
    if np.ptp(echo_time) > 0:
        basis, sizes = _directions(exact * until_echo(np, echo_time - echo_time.min(), tissue))
    left_out = np.sqrt(np.maximum(1 - np.cumsum(sizes**2) / np.sum(sizes**2), 0))
    basis = basis[:, : min(int(np.sum(left_out > _LEFT_OUT)) + 1, sizes.size)]
    compared = at_echoes(generator, sequence, made, truth)
    certificate = certify(*compared, basis, generator.held_out.size)
    coefficients = (signals @ directions).astype(signals.dtype)
    form = generator, sequence, slice_profile, added, signals, coefficients, basis, certificate
    return PreparedSequence(*form, _error_scale(generator, len(signals) - len(added), certificate, added), truth)


def _error_scale(generator, n_anchors, certificate, added):
    """The number above the errors of all checked tissues, over the shape of errors; those ``added`` tell nothing."""
    checked = joined(generator.held_out, generator.sentinels)
    shape = np.asarray(generator.error_shapes[n_anchors](generator.box.coordinates(checked)))
    ratios = np.concatenate([certificate.held_out, certificate.sentinels]) / shape
    return float(_ABOVE * np.delete(ratios, generator.held_out.size + added).max())


def _directions(signals):
    """Principal directions (frames, directions) of rows, and their singular values, largest first, float64."""
    wide = signals.astype(np.result_type(signals, float))
    shorter = wide if len(wide) < wide.shape[1] else wide.conj().T  # 200 frames in place of 2048 anchors
    squares, turn = np.linalg.eigh(shorter @ shorter.conj().T)
    kept = slice(None, -1 - int(np.sum(squares > _ROUNDING**2 * squares[-1])), -1)
    sizes, turn = np.sqrt(squares[kept]), turn[:, kept]
    return (wide.conj().T @ (turn / sizes) if shorter is wide else turn), sizes
