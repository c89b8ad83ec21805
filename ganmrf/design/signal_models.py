"""Signal models: functions from sequence and tissue to signals and their derivatives, by simulator or generator.

A signal model is called as ``signal_model(sequence, tissue)`` and returns `SignalTangents` by what is unknown. It is
differentiable by the sequence, in reverse mode. `own_anchors` has one more: anchors that are chosen for a design.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.anchors.generator import AnchoredGenerator
from ganmrf.design.combined import CombinedSignals
from ganmrf.design.common_b1 import groups_of
from ganmrf.physics.n_states import resolve_n_states
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.simulate import SignalTangents, simulate_with_tangents, unknowns
from ganmrf.physics.slice_profile import SliceModel
from ganmrf.physics.tissue import TissueModel

SignalModel = Callable[[Fisp, TissueModel], SignalTangents]

_ASIDE = 1e-9  # step off the tissue, of an axis: at an anchor the derivative of a radial basis function is 0 * infinity


def simulator_model(
    *,
    n_states: int | None = None,
    slice_profile: SliceModel | None = None,
    parameters: tuple[str, ...] | None = None,
) -> SignalModel:
    """The signal model of the simulator: exact, for any tissue.

    In a slice whose pulse is played, tissue is simulated in groups of one B1, where it has few (`common_b1`).

    Args:
      n_states: states of the extended phase graph, or orders of dephasing that the positions of a full slice resolve;
        None for as many as T2 and TR ask for, or, where the sequence is traced, as under `jax.grad`, for all that can
        come back: frames // 2 + 1, which in a full slice of 1000 frames are thousands of positions.
      slice_profile: model of the slice; None for a uniform one.
      parameters: names of what is unknown of the tissue; None for T1 and T2.

    Raises:
      ValueError: as `simulate_with_tangents`, when the signal model is called.
    """

    def signal_model(sequence: Fisp, tissue: TissueModel) -> SignalTangents:
        form = {"parameters": parameters, "slice_profile": slice_profile}
        groups = None if "b1" in (parameters or ()) else groups_of(tissue, slice_profile)
        if groups is None:
            return simulate_with_tangents(sequence, tissue, n_states=n_states, **form)
        states = resolve_n_states(sequence, tissue, slice_profile, n_states)
        return groups.map(lambda voxels: simulate_with_tangents(sequence, voxels, n_states=states, **form), tissue)

    return signal_model


def generator_model(
    generator: AnchoredGenerator,
    tissue: TissueModel,
    *,
    parameters: tuple[str, ...] | None = None,
    n_anchors: int | None = None,
    n_states: int | None = None,
) -> CombinedSignals:
    """The signal model of a generator: its anchors, simulated for the sequence, combined with weights over tissue.

    The weights, and their derivatives by tissue, are computed here, once, in float64. A call simulates the anchors
    alone, without derivatives: it pays where tissues are more than a quarter of the anchors. Derivatives are less
    accurate than signals, and a design can exploit the generator's errors: check its result with `simulator_model`.

    Where B1 is no axis of the generator, tissue may have any B1, and few different values are best: anchors are
    simulated at each of them.

    Args:
      generator: of kind trunk or radial; its slice profile is that of the signal model.
      tissue: the tissue that the signal model will be called with, of any shape.
      parameters: names of what is unknown of the tissue, axes of the generator; None for T1 and T2.
      n_anchors: one of the generator's ``sizes``; the largest by default.
      n_states: as for `simulator_model`.

    Raises:
      ValueError: a table, which has weights for its own tissues alone and so no derivatives; tissue outside the box or
        of another kind; a parameter without an axis; another number of anchors; or, when the signal model is called,
        other tissue, or a sequence of another kind than the generator has learned from.
    """
    names, size = unknowns(tissue, parameters), generator.require_size(n_anchors)
    require_served(generator, tissue, names)
    return CombinedSignals(
        tissue,
        names,
        generator.anchors.rows(slice(size)),
        _combinations(generator, tissue, names, size),
        at_each_b1="b1" not in generator.box.names,
        slice_profile=generator.slice_profile,
        n_states=n_states,
        family=generator.family,
    )


def require_served(generator: AnchoredGenerator, tissue: TissueModel, names: tuple[str, ...]):
    """Raises the `ValueError` of `generator_model` for a table, a parameter without an axis, or tissue outside."""
    if not generator.model.any_tissue:
        raise ValueError("a table has no derivatives by tissue: design needs a generator of kind trunk or radial")
    own_b1 = {} if "b1" in generator.box.names else {"b1": dict(generator.box.fixed).get("b1", 1.0)}
    generator.require_inside(dataclasses.replace(tissue, **own_b1))
    if missing := [name for name in names if name not in generator.box.names]:
        axes = ", ".join(generator.box.names)
        raise ValueError(f"the generator has no axis for {missing[0]}, which is unknown: its axes are {axes}")


def _combinations(generator, tissue, names, n_anchors):
    """Weights of the anchors' signals, for the signal and for its derivatives by ``names``, SI.

    (1 + names, voxels, anchors), float64. Decay until the echo is not in them where the generator leaves it out.
    """
    flat, box = tissue.ravel(), generator.box
    own = {name: np.broadcast_to(np.asarray(getattr(flat, name), float), flat.shape) for name in box.names}
    ends = dict(zip(box.names, box.high - box.low, strict=True))
    with jax.enable_x64(True):

        @jax.jit
        def combination(steps):
            moved = dataclasses.replace(flat, **{name: own[name] + steps[name] for name in box.names})
            weights, norms = generator.weights_at(moved, n_anchors)
            return norms[:, None] * weights / generator.anchor_norms[None, :n_anchors]

        def derivative(name):
            direction = {other: jnp.float64(other == name) for other in box.names}
            aside = {other: jnp.float64(_ASIDE * ends[other]) for other in box.names}
            return jax.jvp(combination, (aside,), (direction,))[1]

        here = combination(dict.fromkeys(box.names, jnp.float64(0)))
        return np.stack([here, *map(derivative, names)])
