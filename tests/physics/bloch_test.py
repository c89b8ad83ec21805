"""The isochromat sum has the closed forms of first pulse, echo and steady state; enough isochromats are exact."""

import dataclasses

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest

from ganmrf.physics.bloch import isochromat_signal
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.tissue import Tissue

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
