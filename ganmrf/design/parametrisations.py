"""Sequences within `Limits` as functions of unconstrained parameters, which a gradient may change freely."""

import dataclasses
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

from ganmrf.design import lobe_fit
from ganmrf.design.constraints import (
    inside,
    inversion_bounds,
    meet_sum,
    nearest_within,
    pairwise_sum,
    restrict_angles,
    restrict_saturation,
    scan_bounds,
    with_fields,
)
from ganmrf.design.limits import Limits, check_feasible, violations
from ganmrf.physics.sequences import random
from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.pytrees import require_positive, require_whole

FIELDS = ("flip_angle", "repetition_time", "inversion_time", "saturation_angle")
_SATURATION = 0.1  # of its range: where saturation of a start that has none begins, since at 0 its gradient is 0
EDGE = 1e-3  # starts keep this share of a range from either bound: at the bound the sigmoid's gradient is 0
_BEYOND = 30.0  # the sigmoid of +-30 is 0 or 1 in float32


@dataclasses.dataclass(frozen=True)
class Frames:
    """One free value for every frame."""

    def encode_angles(self, values: np.ndarray):
        return _logit(values)

    def decode_angles(self, params, n_frames: int) -> jax.Array:
        del n_frames  # the parameters have it as their length
        return jax.nn.sigmoid(params)

    encode_times, decode_times = encode_angles, decode_angles


@dataclasses.dataclass(frozen=True)
class Spline:
    """Uniform cubic B-splines; their values stay within the range of their coefficients.

    Attributes:
      knot_spacing: frames between two knots.

    Raises:
      ValueError: a spacing that is not positive.
    """

    knot_spacing: float = 20

    def __post_init__(self):
        require_positive("Spline.knot_spacing", self.knot_spacing)

    def encode_angles(self, values: np.ndarray):
        n_knots = 3 + max(1, round(len(values) / self.knot_spacing))
        with jax.enable_x64(True):
            each = jax.vmap(lambda knots: random.splines(knots, n_knots, len(values)), out_axes=1)
            basis = jax.jit(each)(np.eye(n_knots))
        q, r = np.linalg.qr(np.asarray(basis))
        # Offsets from the middle of the range: of many solutions, with few frames, the one with the smallest offsets.
        half = 0.5 - EDGE
        return _logit(0.5 + scipy.optimize.lsq_linear(r, q.T @ (values - 0.5), (-half, half)).x)

    def decode_angles(self, params, n_frames: int) -> jax.Array:
        return random.splines(jax.nn.sigmoid(params), params.shape[0], n_frames)

    encode_times, decode_times = encode_angles, decode_angles


@dataclasses.dataclass(frozen=True)
class Lobes:
    """Flip angles of half-sine lobes over a floor, with free peaks, lengths and floor; repetition times of a spline.

    Attributes:
      n_lobes: number of lobes; none becomes shorter than a tenth of the mean length.
      knot_spacing: frames between two knots of the repetition times.

    Raises:
      ValueError: no lobes, or a spacing that is not positive.
    """

    n_lobes: int = 5
    knot_spacing: float = 40

    def __post_init__(self):
        require_whole("Lobes.n_lobes", self.n_lobes)
        Spline(self.knot_spacing)

    def encode_angles(self, values: np.ndarray):
        """Parameters of the nearest lobes: the best ends on a raster, then least squares in all parameters."""
        peaks, shares, floor = lobe_fit.fit_on_raster(values, self.n_lobes)
        start = {"peaks": _logit(peaks), "lengths": lobe_fit.encode_shares(shares), "floor": _logit(floor)}
        params = lobe_fit.least_squares_fit(lambda params: self.decode_angles(params, len(values)), start, values)
        return params | {name: np.clip(params[name], _logit(0), _logit(1)) for name in ("peaks", "floor")}

    def decode_angles(self, params, n_frames: int) -> jax.Array:
        peaks, floor = jax.nn.sigmoid(params["peaks"]), jax.nn.sigmoid(params["floor"])
        return random.lobes(peaks, lobe_fit.decode_shares(params["lengths"]), floor, n_frames)

    def encode_times(self, values: np.ndarray):
        return Spline(self.knot_spacing).encode_times(values)

    def decode_times(self, params, n_frames: int) -> jax.Array:
        return Spline(self.knot_spacing).decode_times(params, n_frames)


class Parametrisation:
    """Sequences within limits from any real parameters; fields that are not optimised keep the values of the start.

    Attributes:
      start: gives the number of frames, and the values of the fields that are kept.
      limits: the limits of all its sequences.
      shape: `Frames`, `Spline` or `Lobes`: how flip angles and repetition times depend on parameters; saturation angles
        do as repetition times.
      free: names of the fields that parameters change: those of ``optimise`` (some of `FIELDS`) whose limits allow more
        than one value.

    Raises:
      ValueError: another field, no field left to optimise, limits that exclude each other or a field that is kept, or
        an inversion in only one of the start and the limits.
    """

    def __init__(self, start: Fisp, limits: Limits, shape: Frames | Spline | Lobes, optimise: Iterable[str] = FIELDS):
        optimise = tuple(optimise)
        if not optimise or not set(optimise) <= set(FIELDS):
            raise ValueError(f"optimise must be some of {', '.join(FIELDS)}; got {', '.join(optimise) or 'none'}")
        self.start, self.limits, self.shape = start, limits, shape
        self._nearest = jax.jit(lambda sequence: nearest_within(sequence, limits))
        kept = _kept(start, limits, optimise)
        sums = {
            "energy": _sum(kept.get("flip_angle"), 2),
            "repetition_times": _sum(kept.get("repetition_time"), 1),
            "inversion_time": _sum(kept.get("inversion_time"), 1),
        }
        n_frames = start.n_frames
        check_feasible(limits, n_frames, **sums)
        self._scan = scan_bounds(limits, n_frames, sums["energy"])
        ranges = self._ranges = {name: inside(getattr(limits, name)) for name in ("flip_angle", "repetition_time")}
        ranges["inversion_time"] = inversion_bounds(limits, self._scan, n_frames, sums["repetition_times"])
        ranges["saturation_angle"] = inside((0.0, limits.saturation_angle)) if limits.saturation_angle else (0.0, 0.0)
        self.free = tuple(name for name in FIELDS if name in optimise and ranges[name][0] < ranges[name][1])
        if not self.free:
            raise ValueError(f"nothing to optimise: the limits leave {' and '.join(optimise)} one value")
        only = {name: np.full(np.shape(getattr(start, name)), ends[0]) for name, ends in ranges.items()}
        self._held = only | {"saturation_angle": start.saturation_angle} | kept
        if limits.inversion_time is None:
            self._held["inversion_time"] = None

    def initial(self, sequence: Fisp | None = None) -> dict:
        """Parameters of the sequence nearest to a given one; None for the start; name of a field -> float arrays.

        The given sequence is first moved within the limits (`nearest_within`), then fitted by the shape; values keep a
        thousandth of their range from either bound (`EDGE`).

        Raises:
          ValueError: another number of frames than the start's, or an inversion in only one of it and the limits.
        """
        sequence = self.start if sequence is None else sequence
        if sequence.n_frames != self.start.n_frames:
            raise ValueError(
                f"sequence must have the {self.start.n_frames} frames of the start; it has {sequence.n_frames}"
            )
        if sequence.saturation_angle is None and "saturation_angle" in self.free:
            first = np.full(sequence.n_frames, _SATURATION * self.limits.saturation_angle)
            sequence = dataclasses.replace(sequence, saturation_angle=jnp.asarray(first, sequence.flip_angle.dtype))
        shape, near = self.shape, self._nearest(sequence)
        encoders = dict(zip(FIELDS, (shape.encode_angles, shape.encode_times, _logit, shape.encode_times), strict=True))
        params = {name: encoders[name](_share(getattr(near, name), self._ranges[name])) for name in self.free}
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, float), params)

    def to_sequence(self, params: dict) -> Fisp:
        """The sequence of parameters such as `initial` returns, within the limits for any values; jit and grad work."""
        dtype = jnp.result_type(*jax.tree.leaves(params))
        held = {name: None if value is None else jnp.asarray(value, dtype) for name, value in self._held.items()}
        angles, times, inversion_time, saturation = (held[name] for name in FIELDS)
        if "inversion_time" in self.free:
            low, high = self._ranges["inversion_time"]
            inversion_time = jnp.clip(low + (high - low) * jax.nn.sigmoid(params["inversion_time"]), low, high)
        taken = 0.0 if inversion_time is None else inversion_time
        if "repetition_time" in self.free:
            times = self._times(params["repetition_time"], taken)
        if "flip_angle" in self.free:
            low, high = self._ranges["flip_angle"]
            angles = low + (high - low) * self.shape.decode_angles(params["flip_angle"], self.start.n_frames)
            angles = restrict_angles(angles, self.limits, taken + pairwise_sum(times))
        if "saturation_angle" in self.free:
            low, high = self._ranges["saturation_angle"]
            saturation = low + (high - low) * self.shape.decode_times(params["saturation_angle"], self.start.n_frames)
            saturation = restrict_saturation(saturation, angles, self.limits, taken + pairwise_sum(times))
        start = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), self.start)
        return with_fields(start, self.limits, angles, times, inversion_time, saturation)

    def _times(self, params, taken):
        """Repetition times within their range, whose sum and the ``taken`` time keep the scan time; s, (frames,)."""
        low, high = box = self._ranges["repetition_time"]

        def shifted(shift):
            shares = self.shape.decode_times(params + shift, self.start.n_frames)
            return jnp.clip(low + (high - low) * shares, low, high)

        bracket = -jnp.max(params) - _BEYOND, -jnp.min(params) + _BEYOND
        least, most = (end - taken for end in self._scan)
        return meet_sum(shifted, bracket, box, least, most, fixed=self.limits.scan_time_fixed)


def _kept(start, limits, optimise):
    """The fields of the start that are not optimised, float64; each must be within its own limits."""
    found = violations(start, limits)
    kept = {}
    for name in FIELDS:
        if name in optimise or getattr(start, name) is None:
            continue
        kept[name] = np.asarray(getattr(start, name), np.float64)
        own = (name, "max_flip_change") if name == "flip_angle" else (name,)
        if broken := [f"{limit} by {found[limit]:.4g}" for limit in own if found.get(limit)]:
            raise ValueError(f"{name} is not optimised, but that of the start is beyond Limits: {', '.join(broken)}")
    return kept


def _sum(values, power):
    return None if values is None else float(np.sum(values**power))


def _share(values, ends):
    """Positions of values in a range, 0 at its lower and 1 at its upper bound; float64."""
    low, high = ends
    return (np.asarray(values, np.float64) - low) / (high - low)


def _logit(values):
    values = np.clip(values, EDGE, 1 - EDGE)
    return np.log(values) - np.log1p(-values)
