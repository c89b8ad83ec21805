"""Gradient descent of an objective from many starts at once."""

import dataclasses
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import optax

from ganmrf.pytrees import pytree

OPTIMISERS = ("adam", "lbfgs")


@pytree
@dataclasses.dataclass(frozen=True)
class DesignState:
    """The state of all starts; every array but ``step`` has the starts along its first axis.

    Attributes:
      step: number of updates so far, int32.
      params: unconstrained parameters, a pytree.
      opt_state: of the optimiser.
      best_params: the parameters of each start with its lowest objective so far.
      best_value: the lowest objective of each start so far, (starts,).
    """

    step: jax.Array
    params: object
    opt_state: object
    best_params: object
    best_value: jax.Array


def make_optimiser(name: str, learning_rate: float, steps: int) -> optax.GradientTransformationExtraArgs:
    """Adam with a learning rate that falls to 0 along a cosine, or L-BFGS with a line search, which needs no rate.

    Raises:
      ValueError: another name, or a rate or number of steps that is not positive.
    """
    if name not in OPTIMISERS:
        raise ValueError(f"optimiser must be one of {', '.join(OPTIMISERS)}; got {name!r}")
    if not learning_rate > 0 or steps < 1:
        raise ValueError(f"learning_rate and steps must be positive; got {learning_rate:g} and {steps}")
    if name == "lbfgs":
        return optax.lbfgs(linesearch=optax.scale_by_zoom_linesearch(max_linesearch_steps=20))
    return optax.with_extra_args_support(optax.adam(optax.cosine_decay_schedule(learning_rate, steps)))


def init_state(objective: Callable, optimiser: optax.GradientTransformation, starts) -> DesignState:
    """The state before the first step.

    Args:
      objective: parameters of one start -> scalar.
      optimiser: `make_optimiser`.
      starts: parameters of all starts, a pytree with the starts along the first axis of every leaf.

    Raises:
      ValueError: an objective that is not finite at a start.
    """
    values = jax.jit(jax.vmap(objective))(starts)
    if not jnp.isfinite(values).all():
        start = int(jnp.argmin(jnp.isfinite(values)))
        raise ValueError(f"the objective is {float(values[start]):g} at start {start}: no derivative leads on from it")
    # Two copies: `optimise` donates the state, and donated buffers must not be shared.
    best = jax.tree.map(jnp.copy, starts)
    return DesignState(jnp.int32(0), starts, jax.vmap(optimiser.init)(starts), best, values)


def make_step(objective: Callable, optimiser: optax.GradientTransformationExtraArgs) -> Callable:
    """A pure ``step(state) -> (state, values)``; values are the objectives before the update, (starts,)."""

    def one(params, opt_state):
        value, gradient = jax.value_and_grad(objective)(params)
        extra = {"value": value, "grad": gradient, "value_fn": objective}
        updates, opt_state = optimiser.update(gradient, opt_state, params, **extra)
        return value, optax.apply_updates(params, updates), opt_state

    def step(state):
        values, params, opt_state = jax.vmap(one)(state.params, state.opt_state)
        better = values < state.best_value  # False for NaN

        def keep(new, old):
            return jnp.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)

        best = jax.tree.map(keep, state.params, state.best_params)
        return DesignState(state.step + 1, params, opt_state, best, jnp.where(better, values, state.best_value)), values

    return step


def optimise(
    objective: Callable,
    optimiser: optax.GradientTransformationExtraArgs,
    state: DesignState,
    steps: int,
    *,
    chunk: int = 50,
    tolerance: float = 1e-4,
) -> Iterator[tuple[DesignState, dict]]:
    """Runs ``steps`` updates in all, ``chunk`` at a time, each chunk one compiled loop.

    Args:
      objective: parameters of one start -> scalar.
      optimiser: `make_optimiser`, the one that the state was made with.
      state: of `init_state`, or one that was yielded before: a search that is cut there and resumed goes the same way.
        Its buffers are donated.
      steps: number of updates in all, ``state.step`` included.
      chunk: updates between two records.
      tolerance: the search ends when a chunk lowers no start's best objective by this fraction.

    Yields:
      The state, and a record: ``step``, ``values`` (the objectives of the chunk, (updates, starts)), ``best`` (the
      lowest objective of each start so far, (starts,)), ``converged``.
    """
    step = make_step(objective, optimiser)

    def run(state, length):
        return jax.lax.scan(lambda state, _: step(state), state, length=length)

    compiled = jax.jit(run, static_argnums=1, donate_argnums=0)
    while (done := int(state.step)) < steps:
        before = jax.device_get(state.best_value)
        state, values = compiled(state, min(chunk, steps - done))
        best = jax.device_get(state.best_value)
        # The first update lowers nothing yet: its value is that of the start, before the update.
        converged = bool((before - best <= tolerance * abs(before)).all()) and int(state.step) > 1
        yield state, {"step": int(state.step), "values": jax.device_get(values), "best": best, "converged": converged}
        if converged:
            return
