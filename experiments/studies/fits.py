"""Parameters whose simulated signals fit given ones, between all grids: what a perfect dictionary would find."""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from ganmrf.physics.simulate import simulate
from ganmrf.physics.slice_profile import FullSlice, PartitionedSlice, SliceProfile
from ganmrf.physics.tissue import TissueModel

_STEPS = 30  # a dozen settle T1 and T2 to 1e-6; 30 to 2 % where no tissue comes near the signals
_SETTLED = 1e-8  # of the parameters, within which the next step would leave them
_FIRST_DAMPING = 1e-3
_FACTOR = 10.0  # between dampings


def fit(
    sequence,
    signals,
    start: TissueModel,
    n_states: int | None = None,
    slice_profile: FullSlice | PartitionedSlice | SliceProfile | None = None,
    names: tuple[str, ...] = ("t1", "t2"),
) -> TissueModel:
    """Parameters by least squares of signals, whose M0 may be any complex number.

    Args:
      sequence: any pulse sequence.
      signals: in float64, (voxels, frames).
      start: the parameters to begin with, above 0, and the others, which the fit takes for true, (voxels,).
      n_states: of `simulate`.
      slice_profile: likewise.
      names: of the parameters, T1 and T2 among them.

    Returns:
      ``start`` with the parameters of thirty steps of the Levenberg-Marquardt method, fewer where all are settled.
    """
    start = dataclasses.replace(start, **{name: jnp.broadcast_to(getattr(start, name), len(signals)) for name in names})
    damping = jnp.full(len(signals), _FIRST_DAMPING)
    for _ in range(_STEPS):
        start, damping, longest = _step(sequence, signals, start, damping, slice_profile, n_states, names)
        if longest < _SETTLED:
            break
    return start


@functools.partial(jax.jit, static_argnames=("n_states", "names"))
def _step(sequence, signals, tissue, damping, slice_profile, n_states, names):
    def changed(logarithms):
        return dataclasses.replace(tissue, **dict(zip(names, jnp.exp(logarithms), strict=True)))

    def model(logarithms):
        form = {"n_states": n_states, "slice_profile": slice_profile}
        return simulate(sequence, changed(logarithms), **form).astype(complex)

    logarithms = jnp.log(jnp.stack([getattr(tissue, name) for name in names]))
    directions = jnp.broadcast_to(jnp.eye(len(names))[:, :, None], (len(names), *logarithms.shape))
    along = jax.vmap(lambda direction: jax.jvp(model, (logarithms,), (direction,)), out_axes=(None, 0))
    value, derivatives = along(directions)
    m0, residual = _least(value, signals)
    # By M0, real and imaginary, and by the parameters.
    columns = [value, 1j * value, *(m0[:, None] * each for each in derivatives)]
    normal = jnp.stack([jnp.stack([_product(a, b).real for b in columns], -1) for a in columns], -2)
    normal *= 1 + damping[:, None, None] * jnp.eye(len(columns))[None]
    right = jnp.stack([_product(a, residual).real for a in columns], -1)
    step = jnp.linalg.solve(normal, right[..., None])[:, 2:, 0].T
    tried = dict(zip(names, logarithms + step, strict=True))
    tried["t2"] = jnp.minimum(tried["t1"], tried["t2"])
    tried = jnp.stack([tried[name] for name in names])
    better = jnp.linalg.norm(_least(model(tried), signals)[1], axis=-1) < jnp.linalg.norm(residual, axis=-1)
    damping *= jnp.where(better, 1 / _FACTOR, _FACTOR)
    return changed(jnp.where(better, tried, logarithms)), damping, jnp.abs(step).max()


def _least(value, signals):
    """The M0 that brings ``value`` nearest to the signals, and what is left of them."""
    m0 = _product(value, signals) / _product(value, value)
    return m0, signals - m0[:, None] * value


def _product(a, b):
    return jnp.sum(jnp.conj(a) * b, axis=-1)
