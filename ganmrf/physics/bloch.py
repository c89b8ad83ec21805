"""The Bloch equation, isochromat by isochromat: an independent reference for the extended phase graph.

Plain NumPy in double precision, without configuration states, coefficients or frames of reference of pulses.
"""

import numpy as np

from ganmrf.physics.sequences.blocks import Delay, Inversion, Played, T2Preparation, Train
from ganmrf.physics.tissue import Tissue


def isochromat_signal(sequence, tissue: Tissue) -> np.ndarray:
    """Signal of a voxel as the mean over isochromats that each turn of a gradient spreads evenly over one turn.

    Isochromat j of n precesses by ``2 pi j / n`` in each turn. The transverse magnetisation after m turns is a
    trigonometric polynomial of degree m in that angle, and the mean over n equal steps of a turn is its constant term
    exactly for degrees below n: n is the number of turns of the sequence plus 1. All voxels together hold about
    ``10 * 8 * voxels * n`` bytes beside the result.

    Returns:
      ``(Mx + i My) exp(-i receiver phase)`` at each recorded echo for M0 = 1, complex128, ``(*tissue.shape, frames)``.
      A flip angle is a right-handed rotation about the direction of its phase, about +x for 0, so transverse
      magnetisation starts at ``-i sin(alpha)``.
    """
    blocks = sequence.as_blocks().blocks
    n_isochromats = 1 + sum(sum(block.turns) for block in blocks if isinstance(block, Train))
    off_resonance = 0.0 if tissue.off_resonance is None else tissue.off_resonance
    fields = np.broadcast_arrays(tissue.t1, tissue.t2, tissue.b1, off_resonance)
    t1, t2, b1, off_resonance = (np.asarray(field, float)[..., None] for field in fields)
    turn = np.exp(2j * np.pi * np.arange(n_isochromats) / n_isochromats)
    xy, z = np.zeros((*t1.shape[:-1], n_isochromats), complex), np.ones((*t1.shape[:-1], n_isochromats))

    def wait(xy, z, time):
        time = float(time)
        xy = xy * np.exp(-time / t2) * np.exp(2j * np.pi * off_resonance * time)
        return xy, 1 + (z - 1) * np.exp(-time / t1)

    def rotate(xy, z, angle, phase):
        xy = xy * np.exp(-1j * phase)  # to the frame whose x axis is that of the pulse, and back
        y = xy.imag * np.cos(angle) - z * np.sin(angle)
        return (xy.real + 1j * y) * np.exp(1j * phase), xy.imag * np.sin(angle) + z * np.cos(angle)

    signal = []
    for block in blocks:
        if isinstance(block, Train):
            phases = np.asarray(block.rf_phase, float)
            receiver = phases if block.receiver_phase is None else np.asarray(block.receiver_phase, float)
            for n in range(block.n_frames):
                xy, z = rotate(xy, z, float(block.flip_angle[n]) * b1, phases[n])
                xy, z = wait(xy, z, block.echo_time[n])
                if block.recorded[n]:
                    signal.append(xy.mean(-1) * np.exp(-1j * receiver[n]))
                xy, z = wait(xy, z, float(block.repetition_time[n]) - float(block.echo_time[n]))
                xy = xy * turn ** block.turns[n]
        elif isinstance(block, Delay):
            xy, z = wait(0 * xy if block.crushed else xy, z, block.time)
        elif isinstance(block, Played):
            xy = 0 * xy
            for angle, phase, time in np.stack([block.flip_angle, block.rf_phase, block.time], axis=1).astype(float):
                xy, z = wait(*rotate(xy, z, angle * b1, phase), time)
            xy, z = wait(0 * xy, z, block.wait)
        elif isinstance(block, T2Preparation):
            xy, z = wait(0 * xy, z * np.exp(-float(block.time) / t2), block.wait)
        else:
            left = 1 - (2 if isinstance(block, Inversion) else 1) * float(block.efficiency)
            xy, z = wait(0 * xy, left * z, block.time)
    return np.stack(signal, axis=-1)
