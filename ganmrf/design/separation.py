"""A goal made of what matching itself looks at: how much the fingerprints of similar tissues are alike."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.design.signal_models import SignalModel
from ganmrf.physics.sequences.fisp import Sequence
from ganmrf.physics.tissue import Tissue
from ganmrf.pytrees import is_traced, pytree, require

REDUCTIONS = ("worst", "mean")


@pytree
@dataclasses.dataclass(frozen=True)
class Separation:
    """A goal to be minimised: the inner products of unit fingerprints of tissues a little apart in T1, or in T2.

    ``separation(sequence, engine)`` is the mean, or the largest, of them: from 0 to 1, and 1 where two tissues look the
    same. Unlike a bound it needs no noise, and knows none: it does not see how strong a signal is, nor that a change of
    T1 and one of T2 may look the same.

    Attributes:
      tissue: voxels of any shape.
      distance: relative, of the neighbours in T1 and T2, to either side.
      reduce: ``worst`` or ``mean``.

    Raises:
      ValueError: no tissue; a distance that is not between 0 and 1, or so large that T2 of a neighbour exceeds its T1;
        or another ``reduce``.

    References:
      Cohen & Rosen 2017, doi:10.1016/j.mri.2017.02.010.
    """

    tissue: Tissue
    distance: float = 0.1
    reduce: str = dataclasses.field(default="mean", metadata={"static": True})

    def __post_init__(self):
        if not self.tissue.size:
            raise ValueError("Separation.tissue holds no voxels")
        if self.reduce not in REDUCTIONS:
            raise ValueError(f"Separation.reduce must be one of {', '.join(REDUCTIONS)}; got {self.reduce!r}")
        require("Separation.distance", self.distance, lambda x: (x > 0) & (x < 1), "between 0 and 1")
        if not is_traced(self.tissue, self.distance):
            t1, t2 = np.broadcast_arrays(self.tissue.t1, self.tissue.t2)
            close = np.maximum(t2 * (1 + self.distance) - t1, t2 - t1 * (1 - self.distance)) > 0
            if close.any():
                raise ValueError(
                    f"Separation.distance must leave T2 below T1; got {self.distance:g} for T1 = {t1[close][0]:.4g} s, "
                    f"T2 = {t2[close][0]:.4g} s"
                )

    @property
    def compared(self) -> Tissue:
        """All tissues that are simulated: each itself, and its neighbours in T1 and T2, (5, ...)."""
        t1, t2, b1 = (jnp.broadcast_to(v, self.tissue.shape) for v in (self.tissue.t1, self.tissue.t2, self.tissue.b1))
        low, high = 1 - self.distance, 1 + self.distance
        fields = [t1, low * t1, high * t1, t1, t1], [t2, t2, t2, low * t2, high * t2], [b1] * 5
        return Tissue(*map(jnp.stack, fields))

    def __call__(self, sequence: Sequence, engine: SignalModel) -> jax.Array:
        """The number to minimise, differentiable by the sequence in reverse mode.

        Raises:
          ValueError: what the engine raises; one of a generator is made for ``compared``.
        """
        products = self.products(sequence, engine)
        return jnp.max(products) if self.reduce == "worst" else jnp.mean(products)

    def products(self, sequence: Sequence, engine: SignalModel) -> jax.Array:
        """Inner products of each fingerprint with its neighbours: T1 shorter, longer, T2 shorter, longer; (4, ...)."""
        signals = engine(sequence, self.compared).signal
        own, *others = signals / jnp.linalg.norm(signals, axis=-1, keepdims=True)
        # By their distance: near 1 a sum of products would be rounding. Matching does not see a sign.
        return jnp.stack(
            [
                1 - jnp.minimum(jnp.sum((own - other) ** 2, axis=-1), jnp.sum((own + other) ** 2, axis=-1)) / 2
                for other in others
            ]
        )
