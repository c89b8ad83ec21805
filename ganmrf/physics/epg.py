"""The extended phase graph, one voxel at a time: the operators, in the notation of the field.

A voxel's magnetisation is held as Fourier coefficients over the dephasing angle across it (configuration states):
``f_plus[k]`` is the transverse state of order k, ``f_minus[k]`` the conjugate of that of order -k, and ``z[k]`` the
longitudinal one, k = 0, 1, ... The operators are linear maps of those three rows. Tests compare the engines with them.

Reference: Weigel 2015, "Extended phase graphs: dephasing, RF pulses, and echoes - pure and simple",
doi:10.1002/jmri.24619 (Eqs. 15, 17, 20).
"""

import dataclasses

import jax
import jax.numpy as jnp

from ganmrf.pytrees import pytree


@pytree
@dataclasses.dataclass(frozen=True)
class States:
    """Configuration states of one voxel, each complex, (n_states,), order 0 first."""

    f_plus: jax.Array
    f_minus: jax.Array
    z: jax.Array


def equilibrium(n_states: int, dtype=jnp.complex64) -> States:
    """Thermal equilibrium, M = (0, 0, 1): all magnetisation in the longitudinal state of order 0."""
    empty = jnp.zeros(n_states, dtype)
    return States(empty, empty, empty.at[0].set(1))


def invert(states: States) -> States:
    """Ideal inversion followed by perfect spoiling: longitudinal states change sign, transverse ones vanish."""
    return scale_z(crush(states), -1)


def crush(states: States) -> States:
    """A gradient that leaves no transverse magnetisation."""
    return dataclasses.replace(states, f_plus=jnp.zeros_like(states.z), f_minus=jnp.zeros_like(states.z))


def scale_z(states: States, factor) -> States:
    """Longitudinal states times a factor, -1 for an ideal inversion."""
    return dataclasses.replace(states, z=factor * states.z)


def excite(states: States, flip_angle, phase=0.0) -> States:
    """Rotation by ``flip_angle`` (rad) about the direction that RF ``phase`` (rad) turns from +x towards +y."""
    cos2, sin2 = jnp.cos(flip_angle / 2) ** 2, jnp.sin(flip_angle / 2) ** 2
    cos, sin = jnp.cos(flip_angle), jnp.sin(flip_angle)
    axis, back = jnp.exp(1j * phase), jnp.exp(-1j * phase)
    return States(
        f_plus=cos2 * states.f_plus + axis**2 * sin2 * states.f_minus - 1j * axis * sin * states.z,
        f_minus=jnp.conj(axis) ** 2 * sin2 * states.f_plus
        + cos2 * states.f_minus
        + 1j * jnp.conj(axis) * sin * states.z,
        z=-0.5j * back * sin * states.f_plus + 0.5j * axis * sin * states.f_minus + cos * states.z,
    )


def precess(states: States, turns) -> States:
    """Precession by ``turns`` about +z, counter-clockwise: off-resonance (Hz) times time (s)."""
    turn = jnp.exp(2j * jnp.pi * turns)
    return States(turn * states.f_plus, jnp.conj(turn) * states.f_minus, states.z)


def relax(states: States, time, t1, t2) -> States:
    """Relaxation for ``time`` with ``t1`` and ``t2`` (all s); order 0 recovers towards equilibrium."""
    e1, e2 = jnp.exp(-time / t1), jnp.exp(-time / t2)
    return States(e2 * states.f_plus, e2 * states.f_minus, (e1 * states.z).at[0].add(1 - e1))


def dephase(states: States) -> States:
    """One unit of dephasing (2 pi across the voxel): every transverse state moves up one order; the highest is lost."""
    lowered = jnp.append(states.f_minus[1:], 0)
    raised = jnp.append(jnp.conj(lowered[:1]), states.f_plus[:-1])
    return States(raised, lowered, states.z)


def exact_n_states(n_frames: int) -> int:
    """Number of states that matter in ``n_frames`` frames: those of orders that have time to come back to order 0."""
    return n_frames // 2 + 1
