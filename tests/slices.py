"""Pulses, tissue and sequences, drawn at random, whose slices are compared with isochromats."""

import numpy as np

from ganmrf.physics.rf_pulse import WINDOWS, RfPulse, windowed_sinc
from ganmrf.physics.sequences.blocks import Blocks, Delay, Inversion, Saturation, T2Preparation, Train
from ganmrf.physics.sequences.bssfp import Bssfp
from ganmrf.physics.sequences.cardiac import CardiacFisp
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.sequences.multi_spin_echo import MultiSpinEcho
from ganmrf.physics.sequences.preparations import hard_saturation, mlev4_t2_preparation
from ganmrf.physics.sequences.spoiled_gradient_echo import SpoiledGradientEcho
from ganmrf.physics.tissue import Tissue

KINDS = (*WINDOWS, "asymmetric", "complex")
# Few hard pulses: engine and reference play the same ones, and the reference plays every one of them.
SAMPLES = 40
FRAMES = 20


def pulse_of(kind: str, rng, time_bandwidth: float | None = None) -> RfPulse:
    """A windowed sinc, or one whose peak comes early, real or with a phase that runs; time-bandwidth 2 to 10."""
    time_bandwidth = time_bandwidth or rng.uniform(2, 10)
    if kind in WINDOWS:
        return windowed_sinc(time_bandwidth, kind, n_samples=SAMPLES)
    time = (np.arange(SAMPLES) + 0.5) / SAMPLES - 0.5
    early = np.cos(np.pi * time) ** 2 * np.sinc(time_bandwidth * (time + rng.uniform(0.05, 0.15)))
    phase = rng.uniform(0.2, 1, 2) @ [2 * np.pi * time, 10 * time**2] if kind == "complex" else 0
    return RfPulse.of_waveform(early * np.exp(1j * phase) if kind == "complex" else early, time_bandwidth)


def tissue_of(rng, voxels: int = 6, off_resonance: bool = True) -> Tissue:
    """T2 of 5 ms to 2 s, two values of B1 from 0.7 to 1.3, and off-resonances up to 100 Hz or none."""
    t2 = np.exp(rng.uniform(np.log(5e-3), np.log(2), voxels))
    t1 = np.maximum(1.1 * t2, np.exp(rng.uniform(np.log(0.1), np.log(4), voxels)))
    # The reference computes the rotations of every value of B1.
    b1 = rng.choice(rng.uniform(0.7, 1.3, 2), voxels)
    return Tissue(t1, t2, b1, rng.uniform(0, 100, voxels) if off_resonance else None)


def fisp_of(rng, frames: int = FRAMES) -> Fisp:
    """A few flip angles up to 90 degrees over and over, times that vary, and an inversion."""
    angles = np.resize(rng.uniform(0, np.pi / 2, 6), frames)
    return Fisp(angles, rng.uniform(8e-3, 16e-3, frames), 3e-3, 0.02)


def sequences(rng) -> dict:
    """One of each kind, and what their parts can be combined to."""
    angles, times = np.resize(rng.uniform(0.1, 1.2, 4), FRAMES), rng.uniform(8e-3, 16e-3, FRAMES)
    cardiac = {"flip_angle": angles[:12].reshape(4, 3), "repetition_time": 8e-3, "echo_time": 2e-3}
    cardiac |= {"rr_intervals": np.array([0.5, 0.4, 0.6, 0.5])}
    preparations = (Inversion(0.02, 0.93), None, T2Preparation(0.03, 0.01), Saturation(0.08, 0.8))
    played = (mlev4_t2_preparation(0.03, 0.01), None, hard_saturation(0.08), None)
    mixed, phases = np.arange(FRAMES) * 7 % 3, rng.uniform(0, 6, FRAMES)
    train = Train(angles, times, 4e-3, rf_phase=phases, receiver_phase=0.5, turns=mixed)
    skipped = Train(angles[:5], 9e-3, 0.0, recorded=np.arange(5) % 2 == 0)
    return {
        "cardiac": CardiacFisp(**cardiac, preparations=preparations),
        "cardiac, played": CardiacFisp(**cardiac, preparations=played),
        "bssfp": Bssfp(angles, times, inversion_time=0.02),
        "spoiled gradient echo": SpoiledGradientEcho(angles, times, 3e-3, 0.01),
        "spin echoes": MultiSpinEcho(np.array([3.0, 2.5, 3.0, 2.5, 2.5, 3.0]), 0.012, 1.4),
        "one frame": Fisp([1.1], 0.01, 3e-3),
        "turns of all numbers": Blocks((train, Delay(0.03), skipped, Delay(0.2, crushed=True), train)),
    }


def relative(found, expected) -> np.ndarray:
    """Relative L2 distance of each signal."""
    return np.linalg.norm(found - expected, axis=-1) / np.linalg.norm(expected, axis=-1)
