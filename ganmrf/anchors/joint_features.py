"""Tissue features shared by all sequences: the SVD of fingerprints of many sequences, concatenated per tissue.

The signals of a tissue under several sequences, side by side, are a long row. The rows of all tissues lie near a space
of a few hundred dimensions, and coordinates in that space are the tissue's joint features. Where the rows of some
tissues combine to the row of another tissue, their signals combine to its signal under each of the sequences, and, if
the sequences are varied enough, under other sequences too.
"""

import dataclasses

import jax
import numpy as np

from ganmrf.dictionary.compress import svd_basis
from ganmrf.memory import require_memory
from ganmrf.physics.sequences.cardiac import cardiac_mrf, sample_rr_intervals
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.sequences.random import sample
from ganmrf.physics.simulate_many import simulate_many
from ganmrf.physics.slice_profile import SliceProfile
from ganmrf.physics.tissue import Tissue
from ganmrf.physics.tissue_box import TissueBox

_RANK = 110  # of each sequence's basis: a few millionths of a signal lie outside
_ACCURACY = 1e-5  # of simulated signals: below the error of the best generators
_SEQUENCE_BYTES = 12  # of a frame: flip angle, repetition time and echo time
_SHARE_CARDIAC = 0.25  # of the sequences drawn; the families of `physics.sequences.random` share the rest


@dataclasses.dataclass(frozen=True)
class JointFeatures:
    """The function from a tissue to its joint features.

    Attributes:
      sequences: sequences whose signals are concatenated.
      slice_profile: quadrature over the slice in their simulation, or None.
      bases: for each sequence the SVD basis of its signals, (frames, rank), over the signals' root mean square.
      joint: orthonormal directions of the concatenated coefficients, (sum of ranks, features).
    """

    sequences: list[Fisp]
    slice_profile: SliceProfile | None
    bases: list[np.ndarray]
    joint: np.ndarray

    def __call__(self, tissue: Tissue) -> np.ndarray:
        """Simulates every sequence: features (atoms, features), float64, in units of a typical signal."""
        signals = (simulate_without_echo(sequence, tissue, self.slice_profile) for sequence in self.sequences)
        return np.concatenate([s @ basis for s, basis in zip(signals, self.bases, strict=True)], axis=1) @ self.joint


def joint_features(
    sequences: list[Fisp], slice_profile: SliceProfile | None, tissue: Tissue, n_features: int
) -> tuple[JointFeatures, np.ndarray]:
    """The joint features that describe some tissues best.

    Args:
      sequences: sequences of any lengths, whose signals are concatenated.
      slice_profile: quadrature over the slice, or None.
      tissue: many tissues, spread over the box, (atoms,).
      n_features: number of features.

    Returns:
      The features, and those of ``tissue``, (atoms, n_features), float64.
    """
    bases, rows = [], []
    for sequence in sequences:
        signals = simulate_without_echo(sequence, tissue, slice_profile)
        basis = svd_basis(signals, min(_RANK, *signals.shape)) / np.sqrt(np.mean(signals**2) * sequence.n_frames)
        bases.append(basis)
        rows.append(signals @ basis)
    rows = np.concatenate(rows, axis=1)
    joint = svd_basis(rows, min(n_features, *rows.shape))
    return JointFeatures(sequences, slice_profile, bases, joint), rows @ joint


def require_joint_memory(n_tissues: int, n_sequences: int, n_frames: int, n_features: int, n_kept: int = 0):
    """Raises `ValueError` with both figures where features of so many tissues, from so many sequences, do not fit.

    A tissue has its signals by one sequence at a time, coefficients by all of them, and features; a sequence has its
    basis. The directions of all coefficients are found by their correlation matrix and its eigenvectors. Beside all of
    this ``n_kept`` fingerprints are kept.
    """
    rank = min(_RANK, n_frames)
    needs = {  # what needs less of it -> bytes, most of them of float64
        "fewer --candidates, --tissues or --refit_tissues": n_tissues
        * (12 * n_frames + 24 * n_features + 16 * rank * n_sequences),
        "fewer --sequences": 16 * rank * n_sequences * n_frames + 32 * (rank * n_sequences) ** 2,
        "fewer --frames": 4 * n_kept * n_frames,
    }
    what = f"a set of features of {n_tissues} tissues by {n_sequences} sequences"
    require_memory(sum(needs.values()), what, f"{max(needs, key=needs.get)} need less")


def sample_sequences(key: jax.Array, number: int, n_frames: int = 1000) -> list[Fisp]:
    """Sequences of all families, a quarter of them cardiac (15 beats of 50 frames for 1000), functions of the key."""
    require_memory(_SEQUENCE_BYTES * number * n_frames, f"a set of {number} sequences", "fewer --sequences need less")
    n_cardiac, beats = round(_SHARE_CARDIAC * number), max(round(0.015 * n_frames), 1)
    keys = jax.random.split(key, number)
    drawn = [_sample(each, n_frames) for each in keys[n_cardiac:]]
    return drawn + [cardiac_mrf(_sample_rr_intervals(each, beats)) for each in keys[:n_cardiac]]


def spread_tissue(box: TissueBox, number: int, seed: int) -> Tissue:
    """Tissues spread over a box, two fifths of them with some parameters at an end of their range, (number,)."""
    rng = np.random.default_rng(seed)
    sobol = box.sobol(number, rng)
    return box.spread_to_faces(sobol, rng.random(sobol.shape), np.arange(number)[:, None] % 5 / 5)


def without_echo(sequence: Fisp) -> Fisp:
    """The sequence observed right after each pulse: an echo time only multiplies its frame by exp(-TE / T2)."""
    return dataclasses.replace(sequence, echo_time=0.0)


def simulate_without_echo(sequence: Fisp, tissue: Tissue, slice_profile: SliceProfile | None) -> np.ndarray:
    """Signals of `without_echo`, accurate to 1e-5: (atoms, frames), float64."""
    sequence = without_echo(sequence)
    return simulate_many(sequence, tissue, accuracy=_ACCURACY, slice_profile=slice_profile).astype(float)


_sample, _sample_rr_intervals = (jax.jit(draw, static_argnums=1) for draw in (sample, sample_rr_intervals))
