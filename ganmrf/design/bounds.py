"""Cramer-Rao bounds of a sequence: how precisely T1, T2, M0 and B1 can be estimated from its signals.

All standard deviations are relative (that of T1 divided by T1) and hold for noise of standard deviation abs(M0): where
M0 is 100 times the noise, they are 100 times smaller. They bound unbiased estimates from one voxel's signal from below.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.design.signal_models import simulator_model
from ganmrf.dictionary.cramer_rao import cramer_rao, least_squares_std
from ganmrf.physics.sequences.fisp import Sequence
from ganmrf.physics.simulate import SignalTangents
from ganmrf.physics.slice_profile import SliceProfile
from ganmrf.physics.tissue import Tissue
from ganmrf.pytrees import is_traced, pytree

_ORTHONORMAL = 1e-3  # largest error of the inner products of a basis; one in float32 stays far below it


@pytree
@dataclasses.dataclass(frozen=True)
class Precision:
    """Relative standard deviations, dimensionless, each of the tissue's shape; inf for a parameter no signal shows.

    Attributes:
      t1: of T1.
      t2: of T2.
      m0: of abs(M0).
      b1: of B1; None where B1 is known.
    """

    t1: jax.Array
    t2: jax.Array
    m0: jax.Array
    b1: jax.Array | None = None


def precision(
    sequence: Sequence,
    tissue: Tissue,
    *,
    n_states: int | None = None,
    slice_profile: SliceProfile | None = None,
    with_b1: bool = False,
    basis=None,
) -> Precision:
    """The Cramer-Rao bound of T1, T2 and complex M0 for noise of standard deviation abs(M0), differentiable.

    Args:
      sequence: the pulse sequence; reverse mode by it has a hand-written adjoint.
      tissue: voxels of any shape.
      n_states: as for `simulate_with_tangents`.
      slice_profile: quadrature over the slice; None for a uniform slice.
      with_b1: whether B1 is unknown too, and estimated.
      basis: orthonormal, (frames, rank): the coefficients of the signal in it are measured; None for all frames.

    Raises:
      ValueError: ``n_states`` below 1, or a basis of other frames or not orthonormal.

    References:
      Zhao et al. 2018, arXiv:1710.08062.
    """
    signal_model = simulator_model(n_states=n_states, slice_profile=slice_profile)
    return precision_of(signal_model(sequence, tissue, with_b1=with_b1), tissue, basis=basis)


def precision_of(tangents: SignalTangents, tissue: Tissue, *, basis=None, noise=1.0, aliases=None) -> Precision:
    """`precision` from signals and their derivatives; B1 counts as unknown where ``tangents`` has a derivative by B1.

    Args:
      tangents: what a signal model returns for the tissue.
      tissue: the tissue, of any shape.
      basis: as for `precision`.
      noise: standard deviation of the real, and of the imaginary, part of each frame, divided by abs(M0).
      aliases: None, or the variance that aliases add to each frame, divided by abs(M0)^2, (frames,). With aliases the
        result is not the bound but what least squares with equal weights attains, as matching has them
        (`cramer_rao.least_squares_std`).

    Raises:
      ValueError: a basis of other frames or not orthonormal.
    """
    times = {"t1": tissue.t1, "t2": tissue.t2}
    if tangents.d_b1 is not None:
        times["b1"] = tissue.b1
    signal, n_frames = tangents.signal, tangents.signal.shape[-1]
    relative = [
        jnp.broadcast_to(value, tissue.shape)[..., None] * getattr(tangents, f"d_{name}")
        for name, value in times.items()
    ]
    basis = None if basis is None else _orthonormal(basis, n_frames).astype(signal.dtype)
    if aliases is not None:
        spread = jnp.sqrt(noise**2 + aliases)
        stds, m0 = least_squares_std(signal, relative, 1.0, spread.astype(signal.dtype), basis)
    else:
        project = (lambda rows: rows) if basis is None else (lambda rows: jnp.matmul(rows, basis, precision="highest"))
        stds, m0 = cramer_rao(project(signal), [*map(project, relative)], 1.0, noise)
    return Precision(m0=m0, **dict(zip(times, stds, strict=True)))


def scan_time(sequence: Sequence) -> jax.Array:
    """Time from the inversion to the end of the last frame, s, a scalar."""
    total = jnp.sum(sequence.repetition_time)
    return total if sequence.inversion_time is None else sequence.inversion_time + total


def per_root_second(precision: Precision, sequence: Sequence) -> Precision:
    """The precision of one second of scanning, in sqrt(s): a sequence of half a second is averaged over two repeats.

    Sequences of different lengths are compared by it: one twice as long must be sqrt(2) times as precise to be as good.
    """
    root = jnp.sqrt(scan_time(sequence))
    return jax.tree.map(lambda std: root * std, precision)


def _orthonormal(basis, n_frames):
    basis = jnp.asarray(basis)
    if basis.ndim != 2 or len(basis) != n_frames:
        raise ValueError(f"basis must be ({n_frames}, rank), as the sequence has {n_frames} frames; got {basis.shape}")
    if not is_traced(basis):
        known = np.asarray(basis)
        if (error := np.abs(known.conj().T @ known - np.eye(known.shape[1])).max()) > _ORTHONORMAL:
            raise ValueError(f"basis must be orthonormal; its inner products are {error:.2g} off")
    return basis
