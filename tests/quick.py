"""`jax.jit` for tests that compile longer than they run."""

import functools

import jax

# The lowest level of optimisation takes half the compiler's time, or less, and gives slower programs.
quickly = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
