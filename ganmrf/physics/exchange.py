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

# Terms of the power series that are left out are below 1e-16 where abs(h^2) < 1: 1 / 18! of cosh, 1 / 19! of sinh(h)/h.
_TERMS = 9


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
    mean = -0.5 * (rate_a + rate_b + a_to_b + b_to_a)
    half = 0.5 * (rate_b + b_to_a - rate_a - a_to_b)
    determinant = (rate_a * rate_b + rate_a * b_to_a + rate_b * a_to_b) * time**2
    even, odd = _even_and_odd((half**2 + a_to_b * b_to_a) * time**2, mean * time, determinant)
    odd = odd * time
    return (even + half * odd, b_to_a * odd), (a_to_b * odd, even - half * odd)


def slowest_rate(rate_a, rate_b, a_to_b, b_to_a):
    """The rate, 1/s, of the slowest decay of two pools: minus the larger eigenvalue of A, for real rates."""
    mean = 0.5 * (rate_a + rate_b + a_to_b + b_to_a)
    root = ((0.5 * (rate_b + b_to_a - rate_a - a_to_b)) ** 2 + a_to_b * b_to_a) ** 0.5
    return (rate_a * rate_b + rate_a * b_to_a + rate_b * a_to_b) / (mean + root)


def _even_and_odd(square, lift, determinant):
    """exp(lift) cosh(h) and exp(lift) sinh(h) / h from h^2; the determinant is the product of lift + h and lift - h."""
    small = jnp.abs(square) < 1
    near, far = jnp.where(small, square, 0), jnp.where(small, 1, square)  # each branch sees only what it can take
    root = jnp.sqrt(far)
    if jnp.iscomplexobj(root):  # of its two signs that which makes ``lift - root`` the larger eigenvalue
        root = jnp.where((lift.conj() * root).real > 0, -root, root)
    up = jnp.exp(jnp.where(small, lift, -determinant / jnp.where(small, 1, root - lift)))
    down = jnp.exp(jnp.where(small, lift, lift - root))
    even = jnp.where(small, up * _series(near, 0), 0.5 * (up + down))
    odd = jnp.where(small, up * _series(near, 1), 0.5 * (up - down) / root)
    return even, odd


def _series(square, first):
    """The sum of ``square^n / (2 n + first)!``: cosh(h) for first = 0, sinh(h) / h for 1."""
    total = jnp.ones_like(square)
    for n in range(_TERMS - 1, 0, -1):
        total = total * square
        total = total / ((2 * n + first) * (2 * n + first - 1)) + 1
    return total
