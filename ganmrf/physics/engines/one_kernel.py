"""Asks XLA's CPU backend for one compiled function in place of many small ones, where it can.

Everything here is undocumented in XLA and was measured with JAX 0.10 only, where the scan ran 2.5 times as fast.
`works` tries it once a process, and every caller has an ordinary form to fall back on. Never on a GPU.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

OPTIONS = {
    "xla_cpu_copy_insertion_use_region_analysis": True,  # writes shifted states in place
    "xla_backend_optimization_level": 2,  # above it LLVM unrolls short loops before it can vectorise them
    "xla_cpu_experimental_ynn_fusion_type": "",  # a kernel cannot call the library that takes over some sums
}


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
