"""Tissue: relaxation times and transmit field of voxels, a frozen pytree in SI units."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.pytrees import first_wrong, floating, is_traced, pytree, require_positive, require_scale

# Water at body temperature, the slowest there is in a body, has 4.5 s; no pulse is played at ten times its angle.
_LARGEST = {"t1": (20.0, "s", "ms"), "t2": (20.0, "s", "ms"), "b1": (10.0, "parts of the nominal angle", "percent")}


@pytree
@dataclasses.dataclass(frozen=True)
class Tissue:
    """Relaxation times and transmit field of one or many voxels.

    Attributes:
      t1: longitudinal relaxation time, s, any shape.
      t2: transverse relaxation time, s, any shape that broadcasts with ``t1``.
      b1: actual over nominal flip angle (B1+), dimensionless, any shape that broadcasts with ``t1``.

    Raises:
      ValueError: a time or ``b1`` that is not positive and finite, T2 > T1, shapes that do not broadcast, or values
        that are in ms or percent by their size (`ganmrf.pytrees.unusual_values` allows them).
    """

    t1: jax.Array
    t2: jax.Array
    b1: jax.Array | float = 1.0

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = floating(field.name, getattr(self, field.name))
            object.__setattr__(self, field.name, value)
            require_positive(f"Tissue.{field.name}", value)
            require_scale(f"Tissue.{field.name}", value, *_LARGEST[field.name])
        try:
            _ = self.shape
        except ValueError as error:
            shapes = ", ".join(f"{f.name} {getattr(self, f.name).shape}" for f in dataclasses.fields(self))
            raise ValueError(f"Tissue: the shapes of {shapes} do not broadcast") from error
        if not is_traced(self.t1, self.t2):
            t1, t2 = np.broadcast_arrays(self.t1, self.t2)
            if (wrong := t2 > t1).any():
                raise ValueError(
                    f"Tissue.t2 must not exceed t1; got t2 = {first_wrong(t2, wrong)}, t1 = {first_wrong(t1, wrong)}"
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
        """The same voxels in one dimension: t1 and t2 (voxels,), b1 (voxels,) or one number for all voxels."""

        def flat(value):
            return jnp.broadcast_to(value, self.shape).ravel()

        b1 = self.b1 if np.ndim(self.b1) == 0 else flat(self.b1)
        return dataclasses.replace(self, t1=flat(self.t1), t2=flat(self.t2), b1=b1)

    def rows(self, index) -> "Tissue":
        """Some voxels of a tissue in one dimension, by any NumPy index; a b1 that is one number stays one."""
        return jax.tree.map(lambda leaf: leaf[index] if leaf.ndim else leaf, self)
