"""T1 and T2 whose simulated signals fit given ones, between all grids: what a perfect dictionary would find."""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from ganmrf.physics.simulate import simulate
from ganmrf.physics.slice_profile import FullSlice, PartitionedSlice, SliceProfile
from ganmrf.physics.tissue import Tissue

_STEPS = 30  # a dozen settle T1 and T2 to 1e-6; 30 to 2 % where no tissue comes near the signals
_SETTLED = 1e-8  # of T1 and T2, within which the next step would leave them
_FIRST_DAMPING = 1e-3
_FACTOR = 10.0  # between dampings


def fit(
    sequence,
    signals,
    start: Tissue,
    n_states: int | None = None,
    slice_profile: FullSlice | PartitionedSlice | SliceProfile | None = None,
) -> Tissue:
    """T1 and T2 by least squares of signals, whose M0 may be any complex number.

    Args:
      sequence: any pulse sequence.
      signals: without noise, (voxels, frames), in float64.
      start: T1 and T2 to begin with, and the B1 and off-resonance that the fit takes for true, (voxels,).
      n_states: of `simulate`.
      slice_profile: likewise.

    Returns:
      ``start`` with the T1 and T2 of thirty steps of the Levenberg-Marquardt method, fewer where all are settled.
    """
    damping = jnp.full(len(signals), _FIRST_DAMPING)
    for _ in range(_STEPS):
        start, damping, longest = _step(sequence, signals, start, damping, slice_profile, n_states)
        if longest < _SETTLED:
            break
    return start


@functools.partial(jax.jit, static_argnames="n_states")
def _step(sequence, signals, tissue, damping, slice_profile, n_states):
    def model(logarithms):
        t1, t2 = jnp.exp(logarithms)
        changed = dataclasses.replace(tissue, t1=t1, t2=t2)
        return simulate(sequence, changed, n_states=n_states, slice_profile=slice_profile).astype(complex)

    logarithms = jnp.log(jnp.stack([tissue.t1, tissue.t2]))
    value, push = jax.linearize(model, logarithms)
    by_t1, by_t2 = (push(jnp.zeros_like(logarithms).at[row].set(1)) for row in range(2))
    m0, residual = _least(value, signals)
    columns = [value, 1j * value, m0[:, None] * by_t1, m0[:, None] * by_t2]  # by M0, real and imaginary, T1 and T2
    normal = jnp.stack([jnp.stack([_product(a, b).real for b in columns], -1) for a in columns], -2)
    normal *= 1 + damping[:, None, None] * jnp.eye(4)[None]
    right = jnp.stack([_product(a, residual).real for a in columns], -1)
    step = jnp.linalg.solve(normal, right[..., None])[:, 2:, 0].T
    t1, t2 = logarithms + step
    tried = jnp.stack([t1, jnp.minimum(t1, t2)])
    better = jnp.linalg.norm(_least(model(tried), signals)[1], axis=-1) < jnp.linalg.norm(residual, axis=-1)
    t1, t2 = jnp.exp(jnp.where(better, tried, logarithms))
    damping *= jnp.where(better, 1 / _FACTOR, _FACTOR)
    return dataclasses.replace(tissue, t1=t1, t2=t2), damping, jnp.abs(step).max()


def _least(value, signals):
    """The M0 that brings ``value`` nearest to the signals, and what is left of them."""
    m0 = _product(value, signals) / _product(value, value)
    return m0, signals - m0[:, None] * value


def _product(a, b):
    return jnp.sum(jnp.conj(a) * b, axis=-1)
