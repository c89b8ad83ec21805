"""The objective of a design: the standard deviations of T1 and T2 in chosen tissues, reduced to one number."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.design.bounds import Precision, per_root_second, precision_of, scan_time
from ganmrf.design.signal_models import SignalModel
from ganmrf.dictionary import grids
from ganmrf.physics.sequences.fisp import Sequence
from ganmrf.physics.tissue import Tissue
from ganmrf.pytrees import is_traced, pytree, require

PARAMETERS = ("t1", "t2", "m0", "b1")
REDUCTIONS = ("worst", "mean", "rms")


@pytree
@dataclasses.dataclass(frozen=True)
class Outcome:
    """The value of an objective for one sequence, and the standard deviations it was reduced from.

    Attributes:
      value: of the objective; smaller is better.
      worst: the largest weighted standard deviation; exactly, where the objective may smooth the maximum.
      mean: the mean of the weighted standard deviations.
      precision: of each voxel, neither weighted nor per scan time.
      scan_time: s.
    """

    value: jax.Array
    worst: jax.Array
    mean: jax.Array
    precision: Precision
    scan_time: jax.Array


@pytree
@dataclasses.dataclass(frozen=True)
class CramerRaoObjective:
    """An objective for sequences, to be minimised: one number from the relative standard deviations in some tissues.

    ``objective(sequence, signal_model)`` returns the number: dimensionless, for noise of ``noise`` times M0, or in
    sqrt(s) where ``per_scan_time``. Weights are scaled to a mean of 1 over all pairs of a parameter and a voxel whose
    weight is not 0; then ``weight * std`` is reduced by its

    - ``worst``: p-norm with p = ``sharpness``, a smooth maximum, 1 to n^(1/p) times the exact one of n values;
    - ``mean``: mean;
    - ``rms``: root of the mean of weight * std^2, that is, of the weighted trace of the covariance.

    For a design that is robust against B1, ``tissue`` holds every tissue at several B1 (`at_each_b1`).

    Attributes:
      tissue: voxels that the sequence is designed for, of any shape.
      weight_t1: of the relative standard deviation of T1.
      weight_t2: of that of T2.
      weight_m0: of that of abs(M0).
      weight_b1: of that of B1.
      tissue_weights: of each voxel, of a shape that broadcasts to the tissue's.
      reduce: ``worst``, ``mean`` or ``rms``.
      sharpness: of ``worst``, 1 or more.
      with_b1: whether B1 is unknown too, and estimated.
      per_scan_time: whether the number is multiplied by the root of the scan time, and so is per root second.
      noise: standard deviation of noise over M0.
      alias_power: None for white noise alone; or the variance of the real, and of the imaginary, part of the factor
        with which the image's signal aliases into a voxel, dimensionless. Where spirals change from frame to frame this
        factor has zero mean and is new in every frame: aliases then are noise of variance ``alias_power`` times the
        mean of the voxels' squared signals in that frame, weighted by ``tissue_weights``. The standard deviations are
        those of least squares with equal weights (`precision_of`). Errors that correlate between frames, such as the
        smooth ones of slowly turning spirals, are outside this model.
      basis: as for `precision`, or None.
      reference: None, or standard deviations of the voxels by which those of a sequence are divided, such as those of
        the sequence to improve on: the weights then are the gains wanted over that sequence.

    Raises:
      ValueError: no tissue; weights that are negative, not finite, of another shape or all 0; a ``weight_b1`` where B1
        is known; another ``reduce``; a ``sharpness`` below 1; or noise that is not positive.

    References:
      Stolk & Sbrizzi 2019, doi:10.1109/TMI.2019.2900585, for aliases as errors that go with the signals of the object.
    """

    tissue: Tissue
    weight_t1: float = 1.0
    weight_t2: float = 1.0
    weight_m0: float = 0.0
    weight_b1: float = 0.0
    tissue_weights: np.ndarray | jax.Array | float = 1.0
    reduce: str = dataclasses.field(default="mean", metadata={"static": True})
    sharpness: float = dataclasses.field(default=20.0, metadata={"static": True})
    with_b1: bool = dataclasses.field(default=False, metadata={"static": True})
    per_scan_time: bool = dataclasses.field(default=False, metadata={"static": True})
    noise: float = 1.0
    alias_power: float | None = None
    basis: np.ndarray | jax.Array | None = None
    reference: Precision | None = None

    def __post_init__(self):
        if not self.tissue.size:
            raise ValueError("CramerRaoObjective.tissue holds no voxels")
        names = [f"weight_{name}" for name in PARAMETERS]
        for name in ("tissue_weights", *names):
            require(
                f"CramerRaoObjective.{name}",
                getattr(self, name),
                lambda x: (x >= 0) & np.isfinite(x),
                "0 or more, and finite",
            )
        shape = np.shape(self.tissue_weights)
        if not _broadcasts(shape, self.tissue.shape):
            raise ValueError(f"CramerRaoObjective.tissue_weights has shape {shape}, but tissue has {self.tissue.shape}")
        for group in (names, ["tissue_weights"]):
            values = [getattr(self, name) for name in group]
            if not is_traced(values) and not any(np.any(np.asarray(value) > 0) for value in values):
                raise ValueError(f"CramerRaoObjective: no weight is above 0 among {', '.join(group)}")
        if not self.with_b1 and not is_traced(self.weight_b1) and self.weight_b1 > 0:
            raise ValueError("CramerRaoObjective.weight_b1 must be 0 where B1 is known; with_b1=True makes it unknown")
        if self.reduce not in REDUCTIONS:
            raise ValueError(f"CramerRaoObjective.reduce must be one of {', '.join(REDUCTIONS)}; got {self.reduce!r}")
        require(
            "CramerRaoObjective.sharpness", self.sharpness, lambda x: (x >= 1) & np.isfinite(x), "1 or more, and finite"
        )
        require("CramerRaoObjective.noise", self.noise, lambda x: (x > 0) & np.isfinite(x), "positive and finite")
        if self.alias_power is not None:
            rule = "0 or more, and finite (None for white noise alone)"
            require("CramerRaoObjective.alias_power", self.alias_power, lambda x: (x >= 0) & np.isfinite(x), rule)

    def __call__(self, sequence: Sequence, signal_model: SignalModel) -> jax.Array:
        """The number to minimise, differentiable by the sequence in reverse mode; inf for an undetermined voxel."""
        return self.evaluate(sequence, signal_model).value

    def evaluate(self, sequence: Sequence, signal_model: SignalModel) -> Outcome:
        """The number to minimise, with the standard deviations it is reduced from.

        Raises:
          ValueError: what the signal model raises, or a basis of other frames or not orthonormal.
        """
        tangents = signal_model(sequence, self.tissue, with_b1=self.with_b1)
        found = precision_of(
            tangents, self.tissue, basis=self.basis, noise=self.noise, aliases=self._aliases(tangents.signal)
        )
        seconds = scan_time(sequence)
        stds, weights = self._weighted(per_root_second(found, sequence) if self.per_scan_time else found)
        weighted = weights * stds
        mean, worst = jnp.mean(weighted, where=weights > 0), jnp.max(weighted)
        if self.reduce == "worst":
            value = _smooth_maximum(weighted, self.sharpness)
        elif self.reduce == "rms":
            value = jnp.sqrt(jnp.mean(weights * stds**2, where=weights > 0))
        else:
            value = mean
        return Outcome(value, worst, mean, found, seconds)

    def _voxel_weights(self, dtype):
        return jnp.broadcast_to(jnp.asarray(self.tissue_weights, dtype), self.tissue.shape).ravel()

    def _aliases(self, signal):
        """Variance that aliases add to each frame, (frames,); None without aliases."""
        if self.alias_power is None:
            return None
        shares = self._voxel_weights(signal.dtype)
        energies = signal.reshape(shares.size, -1) ** 2
        return self.alias_power * jnp.sum((shares / jnp.sum(shares))[:, None] * energies, axis=0)

    def _weighted(self, found):
        """Standard deviations and their weights, (parameters, voxels) each; both 0 where the weight is 0."""
        names = PARAMETERS if self.with_b1 else PARAMETERS[:-1]
        stds = jnp.stack([getattr(found, name).ravel() for name in names])
        if self.reference is not None:
            stds /= jnp.stack([getattr(self.reference, name).ravel() for name in names])
        of_parameters = jnp.stack([jnp.asarray(getattr(self, f"weight_{name}"), stds.dtype) for name in names])
        weights = of_parameters[:, None] * self._voxel_weights(stds.dtype)[None, :]
        weights /= jnp.mean(weights, where=weights > 0)
        return jnp.where(weights > 0, stds, 0), weights


def at_each_b1(tissue: Tissue, b1, tissue_weights=1.0, b1_weights=1.0) -> tuple[Tissue, np.ndarray]:
    """Every tissue at every B1, and the weights of these pairs, for a `CramerRaoObjective` that is robust against B1.

    Args:
      tissue: voxels of any shape; their own B1 is multiplied by each value.
      b1: values, (values,): a grid, or draws of a distribution.
      tissue_weights: of the tissues, of their shape or one number.
      b1_weights: of the values, as a distribution has them, (values,) or one number.

    Returns:
      Tissue and weights, (tissues * values,).

    Raises:
      ValueError: a B1 that is not positive and finite.
    """
    weights = np.outer(
        np.broadcast_to(tissue_weights, tissue.shape).ravel(), np.broadcast_to(b1_weights, np.size(b1)).ravel()
    )
    return grids.at_each_b1(tissue, b1, b1_slowest=False), weights.ravel()


def require_finite(objective: CramerRaoObjective, sequence: Sequence, signal_model: SignalModel) -> Outcome:
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
        first = int(np.argmax(unknown))
        t1, t2, b1 = (np.broadcast_to(np.asarray(v), unknown.shape)[first] for v in (tissue.t1, tissue.t2, tissue.b1))
        raise ValueError(
            f"the sequence of {sequence.n_frames} frames does not determine {unknown.sum()} of {unknown.size} tissues, "
            f"the first with T1 = {t1:.4g} s, T2 = {t2:.4g} s, B1 = {b1:.4g}: design needs a start that does"
        )
    if not np.isfinite(outcome.value):
        raise ValueError(f"the objective is {float(outcome.value):g} for the sequence: beyond the range of its dtype")
    return outcome


def _smooth_maximum(values, sharpness):
    """The p-norm of ``values``, none negative, scaled so that no power overflows."""
    largest = jnp.max(values)
    scale = jax.lax.stop_gradient(jnp.where(jnp.isfinite(largest) & (largest > 0), largest, 1))
    return scale * jnp.sum((values / scale) ** sharpness) ** (1 / sharpness)


def _broadcasts(shape, target):
    try:
        return np.broadcast_shapes(shape, target) == target
    except ValueError:
        return False
