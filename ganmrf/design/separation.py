"""An objective from the inner products that matching compares: how alike the fingerprints of similar tissues are."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.design.signal_models import SignalModel
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.tissue import Tissue
from ganmrf.pytrees import is_traced, pytree, require

REDUCTIONS = ("worst", "mean")


@pytree
@dataclasses.dataclass(frozen=True)
class Separation:
    """An objective to be minimised: the inner products of unit fingerprints of tissues a little apart in T1, or in T2.

    ``separation(sequence, signal_model)`` is the mean, or the largest, of the inner products: 0 to 1, and 1 where two
    tissues have the same fingerprint. Unlike a Cramer-Rao bound it knows no noise: it sees neither how strong a signal
    is nor that a change of T1 and a change of T2 may alter the fingerprint alike.

    Attributes:
      tissue: voxels of any shape.
      distance: of the neighbours to either side, relative to T1 or T2.
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
        """All tissues that are simulated: each tissue, then its neighbours in T1 and T2, (5, ...)."""
        t1, t2, b1 = (jnp.broadcast_to(v, self.tissue.shape) for v in (self.tissue.t1, self.tissue.t2, self.tissue.b1))
        low, high = 1 - self.distance, 1 + self.distance
        fields = [t1, low * t1, high * t1, t1, t1], [t2, t2, t2, low * t2, high * t2], [b1] * 5
        return Tissue(*map(jnp.stack, fields))

    def __call__(self, sequence: Fisp, signal_model: SignalModel) -> jax.Array:
        """The number to minimise, differentiable by the sequence in reverse mode.

        Raises:
          ValueError: what the signal model raises; a `generator_model` must be made for the tissues ``compared``.
        """
        products = self.products(sequence, signal_model)
        return jnp.max(products) if self.reduce == "worst" else jnp.mean(products)

    def products(self, sequence: Fisp, signal_model: SignalModel) -> jax.Array:
        """Inner products of each fingerprint with its neighbours: T1 shorter, longer, T2 shorter, longer; (4, ...)."""
        signals = signal_model(sequence, self.compared).signal
        own, *others = signals / jnp.linalg.norm(signals, axis=-1, keepdims=True)
        # From the distance of the two: near 1 the sum of products would be rounded away. Matching does not see a sign.
        apart = [[jnp.sum((own - other) ** 2, axis=-1), jnp.sum((own + other) ** 2, axis=-1)] for other in others]
        return jnp.stack([1 - jnp.minimum(*squares) / 2 for squares in apart])
