"""Signal models: functions from sequence and tissue to signals and their derivatives, by simulator or generator.

A signal model is called as ``signal_model(sequence, tissue)`` and returns `SignalTangents` by what is unknown. It is
differentiable by the sequence, in reverse mode.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.anchors.generator import AnchoredGenerator
from ganmrf.anchors.joint_features import without_echo
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.simulate import SignalTangents, simulate_reverse, simulate_with_tangents
from ganmrf.physics.slice_profile import SliceModel
from ganmrf.physics.tissue import Tissue
from ganmrf.pytrees import is_traced

SignalModel = Callable[[Fisp, Tissue], SignalTangents]

_ASIDE = 1e-9  # relative step off the tissue: at an anchor the derivative of a radial basis function is 0 * infinity


def simulator_model(
    *,
    n_states: int | None = None,
    slice_profile: SliceModel | None = None,
    parameters: tuple[str, ...] | None = None,
) -> SignalModel:
    """The signal model of the simulator: exact, for any tissue.

    Args:
      n_states: states of the extended phase graph, or orders of dephasing that the positions of a full slice resolve;
        None for as many as T2 and TR ask for, or, where the sequence is traced, as under `jax.grad`, for all that can
        come back: frames // 2 + 1, which in a full slice of 1000 frames are thousands of positions.
      slice_profile: model of the slice; None for a uniform one.
      parameters: names of what is unknown of the tissue; None for T1 and T2.

    Raises:
      ValueError: as `simulate_with_tangents`, when the signal model is called.
    """
    form = {"n_states": n_states, "slice_profile": slice_profile, "parameters": parameters}
    return functools.partial(simulate_with_tangents, **form)


def generator_model(generator: AnchoredGenerator, tissue: Tissue, *, n_states: int | None = None) -> SignalModel:
    """The signal model of a generator: its anchors, simulated for the sequence, combined with weights over tissue.

    What is unknown are T1 and T2. The weights, and their derivatives by tissue, are computed here, once, in float64. It
    pays where tissues outnumber anchors: a call simulates the anchors alone. Derivatives are less accurate than
    signals, and a design can exploit the generator's errors: check its result with `simulator_model`.

    Args:
      generator: of kind trunk or radial; its slice profile is that of the signal model.
      tissue: the tissue that the signal model will be called with, of any shape.
      n_states: as for `simulator_model`.

    Raises:
      ValueError: a table, which has weights for its own tissues alone and so no derivatives; tissue outside the box;
        or, when the signal model is called, other tissue.
    """
    if not generator.model.any_tissue:
        raise ValueError("a table has no derivatives by tissue: design needs a generator of kind trunk or radial")
    generator.require_inside(tissue)
    own, n_anchors = tissue, generator.sizes[-1]
    anchors, combinations = generator.anchors.rows(slice(n_anchors)), _combinations(generator, tissue, n_anchors)

    def signal_model(sequence: Fisp, tissue: Tissue) -> SignalTangents:
        _require_same(tissue, own)
        profile = generator.slice_profile
        signals = simulate_reverse(without_echo(sequence), anchors, n_states=n_states, slice_profile=profile)
        t1, t2 = (jnp.broadcast_to(jnp.asarray(time, signals.dtype), own.shape) for time in (own.t1, own.t2))
        exponent = sequence.echo_time[None, :] / t2.reshape(-1, 1)
        signal, by_t1, by_t2 = (
            jnp.exp(-exponent) * jnp.matmul(jnp.asarray(each, signals.dtype), signals, precision="highest")
            for each in combinations
        )
        by_t2 += exponent * signal
        signal, by_t1, by_t2 = (values.reshape(*own.shape, -1) for values in (signal, by_t1, by_t2))
        return SignalTangents(signal, {"t1": by_t1 / t1[..., None], "t2": by_t2 / t2[..., None]})

    return signal_model


def _combinations(generator, tissue, n_anchors):
    """Weights of the anchors' signals, for the signal and for its derivatives by log T1 and log T2.

    Three times (tissues, anchors), float64. Decay until the echo is not in them: the generator leaves it out.
    """
    flat, names = tissue.ravel(), generator.box.names
    values = {name: np.broadcast_to(np.asarray(getattr(flat, name), float), flat.shape) for name in names}
    with jax.enable_x64(True):

        @jax.jit
        def combination(logarithms):
            shifted = Tissue(**{name: values[name] * jnp.exp(logarithms[name]) for name in names})
            weights, norms = generator.weights_at(shifted, n_anchors)
            return norms[:, None] * weights / generator.anchor_norms[None, :n_anchors]

        def derivative(name):
            direction = {other: jnp.float64(other == name) for other in names}
            return jax.jvp(combination, (dict.fromkeys(names, jnp.float64(_ASIDE)),), (direction,))[1]

        here = combination(dict.fromkeys(names, jnp.float64(0)))
        return [np.asarray(each) for each in (here, derivative("t1"), derivative("t2"))]


def _require_same(tissue, own):
    if tissue.shape != own.shape:
        raise ValueError(f"the signal model was made for tissue of shape {own.shape}; got {tissue.shape}")
    if is_traced(tissue):
        return
    for name in ("t1", "t2", "b1"):
        values, expected = np.asarray(getattr(tissue, name)), np.asarray(getattr(own, name))
        if not np.allclose(values, expected, rtol=1e-5, atol=0):
            raise ValueError(f"the signal model was made for other tissue: {name} differs; make one for this one")
