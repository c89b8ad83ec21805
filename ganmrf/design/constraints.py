"""Constraints that hold by construction: differentiable maps from any values to sequences within `Limits`.

The maps follow one another, and each keeps the limits that the maps before it have met:

1. The inversion time is clipped to its range, without the values that no repetition times could complete to an allowed
   scan time (`inversion_bounds`).
2. Repetition times lie in their range; `meet_sum` shifts all of them, within the range, until the scan time is allowed.
   The shortest allowed scan time is the one in which the smallest flip angles use up the RF power (`scan_bounds`).
3. Flip angles are clipped to their range; `limit_change` lowers them to the highest angles below them whose changes are
   allowed. These are at least the smallest allowed angle: the constant sequence of that angle has no change.
4. `limit_power` moves all flip angles towards the smallest allowed one by one factor s <= 1 where their power is too
   high. Angles stay in their range, and every change is multiplied by s. An s exists: s = 0 gives the smallest angle
   in every frame, whose power step 2 has made allowed.

Each map aims a few float32 roundings inside its limit (`MARGIN`), so that rounding does not lead out of the limit.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ganmrf.design.limits import Limits, check_feasible, check_inversion
from ganmrf.physics.sequences.fisp import Fisp

MARGIN = 2.5e-7  # of a limit: four float32 roundings, and a quarter of the excess that `violations` forgives


def nearest_within(sequence: Fisp, limits: Limits) -> Fisp:
    """A sequence within the limits, near a given one; for parametrisations of one's own.

    Repetition times are the nearest (least squares) with an allowed sum; flip angles are clipped, then lowered until
    changes and power are allowed. Differentiable wherever the set of active limits does not change.

    Args:
      sequence: any sequence; one within the limits comes back unchanged, but for `MARGIN`.
      limits: its limits.

    Raises:
      ValueError: limits that no sequence of that length meets, or an inversion in one but not in the other.
    """
    n_frames = sequence.n_frames
    check_feasible(limits, n_frames)
    check_inversion(sequence, limits)
    bounds = scan_bounds(limits, n_frames)
    box = inside(limits.repetition_time)
    inversion_time = sequence.inversion_time
    if inversion_time is not None:
        inversion_time = jnp.clip(inversion_time, *inversion_bounds(limits, bounds, n_frames))
    taken = 0.0 if inversion_time is None else inversion_time

    times = sequence.repetition_time

    def shifted(shift):
        return jnp.clip(times + shift, *box)

    bracket = box[0] - jnp.max(times), box[1] - jnp.min(times)
    times = meet_sum(shifted, bracket, box, bounds[0] - taken, bounds[1] - taken, fixed=limits.scan_time_fixed)
    scan_time = taken + pairwise_sum(times)
    angles = restrict_angles(sequence.flip_angle, limits, scan_time)
    saturation = restrict_saturation(sequence.saturation_angle, angles, limits, scan_time)
    return with_fields(sequence, limits, angles, times, inversion_time, saturation)


def with_fields(sequence: Fisp, limits: Limits, angles, times, inversion_time, saturation) -> Fisp:
    """A sequence with other flip angles, times and saturation angles, and the echo time of the limits."""
    fields = {"flip_angle": angles, "repetition_time": times, "inversion_time": inversion_time}
    echo_times = jnp.full(sequence.n_frames, limits.echo_time, angles.dtype)
    return dataclasses.replace(sequence, **fields, echo_time=echo_times, saturation_angle=saturation)


def restrict_angles(flip_angle: jax.Array, limits: Limits, scan_time) -> jax.Array:
    """Flip angles, rad, (frames,), with allowed range, changes and, in a ``scan_time`` in s, power: steps 3 and 4."""
    low, high = inside(limits.flip_angle)
    flip_angle = jnp.clip(flip_angle, low, high)
    if limits.max_flip_change is not None:
        # A difference of angles carries the rounding of the angles, which is relative to the largest one.
        change = limits.max_flip_change
        flip_angle = limit_change(flip_angle, max(change - 4 * MARGIN * high, change / 2), high - low)
    if limits.rf_power is not None:
        flip_angle = limit_power(flip_angle, low, _power(limits) * scan_time)
    return flip_angle


def restrict_saturation(saturation_angle, flip_angle: jax.Array, limits: Limits, scan_time):
    """Saturation angles, rad, (frames,) or None, within their range and the RF power that flip angles leave."""
    if limits.saturation_angle is None or saturation_angle is None:
        return saturation_angle
    angle = jnp.clip(jnp.broadcast_to(saturation_angle, flip_angle.shape), *inside((0.0, limits.saturation_angle)))
    if limits.rf_power is None:
        return angle
    whole = limits.rf_power * scan_time
    # Never nothing, at which the root in `limit_power` has no gradient: flip angles take two margins less than all.
    return limit_power(
        angle, 0.0, jnp.maximum(_power(limits) * scan_time - pairwise_sum(flip_angle**2), MARGIN * whole)
    )


def limit_change(values: jax.Array, change: float, span: float) -> jax.Array:
    """The largest values below the given ones that change by ``change`` at most from one to the next.

    The result at frame i is ``min_j values[j] + change |i - j|``. It is computed by doubling: after step k the minimum
    is over ``|i - j| < 2^k``; frames j farther than ``span / change`` cannot matter.

    Args:
      values: (frames,).
      change: allowed change, positive.
      span: largest difference between any two of the values.
    """
    n_frames, reach, distance = values.shape[0], span / change, 1
    while distance < min(n_frames, reach + 1):
        fill = jnp.full(distance, jnp.inf, values.dtype)
        raised = values + change * distance
        before = jnp.concatenate([fill, raised[:-distance]])
        after = jnp.concatenate([raised[distance:], fill])
        values = jnp.minimum(values, jnp.minimum(before, after))
        distance *= 2
    return values


def limit_power(flip_angle: jax.Array, low: float, budget) -> jax.Array:
    """Moves flip angles towards ``low`` by one factor until their squares sum to ``budget``, unless they sum to less.

    Args:
      flip_angle: rad, (frames,), ``low`` or more.
      low: rad, 0 or more.
      budget: ``frames * low**2`` or more, rad^2.
    """
    above = flip_angle - low
    # sum (low + s above)^2 = budget is quadratic in s; of the two forms of its root this one does not cancel.
    square, cross = pairwise_sum(above**2), low * pairwise_sum(above)
    left = jnp.maximum(budget - flip_angle.shape[0] * low**2, 0)
    exceeded = square + 2 * cross > left
    square = jnp.where(exceeded, square, 1.0)  # elsewhere the derivative of the root below may be infinite
    left = jnp.where(exceeded, left, 1.0)
    scale = left / (cross + jnp.sqrt(cross**2 + square * left))
    return jnp.where(exceeded, low + jnp.minimum(scale, 1) * above, flip_angle)


def meet_sum(values, bracket, box, least, most, *, fixed: bool) -> jax.Array:
    """``values(shift)`` with the shift nearest 0 for which their sum lies between ``least`` and ``most``.

    Derivatives are those of the implicit function theorem. Where values are at the ends of their range a shift meets
    the sum only to rounding: the rest is met by moving all values towards one end of their range, by one factor.

    Args:
      values: function from a scalar shift to (frames,), nowhere decreasing, within ``box``.
      bracket: shifts that take all values to the lower and to the upper end.
      box: smallest and largest value.
      least: smallest sum allowed; values within ``box`` can reach it.
      most: largest sum allowed.
      fixed: whether ``least`` equals ``most``.
    """
    natural = values(0.0)
    total = pairwise_sum(natural)
    dtype = total.dtype
    target = jnp.asarray(most, dtype) if fixed else jnp.clip(total, least, most)
    bracket = tuple(jax.lax.stop_gradient(jnp.asarray(end, dtype)) for end in bracket)

    def excess(shift):
        return pairwise_sum(values(shift)) - target

    def solve(function, _):
        def halve(_, ends):
            middle = (ends[0] + ends[1]) / 2
            high = function(middle) > 0
            return jnp.where(high, ends[0], middle), jnp.where(high, middle, ends[1])

        return sum(jax.lax.fori_loop(0, jnp.finfo(dtype).nmant + 12, halve, bracket)) / 2

    def tangent_solve(linear, tangent):
        slope = linear(jnp.ones_like(tangent))
        movable = slope > 1e-30  # all values at their ends: the shift does nothing
        return jnp.where(movable, tangent / jnp.where(movable, slope, 1), 0)

    shift = jax.lax.custom_root(excess, jnp.zeros_like(total), solve, tangent_solve)
    met = _move_to_end(values(shift), box, target)
    return met if fixed else jnp.where((total >= least) & (total <= most), natural, met)


def scan_bounds(limits: Limits, n_frames: int, energy: float | None = None) -> tuple[float, float]:
    """Shortest and longest scan time, s, that the limits allow.

    Args:
      limits: their scan time bounds it from above, or fixes it; their RF power bounds it from below.
      n_frames: number of frames.
      energy: sum of squared flip angles, rad^2; None for the least that the limits allow.
    """
    longest = np.inf
    if limits.scan_time is not None:
        longest = limits.scan_time * (1 - (0 if limits.scan_time_fixed else MARGIN))
    if limits.scan_time_fixed:
        return longest, longest
    energy = n_frames * inside(limits.flip_angle)[0] ** 2 if energy is None else energy
    shortest = 0.0 if limits.rf_power is None else energy / _power(limits)
    return min(shortest, longest), longest


def inversion_bounds(limits: Limits, scan, n_frames: int, times: float | None = None) -> tuple[float, float]:
    """Range of inversion times, s, that repetition times can complete to the ``scan`` times.

    Args:
      limits: of inversion and repetition times.
      scan: shortest and longest scan time, s (`scan_bounds`).
      n_frames: number of frames.
      times: sum of the repetition times where it is given, s; None where they may be any that the limits allow.
    """
    low, high = inside(limits.inversion_range)
    least, most = (n_frames * end for end in inside(limits.repetition_time)) if times is None else (times, times)
    return float(np.clip(scan[0] - most, low, high)), float(np.clip(scan[1] - least, low, high))


def inside(ends) -> tuple[float, float]:
    """A range without `MARGIN` at either end; its middle, twice, where nothing is left."""
    low, high = ends[0] * (1 + MARGIN), ends[1] * (1 - MARGIN)
    return (low, high) if low < high else ((ends[0] + ends[1]) / 2,) * 2


def pairwise_sum(values: jax.Array) -> jax.Array:
    """Sum of (frames,) values by pairs, and pairs of pairs: its rounding grows with the logarithm of frames."""
    while (size := values.shape[0]) > 1:
        values = jnp.pad(values, (0, size % 2))
        values = values[: (size + 1) // 2] + values[(size + 1) // 2 :]
    return values[0]


def roughness(sequence: Fisp, limits: Limits) -> jax.Array:
    """A penalty: mean squared second difference of flip angles and repetition times, each divided by its range.

    0 for straight lines. Flip angles, or repetition times, that jump across their range and back in every frame add 1.
    """

    def of(values, ends):
        width = ends[1] - ends[0]
        if width == 0 or values.shape[0] < 3:
            return 0.0
        return jnp.mean((jnp.diff(values, n=2) / (2 * width)) ** 2)

    angles = of(sequence.flip_angle, limits.flip_angle)
    return jnp.asarray(angles + of(sequence.repetition_time, limits.repetition_time))


def _power(limits):
    return limits.rf_power * (1 - 2 * MARGIN)  # twice the margin: the power is a quotient of two sums


def _move_to_end(values, box, total):
    """Values moved towards one end of their box by one factor, so that they sum to ``total``."""
    low, high = box
    excess = pairwise_sum(values) - total
    down, up = values - low, high - values
    room_down, room_up = pairwise_sum(down), pairwise_sum(up)
    lower = jnp.clip(1 - excess / jnp.where(room_down > 0, room_down, jnp.inf), 0, 1)
    higher = jnp.clip(1 + excess / jnp.where(room_up > 0, room_up, jnp.inf), 0, 1)
    return jnp.where(excess > 0, low + down * lower, high - up * higher)
