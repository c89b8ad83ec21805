"""The operators of the extended phase graph turn, relax and dephase isochromats, and give the echoes of textbooks."""

import dataclasses

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganmrf.physics import epg
from ganmrf.physics.bloch import isochromat_signal
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.tissue import Tissue
from tests.quick import quickly

# All comparisons are in complex128: tens of operations on numbers of order 1, so rounding stays below 1e-13.
ROUNDING = 1e-12
ANGLES = st.floats(-2 * np.pi, 2 * np.pi)
TIMES = st.floats(0, 1)
SEEDS = st.integers(0, 2**32 - 1)
FRAMES = 12


@pytest.fixture(autouse=True, scope="module")
def _double_precision():
    with jax.enable_x64(True):
        yield


def random_states(seed, n_states=5):
    """States that some real magnetisation has: order 0 of both transverse rows agrees, and z[0] is real."""
    f_plus, f_minus, z = np.random.default_rng(seed).normal(size=(3, n_states, 2)) @ [1, 1j]
    f_minus[0], z[0] = np.conj(f_plus[0]), z[0].real
    return epg.States(*map(jnp.asarray, (f_plus, f_minus, z)))


def magnetisation(states, dephasing):
    """Mx + i My and Mz at each dephasing angle: the Fourier sums whose coefficients the states are."""
    waves = np.exp(1j * np.arange(len(states.z))[:, None] * dephasing[None, :])
    f_plus, f_minus, z = (np.asarray(row) for row in dataclasses.astuple(states))
    xy = f_plus @ waves + np.conj(f_minus[1:] @ waves[1:])
    return xy, z[0].real + 2 * (z[1:] @ waves[1:]).real


DEPHASING = 2 * np.pi * np.arange(16) / 16


def assert_magnetisation(states, xy, z):
    actual_xy, actual_z = magnetisation(states, DEPHASING)
    np.testing.assert_allclose(actual_xy, xy, rtol=0, atol=ROUNDING)
    np.testing.assert_allclose(actual_z, z, rtol=0, atol=ROUNDING)


def assert_same(actual, expected):
    for row, other in zip(dataclasses.astuple(actual), dataclasses.astuple(expected), strict=True):
        np.testing.assert_allclose(row, other, rtol=0, atol=ROUNDING)


def norm_by_order(states):
    return abs(states.f_plus) ** 2 / 2 + abs(states.f_minus) ** 2 / 2 + abs(states.z) ** 2


@hypothesis.given(SEEDS, ANGLES)
def test_excite_turns_every_isochromat_about_x(seed, angle):
    states = random_states(seed)
    xy, z = magnetisation(states, DEPHASING)
    turned = xy.real + 1j * (xy.imag * np.cos(angle) - z * np.sin(angle))
    assert_magnetisation(epg.excite(states, angle), turned, xy.imag * np.sin(angle) + z * np.cos(angle))


@hypothesis.given(SEEDS, ANGLES)
def test_excite_keeps_the_magnitude_of_every_order(seed, angle):
    states = random_states(seed)
    np.testing.assert_allclose(norm_by_order(epg.excite(states, angle)), norm_by_order(states), rtol=ROUNDING)


@hypothesis.given(SEEDS, ANGLES, ANGLES)
def test_rotations_about_one_axis_add(seed, first, second):
    states = random_states(seed)
    assert_same(epg.excite(epg.excite(states, first), second), epg.excite(states, first + second))


def test_90_degrees_on_equilibrium_gives_minus_i():
    states = epg.excite(epg.equilibrium(3, jnp.complex128), np.pi / 2)
    expected = epg.States(jnp.array([-1j, 0, 0]), jnp.array([1j, 0, 0]), jnp.zeros(3, complex))
    assert_same(states, expected)


@hypothesis.given(SEEDS, TIMES)
def test_relax_is_the_bloch_decay_of_every_isochromat(seed, time):
    states, t1, t2 = random_states(seed), 0.8, 0.1
    xy, z = magnetisation(states, DEPHASING)
    relaxed = epg.relax(states, time, t1, t2)
    assert_magnetisation(relaxed, xy * np.exp(-time / t2), 1 + (z - 1) * np.exp(-time / t1))


@hypothesis.given(SEEDS, TIMES, TIMES)
def test_relaxation_times_add(seed, first, second):
    states = random_states(seed)
    apart = epg.relax(epg.relax(states, first, 0.8, 0.1), second, 0.8, 0.1)
    assert_same(apart, epg.relax(states, first + second, 0.8, 0.1))


@hypothesis.given(SEEDS)
def test_long_relaxation_reaches_equilibrium(seed):
    # 50 T1 leave exp(-50) = 2e-22 of what was there.
    assert_same(epg.relax(random_states(seed), 40.0, 0.8, 0.1), epg.equilibrium(5, jnp.complex128))


@hypothesis.given(SEEDS)
def test_dephase_turns_isochromat_theta_by_theta(seed):
    states = random_states(seed)
    # The highest order is cleared first: it would leave the 5 orders kept.
    states = dataclasses.replace(states, f_plus=states.f_plus.at[-1].set(0))
    xy, z = magnetisation(states, DEPHASING)
    dephased = epg.dephase(states)
    assert_magnetisation(dephased, xy * np.exp(1j * DEPHASING), z)
    assert dephased.f_minus[0] == jnp.conj(dephased.f_plus[0])


def test_dephase_loses_the_highest_order_only():
    dephased = epg.dephase(epg.States(jnp.array([1.0, 2, 3]) + 0j, jnp.array([1.0, 5, 6]) + 0j, jnp.ones(3) + 0j))
    np.testing.assert_array_equal(dephased.f_plus, [5, 1, 2])
    np.testing.assert_array_equal(dephased.f_minus, [5, 6, 0])
    np.testing.assert_array_equal(dephased.z, [1, 1, 1])


@hypothesis.given(SEEDS)
def test_invert_turns_z_over_and_leaves_nothing_transverse(seed):
    states = random_states(seed)
    _, z = magnetisation(states, DEPHASING)
    assert_magnetisation(epg.invert(states), np.zeros(16), -z)


def test_hahn_echo():
    """90 - tau - 180 - tau: the whole magnetisation comes back, turned over, exp(-2 tau / T2) of it."""
    tau, t1, t2 = 0.03, 0.8, 0.1
    states = epg.excite(epg.equilibrium(4, jnp.complex128), np.pi / 2)
    states = epg.dephase(epg.relax(states, tau, t1, t2))
    assert abs(states.f_plus[0]) == 0
    states = epg.excite(states, np.pi)
    states = epg.dephase(epg.relax(states, tau, t1, t2))
    np.testing.assert_allclose(states.f_plus[0], 1j * np.exp(-2 * tau / t2), rtol=ROUNDING)


def test_stimulated_echo():
    """90 - tau - 90 - mixing - 90 - tau: half the magnetisation, T1 decay in the mixing time."""
    tau, mixing, t1, t2 = 0.02, 0.2, 0.8, 0.1
    states = epg.excite(epg.equilibrium(8, jnp.complex128), np.pi / 2)
    states = epg.dephase(epg.relax(states, tau, t1, t2))
    states = epg.excite(states, np.pi / 2)
    states = epg.relax(states, mixing, t1, t2)
    for _ in range(3):  # a spoiler of three units: no transverse order comes back one unit after the last pulse
        states = epg.dephase(states)
    states = epg.excite(states, np.pi / 2)
    states = epg.dephase(epg.relax(states, tau, t1, t2))
    expected = 0.5j * np.exp(-2 * tau / t2) * np.exp(-mixing / t1)
    np.testing.assert_allclose(states.f_plus[0], expected, rtol=ROUNDING)


@quickly
def fisp_by_operators(sequence, tissue):
    """The sequence of the conventions, frame by frame, with every order that can arise."""
    states = epg.equilibrium(FRAMES + 1, jnp.complex128)
    states = epg.relax(epg.invert(states), sequence.inversion_time, tissue.t1, tissue.t2)
    signal = []
    for frame in range(FRAMES):
        echo_time = sequence.echo_time[frame]
        states = epg.excite(states, sequence.flip_angle[frame] * tissue.b1)
        states = epg.relax(states, echo_time, tissue.t1, tissue.t2)
        signal.append(states.f_plus[0])
        states = epg.relax(states, sequence.repetition_time[frame] - echo_time, tissue.t1, tissue.t2)
        states = epg.dephase(states)
    return jnp.stack(signal)


@hypothesis.given(
    flip_angle=st.lists(st.floats(-np.pi, np.pi), min_size=FRAMES, max_size=FRAMES),
    repetition_time=st.lists(st.floats(0.004, 0.1), min_size=FRAMES, max_size=FRAMES),
    echo_time=st.floats(0, 0.004),
    inversion_time=st.floats(0, 2),
    t1=st.floats(0.1, 3),
    t2_over_t1=st.floats(0.01, 1),
    b1=st.floats(0.5, 1.5),
)
def test_operators_equal_the_isochromat_sum(flip_angle, repetition_time, echo_time, inversion_time, t1, t2_over_t1, b1):
    sequence = Fisp(flip_angle, repetition_time, echo_time, inversion_time)
    tissue = Tissue(t1, t2_over_t1 * t1, b1)
    signal = isochromat_signal(sequence, tissue)
    np.testing.assert_allclose(fisp_by_operators(sequence, tissue), signal, rtol=0, atol=ROUNDING)
