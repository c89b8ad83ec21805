"""The isochromat sums have the closed forms of pulses, echo and steady state; enough isochromats are exact."""

import dataclasses

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest
import scipy.integrate

from ganmrf.physics.bloch import isochromat_signal, slice_signal
from ganmrf.physics.rf_pulse import RfPulse, windowed_sinc
from ganmrf.physics.sequences.blocks import Blocks, Train
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.slice_profile import sinc_profile
from ganmrf.physics.tissue import ExchangingPools, SemisolidPool, Tissue

# Double precision throughout; some hundred operations a frame on numbers of order 1.
ROUNDING = 1e-12


@pytest.fixture(autouse=True, scope="module")
def _double_precision():
    with jax.enable_x64(True):
        yield


def random_sequence(n_frames, seed=0):
    random = np.random.default_rng(seed)
    return Fisp(random.uniform(0, np.pi, n_frames), random.uniform(0.01, 0.02, n_frames), 0.003, 0.02)


@hypothesis.given(
    flip_angle=st.floats(-2 * np.pi, 2 * np.pi),
    b1=st.floats(0.1, 1),
    t1=st.floats(0.05, 5),
    t2_over_t1=st.floats(0.01, 1),
    echo_time=st.floats(0, 0.01),
    inversion_time=st.none() | st.floats(0, 5),
)
def test_first_frame_closed_form(flip_angle, b1, t1, t2_over_t1, echo_time, inversion_time):
    """-i sin(alpha) of what the inversion left, (1 - 2 exp(-TI / T1)), decayed until the echo."""
    sequence = Fisp([flip_angle], 0.01, echo_time, inversion_time)
    z = 1.0 if inversion_time is None else 1 - 2 * np.exp(-inversion_time / t1)
    expected = -1j * np.sin(b1 * flip_angle) * z * np.exp(-echo_time / (t2_over_t1 * t1))
    signal = isochromat_signal(sequence, Tissue(t1, t2_over_t1 * t1, b1))
    assert signal.dtype == np.complex128
    np.testing.assert_allclose(signal, [expected], rtol=0, atol=ROUNDING)


def test_hahn_echo():
    """90 - TR - 180 - TR: the echo is there at the third pulse (of 0 degrees), turned over."""
    sequence = Fisp([np.pi / 2, np.pi, 0.0], [0.03, 0.03, 0.01], 0.004)
    expected = 1j * np.exp(-(2 * 0.03 + 0.004) / 0.1)
    np.testing.assert_allclose(isochromat_signal(sequence, Tissue(0.8, 0.1))[-1], expected, rtol=ROUNDING)


def test_steady_state_closed_form():
    """Constant pulses: the steady state of Haenicke & Vogel 2003, doi:10.1002/mrm.10410."""
    flip_angle, repetition_time, t1, t2 = 0.6, 0.02, 0.3, 0.05
    sequence = Fisp(np.full(500, flip_angle), repetition_time, 0.0)
    e1, e2, cos = np.exp(-repetition_time / t1), np.exp(-repetition_time / t2), np.cos(flip_angle)
    r = np.sqrt((1 - e2**2) / ((1 - e1 * cos) ** 2 - e2**2 * (e1 - cos) ** 2))
    expected = -1j * np.tan(flip_angle / 2) * (1 - (e1 - cos) * r)
    # 500 frames are 33 T1: exp(-33) = 3e-15 of the transient is left.
    np.testing.assert_allclose(isochromat_signal(sequence, Tissue(t1, t2))[-1], expected, rtol=ROUNDING)


def test_constant_phase_makes_the_signal_imaginary():
    signal = isochromat_signal(random_sequence(20), Tissue(1.0, 0.1))
    np.testing.assert_allclose(signal.real, 0, atol=ROUNDING)
    assert np.abs(signal.imag).max() > 0.1


def test_frames_to_come_change_no_echo():
    """They add isochromats: as few as a short sequence has are exact."""
    sequence, tissue = random_sequence(64), Tissue(1.0, 0.1)
    first = jax.tree.map(lambda leaf: leaf[:8] if leaf.ndim else leaf, sequence)
    exact = isochromat_signal(sequence, tissue)[:8]
    np.testing.assert_allclose(isochromat_signal(first, tissue), exact, rtol=0, atol=ROUNDING)


def test_tissues_broadcast_and_do_not_mix():
    sequence = random_sequence(6)
    t1, t2, b1 = np.array([0.5, 1.0, 2.0])[:, None], np.array([[0.05]]), np.array([0.8, 1.1])
    signal = isochromat_signal(sequence, Tissue(t1, t2, b1))
    assert signal.shape == (3, 2, 6)
    for row, column in np.ndindex(3, 2):
        alone = isochromat_signal(sequence, Tissue(t1[row, 0], t2[0, 0], b1[column]))
        np.testing.assert_allclose(signal[row, column], alone, rtol=0, atol=ROUNDING)


def test_b1_scales_the_flip_angle():
    sequence = random_sequence(6)
    scaled = dataclasses.replace(sequence, flip_angle=0.7 * sequence.flip_angle)
    actual = isochromat_signal(sequence, Tissue(1.0, 0.1, 0.7))
    np.testing.assert_allclose(actual, isochromat_signal(scaled, Tissue(1.0, 0.1)), rtol=0, atol=ROUNDING)


def test_one_hard_pulse_turns_the_whole_slice():
    """The gradient's dephasing is taken back; whole turns over all positions spread isochromats evenly."""
    train = Train(np.array([0.4, 1.2, 2.0, 0.7, 0.9]), 0.012, 0.003, rf_phase=np.array([0.0, 1.0, 3.0, 0.2, 2.0]))
    sequence, tissue = Blocks((train,)), Tissue([0.8, 1.5], [0.05, 0.1], [0.9, 1.1], [30.0, 0.0])
    expected = 3 * isochromat_signal(sequence, tissue)
    # 3 turns of the spoiler over 3 thicknesses are 9 turns over 16 positions: no echo but that of order 0.
    for turns, positions in ((3.0, 16), (np.inf, 2)):
        found = slice_signal(sequence, tissue, RfPulse([1.0], 8.0), turns, positions)
        np.testing.assert_allclose(found, expected, rtol=0, atol=ROUNDING)
    each = slice_signal(sequence, tissue, RfPulse([1.0], 8.0), np.array([3.0, 0.0]), 16)
    np.testing.assert_allclose(each[0], expected[0], rtol=0, atol=ROUNDING)
    assert np.abs(each[1] - expected[1]).max() > 0.1


@pytest.mark.parametrize("position", [0.3, -0.3, 1.1])
def test_a_rectangular_pulse_turns_about_a_tilted_axis(position):
    """Constant RF and gradient are one rotation, about (flip angle, 0, turn), as Rodrigues' formula has it."""
    flip_angle, b1, phase, time_bandwidth, samples = 1.4, 0.9, 0.6, 3.0, 2000
    sequence = Blocks((Train([flip_angle], 0.01, 0.0, rf_phase=phase, receiver_phase=0.0),))
    # Two positions: at plus and minus half of the extent.
    pulse, extent = RfPulse(np.full(samples, 1 / samples), time_bandwidth), 2 * abs(position)
    total = slice_signal(sequence, Tissue(1.0, 0.1, b1), pulse, 0.0, 2, extent) / (2 * extent)
    expected = 0
    for side in (position, -position):
        turn = 2 * np.pi * time_bandwidth * side
        axis = np.array([b1 * flip_angle, 0, turn])
        angle = np.linalg.norm(axis)
        axis /= angle
        start = np.array([0, 0, 1.0])  # half of the dephasing, taken back before, leaves it there
        end = np.cos(angle) * start + np.sin(angle) * np.cross(axis, start)
        end += (1 - np.cos(angle)) * axis * axis[2]
        expected += (end[0] + 1j * end[1]) * np.exp(1j * phase - 0.5j * turn) / 2
    # Hard pulses between halves of the dephasing err by the square of a sample's, 1e-2.
    np.testing.assert_allclose(total, [expected], rtol=0, atol=1e-5)


def test_small_flip_angles_have_the_transform_of_the_pulse():
    """The signal is the area of the profile; a spoiler of n turns makes it the profile's n-th Fourier coefficient."""
    position = 3.0 * ((np.arange(6000) + 0.5) / 3000 - 1)
    profile = sinc_profile(position, time_bandwidth=4.0, window="hamming")
    sequence = Fisp([1e-4, 0.0], 0.01, 0.0)
    pulse = windowed_sinc(4.0, "hamming", n_samples=2000)
    signal = slice_signal(sequence, Tissue(1.0, 0.1), pulse, 0.7, 6000, 3.0)
    spoiled = np.sum(profile * np.exp(2j * np.pi * 0.7 * position)) / 1000 * np.exp(-0.01 / 0.1)
    # The middle of steps of time instead of their mean: (pi 4 3 / 2000)**2 / 6 at the ends.
    np.testing.assert_allclose(signal, -1e-4j * np.array([np.sum(profile) / 1000, spoiled]), rtol=0, atol=1e-8)


def test_a_complex_pulse_is_played_forwards():
    """Samples whose phase runs move the slice, against the sense in which the gradient turns at positive positions."""
    pulse, shift = windowed_sinc(6.0, "hann", n_samples=120), 0.4
    time = (np.arange(120) + 0.5) / 120 - 0.5
    moved = RfPulse.of_waveform(pulse.samples * np.exp(-2j * np.pi * 6.0 * shift * time), 6.0)
    sequence = Fisp([1e-4, 0.0], 0.01, 0.0)
    first, second = slice_signal(sequence, Tissue(1.0, 1.0), moved, 0.01, 4000)
    # A spoiler of few turns multiplies by 1 + 2 pi i turns z: it tells the slice's middle.
    middle = np.angle(second / first) / (2 * np.pi * 0.01)
    assert middle == pytest.approx(-shift, abs=2e-3)


def bloch_mcconnell(tissue, a_to_b):
    """d/dt of (Mx, My, Mz) of pool a and then of pool b, of which a semisolid one has z alone."""
    t1, t2, t1_b, m0_b = (float(getattr(tissue, name)) for name in ("t1", "t2", "t1_b", "fraction"))
    m0_a, b_to_a = 1 - m0_b, a_to_b * (1 - m0_b) / m0_b  # in equilibrium as many spins go as come
    turn_a = 2 * np.pi * float(tissue.off_resonance)
    t2_b, turn_b = float(getattr(tissue, "t2_b", np.inf)), turn_a + 2 * np.pi * float(getattr(tissue, "shift", 0.0))

    def mobile(_, m):
        xa, ya, za, xb, yb, zb = m
        return [
            -turn_a * ya - xa / t2 - a_to_b * xa + b_to_a * xb,
            turn_a * xa - ya / t2 - a_to_b * ya + b_to_a * yb,
            (m0_a - za) / t1 - a_to_b * za + b_to_a * zb,
            -turn_b * yb - xb / t2_b - b_to_a * xb + a_to_b * xa,
            turn_b * xb - yb / t2_b - b_to_a * yb + a_to_b * ya,
            (m0_b - zb) / t1_b - b_to_a * zb + a_to_b * za,
        ]

    def semisolid(_, m):
        x, y, za, zb = m
        return [
            -turn_a * y - x / t2,
            turn_a * x - y / t2,
            (m0_a - za) / t1 - a_to_b * za + b_to_a * zb,
            (m0_b - zb) / t1_b - b_to_a * zb + a_to_b * za,
        ]

    return semisolid if isinstance(tissue, SemisolidPool) else mobile


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (ExchangingPools, (1.1, 0.08, 0.15, 40.0, 0.4, 0.015, 0.9, 25.0, -12.0)),
        (SemisolidPool, (1.8, 0.07, 0.21, 30.0, 0.34, 1.5e-5, 0.9, 8.0)),
    ],
)
def test_pools_obey_the_bloch_mcconnell_equations(kind, values):
    """Balanced frames of one isochromat, by a solver of differential equations."""
    angles, repetition_time, echo_time, duration, shape = [0.9, 1.4, 0.6], 0.05, 0.02, 1e-3, 1.5
    train = Train(angles, repetition_time, echo_time, turns=0, pulse_duration=duration, pulse_shape=shape)
    tissue = kind(*values)
    equations = bloch_mcconnell(tissue, float(tissue.exchange_rate * tissue.fraction))
    mobile = [slice(0, 3), slice(3, 6)] if kind is ExchangingPools else [slice(0, 3)]
    m = np.zeros(6 if kind is ExchangingPools else 4)
    m[2], m[-1] = 1 - tissue.fraction, tissue.fraction
    expected = []
    for angle in 0.9 * np.array(angles):
        cos, sin = np.cos(angle), np.sin(angle)
        for pool in mobile:
            m[pool] = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]) @ m[pool]
        if kind is SemisolidPool:
            m[3] *= np.exp(-np.pi * 1.5e-5 * shape / duration * angle**2)
        for time in (echo_time, repetition_time - echo_time):
            m = scipy.integrate.solve_ivp(equations, (0, time), m, "DOP853", rtol=1e-11, atol=1e-13).y[:, -1]
            if time == echo_time:
                expected.append(sum(m[pool][0] + 1j * m[pool][1] for pool in mobile))
    np.testing.assert_allclose(isochromat_signal(Blocks((train,)), tissue), expected, rtol=0, atol=1e-10)


def test_a_semisolid_pool_needs_the_duration_of_pulses():
    tissue = SemisolidPool(1.8, 0.07, 0.2, 30.0, 0.34, 1.5e-5)
    for signal in (isochromat_signal, lambda *each: slice_signal(*each, RfPulse([1.0], 8.0), 4, 16)):
        with pytest.raises(ValueError, match=r"Fisp\.pulse_duration must be given"):
            signal(random_sequence(3), tissue)
