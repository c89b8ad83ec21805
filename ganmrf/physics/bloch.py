"""The Bloch equation, isochromat by isochromat: an independent reference for the extended phase graph.

Plain NumPy in double precision, without configuration states.
"""

import numpy as np

from ganmrf.physics.sequences.fisp import Sequence
from ganmrf.physics.tissue import Tissue


def isochromat_signal(sequence: Sequence, tissue: Tissue) -> np.ndarray:
    """Signal of a voxel as the mean over isochromats that the gradient spreads evenly over one turn per frame.

    Isochromat j of n precesses by ``2 pi j / n`` at the end of every frame. The transverse magnetisation after m frames
    is a trigonometric polynomial of degree m in that angle, and the mean over n equal steps of a turn is its constant
    term exactly for degrees below n. The last echo has seen ``frames - 1`` precessions, so n is ``frames + 1``, more
    than exactness needs. All voxels together hold about ``10 * 8 * voxels * n`` bytes beside the result.

    Returns:
      ``Mx + i My`` at each echo for M0 = 1, complex128, ``(*tissue.shape, frames)``. A flip angle is a right-handed
      rotation about +x, so transverse magnetisation starts at ``-i sin(alpha)``.
    """
    n_isochromats = sequence.n_frames + 1
    t1, t2, b1 = (np.asarray(field, float)[..., None] for field in (tissue.t1, tissue.t2, tissue.b1))
    precession = np.exp(2j * np.pi * np.arange(n_isochromats) / n_isochromats)

    def rotate(xy, z, angle):
        y = xy.imag * np.cos(angle) - z * np.sin(angle)
        return xy.real + 1j * y, xy.imag * np.sin(angle) + z * np.cos(angle)

    def relax(xy, z, time):
        return xy * np.exp(-time / t2), 1 + (z - 1) * np.exp(-time / t1)

    xy = np.zeros((*tissue.shape, n_isochromats), complex)
    z = np.ones((*tissue.shape, n_isochromats))
    if sequence.inversion_time is not None:
        xy, z = relax(xy, -z, float(sequence.inversion_time))
    signal = np.empty((*tissue.shape, sequence.n_frames), complex)
    flip_angle, repetition_time, echo_time = (
        np.asarray(field, float) for field in (sequence.flip_angle, sequence.repetition_time, sequence.echo_time)
    )
    for frame in range(sequence.n_frames):
        xy, z = rotate(xy, z, flip_angle[frame] * b1)
        xy, z = relax(xy, z, echo_time[frame])
        signal[..., frame] = xy.mean(-1)
        xy, z = relax(xy, z, repetition_time[frame] - echo_time[frame])
        xy = xy * precession
    return signal
