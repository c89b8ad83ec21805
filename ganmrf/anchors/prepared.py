"""A sequence prepared for an anchored generator: its anchors simulated once, and dictionaries from their signals."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.anchors.generator import AnchoredGenerator, Weights
from ganmrf.anchors.joint_features import without_echo
from ganmrf.dictionary.build import Dictionary
from ganmrf.dictionary.rows import RowsOnDemand
from ganmrf.metrics import direction_errors
from ganmrf.parallel import one_blas_thread, run_chunks
from ganmrf.physics.sequences.fisp import Sequence
from ganmrf.physics.simulate import simulate_reverse
from ganmrf.physics.simulate_many import require_signal_memory, simulate_few
from ganmrf.physics.tissue import Tissue

_CHUNK = 2048  # atoms generated at a time
_LEFT_OUT = 1e-5  # share of the anchors' signals that may lie outside the basis of compressed dictionaries
_ROUNDING = 1e-6  # relative to the largest singular value: directions with a smaller one are noise of float32


@dataclasses.dataclass(frozen=True)
class PreparedSequence:
    """A generator, and the signals of its anchors under one sequence.

    Attributes:
      generator: the generator.
      sequence: the sequence.
      signals: of the anchors right after each pulse, over n(a), (anchors, frames), float32.
      coefficients: of ``signals`` along their principal directions, largest first, (anchors, directions), float32.
      basis: principal directions of the anchors' signals at the echoes, (frames, rank), float64: compressed
        dictionaries hold coefficients in it.
      errors: relative L2 errors of the unit fingerprints of the generator's held-out tissues against simulation,
        (tissues,).
    """

    generator: AnchoredGenerator
    sequence: Sequence
    signals: np.ndarray
    coefficients: np.ndarray
    basis: np.ndarray
    errors: np.ndarray

    @property
    def n_anchors(self) -> int:
        """Number of anchors."""
        return len(self.signals)

    def summary(self) -> str:
        """``errors`` as a sentence."""
        high = np.quantile(self.errors, 0.99)
        return f"error at held-out tissues {self.errors.mean():.1e} on average, 99 % below {high:.1e}"

    def generate(
        self,
        tissue: Tissue | Weights,
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
        columns = self.basis.shape[1] if compressed else self.sequence.n_frames
        require_signal_memory(n_atoms, columns)
        rows_out, norms = np.empty((n_atoms, columns), np.float32), np.empty(n_atoms, np.float32)

        def chunk(rows, _):
            norms[rows] = self._emit(weights, rows, compressed, rows_out[rows])

        with one_blas_thread():
            run_chunks(chunk, [slice(start, start + _CHUNK) for start in range(0, n_atoms, _CHUNK)])
        profile, basis = self.generator.slice_profile, self.basis if compressed else None
        return Dictionary(weights.tissue, rows_out, norms, self.sequence, profile, basis)

    def stream(self, tissue: Tissue | Weights) -> Dictionary:
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

        def on_demand(field, *columns):
            return RowsOnDemand(
                lambda rows: getattr(self.generate(source.rows(rows)), field),
                (atoms.size, *columns),
                np.dtype(np.float32),
            )

        parts = on_demand("fingerprints", self.sequence.n_frames), on_demand("norms")
        return Dictionary(atoms, *parts, self.sequence, self.generator.slice_profile)

    def _weights(self, tissue, allow_extrapolation=False):
        if isinstance(tissue, Tissue):
            return self.generator.weights(tissue, self.n_anchors, allow_extrapolation=allow_extrapolation)
        if tissue.values.shape[1] != self.n_anchors:
            raise ValueError(f"the weights are for {tissue.values.shape[1]} anchors, not for {self.n_anchors}")
        return tissue

    def _emit(self, weights, rows, compressed, out):
        """Unit rows of some atoms into ``out``; returns their norms for M0 = 1."""
        values, decay = weights.values[rows], -1 / np.asarray(weights.tissue.t2)[rows]
        echo_time = np.asarray(self.sequence.echo_time)
        if np.ptp(echo_time) > 0:  # every frame has a factor of its own
            made = (values @ self.signals) * np.exp(decay[:, None] * echo_time)
            made = made @ self.basis.astype(np.float32) if compressed else made
            norms = np.linalg.norm(made, axis=1)
            np.divide(made, norms[:, None], out=out)
            return norms * weights.norms[rows]
        inside = values @ self.coefficients[:, : self.basis.shape[1] if compressed else None]
        norms = np.sqrt(np.einsum("ij,ij->i", inside, inside))
        if compressed:
            np.divide(inside, norms[:, None], out=out)
        else:
            np.matmul(values / norms[:, None], self.signals, out=out)
        return norms * weights.norms[rows] * np.exp(decay * echo_time[0])


def prepare(
    generator: AnchoredGenerator, sequence: Sequence, n_anchors: int | None = None, *, accuracy: float | None = None
) -> PreparedSequence:
    """Simulates a generator's anchors under a sequence, and its held-out tissues, which show the error.

    Args:
      generator: the generator.
      sequence: any MRF-FISP sequence, of any length, not traced.
      n_anchors: how many anchors, one of ``generator.sizes``; the largest by default.
      accuracy: in place of ``n_anchors``, the largest error: as few anchors are used as keep the 99 % quantile of the
        held-out tissues' errors within it.

    Raises:
      ValueError: another number of anchors, an accuracy that is not positive or that no number of anchors reaches, or
        anchors whose signal is not finite or nothing.
    """
    sizes = generator.sizes
    if accuracy is None:
        sizes, accuracy = [generator.require_size(n_anchors)], np.inf
    elif n_anchors is not None:
        raise ValueError("n_anchors and accuracy do not go together")
    elif not accuracy > 0:
        raise ValueError(f"accuracy must be positive; got {accuracy}")
    anchors, held_out = (jax.tree.map(np.asarray, each) for each in (generator.anchors, generator.held_out))
    signals, truth = np.empty((0, sequence.n_frames), np.float32), None
    for size in sizes:  # ascending
        new = anchors.rows(slice(len(signals), size))
        if truth is None:
            found = _simulated(generator, sequence, _joined(new, held_out))
            signals, truth = np.split(found, [size])
            truth /= np.linalg.norm(truth, axis=1, keepdims=True)
        else:
            signals = np.concatenate([signals, _simulated(generator, sequence, new)])
        with one_blas_thread():  # too small for threads
            prepared = _prepared(generator, sequence, signals, truth)
        if (reached := np.quantile(prepared.errors, 0.99)) <= accuracy:
            return prepared
    raise ValueError(
        f"no number of anchors reaches an accuracy of {accuracy:.3g}: with all {size} of them 99 % of the held-out "
        f"tissues have an error of {reached:.2g} or less"
    )


def anchored_fingerprints(
    generator: AnchoredGenerator, sequence: Sequence, tissue: Tissue | Weights
) -> tuple[jax.Array, jax.Array]:
    """Fingerprints by all anchors as a pure function of the sequence, for `jax.grad` and `jax.vjp`, and of the tissue.

    Args:
      generator: the generator.
      sequence: the sequence; derivatives by all of it go through the anchors, by `simulate_reverse`.
      tissue: the atoms, in one dimension; or their weights, where no derivative by tissue is asked for.

    Returns:
      Fingerprints of unit norm (atoms, frames), and their norms (atoms,) for M0 = 1.
    """
    n_anchors = generator.sizes[-1]
    anchors = generator.anchors.rows(slice(n_anchors))
    if isinstance(tissue, Weights):
        tissue, values, norms = tissue.tissue, jnp.asarray(tissue.values), jnp.asarray(tissue.norms)
    else:
        values, norms = generator.weights_at(tissue, n_anchors)
    signals = simulate_reverse(without_echo(sequence), anchors, slice_profile=generator.slice_profile)
    combined = values @ (signals / generator.anchor_norms[:n_anchors, None])
    combined *= jnp.exp(sequence.echo_time[None] * (-1 / tissue.t2)[:, None])
    combined_norms = jnp.linalg.norm(combined, axis=1)
    return combined / combined_norms[:, None], combined_norms * norms


def _joined(one, other):
    def joined(x, y):
        return np.concatenate([np.broadcast_to(x, one.shape), np.broadcast_to(y, other.shape)])

    return jax.tree.map(joined, one, other)


def _simulated(generator, sequence, tissue):
    signals = simulate_few(without_echo(sequence), tissue, slice_profile=generator.slice_profile)
    if not np.isfinite(signals).all():
        raise ValueError("the anchors' signals are not finite: the sequence is invalid")
    if not signals.any(axis=1).all():
        raise ValueError("an anchor has no signal: the sequence is invalid")
    return signals


def _prepared(generator, sequence, signals, truth):
    size = len(signals)
    signals = signals / generator.anchor_norms[:size, None]
    directions, sizes = _directions(signals)
    echo_time = np.asarray(sequence.echo_time)
    basis = directions
    if np.ptp(echo_time) > 0:
        decay = -1 / np.asarray(generator.anchors.t2)[:size, None]
        basis, sizes = _directions(signals * np.exp(decay * (echo_time - echo_time.min())))
    left_out = np.sqrt(np.maximum(1 - np.cumsum(sizes**2) / np.sum(sizes**2), 0))
    rank = min(int(np.sum(left_out > _LEFT_OUT)) + 1, sizes.size)
    errors = direction_errors(generator.held_out_weights[size] @ signals, truth)
    coefficients = (signals @ directions).astype(np.float32)
    return PreparedSequence(generator, sequence, signals, coefficients, basis[:, :rank], errors)


def _directions(signals):
    """Principal directions (frames, directions) of rows, and their singular values, largest first, float64."""
    wide = signals.astype(float)
    squares, turn = np.linalg.eigh(wide @ wide.T)
    kept = slice(None, -1 - int(np.sum(squares > _ROUNDING**2 * squares[-1])), -1)
    sizes = np.sqrt(squares[kept])
    return wide.T @ (turn[:, kept] / sizes), sizes
