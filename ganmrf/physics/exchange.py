"""Two pools that relax and exchange: the exponential of their 2 x 2 matrix, in closed form.

With the rates ``a_to_b`` and ``b_to_a`` at which spins leave each pool, ``d/dt x = A x`` with::

    A = [[-rate_a - a_to_b, b_to_a], [a_to_b, -rate_b - b_to_a]]

    exp(A t) = exp(m t) (cosh(h) 1 + sinh(h) / h (A - m) t)     m = trace(A) / 2     h^2 = (m^2 - det A) t^2

Both functions of h are even, hence power series of h^2: nothing is singular where rates are equal, pools empty or
exchange is none. Where h is large the larger eigenvalue would be the difference of large numbers; it is det A over the
other one.

Reference: Moler and Van Loan 2003, doi:10.1137/S00361445024180 (the exponential of a matrix by its eigenvalues).
"""

import jax.numpy as jnp

_SMALL = 0.1  # of abs(h^2): above it sinh(h) = (exp(h) - exp(-h)) / 2 loses half a digit at most
# Terms of the power series, by the precision: those left out are below 0.1^4 / 8! = 2e-9, and 0.1^7 / 14! = 1e-18.
_TERMS = {32: 4, 64: 7}
_NO_DIFFERENCE = 1e-12  # 1/s^2: h^2 is then below `_SMALL` for a day, and its root has finite derivatives above it


def exchange_exponential(rate_a, rate_b, a_to_b, b_to_a, time):
    """exp(A t) of two pools.

    Args:
      rate_a: relaxation rate of pool a, 1/s, any shape that broadcasts with the others.
      rate_b: of pool b, 1/s; complex, ``rate - 2 pi i shift``, for a pool that precesses at a ``shift``, Hz.
      a_to_b: rate at which spins leave pool a, 1/s, 0 or more.
      b_to_a: rate at which spins leave pool b, 1/s, 0 or more.
      time: s, 0 or more.

    Returns:
      ``((aa, ab), (ba, bb))``, each of the common shape: what pool a gets from a and from b, and pool b likewise. All
      derivatives by all arguments are finite.
    """
    mean = 0.5 * (rate_a + rate_b + a_to_b + b_to_a)
    half = 0.5 * (rate_b + b_to_a - rate_a - a_to_b)
    square = half**2 + a_to_b * b_to_a
    # Of the rates alone: so much is computed once for all times.
    root = jnp.sqrt(jnp.where(jnp.abs(square) < _NO_DIFFERENCE, 1.0, square))
    if jnp.iscomplexobj(root):  # of its two signs that which makes ``fast`` the faster rate
        root = jnp.where((mean.conj() * root).real < 0, -root, root)
    fast = mean + root
    slow, over_root = (rate_a * rate_b + rate_a * b_to_a + rate_b * a_to_b) / fast, 0.5 / root
    argument = square * time**2
    small = jnp.abs(argument) < _SMALL
    series = [_series(jnp.where(small, argument, 0), first) for first in (0, 1)]
    up, down = jnp.exp(jnp.where(small, mean, slow) * -time), jnp.exp(-fast * time)
    even = jnp.where(small, up * series[0], 0.5 * (up + down))
    odd = jnp.where(small, up * series[1] * time, over_root * (up - down))
    return (even + half * odd, b_to_a * odd), (a_to_b * odd, even - half * odd)


def slowest_rate(rate_a, rate_b, a_to_b, b_to_a):
    """The rate, 1/s, of the slowest decay of two pools: minus the larger eigenvalue of A, for real rates."""
    mean = 0.5 * (rate_a + rate_b + a_to_b + b_to_a)
    root = ((0.5 * (rate_b + b_to_a - rate_a - a_to_b)) ** 2 + a_to_b * b_to_a) ** 0.5
    return (rate_a * rate_b + rate_a * b_to_a + rate_b * a_to_b) / (mean + root)


def _series(square, first):
    """The sum of ``square^n / (2 n + first)!``: cosh(h) for first = 0, sinh(h) / h for 1."""
    total = jnp.ones_like(square)
    for n in range(_TERMS[jnp.finfo(square.dtype).bits] - 1, 0, -1):
        total = total * square * (1 / ((2 * n + first) * (2 * n + first - 1))) + 1  # divisions would take longest
    return total
