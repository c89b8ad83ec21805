"""RF pulse -> slice profile -> the few flip-angle scales and weights that stand for the whole slice.

The profile here is the small-tip one, scaled by the flip angle: p(z) is the same for every frame, so the signal of the
slice is an integral over the *distribution* of p, and Gauss quadrature in p needs far fewer nodes than positions in z.
A profile whose shape or phase changes with the flip angle (a Bloch-simulated pulse, high flip angles) is outside this.
"""

import dataclasses

import jax
import numpy as np
import scipy.special

from ganmrf.pytrees import is_traced, pytree, require, require_positive

N_POSITIONS = 1024  # in the slice, of which fewer nodes are made
MAX_TIME_BANDWIDTH = 100.0  # the edges of such a slice are 10 positions wide; pulses have 2 to 20
WINDOWS = {"hann": 0.5, "hamming": 0.46, "none": 0.0}  # share a of the cosine: (1 - a) + a cos(2 pi t / duration)


@pytree
@dataclasses.dataclass(frozen=True)
class SliceProfile:
    """Quadrature over a slice: the signal is the sum over nodes of ``weights * signal(flip_angle * nodes)``.

    Attributes:
      nodes: actual over nominal flip angle at each node, dimensionless, (nodes,).
      weights: share of the slice at each node, positive with sum 1, (nodes,).

    Raises:
      ValueError: nodes that are not finite, weights that are not positive or whose sum is not 1, or shapes that
        disagree.
    """

    nodes: np.ndarray | jax.Array
    weights: np.ndarray | jax.Array

    def __post_init__(self):
        nodes, weights = np.shape(self.nodes), np.shape(self.weights)
        if len(nodes) != 1 or nodes != weights or nodes == (0,):
            raise ValueError(
                f"SliceProfile.nodes and weights must both be (nodes,), not empty; got {nodes} and {weights}"
            )
        require("SliceProfile.nodes", self.nodes, np.isfinite, "finite")
        require_positive("SliceProfile.weights", self.weights)
        if not is_traced(self.weights):
            total = np.sum(np.asarray(self.weights, float))
            # Rounding of many float32 weights stays well below this; a forgotten normalisation does not.
            if abs(total - 1) > 1e-4:
                raise ValueError(f"SliceProfile.weights must sum to 1; got {total:.6g}")


def sinc_profile(position, *, time_bandwidth: float = 8.0, window: str = "hann") -> np.ndarray:
    """Relative flip angle across the slice of a windowed-sinc pulse, in the small-tip approximation.

    The profile is the Fourier transform of the pulse ``window(t) sinc(time_bandwidth * t)``, ``|t| <= 1/2`` durations,
    in closed form (sine integrals), scaled to 1 at the slice centre. It is real: the refocusing gradient is perfect.

    Args:
      position: distance from the slice centre in slice thicknesses (pulse bandwidth over gradient), any shape.
      time_bandwidth: pulse duration times bandwidth, the number of zero crossings of the sinc, positive.
      window: ``"hann"``, ``"hamming"`` or ``"none"``.

    Returns:
      Actual over nominal flip angle at each position, float64, the shape of ``position``.

    Raises:
      ValueError: a ``time_bandwidth`` that is not positive and finite, or an unknown window.

    References:
      Pauly, Nishimura & Macovski 1989, doi:10.1016/0022-2364(89)90265-5.
    """
    require_positive("time_bandwidth", time_bandwidth)
    if window not in WINDOWS:
        raise ValueError(f"window must be one of {', '.join(WINDOWS)}; got {window!r}")
    position, share = np.asarray(position, float), WINDOWS[window]

    def unwindowed(z):
        upper, _ = scipy.special.sici(np.pi * time_bandwidth * (z + 0.5))
        lower, _ = scipy.special.sici(np.pi * time_bandwidth * (z - 0.5))
        return upper - lower

    def windowed(z):
        # A cosine of one period per pulse moves the profile by 1 / time_bandwidth to either side.
        neighbours = unwindowed(z + 1 / time_bandwidth) + unwindowed(z - 1 / time_bandwidth)
        return (1 - share) * unwindowed(z) + share / 2 * neighbours

    return windowed(position) / windowed(0.0)


def sinc_slice_profile(
    n_nodes: int = 12, *, time_bandwidth: float = 8.0, window: str = "hann", n_positions: int = N_POSITIONS
) -> SliceProfile:
    """The slice of a windowed-sinc pulse as a quadrature rule of ``n_nodes`` flip-angle scales.

    Every position counts the same: uniform spin density and receive sensitivity through the slice. The profile, that of
    `sinc_profile`, is even in z, so its ``n_positions`` (1 or more, whose mean the rule reproduces) are the midpoints
    of equal steps from the slice's centre to one slice thickness away. A simulation takes ``n_nodes`` times as long.

    Returns:
      Nodes and weights, float64, (n_nodes,) each; fewer where the profile takes fewer values.

    Raises:
      ValueError: an argument outside its range, or an unknown window.
    """
    require("n_positions", n_positions, lambda x: x >= 1, "1 or more")
    position = (np.arange(n_positions) + 0.5) / n_positions
    profile = sinc_profile(position, time_bandwidth=time_bandwidth, window=window)
    return gauss_quadrature(profile, np.full(n_positions, 1 / n_positions), n_nodes)


def gauss_quadrature(values, weights, n_nodes: int) -> SliceProfile:
    """The ``n_nodes`` scales and weights that stand best for many: Gauss quadrature of their distribution.

    The rule integrates polynomials in the value up to degree ``2 n_nodes - 1`` as the full sum does, so a signal smooth
    in the flip angle converges exponentially. It works for any sampled profile, and thins a rule. Where ``n_nodes``
    reaches the number of distinct values, the nodes are those values.

    Args:
      values: actual over nominal flip angle, real, (positions,).
      weights: share of the slice at each value, positive with sum 1, (positions,).
      n_nodes: nodes of the rule, 1 or more.

    Returns:
      Nodes in ascending order within the range of ``values``, and weights; float64, (n_nodes,) each at most.

    Raises:
      ValueError: ``n_nodes`` below 1, or values and weights that `SliceProfile` refuses.

    References:
      Golub & Welsch 1969, doi:10.1090/S0025-5718-69-99647-1.
    """
    require("n_nodes", n_nodes, lambda x: x >= 1, "1 or more")
    full = SliceProfile(np.asarray(values, float), np.asarray(weights, float))
    distinct, place = np.unique(full.nodes, return_inverse=True)
    share = np.bincount(place, full.weights)
    share /= share.sum()
    if n_nodes >= distinct.size:
        return SliceProfile(distinct, share)
    diagonal, off_diagonal = _lanczos(distinct, np.sqrt(share), n_nodes)
    nodes, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(off_diagonal, 1) + np.diag(off_diagonal, -1))
    return SliceProfile(nodes, vectors[0] ** 2)


def _lanczos(values, start, n_steps):
    """Diagonal and off-diagonal of diag(values) in the Krylov basis of ``start`` (unit norm), ``n_steps`` at most."""
    basis = np.empty((n_steps, values.size))
    basis[0], diagonal, off_diagonal = start, [], []
    for n in range(1, n_steps + 1):
        step = values * basis[n - 1]
        diagonal.append(step @ basis[n - 1])
        if n == n_steps:
            break
        # Orthogonal to all rows before, not to two: the recurrence loses orthogonality. The second pass removes
        # the rounding of the first.
        for _ in range(2):
            step = step - (basis[:n] @ step) @ basis[:n]
        norm = np.linalg.norm(step)
        # A norm within 50 roundings of float64 is that of values which differ by rounding only: the rule is exact.
        if norm <= 1e-14 * np.abs(values).max():
            break
        off_diagonal.append(norm)
        basis[n] = step / norm
    return diagonal, off_diagonal
