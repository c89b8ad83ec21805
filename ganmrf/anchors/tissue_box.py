"""The ranges of tissue parameters that a generator is made for, and which tissue lies outside them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.physics.tissue import Tissue
from ganmrf.pytrees import pytree

_OFFSET_S = 6.5e-3  # half a repetition time: times far shorter than one leave nearly the same fingerprint
_LOGARITHMIC = ("t1", "t2")  # axes on which log(time + offset) is uniform; the others are linear
_MARGIN = 1e-6  # relative; float32 rounding
_PUSHED = 0.4  # share of tissue that `TissueBox.spread_to_faces` pushes
_END = 0.2  # chance of each end, along every axis of it


@pytree
@dataclasses.dataclass(frozen=True)
class TissueBox:
    """Named tissue parameters and their ranges, with T2 <= T1; the others keep the value that `Tissue` gives them.

    Attributes:
      names: fields of `Tissue`, ``t1`` and ``t2`` among them.
      low: least value of each, (axes,), SI.
      high: largest value of each, (axes,).

    Raises:
      ValueError: a name that is no field of `Tissue`, none for ``t1`` or ``t2``, a range that is empty or not positive,
        or a T1 that no T2 of the box is below.
    """

    names: tuple[str, ...] = dataclasses.field(metadata={"static": True})
    low: np.ndarray
    high: np.ndarray

    def __post_init__(self):
        known = [field.name for field in dataclasses.fields(Tissue)]
        object.__setattr__(self, "names", tuple(self.names))
        if unknown := [name for name in self.names if name not in known]:
            raise ValueError(f"TissueBox.names must be of {', '.join(known)}; got {unknown[0]}")
        if len(set(self.names)) < len(self.names) or not {"t1", "t2"} <= set(self.names):
            raise ValueError(f"TissueBox.names must hold t1 and t2, and each name once; got {', '.join(self.names)}")
        for name in ("low", "high"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), float))
            if getattr(self, name).shape != (len(self.names),):
                raise ValueError(f"TissueBox.{name} must hold {len(self.names)} values, one for each name")
        for name, low, high in zip(self.names, self.low, self.high, strict=True):
            if not 0 < low < high < np.inf:
                raise ValueError(
                    f"TissueBox: the range of {name} must be positive and not empty; got {low:g} to {high:g}"
                )
        t1, t2 = (self.low[self.names.index(name)] for name in ("t1", "t2"))
        if not t2 < t1:
            raise ValueError(f"TissueBox: t2 must begin below t1; got {t2:g} and {t1:g} s")

    def sobol(self, number: int, rng) -> np.ndarray:
        """Places spread evenly over the unit cube, (number, axes): a scrambled Sobol sequence; ``rng`` or a seed."""
        from scipy.stats import qmc  # here: it takes half a second, and only this needs it

        return qmc.Sobol(len(self.names), rng=rng).random_base2(int(np.ceil(np.log2(number))))[:number]

    def spread(self, cube) -> Tissue:
        """The tissue at places in the unit cube, (..., axes), axes in the order of ``names``; all of it is in the box.

        T1 and T2 go with log(time + 6.5 ms), and T2 from its least value to T1 where that is below its largest value.
        """
        found, cube = {}, jnp.asarray(cube)
        for name in sorted(self.names):  # T1 before T2
            low, high = self._ends(name)
            if name == "t2":
                high = jnp.minimum(high, _scaled("t1", found["t1"]))
            found[name] = _unscaled(name, low + (high - low) * cube[..., self.names.index(name)])
        found["t2"] = jnp.minimum(found["t1"], found["t2"])  # rounding
        return Tissue(**found)

    def spread_to_faces(self, cube, place, lot) -> Tissue:
        """`spread`, two fifths of it pushed to faces of the cube: each coordinate to each end with a chance of a fifth.

        Args:
          cube: places in the unit cube, (..., axes).
          place: uniform from 0 to 1, (..., axes): the lowest fifth goes to 0, the highest to 1.
          lot: uniform from 0 to 1, (..., 1): the lowest two fifths are pushed.
        """
        faces = jnp.where(place < _END, 0, jnp.where(place > 1 - _END, 1, cube))
        return self.spread(jnp.where(lot < _PUSHED, faces, cube))

    def coordinates(self, tissue: Tissue) -> jax.Array:
        """What generators see of tissue: from 0 to 1 along each axis, (..., axes).

        Traceable, and smooth in the tissue. T1 and T2 go with log(time + 6.5 ms), the others linearly.
        """
        columns = []
        for name in self.names:
            low, high = self._ends(name)
            columns.append(jnp.broadcast_to((_scaled(name, getattr(tissue, name)) - low) / (high - low), tissue.shape))
        return jnp.stack(columns, axis=-1)

    def excess(self, tissue: Tissue) -> np.ndarray:
        """How far outside each atom lies, relative to the end of the range that it passes, (atoms, axes); 0 inside."""
        atoms = jax.tree.map(np.asarray, tissue.ravel())
        columns = []
        for name, low, high in zip(self.names, self.low, self.high, strict=True):
            values = np.broadcast_to(getattr(atoms, name), atoms.shape).astype(float)
            beyond = np.maximum(low / values, values / high) - 1
            columns.append(np.where(beyond > _MARGIN, beyond, 0))
        return np.stack(columns, axis=1)

    def outside(self, tissue: Tissue) -> np.ndarray:
        """Which atoms lie outside, (atoms,), bool."""
        return (self.excess(tissue) > 0).any(axis=1)

    def require_inside(self, tissue: Tissue):
        """Raises `ValueError` where an atom lies outside; it names the parameter, the worst value and by how much."""
        self.require_known(tissue)
        excess = self.excess(tissue)
        outside = (excess > 0).any(axis=1)
        if not outside.any():
            return
        atom, axis = np.unravel_index(np.argmax(excess), excess.shape)
        name, low, high = self.names[axis], self.low[axis], self.high[axis]
        value = np.broadcast_to(getattr(tissue.ravel(), name), outside.shape)[atom]
        raise ValueError(
            f"{outside.sum()} of {outside.size} atoms lie outside the trained box; the farthest has {name} = "
            f"{value:.4g}, {100 * excess[atom, axis]:.3g} % beyond {low:.4g} to {high:.4g}; allow_extrapolation "
            "generates them all the same"
        )

    def require_known(self, tissue: Tissue):
        """Raises `ValueError` where a parameter without an axis is not as `Tissue` has it by default."""
        plain = Tissue(1.0, 1.0)
        for name in (field.name for field in dataclasses.fields(Tissue) if field.name not in self.names):
            usual = float(getattr(plain, name))
            if np.any(np.asarray(getattr(tissue, name)) != usual):
                raise ValueError(f"the generator has no axis for {name}: it must be {usual:g} for all atoms")

    def _ends(self, name):
        axis = self.names.index(name)
        return _scaled(name, self.low[axis]), _scaled(name, self.high[axis])


def _scaled(name, value):
    return jnp.log(value + _OFFSET_S) if name in _LOGARITHMIC else value


def _unscaled(name, value):
    return jnp.exp(value) - _OFFSET_S if name in _LOGARITHMIC else value
