"""Where design takes signals and their derivatives from: the simulator, or a generator trained once for all sequences.

An engine is called as ``engine(sequence, tissue, with_b1=False)`` and returns `fisp_tangents.SignalTangents`, with the
derivative by B1 where it was asked for. It is differentiable by the sequence, in reverse mode.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.anchors.generator import AnchoredGenerator
from ganmrf.anchors.joint_features import without_echo
from ganmrf.physics.sequences.fisp import Sequence
from ganmrf.physics.simulate import SignalTangents, simulate_reverse, simulate_with_tangents
from ganmrf.physics.slice_profile import SliceProfile
from ganmrf.physics.tissue import Tissue
from ganmrf.pytrees import is_traced

SignalModel = Callable[..., SignalTangents]

_ASIDE = 1e-9  # relative; at an anchor itself derivatives of radial basis functions are 0 times infinity


def simulator_model(*, n_states: int | None = None, slice_profile: SliceProfile | None = None) -> SignalModel:
    """The engine that simulates: exact, for any tissue.

    Args:
      n_states: orders of the extended phase graph to keep; None keeps all that matter, frames // 2 + 1, wherever the
        sequence is traced, as under `jax.grad`.
      slice_profile: quadrature over the slice; None for a uniform slice.

    Raises:
      ValueError: ``n_states`` below 1, when it is called.
    """

    def engine(sequence: Sequence, tissue: Tissue, *, with_b1: bool = False) -> SignalTangents:
        return simulate_with_tangents(sequence, tissue, n_states=n_states, slice_profile=slice_profile, with_b1=with_b1)

    return engine


def generator_model(
    generator: AnchoredGenerator,
    tissue: Tissue,
    *,
    n_anchors: int | None = None,
    n_states: int | None = None,
    allow_extrapolation: bool = False,
) -> SignalModel:
    """The engine that combines a generator's anchors: their simulation is all that depends on the sequence.

    Weights, and their derivatives by tissue, are computed here, once, in float64. It simulates fewer tissues than
    `simulator_model` where there are more of them than anchors. Derivatives are less accurate than signals, and a design can
    exploit what a generator gets wrong: check the result with `simulator_model`.

    Args:
      generator: of kind trunk or radial; its slice profile is that of the engine.
      tissue: any shape, the only one that the engine is for.
      n_anchors: one of ``generator.sizes``; the largest by default.
      n_states: as for `simulator_model`.
      allow_extrapolation: whether tissues may lie outside the generator's box.

    Raises:
      ValueError: a table, which knows no tissue but its own and so no derivatives; tissue outside the box; another
        number of anchors; or, when it is called, other tissue, or B1 to be differentiated by without an axis for it.
    """
    n_anchors = generator.require_size(n_anchors)
    if generator.kind == "table":
        raise ValueError("a table has no derivatives by tissue: design needs a generator of kind trunk or radial")
    if allow_extrapolation:
        generator.box.require_known(tissue)
    else:
        generator.require_inside(tissue)
    own, anchors = tissue, generator.anchors.rows(slice(n_anchors))
    combinations = _combinations(generator, tissue, n_anchors)

    def engine(sequence: Sequence, tissue: Tissue, *, with_b1: bool = False) -> SignalTangents:
        _require_same(tissue, own)
        if with_b1 and "b1" not in generator.box.names:
            raise ValueError("the generator has no axis for b1: it has no derivative by B1")
        profile = generator.slice_profile
        signals = simulate_reverse(without_echo(sequence), anchors, n_states=n_states, slice_profile=profile)
        t1, t2, b1 = (jnp.broadcast_to(jnp.asarray(v, signals.dtype), own.shape) for v in (own.t1, own.t2, own.b1))
        exponent = sequence.echo_time[None, :] / t2.reshape(-1, 1)
        names = ["signal", "t1", "t2", *(["b1"] if with_b1 else [])]
        pools = {
            name: jnp.exp(-exponent)
            * jnp.matmul(jnp.asarray(combinations[name], signals.dtype), signals, precision="highest")
            for name in names
        }
        pools["t2"] += exponent * pools["signal"]
        pools = {name: pool.reshape(*own.shape, -1) for name, pool in pools.items()}
        d_b1 = pools["b1"] / b1[..., None] if with_b1 else None
        return SignalTangents(pools["signal"], pools["t1"] / t1[..., None], pools["t2"] / t2[..., None], d_b1)

    return engine


def _combinations(generator, tissue, n_anchors):
    """What anchors' signals are combined with: for signals, and for their derivatives by log T1, log T2 and log B1.

    Name -> (tissues, anchors), float64. Echo times, which the generator leaves out, are not in them.
    """
    flat = tissue.ravel()
    names = [name for name in ("t1", "t2", "b1") if name in generator.box.names]
    values = {name: np.broadcast_to(np.asarray(getattr(flat, name), float), flat.shape) for name in names}
    with jax.enable_x64(True):

        @jax.jit
        def combination(logarithms):
            shifted = Tissue(**{name: values[name] * jnp.exp(logarithms[name]) for name in names})
            weights, norms = generator.weights_at(shifted, n_anchors)
            return norms[:, None] * weights / generator.anchor_norms[None, :n_anchors]

        here, aside = ({name: jnp.float64(shift) for name in names} for shift in (0.0, _ASIDE))
        found = {"signal": combination(here)}
        for name in names:
            direction = {other: jnp.float64(other == name) for other in names}
            found[name] = jax.jvp(combination, (aside,), (direction,))[1]
        return jax.tree.map(np.asarray, found)


def _require_same(tissue, own):
    if tissue.shape != own.shape:
        raise ValueError(f"the engine was made for tissue of shape {own.shape}; got {tissue.shape}")
    if is_traced(tissue):
        return
    for field in dataclasses.fields(Tissue):
        values, expected = np.asarray(getattr(tissue, field.name)), np.asarray(getattr(own, field.name))
        if not np.allclose(values, expected, rtol=1e-5, atol=0):
            raise ValueError(f"the engine was made for other tissue: {field.name} differs; make one for this tissue")
