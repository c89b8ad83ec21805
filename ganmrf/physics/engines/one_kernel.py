"""Asks XLA's CPU backend for one compiled function in place of many small ones, where it can.

Everything here is undocumented in XLA and was measured with JAX 0.10 only, where the scan ran 2.5 times as fast.
`works` tries it once a process, and every caller has an ordinary form to fall back on. Never on a GPU.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

OPTIONS = {
    "xla_cpu_copy_insertion_use_region_analysis": True,  # writes shifted states in place
    "xla_backend_optimization_level": 2,  # above it LLVM unrolls short loops before it can vectorise them
    "xla_cpu_experimental_ynn_fusion_type": "",  # a kernel cannot call the library that takes over some sums
}

# Parts of pi whose first ones, of 9 and 11 bits, have exact products with whole numbers of up to 13 bits.
_PI = tuple(np.float32([3.140625, 9.67025756835937500e-4, 6.277114152908325e-7]))


@functools.cache
def works() -> bool:
    """Whether this backend is a CPU that takes `OPTIONS` and `in_one_kernel`."""
    if jax.default_backend() != "cpu":
        return False
    doubled = in_one_kernel(lambda start, steps: lax.scan(lambda x, step: (2 * x + step, x), start, steps))
    try:
        with jax.ensure_compile_time_eval():
            end, _ = jax.jit(doubled, compiler_options=OPTIONS)(jnp.ones(8), jnp.ones((3, 8)))
        return bool((end == 15).all())
    except jax.errors.JaxRuntimeError:
        return False


def in_one_kernel(function):
    """``function`` as one compiled function with its loops inside.

    Outside such a function XLA dispatches every operation of every step by itself, and divides large operations among
    its threads, where programs that several Python threads started wait for each other. The inner tags keep the outer
    tags from the functions that ``function`` calls, where they would halve the speed.
    """

    @jax.jit
    def inner(*arguments):
        with set_xla_metadata(xla_cpu_small_call="false", inlineable="true"):
            # A second result, because XLA would divide a lone one among its threads, which a kernel cannot do.
            return function(*arguments), jax.tree.leaves(arguments)[0]

    def outer(*arguments):
        with set_xla_metadata(xla_cpu_small_call="true", inlineable="false"):
            results = inner(*lax.optimization_barrier(arguments))  # XLA aborts where a constant is an argument
            return lax.optimization_barrier(results)[0]  # so that both results are used

    return outer


def cos_sin(angle, in_kernel: bool):
    """Cosine and sine of angles, rad, (..., lanes), where ``in_kernel`` in the way that is fast there.

    In a kernel XLA calls the C library for each of them, ten times as slow as these polynomials in float32: Taylor's,
    at most a quarter of a turn from 0, after multiples of pi in three parts have been taken off (Cody and Waite 1980).
    Their error is 2e-7 for up to a hundred turns. A lone lane is left to XLA, as is float64.
    """
    if not in_kernel or angle.dtype != jnp.float32 or angle.shape[-1] == 1:
        return jnp.cos(angle), jnp.sin(angle)
    halves = jnp.floor(angle * np.float32(1 / np.pi) + np.float32(0.5))
    for part in _PI:
        angle = angle - halves * part
    sign = 1 - 2 * (halves - 2 * jnp.floor(halves * np.float32(0.5)))
    return sign * _series(angle * angle, range(12, -1, -2)), sign * angle * _series(angle * angle, range(11, 0, -2))


def _series(square, powers):
    """Taylor's series of a cosine, or of a sine over its argument, from the square of the argument."""
    total = np.float32(0)
    for power in powers:
        total = total * square + np.float32((-1) ** (power // 2) / math.factorial(power))
    return total
