"""Tissue of two pools and sequences, drawn at random with hard corners, that are compared with isochromats."""

import numpy as np

from ganmrf.physics.sequences.blocks import Blocks, Delay, Inversion, Saturation, T2Preparation, Train
from ganmrf.physics.sequences.bssfp import Bssfp
from ganmrf.physics.sequences.cardiac import CardiacFisp
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.sequences.multi_spin_echo import MultiSpinEcho
from ganmrf.physics.sequences.preparations import Played
from ganmrf.physics.sequences.spoiled_gradient_echo import SpoiledGradientEcho
from ganmrf.physics.tissue import ExchangingPools, SemisolidPool

VOXELS = 7
FRAMES = 12
# Pools that are empty, as large as each other, all there is but a tenth; rates from none to 3000 / s.
FRACTIONS = np.array([0.0, 0.5, 0.2, 0.0, 0.3, 0.9, 0.12])
RATES = np.array([10.0, 3000.0, 0.0, 0.0, 25.0, 3000.0, 60.0])
PULSES = {"pulse_duration": 2e-3, "pulse_shape": 1.5}


def pools_of(kind, rng, *, shifted: bool = False, off_resonance: bool = False):
    """`VOXELS` voxels; the first ones are corners, the fifth of which has pools of equal rates."""
    values = [rng.uniform(low, high, VOXELS) for low, high in ((0.03, 0.2), (0.2, 2), (0.008, 0.03), (0.2, 1))]
    t2, t1, t2_b, t1_b = values
    t2_b[4], t1_b[4] = t2[4], t1[4]
    b1 = rng.uniform(0.7, 1.3, VOXELS)
    off = rng.uniform(-120, 120, VOXELS) if off_resonance else None
    if kind is SemisolidPool:
        return SemisolidPool(t1, t2, FRACTIONS, RATES, t1_b, rng.uniform(0, 3e-5, VOXELS), b1, off)
    shift = rng.uniform(-80, 80, VOXELS) if shifted else None
    return ExchangingPools(t1, t2, FRACTIONS, RATES, t1_b, t2_b, b1, shift, off)


def tissues(rng) -> dict:
    """Of each kind, with and without what makes signals complex."""
    return {
        "exchanging": pools_of(ExchangingPools, rng),
        "exchanging, off resonance": pools_of(ExchangingPools, rng, shifted=True, off_resonance=True),
        "semisolid": pools_of(SemisolidPool, rng),
        "semisolid, off resonance": pools_of(SemisolidPool, rng, off_resonance=True),
    }


def sequences(rng) -> dict:
    """One of each kind; times are few, as the reference takes an exponential of a matrix for each."""
    angles, phases = rng.uniform(0.1, 1.3, FRAMES), rng.uniform(0, 6, FRAMES)
    inverted = {"inversion_time": 0.02, "inversion_saturation": 0.8}
    saturation = {"saturation_angle": rng.uniform(0, 3, FRAMES)}
    preparations = (Inversion(0.02, 0.93, 0.7), None, T2Preparation(0.03, 0.01), Saturation(0.08, 0.8, 0.9))
    played = Played(rng.uniform(-3, 3, 4), rng.uniform(0, 6, 4), 5e-3, 0.01, pulse_duration=1e-3, pulse_shape=1.2)
    train = Train(angles, 0.01, 2e-3, rf_phase=phases, receiver_phase=0.5, turns=np.arange(FRAMES) * 7 % 3, **PULSES)
    skipped = Train(angles[:4], 9e-3, 0.0, recorded=np.arange(4) % 2 == 0, **PULSES)
    rhythm = np.array([0.5, 0.4, 0.6, 0.5])
    return {
        "fisp": Fisp(angles, np.where(angles > 1, 0.012, 0.009), 3e-3, **inverted, **PULSES, **saturation),
        "cardiac": CardiacFisp(angles.reshape(4, 3), 8e-3, 2e-3, preparations, rhythm, **PULSES),
        "bssfp": Bssfp(angles, 0.01, **inverted, **PULSES, **saturation),
        "spoiled gradient echo": SpoiledGradientEcho(angles, 0.011, 3e-3, **inverted, **PULSES, **saturation),
        "spin echoes": MultiSpinEcho(rng.uniform(1, 3.1, 6), 0.012, 1.4, **PULSES),
        "blocks": Blocks((played, train, Delay(0.03), skipped, *preparations[2:], skipped, Delay(0.2, True), skipped)),
    }


def relative(found, expected) -> np.ndarray:
    """Relative L2 distance of each signal."""
    return np.linalg.norm(found - expected, axis=-1) / np.linalg.norm(expected, axis=-1)
