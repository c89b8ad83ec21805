"""Tissue features shared by all sequences: the SVD of fingerprints of many sequences, concatenated per tissue.

The signals of a tissue under several sequences, side by side, are a long row. The rows of all tissues lie near a space
of a few hundred dimensions, and coordinates in that space are the tissue's joint features. Where the rows of some
tissues combine to the row of another tissue, their signals combine to its signal under each of the sequences, and, if
the sequences are varied enough, under other sequences too.

The signal of a slice is a sum over positions whose flip angles are those of the sequence times less than 1: but for
what a spoiler leaves, a sum of signals under other sequences. So what holds for every sequence holds for a slice, and
most sequences are simulated without one, in a hundredth of the time.
"""

import dataclasses

import numpy as np

from ganmrf.anchors.echoes import without_echo
from ganmrf.dictionary.compress import svd_basis
from ganmrf.gan.real_columns import real_columns
from ganmrf.memory import require_memory
from ganmrf.physics.sequences.blocks import PulseSequence
from ganmrf.physics.simulate_many import simulate_many
from ganmrf.physics.slice_profile import SliceModel
from ganmrf.physics.tissue import TissueModel, parameters
from ganmrf.physics.tissue_box import TissueBox
from ganmrf.progress import watched

# Of each sequence's basis: a few millionths of a signal on resonance lie outside. Where off-resonance is an axis, a
# basis has as many directions as there are features.
_RANK = 110
_ACCURACY = 1e-5  # of simulated signals: below the error of the best generators


@dataclasses.dataclass(frozen=True)
class JointFeatures:
    """The function from a tissue to its joint features.

    Attributes:
      sequences: sequences whose signals are concatenated.
      slices: for each sequence the model of the slice in its simulation, or None for a uniform one.
      bases: for each sequence the SVD basis of its signals' columns, (columns, rank), over their root mean square.
      joint: orthonormal directions of the concatenated coefficients, (sum of ranks, features).
    """

    sequences: list[PulseSequence]
    slices: list[SliceModel | None]
    bases: list[np.ndarray]
    joint: np.ndarray

    def __call__(self, tissue: TissueModel) -> np.ndarray:
        """Simulates every sequence: features (atoms, features), float64, in units of a typical signal."""
        signals = (simulate_without_echo(*each, tissue) for each in zip(self.sequences, self.slices, strict=True))
        return np.concatenate([s @ basis for s, basis in zip(signals, self.bases, strict=True)], axis=1) @ self.joint


def joint_features(
    sequences: list[PulseSequence],
    slices: list[SliceModel | None],
    tissue: TissueModel,
    n_features: int,
    *,
    progress: bool = False,
) -> tuple[JointFeatures, np.ndarray]:
    """The joint features that describe some tissues best.

    Args:
      sequences: sequences of any lengths, whose signals are concatenated.
      slices: for each of them the model of the slice, or None for a uniform one.
      tissue: many tissues, spread over the box, (atoms,).
      n_features: number of features.
      progress: whether to show a progress bar with an estimate of the time left.

    Returns:
      The features, and those of ``tissue``, (atoms, n_features), float64.
    """
    bases, rows, rank = [], [], _rank(_turns(tissue), n_features)
    pairs = list(zip(sequences, slices, strict=True))
    for sequence, slice_profile in watched(pairs, "simulating sequences to learn from", shown=progress):
        signals = simulate_without_echo(sequence, slice_profile, tissue)
        basis = svd_basis(signals, min(rank, *signals.shape)) / np.sqrt(np.mean(signals**2) * signals.shape[1])
        bases.append(basis)
        rows.append(signals @ basis)
    rows = np.concatenate(rows, axis=1)
    joint = svd_basis(rows, min(n_features, *rows.shape))
    return JointFeatures(sequences, slices, bases, joint), rows @ joint


def require_joint_memory(
    n_tissues: int, n_sequences: int, n_frames: int, n_features: int, n_kept: int = 0, *, is_complex: bool = False
):
    """Raises `ValueError` with both figures where features of so many tissues, from so many sequences, do not fit.

    A tissue has its signals by one sequence at a time, coefficients by all of them, and features; a sequence has its
    basis. The directions of all coefficients are found by their correlation matrix and its eigenvectors. Beside all of
    this ``n_kept`` fingerprints are kept. ``is_complex`` is whether signals are: those off resonance, and those in the
    slice of a complex pulse.
    """
    n_columns = 2 * n_frames if is_complex else n_frames
    rank = min(_rank(is_complex, n_features), n_columns)
    needs = {  # what needs less of it -> bytes, most of them of float64
        "fewer --candidates, --tissues or --refit_tissues": n_tissues
        * (12 * n_columns + 24 * n_features + 16 * rank * n_sequences),
        "fewer --sequences": 16 * rank * n_sequences * n_columns + 32 * (rank * n_sequences) ** 2,
        "fewer --frames": 4 * n_kept * n_columns,
    }
    what = f"a set of features of {n_tissues} tissues by {n_sequences} sequences"
    require_memory(sum(needs.values()), what, f"{max(needs, key=needs.get)} need less")


def signals_are_complex(box: TissueBox, slice_profile: SliceModel | None) -> bool:
    """Whether signals of a box of tissue are complex: with frequencies, or in the slice of a complex pulse."""
    return _turns(box.corner()) or (slice_profile is not None and not slice_profile.is_real)


def _turns(tissue):
    """Whether tissue has a frequency."""
    return any(facts.signed and getattr(tissue, name) is not None for name, facts in parameters(tissue).items())


def _rank(turns, n_features):
    return max(_RANK, n_features) if turns else _RANK


def spread_tissue(box: TissueBox, number: int, seed: int) -> TissueModel:
    """Tissues spread over a box, two fifths of them with some parameters at an end of their range, (number,)."""
    rng = np.random.default_rng(seed)
    sobol = box.sobol(number, rng)
    return box.spread_to_faces(sobol, rng.random(sobol.shape), np.arange(number)[:, None] % 5 / 5)


def simulate_without_echo(sequence: PulseSequence, slice_profile: SliceModel | None, tissue: TissueModel) -> np.ndarray:
    """Signals of `echoes.without_echo`, accurate to 1e-5: their `real_columns`, (atoms, columns), float64."""
    sequence = without_echo(sequence, tissue)
    signals = simulate_many(sequence, tissue, accuracy=_ACCURACY, slice_profile=slice_profile)
    return real_columns(signals).astype(float)
