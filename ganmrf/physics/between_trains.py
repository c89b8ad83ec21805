"""What stands between trains of frames, as one map: z becomes A z + B, and transverse magnetisation k times itself.

Inversions, saturations, T2 preparations, played or ideal, and delays compose, so that they cost a train nothing.
"""

import jax.numpy as jnp
from jax import lax

from ganmrf.physics.sequences.blocks import Delay, Played, T2Preparation, Train

NOTHING = 1.0, 0.0, 1.0, 0.0  # A, B, k, and the time in which transverse magnetisation precesses, s


def between_trains(blocks, *voxels):
    """What blocks do before the first train, and after each train: A, B, k and free time."""
    effects, played = [NOTHING], _all_played(blocks, *voxels)
    for number, block in enumerate(blocks):
        if isinstance(block, Train):
            effects.append(NOTHING)
        else:
            effects[-1] = _followed(effects[-1], block, played.get(number), *voxels[:2])
    return effects[0], effects[1:]


def _followed(effect, block, played, t1, t2):
    """A, B, k and free time of an effect and a block after it, whose A and B are ``played`` where it is `Played`."""
    if isinstance(block, Delay):
        return _composed(
            effect, *_wait(block.time, t1), 0.0 if block.crushed else jnp.exp(-block.time / t2), block.time
        )
    if isinstance(block, Played):
        prepared, wait = played, block.wait
    elif isinstance(block, T2Preparation):
        prepared, wait = (jnp.exp(-block.time / t2), 0.0), block.wait
    else:  # an inversion or a saturation
        prepared, wait = (block.factor, 0.0), block.time
    effect = _composed(effect, *prepared, 0.0, 0.0)
    return _composed(effect, *_wait(wait, t1), 0.0, 0.0)


def _all_played(blocks, *voxels):
    """A and B of the played preparations by their numbers; as one loop for all that have as many pulses.

    XLA compiles every loop by itself, for half a second, and a scan of a heart has dozens.
    """
    counts, found = {}, {}
    for number, block in enumerate(blocks):
        if isinstance(block, Played):
            counts.setdefault(len(block.time), []).append(number)
    for numbers in counts.values():
        a, b = _played([blocks[number] for number in numbers], *voxels)
        found |= {number: (a[i], b[i]) for i, number in enumerate(numbers)}
    return found


def _played(blocks, t1, t2, b1, off):
    """A and B of played preparations of as many pulses: what z = 1 becomes without recovery, and z = 0 with it."""
    time, phase, angle = (
        jnp.stack([getattr(block, name) for block in blocks], axis=1)[..., None]  # (pulses, preparations, 1)
        for name in ("time", "rf_phase", "flip_angle")
    )
    turn = 2 * jnp.pi * jnp.reshape(off, (1, 1, -1)) * time + phase - jnp.concatenate([phase[1:], phase[-1:]])
    e1, e2 = (jnp.exp(-time / each[None, None]) for each in (t1, t2))
    angle = angle * b1[None]
    pulses = jnp.broadcast_arrays(jnp.cos(angle), jnp.sin(angle), e1, e2 * jnp.cos(turn), e2 * jnp.sin(turn))
    shape, dtype = pulses[0].shape[1:], jnp.result_type(*pulses)
    recovers = jnp.arange(2, dtype=dtype)[:, None]  # of two magnetisations, (2, preparations * lanes), the second alone

    def pulse(magnetisation, coefficients):
        x, y, z = magnetisation  # in the frame whose x axis is that of the pulse
        cos, sin, e1, real, imaginary = coefficients
        y, z = cos * y - sin * z, sin * y + cos * z
        return (real * x - imaginary * y, real * y + imaginary * x, e1 * z + recovers * (1 - e1)), None

    zero = jnp.zeros((2, shape[0] * shape[1]), dtype)
    start = zero, zero, zero + (1 - recovers)
    rows = [row.reshape(len(row), 1, -1).astype(dtype) for row in pulses]
    # XLA aborts on a loop of one turn within one kernel.
    after = lax.scan(pulse, start, rows) if len(time) > 1 else pulse(start, [row[0] for row in rows])
    return tuple(z.reshape(shape) for z in after[0][2])


def _wait(time, t1):
    decay = jnp.exp(-time / t1)
    return decay, 1 - decay


def _composed(effect, a, b, k, free):
    before_a, before_b, before_k, before_free = effect
    return a * before_a, a * before_b + b, k * before_k, before_free + free
