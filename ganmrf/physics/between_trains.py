"""What stands between trains of frames, as one map of the pools, such that it costs a train nothing.

Longitudinal magnetisation z becomes A z + B, and transverse magnetisation k times itself, where A and k are matrices
over the pools of `ganmrf.physics.pools`. Inversions, saturations, T2 preparations, played or ideal, and delays compose.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ganmrf.physics.pools import applied, longitudinal, n_pools, product, saturated, transverse
from ganmrf.physics.sequences.blocks import Delay, Played, T2Preparation, Train
from ganmrf.physics.sequences.pulse_power import saturating_power
from ganmrf.physics.tissue import SemisolidPool


class Effect(NamedTuple):
    """A map of the pools; entries are numbers or arrays (lanes,), or of many frames at once (frames, lanes or 1)."""

    longitudinal: tuple  # A
    recovery: tuple  # B
    transverse: tuple  # k
    free: object = 0.0  # the time in which transverse magnetisation precesses, s

    def then(self, other: "Effect") -> "Effect":
        """This one, and another one after it."""
        recovery = tuple(
            kept + own for kept, own in zip(applied(other.longitudinal, self.recovery), other.recovery, strict=True)
        )
        along, across = product(other.longitudinal, self.longitudinal), product(other.transverse, self.transverse)
        return Effect(along, recovery, across, self.free + other.free)


def between_trains(blocks, tissue) -> tuple[Effect | None, list[Effect | None]]:
    """What blocks do before the first train, and after each train; None where there is nothing.

    The fields of ``tissue`` are (lanes,) or one number each.
    """
    effects, played, waited = [None], _all_played(blocks, tissue), _all_waited(blocks, tissue)
    for number, block in enumerate(blocks):
        if isinstance(block, Train):
            effects.append(None)
        else:
            effect = _effect(block, played.get(number), waited[number], tissue)
            effects[-1] = effect if effects[-1] is None else effects[-1].then(effect)
    return effects[0], effects[1:]


def followed(frames: Effect, ends, effects) -> Effect:
    """Frames, each of which ``ends`` is followed by one of ``effects``, of `between_trains`.

    The rows are set one after the other in a loop: without it XLA would copy all values for every row, or, of arrays
    that are joined, compute each by a branch of its own.
    """

    def widened(values, factors):
        lanes = max(np.shape(each)[-1] if np.ndim(each) else 1 for each in jax.tree.leaves((values, factors)))
        values = jax.tree.map(lambda each: jnp.broadcast_to(each, (len(each), lanes)), values)

        def stacked(value, *rows):
            rows = [jnp.broadcast_to(jnp.atleast_1d(row), (1, lanes)) for row in rows]
            return jnp.stack(rows).astype(value.dtype)

        return values, jax.tree.map(stacked, values, *factors)

    longitudinals = [(effect.longitudinal, effect.recovery) for effect in effects]
    (along, recovery), of_along = widened((frames.longitudinal, frames.recovery), longitudinals)
    across, of_across = widened(frames.transverse, [effect.transverse for effect in effects])
    free, of_free = widened(frames.free, [effect.free for effect in effects])

    def set_row(frames, inputs):
        end, effect = inputs
        row = jax.tree.map(lambda values: lax.dynamic_slice_in_dim(values, end, 1), frames).then(effect)
        return jax.tree.map(lambda old, each: lax.dynamic_update_slice_in_dim(old, each, end, 0), frames, row), None

    frames = Effect(along, recovery, across, free)
    inputs = jnp.asarray(ends), Effect(*of_along, of_across, of_free)
    if len(ends) == 1:  # XLA aborts on a loop of one turn within one kernel.
        return set_row(frames, jax.tree.map(lambda each: each[0], inputs))[0]
    return lax.scan(set_row, frames, inputs)[0]


def _all_waited(blocks, tissue):
    """What relaxation does while a block waits, and transverse, if it is not crushed, by its number: `Effect`s.

    Of all blocks at once: of exchange each is some dozens of operations, which XLA compiles one by one.
    """
    numbers = [number for number, block in enumerate(blocks) if not isinstance(block, Train)]
    if not numbers:
        return {}
    times = [blocks[n].wait if isinstance(blocks[n], Played | T2Preparation) else blocks[n].time for n in numbers]
    rows, voxels = jnp.stack(times)[:, None], jax.tree.map(lambda leaf: jnp.reshape(leaf, (1, -1)), tissue)
    crushed = [not isinstance(blocks[n], Delay) or blocks[n].crushed for n in numbers]
    relaxed = longitudinal(voxels, rows), None if all(crushed) else transverse(voxels, rows)
    found = {}
    for place, number in enumerate(numbers):
        (along, recovery), across = jax.tree.map(lambda entry, place=place: entry[place], relaxed)
        free = times[place] if isinstance(blocks[number], Delay) else 0.0
        found[number] = Effect(along, recovery, _crushed(tissue) if crushed[place] else across, free)
    return found


def _effect(block, played, waited, tissue):
    """The effect of a block that then has ``waited``; its A and B are ``played`` where it is `Played`."""
    if isinstance(block, Delay):
        return waited
    if isinstance(block, Played):
        along, recovery = played
    elif isinstance(block, T2Preparation):
        along, recovery = _t2_prepared(tissue, block.time)
    else:  # an inversion or a saturation
        mobile, pools = n_pools(tissue)
        kept = 1.0 if block.saturation is None else block.saturation
        factors = (block.factor,) * mobile + (kept,) * (pools - mobile)
        along = tuple(tuple(factors[i] if i == j else 0.0 for j in range(pools)) for i in range(pools))
        recovery = (0.0,) * pools
    return Effect(along, recovery, _crushed(tissue)).then(waited)


def _crushed(tissue):
    mobile, _ = n_pools(tissue)
    return ((0.0,) * mobile,) * mobile


def _t2_prepared(tissue, time):
    """A and B of ideal pulses 90 - 180 - 90 within a ``time``, s, which a semisolid pool does not feel.

    What was longitudinal is refocused: the second half undoes the phase of the first. What recovers meanwhile in the
    mobile pools is turned over by the 180, into the transverse plane by the last 90, and crushed.
    """
    if not isinstance(tissue, SemisolidPool):
        half = transverse(tissue, time / 2)
        if len(half) == 1:
            return transverse(tissue, time), (0.0,)
        refocused = product(half, jax.tree.map(jnp.conj, half))
        return jax.tree.map(jnp.real, refocused), (0.0, 0.0)
    ((stays,),) = transverse(tissue, time)
    along, recovery = longitudinal(tissue, time / 2)
    # Pool a begins at 0, and after the 180 it has the other sign.
    (ab, bb), (ba, _) = (along[0][1], along[1][1]), along[1]
    kept = bb * bb - ba * ab
    grown = bb * recovery[1] - ba * recovery[0] + recovery[1]
    return ((stays, 0.0), (0.0, kept)), (0.0, grown)


def _all_played(blocks, tissue):
    """A and B of the played preparations by their numbers; as one loop for all that have as many pulses.

    XLA compiles every loop by itself, for half a second, and a scan of a heart has dozens.
    """
    counts, found = {}, {}
    for number, block in enumerate(blocks):
        if isinstance(block, Played):
            counts.setdefault(len(block.time), []).append(number)
    for numbers in counts.values():
        along, recovery = _played([blocks[number] for number in numbers], tissue)
        found |= {
            number: jax.tree.map(lambda each, i=i: each[i], (along, recovery)) for i, number in enumerate(numbers)
        }
    return found


def _played(blocks, tissue):
    """A and B of played preparations of as many pulses: what each pool alone becomes without recovery; and B."""
    time, phase, angle = (
        jnp.stack([getattr(block, name) for block in blocks], axis=1)[..., None]  # (pulses, preparations, 1)
        for name in ("time", "rf_phase", "flip_angle")
    )
    voxels = jax.tree.map(lambda leaf: jnp.reshape(leaf, (1, 1, -1)), tissue)
    off = 0.0 if voxels.off_resonance is None else voxels.off_resonance
    turn = 2 * jnp.pi * off * time + phase - jnp.concatenate([phase[1:], phase[-1:]])
    along, recovery = longitudinal(voxels, time)
    if isinstance(tissue, SemisolidPool):
        power = jnp.stack([saturating_power(block, 1.0) for block in blocks], axis=1) * voxels.b1**2
        along = saturated(voxels, along, power)
    angle = angle * voxels.b1
    turning = jnp.cos(turn), jnp.sin(turn)
    across = jax.tree.map(lambda entry: _parts(entry, *turning), transverse(voxels, time))
    mobile, pools = n_pools(tissue)
    pulses = jnp.cos(angle), jnp.sin(angle), along, recovery, across
    shape = np.broadcast_shapes(*(each.shape for each in jax.tree.leaves(pulses)))[1:]
    dtype = jnp.result_type(*jax.tree.leaves(pulses))
    rows = jax.tree.map(lambda row: jnp.broadcast_to(row, (len(time), *shape)).reshape(len(time), 1, -1), pulses)
    rows = jax.tree.map(lambda row: row.astype(dtype), rows)
    starts = jnp.arange(pools + 1)[:, None]  # of each pool alone, and of nothing, which recovers
    recovers = (starts == pools).astype(dtype)

    def pulse(magnetisation, coefficients):
        x, y, z = magnetisation  # of each pool, in the frame whose x axis is that of the pulse
        cos, sin, along, recovery, across = coefficients
        turned = [(cos * b - sin * c, sin * b + cos * c) for b, c in zip(y, z[:mobile], strict=True)]
        y, z = [each for each, _ in turned], [each for _, each in turned] + list(z[mobile:])
        pairs = [list(zip(row, zip(x, y, strict=True), strict=True)) for row in across]
        new_x = [sum(re * a - im * b for (re, im), (a, b) in row) for row in pairs]
        new_y = [sum(re * b + im * a for (re, im), (a, b) in row) for row in pairs]
        z = [kept + recovers * own for kept, own in zip(applied(along, z), recovery, strict=True)]
        return (new_x, new_y, z), None

    zero = jnp.zeros((pools + 1, shape[0] * shape[1]), dtype)
    start = [zero] * mobile, [zero] * mobile, [zero + (starts == pool) for pool in range(pools)]
    # XLA aborts on a loop of one turn within one kernel.
    after = lax.scan(pulse, start, rows) if len(time) > 1 else pulse(start, jax.tree.map(lambda row: row[0], rows))
    ends = [z.reshape(-1, *shape) for z in after[0][2]]
    return tuple(tuple(z[pool] for pool in range(pools)) for z in ends), tuple(z[pools] for z in ends)


def _parts(entry, cos, sin):
    """Real and imaginary part of an entry times ``cos + i sin``."""
    if not jnp.iscomplexobj(entry):
        return entry * cos, entry * sin
    return entry.real * cos - entry.imag * sin, entry.real * sin + entry.imag * cos
