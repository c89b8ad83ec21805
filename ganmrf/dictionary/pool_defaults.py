"""What a grid takes for the parameters of a second pool that nobody names: values of white matter at 3 T, with sources.

SI units; an array is an axis, a number is one for all atoms.
"""

import numpy as np

# White matter has 0.21 of its magnetisation in the semisolid pool (Asslaender et al. 2024), and 0.10 to 0.15 of its
# water in myelin (MacKay et al. 1994, doi:10.1002/mrm.1910310614); bounds of a fit are a few hundredths.
_FRACTIONS = np.round(0.02 * np.arange(16), 9)

DEFAULTS = {  # kind of tissue -> field -> value
    "semisolid": {
        "fraction": _FRACTIONS,
        # Asslaender et al. 2024, doi:10.1162/imag_a_00177: exchange at 14 / s, T1 of the semisolid pool 0.34 s.
        "exchange_rate": 14.0,
        "t1_b": 0.34,
        # A super-Lorentzian line with a T2 of about 12 us, on resonance: Malik et al. 2018, doi:10.1002/mrm.27040.
        "lineshape": 15.1e-6,
    },
    "exchanging": {
        "fraction": _FRACTIONS,
        # 2 / s out of the larger pool where the smaller one has 0.2: Malik et al. 2018, doi:10.1002/mrm.27040.
        "exchange_rate": 10.0,
        # Myelin water: Deoni and Kolind 2015, doi:10.1002/mrm.25108, to one digit.
        "t1_b": 0.4,
        # Myelin water, whose T2 are 10 to 50 ms: MacKay et al. 1994.
        "t2_b": 0.015,
    },
}
