"""Frozen dataclasses as JAX pytrees, the checks of values that their constructors make, and their form in files."""

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_any_scale = contextvars.ContextVar("any_scale", default=False)


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


def require_positive(name: str, value, rule: str = "positive and finite"):
    """`require` that ``value`` is positive and finite everywhere."""
    require(name, value, lambda x: (x > 0) & np.isfinite(x), rule)


def require_whole(name: str, value, least: int = 1):
    """`require` that ``value`` is a whole number, ``least`` or more."""
    require(name, value, lambda n: (n >= least) & (n % 1 == 0), f"a whole number, {least} or more")


def require_scale(name: str, value, most: float, unit: str, instead: str | None):
    """`require` that no magnitude exceeds ``most``: more of this ``unit`` is a number that was meant in another one.

    ``instead`` is that other unit, where one is likely. Within `unusual_values` every magnitude passes.
    """
    if not _any_scale.get():
        asked = f"is it in {instead}? " if instead else ""
        rule = f"in {unit}, {most:g} at most ({asked}ganmrf.pytrees.unusual_values() allows more)"
        require(name, value, lambda x: np.abs(x) <= most, rule)


@contextlib.contextmanager
def unusual_values():
    """Inside, times and factors may be as large as no tissue or scan of a body has them: helium, or a solvent."""
    token = _any_scale.set(True)
    try:
        yield
    finally:
        _any_scale.reset(token)


def first_wrong(value, wrong) -> str:
    """The first entry of ``value`` where ``wrong`` holds, and its index, as text for an error message."""
    where = np.unravel_index(np.argmax(wrong), wrong.shape)
    position = f" at index {', '.join(map(str, where))}" if value.ndim else ""
    return f"{value[where]:.6g}{position}"


def floating(name, value):
    """``value`` as a floating-point JAX array: integers and Python numbers become the default float.

    Raises `ValueError` with the ``name`` of a value that is not a real number or an array of real numbers.
    """
    try:
        if isinstance(value, str):  # JAX would take it for a dtype
            raise TypeError("text")
        # `jnp.asarray` would compile a program for every shape. A copy, as a large array is taken as it is.
        value = jax.device_put(value.copy()) if type(value) is np.ndarray else jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a number or an array of numbers; got {value!r}") from error
    if jnp.issubdtype(value.dtype, jnp.floating):
        return value
    if jnp.issubdtype(value.dtype, jnp.integer):
        return value.astype(float)
    raise ValueError(f"{name} must hold real numbers; got dtype {value.dtype}")


def arrays_and_structure(
    tree, name: Callable[[list[str]], str] = "/".join
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A tree of dataclasses, dictionaries, tuples and arrays as named arrays, and all else in a form that JSON holds.

    The leaves of the tree are NumPy or JAX arrays, tuples of numbers, which become arrays, or values that JSON has.
    Each array gets its ``name`` from the list of the field names, keys and places that lead to it.

    Returns:
      Name -> array; and the structure that `tree_of` rebuilds the tree from.
    """
    arrays = {}

    def structure(value, path):
        if dataclasses.is_dataclass(value):
            names = [field.name for field in dataclasses.fields(value)]
            fields = [[field, structure(getattr(value, field), [*path, field])] for field in names]
            return {"class": type(value).__name__, "fields": fields}
        if isinstance(value, dict):
            return {"items": [[key, structure(each, [*path, str(key)])] for key, each in value.items()]}
        numbers = isinstance(value, tuple) and {*map(type, value)} in ({bool}, {int}, {float})
        if numbers or isinstance(value, np.ndarray | np.generic | jax.Array):
            array = arrays[name(path)] = np.asarray(value)
            facts = {"shape": list(array.shape), "dtype": array.dtype.name} | ({"tuple": True} if numbers else {})
            return {"array": name(path), "jax": isinstance(value, jax.Array), **facts}
        if isinstance(value, tuple):
            return {"entries": [structure(each, [*path, str(place)]) for place, each in enumerate(value)]}
        return {"value": value}

    return arrays, structure(tree, [])


def array_nodes(structure) -> Iterator[dict[str, Any]]:
    """Yields what a structure of `arrays_and_structure` says of each array: its name, ``array``, shape and dtype."""
    if isinstance(structure, dict) and "array" in structure:
        yield structure
    elif isinstance(structure, dict | list):
        for part in structure.values() if isinstance(structure, dict) else structure:
            yield from array_nodes(part)


def tree_of(arrays: Mapping[str, np.ndarray], structure: dict, classes: Iterable[type]):
    """The tree whose arrays and structure `arrays_and_structure` gives; JSON may have made lists of tuples.

    ``classes`` are the dataclasses that the tree may hold, in files also under their ``former_names``. Their
    constructors are called, and check what they hold.

    Raises:
      KeyError: another class, or a structure that is none.
      TypeError: likewise.
      ValueError: an array that is missing, not known, not finite or of another shape or dtype than the structure says,
        or a value that a constructor refuses.
    """
    known = {name: cls for cls in classes for name in (cls.__name__, *getattr(cls, "former_names", ()))}
    unread = dict(arrays)

    def build(node):
        if "class" in node:
            return known[node["class"]](**{name: build(each) for name, each in node["fields"]})
        if "items" in node:
            return {key: build(each) for key, each in node["items"]}
        if "entries" in node:
            return tuple(map(build, node["entries"]))
        if "array" in node:
            array = _checked(unread, node)
            return tuple(array.tolist()) if node.get("tuple") else (jnp.asarray if node["jax"] else np.asarray)(array)
        return node["value"]

    tree = build(structure)
    if unread:
        raise ValueError(f"{next(iter(unread))} is no part of it")
    return tree


def _checked(arrays, node):
    name = node["array"]
    if name not in arrays:
        raise ValueError(f"{name} is missing")
    array = arrays.pop(name)
    found = {"shape": list(array.shape), "dtype": array.dtype.name}
    expected = {key: node.get(key, found[key]) for key in found}  # files of earlier versions do not say
    if found != expected or array.dtype.kind not in "biufc":
        raise ValueError(f"{name} has {found}, not {expected}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds values that are not finite")
    return array
