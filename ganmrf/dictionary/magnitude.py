"""Magnitude images: what a dictionary, and a signal with its derivatives, are without their signs and phases.

Most archives keep the magnitude of each frame alone. After an inversion the signal is negative, so a magnitude series
matched with signed fingerprints gives T1 and T2 of other tissues at a good match quality. Noise adds to magnitudes, as
Rice's distribution has it: where a frame has no signal, its magnitude is 1.25 standard deviations of the noise on
average, and from a signal of three standard deviations on it is less than a fifth of one too large.

References:
  Gudbjartsson and Patz 1995, doi:10.1002/mrm.1910340618.
"""

import dataclasses
import warnings

import numpy as np

from ganmrf.dictionary.build import Dictionary
from ganmrf.memory import require_memory
from ganmrf.physics.lowering import is_real

_NEGATIVE = 1e-3  # share of the energy that resampling may make negative; frames after an inversion have a tenth
_AIR = 0.1  # share of the strong voxels' norm below which a voxel does not count: resampling rings around edges


def is_magnitude(images) -> bool:
    """Whether a series, (frames, ...), is one of magnitudes: real, and nowhere negative but for what resampling does.

    In voxels with signal, no more than a thousandth of the energy is in negative values.
    """
    if np.iscomplexobj(images):
        return False
    energy, negative = np.zeros((2, *images.shape[1:]))
    for frame in images:
        energy += np.square(frame, dtype=float)
        negative += np.square(np.minimum(frame, 0), dtype=float)
    strong = energy >= _AIR**2 * np.quantile(energy, 0.99)
    return bool(negative[strong].sum() <= _NEGATIVE * energy[strong].sum())


def magnitude_dictionary(dictionary: Dictionary) -> Dictionary:
    """The dictionary that magnitude series are matched and refined (``magnitude=True``) with.

    Every fingerprint is replaced by its magnitude, frame by frame, of unit norm as before. A compressed dictionary
    comes back uncompressed, with what its basis left out missing; one on disk is read into memory.

    Where all phases of pulses are half turns, and pools are not apart in frequency, signals at opposite off-resonances
    are conjugates of each other, and their magnitudes are equal: `match` and `refine` find abs(off-resonance), with an
    arbitrary sign. A warning says so where atoms have off-resonances of both signs.

    Raises:
      ValueError: a dictionary that does not fit in memory.
    """
    atoms, basis = dictionary.fingerprints, dictionary.basis
    frames = atoms.shape[1] if basis is None else len(basis)
    require_memory(
        2 * len(atoms) * frames * atoms.dtype.itemsize, "a dictionary of magnitudes", "fewer atoms need less"
    )
    own, on_resonance = dictionary.tissue.off_resonance, dataclasses.replace(dictionary.tissue, off_resonance=None)
    if own is not None and np.min(own) < 0 < np.max(own) and is_real(dictionary.sequence, on_resonance):
        warnings.warn(
            "magnitudes are the same at opposite off-resonances, and the dictionary has both: the sign of "
            "off-resonance in the maps is arbitrary unless a map of B0 gives it",
            stacklevel=2,
        )
    atoms = np.asarray(atoms[:])
    if basis is not None:
        atoms = (atoms @ basis.conj().T).astype(atoms.dtype)
    return dataclasses.replace(dictionary, fingerprints=np.abs(atoms), basis=None)


def without_phase(signals) -> np.ndarray:
    """Magnitudes of signals and the derivatives of these magnitudes, real, (..., 1 + params, frames).

    The first of each group of signals, (..., 1 + params, frames), is the signal, the others are its derivatives. Where
    a signal is 0, so are its derivatives.
    """
    signal = signals[..., :1, :]
    size = np.abs(signal)
    unit = np.divide(signal, size, out=np.zeros_like(signal), where=size > 0)
    return (unit.conj() * signals).real
