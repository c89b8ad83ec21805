"""Ranges of tissue parameters: which tissue lies outside them, and how tissue is spread evenly within them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.physics.tissue import Tissue, parameters
from ganmrf.pytrees import pytree, require_scale

_HALF_REPETITION = 6.5e-3  # s, the offset of `log_time` for all sequences: published repetition times are near 13 ms
_FACTS = parameters(Tissue)
_MARGIN = 1e-6  # relative; a value rounded to float32 is off by less, and still counts as inside
# Interpolation is worst at the ends of a range, and random tissues seldom lie there: `TissueBox.spread_to_faces` moves
_PUSHED = 0.4  # this share of the tissues, and
_END = 0.2  # along every axis moves this share of those to each end


def log_time(time, offset):
    """log(time + offset): the scale of T1 and T2 on which fingerprints change evenly.

    Fingerprints change with the ratio of two relaxation times, but times far shorter than a repetition time all leave
    the same fingerprint, and a plain logarithm would set those times far apart. The offset, half a repetition time,
    ends the logarithm there. Both are in s.
    """
    return jnp.log(time + offset)


@pytree
@dataclasses.dataclass(frozen=True)
class TissueBox:
    """Named tissue parameters and their ranges, with T2 <= T1; the others keep the value that `Tissue` gives them.

    Attributes:
      names: fields of `Tissue`, ``t1`` and ``t2`` among them.
      low: least value of each, (axes,), SI.
      high: largest value of each, (axes,).

    Raises:
      ValueError: a name that is no field of `Tissue`, none for ``t1`` or ``t2``, a range that is empty or, but for
        off-resonance, not positive, or a T2 whose range begins above that of T1.
    """

    names: tuple[str, ...] = dataclasses.field(metadata={"static": True})
    low: np.ndarray
    high: np.ndarray

    def __post_init__(self):
        object.__setattr__(self, "names", tuple(self.names))
        if unknown := [name for name in self.names if name not in _FACTS]:
            raise ValueError(f"TissueBox.names must be of {', '.join(_FACTS)}; got {unknown[0]}")
        if len(set(self.names)) < len(self.names) or not {"t1", "t2"} <= set(self.names):
            raise ValueError(f"TissueBox.names must hold t1 and t2, and each name once; got {', '.join(self.names)}")
        for name in ("low", "high"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), float))
            if getattr(self, name).shape != (len(self.names),):
                raise ValueError(f"TissueBox.{name} must hold {len(self.names)} values, one for each name")
        for name, low, high in zip(self.names, self.low, self.high, strict=True):
            least, rule = (-np.inf, "finite") if _signed(name) else (0, "positive")
            if not least < low < high < np.inf:
                raise ValueError(
                    f"TissueBox: the range of {name} must be {rule} and not empty; got {low:g} to {high:g}"
                )
            require_scale(f"TissueBox: the range of {name}", [low, high], *_FACTS[name].scale)
        t1, t2 = (self.low[self.names.index(name)] for name in ("t1", "t2"))
        if t2 > t1:
            raise ValueError(f"TissueBox: t2 must not begin above t1; got {t2:g} and {t1:g} s")

    def sobol(self, number: int, rng) -> np.ndarray:
        """Places spread evenly over the unit cube, (number, axes): a scrambled Sobol sequence; ``rng`` or a seed."""
        from scipy.stats import qmc  # here: its import takes half a second, and only this method needs it

        return qmc.Sobol(len(self.names), rng=rng).random_base2(int(np.ceil(np.log2(number))))[:number]

    @jax.jit
    def spread(self, cube) -> Tissue:
        """The tissue at places in the unit cube, (..., axes), axes in the order of ``names``; all of it is in the box.

        T1 and T2 are uniform on the scale of `log_time` with 6.5 ms. T2 runs from its least value to the smaller of T1
        and its largest value.
        """
        found = {}
        for name in sorted(self.names):  # T1 before T2
            low, high = self._ends(name)
            if name == "t2":
                high = jnp.minimum(high, _scaled("t1", found["t1"]))
            found[name] = _unscaled(name, low + (high - low) * cube[..., self.names.index(name)])
        found["t2"] = jnp.minimum(found["t1"], found["t2"])  # T2 <= T1 in spite of rounding
        return Tissue(**found)

    @jax.jit
    def spread_to_faces(self, cube, place, lot) -> Tissue:
        """`spread`, but where ``lot``, (..., 1), is in the lowest two fifths, places are pushed to faces of the cube.

        ``place``, (..., axes), says where each coordinate goes: its lowest fifth to 0, its highest to 1. Both are
        uniform from 0 to 1.
        """
        faces = jnp.where(place < _END, 0, jnp.where(place > 1 - _END, 1, cube))
        return self.spread(jnp.where(lot < _PUSHED, faces, cube))

    @jax.jit
    def coordinates(self, tissue: Tissue) -> jax.Array:
        """Coordinates of tissue in the unit cube, as generators see tissue: 0 to 1 along each axis, (..., axes).

        Traceable, and smooth in the tissue. T1 and T2 are on the scale of `log_time` with 6.5 ms, the others linear.
        """
        columns = []
        for name in self.names:
            low, high = self._ends(name)
            columns.append(jnp.broadcast_to((_scaled(name, getattr(tissue, name)) - low) / (high - low), tissue.shape))
        return jnp.stack(columns, axis=-1)

    def _excess(self, tissue):
        """How far outside each atom lies, relative to the end of the range that it passes, (atoms, axes); 0 inside.

        Of what may have any sign it is relative to the end that is farther from 0.
        """
        self._require_axes(tissue)
        atoms = jax.tree.map(np.asarray, tissue.ravel())
        columns = []
        for name, low, high in zip(self.names, self.low, self.high, strict=True):
            values = np.broadcast_to(getattr(atoms, name), atoms.shape).astype(float)
            if _signed(name):
                beyond = np.maximum(low - values, values - high) / max(abs(low), abs(high))
            else:
                beyond = np.maximum(low / values, values / high) - 1
            columns.append(np.where(beyond > _MARGIN, beyond, 0))
        return np.stack(columns, axis=1)

    def outside(self, tissue: Tissue) -> np.ndarray:
        """Which atoms lie outside, (atoms,), bool."""
        return (self._excess(tissue) > 0).any(axis=1)

    def require_inside(self, tissue: Tissue):
        """Raises `ValueError` where an atom lies outside; it names the parameter, the worst value and by how much."""
        self.require_known(tissue)
        excess = self._excess(tissue)
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
        """Raises `ValueError` where a parameter with an axis is None, or another one not the default of `Tissue`."""
        self._require_axes(tissue)
        plain = Tissue(1.0, 1.0)
        for name in (name for name in _FACTS if name not in self.names):
            usual, values = getattr(plain, name), getattr(tissue, name)
            if usual is None and values is not None:
                raise ValueError(f"the generator has no axis for {name}: it must be None")
            if usual is not None and np.any(np.asarray(values) != float(usual)):
                raise ValueError(f"the generator has no axis for {name}: it must be {float(usual):g} for all atoms")

    def _require_axes(self, tissue):
        for name, low, high in zip(self.names, self.low, self.high, strict=True):
            if getattr(tissue, name) is None:  # off-resonance, which alone may be None
                raise ValueError(
                    f"the generator has an axis for {name}: the atoms must have it, too, within the trained range of "
                    f"{low:g} to {high:g} Hz (--{name}_hz)"
                )

    def _ends(self, name):
        axis = self.names.index(name)
        return _scaled(name, self.low[axis]), _scaled(name, self.high[axis])


def _signed(name):
    return _FACTS[name].signed


def _scaled(name, value):
    return log_time(value, _HALF_REPETITION) if _FACTS[name].logarithmic else value


def _unscaled(name, value):
    return jnp.exp(value) - _HALF_REPETITION if _FACTS[name].logarithmic else value
