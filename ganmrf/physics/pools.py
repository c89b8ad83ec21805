"""The pools of spins of each kind of tissue: what relaxation, exchange and saturation make of their magnetisation.

A tissue has m transverse pools, which pulses turn and which make signal, and n longitudinal ones, m of them first: one
and one of `Tissue`, two and two of `ExchangingPools`, one and two of `SemisolidPool`. Within a time they become linear
combinations of each other; the longitudinal ones also return to their equilibrium M0, which exchange keeps::

    across' = T across        along' = L along + (1 - L) M0

Matrices are tuples of rows, tuples of entries, arrays of the common shape of times and tissue.
"""

import functools
import operator

import jax.numpy as jnp
import numpy as np

from ganmrf.physics.exchange import exchange_exponential, slowest_rate
from ganmrf.physics.tissue import ExchangingPools, SemisolidPool, Tissue


def n_pools(tissue) -> tuple[int, int]:
    """Numbers of transverse and of longitudinal pools."""
    return {Tissue: (1, 1), ExchangingPools: (2, 2), SemisolidPool: (1, 2)}[type(tissue)]


def equilibrium(tissue) -> tuple:
    """M0 of each longitudinal pool; their sum is 1."""
    return (1.0,) if isinstance(tissue, Tissue) else (1 - tissue.fraction, tissue.fraction)


def transverse(tissue, time) -> tuple:
    """T, complex where a pool has a shift."""
    if not isinstance(tissue, ExchangingPools):
        return ((jnp.exp(time * (-1 / tissue.t2)),),)
    rate_b = 1 / tissue.t2_b
    if tissue.shift is not None:
        rate_b = rate_b - 2j * jnp.pi * tissue.shift
    return exchange_exponential(1 / tissue.t2, rate_b, *_exchange_rates(tissue), time)


def longitudinal(tissue, time) -> tuple:
    """L and (1 - L) M0."""
    if isinstance(tissue, Tissue):
        e1 = jnp.exp(time * (-1 / tissue.t1))
        return ((e1,),), (1 - e1,)
    along, m0 = (
        exchange_exponential(1 / tissue.t1, 1 / tissue.t1_b, *_exchange_rates(tissue), time),
        equilibrium(tissue),
    )
    return along, tuple(own - kept for own, kept in zip(m0, applied(along, m0), strict=True))


def _exchange_rates(tissue):
    return tissue.exchange_rate * tissue.fraction, tissue.exchange_rate * (1 - tissue.fraction)


def saturated(tissue, along, power):
    """L after pulses of a ``power``, rad^2/s, whose semisolid pool they have saturated in front; else L itself."""
    if not isinstance(tissue, SemisolidPool):
        return along
    left = jnp.exp(-jnp.pi * tissue.lineshape * power)
    return tuple((of_a, of_b * left) for of_a, of_b in along)


def slowest_t2(tissue) -> np.ndarray:
    """The longest time constant of transverse magnetisation, s, of tissue that is not traced."""
    if not isinstance(tissue, ExchangingPools):
        return np.asarray(tissue.t2, float)
    names = "t2", "t2_b", "exchange_rate", "fraction"
    t2, t2_b, rate, fraction = (np.asarray(getattr(tissue, name), float) for name in names)
    return 1 / slowest_rate(1 / t2, 1 / t2_b, rate * fraction, rate * (1 - fraction))


def applied(matrix, vector) -> tuple:
    """A matrix times a vector."""
    return tuple(_summed(map(operator.mul, row, vector)) for row in matrix)


def product(one, other) -> tuple:
    """A matrix times another one."""
    return tuple(zip(*(applied(one, column) for column in zip(*other, strict=True)), strict=True))


def _summed(values):
    return functools.reduce(operator.add, values)
