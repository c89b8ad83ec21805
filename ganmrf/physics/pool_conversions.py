"""Exchange of two pools as papers state it, as ``fraction`` and ``exchange_rate`` of tissues of two pools.

Every function returns these two in the order of a tissue's fields, so that its result can stand there::

    SemisolidPool(t1, t2, *from_residence_time(fraction_of(ratio=0.15), 0.07), t1_b, lineshape)

Pools of the equilibrium magnetisations M0a and M0b have ``fraction = M0b / (M0a + M0b)``, and the rates at which spins
leave a pool are in detailed balance, ``k_ab M0a = k_ba M0b``; ``exchange_rate`` is ``k_ab + k_ba``. So ``k_ab =
exchange_rate fraction`` and ``k_ba = exchange_rate (1 - fraction)``. Arguments are numbers or arrays that broadcast.
"""

import jax
import numpy as np

from ganmrf.pytrees import floating, require, require_positive


def fraction_of(ratio) -> jax.Array:
    """The fraction ``M0b / (M0a + M0b)`` of a ``ratio`` F = M0b / M0a, 0 or more, that many papers call fraction.

    References:
      Gloor et al. 2008, doi:10.1002/mrm.21705.
    """
    ratio = _not_negative("ratio", ratio)
    return ratio / (1 + ratio)


def from_rates(a_to_b, b_to_a):
    """From ``k_ab`` and ``k_ba``, the rates at which spins leave pool a and pool b, 1/s, 0 or more, not both 0.

    References:
      McConnell 1958, doi:10.1063/1.1744152.
    """
    a_to_b, b_to_a = _not_negative("a_to_b", a_to_b), _not_negative("b_to_a", b_to_a)
    rate = a_to_b + b_to_a
    require_positive("a_to_b + b_to_a", rate)
    return a_to_b / rate, rate


def from_rate_out_of_a(fraction, a_to_b):
    """From the fraction, above 0, and ``k_ab``, 1/s: the ``k_a`` of Malik et al., the ``k_f`` of Gloor et al.

    References:
      Malik et al. 2018, doi:10.1002/mrm.27040. Gloor et al. 2008, doi:10.1002/mrm.21705.
    """
    fraction, a_to_b = floating("fraction", fraction), _not_negative("a_to_b", a_to_b)
    require("fraction", fraction, lambda f: (f > 0) & (f <= 1), "above 0, and 1 at most")
    return fraction, a_to_b / fraction


def from_rate_out_of_b(fraction, b_to_a):
    """From the fraction, below 1, and ``k_ba``, 1/s: the ``k_r`` of Gloor et al..

    References:
      Gloor et al. 2008, doi:10.1002/mrm.21705.
    """
    fraction, b_to_a = floating("fraction", fraction), _not_negative("b_to_a", b_to_a)
    require("fraction", fraction, lambda f: (f >= 0) & (f < 1), "0 or more, and below 1")
    return fraction, b_to_a / (1 - fraction)


def from_residence_time(fraction, time):
    """From the fraction, below 1, and the mean ``time``, s, that a spin stays in pool b: ``1 / k_ba``.

    References:
      McConnell 1958, doi:10.1063/1.1744152. Deoni et al. 2008, doi:10.1002/mrm.21704 (of myelin water).
    """
    time = floating("time", time)
    require_positive("time", time)
    return from_rate_out_of_b(fraction, 1 / time)


def from_unit_pools(exchange, m0_b, m0_a=1.0):
    """From R, or R_x, 1/s, the exchange of pools of unit size: ``k_ab = R M0b`` and ``k_ba = R M0a``.

    Args:
      exchange: R, 1/s, 0 or more.
      m0_b: equilibrium magnetisation of pool b, 0 or more; the M0s of papers whose pools add up to 1.
      m0_a: of pool a, positive, in the same unit: 1 in Henkelman et al., ``1 - m0_b`` in Assländer et al.

    References:
      Henkelman et al. 1993, doi:10.1002/mrm.1910290607. Assländer et al. 2022, doi:10.1002/mrm.29071.
    """
    exchange, m0_b, m0_a = _not_negative("exchange", exchange), _not_negative("m0_b", m0_b), floating("m0_a", m0_a)
    require_positive("m0_a", m0_a)
    return m0_b / (m0_a + m0_b), exchange * (m0_a + m0_b)


def _not_negative(name, value):
    value = floating(name, value)
    require(name, value, lambda x: (x >= 0) & np.isfinite(x), "0 or more, and finite")
    return value
