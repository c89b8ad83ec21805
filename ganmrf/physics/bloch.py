"""The Bloch equation, isochromat by isochromat: an independent reference for the fast forms.

Plain NumPy in double precision, without configuration states, spinors, coefficients or frames of reference of pulses.
Pools that exchange obey the Bloch-McConnell equations, whose matrix `scipy.linalg.expm` takes the exponential of; a
semisolid pool has no transverse magnetisation (Henkelman et al. 1993, doi:10.1002/mrm.1910290607).

Reference: McConnell 1958, doi:10.1063/1.1744152.
"""

import functools

import numpy as np
import scipy.linalg

from ganmrf.physics.lowering import require_pulse_durations
from ganmrf.physics.rf_pulse import RfPulse
from ganmrf.physics.sequences.blocks import Delay, Inversion, Played, T2Preparation, Train
from ganmrf.physics.tissue import ExchangingPools, SemisolidPool, Tissue, TissueModel


def isochromat_signal(sequence, tissue: TissueModel) -> np.ndarray:
    """Signal of a voxel as the mean over isochromats that each turn of a gradient spreads evenly over one turn.

    Isochromat j of n precesses by ``2 pi j / n`` in each turn. The transverse magnetisation after m turns is a
    trigonometric polynomial of degree m in that angle, and the mean over n equal steps of a turn is its constant term
    exactly for degrees below n: n is the number of turns of the sequence plus 1. All voxels together hold about
    ``10 * 8 * voxels * n`` bytes beside the result, for each pool.

    Returns:
      ``(Mx + i My) exp(-i receiver phase)`` at each recorded echo for M0 = 1, complex128, ``(*tissue.shape, frames)``.
      A flip angle is a right-handed rotation about the direction of its phase, about +x for 0, so transverse
      magnetisation starts at ``-i sin(alpha)``.

    Raises:
      ValueError: a semisolid pool and pulses of unknown duration.
    """
    require_pulse_durations(sequence, tissue)
    blocks = sequence.as_blocks().blocks
    b1 = _column(tissue.b1)

    def excite(xy, z, flip_angle, phase):
        return _rotate(xy, z, flip_angle * b1, phase)

    return _signal(blocks, tissue, _spread(blocks), excite)


def slice_signal(
    sequence, tissue: TissueModel, pulse: RfPulse, turns, n_positions: int, extent: float = 1.5
) -> np.ndarray:
    """Signal of a slice as the sum over isochromats at positions across it, in slice thicknesses.

    Each pulse of a train is played as its hard pulses, between halves of the dephasing that the slice gradient makes
    meanwhile; half of all of it is taken back before the pulse, and half after. Preparations are played alike
    everywhere, and a semisolid pool feels the power of each pulse everywhere. All voxels together hold about ``20 * 8 *
    voxels * n_positions`` bytes for each pool beside the rotations of every flip angle and B1, ``9 * 8 * n_positions``
    each.

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

    Raises:
      ValueError: a semisolid pool and pulses of unknown duration.
    """
    require_pulse_durations(sequence, tissue)
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
        images_xy, images_z = (images[:, voxel][..., None, :, None] for images in rotated(flip_angle))
        xy = xy * np.exp(-1j * phase)
        parts = xy.real, xy.imag, z
        xy, z = (sum(map(np.multiply, parts, images)) for images in (images_xy, images_z))
        return xy * np.exp(1j * phase), z

    if np.isinf(turns).all():
        turn = np.tile(_spread(blocks), (n_positions, 1))
    else:
        turn = np.exp(2j * np.pi * _column(turns) * position[:, None])
    return 2 * extent * _signal(blocks, tissue, turn, excite)


def _signal(blocks, tissue, turn, excite):
    """Mean over isochromats, (positions, isochromats), that each turn of a gradient multiplies by ``turn``."""
    spins, signal = _Spins(tissue, turn.shape), []
    b1 = _column(tissue.b1)
    for block in blocks:
        if isinstance(block, Train):
            signal += _play(spins, block, turn, excite)
        elif isinstance(block, Delay):
            if block.crushed:
                spins.crush()
            spins.wait(block.time)
        elif isinstance(block, Played):
            spins.crush()
            for n, power in enumerate(_powers(block)):
                spins.pulse(_rotate, float(block.flip_angle[n]) * b1, float(block.rf_phase[n]), power=power)
                spins.wait(block.time[n])
            spins.crush()
            spins.wait(block.wait)
        elif isinstance(block, T2Preparation):
            half = float(block.time) / 2
            spins.crush()
            for angle, phase, time in ((90, 0, half), (180, 90, half), (90, 180, 0.0)):
                spins.pulse(_rotate, np.deg2rad(angle), np.deg2rad(phase))
                spins.wait(time)
            spins.crush()
            spins.wait(block.wait)
        else:
            left = 1 - (2 if isinstance(block, Inversion) else 1) * float(block.efficiency)
            spins.scale(left, 1.0 if block.saturation is None else float(block.saturation))
            spins.crush()
            spins.wait(block.time)
    return np.stack(signal, axis=-1)


def _play(spins, train, turn, excite):
    phases = np.asarray(train.rf_phase, float)
    receiver = phases if train.receiver_phase is None else np.asarray(train.receiver_phase, float)
    signal = []
    for n, power in enumerate(_powers(train)):
        spins.pulse(excite, float(train.flip_angle[n]), phases[n], power=power)
        spins.wait(train.echo_time[n])
        if train.recorded[n]:
            signal.append(spins.xy.mean((-2, -1)).sum(-1) * np.exp(-1j * receiver[n]))
        spins.wait(float(train.repetition_time[n]) - float(train.echo_time[n]))
        spins.xy = spins.xy * turn ** train.turns[n]
    return signal


def _powers(pulses):
    """Integral of the squared rate of rotation over each pulse of a block for a B1 of 1, rad^2/s."""
    square = np.asarray(pulses.flip_angle, float) ** 2
    if pulses.pulse_duration is None:  # which a semisolid pool alone needs
        return np.zeros_like(square)
    if (off_resonance := getattr(pulses, "saturation_angle", None)) is not None:
        square = square + np.asarray(off_resonance, float) ** 2
    shape = 1.0 if pulses.pulse_shape is None else np.asarray(pulses.pulse_shape, float)
    return square * shape / np.asarray(pulses.pulse_duration, float)


class _Spins:
    """Magnetisation of isochromats, (..., pools, positions, isochromats): ``xy`` of mobile pools, ``z`` of all."""

    def __init__(self, tissue, isochromats):
        m0, self.across, self.along = _matrices(tissue)
        self.mobile, self.m0 = self.across.shape[-1], m0[..., None, None]
        self.z = self.m0 + np.zeros(isochromats)
        self.xy = np.zeros_like(self.z[..., : self.mobile, :, :], complex)
        line = tissue.lineshape if isinstance(tissue, SemisolidPool) else 0.0
        self.saturated = np.pi * _column(line) * _column(tissue.b1) ** 2  # by a power of 1
        self.propagators = functools.cache(self._propagators)

    def wait(self, time):
        """Precession, relaxation and exchange for a time, s."""
        across, along = self.propagators(float(time))
        self.xy, self.z = _mixed(across, self.xy), self.m0 + _mixed(along, self.z - self.m0)

    def _propagators(self, time):
        return scipy.linalg.expm(time * self.across), scipy.linalg.expm(time * self.along)

    def pulse(self, rotation, *angles, power=0.0):
        """A rotation of the mobile pools; a ``power``, rad^2/s for a B1 of 1, saturates a semisolid one."""
        self.xy, z = rotation(self.xy, self.z[..., : self.mobile, :, :], *angles)
        self.z = np.concatenate([z, np.exp(-self.saturated * power) * self.z[..., self.mobile :, :, :]], -3)

    def scale(self, mobile, semisolid):
        """Longitudinal magnetisation times one number of mobile pools, and another one of a semisolid pool."""
        pools = self.z.shape[-3]
        self.z = self.z * np.where(np.arange(pools) < self.mobile, mobile, semisolid)[:, None, None]

    def crush(self):
        """A gradient after which no transverse magnetisation is left."""
        self.xy = 0 * self.xy


def _matrices(tissue):
    """M0 of pools, (..., pools), and the Bloch-McConnell equations between pulses: matrices whose d/dt they are.

    That of transverse magnetisation of mobile pools, complex, and that of longitudinal magnetisation less M0, which
    exchange leaves as it is.
    """

    def stacked(*names):
        values = (getattr(tissue, name, None) for name in names)
        return np.stack([np.broadcast_to(0.0 if x is None else np.asarray(x, float), tissue.shape) for x in values], -1)

    pools = ("",) if isinstance(tissue, Tissue) else ("", "_b")
    mobile = pools if isinstance(tissue, ExchangingPools) else ("",)
    fraction, rate = np.moveaxis(stacked("fraction", "exchange_rate"), -1, 0)
    m0 = np.stack([1 - fraction, fraction], -1)[..., : len(pools)]
    # As if every spin left its pool at this rate, and came to any by the pool's share of all spins.
    exchange = rate[..., None, None] * (m0[..., None] - np.eye(len(pools)))
    along = exchange - (1 / stacked(*(f"t1{pool}" for pool in pools)))[..., None] * np.eye(len(pools))
    frequency = stacked("off_resonance") + stacked("", "shift")[..., : len(mobile)]
    decay = 2j * np.pi * frequency - 1 / stacked(*(f"t2{pool}" for pool in mobile))
    across = decay[..., None] * np.eye(len(mobile))
    return m0, across + exchange if mobile == pools else across, along


def _mixed(matrix, pools):
    """Matrices, (..., pools, pools), times the pools of all isochromats."""
    return sum(matrix[..., j, None, None] * pools[..., j : j + 1, :, :] for j in range(pools.shape[-3]))


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
    """One value a voxel, of all its pools, positions and isochromats."""
    return np.asarray(field, float)[..., None, None, None]
