"""Signals that are combinations of the signals of a few anchors, and their derivatives by tissue likewise.

    s(x) = sum over a of c_a(x) s(a)        ds/dx = sum over a of dc_a/dx s(a)

A sequence is simulated for the anchors alone, however many tissues x there are and whatever is unknown of them, and the
gradient of an objective goes through the anchors alone. B1 that is the same for all tissue, and known, is another
sequence to the weights: anchors are simulated at it.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ganmrf.anchors.echoes import echo_times, until_echo, without_echo
from ganmrf.design.common_b1 import CommonB1
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.sequences.kinds import kind_of
from ganmrf.physics.simulate import SignalTangents, simulate_reverse
from ganmrf.physics.slice_profile import SliceModel
from ganmrf.physics.tissue import TissueModel, parameters
from ganmrf.pytrees import is_traced


@dataclasses.dataclass(frozen=True, eq=False)  # a function, which `jax.jit` knows by its identity
class CombinedSignals:
    """A signal model that combines the signals of anchors, for one tissue.

    Attributes:
      tissue: what the signal model is for, of any shape.
      names: what is unknown of it.
      anchors: the anchors, (anchors,).
      values: c_a(x), and behind it its derivative by each of ``names``, SI, right after each pulse or where else
        signals are combined (`echoes`), (1 + names, voxels, anchors), float64.
      at_each_b1: whether anchors are simulated at each B1 of the tissue; else they have their own.
      slice_profile: model of the slice; None for a uniform one.
      n_states: of the anchors, as of `simulate`.
      family: kind of the sequences that the weights hold for; None for any.
    """

    tissue: TissueModel
    names: tuple[str, ...]
    anchors: TissueModel
    values: np.ndarray
    at_each_b1: bool
    slice_profile: SliceModel | None
    n_states: int | None
    family: str | None = None

    def __call__(self, sequence: Fisp, tissue: TissueModel) -> SignalTangents:
        """Signals and derivatives, differentiable by the sequence in reverse mode.

        Raises:
          ValueError: another tissue than the signal model's, or a sequence of another kind.
        """
        self._require_same(tissue)
        return self.combined(sequence, self.anchor_signals(sequence))

    def combined(self, sequence: Fisp, signals: jax.Array) -> SignalTangents:
        """What a call returns, from the ``anchor_signals`` of these anchors, or of more that begin with them."""
        flat = self.tissue.ravel()
        combined = self._combined(signals[:, : self.anchors.size])
        times = echo_times(sequence, flat)

        def factor(values):
            return until_echo(jnp, times, dataclasses.replace(flat, **values))

        own = {name: jnp.broadcast_to(getattr(flat, name), flat.shape) for name in self.names}
        here, by = factor(own), {}
        for name, derivative in zip(self.names, combined[1:], strict=True):
            tangents = {other: jnp.ones_like(v) if other == name else jnp.zeros_like(v) for other, v in own.items()}
            of_factor = jax.jvp(factor, (own,), (tangents,))[1]
            by[name] = here * derivative + of_factor * combined[0]
        found = SignalTangents(here * combined[0], by)
        return jax.tree.map(lambda each: each.reshape(*self.tissue.shape, -1), found)

    def anchor_signals(self, sequence: Fisp) -> jax.Array:
        """Signals of the anchors at each B1, (values, anchors, frames); of one B1 where they have their own."""
        if self.family is not None and (kind := kind_of(sequence)) != self.family:
            raise ValueError(f"the generator has learned from sequences of kind {self.family}; got one of {kind}")
        sequence = without_echo(sequence, self.tissue)
        form = {"n_states": self.n_states, "slice_profile": self.slice_profile}
        if not self.at_each_b1:
            return simulate_reverse(sequence, self.anchors, **form)[None]

        def at(b1):
            return simulate_reverse(sequence, dataclasses.replace(self.anchors, b1=b1), **form)

        values = self._groups.values
        if values.size == 1:
            return at(values[0])[None]
        return lax.map(at, jnp.asarray(values, self.anchors.t1.dtype))

    @functools.cached_property
    def _groups(self):
        return CommonB1.of(self.tissue)

    def _combined(self, signals):
        """(1 + names, voxels, frames), from the signals of the anchors."""
        if len(signals) == 1:
            return jnp.matmul(jnp.asarray(self.values, signals.dtype), signals[0], precision="highest")
        groups = self._groups
        values = jnp.asarray(self.values[:, groups.rows], signals.dtype)  # (1 + names, groups, most, anchors)
        found = jnp.matmul(values, signals[None], precision="highest")
        return found.reshape(len(values), -1, found.shape[-1])[:, groups.place]

    def _require_same(self, tissue):
        if tissue.shape != self.tissue.shape:
            raise ValueError(f"the signal model was made for tissue of shape {self.tissue.shape}; got {tissue.shape}")
        if type(tissue) is not type(self.tissue):
            made, got = (type(each).__name__ for each in (self.tissue, tissue))
            raise ValueError(f"the signal model was made for tissue of the kind {made}; got {got}")
        for name in parameters(tissue):
            own, given = getattr(self.tissue, name), getattr(tissue, name)
            if is_traced(own, given):
                continue
            if (own is None) != (given is None) or (own is not None and not np.allclose(given, own, rtol=1e-5, atol=0)):
                raise ValueError(f"the signal model was made for other tissue: {name} differs; make one for this one")
