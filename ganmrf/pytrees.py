"""Frozen dataclasses as JAX pytrees, and the checks of values that their constructors make."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np


def pytree(cls):
    """Registers a frozen dataclass with JAX; fields whose metadata says ``static`` are part of the tree's structure.

    Unlike `jax.tree_util.register_dataclass`, rebuilding an instance from its leaves skips the constructor and its
    checks: transforms rebuild with tracers and placeholders, which hold no values, and to read values from a device
    would make the program wait.
    """
    fields = dataclasses.fields(cls)
    static = [field.name for field in fields if field.metadata.get("static")]
    data = [field.name for field in fields if field.name not in static]

    def flatten_with_keys(tree):
        children = [(jax.tree_util.GetAttrKey(name), getattr(tree, name)) for name in data]
        return children, tuple(getattr(tree, name) for name in static)

    def unflatten(structure, children):
        tree = object.__new__(cls)
        for name, value in [*zip(static, structure, strict=True), *zip(data, children, strict=True)]:
            object.__setattr__(tree, name, value)
        return tree

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten)
    return cls


def is_traced(*trees) -> bool:
    """Whether any leaf is a tracer, so that its values cannot be read."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(trees))


def require(name: str, value, holds, rule: str):
    """Raises `ValueError` naming ``name``, its first offending entry and the rule, unless ``holds(value)`` everywhere.

    Tracers pass: they have no value yet.
    """
    if is_traced(value):
        return
    value = np.asarray(value)
    wrong = ~np.asarray(holds(value))
    if wrong.any():
        raise ValueError(f"{name} must be {rule}; got {first_wrong(value, wrong)}")


def first_wrong(value, wrong) -> str:
    """The first entry of ``value`` where ``wrong`` holds, and its index, as text for an error message."""
    where = np.unravel_index(np.argmax(wrong), wrong.shape)
    position = f" at index {', '.join(map(str, where))}" if value.ndim else ""
    return f"{value[where]:.6g}{position}"


def floating(name, value):
    """``value`` as a floating-point JAX array: integers and Python numbers become the default float.

    Raises:
      ValueError: a ``value`` that is not a real number or an array of real numbers; the message has ``name``.
    """
    try:
        if isinstance(value, str):  # JAX would take it for a dtype
            raise TypeError("text")
        value = jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a number or an array of numbers; got {value!r}") from error
    if jnp.issubdtype(value.dtype, jnp.floating):
        return value
    if jnp.issubdtype(value.dtype, jnp.integer):
        return value.astype(float)
    raise ValueError(f"{name} must hold real numbers; got dtype {value.dtype}")
