"""What a simulation is given: the pulse sequence and the tissue, as frozen pytrees in SI units."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np


def pytree(cls):
    """Registers a frozen dataclass with JAX; fields whose metadata says ``static`` are part of the tree's structure.

    Unlike `jax.tree_util.register_dataclass`, rebuilding an instance from its leaves skips the constructor: transforms
    rebuild with tracers and placeholders, which hold no values to check, and a check would wait for the device.
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
        raise ValueError(f"{name} must be {rule}; got {_first(value, wrong)}")


def _first(value, wrong):
    where = np.unravel_index(np.argmax(wrong), wrong.shape)
    position = f" at index {', '.join(map(str, where))}" if value.ndim else ""
    return f"{value[where]:.6g}{position}"


def _floating(name, value):
    """``value`` as a floating-point JAX array: integers and Python numbers become the default float."""
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


@pytree
@dataclasses.dataclass(frozen=True)
class Tissue:
    """Relaxation times and transmit field of one or many voxels.

    Attributes:
      t1: longitudinal relaxation time, s, any shape.
      t2: transverse relaxation time, s, any shape that broadcasts with ``t1``.
      b1: actual over nominal flip angle (B1+), dimensionless, any shape that broadcasts with ``t1``.

    Raises:
      ValueError: a time or ``b1`` that is not positive and finite, T2 > T1, or shapes that do not broadcast.
    """

    t1: jax.Array
    t2: jax.Array
    b1: jax.Array | float = 1.0

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = _floating(field.name, getattr(self, field.name))
            object.__setattr__(self, field.name, value)
            require(f"Tissue.{field.name}", value, lambda x: (x > 0) & np.isfinite(x), "positive and finite")
        try:
            _ = self.shape
        except ValueError as error:
            shapes = ", ".join(f"{f.name} {getattr(self, f.name).shape}" for f in dataclasses.fields(self))
            raise ValueError(f"Tissue: the shapes of {shapes} do not broadcast") from error
        if not is_traced(self.t1, self.t2):
            t1, t2 = np.broadcast_arrays(self.t1, self.t2)
            if (wrong := t2 > t1).any():
                raise ValueError(
                    f"Tissue.t2 must not exceed t1; got t2 = {_first(t2, wrong)}, t1 = {_first(t1, wrong)}"
                )

    @property
    def shape(self) -> tuple[int, ...]:
        """Common broadcast shape of the fields."""
        return np.broadcast_shapes(*(np.shape(leaf) for leaf in (self.t1, self.t2, self.b1)))

    @property
    def size(self) -> int:
        """Number of voxels."""
        return int(np.prod(self.shape))

    def ravel(self) -> "Tissue":
        """The same voxels in one dimension: t1 and t2 (voxels,), b1 likewise unless it is one number for all."""

        def flat(value):
            return jnp.broadcast_to(value, self.shape).ravel()

        b1 = self.b1 if np.ndim(self.b1) == 0 else flat(self.b1)
        return dataclasses.replace(self, t1=flat(self.t1), t2=flat(self.t2), b1=b1)

    def rows(self, index) -> "Tissue":
        """Some voxels of a tissue in one dimension, by any index of it; a b1 that is one number for all stays so."""
        return jax.tree.map(lambda leaf: leaf[index] if leaf.ndim else leaf, self)


@pytree
@dataclasses.dataclass(frozen=True)
class Sequence:
    """An inversion-prepared FISP sequence with RF phase 0: what the scanner plays, frame by frame.

    Attributes:
      flip_angle: nominal flip angle of each frame, rad, (frames,).
      repetition_time: time from this frame's pulse to the next, s, (frames,) or one number for all.
      echo_time: time from this frame's pulse to its echo, s, (frames,) or one number for all.
      inversion_time: time from the ideal inversion to the first pulse, s, one number; None for no inversion.

    Raises:
      ValueError: values that are not finite, angles beyond a full turn (degrees?), an echo after the end of its
        frame, negative times, or frame counts that disagree.
    """

    flip_angle: jax.Array
    repetition_time: jax.Array | float
    echo_time: jax.Array | float
    inversion_time: jax.Array | float | None = None

    def __post_init__(self):
        flip_angle = _floating("flip_angle", self.flip_angle)
        if flip_angle.ndim != 1 or flip_angle.size == 0:
            raise ValueError(f"Sequence.flip_angle must be (frames,) with one frame at least; got {flip_angle.shape}")
        object.__setattr__(self, "flip_angle", flip_angle)
        for name in ("repetition_time", "echo_time"):
            value = _floating(name, getattr(self, name))
            if value.shape not in ((), flip_angle.shape):
                raise ValueError(
                    f"Sequence.{name} has shape {value.shape}, but flip_angle has {flip_angle.size} frames"
                )
            object.__setattr__(self, name, jnp.broadcast_to(value, flip_angle.shape))
        full_turn = 2 * np.pi * (1 + 1e-6)
        require("Sequence.flip_angle", flip_angle, lambda x: np.abs(x) <= full_turn, "within +-2 pi rad")
        require(
            "Sequence.repetition_time", self.repetition_time, lambda x: (x > 0) & np.isfinite(x), "positive and finite"
        )
        require("Sequence.echo_time", self.echo_time, lambda x: (x >= 0) & np.isfinite(x), "0 or more, and finite")
        if not is_traced(self.repetition_time, self.echo_time):
            late = np.asarray(self.echo_time > self.repetition_time)
            if late.any():
                echo, end = np.asarray(self.echo_time), np.asarray(self.repetition_time)
                raise ValueError(
                    f"Sequence.echo_time must not exceed repetition_time; got echo_time = {_first(echo, late)}, "
                    f"repetition_time = {_first(end, late)}"
                )
        if self.inversion_time is not None:
            inversion_time = _floating("inversion_time", self.inversion_time)
            if inversion_time.ndim:
                raise ValueError(f"Sequence.inversion_time must be one number; got shape {inversion_time.shape}")
            rule = "0 or more, and finite (None for no inversion)"
            require("Sequence.inversion_time", inversion_time, lambda x: (x >= 0) & np.isfinite(x), rule)
            object.__setattr__(self, "inversion_time", inversion_time)

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return self.flip_angle.shape[-1]
