"""The Bloch equation, isochromat by isochromat: an independent reference for the fast forms.

Plain NumPy in double precision, without configuration states, spinors, coefficients or frames of reference of pulses.
"""

import functools

import numpy as np

from ganmrf.physics.rf_pulse import RfPulse
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
    b1 = _column(tissue.b1)

    def excite(xy, z, flip_angle, phase):
        return _rotate(xy, z, flip_angle * b1, phase)

    return _signal(blocks, tissue, _spread(blocks), excite)


def slice_signal(sequence, tissue: Tissue, pulse: RfPulse, turns, n_positions: int, extent: float = 1.5) -> np.ndarray:
    """Signal of a slice as the sum over isochromats at positions across it, in slice thicknesses.

    Each pulse of a train is played as its hard pulses, between halves of the dephasing that the slice gradient makes
    meanwhile; half of all of it is taken back before the pulse, and half after. Preparations are played alike
    everywhere. All voxels together hold about ``20 * 8 * voxels * n_positions`` bytes beside the rotations of every
    flip angle and B1, ``9 * 8 * n_positions`` each.

    Args:
      sequence: any pulse sequence.
      tissue: voxels of any shape.
      pulse: every pulse of the trains.
      turns: of dephasing across one slice thickness for each of ``Train.turns``, one number or one for each voxel;
        infinity for the limit of many, where every position has as many isochromats as `isochromat_signal`.
      n_positions: at the midpoints of equal steps from ``-extent`` to ``extent``.
      extent: slice thicknesses from the middle to either end.

    Returns:
      As `isochromat_signal`, times the slice thicknesses that there are, ``2 extent``.
    """
    blocks = sequence.as_blocks().blocks
    position = extent * ((2 * np.arange(n_positions) + 1) / n_positions - 1)
    b1, voxel = np.unique(np.broadcast_to(np.asarray(tissue.b1, float), tissue.shape), return_inverse=True)
    voxel = voxel.reshape(tissue.shape)
    step = np.exp(2j * np.pi * float(pulse.time_bandwidth) * position / np.size(pulse.samples) / 2)
    back = np.exp(-2j * np.pi * float(pulse.time_bandwidth) * position / 2)

    @functools.cache
    def rotated(flip_angle):
        """What becomes of magnetisation along x, y and z: xy and z, each (3, values of B1, positions)."""
        xy, z = (np.reshape(each, (3, 1, 1)) for each in ([1, 1j, 0], [0.0, 0.0, 1.0]))
        xy = xy * back
        for sample in np.asarray(pulse.samples):
            xy, z = _rotate(xy * step, z, abs(sample) * flip_angle * b1[:, None], np.angle(sample))
            xy = xy * step
        return xy * back, z

    def excite(xy, z, flip_angle, phase):
        images_xy, images_z = (images[:, voxel][..., None] for images in rotated(flip_angle))
        xy = xy * np.exp(-1j * phase)
        parts = xy.real, xy.imag, z
        xy, z = (sum(map(np.multiply, parts, images)) for images in (images_xy, images_z))
        return xy * np.exp(1j * phase), z

    many = np.isinf(turns).all()
    turn = _spread(blocks) if many else np.exp(2j * np.pi * _column(turns) * position[:, None])
    return 2 * extent * _signal(blocks, tissue, turn, excite)


def _signal(blocks, tissue, turn, excite):
    """Mean over isochromats, (..., positions, isochromats), that each turn of a gradient multiplies by ``turn``."""
    off_resonance = 0.0 if tissue.off_resonance is None else tissue.off_resonance
    t1, t2, b1, off_resonance = map(_column, (tissue.t1, tissue.t2, tissue.b1, off_resonance))
    z = np.ones(np.broadcast_shapes((*tissue.shape, 1, 1), turn.shape))
    xy = np.zeros_like(z, complex)

    def wait(xy, z, time):
        time = float(time)
        xy = xy * np.exp(-time / t2) * np.exp(2j * np.pi * off_resonance * time)
        return xy, 1 + (z - 1) * np.exp(-time / t1)

    signal = []
    for block in blocks:
        if isinstance(block, Train):
            phases = np.asarray(block.rf_phase, float)
            receiver = phases if block.receiver_phase is None else np.asarray(block.receiver_phase, float)
            for n in range(block.n_frames):
                xy, z = excite(xy, z, float(block.flip_angle[n]), phases[n])
                xy, z = wait(xy, z, block.echo_time[n])
                if block.recorded[n]:
                    signal.append(xy.mean((-2, -1)) * np.exp(-1j * receiver[n]))
                xy, z = wait(xy, z, float(block.repetition_time[n]) - float(block.echo_time[n]))
                xy = xy * turn ** block.turns[n]
        elif isinstance(block, Delay):
            xy, z = wait(0 * xy if block.crushed else xy, z, block.time)
        elif isinstance(block, Played):
            xy = 0 * xy
            for angle, phase, time in np.stack([block.flip_angle, block.rf_phase, block.time], axis=1).astype(float):
                xy, z = wait(*_rotate(xy, z, angle * b1, phase), time)
            xy, z = wait(0 * xy, z, block.wait)
        elif isinstance(block, T2Preparation):
            xy, z = wait(0 * xy, z * np.exp(-float(block.time) / t2), block.wait)
        else:
            left = 1 - (2 if isinstance(block, Inversion) else 1) * float(block.efficiency)
            xy, z = wait(0 * xy, left * z, block.time)
    return np.stack(signal, axis=-1)


def _spread(blocks):
    """One turn in as many equal steps as the turns of all blocks need, (1, isochromats)."""
    n_isochromats = 1 + sum(sum(block.turns) for block in blocks if isinstance(block, Train))
    return np.exp(2j * np.pi * np.arange(n_isochromats) / n_isochromats)[None]


def _rotate(xy, z, angle, phase):
    """A right-handed rotation about the transverse axis of a phase."""
    xy = xy * np.exp(-1j * phase)  # to the frame whose x axis is that of the pulse, and back
    y = xy.imag * np.cos(angle) - z * np.sin(angle)
    return (xy.real + 1j * y) * np.exp(1j * phase), xy.imag * np.sin(angle) + z * np.cos(angle)


def _column(field):
    """One value a voxel, of all its positions and isochromats."""
    return np.asarray(field, float)[..., None, None]
