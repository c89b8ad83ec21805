"""Played preparations: against Bloch matrices of their own, closed forms, and the ideal ones that they stand for."""

import jax
import numpy as np
import pytest
from scipy.linalg import expm

from ganmrf.physics.sequences.blocks import Blocks, Delay, Saturation, Train
from ganmrf.physics.sequences.cardiac import CardiacFisp
from ganmrf.physics.sequences.preparations import (
    Played,
    hard_inversion,
    hard_saturation,
    hard_t2_preparation,
    hyperbolic_secant,
    mlev4_t2_preparation,
    waveform,
)
from ganmrf.physics.simulate import simulate
from ganmrf.physics.tissue import Tissue
from ganmrf.pytrees import unusual_values

pytestmark = pytest.mark.usefixtures("quick_compiler")
T1, T2, B1, OFF = np.random.default_rng(5).uniform([[0.3], [0.02], [0.5], [-250]], [[2], [0.2], [1.5], [250]], (4, 6))


@pytest.fixture(autouse=True, scope="module")
def _double_precision():
    with jax.enable_x64(True):
        yield


def affine(preparation, t1, t2, b1=1.0, off_resonance=None):
    """A and B of z -> A z + B, (voxels,): what z = 1 and z = 0 become, seen by pulses of 90 degrees."""
    read = Train([np.pi / 2], 1.0, 0.0, turns=0)
    sequence = Blocks((preparation, read, Saturation(0.0), preparation, read))
    tissue = Tissue(t1, t2, b1, np.zeros_like(t1) if off_resonance is None else off_resonance)
    from_one, from_zero = np.asarray(simulate(sequence, tissue)).real.T / np.sin(np.pi / 2 * np.asarray(b1))
    return from_one - from_zero, from_zero


def bloch_affine(generators, t1, t2):
    """A and B by matrices of (Mx, My, Mz, 1): exponentials of ``generators``, (rate, time) for fields and for waits."""
    total = np.eye(4)
    for x, y, z, time in generators:  # turning rates about the axes, rad/s, right-handed, and how long, s
        matrix = np.array([[-1 / t2, -z, y, 0], [z, -1 / t2, -x, 0], [-y, x, -1 / t1, 1 / t1], [0, 0, 0, 0]])
        total = expm(matrix * time) @ total
    return total[2, 2], total[2, 3]


def test_pulses_are_products_of_bloch_matrices():
    """Random pulses and times; a hard pulse is a strong field for so short a time that nothing else happens."""
    rng, short = np.random.default_rng(0), 1e-13
    angles, phases, times = rng.uniform(-3, 3, 7), rng.uniform(0, 6, 7), rng.uniform(0, 0.03, 7)
    found = affine(Played(angles, phases, times), T1, T2, B1, OFF)
    for voxel, (t1, t2, b1, off) in enumerate(zip(T1, T2, B1, OFF, strict=True)):
        steps = []
        for angle, phase, time in zip(b1 * angles / short, phases, times, strict=True):
            steps += [(angle * np.cos(phase), angle * np.sin(phase), 0, short), (0, 0, 2 * np.pi * off, time)]
        np.testing.assert_allclose([each[voxel] for each in found], bloch_affine(steps, t1, t2), atol=1e-10)


def test_a_waveform_is_a_field_that_changes():
    """A field of smooth amplitude and phase, constant in steps a quarter as long as the samples."""
    samples, duration, t1, t2, b1, off = 120, 6e-3, T1[:1], T2[:1], B1[:1], OFF[:1]

    def field(samples):
        t = (np.arange(samples) + 0.5) / samples
        return 300 * (1 + np.cos(9 * t)) * np.sin(np.pi * t), 3 * np.sin(5 * t) + 2 * t

    found = affine(waveform(*field(samples), duration), t1, t2, b1, off)
    amplitude, phase = field(4 * samples)
    rate, step = 2 * np.pi * b1 * amplitude, duration / (4 * samples)
    steps = [(x, y, 2 * np.pi * off[0], step) for x, y in zip(rate * np.cos(phase), rate * np.sin(phase), strict=True)]
    # Off-resonance turns by 0.08 rad from sample to sample, and samples by 0.2 rad: what is split is of second order.
    np.testing.assert_allclose(np.ravel(found), bloch_affine(steps, t1[0], t2[0]), atol=1e-3)


def test_hyperbolic_secant_without_relaxation():
    """The closed form of a pulse without ends, whole band and edges, for amplitudes below and above the threshold."""
    beta, mu, peak, nothing = 700.0, 4.9, 600.0, np.full(40, 1e6)
    b1 = np.repeat([0.3, 0.7, 1.0, 1.2], 10)
    off = np.tile(np.linspace(0, 900, 10), 4)
    with unusual_values():
        found, rest = affine(hyperbolic_secant(0.0, 30e-3, peak, beta, mu, samples=2000), nothing, nothing, b1, off)
    above, below = (np.pi / 2 * (2 * np.pi * off / beta + sign * mu) for sign in (1, -1))
    swing = np.sqrt((2 * np.pi * b1 * peak / beta) ** 2 - mu**2 + 0j)
    expected = np.tanh(above) * np.tanh(below) + np.cos(np.pi * swing).real / (np.cosh(above) * np.cosh(below))
    np.testing.assert_allclose(found, expected, atol=2e-3)
    np.testing.assert_allclose(rest, 0, atol=1e-6)


def test_hard_pulses_are_ideal_where_b1_is_nominal():
    time, wait = 0.05, 0.01
    recovered = np.exp(-wait / T1)
    for played, factor in (
        (hard_t2_preparation(time, wait), np.exp(-time / T2)),
        (mlev4_t2_preparation(time, wait), np.exp(-time / T2)),
        (hard_saturation(wait), 0 * T2),
        (hard_inversion(wait), -1 + 0 * T2),
    ):
        np.testing.assert_allclose(affine(played, T1, T2), [factor * recovered, 1 - recovered], atol=1e-12)


def test_hard_pulses_where_it_is_not():
    """Rotations alone, in closed form, of angles that B1 scales."""
    b1 = np.linspace(0.5, 1.5, 6)
    angle, t1, t2 = np.pi / 2 * b1, T1, np.full(6, 0.1)
    np.testing.assert_allclose(affine(hard_inversion(0.0), t1, t2, b1), [np.cos(2 * angle), 0 * b1], atol=1e-12)
    expected = np.cos(angle) ** 2 * np.cos(2 * angle) + np.sin(angle) ** 2
    np.testing.assert_allclose(affine(hard_t2_preparation(0.0), t1, t2, b1), [expected, 0 * b1], atol=1e-12)


def test_mlev_is_disturbed_less():
    """B1 up to 15 % and resonance up to 100 Hz away: A stays nearer to exp(-time / T2)."""
    b1, off = (grid.ravel() for grid in np.meshgrid([0.85, 1.0, 1.15], [-100.0, 0.0, 15.0, 60.0]))
    t1, t2, time = np.full(12, 1.2), np.full(12, 0.05), 0.03
    error = [
        np.abs(affine(play(time), t1, t2, b1, off)[0] - np.exp(-time / t2)).max()
        for play in (hard_t2_preparation, mlev4_t2_preparation)
    ]
    assert error[1] < 0.04 < 0.2 < error[0]


def test_transverse_magnetisation_before_it_counts_as_crushed():
    """Without a crusher what has not decayed is left out, within its size; isochromats that keep it say how much."""
    angles, played, tissue = [0.6, 1.1], hard_t2_preparation(0.03), Tissue(1.1, 0.06, 0.8, 20.0)
    train = Train(angles, 0.01, 3e-3)

    for gap in (0.05, 0.5):
        turns = 2 * np.pi * np.arange(16) / 16
        magnetisation = np.tile([[0.0], [0.0], [1.0]], 16)

        def relaxed(m, time):
            x, y, z = m
            m = (x + 1j * y) * np.exp((2j * np.pi * 20.0 - 1 / 0.06) * time)
            return np.array([m.real, m.imag, 1 + (z - 1) * np.exp(-time / 1.1)])

        def turned(m, angle, phase=0.0):
            m = np.array([*_about_z(m[0], m[1], -phase), m[2]])
            m = np.array([m[0], *_about_z(m[1], m[2], angle)])
            return np.array([*_about_z(m[0], m[1], phase), m[2]])

        seen = []
        for part in range(2):
            for angle in angles:
                magnetisation = relaxed(turned(magnetisation, 0.8 * angle), 3e-3)
                seen.append(1j * (magnetisation[0] + 1j * magnetisation[1]).mean())
                x, y, z = relaxed(magnetisation, 7e-3)
                magnetisation = np.array([*_about_z(x, y, turns), z])
            if not part:
                magnetisation = relaxed(magnetisation, gap)
                for angle, phase, time in zip(played.flip_angle, played.rf_phase, played.time, strict=True):
                    magnetisation = relaxed(turned(magnetisation, 0.8 * float(angle), float(phase)), float(time))
                magnetisation[:2] = 0
        found = simulate(Blocks((train, Delay(gap), played, train)), tissue, n_states=3)
        assert np.abs(found - np.stack(seen)).max() < np.exp(-gap / 0.06)


def _about_z(x, y, angle):
    return x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)


def test_a_played_preparation_takes_its_time_in_a_beat():
    facts = {"flip_angle": np.full((2, 3), 0.2), "repetition_time": 5e-3, "echo_time": 1e-3}
    CardiacFisp(**facts, preparations=(None, mlev4_t2_preparation(0.05, 0.01)), rr_intervals=[0.08, 1.0])
    with pytest.raises(ValueError, match=r"beat 1 lasts 0.07 s"):
        CardiacFisp(**facts, preparations=(None, mlev4_t2_preparation(0.05, 0.01)), rr_intervals=[0.07, 1.0])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Played([0.1, 0.2], [0.0, 0.0, 0.0], 1e-3), r"Played.flip_angle must be \(pulses,\) of 3 pulses"),
        (lambda: Played([], 0.0, 1e-3), "Played.flip_angle must be"),
        (lambda: Played([0.1, 7.0], 0.0, 1e-3), "Played.flip_angle must be within .*got 7 at index 1"),
        (lambda: Played([0.1], np.nan, 1e-3), "Played.rf_phase must be finite"),
        (lambda: Played([0.1], 0.0, [-1e-3]), "Played.time must be 0 or more"),
        (lambda: Played([0.1], 0.0, [40.0]), r"sum of its times must be in s, .*ms"),
        (lambda: Played([0.1], 0.0, 1e-3, -1.0), "Played.wait must be 0 or more"),
        (lambda: waveform([100.0, 200.0], [0.0], 1e-3), r"amplitude and rf_phase must be \(samples,\)"),
        (lambda: waveform([100.0, 9000.0], [0.0, 0.0], 1e-3), "Played.flip_angle must be within"),
    ],
)
def test_what_no_scanner_plays_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
