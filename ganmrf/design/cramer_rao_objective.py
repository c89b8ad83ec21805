"""The objective of a design: standard deviations of parameters of chosen tissues, reduced to one number."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.design.bounds import Precision, precision_of
from ganmrf.design.signal_models import SignalModel
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.tissue import TissueModel, parameters
from ganmrf.pytrees import is_traced, pytree, require

REDUCTIONS = ("worst", "mean", "rms")
_SHARPNESS = 60.0  # p of the p-norm of the worst: 3 % above the exact maximum of six values


class Outcome(NamedTuple):
    """The value of an objective for one sequence, which is smaller for a better one, and the precision of each voxel.

    The precision is neither weighted nor divided by a reference.
    """

    value: jax.Array
    precision: Precision


@pytree
@dataclasses.dataclass(frozen=True)
class CramerRaoObjective:
    """An objective for sequences, to be minimised: one number from the standard deviations in some tissues.

    ``objective(sequence, signal_model)`` returns the number, for noise as large as M0. Weights are scaled to a mean of
    1 over those that are not 0; then ``weight * std`` of each weighted parameter in all voxels, with the standard
    deviations of `Precision`, is reduced by its

    - ``worst``: p-norm with p = 60, a smooth maximum, 1 to n^(1/p) times the exact one of n values;
    - ``mean``: mean;
    - ``rms``: root of the mean of weight * std^2, that is, of the weighted trace of the covariance.

    For a design that is robust against B1, ``tissue`` holds every tissue at several B1 (`grids.at_each_b1`).

    Attributes:
      tissue: voxels that the sequence is designed for, of any shape.
      weights: name of a parameter -> weight of its standard deviation. What the signal model has as unknown, but is not
        wanted, is left out or has a weight of 0.
      reduce: ``worst``, ``mean`` or ``rms``.
      reference: None, or standard deviations of the voxels by which those of a sequence are divided, such as those of
        the sequence to improve on: the weights then are the gains wanted over that sequence.

    Raises:
      ValueError: no tissue; weights that are negative, not finite or all 0; or another ``reduce``.
    """

    tissue: TissueModel
    weights: dict[str, float] = dataclasses.field(default_factory=lambda: {"t1": 1.0, "t2": 1.0})
    reduce: str = dataclasses.field(default="mean", metadata={"static": True})
    reference: Precision | None = None

    def __post_init__(self):
        if not self.tissue.size:
            raise ValueError("CramerRaoObjective.tissue holds no voxels")
        for name, weight in self.weights.items():
            field, rule = f"CramerRaoObjective.weights[{name!r}]", "0 or more, and finite"
            require(field, weight, lambda x: (x >= 0) & np.isfinite(x), rule)
        if not is_traced(self.weights) and not any(weight > 0 for weight in self.weights.values()):
            raise ValueError(f"CramerRaoObjective: no weight is above 0 among {', '.join(self.weights) or 'none'}")
        if self.reduce not in REDUCTIONS:
            raise ValueError(f"CramerRaoObjective.reduce must be one of {', '.join(REDUCTIONS)}; got {self.reduce!r}")

    def __call__(self, sequence: Fisp, signal_model: SignalModel) -> jax.Array:
        """The number to minimise, differentiable by the sequence in reverse mode; inf for an undetermined voxel."""
        return self.evaluate(sequence, signal_model).value

    def evaluate(self, sequence: Fisp, signal_model: SignalModel) -> Outcome:
        """The number to minimise, with the standard deviations it is reduced from; raises what the model raises."""
        found = precision_of(signal_model(sequence, self.tissue), self.tissue)
        stds, weights = self._weighted(found)
        if self.reduce == "worst":
            value = _smooth_maximum(weights * stds)
        elif self.reduce == "rms":
            value = jnp.sqrt(jnp.mean(weights * stds**2, where=weights > 0))
        else:
            value = jnp.mean(weights * stds, where=weights > 0)
        return Outcome(value, found)

    def _weighted(self, found):
        """Standard deviations and their weights, (parameters, voxels) each; both 0 where the weight is 0."""

        def stacked(precision):
            return jnp.stack([precision.stds[name].ravel() for name in self.weights])

        stds = stacked(found)
        if self.reference is not None:
            stds /= stacked(self.reference)
        weights = jnp.stack([jnp.full(stds.shape[1], each, stds.dtype) for each in self.weights.values()])
        weights /= jnp.mean(weights, where=weights > 0)
        return jnp.where(weights > 0, stds, 0), weights


def require_finite(objective: CramerRaoObjective, sequence: Fisp, signal_model: SignalModel) -> Outcome:
    """Evaluates an objective where a design starts, and refuses a start without a gradient to follow.

    Raises:
      ValueError: the sequence leaves a tissue undetermined, which the error names: its standard deviations are
        infinite, and have no gradient.
    """
    outcome = objective.evaluate(sequence, signal_model)
    stds, weights = objective._weighted(outcome.precision)
    unknown = np.asarray((weights > 0) & ~jnp.isfinite(stds)).any(axis=0)
    if unknown.any():
        tissue = objective.tissue.ravel()
        first, known = int(np.argmax(unknown)), parameters(tissue)
        values = {
            name: np.broadcast_to(np.asarray(v), unknown.shape)[first]
            for name, v in vars(tissue).items()
            if v is not None
        }
        words = ", ".join(
            f"{known[name].name} = {value:.4g} {known[name].unit}".rstrip() for name, value in values.items()
        )
        raise ValueError(
            f"the sequence of {sequence.n_frames} frames does not determine {unknown.sum()} of {unknown.size} tissues, "
            f"the first with {words}: design needs a start that does"
        )
    if not np.isfinite(outcome.value):
        raise ValueError(f"the objective is {float(outcome.value):g} for the sequence: beyond the range of its dtype")
    return outcome


def _smooth_maximum(values):
    """The p-norm of ``values``, none negative, scaled so that no power overflows."""
    largest = jnp.max(values)
    scale = jax.lax.stop_gradient(jnp.where(jnp.isfinite(largest) & (largest > 0), largest, 1))
    return scale * jnp.sum((values / scale) ** _SHARPNESS) ** (1 / _SHARPNESS)
