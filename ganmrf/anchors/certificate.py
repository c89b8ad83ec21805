"""The certificate of a prepared sequence: errors against simulation of this very sequence, at tissues in the box."""

import dataclasses

import numpy as np

from ganmrf.gan.real_columns import real_columns


@dataclasses.dataclass(frozen=True)
class Certificate:
    """Relative errors at held-out tissues, drawn at random, and at sentinels; none of them is an anchor.

    Mean and 99 % quantile are those of the held-out tissues: they say what to expect of any tissue. The largest is that
    of all, and about what the worst tissue of the box has: sentinels are where generators have been worst. Sentinels
    that became anchors of the sequence have next to no error, so that then the worst tissue has up to about twice it.

    Attributes:
      held_out: L2 errors of the unit fingerprints of the held-out tissues, (tissues,).
      sentinels: those of the sentinels, (sentinels,).
      norms: errors of norms, and so of M0, of held-out tissues and of sentinels, (tissues + sentinels,).
      compressed: L2 errors of unit fingerprints that are compressed, and expanded again, likewise.
    """

    held_out: np.ndarray
    sentinels: np.ndarray
    norms: np.ndarray
    compressed: np.ndarray

    @property
    def mean(self) -> float:
        """Mean error of held-out tissues."""
        return float(self.held_out.mean())

    @property
    def quantile_99(self) -> float:
        """Error that 99 % of the held-out tissues are below."""
        return float(np.quantile(self.held_out, 0.99))

    @property
    def largest(self) -> float:
        """Largest error of held-out tissues and sentinels."""
        return float(np.concatenate([self.held_out, self.sentinels]).max())

    def summary(self) -> str:
        """The errors as a sentence."""
        usual = f"error at held-out tissues {self.mean:.1e} on average, 99 % below {self.quantile_99:.1e}"
        others = f"norms {self.norms.max():.1e}, compressed {self.compressed.max():.1e}"
        return f"{usual}, largest with sentinels {self.largest:.1e} ({others})"


def certify(made: np.ndarray, truth: np.ndarray, basis: np.ndarray, n_held_out: int) -> Certificate:
    """Compares signals at the echoes, (tissues, frames); the first ``n_held_out`` are those of held-out tissues.

    Args:
      made: generated signals.
      truth: simulated signals, in the same unit.
      basis: of compressed dictionaries, (frames, rank).
      n_held_out: number of held-out tissues; the others are sentinels.
    """
    errors, basis = direction_errors(made, truth), basis.astype(made.dtype)
    return Certificate(
        held_out=errors[:n_held_out],
        sentinels=errors[n_held_out:],
        norms=np.abs(_norms(made) / _norms(truth) - 1)[:, 0],
        compressed=direction_errors(made @ basis @ basis.conj().T, truth),
    )


def direction_errors(made: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Relative L2 errors of signals, (tissues, frames), of norm 1 both, (tissues,), to the rounding of their dtype."""
    return _norms(made / _norms(made) - truth / _norms(truth))[:, 0]


def _norms(signals):
    """(tissues, 1), twice as fast as `np.linalg.norm`."""
    columns = real_columns(signals)
    return np.sqrt(np.einsum("ij,ij->i", columns, columns))[:, None]
