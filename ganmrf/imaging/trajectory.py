"""Spiral readouts within the limits of the gradients, turned from frame to frame, and density compensation.

Trajectories are plain arrays, (frames, samples, 2): kx and ky in cycles per metre. Measured trajectories of this form
can be used in place of designed ones.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.imaging.nufft import image_to_kspace, kspace_to_image
from ganmrf.physics.constants import GYROMAGNETIC_RATIO
from ganmrf.pytrees import require_positive, require_whole

RASTER = 1e-5  # s, of gradient waveforms
GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))  # rad
_FINE = 16  # steps of the design in a raster time
_MARGIN = 0.99  # share of the limits to design for: the design is continuous, and the waveform in steps may exceed it
_ATTEMPTS = 5  # designs, each at a lower slew rate, where the steps of a short waveform still exceed the limit
_ITERATIONS = 20  # of the fixed point in `density_compensation`
_LONGEST = 0.2  # s, of a spiral: little signal lasts longer


@dataclasses.dataclass(frozen=True)
class Spiral:
    """One readout: the gradient waveform, and the points of k-space that are sampled.

    Attributes:
      gradient: x and y, T/m, in the middle of each raster time, (raster times, 2); the first and last values are 0, and
        the rewinder at the end makes the moment 0.
      k: kx and ky of the samples, cycles/m, (samples, 2).
      dwell_time: between samples, s; the first sample is half a dwell time after the start of the waveform.
    """

    gradient: np.ndarray
    k: np.ndarray
    dwell_time: float

    @property
    def largest_gradient(self) -> float:
        """Largest magnitude of the gradient, T/m; no rotation of the spiral needs more on one axis."""
        return float(np.linalg.norm(self.gradient, axis=1).max())

    @property
    def largest_slew_rate(self) -> float:
        """Largest magnitude of the slew rate, T/m/s; the ends rise from 0 and fall to 0 in half a raster time."""
        steps = np.diff(np.concatenate([-self.gradient[:1], self.gradient, -self.gradient[-1:]]), axis=0) / RASTER
        return float(np.linalg.norm(steps, axis=1).max())


def design_spiral(
    *,
    matrix: int = 256,
    field_of_view: float = 0.3,
    interleaves: int = 48,
    centre_density: float = 2.0,
    max_gradient: float = 0.04,
    max_slew_rate: float = 150.0,
    dwell_time: float = 4e-6,
) -> Spiral:
    """Designs a spiral of variable density, as short as the gradients allow, with a rewinder after it.

    Args:
      matrix: voxels along an edge of the image; the disc that is sampled touches the edges of its Nyquist square.
      field_of_view: edge of the image, m.
      interleaves: number of spirals, turned evenly, that together sample the edge of k-space at the Nyquist rate.
      centre_density: density of the samples at the centre, relative to the edge; the density falls linearly between.
      max_gradient: T/m, in any direction.
      max_slew_rate: T/m/s, in any direction.
      dwell_time: between samples, s; a long dwell time slows the spiral, so that samples resolve the field of view.

    Returns:
      The spiral; its samples end at the edge of the disc.

    Raises:
      ValueError: an argument out of range, or limits within which no such spiral is found.

    References:
      Lee et al. 2003, doi:10.1002/mrm.10644. Jiang et al. 2015, doi:10.1002/mrm.25559.
    """
    require_whole("matrix", matrix, 2)
    require_whole("interleaves", interleaves)
    require_positive("field_of_view", field_of_view)
    require_positive("centre_density", centre_density)
    require_positive("max_gradient", max_gradient)
    require_positive("max_slew_rate", max_slew_rate)
    require_positive("dwell_time", dwell_time)
    edge, turn = matrix / (2 * field_of_view), 2 * np.pi * field_of_view / interleaves
    # The samples along the spiral resolve the field of view.
    fastest = min(_MARGIN * GYROMAGNETIC_RATIO * max_gradient, 1 / (field_of_view * dwell_time))
    slew_rate = _MARGIN * max_slew_rate
    for _ in range(_ATTEMPTS):
        k = _shortest(turn, centre_density, edge, fastest, GYROMAGNETIC_RATIO * slew_rate)
        spiral = _played(k, edge, dwell_time, _MARGIN * max_gradient, _MARGIN * max_slew_rate)
        excess = spiral.largest_slew_rate / max_slew_rate
        if excess <= 1:
            return spiral
        slew_rate *= _MARGIN / excess
    raise ValueError(
        f"no spiral found within max_slew_rate of {max_slew_rate:.6g} T/m/s; the last needs {excess:.3g} of it"
    )


def rotation_angles(n_frames: int, rotation: str = "uniform", *, interleaves: int = 48) -> np.ndarray:
    """Angles by which the readouts of the frames are turned, rad, (frames,).

    The ``rotation`` from frame to frame is ``uniform``, by one of so many ``interleaves`` in a whole turn (7.5 degrees
    for 48), or ``golden``, by the golden angle; `ValueError` for another one.
    """
    if rotation not in ("uniform", "golden"):
        raise ValueError(f"rotation must be uniform or golden; got {rotation!r}")
    frames = np.arange(n_frames)
    if rotation == "golden":
        return frames * GOLDEN_ANGLE % (2 * np.pi)
    return frames % interleaves * (2 * np.pi / interleaves)


def rotated(k: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Turns one readout, (samples, 2), counter-clockwise from x to y, by angles (frames,), rad.

    The readout may be of points, cycles/m, or a waveform, T/m; turned it is (frames, samples, 2), float32.
    """
    cosine, sine = np.cos(angles), np.sin(angles)
    turn = np.array([[cosine, -sine], [sine, cosine]])
    return np.ascontiguousarray(np.einsum("ijf,sj->fsi", turn, k), np.float32)


def density_compensation(trajectory, shape: tuple[int, int], voxel_size) -> np.ndarray:
    """Weights of the samples with which the adjoint transform of all frames together gives the image.

    The trajectory is (frames, samples, 2), cycles/m, the shape of the image (y, x), and the voxel size along (y, x), m.
    The weights are the fixed point of ``w = w / (C w)``. C sums the weights around each sample with a kernel that is
    nowhere negative: in image space, the overlap of two discs as large as the field of view.

    Returns:
      (frames, samples), float32: ``A^H diag(w) A`` is nearly the identity for images whose k-space lies within the
      sampled disc.

    References:
      Pipe and Menon 1999, doi:10.1002/(SICI)1522-2594(199901)41:1<179::AID-MRM25>3.0.CO;2-V. Johnson and Pipe 2009,
      doi:10.1002/mrm.21840, for the kernel.
    """
    readouts, which = distinct(trajectory)
    points, repeats = readouts.reshape(-1, 2), np.bincount(which).repeat(readouts.shape[1]).astype(np.float32)
    overlap = _disc_overlap(shape)
    weights = jnp.full(len(points), 1 / repeats.sum(), jnp.float32)
    for _ in range(_ITERATIONS):
        weights = _rebalanced(weights, points, repeats, overlap, tuple(voxel_size))
    return np.asarray(weights).reshape(len(readouts), -1)[which]


def scaled_weights(weights, trajectory, shape: tuple[int, int], voxel_size) -> np.ndarray:
    """Weights of any scale, (frames, samples), with the scale of those of `density_compensation`, float32.

    The sum C w around each sample, which that function makes 1, is 1 in the mean over the given weights.
    """
    points = np.ascontiguousarray(trajectory, np.float32).reshape(-1, 2)
    flat = np.ascontiguousarray(weights, np.float32).ravel() / np.float32(np.sum(weights, dtype=float))
    once = np.ones_like(flat)
    rebalanced = np.asarray(_rebalanced(flat, points, once, _disc_overlap(shape), tuple(voxel_size)))
    around = np.divide(flat, rebalanced, out=np.zeros_like(flat), where=rebalanced > 0)
    return (flat / np.average(around, weights=flat)).astype(np.float32).reshape(np.shape(weights))


def _disc_overlap(shape):
    """Overlap of two discs as large as the field of view, by their distance, float32, (2 y, 2 x)."""
    y, x = (np.arange(-count, count) / count for count in shape)
    apart = np.minimum(np.hypot(y[:, None], x), 1)
    return (2 / np.pi * (np.arccos(apart) - apart * np.sqrt(1 - apart**2))).astype(np.float32)


def distinct(trajectory) -> tuple[np.ndarray, np.ndarray]:
    """The distinct readouts of a trajectory, (readouts, samples, 2), float32, and which each frame has, (frames,)."""
    trajectory = np.ascontiguousarray(trajectory, np.float32)
    flat = trajectory.reshape(len(trajectory), -1)
    _, first, which = np.unique(flat.view(f"V{flat.itemsize * flat.shape[1]}"), return_index=True, return_inverse=True)
    return trajectory[first], which.ravel()


@functools.partial(jax.jit, static_argnums=4)
def _rebalanced(weights, points, repeats, overlap, voxel_size):
    image = kspace_to_image((repeats * weights).astype(jnp.complex64), points, overlap.shape, voxel_size)
    return weights / jnp.abs(image_to_kspace(overlap * image, points, voxel_size))


def _shortest(turn, centre_density, edge, max_speed, max_acceleration):
    """The spiral ``k = r exp(i theta(r))`` to the edge, traversed as fast as the limits allow.

    With ``p = d theta / d r``, which falls linearly from ``centre_density * turn`` to ``turn``, the acceleration is
    ``exp(i theta) (r'' (1 + i r p) + r'^2 (i (2 p + r dp/dr) - r p^2))``. ``r''`` is the largest within the limits.

    Returns:
      k at the end of each raster time, cycles/m, (raster times, 2).
    """
    step = RASTER / _FINE
    slope = turn * (1 - centre_density) / edge
    radius = speed = angle = 0.0
    path = []
    while radius < edge or len(path) % _FINE:
        if len(path) * step > _LONGEST:
            raise ValueError(
                f"no spiral reaches the edge within {_LONGEST} s; it is at {radius:.4g} of {edge:.4g} cycles/m: "
                "max_gradient or max_slew_rate is too low, dwell_time too long, or matrix too large for interleaves"
            )
        p = centre_density * turn + slope * radius
        stretch = 1 + (radius * p) ** 2
        across, along = 2 * p + radius * slope, -radius * p**2  # factors of r'^2 in the directions i and 1
        middle = speed**2 * (along + across * radius * p)
        rest = speed**4 * (along**2 + across**2) - max_acceleration**2
        push = (-middle + np.sqrt(max(middle**2 - stretch * rest, 0))) / stretch
        speed = min(speed + step * push, max_speed / np.sqrt(stretch))
        radius += step * speed
        angle += step * speed * p
        path.append(radius * np.exp(1j * angle))
    path = np.array(path)[_FINE - 1 :: _FINE]
    return np.stack([path.real, path.imag], axis=1)


def _played(k, edge, dwell_time, max_gradient, max_slew_rate):
    """The waveform along k at the end of each raster time, its rewinder, and the samples up to the edge."""
    k = np.concatenate([np.zeros((2, 2)), k])  # a first step of 0, since half a raster time is short for the first rise
    out = np.diff(k, axis=0) / (GYROMAGNETIC_RATIO * RASTER)
    waveform = np.concatenate([out, _rewinder(out, max_gradient, max_slew_rate)])
    samples = _path(waveform, dwell_time * (np.arange(int(len(out) * RASTER / dwell_time)) + 0.5))
    beyond = np.linalg.norm(samples, axis=1) > edge
    return Spiral(waveform, samples[: np.argmax(beyond)] if beyond.any() else samples, dwell_time)


def _rewinder(gradient, max_gradient, max_slew_rate):
    """Gradients that bring a waveform to 0, and then its moment, in a straight line: (raster times, 2), ending in 0."""
    import pypulseq  # here: it takes a second, and most programs design no spiral

    last = gradient[-1]
    steps = int(np.ceil(np.linalg.norm(last) / (max_slew_rate * RASTER)))
    down = last * np.linspace(1, 0, steps + 1)[1:, None]
    moment = RASTER * (gradient.sum(axis=0) + down.sum(axis=0))
    system = pypulseq.Opts(
        max_grad=1e3 * max_gradient,
        grad_unit="mT/m",
        max_slew=max_slew_rate,
        slew_unit="T/m/s",
        grad_raster_time=RASTER,
        gamma=GYROMAGNETIC_RATIO,
    )
    back = pypulseq.make_trapezoid("x", area=GYROMAGNETIC_RATIO * np.linalg.norm(moment), system=system)
    knots = np.cumsum([0, back.rise_time, back.flat_time, back.fall_time])
    middles = RASTER * (np.arange(round(knots[-1] / RASTER) + 1) + 0.5)
    height = np.interp(middles, knots, [0, 1, 1, 0], right=0)
    return np.concatenate([down, -moment * (height / (RASTER * height.sum()))[:, None]])


def _path(gradient, times):
    """K at some times, for a waveform that is linear between the middles of raster times and 0 at its start."""
    knots = RASTER * np.concatenate([[0], np.arange(len(gradient)) + 0.5])
    values = np.concatenate([np.zeros((1, 2)), gradient])
    areas = np.diff(knots)[:, None] * (values[1:] + values[:-1]) / 2
    before = np.concatenate([np.zeros((1, 2)), np.cumsum(areas, axis=0)])
    segment = np.searchsorted(knots, times, side="right") - 1
    into = (times - knots[segment])[:, None]
    slope = np.diff(values, axis=0) / np.diff(knots)[:, None]
    segment = np.minimum(segment, len(slope) - 1)
    return GYROMAGNETIC_RATIO * (before[segment] + into * (values[segment] + into * slope[segment] / 2))
