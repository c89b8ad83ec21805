"""Models of a slice: what stands for the integral of a signal over position, in slice thicknesses.

- `FullSlice`: isochromats across the slice, turned by the pulse that is played and dephased by the spoiler: the truth.
- `PartitionedSlice`: the pulse's rotations, with a phase graph of its own at every position, as if the spoiler dephased
  any thin part of the slice completely: wrong where the spoiler has fewer turns than the pulse's time-bandwidth.
- `small_tip`, a `SliceProfile`: a profile that is scaled by the flip angle, as in most dictionaries. Its p(z) is the
  same for every frame, so the signal of the slice is an integral over the *distribution* of p, and Gauss quadrature in
  p needs far fewer nodes than positions. T2 comes out 5 to 25 % low for the paper's schedule and 4 turns or more.
"""

import dataclasses

import jax
import numpy as np
import scipy.special

from ganmrf.physics.rf_pulse import WINDOWS, RfPulse
from ganmrf.pytrees import pytree, require, require_positive, require_whole

N_POSITIONS = 1024  # in the slice, of which fewer nodes are made
MAX_TIME_BANDWIDTH = 100.0  # the edges of such a slice are 10 positions wide; pulses have 2 to 20
# Slice thicknesses from the middle to either end: beyond it a windowed sinc of time-bandwidth 8 leaves 6e-5 of the
# signal, one of 4 5e-4.
EXTENT = 1.5
MIDPOINTS = 64  # of a partitioned slice: signals of a time-bandwidth of 8 and a T2 of 0.1 s are within 2e-5 of any more


@pytree
@dataclasses.dataclass(frozen=True)
class FullSlice:
    """Isochromats across the slice, turned by the rotations of the pulse, and dephased in each frame.

    For JAX it is a part of a tree's structure, and has no leaf: the number of positions depends on all of it.

    Positions are as many as the tissue's T2 and the accuracy ask for (`ganmrf.physics.n_states`). Off-resonance, any RF
    phase and any number of turns cost no more than in a slice without them.

    Attributes:
      pulse: every pulse of the sequence but those of preparations, which are played alike everywhere.
      turns: of dephasing across one slice thickness in each frame, in the sense of the off-resonance; of a frame with
        several ``Train.turns`` as often. Any number: 0 in a balanced sequence.
      extent: slice thicknesses from the middle to either end of what is integrated.

    Raises:
      ValueError: turns that are not finite, or an extent that is not positive.
    """

    pulse: RfPulse
    turns: float = dataclasses.field(metadata={"static": True})
    extent: float = dataclasses.field(default=EXTENT, metadata={"static": True})

    def __post_init__(self):
        require("FullSlice.turns", self.turns, np.isfinite, "finite")
        require_positive("FullSlice.extent", self.extent)
        for name in ("turns", "extent"):
            object.__setattr__(self, name, float(getattr(self, name)))

    @property
    def is_real(self) -> bool:
        """Whether signals are real where they are in a uniform slice."""
        return self.pulse.is_real


@pytree
@dataclasses.dataclass(frozen=True)
class PartitionedSlice:
    """A phase graph at each of some positions across the slice, with the rotations that the pulse is there.

    Attributes:
      pulse: every pulse of the sequence but those of preparations, which are played alike everywhere.
      n_positions: at the midpoints of equal steps from the middle of the slice to its end.
      phases: whether the phases of the pulse's rotations count; without them states are real, and 2.5 times as fast.
      extent: slice thicknesses from the middle to either end of what is integrated.

    Raises:
      ValueError: no position, or an extent that is not positive.
    """

    pulse: RfPulse
    n_positions: int = dataclasses.field(default=MIDPOINTS, metadata={"static": True})
    phases: bool = dataclasses.field(default=True, metadata={"static": True})
    extent: float = dataclasses.field(default=EXTENT, metadata={"static": True})

    def __post_init__(self):
        require_whole("PartitionedSlice.n_positions", self.n_positions)
        require_positive("PartitionedSlice.extent", self.extent)
        object.__setattr__(self, "n_positions", int(self.n_positions))
        object.__setattr__(self, "extent", float(self.extent))

    @property
    def is_real(self) -> bool:
        """Whether signals are real where they are in a uniform slice."""
        return self.pulse.is_real


@pytree
@dataclasses.dataclass(frozen=True)
class SliceProfile:
    """Quadrature over a slice: the signal is the sum over nodes of ``weights * signal(flip_angle * nodes)``.

    Attributes:
      nodes: actual over nominal flip angle at each node, dimensionless, (nodes,).
      weights: of each node, positive, (nodes,): slice thicknesses, or shares of a slice whose mean signal is meant.

    Raises:
      ValueError: nodes that are not finite, weights that are not positive, or shapes that disagree.
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

    @property
    def is_real(self) -> bool:
        """Whether signals are real where they are in a uniform slice."""
        return True


SliceModel = FullSlice | PartitionedSlice | SliceProfile


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


def small_tip_profile(pulse: RfPulse, position) -> np.ndarray:
    """Relative flip angle across the slice in the small-tip approximation: the real part of the samples' transform.

    ``position`` is in slice thicknesses, any shape; the result has its shape, float64, and is 1 in the middle.

    References:
      Pauly, Nishimura & Macovski 1989, doi:10.1016/0022-2364(89)90265-5.
    """
    n_samples = np.size(pulse.samples)
    turn = 2 * np.pi * float(pulse.time_bandwidth) * (((np.arange(n_samples) + 0.5) / n_samples) - 0.5)
    return (np.exp(1j * np.multiply.outer(np.asarray(position, float), turn)) @ np.asarray(pulse.samples)).real


def small_tip(pulse: RfPulse, n_nodes: int = 12, extent: float = EXTENT) -> SliceProfile:
    """The slice of a pulse in the small-tip approximation, scaled by the flip angle, as ``n_nodes`` flip-angle scales.

    The signal is integrated over position, in slice thicknesses, up to ``extent`` of them from the middle to either
    side: the weights' sum is twice that. A simulation takes ``n_nodes`` times as long as that of a uniform slice.

    Raises:
      ValueError: ``n_nodes`` below 1, or an extent that is not positive.
    """
    require_positive("extent", extent)
    position = extent * ((np.arange(2 * N_POSITIONS) + 0.5) / N_POSITIONS - 1)
    weights = np.full(len(position), extent / N_POSITIONS)
    return gauss_quadrature(small_tip_profile(pulse, position), weights, n_nodes)


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
      weights: of each value, positive, (positions,); the rule's have the same sum.
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
    if n_nodes >= distinct.size:
        return SliceProfile(distinct, share)
    total = share.sum()
    share /= total
    diagonal, off_diagonal = _lanczos(distinct, np.sqrt(share), n_nodes)
    nodes, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(off_diagonal, 1) + np.diag(off_diagonal, -1))
    return SliceProfile(nodes, total * vectors[0] ** 2)


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
