"""Tissue: relaxation times, transmit field and off-resonance of voxels, a frozen pytree in SI units."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.pytrees import first_wrong, floating, is_traced, pytree, require, require_positive, require_scale

# Water at body temperature, the slowest there is in a body, has 4.5 s; no pulse is played at ten times its angle.
_TIME = {"logarithmic": True, "signed": False, "scale": (20.0, "s", "ms")}
_FACTOR = {"logarithmic": False, "signed": False, "scale": (10.0, "parts of the nominal angle", "percent")}
FARTHEST_HZ = 10e3  # off resonance: fat, the farthest in a body but for metal, is 1 kHz off at 7 T
_FREQUENCY = {"logarithmic": False, "signed": True, "scale": (FARTHEST_HZ, "Hz", "rad/s")}


@pytree
@dataclasses.dataclass(frozen=True)
class Tissue:
    """Relaxation times, transmit field and off-resonance of one or many voxels.

    What is true of a parameter stands in the metadata of its field: whether signals change evenly with its logarithm
    (`TissueBox`), whether it may be 0 and ``signed``, and its ``scale``, as `require_scale` takes it.

    Attributes:
      t1: longitudinal relaxation time, s, any shape.
      t2: transverse relaxation time, s, any shape that broadcasts with ``t1``.
      b1: actual over nominal flip angle (B1+), dimensionless, any shape that broadcasts with ``t1``.
      off_resonance: frequency of the spins less that of the scanner, Hz, likewise; positive turns Mx + i My
        counter-clockwise. None, unlike 0, keeps the signals of phases that are half turns real.

    Raises:
      ValueError: a time or ``b1`` that is not positive and finite, T2 > T1, shapes that do not broadcast, or values
        that are in ms, percent or rad/s by their size (`ganmrf.pytrees.unusual_values` allows them).
    """

    t1: jax.Array = dataclasses.field(metadata=_TIME)
    t2: jax.Array = dataclasses.field(metadata=_TIME)
    b1: jax.Array | float = dataclasses.field(default=1.0, metadata=_FACTOR)
    off_resonance: jax.Array | float | None = dataclasses.field(default=None, metadata=_FREQUENCY)

    def __post_init__(self):
        for field in dataclasses.fields(self):
            if (value := getattr(self, field.name)) is None and field.default is None:
                continue
            value = floating(field.name, value)
            object.__setattr__(self, field.name, value)
            if field.metadata["signed"]:
                require(f"Tissue.{field.name}", value, np.isfinite, "finite")
            else:
                require_positive(f"Tissue.{field.name}", value)
            require_scale(f"Tissue.{field.name}", value, *field.metadata["scale"])
        try:
            _ = self.shape
        except ValueError as error:
            shapes = ", ".join(f"{name} {value.shape}" for name, value in vars(self).items() if value is not None)
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
        return np.broadcast_shapes(*(np.shape(leaf) for leaf in vars(self).values() if leaf is not None))

    @property
    def size(self) -> int:
        """Number of voxels."""
        return int(np.prod(self.shape))

    def ravel(self) -> "Tissue":
        """The same voxels in one dimension: t1 and t2 (voxels,), the others (voxels,) or one number for all voxels."""

        def flat(value):
            return jnp.broadcast_to(value, self.shape).ravel()

        rest = {"b1": self.b1, "off_resonance": self.off_resonance}
        rest = {name: flat(value) for name, value in rest.items() if value is not None and np.ndim(value)}
        return dataclasses.replace(self, t1=flat(self.t1), t2=flat(self.t2), **rest)

    def rows(self, index) -> "Tissue":
        """Some voxels of a tissue in one dimension, by any NumPy index; a b1 that is one number stays one."""
        return jax.tree.map(lambda leaf: leaf[index] if leaf.ndim else leaf, self)
